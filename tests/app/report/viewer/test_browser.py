"""The viewer in a real browser: it loads, shows what it should where it should, and obeys."""

from __future__ import annotations

import io
import json
import math
import re
import shutil
import threading

import numpy as np
import pytest
import torch

from softoverlap.app.cohort import ScorePair, score_cohort
from softoverlap.app.report.viewer.folder import write_viewer
from softoverlap.app.report.viewer.pages import read_viewer
from softoverlap.app.report.viewer.server import ViewerServer
from softoverlap.images import load_nifti, save_nifti, write_phantoms

selenium = pytest.importorskip("selenium", reason="selenium, of the extra dev, is not installed")
from selenium import webdriver  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.ui import WebDriverWait  # noqa: E402

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (CHROMIUM and DRIVER), reason="Debian's chromium and chromium-driver are not installed"
    ),
]

FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader",
    "--window-size=1280,990",
)  # fmt: skip
EVIL = "<img src=x onerror=alert(1)>"
ORANGE, GREEN = (230, 159, 0), (53, 196, 141)


@pytest.fixture(scope="module")
def viewer(tmp_path_factory):
    """Three phantoms, the first found well, the second ill, the third with an evil name."""
    folder = tmp_path_factory.mktemp("viewer")
    write_phantoms(folder, 3, seed=0, shape=(48, 40, 32))
    scans = sorted((folder / "images").iterdir())
    masks = sorted((folder / "masks").iterdir())
    (folder / "scans").mkdir()
    pairs = []
    for number, name in enumerate(("well", "ill", EVIL)):
        shutil.copy(scans[number], folder / "scans" / f"{name}.nii.gz")
        found = masks[number]
        if name == "ill":
            found, truth = folder / "ill.nii.gz", load_nifti(masks[number])
            save_nifti(found, 0.9 * truth.data.roll(3, dims=0), truth.affine)
        pairs.append(ScorePair(name, found, (masks[number],)))
    score_cohort(pairs, folder / "results")
    return read_viewer(folder / "results", images=folder / "scans")


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


_TWO_FRAMES = "requestAnimationFrame(() => requestAnimationFrame(arguments[0]))"


