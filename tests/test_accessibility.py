"""What people look at, read by axe-core in Chromium: no violation, light and dark, large and small."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect
from rich.console import Console

from stepwise import report
from stepwise.evaluation import provenance
from stepwise.evaluation.progress import compare
from stepwise.evaluation.run import Contender
from stepwise.evaluation.summary import summarise
from stepwise.routers import Always
from tests.chromium import chromium
from tests.stepwise.gateway.serving import CONFIDENCE, app_of, scope, serving
from tests.worlds import engine, problem

pytestmark = pytest.mark.browser
ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture(
    params=[("light", 1100), ("dark", 1100), ("light", 390)], ids=lambda view: f"{view[0]}-{view[1]}"
)
def page(browser: Browser, request: pytest.FixtureRequest) -> Iterator[Page]:
    scheme, width = request.param
    size: Any = {"width": width, "height": 900}
    context = browser.new_context(
        bypass_csp=True, color_scheme=scheme, viewport=size, reduced_motion="reduce"
    )
    yield context.new_page()
    context.close()


def violations(page: Page) -> list[tuple[str, Any]]:
    """What axe-core finds: the rule and where."""
    response = Axe().run(page).response
    return [(rule["id"], [node["target"] for node in rule["nodes"]]) for rule in response["violations"]]


def test_the_page_before_and_after_an_answer(page: Page) -> None:
    with serving(app_of(estimator=scope(), examples=["1 2", "1 7 2"])) as url:
        page.goto(url)
        expect(page.locator("#question")).to_have_value("1 2")
        assert violations(page) == []
        page.locator("#question").fill("1 7 2")
        page.locator("#run").click()
        expect(page.locator("#status")).to_contain_text("done")
        expect(page.locator("#recent tr")).to_have_count(1)
        assert violations(page) == []


def reported(folder: Path) -> str:
    """The address of a report."""
    world, problems = engine(), [problem(1, 7, 2), problem(1, 2)]
    contenders = [Contender(Always("small")), Contender(Always("large"))]
    contenders += [Contender(CONFIDENCE, k / 20) for k in range(1, 31)]
    rows = compare(world, problems, contenders, folder, setting="", console=Console(quiet=True))
    about = {"dataset": "sums", "pair": "adders", "cost_unit": "FLOPs", **provenance.describe()}
    report.write_run(folder, summarise(rows, problems, models=world.models, seed=0, about=about), rows)
    return f"file://{folder / 'report.html'}"


def test_the_report_and_a_chain_in_it(page: Page, tmp_path: Path) -> None:
    page.goto(reported(tmp_path))
    page.locator("details.trace summary").first.click()
    expect(page.locator("details.trace li").first).to_be_visible()
    assert violations(page) == []


def test_a_printed_report_has_its_tables_whole(browser: Browser, tmp_path: Path) -> None:
    """Paper does not scroll: on a page of A4 no table is wider than the page, or cut off below."""
    page = browser.new_page(viewport={"width": 680, "height": 1000})
    page.goto(reported(tmp_path))
    cut = """() => [...document.querySelectorAll(".scroll")].filter(
        (e) => e.scrollWidth > e.clientWidth || e.scrollHeight > e.clientHeight).length"""
    assert page.evaluate(cut) > 0, "on a screen they scroll"
    page.emulate_media(media="print")
    assert page.evaluate(cut) == 0
    assert page.evaluate("document.documentElement.scrollWidth") <= 680
    page.close()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return folder


def test_the_home_of_the_site(page: Page, site: Path) -> None:
    page.goto(f"file://{site / 'index.html'}")
    assert violations(page) == []
