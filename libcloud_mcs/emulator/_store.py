"""
The state file, a SQLite database.

Every change is committed before it is acknowledged. ``PRAGMA application_id`` identifies the file,
``PRAGMA user_version`` is the number of its schema. A file of an older schema is upgraded.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from libcloud_mcs.emulator._account import AccountState
from libcloud_mcs.emulator._catalog import Extras, Template
from libcloud_mcs.emulator._checks import MONEY
from libcloud_mcs.emulator._edition import EDITIONS, Edition
from libcloud_mcs.emulator._errors import APIError, StateError
from libcloud_mcs.emulator._instances import Charge, Instance, KeyPair
from libcloud_mcs.emulator._lifetime import keep_forever

__all__ = ["Kept", "KeptAccount", "Store"]

APPLICATION_ID = 0x4D435331  # "MCS1"
VERSION = 3

#: The schema of version 1.
_SCHEMA = """
-- value: JSON. "clock": {"offset": seconds, "frozen": time or null},
-- "serial": the serial number of the last instance,
-- "edition": the year of the edition (from version 3 on)
CREATE TABLE setting (name TEXT PRIMARY KEY, value TEXT NOT NULL);
-- amounts are decimal text, times ISO 8601 in UTC, drawn: the number of IDs made from the seed
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


#: What version 2 adds.
_TEMPLATES = """
-- document: the fields of a Template as JSON
CREATE TABLE template (
    access_key TEXT, template_id TEXT, document TEXT NOT NULL,
    PRIMARY KEY (access_key, template_id)
)
"""


@dataclass(frozen=True)
class KeptAccount:
    """An account in the file."""

    access_key: str
    secret: str
    balance: Decimal
    balance_at: datetime | None
    seed: str
    drawn: int
    instances: list[Instance]
    key_pairs: list[KeyPair]
    templates: list[Template]
    ledger: list[Charge]


@dataclass(frozen=True)
class Kept:
    """The content of the file."""

    #: The accounts, oldest first.
    accounts: list[KeptAccount]
    #: The state of the clock; ``None``: it was never saved.
    clock: dict[str, Any] | None
    #: The serial number of the last instance.
    serial: int


