"""
Compare the driver and the emulator with floors and with their peers.

    python benchmarks/bench.py [--quick] [--save]

Each contender runs in its own process and does the same work. They run alternately. ``--quick``
checks in a minute that everything works; its figures are rough.
``--save`` writes the tables into ``docs/performance.md`` and draws the chart beside it.
"""

from __future__ import annotations

import argparse
import compileall
import gc
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import urllib3
from contenders import CONTENDERS, KEY, SECRET
from emulator_load import emulator_bare
from emulator_peer import emulator_peer
from endpoint import instance_id

HERE = Path(__file__).parent
DOCUMENT = HERE.parent / "docs" / "performance.md"
CHART = HERE.parent / "docs" / "performance.svg"
Rows = list[list[str]]


# Worker processes


def work(name: str, url: str, page_size: int, concurrency: int) -> None:
    """Run a contender: read tasks from standard input, and print the cost of each."""
    lister = CONTENDERS[name].make(url, page_size, concurrency)
    for line in sys.stdin:
        gc.collect()
        peak = _reset_peak()
        cpu, wall = time.process_time(), time.perf_counter()
        what, times = line.split()
        for _ in range(int(times)):
            found = lister() if what == "list" else lister([what])
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        count, peak = len(found), _peak() - peak
        del found
        print(json.dumps({"cpu": cpu, "wall": wall, "count": count, "peak": peak}), flush=True)


def iterate(url: str) -> None:
    """Iterate over a fleet with ``ex_iterate_nodes()``, and print the memory used."""
    from libcloud_mcs import MCSNodeDriver

    driver = MCSNodeDriver(KEY, SECRET, url=url)
    gc.collect()
    before = _reset_peak()
    count = sum(1 for _ in driver.ex_iterate_nodes())
    print(json.dumps({"count": count, "peak": _peak() - before}), flush=True)


def _reset_peak() -> int:
    Path("/proc/self/clear_refs").write_text("5")
    return _peak()


