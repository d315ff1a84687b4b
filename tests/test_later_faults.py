"""Zones, images and other actions when the endpoint refuses, fails or responds late."""

import json
from collections import Counter
from urllib.parse import parse_qsl

import pytest
from conftest import AT_ONCE
from libcloud.compute.base import NodeLocation

from libcloud_mcs.actions import Kind
from libcloud_mcs.driver import MCSNodeDriver
from libcloud_mcs.emulator import Emulator, cut, drop_after, drop_before, error, html, overload
from libcloud_mcs.errors import (
    InvalidCredentialsError,
    MCSError,
    NotFoundError,
    OutcomeUnknownError,
    RateLimitError,
)

URL = "https://mosapi.meituan.com/mcs/v1"
IMAGE = "d1620e45-c561-42e7-a2a4-53ae0a389bb9"


@pytest.fixture
def cloud():
    """An emulated cloud of 2017 in which nothing takes time."""
    with Emulator(edition=2017, **AT_ONCE) as emulator:
        yield emulator


@pytest.fixture
def driver(cloud, answer_format):
    return cloud.driver(retry_delay=0.001, response_format=answer_format)


@pytest.fixture
def node(driver):
    return driver.create_node("web", "small", IMAGE)


class Endpoint:
    """A mocked endpoint. Each response is a tree, or a status and a body."""

    def __init__(self, mocker):
        self.responses = {}
        self.actions = []
        self.forms = []
        mocker.post(URL, text=self.respond)

    def respond(self, request, context):
        form = dict(parse_qsl(request.text))
        action = form["Action"]
        self.actions.append(action)
        self.forms.append(form)
        response = self.responses[action]
        if callable(response):
            response = response()
        if isinstance(response, tuple):
            context.status_code, body = response
            return body
        return json.dumps({f"{action}Response": response})

    def driver(self, **kwargs):
        return MCSNodeDriver("key", "secret", response_format="json", **kwargs)


@pytest.fixture
def endpoint(requests_mock):
    return Endpoint(requests_mock)


def refused(status=400, code=400):
    document = {"ErrorResponse": {"Error": {"code": code, "message": "no such action"}}}
    return status, json.dumps(document)


def zones(*rows):
    items = [{"availabilityZoneId": each, "availabilityZoneName": name} for each, name in rows]
    return {"AvailabilityZoneSet": {"AvailabilityZone": items}}


def images(*rows):
    items = [{"templateId": each, "templateName": name} for each, name in rows]
    return {"TemplateSet": {"Template": items}}


# Zones


def test_refusal_to_list_zones_is_remembered(endpoint):
    endpoint.responses["DescribeAvailabilityZones"] = refused()
    driver = endpoint.driver()
    (location,) = driver.list_locations()
    assert (location.id, location.name, location.country) == ("Beijing", "Beijing", "CN")
    count = len(endpoint.actions)
    assert driver.list_locations()[0].id == "Beijing"
    with pytest.raises(ValueError, match="^location: expected 'Beijing', the only location"):
        driver.list_sizes(location="Shanghai")
    assert len(endpoint.actions) == count


def test_refusal_without_a_code_is_not_remembered(endpoint):
    endpoint.responses["DescribeAvailabilityZones"] = (404, "<html>not here</html>")
    driver = endpoint.driver()
    assert [each.id for each in driver.list_locations()] == ["Beijing"]
    endpoint.responses["DescribeAvailabilityZones"] = zones(("z-1", "one"))
    assert [each.id for each in driver.list_locations()] == ["z-1"]


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        ((500, "oops"), MCSError),
        ((407, "a proxy's page"), MCSError),
        (refused(401, 401), InvalidCredentialsError),
        (refused(429, 429), RateLimitError),
    ],
)
def test_failure_to_list_zones_is_an_error(endpoint, response, expected):
    endpoint.responses["DescribeAvailabilityZones"] = response
    with pytest.raises(expected) as caught:
        endpoint.driver(max_tries=1).list_locations()
    assert caught.value.action == "DescribeAvailabilityZones"


def test_endpoint_without_any_zone_has_its_region(endpoint):
    endpoint.responses["DescribeAvailabilityZones"] = {"AvailabilityZoneSet": ""}
    assert [each.id for each in endpoint.driver().list_locations()] == ["Beijing"]


def test_zone_without_a_name_is_named_by_its_id(endpoint):
    endpoint.responses["DescribeAvailabilityZones"] = {
        "AvailabilityZoneSet": {"AvailabilityZone": {"availabilityZoneId": "z-1", "status": "up"}}
    }
    (zone,) = endpoint.driver().list_locations()
    assert (zone.id, zone.name, zone.extra["status"]) == ("z-1", "z-1", "up")


ZONES = zones(("z-1", "one"), ("one", "z-2"), ("z-3", "same"), ("z-4", "same"), ("z-5", "Beijing"))


