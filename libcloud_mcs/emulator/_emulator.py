"""The emulator: accounts, clock, faults, records, and what is made of each request."""

from __future__ import annotations

import random
import secrets
import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from decimal import Decimal, InvalidOperation
from ipaddress import IPv4Network
from os import PathLike
from ssl import SSLContext
from types import TracebackType
from typing import TYPE_CHECKING, Any

from libcloud_mcs.emulator import _control as control
from libcloud_mcs.emulator._clock import Clock
from libcloud_mcs.emulator._errors import RefusedError
from libcloud_mcs.emulator._faults import Effect, Fault, Faults
from libcloud_mcs.emulator._lifetime import watch
from libcloud_mcs.emulator._params import Params
from libcloud_mcs.emulator._server import Server
from libcloud_mcs.emulator._signals import EndSignals
from libcloud_mcs.emulator._store import Store
from libcloud_mcs.emulator.actions import HANDLERS, Paging
from libcloud_mcs.emulator.cloud import Addresses, Charge, Cloud, Timing
from libcloud_mcs.emulator.wire import (
    Answer,
    Request,
    read_form,
    render,
    render_options,
    render_refusal,
    verify,
)

if TYPE_CHECKING:
    from libcloud_mcs.driver import MCSNodeDriver
    from libcloud_mcs.emulator._ssh import SSHServers
    from libcloud_mcs.emulator._tls import ThrowAway

__all__ = ["Account", "Emulator", "Exchange", "Record"]

_PATH = "/mcs/v1"
#: Not kept with a request's record: what is long, or could be of use to somebody else.
_NOT_RECORDED = ("Signature", "PublicKeyMaterial")
#: How long the end of a process waits for an emulator that nobody has stopped.
_LAST_SECONDS = 5.0


@dataclass(frozen=True)
class Account:
    """An account and how to sign for it."""

    access_key: str
    secret: str = field(repr=False)
    cloud: Cloud = field(repr=False)

    @property
    def ledger(self) -> list[Charge]:
        """Every charge, oldest first."""
        return list(self.cloud.ledger)


@dataclass(frozen=True)
class Record:
    """A request that was made, and what became of it."""

    at: datetime
    access_key: str
    action: str
    #: Its parameters, but for the signature and public keys.
    params: dict[str, str]
    #: The HTTP status of its answer.
    status: int
    #: Why it was refused; ``""`` when it was not.
    message: str
    #: The fault that was injected; ``""`` when none was.
    fault: str


