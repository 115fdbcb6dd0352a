"""The ledger of a chain: everything that models computed for it, from the moment that it is known.

A finished call is charged when it returns. What ends up in no completion (an attempt that failed or was
retried, a call that was cancelled) is reported by the backend through the `Meter` that it was called with. So
success, failure, cancellation and time-outs are charged alike, and exceptions carry no accounts.

    charge        since the last step: it belongs to the step that comes next (`settle`)
    beside        belongs to no step: an estimate, or whatever was under way when the chain ended (`close`)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from stepwise.types import Usage, add_usage


class Ledger:
    """What one chain is charged, by model."""

    def __init__(self) -> None:
        self._step: dict[str, Usage] = {}
        self._beside: dict[str, Usage] = {}

    @property
    def step(self) -> dict[str, Usage]:
        """Charged since the last step."""
        return dict(self._step)

    @property
    def beside(self) -> dict[str, Usage]:
        """Charged to no step."""
        return dict(self._beside)

    def charge(self, model: str, usage: Usage) -> None:
        """Charge the step that is being written."""
        known = self._step.get(model)
        self._step[model] = usage if known is None else known + usage

    def charge_beside(self, model: str, usage: Usage) -> None:
        """Charge the chain, but none of its steps."""
        self._beside[model] = self._beside.get(model, Usage()) + usage

    def settle(self, rejected: Mapping[str, Usage] | None = None) -> dict[str, Usage]:
        """Hand over what the finished step took; what a ``rejected`` draft wrote counts as discarded."""
        usage, self._step = self._step, {}
        for model, draft in (rejected or {}).items():
            usage[model] = usage[model].discard(draft.completion)
        return usage

    def close(self) -> None:
        """The chain goes no further: what the step under way took belongs to none, and is discarded."""
        unfinished = {model: usage.rejected() for model, usage in self.settle().items()}
        self._beside = add_usage(self._beside, unfinished)

    def fork(self) -> Ledger:
        """The same account for a chain that branches off here."""
        other = Ledger()
        other._step, other._beside = dict(self._step), dict(self._beside)
        return other


class Meter:
    """Charges one model's call to a ledger.

    Prompt tokens count as cached only if the server had them cached *and* this chain had sent them before, so
    that the cost of a chain does not depend on what else ran on the server.

    Args:
        ledger: of the chain.
        model: that is called.
        length: tokens of the prefix.
        seen: how many of them the model has processed earlier in this chain.
        sent: told how many tokens of the prefix an attempt without a completion has processed.
    """

    def __init__(
        self, ledger: Ledger, model: str, length: int, seen: int, sent: Callable[[int], None]
    ) -> None:
        self._ledger, self._model, self._sent = ledger, model, sent
        self._length, self._seen = length, seen

    def lost(self, usage: Usage) -> None:
        """Charge an attempt whose tokens are in no completion."""
        self._charge(usage.rejected())
        self._sent(usage.prompt)

    def completed(self, usage: Usage) -> None:
        """Charge a call that returned its completion, or a part of one."""
        self._charge(usage)

    def _charge(self, usage: Usage) -> None:
        again = max(0, usage.prompt - self._length)  # of a stream that broke off and was begun anew
        self._ledger.charge(self._model, usage.known(self._seen + again).called())
        self._seen = max(self._seen, usage.prompt)
