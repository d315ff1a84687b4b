"""Lists are complete for any paging of the endpoint, and when rows change meanwhile."""

import json
import threading
from urllib.parse import parse_qs

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from requests_mock import Mocker

from libcloud_mcs.driver import MCSNodeDriver
from libcloud_mcs.emulator import Emulator, error
from libcloud_mcs.errors import MCSError

URL = "https://mosapi.meituan.com/mcs/v1"


class Endpoint:
    """
    An endpoint with configurable paging.

    :param count: The number of rows.
    :param cap: The largest number of rows of a page.
    :param total: Whether a response has the total.
    :param pages: Whether it supports ``Limit`` and ``Offset``.
    :param between: A function of rows and page number, called before each later page.
    """

    def __init__(
        self, mocker, count, cap=1000, total=True, pages=True, between=None, concurrency=8
    ):
        self.rows = [f"i{n}" for n in range(count)]
        self.cap, self.total, self.pages, self.between = cap, total, pages, between
        self.requests = []
        mocker.post(URL, text=self.answer)
        self.driver = MCSNodeDriver(
            "key", "secret", response_format="json", concurrency=concurrency
        )

    def answer(self, request, context):
        form = {name: values[0] for name, values in parse_qs(request.text).items()}
        self.requests.append(form)
        if self.between and len(self.requests) > 1:
            self.between(self.rows, len(self.requests) - 1)
        ids = [value for name, value in form.items() if name.startswith("InstanceId.")]
        rows = [row for row in self.rows if not ids or row in ids]
        page = rows
        if self.pages:
            offset = int(form["Offset"])
            page = rows[offset : offset + min(self.cap, int(form.get("Limit", self.cap)))]
        tree = {"Instance": [{"instanceId": row} for row in page]}
        if self.total:
            tree["Total"] = len(rows)
        return json.dumps({"DescribeInstancesResponse": {"InstanceSet": tree}})

    def ids(self, **kwargs):
        return [node.id for node in self.driver.list_nodes(**kwargs)]

    def iterated(self):
        return [node.id for node in self.driver.ex_iterate_nodes()]


