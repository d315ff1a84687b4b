"""Every code block of the documents runs, and what they list is what there is."""

import dataclasses
import importlib.util
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import libcloud_mcs
from libcloud_mcs.emulator import Emulator
from libcloud_mcs.salt._settings import Profile

ROOT = Path(__file__).parent.parent
#: Their commands are run one after another by ``make consumers``.
WALKED = ("infrastructure-manager.md", "multi-cloud.md")
DOCUMENTS = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))]


def blocks(document, language):
    text = document.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_the_python_runs(document, monkeypatch, request):
    if document.name == "deploy.md":
        request.getfixturevalue("port_22")
    found = blocks(document, "python")
    with Emulator() as cloud:
        monkeypatch.setenv("MOS_URL", cloud.url)
        monkeypatch.setenv("MOS_ACCESS", cloud.access_key)
        monkeypatch.setenv("MOS_SECRET", cloud.secret)
        for number, block in enumerate(found, 1):
            code = compile(block, f"{document.name}, block {number}", "exec")
            names = {"__name__": "__main__"}
            exec(code, names)
            # A test in a document is run as pytest would run it.
            for name, test in names.items():
                if name.startswith("test_"):
                    with Emulator() as mcs_emulator:
                        test(mcs_emulator, mcs_emulator.driver())


#: Its blocks run in their order, in test_salt_document.py.
SALT = ROOT / "docs" / "salt.md"


def commands(document):
    lines = "".join(blocks(document, "sh")).splitlines()
    return [line for line in lines if line and not line.startswith("#")]


@pytest.mark.parametrize(
    "command",
    sorted(
        {
            command
            for document in DOCUMENTS
            if document != SALT and document.name not in WALKED
            for command in commands(document)
        }
    ),
)
def test_the_commands_run(command):
    words = shlex.split(command)
    if words[0] == "make":
        # CI runs them, and this suite is one of them.
        assert command in (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
        return
    if words[0] == "pip":
        # Whatever is installed is what the tests have, or it fails.
        subprocess.run([sys.executable, "-m", *words, "--no-index", "--quiet"], check=True)
        return
    assert words[0] in ("python", ".venv/bin/python")
    assert words[1:3] == ["-m", "libcloud_mcs.emulator"]
    process = subprocess.Popen(
        [sys.executable, *words[1:], "--port", "0"], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline().startswith("MCS endpoint: http://127.0.0.1:")
    process.terminate()
    process.communicate()
    assert process.returncode == 0


@pytest.mark.parametrize("name", WALKED)
def test_walked_documents_are_walked(name):
    tests = (ROOT / "consumers").glob("test_*.py")
    assert any(f'walk("{name}", ' in path.read_text(encoding="utf-8") for path in tests)
    assert "make consumers" in (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert not blocks(ROOT / "docs" / name, "python")


def test_there_are_no_blocks_of_other_languages():
    for document in DOCUMENTS:
        fences = re.findall(r"^```(.*)$", document.read_text(encoding="utf-8"), re.MULTILINE)
        walked = {"text"} if document.name in WALKED else set()
        allowed = {"sh", "text", "yaml"} if document == SALT else {"python", "sh"} | walked
        assert set(fences[::2]) <= allowed
        assert set(fences[1::2]) <= {""}


def test_the_tables_made_from_the_code_are_up_to_date():
    spec = importlib.util.spec_from_file_location("tables", ROOT / "docs" / "tables.py")
    tables = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tables)
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8")
        assert text == tables.with_tables(text), f"{document.name}: run 'make tables'"
        for name in tables.TABLES:
            assert text.count(f"<!-- {name} -->") == text.count(f"<!-- /{name} -->")


def test_links_between_the_documents_lead_somewhere():
    for document in DOCUMENTS:
        for target in re.findall(r"\]\(([^)]+)\)", document.read_text(encoding="utf-8")):
            if not target.startswith("https://"):
                assert (document.parent / target.partition("#")[0]).exists(), target


def test_the_page_for_salt_names_every_command_and_setting():
    text = SALT.read_text(encoding="utf-8")
    module = Path(libcloud_mcs.__file__).parent / "salt" / "clouds" / "mcs.py"
    source = module.read_text(encoding="utf-8")
    for kind, heading in (("action", "| `-a …` |"), ("function", "| `-f … PROVIDER` |")):
        table = text[text.index(heading) :].partition("\n\n")[0]
        named = set(re.findall(r"^\| `(\w+)`", table, re.MULTILINE))
        defined = set(re.findall(rf"^@_{kind}\ndef (\w+)", source, re.MULTILINE))
        # What Salt has options for.
        listed = {name for name in defined if name.startswith(("avail_", "list_nodes"))}
        assert named == defined - listed
    table = text[text.index("Of a profile, besides") :]
    for field in dataclasses.fields(Profile):
        assert f"`{field.name}`" in table, field.name


def test_every_promise_is_a_test():
    text = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(test_\w+)`", text))
    assert len(named) > 30
    there = set()
    for name in ("test_reliability.py", "test_failures.py", "test_turns.py"):
        source = (ROOT / "tests" / name).read_text(encoding="utf-8")
        there |= set(re.findall(r"^def (test_\w+)", source, re.MULTILINE))
    assert named <= there, named - there
