"""The pages of a report in a real browser: drawn, sorted, filtered, linked, and silent on the network."""

from __future__ import annotations

import io
import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from skimage.io import imread

from medrestore.provenance import Step
from medrestore.report import CaseRow, preview, write
from medrestore.report.write import viewer_name
from medrestore.types import Modality
from medrestore.volume import Volume

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (CHROMIUM and DRIVER),
        reason="needs chromium and chromedriver (Debian: chromium, chromium-driver)",
    ),
]

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--window-size=1500,1400"),
    *("--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"),
)
PATIENCE = 120
"""Seconds that a software renderer may take on a busy machine."""

HOSTILE = "<script>window.hit = 1</script><img src=x onerror='window.hit = 1'>"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium (extra dev)")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    driver.set_page_load_timeout(PATIENCE)
    try:
        yield driver
    finally:
        driver.quit()


def head(size: int = 32) -> np.ndarray:
    """A bright ellipsoid with a dark hole off its middle, so that no two sides look alike."""
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, size),) * 3, indexing="ij")
    inside = (x / 0.8) ** 2 + (y / 0.9) ** 2 + (z / 0.7) ** 2 < 1
    hole = (x - 0.3) ** 2 + (y - 0.2) ** 2 + (z + 0.2) ** 2 < 0.06
    return np.where(inside & ~hole, 100 + 40 * z, 5).astype(np.float32)


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    clean = head()
    noisy = clean + np.random.default_rng(0).normal(0, 12, clean.shape).astype(np.float32)
    before = Volume.from_array(noisy, np.diag([-2, 2, 2, 1.0]), Modality.MR)
    preview(before, before.with_array(clean, Step("test")), None, folder / "kept.npz")
    shared = {"status": "done", "model": "medrestore/mr-denoise", "modality": "MR", "task": "denoise"}
    kept = {"pictures": folder / "kept.npz", "noise": 0.08}
    rows = [
        CaseRow(case="a", name="sub-10", seconds=9.0, psnr=31.0, **shared, **kept),
        CaseRow(case="b", name="sub-9", seconds=100.0, psnr=29.5, **shared, **kept),
        CaseRow(case="c", name="sub-1", seconds=20.0, **(shared | {"modality": "CT"})),
        CaseRow(case="d", name=HOSTILE, status="failed", cause=f"killed by signal 11 {HOSTILE}"),
    ]
    write(folder / "out", rows, f"A batch {HOSTILE}")
    return folder / "out"


def visit(browser, path: Path) -> None:
    """Open a page with empty logs."""
    browser.get("about:blank")
    for kind in ("browser", "performance"):
        browser.get_log(kind)
    browser.get(path.as_uri())


def wait(browser, script: str, *arguments: object) -> None:
    """Wait until a script returns something true."""
    end = time.monotonic() + PATIENCE
    while not browser.execute_script(f"return {script}", *arguments):
        assert time.monotonic() < end, f"waited {PATIENCE} s for {script}"
        time.sleep(0.2)


def requests(browser) -> Iterator[str]:
    """Yield every address that the page asked for, blocked or not."""
    for entry in browser.get_log("performance"):
        event = json.loads(entry["message"])["message"]
        if event["method"] == "Network.requestWillBeSent":
            yield event["params"]["request"]["url"]
        elif event["method"] == "Network.webSocketCreated":
            yield event["params"]["url"]


def leaving(browser, page: Path) -> list[str]:
    """Addresses that a page asked for, but for itself and the viewer beside it."""
    found = list(requests(browser))
    assert page.as_uri() in found
    ours = {page.as_uri(), page.with_name(viewer_name()).as_uri()}
    return [url for url in found if url not in ours and not url.startswith(("data:", "blob:"))]


def complaints(browser) -> list[str]:
    return [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]


def shown(browser) -> str:
    """Return the first letters of the ids of the rows that are visible, in their order."""
    return browser.execute_script(
        "return [...document.querySelectorAll('#cases tbody tr')].filter((row) => row.offsetParent)"
        ".map((row) => row.querySelector('a').getAttribute('href').slice(6, 7)).join('')"
    )


def press(browser, head: str) -> None:
    (button,) = [b for b in browser.find_elements("css selector", "th button") if b.text.startswith(head)]
    button.click()