@pytest.mark.parametrize(
    ("location", "sent"),
    [
        ("z-1", "z-1"),
        ("one", "one"),  # an ID goes before a name
        ("z-2", "one"),
        ("Beijing", "z-5"),  # a zone goes before the region
        (NodeLocation("z-3", "any", "CN", None), "z-3"),
        (NodeLocation("Beijing", "Beijing", "CN", None), None),
        (None, None),
    ],
)
def test_zone_is_found_by_object_id_or_name(endpoint, location, sent):
    endpoint.responses["DescribeAvailabilityZones"] = ZONES
    endpoint.responses["DescribeInstances"] = {"InstanceSet": ""}
    driver = endpoint.driver()
    assert driver.list_nodes(ex_location=location) == []
    assert endpoint.forms[-1].get("AvailabilityZoneId") == sent
    assert list(driver.ex_iterate_nodes(ex_location=location)) == []
    assert endpoint.forms[-1].get("AvailabilityZoneId") == sent


@pytest.mark.parametrize("location", ["none", NodeLocation("one-1", "one", "CN", None), "same"])
def test_location_that_is_not_one_zone_is_refused_before_anything_costs(endpoint, location):
    endpoint.responses["DescribeAvailabilityZones"] = ZONES
    driver = endpoint.driver()
    for call in (
        lambda: driver.create_node("web", "small", IMAGE, location=location),
        lambda: driver.list_images(location),
        lambda: driver.list_sizes(location),
    ):
        with pytest.raises(ValueError, match=r"^location: expected .*, got '"):
            call()
    assert set(endpoint.actions) == {"DescribeAvailabilityZones"}


# Images


@pytest.mark.parametrize("effect", [drop_after(), cut(5)])
def test_image_whose_response_is_lost_is_found(cloud, driver, node, effect):
    cloud.inject(effect, on="CreateTemplate")
    assert driver.create_image(node, "saved").extra["status"] == "active"
    assert Counter(record.action for record in cloud.records)["CreateTemplate"] == 1


@pytest.mark.parametrize("effect", [drop_before(), error(500), html(200)])
def test_image_whose_outcome_is_unclear_is_not_requested_again(cloud, driver, node, effect):
    cloud.inject(effect, on="CreateTemplate")
    unclear_image(driver, node)
    assert Counter(record.action for record in cloud.records)["CreateTemplate"] == 1


def unclear_image(driver, node):
    with pytest.raises(OutcomeUnknownError) as caught:
        driver.create_image(node, "saved")
    assert caught.value.find_out == "driver.get_image('saved')"


def test_earlier_image_of_the_same_name_is_not_returned(cloud, driver, node):
    first = driver.create_image(node, "saved")
    second = driver.create_image(node, "saved")
    assert second.id != first.id
    cloud.inject(drop_before(), on="CreateTemplate")
    unclear_image(driver, node)


def test_image_is_awaited_until_it_is_listed(endpoint):
    listed = iter([images(), images(("i-0", "other")), images(("i-0", "other"), ("i-1", "saved"))])
    endpoint.responses["DescribeTemplates"] = lambda: next(listed)
    endpoint.responses["CreateTemplate"] = {"return": "True"}
    assert endpoint.driver(retry_delay=0.001).create_image("i", "saved").id == "i-1"
    assert endpoint.actions.count("CreateTemplate") == 1


def test_image_that_is_not_listed_in_time_was_accepted(endpoint):
    endpoint.responses["DescribeTemplates"] = images()
    endpoint.responses["CreateTemplate"] = {"return": "True"}
    with pytest.raises(MCSError, match="'saved' was accepted, but was not listed") as caught:
        endpoint.driver(retry_delay=0.001, deadline=0.1).create_image("i", "saved")
    assert type(caught.value) is MCSError
    assert (caught.value.retryable, caught.value.action) == (False, "CreateTemplate")


def test_image_was_accepted_although_listing_fails(endpoint):
    listed = iter([images(), (500, "oops"), (500, "oops")])
    endpoint.responses["DescribeTemplates"] = lambda: next(listed)
    endpoint.responses["CreateTemplate"] = {"return": "True"}
    with pytest.raises(MCSError, match="'saved' was accepted, but .*oops") as caught:
        endpoint.driver(retry_delay=0.001, max_tries=2).create_image("i", "saved")
    assert not caught.value.retryable


def test_image_is_not_requested_where_images_cannot_be_listed(endpoint):
    endpoint.responses["DescribeTemplates"] = (500, "oops")
    with pytest.raises(MCSError):
        endpoint.driver(max_tries=1).create_image("i", "saved")
    assert endpoint.actions == ["DescribeTemplates"]


# Nodes


def test_disk_alone_cannot_be_confirmed_after_a_lost_response(cloud, driver):
    node = driver.create_node("web", "C1_M1", IMAGE, ex_disk_size=10)
    cloud.inject(drop_after(), on="ChangeInstanceType")
    with pytest.raises(OutcomeUnknownError):
        driver.ex_change_node_size(node, "C1_M1", ex_disk_size=20)
    assert driver.ex_change_node_size(node, "C2_M4", ex_disk_size=30) is True
    assert [charge.action for charge in cloud.ledger][1:] == ["ChangeInstanceType"] * 2


