"""
The MCS Cloud Module
====================

Machines of Meituan's compute cloud MCS (MOS) for ``salt-cloud``.

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

# Salt gives this module its dunder names, and runs it under another name: imports are absolute.

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

_MISSING = None
try:
    import lxml.etree  # noqa: F401 - the driver imports it only when it reads an answer

    from libcloud_mcs.errors import MCSError
    from libcloud_mcs.salt import _access as access
    from libcloud_mcs.salt import _arguments as arguments
    from libcloud_mcs.salt import _machines as machines
    from libcloud_mcs.salt import _settings as settings
except ImportError as _error:
    _MISSING = _error.name or str(_error)

if TYPE_CHECKING:
    from libcloud.compute.base import Node

    from libcloud_mcs.driver import MCSNodeDriver

log = logging.getLogger(__name__)

#: What a command was given as ``name=value``.
_Kwargs: TypeAlias = "dict[str, Any] | None"

__virtualname__ = "mcs"

__opts__: dict[str, Any]
__utils__: dict[str, Callable[..., Any]]
__context__: dict[str, Any]
__active_provider_name__: str | None

#: The options with which a command takes a map.
_MAPS = ("map", "map_data", "map_pillar")
#: The key in the loader's context of what a command has destroyed.
_DESTROYED = "mcs.destroyed"
#: What is told of a machine in the events around its making.
_TOLD = ["name", "profile", "provider", "driver"]


def __virtual__() -> str:  # noqa: N807 - Salt's name
    """
    Be there always. What is missing is said by :func:`get_configured_provider`, which knows the
    provider's name; Salt itself would only say that the driver could not be loaded.
    """
    return __virtualname__


def _for_salt(function: Callable[..., Any]) -> Callable[..., Any]:
    """Refuse ``-f`` and ``-a`` for a function that only Salt itself calls."""

    @functools.wraps(function)
    def wrapper(*given: Any, **named: Any) -> Any:
        if named:
            raise SaltCloudSystemExit(
                f"'{function.__name__}' is for Salt itself: it cannot be called with -f or -a."
            )
        return function(*given)

    return wrapper


@_for_salt
def get_configured_provider() -> Any:
    """Give the settings of the active provider; ``False``, after saying why, when it has none."""
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


# What the functions stand on


@contextmanager
def _clear_errors() -> Iterator[None]:
    """Turn what the driver raises into what ``salt-cloud`` shows without a traceback."""
    try:
        yield
    except SaltCloudSystemExit:
        raise
    except (MCSError, machines.HalfMadeError, ValueError, TypeError, OSError, ImportError) as error:
        # The driver's own arguments have a prefix that the settings here have not.
        raise SaltCloudSystemExit(str(error).removeprefix("ex_")) from error


def _function(function: Callable[..., Any]) -> Callable[..., Any]:
    """Make a function for ``-f`` and the options that list something: it is given the driver."""

    @functools.wraps(function)
    def wrapper(
        name: str = "", kwargs: _Kwargs = None, call: str | None = None, **more: Any
    ) -> Any:
        if call == "action":
            raise SaltCloudSystemExit(
                f"The {function.__name__} function must be called with -f or --function."
            )
        with _clear_errors():
            return function(_driver(), _given(kwargs, more))

    return wrapper


def _action(function: Callable[..., Any]) -> Callable[..., Any]:
    """Make an action for ``-a``: it is given the driver and the machine that the name means."""

    @functools.wraps(function)
    def wrapper(
        name: str = "", kwargs: _Kwargs = None, call: str | None = None, **more: Any
    ) -> Any:
        if call != "action" and more.get("action") != function.__name__:
            raise SaltCloudSystemExit(
                f"The {function.__name__} action must be called with -a or --action."
            )
        with _clear_errors():
            driver = _driver()
            node = machines.find(driver, arguments.text(name, "name"))
            return function(driver, node, _given(kwargs, more))

    return wrapper


def _given(kwargs: _Kwargs, more: dict[str, Any]) -> dict[str, Any]:
    """
    Return the user's arguments.

    :param more: The named arguments of ``CloudClient.extra_action``: the user's, and three of its
        own.
    """
    own = ("action", "profile", "provider")
    return {**(kwargs or {}), **{name: more[name] for name in more if name not in own}}


def _provider() -> Mapping[str, Any]:
    provider = get_configured_provider()
    if not isinstance(provider, Mapping):
        raise SaltCloudSystemExit(
            f"The cloud provider '{__active_provider_name__}' is not set up; the log says why."
        )
    return provider


def _driver() -> MCSNodeDriver:
    provider = _provider()
    return settings.driver_of(provider)


def _alias() -> str:
    """Give the name of the active provider in the configuration."""
    return str(__active_provider_name__).split(":")[0]


def _list_machines(driver: MCSNodeDriver) -> dict[str, Node]:
    """List the machines. Salt tells nobody what goes wrong there, so that it is said here."""
    try:
        return machines.list_machines(driver)
    except MCSError as error:
        log.error("The machines of '%s' could not be listed: %s", __active_provider_name__, error)
        raise


def _fire(name: str, step: str, message: str, /, **told: Any) -> None:
    __utils__["cloud.fire_event"](
        "event",
        message,
        f"salt/cloud/{name}/{step}",
        args=told,
        sock_dir=__opts__["sock_dir"],
        transport=__opts__["transport"],
    )


@contextmanager
def _events(node: Node, doing: str, done: str) -> Iterator[None]:
    """Fire an event before something is asked for, and another one when it was accepted."""
    told = {"name": node.name, "id": node.id}
    _fire(node.name, doing, f"{doing} instance", **told)
    yield
    _fire(node.name, done, f"{done} instance", **told)


# Several providers


@_for_salt
def optimize_providers(providers: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Leave out of Salt's lists the providers whose account another provider has as well."""
    wanted = {_alias_of(str(__opts__.get("profile")))}
    if __opts__.get("hard"):
        wanted |= {alias for alias, _ in _map()}
    return settings.one_for_each_account(providers, wanted)