class Exchange:
    """A request on its way through the emulator."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.params: dict[str, str] = {}
        self.refused: RefusedError | None = request.flaw
        self.effect: Effect | None = None
        if self.refused is None:
            try:
                self.params = read_form(request)
            except RefusedError as error:
                self.refused = error

    @property
    def action(self) -> str:
        """The action that is asked for, ``""`` where none is."""
        return self.params.get("Action", "")

    @property
    def answer_format(self) -> str:
        """The format in which it is to be answered."""
        return "json" if self.params.get("Format") == "json" else "xml"


class Emulator:
    """
    A local MCS endpoint. Used with ``with``, it serves from a thread of its own::

        with Emulator(balance=1000) as cloud:
            driver = cloud.driver()

    Durations are seconds of its clock, and ``0`` is at once.

    :param host: The address to listen on.
    :param port: The port; ``0``: a free one.
    :param access_key: The account's access key; ``None``: a random one.
    :param secret: The account's secret; ``None``: a random one.
    :param balance: The money that the account begins with.
    :param instances: How many instances run at the start.
    :param clock: Tells the time; ``None``: real time, until it is moved.
    :param boot_seconds: How long a new instance takes to run.
    :param start_seconds: How long a stopped one takes.
    :param stop_seconds: How long a stop takes that is not forced.
    :param reboot_seconds: How long a reboot takes.
    :param rebuild_seconds: How long a new system disk takes.
    :param change_seconds: How long a change of type takes.
    :param terminate_seconds: How long a deleted instance is still there.
    :param default_limit: How many rows a page has when ``Limit`` is left out; ``None``: all.
    :param max_limit: How many rows a page has at most, whatever ``Limit`` says; ``None``: any.
    :param churn: How many instances of nobody's go, and as many others come, before each page of
        a list of instances but the first.
    :param seed: Makes IDs, addresses, passwords, the access key and the secret the same each time.
    :param node_network: A loopback network, ``"127.10.0.0/16"``, to take the public addresses of
        instances from; ``None``: addresses that nobody can reach.
    :param ssh: Whether a real SSH server is on each instance that runs. **What is run over it runs
        on this machine, as the user who runs the emulator.** It wants ``node_network``, and the
        extra ``emulator-ssh``.
    :param ssh_port: The port of these servers.
    :param signature_clock: What the time of a request is compared with: ``"real"`` time, so that a
        moved clock breaks no signature, or the ``"emulated"`` one.
    :param debug: Whether a wrong signature is answered with the string that should be signed.
    :param state: A file in which everything is kept; what it holds goes before ``balance`` and
        ``instances``.
    :param max_records: How many requests are remembered.
    :param tls: Whether to speak HTTPS, with a throw-away certificate unless ``tls_cert`` is there.
    :param tls_cert: The path of a PEM file to speak HTTPS with: the certificate, then those that it
        was signed with.
    :param tls_key: The path of a PEM file with the certificate's private key, without a passphrase;
        ``None``: it is in ``tls_cert`` too.
    :raises ValueError: An argument makes no sense, or ``state`` cannot be used.
    :raises ImportError: ``ssh`` is wanted, and the package ``asyncssh`` is missing or the system is
        not a POSIX system.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        access_key: str | None = None,
        secret: str | None = None,
        balance: Decimal | float | str = 1000,
        instances: int = 0,
        clock: Clock | None = None,
        boot_seconds: float = Timing.boot_seconds,
        start_seconds: float = Timing.start_seconds,
        stop_seconds: float = Timing.stop_seconds,
        reboot_seconds: float = Timing.reboot_seconds,
        rebuild_seconds: float = Timing.rebuild_seconds,
        change_seconds: float = Timing.change_seconds,
        terminate_seconds: float = Timing.terminate_seconds,
        default_limit: int | None = None,
        max_limit: int | None = None,
        churn: int = 0,
        seed: int | None = None,
        node_network: str | None = None,
        ssh: bool = False,
        ssh_port: int = 22,
        signature_clock: str = "real",
        debug: bool = False,
        state: str | PathLike[str] | None = None,
        max_records: int = 1000,
        tls: bool = False,
        tls_cert: str | PathLike[str] | None = None,
        tls_key: str | PathLike[str] | None = None,
    ) -> None:
        if signature_clock not in ("real", "emulated"):
            raise ValueError(
                f"signature_clock: 'real' or 'emulated' was expected, not {signature_clock!r}"
            )
        self._timing = Timing(
            boot_seconds=_seconds(boot_seconds, "boot_seconds"),
            start_seconds=_seconds(start_seconds, "start_seconds"),
            stop_seconds=_seconds(stop_seconds, "stop_seconds"),
            reboot_seconds=_seconds(reboot_seconds, "reboot_seconds"),
            rebuild_seconds=_seconds(rebuild_seconds, "rebuild_seconds"),
            change_seconds=_seconds(change_seconds, "change_seconds"),
            terminate_seconds=_seconds(terminate_seconds, "terminate_seconds"),
        )
        self._paging = Paging(
            None if default_limit is None else _count(default_limit, "default_limit", 1),
            None if max_limit is None else _count(max_limit, "max_limit", 1),
        )
        self._churn = _count(churn, "churn")
        self._seed = seed
        self._signature_clock = signature_clock
        self._debug = debug
        self._beginning = (_money(balance), _count(instances, "instances"))
        #: The time of this cloud.
        self.clock = clock or Clock()
        self.faults = Faults()
        self._records: deque[Record] = deque(maxlen=_count(max_records, "max_records"))
        self._lock = threading.RLock()
        self._network = None if node_network is None else _loopback_network(node_network)
        self._addresses = self._new_addresses()
        #: The instances' SSH servers, where there are any.
        self.ssh = self._ssh_servers(ssh_port) if ssh else None
        self._throw_away: ThrowAway | None = None
        context = self._tls_context(host, tls, tls_cert, tls_key)
        self._forked = False
        self._accounts: dict[str, Account] = {}
        self._kept = state is not None
        self._store = None if state is None else Store(state)
        #: Whether only this machine can reach it.
        self.loopback = control.is_loopback(host)
        self._server = Server(self, host, port, context)
        try:
            self._begin(access_key, secret)
        except BaseException:
            self.close()
            raise
        self.clock.on_change = self._save_clock
        watch(self, Emulator._in_child, Emulator._at_exit)

    def __repr__(self) -> str:
        where = self.url if self._server.is_serving else "not started"
        return f"<Emulator {where} access_key={self.access_key!r}>"

    # Where it is, and who may use it

    @property
    def url(self) -> str:
        """The endpoint's URL. It is known from the first start on, and stays what it is."""
        return f"{self._server.url}{_PATH}"

    @property
    def port(self) -> int:
        """The endpoint's port. It is known from the first start on, and stays what it is."""
        return self._server.port

    @property
    def ca_cert(self) -> str | None:
        """
        The path of a PEM file with the certificate of the CA that has signed the endpoint's own,
        where that is a throw-away one. The file is removed by :meth:`close`.
        """
        return self._throw_away.ca_cert if self._throw_away else None

    @property
    def account(self) -> Account:
        """The first account."""
        return next(iter(self._accounts.values()))

    @property
    def accounts(self) -> list[Account]:
        """All accounts."""
        return list(self._accounts.values())

    @property
    def access_key(self) -> str:
        """The first account's access key."""
        return self.account.access_key

    @property
    def secret(self) -> str:
        """The first account's secret."""
        return self.account.secret

    @property
    def cloud(self) -> Cloud:
        """What the first account has: its instances, key pairs and money."""
        self._check_process()
        return self.account.cloud

    @property
    def ledger(self) -> list[Charge]:
        """Every charge of the first account, oldest first."""
        self._check_process()
        return self.account.ledger

    @property
    def records(self) -> list[Record]:
        """The last requests that were made, oldest first."""
        self._check_process()
        with self._lock:
            return list(self._records)

    def add_account(
        self,
        access_key: str | None = None,
        secret: str | None = None,
        balance: Decimal | float | str = 1000,
        instances: int = 0,
    ) -> Account:
        """
        Add an account that shares nothing with the others but the clock.

        :param access_key: Its access key; ``None``: a random one.
        :param secret: Its secret; ``None``: a random one.
        :param balance: The money that it begins with.
        :param instances: How many instances run at the start.
        :raises ValueError: The access key is taken.
        """
        self._check_process()
        with self._lock:
            if access_key in self._accounts:
                raise ValueError(f"access_key: there is an account {access_key!r} already")
            account = self._new_account(access_key, secret, _money(balance))
            for number in range(1, _count(instances, "instances") + 1):
                account.cloud.add_running(f"instance-{number}")
            self._accounts[account.access_key] = account
            self._save(account, new=True)
            return account

    def driver(self, account: Account | None = None, **kwargs: Any) -> MCSNodeDriver:
        """
        Make a driver that is connected to this endpoint. It trusts a throw-away certificate.

        :param account: The account to use; ``None``: the first.
        :param kwargs: Further arguments of the driver.
        """
        from libcloud_mcs.driver import MCSNodeDriver

        account = account or self.account
        kwargs.setdefault("ca_cert", self.ca_cert)
        return MCSNodeDriver(account.access_key, account.secret, url=self.url, **kwargs)

    def inject(
        self,
        effect: Effect,
        on: str = "*",
        *,
        nth: int = 1,
        times: int | None = None,
        probability: float = 1.0,
        seed: int | None = None,
    ) -> Fault:
        """
        Let something go wrong from now on.

        :param effect: What.
        :param on: The action whose requests it comes to; ``"*"``: any.
        :param nth: The first of these requests that it comes to, counted from 1.
        :param times: How often it comes at most; ``None``: to each request from then on.
        :param probability: How likely it comes to each of them, from 0 to 1.
        :param seed: Makes what comes by chance the same each time.
        :return: The fault, which can be taken away again.
        :raises ValueError: One of them makes no sense.
        """
        self._check_process()
        dice = random.Random(seed)
        fault = Fault(effect, on, nth, times, probability, dice, self.faults)
        self.faults.add(fault)
        return fault

    def reset(self) -> None:
        """
        Begin anew: the accounts are as they were when the emulator was made (others are gone), the
        clock runs with real time, no fault is left, no request is remembered.
        """
        self._check_process()
        with self._lock:
            first = self.account
            self.faults.clear()
            self._records.clear()
            self.clock.reset()
            self._accounts.clear()
            self._addresses = self._new_addresses()
            if self._store:
                self._store.clear()
            self._begin(first.access_key, first.secret)

    # Serving

    def start(self) -> None:
        """
        Serve from a thread, from now on until :meth:`stop`. A port that was free is kept: started
        again, the emulator has the same URL.

        :raises OSError: The port is taken, or the address is not of this machine.
        :raises RuntimeError: It is started already, its state was closed, or this process was
            forked from the one that the emulator belongs to.
        """
        self._start()

    def stop(self) -> None:
        """
        Stop serving; all connections are closed. The state stays, and can be served again.

        Any thread may call it at any time, and so may a signal handler or a function of
        :func:`meanwhile`: what calls it from within a request does not wait, and the request is not
        carried out.
        """
        self._server.stop()

    def run(self, ready: Callable[[], object] = lambda: None) -> None:
        """
        Serve until SIGINT or SIGTERM comes (on Windows, Ctrl-C or Ctrl-Break) or somebody calls
        :meth:`stop`, then close the state.

        :param ready: Called when requests are served.
        :raises OSError: The port is taken, or the address is not of this machine.
        :raises RuntimeError: This is not the main thread, or as for :meth:`start`.
        """
        with EndSignals() as signals:
            try:
                self._start(signals.wake)
                ready()
                signals.wait()
            finally:
                self.close()

    def close(self) -> None:
        """Stop serving, close the state's file, where there is one, and remove temporary files."""
        try:
            self._server.stop()
        finally:
            self._close_files()

    def __enter__(self) -> Emulator:
        try:
            self.start()
        except BaseException:
            if not self._server.is_serving:  # otherwise it is in use, around this block
                self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _at_exit(self) -> None:
        """Close it at the end of the process, which waits for nothing that may never end."""
        self._server.stop(_LAST_SECONDS)
        self._close_files()

    def _in_child(self) -> None:
        """Let go of sockets and files in a process that was just forked: they are its parent's."""
        self._forked = True
        self._server.in_child()
        if self._store:
            self._store.abandon()
            self._store = None
        # Threads that are not here may have held their locks.
        self.faults.in_child()
        self.clock.in_child()
        self.clock.on_change = self._check_process

    def _start(self, on_end: Callable[[], object] = lambda: None) -> None:
        self._check_process()
        if self._kept and self._store is None:
            raise RuntimeError("the emulator's state was closed: make a new emulator of it")
        self._server.start(on_end)

    def _close_files(self) -> None:
        if self._forked:
            return
        if self._store:
            self._store.close()
            self._store = None
        if self._throw_away:
            self._throw_away.remove()

    def _check_process(self) -> None:
        if self._forked:
            raise RuntimeError(
                "this process was forked from the one that the emulator belongs to: it can use the"
                " endpoint (url, driver(), /_emulator/), and nothing else of the emulator"
            )

    # One request

    def take(self, request: Request) -> Exchange:
        """Read a request, and see what is to go wrong with it."""
        exchange = Exchange(request)
        if not control.is_for_people(request):
            exchange.effect = self.faults.draw(exchange.action)
        return exchange

    def handle(self, exchange: Exchange) -> Answer:
        """Carry a request out and answer it."""
        if control.is_for_people(exchange.request):
            return control.handle(self, exchange.request)
        try:
            if exchange.refused:
                raise exchange.refused
            if exchange.request.method == "OPTIONS":
                return render_options()
            account = self._verified(exchange)
            with self._lock:
                self._come_and_go(account, exchange.params)
                tree = HANDLERS[exchange.action](
                    account.cloud, Params(exchange.params), self._paging
                )
                self._save(account)
            self.match_ssh()
        except RefusedError as error:
            return render_refusal(error, exchange.answer_format)
        return render(f"{exchange.action}Response", tree, exchange.answer_format)

    def match_ssh(self) -> None:
        """Let the SSH servers be those of the instances that run now."""
        if self.ssh is None:
            return
        with self._lock:
            now = self.clock.now()
            self.ssh.match(
                {
                    instance.instance_id: (instance, instance.status(now))
                    for account in self.accounts
                    for instance in account.cloud.instances()
                }
            )

    def remember(self, exchange: Exchange, answer: Answer | None) -> None:
        """
        Keep a record of a request.

        :param answer: What was sent; ``None`` when nothing was.
        """
        if control.is_for_people(exchange.request):
            return
        params = {
            name: value for name, value in exchange.params.items() if name not in _NOT_RECORDED
        }
        record = Record(
            at=self.clock.now(),
            access_key=params.pop("AWSAccessKeyId", ""),
            action=params.pop("Action", ""),
            params=params,
            status=answer.status if answer else 0,
            message=answer.refusal if answer else "no answer was sent",
            fault=exchange.effect.name if exchange.effect else "",
        )
        with self._lock:
            self._records.append(record)

    def snapshot(self) -> dict[str, Any]:
        """Give everything that can be seen from outside, without secrets, as plain data."""
        with self._lock:
            now = self.clock.now()
            return {
                "url": self.url,
                "now": control.iso(now),
                "frozen": self.clock.frozen,
                "accounts": [control.account_data(each, now) for each in self.accounts],
                "requests": [control.record_data(each) for each in self._records],
                "faults": [control.fault_data(each) for each in self.faults],
            }

    # What these stand on

    def _begin(self, access_key: str | None, secret: str | None) -> None:
        for kept in self._store.accounts() if self._store else []:
            given = secret if secret and kept.access_key == access_key else None
            cloud = self._new_cloud(kept.seed, kept.balance)
            cloud.balance_at, cloud.drawn = kept.balance_at, kept.drawn
            cloud.restore(kept.instances, kept.key_pairs, kept.ledger)
            account = Account(kept.access_key, given or kept.secret, cloud)
            self._accounts[kept.access_key] = account
        if self._store and (clock := self._store.clock()):
            self.clock.restore(clock)
        if access_key in self._accounts and access_key is not None:
            # The account that was named is the first.
            self._accounts = {access_key: self._accounts[access_key], **self._accounts}
        elif not self._accounts or access_key is not None:
            balance, instances = self._beginning
            account = self._new_account(access_key, secret, balance)
            for number in range(1, self._churn + 1):
                account.cloud.add_running(f"passer-by-{number}")
            for number in range(1, instances + 1):
                account.cloud.add_running(f"instance-{number}")
            self._accounts = {account.access_key: account, **self._accounts}
        for account in self.accounts:
            self._save(account, new=True)

    def _new_addresses(self) -> Addresses:
        return Addresses(self._network)

    def _ssh_servers(self, port: int) -> SSHServers:
        if self._network is None:
            raise ValueError("ssh: it needs node_network, loopback addresses like '127.10.0.0/16'")
        from libcloud_mcs.emulator._ssh import SSHServers

        return SSHServers(self._network, _port(port, "ssh_port"))

    def _tls_context(
        self,
        host: str,
        tls: bool,
        certificate: str | PathLike[str] | None,
        key: str | PathLike[str] | None,
    ) -> SSLContext | None:
        if not isinstance(tls, bool):
            raise ValueError(f"tls: expected True or False, got {tls!r}")
        if certificate is None and key is not None:
            raise ValueError("tls_key: it needs tls_cert, the file with its certificate")
        if certificate is None and not tls:
            return None
        from libcloud_mcs.emulator._tls import ThrowAway, load

        if certificate is not None:
            return load(certificate, certificate if key is None else key)
        self._throw_away = ThrowAway(host)
        return self._throw_away.context

    def _new_account(self, access_key: str | None, secret: str | None, balance: Decimal) -> Account:
        number = len(self._accounts)
        seed = secrets.token_hex(16) if self._seed is None else f"{self._seed}/{number}"
        cloud = self._new_cloud(seed, balance)
        return Account(access_key or _token(seed, "key"), secret or _token(seed, "secret"), cloud)

    def _new_cloud(self, seed: str, balance: Decimal) -> Cloud:
        return Cloud(
            clock=self.clock,
            seed=seed,
            balance=balance,
            timing=self._timing,
            addresses=self._addresses,
        )

    def _verified(self, exchange: Exchange) -> Account:
        access_key = verify(
            exchange.request,
            exchange.params,
            self._secret_of,
            self.signature_time(),
            debug=self._debug,
        )
        return self._accounts[access_key]

    def signature_time(self) -> datetime:
        """Tell the time that requests are compared with, and that answers carry as ``Date``."""
        if self._signature_clock == "emulated":
            return self.clock.now()
        return datetime.now(timezone.utc)

    def _secret_of(self, access_key: str) -> str | None:
        account = self._accounts.get(access_key)
        return account.secret if account else None

    def _come_and_go(self, account: Account, params: Mapping[str, str]) -> None:
        """Before each page but the first: as many instances of nobody's go as others come."""
        if not self._churn or params["Action"] != "DescribeInstances":
            return
        if params.get("Offset", "0") == "0":
            return
        passing = [each.name for each in account.cloud.instances() if _passes_by(each.name)]
        for name in passing[: self._churn]:
            account.cloud.remove(name)
        for _ in range(self._churn):
            account.cloud.add_running(f"passer-by-{self._addresses.serial + 1}-later")

    def _save(self, account: Account, *, new: bool = False) -> None:
        changes = account.cloud.take_changes()
        if self._store and (changes or new):
            self._store.save(account.access_key, account.secret, account.cloud, changes)

    def _save_clock(self) -> None:
        with self._lock:
            if self._store:
                self._store.save_clock(self.clock.state())


