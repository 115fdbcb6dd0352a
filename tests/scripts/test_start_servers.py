"""What a pair's servers are started with."""

from __future__ import annotations

import pytest

from scripts.start_servers import plan
from stepwise import Model, Pair
from stepwise.errors import ConfigError

SMALL = Model(
    "small",
    "org/small",
    parameters=2**30,
    backend={"name": "vllm-server", "base_url": "http://localhost:8001/v1", "context": 4096},
)
LARGE = Model(
    "large",
    "org/large",
    parameters=4 * 2**30,
    backend={"name": "vllm-server", "base_url": "http://localhost:8002/v1"},
)
FAR = Model("far", backend={"name": "chat", "base_url": "https://example.org/v1", "served_name": "far"})


def test_every_local_model_gets_a_server_and_its_share_of_the_gpu() -> None:
    servers = plan(
        Pair("p", (SMALL, LARGE, FAR), "{question}"), gpu_gib=24, cache_gib=2, options=("--seed", "1")
    )
    assert [server.model for server in servers] == ["small", "large"]
    assert [server.weights_gib for server in servers] == [2, 8]
    commands = [" ".join(server.command) for server in servers]
    assert "--model org/small --port 8001" in commands[0] and "--max-model-len 4096" in commands[0]
    assert "--port 8002" in commands[1] and "--max-model-len" not in commands[1]
    shares = [
        float(server.command[server.command.index("--gpu-memory-utilization") + 1]) for server in servers
    ]
    assert 0.9 < sum(shares) <= 0.96 and shares[1] > 2 * shares[0]
    assert all(command.endswith("--seed 1") for command in commands)


def test_what_does_not_fit_or_is_elsewhere_is_said() -> None:
    with pytest.raises(ConfigError, match="gpu_gib: p needs about 14 GiB, more than 95% of 8"):
        plan(Pair("p", (SMALL, LARGE), "{question}"), gpu_gib=8, cache_gib=2)
    with pytest.raises(ConfigError, match="no model with a base_url on localhost"):
        plan(Pair("p", (FAR,), "{question}"), gpu_gib=80, cache_gib=2)
