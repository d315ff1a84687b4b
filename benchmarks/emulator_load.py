"""
Measure the emulator under load.

Many clients with kept-alive connections read and write for a while. The report counts errors, lost
writes, and the growth of memory and open files. Then it compares the CPU time of a request with
that of a bare Tornado server that sends prepared bytes.

    python benchmarks/emulator_load.py --seconds 60 --clients 32
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from datetime import datetime, timezone
from pathlib import Path
from urllib.parse import urlsplit

from libcloud_mcs._signature import canonical_query, sign, string_to_sign

IMAGE = "d1620e45-c561-42e7-a2a4-53ae0a389bb9"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


class Process:
    """A server in a separate process."""

    def __init__(self, *command: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, *command], stdout=subprocess.PIPE, text=True
        )
        self.url = self.process.stdout.readline().split(": ")[1].strip()

    def cpu(self) -> float:
        """Return the CPU time that the process has used, in seconds."""
        # As clock_getcpuclockid() makes it: Linux derives the clock of a process from its ID.
        return time.clock_gettime((~self.process.pid << 3) | 2)

    def memory(self) -> float:
        """Return the memory that the process uses, in MB."""
        pages = Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE") / 1e6

    def files(self) -> int:
        """Return the number of open files."""
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()


class Client:
    """A client that signs requests, and sends them over one kept-alive connection."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.host, self.path = parts.netloc, parts.path
        self.connection = http.client.HTTPConnection(parts.netloc, timeout=60)

    def body(self, action: str, **params: str) -> str:
        form = {
            "Action": action,
            "AWSAccessKeyId": "me",
            "Timestamp": datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.000Z"),
            "SignatureVersion": "2",
            "SignatureMethod": "HmacSHA256",
            "Format": "json",
        } | {name.replace("_", "."): value for name, value in params.items()}
        query = canonical_query(form)
        text = string_to_sign(method="POST", host=self.host, path=self.path, query=query)
        signature = sign(secret="mine", text=text, signature_method="HmacSHA256")
        return f"{query}&{canonical_query({'Signature': signature})}"

    def send(self, body: str) -> bytes:
        self.connection.request("POST", self.path, body, FORM)
        response = self.connection.getresponse()
        data = response.read()
        if response.status != 200:
            raise RuntimeError(f"HTTP {response.status}: {data[:200]!r}")
        return data

    def ask(self, action: str, **params: str) -> dict:
        return json.loads(self.send(self.body(action, **params)))[f"{action}Response"]


def emulator(*arguments: str) -> Process:
    account = ("--access-key", "me", "--secret", "mine", "--balance", "1000000")
    return Process("-m", "libcloud_mcs.emulator", "--port", "0", *account, *arguments)


def bare(body: bytes) -> Process:
    with tempfile.NamedTemporaryFile(suffix=".json", delete=False) as file:
        file.write(body)
    try:
        return Process(__file__, "--bare", file.name)
    finally:
        os.unlink(file.name)


def serve_bare(body: bytes) -> None:
    """Answer every request with prepared bytes, with the library that the emulator uses."""
    from tornado.httpserver import HTTPServer
    from tornado.httputil import HTTPHeaders, ResponseStartLine
    from tornado.netutil import bind_sockets

    def respond(request: object) -> None:
        headers = HTTPHeaders(
            {"Content-Type": "application/json", "Content-Length": str(len(body))}
        )
        request.connection.write_headers(ResponseStartLine("HTTP/1.1", 200, "OK"), headers, body)
        request.connection.finish()

    async def main() -> None:
        sockets = bind_sockets(0, "127.0.0.1")
        HTTPServer(respond).add_sockets(sockets)
        print(f"bare: http://127.0.0.1:{sockets[0].getsockname()[1]}/", flush=True)
        await asyncio.Event().wait()

    asyncio.run(main())