def _peak() -> int:
    """Return the peak memory of this process since the last reset, in kB."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])


class Worker:
    """A contender in a separate process."""

    def __init__(self, name: str, url: str, page_size: int, concurrency: int, **environment: str):
        arguments = ["--worker", name, url, str(page_size), str(concurrency)]
        self.process = subprocess.Popen(
            [sys.executable, __file__, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | environment,
        )

    def do(self, what: str, times: int = 1) -> dict[str, float]:
        """Run a task, and return its cost."""
        self.process.stdin.write(f"{what} {times}\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


@contextmanager
def endpoint(api: str, nodes: int, cap: int, delay: float = 0, polls: int = 0) -> Iterator[str]:
    """Run a server of prepared responses, and yield its URL."""
    options = ["--nodes", nodes, "--cap", cap, "--delay", delay, "--polls", polls]
    process = subprocess.Popen(
        [sys.executable, str(HERE / "endpoint.py"), api, *map(str, options)],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process.stdout.readline().split(": ")[1].strip()
    finally:
        process.kill()
        process.wait()


def compare(
    names: Sequence[str],
    nodes: int,
    cap: int,
    rounds: int,
    *,
    processes: int = 1,
    delay: float = 0,
    concurrency: int = 1,
    task: Callable[[str], tuple[str, int]] = lambda _: ("list", 1),
) -> dict[str, dict[str, float]]:
    """
    Run the same task in each contender, alternately; return their costs.

    The CPU time is the least of the rounds: whatever else uses the machine only adds to it. The
    wall time is the median. Memory is that of the first round, since it grows only there.
    """
    taken: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    peaks: dict[str, float] = {}
    with ExitStack() as stack:
        urls: dict[str, str] = {}
        for api in dict.fromkeys(CONTENDERS[name].api for name in names):
            urls[api] = stack.enter_context(endpoint(api, nodes, cap, delay))
        for _ in range(processes):
            workers = {
                name: Worker(name, urls[CONTENDERS[name].api], cap, concurrency) for name in names
            }
            for worker in workers.values():
                stack.callback(worker.process.kill)
            for number in range(rounds + 1):
                for name, worker in workers.items():
                    argument, times = task(CONTENDERS[name].api)
                    result = worker.do(argument, times)
                    expected = nodes if argument == "list" else 1
                    if result["count"] != expected:
                        raise RuntimeError(
                            f"{name}: expected {expected} nodes, got {result['count']}"
                        )
                    if number:  # the first round warms up
                        taken[name].append({key: each / times for key, each in result.items()})
                    else:
                        peaks.setdefault(name, result["peak"])
            for worker in workers.values():
                worker.process.kill()
    return {
        name: {
            "cpu": min(each["cpu"] for each in results),
            "wall": statistics.median(each["wall"] for each in results),
            "peak": peaks[name],
        }
        for name, results in taken.items()
    }


# The tables


def lists(quick: bool) -> tuple[Rows, dict[str, float]]:
    """Measure the CPU time of listing a fleet."""
    nodes, rounds, processes = (500, 1, 1) if quick else (10_000, 7, 3)
    slow = [name for name in CONTENDERS if name.startswith(("ec2", "boto3"))]
    fast = [name for name in CONTENDERS if name not in slow]
    mcs = [name for name in CONTENDERS if name.startswith(("floor", "leaner", "ours"))]
    large = compare(fast, nodes, 1000, rounds, processes=processes)
    large |= compare(slow, nodes, 1000, processes)
    small = compare(mcs, nodes, 100, rounds, processes=processes)
    rows = [
        [
            "contender",
            "CPU, ms",
            "to the XML floor",
            "to CloudStack",
            "to its floor",
            "leaner",
            "pages of 100",
            "leaner",
        ]
    ]
    for name, contender in CONTENDERS.items():
        cpu = large[name]["cpu"]
        cells = [f"{cpu * 1e3:.0f}"]
        cells += [f"{cpu / large[other]['cpu']:.2f}" for other in ("floor-xml", "cloudstack")]
        for taken in (large, small):
            for floor in ("floor", "leaner"):
                own = f"{floor}-{name.rpartition('-')[2]}"
                ratio = f"{taken[name]['cpu'] / taken[own]['cpu']:.2f}" if name in mcs else ""
                cells.append(ratio)
        rows.append([contender.label, *cells])
    unit = large["floor-xml"]["cpu"]
    return rows, {CONTENDERS[name].label: each["cpu"] / unit for name, each in large.items()}


def latency(quick: bool) -> Rows:
    """Measure the wall time of listing a fleet when each response takes 50 ms."""
    nodes = 500 if quick else 10_000
    rows = [["contender", "concurrent pages", "seconds", "to its floor", "leaner"]]
    for concurrency, rounds in ((1, 1), (16, 1 if quick else 9)):
        mcs = [f"{name}-{form}" for form in ("xml", "json") for name in ("floor", "leaner", "ours")]
        peers = ["usual", "nova", "ecs", "boto3"] if concurrency == 1 else []
        taken = compare([*mcs, *peers], nodes, 100, rounds, delay=0.05, concurrency=concurrency)
        for name in taken:
            form = "json" if name.endswith("json") else "xml"
            wall = taken[name]["wall"]
            ratios = [
                f"{wall / taken[f'{floor}-{form}']['wall']:.2f}" for floor in ("floor", "leaner")
            ]
            rows.append([CONTENDERS[name].label, str(concurrency), f"{wall:.2f}", *ratios])
    return rows


def one_call(quick: bool) -> Rows:
    """Measure one small call: getting one node."""
    names = ["floor-xml", "ours-xml", "ours-json", "boto3", "ec2"]

    def task(api: str) -> tuple[str, int]:
        return ("i-" + f"{5:017x}" if api == "ec2" else instance_id(5)), 20 if quick else 200

    taken = compare(names, 100, 1000, 1 if quick else 9, task=task)
    ours = taken["ours-xml"]["cpu"]
    rows = [["contender", "CPU, ms", "ratio of libcloud-mcs, XML"]]
    for name in names:
        cpu = taken[name]["cpu"]
        rows.append([CONTENDERS[name].label, f"{cpu * 1e3:.2f}", f"{ours / cpu:.2f}"])
    return rows


def starting(quick: bool) -> Rows:
    """Measure making a driver, and its first call, which makes its pool of connections."""
    from libcloud_mcs import MCSNodeDriver

    make = partial(MCSNodeDriver, KEY, SECRET)
    rows = [["statement", "CPU, ms"]]
    with endpoint("mcs", 100, 1000) as url:
        used = make(url=url)
        statements: dict[str, Callable[[], object]] = {
            "MCSNodeDriver(key, secret, url='http://…')": lambda: make(url=url),
            "MCSNodeDriver(key, secret)": make,
            "a driver and its first call": lambda: make(url=url).list_nodes(
                ex_node_ids=[instance_id(5)]
            ),
            "a later call": lambda: used.list_nodes(ex_node_ids=[instance_id(5)]),
        }
        taken: dict[str, list[float]] = {label: [] for label in statements}
        for _ in range(2 if quick else 10):
            for label, statement in statements.items():
                cpu = time.process_time()
                for _ in range(20):
                    statement()
                taken[label].append((time.process_time() - cpu) / 20)
    # The first round warms up.
    return rows + [[label, f"{min(times[1:]) * 1e3:.2f}"] for label, times in taken.items()]


def growth(quick: bool) -> Rows:
    """Measure CPU time and memory for fleets of several sizes."""
    sizes = (100, 1000) if quick else (100, 1000, 10_000, 100_000)
    names = ["floor-json", "ours-json", "floor-xml", "ours-xml", "cloudstack", "ec2"]
    rows = [["nodes", *(f"{CONTENDERS[name].label}" for name in names), "ex_iterate_nodes()"]]
    for nodes in sizes:
        taken = compare(names, nodes, 1000, 1 if quick or nodes > 10_000 else 3)
        cells = [
            f"{each['cpu'] / nodes * 1e6:.1f} µs, {each['peak'] / 1e3:.1f} MB"
            for each in taken.values()
        ]
        with endpoint("mcs", nodes, 1000) as url:
            command = [sys.executable, __file__, "--iterate", url]
            result = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
        if result["count"] != nodes:
            raise RuntimeError(f"ex_iterate_nodes(): expected {nodes} nodes, got {result['count']}")
        rows.append([f"{nodes:,}", *cells, f"{result['peak'] / 1e3:.1f} MB"])
    return rows


def waiting(quick: bool) -> Rows:
    """Count the requests and bytes of waiting for one node of a fleet."""
    from libcloud.compute.base import Node, NodeDriver

    from libcloud_mcs import MCSNodeDriver

    nodes = 500 if quick else 10_000
    rows = [["contender", "requests", "bytes of responses"]]
    for label, wait in (
        ("libcloud's own wait_until_running()", NodeDriver.wait_until_running),
        ("libcloud-mcs", MCSNodeDriver.wait_until_running),
    ):
        with endpoint("mcs", nodes, 1000, polls=12) as url:
            driver = MCSNodeDriver(KEY, SECRET, url=url)
            node = Node(instance_id(nodes // 2), "web", None, [], [], driver)
            ((found, addresses),) = wait(driver, [node], wait_period=0.01)
            if found.id != node.id or not addresses:
                raise RuntimeError(f"{label}: expected {node} with an address, got {found}")
            counted = urllib3.request("GET", f"{url}count").json()
            rows.append([label, str(counted["requests"]), f"{counted['bytes']:,}"])
    return rows


def signing(quick: bool) -> Rows:
    """Compare signing with botocore's."""
    from botocore.auth import SigV2Auth
    from botocore.credentials import Credentials

    from libcloud_mcs._signature import canonical_query, sign, string_to_sign

    class Request:
        method, url = "POST", "http://localhost/mcs/v1"

    theirs = SigV2Auth(Credentials(KEY, SECRET))

    def by_botocore(params: dict[str, str]) -> str:
        return theirs.calc_signature(Request, params)[1]

    def by_us(params: dict[str, str]) -> str:
        query = canonical_query(params)
        text = string_to_sign(method="POST", host="localhost", path="/mcs/v1", query=query)
        return sign(secret=SECRET, text=text, signature_method="HmacSHA256")

    rows = [["parameters", "botocore, µs", "libcloud-mcs, µs", "speed-up"]]
    for count in (8, 20, 100):
        params = {
            "Action": "DescribeInstances",
            "AWSAccessKeyId": KEY,
            "Timestamp": "2026-11-24T00:00:00.000Z",
            "SignatureVersion": "2",
            "SignatureMethod": "HmacSHA256",
            "Format": "xml",
            "Limit": "1000",
            "Offset": "0",
        } | {f"InstanceId.{n}": instance_id(n) for n in range(1, count - 7)}
        if by_botocore(params) != by_us(params):
            raise RuntimeError("the two signatures differ")
        calls = 50 if quick else 1000
        taken: tuple[list[float], list[float]] = ([], [])
        for _ in range(9):
            for function, times in zip((by_botocore, by_us), taken, strict=True):
                start = time.process_time()
                for _ in range(calls):
                    function(params)
                times.append((time.process_time() - start) / calls * 1e6)
        peer, own = map(min, taken)
        rows.append([str(count), f"{peer:.1f}", f"{own:.1f}", f"{peer / own:.2f}"])
    return rows


