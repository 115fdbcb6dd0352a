"""The embedded backend: a Hugging Face model in this process, on CPU or GPU, without a server.

Requests that arrive together are decoded together. One worker thread owns the model; a request
joins the batch at any token and leaves it when it is done, so that short and long completions mix
freely. Keys and values of finished sequences are kept, and a request that continues one of them
computes only what is new.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import torch

from stepwise import signals
from stepwise.backends import checkpoint
from stepwise.backends.base import Completion, Sampling
from stepwise.backends.prefix_cache import PrefixCache
from stepwise.errors import BackendError, ConfigError, ContextOverflow
from stepwise.types import Finish, Usage

GROWTH = 256
"""The batch's key-value buffer grows in steps of this many tokens."""


@dataclass(eq=False)
class Row:
    """A request while it is being decoded."""

    ids: list[int]
    start: int
    sampling: Sampling
    done: Future[Completion] = field(default_factory=Future)
    cached: int = 0
    chosen: list[float] = field(default_factory=list)
    top: list[list[float]] = field(default_factory=list)
    tail: str = ""
    generator: torch.Generator | None = None
    abandoned: bool = False


class BatchCache:
    """Keys and values of the running batch, in the shape that `transformers` attention asks for.

    Rows are compact: row i of the buffer is request i of the batch. `transformers` calls `update`
    once per layer and attends over what it returns.
    """

    def __init__(self, layers: int, rows: int) -> None:
        self._layers, self._rows = layers, rows
        self.buffer: torch.Tensor | None = None
        self._at: tuple[int, torch.Tensor, torch.Tensor, int] | None = None

    def place(self, low: int, positions: torch.Tensor) -> None:
        """Say where the next forward pass writes: rows from ``low``, at ``positions`` [rows, new]."""
        rows = torch.arange(low, low + positions.shape[0], device=positions.device)[:, None]
        self._at = (low, rows, positions, int(positions.max()) + 1)

    def update(
        self, keys: torch.Tensor, values: torch.Tensor, layer: int, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write [rows, heads, new, size] and return everything up to the last position."""
        if self._at is None:
            raise BackendError("the batch cache was used outside of a forward pass.")
        low, rows, positions, end = self._at
        buffer = self.reserve(end, keys)
        buffer[layer, 0][rows, :, positions] = keys.transpose(1, 2)
        buffer[layer, 1][rows, :, positions] = values.transpose(1, 2)
        high = low + positions.shape[0]
        return buffer[layer, 0, low:high, :, :end], buffer[layer, 1, low:high, :, :end]

    def reserve(self, tokens: int, like: torch.Tensor) -> torch.Tensor:
        """The buffer [layers, 2, rows, heads, tokens, size], grown to hold ``tokens``."""
        old = self.buffer
        if old is not None and old.shape[4] >= tokens:
            return old
        room = -(-tokens // GROWTH) * GROWTH
        heads, size = like.shape[1], like.shape[-1]
        new = torch.zeros(
            (self._layers, 2, self._rows, heads, room, size), dtype=like.dtype, device=like.device
        )
        if old is not None:
            new[:, :, :, :, : old.shape[4]] = old
        self.buffer = new
        return new

    def copy_out(self, row: int, tokens: int) -> torch.Tensor | None:
        return None if self.buffer is None else self.buffer[:, :, row, :, :tokens].clone()

    def copy_in(self, row: int, kv: torch.Tensor) -> None:
        buffer = self.reserve(kv.shape[3], kv[0])
        buffer[:, :, row, :, : kv.shape[3]] = kv

    def move(self, source: int, target: int, tokens: int) -> None:
        if self.buffer is not None:
            self.buffer[:, :, target, :, :tokens] = self.buffer[:, :, source, :, :tokens]


class TransformersBackend:
    """Runs one checkpoint with `transformers`.

    Args:
        path: folder of a checkpoint, or the id of a downloaded hub model.
        dtype: of the computation; float32 gives the same tokens whatever else is in the batch.
        device: "cpu", "cuda" or "mps"; when not given, "cuda" if there is one, else "cpu".
        max_batch: requests decoded together; more wait their turn.
        cache_mib: memory for the keys and values of finished sequences.
        threads: CPU threads of this model's computation; PyTorch's default when not given. Models
            that run side by side should share the cores, since their threads wait busily.

    Raises:
        ConfigError: if the path holds no whole checkpoint.
    """

    def __init__(
        self,
        path: str,
        *,
        dtype: str = "float32",
        device: str | None = None,
        max_batch: int = 64,
        cache_mib: int = 1024,
        threads: int | None = None,
    ) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()
        folder = checkpoint.resolve(path)
        self.revision = f"{checkpoint.revision(path)}-{dtype}"
        self.tokenizer = checkpoint.tokenizer_id(path)
        self.parameters = checkpoint.parameters(path)
        self._device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(folder)
            model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype))
            self._model: Any = model.to(self._device).eval()
        except (OSError, ValueError, RuntimeError) as error:
            raise ConfigError(f"model path {path!r} could not be loaded: {error}") from error
        self.context = int(self._model.config.max_position_embeddings)
        self._ends = _end_tokens(self._model, self._tokenizer)
        self._pieces: dict[int, str] = {}
        self._max_batch = max_batch
        self._threads = threads
        self._rows: list[Row] = []
        self._batch = BatchCache(self._model.config.num_hidden_layers, max_batch)
        self._prefixes = PrefixCache(cache_mib << 20)
        self._inbox: queue.SimpleQueue[Row | None] = queue.SimpleQueue()
        self._closed = False
        self._worker = threading.Thread(target=self._run, name=f"decode-{folder.name}", daemon=True)
        self._worker.start()

    def encode(self, text: str, *, first: bool = True) -> tuple[int, ...]:
        return tuple(self._tokenizer(text, add_special_tokens=first)["input_ids"])

    async def generate(self, prefix: Sequence[int], sampling: Sampling) -> Completion:
        if self._closed:
            raise BackendError("the backend is closed.")
        if len(prefix) >= self.context:
            raise ContextOverflow(
                f"the chain has {len(prefix)} tokens, the model's context is {self.context}; "
                "shorten the question or use a model with a longer context."
            )
        row = Row(list(prefix), len(prefix), sampling)
        self._inbox.put(row)
        try:
            return await asyncio.wrap_future(row.done)
        except asyncio.CancelledError:
            row.abandoned = True
            raise

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._inbox.put(None)
            await asyncio.to_thread(self._worker.join)

    # The worker thread: everything below runs in it.

    @torch.inference_mode()
    def _run(self) -> None:
        waiting: list[Row] = []
        if self._threads is not None:
            torch.set_num_threads(self._threads)
        while True:
            self._collect(waiting)
            if self._closed:
                break
            try:
                self._admit(waiting)
                if self._rows:
                    self._advance(0)
            except Exception as error:
                for row in self._rows:
                    _fail(row, BackendError(f"decoding failed: {error}"))
                self._rows.clear()
        while not self._inbox.empty():
            late = self._inbox.get()
            waiting.extend([late] if late else [])
        for row in (*self._rows, *waiting):
            _fail(row, BackendError("the backend was closed."))

    def _collect(self, waiting: list[Row]) -> None:
        """Move arrived requests to ``waiting``; sleep only when there is nothing to decode."""
        block = not self._rows and not waiting
        while block or not self._inbox.empty():
            row = self._inbox.get()
            if row is not None and row.done.set_running_or_notify_cancel():
                waiting.append(row)
            elif row is None:
                return
            block = False

    def _admit(self, waiting: list[Row]) -> None:
        """Give free rows to waiting requests and compute their prefixes."""
        low = len(self._rows)
        while waiting and len(self._rows) < self._max_batch:
            row = waiting.pop(0)
            length, kv = self._prefixes.longest(tuple(row.ids[:-1]))
            row.cached = length
            self._rows.append(row)
            if kv is not None:
                self._batch.copy_in(len(self._rows) - 1, kv)
        if len(self._rows) > low:
            self._advance(low)

    def _advance(self, low: int) -> None:
        """One forward pass over the rows from ``low``: each gets its next token."""
        rows = self._rows[low:]
        starts = [row.cached if not row.chosen else len(row.ids) - 1 for row in rows]
        new = [len(row.ids) - start for row, start in zip(rows, starts, strict=True)]
        width = max(new)
        tokens = [
            row.ids[start:] + [0] * (width - n) for row, start, n in zip(rows, starts, new, strict=True)
        ]
        ids = torch.tensor(tokens, device=self._device)
        positions = torch.tensor(starts, device=self._device)[:, None] + torch.arange(
            width, device=self._device
        )
        self._batch.place(low, positions)
        end = int(positions.max()) + 1
        mask = torch.arange(end, device=self._device)[None, None, None, :] <= positions[:, None, :, None]
        hidden = self._model.model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=self._batch,
            use_cache=True,
        ).last_hidden_state
        last = hidden[torch.arange(len(rows)), torch.tensor(new) - 1]
        self._take(rows, self._model.lm_head(last).float())

    def _take(self, rows: list[Row], logits: torch.Tensor) -> None:
        """Choose each row's next token, record its signals, and let finished rows go."""
        logprobs = logits.log_softmax(-1)
        choice = logits.argmax(-1)
        for i, row in enumerate(rows):
            if row.sampling.temperature > 0.0:
                choice[i] = self._draw(row, logits[i])
        chosen = logprobs.gather(1, choice[:, None])[:, 0].tolist()
        top = logprobs.topk(min(signals.TOP, logprobs.shape[1])).values.tolist()
        for row, token, logprob, best in zip(rows, choice.tolist(), chosen, top, strict=True):
            row.ids.append(token)
            row.chosen.append(logprob)
            row.top.append(best if not row.top else best[:2])
            finish = self._finish(row, token)
            if finish or row.abandoned:
                self._leave(row, finish)

    def _draw(self, row: Row, logits: torch.Tensor) -> int:
        if row.generator is None:
            row.generator = torch.Generator().manual_seed(row.sampling.seed)
        probabilities, order = (logits / row.sampling.temperature).softmax(-1).cpu().sort(descending=True)
        before = probabilities.cumsum(-1) - probabilities
        probabilities[before >= row.sampling.top_p] = 0.0
        return int(order[torch.multinomial(probabilities, 1, generator=row.generator)])

    def _finish(self, row: Row, token: int) -> Finish | None:
        if token in self._ends:
            return "end"
        if row.sampling.stop:
            row.tail += self._piece(token)
            if any(stop in row.tail for stop in row.sampling.stop):
                return "stop"
        full = len(row.chosen) >= row.sampling.max_tokens or len(row.ids) >= self.context
        return "length" if full else None

    def _piece(self, token: int) -> str:
        if token not in self._pieces:
            self._pieces[token] = self._tokenizer.decode([token])
        return self._pieces[token]

    def _leave(self, row: Row, finish: Finish | None) -> None:
        """Take a row out of the batch, keep its keys and values, and close the gap."""
        index, last = self._rows.index(row), len(self._rows) - 1
        known = len(row.ids) - 1
        kv = self._batch.copy_out(index, known)
        if kv is not None:
            self._prefixes.put(tuple(row.ids[:known]), kv)
        if index != last:
            self._rows[index] = self._rows[last]
            self._batch.move(last, index, len(self._rows[index].ids))
        self._rows.pop()
        if finish and not row.abandoned:
            row.done.set_result(self._completion(row, finish))

    def _completion(self, row: Row, finish: Finish) -> Completion:
        ids = row.ids[row.start : -1] if finish == "end" else row.ids[row.start :]
        return Completion(
            text=self._tokenizer.decode(ids),
            token_ids=tuple(ids),
            usage=Usage(prompt=row.start, cached=row.cached, completion=len(row.chosen)),
            signals=signals.measure(row.chosen, row.top),
            finish=finish,
        )


def _end_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    """All tokens that end an answer, from the generation config and the tokenizer."""
    ends = model.generation_config.eos_token_id
    listed = ends if isinstance(ends, list) else [ends]
    return frozenset(int(end) for end in (*listed, tokenizer.eos_token_id) if end is not None)


def _fail(row: Row, error: Exception) -> None:
    if not row.done.done():
        row.done.set_exception(error)
