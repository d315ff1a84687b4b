"""The face of the emulator: settings in, a server that can be started and stopped out."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from decimal import Decimal
from os import PathLike
from ssl import SSLContext
from types import TracebackType
from typing import TYPE_CHECKING, Any, cast

from libcloud_mcs.emulator._app import App
from libcloud_mcs.emulator._backend import Account, Backend, Record
from libcloud_mcs.emulator._clock import Clock
from libcloud_mcs.emulator._control import Control
from libcloud_mcs.emulator._faults import Effect, Fault
from libcloud_mcs.emulator._instances import Charge
from libcloud_mcs.emulator._lifetime import watch
from libcloud_mcs.emulator._server import Server
from libcloud_mcs.emulator._settings import AccountSettings, Settings, parameters
from libcloud_mcs.emulator._signals import EndSignals
from libcloud_mcs.emulator._sockets import is_loopback

if TYPE_CHECKING:
    from ipaddress import IPv4Network

    from libcloud_mcs.driver import MCSNodeDriver
    from libcloud_mcs.emulator._ssh import SSHServers
    from libcloud_mcs.emulator._tls import ThrowAway

__all__ = ["Emulator"]

_PATH = "/mcs/v1"
#: How many seconds the end of the process waits for an emulator that was not stopped.
_EXIT_SECONDS = 5.0


class Emulator:
    """
    A local MCS endpoint. As a context manager, it runs in a thread::

        with Emulator(balance=1000) as cloud:
            driver = cloud.driver()

    Durations are seconds of the emulator's clock; ``0`` is immediately.
    """

    def __init__(
        self,
        *,
        access_key: str | None = Settings.access_key,
        secret: str | None = Settings.secret,
        balance: Decimal | float | str = Settings.balance,
        instances: int = Settings.instances,
        accounts: Sequence[Mapping[str, Any]] = (),
        edition: int = Settings.edition,
        host: str = Settings.host,
        port: int = Settings.port,
        clock: Clock | None = Settings.clock,
        boot_seconds: float = Settings.boot_seconds,
        start_seconds: float = Settings.start_seconds,
        stop_seconds: float = Settings.stop_seconds,
        reboot_seconds: float = Settings.reboot_seconds,
        rebuild_seconds: float = Settings.rebuild_seconds,
        change_seconds: float = Settings.change_seconds,
        save_seconds: float = Settings.save_seconds,
        terminate_seconds: float = Settings.terminate_seconds,
        default_limit: int | None = Settings.default_limit,
        max_limit: int | None = Settings.max_limit,
        churn: int = Settings.churn,
        seed: int | None = Settings.seed,
        node_network: str | None = None,
        ssh: bool = Settings.ssh,
        ssh_port: int = Settings.ssh_port,
        signature_clock: str = Settings.signature_clock,
        debug: bool = Settings.debug,
        state: str | PathLike[str] | None = Settings.state,
        max_records: int = Settings.max_records,
        tls: bool = Settings.tls,
        tls_cert: str | PathLike[str] | None = Settings.tls_cert,
        tls_key: str | PathLike[str] | None = Settings.tls_key,
    ) -> None:
        given: dict[str, Any] = {**locals()}
        settings = Settings(**{each.name: given[each.name] for each in fields(Settings)})
        self._settings = settings
        self._forked = False
        self._throw_away: ThrowAway | None = None
        if settings.ssh:
            # Fails before anything is created where a package is missing.
            import libcloud_mcs.emulator._ssh  # noqa: F401
        tls_context = self._tls_context()
        try:
            self._backend = Backend(settings)
        except BaseException:
            self._remove_throw_away()
            raise
        #: The year of the edition.
        self.edition = settings.edition
        #: The clock of all accounts.
        self.clock = self._backend.clock
        #: The faults that are injected into requests.
        self.faults = self._backend.faults
        self._ssh = self._ssh_servers() if settings.ssh else None
        control = Control(self._backend, lambda: self.url, is_loopback(settings.host))
        app = App(self._backend, settings, control, self._ssh.update if self._ssh else lambda: None)
        self._server = Server(app, settings.host, settings.port, tls_context, self._ssh)
        watch(self, Emulator._in_child, Emulator._at_exit)

    def __repr__(self) -> str:
        where = self.url if self._server.is_serving else "not started"
        return f"<Emulator {where} access_key={self.access_key!r}>"

    # Endpoint and accounts

    @property
    def url(self) -> str:
        """The URL of the endpoint. It is known after the first start and does not change."""
        return f"{self._server.url}{_PATH}"

    @property
    def port(self) -> int:
        """The port of the endpoint. It is known after the first start and does not change."""
        return self._server.port

    @property
    def ca_cert(self) -> str | None:
        """
        The path of a PEM file with the CA of a throw-away certificate; ``None``: another
        certificate, or HTTP. :meth:`close` removes the file.
        """
        return self._throw_away.ca_cert if self._throw_away else None

    @property
    def account(self) -> Account:
        """The first account."""
        return self._backend.first

    @property
    def accounts(self) -> list[Account]:
        """All accounts."""
        with self._backend.transactions():
            return list(self._backend.accounts.values())

    @property
    def access_key(self) -> str:
        """The first account's access key."""
        return self.account.access_key

    @property
    def secret(self) -> str:
        """The first account's secret."""
        return self.account.secret

    @property
    def ledger(self) -> list[Charge]:
        """All charges of the first account, oldest first."""
        self._check_process()
        return self.account.ledger

    @property
    def records(self) -> list[Record]:
        """The last requests, oldest first."""
        self._check_process()
        return self._backend.records

    def add_account(
        self,
        access_key: str | None = None,
        secret: str | None = None,
        balance: Decimal | float | str = 1000,
        instances: int = 0,
    ) -> Account:
        """
        Add an account. Accounts share nothing but the clock.

        :param access_key: The access key; ``None``: a random one.
        :param secret: The secret; ``None``: a random one.
        :param balance: The initial balance.
        :param instances: The number of running instances.
        :raises ValueError: If the access key is in use, or an argument has an invalid value.
        :raises StateError: If the change cannot be saved; the account was not added.
        """
        self._check_process()
        arguments: dict[str, Any] = {
            "access_key": access_key,
            "secret": secret,
            "balance": balance,
            "instances": instances,
        }
        return self._backend.add(AccountSettings(**arguments))

    def driver(self, account: Account | None = None, **kwargs: Any) -> MCSNodeDriver:
        """
        Create a driver for this endpoint. It ignores the proxies of the environment and trusts a
        throw-away certificate.

        :param account: The account; ``None``: the first one.
        :param kwargs: Further arguments of the driver.
        """
        from libcloud_mcs.driver import MCSNodeDriver

        account = account or self.account
        kwargs.setdefault("ca_cert", self.ca_cert)
        driver = MCSNodeDriver(account.access_key, account.secret, url=self.url, **kwargs)
        if kwargs.get("proxy_url") is None:
            driver.connection.set_http_proxy(None)
        return driver

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
        Inject a fault into requests.

        :param effect: What goes wrong.
        :param on: The action whose requests are affected; ``"*"``: all actions.
        :param nth: The first affected request of this action, counted from 1.
        :param times: The greatest number of affected requests; ``None``: all from the first on.
        :param probability: The probability that each of these requests is affected, from 0 to 1.
        :param seed: The seed of that probability.
        :return: The fault, which can be removed.
        :raises ValueError: If an argument has an invalid value.
        """
        self._check_process()
        return self._backend.inject(
            effect, on=on, nth=nth, times=times, probability=probability, seed=seed
        )

    def stub(
        self,
        action: str,
        answer: Mapping[str, Any] | Callable[[dict[str, str]], Mapping[str, Any]],
    ) -> None:
        """
        Respond to an action that the emulator does not have, until :meth:`unstub` or
        :meth:`reset`. The signature is checked, faults apply, and requests are recorded as for any
        other action. A stub applies to all accounts, and is not kept in the state file.

        :param action: The action. An earlier stub of it is replaced.
        :param answer: The tree inside ``<Action>Response``, or a function that returns it. A tree
            is a mapping of element names to text, numbers, booleans (sent as ``True`` and
            ``False``), mappings, and lists of these. The function is called for each request, with
            the parameters of the action without those that every request has (``Action``,
            ``AWSAccessKeyId``, ``Timestamp``, ``Region``, …), and may use the emulator.
        :raises ValueError: If the emulator has the action, or XML cannot hold a part of the tree.
        """
        self._check_process()
        self._backend.stubs.add(action, answer)

    def unstub(self, action: str) -> None:
        """
        Remove a stub.

        :param action: The action of the stub.
        :raises ValueError: If the action has no stub.
        """
        self._check_process()
        self._backend.stubs.remove(action)

    def reset(self) -> None:
        """
        Restore the initial state: the first accounts, real time, no faults, no stubs, no records.

        :raises StateError: If the change cannot be saved; nothing was changed.
        """
        self._check_process()
        self._backend.reset()

    # Serving

    def start(self) -> None:
        """
        Start a thread that serves requests. The emulator has the same URL after each start.

        :raises OSError: If the port is in use, or the address does not belong to this machine.
        :raises RuntimeError: If the emulator is started already or its state file was closed, or in
            a forked process.
        """
        self._start()

    def stop(self) -> None:
        """
        Close all connections and stop the thread. The state is kept for the next start.

        Every thread and every signal handler can call this at any time, and so can a function of
        :func:`meanwhile` or of a stub: it does not wait there, and the request gets no response.
        """
        self._server.stop()

    def run(self, ready: Callable[[], object] = lambda: None) -> None:
        """
        Serve until SIGINT or SIGTERM (on Windows, Ctrl-C or Ctrl-Break) or :meth:`stop`, then close
        the emulator.

        :param ready: Called when requests are served.
        :raises OSError: If the port is in use, or the address does not belong to this machine.
        :raises RuntimeError: If this is not the main thread, or as for :meth:`start`.
        """
        with EndSignals() as signals:
            try:
                self._start(signals.wake)
                ready()
                signals.wait()
            finally:
                self.close()

    def close(self) -> None:
        """Stop, close the state file and remove temporary files."""
        try:
            self._server.stop()
        finally:
            self._close_files()

    def __enter__(self) -> Emulator:
        try:
            self.start()
        except BaseException:
            if not self._server.is_serving:  # otherwise an outer block uses it
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
        """Close the emulator at the end of the process, without waiting forever."""
        self._server.stop(_EXIT_SECONDS)
        self._close_files()

    def _in_child(self) -> None:
        """Release sockets and files in a forked process: they belong to the parent."""
        self._forked = True
        self._server.in_child()
        self._backend.in_child(self._check_process)

    def _start(self, on_end: Callable[[], object] = lambda: None) -> None:
        self._check_process()
        if self._backend.closed:
            raise RuntimeError("the state file was closed: create a new Emulator")
        self._server.start(on_end)

    def _close_files(self) -> None:
        if self._forked:
            return
        self._backend.close()
        self._remove_throw_away()

    def _check_process(self) -> None:
        if self._forked:
            raise RuntimeError(
                "the emulator belongs to the parent of this forked process: use only url, driver()"
                " and /_emulator/ here"
            )

    # Helpers

    def _ssh_servers(self) -> SSHServers:
        from libcloud_mcs.emulator._ssh import SSHServers

        network = cast("IPv4Network", self._settings.node_network)
        return SSHServers(network, self._settings.ssh_port, self._backend.instances)

    def _tls_context(self) -> SSLContext | None:
        settings = self._settings
        if settings.tls_cert is None and not settings.tls:
            return None
        from libcloud_mcs.emulator._tls import ThrowAway, load

        if settings.tls_cert is not None:
            return load(settings.tls_cert, settings.tls_key or settings.tls_cert)
        self._throw_away = ThrowAway(settings.host)
        return self._throw_away.context

    def _remove_throw_away(self) -> None:
        if self._throw_away:
            self._throw_away.remove()


Emulator.__doc__ = f"{inspect.getdoc(Emulator)}\n\n{parameters()}"
