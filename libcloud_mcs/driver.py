"""The libcloud driver: libcloud's verbs, and ``ex_`` verbs for other actions of the API."""

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
#: The time in seconds for the last query of ``wait_until_running``.
_LAST_QUERY = 1.0


class MCSNodeDriver(NodeDriver):
    """
    Driver for Meituan's compute cloud MCS (MOS).

    Templates are images, instance types are sizes, instances are nodes. An argument for a thing
    accepts the object, its ID or its name. An argument for several things accepts a list of these.
    Times are aware and in UTC.

    Every verb may raise :class:`~libcloud_mcs.errors.MCSError`. Verbs that change or cost something
    may raise its subclass :class:`~libcloud_mcs.errors.OutcomeUnknownError`. Invalid arguments and
    things of another cloud raise ``ValueError`` or ``TypeError`` before a request is sent.

    :param key: The access key.
    :param secret: The access key's secret.
    :param secure: Whether to use HTTPS. Default ``True``.
    :param host: The endpoint's host. Default ``mosapi.meituan.com``.
    :param port: The endpoint's port. Default: the default port of HTTPS or HTTP.
    :param region: The region of every request; ``None`` sends none.
    :param url: The endpoint's URL, in place of ``secure``, ``host``, ``port`` and ``path``. Without
        any of the five, the default is the variable ``MOS_URL``, else the public endpoint.
    :param path: The endpoint's path. Default ``/mcs/v1``.
    :param timeout: The timeout of one try in seconds, from the connection to the last byte.
    :param connect_timeout: The timeout of an attempt to connect, in seconds.
    :param deadline: The timeout of a call with all its tries, in seconds.
    :param max_tries: The highest number of tries of a call that may be retried.
    :param retry_delay: The longest delay in seconds before the second try. Delays are random.
    :param backoff: The factor by which the longest delay grows with each try.
    :param proxy_url: The URL of a proxy, ``http://[user:password@]host:port``; ``None`` for the
        environment's proxy at the time of the first request.
    :param ca_cert: The path of a file with the certificates to trust, for this driver only. The
        constructor reads the file.
    :param http_method: ``POST``, or ``GET``, which puts the parameters and the signature into URLs.
    :param response_format: ``xml`` or ``json``.
    :param signature_method: ``HmacSHA256`` or ``HmacSHA1``.
    :param page_size: The number of rows that one request for a list asks for.
    :param concurrency: The highest number of simultaneous requests of one verb; ``1`` sends them
        sequentially.
    :raises TypeError: If an argument is of another type. The message names the argument.
    :raises ValueError: If an argument has an invalid value. The message names the argument, and
        shows no secret.
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
        #: Whether the endpoint has refused to list zones. The specification's endpoint refuses.
        self._has_no_zones = False
        self.page_size = arguments.whole_number(page_size, "page_size")
        self.concurrency = arguments.whole_number(concurrency, "concurrency")
        endpoint = Endpoint.from_settings(url, secure, host, port, path)
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
        Create a driver from environment variables: ``MOS_ACCESS``, ``MOS_SECRET``, ``MOS_REGION``
        and ``MOS_URL``, which the service's own clients use as well.

        :param kwargs: Arguments of the constructor, in place of variables.
        :raises ValueError: If ``MOS_ACCESS`` or ``MOS_SECRET`` is needed and not set, or a variable
            has an invalid value. The message names the variable, and shows no secret.
        """
        variables = {"key": "MOS_ACCESS", "secret": "MOS_SECRET", "region": "MOS_REGION"}
        for argument, variable in variables.items():
            if argument in kwargs:
                continue
            if value := os.environ.get(variable):
                kwargs[argument] = arguments.one_line(value, variable)
            elif argument != "region":
                raise ValueError(
                    f"{variable}: expected an environment variable, got none; set {variable}, or"
                    f" pass the argument {argument!r}"
                )
        return cls(**kwargs)

    def _ex_connection_class_kwargs(self) -> dict[str, Any]:
        return dict(self._connection_arguments)

    @property
    def _lists(self) -> Lists:
        return Lists(self.connection, self.page_size, self.concurrency)

    # Images, sizes, locations

    def list_images(self, location: NodeLocation | str | None = None) -> list[NodeImage]:
        """
        List all templates from which a node can be created (``DescribeTemplates``).

        :param location: A location of :meth:`list_locations`, its ID or its name, or ``None``. All
            locations have the same images.
        :return: The images. ``extra`` has the template's ``size`` in bytes, ``checksum`` (MD5) and
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
        :return: The image, with the fields of :meth:`list_images`.
        :raises NotFoundError: If there is no such template, or several have that name.
        """
        name = arguments.required_id(image_id, NodeImage, "image_id")
        images = self.list_images()
        matches = [image for image in images if image.id == name]
        matches = matches or [image for image in images if image.name == name]
        if len(matches) != 1:
            count = "several images have" if matches else "no image has"
            raise NotFoundError(
                f"{count} the ID or name {name!r}", action="DescribeTemplates", driver=self
            )
        return matches[0]

    def create_image(  # type: ignore[override] # libcloud's annotation is a list
        self, node: Node | str, name: str, description: str | None = None
    ) -> NodeImage:
        """
        Create an image from the disk of a node (``CreateTemplate``).

        The method returns as soon as the image is listed (``DescribeTemplates``), whatever the
        image's status. The node is in another state meanwhile.

        :param node: The node, its ID or its name.
        :param name: The name of the image.
        :param description: The image's notes; ``None`` or ``""`` sends none.
        :return: The image of that name that did not exist before.
        :raises MCSError: If the image was accepted, but is not listed before the ``deadline``. The
            message says so.
        :raises OutcomeUnknownError: If the image may have been created, but is not listed.
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
        Delete an image of the account (``DeleteTemplate``). Nodes that were created from the image
        are not changed.

        :param node_image: The image, its ID or its name.
        :return: ``True``.
        :raises NotFoundError: If there is no such image.
        """
        params = {"TemplateId": self._image_id(node_image, "node_image")}
        return self.connection.call("DeleteTemplate", params, convert.to_true)

    def list_sizes(
        self, location: NodeLocation | str | None = None, ex_filters: Filters | None = None
    ) -> list[NodeSize]:
        """
        List all instance types (``DescribeInstanceTypes``).

        :param location: A location of :meth:`list_locations`, its ID or its name, or ``None``. All
            locations have the same sizes.
        :param ex_filters: The names to list: ``{"name": "small"}``, or several names in a list.
        :return: The sizes. ``ram`` is in MB, ``disk`` in GB, the external ``bandwidth`` in Mbps.
            ``price`` is always ``None``, since the API has no prices. ``extra["cpu"]`` is the
            number of cores. A ``disk`` or ``bandwidth`` of 0 must be set when a node is created.
        :raises ValueError: If there is no such location.
        """
        self._zone_parameters(location, "location")
        return self._lists.fetch_all(
            "DescribeInstanceTypes",
            lambda rows: [convert.to_size(row, self) for row in rows],
            lambda size: size.id,
            ex_filters=ex_filters,
        )

    def list_locations(self) -> list[NodeLocation]:
        """
        List the zones of the endpoint's region (``DescribeAvailabilityZones``).

        An endpoint without zones refuses this action. The driver remembers that refusal, and does
        not repeat the request.

        :return: A location for each zone. ``extra`` has all fields of the response, among them
            ``Status``. An endpoint without zones has a single location, the region.
        """
        return self._zones() or [self._region()]

    # Key pairs

    def list_key_pairs(self, ex_filters: Filters | None = None) -> list[KeyPair]:
        """
        List the account's key pairs (``DescribeKeyPairs``).

        :param ex_filters: The names to list: ``{"name": "mykey"}``, or several names in a list.
        :return: The key pairs. ``extra["keyId"]`` is the ID. ``public_key`` is ``""``, since the
            API does not return public keys.
        """
        return self._lists.fetch_all(
            "DescribeKeyPairs",
            lambda rows: [convert.to_key_pair(row, self) for row in rows],
            lambda pair: pair.name,
            ex_filters=ex_filters,
        )

    def get_key_pair(self, name: KeyPair | str) -> KeyPair:
        """
        Get one key pair (``DescribeKeyPairs``).

        :param name: The key pair, its name or its ID.
        :return: The key pair, with the fields of :meth:`list_key_pairs`.
        :raises KeyPairNotFoundError: If there is no such key pair.
        """
        key_name = arguments.required_id(name, KeyPair, "name")
        pairs = self.list_key_pairs()
        for match in (
            *(pair for pair in pairs if pair.name == key_name),
            *(pair for pair in pairs if pair.extra.get("keyId") == key_name),
        ):
            return match
        raise KeyPairNotFoundError(
            f"no key pair has the name or ID {key_name!r}",
            name=key_name,
            action="DescribeKeyPairs",
            driver=self,
        )

    def import_key_pair_from_string(self, name: str, key_material: str) -> KeyPair:
        """
        Register a public key (``ImportKeyPair``).

        If the name is already registered with the same key, the method returns that key pair.

        :param name: The name of the new key pair.
        :param key_material: The public key in OpenSSH's form, one line.
        :return: The key pair. If the outcome is unclear: the listed key pair of that name and key.
        :raises ValueError: If the text is not a public key in OpenSSH's form.
        :raises OutcomeUnknownError: If the key may have been registered, but is not listed.
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

        :param name: The name of the new key pair.
        :param key_file_path: The path of the file with the public key in OpenSSH's form, in UTF-8;
            ``~`` is expanded.
        :return: The result of :meth:`import_key_pair_from_string`.
        :raises ValueError: If the file has no public key in OpenSSH's form.
        :raises OSError: If the file cannot be read.
        :raises OutcomeUnknownError: If the key may have been registered, but is not listed.
        """
        arguments.required_text(name, "name")
        text = _key_text.read_file(key_file_path, "key_file_path", _key_text.PUBLIC)
        return self._register(name, _key_text.public_key(text, "key_file_path"))

    def create_key_pair(self, name: str) -> KeyPair:
        """
        Generate an RSA key pair locally, and register its public key (``ImportKeyPair``).

        If the outcome is unclear, the driver queries whether the key is registered. If the key may
        have been registered and the call fails, the exception has the attribute ``private_key``.
        That includes exceptions such as ``KeyboardInterrupt``.

        :param name: The name of the new key pair.
        :return: The key pair with ``private_key`` in PEM, the only copy of the private key.
        :raises ImportError: If the package ``cryptography`` is missing (the extra ``crypto``).
        :raises OutcomeUnknownError: If the key may have been registered, but is not listed.
        """
        return _key_pairs.create(
            self.connection, arguments.required_text(name, "name"), self.list_key_pairs
        )

    def delete_key_pair(self, key_pair: KeyPair | str) -> bool:
        """
        Delete a key pair (``DeleteKeyPair``). Nodes that were created with the key are not changed.

        :param key_pair: The key pair, its name or its ID.
        :return: ``True``.
        :raises NotFoundError: If there is no such key pair.
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
        List all nodes, or the nodes with some IDs or names (``DescribeInstances``).

        :param ex_node_ids: Nodes, their IDs or their names.
        :param ex_names: Names only, or the nodes that have them. With IDs as well, a node has to
            match either.
        :param ex_filters: The filters: ``{"status": ["running", "ready"]}`` or ``{"name": "web"}``.
            A status is a word of the API, or a ``NodeState`` for all words of that state.
        :param ex_location: The zone of the nodes: a location, its ID or its name. The location of
            the region means all zones.
        :return: The nodes that exist. ``extra`` has all fields of the response: ``memory`` in MB,
            ``status`` in the API's words, ``availabilityZoneId`` if the endpoint has zones.
        :raises ValueError: If there is no such location.
        """
        zone = self._zone_parameters(ex_location, "ex_location")
        if ex_node_ids is None and ex_names is None:
            return self._list_nodes(zone, ex_filters)
        return named_nodes(
            ex_node_ids,
            ex_names,
            lambda named, max_rows: self._list_nodes(zone | named, ex_filters, max_rows),
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

        :param name: The name of the node, unique in the account.
        :param size: The size, its ID or its name.
        :param image: The image, its ID or its name. A UUID is sent unchanged. Other text is a name,
            which requires a query (``DescribeTemplates``).
        :param location: A location of :meth:`list_locations`, its ID or its name. With ``None`` or
            the location of the region, the endpoint chooses the zone.
        :param auth: The public key of the node's account. The driver uses the registered key pair
            with the same fingerprint, or registers the key (``ImportKeyPair``).
        :param ex_keyname: A registered key pair in place of ``auth``, its name or its ID, which is
            sent unchanged.
        :param ex_duration: The lease: ``"72H"``, ``"1M"``, or a ``timedelta`` of whole hours;
            ``None`` for the endpoint's default, a month.
        :param ex_disk_size: The size of the data disk in GB, a whole number from 0.
        :param ex_bandwidth: The external bandwidth in Mbps, a whole number from 0. A size whose
            ``disk`` and ``bandwidth`` are 0 needs ``ex_disk_size`` or ``ex_bandwidth``.
        :param ex_security_group: The ID of a security group.
        :return: The node of the response, in its first state. If the outcome is unclear: the node
            of that name that did not exist before.
        :raises ValueError: If there is no such location, or another argument has an invalid value.
            No node was created.
        :raises InsufficientBalanceError: If the balance is too low. No node was created.
        :raises NotFoundError: If there is no such image. No node was created.
        :raises OutcomeUnknownError: If the node may have been created and billed, but is not
            listed.
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
            raise ValueError("auth, ex_keyname: expected one of the two, got both")
        if ex_keyname is not None:
            params["KeyName"] = arguments.required_id(ex_keyname, KeyPair, "ex_keyname")
        key = self._public_key_of(auth)

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
                confirm=lambda before: self._created_since(before, name, arguments.names_of(size)),
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
        Create a node (``CreateInstance``), wait until the node runs, and run a deployment on the
        node over SSH, with libcloud's own method. **This costs money.**

        Unreadable files, unusable keys and arguments of other types raise an error before a request
        is sent. The account and the password of the node are queried (``GetPasswordData``) only if
        they are needed. A failure after the node was created raises libcloud's ``DeploymentError``:
        the attribute ``node`` is the node, and the message has its ID.

        :param deploy: The deployment to run.
        :param ssh_username: The account to log in to. Default: the account of the response, or
            ``root`` if the response has none.
        :param ssh_alternate_usernames: The accounts to try after ``ssh_username``.
        :param ssh_port: The port of the node's SSH server.
        :param ssh_timeout: The timeout of an attempt to log in, in seconds.
        :param ssh_key: The path of a private key, or several; ``~`` is expanded. With a key, the
            password is not queried.
        :param ssh_key_password: The passphrase of the private key. Without a key, libcloud uses it
            as the account's password.
        :param auth: The public key of the node's account, see :meth:`create_node`.
        :param timeout: The longest time in seconds to wait until the node runs, and to log in.
        :param max_tries: The highest number of runs of the deployment.
        :param ssh_interface: The kind of the address to connect to: ``public_ips`` or
            ``private_ips``.
        :param at_exit_func: The function that libcloud calls at the end of the program, with
            ``driver`` and ``node``, if the deployment was interrupted.
        :param wait_period: The longest time in seconds between two queries for the node.
        :param create_node_kwargs: Other arguments of :meth:`create_node`: ``name``, ``size``,
            ``image``, ``ex_keyname``, …
        :return: The node.
        :raises RuntimeError: If the package ``paramiko`` is missing (the extra ``deploy``).
        :raises OSError: If the file of a ``FileDeployment`` cannot be read.
        :raises TypeError: If an argument is of another type. No request was sent.
        :raises ValueError: If an argument has an invalid value.
        """
        # Imported when needed: most programs never deploy.
        from libcloud_mcs._deploying import libcloud_arguments

        deploy_kwargs = libcloud_arguments(
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
            return super().deploy_node(**deploy_kwargs, **create_node_kwargs)
        except Exception:
            raise
        except BaseException:
            # For example after Ctrl-C, without a DeploymentError that has the node.
            name = create_node_kwargs.get("name")
            _log.error(
                "deploy_node() was interrupted: the node %r may have been created and billed;"
                " driver.list_nodes(ex_names=[%r]) shows whether it was",
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
        Wait until nodes run and have an address. Only these nodes are queried
        (``DescribeInstances``).

        :param nodes: The nodes, their IDs or their names.
        :param wait_period: The longest time in seconds between two queries; the first intervals are
            shorter.
        :param timeout: The longest time in seconds to wait. The last query may take a second more.
        :param ssh_interface: The kind of the addresses: ``public_ips`` or ``private_ips``.
        :param force_ipv4: Whether IPv6 addresses are ignored.
        :param ex_list_nodes_kwargs: Arguments for :meth:`list_nodes` in place of these nodes' IDs.
        :return: The current nodes, each with its addresses.
        :raises MCSError: If a node failed, does not exist any more, or did not run in time. The
            message names the nodes, and the other addresses of running nodes.
        :raises NotFoundError: If no node has an ID or name of ``nodes``.
        """
        nodes = arguments.items_or_keys(nodes, "nodes")
        # Without duplicates of an ID.
        awaited = {arguments.required_id(node, Node, "nodes"): node for node in nodes}
        arguments.seconds(wait_period, "wait_period")
        arguments.seconds(timeout, "timeout")
        addresses = Addresses(
            arguments.one_of(ssh_interface, INTERFACES, "ssh_interface"),
            arguments.flag(force_ipv4, "force_ipv4"),
        )
        kwargs = arguments.keywords(ex_list_nodes_kwargs, self.list_nodes, "ex_list_nodes_kwargs")
        end = time.monotonic() + timeout

        def list_nodes(named: list[Node | str]) -> list[Node]:
            with self.connection.until(max(end, time.monotonic() + _LAST_QUERY)):
                return self.list_nodes(**(kwargs or {"ex_node_ids": named}))

        try:
            return until_running(
                list_nodes,
                awaited.values(),
                addresses,
                wait_period,
                timeout,
                may_be_missing=bool(kwargs),
            )
        except MCSError as error:
            error.driver = self
            raise

    def start_node(self, node: Node | str) -> bool:
        """
        Start a stopped node (``StartInstance``).

        :param node: The node, its ID or its name.
        :return: ``True``.
        """
        return self._change("StartInstance", node)

    def stop_node(self, node: Node | str, ex_force: bool = False) -> bool:
        """
        Stop a running node (``StopInstance``).

        :param node: The node, its ID or its name.
        :param ex_force: Whether the node is switched off immediately, which may lose data.
            Otherwise the endpoint asks the system to shut down, and switches the node off after 30
            seconds.
        :return: ``True``.
        """
        force = arguments.flag(ex_force, "ex_force")
        return self._change("StopInstance", node, {"Force": "True"} if force else {})

    def reboot_node(self, node: Node | str) -> bool:
        """
        Reboot a node (``RebootInstance``).

        :param node: The node, its ID or its name.
        :return: ``True``.
        """
        return self._change("RebootInstance", node)

    def destroy_node(self, node: Node | str) -> bool:
        """
        Delete a node and its disks (``TerminateInstance``).

        :param node: The node, its ID or its name.
        :return: ``True``.
        """
        return self._change("TerminateInstance", node)

    def list_volumes(self, node: Node | str | None = None) -> list[StorageVolume]:
        """
        List the disks of a node, or of all nodes (``DescribeInstanceVolumes``).

        :param node: The node, its ID or its name; ``None`` for all nodes, with one request each.
        :return: The volumes. ``size`` is in GB: a number from 1,024 on counts as MB, a smaller
            number as GB. ``extra["volumeSize"]`` is the unchanged number.
        """
        if node is not None:
            return self._volumes(arguments.required_id(node, Node, "node"))
        ids = [str(node.id) for node in self.list_nodes()]
        lists = concurrent_map(self._volumes_if_any, ids, self.concurrency)
        return [volume for volumes in lists for volume in volumes]

    # Extensions

    def ex_get_balance(self) -> Balance:
        """
        Get the balance of the account (``GetBalance``).

        :return: The balance, and the time of the last transaction.
        """
        return self.connection.call("GetBalance", {}, convert.to_balance)

    def ex_iterate_nodes(
        self, ex_filters: Filters | None = None, ex_location: NodeLocation | str | None = None
    ) -> Iterator[Node]:
        """
        Iterate over all nodes, page by page (``DescribeInstances``).

        Only the nodes of some pages are in memory, according to ``page_size`` and ``concurrency``.
        Nodes may be destroyed during the iteration. Every node is returned at most once, and every
        node that exists throughout is returned.

        :param ex_filters: The filters, see :meth:`list_nodes`.
        :param ex_location: The zone of the nodes, see :meth:`list_nodes`.
        :return: The nodes, with the fields of :meth:`list_nodes`.
        :raises ValueError: If there is no such location.
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

        :param node_id: The node, its ID or its name. A node with that ID has precedence.
        :return: The node, with the fields of :meth:`list_nodes`.
        :raises NotFoundError: If there is no such node.
        """
        name = arguments.required_id(node_id, Node, "node_id")
        nodes = self.list_nodes(ex_node_ids=[name])
        for node in sorted(nodes, key=lambda node: node.id != name):
            return node
        raise NotFoundError(
            f"no node has the ID or name {name!r}", action="DescribeInstances", driver=self
        )

    def ex_get_node_state(self, node: Node | str) -> NodeState:
        """
        Get the state of a node (``DescribeInstanceStatus``).

        :param node: The node, its ID or its name.
        :return: The state; ``UNKNOWN`` for an unknown word of the API.
        """
        return self.connection.call(
            "DescribeInstanceStatus",
            {"InstanceId": arguments.required_id(node, Node, "node")},
            lambda response: convert.to_state(response.get("status")),
        )

    def ex_rebuild_node(self, node: Node | str, image: NodeImage | str | None = None) -> bool:
        """
        Rewrite a node's system disk (``RebuildInstanceRootImage``). Its data are lost.

        :param node: The node, its ID or its name.
        :param image: The image, its ID or its name; ``None`` for the node's own image.
        :return: ``True``.
        """
        name = arguments.required_id(node, Node, "node")
        params = {} if image is None else {"ImageId": self._image_id(image, "image")}
        return self._change("RebuildInstanceRootImage", name, params)

    def ex_renew_node(self, node: Node | str, duration: str | timedelta | None = None) -> bool:
        """
        Extend a node's lease (``RenewInstance``). **This costs money.**

        :param node: The node, its ID or its name.
        :param duration: The extension: ``"72H"``, ``"1M"``, or a ``timedelta`` of whole hours;
            ``None`` for the endpoint's default, a month.
        :return: ``True``, also if the outcome is unclear and the lease ends later than before.
        :raises OutcomeUnknownError: If the lease may have been extended and billed, but does not
            end later than before.
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
        :param new_size: The size, its ID or its name. With another disk or bandwidth, the current
            size is allowed.
        :param ex_duration: The lease with the new size: ``"72H"``, ``"1M"``, or a ``timedelta`` of
            whole hours; ``None`` for the endpoint's default, a month.
        :param ex_disk_size: The new size of the data disk in GB, a whole number from 0; ``None``
            does not change the disk.
        :param ex_bandwidth: The new external bandwidth in Mbps, a whole number from 0; ``None``
            does not change the bandwidth.
        :return: ``True``, also if the outcome is unclear, and the node has the new size and had
            another size before.
        :raises OutcomeUnknownError: If the node may have been changed and billed, but does not have
            the new size or had that size before.
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
        :return: The lease.
        """
        params = {"InstanceId": arguments.required_id(node, Node, "node")}
        return self.connection.call("GetInstanceContractInfo", params, convert.to_contract)

    def ex_get_metadata(self, node: Node | str) -> dict[str, str]:
        """
        Get a node's metadata (``GetInstanceMetadata``).

        :param node: The node, its ID or its name.
        :return: The names and values of the system's and of the user's entries.
        """
        params = {"InstanceId": arguments.required_id(node, Node, "node")}
        return self.connection.call("GetInstanceMetadata", params, convert.to_metadata)

    def ex_set_metadata(self, node: Node | str, metadata: Mapping[str, str]) -> bool:
        """
        Set entries of a node's metadata (``PutInstanceMetadata``). Other entries are not changed.

        :param node: The node, its ID or its name.
        :param metadata: The names and values of the entries, both text.
        :return: ``True``.
        """
        return self._change("PutInstanceMetadata", node, wire_values.metadata(metadata, "metadata"))

    def ex_get_password_data(
        self,
        node: Node | str,
        private_key: str | bytes | os.PathLike[str] | None = None,
        passphrase: str | bytes | None = None,
    ) -> PasswordData:
        """
        Get the account and the password that a node was created with (``GetPasswordData``).

        :param node: The node, its ID or its name.
        :param private_key: The RSA private key of a node with a key pair: text or bytes in PEM or
            OpenSSH's form, or the path of the file.
        :param passphrase: The passphrase of an encrypted private key. Empty text means no
            passphrase.
        :return: The account and the password in clear.
        :raises PasswordNotReadyError: If the node is still being created.
        :raises PrivateKeyRequiredError: If the node has a key pair, and no private key was passed.
        :raises WrongPrivateKeyError: If the private key does not decrypt the password.
        :raises ValueError: If the private key cannot be read.
        :raises ImportError: If the package ``cryptography`` is missing (the extra ``crypto``).
        """
        key = None if private_key is None else keys.load_private_key(private_key, passphrase)
        response = passwords.query(self.connection, arguments.required_id(node, Node, "node"))
        encrypted = passwords.is_encrypted(response)
        password = passwords.decrypt(self.connection, response, key)
        return convert.to_password_data(response, password, encrypted)

    def ex_list_network_interfaces(self, node: Node | str) -> list[NetworkInterface]:
        """
        List a node's network interfaces (``DescribeInstanceNetworkInterfaces``).

        :param node: The node, its ID or its name.
        :return: The network interfaces. ``bandwidth`` is in Mbps.
        """
        return self.connection.call(
            "DescribeInstanceNetworkInterfaces",
            {"InstanceId": arguments.required_id(node, Node, "node")},
            lambda response: [
                convert.to_network_interface(row) for row in response["InstanceNetworkInterface"]
            ],
        )

    def ex_call(
        self, action: str, params: Mapping[str, Any] | None = None, kind: Kind = Kind.BILLED
    ) -> Any:
        """
        Carry out any action of the service, with its parameters on the wire.

        :param action: The name of the action, such as ``DescribeSecurityGroups``.
        :param params: The action's own parameters: text, numbers, booleans (sent as ``True`` and
            ``False``), or lists of these (sent as ``Name.1``, ``Name.2``, …).
        :param kind: The effect of the action, which decides about retries. A request of the default
            kind is sent at most once. The actions of :data:`~libcloud_mcs.actions.ACTIONS` keep
            their own kind.
        :return: The content of ``<Action>Response``: ``dict``, ``list`` and ``str``, the same from
            XML and JSON. In a ``<Thing>Set``, ``<Thing>`` is always a list. Elsewhere, a list of
            one is the single value, and an empty record is ``""``.
        :raises TypeError: If an argument, a name or a value is of another type.
        :raises ValueError: If the name of the action or a parameter is invalid, a parameter is
            reserved for every request, or a list is empty.
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
        """Return the location of the endpoint's region."""
        region = self.region or self.connection.endpoint.host
        return NodeLocation(id=region, name=region, country=convert.COUNTRY, driver=self)

    def _zones(self) -> list[NodeLocation]:
        """List the zones of the region. The list is empty if the endpoint refuses the action."""
        if self._has_no_zones:
            return []
        try:
            return self._lists.fetch_all(
                "DescribeAvailabilityZones",
                lambda rows: [convert.to_location(row, self) for row in rows],
                lambda zone: zone.id,
            )
        except MCSError as error:
            if not is_refusal(error):
                raise
            # A refusal without a code may not be the endpoint's.
            self._has_no_zones = error.code is not None
            return []

    def _zone_parameters(
        self, location: NodeLocation | str | None, argument: str
    ) -> dict[str, str]:
        """
        Return the parameter of a zone. The location of the region has none.

        :raises ValueError: If there is no such location.
        """
        if location is None:
            return {}
        name = arguments.required_id(location, NodeLocation, argument)
        zones, region = self._zones(), self._region()
        matches = [zone for zone in zones if zone.id == name]
        if not matches and isinstance(location, str):
            matches = [zone for zone in zones if zone.name == name]
        if len(matches) == 1:
            return {"AvailabilityZoneId": matches[0].id}
        if matches:
            raise ValueError(f"{argument}: expected an ID, got {name!r}, the name of several zones")
        if name == region.id:
            return {}
        if not zones:
            raise ValueError(
                f"{argument}: expected {region.id!r}, the only location of this endpoint, got"
                f" {name!r}; each region has its own endpoint"
            )
        names = ", ".join(f"{zone.id!r} ({zone.name})" for zone in zones)
        raise ValueError(f"{argument}: expected one of {names}, got {name!r}")

    def _image_id(self, image: NodeImage | str, argument: str) -> str:
        """Return the ID of an image. A name requires a query, since the API accepts only IDs."""
        name = arguments.required_id(image, NodeImage, argument)
        if isinstance(image, NodeImage) or _UUID.fullmatch(name):
            return name
        return self.get_image(name).id

    def _public_key_of(
        self, auth: NodeAuthSSHKey | NodeAuthPassword | None
    ) -> _key_text.PublicKey | None:
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
        max_rows: int | None = None,
    ) -> list[Node]:
        return self._lists.fetch_all(
            "DescribeInstances",
            self._node_reader(),
            lambda node: node.id,
            params,
            ex_filters,
            max_rows,
        )

    def _node_reader(self) -> Callable[[list[Row]], list[Node]]:
        # The nodes of all pages share their sizes.
        sizes: convert.Sizes = {}
        return lambda rows: convert.to_nodes(rows, self, sizes)

    def _ids_of(self, name: str) -> set[str | None]:
        return {node.id for node in self.list_nodes(ex_names=[name])}

    def _created_since(self, before: set[str | None], name: str, size: set[str]) -> Node | None:
        """Return the node of a name, and of a size if known, that did not exist before."""
        for node in self.list_nodes(ex_names=[name]):
            if node.id not in before and (
                node.size is None or size & arguments.names_of(node.size)
            ):
                return node
        return None

    def _has_size(self, node: str, size: set[str]) -> bool:
        current = self.ex_get_node(node).size
        return current is not None and bool(size & arguments.names_of(current))

    def _change(
        self, action: str, node: Node | str, params: Mapping[str, str] | None = None
    ) -> bool:
        """Carry out an action that changes one node, and whose result is ``return``."""
        name = arguments.required_id(node, Node, "node")
        return self.connection.call(action, {"InstanceId": name, **(params or {})}, convert.to_true)

    def _volumes(self, node_id: str) -> list[StorageVolume]:
        return self.connection.call(
            "DescribeInstanceVolumes",
            {"InstanceId": node_id},
            lambda response: [convert.to_volume(row, self) for row in response["InstanceVolume"]],
        )

    def _volumes_if_any(self, node_id: str) -> list[StorageVolume]:
        try:
            return self._volumes(node_id)
        except NotFoundError:
            # The node was deleted after it was listed.
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
        # A running node has a password, unlike a new node. The response also has the account.
        node_id = arguments.required_id(node, Node, "node")
        if not (ssh_password or ssh_key_file or ssh_key_password):
            if task.has_key_pair:
                login = passwords.query_if_possible(self.connection, node_id, node.name)
            else:
                login = passwords.query(self.connection, node_id)
            if not passwords.is_encrypted(login):
                ssh_password = login.get("passwordData")
        elif not ssh_username:
            login = passwords.query_if_possible(self.connection, node_id, node.name)
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
