"""The report: a valid image, a page that shows every row, and nothing that a model wrote as markup."""

from __future__ import annotations

import copy
import math
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from stepwise import report
from stepwise.report.page import amount, shown
from stepwise.report.plot import by_router, frontier_figure

TOKENS = {
    "nano-small": {"prompt": 4000, "cached": 3000, "completion": 900, "discarded": 80},
    "nano-large": {"prompt": 2000, "cached": 500, "completion": 300, "discarded": 0},
}
INJECTION = "<script>alert('owned')</script>"


def point(router: str, threshold: float | None, accuracy: float, cost: float) -> dict[str, Any]:
    return {
        "router": router,
        "threshold": threshold,
        "accuracy": accuracy,
        "accuracy_ci": [accuracy - 0.04, accuracy + 0.04],
        "cost": cost,
        "cost_ci": [0.9 * cost, 1.1 * cost],
        "tokens": TOKENS,
        "wall_s": 1.5,
    }


@pytest.fixture
def summary() -> dict[str, Any]:
    return {
        "dataset": "nano",
        "pair": "nano",
        "n": 10,
        "seed": 0,
        "cost_unit": "FLOPs",
        "models": ["nano-small", "nano-large"],
        "large_cost": 2e9,
        "points": [
            point("large", None, 0.95, 2e9),
            point("random", 0.5, 0.6, 1.1e9),
            point("random", 0.2, 0.45, 0.5e9),
            point("ppo", 0.5, 0.9, 0.8e9),
            point("ppo", 0.7, 0.7, 0.4e9),
            point("small", None, 0.35, 1e8),
        ],
        "metrics": {
            "random": {
                "apgr": 0.5,
                "apgr_ci": [0.4, 0.6],
                "cpt50": 0.5,
                "cpt80": 0.8,
                "cpt95": None,
                "aiq": 0.6,
            },
            "ppo": {
                "apgr": 0.81,
                "apgr_ci": [0.7, 0.9],
                "cpt50": 0.2,
                "cpt80": 0.3,
                "cpt95": 0.4,
                "aiq": 0.8,
            },
        },
        "versions": {"stepwise": "0.1.0"},
        "command": "python -m scripts.evaluate",
        "machine": "laptop",
    }


def step(text: str, model: str, score: float | None = None, draft: str | None = None) -> dict[str, Any]:
    return {
        "text": text,
        "model": model,
        "score": score,
        "reason": f"because {INJECTION}",
        "cost": 2e7,
        "signals": {"mean_logprob": -0.25, "margin": 0.1},
        "draft": draft,
    }


def row(problem: str, router: str, steps: list[dict[str, Any]], **changes: Any) -> dict[str, Any]:
    return {
        "problem": problem,
        "question": f"question of {problem}",
        "gold": f"gold of {problem}",
        "router": router,
        "threshold": 0.5,
        "correct": True,
        "cost": 1e9,
        "answer": f"answer of {router}",
        "stop": "answered",
        "error": None,
        "tokens": TOKENS,
        "steps": steps,
        **changes,
    }


ROWS = [
    row("p1", "ppo", [step("first step\n", "nano-small", 0.2), step("second", "nano-large", 0.9, "a draft")]),
    row("p1", "small", [step("only step", "nano-small")], threshold=None, correct=False, answer=""),
    row("p2", "ppo", [], correct=False, stop="error", error="the model is away"),
]


