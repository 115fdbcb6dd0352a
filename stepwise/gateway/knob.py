"""The knob: from what a request may cost to the router for it.

    stepwise                     the server's default
    stepwise:budget=0.25         at most a quarter of what large-only would cost
    stepwise:threshold=0.6       the router's threshold itself
    stepwise:alpha=0.8           how much correctness counts, for routers that choose by SCOPE's estimates
    stepwise:small               one model (or another router) by name

The same in the body's ``stepwise`` object.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol, cast, runtime_checkable

from pydantic import ValidationError

from stepwise.calibration import CalibrationRecord, OnlineThreshold, calibrate
from stepwise.engine.deciding import check_router
from stepwise.errors import ConfigError, InfeasibleTarget, StepwiseError
from stepwise.gateway.failures import Refusal, invalid, shown
from stepwise.gateway.schemas import Options
from stepwise.routers import Always, PolicyRouter, ThresholdRouter
from stepwise.types import Router

if TYPE_CHECKING:
    from stepwise.scope import Scope

NAME = "stepwise"


@runtime_checkable
class Weighing(Protocol):
    """`stepwise.scope.routers.ScopeRouter`, as far as it is turned here: its libraries are many, and most
    gateways need none of them."""

    name: str
    scope: Scope
    models: tuple[str, ...]
    alpha: float | None
    budget: float | None


@runtime_checkable
class Seeded(Protocol):
    """`stepwise.scope.routers.Seeded`, likewise."""

    router: Router
    seed: Router


class Knob:
    """Chooses a router for each request.

    Args:
        models: names of the pool, cheapest first.
        routers: by name; the first is the default.
        online: moves the default's threshold.
        aliases: other names, and what each stands for.

    Raises:
        ConfigError: if there is no router, one cannot route or has a model's name, ``online`` has nothing to
            move, or an alias stands for nothing.
    """

    def __init__(
        self,
        models: Sequence[str],
        routers: Mapping[str, Router],
        online: OnlineThreshold | None = None,
        aliases: Mapping[str, str] | None = None,
    ) -> None:
        if not routers:
            raise ConfigError("routers: the gateway needs at least one.")
        fixed = {"small": Always(models[0]), "large": Always(models[-1])}
        alone = {**fixed, **{model: Always(model) for model in models}}
        taken = [name for name, router in routers.items() if alone.get(name, router) != router]
        if taken:
            raise ConfigError(f"routers: {taken[0]!r} is a model's name; give the router another.")
        for router in routers.values():
            check_router(router)
        self.default = next(iter(routers))
        self.routers: Mapping[str, Router] = {**routers, **alone}
        self.online = online
        if online is not None:
            tuned(self.routers[self.default], online.threshold)
        self.aliases: Mapping[str, str] = {}
        self.aliases = {name: self._meant(name, model) for name, model in (aliases or {}).items()}

    def _meant(self, name: str, model: str) -> str:
        """What an alias stands for, once that is known to work."""
        if not name or name.partition(":")[0] == NAME:
            raise ConfigError(f"alias {name!r}: it must be a name that is not {NAME}'s own.")
        try:
            self.router(model, None)
        except StepwiseError as error:
            raise ConfigError(f"alias {name!r}: {error}") from error
        return model

    @property
    def names(self) -> list[str]:
        """What ``GET /v1/models`` lists."""
        return [NAME, *(f"{NAME}:{name}" for name in self.routers), *self.aliases]

    def router(self, model: str, options: Options | None) -> tuple[Router, bool]:
        """The router of a request, and whether it is the server's default.

        Raises:
            Refusal: 404 if there is no such model; 400 if the knob is set twice, or wrongly.
            ConfigError: if the router has no threshold or no calibration, or a value is out of range.
            InfeasibleTarget: if the target cannot be promised.
        """
        named = self._parse(model)
        given = options or Options()
        if named != Options() and given != Options():
            raise Refusal(
                400,
                f"model {shown(model)} and the field stepwise both choose a router or its target; use one.",
                code="invalid_value",
                param="model",
            )
        wanted = given if named == Options() else named
        if wanted == Options():
            return self._default(), True
        return self._tuned(wanted), False

    def _default(self) -> Router:
        router = self.routers[self.default]
        return router if self.online is None else tuned(router, self.online.threshold)

    def _tuned(self, options: Options) -> Router:
        name = options.router or self.default
        if name not in self.routers:
            known = ", ".join(self.routers)
            raise Refusal(
                404,
                f"there is no router {shown(name)} here, only {known}.",
                code="model_not_found",
                param="model",
            )
        if options.model_copy(update={"router": None}) == Options():
            return self._default() if name == self.default else self.routers[name]
        router = self.routers[name]
        if options.alpha is not None:
            router = weighed(router, options.alpha)
        if options.threshold is not None:
            return tuned(router, options.threshold)
        if options.budget is None and options.max_accuracy_loss is None:
            return router
        if isinstance(router, Weighing):
            return within(router, options)
        return tuned(router, promised(record_of(router), options.budget, options.max_accuracy_loss))

    def _example(self) -> str:
        """Of a setting that the default router takes."""
        router = self.routers[self.default]
        if isinstance(router, PolicyRouter | Weighing):
            return f", or {NAME}:budget=0.4"
        return f", or {NAME}:threshold=1.0" if hasattr(router, "threshold") else ""

    def _parse(self, model: str) -> Options:
        name, _, setting = self.aliases.get(model, model).partition(":")
        if name != NAME:
            known = ", ".join(self.names)
            raise Refusal(
                404,
                f"there is no model {shown(model)} here; use one of {known}{self._example()}.",
                code="model_not_found",
                param="model",
            )
        if "=" not in setting:
            return Options(router=setting or None)
        try:
            return Options.model_validate({k: _number(k, v) for k, v in _pairs(setting)})
        except ValidationError as error:
            raise invalid(error.errors()) from error


def _pairs(setting: str) -> list[tuple[str, str]]:
    pairs = [tuple(part.partition("=")[::2]) for part in setting.split(",")]
    names = [name for name, _ in pairs]
    if len(set(names)) != len(names):
        raise Refusal(
            400, f"model: {shown(setting)} sets a value twice.", code="invalid_value", param="model"
        )
    return [(name.strip(), value.strip()) for name, value in pairs]


def _number(name: str, value: str) -> float | str:
    if name == "router":
        return value
    try:
        return float(value)
    except ValueError:
        raise Refusal(
            400, f"model: {name} must be a number, not {shown(value)}.", code="invalid_value", param="model"
        ) from None


def tuned(router: Router, threshold: float) -> Router:
    """The router at another threshold.

    Raises:
        ConfigError: if it has none.
    """
    if isinstance(router, PolicyRouter | ThresholdRouter):
        return replace(router, threshold=threshold)
    if isinstance(router, Seeded):
        return cast(Router, replace(cast(Any, router), router=tuned(router.router, threshold)))
    raise ConfigError(f"threshold: the router {router.name!r} has none.")


def weighed(router: Router, alpha: float) -> Router:
    """The router with another weight of correctness against cost.

    Raises:
        ConfigError: if it does not choose by estimates.
    """
    if isinstance(router, Weighing):
        return cast(Router, replace(cast(Any, router), alpha=alpha))
    if isinstance(router, Seeded):
        return cast(Router, replace(cast(Any, router), seed=weighed(router.seed, alpha)))
    raise ConfigError(f"alpha: the router {router.name!r} has none.")


def within(router: Weighing, options: Options) -> Router:
    """SCOPE at the alpha that was best on its anchors among those that keep to a budget.

    Raises:
        ConfigError: if another target is set, or an alpha beside it.
        InfeasibleTarget: if no alpha keeps to it.
    """
    if options.budget is None or options.max_accuracy_loss is not None or options.alpha is not None:
        raise ConfigError(f"the router {router.name!r} takes either an alpha or a budget.")
    alpha, dollars = setting_within(router.scope, router.models, options.budget)
    return cast(Router, replace(cast(Any, router), alpha=alpha, budget=dollars))


@lru_cache(maxsize=1024)
def setting_within(scope: Scope, models: tuple[str, ...], budget: float) -> tuple[float, float]:
    """The alpha whose mean cost on the anchors is at most ``budget`` of the last model's, and that cost.

    Raises:
        ConfigError: if the budget lies outside (0, 1].
        InfeasibleTarget: if even the cheapest alpha costs more.
    """
    if not 0 < budget <= 1:
        raise ConfigError(
            f"budget must lie in (0, 1] (a fraction of large-only cost, not dollars), not {budget:g}."
        )
    large = scope.settings(models[-1:])[0].cost
    try:
        return scope.alpha_for(budget * large, models).alpha, budget * large
    except InfeasibleTarget as error:
        least = error.best / large
        message = (
            f"budget {budget:g} cannot be kept: the cheapest setting costs {least:.3f} of what {models[-1]} "
            "alone does on the anchors."
        )
        raise InfeasibleTarget(message, best=least) from error


def record_of(router: Router) -> CalibrationRecord:
    """What a router's calibration knows.

    Raises:
        ConfigError: if it has none.
    """
    inner = router.router if isinstance(router, Seeded) else router
    record = inner.artifact.record if isinstance(inner, PolicyRouter) else None
    if record is None:
        raise ConfigError(
            f"budget: the router {router.name!r} is not calibrated; give a threshold, for example 1.0."
        )
    return record


@lru_cache(maxsize=1024)
def promised(record: CalibrationRecord, budget: float | None, max_accuracy_loss: float | None) -> float:
    """The threshold at which targets are promised; see `stepwise.calibration.calibrate`."""
    return calibrate(record, budget=budget, max_accuracy_loss=max_accuracy_loss).threshold