def _is_meant(node: Node) -> bool:
    """
    Check whether a command means the machine that Salt destroys for it.

    A profile or a map names machines of one provider. Salt destroys every machine of such a name,
    of every provider.

    :return: Whether it does. If not, the log says why.
    """
    why, profile, is_map = None, __opts__.get("profile"), any(map(__opts__.get, _MAPS))
    destroys = __opts__.get("destroy")
    if destroys and is_map:
        why = None if _is_named(node) else "the map does not name it"
    elif destroys and profile:
        why = None if _is_of(_alias_of(profile), node) else f"'{profile}' is for another account"
    elif is_map and __opts__.get("hard"):
        why = "the map names it" if _is_named(node) else None
    if why:
        alias = str(__active_provider_name__)
        log.warning("The machine '%s' (ID %s) of '%s' is kept: %s", node.name, node.id, alias, why)
    return why is None


def _is_named(node: Node) -> bool:
    return any(name == node.name and _is_of(alias, node) for alias, name in _map())


def _map() -> set[tuple[str, str]]:
    """Return the machines in the command's map: each one's provider and name."""
    # Its constructor loads this module once more, which resets the active provider's name.
    mapper = object.__new__(salt.cloud.Map)
    mapper.opts, profiles = __opts__, __opts__["profiles"]
    rendered = mapper.read()
    if hasattr(mapper, "minion"):
        mapper.minion.destroy()
    return {
        (str(machine.get("provider") or profiles[profile]["provider"]).split(":")[0], name)
        for profile, named in rendered.items()
        if profile in profiles
        for name, machine in named.items()
    }


def _alias_of(profile: str) -> str:
    return str(__opts__["profiles"].get(profile, {}).get("provider", "")).split(":")[0]


def _is_of(alias: str, node: Node) -> bool:
    """Check whether a provider lists a machine; those of other clouds never do."""
    provider = __opts__["providers"].get(alias, {}).get(__virtualname__)
    return provider is not None and machines.sees(settings.driver_of(provider), node)


# Lists


