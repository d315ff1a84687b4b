"""
The MCS Cloud Module
====================

Manage machines of Meituan's compute cloud MCS (MOS) with ``salt-cloud``.

Set up a provider, for instance in ``/etc/salt/cloud.providers.d/mcs.conf``:

.. code-block:: yaml

    my-mcs-config:
      driver: mcs
      id: ACCESS KEY
      key: SECRET

and a profile, for instance in ``/etc/salt/cloud.profiles.d/mcs.conf``:

.. code-block:: yaml

    small-debian:
      provider: my-mcs-config
      image: Debian-7.0-x86_64.qcow2
      size: small
      duration: 72H
"""

# Salt's loader defines the dunder names and runs this module under another name, hence the absolute
# imports. salt-cloud injects __active_provider_name__ into the globals of the function that it
# calls: the wrappers of the commands are defined here, most of the commands in _commands.

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

import salt.cloud
import salt.config
import salt.utils.cloud
from salt.exceptions import SaltCloudPasswordError, SaltCloudSystemExit

from libcloud_mcs.errors import MCSError
from libcloud_mcs.salt import _access as access
from libcloud_mcs.salt import _arguments as arguments
from libcloud_mcs.salt import _bootstrap as bootstrap
from libcloud_mcs.salt import _commands as commands
from libcloud_mcs.salt import _machines as machines
from libcloud_mcs.salt import _settings as settings
from libcloud_mcs.salt import _targets as targets

_MISSING = None
try:
    import lxml.etree  # noqa: F401 - the driver imports lxml only when it reads a response
except ImportError as _error:
    _MISSING = _error.name or str(_error)

if TYPE_CHECKING:
    from libcloud.compute.base import Node

    from libcloud_mcs.driver import MCSNodeDriver

log = logging.getLogger(__name__)

_Kwargs: TypeAlias = "dict[str, Any] | None"

__virtualname__ = "mcs"

__opts__: dict[str, Any]
__utils__: dict[str, Callable[..., Any]]
__context__: dict[str, Any]
__active_provider_name__: str | None

#: The key of the destroyed machines in the loader's context.
_DESTROYED = "mcs.destroyed"
#: The attributes that a wrapper copies, without ``__module__``: Salt's loader ignores a function of
#: another module.
_WRAPPED = ("__name__", "__qualname__", "__doc__")
#: The fields of a machine in the events before and after its creation.
_EVENT_FIELDS = ["name", "profile", "provider", "driver"]


def __virtual__() -> str:  # noqa: N807 - Salt's name
    """
    Load the module, whatever is installed.

    :func:`get_configured_provider` reports a missing package together with the provider's name;
    Salt itself would only report that the driver could not be loaded.
    """
    return __virtualname__


# Helpers


def _internal(function: Callable[..., Any]) -> Callable[..., Any]:
    """Refuse ``-f`` and ``-a`` for a function that only Salt itself calls."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        if kwargs:
            raise SaltCloudSystemExit(
                f"'{function.__name__}' is internal: only Salt itself can call the function,"
                " not -f or -a."
            )
        return function(*args)

    return wrapper


def _function(function: Callable[..., Any]) -> Callable[..., Any]:
    """
    Wrap a function for ``-f`` and for the options that list something.

    :param function: A function of the driver; its keywords are the arguments of the command.
    """

    @functools.wraps(function, assigned=_WRAPPED)
    def wrapper(
        name: str = "", kwargs: _Kwargs = None, call: str | None = None, **more: Any
    ) -> Any:
        del name  # only an action has a machine
        if call == "action":
            raise SaltCloudSystemExit(
                f"The {function.__name__} function must be called with -f or --function."
            )
        with _exit_on_error():
            driver = _driver()
            options = arguments.read_for(function, arguments.merge(kwargs, more))
            return function(driver, **options)

    return wrapper


def _action(function: Callable[..., Any], *events: str) -> Callable[..., Any]:
    """
    Wrap an action for ``-a``.

    :param function: A function of the driver and a machine; its keywords are the arguments of the
        command.
    :param events: The events before and after the action.
    """

    @functools.wraps(function, assigned=_WRAPPED)
    def wrapper(
        name: str = "", kwargs: _Kwargs = None, call: str | None = None, **more: Any
    ) -> Any:
        if call != "action" and more.get("action") != function.__name__:
            raise SaltCloudSystemExit(
                f"The {function.__name__} action must be called with -a or --action."
            )
        with _exit_on_error():
            driver = _driver()
            node = machines.find(driver, arguments.text(name, "name"))
            options = arguments.read_for(function, arguments.merge(kwargs, more))
            with _events(node, *events):
                return function(driver, node, **options)

    return wrapper


@contextmanager
def _exit_on_error() -> Iterator[None]:
    """Convert the driver's exceptions to the one that ``salt-cloud`` shows without a traceback."""
    try:
        yield
    except SaltCloudSystemExit:
        raise
    except (
        *(MCSError, machines.IncompleteMachineError),
        *(ValueError, TypeError, OSError, ImportError),
    ) as error:
        # The driver's arguments have a prefix, unlike Salt's settings.
        raise SaltCloudSystemExit(str(error).removeprefix("ex_")) from error


