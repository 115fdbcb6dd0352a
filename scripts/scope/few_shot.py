"""A chat model as SCOPE's estimator, untrained: format, accuracy, and what an estimate takes.

    stepwise models fetch qwen2.5-coder-1.5b
    python -m scripts.evaluate experiment=scope_few_shot

What two real models did on GSM8K is taken from a recording (`recordings/`): most questions are anchors, the
others are cases. Every case is asked once in the released form of the prompt; answers are kept, so that a
killed run goes on. Beside it, on the same cases: the statistical default and the models' means.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from rich.progress import Progress

from scripts.program import console, save_config
from scripts.scope.records import Outcomes
from stepwise.data import EVERYTHING
from stepwise.engine.backend import Backend, Sampling
from stepwise.evaluation import metrics, provenance
from stepwise.models.model import Model, options_of
from stepwise.recording.folder import Recording
from stepwise.recording.replay import recorded
from stepwise.scope import AnchorSet, FingerprintStore, Scope
from stepwise.scope.estimators.language_model import Examples
from stepwise.scope.prompt import ask, read
from stepwise.types import Problem


@dataclass(frozen=True)
class Case:
    """One thing to estimate, what really happened, and what the statistical estimators say."""

    model: str
    question: str
    prompt: str
    correct: bool
    tokens: float
    statistical: float
    mean: float


def study(cfg: DictConfig) -> None:
    """Ask about every case that has no answer yet, then measure."""
    output, settings = provenance.writable(cfg.output), cfg.study
    provenance.same_run(output, OmegaConf.to_container(settings, resolve=True))
    save_config(cfg, output)
    data = outcomes(settings)
    cases = cases_of(data, settings)
    answers = answered(cases, settings, output / "answers.jsonl")
    summary = {
        **figures([case for case in cases if case.prompt in answers], answers, settings.seed),
        "cheapest": cheapest(data, settings),
        **provenance.describe(),
    }
    (output / "summary.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    for name, value in summary.items():
        console.print(f"{name}: {value}", highlight=False)


def outcomes(settings: DictConfig) -> Outcomes:
    """What the recorded models did alone."""
    tree = Recording(settings.recording).tree
    listed: Sequence[Problem] = instantiate(settings.dataset, split="test", limit=EVERYTHING)
    alone = [
        problem
        for problem in listed
        if recorded(tree, problem, "test")
        and all((problem.id, m, None) in tree.chains for m in settings.models)
    ]
    chains = [[tree.chains[problem.id, model, None] for problem in alone] for model in settings.models]
    correct = np.array([[float(chain.correct) for chain in row] for row in chains])
    tokens = np.array(
        [[float(sum(t or 0 for t in chain.tokens.values())) for chain in row] for row in chains]
    )
    return Outcomes("recorded", alone, list(settings.models), correct, tokens, [None] * len(settings.models))


def cases_of(data: Outcomes, settings: DictConfig) -> list[Case]:
    """Questions that are no anchors, for every model, by question."""
    order = np.random.default_rng(settings.seed).permutation(len(data.problems))
    at, held = sorted(order[settings.questions :].tolist()), order[: settings.questions].tolist()
    anchors, store = AnchorSet([data.problems[i] for i in at]), FingerprintStore(":memory:")
    store.add(*(data.fingerprint(row, at) for row in range(len(data.models))))
    scope = Scope(anchors=anchors, fingerprints=store)
    questions = [data.problems[i].question for i in held]
    beliefs, compared = scope.beliefs(questions, data.models), scope.compare(questions)
    shown = Examples(scope.known, settings.k, "released")
    cases = []
    for j, i in enumerate(held):
        for row, model in enumerate(data.models):
            place = scope.known.models.index(model)
            prompt = ask(
                questions[j], settings.called[model], shown(compared.similarity[j], place), "released"
            )
            outcome = bool(data.correct[row, i]), float(data.tokens[row, i])
            cases.append(
                Case(
                    model,
                    questions[j],
                    prompt,
                    *outcome,
                    float(beliefs.value[row, j]),
                    scope.known.mean[place],
                )
            )
    return cases


def answered(cases: Sequence[Case], settings: DictConfig, file: Path) -> dict[str, dict[str, Any]]:
    """What the estimator wrote, by prompt."""
    kept = (
        [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.exists() else []
    )
    answers = {record["prompt"]: record for record in kept}
    missing = [case.prompt for case in cases if case.prompt not in answers]
    if answers:
        console.print(f"{file}: {len(answers):,} answers are kept, {len(missing):,} are left.")
    if missing:
        options: Any = OmegaConf.to_container(settings.estimator.backend, resolve=True)
        backend = Model("estimator", settings.estimator.path, backend=options).open(
            options_of("transformers"), 1
        )
        asyncio.run(_ask_all(backend, missing, settings, file, answers))
    return answers


async def _ask_all(
    backend: Backend, prompts: Sequence[str], settings: DictConfig, file: Path, answers: dict[str, Any]
) -> None:
    gate, how = asyncio.Semaphore(settings.concurrency), settings.estimator
    sampling = Sampling(how.max_tokens, how.temperature, how.top_p, settings.seed)

    async def one(prompt: str) -> dict[str, Any]:
        async with gate:
            begun = time.monotonic()
            written = await backend.generate(
                backend.encode(how.template.replace("{prompt}", prompt)), sampling
            )
            usage = {"prompt_tokens": written.usage.prompt, "completion_tokens": written.usage.completion}
            return {"prompt": prompt, "text": written.text, "finish": written.finish, **usage,
                    "seconds": time.monotonic() - begun}  # fmt: skip

    with Progress(console=console) as progress, file.open("a", encoding="utf-8") as lines:
        task = progress.add_task("estimates", total=len(prompts))

        async def kept(prompt: str) -> None:
            record = await one(prompt)
            answers[prompt] = record
            lines.write(json.dumps(record) + "\n")
            lines.flush()
            progress.advance(task)

        try:
            async with asyncio.TaskGroup() as asked:
                for prompt in prompts:
                    asked.create_task(kept(prompt))
        finally:
            await backend.close()


def figures(cases: Sequence[Case], answers: Mapping[str, Mapping[str, Any]], seed: int) -> dict[str, Any]:
    """Means over cases as [mean, low, high]; an answer that does not parse predicts nothing and is wrong."""
    made = [(case, answers[case.prompt], read(answers[case.prompt]["text"])) for case in cases]
    columns = {
        "format": [answer is not None for _, _, answer in made],
        "cut off": [record["finish"] == "length" for _, record, _ in made],
        "accuracy": [answer is not None and answer.correct == case.correct for case, _, answer in made],
        "accuracy where it parses": [a.correct == c.correct for c, _, a in made if a is not None],
        "says yes": [answer.correct for _, _, answer in made if answer is not None],
        "accuracy, statistical": [(case.statistical > 0.5) == case.correct for case in cases],
        "accuracy, mean": [(case.mean > 0.5) == case.correct for case in cases],
        "token error": [abs(a.tokens - c.tokens) for c, _, a in made if a is not None],
        "prompt tokens": [record["prompt_tokens"] for _, record, _ in made],
        "completion tokens": [record["completion_tokens"] for _, record, _ in made],
        "seconds": [record["seconds"] for _, record, _ in made],
    }
    shown = {name: np.array(values, dtype=float) for name, values in columns.items()}
    means = {
        name: [float(values.mean()), *metrics.interval(values, seed=seed)] if len(values) else None
        for name, values in shown.items()
    }
    gap = metrics.paired_difference(shown["accuracy"], shown["accuracy, statistical"], seed=seed)
    return {"cases": len(cases), **means, "accuracy less statistical": list(gap)}


def cheapest(data: Outcomes, settings: DictConfig) -> dict[str, float]:
    """What the cheapest model's own answer takes."""
    tree = Recording(settings.recording).tree
    prompt = [tree.questions[problem.id].prompt[data.models[0]] for problem in data.problems]
    return {"prompt tokens": float(np.mean(prompt)), "completion tokens": float(data.tokens[0].mean())}
