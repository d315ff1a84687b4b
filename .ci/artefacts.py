"""
What is in the wheel and the sdist of a folder: what it should be, and nothing else.

    python .ci/artefacts.py dist
"""

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

#: What the checkout has and a release has not.
CHECKOUT_ONLY = (".ci/", ".gitignore", ".pre-commit-config.yaml")


def main(folder):
    (wheel,) = folder.glob("*.whl")
    (sdist,) = folder.glob("*.tar.gz")
    listed = subprocess.run(["git", "ls-files"], check=True, capture_output=True, text=True)
    tracked = {name for name in listed.stdout.splitlines() if not name.startswith(CHECKOUT_ONLY)}
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    differ(wheel, {name for name in names if ".dist-info/" not in name}, package(tracked))
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    with tarfile.open(sdist) as archive:
        names = [name.partition("/")[2] for name in archive.getnames() if "/" in name]
        files = {name for name in names if archive.getmember(f"{stem(sdist)}/{name}").isfile()}
    made = {name for name in files if name == "PKG-INFO" or ".egg-info/" in name}
    differ(sdist, files - made, tracked)
    print(f"{wheel.name}, {sdist.name}: as they should be")


def package(tracked):
    return {name for name in tracked if name.startswith(("libcloud_mcs/", "libcloud_mcs_pytest"))}


def stem(sdist):
    return sdist.name.removesuffix(".tar.gz")


def differ(artefact, there, expected):
    if there != expected:
        raise SystemExit(
            f"{artefact.name}: missing {sorted(expected - there)}, extra {sorted(there - expected)}"
        )


main(Path(sys.argv[1]))
