"""
Check that the wheel and the sdist in a folder contain the files that they should, and no others.

    python .ci/artefacts.py dist
"""

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

#: Files of the checkout that are not released.
CHECKOUT_ONLY = (".ci/", ".gitignore", ".pre-commit-config.yaml")


def main(folder):
    (wheel,) = folder.glob("*.whl")
    (sdist,) = folder.glob("*.tar.gz")
    listed = subprocess.run(["git", "ls-files"], check=True, capture_output=True, text=True)
    tracked = {name for name in listed.stdout.splitlines() if not name.startswith(CHECKOUT_ONLY)}
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    compare(wheel, {name for name in names if ".dist-info/" not in name}, package(tracked))
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    with tarfile.open(sdist) as archive:
        names = [name.partition("/")[2] for name in archive.getnames() if "/" in name]
        files = {name for name in names if archive.getmember(f"{stem(sdist)}/{name}").isfile()}
    generated = {name for name in files if name == "PKG-INFO" or ".egg-info/" in name}
    compare(sdist, files - generated, tracked)
    print(f"{wheel.name}, {sdist.name}: complete, nothing else")


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
