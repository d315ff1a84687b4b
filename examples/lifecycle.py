"""
Take three instances through their full life cycle, with libcloud's verbs.

The variable MOS_URL names the endpoint, MOS_ACCESS and MOS_SECRET the account. On the real service
the program costs money: three instances for an hour, and a little more.
"""

import secrets
import sys
import time
from decimal import Decimal

from libcloud.compute.providers import get_driver
from libcloud.compute.types import NodeState
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

import libcloud_mcs  # noqa: F401 - registers "mcs" with libcloud
from libcloud_mcs.errors import MCSError

console = Console(highlight=False)

STATE_COLOURS = {
    NodeState.RUNNING: "green",
    NodeState.STOPPED: "yellow",
    NodeState.PENDING: "cyan",
    NodeState.ERROR: "red",
}


def title(text):
    console.print(f"\n[bold]{text}[/bold]")


def done(text):
    console.print(f"  [green]✓[/green] {text}")


def show(columns, rows):
    table = Table(box=None, padding=(0, 2), header_style="dim")
    for column in columns:
        table.add_column(column)
    for row in rows:
        table.add_row(*map(str, row))
    console.print(table)


def coloured(state):
    colour = STATE_COLOURS.get(state, "magenta")
    return f"[{colour}]{NodeState.tostring(state).lower()}[/{colour}]"


def wait_for(driver, node, state, timeout=300):
    """Poll a node until it is in a state."""
    end = time.monotonic() + timeout
    while (current := driver.ex_get_node_state(node)) is not state:
        if current is NodeState.ERROR or time.monotonic() > end:
            raise SystemExit(f"{node.name}: expected {state}, got {current}")
        time.sleep(0.1)


