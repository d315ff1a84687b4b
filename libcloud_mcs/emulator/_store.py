"""
An emulator's state, kept in a SQLite file.

Every change is committed before it is acknowledged. The file is the application's own (see
``PRAGMA application_id``) and has a version (``PRAGMA user_version``); the tables are below.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import quote

from libcloud_mcs.emulator._catalog import TEMPLATES, TYPES
from libcloud_mcs.emulator._lifetime import keep_forever
from libcloud_mcs.emulator.cloud import Changes, Charge, Cloud, Instance, KeyPair

__all__ = ["Kept", "StateError", "Store"]

APPLICATION_ID = 0x4D435331  # "MCS1"
VERSION = 1

_SCHEMA = """
-- name "clock": how the clock stands, as JSON: {"offset": seconds, "frozen": time or null}
CREATE TABLE setting (name TEXT PRIMARY KEY, value TEXT NOT NULL);
-- amounts are decimal text, times ISO 8601 in UTC; drawn: how many IDs were made from the seed
CREATE TABLE account (
    access_key TEXT PRIMARY KEY, secret TEXT NOT NULL, balance TEXT NOT NULL, balance_at TEXT,
    seed TEXT NOT NULL, drawn INTEGER NOT NULL
);
CREATE TABLE key_pair (
    access_key TEXT, name TEXT, key_id TEXT NOT NULL, fingerprint TEXT NOT NULL,
    public_key TEXT NOT NULL, PRIMARY KEY (access_key, name)
);
-- document: the fields of an Instance as JSON
CREATE TABLE instance (
    access_key TEXT, instance_id TEXT, serial INTEGER NOT NULL, document TEXT NOT NULL,
    PRIMARY KEY (access_key, instance_id)
);
CREATE TABLE charge (
    number INTEGER PRIMARY KEY, access_key TEXT NOT NULL, at TEXT NOT NULL, action TEXT NOT NULL,
    instance_id TEXT NOT NULL, amount TEXT NOT NULL, balance TEXT NOT NULL
);
"""


class StateError(ValueError):
    """The file cannot be used. It is left as it was."""


@dataclass(frozen=True)
class Kept:
    """What the file has of one account."""

    access_key: str
    secret: str
    balance: Decimal
    balance_at: datetime | None
    seed: str
    drawn: int
    instances: list[Instance]
    key_pairs: list[KeyPair]
    ledger: list[Charge]


class Store:
    """
    The file.

    :param path: Where it is; it is made when it is not there. Only its owner may read it, since it
        holds secrets.
    :raises StateError: It is damaged, newer than this program, of another program, or in use.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)
        try:
            new = not self._path.exists() or not self._path.stat().st_size
            if new:
                self._path.touch(mode=0o600)
            else:
                new = self._is_blank()
            self._database = sqlite3.connect(
                self._path, isolation_level=None, check_same_thread=False, timeout=0
            )
            with contextlib.ExitStack() as stack:
                stack.callback(self._database.close)
                self._open(new)
                stack.pop_all()
        except (sqlite3.Error, OSError) as error:
            raise self._error(str(error)) from None

    def close(self) -> None:
        """Close the file; everything is in this one file then."""
        self._database.close()

    def abandon(self) -> None:
        """
        Never touch the file again, in a process that was just forked: closing the parent's database
        there, if only at the end, would remove what the parent is still writing to.
        """
        keep_forever(self._database)

    def clock(self) -> dict[str, Any] | None:
        """Give how the clock stood."""
        rows = self._rows("SELECT value FROM setting WHERE name = 'clock'")
        for (value,) in rows:
            state: dict[str, Any] = json.loads(value)
            return state
        return None

    def accounts(self) -> list[Kept]:
        """
        Give all accounts, in the order in which they were added.

        :raises StateError: What is in the file makes no sense.
        """
        try:
            return [
                Kept(
                    access_key=key,
                    secret=secret,
                    balance=Decimal(balance),
                    balance_at=_moment(balance_at) if balance_at else None,
                    seed=seed,
                    drawn=drawn,
                    instances=[
                        _instance(json.loads(document))
                        for (document,) in self._rows(
                            "SELECT document FROM instance WHERE access_key = ? ORDER BY serial",
                            key,
                        )
                    ],
                    key_pairs=[
                        KeyPair(*row)
                        for row in self._rows(
                            "SELECT key_id, name, fingerprint, public_key FROM key_pair"
                            " WHERE access_key = ? ORDER BY rowid",
                            key,
                        )
                    ],
                    ledger=[
                        Charge(_moment(at), action, name, Decimal(amount), Decimal(left))
                        for at, action, name, amount, left in self._rows(
                            "SELECT at, action, instance_id, amount, balance FROM charge"
                            " WHERE access_key = ? ORDER BY number",
                            key,
                        )
                    ],
                )
                for key, secret, balance, balance_at, seed, drawn in self._rows(
                    "SELECT access_key, secret, balance, balance_at, seed, drawn FROM account"
                    " ORDER BY rowid"
                )
            ]
        except (ValueError, KeyError, TypeError, ArithmeticError, sqlite3.Error) as error:
            raise self._error(f"it is damaged ({type(error).__name__}: {error})") from None

    def save_clock(self, state: dict[str, Any]) -> None:
        """Keep how the clock stands."""
        self._database.execute(
            "INSERT OR REPLACE INTO setting VALUES ('clock', ?)", (json.dumps(state),)
        )

    def save(self, access_key: str, secret: str, cloud: Cloud, changes: Changes) -> None:
        """
        Keep what has changed in an account, all of it or nothing.

        :param access_key: The account's key.
        :param secret: Its secret.
        :param cloud: What it is now.
        :param changes: What has changed since the last time.
        """
        run = self._database.execute
        # Leaving it commits; an error rolls back.
        with self._database:
            run("BEGIN")
            run(
                "INSERT INTO account VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (access_key)"
                " DO UPDATE SET"
                " secret = excluded.secret, balance = excluded.balance,"
                " balance_at = excluded.balance_at, seed = excluded.seed, drawn = excluded.drawn",
                (
                    access_key,
                    secret,
                    str(cloud.balance),
                    cloud.balance_at and cloud.balance_at.isoformat(),
                    cloud.seed,
                    cloud.drawn,
                ),
            )
            for name, pair in changes.key_pairs.items():
                run("DELETE FROM key_pair WHERE access_key = ? AND name = ?", (access_key, name))
                if pair is not None:
                    run(
                        "INSERT INTO key_pair VALUES (?, ?, ?, ?, ?)",
                        (access_key, name, pair.key_id, pair.fingerprint, pair.public_key),
                    )
            for name, instance in changes.instances.items():
                if instance is None:
                    run(
                        "DELETE FROM instance WHERE access_key = ? AND instance_id = ?",
                        (access_key, name),
                    )
                else:
                    run(
                        "INSERT OR REPLACE INTO instance VALUES (?, ?, ?, ?)",
                        (access_key, name, instance.serial, json.dumps(_document(instance))),
                    )
            for charge in changes.charges:
                run(
                    "INSERT INTO charge VALUES (NULL, ?, ?, ?, ?, ?, ?)",
                    (
                        access_key,
                        charge.at.isoformat(),
                        charge.action,
                        charge.instance_id,
                        str(charge.amount),
                        str(charge.balance),
                    ),
                )

    def clear(self) -> None:
        """Forget everything."""
        self._database.executescript(
            "BEGIN; DELETE FROM setting; DELETE FROM account; DELETE FROM key_pair;"
            " DELETE FROM instance; DELETE FROM charge; COMMIT;"
        )

    def _is_blank(self) -> bool:
        """
        Look at a file without changing it.

        :return: Whether it has no tables yet: an emulator was killed when it had just made it.
        """
        with open(self._path, "rb") as file:
            if file.read(16) != b"SQLite format 3\0":
                raise self._error("it is damaged, or no state of this emulator")
        url = f"file:{quote(os.fspath(self._path.absolute()))}?mode=ro"
        database = sqlite3.connect(url, uri=True, timeout=0)
        try:
            ((application,),) = database.execute("PRAGMA application_id")
            ((version,),) = database.execute("PRAGMA user_version")
            ((tables,),) = database.execute("SELECT count(*) FROM sqlite_master")
            if not (application or version or tables):
                return True
            if application != APPLICATION_ID:
                raise self._error("it belongs to another program")
            if version > VERSION:
                raise self._error(
                    f"it is of version {version}, newer than this program, which knows {VERSION}"
                )
            ((verdict,),) = database.execute("PRAGMA integrity_check(1)")
            if verdict != "ok":
                raise self._error(f"it is damaged ({verdict})")
            return False
        finally:
            database.close()

    def _open(self, new: bool) -> None:
        run = self._database.execute
        # Nobody else may use the file as long as this emulator does.
        run("PRAGMA locking_mode = EXCLUSIVE")
        # A process that is killed at any moment loses nothing that was committed; a machine that
        # loses its power may lose the last moments, never more.
        run("PRAGMA journal_mode = WAL")
        run("PRAGMA synchronous = NORMAL")
        if new:
            self._database.executescript(
                f"BEGIN EXCLUSIVE; PRAGMA application_id = {APPLICATION_ID};"
                f" PRAGMA user_version = {VERSION}; {_SCHEMA} COMMIT;"
            )
        else:
            run("BEGIN EXCLUSIVE")
            run("COMMIT")

    def _rows(self, query: str, *arguments: object) -> Iterator[tuple[Any, ...]]:
        return iter(self._database.execute(query, arguments).fetchall())

    def _error(self, why: str) -> StateError:
        if "locked" in why:
            why = "another emulator is using it"
        return StateError(f"state: {os.fspath(self._path)!r} cannot be used: {why}")


