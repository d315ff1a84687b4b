"""The web page: its content, and how a browser shows it."""

import copy
import os
import shutil
from datetime import timedelta

import pytest
from conftest import START
from lxml import html
from plain_client import Client
from selenium import webdriver
from selenium.webdriver.support.ui import WebDriverWait

from libcloud_mcs._convert import NODE_STATES
from libcloud_mcs.emulator import Emulator
from libcloud_mcs.emulator._page import render_page

HOSTILE = "</td></table><script>document.title='had'</script><img src=x onerror=\"x='\">&amp;"


# What it says


def an_instance(number=1, **changes):
    return {
        "id": f"instance-id-{number}",
        "name": f"instance-{number}",
        "status": "running",
        "type": "small",
        "template": "cirros-0.3.0-x86_64.qcow2",
        "addresses": ["198.18.0.1", "10.168.0.1"],
        "created_at": "2026-01-31T11:00:00Z",
        "started_at": "2026-01-31T11:00:00Z",
        "expire_at": "2026-02-02T15:00:00Z",
        "extend_to": "2026-02-03T15:00:00Z",
    } | changes


def a_charge(number=1, **changes):
    return {
        "at": "2026-01-31T11:00:00Z",
        "action": "CreateInstance",
        "instance_id": "instance-id-1",
        "amount": "8.64",
        "balance": f"{number}.36",
    } | changes


def a_request(**changes):
    return {
        "at": "2026-01-31T11:59:00Z",
        "access_key": "key",
        "action": "DescribeInstances",
        "params": {},
        "status": 200,
        "message": "",
        "fault": "",
    } | changes


def an_account(**changes):
    account = {"access_key": "key", "balance": "9.36"}
    return account | {"instances": [], "key_pairs": [], "ledger": []} | changes


def a_snapshot(*accounts, **changes):
    return {
        "url": "http://127.0.0.1:8883/mcs/v1",
        "edition": 2013,
        "now": "2026-01-31T12:00:00Z",
        "frozen": False,
        "accounts": list(accounts) or [an_account()],
        "requests": [],
        "faults": [],
        "stubs": [],
    } | changes


FULL = a_snapshot(
    an_account(
        instances=[an_instance()],
        key_pairs=[{"id": "pair-id", "name": "laptop", "fingerprint": "9f:3c"}],
        ledger=[a_charge()],
    ),
    requests=[a_request(params={"Limit": "10"}, message="why", fault="delay")],
    faults=[{"action": "GetBalance", "effect": "drop_after", "fired": 2}],
    stubs=["DescribeAddresses"],
)


def page(snapshot):
    return html.document_fromstring(render_page(snapshot))


def words(element):
    return " ".join(" ".join(element.itertext()).split())


def table(document, name):
    """Return the texts of the cells, row by row."""
    rows = document.xpath(f"//table[@class='{name}']/tbody/tr")
    return [[words(cell) for cell in row] for row in rows]


def notes(document):
    return [words(note) for note in document.xpath("//p[@class='note']")]


def test_page_has_everything_in_the_snapshot():
    document = page(FULL)
    assert document.get("lang") == "en"
    assert words(document.find(".//title")) == "MCS emulator"
    assert words(document.get_element_by_id("endpoint")) == "http://127.0.0.1:8883/mcs/v1"
    assert words(document.get_element_by_id("clock")) == "2026-01-31 12:00:00"
    assert "Account key Balance 9.36" in words(document.get_element_by_id("account-1"))
    assert table(document, "instances") == [
        [
            "instance-1 instance-id-1",
            "running",
            "small cirros-0.3.0-x86_64.qcow2",
            "198.18.0.1 10.168.0.1",
            "2 d 3 h left until 2026-02-02 15:00:00",
            "2026-01-31 11:00:00",
        ]
    ]
    assert table(document, "key-pairs") == [["laptop", "9f:3c", "pair-id"]]
    assert table(document, "ledger") == [
        ["2026-01-31 11:00:00", "CreateInstance", "instance-1 instance-id-1", "8.64", "1.36"]
    ]
    assert table(document, "requests") == [
        ["2026-01-31 11:59:00", "DescribeInstances key", "Limit=10", "OK fault: delay why"]
    ]
    assert table(document, "faults") == [["GetBalance", "drop_after", "2"]]
    assert table(document, "stubs") == [["DescribeAddresses"]]
    assert notes(document) == []


def test_page_of_empty_cloud_says_that_lists_are_empty():
    document = page(a_snapshot())
    assert document.xpath("//table") == []
    assert [note.partition(".")[0] for note in notes(document)] == [
        "No instances yet",
        "No key pairs yet",
        "Nothing was charged yet",
        "No requests yet",
    ]
    assert document.xpath("//section/@id") == ["account-1", "recent-requests"]


