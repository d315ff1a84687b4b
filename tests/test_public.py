"""The public names, their types, and the cost of their import."""

import importlib
import inspect
import json
import pkgutil
import subprocess
import sys
from typing import TypeVar

import pytest
import typed_user
from libcloud.compute.base import NodeDriver

import libcloud_mcs
from libcloud_mcs.driver import MCSNodeDriver
from libcloud_mcs.emulator._handlers import HANDLERS

#: Everything that a module gives to others. Whatever is added here is a promise.
SURFACE = {
    "libcloud_mcs": "MCSNodeDriver __version__",
    "libcloud_mcs.actions": "ACTIONS Action Kind",
    "libcloud_mcs.connection": "MCSConnection",
    "libcloud_mcs.driver": "MCSNodeDriver",
    "libcloud_mcs.emulator": (
        "Account Charge Clock Effect Emulator Fault Record Response StateError boot_fail"
        " content_type cut delay drop_after drop_before error html meanwhile overload too_many"
    ),
    "libcloud_mcs.errors": (
        "InsufficientBalanceError InvalidCredentialsError KeyPairNotFoundError MCSError"
        " MalformedAnswerError NotFoundError OutcomeUnknownError PasswordNotReadyError"
        " PrivateKeyRequiredError RateLimitError WrongPrivateKeyError"
    ),
    "libcloud_mcs.keys": (
        "decrypt_password generate_key_pair load_private_key public_key_fingerprint"
    ),
    "libcloud_mcs.records": "Balance Contract NetworkInterface PasswordData",
    "libcloud_mcs.salt": "",
    "libcloud_mcs_pytest": "mcs_driver mcs_emulator",
}

#: What the driver has that is not libcloud's, or is its own in place of libcloud's.
VERBS = {
    "create_image",
    "create_key_pair",
    "create_node",
    "delete_image",
    "delete_key_pair",
    "deploy_node",
    "destroy_node",
    "ex_call",
    "ex_change_node_size",
    "ex_get_balance",
    "ex_get_contract",
    "ex_get_metadata",
    "ex_get_node",
    "ex_get_node_state",
    "ex_get_password_data",
    "ex_iterate_nodes",
    "ex_list_network_interfaces",
    "ex_rebuild_node",
    "ex_renew_node",
    "ex_set_metadata",
    "from_environment",
    "get_image",
    "get_key_pair",
    "import_key_pair_from_file",
    "import_key_pair_from_string",
    "list_images",
    "list_key_pairs",
    "list_locations",
    "list_nodes",
    "list_sizes",
    "list_volumes",
    "reboot_node",
    "start_node",
    "stop_node",
    "wait_until_running",
}


def modules():
    # Salt's loader runs the modules in this folder, under names and in a separate world.
    found = pkgutil.walk_packages(libcloud_mcs.__path__, "libcloud_mcs.")
    names = ["libcloud_mcs", "libcloud_mcs_pytest", *(module.name for module in found)]
    return [name for name in names if not name.startswith("libcloud_mcs.salt.clouds")]


def is_public(name):
    return not any(part.startswith("_") for part in name.split("."))


def test_public_modules_are_those_of_the_table():
    assert {name for name in modules() if is_public(name)} == set(SURFACE)


@pytest.mark.parametrize("name", sorted(SURFACE))
def test_public_module_exports_exactly_the_names_of_the_table(name):
    module = importlib.import_module(name)
    assert sorted(module.__all__) == SURFACE[name].split()
    assert [each for each in module.__all__ if not hasattr(module, each)] == []


@pytest.mark.parametrize("name", sorted(SURFACE))
def test_public_names_of_module_are_in_its_all(name):
    module = importlib.import_module(name)
    own = {
        each
        for each, value in vars(module).items()
        if getattr(value, "__module__", None) == name
        and not isinstance(value, TypeVar)
        and value not in HANDLERS.values()
    }
    assert {each for each in own if is_public(each)} <= set(module.__all__)


def test_verbs_of_the_driver_are_those_of_the_table():
    own = {
        name
        for name, value in vars(MCSNodeDriver).items()
        if is_public(name) and (inspect.isfunction(value) or isinstance(value, classmethod))
    }
    assert own == VERBS
    added = {name for name in VERBS if not hasattr(NodeDriver, name)}
    assert {name for name in added if not name.startswith("ex_")} == {"from_environment"}


def test_every_public_name_has_a_docstring():
    for name in SURFACE:
        module = importlib.import_module(name)
        for each in module.__all__:
            value = getattr(module, each)
            if inspect.isclass(value) or inspect.isfunction(value):
                assert inspect.getdoc(value), f"{name}.{each}"


def test_typed_user_code_runs():
    typed_user.main()


def imported_by(code, before="pass"):
    """Return the modules that some code imports, in a separate process."""
    script = (
        f"import json, sys; {before}; before = set(sys.modules); {code}\n"
        "print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    return set(json.loads(subprocess.check_output([sys.executable, "-c", script], text=True)))


def test_import_of_package_imports_only_the_registry_of_libcloud():
    registry = "import libcloud.compute.providers, libcloud.compute.types"
    assert imported_by("import libcloud_mcs", before=registry) == {"libcloud_mcs"}


def test_optional_packages_are_imported_on_first_use():
    make = "import libcloud_mcs; libcloud_mcs.MCSNodeDriver('key', 'secret')"
    imported = imported_by(make, before="import libcloud.compute.base")
    assert "libcloud_mcs.driver" in imported
    late = ("lxml", "cryptography", "tornado", "asyncssh", "libcloud_mcs.emulator")
    assert [name for name in imported if name.startswith(late)] == []
