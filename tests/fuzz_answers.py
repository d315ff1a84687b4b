"""
A coverage-guided fuzzer of the response parser and of the driver's results.

For any bytes, every verb ends, and returns a result or raises an :class:`MCSError`. CI runs the
fuzzer for some seconds (``make fuzz``). By hand::

    python tests/fuzz_answers.py -max_total_time=3600

It needs the package ``atheris``. The verbs use a connection whose responses are the bytes.
"""

import sys
from pathlib import Path

import atheris
import requests

with atheris.instrument_imports(include=["libcloud_mcs"]):
    from libcloud_mcs.actions import Kind
    from libcloud_mcs.driver import MCSNodeDriver
    from libcloud_mcs.errors import MalformedAnswerError, MCSError

FIXTURES = Path(__file__).parent / "fixtures"

driver = MCSNodeDriver("key", "secret", max_tries=1, page_size=2)

VERBS = {
    "DescribeTemplates": driver.list_images,
    "DescribeInstanceTypes": driver.list_sizes,
    "GetBalance": driver.ex_get_balance,
    "DescribeKeyPairs": driver.list_key_pairs,
    "DescribeInstances": driver.list_nodes,
    "DescribeInstanceStatus": lambda: driver.ex_get_node_state("i"),
    "DescribeInstanceVolumes": lambda: driver.list_volumes("i"),
    "DescribeInstanceNetworkInterfaces": lambda: driver.ex_list_network_interfaces("i"),
    "GetPasswordData": lambda: driver.ex_get_password_data("i"),
    "GetInstanceContractInfo": lambda: driver.ex_get_contract("i"),
    "StartInstance": lambda: driver.start_node("i"),
    "GetInstanceMetadata": lambda: driver.ex_get_metadata("i"),
    "DescribeNatGateway": lambda: driver.ex_call("DescribeNatGateway", kind=Kind.READ),
}
NAMES = sorted(VERBS)


class Endpoint:
    """Responds to every request with the same bytes."""

    response = requests.Response()
    response.status_code = 200
    body = b""

    def exchange(self, request, connect_timeout, end):
        return self.response, self.body


driver.connection._open_channel().session.exchange = Endpoint().exchange


def one_input(data):
    if not data:
        return
    name = NAMES[data[0] % len(NAMES)]
    Endpoint.body = data[1:]
    try:
        VERBS[name]()
    except MCSError as error:
        if isinstance(error, MalformedAnswerError):
            assert error.action in VERBS
        assert len(str(error)) < 3000
        repr(error)


def seeds(folder):
    """Write the fixtures, those of the later service too, as the initial corpus."""
    for number, name in enumerate(NAMES):
        for path in FIXTURES.rglob(f"{name}[-.]*"):
            seed = folder / f"{path.parent.name}-{path.name}"
            seed.write_bytes(bytes([number]) + path.read_bytes())


def main():
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        seeds(Path(folder))
        options = ["-max_len=4096", f"-artifact_prefix={folder}/"]
        atheris.Setup([*sys.argv, *options, folder], one_input)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