def importing(quick: bool) -> Rows:
    """Measure imports, in separate processes."""
    get = "from libcloud.compute.providers import get_driver; get_driver"
    commands = {
        'get_driver("ec2")': f"{get}('ec2')",
        'import libcloud_mcs; get_driver("mcs")': f"import libcloud_mcs; {get}('mcs')",
    }
    # As pip does.
    compileall.compile_dir(HERE.parent / "libcloud_mcs", quiet=1)
    taken: dict[str, list[float]] = {label: [] for label in commands}
    for _ in range(2 if quick else 21):
        for label, command in commands.items():
            before = os.times()
            subprocess.run([sys.executable, "-c", command], check=True)
            after = os.times()
            taken[label].append(
                after.children_user
                - before.children_user
                + after.children_system
                - before.children_system
            )
    rows = [["statement", "CPU, ms"]]
    return rows + [[label, f"{min(times) * 1e3:.0f}"] for label, times in taken.items()]


def creation_requests(_: bool) -> Rows:
    """Count the requests of creating a node on the emulator."""
    from libcloud_mcs.emulator import Emulator

    rows = [["size and image", "requests"]]
    with Emulator() as cloud:
        driver = cloud.driver()
        size, image = driver.list_sizes()[0], driver.list_images()[0]
        for label, arguments in {
            "objects of lists": (size, image),
            "IDs": (size.id, image.id),
            "names": (size.name, image.name),
        }.items():
            before = len(cloud.records)
            driver.create_node(f"web-{before}", *arguments)
            rows.append([label, str(len(cloud.records) - before)])
    return rows