def test_page_marks_frozen_clock():
    clock = page(a_snapshot(frozen=True)).get_element_by_id("clock")
    assert words(clock) == "2026-01-31 12:00:00 held"


def test_page_has_a_section_for_each_account():
    document = page(a_snapshot(an_account(access_key="one"), an_account(access_key="two")))
    assert words(document.get_element_by_id("account-1")).startswith("Account one")
    assert words(document.get_element_by_id("account-2")).startswith("Account two")


def test_tables_have_headers_for_rows_and_columns():
    for found in page(FULL).xpath("//table"):
        columns = [words(each) for each in found.xpath("thead/tr/th[@scope='col']")]
        for row in found.xpath("tbody/tr"):
            assert [cell.get("scope") for cell in row.xpath("th")] == ["row"]
            # On a narrow screen, each cell comes with its column's name.
            assert [cell.get("data-label") for cell in row.xpath("td")] == columns[1:]


@pytest.mark.parametrize(
    ("left", "said"),
    [
        (timedelta(days=2, hours=3, minutes=59), "2 d 3 h left"),
        (timedelta(days=2, minutes=59), "2 d left"),
        (timedelta(hours=3, minutes=20), "3 h 20 min left"),
        (timedelta(hours=1), "1 h left"),
        (timedelta(minutes=59, seconds=59), "59 min left"),
        (timedelta(minutes=1), "1 min left"),
        (timedelta(seconds=59), "less than a minute left"),
        (timedelta(0), "ended"),
        (timedelta(hours=-5), "ended"),
    ],
)
def test_lease_is_described_by_its_remaining_time(left, said):
    expire_at = (START + left).strftime("%Y-%m-%dT%H:%M:%SZ")
    (row,) = table(
        page(a_snapshot(an_account(instances=[an_instance(expire_at=expire_at)]))), "instances"
    )
    when = f"{START + left:%Y-%m-%d %H:%M:%S}"
    if said == "ended":
        assert row[4] == f"ended at {when} kept until 2026-02-03 15:00:00"
    else:
        assert row[4] == f"{said} until {when}"


@pytest.mark.parametrize(
    ("kind", "states"),
    [
        ("up", ["running"]),
        ("down", ["ready", "suspend"]),
        ("busy", ["disk", "start_deploy", "stopping", "rebuild_root", "change_flavor"]),
        ("bad", ["deleting", "deploy_fail", "resume_failed"]),
        ("unknown", ["hibernating", ""]),
    ],
)
def test_badge_of_instance_has_class_of_its_state(kind, states):
    instances = [an_instance(status=state) for state in states]
    document = page(a_snapshot(an_account(instances=instances)))
    badges = document.xpath("//table[@class='instances']//span[contains(@class, 'badge')]")
    assert [badge.get("class") for badge in badges] == [f"badge {kind}"] * len(states)


def test_every_state_of_the_driver_has_a_badge_class():
    instances = [an_instance(status=state) for state in NODE_STATES]
    document = page(a_snapshot(an_account(instances=instances)))
    assert document.xpath("//span[contains(@class, 'unknown')]") == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "OK"),
        ({"status": 406, "message": "No enough balance"}, "406 No enough balance"),
        ({"status": 0, "fault": "drop_after"}, "no answer fault: drop_after"),
    ],
)
def test_request_is_described_by_status_and_fault(changes, said):
    assert table(page(a_snapshot(requests=[a_request(**changes)])), "requests")[0][3] == said


def test_request_without_action_is_shown():
    requests = [a_request(access_key="", action="", status=400, message="no form")]
    assert table(page(a_snapshot(requests=requests)), "requests") == [
        ["2026-01-31 11:59:00", "no action", "–", "400 no form"]
    ]


def test_parameters_of_request_are_shortened():
    common = {"Timestamp": "now", "SignatureVersion": "2", "Format": "json", "Region": "Beijing"}
    params = common | {f"Name.{n}": "v" * 1000 for n in range(20)}
    (row,) = table(page(a_snapshot(requests=[a_request(params=params)])), "requests")
    assert row[2].startswith("Name.0=vvv")
    assert row[2].endswith("… and 8 more")
    assert len(row[2]) < 1500


def test_fault_of_any_action_is_shown():
    faults = [{"action": "*", "effect": "delay", "fired": 0}]
    assert table(page(a_snapshot(faults=faults)), "faults") == [["any action", "delay", "0"]]


