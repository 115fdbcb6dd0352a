"""A cascade on recorded chains: leave Qwen2.5-7B's where its process reward drops, ask a stronger model.

Every step of the recorded chains has a process reward (StrictPRMBench). A rule reads them in order; where it
escalates, the chain is given up and the stronger model's recorded answer to the same question (ZeroEval)
counts. Charged are the small model's tokens up to there, the reward model's reading of them, and the stronger
model's whole answer: estimated tokens, 2 x parameters x tokens.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from stepwise import report
from stepwise.data.raw_problems import read_lines
from stepwise.errors import ConfigError
from stepwise.evaluation import provenance
from stepwise.evaluation.rows import Row, RowStep, line_of
from stepwise.evaluation.summary import summarise
from stepwise.report.numbers import with_interval
from stepwise.types import Problem, Signals, normalised

Scores = list[NDArray[np.float64]]
"""By chain, a number per step: the larger, the greater the need for the stronger model."""


@dataclass(frozen=True)
class RecordedChain:
    """One recorded chain of the small model."""

    problem: Problem
    sample: int
    steps: tuple[str, ...]
    rewards: NDArray[np.float64]  # [steps], in [0, 1]
    tokens: float
    correct: bool


@dataclass(frozen=True)
class RecordedAnswer:
    """The stronger model's recorded answer."""

    correct: bool
    tokens: float


def run(
    *,
    data: str,
    reward: str,
    large: str,
    samples: int,
    parameters: Mapping[str, float],
    thresholds: Sequence[float],
    output: Path,
    seed: int,
    console: Console,
) -> dict[str, Any]:
    """Rows, report and summary of all rules; the summary has the form of an evaluation's."""
    folder = Path(data)
    chains = list(read_chains(folder / "bon32", reward, samples))
    answers = read_answers(folder / "zeroeval", large)
    chains = [chain for chain in chains if normalised(chain.problem.question) in answers]
    rng = np.random.default_rng(seed)
    rules: dict[str, Scores] = {
        "prm": [1.0 - chain.rewards for chain in chains],
        "learned": learned(chains, seed),
        "random": [np.r_[rng.random(), np.zeros(len(chain.rewards) - 1)] for chain in chains],
    }
    settings: list[tuple[str, float | None, Scores]] = [
        ("small", None, [np.full(len(chain.rewards), -1.0) for chain in chains]),
        ("large", None, [np.full(len(chain.rewards), 2.0) for chain in chains]),
        *((name, float(at), scores) for name, scores in rules.items() for at in thresholds),
    ]
    rows = [
        cascade(chain, answers[normalised(chain.problem.question)], name, at, scores[i], parameters)
        for name, at, scores in settings
        for i, chain in enumerate(chains)
    ]
    with (output / "rows.jsonl").open("w", encoding="utf-8") as file:
        file.writelines(line_of(row) for row in rows)
    problems = list({chain.problem.id: chain.problem for chain in chains}.values())
    about = {
        "dataset": "gsm8k, recorded (bon32)", "pair": f"Qwen2.5-7B and {large}", "reward": reward,
        "cost_unit": "FLOPs (estimated tokens)", **provenance.describe(),
    }  # fmt: skip
    summary = summarise(rows, problems, models=("small", "large"), seed=seed, about=about)
    summary.auc_wrong_chain = {
        name: auc([float(scores[i].max()) for i in range(len(chains))], [not c.correct for c in chains])
        for name, scores in rules.items()
    }
    report.write_report(output, summary, rows)
    for name, values in summary.metrics.items():
        area = with_interval(values.apgr, values.apgr_ci)
        console.print(f"{name}: APGR {area}, AUC for a wrong chain {summary.auc_wrong_chain[name]:.3f}")
    plain: dict[str, Any] = msgspec.to_builtins(summary)
    return plain


def read_chains(folder: Path, reward: str, samples: int) -> Iterator[RecordedChain]:
    """The first recorded chains of every question.

    Raises:
        ConfigError: if the files are missing or the reward model was not recorded.
    """
    questions = {
        r.row["problem_id"]: r.row["question"] for r in read_lines(folder / "gsm8k_questions.jsonl.gz")
    }
    for record in read_lines(folder / "gsm8k.jsonl.gz"):
        row = record.row
        if row["cand"] >= samples:
            continue
        if reward not in row["prm"]:
            raise ConfigError(f"reward must be one of {', '.join(row['prm'])}, not {reward!r}.")
        rewards = np.asarray(row["prm"][reward], dtype=np.float64)
        if rewards.size:
            problem = Problem(row["problem_id"], questions[row["problem_id"]])
            yield RecordedChain(
                problem, row["cand"], _pieces(row, rewards.size), rewards, row["est_tokens"], row["correct"]
            )