@_function
def avail_locations(driver: MCSNodeDriver, kwargs: _Kwargs) -> dict[str, Any]:
    """
    List the one location there is: the endpoint's region.

    CLI Example:

    .. code-block:: bash

        salt-cloud --list-locations my-mcs-config
    """
    arguments.read(kwargs)
    return _shown(driver.list_locations())


@_function
def avail_images(driver: MCSNodeDriver, kwargs: _Kwargs) -> dict[str, Any]:
    """
    List the templates from which a machine can be made.

    CLI Example:

    .. code-block:: bash

        salt-cloud --list-images my-mcs-config
    """
    arguments.read(kwargs)
    return _shown(driver.list_images())


@_function
def avail_sizes(driver: MCSNodeDriver, kwargs: _Kwargs) -> dict[str, Any]:
    """
    List the instance types: ``ram`` in MB, ``disk`` in GB, ``bandwidth`` in Mbps.

    CLI Example:

    .. code-block:: bash

        salt-cloud --list-sizes my-mcs-config
    """
    arguments.read(kwargs)
    return _shown(driver.list_sizes())


def _shown(things: Any) -> dict[str, Any]:
    return {name: machines.plain(thing) for name, thing in machines.by_name(things).items()}


@_function
def list_nodes(driver: MCSNodeDriver, kwargs: _Kwargs) -> dict[str, Any]:
    """
    List the machines.

    Of several of one name the first stands under its name, the others under their IDs. A machine
    that is being destroyed is left out.

    CLI Example:

    .. code-block:: bash

        salt-cloud -Q
    """
    arguments.read(kwargs)
    return {name: machines.summary(node) for name, node in _list_machines(driver).items()}


@_function
def list_nodes_full(driver: MCSNodeDriver, kwargs: _Kwargs) -> dict[str, Any]:
    """
    List the machines with all fields; ``extra`` has those of the API under its own names.

    CLI Example:

    .. code-block:: bash

        salt-cloud -F
    """
    arguments.read(kwargs)
    found = {name: machines.details(node) for name, node in _list_machines(driver).items()}
    __utils__["cloud.cache_node_list"](found, _alias(), __opts__)
    return found


@_function
def list_nodes_select(_driver: MCSNodeDriver, kwargs: _Kwargs) -> dict[str, Any]:
    """
    List the machines with the fields that ``query.selection`` in Salt's configuration names.

    CLI Example:

    .. code-block:: bash

        salt-cloud -S
    """
    wanted = __opts__.get("query.selection")
    if not wanted:
        log.error("The setting 'query.selection' is missing: a list of the fields to show")
        raise SaltCloudSystemExit("The setting 'query.selection' is missing.")
    return {
        name: {field: value for field, value in fields.items() if field in wanted}
        for name, fields in list_nodes_full(kwargs=kwargs).items()
    }


# Making and destroying


@_for_salt
def create(vm_: dict[str, Any]) -> dict[str, Any]:
    """
    Make a machine, wait until it runs, and let Salt do what ``deploy`` and ``inline_script`` say.

    CLI Example:

    .. code-block:: bash

        salt-cloud -p small-debian web
    """
    name = vm_["name"]
    with _clear_errors():
        driver = _driver()
        setting = functools.partial(_setting, vm_)
        profile = settings.Profile.read(setting)
        way = access.Access.read(setting, _has_agent()) if profile.entered else None
        _warn_of_unused(vm_)
        told = access.without_secrets(vm_)
        creating = __utils__["cloud.filter_event"]("creating", told, _TOLD)
        _fire(name, "creating", "starting create", **creating)
        wanted = profile.for_create_node(name)
        asked = {argument.removeprefix("ex_"): value for argument, value in wanted.items()}
        _fire(name, "requesting", "requesting instance", kwargs=asked)
        node = driver.create_node(**wanted)
        log.info("The machine '%s' is being made; its ID is %s", name, node.id)
        with machines.half_made(driver, node, profile.on_failure):
            _fire(name, "querying", "waiting for instance", id=node.id)
            node, address = machines.wait(driver, node, profile)
            made = machines.details(node)
            if way:
                at = {
                    "ssh_host": setting("ssh_host") or address,
                    "salt_host": setting("salt_host")
                    or machines.address(node, profile.salt_interface or profile.ssh_interface),
                }
                made.update(_bootstrap(vm_, at, way.completed(driver, node)))
            created = __utils__["cloud.filter_event"]("created", told, _TOLD)
            _fire(name, "created", "created instance", **created, id=node.id)
        return made


