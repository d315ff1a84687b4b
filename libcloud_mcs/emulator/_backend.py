"""The accounts of an emulator and everything that they share."""

from __future__ import annotations

import random
import re
import secrets
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from libcloud_mcs.emulator._account import AccountState
from libcloud_mcs.emulator._addresses import AddressPool
from libcloud_mcs.emulator._checks import ArgumentError, shown
from libcloud_mcs.emulator._clock import Clock, utc_text
from libcloud_mcs.emulator._edition import EDITIONS
from libcloud_mcs.emulator._errors import APIError
from libcloud_mcs.emulator._faults import Effect, Fault, Faults
from libcloud_mcs.emulator._instances import Charge, Instance
from libcloud_mcs.emulator._settings import AccountSettings, Settings
from libcloud_mcs.emulator._stubs import Stubs
from libcloud_mcs.emulator._transactions import Cell, Transactions

if TYPE_CHECKING:
    from libcloud_mcs.emulator._store import KeptAccount, Store

__all__ = [
    "CHURN_NAME",
    "Account",
    "Backend",
    "Record",
    "charge_data",
    "fault_data",
    "record_data",
]

#: The names of instances that the setting ``churn`` adds and removes.
CHURN_NAME = re.compile("other-[0-9]+")


@dataclass(frozen=True)
class Account:
    """An account, with its credentials."""

    access_key: str
    secret: str = field(repr=False)
    state: AccountState = field(repr=False)

    @property
    def ledger(self) -> list[Charge]:
        """All charges, oldest first."""
        return list(self.state.ledger)


@dataclass(frozen=True)
class Record:
    """A request of the API and its outcome."""

    at: datetime
    access_key: str
    action: str
    #: The parameters without the signature and public keys.
    params: dict[str, str]
    #: The HTTP status of the response; 0: no response was sent.
    status: int
    #: The message of the error; ``""``: a success.
    message: str
    #: The name of the fault's effect; ``""``: no fault.
    fault: str


@dataclass
class _Saved:
    """The content of the file, as far as it is compared with the present state."""

    accounts: dict[str, Account] = field(default_factory=dict)
    clock: dict[str, Any] | None = None
    serial: int = 0


#: The settings of an account, and the account that was made from them.
_Configured = tuple[AccountSettings, "Account | None"]


