"""Starting workers on a cluster that has been joined, and what they answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stepwise.cluster.settings import ClusterSettings
from stepwise.cluster.worker import Recipe, Worker, code_version
from stepwise.errors import ConfigError, StepwiseError


def start_workers(ray: Any, recipe: Recipe, settings: ClusterSettings, calls: int) -> list[Any]:
    """Actors that run `Worker`, as many as the settings want or fit.

    Args:
        calls: at a time, on each.

    Raises:
        ConfigError: if the cluster has no room.
    """
    count = settings.count(ray.cluster_resources())
    actor = ray.remote(
        num_cpus=settings.cpus, num_gpus=settings.gpus, max_restarts=-1, scheduling_strategy="SPREAD",
        max_concurrency=calls + 1,  # and `open`
    )(Worker)  # fmt: skip
    return [actor.remote(recipe, str(Path.cwd())) for _ in range(count)]


def machines(ray: Any) -> int:
    """How many the cluster has."""
    return len({node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]})


def check_code(code: str) -> None:
    """Raises:
    ConfigError: if it is not the code of this process.
    """
    if code != code_version():
        raise ConfigError(
            f"cluster: a worker runs stepwise {code}, this process {code_version()}; install the same on "
            "every node."
        )


def raised_there(error: Any) -> Exception:
    """What a service raised, as if it had been raised here; errors that are not ours keep their traceback."""
    cause = error.cause
    return cause if isinstance(cause, StepwiseError) else error


def line(error: Exception | None) -> str:
    """An error on one line, at most 300 characters."""
    return " ".join(str(error).split())[:300]
