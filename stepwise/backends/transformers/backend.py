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
from pathlib import Path
from typing import Any

from stepwise.backends import checkpoint, gguf
from stepwise.backends.tokenized import Tokenized
from stepwise.engine import signals
from stepwise.engine.backend import Completion, Lost, Sampling, only_read, room, unaccounted
from stepwise.errors import BackendError, ConfigError, RequestRefused
from stepwise.extras import missing_extra
from stepwise.types import Finish

try:
    import torch
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast
    from transformers.utils.logging import disable_progress_bar

    from stepwise.backends.transformers.architecture import Architecture
    from stepwise.backends.transformers.batch_cache import BatchCache
    from stepwise.backends.transformers.prefix_cache import PrefixCache
    from stepwise.backends.transformers.row import BatchRow, RowGeneration
except ModuleNotFoundError as error:
    raise missing_extra("the transformers backend", "local") from error


COLDEST = 1e-6
"""Temperature: float32 overflows far below it, and the likeliest token is drawn at it anyway."""

DTYPES = ("float32", "bfloat16", "float16")


class TransformersBackend(Tokenized):
    """Runs one checkpoint with `transformers`.

    Args:
        path: folder of a checkpoint, or the id of a downloaded hub model, or a GGUF file.
        dtype: of the computation; float32 gives the same tokens whatever else is in the batch.
        device: "cpu", "cuda" or "mps"; when not given, "cuda" if there is one, else "cpu".
        max_batch: requests decoded together; more wait their turn.
        cache_mib: memory for the keys and values of finished sequences.
        threads: CPU threads of this model's computation; PyTorch's default when not given. Models
            that run side by side should share the cores, since their threads wait busily.

    Raises:
        ConfigError: if the path holds no whole checkpoint.
    """

    reads = True

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
        if dtype not in DTYPES:
            raise ConfigError(f"dtype must be one of {', '.join(DTYPES)}, not {dtype!r}.")
        if max_batch < 1 or cache_mib < 0:
            raise ConfigError(
                f"max_batch must be at least 1 and cache_mib at least 0, not {max_batch}, {cache_mib}."
            )
        disable_progress_bar()
        place = checkpoint.resolve(path)
        super().__init__(place)
        self.revision = f"{checkpoint.revision(path)}-{dtype}"
        self.tokenizer = checkpoint.tokenizer_id(path)
        self.parameters = checkpoint.parameters(path)
        self._device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        try:
            model = _load(place, dtype)
            self._model: Any = model.to(self._device).eval()
        except (OSError, ValueError, RuntimeError, NotImplementedError) as error:
            raise ConfigError(f"model path {path!r} could not be loaded: {error}") from error
        self._architecture = Architecture(self._model, path)
        config = self._architecture.config
        self.context = int(config.max_position_embeddings)
        self._vocabulary = int(self._model.get_input_embeddings().num_embeddings)
        self._ends = _end_tokens(self._model, place)
        self._max_batch = max_batch
        self._threads = threads
        self._rows: list[BatchRow] = []
        self._batch = BatchCache(config.num_hidden_layers, max_batch)
        self._prefixes = PrefixCache(cache_mib << 20)
        self._inbox: queue.SimpleQueue[BatchRow | None] = queue.SimpleQueue()
        self._closed = False
        self._worker = threading.Thread(target=self._run, name=f"decode-{place.name}", daemon=True)
        self._worker.start()

    async def generate(
        self, prefix: Sequence[int], sampling: Sampling, lost: Lost = unaccounted
    ) -> Completion:
        row = self._submit(BatchRow(list(prefix), len(prefix), sampling))
        try:
            return await asyncio.wrap_future(row.done)
        except asyncio.CancelledError:
            try:
                await row.leave()
            finally:
                lost(row.usage)
            raise
        except BackendError:
            lost(row.usage)
            raise

    def begin(self, prefix: Sequence[int], sampling: Sampling) -> RowGeneration:
        return RowGeneration(BatchRow(list(prefix), len(prefix), sampling), self._submit)

    def _submit(self, row: BatchRow) -> BatchRow:
        if self._closed:
            raise BackendError("the backend is closed.")
        room(row.ids, self.context)
        if not row.ids or not 0 <= min(row.ids) <= max(row.ids) < self._vocabulary:
            raise RequestRefused("a prefix must be tokens of the model's vocabulary, at least one.")
        if row.sampling.read >= len(row.ids):
            raise RequestRefused("what is read must follow at least one token.")
        self._inbox.put(row)
        return row

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._inbox.put(None)
            await asyncio.to_thread(self._worker.join)

    # The worker thread: everything below runs in it.

    @torch.inference_mode()
    def _run(self) -> None:
        waiting: list[BatchRow] = []
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

    def _collect(self, waiting: list[BatchRow]) -> None:
        """Move arrived requests to ``waiting``; sleep only when there is nothing to decode."""
        block = not self._rows and not waiting
        while block or not self._inbox.empty():
            row = self._inbox.get()
            if row is not None and row.done.set_running_or_notify_cancel():
                waiting.append(row)
            elif row is None:
                return
            block = False

    def _admit(self, waiting: list[BatchRow]) -> None:
        """Give free rows to waiting requests and compute their prefixes."""
        low = len(self._rows)
        while waiting and len(self._rows) < self._max_batch:
            row = waiting.pop(0)
            length, kv = self._prefixes.longest(tuple(row.ids[: len(row.ids) - row.sampling.read - 1]))
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
        hidden = self._architecture.decoder(
            input_ids=ids,
            attention_mask=self._architecture.mask(positions),
            position_ids=positions,
            past_key_values=self._batch,
            use_cache=True,
        ).last_hidden_state
        last = [hidden[i, n - 1] for i, n in enumerate(new) if not rows[i].sampling.read]
        for i, row in enumerate(rows):
            if row.sampling.read:
                self._read(row, hidden[i, new[i] - 1 - row.sampling.read : new[i] - 1])
        if last:
            writing = [row for row in rows if not row.sampling.read]
            self._take(writing, self._architecture.logits(torch.stack(last)))

    def _read(self, row: BatchRow, hidden: torch.Tensor) -> None:
        """Record how likely the model thinks the last tokens of a prefix, and let the row go.

        Args:
            hidden: of the tokens before each of them [read, size].
        """
        logprobs = self._architecture.logits(hidden).log_softmax(-1)
        tokens = torch.tensor(row.ids[-row.sampling.read :], device=self._device)
        row.chosen = logprobs.gather(1, tokens[:, None])[:, 0].tolist()
        row.top = logprobs.topk(min(signals.TOP, logprobs.shape[1])).values.tolist()
        self._leave(row, "length")

    def _take(self, rows: list[BatchRow], logits: torch.Tensor) -> None:
        """Choose each row's next token, record its signals, and let finished rows go."""
        logprobs = logits.log_softmax(-1)
        choice = logits.argmax(-1)
        for i, row in enumerate(rows):
            if row.sampling.temperature > 0.0:
                try:
                    choice[i] = self._draw(row, logits[i])
                except Exception as error:  # of this request alone: the others of the batch go on
                    row.broken = RequestRefused(f"no token could be drawn for this request: {error}")
        chosen = logprobs.gather(1, choice[:, None])[:, 0].tolist()
        top = logprobs.topk(min(signals.TOP, logprobs.shape[1])).values.tolist()
        for row, token, logprob, best in zip(rows, choice.tolist(), chosen, top, strict=True):
            row.ids.append(token)
            row.chosen.append(logprob)
            row.finish = self._finish(row, token)
            row.top.append(best if not row.top else best[:2])
            if row.broken:
                self._leave(row, "length")
            elif row.finish or row.abandoned:
                self._leave(row, row.finish or "length")
            elif row.wake:
                row.wake()

    def _draw(self, row: BatchRow, logits: torch.Tensor) -> int:
        if row.generator is None:
            row.generator = torch.Generator().manual_seed(row.sampling.seed)
        temperature = max(row.sampling.temperature, COLDEST)
        probabilities, order = (logits / temperature).softmax(-1).cpu().sort(descending=True)
        before = probabilities.cumsum(-1) - probabilities
        probabilities[1:][before[1:] >= row.sampling.top_p] = 0.0  # the likeliest token stays
        return int(order[torch.multinomial(probabilities, 1, generator=row.generator)])

    def _finish(self, row: BatchRow, token: int) -> Finish | None:
        if token in self._ends:
            return "end"
        if row.scanner.read(self.piece(token)):
            return "stop"
        full = len(row.chosen) >= row.sampling.max_tokens or len(row.ids) >= self.context
        return "length" if full else None

    def _leave(self, row: BatchRow, finish: Finish) -> None:
        """Take a row out of the batch, keep its keys and values, and close the gap."""
        index, last = self._rows.index(row), len(self._rows) - 1
        kv = self._batch.copy_out(index, row.known)
        if kv is not None:
            self._prefixes.put(tuple(row.ids[: row.known]), kv)
        if index != last:
            self._rows[index] = self._rows[last]
            self._batch.move(last, index, len(self._rows[index].ids))
        self._rows.pop()
        if row.broken:
            _fail(row, row.broken)
        else:
            row.done.set_result(self._completion(row, finish))

    def _completion(self, row: BatchRow, finish: Finish) -> Completion:
        if row.sampling.read:
            return only_read(row.usage, signals.measure(row.chosen, row.top))
        generated = len(row.chosen)
        count, finish = row.scanner.close(finish, row.sampling.max_tokens)
        ids, kept = row.ids[row.start : row.start + count], count + (finish == "end")
        return Completion(
            text=self._tokenizer.decode(ids, skip_special_tokens=False),
            token_ids=tuple(ids),
            usage=row.usage.discard(generated - kept),
            signals=signals.measure(row.chosen[:kept], row.top[:kept]),
            finish=finish,
        )


def _load(place: Path, dtype: str) -> Any:
    """The model in a folder, or in a GGUF file, whose weights are multiplied out."""
    folder, file = (place.parent, place.name) if place.is_file() else (place, None)
    return AutoModelForCausalLM.from_pretrained(
        folder, gguf_file=file, dtype=getattr(torch, dtype), attn_implementation="sdpa"
    )


def _end_tokens(model: Any, place: Path) -> frozenset[int]:
    """All tokens that end an answer, from the generation config and the tokenizer's."""
    ends = model.generation_config.eos_token_id
    listed = ends if isinstance(ends, list) else [ends]
    known = frozenset(int(end) for end in listed if end is not None)
    if place.is_file():
        return known | gguf.header(place).ends
    # Not AutoTokenizer: for some model types (Qwen2) it puts its own rules in the place of the file's.
    end = PreTrainedTokenizerFast.from_pretrained(place).eos_token_id
    return known if end is None else known | {int(end)}


def _fail(row: BatchRow, error: Exception) -> None:
    if not row.done.done():
        row.done.set_exception(error)
