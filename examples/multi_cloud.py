"""
The life of a node with any of libcloud's providers: the same calls for all of them.

    python examples/multi_cloud.py PROVIDER URL REGION

The account is taken from the variables CLOUD_KEY and CLOUD_SECRET.
"""

import argparse
import os
import time
from urllib.parse import urlsplit

from libcloud.compute.providers import get_driver
from libcloud.compute.types import NodeState

import libcloud_mcs  # noqa: F401 - makes "mcs" known to libcloud


def main():
    parser = argparse.ArgumentParser(description="The life of a node with any provider.")
    parser.add_argument("provider", help="libcloud's name for it: ec2, mcs, ...")
    parser.add_argument("url", help="where its endpoint is: http://127.0.0.1:8883")
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
    live(driver)


def live(driver):
    name = f"multi-cloud-{os.getpid()}"
    size = min(driver.list_sizes(), key=lambda size: size.ram)
    image = driver.list_images()[0]
    location = driver.list_locations()[0]
    before = {node.id for node in driver.list_nodes()}

    key_pair = driver.create_key_pair(f"{name}-key")
    names = [each.name for each in driver.list_key_pairs()]
    say("a key pair", key_pair.name in names and "PRIVATE KEY" in key_pair.private_key)

    node = driver.create_node(name=name, size=size, image=image, location=location)
    say("created", node.name == name and node.id not in before)
    try:
        ((node, addresses),) = driver.wait_until_running([node], wait_period=0.5)
        say("running", node.state == NodeState.RUNNING and bool(addresses))
        say("listed", driver_knows(driver, node) and node.driver is driver)
        say("volumes", len(driver.list_volumes(node=node)) > 0)

        say("stopping", node.stop_node())
        wait_for(driver, node, NodeState.STOPPED)
        say("starting", node.start())
        driver.wait_until_running([node], wait_period=0.5)
        say("running", state(driver, node) == NodeState.RUNNING)
    finally:
        say("destroying", node.destroy())
        wait_for(driver, node, NodeState.TERMINATED)
        say("key pair deleted", driver.delete_key_pair(key_pair))
    left = [each for each in driver.list_nodes() if each.state != NodeState.TERMINATED]
    say("as before", {node.id for node in left} == before)


def driver_knows(driver, node):
    return node.id in {each.id for each in driver.list_nodes()}


def state(driver, node):
    """What a node is doing; one that is not listed any more is gone."""
    found = [each.state for each in driver.list_nodes() if each.id == node.id]
    return found[0] if found else NodeState.TERMINATED


def wait_for(driver, node, wanted, seconds=60):
    end = time.monotonic() + seconds
    while state(driver, node) != wanted:
        if time.monotonic() > end:
            raise SystemExit(f"{node.name} is {state(driver, node)}, not {wanted}")
        time.sleep(0.1)
    say(wanted, True)


def say(what, good):
    """Print a step that went well; stop at the first that did not."""
    if good is not True:
        raise SystemExit(f"{what}: failed")
    print(what)


if __name__ == "__main__":
    main()