class Text(HTMLParser):
    """The text that a reader sees, and the tags and attribute names around it."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.text += data


def page(summary: dict[str, Any], rows: list[dict[str, Any]], folder: Path) -> str:
    path = folder / "report.html"
    report.write_page(summary, rows, path)
    return path.read_text(encoding="utf-8")


def test_exported_names() -> None:
    assert report.__all__ == ["save_frontier", "write_page"]


def test_the_image_is_a_png_with_something_on_it(summary: dict[str, Any], tmp_path: Path) -> None:
    from matplotlib.image import imread

    report.save_frontier(summary, tmp_path / "frontier.png")
    image = imread(tmp_path / "frontier.png")
    assert image.shape[0] > 500 and image.shape[1] > 800
    assert image.std() > 0.05


def test_the_figure_names_every_router(summary: dict[str, Any]) -> None:
    axes = frontier_figure(summary).axes[0]
    legend = axes.get_legend()
    assert legend is not None
    labels = [text.get_text() for text in legend.get_texts()]
    assert labels == ["ppo (APGR 0.81)", "random (APGR 0.50)", "random mix of questions"]
    assert {text.get_text() for text in axes.texts} == {"small alone, 35.0%", "large alone, 95.0%"}


def test_many_routers_move_the_legend_off_the_lines(summary: dict[str, Any]) -> None:
    summary["points"] += [point(f"router {i}", 0.5, 0.5 + i / 100, 1e9) for i in range(8)]
    figure = frontier_figure(summary)
    assert figure.axes[0].get_legend() is None
    assert len(figure.legends[0].get_texts()) == 11


def test_routers_are_ordered_and_their_points_rise_in_cost(summary: dict[str, Any]) -> None:
    groups = by_router(summary)
    assert list(groups) == ["ppo", "random", "small", "large"]
    assert [point["cost"] for point in groups["ppo"]] == [0.4e9, 0.8e9]


def test_every_row_is_on_the_page(summary: dict[str, Any], tmp_path: Path) -> None:
    text = Text(page(summary, ROWS, tmp_path)).text
    for one in ROWS:
        assert one["question"] in text and one["gold"] in text
        for part in one["steps"]:
            assert part["text"].strip() in text
    for expected in ("a draft", "the model is away", "stopped: error", "no answer", "✓ answer of ppo"):
        assert expected in text
    assert "score 0.200 < 0.500" in text and "score 0.900 ≥ 0.500" in text
    assert text.count("question of p1") == 1


def test_the_tables_show_the_numbers(summary: dict[str, Any], tmp_path: Path) -> None:
    text = Text(page(summary, [], tmp_path)).text
    for expected in ("90.0 ± 4.0%", "40.0%", "75 / 25%", "APGR 0.81", "2 × 10⁹ FLOPs"):
        assert expected in text
    assert "100.0" in text and "300.0" in text  # prefill and cached tokens of small, a problem
    assert "Chains of thought" not in text


def test_what_a_model_writes_stays_text(summary: dict[str, Any], tmp_path: Path) -> None:
    """Also not as mathematics: dollars in a name are dollars in the figure."""
    attack = '<script>a</script><img src=x>"\' onload="b $c$'
    steps = [step(attack, attack, 0.1, attack)]
    rows = [
        row(attack, attack, steps, question=attack, gold=attack, answer=attack, error=attack, stop=attack)
    ]
    summary |= {"dataset": attack, "pair": attack, "command": attack, "models": [attack, "nano-large"]}
    summary["points"].append(point(attack, 0.5, 0.5, 1e9) | {"tokens": {attack: TOKENS["nano-small"]}})
    html = page(summary, rows, tmp_path)
    parsed = Text(html)
    assert "script" not in parsed.tags and "img" not in parsed.tags
    assert not {name for name in parsed.attributes if name.startswith("on")}
    assert "&lt;script&gt;" in html and attack in parsed.text


def test_the_page_needs_nothing_from_outside(summary: dict[str, Any], tmp_path: Path) -> None:
    parsed = Text(page(summary, ROWS, tmp_path))
    assert not {"link", "iframe", "img", "script"} & set(parsed.tags)
    assert "src" not in parsed.attributes


@pytest.mark.parametrize("missing", [math.nan, None])
def test_missing_metrics_are_dashes(summary: dict[str, Any], tmp_path: Path, missing: float | None) -> None:
    changed = copy.deepcopy(summary)
    changed["metrics"]["ppo"] = dict.fromkeys(changed["metrics"]["ppo"], missing) | {
        "apgr_ci": [missing, missing]
    }
    del changed["metrics"]["random"]
    text = Text(page(changed, ROWS, tmp_path)).text
    assert "nan" not in text.replace("nano", "") and "None" not in text
    report.save_frontier(changed, tmp_path / "frontier.png")


def test_without_references_or_prices_there_is_still_a_report(
    summary: dict[str, Any], tmp_path: Path
) -> None:
    ppo = [one | {"cost": 0.0} for one in summary["points"] if one["router"] == "ppo"]
    text = Text(page(summary | {"points": ppo, "metrics": {}, "large_cost": 0.0}, ROWS, tmp_path)).text
    assert "costs\n  0 FLOPs" in text and "AIQ" not in text


@pytest.mark.parametrize("value, text", [(None, "–"), (math.nan, "–"), (1234.56, "1,234.6"), (-0.25, "-0.2")])
def test_numbers_for_readers(value: float | None, text: str) -> None:
    assert shown(value) == text


@pytest.mark.parametrize(
    "value, text", [(4.03e9, "4.03 × 10⁹"), (23, "23"), (0.0, "0"), (4.2e-7, "4.2 × 10⁻⁷"), (None, "–")]
)
def test_costs_of_any_size(value: float | None, text: str) -> None:
    assert amount(value) == text
