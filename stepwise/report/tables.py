"""A run's numbers for other programs: CSV with every operating point, LaTeX with a row a router."""

from __future__ import annotations

import csv
from pathlib import Path

from stepwise.evaluation.summary import Point, Summary
from stepwise.report.plot import apgr_interval, by_router, cost_percent, metric, references

_ESCAPES = str.maketrans(
    {"&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
     "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}"}
)  # fmt: skip


def write_csv(summary: Summary, path: str | Path) -> None:
    """A line for every operating point: accuracy and cost with their intervals, tokens by model and kind."""
    kinds = ("prompt", "cached", "completion", "discarded")
    tokens = [f"{model}_{kind}" for model in summary.models for kind in kinds]
    head = ("router", "threshold", "n", "accuracy", "accuracy_low", "accuracy_high", "cost", "cost_low",
            "cost_high", "cost_of_large", "errors", *tokens)  # fmt: skip
    with Path(path).open("w", encoding="utf-8", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(head)
        for points in by_router(summary).values():
            for point in points:
                used = [
                    point.tokens.get(model, {}).get(kind, 0) for model in summary.models for kind in kinds
                ]
                lines.writerow(
                    (point.router, point.threshold, summary.n, point.accuracy,
                     *point.accuracy_ci, point.cost, *point.cost_ci,
                     cost_percent(summary, point.cost) / 100,
                     point.errors, *used)
                )  # fmt: skip


def write_latex(summary: Summary, path: str | Path) -> None:
    """A table (booktabs) with a row a router: accuracy and cost at its best, APGR, CPT."""
    lines = [
        f"% {_tex(summary.dataset)}, {_tex(summary.pair)}, n = {summary.n}; cost in % of large.",
        r"\begin{tabular}{lrrrrrr}",
        r"\toprule",
        r"Router & Accuracy (\%) & Cost (\%) & APGR & CPT(50) & CPT(80) & CPT(95) \\",
        r"\midrule",
        *(_row(summary, router, points) for router, points in by_router(summary).items()),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    Path(path).write_text("\n".join(lines) + "\n", encoding="utf-8")


def _row(summary: Summary, router: str, points: list[Point]) -> str:
    best = max(points, key=lambda point: (point.accuracy, -point.cost))
    low, high = (100 * end for end in best.accuracy_ci)
    accuracy = f"{100 * best.accuracy:.1f} [{low:.1f}, {high:.1f}]"
    cells = [_tex(router), accuracy, f"{cost_percent(summary, best.cost):.1f}"]
    if router in references(summary):
        return " & ".join([*cells, "--", "--", "--", "--"]) + r" \\"
    area = metric(summary, router, "apgr")
    apgr = "--" if area is None else f"{area:.3f}"
    ends = apgr_interval(summary, router)
    if area is not None and None not in ends:
        apgr += f" [{ends[0]:.3f}, {ends[1]:.3f}]"
    shares = (metric(summary, router, name) for name in ("cpt50", "cpt80", "cpt95"))
    cells += [apgr, *("--" if share is None else f"{100 * share:.1f}" for share in shares)]
    return " & ".join(cells) + r" \\"


def _tex(text: object) -> str:
    return str(text).translate(_ESCAPES)
