"""The recorded environment for OpenEnv's trainers, whose policies may read numbers or steps.

python -m examples.openenv_server                  # serves on a free port, plays 300 chains, ends
uvicorn examples.openenv_server:app --port 8000    # serves until it is stopped

The client accepts a draft of the small model unless a token in it was less likely than LIMIT. That is
StepBench's router `confidence` at 0.8, and its figures.
"""

# ```text
# 300 chains: 37.7% right, cost 128.5% of the large model alone, mean reward 0.077
# ```

from __future__ import annotations

import math
import socket
from statistics import fmean
from threading import Thread
from typing import Any
from uuid import uuid4

import uvicorn
from openenv.core.client_types import StepResult
from openenv.core.env_client import EnvClient
from openenv.core.env_server import Action, Environment, Observation, State, create_app

from envs import RoutingEnv

LIMIT = math.exp(-0.8)


class Choice(Action):
    """The model that writes the next step: ``small`` accepts the draft, ``large`` replaces it."""

    model: str


class Look(Observation):
    """A chain, and the draft that waits. ``problem`` is an id, since a recording holds no questions;
    ``features`` are Gymnasium's observation, by name; ``correct`` and ``cost``, in chains of the large model
    alone, come with the end."""

    problem: str
    steps: list[str]
    draft: str
    features: dict[str, float]
    correct: bool | None = None
    cost: float | None = None


class Routing(Environment[Choice, Look, State]):
    """An episode is a question. Its reward: 1 for a right answer, less ``cost_weight`` times the cost."""

    SUPPORTS_CONCURRENT_SESSIONS = True  # they share the recording, which is only read

    def __init__(self, recording: str = "gsm8k-qwen_coder", split: str = "test", cost_weight: float = 0.3):
        super().__init__()
        self._env = RoutingEnv(recording=recording, split=split, cost_weight=cost_weight)
        self._models = self._env.task.engine.models
        self._state = State()

    @property
    def state(self) -> State:
        return self._state

    def reset(
        self, seed: int | None = None, episode_id: str | None = None, problem: int | None = None, **_: Any
    ) -> Look:
        """Begin with a problem: the one of this index, or one that is drawn."""
        seen, _info = self._env.reset(seed=seed, options=None if problem is None else {"problem": problem})
        self._state = State(episode_id=episode_id or str(uuid4()))
        return self._look(seen)

    def step(self, action: Choice, timeout_s: float | None = None, **_: Any) -> Look:
        if action.model not in self._models:
            raise ValueError(f"model must be one of {', '.join(self._models)}, not {action.model!r}.")
        seen, reward, *ends, info = self._env.step(self._models.index(action.model))
        self._state.step_count += 1
        outcome = {"correct": bool(info["correct"]), "cost": info["total_cost"]} if any(ends) else {}
        return self._look(seen, reward=reward, done=any(ends), **outcome)

    def _look(self, seen: Any, **more: Any) -> Look:
        trace = self._env.trace
        return Look(
            problem=trace.problem.id,
            steps=[f"[{step.model}] {step.text.strip()}" for step in trace.steps],
            draft=trace.draft.text.strip() if trace.draft else "",
            features=dict(zip(self._env.task.observer.features, seen.tolist(), strict=False)),
            **more,
        )


app = create_app(Routing, Choice, Look, env_name="stepwise-routing", max_concurrent_envs=64)


class Client(EnvClient[Choice, Look, State]):
    """What a trainer talks to the server with."""

    def _step_payload(self, action: Choice) -> dict[str, Any]:
        return {"model": action.model}

    def _parse_result(self, payload: dict[str, Any]) -> StepResult[Look]:
        ends = {name: payload[name] for name in ("reward", "done")}
        return StepResult(Look(**payload["observation"] | ends), **ends)

    def _parse_state(self, payload: dict[str, Any]) -> State:
        return State(**payload)


def play(client: Any, problem: int) -> tuple[bool, float, float]:
    """Whether the rule's answer was right, what it cost, and the sum of its rewards."""
    result, total = client.reset(problem=problem), 0.0
    while not result.done:
        unsure = result.observation.features["draft_worst"] < LIMIT
        result = client.step(Choice(model="large" if unsure else "small"))
        total += result.reward
    return result.observation.correct, result.observation.cost, total


if __name__ == "__main__":
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical"))  # goodbyes count as errors
    Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True).start()
    with Client(f"http://127.0.0.1:{listening.getsockname()[1]}").sync() as client:
        right, cost, reward = zip(*(play(client, problem) for problem in range(300)), strict=True)
    print(f"300 chains: {fmean(right):.1%} right, cost {fmean(cost):.1%} of the large model alone, "
          f"mean reward {fmean(reward):.3f}")  # fmt: skip
