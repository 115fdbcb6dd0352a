"""Embeddings of questions: unit vectors whose dot product is their similarity.

``tfidf`` is made of words and pieces of words, learned from the anchors, and needs no download. Anything else
is the name or the folder of a sentence-transformers model: ``sentence-transformers/all-MiniLM-L6-v2`` is
small, ``Qwen/Qwen3-Embedding-0.6B`` is what the released SCOPE uses. Several may be joined.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
import scipy.sparse as sparse

from stepwise.errors import ConfigError
from stepwise.extras import require
from stepwise.store.connection import connect

WORDS = r"\\?[a-zA-Z]+|\d+|[^\sa-zA-Z\d]"
"""Words, LaTeX commands, numbers and single symbols."""


class Embedder(Protocol):
    """Questions to unit vectors [n, d]."""

    @property
    def name(self) -> str: ...

    def fit(self, texts: Sequence[str]) -> Self:
        """Learn a vocabulary, where there is one to learn."""
        ...

    def embed(self, texts: Sequence[str]) -> sparse.csr_array:
        """[n, d], rows of length 1 (or 0 for a text without a known word)."""
        ...


class Tfidf:
    """Words, pairs of words and pieces of 2 to 5 characters, weighted by how rare they are."""

    name = "tfidf"

    def __init__(self) -> None:
        require("SCOPE", "scope", "sklearn")
        from sklearn.feature_extraction.text import TfidfVectorizer

        words = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2), token_pattern=WORDS)
        pieces = TfidfVectorizer(sublinear_tf=True, ngram_range=(2, 5), analyzer="char_wb")
        self._parts: tuple[Any, ...] = (words, pieces)

    def fit(self, texts: Sequence[str]) -> Self:
        try:
            for part in self._parts:
                part.fit(texts)
        except ValueError as error:
            raise ConfigError(
                "questions must hold at least one word or symbol for the tfidf embedder."
            ) from error
        return self

    def embed(self, texts: Sequence[str]) -> sparse.csr_array:
        parts = [part.transform(texts) for part in self._parts]
        return _side_by_side(parts)  # each has length 1


class Sentences:
    """A sentence-transformers model on the CPU or a GPU; what was embedded once is kept.

    Args:
        model: name on a model hub, or a folder.
        cache: SQLite file that keeps vectors from one run to the next.

    Raises:
        ConfigError: if the library is missing or the model cannot be loaded.
    """

    def __init__(self, model: str, *, cache: str | Path = ":memory:") -> None:
        self.name = model
        require(f"embedder {model!r}", "scope", "sentence_transformers")
        from sentence_transformers import SentenceTransformer

        try:
            self._model = SentenceTransformer(model)
        except Exception as error:
            raise ConfigError(
                f"embedder {model!r} cannot be loaded ({type(error).__name__}); name the folder of a "
                "sentence-transformers model, connect to the network once, or use 'tfidf'."
            ) from error
        self._lock = threading.Lock()
        self._db = connect(cache, "CREATE TABLE IF NOT EXISTS vectors (key BLOB PRIMARY KEY, value BLOB)")

    def fit(self, texts: Sequence[str]) -> Self:
        return self

    def embed(self, texts: Sequence[str]) -> sparse.csr_array:
        keys = [hashlib.blake2b(f"{self.name}\n{text}".encode(), digest_size=16).digest() for text in texts]
        with self._lock:
            vectors = {key: self._get(key) for key in keys}
            missing = {key: text for key, text in zip(keys, texts, strict=True) if vectors[key] is None}
            if missing:
                new = self._model.encode(
                    list(missing.values()), normalize_embeddings=True, show_progress_bar=False
                )
                for key, vector in zip(missing, np.asarray(new, dtype=np.float32), strict=True):
                    vectors[key] = vector.tobytes()
                    self._db.execute("INSERT OR REPLACE INTO vectors VALUES (?, ?)", (key, vectors[key]))
        return sparse.csr_array(
            np.stack([np.frombuffer(vectors[key] or b"", dtype=np.float32) for key in keys])
        )

    def _get(self, key: bytes) -> bytes | None:
        row = self._db.execute("SELECT value FROM vectors WHERE key = ?", (key,)).fetchone()
        return row[0] if row else None


class Joined:
    """Several embedders side by side: the similarity is the mean of theirs."""

    def __init__(self, parts: Sequence[Embedder]) -> None:
        self._parts = tuple(parts)
        self.name = " + ".join(part.name for part in parts)

    def fit(self, texts: Sequence[str]) -> Self:
        for part in self._parts:
            part.fit(texts)
        return self

    def embed(self, texts: Sequence[str]) -> sparse.csr_array:
        return _side_by_side([part.embed(texts) for part in self._parts])


def _side_by_side(parts: Sequence[Any]) -> sparse.csr_array:
    """Unit vectors as one unit vector."""
    return sparse.csr_array(sparse.hstack(parts, format="csr") * np.sqrt(1 / len(parts)))


def open_embedder(named: str | Embedder | Sequence[str | Embedder]) -> Embedder:
    """An embedder by name, several joined, or one that exists already.

    Raises:
        ConfigError: if it cannot be loaded.
    """
    if isinstance(named, str):
        return Tfidf() if named == "tfidf" else Sentences(named)
    if isinstance(named, Sequence):
        if not named:
            raise ConfigError("embedder must name at least one embedder.")
        return Joined([open_embedder(part) for part in named])
    return named
