"""
Check that the version of the checkout can be released: ``make release-check``.

The checks are the steps in the section "Releases" of ``CONTRIBUTING.md``. Everything that is
missing is printed, and the exit status is 1 if anything is.
"""

import re
import subprocess
import sys
from datetime import date, datetime, timezone
from pathlib import Path

#: The number of lines that are shown of a command that failed.
SHOWN = 5


def main():
    source = Path("libcloud_mcs/__init__.py").read_text(encoding="utf-8")
    version = re.search(r'^__version__ = "(.*)"$', source, re.MULTILINE)[1]
    missing = list(check(version))
    for line in missing:
        print(f"missing: {line}")
    if not missing:
        print(f"{version} is ready: .venv-dist/bin/twine upload dist/*")
    return 1 if missing else 0


def check(version):
    """Yield what is missing for the release of a version."""
    if not re.fullmatch(r"\d+\.\d+\.\d+", version):
        yield f"a version of three numbers, got __version__ = {version!r}"
    yield from check_changelog(version)
    if changes := git("status", "--porcelain"):
        yield f"a commit of these changes:\n{indented(changes)}"
    head = git("rev-parse", "HEAD")
    yield from check_ci(head)
    yield from check_tag(version, head)
    yield from check_target("docs", "the documentation")
    yield from check_target("dist", "the wheel and the sdist")


def check_changelog(version):
    _, *sections = re.split(
        r"^## ", Path("CHANGELOG.md").read_text(encoding="utf-8"), flags=re.MULTILINE
    )
    heading, _, text = sections[0].partition("\n")
    name, _, day = heading.partition(" - ")
    if name != version:
        yield f"the first section of CHANGELOG.md: expected {version!r}, got {heading!r}"
        return
    if not text.strip():
        yield f"the text of the section {heading!r} in CHANGELOG.md"
    try:
        released = date.fromisoformat(day)
    except ValueError:
        yield f"the date in CHANGELOG.md: expected '{version} - YEAR-MONTH-DAY', got {heading!r}"
        return
    if released > (today := datetime.now(timezone.utc).date()):
        yield f"a date in CHANGELOG.md that is not after today, {today}, got {heading!r}"


def check_ci(head):
    # .ci/run writes it.
    file = Path("build/checked-commit")
    checked = file.read_text(encoding="utf-8").strip() if file.exists() else "no commit"
    if checked != head:
        yield f"a pass of .ci/run on all versions of Python: expected {head}, got {checked}"


def check_tag(version, head):
    tag = f"v{version}"
    command = f"git tag -a {tag} -m {version}"
    if not git("tag", "--list", tag):
        yield f"the tag: {command}"
        return
    if git("cat-file", "-t", tag) != "tag":
        yield f"an annotation of the tag {tag}: {command}"
    if (tagged := git("rev-list", "-n", "1", tag)) != head:
        yield f"the tag {tag} at this commit: expected {head}, got {tagged}"


def check_target(target, result):
    done = subprocess.run(
        ["make", target], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode:
        end = "\n".join(done.stdout.splitlines()[-SHOWN:])
        yield f"{result}: 'make {target}' failed:\n{indented(end)}"


def indented(text):
    return re.sub("^", "    ", text, flags=re.MULTILINE)


def git(*arguments):
    done = subprocess.run(["git", *arguments], check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout.rstrip()


sys.exit(main())
