"""Run a benchmark: a table, then one JSON object as the last line.

python -m scripts.bench engine|gateway|training|simulate|store|cluster|llama|seconds|speculative
"""

from __future__ import annotations

import argparse
import json
import sys

from rich.table import Table

from scripts.bench import cluster, engine, gateway, llama, seconds, simulate, speculative, store, training
from scripts.program import console
from stepwise.errors import StepwiseError


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m scripts.bench", description=__doc__)
    benchmarks = parser.add_subparsers(required=True, metavar="NAME")
    for_training = benchmarks.add_parser("training", help="environment steps and generated tokens per second")
    for_training.add_argument("--num-envs", type=int, default=128)
    for_training.add_argument("--problems", type=int, default=400)
    for_training.add_argument("--steps", type=int, default=12_000, help="environment steps of a rollout")
    for_training.add_argument("--backend", choices=("transformers", "vllm"), default="transformers")
    for_training.set_defaults(run=lambda o: training.measure(o.num_envs, o.problems, o.steps, o.backend))
    for_simulate = benchmarks.add_parser(
        "simulate", help="memory, pace and the cost of episodes over many problems, without models"
    )
    for_simulate.add_argument("--problems", type=int, default=10_000)
    for_simulate.add_argument("--steps", type=int, default=300_000, help="environment steps")
    for_simulate.add_argument("--num-envs", type=int, default=64)
    for_simulate.add_argument("--max-nodes", type=int, default=50_000, help="chains that are remembered")
    for_simulate.set_defaults(run=lambda o: simulate.measure(o.problems, o.steps, o.num_envs, o.max_nodes))
    for_engine = benchmarks.add_parser(
        "engine", help="against uninterrupted calls, against lock step, by itself"
    )
    for_engine.add_argument("--problems", type=int, default=384)
    for_engine.add_argument("--repeats", type=int, default=3)
    for_engine.add_argument(
        "--base-url", action="append", default=[], metavar="NAME=URL",
        help="server of a model (small or large); vLLM in this process runs the others",
    )  # fmt: skip
    for_engine.set_defaults(run=lambda o: engine.measure(o.problems, o.repeats, o.base_url))
    for_gateway = benchmarks.add_parser(
        "gateway", help="latency, a soak, clients that leave, a backend that dies: over HTTP"
    )
    for_gateway.add_argument("--streams", type=int, default=32)
    for_gateway.add_argument("--problems", type=int, default=128)
    for_gateway.add_argument("--soak-streams", type=int, default=200)
    for_gateway.add_argument("--soak-seconds", type=float, default=120.0)
    for_gateway.add_argument("--backend", choices=("transformers", "vllm"), default="vllm")
    for_gateway.set_defaults(
        run=lambda o: gateway.measure(o.streams, o.problems, o.soak_streams, o.soak_seconds, o.backend)
    )
    for_store = benchmarks.add_parser("store", help="reads and writes per second, in a file and on a server")
    for_store.add_argument(
        "--server", default="", metavar="redis://HOST:PORT/0", help="also measure this one"
    )
    for_store.add_argument("--entries", type=int, default=20_000, help="of each client")
    for_store.set_defaults(run=lambda o: store.measure(o.server, o.entries))
    for_cluster = benchmarks.add_parser("cluster", help="chains per second by number of Ray workers")
    for_cluster.add_argument("--address", default="auto")
    for_cluster.add_argument(
        "--workers", type=int, nargs="+", default=[0, 1, 2, 4, 8], help="0: this process"
    )
    for_cluster.add_argument("--chains", type=int, default=10_000, help="of each worker")
    for_cluster.add_argument("--in-flight", type=int, default=200, help="chains of each worker")
    for_cluster.add_argument("--latency", type=float, default=0.02, help="seconds a step")
    for_cluster.add_argument("--folder", default="", help="for the rows; a second run begins with them")
    for_cluster.set_defaults(
        run=lambda o: cluster.measure(o.workers, o.chains, o.in_flight, o.latency, o.address, o.folder)
    )
    for_llama = benchmarks.add_parser("llama", help="one call a step on a llama-server, against one call")
    for_llama.add_argument("--base-url", default="http://127.0.0.1:8080", help="the server, without /v1")
    for_llama.add_argument("--checkpoint", required=True, help="folder with the model's tokenizer")
    for_llama.add_argument("--questions", type=int, default=6)
    for_llama.add_argument("--tokens", type=int, default=120, help="of an answer at most")
    for_llama.add_argument("--repeats", type=int, default=5)
    for_llama.set_defaults(
        run=lambda o: llama.measure(o.base_url, o.checkpoint, o.questions, o.tokens, o.repeats)
    )
    seconds.add_parser(benchmarks)
    speculative.add_parser(benchmarks)
    options = parser.parse_args()
    try:
        figures = options.run(options)
    except StepwiseError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    table = Table("figure", "value")
    for name, value in figures.items():
        table.add_row(name, f"{value:,.4g}" if isinstance(value, float) else str(value))
    console.print(table)
    print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