@pytest.mark.parametrize("total", [True, False])
@pytest.mark.parametrize("cap", [1, 2, 3, 7, 10, 1000])
@pytest.mark.parametrize("count", [0, 1, 2, 3, 9, 10, 11])
@pytest.mark.parametrize("concurrency", [1, 2, 8])
def test_list_is_complete_for_any_cap_with_and_without_total(
    requests_mock, count, cap, total, concurrency
):
    endpoint = Endpoint(requests_mock, count, cap, total, concurrency=concurrency)
    for look in (endpoint.ids, endpoint.iterated):
        endpoint.requests.clear()
        assert look() == endpoint.rows
        if total and cap > 1 and count:
            # As many requests as there are pages, each but the first with a row of the one before.
            assert len(endpoint.requests) == max(1, -(-(count - 1) // (cap - 1)))


def test_pages_are_fetched_concurrently_and_stay_in_order():
    with Emulator(instances=60, max_limit=5) as cloud:
        threads = threading.active_count()
        # Four requests are in flight before any of them is answered; else this breaks.
        together = threading.Barrier(4, timeout=10)
        names = [f"instance-{number}" for number in range(1, 61)]
        driver = cloud.driver(concurrency=4)
        fetch = driver.connection.fetch
        seen = []

        def record(action, params, read):
            seen.append(params["Offset"])
            if 1 < len(seen) <= 5:
                together.wait()
            return fetch(action, params, read)

        driver.connection.fetch = record
        assert [node.name for node in driver.list_nodes()] == names
        assert threading.active_count() <= threads


def test_concurrent_pages_are_read_by_the_calling_thread():
    with Emulator(instances=60, max_limit=5) as cloud:
        driver = cloud.driver(concurrency=4)
        fetch = driver.connection.fetch
        readers = []

        def record(action, params, read):
            return fetch(
                action,
                params,
                lambda tree: readers.append(threading.current_thread()) or read(tree),
            )

        driver.connection.fetch = record
        assert len(driver.list_nodes()) == 60
        assert set(readers) == {threading.current_thread()}
        assert len(readers) > 10


@pytest.mark.parametrize("response_format", ["xml", "json"])
def test_node_named_as_an_error_document_is_listed(response_format):
    with Emulator(instances=12, max_limit=5) as cloud:
        cloud.account.state.add_running("ErrorResponse")
        driver = cloud.driver(response_format=response_format)
        assert "ErrorResponse" in [node.name for node in driver.list_nodes()]


def test_error_in_one_page_ends_the_pass_and_all_threads():
    with Emulator(instances=60, max_limit=5) as cloud:
        threads = threading.active_count()
        driver = cloud.driver(concurrency=4, max_tries=1)
        fault = cloud.inject(error(400), on="DescribeInstances", nth=4)
        with pytest.raises(MCSError, match="Injected fault"):
            driver.list_nodes()
        assert fault.fired <= 5
        assert threading.active_count() <= threads
        fault.remove()
        assert len(driver.list_nodes()) == 60


def test_short_list_takes_one_request(requests_mock):
    for count in (0, 1, 999):
        endpoint = Endpoint(requests_mock, count)
        assert len(endpoint.ids()) == count
        assert len(endpoint.requests) == 1


def test_page_size_defaults_to_a_thousand(requests_mock):
    endpoint = Endpoint(requests_mock, 25)
    endpoint.ids()
    assert endpoint.requests[0]["Limit"] == "1000"
    endpoint.driver = MCSNodeDriver("key", "secret", response_format="json", page_size=10)
    assert endpoint.ids() == endpoint.rows
    assert [request["Limit"] for request in endpoint.requests[1:]] == ["10"] * 3


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("total", [True, False])
def test_list_is_complete_when_endpoint_ignores_limit(requests_mock, count, total):
    endpoint = Endpoint(requests_mock, count, total=total, pages=False)
    for look in (endpoint.ids, endpoint.iterated):
        endpoint.requests.clear()
        assert look() == endpoint.rows
        assert len(endpoint.requests) <= 3


@pytest.mark.parametrize("count", [1, 2, 10])
def test_list_ends_when_offset_is_ignored_and_rows_differ_each_time(requests_mock, count):
    def renew(rows, number):
        rows[:] = [f"{number}-{n}" for n in range(count)]

    endpoint = Endpoint(requests_mock, count, total=False, pages=False, between=renew)
    for query in (endpoint.ids, endpoint.iterated):
        endpoint.requests.clear()
        assert query()
        assert len(endpoint.requests) < 100


def test_list_is_complete_when_endpoint_refuses_page_size(requests_mock):
    endpoint = Endpoint(requests_mock, 25, cap=10)
    answer = endpoint.answer

    def strict(request, context):
        if "Limit=1000&" in request.text:
            context.status_code = 400
            return '{"ErrorResponse": {"Error": {"code": 400, "message": "Limit: 100 at most"}}}'
        return answer(request, context)

    requests_mock.post(URL, text=strict)
    assert endpoint.ids() == endpoint.rows


def test_list_is_complete_with_wrong_total(requests_mock):
    endpoint = Endpoint(requests_mock, 3)
    answer = endpoint.answer

    def lie(total):
        return lambda request, context: answer(request, context).replace(
            '"Total": 3', f'"Total": {total}'
        )

    for total in ("2", "7", "-1", '"many"', "null", "[]"):
        endpoint.requests.clear()
        requests_mock.post(URL, text=lie(total))
        assert endpoint.ids() == endpoint.rows
        assert len(endpoint.requests) < 15


def some_changes(changes):
    """Change the list before each of the first pages, and not later."""

    def change(rows, page):
        if page <= len(changes):
            comes, where = changes[page - 1]
            if comes:
                rows.insert(where, f"new{page}")
            elif rows:
                del rows[where % len(rows)]

    return change


def once(change):
    """Change the rows once, before the second page."""
    return lambda rows, page: change(rows) if page == 1 else None


CHANGES = {
    "a row before goes": lambda rows: rows.remove("i0"),
    "the last row seen goes": lambda rows: rows.remove("i2"),
    "a row behind goes": lambda rows: rows.remove("i8"),
    "a row comes before": lambda rows: rows.insert(0, "new"),
    "rows come behind": lambda rows: rows.extend(["new", "newer"]),
    "one goes, another comes": lambda rows: (rows.remove("i0"), rows.append("new")),
    "all seen go": lambda rows: rows.__delitem__(slice(0, 3)),
    "nearly all go": lambda rows: rows.__delitem__(slice(1, 9)),
    "all go": lambda rows: rows.clear(),
    "the order changes": lambda rows: rows.reverse(),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("total", [True, False])
@pytest.mark.parametrize("cap", [2, 3, 4])
def test_list_is_right_when_rows_change_between_pages(requests_mock, change, total, cap):
    endpoint = Endpoint(requests_mock, 10, cap, total, between=once(CHANGES[change]))
    throughout = set(endpoint.rows)
    found = endpoint.ids()
    throughout &= set(endpoint.rows)
    assert len(found) == len(set(found))
    assert throughout <= set(found)
    # The second pass saw what there was then.
    assert found == endpoint.rows


@pytest.mark.parametrize("change", [name for name in CHANGES if name != "the order changes"])
@pytest.mark.parametrize("total", [True, False])
@pytest.mark.parametrize("cap", [2, 3, 4])
@pytest.mark.parametrize("concurrency", [1, 8])
def test_iteration_is_right_when_rows_change_between_pages(
    requests_mock, change, total, cap, concurrency
):
    between = once(CHANGES[change])
    endpoint = Endpoint(requests_mock, 10, cap, total, between=between, concurrency=concurrency)
    throughout = list(endpoint.rows)
    threads = threading.active_count()
    found = endpoint.iterated()
    assert threading.active_count() <= threads
    assert len(found) == len(set(found))
    assert [row for row in throughout if row in endpoint.rows] == [
        row for row in found if row in throughout and row in endpoint.rows
    ]
    assert len(endpoint.requests) < 30


@pytest.mark.parametrize("cap", [1, 2, 3, 10])
@pytest.mark.parametrize("concurrency", [1, 8])
def test_iteration_yields_every_node_when_each_is_destroyed(cap, concurrency):
    with Emulator(instances=25, max_limit=cap, terminate_seconds=0) as cloud:
        driver = cloud.driver(concurrency=concurrency)
        destroyed = []
        for node in driver.ex_iterate_nodes():
            driver.destroy_node(node)
            destroyed.append(node.name)
        left = [node.name for node in driver.list_nodes()]
    assert len(destroyed) == len(set(destroyed))
    if cap > 1:
        assert left == []
    else:
        # Pages of one row do not overlap: that rows have gone cannot be seen.
        assert sorted(destroyed + left) == sorted(f"instance-{n}" for n in range(1, 26))


def test_iteration_fetches_pages_only_when_they_are_needed(requests_mock):
    endpoint = Endpoint(requests_mock, 100, cap=5, concurrency=3)
    threads = threading.active_count()
    nodes = endpoint.driver.ex_iterate_nodes()
    assert not endpoint.requests
    assert next(nodes).id == "i0"
    assert len(endpoint.requests) <= 4
    del nodes
    fetched = len(endpoint.requests)
    assert threading.active_count() <= threads
    assert len(endpoint.requests) == fetched
    with pytest.raises(ValueError, match="ex_filters: expected 'name' or 'status', got"):
        endpoint.driver.ex_iterate_nodes(ex_filters={"colour": "red"})


@given(
    count=st.integers(0, 12),
    cap=st.integers(2, 5),
    concurrency=st.sampled_from([1, 3]),
    changes=st.lists(st.tuples(st.booleans(), st.integers(0, 12)), max_size=6),
)
@example(count=6, cap=2, concurrency=3, changes=[(True, 0), (False, 11), (True, 0), (True, 0)])
def test_iteration_loses_no_row_that_was_there_throughout(count, cap, concurrency, changes):
    with Mocker() as mocker:
        between = some_changes(changes)
        endpoint = Endpoint(mocker, count, cap, between=between, concurrency=concurrency)
        throughout = set(endpoint.rows)
        found = endpoint.iterated()
        throughout &= set(endpoint.rows)
    assert len(found) == len(set(found))
    assert throughout <= set(found)


def test_list_ends_when_rows_change_without_end(requests_mock):
    def churn(rows, page):
        rows.insert(0, f"new{page}")
        del rows[5]

    endpoint = Endpoint(requests_mock, 12, cap=4, between=churn)
    found = endpoint.ids()
    assert set(endpoint.rows[5:]) <= set(found)
    assert len(found) == len(set(found))
    assert len(endpoint.requests) < 40


@given(
    count=st.integers(0, 12),
    cap=st.integers(2, 5),
    changes=st.lists(st.tuples(st.booleans(), st.integers(0, 12)), max_size=6),
)
def test_list_loses_no_row_that_was_there_throughout(count, cap, changes):
    with Mocker() as mocker:
        endpoint = Endpoint(mocker, count, cap, between=some_changes(changes))
        throughout = set(endpoint.rows)
        found = endpoint.ids()
        throughout &= set(endpoint.rows)
    assert len(found) == len(set(found))
    if len(changes) <= 2:
        assert throughout <= set(found)


def test_many_ids_and_names_are_split_into_several_requests(requests_mock):
    endpoint = Endpoint(requests_mock, 450)
    wanted = endpoint.rows[::-1][:250]
    found = endpoint.ids(ex_node_ids=wanted)
    assert sorted(found) == sorted(wanted)
    assert len(endpoint.requests) == 3
    assert all(len(request) < 120 for request in endpoint.requests)
    # The same one twice is one.
    assert endpoint.ids(ex_node_ids=["i1"] * 150) == ["i1"]


def test_list_is_complete_with_default_and_maximum_limit_of_emulator():
    for settings in ({"default_limit": 3}, {"max_limit": 3}, {"default_limit": 2, "max_limit": 1}):
        with Emulator(instances=10, **settings) as cloud:
            for response_format in ("xml", "json"):
                driver = cloud.driver(response_format=response_format)
                names = [node.name for node in driver.list_nodes()]
                assert names == [f"instance-{n}" for n in range(1, 11)]
                assert len(driver.list_sizes()) == 5
                assert len(driver.list_nodes(ex_names=names)) == 10