def _setting(vm_: dict[str, Any], name: str) -> Any:
    return salt.config.get_cloud_config_value(
        name, vm_, __opts__, search_global=name not in access.OWN
    )


def _has_agent() -> bool:
    return bool(__opts__.get("ssh_agent") and os.environ.get("SSH_AUTH_SOCK"))


def _warn_of_unused(vm_: dict[str, Any]) -> None:
    if unused := settings.unused(vm_, __opts__):
        log.warning(
            "The machine '%s' has settings that neither Salt nor the mcs driver reads: %s",
            vm_["name"],
            ", ".join(unused),
        )


def _bootstrap(vm_: dict[str, Any], at: dict[str, Any], way: access.Access) -> dict[str, Any]:
    """Run Salt's own bootstrap on a machine."""
    setting = functools.partial(_setting, vm_)
    if not way.windows:
        way = _logged_in(setting, at["ssh_host"], way)
    opts = {**__opts__, "ssh_agent": way.agent, "hard_timeout": setting("hard_timeout")}
    answer = __utils__["cloud.bootstrap"](
        access.Guarded({**vm_, **at, **way.for_bootstrap()}), opts
    )
    if "Error" in answer:
        raise SaltCloudSystemExit(", ".join(map(str, answer["Error"].values())))
    return dict(answer)


def _logged_in(setting: Callable[[str], Any], host: str, way: access.Access) -> access.Access:
    """
    Wait for ssh, and find the account that can log in.

    Salt's own bootstrap reports no error if it cannot log in to run an ``inline_script``.
    """
    port, timeout = setting("ssh_port") or 22, setting("ssh_connect_timeout") or 900
    if not salt.utils.cloud.wait_for_port(host, port, timeout, way.gateway):
        raise SaltCloudSystemExit(
            f"{host} does not answer at port {port}; Salt waited {timeout} seconds"
            " (ssh_connect_timeout)"
        )
    shown = setting("display_ssh_output")
    for username in way.usernames:
        try:
            if salt.utils.cloud.wait_for_passwd(
                host,
                port,
                username=username,
                password=way.password,
                key_filename=way.key_filename,
                gateway=way.gateway,
                ssh_timeout=setting("wait_for_passwd_timeout") or 15,
                maxtries=setting("wait_for_passwd_maxtries") or 15,
                display_ssh_output=True if shown is None else shown,
                known_hosts_file=setting("known_hosts_file") or os.devnull,
                hard_timeout=setting("hard_timeout"),
            ):
                return way.only(username)
        except SaltCloudPasswordError:
            log.info("The password was refused for the account '%s' at %s", username, host)
    tried = ", ".join(map(repr, way.usernames))
    raise SaltCloudSystemExit(f"ssh cannot log in to {host} as {tried}")


def destroy(name: str = "", kwargs: _Kwargs = None, call: str | None = None, **more: Any) -> bool:
    """
    Destroy a machine and its disks.

    A machine that is gone already, or on its way out, is destroyed too.

    CLI Example:

    .. code-block:: bash

        salt-cloud -d web
    """
    if call == "function":
        raise SaltCloudSystemExit(
            "The destroy action must be called with -d, --destroy, -a or --action."
        )
    with _clear_errors():
        driver = _driver()
        name = arguments.text(name, "name")
        arguments.read(_given(kwargs, more))
        with _report_of_destroyed():
            node = machines.find_if_any(driver, name)
            if node and not _is_meant(node):
                return False
            if node:
                with _events(node, "destroying", "destroyed"):
                    machines.destroy(driver, node)
                __context__.setdefault(_DESTROYED, []).append(name)
            else:
                alias = str(__active_provider_name__)
                log.warning("The machine '%s' of '%s' is gone already", name, alias)
    if node and __opts__.get("delete_sshkeys", False) is True:
        for address in (*node.public_ips, *node.private_ips):
            salt.utils.cloud.remove_sshkey(address)
    if __opts__.get("update_cachedir", False) is True:
        __utils__["cloud.delete_minion_cachedir"](node.name if node else name, _alias(), __opts__)
    return True