def wait_with_a_bar(driver, nodes):
    """Poll the new nodes until all run, and show their progress."""
    steps = ["disk", "start_deploy", "deploying", "ready", "start_start", "running"]
    columns = (
        TextColumn("  {task.description:<16}"),
        BarColumn(40),
        TextColumn("{task.fields[status]:<12}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as progress:
        bars = {
            node.id: progress.add_task(node.name, total=len(steps), status="") for node in nodes
        }
        while True:
            nodes = driver.list_nodes(ex_node_ids=bars)
            for node in nodes:
                status = node.extra["status"]
                step = steps.index(status) + 1 if status in steps else 1
                progress.update(bars[node.id], completed=step, status=status)
                if node.state is NodeState.ERROR:
                    raise SystemExit(f"{node.name} failed: {status}")
            if all(node.state is NodeState.RUNNING for node in nodes):
                return nodes
            time.sleep(0.1)


def status(location):
    """Return the status of a zone. The region of an endpoint without zones has none."""
    return location.extra.get("Status") or location.extra.get("status")


def chosen(size, disk):
    """
    Choose the disk and the bandwidth of a node, where its size has none.

    :param disk: The data disk to choose, in GB.
    """
    return {
        "ex_disk_size": None if size.disk else disk,
        "ex_bandwidth": None if size.bandwidth else 2,
    }


class Spending:
    """The cost of each step, from the account's balance before and after it."""

    def __init__(self, driver):
        self.driver = driver
        self.balance = driver.ex_get_balance().amount
        self.steps = []

    def add(self, step):
        balance = self.driver.ex_get_balance().amount
        self.steps.append((step, self.balance - balance, balance))
        self.balance = balance

    @property
    def total(self):
        return sum((amount for _, amount, _ in self.steps), Decimal(0))


def list_offers(driver):
    title("Locations, sizes and images")
    locations = driver.list_locations()
    show(("location", "status"), [(each.name, status(each) or "") for each in locations])
    # First the sizes whose disk is to be chosen, where the endpoint has such sizes.
    sizes = sorted(driver.list_sizes(), key=lambda size: (bool(size.disk), size.ram))
    free = "to be chosen"
    show(
        ("size", "cores", "RAM (MB)", "disk (GB)", "Mbps"),
        [
            (size.name, size.extra["cpu"], size.ram, size.disk or free, size.bandwidth or free)
            for size in sizes
        ],
    )
    images = driver.list_images()
    show(("image", "status"), [(image.name, image.extra["status"]) for image in images])
    console.print(f"  balance: {driver.ex_get_balance().amount:.2f}")
    location = next(each for each in locations if status(each) in (None, "enable"))
    image = next(image for image in images if image.extra["status"] == "active")
    return location, sizes, image


def create_nodes(driver, nodes, key_pair, size, image, location):
    title(f"Three nodes in {location.name}, leased for an hour")
    spending = Spending(driver)
    for number in range(1, 4):
        name = f"{key_pair.name}-{number}"
        nodes.append(
            driver.create_node(
                name=name,
                size=size,
                image=image,
                location=location,
                ex_keyname=key_pair,
                ex_duration="1H",
                **chosen(size, disk=10),
            )
        )
        spending.add(f"create {name}")
    nodes[:] = wait_with_a_bar(driver, nodes)
    return spending


def stop_and_start(driver, node):
    title("Stop, start, reboot")
    node.stop_node()
    wait_for(driver, node, NodeState.STOPPED)
    done("stopped")
    node.start()
    wait_for(driver, node, NodeState.RUNNING)
    done("started")
    node.reboot()
    wait_for(driver, node, NodeState.RUNNING)
    done("rebooted")


def lease(driver, node, spending):
    title("The lease")
    before = driver.ex_get_contract(node)
    driver.ex_renew_node(node, "2H")
    spending.add(f"renew {node.name}")
    after = driver.ex_get_contract(node)
    done(f"ended {before.expire_at:%Y-%m-%d %H:%M} UTC, now {after.expire_at:%Y-%m-%d %H:%M}")


def details(driver, node, key_pair):
    title("Metadata, volumes, interfaces, password")
    driver.ex_set_metadata(node, {"purpose": "demo", "owner": "值班"})
    show(("name", "value"), driver.ex_get_metadata(node).items())
    show(
        ("volume", "size (GB)", "index"),
        [(volume.name, volume.size, volume.extra["index"]) for volume in driver.list_volumes(node)],
    )
    show(
        ("network", "address", "hardware address", "Mbps"),
        [
            (each.network_name, each.ip_address, each.mac_address, each.bandwidth)
            for each in driver.ex_list_network_interfaces(node)
        ],
    )
    data = driver.ex_get_password_data(node, key_pair.private_key)
    done(f"account {data.account}, password decrypted: {len(data.password)} characters")


def change(driver, node, new_size, image, spending):
    title("Another size, a new system disk")
    driver.ex_change_node_size(node, new_size, ex_duration="1H", **chosen(new_size, disk=20))
    spending.add(f"change {node.name} to {new_size.name}")
    wait_for(driver, node, NodeState.RUNNING)
    done(f"{driver.ex_get_node(node).size.name}")
    driver.ex_rebuild_node(node, image)
    wait_for(driver, node, NodeState.RUNNING)
    done(f"rebuilt from {image.name}")


def report(driver, nodes, spending):
    title("The nodes")
    show(
        ("name", "state", "size", "public", "private"),
        [
            (
                node.name,
                coloured(node.state),
                node.size.name,
                ", ".join(node.public_ips),
                ", ".join(node.private_ips),
            )
            for node in driver.list_nodes(ex_node_ids=nodes)
        ],
    )
    title("Costs")
    show(
        ("step", "paid", "balance"),
        [(step, f"{amount:.2f}", f"{left:.2f}") for step, amount, left in spending.steps],
    )
    console.print(f"  [bold]{spending.total:.2f}[/bold] in all")


def clean_up(driver, nodes, key_pair):
    title("Cleaning up")
    left = []
    for node in nodes:
        try:
            node.destroy()
        except MCSError as error:
            console.print(f"  [red]✗[/red] {node.name} was not destroyed: {error}")
            left.append(node)
    while len(driver.list_nodes(ex_node_ids=nodes)) > len(left):
        time.sleep(0.1)
    done(f"{len(nodes) - len(left)} nodes destroyed")
    driver.delete_key_pair(key_pair)
    done("key pair deleted")
    return not left


def main():
    driver = get_driver("mcs").from_environment()
    console.print(f"endpoint: {driver.connection.endpoint.url}")
    location, sizes, image = list_offers(driver)

    title("A key pair")
    key_pair = driver.create_key_pair(f"demo-{secrets.token_hex(3)}")
    done(f"{key_pair.name}: {key_pair.fingerprint}")

    nodes = []
    try:
        spending = create_nodes(driver, nodes, key_pair, sizes[0], image, location)
        node = nodes[0]
        stop_and_start(driver, node)
        lease(driver, node, spending)
        details(driver, node, key_pair)
        change(driver, node, sizes[1], image, spending)
        report(driver, nodes, spending)
    finally:
        # A leased node costs money: none may remain.
        clean = clean_up(driver, nodes, key_pair)
    return 0 if clean else 1


if __name__ == "__main__":
    sys.exit(main())
