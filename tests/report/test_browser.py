"""The page in a real browser: no errors, no requests, charts drawn, light and dark, on a phone."""

import pytest

from onnxopt.record.analysis import GraphRecord, NodeRecord
from onnxopt.report.page import to_page
from tests.report.browser import CHROMIUM, Browser
from tests.report.test_page import hostile

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here")


@pytest.fixture(scope="module")
def browser():
    with Browser() as opened:
        yield opened


def _drawn(browser: Browser) -> int:
    browser.until("document.querySelectorAll('.chart').length > 0")
    browser.until("[...document.querySelectorAll('.chart')].every(c => c.querySelector('.main-svg'))")
    return browser.evaluate("document.querySelectorAll('.chart .main-svg').length")


def _quiet(browser: Browser) -> None:
    assert browser.said == []
    assert [url for url in browser.asked if not url.startswith(("file:", "data:"))] == []
    assert sum(url.startswith("file:") for url in browser.asked) <= 1


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [1200, 390])
def test_the_page_is_drawn_without_errors_or_requests(browser, explained, width, dark):
    browser.open(explained / "report.html", width=width, dark=dark)
    assert _drawn(browser) >= 6
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    ground = browser.evaluate("getComputedStyle(document.body).backgroundColor")
    channels = [int(c) for c in ground[4:-1].split(",")]
    assert (sum(channels) < 150) == dark
    assert (browser.evaluate("document.querySelectorAll('.chart path.point').length")) > 0
    _quiet(browser)


def test_the_theme_can_be_changed(browser, explained):
    browser.open(explained / "report.html")
    _drawn(browser)
    ground = "getComputedStyle(document.body).backgroundColor"
    before = browser.evaluate(ground)
    text = "getComputedStyle(document.querySelector('.chart .xtick text')).fill"
    ink = browser.evaluate(text)
    browser.evaluate("document.getElementById('theme').click()")
    browser.until(f"{ground} !== {before!r}")
    browser.until(f"{text} !== {ink!r}")
    assert browser.evaluate("document.getElementById('theme').textContent") == "Light"
    _quiet(browser)


def test_the_graph_can_be_zoomed_and_searched(browser, explained):
    browser.open(explained / "report.html")
    view = "document.querySelector('.pane svg').getAttribute('viewBox')"
    before = browser.evaluate(view)
    browser.evaluate("document.querySelector('.pane .in').click()")
    assert float(browser.evaluate(view).split()[2]) < float(before.split()[2])
    browser.evaluate("const f = document.getElementById('find'); f.value = 'gemm'; f.dispatchEvent(new Event('input'))")
    assert browser.evaluate("document.querySelectorAll('.n.found').length") >= 1
    browser.evaluate("document.querySelector('.n').dispatchEvent(new MouseEvent('click', {bubbles: true}))")
    assert "Conv" in browser.evaluate("document.getElementById('said').textContent")
    _quiet(browser)


def test_hostile_names_run_nothing(browser, explained_record, tmp_path):
    page = tmp_path / "hostile.html"
    page.write_text(to_page(hostile(explained_record)), encoding="utf-8")
    browser.open(page)
    assert _drawn(browser) >= 6
    assert browser.evaluate("document.querySelectorAll('img, main a, .chart a').length") == 0
    _quiet(browser)


def test_a_graph_of_thousands_of_nodes_is_usable(browser, explained_record, tmp_path):
    nodes = tuple(
        NodeRecord(
            name=f"node{i}", op_type="Conv", inputs=(i - 1, i - 3) if i % 4 == 0 and i else (i - 1,) if i else ()
        )
        for i in range(4000)
    )
    graph = GraphRecord(nodes=nodes)
    analysis = explained_record.analysis.model_copy(update={"before": graph, "after": graph})
    page = tmp_path / "large.html"
    page.write_text(to_page(explained_record.model_copy(update={"analysis": analysis})), encoding="utf-8")
    assert page.stat().st_size < 8_000_000
    browser.open(page)
    _drawn(browser)
    taken_ms = browser.evaluate(
        "(async () => { const t = performance.now(); for (let i = 0; i < 5; i++) { document.querySelector('.pane .out')"
        ".click(); await new Promise(requestAnimationFrame); } return performance.now() - t; })()"
    )
    assert taken_ms < 10_000  # five steps that take seconds each would be of no use to anybody
    _quiet(browser)
