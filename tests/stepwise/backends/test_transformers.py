"""The embedded backend: exact, batched, and honest about what it reused."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from stepwise import load_dataset, load_pair
from stepwise.backends import checkpoint
from stepwise.backends.transformers.backend import TransformersBackend
from stepwise.backends.transformers.prefix_cache import PrefixCache
from stepwise.engine.backend import Sampling
from stepwise.engine.cost import Tokens
from stepwise.engine.engine import Engine
from stepwise.engine.solution import Delta, Event
from stepwise.engine.stop_rules import StepRule
from stepwise.errors import BackendError, ConfigError, ContextOverflow, RequestRefused
from stepwise.routers import Always
from stepwise.types import Usage

PATH = load_pair("nano").models[0].path
QUESTIONS = [problem.question + "\n" for problem in load_dataset("nano", split="validation", limit=12)]
WHOLE = Sampling(max_tokens=160)


@pytest.fixture
async def backend() -> AsyncIterator[TransformersBackend]:
    made = TransformersBackend(PATH, max_batch=5)
    yield made
    await made.close()


@pytest.fixture(scope="module")
def reference() -> list[list[int]]:
    """Greedy continuations by `transformers`' own generate, one question at a time."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(PATH, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(PATH)
    found = []
    for question in QUESTIONS:
        ids = tokenizer(question, return_tensors="pt")["input_ids"]
        mask = torch.ones_like(ids)
        out = model.generate(ids, attention_mask=mask, max_new_tokens=160, do_sample=False, pad_token_id=0)
        found.append([t for t in out[0, ids.shape[1] :].tolist() if t != tokenizer.eos_token_id])
    return found


async def test_batched_generation_is_token_identical_to_generate(
    backend: TransformersBackend, reference: list[list[int]]
) -> None:
    calls = [backend.generate(backend.encode(question), WHOLE) for question in QUESTIONS]
    assert [list(done.token_ids) for done in await asyncio.gather(*calls)] == reference


async def test_going_step_by_step_gives_the_uninterrupted_chain(
    backend: TransformersBackend, reference: list[list[int]]
) -> None:
    line = Sampling(max_tokens=160, stop=("\n",))

    async def chain(question: str) -> list[int]:
        prefix = backend.encode(question)
        written: list[int] = []
        while True:
            step = await backend.generate((*prefix, *written), line)
            if written:  # everything before the last sampled token was processed already
                assert step.usage.cached >= step.usage.prompt - 1
            written += step.token_ids
            if step.finish != "stop" or len(written) >= 160:
                return written[:160]
            assert step.text.endswith("\n") and step.text.count("\n") == 1

    assert await asyncio.gather(*(chain(question) for question in QUESTIONS)) == reference


async def test_a_generation_that_is_read_along_gives_the_uninterrupted_chain(
    backend: TransformersBackend,
) -> None:
    engine = Engine({"m": backend}, prompt="{question}", rule=StepRule(), cost=Tokens(), lookahead=("m",))
    chains = [engine.solve(question, Always("m")) for question in QUESTIONS]
    for question, chain in zip(QUESTIONS, chains, strict=True):
        events = [event async for event in chain.events()]
        whole = await backend.generate(backend.encode(question), replace(WHOLE, max_tokens=400))
        trace = chain.trace
        assert trace is not None
        assert tuple(i for step in trace.steps for i in step.token_ids) == whole.token_ids
        assert trace.usage["m"].completion == whole.usage.completion
        assert "".join(event.text for event in events if isinstance(event, Delta)) == whole.text == trace.text
        assert sum(isinstance(event, Delta) for event in events) >= len(trace.steps)


async def test_listening_to_a_call_gives_its_tokens_at_its_cost(backend: TransformersBackend) -> None:
    engine = Engine({"m": backend}, prompt="{question}", rule=StepRule(max_step_tokens=12), cost=Tokens())
    for question in QUESTIONS:
        alone = await engine.solve(question, Always("m"))
        heard: list[Event] = []
        trace = await engine.solve(question, Always("m")).finish(heard.append)
        assert [(s.token_ids, s.finish) for s in trace.steps] == [
            (s.token_ids, s.finish) for s in alone.steps
        ]
        assert (trace.stop, trace.usage["m"].prompt) == (alone.stop, alone.usage["m"].prompt)
        assert trace.usage["m"].completion == alone.usage["m"].completion and not trace.usage["m"].discarded


