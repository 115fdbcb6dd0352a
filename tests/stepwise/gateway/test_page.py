"""The page in a browser: keyboard, knob, streams, and models that try to write markup."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Dialog, Page, expect

from stepwise import load_router
from stepwise.backends.scripted import ScriptedBackend
from stepwise.engine.cost import Flops
from stepwise.engine.engine import Engine
from stepwise.engine.stop_rules import StepRule
from stepwise.gateway import Keys, Tenant, create_app
from stepwise.gateway.keys import digest
from stepwise.routers import Always
from tests.chromium import chromium
from tests.stepwise.gateway.serving import CONFIDENCE, app_of, scope, serving
from tests.worlds import SIZES, engine

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page without the help of the content security policy; anything that goes wrong in it is an error."""
    context = browser.new_context(bypass_csp=True)
    page = context.new_page()
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))

    def refuse(dialog: Dialog) -> None:
        wrong.append(dialog.message)
        dialog.dismiss()

    page.on("dialog", refuse)
    yield page
    context.close()
    assert not wrong


def test_a_question_is_solved_from_the_keyboard_alone(page: Page) -> None:
    with serving(app_of(examples=["1 2", "1 7 2"])) as url:
        page.goto(url)
        expect(page.locator("#question")).to_have_value("1 2")
        page.keyboard.press("Tab")  # the link that skips to the answer
        page.keyboard.press("Tab")
        expect(page.locator("#question")).to_be_focused()
        page.keyboard.press("Control+a")
        page.keyboard.type("1 7 2")
        page.keyboard.press("Control+Enter")
        expect(page.locator("#status")).to_have_text("done: 10, at 55% of large-only")
        steps = page.locator(".chain li")
        expect(steps).to_have_count(4)
        expect(page.locator(".chain .why b")).to_have_text(["small", "large", "small", "small"])
        expect(steps.nth(1).locator(".text")).to_have_text("1 + 7 = 8.")
        expect(steps.nth(1).locator("del")).to_have_text("1 + 7 = 9.")
        expect(steps.nth(1)).to_contain_text("score 1 ≥ 0.5")
        assert steps.nth(0).get_attribute("class") != steps.nth(1).get_attribute("class")
        expect(page.locator(".meter b")).to_have_text("55%")
        expect(page.locator("#recent tr")).to_have_count(1)
        expect(page.locator("#recent")).to_contain_text("1 7 2")


def test_the_knob_and_what_if(page: Page) -> None:
    policy = load_router("nano-ppo", budget=0.4)
    with serving(create_app(engine(), {"nano-ppo": policy}, examples=["1 7"])) as url:
        page.goto(url)
        knob, promise = page.locator("#knob"), page.locator("#promise")
        expect(promise).to_have_text("nano-ppo")
        knob.press("ArrowLeft")
        expect(promise).to_contain_text("of large-only")
        expect(page.locator("#default")).to_have_attribute("aria-pressed", "false")
        knob.press("Home")
        expect(promise).to_have_text("small alone")
        expect(knob).to_have_attribute("aria-valuetext", "small alone")
        knob.press("End")
        expect(promise).to_have_text("large alone: 100%")
        page.locator("#default").click()
        page.locator("#whatif").check()
        page.locator("#run").click()
        expect(page.locator("#status")).to_contain_text("done")
        expect(page.locator(".chain h2")).to_have_text(["stepwise", "small alone", "large alone"])
        expect(page.locator(".chain .answer").nth(1)).to_have_text("answer: 9")
        expect(page.locator(".chain .answer").nth(2)).to_have_text("answer: 8")


MARKUP = (
    "<img src=x onerror=\"alert('img')\"><script>alert('script')</script><b>bold</b>"
    "</div><svg onload=alert(1)>${alert(2)} \\boxed{<i onclick=alert(3)>5</i>}"
)


def test_what_a_model_writes_is_text_and_never_markup(page: Page) -> None:
    """Through a step, a rejected draft, the answer, and the question in the list of requests."""
    draft = ScriptedBackend(lambda _: f"{MARKUP} draft\n", logprob=-9.0)
    final = ScriptedBackend(lambda text: MARKUP, parameters=20)
    world = Engine(
        {"small": draft, "large": final},
        prompt="{question}\n",
        rule=StepRule("\n", 500, 4),
        cost=Flops(SIZES),
    )
    with serving(create_app(world, {"confidence": CONFIDENCE}, examples=[MARKUP])) as url:
        page.goto(url)
        expect(page.locator("#question")).to_have_value(MARKUP)
        page.locator("#run").click()
        expect(page.locator("#status")).to_contain_text("done")
        expect(page.locator(".chain .text")).to_have_text(MARKUP)
        expect(page.locator(".chain del")).to_have_text(f"{MARKUP} draft")
        expect(page.locator("#recent")).to_contain_text(MARKUP)
        expect(page.locator("img, svg, .text *, del *, #recent b, i[onclick], .answer *")).to_have_count(0)
        assert page.locator("script").count() == 1


def test_what_to_expect_is_said_before_the_start(page: Page) -> None:
    with serving(app_of(estimator=scope(), examples=["1 7"])) as url:
        page.goto(url)
        expect(page.locator("#question")).to_have_value("1 7")
        page.locator("#run").click()
        forecast = page.locator("#forecast")
        expect(forecast).to_contain_text(re.compile(r"small: \d+% likely right, about 40 tokens"))
        expect(forecast).to_contain_text(re.compile(r"large: \d+% likely right, about 40 tokens"))
        expect(page.locator("#status")).to_contain_text("done")


def test_an_answer_can_be_stopped(page: Page) -> None:
    world = engine()

    async def wait(_: str) -> None:
        await asyncio.sleep(3600)

    large: Any = world.backends["large"]
    large._before = wait
    with serving(app_of(world, router=Always("large"), examples=["1 2"])) as url:
        page.goto(url)
        expect(page.locator("#question")).to_have_value("1 2")
        page.keyboard.press("Control+Enter")
        expect(page.locator("#run")).to_be_disabled()
        page.keyboard.press("Escape")
        expect(page.locator("#status")).to_have_text("stopped")
        expect(page.locator("#run")).to_be_enabled()


def test_refusals_are_shown_and_a_key_is_asked_for(page: Page) -> None:
    keys = Keys([Tenant("alice", digest("alice's long key"))])
    with serving(app_of(keys=keys, examples=["1 2"])) as url:
        page.goto(url)
        expect(page.locator("#status")).to_contain_text("this server needs one of its API keys")
        page.locator("#key").fill("alice's long key")
        page.locator("#question").fill("1 2")
        page.locator("#run").click()
        expect(page.locator("#status")).to_contain_text("done: 3")
        page.locator("#question").fill("1 " * 60_000)
        page.locator("#run").click()
        expect(page.locator("#status")).to_contain_text("question is too long")


@pytest.mark.parametrize("width", [320, 390, 1180])
def test_it_fits_its_window(browser: Browser, width: int) -> None:
    long = "a question that has no end " * 40
    context = browser.new_context(viewport={"width": width, "height": 800})
    page = context.new_page()
    with serving(app_of(examples=["1 2", long, "x" * 500])) as url:
        page.goto(url)
        page.locator("#whatif").check()
        page.locator("#run").click()
        expect(page.locator("#status")).to_contain_text("done")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    context.close()


def test_the_page_allows_nothing_but_its_own_scripts(page: Page) -> None:
    with serving(app_of()) as url:
        answer = page.goto(url)
        assert answer is not None
        policy = answer.headers["content-security-policy"]
        assert "default-src 'self'" in policy and "unsafe" not in policy
