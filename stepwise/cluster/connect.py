"""Joining a Ray cluster; what cannot work is said in one sentence before any work starts."""

from __future__ import annotations

import logging
import os
import socket
from typing import Any
from urllib.parse import urlsplit

from stepwise.cluster.settings import AUTO
from stepwise.errors import ConfigError
from stepwise.extras import require

KNOCK_S = 5.0


def join(address: str) -> tuple[Any, bool]:
    """Ray, joined to a cluster, and whether this call joined it (else the process had before).

    Raises:
        ConfigError: if Ray is not installed, no cluster answers, or it runs other versions than this process.
    """
    require("cluster=ray", "cluster", "ray")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    if ray.is_initialized():
        return ray, False
    if address != AUTO:
        _knock(address)
    try:
        ray.init(
            address=None if address == AUTO else address, log_to_driver=False, logging_level=logging.ERROR,
            configure_logging=False, include_dashboard=False,
        )  # fmt: skip
    except Exception as error:  # Ray raises all kinds, plain ones when a node does not come up in time
        raise ConfigError(f"cluster.address: {_why(address, error)}") from error
    return ray, True


def _knock(address: str) -> None:
    """See that somebody listens: Ray itself would try for minutes.

    Raises:
        ConfigError: if nobody does.
    """
    try:
        place = urlsplit(address if "://" in address else f"ray://{address}")
        if place.scheme != "ray" or not place.hostname or not place.port:
            raise ValueError("expected ray://HOST:PORT or HOST:PORT")
        socket.create_connection((place.hostname, place.port), timeout=KNOCK_S).close()
    except (OSError, ValueError) as error:
        raise ConfigError(f"cluster.address: {_why(address, error)}") from error


def _why(address: str, error: Exception) -> str:
    what = " ".join(str(error).split())
    if "mismatch" in what.lower():
        return f"the cluster at {address} and this process run different versions: {what[:300]}"
    return f"no Ray cluster can be joined at {address}: {what[:300]}"
