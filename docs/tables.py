"""
Update the tables of the documents that are generated from the code: ``make tables``.

A table is between ``<!-- NAME -->`` and ``<!-- /NAME -->``. A test fails if one is out of date.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from libcloud_mcs._outcomes import VERDICTS, Verdict
from libcloud_mcs.actions import ACTIONS, Kind
from libcloud_mcs.emulator._catalog import CATALOG_2013, CATALOG_2017
from libcloud_mcs.emulator._edition import EDITIONS
from libcloud_mcs.emulator._errors import ErrorCode
from libcloud_mcs.emulator._faults import EFFECTS
from libcloud_mcs.emulator._settings import Settings

DOCS = Path(__file__).parent


def table(head: tuple[str, ...], rows: list[tuple[object, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "".join("| " + " | ".join(map(str, line)) + " |\n" for line in lines)


def actions() -> str:
    head = ("action", "kind", "verb of the driver", "element of the result", "filters", "edition")
    rows = [
        (
            f"`{action.name}`",
            action.kind.value,
            f"`{action.verb}`",
            " or ".join(f"`{key}`" for key in action.result_keys) or "the root",
            ", ".join(f"`{name}`" for name in action.filters),
            action.edition,
        )
        for action in ACTIONS.values()
    ]
    return table(head, rows)


def retries() -> str:
    head = ("event", *(kind.value for kind in Kind))
    rows = [
        (event.value, *(_verdict(kind, verdicts[kind]) for kind in Kind))
        for event, verdicts in VERDICTS.items()
    ]
    # An error whatever the action is: they are not in the driver's table.
    others = ("a certificate that is refused", "any other refusal, a redirect")
    error = Verdict.ERROR.value
    return table(head, rows + [(event, error, error, error) for event in others])


def _verdict(kind: Kind, verdict: Verdict) -> str:
    # The verbs that cost money query the state before they raise the error.
    queried = kind is Kind.BILLED and verdict is Verdict.UNKNOWN
    return f"queries, then {verdict.value}" if queried else verdict.value


def refusals() -> str:
    return table(("code", "when"), [(refusal.status, refusal.reason) for refusal in ErrorCode])


def types() -> str:
    head = ("name", "cores", "memory (MB)", "volume (MB)", "Mbps", "an hour", "a month", "edition")
    rows: list[tuple[object, ...]] = [
        (
            f"`{each.name}`",
            each.cpu,
            each.memory,
            each.volume,
            each.external_bandwidth,
            each.price.per_hour,
            each.price.per_month,
            ", ".join(
                str(edition.year) for edition in EDITIONS.values() if each in edition.catalog.types
            ),
        )
        for each in dict.fromkeys(
            each for edition in EDITIONS.values() for each in edition.catalog.types
        )
    ]
    for name, price in (
        ("a GB of a data disk", CATALOG_2017.disk_price),
        ("a Mbps of external bandwidth", CATALOG_2017.bandwidth_price),
    ):
        rows.append((name, "", "", "", "", price.per_hour, price.per_month, 2017))
    return table(head, rows)


def templates() -> str:
    return table(
        ("name", "status", "account"),
        [(f"`{each.name}`", each.status, f"`{each.account}`") for each in CATALOG_2013.templates],
    )


def zones() -> str:
    head = ("name", "Chinese name", "status")
    rows = [(f"`{each.name}`", each.chinese_name, each.status) for each in CATALOG_2017.zones]
    return table(head, rows)


def effects() -> str:
    return ", ".join(f"`{name}`" for name in EFFECTS) + "\n"


def settings() -> str:
    rows = [
        (
            f"`{name}`",
            setting.meaning,
            setting.kind.expected.removesuffix(" or None"),
            default if (default := getattr(Settings, name)) not in (None, ()) else "none",
        )
        for name, setting in Settings.settings().items()
    ]
    return table(("setting", "meaning", "value", "default"), rows)


TABLES = {
    "actions": actions,
    "effects": effects,
    "refusals": refusals,
    "retries": retries,
    "settings": settings,
    "templates": templates,
    "types": types,
    "zones": zones,
}


def with_tables(text: str) -> str:
    """Return a document with its tables up to date."""
    for name, make in TABLES.items():
        head, tail = f"<!-- {name} -->\n", f"<!-- /{name} -->"
        parts = re.split(f"{head}.*?{tail}", text, flags=re.DOTALL)
        text = f"{head}{make()}{tail}".join(parts)
    return text


def main() -> int:
    for path in DOCS.glob("*.md"):
        path.write_text(with_tables(path.read_text(encoding="utf-8")), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
