"""The libcloud driver: libcloud's verbs, and ``ex_`` verbs for what libcloud has no verb for."""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar, cast

from libcloud.compute.base import (
    KeyPair,
    Node,
    NodeAuthPassword,
    NodeAuthSSHKey,
    NodeDriver,
    NodeImage,
    NodeLocation,
    NodeSize,
    StorageVolume,
)
from libcloud.compute.types import NodeState, Provider

from libcloud_mcs import __version__, _images, _key_pairs, _key_text, keys
from libcloud_mcs import _arguments as arguments
from libcloud_mcs import _convert as convert
from libcloud_mcs import _passwords as passwords
from libcloud_mcs import _wire_values as wire_values
from libcloud_mcs._concurrency import concurrent_map
from libcloud_mcs._endpoint import Endpoint
from libcloud_mcs._generic import canonical, generic_action, wire_parameters
from libcloud_mcs._lists import Filters, Lists, named_nodes
from libcloud_mcs._outcomes import is_refusal
from libcloud_mcs._paging import pages
from libcloud_mcs._reconciling import reconcile
from libcloud_mcs._waiting import INTERFACES, Addresses, until_running
from libcloud_mcs.actions import Kind
from libcloud_mcs.connection import MCSConnection
from libcloud_mcs.errors import (
    KeyPairNotFoundError,
    MCSError,
    NotFoundError,
    OutcomeUnknownError,
)

if TYPE_CHECKING:
    from libcloud.compute.deployment import Deployment

    from libcloud_mcs.records import Balance, Contract, NetworkInterface, PasswordData

__all__ = ["MCSNodeDriver"]

_log = logging.getLogger(__name__)

T = TypeVar("T")
Row = dict[str, Any]

#: The form of an ID.
_UUID = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII | re.IGNORECASE)
#: So many seconds the last look at nodes that are waited for may take.
_LAST_LOOK = 1.0