class Backend:
    """
    The accounts, the clock, the faults, the stubs and the records. Every change is made in one of
    :attr:`transactions` and saved at its end.

    :param settings: The settings of the emulator, which include the first account.
    :raises StateError: If the state file cannot be used.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        #: The edition of the service.
        self.edition = EDITIONS[settings.edition]
        #: The transactions of the emulator.
        self.transactions = Transactions()
        #: The clock of all accounts.
        self.clock = settings.clock or Clock()
        self._addresses = AddressPool(settings.node_network, self.transactions)
        self._accounts: Cell[dict[str, Account]] = Cell(self.transactions, {})
        #: The responses of the user to actions that the emulator does not have.
        self.stubs = Stubs(self.transactions, self.edition.actions)
        #: The faults that are injected into requests.
        self.faults = Faults(self.transactions, self.stubs)
        self._records = Cell(self.transactions, self._no_records())
        configured: tuple[_Configured, ...] = tuple(
            (each, None) for each in (settings, *settings.accounts)
        )
        self._configured = Cell(self.transactions, configured)
        self._store = self._open_store()
        self._saved = _Saved()
        self.clock.join(self.transactions)
        self.transactions.save = self._save
        try:
            with self.transactions():
                self._restore()
                self._configure(fresh=not self.accounts)
        except BaseException:
            self.close()
            raise

    @property
    def closed(self) -> bool:
        """Whether the state file was closed."""
        return self._settings.state is not None and self._store is None

    @property
    def accounts(self) -> dict[str, Account]:
        """All accounts by access key, the first account first."""
        return self._accounts.value

    @property
    def first(self) -> Account:
        """The first account."""
        return next(iter(self.accounts.values()))

    @property
    def serial(self) -> int:
        """The serial number of the last instance."""
        return self._addresses.serial

    def add(self, settings: AccountSettings) -> Account:
        """
        Add an account.

        :raises ArgumentError: If the access key is in use, or there are not enough addresses.
        :raises StateError: If the change cannot be saved; the account was not added.
        """
        with self.transactions():
            if settings.access_key in self.accounts:
                taken = shown(settings.access_key)
                raise ArgumentError("access_key", "one that is not in use", taken)
            return self._add(settings, settings.access_key, settings.secret)

    def reset(self) -> None:
        """
        Restore the initial state: the accounts of the settings, real time, no faults, no stubs, no
        records.

        :raises StateError: If the change cannot be saved; nothing was changed.
        """
        with self.transactions():
            (settings, _), *others = self._configured.value
            self._configured.put(((settings, self.first), *others))
            self._accounts.put({})
            self._addresses.reset()
            self.clock.reset()
            self.faults.clear()
            self.stubs.clear()
            self._records.put(self._no_records())
            self._configure(fresh=True)

    def inject(self, effect: Effect, **when: Any) -> Fault:
        """Add a fault, see :meth:`Emulator.inject`."""
        fault = Fault(effect, owner=self.faults, **when)
        self.faults.add(fault)
        return fault

    @property
    def records(self) -> list[Record]:
        """The last requests, oldest first."""
        with self.transactions():
            return list(self._records.value)

    def record(self, record: Record) -> None:
        """Add a record, in place of the oldest one if there are too many."""
        with self.transactions():
            self._records.value.append(record)

    def instances(self) -> dict[str, tuple[Instance, str]]:
        """Return all instances of all accounts by their IDs, each with its status."""
        with self.transactions():
            now = self.clock.now()
            return {
                instance.instance_id: (instance, instance.status(now))
                for account in self.accounts.values()
                for instance in account.state.instances()
            }

    def snapshot(self, url: str) -> dict[str, Any]:
        """
        Return the whole state as plain data, without secrets.

        :param url: The URL of the endpoint.
        """
        with self.transactions():
            now = self.clock.now()
            return {
                "url": url,
                "edition": self.edition.year,
                "now": utc_text(now),
                "frozen": self.clock.frozen,
                "accounts": [_account_data(each, now) for each in self.accounts.values()],
                "requests": [record_data(each) for each in self._records.value],
                "faults": [fault_data(each) for each in self.faults],
                "stubs": list(self.stubs),
            }

    def close(self) -> None:
        """Close the state file, if there is one."""
        if self._store:
            self._store.close()
            self._store = None

    def in_child(self, check: Callable[[], object]) -> None:
        """
        Abandon the state file in a forked process: it belongs to the parent.

        :param check: Called at the end of each change; it raises an exception.
        """
        if self._store:
            self._store.abandon()
            self._store = None
        self.transactions.in_child()
        self.transactions.save = check

    # Helpers

    def _no_records(self) -> deque[Record]:
        return deque(maxlen=self._settings.max_records)

    def _open_store(self) -> Store | None:
        if self._settings.state is None:
            return None
        from libcloud_mcs.emulator._store import Store  # it needs SQLite

        return Store(self._settings.state, self.edition)

    def _restore(self) -> None:
        """Restore the content of the file."""
        if self._store is None:
            return
        with self._store.reading() as kept:
            accounts = {each.access_key: self._restored(each) for each in kept.accounts}
            if kept.clock is not None:
                self.clock.restore(kept.clock)
            self._addresses.reserve(kept.serial)
        self._accounts.put(accounts)
        self._saved = _Saved(accounts, kept.clock, kept.serial)

    def _restored(self, kept: KeptAccount) -> Account:
        state = self._new_state(kept.seed, kept.balance)
        state.restore(
            kept.balance_at,
            kept.drawn,
            kept.instances,
            kept.key_pairs,
            kept.templates,
            kept.ledger,
        )
        return Account(kept.access_key, kept.secret, state)

    def _configure(self, *, fresh: bool) -> None:
        """
        Create the accounts of the settings that do not exist yet.

        :param fresh: Whether there are no accounts. Otherwise the accounts without an access key
            in the settings exist already.
        """
        configured: list[_Configured] = []
        for settings, known in self._configured.value:
            if fresh or settings.access_key is not None:
                known = self._ensure(settings, known)
                if not configured:
                    self._accounts.put({known.access_key: known, **self.accounts})
            configured.append((settings, known))
        self._configured.put(tuple(configured))

    def _ensure(self, settings: AccountSettings, known: Account | None) -> Account:
        access_key = known.access_key if known else settings.access_key
        secret = known.secret if known else settings.secret
        kept = self.accounts.get(access_key or "")
        if kept is None:
            return self._add(settings, access_key, secret)
        # A secret in the settings replaces the one in the file.
        account = replace(kept, secret=secret or kept.secret)
        self._accounts.put({**self.accounts, account.access_key: account})
        return account

    def _add(
        self, settings: AccountSettings, access_key: str | None, secret: str | None
    ) -> Account:
        number = len(self.accounts)
        seed = (
            secrets.token_hex(16)
            if self._settings.seed is None
            else f"{self._settings.seed}/{number}"
        )
        state = self._new_state(seed, settings.balance)
        # Only the first account has instances that come and go.
        churn = 0 if number else self._settings.churn
        try:
            state.add_running(
                *(f"other-{n}" for n in range(1, churn + 1)),
                *(f"instance-{n}" for n in range(1, settings.instances + 1)),
            )
        except APIError as error:
            got = f"{settings.instances}: {error.message}"
            expected = "at most as many as there are addresses"
            raise ArgumentError("instances", expected, got) from None
        account = Account(
            access_key or _token(seed, "key"), secret or _token(seed, "secret"), state
        )
        self._accounts.put({**self.accounts, account.access_key: account})
        return account

    def _new_state(self, seed: str, balance: Decimal) -> AccountState:
        return AccountState(
            clock=self.clock,
            edition=self.edition,
            seed=seed,
            balance=balance,
            timing=self._settings.timing,
            addresses=self._addresses,
            transactions=self.transactions,
        )

    def _save(self) -> None:
        """Save all changes in the file."""
        accounts, saved = self.accounts, self._saved
        if self._store is not None:
            now = _Saved(accounts, self.clock.state(), self.serial)
            gone = [
                key
                for key, account in saved.accounts.items()
                if key not in accounts or accounts[key].state is not account.state
            ]
            changed = {
                key
                for key, account in accounts.items()
                if account.state.changes.requested or saved.accounts.get(key) is not account
            }
            if not gone and not changed and now.clock == saved.clock:
                return  # only expired instances were removed, which needs no saving
            with self._store.transaction():
                for key in gone:
                    self._store.delete_account(key)
                for key, account in accounts.items():
                    if key in changed or account.state.changes.instances:
                        self._store.save_account(key, account.secret, account.state)
                self._store.save_setting("clock", now.clock)
                self._store.save_setting("serial", now.serial)
            self._saved = now
        for account in accounts.values():
            account.state.saved()


def _token(seed: str, purpose: str) -> str:
    """Return an access key or a secret, as random as the seed."""
    return random.Random(f"{seed}/{purpose}").randbytes(16).hex()


def charge_data(charge: Charge) -> dict[str, Any]:
    """Return a charge as plain data."""
    return {
        "at": utc_text(charge.at),
        "action": charge.action,
        "instance_id": charge.instance_id,
        "amount": str(charge.amount),
        "balance": str(charge.balance),
    }


def _account_data(account: Account, now: datetime) -> dict[str, Any]:
    """Return an account as plain data, without secrets."""
    state = account.state
    return {
        "access_key": account.access_key,
        "balance": str(state.balance),
        "instances": [
            {
                "id": instance.instance_id,
                "name": instance.name,
                "status": instance.status(now),
                "type": instance.type.name,
                "template": instance.template.name,
                "addresses": list(instance.addresses(instance.status(now))),
                "created_at": utc_text(instance.created_at),
                "started_at": utc_text(instance.started_at),
                "expire_at": utc_text(instance.expire_at),
                "extend_to": utc_text(instance.extend_to),
            }
            for instance in state.instances()
        ],
        "key_pairs": [
            {"id": pair.key_id, "name": pair.name, "fingerprint": pair.fingerprint}
            for pair in state.key_pairs()
        ],
        "ledger": [charge_data(charge) for charge in account.ledger],
    }


def record_data(record: Record) -> dict[str, Any]:
    """Return a record as plain data."""
    return {**asdict(record), "at": utc_text(record.at)}


def fault_data(fault: Fault) -> dict[str, Any]:
    """Return a fault as plain data."""
    return {
        "action": fault.on,
        "effect": fault.effect.name,
        "nth": fault.nth,
        "times": fault.times,
        "probability": fault.probability,
        "fired": fault.fired,
    }
