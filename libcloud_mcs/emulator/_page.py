"""
The status page: a snapshot of the emulator → an HTML document for a person's browser.

The document needs nothing but itself, and asks for itself again each second. Everything that comes
from the snapshot goes through :func:`_text`, which makes it harmless.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from html import escape
from typing import Any

from libcloud_mcs._signature import COMMON_PARAMETERS

__all__ = ["render_page"]

_MOST_INSTANCES = 200
_MOST_CHARGES = 50
_MOST_REQUESTS = 50
#: Of one request.
_MOST_PARAMS = 12
#: In characters. Names and messages are shorter; public keys and hostile requests are not.
_LONGEST_TEXT = 300
_LONGEST_PARAM = 80

#: The words of the states, by their kind. What ends in ``_fail`` or ``_failed`` is a kind, too.
_KINDS = {
    "up": "running",
    "down": "ready suspend",
    "busy": (
        "init schedule network disk image_caching start_deploy deploying start_start starting"
        " resuming start_stop stopping start_suspend suspending change_flavor rebuild_root"
        " renewing sync_config start_migrate migrating block_stream start_save_disk save_disk"
    ),
    "bad": "start_delete deleting",
}
_KIND_OF = {word: kind for kind, words in _KINDS.items() for word in words.split()}

_STYLE = """
:root {
  color-scheme: light dark;
  --back: #f4f6f8; --card: #ffffff; --line: #e2e6eb; --text: #1b2430; --quiet: #586474;
  --up: #11602f; --up-back: #dcf3e3; --down: #764600; --down-back: #fdeecb;
  --busy: #14489b; --busy-back: #dfeafc; --bad: #991b1b; --bad-back: #fce1e0;
  --unknown: #475160; --unknown-back: #e8ebef;
}
@media (prefers-color-scheme: dark) {
  :root {
    --back: #11151a; --card: #191f27; --line: #2c3541; --text: #e3e8ee; --quiet: #9ba7b6;
    --up: #84dda2; --up-back: #14361f; --down: #f2c46d; --down-back: #3d2e0d;
    --busy: #9cc3ff; --busy-back: #1a3155; --bad: #ffa8a3; --bad-back: #4a1d1d;
    --unknown: #b7c0cc; --unknown-back: #2d3540;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; max-width: 80rem; padding: 1.5rem; background: var(--back); color: var(--text);
  font: 0.9375rem/1.5 system-ui, "Noto Sans", "Noto Sans CJK SC", "PingFang SC", "Microsoft YaHei",
    sans-serif;
}
header, .account-head {
  display: flex; flex-wrap: wrap; align-items: end; justify-content: space-between;
  gap: 0.5rem 2rem;
}
header { margin-bottom: 1.25rem; }
.account-head, .balance div { align-items: baseline; }
h1, h2, h3, p, dl, dd { margin: 0; }
h1 { font-size: 1.375rem; line-height: 1.3; }
h2 { font-size: 1.0625rem; }
h3 { margin-top: 1.75rem; font-size: 0.9375rem; }
h2 + table, h2 + .note, h3 + table, h3 + .note { margin-top: 0.375rem; }
code { font: 0.875em/1.5 ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; }
code, th, td { overflow-wrap: anywhere; unicode-bidi: isolate; }
dl { display: flex; flex-wrap: wrap; gap: 0.25rem 2rem; }
dt { color: var(--quiet); font-size: 0.8125rem; }
time, .balance, .ledger, .count { font-variant-numeric: tabular-nums; }
time { white-space: nowrap; }
section {
  margin-bottom: 1.25rem; padding: 1.25rem 1.5rem; background: var(--card);
  border: 1px solid var(--line); border-radius: 0.625rem;
}
.balance div { display: flex; gap: 0.75rem; }
.balance dd { font-size: 1.375rem; font-weight: 600; line-height: 1.2; }
.count, .note, .less { color: var(--quiet); }
.count { margin-left: 0.25rem; font-weight: 400; }
.less { display: block; font-size: 0.8125rem; }
.badge {
  display: inline-block; padding: 0 0.5rem; border-radius: 0.6875rem; font-size: 0.8125rem;
  font-weight: 600; line-height: 1.375rem; color: var(--unknown); background: var(--unknown-back);
}
.up { color: var(--up); background: var(--up-back); }
.down { color: var(--down); background: var(--down-back); }
.busy { color: var(--busy); background: var(--busy-back); }
.bad { color: var(--bad); background: var(--bad-back); }
.ended { color: var(--bad); }
table { width: 100%; border-collapse: collapse; table-layout: fixed; }
th, td {
  padding: 0.5rem 1.25rem 0.5rem 0; border-top: 1px solid var(--line); text-align: left;
  vertical-align: top;
}
th:last-child, td:last-child { padding-right: 0; }
thead th { border-top: 0; color: var(--quiet); font-size: 0.8125rem; font-weight: 500; }
tbody th { font-weight: 400; }
tbody th strong { font-weight: 600; }
.instances thead th:nth-child(2) { width: 10.5rem; }
.instances thead th:nth-child(4) { width: 8.5rem; }
.instances thead th:nth-child(5) { width: 14rem; }
.instances thead th:nth-child(6) { width: 8.75rem; }
.key-pairs thead th:first-child { width: 22%; }
:is(.ledger, .requests) thead th:first-child { width: 11rem; }
.ledger thead th:nth-child(2), .faults thead :not(:last-child) { width: 15rem; }
.ledger thead th:nth-child(n + 4) { width: 8rem; }
.requests thead th:nth-child(2) { width: 17.5rem; }
.requests thead th:nth-child(4) { width: 18rem; }
.param { display: inline-block; margin-right: 0.75rem; }
#lost {
  position: sticky; top: 0.75rem; z-index: 1; margin-bottom: 1.25rem; padding: 0.625rem 1rem;
  border: 1px solid currentcolor; border-radius: 0.625rem; font-weight: 600;
}
#lost[hidden] { display: none; }
footer { color: var(--quiet); font-size: 0.8125rem; }
@media (min-width: 70.001rem) {
  .ledger :is(th, td):nth-child(n + 4) { text-align: right; }
}
@media (max-width: 70rem) {
  body { padding: 1rem 0.75rem; }
  section { padding: 1rem; }
  table, tr, tbody th, td { display: block; }
  tbody {
    display: grid; grid-template-columns: repeat(auto-fill, minmax(min(22rem, 100%), 1fr));
    column-gap: 2rem;
  }
  thead { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
  tr { padding: 0.625rem 0; border-top: 1px solid var(--line); }
  tbody th, td { padding: 0.125rem 0; border: 0; }
  td { display: grid; grid-template-columns: 6.5rem minmax(0, 1fr); }
  td::before {
    content: attr(data-label); color: var(--quiet); font-size: 0.8125rem; line-height: 1.40625rem;
  }
}
"""

_SCRIPT = """
"use strict";
// What may change: the clock, and each section by itself, so that a selection in another one stays.
const parts = (page) => [page.getElementById("clock"), ...page.querySelector("main").children];
async function refresh() {
  const lost = document.getElementById("lost");
  try {
    const answer = await fetch("/", {cache: "no-store", signal: AbortSignal.timeout(5000)});
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const [old, fresh] = [parts(document), parts(page)];
    if (old.length === fresh.length) {
      old.forEach((part, n) => part.isEqualNode(fresh[n]) || part.replaceWith(fresh[n]));
    } else {
      document.querySelector("main").replaceWith(page.querySelector("main"));
    }
    lost.hidden = true;
  } catch {
    lost.hidden = false;
  }
  setTimeout(refresh, 1000);
}
setTimeout(refresh, 1000);
"""

#: A cloud. Without an icon in the page, a browser would request one.
_ICON = (
    "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 32 32'%3E%3Cpath"
    " fill='%232f7de1' d='M9 26a7 7 0 0 1-1-13.9 9 9 0 0 1 17.3.9A6.5 6.5 0 0 1 24.5"
    " 26z'/%3E%3C/svg%3E"
)


def _digest(content: str) -> str:
    digest = hashlib.sha256(content.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


#: Nothing from elsewhere is loaded, and no other script runs, whatever a name tries.
_POLICY = (
    f"default-src 'none'; connect-src 'self'; img-src data:; style-src {_digest(_STYLE)};"
    f" script-src {_digest(_SCRIPT)}; base-uri 'none'; form-action 'none'"
)


def render_page(snapshot: Mapping[str, Any]) -> bytes:
    """
    Write the status page.

    :param snapshot: What there is: ``url``, ``edition``, ``now``, ``frozen``, ``accounts``,
        ``requests``, ``faults`` and ``stubs``. All lists have the oldest first.
    :return: A whole HTML document, in UTF-8.
    """
    now = _moment(snapshot["now"])
    sections = [
        *(_account(number, each, now) for number, each in enumerate(snapshot["accounts"], 1)),
        _faults(snapshot["faults"]),
        _stubs(snapshot["stubs"]),
        _requests(snapshot["requests"]),
    ]
    document = f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>MCS emulator</title>
<link rel="icon" href="{_ICON}">
<noscript><meta http-equiv="refresh" content="2"></noscript>
<style>{_STYLE}</style>
</head>
<body>
{_header(snapshot)}
<p id="lost" class="bad" role="alert" hidden>The emulator does not answer</p>
<main>
{"".join(sections)}</main>
<footer>All times are in UTC. This page keeps itself up to date.</footer>
<script>{_SCRIPT}</script>
</body>
</html>
"""
    return document.encode(errors="replace")


# The sections


def _header(snapshot: Mapping[str, Any]) -> str:
    held = " " + _badge("held", "down") if snapshot["frozen"] else ""
    return f"""<header>
<h1>MCS emulator</h1>
<dl>
<div><dt>Endpoint</dt><dd id="endpoint"><code>{_text(snapshot["url"])}</code></dd></div>
<div><dt>Edition</dt><dd id="edition">{_text(snapshot["edition"])}</dd></div>
<div><dt>Clock</dt><dd id="clock">{_time(snapshot["now"])}{held}</dd></div>
</dl>
</header>"""


def _account(number: int, account: Mapping[str, Any], now: datetime) -> str:
    names = {each["id"]: each["name"] for each in account["instances"]}
    return f"""<section id="account-{number}" aria-labelledby="account-{number}-title">
<div class="account-head">
<h2 id="account-{number}-title">Account {_code(account["access_key"])}</h2>
<dl class="balance"><div><dt>Balance</dt><dd>{_text(account["balance"])}</dd></div></dl>
</div>
{_instances(account["instances"], now)}
{_key_pairs(account["key_pairs"])}
{_ledger(account["ledger"], names)}
</section>
"""


def _instances(instances: Sequence[Mapping[str, Any]], now: datetime) -> str:
    rows = [
        [
            f"<strong>{_text(each['name'])}</strong>{_less(_code(each['id']))}",
            _badge(each["status"], _kind(each["status"])),
            f"{_text(each['type'])}{_less(_text(each['template']))}",
            "<br>".join(map(_code, each["addresses"])),
            _lease(each, now),
            _less(_time(each["created_at"])),
        ]
        for each in _newest(instances, _MOST_INSTANCES)
    ]
    return (
        _heading("Instances", len(instances))
        + _table("instances", ["Name", "State", "Type", "Addresses", "Lease", "Created"], rows)
        + _note(
            len(instances), _MOST_INSTANCES, "No instances yet. What a client makes appears here."
        )
    )


def _lease(instance: Mapping[str, Any], now: datetime) -> str:
    words = _left(_moment(instance["expire_at"]) - now)
    if words != "ended":
        return f"{words}{_less('until ' + _time(instance['expire_at']))}"
    ended = _less("at " + _time(instance["expire_at"]))
    kept = _less("kept until " + _time(instance["extend_to"]))
    return f'<span class="ended">{words}</span>{ended}{kept}'


def _key_pairs(key_pairs: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        [f"<strong>{_text(each['name'])}</strong>", _code(each["fingerprint"]), _code(each["id"])]
        for each in _newest(key_pairs, _MOST_INSTANCES)
    ]
    return (
        _heading("Key pairs", len(key_pairs))
        + _table("key-pairs", ["Name", "Fingerprint", "ID"], rows)
        + _note(len(key_pairs), _MOST_INSTANCES, "No key pairs yet.")
    )


def _ledger(ledger: Sequence[Mapping[str, Any]], names: Mapping[str, str]) -> str:
    rows = [
        [
            _time(each["at"]),
            _text(each["action"]),
            _text(names.get(each["instance_id"], "")) + _less(_code(each["instance_id"])),
            _text(each["amount"]),
            _text(each["balance"]),
        ]
        for each in _newest(ledger, _MOST_CHARGES)
    ]
    return (
        _heading("Ledger", len(ledger))
        + _table("ledger", ["Time", "Action", "Instance", "Paid", "Balance"], rows)
        + _note(len(ledger), _MOST_CHARGES, "Nothing was charged yet.")
    )


def _faults(faults: Sequence[Mapping[str, Any]]) -> str:
    if not faults:
        return ""
    rows = [
        [
            "any action" if each["action"] == "*" else _text(each["action"]),
            _badge(each["effect"], "down"),
            _text(each["fired"]),
        ]
        for each in faults
    ]
    return f"""<section id="injected-faults" aria-labelledby="faults-title">
<h2 id="faults-title">Injected faults</h2>
{_table("faults", ["Action", "Effect", "Fired"], rows)}
</section>
"""


def _stubs(actions: Sequence[str]) -> str:
    if not actions:
        return ""
    return f"""<section id="stubs" aria-labelledby="stubs-title">
<h2 id="stubs-title">Stubs</h2>
{_table("stubs", ["Action"], [[_text(action)] for action in actions])}
</section>
"""


def _requests(requests: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        [
            _time(each["at"]),
            _text(each["action"] or "no action") + _less(_code(each["access_key"])),
            _params(each["params"]),
            _verdict(each),
        ]
        for each in _newest(requests, _MOST_REQUESTS)
    ]
    return f"""<section id="recent-requests" aria-labelledby="requests-title">
<h2 id="requests-title">Recent requests</h2>
{_table("requests", ["Time", "Action", "Parameters", "Verdict"], rows)}
{_note(len(requests), _MOST_REQUESTS, "No requests yet. They appear here as they come in.")}
</section>
"""


def _params(params: Mapping[str, Any]) -> str:
    own = [f"{name}={value}" for name, value in params.items() if name not in COMMON_PARAMETERS]
    shown = [
        f'<code class="param">{_text(each, _LONGEST_PARAM)}</code>' for each in own[:_MOST_PARAMS]
    ]
    if len(own) > _MOST_PARAMS:
        shown.append(f"and {len(own) - _MOST_PARAMS} more")
    return " ".join(shown) or "–"


def _verdict(request: Mapping[str, Any]) -> str:
    good = request["status"] == 200
    verdict = _badge("OK", "up") if good else _badge(request["status"] or "no answer", "bad")
    fault = " " + _badge(f"fault: {request['fault']}", "down") if request["fault"] else ""
    return f"{verdict}{fault}{_less(_text(request['message']))}"


# What they are made of


def _heading(words: str, count: int) -> str:
    return f'<h3>{words} <span class="count">{count}</span></h3>'


def _table(name: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write a table; nothing if it has no rows. The first cell of each row is its heading."""
    body = "".join(
        f'<tr><th scope="row">{first}</th>'
        + "".join(
            f'<td data-label="{column}"><div>{cell}</div></td>'
            for column, cell in zip(columns[1:], others, strict=True)
        )
        + "</tr>\n"
        for first, *others in rows
    )
    head = "".join(f'<th scope="col">{column}</th>' for column in columns)
    return (
        f'<table class="{name}">\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody>\n</table>'
        if body
        else ""
    )


def _note(count: int, most: int, empty: str) -> str:
    """Return a note that a table is empty or shortened."""
    words = empty if not count else f"The newest {most} of {count}." if count > most else ""
    return f'<p class="note">{words}</p>' if words else ""


def _newest(rows: Sequence[Mapping[str, Any]], most: int) -> list[Mapping[str, Any]]:
    return list(reversed(rows[-most:]))


def _kind(status: str) -> str:
    failed = status.endswith(("_fail", "_failed"))
    return "bad" if failed else _KIND_OF.get(status, "unknown")


def _badge(words: object, kind: str) -> str:
    return f'<span class="badge {kind}">{_text(words)}</span>'


def _code(value: object) -> str:
    return f"<code>{_text(value)}</code>" if value else ""


def _less(content: str) -> str:
    return content and f'<span class="less">{content}</span>'


def _time(moment: str) -> str:
    return f'<time datetime="{_text(moment)}">{_moment(moment):%Y-%m-%d %H:%M:%S}</time>'


def _moment(moment: str) -> datetime:
    return datetime.fromisoformat(moment.replace("Z", "+00:00"))  # Python 3.10 knows no Z


def _left(left: timedelta) -> str:
    """Return the remaining time of a lease."""
    if left <= timedelta():
        return "ended"
    days, rest = divmod(left // timedelta(minutes=1), 24 * 60)
    hours, minutes = divmod(rest, 60)
    parts = [(days, "d"), (hours, "h"), (minutes, "min")]
    while parts and not parts[0][0]:
        del parts[0]
    words = [f"{count} {unit}" for count, unit in parts[:2] if count]
    return " ".join([*words, "left"]) if words else "less than a minute left"


def _text(value: object, longest: int = _LONGEST_TEXT) -> str:
    """Escape a text and shorten it."""
    text = str(value)
    return escape(text if len(text) <= longest else f"{text[:longest]}…")
