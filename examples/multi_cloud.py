"""
Take a node through its full life cycle, with the same calls for any provider of libcloud.

    python examples/multi_cloud.py PROVIDER URL REGION

The variables CLOUD_KEY and CLOUD_SECRET have the account.
"""

import argparse
import os
import time
from urllib.parse import urlsplit

from libcloud.compute.providers import get_driver
from libcloud.compute.types import NodeState

import libcloud_mcs  # noqa: F401 - registers "mcs" with libcloud


def main():
    parser = argparse.ArgumentParser(
        description="Take a node through its life cycle with any provider."
    )
    parser.add_argument("provider", help="a provider's name in libcloud: ec2, mcs, ...")
    parser.add_argument("url", help="the endpoint: http://127.0.0.1:8883")
    parser.add_argument("region", help="us-east-1, Beijing, ...")
    arguments = parser.parse_args()
    url = urlsplit(arguments.url)
    driver = get_driver(arguments.provider)(
        os.environ["CLOUD_KEY"],
        os.environ["CLOUD_SECRET"],
        secure=url.scheme == "https",
        host=url.hostname,
        port=url.port,
        region=arguments.region,
    )
    run_life_cycle(driver)


def run_life_cycle(driver):
    name = f"multi-cloud-{os.getpid()}"
    # Some providers have sizes whose disk and bandwidth are to be chosen, by arguments that differ.
    size = min(driver.list_sizes(), key=lambda size: (size.disk == size.bandwidth == 0, size.ram))
    image = driver.list_images()[0]
    location = driver.list_locations()[0]
    before = {node.id for node in driver.list_nodes()}

    key_pair = driver.create_key_pair(f"{name}-key")
    names = [each.name for each in driver.list_key_pairs()]
    check("a key pair", key_pair.name in names and "PRIVATE KEY" in key_pair.private_key)

    node = driver.create_node(name=name, size=size, image=image, location=location)
    check("created", node.name == name and node.id not in before)
    try:
        ((node, addresses),) = driver.wait_until_running([node], wait_period=0.5)
        check("running", node.state == NodeState.RUNNING and bool(addresses))
        check("listed", is_listed(driver, node) and node.driver is driver)
        check("volumes", len(driver.list_volumes(node=node)) > 0)

        check("stopping", node.stop_node())
        wait_for(driver, node, NodeState.STOPPED)
        check("starting", node.start())
        driver.wait_until_running([node], wait_period=0.5)
        check("running", state(driver, node) == NodeState.RUNNING)
    finally:
        check("destroying", node.destroy())
        wait_for(driver, node, NodeState.TERMINATED)
        check("key pair deleted", driver.delete_key_pair(key_pair))
    left = [each for each in driver.list_nodes() if each.state != NodeState.TERMINATED]
    check("as before", {node.id for node in left} == before)


def is_listed(driver, node):
    return node.id in {each.id for each in driver.list_nodes()}


def state(driver, node):
    """Return the state of a node: terminated if it is no longer listed."""
    found = [each.state for each in driver.list_nodes() if each.id == node.id]
    return found[0] if found else NodeState.TERMINATED


def wait_for(driver, node, wanted, seconds=60):
    end = time.monotonic() + seconds
    while state(driver, node) != wanted:
        if time.monotonic() > end:
            raise SystemExit(f"{node.name}: expected {wanted}, got {state(driver, node)}")
        time.sleep(0.1)
    check(wanted, True)


def check(step, passed):
    """Print a step that passed; exit at the first that failed."""
    if passed is not True:
        raise SystemExit(f"{step}: failed")
    print(step)


if __name__ == "__main__":
    main()
