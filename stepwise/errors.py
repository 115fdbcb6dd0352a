"""The exception tree.

    StepwiseError
    ├── ConfigError          a value that a user gave is unusable; the message names the field
    │   └── RouterError          a router's code is wrong; ends the run, not the chain alone
    ├── BackendError         a model could not be run (``retryable`` says whether to try again)
    │   └── RequestRefused       this request alone: the model is well, and answers others
    │       └── ContextOverflow  the chain no longer fits the model's context window
    ├── NoSignal             a router needs probabilities that the model did not give
    ├── InfeasibleTarget     no threshold reaches the target; carries the best reachable value
    └── VerificationError    an answer could not be checked

Messages are full sentences: what was expected, what came, what to do.
"""

from __future__ import annotations


class StepwiseError(Exception):
    """Base of every error that stepwise raises on purpose."""


class ConfigError(StepwiseError, ValueError):
    """A user's value is unusable. The message names the field and what to do."""


class RouterError(ConfigError):
    """A router raised, or decided what cannot be done: its code is wrong, whatever the problem."""


class BackendError(StepwiseError):
    """A model could not be run.

    Args:
        message: what happened, as a sentence.
        retryable: whether the same request may succeed later.
        wait_s: how long the server asked to be left alone, in seconds.
        model: name of the model, where it is known.
    """

    def __init__(
        self, message: str, *, retryable: bool = False, wait_s: float = 0.0, model: str = ""
    ) -> None:
        super().__init__(message)
        self.retryable = retryable
        self.wait_s = wait_s
        self.model = model


class RequestRefused(BackendError):
    """The model is well and refuses this request: for its content, say, or its length."""


class ContextOverflow(RequestRefused):
    """The prefix leaves no room for another token in the model's context window."""


class NoSignal(StepwiseError):
    """A router needs log-probabilities, and the model gave none that can be true."""


class InfeasibleTarget(StepwiseError):
    """No threshold meets the target; ``best`` is the nearest value that can be reached."""

    def __init__(self, message: str, *, best: float) -> None:
        super().__init__(message)
        self.best = best


class VerificationError(StepwiseError):
    """An answer could not be checked (the checker died or ran out of time)."""
