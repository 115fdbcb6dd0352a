"""Where work runs beside this process: a Ray cluster, and what each of its workers is given."""

from __future__ import annotations

import msgspec

from stepwise.errors import ConfigError

AUTO = "auto"


class ClusterSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A cluster and the workers to start on it.

    Attributes:
        address: ``ray://HOST:10001``, ``HOST:6379``, or "auto": the cluster that this machine belongs to,
            or one that is started here for the run.
        workers: processes; 0 takes as many as the cluster has room for.
        cpus: that each of them reserves.
        gpus: likewise; models that run in the workers get these.
    """

    address: str = AUTO
    workers: int = 0
    cpus: float = 1.0
    gpus: float = 0.0

    def __post_init__(self) -> None:
        for name in ("workers", "cpus", "gpus"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} must not be negative, got {getattr(self, name)}.")
        if not self.cpus and not self.gpus:
            raise ConfigError("cpus and gpus are both 0: a worker needs some of one of them.")

    def count(self, resources: dict[str, float]) -> int:
        """How many workers to start on a cluster with these resources.

        Raises:
            ConfigError: if there is no room for them.
        """
        wanted = {"CPU": self.cpus, "GPU": self.gpus}
        fits = min(int(resources.get(kind, 0.0) / each) for kind, each in wanted.items() if each)
        if fits < max(self.workers, 1):
            has = " and ".join(f"{resources.get(kind, 0.0):g} {kind}s" for kind in wanted)
            raise ConfigError(
                f"cluster.workers: {max(self.workers, 1)} of {self.cpus:g} CPUs and {self.gpus:g} GPUs each "
                f"do not fit on the cluster, which has {has}."
            )
        return self.workers or fits