def _passes_by(name: str) -> bool:
    return name.startswith("passer-by-")


def _token(seed: str, what: str) -> str:
    """Give an access key or a secret: random, since the seed is, unless the user gave one."""
    return random.Random(f"{seed}/{what}").randbytes(16).hex()


def _money(amount: Decimal | float | str) -> Decimal:
    try:
        money = Decimal(str(amount))
        if money.is_finite() and money >= 0:
            return money
    except InvalidOperation:
        pass
    raise ValueError(f"balance: an amount of money from 0 was expected, not {amount!r}")


def _seconds(value: float, argument: str) -> float:
    if isinstance(value, (int, float)) and 0 <= value < 1e9:
        return value
    raise ValueError(f"{argument}: seconds from 0 were expected, not {value!r}")


def _loopback_network(network: str) -> IPv4Network:
    wanted = "node_network: a loopback network like '127.10.0.0/16' was expected"
    try:
        found = IPv4Network(network)
    except ValueError as error:
        raise ValueError(f"{wanted}: {error}") from None
    if not found.is_loopback or not 8 <= found.prefixlen <= 30:
        raise ValueError(f"{wanted}, not {network!r}")
    return found


def _port(value: int, argument: str) -> int:
    if isinstance(value, int) and 0 < value < 65536:
        return value
    raise ValueError(f"{argument}: a port from 1 to 65535 was expected, not {value!r}")


def _count(value: int, argument: str, least: int = 0) -> int:
    if isinstance(value, int) and value >= least:
        return value
    raise ValueError(f"{argument}: a whole number from {least} was expected, not {value!r}")
