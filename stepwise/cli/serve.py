"""``stepwise serve``: from the command line to a running gateway."""

from __future__ import annotations

import argparse
import ipaddress
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from stepwise import load_dataset, load_pair
from stepwise.calibration import OnlineThreshold
from stepwise.cli import scoped
from stepwise.cli.options import Commands, add_routing
from stepwise.errors import ConfigError
from stepwise.models.overrides import with_options
from stepwise.models.pair import Pair
from stepwise.routers import PolicyRouter
from stepwise.routers.named import DEFAULT_BUDGET, named_router, pool
from stepwise.store.opening import on_server
from stepwise.types import Router, expects

if TYPE_CHECKING:
    from fastapi import FastAPI

    from stepwise.engine.engine import Engine
    from stepwise.gateway import Keys, Spending
    from stepwise.gateway.decisions import Decisions
    from stepwise.scope import Scope

LOCAL = ("localhost", "127.0.0.1", "::1")
"""What requests call a server that answers to this machine alone."""
EXAMPLES = 8
"""Questions that the page offers."""
RATE = 0.2
"""Of the online threshold's updates: costs differ far more from request to request than the budget
allows, and at 1 the first would throw the threshold from one end to the other."""


def add_parser(commands: Commands) -> None:
    command = commands.add_parser("serve", help="serve a pair over an OpenAI-compatible API, with a page")
    add_routing(command)
    add = command.add_argument
    add("--host", default="127.0.0.1", help="address to bind (default: %(default)s)")
    add("--port", type=int, default=8700, help="port to bind; 0 picks a free one (default: %(default)s)")
    add("--keys", type=Path, help="TOML file of tenants, their hashed keys and limits")
    add("--key-env", action="append", default=[], metavar="NAME", help="environment variable with a key")
    add("--insecure", action="store_true", help="accept other machines without keys")
    add("--concurrency", type=int, default=128, help="chains at once (default: %(default)s)")
    add("--queue", type=int, default=256, help="chains that may wait (default: %(default)s)")
    add("--max-tokens", type=int, help="most completion tokens of a chain")
    add("--max-body", type=int, default=1_000_000, help="largest request in bytes (default: %(default)s)")
    add("--timeout", type=float, default=300.0, help="longest request in seconds (default: %(default)g)")
    add(
        "--drain", type=int, default=30, help="seconds to finish open requests on stop (default: %(default)s)"
    )
    add(
        "--state", default="outputs/gateway/state.json", metavar="FILE|redis://...",
        help="file that survives a restart, or what several servers share (default: %(default)s)",
    )  # fmt: skip
    add(
        "--conversation", choices=("pair", "include"), default="pair",
        help="give system messages and earlier turns to the models as the pair says, or write them into the "
        "question (default: %(default)s)",
    )  # fmt: skip
    add(
        "--alias", action="append", default=[], metavar="NAME=MODEL",
        help="another name of a model: gpt-4o=stepwise, fast=stepwise:budget=0.25",
    )  # fmt: skip
    add(
        "--cors", action="append", default=[], metavar="ORIGIN",
        help="let pages of this origin ask, https://example.com or '*' for all",
    )  # fmt: skip
    scoped.add_options(command)
    observed = command.add_mutually_exclusive_group()
    observed.add_argument(
        "--shadow",
        metavar="MODEL",
        help="let this model answer everything, and only log what the router decides",
    )
    observed.add_argument(
        "--explore",
        type=float,
        metavar="SHARE",
        help="draw this share of the decisions at random, and log all",
    )
    add(
        "--decisions", type=Path, default=Path("outputs/gateway/decisions.jsonl"),
        help="log of --shadow and --explore, for `stepwise report --logged` (default: %(default)s)",
    )  # fmt: skip
    add("--telemetry", action="store_true", help="send spans where OTEL_EXPORTER_OTLP_ENDPOINT says")
    add("--log-prompts", action="store_true", help="write questions and answers to the log")
    command.set_defaults(run=run)


def run(options: argparse.Namespace, console: Console) -> None:
    """Serve until a signal stops it.

    Raises:
        ConfigError: if an option is unusable; everything is checked before a model is loaded.
    """
    from stepwise.gateway import Keys, Limits, create_app
    from stepwise.gateway.connections import Bounds
    from stepwise.gateway.knob import Knob
    from stepwise.gateway.server import bind, most_connections, note_open_files, serve
    from stepwise.gateway.tracing import telemetry

    keys = Keys.load(options.keys, options.key_env)
    local = _is_local(options.host)
    _refuse_to_expose(options.host, keys, local=local, insecure=options.insecure)
    limits = Limits(
        concurrency=options.concurrency, queue=options.queue, body=options.max_body,
        tokens=options.max_tokens, seconds=options.timeout,
    )  # fmt: skip
    pair, backend = with_options(load_pair(options.pair), options.backend, options.backend_option)
    scoped.check(options)
    routed = options.router in scoped.SCOPED
    models = [model.name for model in pair.models] if routed else pool(options.router, pair)
    names = [model.name for model in pair.select(models)]
    scope = _scope(options, pair, names)
    router, online = _router(options, pair, scope)
    aliases = dict(map(_alias, options.alias))
    routers = {options.router.rpartition(":")[2]: router}
    Knob(names, routers, online, aliases)  # refuses early
    unit = pair.cost_model(options.cost).unit
    decisions = _decisions(options, names)
    tracing = telemetry() if options.telemetry else None
    listening = bind(options.host, options.port)

    def build(spending: Spending) -> tuple[FastAPI, Engine]:
        engine = pair.engine(backend=backend, cost=options.cost, models=names, failover=True)
        if scope is not None and expects(router):
            from stepwise.scope.routers import ScopePrior

            engine = engine.with_prior(ScopePrior(scope, tuple(names)))
        app = create_app(
            engine, routers, keys=keys, limits=limits, spending=spending,
            estimator=scope, examples=_examples(pair), purpose=pair.purpose,
            conversation=options.conversation == "include",
            log_prompts=options.log_prompts, aliases=aliases, origins=options.cors, decisions=decisions,
            tracing=tracing, hosts=LOCAL if local and not keys.tenants else (),
        )  # fmt: skip
        return app, engine

    host, port = listening.getsockname()[:2]
    at = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    address = f"{pair.name} at {at}: a page at /, OpenAI's API at /v1, metrics at /metrics"

    def say() -> None:
        console.print(address, soft_wrap=True, highlight=False)
        note_open_files(options.concurrency + options.queue)

    if sys.stderr.isatty():  # a program reads the address from standard output, and JSON from standard error
        Console(stderr=True).print(
            f"opening {', '.join(names)}; {at} shows when they can be asked", soft_wrap=True, highlight=False
        )
    with _spending(options.state, online, unit, keys) as spending:
        bounds = Bounds(most_connections(options.concurrency + options.queue))
        serve(partial(build, spending), listening, drain=options.drain, bounds=bounds, ready=say)


