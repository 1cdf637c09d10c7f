"""The page in a real browser: it loads in silence, sorts, filters, fits a phone and a screen."""

from __future__ import annotations

import base64
import io
import json
import shutil
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from softoverlap.app.report import write_report
from tests.support.report_results import HOSTILE, headline, metric, write_cohort, write_results

CHROMIUM, DRIVER = (shutil.which(name) for name in ("chromium", "chromedriver"))
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        CHROMIUM is None or DRIVER is None,
        reason="chromium and chromedriver (Debian's chromium-driver) are not installed",
    ),
]
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
SIZES = {"phone": (390, 844), "desktop": (1280, 900)}
CASES = "#cases tbody tr"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    with webdriver.Chrome(options, webdriver.ChromeService(DRIVER)) as driver:
        yield driver


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A page with all parts, and with names that would break one that doesn't escape them."""
    folder = write_cohort(tmp_path_factory.mktemp("page"), count=4, name="sub-{:02d}" + HOSTILE)
    return write_report(folder).path


@pytest.fixture(scope="module")
def long_page(tmp_path_factory):
    """A page with more rows than are shown at once."""
    cases = [
        {"case": f"case{n}", "soft_dice": "" if n == 7 else (n * 37 % 250) / 250, "lesions": n % 5}
        for n in range(250)
    ]
    folder = tmp_path_factory.mktemp("long")
    return write_report(write_results(folder, cases, metrics={"soft_dice": metric(0.5)})).path


def show(browser, page, *, size="desktop", scheme="light"):
    """Load the page anew; what was logged before is gone."""
    width, height = SIZES[size]
    browser.get("about:blank")
    for log in ("browser", "performance"):
        browser.get_log(log)
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": size == "phone"}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": features})
    browser.get(page.as_uri())


def texts(browser, selector):
    return [one.text for one in browser.find_elements("css selector", selector)]


def column(browser, name):
    heads = texts(browser, "#cases thead th")
    return texts(browser, f"{CASES} td:nth-child({heads.index(name) + 1})")


def click_heading(browser, name):
    script = "arguments[0].scrollIntoView({block: 'center'}); arguments[0].click()"
    for button in browser.find_elements("css selector", "#cases thead button"):
        if button.text == name:
            browser.execute_script(script, button)
            return
    raise AssertionError(f"no heading {name}")


def filter_cases(browser, words):
    field = browser.find_element("css selector", "#cases input[type=search]")
    field.clear()
    field.send_keys(words)


def picture(browser, **clip):
    options = {"captureBeyondViewport": True, "clip": {"x": 0, "y": 0, "scale": 1, **clip}}
    return base64.b64decode(browser.execute_cdp_cmd("Page.captureScreenshot", options)["data"])


def test_it_loads_without_a_message_or_a_request(browser, page):
    show(browser, page)
    assert browser.get_log("browser") == []
    sent = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = Counter(
        message["params"]["request"]["url"].partition(":")[0]
        for message in sent
        if message["method"] == "Network.requestWillBeSent"
    )
    assert asked.pop("file") == 1
    asked.pop("about", None)
    assert set(asked) <= {"data"}
    state = browser.execute_script(
        "return [...document.images].map((image) => image.complete && image.naturalWidth > 0)"
    )
    assert len(state) > 4 * 3
    assert all(state)


def test_hostile_names_are_shown_and_do_nothing(browser, page):
    show(browser, page)
    assert browser.title == "Scores: results"
    assert column(browser, "case")[0] == f"sub-00{HOSTILE}"
    assert texts(browser, "article h3")[0].startswith(f"sub-00{HOSTILE}")


def test_a_click_on_a_heading_sorts_up_and_another_one_down(browser, long_page):
    show(browser, long_page)
    expected = sorted((n * 37 % 250) / 250 for n in range(250) if n != 7)
    for way, ordered in (("ascending", expected), ("descending", expected[::-1])):
        click_heading(browser, "soft_dice")
        shown = [float(text) for text in column(browser, "soft_dice")]
        assert shown == ordered[:100]
        head = browser.find_element("css selector", "#cases th[aria-sort]")
        assert head.get_attribute("aria-sort") == way
    click_heading(browser, "case")
    assert column(browser, "case") == [f"case{n}" for n in range(100)]


def test_what_has_no_value_comes_last_either_way(browser, long_page):
    show(browser, long_page)
    for _ in range(2):
        click_heading(browser, "soft_dice")
        while (more := browser.find_element("css selector", "#cases .more")).is_displayed():
            browser.execute_script("arguments[0].click()", more)
        shown = column(browser, "soft_dice")
        assert len(shown) == 250
        assert shown[-1] == ""


@pytest.mark.parametrize(
    ("words", "kept"),
    [
        ("case12", [n for n in range(250) if f"case{n}".startswith("case12")]),
        ("lesions=4 case1", [n for n in range(250) if n % 5 == 4 and str(n)[0] == "1"]),
        ("soft_dice < 0.02", [n for n in range(250) if n * 37 % 250 < 5]),
        ("SOFT_DICE>=0.98 lesions<2", [n for n in range(250) if n * 37 % 250 > 244 and n % 5 < 2]),
        ("nothing_like_it", []),
        ("soft_dice<", []),
        ("soft_dice<<3", []),
    ],
)
def test_words_and_conditions_filter_the_rows(words, kept, browser, long_page):
    show(browser, long_page)
    filter_cases(browser, words)
    assert column(browser, "case") == [f"case{n}" for n in kept]
    assert texts(browser, "#cases .count") == [f"{len(kept)} of 250 cases"]


