"""Where the public benchmarks are, and what their rows call a question and an answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stepwise.data.raw_problems import Fields, RawProblem, read_lines
from stepwise.errors import ConfigError
from stepwise.extras import install

MATH = Fields(question="problem")


@dataclass(frozen=True)
class Part:
    """One split as its publisher cut it: on the hub, and the name of its local copy."""

    hub: str
    split: str
    file: str
    config: str | None = None


@dataclass(frozen=True)
class Benchmark:
    """A benchmark whose problems are for testing, and where problems for everything else come from.

    Attributes:
        test: reported on, never trained or calibrated on.
        rest: problems of the same kind; train, validation and calibration are cut from them.
        fields: what the rows of ``test`` are called.
        rest_fields: the same for ``rest``.
    """

    test: Part
    rest: Part
    fields: Fields
    rest_fields: Fields


_MATH_REST = Part("nlile/hendrycks-MATH-benchmark", "train", "math_dev_4500")
BENCHMARKS: Mapping[str, Benchmark] = {
    "gsm8k": Benchmark(
        Part("openai/gsm8k", "test", "gsm8k_test", "main"),
        Part("openai/gsm8k", "train", "gsm8k_train", "main"),
        Fields(),
        Fields(),
    ),
    "math500": Benchmark(Part("HuggingFaceH4/MATH-500", "test", "math500"), _MATH_REST, MATH, MATH),
    "math": Benchmark(_MATH_REST, _MATH_REST, MATH, MATH),
    "omnimath": Benchmark(Part("KbsdJames/Omni-MATH", "test", "omni_math_rule"), _MATH_REST, MATH, MATH),
    "aime24": Benchmark(Part("HuggingFaceH4/aime_2024", "train", "aime24"), _MATH_REST, MATH, MATH),
    "aime25": Benchmark(Part("math-ai/aime25", "test", "aime25"), _MATH_REST, MATH, MATH),
    "olympiadbench": Benchmark(
        Part("Hothan/OlympiadBench", "train", "olympiadbench", "OE_TO_maths_en_COMP"),
        _MATH_REST,
        Fields(answer="final_answer"),
        MATH,
    ),
}
"""`math` is cut from its own rows: see `stepwise.data.splits`."""


ENDINGS = (".jsonl.gz", ".jsonl")


def read(part: Part, folder: str | None, revision: str | None) -> Iterator[RawProblem]:
    """Rows of a part, from its `local_copy`, else from the hub.

    Raises:
        ConfigError: if neither can be read.
    """
    copy = local_copy(Path(folder), part.file) if folder else None
    return read_lines(copy) if copy else _hub(part, revision, folder)


def local_copy(folder: Path, name: str) -> Path | None:
    """A part's file in a folder, or in ``benchmarks`` in it; None where there is none."""
    files = (place / f"{name}{ending}" for place in (folder, folder / "benchmarks") for ending in ENDINGS)
    return next(filter(Path.is_file, files), None)


def _hub(part: Part, revision: str | None, folder: str | None) -> Iterator[RawProblem]:
    local = (
        f"put {' or '.join(part.file + ending for ending in ENDINGS)} into "
        f"{folder or 'a folder'} (STEPWISE_DATA, dataset.folder)."
    )
    try:
        import datasets
    except ImportError as error:
        raise ConfigError(
            f"{part.hub} comes from the hub, which needs the extra 'data' ({install('data')}); or {local}"
        ) from error
    online = _reachable()
    try:
        with _cached_only(unless=online):
            rows = datasets.load_dataset(part.hub, part.config, split=part.split, revision=revision)
    except Exception as error:  # the library raises many kinds, also for a missing network
        why = f"{type(error).__name__}: {str(error)[:200]}" if online else "the hub cannot be reached"
        raise ConfigError(f"{part.hub} cannot be loaded ({why}); to do without, {local}") from error
    return _numbered(part.hub, rows)


def _reachable() -> bool:
    """Whether the hub answers a single request: its library repeats one that fails for half a minute."""
    from huggingface_hub import constants, get_session

    try:
        get_session().head(constants.ENDPOINT, timeout=5)
    except Exception:  # of whichever client the library has
        return False
    return True


@contextmanager
def _cached_only(*, unless: bool) -> Iterator[None]:
    """Let the hub's library use what it has fetched before, and ask for nothing."""
    from datasets import config

    before = config.HF_HUB_OFFLINE
    config.HF_HUB_OFFLINE = before or not unless
    try:
        yield
    finally:
        config.HF_HUB_OFFLINE = before


def _numbered(hub: str, rows: Any) -> Iterator[RawProblem]:
    for number, row in enumerate(rows, 1):
        yield RawProblem(f"{hub}, row {number}", f"{hub.split('/')[-1].lower()}-{number}", row)