@contextmanager
def _report_of_destroyed() -> Iterator[None]:
    """Add to an error which machines were destroyed before it; Salt shows the error alone."""
    try:
        yield
    except MCSError as error:
        if destroyed := __context__.get(_DESTROYED):
            error.message += f" (destroyed before it: {', '.join(map(repr, destroyed))})"
        raise


# Actions


@_action
def start(driver: MCSNodeDriver, node: Node, kwargs: _Kwargs) -> bool:
    """
    Start a machine.

    CLI Example:

    .. code-block:: bash

        salt-cloud -a start web
    """
    arguments.read(kwargs)
    with _events(node, "starting", "started"):
        return driver.start_node(node)


@_action
def stop(driver: MCSNodeDriver, node: Node, kwargs: _Kwargs) -> bool:
    """
    Shut a machine down; with ``force=True`` switch it off.

    CLI Example:

    .. code-block:: bash

        salt-cloud -a stop web
    """
    given = arguments.read(kwargs, optional=["force"])
    force = arguments.flag(given["force"], "force")
    with _events(node, "stopping", "stopped"):
        return driver.stop_node(node, ex_force=force)


@_action
def reboot(driver: MCSNodeDriver, node: Node, kwargs: _Kwargs) -> bool:
    """
    Reboot a machine.

    CLI Example:

    .. code-block:: bash

        salt-cloud -a reboot web
    """
    arguments.read(kwargs)
    with _events(node, "rebooting", "rebooted"):
        return driver.reboot_node(node)


@_action
def show_instance(_driver: MCSNodeDriver, node: Node, kwargs: _Kwargs) -> dict[str, Any]:
    """
    Show all that is known of a machine.

    CLI Example:

    .. code-block:: bash

        salt-cloud -a show_instance web
    """
    arguments.read(kwargs)
    shown = machines.details(node)
    __utils__["cloud.cache_node"](shown, __active_provider_name__, __opts__)
    return shown


@_action
def renew(driver: MCSNodeDriver, node: Node, kwargs: _Kwargs) -> bool:
    """
    Lease a machine for longer. **This costs money.**

    ``duration``: how much longer, such as ``72H`` or ``1M``; a month when it is left out.

    CLI Example:

    .. code-block:: bash

        salt-cloud -a renew web duration=72H
    """
    given = arguments.read(kwargs, optional=["duration"])
    with _events(node, "renewing", "renewed"):
        return driver.ex_renew_node(node, given["duration"])


@_action
def rebuild(driver: MCSNodeDriver, node: Node, kwargs: _Kwargs) -> bool:
    """
    Write the system disk of a machine anew. **What is on it is lost.**

    ``image``: an ID or a name; the image that it was made from when it is left out.

    CLI Example:

    .. code-block:: bash

        salt-cloud -a rebuild web image=Debian-7.0-x86_64.qcow2
    """
    given = arguments.read(kwargs, optional=["image"])
    with _events(node, "rebuilding", "rebuilt"):
        return driver.ex_rebuild_node(node, given["image"])


@_action
def change_size(driver: MCSNodeDriver, node: Node, kwargs: _Kwargs) -> bool:
    """
    Give a machine another size. **This costs money.**

    ``size``: an ID or a name. ``duration``: the lease with it, such as ``72H`` or ``1M``; a month
    when it is left out.

    CLI Example:

    .. code-block:: bash

        salt-cloud -a change_size web size=medium duration=72H
    """
    given = arguments.read(kwargs, ["size"], ["duration"])
    with _events(node, "resizing", "resized"):
        return driver.ex_change_node_size(node, given["size"], given["duration"])