class Page:
    """The viewer in the browser, as a user sees it."""

    def __init__(self, driver, url):
        self.driver = driver
        driver.get("about:blank")  # the browser's own first page has requests of its own
        for kind in ("browser", "performance"):
            driver.get_log(kind)
        driver.get(url)
        self.wait(lambda: self.shown)

    def wait(self, condition):
        WebDriverWait(self.driver, 60, poll_frequency=0.1).until(lambda _: condition())

    @property
    def shown(self):
        return self.driver.find_element(By.TAG_NAME, "body").get_attribute("data-shown")

    @property
    def cases(self):
        return [part.text for part in self.driver.find_elements(By.CSS_SELECTOR, "#list .case")]

    def text(self, name):
        return self.driver.find_element(By.ID, name).text

    def click(self, name):
        self.driver.find_element(By.ID, name).click()

    def set(self, **values):
        """Move sliders and choose options, as a user's hand does."""
        for name, value in values.items():
            self.driver.execute_script(
                "const one = document.getElementById(arguments[0]);"
                "if (one.type === 'checkbox') { one.checked = arguments[1]; }"
                "else { one.value = arguments[1]; }"
                "one.dispatchEvent(new Event('input', { bubbles: true }));"
                "one.dispatchEvent(new Event('change', { bubbles: true }));",
                name.replace("_", "-"),
                value,
            )

    def picture(self):
        """The stage as RGB, when two pictures in a row are the same."""
        from PIL import Image

        self.driver.execute_async_script(_TWO_FRAMES)  # what was asked for is drawn in the next
        before = None
        for _ in range(40):
            png = self.driver.find_element(By.ID, "stage").screenshot_as_png
            picture = np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)
            if before is not None and np.array_equal(picture, before):
                return picture
            before = picture
        raise AssertionError("the picture never comes to rest")

    def other_picture(self, before):
        """The stage as soon as it differs: a browser may be slow to show what it drew."""
        self.wait(lambda: (self.picture() != before).any())
        return self.picture()

    def errors(self):
        """What the console says."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requests(self):
        """The addresses that were asked for."""
        messages = [json.loads(entry["message"])["message"] for entry in self.log()]
        sent = [one for one in messages if one["method"] == "Network.requestWillBeSent"]
        return [one["params"]["request"]["url"] for one in sent]

    def log(self):
        return self.driver.get_log("performance")


@pytest.fixture(scope="module")
def server(viewer):
    with ViewerServer(viewer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def page(browser, server):
    return Page(browser, server.url)


def near(picture, colour, distance=60):
    """Where the picture has nearly this colour."""
    return np.abs(picture - np.array(colour)).sum(axis=2) < distance


def differ(picture, other):
    return picture.shape != other.shape or (picture != other).mean() > 0.05


def test_it_loads_without_errors_and_asks_nobody_else(page, server):
    root = server.url.removesuffix("index.html")
    others = [url for url in page.requests() if not url.startswith((root, "data:", "blob:"))]
    assert others == []
    assert page.errors() == []
    assert page.text("message") == ""
    assert page.shown == "ill"  # the worst first


def test_the_canvas_shows_image_masks_and_lines(page):
    picture = page.picture()
    grey = (np.ptp(picture, axis=2) < 8) & (picture[..., 0] > 30)
    assert grey.mean() > 0.1
    assert len(np.unique(picture[grey])) > 50
    assert near(picture, ORANGE).sum() > 50
    assert near(picture, GREEN).sum() > 50


def test_another_case_is_shown_by_button_key_and_list(page):
    pictures = {page.shown: page.picture()}
    page.click("next")
    page.wait(lambda: page.shown == page.text("name") != "ill")
    pictures[page.shown] = page.picture()
    page.driver.find_element(By.TAG_NAME, "body").send_keys("n")
    page.wait(lambda: page.shown not in pictures)
    pictures[page.shown] = page.picture()
    assert set(pictures) == {"ill", "well", EVIL}
    first, second, third = pictures.values()
    assert differ(first, second)
    assert differ(second, third)
    page.driver.find_element(By.TAG_NAME, "body").send_keys("p")
    page.wait(lambda: page.shown == list(pictures)[1])
    np.testing.assert_array_equal(page.picture(), second)
    page.driver.find_elements(By.CSS_SELECTOR, "#list button")[0].click()
    page.wait(lambda: page.shown == "ill")
    assert page.errors() == []


def test_a_name_of_html_is_text(page):
    assert EVIL in page.cases
    page.driver.find_elements(By.CSS_SELECTOR, "#list button")[page.cases.index(EVIL)].click()
    page.wait(lambda: page.shown == EVIL)
    assert page.text("name") == EVIL
    assert page.driver.find_elements(By.TAG_NAME, "img") == []
    assert page.errors() == []


def test_the_list_is_sorted_and_searched(page):
    assert page.cases[0] == "ill"
    page.click("direction")
    assert page.cases[-1] == "ill"
    page.set(column="name")
    assert page.cases == sorted(page.cases, key=str.lower)
    page.driver.find_element(By.ID, "filter").send_keys("WEL")
    assert page.cases == ["well"]
    assert page.text("count") == "1 of 3"
    page.driver.find_element(By.ID, "filter").send_keys("n")  # a letter, not the next case
    assert page.cases == []
    assert page.shown == "ill"
    page.driver.find_element(By.ID, "filter").send_keys(*[Keys.BACKSPACE] * 4)
    assert len(page.cases) == 3


def test_the_controls_change_what_is_drawn(page):
    everything = page.picture()
    steps = (
        {"pred_contour_50": False, "truth_contour_50": False},
        {"found_boxes": False, "truth_boxes": False},
        {"pred_opacity": 0},
        {"truth_opacity": 0},
    )
    before = everything
    for step in steps:
        page.set(**step)
        before = page.other_picture(before)
    assert not near(before, ORANGE).any()
    assert not near(before, GREEN).any()
    page.set(image_opacity=0)
    assert page.picture().mean() < before.mean() / 2
    assert page.errors() == []


def test_the_3d_view_shows_the_boxes(page):
    page.set(view="render", image_opacity=0, pred_opacity=0, truth_opacity=0)
    with_boxes = page.picture()
    page.set(found_boxes=False, truth_boxes=False)
    assert (page.picture() != with_boxes).any(axis=2).sum() > 100
    assert page.errors() == []


def test_findings_move_the_crosshair(page):
    places = set()
    for _ in range(2):
        page.driver.find_element(By.TAG_NAME, "body").send_keys("b")
        places.add(page.text("place"))
        chosen = page.driver.find_elements(By.CSS_SELECTOR, "#findings [aria-current=true]")
        assert len(chosen) == 1
    assert len(places) == 2
    assert all("RAS" in place and "truth" in place for place in places)


def test_lesions_and_boxes_have_the_numbers_of_the_tables(page):
    one = page.driver.execute_script(
        "const ill = softoverlapViewer.cases.find((one) => one.name === 'ill');"
        "return ill.boxes.map((box) => box.number)"
    )
    shown = page.driver.find_elements(By.CSS_SELECTOR, "#findings button")
    assert [int(re.search(r"\d+", button.text)[0]) for button in shown] == one
    assert 0 in one


@pytest.mark.parametrize("width", [390, 768, 1280])
def test_no_width_scrolls_sideways(browser, server, width):
    metrics = {"width": width, "height": 844, "deviceScaleFactor": 2, "mobile": width < 700}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        page = Page(browser, server.url)
        script = "return [document.documentElement.scrollWidth, innerWidth]"
        scrolled, inner = browser.execute_script(script)
        assert inner == width
        assert scrolled <= inner
        assert near(page.picture(), ORANGE).any()
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_the_folder_opens_by_a_double_click(browser, viewer, tmp_path):
    written = write_viewer(viewer, tmp_path / "to hand over #1")
    page = Page(browser, written.index.as_uri())
    assert page.errors() == []
    assert near(page.picture(), ORANGE).any()
    assert all(url.startswith(("file:", "data:", "blob:")) for url in page.requests())
    page.click("next")
    page.wait(lambda: page.shown != "ill")
    assert page.errors() == []


OBLIQUE = torch.tensor(
    [
        [-math.cos(0.3), -1.5 * math.sin(0.3), 0.0, 20.0],
        [-math.sin(0.3), 1.5 * math.cos(0.3), 0.0, -35.0],
        [0.0, 0.0, 2.5, 4.0],
        [0.0, 0.0, 0.0, 1.0],
    ],
    dtype=torch.float64,
)
PERMUTED = torch.diag(torch.tensor([1.0, 1.5, 2.5, 1.0]).double())[[2, 0, 1, 3]]


def test_the_front_is_at_the_left_of_the_sagittal_plane_as_on_the_page(browser, tmp_path):
    mask = torch.zeros(20, 30, 20)
    mask[8:12, 22:28, 8:12] = 1
    save_nifti(tmp_path / "front.nii.gz", mask, torch.eye(4).double())
    path = tmp_path / "front.nii.gz"
    score_cohort([ScorePair("front", path, (path,))], tmp_path / "results")
    with ViewerServer(read_viewer(tmp_path / "results")) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        page = Page(browser, server.url)
        page.set(view="sagittal", pred_opacity=0, found_boxes=False, truth_opacity=1)
        page.set(truth_lowest=0.5)
        picture = page.picture()
        server.shutdown()
    green = np.flatnonzero((picture[..., 1] - picture[..., 0] > 50).any(axis=0))
    assert 0 < green.max() < picture.shape[1] / 2


def extent(picture, *, tile):
    """First and last column and row of green, at least half of it, in one of three tiles."""
    third = picture.shape[1] // 3
    part = picture[:, tile * third : (tile + 1) * third]
    where = part[..., 1] - part[..., 0] > (GREEN[1] - GREEN[0]) / 2
    assert where.sum() > 10
    return [index for axis in (0, 1) for index in np.flatnonzero(where.any(axis=axis))[[0, -1]]]


@pytest.mark.parametrize("affine", [OBLIQUE, PERMUTED], ids=["oblique", "permuted"])
def test_box_contour_and_mask_of_a_cuboid_are_in_one_place(browser, tmp_path, affine):
    mask = torch.zeros(30, 20, 12)
    mask[16:25, 4:10, 7:10] = 1
    path = tmp_path / "cuboid.nii.gz"
    save_nifti(path, mask, affine)
    score_cohort([ScorePair("cuboid", path, (path,))], tmp_path / "results")
    viewer = read_viewer(tmp_path / "results")
    hidden = {"pred_opacity": 0, "truth_opacity": 0, "pred_contour_50": False}
    hidden |= {"truth_contour_50": False, "found_boxes": False, "truth_boxes": False}
    with ViewerServer(viewer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        page = Page(browser, server.url)
        pictures = []
        for shown in ({"truth_boxes": True}, {"truth_contour_50": True}, {"truth_opacity": 1}):
            page.set(truth_lowest=0.5, **hidden | shown)
            pictures.append(page.picture())
        server.shutdown()
    for tile in range(3):
        box, contour, fill = (extent(one, tile=tile) for one in pictures)
        np.testing.assert_allclose(contour, box, atol=2)
        np.testing.assert_allclose(fill, box, atol=4)
