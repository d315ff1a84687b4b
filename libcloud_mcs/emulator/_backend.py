"""The accounts of an emulator, and what they have in common: clock, addresses, and the file."""

from __future__ import annotations

import random
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

from libcloud_mcs.emulator._checks import ArgumentError, shown
from libcloud_mcs.emulator._clock import Clock
from libcloud_mcs.emulator._errors import RefusedError
from libcloud_mcs.emulator._settings import AccountSettings, Settings
from libcloud_mcs.emulator._store import KeptAccount, Store
from libcloud_mcs.emulator._transactions import Cell, Transactions
from libcloud_mcs.emulator.cloud import Addresses, Charge, Cloud

__all__ = ["Account", "Backend"]


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


@dataclass
class _Saved:
    """What the file has."""

    accounts: dict[str, Account] = field(default_factory=dict)
    clock: dict[str, Any] | None = None
    serial: int = 0


#: What was asked for, and the account that came of it.
_Given = tuple[AccountSettings, "Account | None"]


class Backend:
    """
    The accounts. Whatever changes, changes in one of :attr:`transactions`, and is saved at its end.

    :param settings: The emulator's settings. The account of theirs is the first.
    :raises StateError: If the file of the state cannot be used.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        #: What is made as a whole or not at all.
        self.transactions = Transactions()
        #: The time of all accounts.
        self.clock = settings.clock or Clock()
        self._addresses = Addresses(settings.node_network, self.transactions)
        self._accounts: Cell[dict[str, Account]] = Cell(self.transactions, {})
        wanted: tuple[_Given, ...] = tuple((each, None) for each in (settings, *settings.accounts))
        self._given = Cell(self.transactions, wanted)
        self._store = None if settings.state is None else Store(settings.state)
        self._saved = _Saved()
        self.clock.join(self.transactions)
        self.transactions.save = self._save
        try:
            with self.transactions():
                self._restore()
                self._begin(fresh=not self.accounts)
        except BaseException:
            self.close()
            raise

    @property
    def closed(self) -> bool:
        """Whether there was a file of the state, and it was closed."""
        return self._settings.state is not None and self._store is None

    @property
    def accounts(self) -> dict[str, Account]:
        """All accounts by their access keys, the first one first."""
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

        :raises ArgumentError: If there is an account with this access key, or not enough addresses.
        :raises StateError: If the change cannot be saved; the account was not added.
        """
        with self.transactions():
            if settings.access_key in self.accounts:
                taken = shown(settings.access_key)
                got = f"{taken}: there is an account {taken} already"
                raise ArgumentError("access_key", "one that no account has", got)
            return self._add(settings, settings.access_key, settings.secret)

    def reset(self) -> None:
        """
        Begin anew, with the accounts that the settings name.

        :raises StateError: If the change cannot be saved; everything is as it was.
        """
        with self.transactions():
            (settings, _), *others = self._given.value
            self._given.put(((settings, self.first), *others))
            self._accounts.put({})
            self._addresses.reset()
            self.clock.reset()
            self._begin(fresh=True)

    def close(self) -> None:
        """Close the file of the state, where there is one."""
        if self._store:
            self._store.close()
            self._store = None

    def in_child(self, check: Callable[[], object]) -> None:
        """
        Let go of the file in a process that was just forked: it is its parent's.

        :param check: Called at the end of each change; it refuses.
        """
        if self._store:
            self._store.abandon()
            self._store = None
        self.transactions.in_child()
        self.transactions.save = check

    # What these stand on

    def _restore(self) -> None:
        """Take up what the file has."""
        if self._store is None:
            return
        with self._store.reading() as kept:
            accounts = {each.access_key: self._restored(each) for each in kept.accounts}
            if kept.clock is not None:
                self.clock.restore(kept.clock)
            self._addresses.keep(kept.serial)
        self._accounts.put(accounts)
        self._saved = _Saved(accounts, kept.clock, kept.serial)

    def _restored(self, kept: KeptAccount) -> Account:
        cloud = self._new_cloud(kept.seed, kept.balance)
        cloud.restore(kept.balance_at, kept.drawn, kept.instances, kept.key_pairs, kept.ledger)
        return Account(kept.access_key, kept.secret, cloud)

    def _begin(self, *, fresh: bool) -> None:
        """
        Make the accounts that the settings name, but for those that are there.

        :param fresh: Whether none is there. Otherwise those without an access key are among them.
        """
        given: list[_Given] = []
        for settings, known in self._given.value:
            if fresh or settings.access_key is not None:
                known = self._ensure(settings, known)
                if not given:
                    self._accounts.put({known.access_key: known, **self.accounts})
            given.append((settings, known))
        self._given.put(tuple(given))

    def _ensure(self, settings: AccountSettings, known: Account | None) -> Account:
        access_key = known.access_key if known else settings.access_key
        secret = known.secret if known else settings.secret
        kept = self.accounts.get(access_key or "")
        if kept is None:
            return self._add(settings, access_key, secret)
        # The secret that is given is the one that holds from now on.
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
        cloud = self._new_cloud(seed, settings.balance)
        # Those of nobody's are in the first account alone.
        strangers = 0 if number else self._settings.churn
        try:
            cloud.add_running(
                *(f"passer-by-{n}" for n in range(1, strangers + 1)),
                *(f"instance-{n}" for n in range(1, settings.instances + 1)),
            )
        except RefusedError as error:
            got = f"{settings.instances}: {error.message}"
            raise ArgumentError("instances", "as many as can be made", got) from None
        account = Account(
            access_key or _token(seed, "key"), secret or _token(seed, "secret"), cloud
        )
        self._accounts.put({**self.accounts, account.access_key: account})
        return account

    def _new_cloud(self, seed: str, balance: Decimal) -> Cloud:
        return Cloud(
            clock=self.clock,
            seed=seed,
            balance=balance,
            timing=self._settings.timing,
            addresses=self._addresses,
            transactions=self.transactions,
        )

    def _save(self) -> None:
        """Bring the file to how everything is now."""
        accounts, saved = self.accounts, self._saved
        if self._store is not None:
            now = _Saved(accounts, self.clock.state(), self.serial)
            gone = [
                key
                for key, account in saved.accounts.items()
                if key not in accounts or accounts[key].cloud is not account.cloud
            ]
            changed = {
                key
                for key, account in accounts.items()
                if account.cloud.changes.wanted or saved.accounts.get(key) is not account
            }
            if not gone and not changed and now.clock == saved.clock:
                return  # instances whose time is over can wait: they are gone in any case
            with self._store.transaction():
                for key in gone:
                    self._store.delete_account(key)
                for key, account in accounts.items():
                    if key in changed or account.cloud.changes.instances:
                        self._store.save_account(key, account.secret, account.cloud)
                self._store.save_setting("clock", now.clock)
                self._store.save_setting("serial", now.serial)
            self._saved = now
        for account in accounts.values():
            account.cloud.saved()


def _token(seed: str, what: str) -> str:
    """Give an access key or a secret: random, since the seed is, unless the user gave one."""
    return random.Random(f"{seed}/{what}").randbytes(16).hex()
