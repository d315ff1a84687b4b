"""The emulator: what is made of each request, and the face of it all."""

from __future__ import annotations

import inspect
import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timezone
from decimal import Decimal
from functools import partial
from os import PathLike
from ssl import SSLContext
from types import TracebackType
from typing import TYPE_CHECKING, Any, cast

from libcloud_mcs.emulator import _control as control
from libcloud_mcs.emulator._backend import Account, Backend
from libcloud_mcs.emulator._checks import ArgumentError, shown
from libcloud_mcs.emulator._clock import Clock
from libcloud_mcs.emulator._errors import Refusal, RefusedError
from libcloud_mcs.emulator._faults import Effect, Fault, Faults
from libcloud_mcs.emulator._lifetime import watch
from libcloud_mcs.emulator._params import Params
from libcloud_mcs.emulator._server import Server
from libcloud_mcs.emulator._settings import AccountSettings, Settings, parameters
from libcloud_mcs.emulator._signals import EndSignals
from libcloud_mcs.emulator._sockets import is_loopback
from libcloud_mcs.emulator._store import StateError
from libcloud_mcs.emulator._transactions import Cell
from libcloud_mcs.emulator.actions import HANDLERS, Paging, create_instance
from libcloud_mcs.emulator.cloud import Charge, Cloud
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
    from ipaddress import IPv4Network

    from libcloud_mcs.driver import MCSNodeDriver
    from libcloud_mcs.emulator._ssh import SSHServers
    from libcloud_mcs.emulator._tls import ThrowAway

__all__ = ["Account", "Emulator", "Exchange", "Record"]

_log = logging.getLogger(__name__)