def creating(quick: bool) -> Rows:
    """Measure the creation of nodes on the emulator by several threads with one driver."""
    from libcloud_mcs.emulator import Emulator

    count = 20 if quick else 100
    rows = [["threads", f"seconds for {count} nodes"]]
    for threads in (1, 16):
        with Emulator(balance=1_000_000) as cloud:
            cloud.inject(_slow(), on="*")
            driver = cloud.driver()
            create = partial(
                driver.create_node, size=driver.list_sizes()[0], image=driver.list_images()[0]
            )
            start = time.perf_counter()
            with ThreadPoolExecutor(threads) as pool:
                names = [f"web-{n}" for n in range(count)]
                created = list(pool.map(create, names))
            wall = time.perf_counter() - start
            if len({node.id for node in created}) != count or len(cloud.ledger) != count:
                raise RuntimeError("not every node was created once")
            rows.append([str(threads), f"{wall:.2f}"])
    return rows


def _slow() -> Any:
    from libcloud_mcs.emulator import delay

    return delay(0.05)


def encodings(quick: bool) -> Rows:
    """Measure the influence of the libraries that guess encodings."""
    nodes, rounds = (500, 1) if quick else (10_000, 5)
    rows = [["installed", "CPU, ms"]]
    with ExitStack() as stack:
        url = stack.enter_context(endpoint("mcs", nodes, 1000))
        workers: dict[str, Worker] = {}
        for package in ("charset_normalizer", "chardet<6", "chardet>=7"):
            folder = HERE.parent / "build" / re.sub("[^a-z0-9]", "-", package)
            if not folder.exists():
                pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target"]
                subprocess.run([*pip, str(folder), package], check=True, stderr=subprocess.DEVNULL)
            workers[package] = Worker("ours-xml", url, 1000, 1, PYTHONPATH=str(folder))
            stack.callback(workers[package].process.kill)
        taken: dict[str, list[float]] = {package: [] for package in workers}
        for _ in range(rounds):
            for package, worker in workers.items():
                taken[package].append(worker.do("list")["cpu"])
    return rows + [[package, f"{min(times) * 1e3:.0f}"] for package, times in taken.items()]


