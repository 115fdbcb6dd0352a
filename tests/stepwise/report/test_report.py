"""The report: a valid image, a page that shows every row, and nothing that a model wrote as markup."""

from __future__ import annotations

import copy
import csv
import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import matplotlib.text
import pytest
from msgspec import convert
from rich.console import Console

from stepwise import report
from stepwise.errors import ConfigError
from stepwise.evaluation.rows import Row
from stepwise.evaluation.summary import Summary
from stepwise.report.page import amount, shown
from stepwise.report.plot import by_router, frontier_figure
from stepwise.report.style import COLUMN

TOKENS = {
    "small": {"prompt": 4000, "cached": 3000, "completion": 900, "discarded": 80},
    "large": {"prompt": 2000, "cached": 500, "completion": 300, "discarded": 0},
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
        "models": ["small", "large"],
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
        "setting": "a run",
        "wall_s": 1.0,
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
    row("p1", "ppo", [step("first step\n", "small", 0.2), step("second", "large", 0.9, "a draft")]),
    row("p1", "small", [step("only step", "small")], threshold=None, correct=False, answer=""),
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


def typed(summary: dict[str, Any]) -> Summary:
    return convert(summary, Summary)


def page(summary: dict[str, Any], rows: list[dict[str, Any]], folder: Path) -> str:
    path = folder / "report.html"
    report.write_page(typed(summary), convert(rows, list[Row]), path)
    return path.read_text(encoding="utf-8")


def test_exported_names() -> None:
    assert report.__all__ == [
        "read_run", "save_frontier", "show", "write_comparison", "write_page", "write_report", "write_run",
    ]  # fmt: skip


def test_the_image_is_a_png_with_something_on_it(summary: dict[str, Any], tmp_path: Path) -> None:
    from matplotlib.image import imread

    report.save_frontier(typed(summary), tmp_path / "frontier.png")
    image = imread(tmp_path / "frontier.png")
    assert image.shape[0] > 500 and image.shape[1] > 800
    assert image.std() > 0.05


def test_the_figure_names_every_router(summary: dict[str, Any]) -> None:
    axes = frontier_figure(typed(summary)).axes[0]
    legend = axes.get_legend()
    assert legend is not None
    labels = [text.get_text() for text in legend.get_texts()]
    assert legend.get_title().get_text() == "router (APGR)"
    assert labels == ["ppo (0.81)", "random (0.50)", "random mix of questions"]
    assert {text.get_text() for text in axes.texts} == {"small alone, 35.0%", "large alone, 95.0%"}


def test_printed_as_wide_as_a_column_no_text_is_below_seven_points(summary: dict[str, Any]) -> None:
    figure = frontier_figure(typed(summary), COLUMN)
    assert figure.get_figwidth() == 3.3
    figure.draw_without_rendering()
    sizes = [text.get_fontsize() for text in figure.findobj(matplotlib.text.Text) if text.get_text()]
    assert len(sizes) > 10 and min(map(float, sizes)) >= 7
    [legend] = figure.legends  # all of it on the paper
    assert legend.get_window_extent().width <= figure.bbox.width


def test_many_routers_move_the_legend_off_the_lines(summary: dict[str, Any]) -> None:
    summary["points"] += [point(f"router {i}", 0.5, 0.5 + i / 100, 1e9) for i in range(8)]
    figure = frontier_figure(typed(summary))
    assert figure.axes[0].get_legend() is None
    assert len(figure.legends[0].get_texts()) == 11


def test_routers_are_ordered_and_their_points_rise_in_cost(summary: dict[str, Any]) -> None:
    groups = by_router(typed(summary))
    assert list(groups) == ["ppo", "random", "small", "large"]
    assert [point.cost for point in groups["ppo"]] == [0.4e9, 0.8e9]


def chains(html: str) -> dict[str, Any]:
    """What the page's script reads."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', html, re.DOTALL)
    assert found
    data: dict[str, Any] = json.loads(found[1])
    return data


def test_every_row_is_in_the_page(summary: dict[str, Any], tmp_path: Path) -> None:
    data = chains(page(summary, ROWS, tmp_path))
    assert [problem["question"] for problem in data["problems"]] == ["question of p2", "question of p1"]
    found = {(data["problems"][t["problem"]]["id"], t["router"]): t for t in data["traces"]}
    for one in ROWS:
        trace = found[one["problem"], one["router"]]
        assert [step["text"] for step in trace["steps"]] == [step["text"] for step in one["steps"]]
        assert (trace["error"], trace["answer"]) == (one["error"], one["answer"])
    assert data["traces"][0]["error"] == "the model is away"  # failures come first
    assert found["p1", "ppo"]["steps"][1]["draft"] == "a draft" and found["p1", "ppo"]["cost"] == 50


def test_a_page_holds_what_it_can_and_says_so(summary: dict[str, Any], tmp_path: Path) -> None:
    long = [step("x" * 20_000, "small")]
    rows = [row(f"p{i}", router, long) for router in ("small", "ppo") for i in range(200)]
    data = chains(page(summary, rows, tmp_path))
    assert data["of"] == 400 and 100 < len(data["traces"]) < 160
    kept = {data["problems"][trace["problem"]]["id"] for trace in data["traces"]}
    assert len(kept) <= len(data["traces"]) / 2 + 1  # all routers of a problem, then the next problem


def test_the_tables_show_the_numbers(summary: dict[str, Any], tmp_path: Path) -> None:
    text = Text(page(summary, [], tmp_path)).text
    turns = "random: the probability that a step goes to the large model; higher = more of the large model"
    for expected in ("90.0 ± 4.0%", "40.0%", "75 / 25%", "APGR 0.81", "2 × 10⁹ FLOPs", turns):
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
    summary |= {"dataset": attack, "pair": attack, "command": attack, "models": [attack, "large"]}
    summary["points"].append(point(attack, 0.5, 0.5, 1e9) | {"tokens": {attack: TOKENS["small"]}})
    html = page(summary, rows, tmp_path)
    parsed = Text(html)
    assert parsed.tags.count("script") == 2 and "img" not in parsed.tags
    assert not {name for name in parsed.attributes if name.startswith("on")}
    assert "&lt;script&gt;" in html
    assert chains(html)["traces"][0]["steps"][0]["text"] == attack


def test_the_page_needs_nothing_from_outside(summary: dict[str, Any], tmp_path: Path) -> None:
    parsed = Text(page(summary, ROWS, tmp_path))
    assert not {"link", "iframe", "img"} & set(parsed.tags)
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
    report.save_frontier(typed(changed), tmp_path / "frontier.png")


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


DETAILS: dict[str, Any] = {
    "spent": {"small": {"generated": 1e8, "discarded": 5e7}, "large": {"prefill": 6.5e8}},
    "positions": {"small": [8, 9, 10], "large": [2, 1, 0]},
    "breakdown": {
        "level": [
            {"value": level, "n": 5, "accuracy": 0.5, "accuracy_ci": [0.2, 0.8], "cost": 1e9,
             "large_share": share}
            for level, share in (("1", 0.1), ("2", 0.4))
        ]
    },
    "errors": 0, "error": None,
}  # fmt: skip


@pytest.fixture
def detailed(summary: dict[str, Any]) -> dict[str, Any]:
    bins = [{"n": 5, "confidence": c, "accuracy": c / 2, "accuracy_ci": [0.1, 0.6]} for c in (0.5, 0.9)]
    points = [point | DETAILS for point in summary["points"]]
    points[1] |= {"errors": 3, "error": f"the server said {INJECTION}"}
    return summary | {"points": points, "errors": 3, "reliability": {"small": bins, "large": []}}


def test_the_page_says_where_cost_goes_and_what_failed(detailed: dict[str, Any], tmp_path: Path) -> None:
    html = page(detailed, ROWS, tmp_path)
    text = Text(html).text
    for heading in ("Where the large model writes", "By level", "Where cost goes", "Confidence", "Failures"):
        assert heading in text
    assert 'title="small discarded: 2.5%"' in html and 'title="large prefill: 32.5%"' in html
    assert "written by large (%)" in text and "3chains failed" in text.replace("\n", "")
    assert INJECTION in text and INJECTION not in html


def test_a_folder_holds_tables_and_figures(detailed: dict[str, Any], tmp_path: Path) -> None:
    report.write_report(tmp_path, typed(detailed), convert(ROWS, list[Row]))
    assert (tmp_path / "frontier.pdf").read_bytes().startswith(b"%PDF")
    with (tmp_path / "points.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == len(detailed["points"])
    assert float(lines[0]["cost_of_large"]) == 0.2 and lines[0]["large_prompt"] == "2000"
    table = (tmp_path / "table.tex").read_text()
    assert r"ppo & 90.0 [86.0, 94.0] & 40.0 & 0.810 [0.700, 0.900] & 20.0 & 30.0 & 40.0 \\" in table
    assert table.count("&") % 6 == 0


def test_runs_are_compared_and_a_run_is_read_again(detailed: dict[str, Any], tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "summary.json").write_text(json.dumps(detailed))
        (tmp_path / name / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    summary, rows = report.read_run(tmp_path / "one")
    assert summary == typed(detailed) and [row.problem for row in rows] == ["p1", "p1", "p2"]
    report.write_comparison({"run-a": summary, "run-b": summary}, tmp_path / "both.html")
    text = Text((tmp_path / "both.html").read_text()).text
    assert text.count("run-a") == 5 and text.count("run-b") == 5 and "0.810" in text
    with pytest.raises(ConfigError, match="holds no finished evaluation"):
        report.read_run(tmp_path)
    (tmp_path / "summary.json").write_text("{}")
    with pytest.raises(ConfigError, match="missing required field `dataset`"):
        report.read_run(tmp_path)


def test_what_is_undefined_is_a_dash_everywhere(summary: dict[str, Any], tmp_path: Path) -> None:
    """A router that is never cheaper than the large model, and an oracle where that one gains nothing."""
    summary["metrics"]["random"] |= {"apgr": None, "apgr_ci": [None, None]}
    none = dict.fromkeys(("apgr", "cpt50", "cpt80", "cpt95"))
    summary["oracle"] = {"n": 10, "complete": 1, "cost": [0.1, 0.5], "accuracy": [0.4, 0.9], **none}
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    (tmp_path / "rows.jsonl").write_text("")
    read, rows = report.read_run(tmp_path)
    report.write_report(tmp_path, read, rows)
    report.write_comparison({"one": read}, tmp_path / "both.html")
    shown = " ".join(Text((tmp_path / "report.html").read_text()).text.split())
    assert "random– – 50.0%" in shown and "APGR 0.50" not in shown
    line = next(line for line in (tmp_path / "table.tex").read_text().splitlines() if "random" in line)
    assert line.split(" & ")[3] == "--"


def test_the_table_is_in_the_order_of_thresholds_and_says_what_they_are(
    summary: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    late = [point("large_first", float(k), 0.5, 3e9 - k * 1e8) for k in (2, 1, 4)]
    summary["points"] += late
    none = {"apgr": None, "apgr_ci": [None, None]}
    summary["metrics"]["large_first"] = {**summary["metrics"]["random"], **none}
    report.show(convert(summary, Summary), tmp_path, Console(width=200))
    lines = capsys.readouterr().out.splitlines()
    rows = [line.split("│")[1:3] for line in lines if line.startswith("│")]
    assert [line[1].strip() for line in rows if "large_first" in line[0]] == ["1", "2", "4"]
    shown = "\n".join(lines)
    assert "large_first: how many steps the large model writes first; higher = more of the large" in shown
    assert re.search(r"ppo: least gain in P\(correct\).*; higher = cheaper", shown)
    assert "ppo: area under the frontier (APGR) 0.810" in shown
    assert (
        "large_first: area under the frontier (APGR) – (no setting costs less than the large model alone)"
        in shown
    )