def _provider() -> Mapping[str, Any]:
    provider = get_configured_provider()
    if not isinstance(provider, Mapping):
        raise SaltCloudSystemExit(
            f"The cloud provider '{__active_provider_name__}' is not set up; see the log."
        )
    return provider


def _driver() -> MCSNodeDriver:
    provider = _provider()
    return settings.driver_of(provider)


def _alias() -> str:
    """Return the name of the active provider in the configuration."""
    return str(__active_provider_name__).split(":")[0]


def _setting(vm_: dict[str, Any], name: str) -> Any:
    return salt.config.get_cloud_config_value(
        name, vm_, __opts__, search_global=name not in access.NEVER_GLOBAL
    )


def _list_machines(driver: MCSNodeDriver) -> dict[str, Node]:
    """List the machines, and log an error: Salt itself ignores errors here."""
    try:
        return machines.list_machines(driver)
    except MCSError as error:
        log.error("The machines of '%s' could not be listed: %s", __active_provider_name__, error)
        raise


def _fire(name: str, step: str, message: str, /, **data: Any) -> None:
    __utils__["cloud.fire_event"](
        "event",
        message,
        f"salt/cloud/{name}/{step}",
        args=data,
        sock_dir=__opts__["sock_dir"],
        transport=__opts__["transport"],
    )


@contextmanager
def _events(node: Node, before: str = "", after: str = "") -> Iterator[None]:
    """Fire one event before a request, and another one when the request was accepted."""
    data = {"name": node.name, "id": node.id}
    if before:
        _fire(node.name, before, f"{before} instance", **data)
    yield
    if after:
        _fire(node.name, after, f"{after} instance", **data)


# Providers


@_internal
def get_configured_provider() -> Any:
    """Return the settings of the active provider; log why and return ``False`` if invalid."""
    if _MISSING:
        salt.config.check_driver_dependencies(__virtualname__, {_MISSING: False})
        return False
    name = __active_provider_name__ or __virtualname__
    provider = salt.config.is_provider_configured(__opts__, name, settings.REQUIRED)
    if provider is not False:
        try:
            settings.driver_of(provider)
        except (TypeError, ValueError) as error:
            log.error("The cloud provider '%s' is not set up properly: %s", name, error)
            return False
    return provider