# Output


def markdown(rows: Rows) -> str:
    """Return a table in Markdown."""
    head, *body = rows
    lines = [head, ["---"] * len(head), *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def save(tables: dict[str, str], ratios: dict[str, float]) -> None:
    """Write the tables into the document, and draw the chart beside it."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "libcloud-mcs"
    from matplotlib import pyplot

    text = DOCUMENT.read_text(encoding="utf-8")
    for name, table in tables.items():
        pattern = re.compile(rf"(<!-- {name} -->\n).*?(\n<!-- /{name} -->)", re.DOTALL)
        text, found = pattern.subn(lambda match, new=table: match[1] + new + match[2], text)
        if found != 1:
            raise RuntimeError(f"{DOCUMENT.name}: expected one table {name!r}, got {found}")
    DOCUMENT.write_text(text, encoding="utf-8")

    figure, axes = pyplot.subplots(figsize=(9, 4.5), layout="constrained")
    labels = list(ratios)[::-1]
    colours = ["#1b6ca8" if "mcs" in label else "#b0b7bd" for label in labels]
    bars = axes.barh(labels, [ratios[label] for label in labels], color=colours)
    axes.bar_label(bars, fmt=" %.2g")
    axes.set_xscale("log")
    axes.set_xlabel("CPU time for listing 10,000 nodes, as a ratio to the XML floor (log scale)")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(CHART, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.strip().partition("\n")[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--save", action="store_true")
    parser.add_argument("--worker", nargs=4, help=argparse.SUPPRESS)
    parser.add_argument("--iterate", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        name, url, page_size, concurrency = arguments.worker
        work(name, url, int(page_size), int(concurrency))
        return
    if arguments.iterate:
        iterate(arguments.iterate)
        return

    tables: dict[str, str] = {}
    rows, ratios = lists(arguments.quick)
    print("lists", markdown(rows), sep="\n", flush=True)
    tables["lists"] = markdown(rows)
    for measure in (
        latency,
        one_call,
        starting,
        growth,
        waiting,
        signing,
        importing,
        creation_requests,
        creating,
        encodings,
        emulator_bare,
        emulator_peer,
    ):
        name = measure.__name__
        tables[name] = markdown(measure(arguments.quick))
        print(f"\n{name}", tables[name], sep="\n", flush=True)
    tables["machine"] = (
        f"Python {platform.python_version()}, {os.cpu_count()} cores, {platform.machine()}."
    )
    if arguments.save:
        save(tables, ratios)


if __name__ == "__main__":
    main()