def test_long_lists_begin_with_the_newest_and_are_cut():
    document = page(
        a_snapshot(
            an_account(
                instances=[an_instance(n) for n in range(1, 202)],
                ledger=[a_charge(n) for n in range(1, 52)],
            ),
            requests=[a_request(action=f"Action{n}") for n in range(1, 52)],
        )
    )
    instances, ledger = table(document, "instances"), table(document, "ledger")
    requests = table(document, "requests")
    assert len(instances) == 200
    assert instances[0][0].startswith("instance-201 ")
    assert instances[-1][0].startswith("instance-2 ")
    assert [row[4] for row in ledger] == [f"{n}.36" for n in range(51, 1, -1)]
    assert [row[1] for row in requests] == [f"Action{n} key" for n in range(51, 1, -1)]
    assert notes(document)[0] == "The newest 200 of 201."
    assert notes(document)[2:] == ["The newest 50 of 51.", "The newest 50 of 51."]
    counts = [words(count) for count in document.xpath("//span[@class='count']")]
    assert counts == ["201", "0", "51"]


def test_charge_for_deleted_instance_shows_its_id():
    document = page(a_snapshot(an_account(ledger=[a_charge(instance_id="gone")])))
    assert table(document, "ledger")[0][2] == "gone"


def every_text(value, change):
    """Change every text in a snapshot but times."""
    if isinstance(value, dict):
        return {name: every_text(each, change) for name, each in value.items()}
    if isinstance(value, list):
        return [every_text(each, change) for each in value]
    if isinstance(value, str) and not value.endswith(":00Z"):
        return change(value)
    return value


def test_hostile_text_is_escaped():
    plain, hostile = page(FULL), page(every_text(copy.deepcopy(FULL), lambda _: HOSTILE))
    assert [each.tag for each in hostile.iter()] == [each.tag for each in plain.iter()]
    assert [each.keys() for each in hostile.iter()] == [each.keys() for each in plain.iter()]
    assert words(hostile.find(".//title")) == "MCS emulator"
    (row,) = table(hostile, "instances")
    assert row[0] == f"{HOSTILE} {HOSTILE}"


@pytest.mark.parametrize("text", ["数据库-主", "批处理 🚀", "שלום", "a\u202eb"])
def test_text_in_any_script_is_shown(text):
    document = page(a_snapshot(an_account(instances=[an_instance(name=text)])))
    assert table(document, "instances")[0][0] == f"{text} instance-id-1"


def test_half_characters_are_replaced():
    (row,) = table(page(a_snapshot(requests=[a_request(action="\ud800")])), "requests")
    assert row[1] == "? key"


def test_page_loads_nothing_from_elsewhere():
    document = page(FULL)
    links = [*document.xpath("//@href"), *document.xpath("//@src")]
    assert [link.partition(",")[0] for link in links] == ["data:image/svg+xml"]
    assert "url(" not in words(document.find(".//style"))
    assert "@import" not in words(document.find(".//style"))


# What a browser makes of it


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """A headless browser. Without one, its tests are skipped, but not on CI."""
    if not shutil.which("chromium") or not shutil.which("chromedriver"):
        give_up = pytest.fail if os.environ.get("CI") else pytest.skip
        give_up("there is no browser: apt install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for argument in (
        "headless=new",
        "no-sandbox",
        "disable-gpu",
        "disable-dev-shm-usage",
        "disable-quic",
        "no-first-run",
        "disable-background-networking",
        "disable-component-update",
        "disable-sync",
        f"user-data-dir={tmp_path_factory.mktemp('browser')}",
    ):
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("no_proxy", "localhost,127.0.0.1")
        driver = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
    yield driver
    driver.quit()


class Window:
    """The page as a user sees it in a browser."""

    def __init__(self, browser, port):
        self.browser = browser
        browser.get(f"http://127.0.0.1:{port}/")
        browser.execute_script("window.opened = true")

    def see(self, selector):
        """Return the visible texts, read in one step: the page may be reloaded at any time."""
        found = self.browser.execute_script(
            "return [...document.querySelectorAll(arguments[0])]"
            ".filter(each => each.checkVisibility()).map(each => each.innerText)",
            selector,
        )
        return " ".join(" ".join(found).split())

    def wait_for(self, selector, *expected):
        """Wait until the words are visible, in any order, and return the visible text."""

        def seen(_):
            there = self.see(selector)
            return there if all(each in there for each in expected) else ""

        wait = WebDriverWait(self.browser, 20, 0.05)
        return wait.until(seen, f"{expected} did not appear in {selector}")

    def was_reloaded(self):
        return not self.browser.execute_script("return window.opened === true")


@pytest.fixture
def window(browser, held):
    return Window(browser, held.port)