@contextmanager
def _spending(state: str, online: OnlineThreshold | None, unit: str, keys: Keys) -> Iterator[Spending]:
    """The accounts in a file, which belongs to one server, or on a server that several share."""
    if on_server(state):
        from stepwise.gateway.redis_accounts import RedisAccounts
        from stepwise.gateway.shared import SharedSpending

        yield SharedSpending(RedisAccounts(state, unit), online, keys.tenants)
        return
    from stepwise.gateway import Spending
    from stepwise.gateway.state import held

    path = Path(state)
    with held(path):
        yield Spending(online, path, unit)


def _router(
    options: argparse.Namespace, pair: Pair, scope: Scope | None
) -> tuple[Router, OnlineThreshold | None]:
    """The default router and, where a budget alone is given, what keeps its spend on target."""
    loss, threshold = options.max_accuracy_loss, options.threshold
    named = options.policy if options.router == "seeded" else options.router
    router = None
    if options.router != "scope":
        router = named_router(
            named, pair, budget=options.budget, max_accuracy_loss=loss, threshold=threshold,
            unit=pair.cost_model(options.cost).unit, estimates=scope is not None,
        )  # fmt: skip
    record = router.artifact.record if isinstance(router, PolicyRouter) else None
    if scope is not None and options.router in scoped.SCOPED:
        from stepwise.gateway.scoped import scoped_router

        alpha = scoped.ALPHA if options.alpha is None else options.alpha
        router = scoped_router(scope, pair, alpha, router)
    if router is None:
        raise ConfigError("router 'scope' needs --anchors and --fingerprints.")
    if record is None or loss is not None or threshold is not None:
        return router, None
    return router, OnlineThreshold(record, options.budget or DEFAULT_BUDGET, rate=RATE)


def _decisions(options: argparse.Namespace, names: Sequence[str]) -> Decisions | None:
    """The log of decisions, where any are drawn or only watched."""
    from stepwise.gateway.decisions import Decisions

    if options.shadow is not None:
        shadow = {"small": names[0], "large": names[-1]}.get(options.shadow, options.shadow)
        if shadow not in names:
            raise ConfigError(f"shadow must be one of {', '.join(names)}, not {options.shadow!r}.")
        return Decisions(options.decisions, shadow=shadow)
    if options.explore is not None:
        return Decisions(options.decisions, explore=options.explore)
    return None


def _scope(options: argparse.Namespace, pair: Pair, models: Sequence[str]) -> Scope | None:
    """SCOPE over the files that were given; asked once, so that what is missing is said now.

    A fingerprint without a price takes the pair's; where both have one, they have to agree.
    """
    if options.anchors is None:
        return None
    from stepwise.scope import AnchorSet, FingerprintStore, Scope

    anchors, store = AnchorSet.load(options.anchors), FingerprintStore(options.fingerprints, create=False)
    prices = {model.name: model.price for model in pair.models if model.price}
    scope = Scope(anchors=anchors, fingerprints=store, prices=prices)
    known = scope.known
    unknown = [name for name in models if name not in (*known.models, *known.quarantined)]
    if unknown:
        raise ConfigError(
            f"The pair served is {options.pair} ({', '.join(models)}), and these fingerprints are of "
            f"{', '.join(known.models)}: give --pair with a file of those models."
        )
    scope.estimate("How much is 1 + 1?", models=models)
    return scope


def _examples(pair: Pair) -> list[str]:
    """Questions of the kind that the pair was trained on, where there are any."""
    return (
        [problem.question for problem in load_dataset("nano", limit=EXAMPLES)] if pair.name == "nano" else []
    )


def _alias(text: str) -> tuple[str, str]:
    name, _, model = text.partition("=")
    if not name or not model:
        raise ConfigError(f"alias must be NAME=MODEL, gpt-4o=stepwise for example, not {text!r}.")
    return name, model


def _is_local(host: str) -> bool:
    """Whether an address can be reached from this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _refuse_to_expose(host: str, keys: Keys, *, local: bool, insecure: bool) -> None:
    if not (local or keys.tenants or insecure):
        raise ConfigError(
            f"host {host} can be reached from other machines, and there are no keys: pass --keys or "
            "--key-env, or --insecure to let anyone use the models."
        )
