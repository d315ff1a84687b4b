"""Whatever tree a stub responds with, ``ex_call`` returns the same from XML and from JSON."""

import string

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from libcloud_mcs.actions import Kind
from libcloud_mcs.driver import MCSNodeDriver
from libcloud_mcs.emulator import Emulator

ACTION = "DescribeThings"

#: Names of XML elements. Sets, and names that mean something elsewhere in the API, are frequent.
NAMES = st.one_of(
    st.sampled_from(["Thing", "ThingSet", "ThingSetSet", "Other", "Set", "Error", "return", "名"]),
    st.text(string.ascii_letters + string.digits + "_.-", max_size=6).map(lambda end: "n" + end),
)
#: All characters that XML can hold.
TEXTS = st.text(
    st.one_of(
        st.sampled_from("\t\n\r <>&'\"]"),
        st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff"),
    ),
    max_size=8,
)
SCALARS = st.one_of(
    TEXTS, st.integers(), st.booleans(), st.floats(allow_nan=False, allow_infinity=False)
)


def records(values):
    items = st.one_of(values, st.lists(values, max_size=3))
    return st.dictionaries(NAMES, items, max_size=4)


#: Trees that XML can hold.
TREES = records(st.recursive(SCALARS, records, max_leaves=12))
#: Trees that a user may write, of which XML can hold some.
WILD_TREES = st.dictionaries(
    st.one_of(NAMES, st.text(max_size=4), st.integers()),
    st.recursive(
        st.one_of(SCALARS, st.text(max_size=4), st.none(), st.floats(), st.binary(max_size=2)),
        lambda inner: st.one_of(
            st.lists(inner, max_size=3),
            st.dictionaries(st.one_of(NAMES, st.text(max_size=4)), inner, max_size=3),
        ),
        max_leaves=8,
    ),
    max_size=3,
)


@pytest.fixture(scope="module")
def cloud():
    with Emulator() as emulator:
        yield emulator


@pytest.fixture(scope="module")
def drivers(cloud):
    return [cloud.driver(response_format=each) for each in ("xml", "json")]


def call(drivers):
    return [driver.ex_call(ACTION, kind=Kind.READ) for driver in drivers]


def refusal(cloud, tree):
    """Stub a tree; return the message of its refusal, or ``""``."""
    try:
        cloud.stub(ACTION, tree)
    except (TypeError, ValueError) as error:
        return str(error)
    return ""


def expected(value, name):
    """Return what ``ex_call`` promises for a value of that name: written from the documentation."""
    thing = name.removesuffix("Set")
    is_set = thing not in ("", name)
    if isinstance(value, list):
        items = [expected(item, name) for item in value]
        if is_set and not items:
            return {thing: []}
        return items[0] if len(items) == 1 else items
    if not isinstance(value, dict):
        return {thing: []} if is_set and not str(value).strip() else str(value)
    # An empty list is not an element in XML, unless it is a whole set.
    tree = {
        key: expected(item, key)
        for key, item in value.items()
        if item != [] or key.removesuffix("Set") not in ("", key)
    }
    if is_set:
        things = tree.get(thing, [])
        tree[thing] = things if isinstance(things, list) else [things]
    return tree or ""


@given(TREES)
@example({"ThingSet": {"Thing": []}})
@example({"ThingSet": {"Thing": [{"id": 1}]}})
@example({"ThingSet": {}})
@example({"ThingSet": ""})
@example({"ThingSet": []})
@example({"record": {"list": []}})
@example({"list": [{"id": 1}]})
def test_a_tree_is_the_same_from_xml_and_json(cloud, drivers, tree):
    cloud.stub(ACTION, tree)
    wanted = expected(tree, "")
    assert call(drivers) == [wanted, wanted]


@given(WILD_TREES)
def test_any_tree_is_refused_or_the_same_from_xml_and_json(cloud, drivers, tree):
    if message := refusal(cloud, tree):
        assert message.startswith("answer")
    else:
        from_xml, from_json = call(drivers)
        assert from_xml == from_json


@pytest.mark.parametrize("empty", ["null", "[]", "{}", '""', '{"Thing": null}', '{"Thing": []}'])
def test_empty_set_in_json_is_a_set_without_things(requests_mock, empty):
    requests_mock.post(
        "https://mosapi.meituan.com/mcs/v1", text=f'{{"{ACTION}Response": {{"ThingSet": {empty}}}}}'
    )
    assert MCSNodeDriver("key", "secret").ex_call(ACTION) == {"ThingSet": {"Thing": []}}