class MCSNodeDriver(NodeDriver):
    """
    Driver for Meituan's compute cloud MCS (MOS).

    Templates are images, instance types are sizes, instances are nodes. Every argument that names
    a thing takes the object, its ID or its name; one that names several takes a list of these.
    Times are aware and in UTC.

    Every verb may raise :class:`~libcloud_mcs.errors.MCSError`, and those that change or cost
    something its subclass :class:`~libcloud_mcs.errors.OutcomeUnknownError`. Wrong arguments
    raise ``ValueError`` or ``TypeError`` before anything is sent; so do things of another cloud.

    :param key: The access key.
    :param secret: The access key's secret.
    :param secure: Whether to use HTTPS. Default ``True``.
    :param host: The endpoint's host. Default ``mosapi.meituan.com``.
    :param port: The endpoint's port. Default that of HTTPS or HTTP.
    :param region: The region, sent with each request; ``None`` sends none.
    :param url: The endpoint as a URL, in place of the four parts. When neither it nor a part is
        given, the variable ``MOS_URL`` is used, and the public endpoint where that is not set.
    :param path: The endpoint's path. Default ``/mcs/v1``.
    :param timeout: Seconds after which one try has failed, from connecting to the last byte.
    :param connect_timeout: Seconds after which an attempt to connect has failed.
    :param deadline: Seconds after which a call has failed, with all its tries.
    :param max_tries: How often a call that may be repeated is sent at most.
    :param retry_delay: The longest wait in seconds before the second try; waits are random.
    :param backoff: By what the longest wait grows with each try.
    :param proxy_url: A proxy, ``http://[user:password@]host:port``; without it those of the
        environment are used, as they are at the first request.
    :param ca_cert: The path of a file with the certificates to trust, for this driver alone. It is
        read at once, and may go away then.
    :param http_method: ``POST``, or ``GET``, which puts the parameters and the signature into URLs.
    :param response_format: ``xml`` or ``json``.
    :param signature_method: ``HmacSHA256`` or ``HmacSHA1``.
    :param page_size: How many rows of a list to ask for in one request.
    :param concurrency: How many requests one verb may have in flight; ``1``: one after another.
    :raises ValueError: If an argument makes no sense. The message names it, and shows no secret.
    """

    name = "Meituan MCS"
    website = "https://mos.meituan.com"
    type = cast("Provider", "mcs")
    api_name = "mcs"
    connectionCls = MCSConnection  # noqa: N815 - libcloud's name
    connection: MCSConnection
    features = {"create_node": ["ssh_key", "generates_password"]}  # noqa: RUF012 - as in libcloud

    NODE_STATE_MAP = convert.NODE_STATES

    def __init__(
        self,
        key: str,
        secret: str,
        secure: bool | None = None,
        host: str | None = None,
        port: int | None = None,
        region: str | None = "Beijing",
        url: str | None = None,
        path: str | None = None,
        timeout: float = 60,
        connect_timeout: float = 10,
        deadline: float = 300,
        max_tries: int = 4,
        retry_delay: float = 0.5,
        backoff: float = 2.0,
        proxy_url: str | None = None,
        ca_cert: str | None = None,
        http_method: str = "POST",
        response_format: str = "xml",
        signature_method: str = "HmacSHA256",
        page_size: int = 1000,
        concurrency: int = 8,
    ) -> None:
        arguments.one_line(key, "key")
        arguments.one_line(secret, "secret")
        if region is not None:
            arguments.one_line(region, "region")
        #: Whether the endpoint has refused to list zones, as that of the specification does.
        self._has_no_zones = False
        self.page_size = arguments.whole(page_size, "page_size")
        self.concurrency = arguments.whole(concurrency, "concurrency")
        endpoint = Endpoint.choose(url, secure, host, port, path)
        self._connection_arguments = {
            "url": endpoint.url,
            "region": region,
            "connect_timeout": connect_timeout,
            "deadline": deadline,
            "max_tries": max_tries,
            "ca_cert": ca_cert,
            "http_method": http_method,
            "response_format": response_format,
            "signature_method": signature_method,
        }
        super().__init__(  # type: ignore[no-untyped-call]
            key,
            secret,
            secure=endpoint.secure,
            region=region,
            timeout=timeout,
            retry_delay=retry_delay,
            backoff=backoff,
            proxy_url=proxy_url,
        )
        self.connection.user_agent_append(  # type: ignore[no-untyped-call]
            f"libcloud-mcs/{__version__}"
        )

    @classmethod
    def from_environment(cls, **kwargs: Any) -> MCSNodeDriver:
        """
        Create a driver of what the service's own clients read from the environment: ``MOS_ACCESS``,
        ``MOS_SECRET``, ``MOS_REGION`` and ``MOS_URL``.

        :param kwargs: Arguments of the constructor; they go before the environment.
        :raises ValueError: If ``MOS_ACCESS`` or ``MOS_SECRET`` is needed and not set, or a variable
            cannot be used. The message names the variable, and shows no secret.
        """
        variables = {"key": "MOS_ACCESS", "secret": "MOS_SECRET", "region": "MOS_REGION"}
        for argument, variable in variables.items():
            if argument in kwargs:
                continue
            if value := os.environ.get(variable):
                kwargs[argument] = arguments.one_line(value, variable)
            elif argument != "region":
                raise ValueError(f"{variable}: the environment variable is not set")
        return cls(**kwargs)

    def _ex_connection_class_kwargs(self) -> dict[str, Any]:
        return dict(self._connection_arguments)

    @property
    def _lists(self) -> Lists:
        return Lists(self.connection, self.page_size, self.concurrency)

    # Images, sizes, locations

    def list_images(self, location: NodeLocation | str | None = None) -> list[NodeImage]:
        """
        List all templates from which a node can be made (``DescribeTemplates``).

        :param location: One of :meth:`list_locations`, its ID or its name, or ``None``: all of them
            have the same images.
        :return: Images; ``extra`` has the template's ``size`` in bytes, ``checksum`` (MD5) and
            ``status``.
        :raises ValueError: If there is no such location.
        """
        self._zone_parameters(location, "location")
        return self.connection.call(
            "DescribeTemplates",
            {},
            lambda response: [convert.to_image(row, self) for row in response["Template"]],
        )

    def get_image(self, image_id: NodeImage | str) -> NodeImage:
        """
        Get one template (``DescribeTemplates``).

        :param image_id: The image, its ID or its name.
        :raises NotFoundError: If there is no such template, or several have that name.
        """
        wanted = arguments.required_id(image_id, NodeImage, "image_id")
        images = self.list_images()
        found = [image for image in images if image.id == wanted]
        found = found or [image for image in images if image.name == wanted]
        if len(found) != 1:
            many = "several images have" if found else "no image has"
            raise NotFoundError(
                f"{many} the ID or name {wanted!r}", action="DescribeTemplates", driver=self
            )
        return found[0]

    def create_image(  # type: ignore[override] # libcloud returns one, and is typed for several
        self, node: Node | str, name: str, description: str | None = None
    ) -> NodeImage:
        """
        Create an image from the disk of a node (``CreateTemplate``), and return the image as soon
        as it is listed, whatever its status. The node is in another state meanwhile.

        :param node: The node, its ID or its name.
        :param name: The name of the image.
        :param description: The image's notes; ``None`` or ``""`` sends none.
        :return: The image of that name that was not there before.
        :raises MCSError: If the image was accepted, and is not listed before the ``deadline``. The
            message says so.
        :raises OutcomeUnknownError: If the image may have been created, and was not seen.
        """
        params = {
            "InstanceId": arguments.required_id(node, Node, "node"),
            "Name": arguments.required_text(name, "name"),
        }
        if description:
            params["Notes"] = arguments.required_text(description, "description")
        return _images.create(self.connection, params, self.list_images)

    def delete_image(self, node_image: NodeImage | str) -> bool:
        """
        Delete an image of the account (``DeleteTemplate``). Nodes created from it stay.

        :param node_image: The image, its ID or its name.
        """
        params = {"TemplateId": self._image_id(node_image, "node_image")}
        return self.connection.call("DeleteTemplate", params, convert.to_true)

    def list_sizes(
        self, location: NodeLocation | str | None = None, ex_filters: Filters | None = None
    ) -> list[NodeSize]:
        """
        List all instance types (``DescribeInstanceTypes``).

        :param location: One of :meth:`list_locations`, its ID or its name, or ``None``: all of them
            have the same sizes.
        :param ex_filters: What to list: ``{"name": "small"}``, or several names in a list.
        :return: Sizes: ``ram`` in MB, ``disk`` in GB, ``bandwidth`` the external one in Mbps,
            ``price`` always ``None``, since the API has none; ``extra["cpu"]`` counts the cores. A
            ``disk`` or ``bandwidth`` of 0 is to be chosen when a node is created.
        :raises ValueError: If there is no such location.
        """
        self._zone_parameters(location, "location")
        return self._lists.whole(
            "DescribeInstanceTypes",
            lambda rows: [convert.to_size(row, self) for row in rows],
            lambda size: size.id,
            ex_filters=ex_filters,
        )

    def list_locations(self) -> list[NodeLocation]:
        """
        List the zones of the endpoint's region (``DescribeAvailabilityZones``).

        :return: A location for each zone; ``extra`` has all fields of the response, among them
            ``Status``. An endpoint without zones has one location, its region; that it refuses the
            action is remembered.
        """
        return self._zones() or [self._region()]

    # Key pairs

    def list_key_pairs(self, ex_filters: Filters | None = None) -> list[KeyPair]:
        """
        List the account's key pairs (``DescribeKeyPairs``).

        :param ex_filters: What to list: ``{"name": "mykey"}``, or several names in a list.
        :return: Key pairs; ``extra["keyId"]`` is the ID. The API gives no public key back.
        """
        return self._lists.whole(
            "DescribeKeyPairs",
            lambda rows: [convert.to_key_pair(row, self) for row in rows],
            lambda pair: pair.name,
            ex_filters=ex_filters,
        )

    def get_key_pair(self, name: KeyPair | str) -> KeyPair:
        """
        Get one key pair (``DescribeKeyPairs``).

        :param name: The key pair, its name or its ID.
        :raises KeyPairNotFoundError: If there is no such key pair.
        """
        wanted = arguments.required_id(name, KeyPair, "name")
        pairs = self.list_key_pairs()
        for found in (
            *(pair for pair in pairs if pair.name == wanted),
            *(pair for pair in pairs if pair.extra.get("keyId") == wanted),
        ):
            return found
        raise KeyPairNotFoundError(
            f"no key pair has the name or ID {wanted!r}",
            name=wanted,
            action="DescribeKeyPairs",
            driver=self,
        )

    def import_key_pair_from_string(self, name: str, key_material: str) -> KeyPair:
        """
        Register a public key (``ImportKeyPair``). A name in use with the same key is that key.

        :param name: The name to register it under.
        :param key_material: The public key in OpenSSH's form, one line.
        :return: The key pair; when no clear answer came, the one of that name and key, if it is
            there.
        :raises ValueError: If the text is not such a key.
        :raises OutcomeUnknownError: If the key may have been registered, and was not seen.
        """
        arguments.required_text(name, "name")
        key = _key_text.public_key(
            arguments.required_text(key_material, "key_material"), "key_material"
        )
        return self._register(name, key)

    def import_key_pair_from_file(
        self, name: str, key_file_path: str | os.PathLike[str]
    ) -> KeyPair:
        """
        Register a public key from a file (``ImportKeyPair``).

        :param name: The name to register it under.
        :param key_file_path: The file with the public key in OpenSSH's form, in UTF-8; ``~`` is
            expanded.
        :return: As for :meth:`import_key_pair_from_string`.
        :raises ValueError: If the file does not hold such a key.
        :raises OSError: If the file cannot be read.
        :raises OutcomeUnknownError: If the key may have been registered, and was not seen.
        """
        arguments.required_text(name, "name")
        text = _key_text.read_file(key_file_path, "key_file_path", _key_text.PUBLIC)
        return self._register(name, _key_text.public_key(text, "key_file_path"))

    def create_key_pair(self, name: str) -> KeyPair:
        """
        Create an RSA key pair here and register its public key (``ImportKeyPair``).

        When no clear answer came, the driver looks whether the key is registered. Where it cannot
        see that, the error has the private key in its attribute ``private_key``; so has any other
        exception that ends the call meanwhile, ``KeyboardInterrupt`` for one.

        :param name: The name to register it under.
        :return: The key pair with ``private_key`` in PEM. It is kept nowhere else: save it.
        :raises ImportError: If the package ``cryptography`` is missing (the extra ``crypto``).
        :raises OutcomeUnknownError: If the key may have been registered, and was not seen.
        """
        return _key_pairs.create(
            self.connection, arguments.required_text(name, "name"), self.list_key_pairs
        )

    def delete_key_pair(self, key_pair: KeyPair | str) -> bool:
        """
        Delete a key pair (``DeleteKeyPair``). Nodes made with it keep it.

        :param key_pair: The key pair, its name or its ID.
        """
        name = arguments.required_id(key_pair, KeyPair, "key_pair")
        return self.connection.call("DeleteKeyPair", {"KeyName": name}, convert.to_true)

    # Nodes

    def list_nodes(
        self,
        ex_node_ids: Iterable[Node | str] | None = None,
        ex_names: Iterable[Node | str] | None = None,
        ex_filters: Filters | None = None,
        ex_location: NodeLocation | str | None = None,
    ) -> list[Node]:
        """
        List all nodes, or those that are named (``DescribeInstances``).

        :param ex_node_ids: Nodes, their IDs or their names.
        :param ex_names: Names alone, or the nodes that have them. With IDs as well: nodes that
            match either.
        :param ex_filters: What to list of them: ``{"status": ["running", "ready"]}`` or
            ``{"name": "web"}``; a status is one of the API's own words, or a ``NodeState`` for all
            words that mean it.
        :param ex_location: The zone of the nodes: a location, its ID or its name. The region's own
            location stands for all zones.
        :return: Nodes; what is asked for and does not exist is left out. ``extra`` has all fields
            of the response: ``memory`` in MB, ``status`` in the API's own words,
            ``availabilityZoneId`` where the endpoint has zones.
        :raises ValueError: If there is no such location.
        """
        zone = self._zone_parameters(ex_location, "ex_location")
        if ex_node_ids is None and ex_names is None:
            return self._list_nodes(zone, ex_filters)
        return named_nodes(
            ex_node_ids,
            ex_names,
            lambda named, most: self._list_nodes(zone | named, ex_filters, most),
            lambda: self._list_nodes(zone, ex_filters),
        )

    def create_node(
        self,
        name: str,
        size: NodeSize | str,
        image: NodeImage | str,
        location: NodeLocation | str | None = None,
        auth: NodeAuthSSHKey | NodeAuthPassword | None = None,
        ex_keyname: KeyPair | str | None = None,
        ex_duration: str | timedelta | None = None,
        ex_disk_size: int | None = None,
        ex_bandwidth: int | None = None,
        ex_security_group: str | None = None,
    ) -> Node:
        """
        Create and start a node (``CreateInstance``). **This costs money.**

        :param name: The node's name; no two nodes of an account share one.
        :param size: The size, its ID or its name.
        :param image: The image, its ID or its name. Text in the form of an ID (a UUID) is sent as
            it is; a name is looked up.
        :param location: One of :meth:`list_locations`, its ID or its name. ``None`` or the region's
            own location leaves the zone to the endpoint.
        :param auth: The public key of the node's account: a registered key pair with the same
            fingerprint is used, else the key is registered first (``ImportKeyPair``).
        :param ex_keyname: In place of ``auth``: a registered key pair, its name or its ID, which is
            sent as it is.
        :param ex_duration: How long to lease it: ``"72H"``, ``"1M"``, or a ``timedelta`` of whole
            hours. Left out, the endpoint takes a month.
        :param ex_disk_size: The size of the data disk in GB, a whole number from 0.
        :param ex_bandwidth: The external bandwidth in Mbps, a whole number from 0. A size whose
            ``disk`` and ``bandwidth`` are 0 needs one of these two.
        :param ex_security_group: The ID of a security group.
        :return: The node as the endpoint describes it right away: still being made. When no clear
            answer came, the node of that name, if there was none before.
        :raises ValueError: If there is no such location, or another argument has an invalid value.
            Nothing was sent that costs anything.
        :raises InsufficientBalanceError: If the account cannot pay for it. Nothing was made.
        :raises NotFoundError: If there is no such image. Nothing was made.
        :raises OutcomeUnknownError: If it may have been made, and billed, and was not seen.
        """
        params = {
            "InstanceName": arguments.required_text(name, "name"),
            "InstanceType": arguments.required_id(size, NodeSize, "size"),
        }
        arguments.required_id(image, NodeImage, "image")
        params |= wire_values.disk_and_bandwidth(ex_disk_size, ex_bandwidth)
        if ex_security_group is not None:
            params["GroupId"] = arguments.required_text(ex_security_group, "ex_security_group")
        if lease := wire_values.duration(ex_duration, "ex_duration"):
            params["Duration"] = lease
        if auth is not None and ex_keyname is not None:
            raise ValueError("auth, ex_keyname: only one of them can be given")
        if ex_keyname is not None:
            params["KeyName"] = arguments.required_id(ex_keyname, KeyPair, "ex_keyname")
        key = self._key_of(auth)

        params |= self._zone_parameters(location, "location")
        params["ImageId"] = self._image_id(image, "image")
        if key is not None:
            pair = _key_pairs.find_or_register(self.connection, key, self.list_key_pairs)
            params["KeyName"] = pair.name
        try:
            return reconcile(
                self.connection,
                lambda: self.connection.call(
                    "CreateInstance", params, lambda row: convert.to_nodes([row], self, {})[0]
                ),
                snapshot=lambda: self._ids_of(name),
                confirm=lambda before: self._made_since(before, name, arguments.names_of(size)),
            )
        except OutcomeUnknownError as error:
            if 200 <= error.http_code < 300:
                error.message += "; a response without an ID can mean that the name is in use"
            raise

    def deploy_node(
        self,
        deploy: Deployment,
        ssh_username: str | None = None,
        ssh_alternate_usernames: Iterable[str] | None = None,
        ssh_port: int = 22,
        ssh_timeout: float | None = 10,
        ssh_key: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None = None,
        ssh_key_password: str | bytes | None = None,
        auth: NodeAuthSSHKey | NodeAuthPassword | None = None,
        timeout: float | None = 300,
        max_tries: int = 3,
        ssh_interface: str = "public_ips",
        at_exit_func: Callable[..., Any] | None = None,
        wait_period: float = 5,
        **create_node_kwargs: Any,
    ) -> Node:
        """
        Create a node, wait for it, and run a deployment on it over SSH, as libcloud does it.
        **This costs money.**

        What is known to fail fails before anything is sent: files that cannot be read, keys that
        cannot be used, arguments of other types. The account and the password of the node are asked
        for (``GetPasswordData``) only where they are needed. What fails when the node was made is
        libcloud's ``DeploymentError``: the node is in ``node``, and its ID in the message.

        :param deploy: What to run.
        :param ssh_username: The account to log in to. Left out: the one that the node came with,
            and ``root`` where the endpoint does not tell it.
        :param ssh_alternate_usernames: Accounts to try after that one.
        :param ssh_port: The port of the node's SSH server.
        :param ssh_timeout: Seconds after which an attempt to log in has failed.
        :param ssh_key: The path of the private key, or several; ``~`` is expanded. With a key, no
            password is asked for.
        :param ssh_key_password: The passphrase of the private key. Without a key, libcloud takes it
            for the account's password.
        :param auth: As for :meth:`create_node`.
        :param timeout: Seconds after which to give up: waiting for the node, and logging in to it.
        :param max_tries: How often the deployment is run at most.
        :param ssh_interface: Where to look for the node's address: ``public_ips`` or
            ``private_ips``.
        :param at_exit_func: As for libcloud: called at the end of the program, with ``driver`` and
            ``node``, if the deployment was interrupted.
        :param wait_period: Seconds between two looks at the node, at most.
        :param create_node_kwargs: Other arguments of :meth:`create_node`: ``name``, ``size``,
            ``image``, ``ex_keyname``, …
        :raises RuntimeError: If the package ``paramiko`` is missing (the extra ``deploy``).
        :raises OSError: If the file of a ``FileDeployment`` cannot be read.
        """
        # Imported when it is needed: most programs never deploy.
        from libcloud_mcs._deploying import for_libcloud

        given = for_libcloud(
            deploy=deploy,
            ssh_username=ssh_username,
            ssh_alternate_usernames=ssh_alternate_usernames,
            ssh_port=ssh_port,
            ssh_timeout=ssh_timeout,
            ssh_key=ssh_key,
            ssh_key_password=ssh_key_password,
            auth=auth,
            timeout=timeout,
            max_tries=max_tries,
            ssh_interface=ssh_interface,
            at_exit_func=at_exit_func,
            wait_period=wait_period,
            key_pair=create_node_kwargs.get("ex_keyname"),
        )
        try:
            return super().deploy_node(**given, **create_node_kwargs)
        except Exception:
            raise
        except BaseException:
            # Ctrl-C, for one: there is no DeploymentError then that has the node.
            name = create_node_kwargs.get("name")
            _log.error(
                "deploy_node() was interrupted: the node %r may have been made and is leased then;"
                " driver.list_nodes(ex_names=[%r]) tells",
                name,
                name,
            )
            raise

    def wait_until_running(
        self,
        nodes: Iterable[Node | str],
        wait_period: float = 5,
        timeout: float = 600,
        ssh_interface: str = "public_ips",
        force_ipv4: bool = True,
        ex_list_nodes_kwargs: Mapping[str, Any] | None = None,
    ) -> list[tuple[Node, list[str]]]:
        """
        Wait until nodes run and have an address, asking for these nodes alone.

        :param nodes: The nodes, their IDs or their names.
        :param wait_period: Seconds between two looks, at most; the first come sooner.
        :param timeout: Seconds after which to give up; the last look may take a second more.
        :param ssh_interface: Where to look for the addresses: ``public_ips`` or ``private_ips``.
        :param force_ipv4: Whether to leave IPv6 addresses out.
        :param ex_list_nodes_kwargs: Arguments for :meth:`list_nodes` in place of these nodes' IDs.
        :return: Each node as it is now, with its addresses.
        :raises MCSError: If a node has failed, is gone, or did not come up in time. The message
            says which, and of one that runs which addresses it has.
        :raises NotFoundError: If no node has an ID or name that was given.
        """
        nodes = arguments.several_things(nodes, "nodes")
        # By their IDs, each once.
        awaited = {arguments.required_id(node, Node, "nodes"): node for node in nodes}
        arguments.seconds(wait_period, "wait_period")
        arguments.seconds(timeout, "timeout")
        addresses = Addresses(
            arguments.one_of(ssh_interface, INTERFACES, "ssh_interface"),
            arguments.flag(force_ipv4, "force_ipv4"),
        )
        wanted = arguments.keywords(ex_list_nodes_kwargs, self.list_nodes, "ex_list_nodes_kwargs")
        end = time.monotonic() + timeout

        def look(named: list[Node | str]) -> list[Node]:
            with self.connection.until(max(end, time.monotonic() + _LAST_LOOK)):
                return self.list_nodes(**(wanted or {"ex_node_ids": named}))

        try:
            return until_running(
                look,
                awaited.values(),
                addresses,
                wait_period,
                timeout,
                may_miss=bool(wanted),
            )
        except MCSError as error:
            error.driver = self
            raise

    def start_node(self, node: Node | str) -> bool:
        """
        Start a stopped node (``StartInstance``).

        :param node: The node, its ID or its name.
        """
        return self._change("StartInstance", node)

    def stop_node(self, node: Node | str, ex_force: bool = False) -> bool:
        """
        Stop a running node (``StopInstance``).

        :param node: The node, its ID or its name.
        :param ex_force: Whether to switch it off at once, which may lose data. Else the endpoint
            asks the system to shut down, and switches it off after 30 seconds.
        """
        force = arguments.flag(ex_force, "ex_force")
        return self._change("StopInstance", node, {"Force": "True"} if force else {})

    def reboot_node(self, node: Node | str) -> bool:
        """
        Reboot a node (``RebootInstance``).

        :param node: The node, its ID or its name.
        """
        return self._change("RebootInstance", node)

    def destroy_node(self, node: Node | str) -> bool:
        """
        Delete a node and its disks (``TerminateInstance``).

        :param node: The node, its ID or its name.
        """
        return self._change("TerminateInstance", node)

    def list_volumes(self, node: Node | str | None = None) -> list[StorageVolume]:
        """
        List the disks of a node, or of all nodes (``DescribeInstanceVolumes``).

        :param node: The node, its ID or its name; ``None``: every node, with one request each.
        :return: Volumes; ``size`` in GB. A number of 1,024 or more on the wire is in MB, a smaller
            one in GB; ``extra["volumeSize"]`` has the number as it came.
        """
        if node is not None:
            return self._volumes(arguments.required_id(node, Node, "node"))
        ids = [str(node.id) for node in self.list_nodes()]
        found = concurrent_map(self._volumes_if_any, ids, self.concurrency)
        return [volume for volumes in found for volume in volumes]

    # Extensions

    def ex_get_balance(self) -> Balance:
        """Get the account's money (``GetBalance``)."""
        return self.connection.call("GetBalance", {}, convert.to_balance)

    def ex_iterate_nodes(
        self, ex_filters: Filters | None = None, ex_location: NodeLocation | str | None = None
    ) -> Iterator[Node]:
        """
        Return all nodes one after another, a page at a time (``DescribeInstances``).

        However many nodes there are, only those of some pages are in memory: ``page_size`` and
        ``concurrency`` say how many. Nodes may be destroyed meanwhile: none is given twice, and
        none is left out that was there throughout.

        :param ex_filters: As for :meth:`list_nodes`.
        :param ex_location: As for :meth:`list_nodes`.
        """
        fetch = self._lists.fetcher(
            "DescribeInstances",
            self._node_reader(),
            self._zone_parameters(ex_location, "ex_location"),
            ex_filters,
        )
        return (
            node for page in pages(fetch, lambda node: node.id, self.concurrency) for node in page
        )

    def ex_get_node(self, node_id: str | Node) -> Node:
        """
        Get one node (``DescribeInstances``).

        :param node_id: Its ID, or its name; looked for in this order.
        :raises NotFoundError: If there is no such node.
        """
        wanted = arguments.required_id(node_id, Node, "node_id")
        found = self.list_nodes(ex_node_ids=[wanted])
        for node in sorted(found, key=lambda node: node.id != wanted):
            return node
        raise NotFoundError(
            f"no node has the ID or name {wanted!r}", action="DescribeInstances", driver=self
        )

    def ex_get_node_state(self, node: Node | str) -> NodeState:
        """
        Get the state of a node (``DescribeInstanceStatus``).

        :param node: The node, its ID or its name.
        :return: Its state; ``UNKNOWN`` for a word that is in no table.
        """
        return self.connection.call(
            "DescribeInstanceStatus",
            {"InstanceId": arguments.required_id(node, Node, "node")},
            lambda answer: convert.to_state(answer.get("status")),
        )

    def ex_rebuild_node(self, node: Node | str, image: NodeImage | str | None = None) -> bool:
        """
        Rewrite a node's system disk (``RebuildInstanceRootImage``). What is on it is lost.

        :param node: The node, its ID or its name.
        :param image: The image, its ID or its name; ``None``: the one it was made from.
        """
        name = arguments.required_id(node, Node, "node")
        params = {} if image is None else {"ImageId": self._image_id(image, "image")}
        return self._change("RebuildInstanceRootImage", name, params)

    def ex_renew_node(self, node: Node | str, duration: str | timedelta | None = None) -> bool:
        """
        Lease a node for longer (``RenewInstance``). **This costs money.**

        :param node: The node, its ID or its name.
        :param duration: How much longer: ``"72H"``, ``"1M"``, or a ``timedelta`` of whole hours.
            Left out, the endpoint takes a month.
        :return: ``True``, also when no clear answer came and the lease ends later than before.
        :raises OutcomeUnknownError: If it may have been renewed, and billed, and that was not seen.
        """
        lease = wire_values.duration(duration, "duration")
        name = arguments.required_id(node, Node, "node")
        return reconcile(
            self.connection,
            lambda: self._change("RenewInstance", name, {"Duration": lease} if lease else {}),
            snapshot=lambda: self.ex_get_contract(name),
            confirm=lambda before: bool(self.ex_get_contract(name).expire_at > before.expire_at),
        )

    def ex_change_node_size(
        self,
        node: Node | str,
        new_size: NodeSize | str,
        ex_duration: str | timedelta | None = None,
        ex_disk_size: int | None = None,
        ex_bandwidth: int | None = None,
    ) -> bool:
        """
        Change the size of a node (``ChangeInstanceType``). **This costs money.**

        :param node: The node, its ID or its name.
        :param new_size: The size, its ID or its name. With another disk or bandwidth, it may be the
            size that the node has.
        :param ex_duration: The lease with the new size: ``"72H"``, ``"1M"``, or a ``timedelta`` of
            whole hours. Left out, the endpoint takes a month.
        :param ex_disk_size: The new size of the data disk in GB, a whole number from 0; ``None``
            leaves the disk as it is.
        :param ex_bandwidth: The new external bandwidth in Mbps, a whole number from 0; ``None``
            leaves it as it is.
        :return: ``True``, also when no clear answer came and the node has the size, which it had
            not before.
        :raises OutcomeUnknownError: If it may have been changed, and billed, and that was not seen;
            with a size that the node had before, it never can be.
        """
        name = arguments.required_id(node, Node, "node")
        params = {"InstanceType": arguments.required_id(new_size, NodeSize, "new_size")}
        params |= wire_values.disk_and_bandwidth(ex_disk_size, ex_bandwidth)
        if lease := wire_values.duration(ex_duration, "ex_duration"):
            params["Duration"] = lease
        names = arguments.names_of(new_size)
        return reconcile(
            self.connection,
            lambda: self._change("ChangeInstanceType", name, params),
            # A size that the node had before confirms nothing.
            snapshot=lambda: not self._has_size(name, names) or None,
            confirm=lambda _: self._has_size(name, names),
        )

    def ex_get_contract(self, node: Node | str) -> Contract:
        """
        Get a node's lease (``GetInstanceContractInfo``).

        :param node: The node, its ID or its name.
        """
        params = {"InstanceId": arguments.required_id(node, Node, "node")}
        return self.connection.call("GetInstanceContractInfo", params, convert.to_contract)

    def ex_get_metadata(self, node: Node | str) -> dict[str, str]:
        """
        Get a node's metadata, the system's entries and the user's (``GetInstanceMetadata``).

        :param node: The node, its ID or its name.
        """
        params = {"InstanceId": arguments.required_id(node, Node, "node")}
        return self.connection.call("GetInstanceMetadata", params, convert.to_metadata)

    def ex_set_metadata(self, node: Node | str, metadata: Mapping[str, str]) -> bool:
        """
        Set entries of a node's metadata (``PutInstanceMetadata``). Others stay as they are.

        :param node: The node, its ID or its name.
        :param metadata: Names and values, both text.
        """
        return self._change("PutInstanceMetadata", node, wire_values.metadata(metadata, "metadata"))

    def ex_get_password_data(
        self,
        node: Node | str,
        private_key: str | bytes | os.PathLike[str] | None = None,
        passphrase: str | bytes | None = None,
    ) -> PasswordData:
        """
        Get the account and password that a node came with (``GetPasswordData``).

        :param node: The node, its ID or its name.
        :param private_key: For a node with a key pair: its RSA private key, as text or bytes in
            PEM or OpenSSH's form, or the path of a file with it.
        :param passphrase: What the private key is encrypted with, where it is; an empty one
            means no passphrase.
        :raises PasswordNotReadyError: If the node is still being made.
        :raises PrivateKeyRequiredError: If the node has a key pair, and no private key was given.
        :raises WrongPrivateKeyError: If the private key belongs to another key pair.
        :raises ValueError: If the private key cannot be read.
        :raises ImportError: If the package ``cryptography`` is missing (the extra ``crypto``).
        """
        key = None if private_key is None else keys.load_private_key(private_key, passphrase)
        response = passwords.login(self.connection, arguments.required_id(node, Node, "node"))
        encrypted = passwords.is_encrypted(response)
        password = passwords.decrypted(self.connection, response, key)
        return convert.to_password_data(response, password, encrypted)

    def ex_list_network_interfaces(self, node: Node | str) -> list[NetworkInterface]:
        """
        List a node's network interfaces (``DescribeInstanceNetworkInterfaces``).

        :param node: The node, its ID or its name.
        """
        return self.connection.call(
            "DescribeInstanceNetworkInterfaces",
            {"InstanceId": arguments.required_id(node, Node, "node")},
            lambda answer: [
                convert.to_network_interface(row) for row in answer["InstanceNetworkInterface"]
            ],
        )

    def ex_call(
        self, action: str, params: Mapping[str, Any] | None = None, kind: Kind = Kind.BILLED
    ) -> Any:
        """
        Carry out any action of the service, with the parameters that it takes on the wire.

        :param action: The name of the action, such as ``DescribeSecurityGroups``.
        :param params: Its own parameters: text, numbers, booleans (sent as ``True`` and ``False``),
            or lists of these (sent as ``Name.1``, ``Name.2``, …).
        :param kind: What a second request would do, which decides what is sent again. The default
            is sent at most once. An action that the table of the API has keeps the table's kind.
        :return: What is inside ``<Action>Response``: ``dict``, ``list`` and ``str``, the same from
            XML and JSON. In a ``<Thing>Set``, ``<Thing>`` is always a list. Elsewhere, a list of
            one is the single value, and an empty record is ``""``.
        :raises TypeError: If an argument, a name or a value is of another type.
        :raises ValueError: If an action or a parameter cannot have the name, a parameter belongs to
            every request, or a list is empty.
        :raises OutcomeUnknownError: If the action may have been carried out. No message quotes a
            response, which may hold secrets.
        """
        return self.connection.call(
            generic_action(action, kind), wire_parameters(params), canonical
        )

    # Helpers

    def _register(self, name: str, key: _key_text.PublicKey) -> KeyPair:
        return _key_pairs.register(self.connection, name, key, self.list_key_pairs)

    def _region(self) -> NodeLocation:
        """Return the location that stands for the endpoint's region."""
        region = self.region or self.connection.endpoint.host
        return NodeLocation(id=region, name=region, country=convert.COUNTRY, driver=self)

    def _zones(self) -> list[NodeLocation]:
        """List the zones of the region; none where the endpoint refuses to list them."""
        if self._has_no_zones:
            return []
        try:
            return self._lists.whole(
                "DescribeAvailabilityZones",
                lambda rows: [convert.to_location(row, self) for row in rows],
                lambda zone: zone.id,
            )
        except MCSError as error:
            if not is_refusal(error):
                raise
            # Without a code it may not be the endpoint that has refused.
            self._has_no_zones = error.code is not None
            return []

    def _zone_parameters(
        self, location: NodeLocation | str | None, argument: str
    ) -> dict[str, str]:
        """Return the parameter of a zone; none for the region's own location."""
        if location is None:
            return {}
        wanted = arguments.required_id(location, NodeLocation, argument)
        zones, region = self._zones(), self._region()
        found = [zone for zone in zones if zone.id == wanted]
        if not found and isinstance(location, str):
            found = [zone for zone in zones if zone.name == wanted]
        if len(found) == 1:
            return {"AvailabilityZoneId": found[0].id}
        if found:
            raise ValueError(f"{argument}: expected an ID, got {wanted!r}, the name of several")
        if wanted == region.id:
            return {}
        if not zones:
            raise ValueError(
                f"{argument}: expected {region.id!r}, the only one of this endpoint, got"
                f" {wanted!r}; each region has its own endpoint"
            )
        names = ", ".join(f"{zone.id!r} ({zone.name})" for zone in zones)
        raise ValueError(f"{argument}: expected one of {names}, got {wanted!r}")

    def _image_id(self, image: NodeImage | str, argument: str) -> str:
        """Return the ID of an image, the only form that the wire takes. A name is looked up."""
        name = arguments.required_id(image, NodeImage, argument)
        if isinstance(image, NodeImage) or _UUID.fullmatch(name):
            return name
        return self.get_image(name).id

    def _key_of(self, auth: NodeAuthSSHKey | NodeAuthPassword | None) -> _key_text.PublicKey | None:
        if auth is None:
            return None
        if not isinstance(auth, (NodeAuthSSHKey, NodeAuthPassword)):
            raise TypeError(f"auth: expected a NodeAuthSSHKey, got {arguments.type_name(auth)}")
        self._get_and_check_auth(auth)
        pubkey = arguments.required_text(cast("NodeAuthSSHKey", auth).pubkey, "auth")
        return _key_text.public_key(pubkey, "auth")

    def _list_nodes(
        self,
        params: Mapping[str, str] | None = None,
        ex_filters: Filters | None = None,
        most: int | None = None,
    ) -> list[Node]:
        return self._lists.whole(
            "DescribeInstances",
            self._node_reader(),
            lambda node: node.id,
            params,
            ex_filters,
            most,
        )

    def _node_reader(self) -> Callable[[list[Row]], list[Node]]:
        # What nodes share, they share over all pages of a list.
        sizes: convert.Sizes = {}
        return lambda rows: convert.to_nodes(rows, self, sizes)

    def _ids_of(self, name: str) -> set[str | None]:
        return {node.id for node in self.list_nodes(ex_names=[name])}

    def _made_since(self, before: set[str | None], name: str, size: set[str]) -> Node | None:
        """Return the node of that name, and of that size if it tells, that was not there before."""
        for node in self.list_nodes(ex_names=[name]):
            if node.id not in before and (
                node.size is None or size & arguments.names_of(node.size)
            ):
                return node
        return None

    def _has_size(self, node: str, size: set[str]) -> bool:
        now = self.ex_get_node(node).size
        return now is not None and bool(size & arguments.names_of(now))

    def _change(
        self, action: str, node: Node | str, params: Mapping[str, str] | None = None
    ) -> bool:
        """Carry an action out that changes one node and answers ``return``."""
        name = arguments.required_id(node, Node, "node")
        return self.connection.call(action, {"InstanceId": name, **(params or {})}, convert.to_true)

    def _volumes(self, node_id: str) -> list[StorageVolume]:
        return self.connection.call(
            "DescribeInstanceVolumes",
            {"InstanceId": node_id},
            lambda answer: [convert.to_volume(row, self) for row in answer["InstanceVolume"]],
        )

    def _volumes_if_any(self, node_id: str) -> list[StorageVolume]:
        try:
            return self._volumes(node_id)
        except NotFoundError:
            # It went away after it was listed.
            return []

    def _connect_and_run_deployment_script(
        self,
        task: Any,
        node: Node,
        ssh_hostname: str,
        ssh_port: int,
        ssh_username: str,
        ssh_password: str | None,
        ssh_key_file: Any,
        ssh_key_password: str | None,
        ssh_timeout: int,
        timeout: int,
        max_tries: int,
    ) -> Node:
        # By now the node has a password, which it had not when it was made, and with it comes the
        # name of its account.
        node_id = arguments.required_id(node, Node, "node")
        if not (ssh_password or ssh_key_file or ssh_key_password):
            if task.has_key_pair:
                login = passwords.login_if_any(self.connection, node_id, node.name)
            else:
                login = passwords.login(self.connection, node_id)
            if not passwords.is_encrypted(login):
                ssh_password = login.get("passwordData")
        elif not ssh_username:
            login = passwords.login_if_any(self.connection, node_id, node.name)
        if not ssh_username:
            ssh_username = login.get("account") or "root"
        deployed: Node = super()._connect_and_run_deployment_script(
            task,
            node,
            ssh_hostname,
            ssh_port,
            ssh_username,
            ssh_password,
            ssh_key_file,
            ssh_key_password,
            ssh_timeout,
            timeout,
            max_tries,
        )
        return deployed
