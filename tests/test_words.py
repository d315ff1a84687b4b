"""The project's rules for prose, as far as a test can check them: see CONTRIBUTING.md, "Words"."""

import ast
import re
from bisect import bisect
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parent.parent
#: Chinese documents are not checked, and this file quotes what it refuses.
FILES = [
    path
    for pattern in (
        "*.md",
        "*.py",
        ".ci/*",
        "benchmarks/*.*",
        "consumers/*.*",
        "docs/*.*",
        "examples/*.*",
        "libcloud_mcs/**/*.py",
        "tests/**/*.py",
    )
    for path in sorted(ROOT.glob(pattern))
    if path.suffix in (".py", ".md", "")
    if ".zh-CN" not in path.name and path != Path(__file__)
]


class Rule(NamedTuple):
    """A phrase that prose does not use."""

    #: A regular expression; a space in it stands for any space or line break.
    pattern: str
    reason: str
    instead: str
    example: str


#: Checked in documents, docstrings, comments, messages, and the names of tests.
PHRASES = [
    Rule(
        r"(?<!there )\b(is|are|was|were) no\b(?! (longer|more|better)\b|-)",
        "a negation belongs to the verb",
        "'is not a'; 'there is no' and 'is no longer' are right",
        "A name is no ID.",
    ),
    Rule(
        r"(?<!there )\b(is|are|was|were) none\b",
        "a negation belongs to the verb",
        "'is not a', 'is empty'",
        "The response is none of success.",
    ),
    Rule(r"\banew\b", "archaic", "'again', 'update'", "Write the tables anew."),
    Rule(
        r"\bnone the less\b|\ball the same(?=[.,;:])",
        "archaic",
        "'nevertheless', or nothing",
        "It is sent none the less.",
    ),
    Rule(r"\bin the midst\b", "archaic", "'during', 'in the middle of'", "in the midst of TLS"),
    Rule(r"\bat last\b", "archaic", "'finally', or nothing", "At last it runs."),
    Rule(
        r"\bof (its|their|your|ours?|one's) own\b",
        "a translation",
        "'its own process', 'a separate process'",
        "a process of its own",
    ),
    Rule(
        r"\b(its|their|whole) li(f|v)es?\b(?! cycle)",
        "a metaphor",
        "'life cycle'",
        "takes it through its life",
    ),
    Rule(r"\b(stands?|stood) on\b", "a metaphor", "'uses', 'is based on'", "the verbs stand on it"),
    Rule(r"\bpassers?-by\b", "a metaphor", "'other instances'", "instances of a passer-by"),
    Rule(r"\b(lets?|letting) go\b", "a metaphor", "'release'", "It lets go of the lock."),
    Rule(r"\b(takes?|took) up\b", "a metaphor", "'continue', 'use'", "It takes up the thread."),
    Rule(r"\b(comes?|came) by\b", "a metaphor", "'obtain', 'arrive'", "requests that come by"),
    Rule(
        r"(?<![.\w])walk(s|ed|ing)?\b(?![(.])",
        "a metaphor",
        "'pass' or 'traversal' of a list, 'run' of a document",
        "If the list changes during a walk, it is repeated.",
    ),
    Rule(r"\bdoors?\b", "a metaphor", "'listener', 'port'", "the door of the server"),
    Rule(r"\brooms?\b(?! for\b)", "a metaphor", "'module', 'space'", "the rooms of the driver"),
    Rule(r"\bdice\b", "a metaphor", "'rng'", "dice = random.Random(1)"),
    Rule(r"\bhalf[- ]made\b", "a translation", "'incomplete'", "a half-made machine"),
    Rule(
        r"(?<![\"'])\b(no|some)body\b",
        "names no actor",
        "the user, another client, another program",
        "somebody took the name",
    ),
    Rule(r"\bits? has not\b(?! \w+(ed|en|n)\b)", "a translation", "'lacks'", "which it has not"),
    Rule(
        r"\b(looks?|looked|looking) (how|what)\b",
        "a translation",
        "'checks', 'queries'",
        "The driver looks what became of it.",
    ),
    Rule(r"\bas (it|they) came\b", "a translation", "'unchanged'", "kept as it came"),
    Rule(
        r"\bas the wire has\b", "a translation", "'the wire form of'", "a list as the wire has it"
    ),
    Rule(
        r"\bno clear answer\b",
        "an answer is a response, and an unclear one an unknown outcome",
        "'the outcome is unclear'",
        "When no clear answer came",
    ),
    Rule(r"\bbeing made\b", "a translation", "'being created'", "The node is still being made."),
    Rule(r"\bwas not seen\b", "names no actor", "'is not listed'", "may exist, and was not seen"),
    Rule(r"\bworth a word\b", "a metaphor", "'is mentioned'", "A fast clock is worth a word."),
    Rule(r"\bwhom\b", "names no actor", "the endpoint, the user, the client", "whom it asks"),
]

