"""Training without models: whether memory and pace stay as they are over thousands of problems, what a node
of the tree takes, and whether the episodes that end say what the problems cost.

The models add numbers up, a line each, in steps as long as nano's. Nothing is drawn but actions: a run can be
repeated.
"""

from __future__ import annotations

import gc
import time
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from envs import RoutingVectorEnv
from envs.tree import MAX_WHOLE
from scripts.program import collect_rarely
from stepwise.engine.backend import Completion, Lost, Sampling, unaccounted
from stepwise.engine.cost import Flops
from stepwise.engine.engine import Engine
from stepwise.engine.stop_rules import StepRule
from stepwise.types import Problem, Signals, Usage

WINDOWS = 10
FIRST_TOKEN = 1000
"""Of the alphabet: a number that Python does not keep ready, as most of a real vocabulary are."""
INTERVAL = 64
"""Steps of a slot from one checkpoint to the next, at small sizes."""
SIZES = {"small": 1, "large": 15}


class Adder:
    """Adds the question's numbers up, a line at a time; the small one gets every fifth number wrong. It
    remembers nothing, so that all memory is the environment's."""

    context = 100_000
    tokenizer = "characters"

    def __init__(self, name: str) -> None:
        self.revision, self.parameters, self._errs = name, SIZES[name], name == "small"

    def encode(self, text: str, *, first: bool = True) -> tuple[int, ...]:
        return tuple(FIRST_TOKEN + ord(letter) for letter in text)

    async def generate(
        self, prefix: Sequence[int], sampling: Sampling, lost: Lost = unaccounted
    ) -> Completion:
        question, *lines = "".join(chr(token - FIRST_TOKEN) for token in prefix).split("\n")[:-1]
        numbers = question.split()
        total = int(lines[-1].split()[-1].rstrip(".")) if lines else 0
        usage = Usage(len(prefix), len(prefix))
        if len(lines) == len(numbers):
            return self._written(f"The answer is {total}.", usage, "end")
        number = int(numbers[len(lines)])
        wrong = self._errs and number % 5 == 0
        line = f"And {total} + {number} is {total + number + wrong}.\n"
        return self._written(line, usage, "stop", -1.0 if wrong else -0.05)

    def _written(self, text: str, usage: Usage, finish: Any, logprob: float = -0.05) -> Completion:
        ids = self.encode(text)
        signals = Signals(logprob / 4, logprob, 0.1 - logprob, 0.5, len(ids))
        return Completion(text, ids, usage + Usage(completion=len(ids)), signals, finish)

    async def close(self) -> None:
        pass


def world(n: int, longest: int) -> tuple[Engine, list[Problem]]:
    """The engine, and problems of 3 to ``longest`` numbers."""
    random = np.random.default_rng(0)
    problems = []
    for place in range(n):
        numbers = random.integers(1, 100, random.integers(3, longest + 1)).tolist()
        problems.append(Problem(f"sum-{place}", " ".join(map(str, numbers)), str(sum(numbers))))
    models = {name: Adder(name) for name in SIZES}
    return Engine(models, prompt="{question}\n", rule=StepRule("\n", 64, 128), cost=Flops(SIZES)), problems


def measure(n: int, steps: int, num_envs: int, max_nodes: int) -> dict[str, Any]:
    """Figures by tenths of a rollout with random actions over ``n`` problems, and of what else is asked."""
    collect_rarely()  # as in training
    env = RoutingVectorEnv(*world(n, 16), num_envs=num_envs, max_nodes=max_nodes)
    random = np.random.default_rng(0)
    env.reset(seed=0)
    memory, pace, episodes = [], [], 0
    for _ in range(WINDOWS):
        begun = time.process_time()
        for _ in range(steps // num_envs // WINDOWS):
            arrivals = env.act(random.integers(0, 2, num_envs))
            episodes += sum(arrival.result.terminated for arrival in arrivals)
        pace.append(steps / WINDOWS / (time.process_time() - begun))
        memory.append(resident())
    return {
        "problems": n, "episodes": episodes, "steps": steps, "max_nodes": max_nodes,
        "nodes": env.task.tree.size, "bytes_per_node": bytes_per_node(),
        "resident_mb": [round(megabytes) for megabytes in memory],
        "steps_per_cpu_s": [round(rate) for rate in pace],
        "memory_growth_second_half": memory[-1] / memory[WINDOWS // 2 - 1] - 1.0,
        "pace_last_half_to_first": float(np.mean(pace[WINDOWS // 2 :]) / np.mean(pace[: WINDOWS // 2])),
        **cost_of_episodes(),
    }  # fmt: skip


def resident() -> float:
    """Megabytes of this process that are in memory (Linux)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6


def bytes_per_node(nodes: int = 2 * MAX_WHOLE) -> float:
    """What Python allocates for a node that has been packed: of twice as many nodes against once."""
    env = RoutingVectorEnv(*world(nodes, 16), num_envs=16)
    random = np.random.default_rng(0)
    env.reset(seed=0)
    tracemalloc.start()
    at = []
    for goal in (nodes, 2 * nodes):
        while env.task.tree.size < goal:
            env.act(random.integers(0, 2, 16))
        gc.collect()
        at.append((tracemalloc.get_traced_memory()[0], env.task.tree.size))
    tracemalloc.stop()
    (before, few), (after, many) = at
    return (after - before) / (many - few)


def cost_of_episodes(num_envs: int = 16, checkpoints: int = 20) -> dict[str, float]:
    """Mean cost of an episode with random actions: of every problem equally often, of the episodes that end
    while slots go on across checkpoints, and of those that end where every checkpoint resets all slots."""
    engine, problems = world(40, 60)
    env = RoutingVectorEnv(engine, problems, num_envs=num_envs)
    unit = float(np.mean([once(env, problem) for problem in range(len(problems))]))
    random = np.random.default_rng(0)
    env.reset(seed=0)
    carried = finished(env, random, checkpoints * INTERVAL)
    reset: list[float] = []
    for seed in range(checkpoints):
        env.reset(seed=seed)
        reset += finished(env, random, INTERVAL)
    return {
        "interval": INTERVAL,
        "cost_carried_over_cost_of_problems": float(np.mean(carried)) / unit,
        "cost_reset_over_cost_of_problems": float(np.mean(reset)) / unit,
    }


def once(env: RoutingVectorEnv, problem: int) -> float:
    """Mean cost of one episode in every slot, all of them of one problem."""
    random, costs = np.random.default_rng(problem), dict[int, float]()
    env.reset(seed=problem, options={"problem": problem})
    while len(costs) < env.num_envs:
        for slot, result, _ in env.act(random.integers(0, 2, env.num_envs)):
            if result.terminated:
                costs.setdefault(slot, result.info["total_cost"])
    return float(np.mean(list(costs.values())))


def finished(env: RoutingVectorEnv, random: np.random.Generator, steps: int) -> list[float]:
    """Costs of the episodes that end in so many steps of every slot."""
    arrivals = (arrival for _ in range(steps) for arrival in env.act(random.integers(0, 2, env.num_envs)))
    return [result.info["total_cost"] for _, result, _ in arrivals if result.terminated]
