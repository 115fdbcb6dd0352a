"""The contract on the embedded backend."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from stepwise import load_dataset, load_pair
from stepwise.backends.transformers.backend import TransformersBackend
from tests.stepwise.backends.contract import *  # noqa: F403
from tests.stepwise.backends.contract import Subject

QUESTION = load_dataset("nano", split="validation", limit=1)[0].question


@pytest.fixture
async def subject() -> AsyncIterator[Subject]:
    backend = TransformersBackend(load_pair("nano").models[0].path, max_batch=2)
    yield Subject(backend, QUESTION + "\n")
    await backend.close()