def _pieces(row: Mapping[str, Any], count: int) -> tuple[str, ...]:
    """The response in as many pieces as there are rewards: paragraphs, joined where there are more."""
    paragraphs = [part for part in row["response"].split("\n\n") if part.strip()]
    groups = np.array_split(np.arange(len(paragraphs)), count)
    return tuple("\n\n".join(paragraphs[i] for i in group) for group in groups)


def read_answers(folder: Path, model: str) -> dict[str, RecordedAnswer]:
    """The stronger model's answers by normalised question.

    Raises:
        ConfigError: if the model was not recorded.
    """
    questions = {str(r.row["id"]): r.row["question"] for r in read_lines(folder / "gsm_questions.jsonl.gz")}
    right, tokens = (_table(folder / f"gsm_{name}.csv", model) for name in ("correct", "est_tokens"))
    return {
        normalised(question): RecordedAnswer(right[id] in ("1", "1.0", "True"), float(tokens[id] or 0))
        for id, question in questions.items()
        if id in right and id in tokens
    }


def _table(file: Path, model: str) -> dict[str, str]:
    with file.open(encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    if model not in rows[0]:
        raise ConfigError(f"large must be one of {', '.join(list(rows[0])[1:])}, not {model!r}.")
    return {row["id"]: row[model] for row in rows}


def learned(chains: Sequence[RecordedChain], seed: int, folds: int = 5) -> Scores:
    """After every step, the probability that the chain ends wrong, by models that never saw its question."""
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.model_selection import GroupKFold

    features = [_features(chain) for chain in chains]
    groups = np.array([chain.problem.id for chain in chains])
    wrong = np.array([not chain.correct for chain in chains])
    scores: Scores = [np.zeros(0)] * len(chains)
    for seen, unseen in GroupKFold(folds).split(groups, groups=groups):
        model = HistGradientBoostingClassifier(
            max_iter=150, max_depth=3, learning_rate=0.05, random_state=seed
        )
        lengths = [len(features[i]) for i in seen]
        model.fit(np.vstack([features[i] for i in seen]), np.repeat(wrong[seen], lengths))
        for i in unseen:
            scores[i] = model.predict_proba(features[i])[:, 1]
    return scores


def _features(chain: RecordedChain) -> NDArray[np.float64]:
    """[steps, 5]: reward, lowest and mean reward so far, step number, tokens so far."""
    rewards = chain.rewards
    number = np.arange(1, len(rewards) + 1)
    means = np.cumsum(rewards) / number
    return np.stack(
        [rewards, np.minimum.accumulate(rewards), means, number, chain.tokens * number / len(rewards)], axis=1
    )


def cascade(
    chain: RecordedChain, answer: RecordedAnswer, name: str, at: float | None, scores: NDArray[np.float64],
    parameters: Mapping[str, float],
) -> Row:  # fmt: skip
    """One chain under one rule, as a row of an evaluation."""
    over = np.flatnonzero(scores >= (at if at is not None else 1.0))
    leaves = int(over[0]) if over.size else None
    alone = name == "large" or (name == "random" and leaves == 0)  # never starts the small model
    read = 0.0 if alone else chain.tokens * (len(scores) if leaves is None else leaves + 1) / len(scores)
    judged = read if name in ("prm", "learned") else 0.0
    used = {"small": read, "judge": judged, "large": answer.tokens if leaves is not None else 0.0}
    cost = {model: 2.0 * parameters[model] * tokens for model, tokens in used.items()}
    kind = {"small": "generated" if leaves is None else "discarded", "judge": "prefill", "large": "generated"}
    kept = [] if alone else chain.steps if leaves is None else chain.steps[: leaves + 1]
    steps = [
        _step(text, "small", float(scores[i]), cost["small"] / len(kept), chain.tokens / len(chain.steps))
        for i, text in enumerate(kept)
    ]
    if leaves is not None:
        steps.append(
            _step("(the stronger model's recorded answer)", "large", None, cost["large"], answer.tokens)
        )
    return Row(
        setting="recorded", problem=chain.problem.id, question=chain.problem.question, gold="", router=name,
        threshold=at, correct=answer.correct if leaves is not None else chain.correct,
        cost=sum(cost.values()), answer="recorded", stop="answered", error=None,
        tokens={
            model: {"prompt": 0, "cached": 0, "completion": tokens, "discarded": 0}
            for model, tokens in used.items()
            if tokens
        },
        steps=steps, wall_s=0.0, sample=chain.sample,
        spent={model: {kind[model]: value} for model, value in cost.items() if value},
    )  # fmt: skip


def _step(text: str, model: str, score: float | None, cost: float, tokens: float) -> RowStep:
    """A step whose signals nobody recorded."""
    return RowStep(text, model, score, f"about {tokens:.0f} tokens", cost, Signals(), None)


def auc(scores: Sequence[float], positive: Sequence[bool]) -> float:
    """Area under the ROC curve: how likely a positive scores above a negative."""
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(positive, scores))
