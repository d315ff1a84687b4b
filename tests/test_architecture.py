"""The rules of the architecture: imports between modules, and the table of actions."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import libcloud_mcs
from libcloud_mcs.actions import ACTIONS, Kind
from libcloud_mcs.driver import MCSNodeDriver
from libcloud_mcs.emulator._handlers import HANDLERS

PACKAGE = Path(libcloud_mcs.__file__).parent


def imports(path):
    """Return the modules of this package that a module imports, lazily or not."""
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
    "_generic": {"actions", "_arguments", "_signature", "_wire_values"},
    "_images": {"connection", "_convert", "errors", "_reconciling"},
    "_key_pairs": {
        *("connection", "_convert", "errors", "keys", "_key_text", "_outcomes", "_reconciling"),
    },
    "_lists": {
        "actions",
        "_arguments",
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
        "_generic",
        "_images",
        "_key_pairs",
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


def test_table_has_every_module_of_the_driver():
    assert {path.stem for path in PACKAGE.glob("*.py")} == set(MODULES)


@pytest.mark.parametrize("module", MODULES)
def test_module_imports_only_what_the_table_allows(module):
    known = {name.removeprefix("libcloud_mcs.") for name in imports(PACKAGE / f"{module}.py")}
    assert known <= MODULES[module]


def test_emulator_shares_only_actions_and_signature_with_driver():
    shared = {"libcloud_mcs.actions", "libcloud_mcs._signature"}
    for path in (PACKAGE / "emulator").glob("*.py"):
        others = {name for name in imports(path) if ".emulator" not in name} - shared
        # Emulator.driver() gives its users a driver that is connected to it.
        gives_drivers = path.name == "_emulator.py"
        assert others == ({"libcloud_mcs.driver"} if gives_drivers else set()), path


#: The modules of the emulator, from the lowest layer up, and which of the others each may import.
EMULATOR = {
    "_checks": set(),
    "_errors": set(),
    "_lifetime": set(),
    "_signals": set(),
    "_sockets": {"_lifetime"},
    "_transactions": set(),
    "_catalog": {"_errors"},
    "_edition": {"_catalog"},
    "_clock": {"_checks", "_transactions"},
    "_tls": {"_lifetime"},
    "_wire": {"_clock", "_errors"},
    "_page": set(),
    "_instances": {"_catalog", "_clock", "_edition", "_errors"},
    "_addresses": {"_errors", "_transactions"},
    "_public_keys": {"_errors", "_instances"},
    "_settings": {"_checks", "_clock", "_edition", "_instances"},
    "_params": {"_errors", "_instances"},
    "_ssh": {"_instances", "_lifetime", "_sockets"},
    "_content": {"_catalog", "_instances"},
    "_account": {
        *("_addresses", "_catalog", "_clock", "_content", "_edition", "_errors", "_instances"),
        *("_public_keys", "_transactions"),
    },
    "_faults": {"_checks", "_transactions", "_wire"},
    "_stubs": {"_checks", "_transactions"},
    "_store": {
        *("_account", "_catalog", "_checks", "_edition", "_errors", "_instances", "_lifetime"),
    },
    "_handlers": {
        *("_account", "_catalog", "_checks", "_clock", "_errors", "_instances", "_params"),
        "_wire",
    },
    "_backend": {
        *("_account", "_addresses", "_checks", "_clock", "_edition", "_errors", "_faults"),
        *("_instances", "_settings", "_store", "_stubs", "_transactions"),
    },
    "_control": {
        *("_backend", "_checks", "_clock", "_faults", "_page", "_settings", "_sockets", "_wire"),
    },
    "_app": {
        *("_account", "_backend", "_checks", "_control", "_errors", "_faults", "_handlers"),
        *("_params", "_settings", "_stubs", "_wire"),
    },
    "_http": {"_errors", "_lifetime", "_wire"},
    "_server": {"_http", "_lifetime", "_sockets"},
    "_emulator": {
        *("_app", "_backend", "_clock", "_control", "_faults", "_instances", "_lifetime"),
        *("_server", "_settings", "_signals", "_sockets", "_ssh", "_tls"),
    },
    "__init__": {
        *("_backend", "_clock", "_emulator", "_errors", "_faults", "_instances", "_wire"),
    },
    "__main__": {"_checks", "_emulator", "_faults", "_settings", "_sockets"},
}


def test_emulator_modules_import_exactly_what_the_table_lists():
    folder = PACKAGE / "emulator"
    assert {path.stem for path in folder.glob("*.py")} == set(EMULATOR)
    for module, allowed in EMULATOR.items():
        found = {
            name.removeprefix("libcloud_mcs.emulator").removeprefix(".")
            for name in imports(folder / f"{module}.py")
            if name.startswith("libcloud_mcs.emulator")
        }
        assert found == allowed, module


def test_modules_have_no_circular_imports():
    """Check the whole package, with imports for type checking and inside functions."""
    paths = {
        ".".join(["libcloud_mcs", *path.relative_to(PACKAGE).with_suffix("").parts]): path
        for path in PACKAGE.rglob("*.py")
    }
    modules = {name.removesuffix(".__init__"): path for name, path in paths.items()}
    # The import of a module from a package is not an import of the package, which imports it.
    graph = {
        name: imports(path) - {"libcloud_mcs.salt"} | submodules(path) & set(modules)
        for name, path in modules.items()
    }
    tuple(TopologicalSorter(graph).static_order())


def submodules(path):
    """Return the full names that a module imports from this package."""
    return {
        f"{node.module}.{alias.name}"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("libcloud_mcs")
        for alias in node.names
    }


#: What each module of the Salt extension may import.
SALT = {
    "__init__": set(),
    "_arguments": set(),
    "_access": {"driver", "errors", "salt._arguments"},
    "_bootstrap": {"salt._access"},
    "_commands": {"driver", "salt", "salt._arguments", "salt._machines"},
    "_settings": {"driver", "_endpoint", "salt", "salt._access", "salt._arguments"},
    "_machines": {"driver", "errors", "_concurrency", "records", "salt._settings"},
    "_targets": {"salt", "salt._machines", "salt._settings"},
    "clouds/__init__": set(),
    "clouds/mcs": {
        "driver",
        "errors",
        "salt",
        "salt._access",
        "salt._arguments",
        "salt._bootstrap",
        "salt._commands",
        "salt._machines",
        "salt._settings",
        "salt._targets",
    },
}


def test_only_the_loader_module_imports_salt():
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


def test_every_action_has_a_verb_and_a_handler():
    assert len([action for action in ACTIONS.values() if action.edition == 2013]) == 22
    assert list(HANDLERS) == list(ACTIONS)
    for action in ACTIONS.values():
        verb = getattr(MCSNodeDriver, action.verb)
        assert f"``{action.name}``" in verb.__doc__
        assert bool(action.find_out) is (action.kind is not Kind.READ)
        keys = action.result_keys
        assert bool(action.item_key) is (keys == (f"{action.item_key}Set",))


def test_kinds_of_actions_follow_the_specification():
    billed = {action.name for action in ACTIONS.values() if action.kind is Kind.BILLED}
    assert billed == {"CreateInstance", "RenewInstance", "ChangeInstanceType"}
    read = {action.name for action in ACTIONS.values() if action.kind is Kind.READ}
    assert read == {name for name in ACTIONS if name.startswith(("Describe", "Get"))}