def test_the_table_sorts_by_number_and_by_name_with_what_is_missing_at_the_end(browser, report):
    visit(browser, report / "report.html")
    assert shown(browser) == "dcab"
    press(browser, "Time")
    assert shown(browser) == "acbd"
    press(browser, "Time")
    assert shown(browser) == "bcad"
    press(browser, "PSNR")
    assert shown(browser)[:2] == "ba"
    press(browser, "Case")
    assert shown(browser) == "dcba"
    sorted_heads = browser.find_elements("css selector", "th[aria-sort=ascending]")
    assert [cell.text[:4] for cell in sorted_heads] == ["Case"]


def test_the_table_is_filtered_by_words_and_by_choice(browser, report):
    visit(browser, report / "report.html")
    find = browser.find_element("id", "find")
    find.send_keys("SIGNAL 11")
    assert shown(browser) == "d"
    assert browser.find_element("id", "shown").text == "1 of 4 cases"
    find.clear()
    find.send_keys("sub mr-denoise")
    assert shown(browser) == "cab"
    modality = browser.find_element("css selector", "select[data-key=modality]")
    modality.send_keys("CT")
    assert shown(browser) == "c"


def test_the_page_of_the_cohort_runs_nothing_strange_and_asks_the_network_for_nothing(browser, report):
    visit(browser, report / "report.html")
    wait(browser, "[...document.images].every((image) => image.complete && image.naturalWidth > 0)")
    assert len(browser.find_elements("css selector", "#cases img")) == 6
    assert HOSTILE in browser.find_element("tag name", "h1").text
    assert browser.execute_script("return window.hit") is None
    assert leaving(browser, report / "report.html") == []
    assert complaints(browser) == []


def test_a_request_that_leaves_would_be_seen(browser, tmp_path):
    page = tmp_path / "page.html"
    page.write_text("<!doctype html><img src='http://127.0.0.1:9/pixel.png'>")
    visit(browser, page)
    wait(browser, "document.images[0].complete")
    assert leaving(browser, page) == ["http://127.0.0.1:9/pixel.png"]
    assert complaints(browser)


def test_not_even_a_script_that_got_in_could_send_anything(browser, report):
    visit(browser, report / "report.html")
    browser.execute_script(
        "window.stopped = [];"
        "addEventListener('securitypolicyviolation', (event) => stopped.push(event.effectiveDirective));"
        "new Image().src = 'http://127.0.0.1:9/a.png'; fetch('http://127.0.0.1:9/b').catch(() => {});"
        "document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.hit = 1\">');"
    )
    wait(browser, "stopped.length >= 3")
    assert {"img-src", "connect-src"} <= set(browser.execute_script("return stopped"))
    assert browser.execute_script("return window.hit") is None


def canvas(browser, name: str) -> np.ndarray:
    """Return what the browser shows of a pane, (rows, columns, RGB)."""
    element = browser.find_element("id", f"canvas-{name}")
    return imread(io.BytesIO(element.screenshot_as_png))[..., :3].astype(np.int16)


def number(browser, name: str) -> float:
    return float(browser.find_element("id", f"value-{name}").text)


def click(browser, name: str, right: float, down: float) -> None:
    """Click into a pane, at fractions of its width and height from the middle."""
    from selenium.webdriver import ActionChains

    element = browser.find_element("id", f"canvas-{name}")
    place = browser.find_element("id", "place").text
    size = element.size
    offset = int(right * size["width"]), int(down * size["height"])
    ActionChains(browser).move_to_element_with_offset(element, *offset).click().perform()
    wait(browser, "document.getElementById('place').textContent !== arguments[0]", place)


@pytest.fixture
def viewer(browser, report):
    page = report / "cases/a.html"
    visit(browser, page)
    wait(browser, "document.documentElement.dataset.viewer")
    assert browser.execute_script("return document.documentElement.dataset.viewer") == "ready"
    yield browser
    assert leaving(browser, page) == []
    assert complaints(browser) == []
    assert browser.execute_script("return window.hit") is None


