"""The page in a browser: keyboard, knob, streams, and models that try to write markup."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from playwright.sync_api import Browser, Dialog, Page, Route, expect

from stepwise import load_router
from stepwise.backends.scripted import ScriptedBackend
from stepwise.engine.cost import Flops, Tokens
from stepwise.engine.engine import Engine
from stepwise.engine.stop_rules import StepRule
from stepwise.errors import BackendError
from stepwise.gateway import Keys, Tenant, create_app
from stepwise.gateway.http import ALIVE
from stepwise.gateway.keys import digest
from stepwise.gateway.server import Door
from stepwise.routers import Always
from stepwise.scope.routers import ScopePrior
from tests.chromium import chromium
from tests.stepwise.conversing import Conversing
from tests.stepwise.gateway.serving import CONFIDENCE, app_of, scope, serving
from tests.stepwise.gateway.test_scoped import MODELS, ROUTER, SCOPE
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
        expect(page.locator("#spent")).to_contain_text("1 answer to all since the server started: ")
        expect(page.locator("#spent")).to_contain_text(", 55% of large-only")


def test_the_page_waits_for_the_models_by_itself(page: Page) -> None:
    door = Door()
    with serving(door) as url:
        page.goto(url)
        expect(page.get_by_role("status")).to_contain_text("models are being loaded")
        door.app = app_of(examples=["1 2"])
        expect(page.locator("#question")).to_have_value("1 2", timeout=20_000)


def test_what_the_models_know_is_said_below_the_question(page: Page) -> None:
    with serving(app_of(purpose="Knows sums <b>only</b>.")) as url:
        page.goto(url)
        expect(page.locator("#purpose")).to_have_text("Knows sums <b>only</b>.")
        expect(page.locator("#question")).to_have_accessible_description("Knows sums <b>only</b>.")
    with serving(app_of()) as url:
        page.goto(url)
        expect(page.locator("#pool")).to_contain_text("large")
        expect(page.locator("#purpose")).to_be_hidden()


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
        expect(forecast.locator("tbody th")).to_have_text(["small ", "large "])
        for model, row in zip(("small", "large"), forecast.locator("tbody tr").all(), strict=True):
            expect(row).to_contain_text(re.compile(rf"{model}\s*\d+% \d+% to \d+%\s*40 \d+ to \d+"))
        expect(page.locator("#status")).to_contain_text("done")


def scoped() -> FastAPI:
    """Three models of which SCOPE chooses one."""
    texts = {name: ScriptedBackend(lambda _: "The answer is 34.", parameters=1) for name in MODELS}
    world = Engine(texts, prompt="{question}\n", rule=StepRule("\n", 64, 4), cost=Tokens())
    routed = world.with_prior(ScopePrior(SCOPE, MODELS))
    return create_app(routed, {"scope": ROUTER}, estimator=SCOPE, examples=["What is 17 plus 17?"])


def test_who_was_chosen_is_said_beside_what_was_expected(page: Page) -> None:
    with serving(scoped()) as url:
        page.goto(url)
        expect(page.locator("#question")).to_have_value("What is 17 plus 17?")
        page.locator("#run").click()
        expect(page.locator("#status")).to_contain_text("done: 34")
        expect(page.locator("#estimates .first")).to_contain_text(re.compile(r"middling\s+wrote the answer"))
        expect(page.locator("#estimates")).to_contain_text("100%")  # the large one's cost, of large-only
        why = re.compile(r"highest score at alpha 0.5 \(0\.\d\d\), expected right \d+%")
        expect(page.locator(".chain .why")).to_contain_text([why])
        expect(page.locator("#outside")).to_be_hidden()
        page.locator("#question").fill("Which of Shakespeare's sonnets is about the mistress's eyes?")
        page.locator("#run").click()
        expect(page.locator("#outside")).to_contain_text("unlike the anchors")
        expect(page.locator("#estimates .first")).to_contain_text("strong")
        expect(page.locator(".chain .why")).to_contain_text(["unlike the anchors"])


def test_the_knob_turns_alpha(page: Page) -> None:
    with serving(scoped()) as url:
        page.goto(url)
        expect(page.locator("#promise")).to_have_text("scope")
        page.locator("#knob").press("End")
        page.locator("#knob").press("ArrowLeft")
        expect(page.locator("#promise")).to_have_text(
            re.compile(r"about \d+% of large-only, \d+% right \(strong: \d+%\) on 80 anchors")
        )
        page.locator("#run").click()
        expect(page.locator("#status")).to_contain_text("done: 34")
        expect(page.locator(".chain h2")).to_contain_text("stepwise:alpha=")


def test_a_degraded_answer_says_so(page: Page) -> None:
    async def fail(_: str) -> None:
        raise BackendError("its server is down", retryable=False)

    world = engine()
    world.failover = True
    large: Any = world.backends["large"]
    large._before = fail
    with serving(app_of(world, examples=["1 7 2"])) as url:
        page.goto(url)
        expect(page.locator("#question")).to_have_value("1 7 2")
        page.locator("#run").click()
        expect(page.locator("#status")).to_have_text(re.compile("^done: 11, at .*, degraded$"))
        said = "Degraded: large cannot be run (its server is down); small takes over."
        expect(page.locator(".chain .degraded")).to_have_text(said)
        expect(page.locator("#recent")).to_contain_text("answered, degraded: 1 7 2")
        page.locator("#question").fill("1 2")
        page.locator("#run").click()
        expect(page.locator("#status")).to_contain_text("done: 3")
        expect(page.locator(".chain .degraded")).to_be_hidden()


def test_a_conversation_goes_on_and_ends(page: Page) -> None:
    model = Conversing(lambda _: "Yes.")
    world = Engine({"small": model}, prompt="{question}\n", rule=StepRule("\n", 64, 1), cost=Tokens())
    with serving(app_of(world, Always("small"), examples=["one"])) as url:
        page.goto(url)
        expect(page.locator("#question")).to_have_value("one")
        for question in ("two", MARKUP):
            page.locator("#run").click()
            page.get_by_role("button", name="Follow up").click()
            expect(page.locator("#question")).to_be_focused()
            expect(page.get_by_label("Follow-up question")).to_have_value("")
            page.locator("#question").fill(question)
        page.locator("#run").click()
        expect(page.locator("#recent")).to_contain_text("turn 3")
        expect(page.locator("#turns li")).to_have_text(["one", "Yes.", "two", "Yes."])
        assert model.read[-1] == f"[user]one[assistant]Yes.[user]two[assistant]Yes.[user]{MARKUP}[assistant]"
        page.get_by_role("button", name="Follow up").click()
        expect(page.locator("#turns li").nth(4)).to_have_text(MARKUP)
        page.get_by_role("button", name="New conversation").click()
        expect(page.locator("#said")).to_be_hidden()
        page.locator("#question").fill("four")
        page.locator("#run").click()
        expect(page.locator("#recent tr")).to_have_count(4)
        assert model.read[-1] == "four\n"


def test_models_that_take_no_conversation_are_asked_for_none(page: Page) -> None:
    with serving(app_of(examples=["1 2"])) as url:
        page.goto(url)
        expect(page.locator("#question")).to_have_value("1 2")
        page.locator("#run").click()
        expect(page.locator("#status")).to_contain_text("done")
        expect(page.get_by_role("button", name="Follow up")).to_have_count(0)


def test_comments_in_a_stream_are_no_part_of_the_answer(page: Page) -> None:
    def comment(route: Route) -> None:
        answer = route.fetch()
        route.fulfill(response=answer, body=ALIVE.decode() + answer.text())

    with serving(app_of(examples=["1 2"])) as url:
        page.route("**/v1/chat/completions", comment)
        page.goto(url)
        expect(page.locator("#question")).to_have_value("1 2")
        page.locator("#run").click()
        expect(page.locator("#status")).to_contain_text("done: 3")


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
    with serving(app_of(estimator=scope(), examples=["1 2", long, "x" * 500])) as url:
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
