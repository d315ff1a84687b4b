"""The actions and functions of ``salt-cloud`` that need nothing but the driver."""

from __future__ import annotations

from typing import Any

from libcloud.compute.base import Node

from libcloud_mcs.driver import MCSNodeDriver
from libcloud_mcs.salt import _arguments as arguments
from libcloud_mcs.salt import _machines as machines

__all__ = [
    "avail_images",
    "avail_locations",
    "avail_sizes",
    "change_size",
    "delete_keypair",
    "get_balance",
    "get_contract",
    "get_metadata",
    "import_keypair",
    "list_expiring",
    "list_keypairs",
    "reboot",
    "rebuild",
    "renew",
    "set_metadata",
    "start",
    "stop",
]


# Actions


def start(driver: MCSNodeDriver, node: Node) -> bool:
    """
    Start a machine.

    CLI Example:

    .. code-block:: bash

        salt-cloud -a start web
    """
    return driver.start_node(node)


def stop(driver: MCSNodeDriver, node: Node, *, force: bool = False) -> bool:
    """
    Shut down a machine, or switch it off with ``force=True``.

    CLI Example:

    .. code-block:: bash

        salt-cloud -a stop web
    """
    return driver.stop_node(node, ex_force=force)


def reboot(driver: MCSNodeDriver, node: Node) -> bool:
    """
    Reboot a machine.

    CLI Example:

    .. code-block:: bash

        salt-cloud -a reboot web
    """
    return driver.reboot_node(node)


def renew(driver: MCSNodeDriver, node: Node, *, duration: str | None = None) -> bool:
    """
    Extend the lease of a machine. **This costs money.**

    ``duration``: the time to add, such as ``72H`` or ``1M``; one month by default.

    CLI Example:

    .. code-block:: bash

        salt-cloud -a renew web duration=72H
    """
    return driver.ex_renew_node(node, duration)


def rebuild(driver: MCSNodeDriver, node: Node, *, image: str | None = None) -> bool:
    """
    Overwrite the system disk of a machine with an image. **All data on the disk is lost.**

    ``image``: an ID or a name; the machine's own image by default.

    CLI Example:

    .. code-block:: bash

        salt-cloud -a rebuild web image=Debian-7.0-x86_64.qcow2
    """
    return driver.ex_rebuild_node(node, image)


def change_size(
    driver: MCSNodeDriver,
    node: Node,
    *,
    size: str,
    duration: str | None = None,
    disk_size: str | None = None,
    bandwidth: str | None = None,
) -> bool:
    """
    Change the size of a machine. **This costs money.**

    ``size``: an ID or a name. ``duration``: the new lease, such as ``72H`` or ``1M``; one month by
    default. ``disk_size``: the new size of the data disk, in GB. ``bandwidth``: the new external
    bandwidth, in Mbps. Both stay unchanged by default.

    CLI Example:

    .. code-block:: bash

        salt-cloud -a change_size web size=medium duration=72H
        salt-cloud -a change_size web size=C2_M4 disk_size=100 bandwidth=10
    """
    return driver.ex_change_node_size(
        node,
        size,
        duration,
        ex_disk_size=arguments.whole_number(disk_size, "disk_size", "GB"),
        ex_bandwidth=arguments.whole_number(bandwidth, "bandwidth", "Mbps"),
    )


def get_contract(driver: MCSNodeDriver, node: Node) -> dict[str, Any]:
    """
    Show the lease of a machine.

    CLI Example:

    .. code-block:: bash

        salt-cloud -a get_contract web
    """
    return dict(machines.plain(driver.ex_get_contract(node)))


def get_metadata(driver: MCSNodeDriver, node: Node) -> dict[str, Any]:
    """
    Show the metadata of a machine.

    CLI Example:

    .. code-block:: bash

        salt-cloud -a get_metadata web
    """
    return dict(driver.ex_get_metadata(node))


def set_metadata(driver: MCSNodeDriver, node: Node, /, **entries: str) -> bool:
    """
    Set entries of a machine's metadata; other entries stay unchanged.

    CLI Example:

    .. code-block:: bash

        salt-cloud -a set_metadata web role=db tier=gold
    """
    return driver.ex_set_metadata(node, entries)


# Functions


def avail_locations(driver: MCSNodeDriver) -> dict[str, Any]:
    """
    List the zones; the region for an endpoint without zones.

    CLI Example:

    .. code-block:: bash

        salt-cloud --list-locations my-mcs-config
    """
    return machines.plain_by_name(driver.list_locations())


def avail_images(driver: MCSNodeDriver) -> dict[str, Any]:
    """
    List the images.

    CLI Example:

    .. code-block:: bash

        salt-cloud --list-images my-mcs-config
    """
    return machines.plain_by_name(driver.list_images())


def avail_sizes(driver: MCSNodeDriver) -> dict[str, Any]:
    """
    List the sizes: ``ram`` in MB, ``disk`` in GB, ``bandwidth`` in Mbps.

    Where ``disk`` is 0, a profile chooses ``disk_size``; where ``bandwidth`` is 0, ``bandwidth``.

    CLI Example:

    .. code-block:: bash

        salt-cloud --list-sizes my-mcs-config
    """
    return machines.plain_by_name(driver.list_sizes())


def get_balance(driver: MCSNodeDriver) -> dict[str, Any]:
    """
    Show the balance of the account.

    CLI Example:

    .. code-block:: bash

        salt-cloud -f get_balance my-mcs-config
    """
    return dict(machines.plain(driver.ex_get_balance()))


def list_keypairs(driver: MCSNodeDriver) -> dict[str, Any]:
    """
    List the key pairs of the account.

    CLI Example:

    .. code-block:: bash

        salt-cloud -f list_keypairs my-mcs-config
    """
    return {pair.name: machines.plain(pair) for pair in driver.list_key_pairs()}


def import_keypair(driver: MCSNodeDriver, *, keyname: str, file: str) -> dict[str, Any]:
    """
    Register a public key; do nothing if the same key is registered under that name.

    ``keyname``: a name for the key. ``file``: the path of the public key in OpenSSH format.

    CLI Example:

    .. code-block:: bash

        salt-cloud -f import_keypair my-mcs-config keyname=mykey file=/path/to/id_rsa.pub
    """
    return dict(machines.plain(driver.import_key_pair_from_file(keyname, file)))


def delete_keypair(driver: MCSNodeDriver, *, keyname: str) -> bool:
    """
    Delete a key pair; machines that were created with the key pair keep the public key.

    ``keyname``: the name or the ID.

    CLI Example:

    .. code-block:: bash

        salt-cloud -f delete_keypair my-mcs-config keyname=mykey
    """
    return driver.delete_key_pair(keyname)


def list_expiring(
    driver: MCSNodeDriver, *, hours: str | None = None, days: str | None = None
) -> dict[str, Any]:
    """
    List the machines whose leases end within a time or have ended.

    ``hours``, ``days``: the time; one of them or both.

    CLI Example:

    .. code-block:: bash

        salt-cloud -f list_expiring my-mcs-config days=3
    """
    return machines.expiring(driver, arguments.timespan(hours, days))