def create(cloud, name):
    driver = cloud.driver()
    return driver.create_node(name, "small", driver.list_images()[0], ex_duration="1H")


def test_browser_shows_page_of_new_cloud(browser, held):
    browser.get_log("browser")
    window = Window(browser, held.port)
    assert browser.title == "MCS emulator"
    assert window.see("#endpoint") == held.url
    assert window.see("#clock") == "2026-01-31 12:00:00 held"
    assert held.access_key in window.see("#account-1 h2")
    assert window.see("#account-1 .balance") == "Balance 1000.00"
    assert "No instances yet" in window.see("#account-1")
    assert window.see("#lost") == ""
    # The browser requested nothing that the page's policy or the emulator refused.
    held.clock.advance(timedelta(seconds=1))
    window.wait_for("#clock", "12:00:01")
    assert browser.get_log("browser") == []
    loaded = browser.execute_script(
        "return performance.getEntriesByType('resource').map(each => each.name)"
    )
    assert {each for each in loaded if not each.startswith("data:")} == {
        f"http://127.0.0.1:{held.port}/"
    }


def test_browser_shows_changing_state_of_instance(window, held):
    create(held, "数据库-主")
    window.wait_for(".instances tbody", "数据库-主", "disk", "1 h left")
    held.clock.advance(timedelta(seconds=1))
    window.wait_for(".instances tbody", "数据库-主", "running", "59 min left")
    held.clock.advance(timedelta(hours=1))
    window.wait_for(".instances tbody", "数据库-主", "ready", "ended")
    held.clock.advance(timedelta(days=1))
    window.wait_for("#account-1", "No instances yet")
    assert not window.was_reloaded()


def test_browser_shows_new_charge_and_balance(window, held):
    create(held, "web")
    window.wait_for("#account-1 .balance", "999.88")
    row = window.wait_for(".ledger tbody tr", "CreateInstance")
    assert row.startswith("2026-01-31 12:00:00 CreateInstance web ")
    assert row.endswith(" 0.12 999.88")
    assert not window.was_reloaded()


def test_browser_shows_refused_request(window, held):
    client = Client(held.url, held.access_key, held.secret)
    status, message = client.refused("DescribeInstanceStatus", InstanceId="missing")
    assert status == 404
    row = window.wait_for(".requests tbody tr", "DescribeInstanceStatus")
    assert row.endswith(f" InstanceId=missing 404 {message}")


def test_browser_shows_hostile_name_as_text(window, browser, held):
    name = "<img src=x onerror=\"document.title='had'\">"
    create(held, name)
    window.wait_for(".instances tbody", name)
    browser.refresh()
    assert name in window.see(".instances tbody")
    assert browser.find_elements("css selector", "img") == []
    assert browser.title == "MCS emulator"


def test_browser_shows_lost_emulator_and_recovers(browser):
    with Emulator(balance=5) as emulator:
        port = emulator.port
        window = Window(browser, port)
        assert window.see("#lost") == ""
    window.wait_for("#lost", "The emulator does not answer")
    assert "5.00" in window.see("#account-1 .balance")
    with Emulator(balance=7, port=port):
        window.wait_for("#account-1 .balance", "7.00")
        assert window.see("#lost") == ""
    assert not window.was_reloaded()


def test_browser_keeps_selection_during_refresh(window, browser, held):
    node = create(held, "web")
    window.wait_for(".instances tbody", "web")
    window.wait_for(".requests tbody", "CreateInstance")
    browser.execute_script(
        "getSelection().selectAllChildren(document.querySelector('.instances tbody code'))"
    )
    held.driver().ex_get_balance()
    window.wait_for(".requests tbody", "GetBalance")
    assert browser.execute_script("return getSelection().toString()") == node.id


@pytest.mark.parametrize("width", [360, 800, 1130, 1280])
def test_page_fits_any_screen_width(browser, held, width):
    create(held, "W" * 100)
    Client(held.url, "k" * 200, "", method="GET").refused("A" * 200, Parameter="v" * 200)
    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        window = Window(browser, held.port)
        assert "W" * 100 in window.see(".instances tbody").replace(" ", "")
        too_wide = browser.execute_script(
            "return [...document.querySelectorAll('html, section, tbody th, td')]"
            ".filter(each => each.scrollWidth > each.clientWidth).map(each => each.outerHTML)"
        )
        assert too_wide == []
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_page_without_scripts_reloads_itself(browser, held):
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        window = Window(browser, held.port)
        assert not window.was_reloaded()
        held.clock.advance(timedelta(minutes=5))
        window.wait_for("#clock", "12:05:00")
        assert window.was_reloaded()
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