@_action
def get_contract(driver: MCSNodeDriver, node: Node, kwargs: _Kwargs) -> dict[str, Any]:
    """
    Show the lease of a machine.

    CLI Example:

    .. code-block:: bash

        salt-cloud -a get_contract web
    """
    arguments.read(kwargs)
    return dict(machines.plain(driver.ex_get_contract(node)))


@_action
def get_metadata(driver: MCSNodeDriver, node: Node, kwargs: _Kwargs) -> dict[str, Any]:
    """
    Show the metadata of a machine.

    CLI Example:

    .. code-block:: bash

        salt-cloud -a get_metadata web
    """
    arguments.read(kwargs)
    return dict(driver.ex_get_metadata(node))


@_action
def set_metadata(driver: MCSNodeDriver, node: Node, kwargs: _Kwargs) -> bool:
    """
    Set entries of a machine's metadata; others stay as they are.

    CLI Example:

    .. code-block:: bash

        salt-cloud -a set_metadata web role=db tier=gold
    """
    return driver.ex_set_metadata(node, arguments.entries(kwargs))


@_action
def get_password(driver: MCSNodeDriver, node: Node, kwargs: _Kwargs) -> dict[str, Any]:
    """
    Show the account and the password that a machine came with.

    ``private_key``: for a machine with a key pair, the path of its private key; the provider's
    setting of that name when it is left out.

    CLI Example:

    .. code-block:: bash

        salt-cloud -a get_password web
    """
    given = arguments.read(kwargs, optional=["private_key"])
    private_key = given["private_key"]
    if private_key is None:
        private_key = _provider().get("private_key")
    login = driver.ex_get_password_data(node, private_key)
    return {"account": login.account, "password": login.password}


# Functions


@_function
def get_balance(driver: MCSNodeDriver, kwargs: _Kwargs) -> dict[str, Any]:
    """
    Show the account's money.

    CLI Example:

    .. code-block:: bash

        salt-cloud -f get_balance my-mcs-config
    """
    arguments.read(kwargs)
    return dict(machines.plain(driver.ex_get_balance()))


@_function
def list_keypairs(driver: MCSNodeDriver, kwargs: _Kwargs) -> dict[str, Any]:
    """
    List the account's key pairs.

    CLI Example:

    .. code-block:: bash

        salt-cloud -f list_keypairs my-mcs-config
    """
    arguments.read(kwargs)
    return {pair.name: machines.plain(pair) for pair in driver.list_key_pairs()}


@_function
def import_keypair(driver: MCSNodeDriver, kwargs: _Kwargs) -> dict[str, Any]:
    """
    Register a public key. A name in use with the same key is that key.

    ``keyname``: the name to register it under. ``file``: the file with the public key in OpenSSH's
    form.

    CLI Example:

    .. code-block:: bash

        salt-cloud -f import_keypair my-mcs-config keyname=mykey file=/path/to/id_rsa.pub
    """
    given = arguments.read(kwargs, ["keyname", "file"])
    pair = driver.import_key_pair_from_file(given["keyname"], given["file"])
    return dict(machines.plain(pair))


@_function
def delete_keypair(driver: MCSNodeDriver, kwargs: _Kwargs) -> bool:
    """
    Delete a key pair. Machines made with it keep it.

    ``keyname``: its name or its ID.

    CLI Example:

    .. code-block:: bash

        salt-cloud -f delete_keypair my-mcs-config keyname=mykey
    """
    given = arguments.read(kwargs, ["keyname"])
    return driver.delete_key_pair(given["keyname"])


@_function
def list_expiring(driver: MCSNodeDriver, kwargs: _Kwargs) -> dict[str, Any]:
    """
    List the machines whose leases end soon, or have ended.

    ``hours``, ``days``: how soon; at least one of them.

    CLI Example:

    .. code-block:: bash

        salt-cloud -f list_expiring my-mcs-config days=3
    """
    given = arguments.read(kwargs, optional=["hours", "days"])
    within = arguments.span(given["hours"], given["days"])
    return machines.expiring(driver, within)