async def test_a_full_context_is_said_to_who_listens(backend: TransformersBackend) -> None:
    full = (backend.encode("word ") * backend.context)[: backend.context]
    generation = backend.begin(full, WHOLE)
    with pytest.raises(ContextOverflow):
        await generation.read()
    await asyncio.wait_for(generation.stop(), 5)
    assert generation.unread == 0 and generation.prompt == Usage()


async def test_what_a_generation_wrote_is_known_when_it_is_stopped(backend: TransformersBackend) -> None:
    prefix = backend.encode(QUESTIONS[0])
    generation = backend.begin(prefix, WHOLE)
    first = await generation.read()
    await generation.stop()
    wrote = len(first.token_ids) + generation.unread
    assert generation._row.ids[len(prefix) :] == list(
        (await backend.generate(prefix, replace(WHOLE, max_tokens=wrote))).token_ids
    )


async def test_signals_are_those_of_the_chosen_tokens(backend: TransformersBackend) -> None:
    prefix = backend.encode(QUESTIONS[0])
    done = await backend.generate(prefix, Sampling(max_tokens=12))
    model: Any = backend._model
    with torch.inference_mode():
        logits = model(torch.tensor([[*prefix, *done.token_ids]])).logits[0, len(prefix) - 1 : -1]
    logprobs = logits.log_softmax(-1)
    chosen = logprobs[torch.arange(12), torch.tensor(done.token_ids)]
    assert done.signals.mean_logprob == pytest.approx(chosen.mean().item(), abs=1e-4)
    assert done.signals.min_logprob == pytest.approx(chosen.min().item(), abs=1e-4)
    best = logprobs.exp().topk(2, dim=-1).values
    assert done.signals.margin == pytest.approx((best[:, 0] - best[:, 1]).min().item(), abs=1e-4)
    assert done.usage.completion == done.signals.length == 12 and done.finish == "length"


async def test_sampling_depends_on_the_seed_and_not_on_the_batch(backend: TransformersBackend) -> None:
    def sampling(seed: int) -> Sampling:
        return Sampling(max_tokens=24, temperature=2.0, top_p=0.99, seed=seed)

    prefix = backend.encode(QUESTIONS[1])
    alone = await backend.generate(prefix, sampling(1))
    crowd = [backend.generate(backend.encode(question), sampling(2)) for question in QUESTIONS]
    among, *_ = await asyncio.gather(backend.generate(prefix, sampling(1)), *crowd)
    assert among.token_ids == alone.token_ids
    others = [await backend.generate(prefix, sampling(seed)) for seed in range(2, 8)]
    assert any(other.token_ids != alone.token_ids for other in others)
    narrow = Sampling(max_tokens=24, temperature=1.0, top_p=1e-6, seed=3)
    assert (await backend.generate(prefix, narrow)).token_ids == (
        await backend.generate(prefix, Sampling(max_tokens=24))
    ).token_ids


async def test_a_cancelled_call_leaves_and_the_others_finish(
    backend: TransformersBackend, reference: list[list[int]]
) -> None:
    calls = [asyncio.create_task(backend.generate(backend.encode(q), WHOLE)) for q in QUESTIONS]
    await asyncio.sleep(0.02)
    calls[0].cancel()
    done = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(done[0], asyncio.CancelledError)
    assert [list(one.token_ids) for one in done[1:] if not isinstance(one, BaseException)] == reference[1:]


async def test_what_cannot_run_says_why(backend: TransformersBackend) -> None:
    with pytest.raises(ContextOverflow, match="the model's context is"):
        await backend.generate([5] * backend.context, WHOLE)
    await backend.close()
    with pytest.raises(BackendError, match="closed"):
        await backend.generate([5], WHOLE)