_TEMPLATES = {template.template_id: template for template in TEMPLATES}
_TYPES = {each.type_id: each for each in TYPES}
_TIMES = ("created_at", "started_at", "expire_at", "password_at")
_PLAIN = ("instance_id", "name", "public_ip", "private_ip", "serial", "password", "metadata")


def _document(instance: Instance) -> dict[str, Any]:
    pair = instance.key_pair
    return {
        **{name: getattr(instance, name) for name in _PLAIN},
        **{name: getattr(instance, name).isoformat() for name in _TIMES},
        "type": instance.type.type_id,
        "template": instance.template.template_id,
        "key_pair": pair and [pair.key_id, pair.name, pair.fingerprint, pair.public_key],
        "volume_ids": list(instance.volume_ids),
        "phases": [[at.isoformat(), word] for at, word in instance.phases],
    }


def _instance(document: dict[str, Any]) -> Instance:
    first, second = document["volume_ids"]
    plain: dict[str, Any] = {name: document[name] for name in _PLAIN}
    times: dict[str, Any] = {name: _moment(document[name]) for name in _TIMES}
    return Instance(
        **plain,
        **times,
        type=_TYPES[document["type"]],
        template=_TEMPLATES[document["template"]],
        key_pair=KeyPair(*document["key_pair"]) if document["key_pair"] else None,
        volume_ids=(first, second),
        phases=[(_moment(at), word) for at, word in document["phases"]],
    )


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"a time without a zone: {text!r}")
    return moment