def test_the_viewer_draws_three_panes_that_move_together(viewer):
    drawn = {name: canvas(viewer, name) for name in ("before", "after", "residual")}
    assert all(picture.std() > 10 for picture in drawn.values())
    assert np.abs(drawn["before"] - drawn["after"]).mean() > 1
    colours = np.ptp(drawn["residual"].reshape(-1, 3), axis=1)
    assert (colours > 60).mean() > 0.1, "the residual is blue and red"

    start = viewer.find_element("id", "place").text
    click(viewer, "before", -0.3, -0.3)
    assert viewer.find_element("id", "place").text != start
    for name, old in drawn.items():
        assert np.abs(canvas(viewer, name) - old).max() > 60, f"{name} follows the crosshair"
    assert number(viewer, "residual") == pytest.approx(
        number(viewer, "before") - number(viewer, "after"), abs=0.5
    )


def test_the_values_at_the_crosshair_are_those_of_the_scan(viewer):
    from selenium.webdriver.support.ui import Select

    Select(viewer.find_element("id", "view")).select_by_value("axial")
    click(viewer, "after", 0.05, 0.05)
    words = viewer.find_element("id", "place").text.removesuffix(" mm").split(", ")
    mm = [float(word[2:]) * (-1 if word[0] in "LPI" else 1) for word in words]
    i, j, k = np.rint(np.array(mm) / [-2, 2, 2]).astype(int)
    assert number(viewer, "after") == pytest.approx(head()[i, j, k], abs=0.3)


def test_window_and_plane_change_what_is_drawn(viewer):
    from selenium.webdriver.support.ui import Select

    first = canvas(viewer, "after")
    white = viewer.find_element("id", "high")
    white.clear()
    white.send_keys("1000\t")
    darker = canvas(viewer, "after")
    assert darker.mean() < 0.6 * first.mean()
    viewer.find_element("id", "reset").click()
    assert np.abs(canvas(viewer, "after") - first).mean() < 1
    Select(viewer.find_element("id", "view")).select_by_value("coronal")
    assert np.abs(canvas(viewer, "after") - first).mean() > 5


def starts(browser, page: Path) -> str:
    """Open a page, and return what became of its viewer."""
    visit(browser, page)
    wait(browser, "document.documentElement.dataset.viewer")
    return browser.execute_script("return document.documentElement.dataset.viewer")


def test_the_viewer_goes_with_a_folder_that_is_moved(browser, report, tmp_path):
    moved = tmp_path / "else where, #1%20" / "r"
    shutil.copytree(report, moved)
    page = moved / "cases/b.html"
    assert starts(browser, page) == "ready"
    assert canvas(browser, "before").std() > 10
    assert page.with_name(viewer_name()).as_uri() in list(requests(browser))
    assert complaints(browser) == []


def test_a_page_without_the_viewer_beside_it_says_so_and_shows_its_slices(browser, report, tmp_path):
    shutil.copy(report / "cases/a.html", tmp_path)
    assert starts(browser, tmp_path / "a.html") == "missing"
    assert "keep the folder of the report together" in browser.find_element("id", "state").text
    browser.execute_script("for (const image of document.images) image.loading = 'eager'")
    wait(browser, "[...document.images].every((image) => image.complete && image.naturalWidth > 0)")


def test_on_the_page_of_a_case_no_script_comes_from_the_network(browser, report):
    visit(browser, report / "cases/a.html")
    browser.execute_script(
        "window.stopped = [];"
        "addEventListener('securitypolicyviolation', (event) => stopped.push(event.effectiveDirective));"
        "const added = document.createElement('script'); added.src = 'http://127.0.0.1:9/a.js';"
        "document.body.append(added);"
    )
    wait(browser, "stopped.length >= 1")
    assert browser.execute_script("return stopped[0]").startswith("script-src")


def test_a_page_that_holds_the_viewer_needs_no_other_file(browser, report, tmp_path):
    kept = report.parent / "kept.npz"
    write(
        tmp_path / "whole",
        [CaseRow(case="a", name="a", status="done", pictures=kept)],
        "t",
        single_files=True,
    )
    shutil.move(tmp_path / "whole/cases/a.html", tmp_path / "alone.html")
    assert starts(browser, tmp_path / "alone.html") == "ready"
    assert [url for url in requests(browser) if url.startswith("file:")] == [
        (tmp_path / "alone.html").as_uri()
    ]
    assert complaints(browser) == []