#: Checked at the beginning of docstrings.
VERBS = Rule(
    r"(Gives?|Tells?|Makes?|Lets?|Says?|Have|Has|Be)\b",
    "a docstring says what a function does, in the field's verbs",
    "'Return', 'Check', 'Create', 'Send', …",
    "Give the rows of a page.",
)
#: Checked in docstrings.
FIELDS = [
    Rule(
        r":raises [^:]+: (?!If )",
        "':raises:' states a condition",
        "':raises X: If …'",
        ":raises ValueError: for a wrong argument",
    ),
    Rule(
        r":(param [^:]+|returns?): (Gives?|Tells?|Makes?|Lets?|Says?|Returns?)\b",
        "a field of a docstring is a noun phrase",
        "a noun phrase",
        ":return: Gives the rows",
    ),
]
#: Checked in the headings of documents.
HEADINGS = [
    Rule(r".*\.$", "a heading is a topic", "a heading without a full stop", "Retries."),
    Rule(
        r"(\S+ ){8}\S",
        "a heading is a topic",
        "at most eight words",
        "All the things that may be sent again by it",
    ),
    Rule(
        r"(What|Where|Which|Who|When|Nothing)\b",
        "a heading is a topic",
        "a noun phrase",
        "What is sent again, and what is not",
    ),
]


class Prose:
    """A text in one line, so that a phrase is found across the ends of lines."""

    def __init__(self, text, first_line=1):
        # Without indentation, marks of comments, and the quotes between adjacent literals.
        self.lines = [
            re.sub(r"""^\s*(#:? |>\s?|f?")?|("\)*,?|\s)*$""", "", line)
            for line in re.sub(r"\btest_(\w+)", _words, text).splitlines()
        ]
        self.first_line = first_line
        self.starts = [0, *accumulate(len(line) + 1 for line in self.lines)]
        self.text = " ".join(self.lines)

    def check(self, rule):
        """Yield the line of each match of a rule, and what is wrong there."""
        for match in re.finditer(rule.pattern, self.text, re.IGNORECASE):
            line = bisect(self.starts, match.start()) - 1 + self.first_line
            if match[0] != match[0].replace("None", ""):
                continue  # Python's
            yield line, f"{match[0].strip()!r}: {rule.reason}; use {rule.instead}"


def _words(match):
    """Return the name of a test as words."""
    return match[1].replace("_", " ")


def python_errors(source):
    """Yield what is wrong in the docstrings of a module."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(
            node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        ) or not (docstring := ast.get_docstring(node, clean=False)):
            continue
        line = node.body[0].lineno
        prose = Prose(docstring, line)
        if re.match(VERBS.pattern, docstring.strip()):
            first = docstring.split()[0]
            yield line, f"{first!r} begins a docstring: {VERBS.reason}; use {VERBS.instead}"
        for rule in FIELDS:
            yield from prose.check(rule)


def heading_errors(text):
    """Yield what is wrong in the headings of a document."""
    # Comments in code are not headings.
    text = re.sub(r"^```.*?^```", lambda code: "\n" * code[0].count("\n"), text, flags=re.M | re.S)
    for number, line in enumerate(text.splitlines(), 1):
        if heading := re.match(r"#+ (.*)", line):
            for rule in HEADINGS:
                if re.match(rule.pattern, heading[1]):
                    yield number, f"heading {heading[1]!r}: {rule.reason}; use {rule.instead}"


def errors(path):
    """Return what is wrong in a file, in the order of its lines."""
    text = path.read_text(encoding="utf-8")
    prose = Prose(text)
    found = [error for rule in PHRASES for error in prose.check(rule)]
    if path.suffix == ".py":
        found += python_errors(text)
    elif path.suffix == ".md":
        found += heading_errors(text)
    return [f"{path.relative_to(ROOT)}:{line}: {error}" for line, error in sorted(found)]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_prose_follows_the_rules(path):
    found = errors(path)
    assert not found, "\n" + "\n".join(found)


@pytest.mark.parametrize("rule", [*PHRASES, *FIELDS], ids=lambda rule: rule.example)
def test_rule_refuses_its_example(rule):
    assert list(Prose(rule.example).check(rule))
    # Also in a comment or a message of two lines.
    for prefix, suffix in (("    # ", ""), ('        f"', ' "')):
        lines = [f"{prefix}{word}{suffix}" for word in rule.example.split()]
        assert list(Prose("\n".join(lines)).check(rule)), prefix


@pytest.mark.parametrize("rule", HEADINGS, ids=lambda rule: rule.example)
def test_rule_refuses_its_heading(rule):
    (error,) = heading_errors(f"# Topic\n\n```sh\n# What is code\n```\n## {rule.example}\n")
    assert error[0] == 6


def test_rule_refuses_its_docstring():
    ((line, error),) = python_errors(f'def rows():\n    """{VERBS.example}"""\n')
    assert (line, error.split()[0]) == (2, "'Give'")


@pytest.mark.parametrize(
    "text",
    [
        "There is no endpoint.",
        "The endpoint is no longer there.",
        "if value is None or value is not None: return",
        "for node in ast.walk(tree):",
        "the full life cycle",
        ":raises ValueError: If the name is empty.",
        "The default where there is none.",
        "driver.get_key_pair('nobody')",
        "There is room for ten connections.",
    ],
)
def test_right_phrases_are_accepted(text):
    assert not [error for rule in [*PHRASES, *FIELDS] for error in Prose(text).check(rule)]
