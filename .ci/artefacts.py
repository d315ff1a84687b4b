"""
Build the wheel and the sdist of the checkout, and check them: ``make dist``.

    python .ci/artefacts.py dist

They contain the files that they should, and no others. The same commit results in the same bytes:
the date in them is that of the commit, unless ``SOURCE_DATE_EPOCH`` is set.
"""

import gzip
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

#: Files of the checkout that are not released.
CHECKOUT_ONLY = (".ci/", ".gitignore", ".pre-commit-config.yaml")


def main(folder):
    # Of files that a build creates. The modes of the others are set here too.
    os.umask(0o022)
    os.environ.setdefault("SOURCE_DATE_EPOCH", git("log", "-1", "--format=%ct").strip())
    tracked = git("ls-files", "-z").split("\0")[:-1]
    shutil.rmtree(folder, ignore_errors=True)
    with tempfile.TemporaryDirectory() as work:
        sdist, wheel = build(copy(tracked, Path(work, "first")), folder)
        check(sdist, wheel, {name for name in tracked if not name.startswith(CHECKOUT_ONLY)})
        # In another folder, of files of another age.
        other = copy(tracked, Path(work, "second"), modified=0x40000000)
        for again in (*build(other, Path(work, "again")), build_wheel(other, Path(work, "direct"))):
            original = folder / again.name
            if again.read_bytes() != original.read_bytes():
                raise SystemExit(f"{again.name}: a second build ({again.parent.name}) differs")
    print(f"{wheel.name}, {sdist.name}: complete, nothing else, the same when built again")


def git(*arguments):
    done = subprocess.run(["git", *arguments], check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout


def copy(names, folder, modified=None):
    """Copy files of the checkout to a folder, with modes that do not depend on the user."""
    for name in names:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(name, target)
        target.chmod(0o755 if os.access(name, os.X_OK) else 0o644)
        if modified is not None:
            os.utime(target, (modified, modified))
    return folder


def build(source, folder):
    """Return the sdist of a source folder, and the wheel that is built from the sdist."""
    run_build("--sdist", source, folder)
    (sdist,) = folder.glob("*.tar.gz")
    normalize(sdist)
    with tempfile.TemporaryDirectory() as work:
        with tarfile.open(sdist) as archive:
            archive.extractall(work, filter="data")
        return sdist, build_wheel(Path(work, stem(sdist)), folder)


def build_wheel(source, folder):
    run_build("--wheel", source, folder)
    (wheel,) = folder.glob("*.whl")
    return wheel


def run_build(kind, source, folder):
    # With the setuptools of this environment, whose version the wheel names.
    command = [sys.executable, "-m", "build", "--no-isolation", kind, "--outdir", folder, source]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def normalize(sdist):
    """Remove from an sdist what depends on the machine: times, modes, users and order."""
    epoch = int(os.environ["SOURCE_DATE_EPOCH"])
    with tarfile.open(sdist) as archive:
        members = sorted(archive, key=lambda member: member.name)
        contents = [archive.extractfile(each).read() if each.isfile() else b"" for each in members]
    with (
        sdist.open("wb") as file,
        gzip.GzipFile("", "wb", fileobj=file, mtime=epoch) as packed,
        tarfile.open(fileobj=packed, mode="w") as archive,
    ):
        for member, content in zip(members, contents, strict=True):
            normal = tarfile.TarInfo(member.name)
            normal.type, normal.size, normal.mtime = member.type, len(content), epoch
            normal.mode = 0o755 if member.mode & 0o100 else 0o644
            archive.addfile(normal, io.BytesIO(content))


def check(sdist, wheel, tracked):
    """Check that the artefacts have all tracked files, and no others."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    compare(wheel, {name for name in names if ".dist-info/" not in name}, package(tracked))
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    with tarfile.open(sdist) as archive:
        names = [name.partition("/")[2] for name in archive.getnames() if "/" in name]
        files = {name for name in names if archive.getmember(f"{stem(sdist)}/{name}").isfile()}
    generated = {name for name in files if name == "PKG-INFO" or ".egg-info/" in name}
    compare(sdist, files - generated, tracked)


def package(tracked):
    return {name for name in tracked if name.startswith(("libcloud_mcs/", "libcloud_mcs_pytest"))}


def stem(sdist):
    return sdist.name.removesuffix(".tar.gz")


def compare(artefact, files, expected):
    if files != expected:
        raise SystemExit(
            f"{artefact.name}: missing {sorted(expected - files)}, extra {sorted(files - expected)}"
        )


main(Path(sys.argv[1]))
