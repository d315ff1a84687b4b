"""``make release-check`` in a repository that lacks some of what a release needs."""

import os
import shutil
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TODAY = datetime.now(timezone.utc).date()
CHANGELOG = "# Changelog\n\n## 1.2.3 - {date}\n\n- A verb.\n\n## 1.2.2 - 2026-01-31\n\n- A fix.\n"
#: The real targets need minutes. CI runs them.
MAKEFILE = "docs:\n\t@true\n\ndist:\n\t@true\n"


#: Of neither "make" nor a hook of git, which may run these tests.
ENVIRONMENT = {
    name: value for name, value in os.environ.items() if "MAKE" not in name and "GIT" not in name
}


class Repository:
    """A repository of which version 1.2.3 can be released."""

    def __init__(self, path):
        self.path = path
        self.write("libcloud_mcs/__init__.py", '__version__ = "1.2.3"\n')
        self.write("CHANGELOG.md", CHANGELOG.format(date=TODAY))
        self.write("Makefile", MAKEFILE)
        self.write(".gitignore", "/build/\n")
        (path / ".ci").mkdir()
        shutil.copy(ROOT / ".ci" / "release_check.py", path / ".ci")
        self.git("init", "-q")
        self.commit()
        self.git("tag", "-a", "v1.2.3", "-m", "1.2.3")

    def write(self, name, text):
        file = self.path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(text, encoding="utf-8")

    def git(self, *arguments):
        """Run git without the settings of the user."""
        settings = ("user.name=Tester", "user.email=tester@example.org", "tag.gpgSign=false")
        options = [word for setting in settings for word in ("-c", setting)]
        done = subprocess.run(
            ["git", *options, *arguments],
            cwd=self.path,
            env=ENVIRONMENT,
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
        return done.stdout.strip()

    def commit(self):
        """Commit everything, and record that CI passed."""
        self.git("add", "-A")
        self.git("-c", "commit.gpgSign=false", "commit", "-q", "--allow-empty", "-m", "Change")
        self.write("build/checked-commit", self.git("rev-parse", "HEAD") + "\n")

    def release(self):
        """Commit everything and tag it."""
        self.commit()
        self.git("tag", "-f", "-a", "v1.2.3", "-m", "1.2.3")

    def check(self):
        """Return the exit status, and the lines of output."""
        done = subprocess.run(
            [sys.executable, ".ci/release_check.py"],
            cwd=self.path,
            env=ENVIRONMENT,
            capture_output=True,
            text=True,
        )
        assert done.stderr == ""
        return done.returncode, done.stdout.splitlines()

    def missing(self):
        """Return what is missing for a release, which has to be one thing."""
        status, lines = self.check()
        assert status == 1
        (line,) = (line for line in lines if not line.startswith("    "))
        return line.removeprefix("missing: ")


@pytest.fixture
def repository(tmp_path):
    return Repository(tmp_path)


def test_complete_release_passes(repository):
    assert repository.check() == (0, ["1.2.3 is ready: .venv-dist/bin/twine upload dist/*"])


def test_version_that_is_not_three_numbers_is_missing(repository):
    repository.write("libcloud_mcs/__init__.py", '__version__ = "1.2.dev0"\n')
    repository.write("CHANGELOG.md", CHANGELOG.format(date=TODAY).replace("1.2.3", "1.2.dev0"))
    repository.commit()
    repository.git("tag", "-a", "v1.2.dev0", "-m", "1.2.dev0")
    assert repository.missing() == "a version of three numbers, got __version__ = '1.2.dev0'"


@pytest.mark.parametrize(
    ("changelog", "expected"),
    [
        (
            CHANGELOG.replace("1.2.3 - {date}", "Unreleased"),
            "the first section of CHANGELOG.md: expected '1.2.3', got 'Unreleased'",
        ),
        (
            "## Unreleased\n\n- More.\n\n" + CHANGELOG.format(date=TODAY),
            "the first section of CHANGELOG.md: expected '1.2.3', got 'Unreleased'",
        ),
        (
            CHANGELOG.replace("1.2.3 - {date}", "1.2.30 - 2026-01-31"),
            "the first section of CHANGELOG.md: expected '1.2.3', got '1.2.30 - 2026-01-31'",
        ),
        (
            CHANGELOG.replace(" - {date}", ""),
            "the date in CHANGELOG.md: expected '1.2.3 - YEAR-MONTH-DAY', got '1.2.3'",
        ),
        (
            CHANGELOG.format(date="2026-02-30"),
            "the date in CHANGELOG.md: expected '1.2.3 - YEAR-MONTH-DAY', got '1.2.3 - 2026-02-30'",
        ),
        (
            CHANGELOG.format(date="2026-01-31").replace("- A verb.\n", ""),
            "the text of the section '1.2.3 - 2026-01-31' in CHANGELOG.md",
        ),
    ],
)
def test_changelog_without_the_dated_section_is_missing(repository, changelog, expected):
    repository.write("CHANGELOG.md", changelog)
    repository.release()
    assert repository.missing() == expected


def test_date_in_the_future_is_refused(repository):
    # A day more, in case that the day changes during the test.
    repository.write("CHANGELOG.md", CHANGELOG.format(date=TODAY + timedelta(days=2)))
    repository.release()
    assert repository.missing().startswith("a date in CHANGELOG.md that is not after today")


@pytest.mark.parametrize("name", ["CHANGELOG.md", "new.py"])
def test_uncommitted_change_is_named(repository, name):
    with (repository.path / name).open("a") as file:
        file.write("\n")
    assert repository.missing() == "a commit of these changes:"
    assert any(name in line for line in repository.check()[1])


def test_ci_that_did_not_pass_is_missing(repository):
    (repository.path / "build" / "checked-commit").unlink()
    head = repository.git("rev-parse", "HEAD")
    assert repository.missing() == (
        f"a pass of .ci/run on all versions of Python: expected {head}, got no commit"
    )


def test_ci_that_passed_for_another_commit_is_missing(repository):
    other = repository.git("rev-parse", "HEAD")
    repository.release()
    repository.write("build/checked-commit", other)
    head = repository.git("rev-parse", "HEAD")
    assert repository.missing() == (
        f"a pass of .ci/run on all versions of Python: expected {head}, got {other}"
    )


def test_missing_tag_is_named_with_its_command(repository):
    repository.git("tag", "-d", "v1.2.3")
    assert repository.missing() == "the tag: git tag -a v1.2.3 -m 1.2.3"


def test_tag_without_annotation_is_refused(repository):
    repository.git("tag", "-d", "v1.2.3")
    repository.git("tag", "v1.2.3")
    assert repository.missing() == "an annotation of the tag v1.2.3: git tag -a v1.2.3 -m 1.2.3"


def test_tag_of_another_commit_is_refused(repository):
    old = repository.git("rev-parse", "HEAD")
    repository.commit()
    head = repository.git("rev-parse", "HEAD")
    expected = f"the tag v1.2.3 at this commit: expected {head}, got {old}"
    assert repository.missing() == expected


@pytest.mark.parametrize("target", ["docs", "dist"])
def test_failing_target_is_shown_with_its_output(repository, target):
    failing = f"{target}:\n\t@echo this is wrong; exit 1"
    repository.write("Makefile", MAKEFILE.replace(f"{target}:\n\t@true", failing))
    repository.release()
    assert repository.missing().endswith(f": 'make {target}' failed:")
    assert "    this is wrong" in repository.check()[1]


def test_everything_that_is_missing_is_named(repository):
    repository.write("libcloud_mcs/__init__.py", '__version__ = "2.0"\n')
    repository.write("Makefile", MAKEFILE.replace("true", "false"))
    repository.write("build/checked-commit", "")
    status, lines = repository.check()
    assert status == 1
    assert [line.split()[1:3] for line in lines if line.startswith("missing: ")] == [
        ["a", "version"],
        ["the", "first"],
        ["a", "commit"],
        ["a", "pass"],
        ["the", "tag:"],
        ["the", "documentation:"],
        ["the", "wheel"],
    ]