_PATH = "/mcs/v1"
#: Not kept with a request's record: what is long, or could be of use to somebody else.
_NOT_RECORDED = ("Signature", "PublicKeyMaterial")
#: How long the end of a process waits for an emulator that nobody has stopped, in seconds.
_LAST_SECONDS = 5.0


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
        #: Whether it is none of the API's.
        self.for_people = False
        #: Why it cannot be carried out.
        self.trouble: Exception | None = request.flaw
        self.effect: Effect | None = None
        try:
            self.for_people = control.is_for_people(request)
            if not self.for_people and request.flaw is None:
                self.params = read_form(request)
        except Exception as error:
            self.trouble = error

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
    """

    def __init__(
        self,
        *,
        access_key: str | None = Settings.access_key,
        secret: str | None = Settings.secret,
        balance: Decimal | float | str = Settings.balance,
        instances: int = Settings.instances,
        accounts: Sequence[Mapping[str, Any]] = (),
        host: str = Settings.host,
        port: int = Settings.port,
        clock: Clock | None = Settings.clock,
        boot_seconds: float = Settings.boot_seconds,
        start_seconds: float = Settings.start_seconds,
        stop_seconds: float = Settings.stop_seconds,
        reboot_seconds: float = Settings.reboot_seconds,
        rebuild_seconds: float = Settings.rebuild_seconds,
        change_seconds: float = Settings.change_seconds,
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
        self._paging = Paging(settings.default_limit, settings.max_limit)
        #: The instances' SSH servers, where there are any.
        self.ssh = self._ssh_servers() if settings.ssh else None
        #: Whether only this machine can reach it.
        self.loopback = is_loopback(settings.host)
        self._forked = False
        self._throw_away: ThrowAway | None = None
        self._server = Server(self, settings.host, settings.port, self._tls_context())
        try:
            self._backend = Backend(settings)
        except BaseException:
            self._remove_throw_away()
            raise
        self._transactions = self._backend.transactions
        #: The time of this cloud.
        self.clock = self._backend.clock
        self.faults = Faults(self._transactions)
        self._records = Cell(self._transactions, self._no_records())
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
        return self._backend.first

    @property
    def accounts(self) -> list[Account]:
        """All accounts."""
        with self._transactions():
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
        with self._transactions():
            return list(self._records.value)

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
        :raises ValueError: The access key is taken, or an argument makes no sense.
        :raises StateError: The change cannot be saved; the account was not added.
        """
        self._check_process()
        given: dict[str, Any] = {
            "access_key": access_key,
            "secret": secret,
            "balance": balance,
            "instances": instances,
        }
        return self._backend.add(AccountSettings(**given))

    def driver(self, account: Account | None = None, **kwargs: Any) -> MCSNodeDriver:
        """
        Make a driver that is connected to this endpoint, past any proxy of the environment. It
        trusts a throw-away certificate.

        :param account: The account to use; ``None``: the first.
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
        fault = Fault(effect, on, nth, times, probability, seed, self.faults)
        self.faults.add(fault)
        return fault

    def reset(self) -> None:
        """
        Begin anew: the accounts are those that the emulator was made with, as they were then
        (others are gone), the clock runs with real time, no fault is left, no request is
        remembered.

        :raises StateError: The change cannot be saved; everything is as it was.
        """
        self._check_process()
        with self._transactions():
            self._backend.reset()
            self.faults.clear()
            self._records.put(self._no_records())

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
        self._backend.in_child(self._check_process)

    def _start(self, on_end: Callable[[], object] = lambda: None) -> None:
        self._check_process()
        if self._backend.closed:
            raise RuntimeError("the emulator's state was closed: make a new emulator of it")
        self._server.start(on_end)

    def _close_files(self) -> None:
        if self._forked:
            return
        self._backend.close()
        self._remove_throw_away()

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
        if not exchange.for_people:
            exchange.effect = self.faults.draw(exchange.action)
        return exchange

    def handle(self, exchange: Exchange) -> Answer:
        """Carry a request out and answer it. Whatever fails, there is an answer."""
        effect = exchange.effect
        try:
            instead = self._instead(exchange)
        except Exception as error:
            return self._error_document(exchange, error)
        if instead is not None and effect is not None and not effect.after:
            return instead
        try:
            answer = self._answer(exchange)
        except Exception as error:
            answer = self._error_document(exchange, error)
        else:
            self.match_ssh()
        return instead or answer

    def match_ssh(self) -> None:
        """Let the SSH servers be those of the instances that run now."""
        if self.ssh is None:
            return
        with self._transactions():
            now = self.clock.now()
            instances = {
                instance.instance_id: (instance, instance.status(now))
                for account in self.accounts
                for instance in account.cloud.instances()
            }
        try:
            self.ssh.match(instances)
        except Exception:
            # The request after which this is done was carried out in any case.
            _log.exception("the SSH servers are not those of the instances that run")

    def remember(self, exchange: Exchange, answer: Answer | None) -> None:
        """
        Keep a record of a request.

        :param answer: What was sent; ``None`` when nothing was.
        """
        if exchange.for_people:
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
        with self._transactions():
            self._records.value.append(record)

    def snapshot(self) -> dict[str, Any]:
        """Give everything that can be seen from outside, without secrets, as plain data."""
        with self._transactions():
            now = self.clock.now()
            return {
                "url": self.url,
                "now": control.iso(now),
                "frozen": self.clock.frozen,
                "accounts": [control.account_data(each, now) for each in self.accounts],
                "requests": [control.record_data(each) for each in self._records.value],
                "faults": [control.fault_data(each) for each in self.faults],
            }

    def signature_time(self) -> datetime:
        """Tell the time that requests are compared with, and that answers carry as ``Date``."""
        if self._settings.signature_clock == "emulated":
            return self.clock.now()
        return datetime.now(timezone.utc)

    # What these stand on

    def _ssh_servers(self) -> SSHServers:
        from libcloud_mcs.emulator._ssh import SSHServers

        return SSHServers(cast("IPv4Network", self._settings.node_network), self._settings.ssh_port)

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

    def _no_records(self) -> deque[Record]:
        return deque(maxlen=self._settings.max_records)

    def _instead(self, exchange: Exchange) -> Answer | None:
        """Return the answer that was injected, where there is one."""
        if exchange.effect is None or exchange.effect.answer is None:
            return None
        answer: object = exchange.effect.answer(exchange.answer_format)
        if not isinstance(answer, Answer):
            raise TypeError(f"answer: expected an Answer, got {shown(answer)}")
        return answer

    def _answer(self, exchange: Exchange) -> Answer:
        """Carry a request out, all of it or nothing, and answer it."""
        if exchange.trouble is not None:
            raise exchange.trouble
        # What changes in here is saved at the end, after everything else that can fail.
        with self._transactions():
            if exchange.for_people:
                return control.handle(self, exchange.request)
            if exchange.request.method == "OPTIONS":
                return render_options()
            account = self._verified(exchange)
            handler = HANDLERS[exchange.action]
            if exchange.effect is not None and exchange.effect.boot_fail:
                handler = partial(create_instance, boots=False)
            self._come_and_go(account, exchange.params)
            tree = handler(account.cloud, Params(exchange.params), self._paging)
            return render(f"{exchange.action}Response", tree, exchange.answer_format)

    def _error_document(self, exchange: Exchange, error: Exception) -> Answer:
        """Answer a request that could not be carried out."""
        if exchange.for_people and isinstance(error, ArgumentError):
            return control.error(str(error), Refusal.UNREADABLE.status)
        if not isinstance(error, RefusedError):
            what = exchange.action or exchange.request.path
            _log.error("%r failed, and nothing was changed", what, exc_info=error)
            # The text of an error that nobody expected may hold what must not be shown.
            why = str(error) if isinstance(error, StateError) else type(error).__name__
            error = RefusedError(Refusal.FAILED, f"the emulator failed, nothing was changed: {why}")
        if exchange.for_people:
            return control.error(error.message, error.refusal.status)
        return render_refusal(error, exchange.answer_format)

    def _verified(self, exchange: Exchange) -> Account:
        access_key = verify(
            exchange.request,
            exchange.params,
            self._secret_of,
            self.signature_time(),
            debug=self._settings.debug,
        )
        return self._backend.accounts[access_key]

    def _secret_of(self, access_key: str) -> str | None:
        account = self._backend.accounts.get(access_key)
        return account.secret if account else None

    def _come_and_go(self, account: Account, params: Mapping[str, str]) -> None:
        """Before each page but the first: as many instances of nobody's go as others come."""
        churn = self._settings.churn
        if not churn or params["Action"] != "DescribeInstances":
            return
        if params.get("Offset", "0") == "0":
            return
        passing = [each.name for each in account.cloud.instances() if _passes_by(each.name)]
        for name in passing[:churn]:
            account.cloud.remove(name)
        for _ in range(churn):
            account.cloud.add_running(f"passer-by-{self._backend.serial + 1}-later")


Emulator.__doc__ = f"{inspect.getdoc(Emulator)}\n\n{parameters()}"


def _passes_by(name: str) -> bool:
    return name.startswith("passer-by-")
