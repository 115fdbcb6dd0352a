"""The contract on the embedded backend over the architectures that people run, and from a GGUF file: the
chains of `transformers`' own ``generate``, steps that continue a cached prefix, windows that slide."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from stepwise.backends import checkpoint, gguf
from stepwise.backends.transformers.backend import TransformersBackend
from stepwise.engine.backend import Sampling
from stepwise.errors import ConfigError
from stepwise.models.model import Model
from tests.characters import VOCABULARY
from tests.stepwise.backends.contract import *  # noqa: F403
from tests.stepwise.backends.contract import Subject
from tests.stepwise.backends.tiny import CONFIGS, PROMPT, WINDOW, Tiny, save, save_gguf

GGUF = "qwen3-gguf"


@pytest.fixture(scope="module", params=[*CONFIGS, GGUF])
def tiny(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    name, folder = request.param, tmp_path_factory.mktemp("tiny")
    if name != GGUF:
        return save(name, folder)
    source = save("qwen3", folder)
    file = save_gguf(source, folder / "tiny.gguf")
    return Tiny(file, source.tokens, source.separator)


@pytest.fixture
async def backend(tiny: Tiny) -> AsyncIterator[TransformersBackend]:
    opened = TransformersBackend(str(tiny.path), max_batch=3)
    yield opened
    await opened.close()


@pytest.fixture
def subject(tiny: Tiny, backend: TransformersBackend) -> Subject:
    written = "".join(VOCABULARY[token] for token in tiny.tokens[:-1])
    return Subject(backend, PROMPT, tiny.separator, reference=written)


async def test_greedy_chains_are_those_of_generate(tiny: Tiny, backend: TransformersBackend) -> None:
    """In a batch of prompts of different lengths, which fill each other's gaps."""
    longer = [backend.encode(PROMPT * times) for times in (2, 3)]
    calls = [backend.generate(prefix, Sampling(200)) for prefix in (*longer, backend.encode(PROMPT))]
    *_, done = await asyncio.gather(*calls)
    assert done.token_ids == tuple(tiny.tokens[:-1]) and done.finish == "end"
    assert len(PROMPT) + len(tiny.tokens) > 4 * WINDOW


async def test_a_prefix_that_is_cut_anywhere_is_continued_as_it_was(
    tiny: Tiny, backend: TransformersBackend
) -> None:
    """Also before the windows of its cached tokens: nothing that a shorter prefix needs has slid out."""
    whole = backend.encode(PROMPT) + tuple(tiny.tokens[:-1])
    await backend.generate(whole, Sampling(1))
    for length in range(len(PROMPT) + len(tiny.tokens) - 2, len(PROMPT), -5):
        done = await backend.generate(whole[:length], Sampling(200))
        assert whole[:length] + done.token_ids == whole
        assert done.usage.cached == length - 1


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    return save("qwen3", tmp_path_factory.mktemp("source"))


def test_a_gguf_file_has_the_size_of_its_model(source: Tiny, tmp_path: Path) -> None:
    """An output layer that is the embedding again, quantised another way, counts once."""
    file = save_gguf(source, tmp_path / "tied.gguf", output=True)
    plain = save_gguf(source, tmp_path / "plain.gguf")
    size = checkpoint.parameters(str(source.path))
    for path in (file, plain):
        assert checkpoint.parameters(str(path)) == Model("m", str(path)).size == size
        assert checkpoint.context(str(path)) == 512
    assert checkpoint.revision(str(file)) != checkpoint.revision(str(plain))
    assert checkpoint.tokenizer_id(str(file)) == checkpoint.tokenizer_id(str(plain))


async def test_a_folder_with_one_gguf_file_is_that_file(source: Tiny, tmp_path: Path) -> None:
    file = save_gguf(source, tmp_path / "one.gguf")
    assert checkpoint.resolve(str(tmp_path)) == file
    backend = TransformersBackend(str(tmp_path), max_batch=1)
    assert backend.encode(PROMPT) == tuple(VOCABULARY.index(character) for character in PROMPT)
    await backend.close()
    save_gguf(source, tmp_path / "two.gguf")
    with pytest.raises(ConfigError, match="holds several GGUF files; name one of one.gguf, two.gguf"):
        checkpoint.resolve(str(tmp_path))


def test_a_tokenizer_is_built_once(source: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Building Qwen's takes half a minute, and every command would."""
    monkeypatch.setattr(gguf, "TOKENIZERS", tmp_path / "kept")
    file = save_gguf(source, tmp_path / "one.gguf")
    built = gguf.tokenizer(file)
    gguf.tokenizer.cache_clear()
    with monkeypatch.context() as patched:
        patched.setattr(gguf, "_tokenizer", lambda file: pytest.fail("built again"))
        assert gguf.tokenizer(file).to_str() == built.to_str()
    gguf.tokenizer.cache_clear()
    os.utime(file, (1, 1))
    monkeypatch.setattr(gguf, "_tokenizer", lambda file: built)
    assert gguf.tokenizer(file) is built, "another file of that name is another tokenizer"


def test_a_damaged_gguf_file_is_refused_before_anything_loads(source: Tiny, tmp_path: Path) -> None:
    file = save_gguf(source, tmp_path / "whole.gguf")
    raw = file.read_bytes()
    for size in (4, 100, len(raw) // 2):
        part = tmp_path / f"{size}.gguf"
        part.write_bytes(raw[:size])
        with pytest.raises(ConfigError, match="is no GGUF file, or is damaged"):
            gguf.header(part)
    with pytest.raises(ConfigError, match="'nowhere.gguf' is neither a folder nor"):
        checkpoint.resolve("nowhere.gguf")
    with pytest.raises(ConfigError, match="'/models/gone': context is not known, since neither a folder nor"):
        checkpoint.context("/models/gone")
