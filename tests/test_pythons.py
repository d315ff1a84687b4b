"""The supported versions of Python: ``setup.cfg`` lists them, everything else says the same."""

import configparser
import re
from datetime import datetime
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/*.md"))]
CLASSIFIER = "Programming Language :: Python :: "

CONFIGURATION = configparser.ConfigParser()
CONFIGURATION.read(ROOT / "setup.cfg", encoding="utf-8")
VERSIONS = re.findall(
    rf"^{CLASSIFIER}(3\.\d+)$", CONFIGURATION["metadata"]["classifiers"], re.MULTILINE
)


def minor(version):
    return int(version.removeprefix("3."))


def test_supported_versions_are_without_a_gap():
    minors = [minor(version) for version in VERSIONS]
    assert minors == list(range(minors[0], minors[-1] + 1))
    assert len(minors) > 1


def test_package_requires_the_oldest_supported_version():
    assert CONFIGURATION["options"]["python_requires"] == f">={VERSIONS[0]}"


def test_code_is_checked_for_the_oldest_supported_version():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert f'target-version = "py{VERSIONS[0].replace(".", "")}"' in text


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_document_says_the_supported_range(document):
    text = document.read_text(encoding="utf-8")
    for first, last in re.findall(r"(3\.\d+) (?:to|至) (3\.\d+)", text):
        assert (first, last) == (VERSIONS[0], VERSIONS[-1])


@pytest.mark.parametrize("name", ["README.md", "README.zh-CN.md"])
def test_readme_has_the_supported_range(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    assert re.search(r"3\.\d+ (to|至) 3\.\d+", text)


@pytest.mark.parametrize(
    "path", [ROOT / "Makefile", *DOCUMENTS], ids=lambda path: path.relative_to(ROOT).as_posix()
)
def test_least_version_is_the_oldest_supported_one(path):
    pattern = r"Python (3\.\d+) (?:or newer|或更新)"
    found = set(re.findall(pattern, path.read_text(encoding="utf-8")))
    # Infrastructure Manager needs a newer one.
    assert found <= {"3.11" if path.name == "infrastructure-manager.md" else VERSIONS[0]}


def test_stability_page_has_the_end_of_support_of_each_version():
    text = (ROOT / "docs" / "stability.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (3\.\d+) \| (\w+ \d+) \| (\w+ \d+) \|$", text, re.MULTILINE)
    assert [version for version, _, _ in rows] == VERSIONS
    for version, upstream, here in rows:
        first, last = (datetime.strptime(month, "%B %Y") for month in (upstream, here))
        # Support ends in the October five years after the release, and here half a year later.
        assert (first.year, first.month) == (2016 + minor(version), 10)
        assert (last.year, last.month) == (first.year + 1, 4)


def test_ci_reads_the_versions_from_the_configuration():
    text = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert f"{CLASSIFIER}\\(3" in text
    # One is named: the newest for which other projects' programs exist.
    assert len(set(VERSIONS) & set(re.findall(r"\b3\.\d+\b", text))) <= 1