@_internal
def optimize_providers(providers: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Remove the providers whose account another provider lists too."""
    return settings.unique_accounts(providers, _targets().preferred_providers())


def _targets() -> targets.Targets:
    return targets.Targets(__opts__, _read_map)


def _read_map() -> dict[str, Any]:
    """Render the map of the command."""
    # Map's constructor would load this module again and reset the active provider's name.
    mapper = object.__new__(salt.cloud.Map)
    mapper.opts = __opts__
    rendered: dict[str, Any] = mapper.read()
    if hasattr(mapper, "minion"):
        mapper.minion.destroy()
    return rendered


# Lists


@_function
def list_nodes(driver: MCSNodeDriver) -> dict[str, Any]:
    """
    List the machines, except those that are being destroyed.

    Of several machines with the same name, only the first is listed by its name, the others by ID.

    CLI Example:

    .. code-block:: bash

        salt-cloud -Q
    """
    return {name: machines.summary(node) for name, node in _list_machines(driver).items()}


@_function
def list_nodes_full(driver: MCSNodeDriver) -> dict[str, Any]:
    """
    List the machines with all fields; ``extra`` has the API's own fields.

    CLI Example:

    .. code-block:: bash

        salt-cloud -F
    """
    nodes = {name: machines.details(node) for name, node in _list_machines(driver).items()}
    __utils__["cloud.cache_node_list"](nodes, _alias(), __opts__)
    return nodes


@_function
def list_nodes_select(_driver: MCSNodeDriver) -> dict[str, Any]:
    """
    List the machines with the fields in Salt's setting ``query.selection``.

    CLI Example:

    .. code-block:: bash

        salt-cloud -S
    """
    selection = __opts__.get("query.selection")
    if not selection:
        log.error("The setting 'query.selection' is missing: a list of the fields to show")
        raise SaltCloudSystemExit("The setting 'query.selection' is missing.")
    return {
        name: {field: value for field, value in fields.items() if field in selection}
        for name, fields in list_nodes_full().items()
    }


# Creation


@_internal
def create(vm_: dict[str, Any]) -> dict[str, Any]:
    """
    Create a machine, wait until it is running, and carry out ``deploy`` and ``inline_script``.

    CLI Example:

    .. code-block:: bash

        salt-cloud -p small-debian web
    """
    name = vm_["name"]
    with _exit_on_error():
        driver = _driver()
        setting = functools.partial(_setting, vm_)
        profile = settings.Profile.read(setting)
        login = access.Access.read(setting, _has_agent()) if profile.needs_login else None
        if unused := ", ".join(settings.unused(vm_, __opts__)):
            message = "The machine '%s' has settings that neither Salt nor the mcs driver reads: %s"
            log.warning(message, name, unused)
        public = bootstrap.without_secrets(vm_)
        creating = __utils__["cloud.filter_event"]("creating", public, _EVENT_FIELDS)
        _fire(name, "creating", "starting create", **creating)
        create_args = profile.create_node_args(name)
        requested = {arg.removeprefix("ex_"): value for arg, value in create_args.items()}
        _fire(name, "requesting", "requesting instance", kwargs=requested)
        node = driver.create_node(**create_args)
        log.info("The machine '%s' was created with the ID %s", name, node.id)
        with machines.clean_up_on_error(driver, node, profile.on_failure):
            _fire(name, "querying", "waiting for instance", id=node.id)
            node, address = machines.wait(driver, node, profile)
            result = machines.details(node)
            if login:
                hosts = {
                    "ssh_host": setting("ssh_host") or address,
                    "salt_host": setting("salt_host")
                    or machines.address(node, profile.salt_interface or profile.ssh_interface),
                }
                result.update(_bootstrap(vm_, hosts, login.complete(driver, node)))
            created = __utils__["cloud.filter_event"]("created", public, _EVENT_FIELDS)
            _fire(name, "created", "created instance", **created, id=node.id)
        return result


def _has_agent() -> bool:
    return bool(__opts__.get("ssh_agent") and os.environ.get("SSH_AUTH_SOCK"))


def _bootstrap(vm_: dict[str, Any], hosts: dict[str, Any], login: access.Access) -> dict[str, Any]:
    """Run Salt's bootstrap on a machine."""
    setting = functools.partial(_setting, vm_)
    if not login.windows:
        login = bootstrap.find_login(
            login,
            hosts["ssh_host"],
            setting,
            wait_for_port=salt.utils.cloud.wait_for_port,
            wait_for_login=_wait_for_login,
        )
    opts = {**__opts__, "ssh_agent": login.agent, "hard_timeout": setting("hard_timeout")}
    guarded = bootstrap.Guarded({**vm_, **hosts, **login.bootstrap_settings()})
    return bootstrap.checked(__utils__["cloud.bootstrap"](guarded, opts))


def _wait_for_login(host: str, port: int, **options: Any) -> bool:
    """Check whether an account can log in over SSH."""
    try:
        return bool(salt.utils.cloud.wait_for_passwd(host, port, **options))
    except SaltCloudPasswordError:
        log.info("The account '%s' at %s refused the password", options["username"], host)
        return False


# Destruction


def destroy(name: str = "", kwargs: _Kwargs = None, call: str | None = None, **more: Any) -> bool:
    """
    Destroy a machine and its disks.

    Also returns ``True`` for a machine that is already destroyed or being destroyed.

    CLI Example:

    .. code-block:: bash

        salt-cloud -d web
    """
    if call == "function":
        raise SaltCloudSystemExit(
            "The destroy action must be called with -d, --destroy, -a or --action."
        )
    with _exit_on_error():
        driver = _driver()
        name = arguments.text(name, "name")
        arguments.read(arguments.merge(kwargs, more))
        with _report_destroyed():
            node = machines.find_if_any(driver, name)
            if node and not _is_target(node):
                return False
            if node:
                with _events(node, "destroying", "destroyed"):
                    machines.destroy(driver, node)
                __context__.setdefault(_DESTROYED, []).append(name)
            else:
                provider = __active_provider_name__
                log.warning("The machine '%s' of '%s' is gone already", name, provider)
    if node and __opts__.get("delete_sshkeys", False) is True:
        for address in (*node.public_ips, *node.private_ips):
            salt.utils.cloud.remove_sshkey(address)
    if __opts__.get("update_cachedir", False) is True:
        __utils__["cloud.delete_minion_cachedir"](node.name if node else name, _alias(), __opts__)
    return True


def _is_target(node: Node) -> bool:
    """Check whether the command means a machine; log why not."""
    if reason := _targets().reason_to_keep(node):
        log.warning(
            "The machine '%s' (ID %s) of '%s' is kept: %s",
            *(node.name, node.id, str(__active_provider_name__), reason),
        )
    return reason is None


@contextmanager
def _report_destroyed() -> Iterator[None]:
    """Add the machines destroyed so far to the text of an error: Salt shows only the error."""
    try:
        yield
    except MCSError as error:
        if destroyed := __context__.get(_DESTROYED):
            error.message += f" (destroyed before it: {', '.join(map(repr, destroyed))})"
        raise


# Actions


start = _action(commands.start, "starting", "started")
stop = _action(commands.stop, "stopping", "stopped")
reboot = _action(commands.reboot, "rebooting", "rebooted")
renew = _action(commands.renew, "renewing", "renewed")
rebuild = _action(commands.rebuild, "rebuilding", "rebuilt")
change_size = _action(commands.change_size, "resizing", "resized")
get_contract = _action(commands.get_contract)
get_metadata = _action(commands.get_metadata)
set_metadata = _action(commands.set_metadata)


@_action
def show_instance(_driver: MCSNodeDriver, node: Node) -> dict[str, Any]:
    """
    Show all fields of a machine.

    CLI Example:

    .. code-block:: bash

        salt-cloud -a show_instance web
    """
    result = machines.details(node)
    __utils__["cloud.cache_node"](result, __active_provider_name__, __opts__)
    return result


@_action
def get_password(
    driver: MCSNodeDriver, node: Node, *, private_key: str | None = None
) -> dict[str, Any]:
    """
    Show the initial account and password of a machine.

    ``private_key``: for a machine with a key pair, the path of the private key; the provider's
    setting ``private_key`` by default.

    CLI Example:

    .. code-block:: bash

        salt-cloud -a get_password web
    """
    if private_key is None:
        private_key = _provider().get("private_key")
    login = driver.ex_get_password_data(node, private_key)
    return {"account": login.account, "password": login.password}


# Functions


avail_locations = _function(commands.avail_locations)
avail_images = _function(commands.avail_images)
avail_sizes = _function(commands.avail_sizes)
get_balance = _function(commands.get_balance)
list_keypairs = _function(commands.list_keypairs)
import_keypair = _function(commands.import_keypair)
delete_keypair = _function(commands.delete_keypair)
list_expiring = _function(commands.list_expiring)
