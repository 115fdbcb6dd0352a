"""Let a small and a large language model share one chain of thought.

import stepwise

engine = stepwise.load_pair("nano").engine()
router = stepwise.load_router("nano-ppo", budget=0.4)
trace = engine.solve_sync("Ben planted 83 trees and lost 47 of them. ...", router=router)
trace.answer, trace.cost, [(step.model, step.text) for step in trace.steps]
"""

from __future__ import annotations

from stepwise.data import load_dataset
from stepwise.engine.engine import Engine
from stepwise.errors import (
    BackendError,
    ConfigError,
    ContextOverflow,
    InfeasibleTarget,
    StepwiseError,
    VerificationError,
)
from stepwise.models.files import load_pair
from stepwise.models.model import Model
from stepwise.models.pair import Pair
from stepwise.routers import load_router
from stepwise.types import Decision, Problem, Router, Signals, Step, Trace, Usage

__version__ = "0.2.0"
__all__ = [
    "BackendError",
    "ConfigError",
    "ContextOverflow",
    "Decision",
    "Engine",
    "InfeasibleTarget",
    "Model",
    "Pair",
    "Problem",
    "Router",
    "Signals",
    "Step",
    "StepwiseError",
    "Trace",
    "Usage",
    "VerificationError",
    "load_dataset",
    "load_pair",
    "load_router",
]
