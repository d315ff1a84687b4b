"""The rules of the design that no change should break by accident."""

import ast
from pathlib import Path

import pytest

import libcloud_mcs
from libcloud_mcs._outcomes import VERDICTS, Verdict
from libcloud_mcs.actions import ACTIONS, Kind
from libcloud_mcs.driver import MCSNodeDriver
from libcloud_mcs.emulator.actions import HANDLERS

PACKAGE = Path(libcloud_mcs.__file__).parent


def imports(path):
    """Return the modules of ours that a module imports, lazily or not."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "libcloud_mcs":
            found |= {f"libcloud_mcs.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {name for name in found if name.startswith("libcloud_mcs.")} - {
        "libcloud_mcs.__version__"
    }


#: What each module of the driver may know of the others.
MODULES = {
    "actions": set(),
    "_signature": set(),
    "errors": set(),
    "records": set(),
    "_concurrency": set(),
    "_paging": {"_concurrency"},
    "_wire_values": {"actions", "_arguments", "_convert"},
    "_lists": {
        "actions",
        "connection",
        "_convert",
        "errors",
        "_outcomes",
        "_paging",
        "_wire_values",
    },
    "_reconciling": {"connection", "errors", "_outcomes"},
    "_passwords": {"connection", "_convert", "errors", "keys", "_outcomes"},
    "_arguments": set(),
    "_key_text": {"_arguments"},
    "keys": {"_arguments", "errors", "_key_text"},
    "_response": {"actions", "errors"},
    "_proxy": set(),
    "_trust": set(),
    "_transport": {"_response", "_trust"},
    "_throttle": {"errors"},
    "_endpoint": {"_signature"},
    "_outcomes": {"actions", "errors", "_response", "_transport"},
    "connection": {
        "actions",
        "_arguments",
        "_endpoint",
        "errors",
        "_outcomes",
        "_proxy",
        "_signature",
        "_transport",
        "_trust",
        "_throttle",
    },
    "_convert": {"errors", "records"},
    "_waiting": {"errors"},
    "_deploying": {"_arguments", "_key_text", "_waiting"},
    "driver": {
        "actions",
        "_arguments",
        "connection",
        "_convert",
        "_deploying",
        "_endpoint",
        "errors",
        "_key_text",
        "keys",
        "_concurrency",
        "_lists",
        "_outcomes",
        "_paging",
        "_passwords",
        "_reconciling",
        "_wire_values",
        "records",
        "_waiting",
    },
    "__init__": {"driver"},
}


def test_the_modules_are_all_there():
    assert {path.stem for path in PACKAGE.glob("*.py")} == set(MODULES)


@pytest.mark.parametrize("module", MODULES)
def test_a_module_knows_only_what_it_should(module):
    known = {name.removeprefix("libcloud_mcs.") for name in imports(PACKAGE / f"{module}.py")}
    assert known <= MODULES[module]


def test_the_emulator_shares_only_the_table_and_the_signature_with_the_driver():
    shared = {"libcloud_mcs.actions", "libcloud_mcs._signature"}
    for path in (PACKAGE / "emulator").glob("*.py"):
        others = {name for name in imports(path) if ".emulator" not in name} - shared
        # Emulator.driver() gives its users a driver that is connected to it.
        gives_drivers = path.name == "_emulator.py"
        assert others == ({"libcloud_mcs.driver"} if gives_drivers else set()), path


def test_the_cloud_knows_nothing_of_http():
    known = imports(PACKAGE / "emulator" / "cloud.py")
    names = ("_catalog", "_clock", "_errors", "_transactions")
    assert known == {f"libcloud_mcs.emulator.{name}" for name in names}


def test_what_is_under_the_emulator_knows_nothing_of_what_is_above():
    below = {
        "_errors": set(),
        "_checks": set(),
        "_transactions": set(),
        "_catalog": set(),
        "_clock": {"_checks", "_transactions"},
        "_settings": {"_checks", "_clock", "cloud"},
        "_store": {"_catalog", "_checks", "_lifetime", "cloud"},
        "_backend": {
            *("_checks", "_clock", "_errors", "_settings", "_store", "_transactions", "cloud")
        },
    }
    for name, known in below.items():
        found = imports(PACKAGE / "emulator" / f"{name}.py")
        assert found == {f"libcloud_mcs.emulator.{each}" for each in known}, name


#: What the modules of the Salt extension may know.
SALT = {
    "__init__": set(),
    "_arguments": set(),
    "_access": {"driver", "errors", "salt._arguments"},
    "_settings": {"driver", "_endpoint", "salt", "salt._access", "salt._arguments"},
    "_machines": {"driver", "errors", "_concurrency", "records", "salt._settings"},
    "clouds/__init__": set(),
    "clouds/mcs": {
        "driver",
        "errors",
        "salt",
        "salt._access",
        "salt._arguments",
        "salt._machines",
        "salt._settings",
    },
}


def test_only_the_module_for_salts_loader_knows_salt():
    folder = PACKAGE / "salt"
    modules = {path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.py")}
    assert modules == set(SALT)
    for module, known in SALT.items():
        path = folder / f"{module}.py"
        assert {name.removeprefix("libcloud_mcs.") for name in imports(path)} <= known, module
        tree = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        names = {
            name.partition(".")[0]
            for node in tree
            if isinstance(node, (ast.Import, ast.ImportFrom))
            for name in [getattr(node, "module", None) or node.names[0].name]
        }
        assert ("salt" in names) is (module == "clouds/mcs"), module


def test_the_ssh_servers_know_only_instances():
    known = imports(PACKAGE / "emulator" / "_ssh.py")
    assert known == {f"libcloud_mcs.emulator.{name}" for name in ("_lifetime", "_sockets", "cloud")}


def test_every_action_has_a_verb_and_a_handler():
    assert len(ACTIONS) == 22
    assert list(HANDLERS) == list(ACTIONS)
    for action in ACTIONS.values():
        verb = getattr(MCSNodeDriver, action.verb)
        assert f"``{action.name}``" in verb.__doc__
        assert bool(action.find_out) is (action.kind is not Kind.READ)
        assert bool(action.item_key) is action.result_key.endswith("Set")


def test_what_costs_money_is_what_the_specification_says():
    billed = {action.name for action in ACTIONS.values() if action.kind is Kind.BILLED}
    assert billed == {"CreateInstance", "RenewInstance", "ChangeInstanceType"}
    read = {action.name for action in ACTIONS.values() if action.kind is Kind.READ}
    assert read == {name for name in ACTIONS if name.startswith(("Describe", "Get"))}


def test_the_table_of_the_documents_is_the_drivers():
    document = (PACKAGE.parent / "docs" / "reliability.md").read_text(encoding="utf-8")
    for event, verdicts in VERDICTS.items():
        words = [verdicts[kind].value for kind in (Kind.READ, Kind.CHANGE, Kind.BILLED)]
        if verdicts[Kind.BILLED] is Verdict.UNKNOWN:
            words[2] = "queries, then outcome unknown"
        assert f"| {event.value} | {' | '.join(words)} |\n" in document