def test_wrong_and_damaged_checkpoints_are_named_before_anything_loads(tmp_path: Path) -> None:
    for options, sentence in (
        ({"dtype": "float99"}, "dtype must be one of"),
        ({"max_batch": 0}, "max_batch must be"),
    ):
        with pytest.raises(ConfigError, match=sentence):
            TransformersBackend("nowhere", **options)
    with pytest.raises(ConfigError, match="'no/such-model' is neither a folder nor a downloaded"):
        TransformersBackend("no/such-model")
    copy = tmp_path / "copy"
    shutil.copytree(PATH, copy)
    weights = copy / "model.safetensors"
    whole = weights.read_bytes()
    for size in (4, 100, len(whole) - 1):
        weights.write_bytes(whole[:size])
        with pytest.raises(ConfigError, match="truncated"):
            checkpoint.resolve(str(copy))
    weights.unlink()
    with pytest.raises(ConfigError, match=r"no \*\.safetensors"):
        checkpoint.resolve(str(copy))


def test_a_checkpoint_with_code_of_its_own_is_refused_and_nobody_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(load_pair("nano").models[0].path, copy)
    config = json.loads((copy / "config.json").read_text())
    config |= {
        "model_type": "mine",
        "auto_map": {"AutoConfig": "mine.Config", "AutoModelForCausalLM": "mine.Model"},
    }
    (copy / "config.json").write_text(json.dumps(config))
    (copy / "mine.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("somebody was asked"))
    with pytest.raises(ConfigError, match=r"code of its own \(auto_map\), which is never run"):
        TransformersBackend(str(copy))
    assert not (tmp_path / "ran").exists()


def test_the_prefix_cache_finds_the_longest_prefix_and_stays_small() -> None:
    cache = PrefixCache(max_bytes=3 * 4 * 40)
    for start in range(6):
        ids = tuple(range(start, start + 40))
        cache.put(ids, torch.full((1, 1, 1, 40, 1), float(start)))
    assert cache.longest((0, 1, 2, 3, 4, 5, 6, 7, 8)) == (0, None)  # evicted
    length, kv = cache.longest((*range(5, 25), 99, 100))
    assert length == 20 and kv is not None and kv.shape[3] == 20 and kv.flatten()[0] == 5.0
    assert len(cache._entries) == 3
    assert cache.longest(()) == (0, None)


async def test_extreme_sampling_draws_the_likeliest_tokens(
    backend: TransformersBackend, reference: list[list[int]]
) -> None:
    prefix = backend.encode(QUESTIONS[0])
    cold = [
        Sampling(160, 1e-300),
        Sampling(160, 5e-324),
        Sampling(160, 1.0, 1e-320),
        Sampling(160, 2.0, 5e-324),
    ]
    for done in await asyncio.gather(*(backend.generate(prefix, sampling) for sampling in cold)):
        assert list(done.token_ids) == reference[0] and done.signals.known


async def test_a_poisoned_request_fails_alone(
    backend: TransformersBackend, reference: list[list[int]]
) -> None:
    """No generator takes this seed; no model knows this token, or continues nothing."""
    prefix = backend.encode(QUESTIONS[0])
    poisoned = [
        backend.generate(prefix, Sampling(160, 1.0, seed=2**200)),
        backend.generate((10**9,), WHOLE),
        backend.generate((-1,), WHOLE),
        backend.generate((), WHOLE),
    ]
    calls = [backend.generate(backend.encode(question), WHOLE) for question in QUESTIONS[:4]]
    done = await asyncio.gather(*calls, *poisoned, return_exceptions=True)
    assert [list(whole.token_ids) for whole in done[:4] if not isinstance(whole, BaseException)] == reference[
        :4
    ]
    assert all(isinstance(failure, RequestRefused) for failure in done[4:])


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"temperature": float("nan")}, "temperature must be a number, at least 0, not nan"),
        ({"temperature": float("inf")}, "temperature must be a number, at least 0, not inf"),
        ({"temperature": -1e-9}, "temperature must be a number, at least 0"),
        ({"top_p": 0.0}, "top_p must be more than 0 and at most 1, not 0.0"),
        ({"top_p": float("nan")}, "top_p must be more than 0 and at most 1, not nan"),
        ({"top_p": 1.5}, "top_p must be more than 0 and at most 1, not 1.5"),
    ],
)
def test_sampling_out_of_range_is_refused(values: dict[str, float], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        Sampling(**values)  # type: ignore[arg-type]