def test_a_condition_that_is_none_is_named(browser, long_page):
    show(browser, long_page)
    for words, wrong in (
        ("soft_dice<<3", "soft_dice<<3"),
        ("soft_dice<0.5", ""),
        ("case1 a<1", "a<1"),
    ):
        filter_cases(browser, words)
        (hint,) = texts(browser, "#cases .hint")
        assert ("is no condition" in hint) == bool(wrong)
        assert hint.startswith(wrong)


def test_a_case_leads_to_its_picture_and_all_columns_can_be_shown(browser, page):
    show(browser, page)
    link = browser.find_element("css selector", f"{CASES} a")
    assert link.get_attribute("href").endswith("#worst-0")
    before = len(texts(browser, "#cases th"))
    box = browser.find_element("css selector", "#cases input[type=checkbox]")
    browser.execute_script("arguments[0].click()", box)
    assert len(texts(browser, "#cases th")) > before
    assert "pred" in texts(browser, "#cases th")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_it_fits_the_window_in_light_and_dark(size, scheme, browser, page, tmp_path):
    show(browser, page, size=size, scheme=scheme)
    width, window, height = browser.execute_script(
        "return [document.documentElement.scrollWidth, innerWidth, "
        "document.documentElement.scrollHeight]"
    )
    assert width <= window == SIZES[size][0]
    shot = picture(browser, width=window, height=height)
    (tmp_path / f"{scheme}-{size}.png").write_bytes(shot)
    pixels = np.asarray(Image.open(io.BytesIO(shot)).convert("L"))
    assert pixels.shape == (height, window)
    ground = np.median(pixels[:400])
    assert ground > 240 if scheme == "light" else ground < 40


def test_nothing_on_a_phone_is_to_be_scrolled_sideways(browser, tmp_path):
    folder = write_cohort(tmp_path, count=2)
    summary = json.loads((folder / "summary.json").read_text()) | headline()
    (folder / "summary.json").write_text(json.dumps(summary))
    show(browser, write_report(folder).path, size="phone")
    wide = browser.execute_script(
        "return [...document.querySelectorAll('body *')].filter((one) => !one.closest('svg') && "
        "(one.scrollWidth > one.clientWidth + 1 && getComputedStyle(one).display !== 'inline' "
        "|| one.getBoundingClientRect().right > innerWidth + 1)).map((one) => one.outerHTML"
        ".slice(0, 80))"
    )
    assert wide == []
    assert column(browser, "case")[:2] == ["sub-00", "sub-01"]


def test_the_first_screen_holds_the_figures(browser, tmp_path):
    folder = write_cohort(tmp_path, count=1)
    summary = json.loads((folder / "summary.json").read_text()) | headline()
    (folder / "summary.json").write_text(json.dumps(summary))
    show(browser, write_report(folder, worst=0).path)
    bottom = browser.execute_script(
        "return Math.max(...[...document.querySelectorAll('.tile, .caution')].map("
        "(one) => one.getBoundingClientRect().bottom))"
    )
    assert bottom < SIZES["desktop"][1]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_text_of_a_chart_is_tiny_or_hard_to_read(scheme, browser, page):
    show(browser, page, size="phone", scheme=scheme)
    sizes = browser.execute_script(
        "return [...document.querySelectorAll('.chart svg text')].map((text) => "
        "parseFloat(getComputedStyle(text).fontSize) * text.getScreenCTM().a)"
    )
    assert len(sizes) > 50
    assert min(size for size in sizes if size) >= 8.5
    ink, ground = browser.execute_script(
        "return [getComputedStyle(document.querySelector('.chart svg text')).fill,"
        "getComputedStyle(document.body).backgroundColor]"
    )
    assert contrast(ink, ground) > 7


def contrast(*colors):
    """Of two colours `rgb(r, g, b)`, as WCAG has it."""

    def luminance(color):
        parts = np.array([float(part) for part in color[4:-1].split(",")]) / 255
        linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        return float(linear @ (0.2126, 0.7152, 0.0722))

    low, high = sorted(map(luminance, colors))
    return (high + 0.05) / (low + 0.05)


def test_the_button_changes_light_and_dark(browser, page):
    show(browser, page, scheme="dark")
    ground = "return getComputedStyle(document.body).backgroundColor"
    first = browser.execute_script(ground)
    button = browser.find_element("id", "theme")
    assert button.text == "Light"
    button.click()
    assert contrast(first, browser.execute_script(ground)) > 10
    assert button.text == "Dark"
    button.click()
    assert browser.execute_script(ground) == first


def test_on_paper_it_is_dark_on_white_and_no_wider_than_the_sheet(browser, page):
    show(browser, page, scheme="dark")
    media = {"media": "print", "features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    sheet = {"width": 720, "height": 1000, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", sheet)
    colors = browser.execute_script(
        "const style = getComputedStyle(document.body); return [style.color, style.backgroundColor]"
    )
    assert colors == ["rgb(0, 0, 0)", "rgb(255, 255, 255)"]
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 720
    assert not browser.find_element("css selector", "nav").is_displayed()
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    printed = browser.execute_cdp_cmd("Page.printToPDF", {})["data"]
    assert base64.b64decode(printed).startswith(b"%PDF")


def test_all_cases_are_printed_under_plain_headings(browser, long_page):
    show(browser, long_page)
    headings = f"{CASES.split()[0]} thead"
    names = texts(browser, f"{headings} th")
    assert len(texts(browser, CASES)) == 100
    browser.execute_script("dispatchEvent(new Event('beforeprint'))")
    assert len(texts(browser, CASES)) == 250
    assert texts(browser, f"{headings} th") == names
    assert texts(browser, f"{headings} button") == []  # Chromium repeats none on the next page
    browser.execute_script("dispatchEvent(new Event('afterprint'))")
    assert len(texts(browser, CASES)) == 100
    assert texts(browser, f"{headings} button") == names