class Store:
    """
    The state file.

    :param path: The path. A missing file is created; only its owner may read it, because it
        contains secrets.
    :param edition: The edition of the service.
    :raises StateError: If the file is damaged, newer than this program, of another program, or in
        use.
    """

    def __init__(self, path: str | os.PathLike[str], edition: Edition) -> None:
        self._path = Path(path)
        self._edition = edition
        try:
            if not self._path.exists() or not self._path.stat().st_size:
                self._path.touch(mode=0o600)
            else:
                self._check_header()
            self._database = sqlite3.connect(
                self._path, isolation_level=None, check_same_thread=False, timeout=0
            )
            with contextlib.ExitStack() as stack:
                stack.callback(self._database.close)
                self._open()
                stack.pop_all()
        except (sqlite3.Error, OSError) as error:
            raise self._error(str(error)) from None

    def close(self) -> None:
        """Close the file, and merge the write-ahead log into it if the disk has enough space."""
        self._database.close()

    def abandon(self) -> None:
        """
        Abandon the file in a forked process. Closing the parent's database there, even at the end
        of the process, would remove the log that the parent writes.
        """
        keep_forever(self._database)

    @contextlib.contextmanager
    def reading(self) -> Iterator[Kept]:
        """
        Return the content of the file. An exception in the block means that the content is invalid.
        A file of an older version is upgraded at the end of the block.

        :raises StateError: If the content of the file is invalid, or of another edition. The file
            is not upgraded.
        """
        try:
            self._database.execute("BEGIN")
            ((version,),) = self._rows("PRAGMA user_version")
            self._upgrade(version)
            settings = {
                name: json.loads(value)
                for name, value in self._rows("SELECT name, value FROM setting")
            }
            self._check_edition(settings.get("edition"))
            rows = self._rows(
                "SELECT access_key, secret, balance, balance_at, seed, drawn FROM account"
                " ORDER BY rowid"
            )
            accounts = [self._account(*row) for row in rows]
            yield Kept(accounts, settings.get("clock"), settings.get("serial", 0))
            self._database.execute("COMMIT")
        except StateError:
            raise
        except (
            APIError,
            ArithmeticError,
            LookupError,
            TypeError,
            ValueError,
            sqlite3.Error,
        ) as error:
            raise self._error(f"it is damaged ({type(error).__name__}: {error})") from None

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """
        Save everything in the block, or nothing.

        :raises StateError: If the changes cannot be saved.
        """
        run = self._database.execute
        try:
            if self._database.in_transaction:
                # The last transaction failed, and so may have its rollback.
                run("ROLLBACK")
            run("BEGIN")
            yield
            run("COMMIT")
        except sqlite3.Error as error:
            raise StateError(
                f"state: the change could not be saved in {os.fspath(self._path)!r}: {error}"
            ) from error

    def save_setting(self, name: str, value: Any) -> None:
        """Save a value that belongs to no account."""
        self._database.execute(
            "INSERT OR REPLACE INTO setting VALUES (?, ?)", (name, json.dumps(value))
        )

    def save_account(self, access_key: str, secret: str, state: AccountState) -> None:
        """
        Save the changes of an account.

        :param access_key: The access key of the account.
        :param secret: The secret of the account.
        :param state: The present state of the account.
        """
        run, changes = self._database.execute, state.changes
        run(
            "INSERT INTO account VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (access_key)"
            " DO UPDATE SET"
            " secret = excluded.secret, balance = excluded.balance,"
            " balance_at = excluded.balance_at, seed = excluded.seed, drawn = excluded.drawn",
            (
                access_key,
                secret,
                str(state.balance),
                state.balance_at and state.balance_at.isoformat(),
                state.seed,
                state.drawn,
            ),
        )
        for name, pair in changes.key_pairs.items():
            run("DELETE FROM key_pair WHERE access_key = ? AND name = ?", (access_key, name))
            if pair is not None:
                run(
                    "INSERT INTO key_pair VALUES (?, ?, ?, ?, ?)",
                    (access_key, name, pair.key_id, pair.fingerprint, pair.public_key),
                )
        for name, template in changes.templates.items():
            if template is None:
                run(
                    "DELETE FROM template WHERE access_key = ? AND template_id = ?",
                    (access_key, name),
                )
            else:
                run(
                    "INSERT OR REPLACE INTO template VALUES (?, ?, ?)",
                    (access_key, name, json.dumps(_template_document(template))),
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

    def delete_account(self, access_key: str) -> None:
        """Delete an account and everything that belongs to it."""
        for table in ("account", "key_pair", "template", "instance", "charge"):
            query = f"DELETE FROM {table} WHERE access_key = ?"  # noqa: S608 - constants
            self._database.execute(query, (access_key,))

    def _check_header(self) -> None:
        """Check a file before it is opened, because opening may change it."""
        with open(self._path, "rb") as file:
            header = file.read(100)
        if len(header) < 100 or not header.startswith(b"SQLite format 3\0"):
            raise self._error("it is damaged, or not a state file")
        self._check_version(
            int.from_bytes(header[68:72], "big"), int.from_bytes(header[60:64], "big")
        )

    def _check_version(self, application: int, version: int) -> None:
        # Both are 0 in a new file.
        if application not in (0, APPLICATION_ID):
            raise self._error("it belongs to another program")
        if version > VERSION:
            raise self._error(
                f"it is of version {version}, newer than this program, which knows {VERSION}"
            )

    def _check_edition(self, year: object) -> None:
        """Check the edition of the file, and note it in a new file."""
        if year is None:
            self.save_setting("edition", self._edition.year)
        elif year != self._edition.year:
            raise self._error(
                f"it is of edition {year}, expected {self._edition.year}; use edition={year}, or"
                " another file"
            )

    def _open(self) -> None:
        run = self._database.execute
        # The emulator has the file for itself. As the first statement, this avoids a file "-shm",
        # which would never be removed.
        run("PRAGMA locking_mode = EXCLUSIVE")
        ((application,),) = run("PRAGMA application_id")
        ((version,),) = run("PRAGMA user_version")
        self._check_version(application, version)
        ((tables,),) = run("SELECT count(*) FROM sqlite_master")
        if tables and not application:
            raise self._error("it belongs to another program")
        ((verdict,),) = run("PRAGMA integrity_check(1)")
        if verdict != "ok":
            raise self._error(f"it is damaged ({verdict})")
        # A killed process loses nothing that was committed; a power failure may lose the last
        # moments.
        run("PRAGMA journal_mode = WAL")
        run("PRAGMA synchronous = NORMAL")
        run("BEGIN EXCLUSIVE")
        if not application:
            self._run_script(_SCHEMA)
            run(f"PRAGMA application_id = {APPLICATION_ID}")
            self._upgrade(version)
        run("COMMIT")

    def _upgrade(self, version: int) -> None:
        """Upgrade the tables from a version, in the transaction that has begun."""
        for number, step in enumerate((self._to_version_2, self._to_version_3), 2):
            if number > version:
                step()
                self._database.execute(f"PRAGMA user_version = {number}")

    def _to_version_2(self) -> None:
        """Add the templates, which accounts of version 1 had without saving them."""
        self._database.execute(_TEMPLATES)
        for (access_key,) in self._rows("SELECT access_key FROM account"):
            for each in EDITIONS[2013].catalog.templates:
                row = (access_key, each.template_id, json.dumps(_template_document(each)))
                self._database.execute("INSERT INTO template VALUES (?, ?, ?)", row)

    def _to_version_3(self) -> None:
        """
        Add the edition, which was 2013, and what later editions need. An instance has its template,
        and not only the template's ID.
        """
        run = self._database.execute
        run("INSERT INTO setting SELECT 'edition', '2013' FROM account LIMIT 1")
        templates = {}
        for access_key, template_id, document in self._rows("SELECT * FROM template"):
            template = {**json.loads(document), "saved_at": None}
            templates[access_key, template_id] = template
            run(
                "UPDATE template SET document = ? WHERE access_key = ? AND template_id = ?",
                (json.dumps(template), access_key, template_id),
            )
        for access_key, instance_id, document in self._rows(
            "SELECT access_key, instance_id, document FROM instance"
        ):
            instance = json.loads(document)
            template = templates[access_key, instance["template"]]
            new = {"template": template, "zone": None, "group": None, "disk": 0, "bandwidth": 0}
            run(
                "UPDATE instance SET document = ? WHERE access_key = ? AND instance_id = ?",
                (json.dumps({**instance, **new}), access_key, instance_id),
            )

    def _run_script(self, script: str) -> None:
        # executescript() would commit the transaction.
        for statement in script.split(";"):
            self._database.execute(statement)

    def _account(
        self, key: str, secret: str, balance: str, balance_at: str | None, seed: str, drawn: int
    ) -> KeptAccount:
        return KeptAccount(
            access_key=key,
            secret=secret,
            balance=MONEY.take(balance),
            balance_at=_moment(balance_at) if balance_at else None,
            seed=seed,
            drawn=drawn,
            instances=[
                _instance(json.loads(document), self._edition)
                for (document,) in self._rows(
                    "SELECT document FROM instance WHERE access_key = ? ORDER BY serial", key
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
            templates=[
                _template(json.loads(document))
                for (document,) in self._rows(
                    "SELECT document FROM template WHERE access_key = ? ORDER BY rowid", key
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

    def _rows(self, query: str, *arguments: object) -> list[tuple[Any, ...]]:
        return self._database.execute(query, arguments).fetchall()

    def _error(self, why: str) -> StateError:
        if "locked" in why:
            why = "another emulator is using it"
        return StateError(f"state: {os.fspath(self._path)!r} cannot be used: {why}")


_TIMES = ("created_at", "started_at", "expire_at", "password_at")
_PLAIN: dict[str, type | tuple[type, ...]] = {
    "instance_id": str,
    "name": str,
    "public_ip": str,
    "private_ip": str,
    "serial": int,
    "password": str,
    "zone": (str, type(None)),
    "group": (str, type(None)),
}
_EXTRAS = {"disk": int, "bandwidth": int}


def _document(instance: Instance) -> dict[str, Any]:
    pair = instance.key_pair
    return {
        **{name: getattr(instance, name) for name in _PLAIN},
        **{name: getattr(instance, name).isoformat() for name in _TIMES},
        "metadata": dict(instance.metadata),
        "type": instance.type.type_id,
        "template": _template_document(instance.template),
        **asdict(instance.extras),
        "key_pair": pair and [pair.key_id, pair.name, pair.fingerprint, pair.public_key],
        "volume_ids": list(instance.volume_ids),
        "phases": [[at.isoformat(), word] for at, word in instance.phases],
    }


def _template_document(template: Template) -> dict[str, Any]:
    saved_at = template.saved_at and template.saved_at.isoformat()
    return {**asdict(template), "saved_at": saved_at}


def _template(document: dict[str, Any]) -> Template:
    saved_at = document["saved_at"]
    times = {"saved_at": _moment(saved_at) if saved_at else None}
    for each in fields(Template):
        kind = {"size": int, "metadata": dict}.get(each.name, str)
        if each.name not in times and not isinstance(document[each.name], kind):
            raise TypeError(f"{each.name!r} of a template")
    return Template(**{**document, **times})


def _instance(document: dict[str, Any], edition: Edition) -> Instance:
    for name, kind in {**_PLAIN, **_EXTRAS}.items():
        if not isinstance(document[name], kind):
            raise TypeError(f"{name!r} of an instance")
    plain: dict[str, Any] = {name: document[name] for name in _PLAIN}
    extras = Extras(**{name: document[name] for name in _EXTRAS})
    system_disk, type_disk, *data_disks = document["volume_ids"]
    if len(data_disks) != bool(extras.disk):
        raise ValueError("'volume_ids' of an instance")
    metadata: dict[str, str] = dict(document["metadata"])
    times: dict[str, Any] = {name: _moment(document[name]) for name in _TIMES}
    return Instance(
        edition=edition,
        **plain,
        **times,
        metadata=metadata,
        type=edition.catalog.instance_type(document["type"]),
        template=_template(document["template"]),
        key_pair=KeyPair(*document["key_pair"]) if document["key_pair"] else None,
        volume_ids=(system_disk, type_disk, *data_disks),
        phases=tuple((_moment(at), word) for at, word in document["phases"]),
        extras=extras,
    )


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"a time without a zone: {text!r}")
    return moment
