"""An audit: what chains are charged, held against what the servers say that they computed.

    python -m scripts.checks.audit                # 1,000 chains
    python -m scripts.checks.audit n=50 miscounts=20
    python -m scripts.checks.audit n=200 backend=llama-server base_url=http://127.0.0.1:8080 checkpoint=DIR

Scripted servers solve sums under every router, read whole or as streams; their connections break in the
middle of an answer, they are killed, and chains are cancelled at random moments. The servers write a
line per call into ``usage.jsonl``, the engine one per chain into ``charged.jsonl``; the audit reads the two
files alone. Then one number of ``usage.jsonl`` at random is made wrong by one token, or a call is lost or
comes twice, as often as ``miscounts`` says: every one must be noticed.

With ``base_url`` the models run on that server instead (vLLM's, with ``--enable-prompt-tokens-details``, or
llama-server with ``--metrics``), which must have nothing else to do, and nano's questions are asked. The raw
counts of its answers, and the token ids behind them, are recorded in ``exchanges.jsonl``
(`scripts.checks.real_servers`); the summary holds the sums beside those of the server's own ``/metrics``.

``trouble=false`` leaves out what breaks, dies and is cancelled.

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

from scripts.checks.real_servers import Exchange, RealServer, credited
from scripts.checks.trouble import Trouble, server
from scripts.program import console, program, save_config
from stepwise import load_dataset
from stepwise.backends.http.resilient import Patience, resilient
from stepwise.engine.backend import Backend
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
    trouble: bool = True
    base_url: str = ""
    backend: str = "vllm-server"
    checkpoint: str = ""
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
    servers = Served(RealServer(cfg.backend, cfg.base_url, cfg.checkpoint)) if cfg.base_url else Scripted()
    before = servers.counters()
    asyncio.run(record(output, cfg.n, rng, servers, lookahead=cfg.lookahead, trouble=cfg.trouble))
    counted = [b - a for a, b in zip(before, servers.counters(), strict=True)]
    calls, charged = read(output / "usage.jsonl", ServerCall), read(output / "charged.jsonl", Charged)
    wrong, error = disagreements(calls, charged), relative_error(calls, charged)
    noticed = sum(bool(disagreements(miscounted(calls, rng), charged)) for _ in range(cfg.miscounts))
    for line in wrong[:20]:
        console.print(line)
    figures = {
        "chains": len(charged), "calls": len(calls), "disagree": len(wrong), "miscounts": cfg.miscounts,
        "noticed": noticed, "relative_error": error, "server_counted": counted, **totals(charged),
    }  # fmt: skip
    summary = json.dumps({**figures, **provenance.describe()}, indent=1)
    (output / "summary.json").write_text(summary + "\n", encoding="utf-8")
    console.print(
        f"{len(charged)} chains, {len(calls)} calls: {len(wrong)} accounts disagree; "
        f"{noticed} of {cfg.miscounts} miscounts noticed"
    )
    console.print(f"{error:.6f}")
    if (wrong and not cfg.base_url) or error > LARGEST_ERROR or noticed < cfg.miscounts:
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


def totals(charged: Sequence[Charged]) -> dict[str, int]:
    """Prompt and generated tokens that were charged, and how many of all of them nobody counted."""
    total = sum((usage for chain in charged for usage in chain.usage.values()), Usage())
    written = total.completion + total.discarded
    return {"charged_prompt": total.prompt, "charged_written": written, "estimated": total.estimated}


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


class Scripted:
    """Servers of a chain that write what a function says, and count it."""

    def open(self, chain: str, trouble: Trouble) -> dict[str, Backend]:
        self._servers = {name: server(name, trouble) for name in MODELS}
        return dict(self._servers)

    def question(self, rng: random.Random) -> str:
        return " ".join(str(rng.randint(1, 9)) for _ in range(rng.randint(1, 6)))

    def calls(self, output: Path) -> list[tuple[str, Usage]]:
        """By model, of the chain that was opened last."""
        return [(name, used) for name, one in self._servers.items() for used in one.calls]

    def counters(self) -> tuple[int, int]:
        return 0, 0


class Served:
    """One real server behind all models."""

    def __init__(self, server: RealServer) -> None:
        self._server = server
        self._notes: list[Exchange] = []
        self._questions = [problem.question for problem in load_dataset("nano", split="validation")]

    def open(self, chain: str, trouble: Trouble) -> dict[str, Backend]:
        self._notes = []
        return {name: self._server.backend(chain, name, trouble, self._notes) for name in MODELS}

    def question(self, rng: random.Random) -> str:
        return rng.choice(self._questions)

    def calls(self, output: Path) -> list[tuple[str, Usage]]:
        with (output / "exchanges.jsonl").open("ab") as file:
            file.writelines(msgspec.json.encode(note) + b"\n" for note in self._notes)
        owed = credited(self._notes)
        return [(note.model, usage) for note, usage in zip(self._notes, owed, strict=True)]

    def counters(self) -> tuple[int, int]:
        return self._server.counters()


async def record(
    output: Path,
    n: int,
    rng: random.Random,
    servers: Scripted | Served | None = None,
    *,
    lookahead: bool = False,
    trouble: bool = True,
) -> None:
    """Solve ``n`` problems, and write both files."""
    servers = servers or Scripted()
    (output / "exchanges.jsonl").unlink(missing_ok=True)
    with (
        (output / "usage.jsonl").open("wb") as calls,
        (output / "charged.jsonl").open("wb") as charged,
    ):
        for i in track(range(n), description="chains", console=console):
            chain, happens = str(i), Trouble(rng) if trouble else Trouble(rng, 0.0)
            backends = servers.open(chain, happens)
            problem = Problem(chain, servers.question(rng))
            trace = await solve(problem, backends, happens, rng, lookahead=lookahead)
            for name, used in servers.calls(output):
                call = ServerCall(chain, name, used.prompt, used.cached, used.completion)
                calls.write(msgspec.json.encode(call) + b"\n")
            charged.write(msgspec.json.encode(Charged(chain, trace.cost, trace.usage)) + b"\n")


def read(path: Path, kind: type[Any]) -> list[Any]:
    return [msgspec.json.decode(line, type=kind) for line in path.read_bytes().splitlines()]


async def solve(
    problem: Problem, servers: dict[str, Backend], trouble: Trouble, rng: random.Random, *, lookahead: bool
) -> Trace:
    """One problem under one router, read whole or as a stream."""
    backends = {name: resilient(one, name, patience=PATIENCE) for name, one in servers.items()}
    judge = Judge(backends.pop("judge"))
    engine = Engine(
        backends, prompt="{question}\n", rule=StepRule("\n", 64, 12), cost=Tokens(), judge=judge,
        lookahead=[*backends] if lookahead else [], failover=True,
    )  # fmt: skip
    solution = engine.solve(problem, rng.choice(ROUTERS))
    heard: list[Event] = []
    trouble.task = asyncio.ensure_future(solution.finish(heard.append if rng.random() < 0.5 else None))
    with suppress(asyncio.CancelledError):
        await trouble.task
    await engine.close()
    if solution.trace is None:
        raise BackendError(f"chain {problem.id} has no trace.")
    return solution.trace


def _counts(usage: Usage) -> tuple[int, int, int]:
    """Of a prompt: its tokens and the cached ones; and what was written, kept or not."""
    return usage.prompt, usage.cached, usage.completion + usage.discarded


if __name__ == "__main__":
    main()
