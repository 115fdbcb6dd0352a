"""An audit: what chains are charged, held against what the servers say that they computed.

    python -m scripts.checks.audit                # 1,000 chains
    python -m scripts.checks.audit n=50 miscounts=20

Scripted servers solve sums under every router, read whole or as streams; their connections break in the
middle of an answer, they are killed, and chains are cancelled at random moments. The servers write a
line per call into ``usage.jsonl``, the engine one per chain into ``charged.jsonl``; the audit reads the two
files alone. Then one number of ``usage.jsonl`` at random is made wrong by one token, or a call is lost or
comes twice, as often as ``miscounts`` says: every one must be noticed.

The exit code is 1 where an account disagrees, the cost is off by more than 0.1%, or a miscount is not
noticed. The figure on the last line is the cost's relative error.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from omegaconf import DictConfig
from rich.progress import track

from scripts.program import console, program, save_config
from stepwise.backends.http.resilient import Patience, resilient
from stepwise.backends.scripted import ScriptedBackend
from stepwise.engine.cost import Tokens
from stepwise.engine.engine import Engine
from stepwise.engine.judge import Judge
from stepwise.engine.solution import Event
from stepwise.engine.stop_rules import StepRule
from stepwise.errors import BackendError
from stepwise.evaluation import provenance
from stepwise.routers import Always, Confidence, FirstTokenEntropy, ProcessReward, ThresholdRouter
from stepwise.types import Problem, Router, Trace, Usage

MODELS = ("small", "large", "judge")
LARGEST_ERROR = 1e-3
PATIENCE = Patience(first_wait_s=1e-6, max_wait_s=1e-6, failures=10_000)
ROUTERS: tuple[Router, ...] = (
    Always("small"),
    Always("large"),
    ThresholdRouter(Confidence("min"), 0.5, "confidence"),  # drafts, some of them discarded
    ThresholdRouter(FirstTokenEntropy(), 0.3, "entropy"),  # probes
    ThresholdRouter(ProcessReward(), 0.5, "prm"),  # drafts that a judge reads
)


@dataclass
class Audit:
    """How many chains, and how many miscounts."""

    n: int = 1000
    miscounts: int = 100
    seed: int = 0
    lookahead: bool = False
    output: str = "outputs/check_audit"


class ServerCall(msgspec.Struct, frozen=True):
    """A line of ``usage.jsonl``: tokens of one call, as the server counted them."""

    chain: str
    model: str
    prompt: int
    cached: int
    written: int


class Charged(msgspec.Struct, frozen=True):
    """A line of ``charged.jsonl``: tokens of a chain by model, and their cost."""

    chain: str
    cost: float
    usage: dict[str, Usage]


@program("checks.audit", Audit)
def main(cfg: DictConfig) -> None:
    output = provenance.writable(cfg.output)
    save_config(cfg, output)
    rng = random.Random(cfg.seed)
    asyncio.run(record(output, cfg.n, rng, lookahead=cfg.lookahead))
    calls, charged = read(output / "usage.jsonl", ServerCall), read(output / "charged.jsonl", Charged)
    wrong, error = disagreements(calls, charged), relative_error(calls, charged)
    noticed = sum(bool(disagreements(miscounted(calls, rng), charged)) for _ in range(cfg.miscounts))
    for line in wrong[:20]:
        console.print(line)
    figures = {
        "chains": len(charged), "calls": len(calls), "disagree": len(wrong), "miscounts": cfg.miscounts,
        "noticed": noticed, "relative_error": error,
    }  # fmt: skip
    summary = json.dumps({**figures, **provenance.describe()}, indent=1)
    (output / "summary.json").write_text(summary + "\n", encoding="utf-8")
    console.print(
        f"{len(charged)} chains, {len(calls)} calls: {len(wrong)} accounts disagree; "
        f"{noticed} of {cfg.miscounts} miscounts noticed"
    )
    console.print(f"{error:.6f}")
    if wrong or error > LARGEST_ERROR or noticed < cfg.miscounts:
        sys.exit(1)


def disagreements(calls: Iterable[ServerCall], charged: Iterable[Charged]) -> list[str]:
    """A sentence for each chain and model whose account is not what its server counted."""
    served: dict[tuple[str, str], Usage] = {}
    for call in calls:
        at = (call.chain, call.model)
        served[at] = served.get(at, Usage()) + Usage(call.prompt, call.cached, call.written)
    billed = {(chain.chain, name): usage for chain in charged for name, usage in chain.usage.items()}
    return [
        f"chain {at[0]}, {at[1]}: the server counted {_counts(a)}, charged are {_counts(b)}"
        for at in sorted({*served, *billed})
        if _counts(a := served.get(at, Usage())) != _counts(b := billed.get(at, Usage()))
    ]


def relative_error(calls: Iterable[ServerCall], charged: Sequence[Charged]) -> float:
    """Of the cost that was charged, against that of what the servers counted."""
    cost = Tokens()({str(i): Usage(c.prompt, c.cached, c.written) for i, c in enumerate(calls)})
    return abs(sum(chain.cost for chain in charged) - cost) / max(cost, 1.0)


def miscounted(calls: Sequence[ServerCall], rng: random.Random) -> list[ServerCall]:
    """The calls with one mistake."""
    i = rng.randrange(len(calls))
    call, kind = calls[i], rng.choice(("lost", "twice", "prompt", "cached", "written"))
    if kind == "lost":
        return [*calls[:i], *calls[i + 1 :]]
    if kind == "twice":
        return [*calls, call]
    count = getattr(call, kind) + rng.choice((-1, 1))
    return [*calls[:i], msgspec.structs.replace(call, **{kind: count}), *calls[i + 1 :]]


async def record(output: Path, n: int, rng: random.Random, *, lookahead: bool = False) -> None:
    """Solve ``n`` problems, and write both files."""
    with (
        (output / "usage.jsonl").open("wb") as calls,
        (output / "charged.jsonl").open("wb") as charged,
    ):
        for i in track(range(n), description="chains", console=console):
            chain, trouble = str(i), Trouble(rng)
            servers = {name: server(name, trouble) for name in MODELS}
            trace = await solve(chain, servers, trouble, rng, lookahead=lookahead)
            for name, one in servers.items():
                for used in one.calls:
                    call = ServerCall(chain, name, used.prompt, used.cached, used.completion)
                    calls.write(msgspec.json.encode(call) + b"\n")
            charged.write(msgspec.json.encode(Charged(chain, trace.cost, trace.usage)) + b"\n")


def read(path: Path, kind: type[Any]) -> list[Any]:
    return [msgspec.json.decode(line, type=kind) for line in path.read_bytes().splitlines()]


async def solve(
    chain: str, servers: dict[str, ScriptedBackend], trouble: Trouble, rng: random.Random, *, lookahead: bool
) -> Trace:
    """One problem under one router, read whole or as a stream."""
    backends = {name: resilient(one, name, patience=PATIENCE) for name, one in servers.items()}
    judge = Judge(backends.pop("judge"))
    engine = Engine(
        backends, prompt="{question}\n", rule=StepRule("\n", 64, 12), cost=Tokens(), judge=judge,
        lookahead=[*backends] if lookahead else [], failover=True,
    )  # fmt: skip
    numbers = " ".join(str(rng.randint(1, 9)) for _ in range(rng.randint(1, 6)))
    solution = engine.solve(Problem(chain, numbers), rng.choice(ROUTERS))
    heard: list[Event] = []
    trouble.task = asyncio.ensure_future(solution.finish(heard.append if rng.random() < 0.5 else None))
    with suppress(asyncio.CancelledError):
        await trouble.task
    await engine.close()
    if solution.trace is None:
        raise BackendError(f"chain {chain} has no trace.")
    return solution.trace


class Trouble:
    """Breaks connections, kills a server and cancels the chain, at random moments of the
    servers' work.

    Attributes:
        task: that solves the chain.
    """

    task: asyncio.Future[Trace]

    def __init__(self, rng: random.Random) -> None:
        self._moment = 0
        self._breaks = {rng.randint(1, 60) for _ in range(rng.randint(0, 3))}
        self._kills = rng.randint(1, 60) if rng.random() < 0.2 else None
        self._cancels = rng.randint(1, 60) if rng.random() < 0.2 else None
        self._dead: set[str] = set()

    async def connect(self, name: str) -> None:
        await asyncio.sleep(0)
        if name in self._dead:
            raise BackendError("the server is down.")

    async def write(self, name: str) -> None:
        self._moment += 1
        if self._moment == self._cancels:
            self.task.cancel()
        await asyncio.sleep(0)
        if self._moment == self._kills:
            self._dead.add(name)
        if self._moment in self._breaks or name in self._dead:
            raise BackendError("the connection broke.", retryable=True)


def server(name: str, trouble: Trouble) -> ScriptedBackend:
    """A model that adds up the question's numbers, one a line. The small one is unsure of large numbers, and
    the judge doubts every second line."""
    made = ScriptedBackend(
        (lambda text: "+" if text.count("\n") % 2 else "-") if name == "judge" else sums,
        logprob=(lambda line: -1.0 if "8" in line else -0.01),
        before=lambda _: trouble.connect(name),
    )
    made.during = lambda _: trouble.write(name)
    return made


def sums(text: str) -> str:
    """What follows a question and the lines so far, of which the last may be unfinished."""
    question, _, chain = text.partition("\n")
    *done, begun = chain.split("\n")
    numbers = [int(number) for number in question.split()]
    lines = [
        f"{sum(numbers[:i])} + {number} = {sum(numbers[: i + 1])}.\n" for i, number in enumerate(numbers)
    ]
    rest = "".join(lines[len(done) :]) + f"The answer is {sum(numbers)}."
    return rest[len(begun) :]


def _counts(usage: Usage) -> tuple[int, int, int]:
    """Of a prompt: its tokens and the cached ones; and what was written, kept or not."""
    return usage.prompt, usage.cached, usage.completion + usage.discarded


if __name__ == "__main__":
    main()