@pytest.mark.parametrize(
    "response", [{}, {"Instance": ""}, {"Instance": {"instanceName": "web"}}, (200, "")]
)
@pytest.mark.parametrize("is_created", [True, False])
def test_response_without_an_id_buys_nothing_more(endpoint, response, is_created):
    row = {"instanceId": "i-1", "instanceName": "web", "instanceType": "small"}
    lists = iter([[], [row] if is_created else []])
    endpoint.responses["DescribeInstances"] = lambda: {
        "InstanceSet": {"Instance": next(lists, [row] if is_created else [])}
    }
    endpoint.responses["CreateInstance"] = response
    driver = endpoint.driver(retry_delay=0.001)
    if is_created:
        assert driver.create_node("web", "small", IMAGE).id == "i-1"
    else:
        with pytest.raises(OutcomeUnknownError, match="the name is in use") as caught:
            driver.create_node("web", "small", IMAGE)
        assert caught.value.find_out == "driver.list_nodes(ex_names=['web'])"
    assert endpoint.actions.count("CreateInstance") == 1


def test_changed_instance_without_an_id_is_not_taken_for_a_success(endpoint):
    endpoint.responses["ChangeInstanceType"] = {"Instance": ""}
    endpoint.responses["DescribeInstances"] = {"InstanceSet": ""}
    with pytest.raises(OutcomeUnknownError):
        endpoint.driver(retry_delay=0.001).ex_change_node_size("i", "small")


# Other actions


@pytest.mark.parametrize("effect", [drop_before(), drop_after(), error(500), overload()])
@pytest.mark.parametrize("kind", Kind)
def test_other_action_is_retried_by_its_kind(cloud, driver, kind, effect):
    cloud.stub("DescribeThings", {"return": True})
    retried = kind is Kind.READ or (kind is Kind.CHANGE and effect.name == "overload")
    with cloud.inject(effect, on="DescribeThings", times=1):
        if retried:
            assert driver.ex_call("DescribeThings", kind=kind) == {"return": "True"}
        else:
            with pytest.raises(OutcomeUnknownError) as caught:
                driver.ex_call("DescribeThings", {"Name": "secret-of-mine"}, kind=kind)
            failure = caught.value
            assert (failure.action, failure.find_out) == ("DescribeThings", "")
            assert failure.asked == {"Name": "secret-of-mine"}
            assert "secret-of-mine" not in f"{failure} {failure!r}"
    assert len(cloud.records) == 1 + retried


def test_other_action_is_sent_at_most_once_by_default(cloud, driver):
    cloud.stub("BuyThing", {"return": True})
    cloud.inject(error(500), on="BuyThing", times=1)
    with pytest.raises(OutcomeUnknownError):
        driver.ex_call("BuyThing")
    assert len(cloud.records) == 1


@pytest.mark.parametrize("kind", Kind)
def test_action_of_the_table_keeps_its_kind(cloud, driver, node, kind):
    before = len(cloud.ledger)
    with cloud.inject(drop_after(), on="RenewInstance"), pytest.raises(OutcomeUnknownError):
        driver.ex_call("RenewInstance", {"InstanceId": node.id, "Duration": "1H"}, kind=kind)
    assert len(cloud.ledger) == before + 1
    with cloud.inject(error(500), on="GetBalance", times=1):
        assert "balance" in driver.ex_call("GetBalance", kind=kind)


def test_parameters_of_another_action_are_sent_in_their_wire_form(cloud, driver):
    received = []
    cloud.stub("AskThing", lambda params: received.append(params) or {})
    params = {
        "Text": "中文",
        "Whole": 5,
        "Ratio": 1e-7,
        "Big": 1e21,
        "Yes": True,
        "Rule": ["allow any tcp 80", 2, False],
        "Filter.1.Name": "name",
    }
    assert driver.ex_call("AskThing", params) == ""
    assert received == [
        {
            "Text": "中文",
            "Whole": "5",
            "Ratio": "0.0000001",
            "Big": "1000000000000000000000",
            "Yes": "True",
            "Rule.1": "allow any tcp 80",
            "Rule.2": "2",
            "Rule.3": "False",
            "Filter.1.Name": "name",
        }
    ]


def test_response_of_another_action_is_never_quoted(endpoint):
    for response in ((200, '{"Secret": '), (500, "my password"), (400, "my password")):
        endpoint.responses["GetThing"] = response
        with pytest.raises(MCSError) as caught:
            endpoint.driver(max_tries=1).ex_call("GetThing", kind=Kind.READ)
        assert "password" not in str(caught.value)
        assert "Secret" not in str(caught.value)
        assert "not shown" in str(caught.value)


def test_refusal_of_another_action_is_its_error(cloud, driver):
    with pytest.raises(MCSError, match="no action 'DescribeThings'") as caught:
        driver.ex_call("DescribeThings")
    assert (caught.value.action, caught.value.http_code) == ("DescribeThings", 400)
    with pytest.raises(NotFoundError):
        driver.ex_call("GetInstanceMetadata", {"InstanceId": "none"})