def load(server: Process, clients: int, seconds: float, prefix: str) -> tuple[Counter, set[str]]:
    """Read and write with many clients; return the counts, and the names that must exist."""
    counts: Counter = Counter()
    kept: set[str] = set()
    end = time.monotonic() + seconds

    def one(number: int) -> None:
        client = Client(server.url)
        names: list[str] = []
        step = 0
        while time.monotonic() < end:
            step += 1
            try:
                if step % 10 == 1:
                    name = f"{prefix}{number}-{step}"
                    client.ask(
                        "CreateInstance",
                        ImageId=IMAGE,
                        InstanceType="small",
                        InstanceName=name,
                        Duration="1H",
                    )
                    names.append(name)
                elif step % 10 == 5:
                    client.ask("PutInstanceMetadata", InstanceId=names[-1], Name_1="a", Value_1="b")
                elif step % 10 == 9 and len(names) > 5:
                    client.ask("TerminateInstance", InstanceId=names.pop(0))
                else:
                    client.ask("DescribeInstances", Limit="10")
                counts["requests"] += 1
            except Exception as error:
                counts[f"error: {error!r}"[:200]] += 1
                client = Client(server.url)
        kept.update(names)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return counts, kept


def under_load(clients: int, seconds: float) -> bool:
    """Load the emulator, and print the results; return whether there was no error."""
    server = emulator("--terminate-seconds", "0")
    try:
        load(server, clients, seconds / 10, "warm")
        memory, files, cpu = server.memory(), server.files(), server.cpu()
        client = Client(server.url)
        before = client.ask("DescribeInstances", Limit="0")["InstanceSet"]["Total"]
        counts, kept = load(server, clients, seconds, "c")
        cpu = server.cpu() - cpu
        rows = client.ask("DescribeInstances")["InstanceSet"]["Instance"]
        names = {row["instanceName"] for row in rows}
        errors = {label: count for label, count in counts.items() if label != "requests"}
        print(f"{clients} clients, {seconds:.0f} s: {counts['requests']} requests")
        each = cpu / counts["requests"] * 1e6
        print(f"  {counts['requests'] / seconds:.0f} a second, {each:.0f} us of CPU each")
        print(f"  errors: {sum(errors.values())}", *list(errors)[:3])
        print(f"  writes lost: {len(kept - names)} of {len(kept)}")
        print(f"  memory: {memory:.0f} MB before, {server.memory():.0f} MB after,", end="")
        print(f" {before} and {len(rows)} instances")
        print(f"  open files: {files} before, {server.files()} after")
        return not errors and not kept - names
    finally:
        server.stop()


def cost(server: Process, bodies: list[str], count: int) -> float:
    """Return the CPU time of one request, in seconds."""
    client = Client(server.url)
    before = server.cpu()
    for number in range(count):
        client.send(bodies[number % len(bodies)])
    return (server.cpu() - before) / count


def emulator_bare(quick: bool) -> list[list[str]]:
    """Return a table of the cost of requests, and of a bare server that sends the same bytes."""
    rounds, count = (1, 50) if quick else (7, 500)
    rows = [["request", "CPU, ms", "a bare server, ms", "ratio"]]
    server = emulator("--instances", "10000")
    try:
        client = Client(server.url)
        for label, params in (
            ("`GetBalance`", {}),
            ("a page of 100 of 10,000 instances", {"Limit": "100"}),
            ("a page of 1,000 of 10,000 instances", {"Limit": "1000"}),
        ):
            action = "DescribeInstances" if params else "GetBalance"
            step = int(params.get("Limit", "0"))
            bodies = [
                client.body(action, **params, **({"Offset": str(offset)} if params else {}))
                for offset in (range(0, 10_000, step) if step else [0])
            ]
            peer = bare(client.send(bodies[0]))
            try:
                cost(server, bodies, len(bodies))  # the first time, each instance is written
                ours, theirs = zip(
                    *(
                        (cost(server, bodies, count), cost(peer, bodies, count))
                        for _ in range(rounds)
                    ),
                    strict=True,
                )
            finally:
                peer.stop()
            least = min(ours), min(theirs)
            figures = [f"{each * 1e3:.2f}" for each in least]
            rows.append([label, *figures, f"{least[0] / least[1]:.1f}"])
    finally:
        server.stop()
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.strip().partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--bare", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.bare is not None:
        serve_bare(Path(arguments.bare).read_bytes())
        return 0
    passed = under_load(arguments.clients, arguments.seconds)
    for row in emulator_bare(quick=False):
        print(*row, sep=" | ")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
