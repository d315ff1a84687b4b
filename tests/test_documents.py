"""The documents: code blocks run, tables and lists are complete, links lead to existing targets."""

import dataclasses
import importlib.util
import re
import shlex
import subprocess
import sys
import unittest
from pathlib import Path

import pytest
from conftest import in_network

import libcloud_mcs.emulator
import libcloud_mcs.errors
import libcloud_mcs.keys
import libcloud_mcs.records
from libcloud_mcs.emulator import Emulator
from libcloud_mcs.salt._access import SETTINGS as LOGIN_SETTINGS
from libcloud_mcs.salt._settings import Profile

ROOT = Path(__file__).parent.parent
#: ``make consumers`` runs their commands.
RUN_BY_CONSUMERS = ("infrastructure-manager.md", "multi-cloud.md")
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/*.md"))]
#: Documents with a Chinese translation.
TRANSLATED = [ROOT / "README.md", ROOT / "docs" / "tutorial.md"]


def blocks(document, language):
    text = document.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_python_blocks_run(document, monkeypatch, node_network, request):
    if document.name == "deploy.md":
        request.getfixturevalue("port_22")
    found = [in_network(block, node_network) for block in blocks(document, "python")]
    with Emulator() as cloud:
        monkeypatch.setenv("MOS_URL", cloud.url)
        monkeypatch.setenv("MOS_ACCESS", cloud.access_key)
        monkeypatch.setenv("MOS_SECRET", cloud.secret)
        for number, block in enumerate(found, 1):
            code = compile(block, f"{document.name}, block {number}", "exec")
            names = {"__name__": "__main__"}
            exec(code, names)
            # Tests in a document run as in pytest.
            for name, test in names.items():
                if name.startswith("test_"):
                    with Emulator() as mcs_emulator:
                        test(mcs_emulator, mcs_emulator.driver())
                elif isinstance(test, type) and issubclass(test, unittest.TestCase):
                    result = unittest.TestResult()
                    unittest.defaultTestLoader.loadTestsFromTestCase(test).run(result)
                    assert result.testsRun > 0
                    assert result.errors + result.failures == []


#: salt_extension/test_page.py runs its blocks in order.
SALT = ROOT / "docs" / "salt.md"


def commands(document):
    lines = "".join(blocks(document, "sh")).splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def commands_of_ci():
    lines = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    return {line.strip() for line in lines}


@pytest.mark.parametrize(
    "command",
    sorted(
        {
            command
            for document in DOCUMENTS
            if document != SALT and document.name not in RUN_BY_CONSUMERS
            for command in commands(document)
        }
    ),
)
def test_commands_run(command, node_network):
    words = shlex.split(in_network(command, node_network))
    if words[0] == "make":
        # CI runs these commands, and this suite is one of them.
        assert command in commands_of_ci()
        return
    if words[0] == "pip":
        # It fails unless everything is installed.
        subprocess.run([sys.executable, "-m", *words, "--no-index", "--quiet"], check=True)
        return
    assert words[0] in ("python", ".venv/bin/python")
    assert words[1:3] == ["-m", "libcloud_mcs.emulator"]
    process = subprocess.Popen(
        [sys.executable, *words[1:], "--port", "0"], stdout=subprocess.PIPE, text=True
    )
    scheme = "https" if "--tls" in words else "http"
    assert process.stdout.readline().startswith(f"MCS endpoint: {scheme}://127.0.0.1:")
    process.terminate()
    process.communicate()
    assert process.returncode == 0


@pytest.mark.parametrize("name", RUN_BY_CONSUMERS)
def test_documents_of_consumers_are_run(name):
    tests = (ROOT / "consumers").glob("test_*.py")
    assert any(f'("{name}", ' in path.read_text(encoding="utf-8") for path in tests)
    assert "make consumers" in commands_of_ci()
    assert not blocks(ROOT / "docs" / name, "python")


#: Documents with blocks of plain text: a diagram, and the output of a command.
WITH_TEXT = ("architecture.md", "tutorial.md", "tutorial.zh-CN.md")


def test_blocks_have_known_languages():
    for document in DOCUMENTS:
        fences = re.findall(r"^```(.*)$", document.read_text(encoding="utf-8"), re.MULTILINE)
        extra = {"text"} if document.name in (*RUN_BY_CONSUMERS, *WITH_TEXT) else set()
        allowed = {"sh", "text", "yaml"} if document == SALT else {"python", "sh"} | extra
        directives = {fence for fence in fences if re.fullmatch(r"\{[a-z-]+\}.*", fence)}
        assert set(fences[::2]) <= allowed | directives
        assert set(fences[1::2]) <= {""}


@pytest.mark.parametrize("document", TRANSLATED, ids=lambda path: path.name)
def test_translation_has_equal_structure(document):
    texts = [
        path.read_text(encoding="utf-8") for path in (document, document.with_suffix(".zh-CN.md"))
    ]
    for pattern in (
        r"^```\w+\n.*?^```$",  # code blocks
        r"^(#+|\|(?=.*\|$)|- )",  # headings, rows of tables, items of lists
        r"`[^`\n]+`",
    ):
        original, translated = (re.findall(pattern, text, re.M | re.S) for text in texts)
        assert translated == original
    original, translated = (
        [target.replace(".zh-CN", "") for target in re.findall(r"\]\(([^)]+)\)", text)]
        for text in texts
    )
    assert translated == original


def test_generated_tables_are_up_to_date():
    spec = importlib.util.spec_from_file_location("tables", ROOT / "docs" / "tables.py")
    tables = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tables)
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8")
        assert text == tables.with_tables(text), f"{document.name}: run 'make tables'"
        for name in tables.TABLES:
            assert text.count(f"<!-- {name} -->") == text.count(f"<!-- /{name} -->")


def anchor(heading):
    """Return the anchor of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def test_links_have_targets():
    for document in DOCUMENTS:
        for link in re.findall(r"\]\(([^)]+)\)", document.read_text(encoding="utf-8")):
            if link.startswith("https://"):
                continue
            name, _, heading = link.partition("#")
            target = document.parent / name
            assert target.exists(), link
            if heading:
                headings = re.findall(r"^#+ (.+)$", target.read_text(encoding="utf-8"), re.M)
                assert heading in {anchor(each) for each in headings}, link


#: The number of actions that the service's client, ``climos``, knows.
CLIMOS = "161"


def test_documents_do_not_count_the_actions_of_the_driver():
    # The number would change with each new action.
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8")
        assert set(re.findall(r"(\d+) (?:actions|个接口)", text)) <= {CLIMOS}, document.name


#: A number of times, a duration that a program measures, or a rate.
MEASURED = r"\d (?:times|ms|µs|(?:requests|calls) a second|倍|毫秒|微秒)"


@pytest.mark.parametrize(
    "document",
    [path for path in DOCUMENTS if path.name != "performance.md"],
    ids=lambda path: path.name,
)
def test_document_refers_to_the_page_about_performance_for_figures(document):
    assert not re.findall(f".*{MEASURED}.*", document.read_text(encoding="utf-8"))


def test_page_about_performance_has_figures():
    text = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    assert len(re.findall(MEASURED, text)) > 1


def test_reference_has_every_public_name():
    text = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    for module in (libcloud_mcs.errors, libcloud_mcs.records, libcloud_mcs.keys):
        assert f".. automodule:: {module.__name__}\n   :members:" in text
    documented = set(re.findall(r"libcloud_mcs\.emulator\.(\w+)$", text, re.MULTILINE))
    assert documented == set(libcloud_mcs.emulator.__all__)


def salt_commands(kind):
    """Return the commands in the table of actions or functions of the page about Salt."""
    text = SALT.read_text(encoding="utf-8")
    heading = {"action": "| `-a …` |", "function": "| `-f … PROVIDER` |"}[kind]
    table = text[text.index(heading) :].partition("\n\n")[0]
    return set(re.findall(r"^\| `(\w+)`", table, re.MULTILINE))


def test_salt_page_names_every_command_and_setting():
    module = Path(libcloud_mcs.__file__).parent / "salt" / "clouds" / "mcs.py"
    source = module.read_text(encoding="utf-8")
    for kind in ("action", "function"):
        pattern = rf"^(?:@_{kind}\ndef |(?=\w+ = _{kind}\())(\w+)"
        defined = set(re.findall(pattern, source, re.MULTILINE))
        # Salt has options for these.
        listed = {name for name in defined if name.startswith(("avail_", "list_nodes"))}
        assert salt_commands(kind) == defined - listed
    text = SALT.read_text(encoding="utf-8")
    table = text[text.index("Of a profile:") :]
    for name in (*(field.name for field in dataclasses.fields(Profile)), *LOGIN_SETTINGS):
        assert f"`{name}`" in table, name


def test_salt_page_has_an_example_of_every_command():
    lines = "\n".join(commands(SALT))
    for kind, option in (("action", "-a"), ("function", "-f")):
        examples = set(re.findall(rf" (?:{option}|cloud\.{kind}) (\w+) ", lines))
        assert salt_commands(kind) <= examples


def test_every_promise_names_a_test():
    text = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(test_\w+)`", text))
    assert len(named) > 30
    existing = set()
    for path in (ROOT / "tests").glob("test_*.py"):
        source = path.read_text(encoding="utf-8")
        existing |= set(re.findall(r"^def (test_\w+)", source, re.MULTILINE))
    assert named <= existing, named - existing
