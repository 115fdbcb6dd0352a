"""Anchor questions: the fixed set that every model answers once, so that models can be compared."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stepwise.errors import ConfigError
from stepwise.extras import require
from stepwise.scope.embed import Embedder, open_embedder
from stepwise.types import Problem, normalised

DIMENSIONS = 64
"""Of the space in which questions are clustered."""


class AnchorSet:
    """Questions with distinct ids and texts.

    Args:
        problems: in a fixed order.
        provenance: how they were chosen.

    Raises:
        ConfigError: if there are none, or two share an id or a text.
    """

    def __init__(self, problems: Sequence[Problem], provenance: Mapping[str, Any] | None = None) -> None:
        self.problems = tuple(problems)
        self.provenance = dict(provenance or {})
        if not self.problems:
            raise ConfigError("anchors must hold at least one problem, and are empty.")
        for what, values in (
            ("id", [problem.id for problem in self.problems]),
            ("question", [normalised(problem.question) or problem.question for problem in self.problems]),
        ):
            value, count = Counter(values).most_common(1)[0]
            if count > 1:
                raise ConfigError(f"anchors must differ, and {count} have the {what} {value[:80]!r}.")
        self.place = {problem.id: i for i, problem in enumerate(self.problems)}

    def __len__(self) -> int:
        return len(self.problems)

    def __iter__(self) -> Iterator[Problem]:
        return iter(self.problems)

    @property
    def questions(self) -> list[str]:
        """Their texts, in order."""
        return [problem.question for problem in self.problems]

    @property
    def digest(self) -> str:
        """Identifies ids, questions and answers: a fingerprint taken on other anchors is stale."""
        content = repr([(problem.id, problem.question, problem.answer) for problem in self.problems])
        return hashlib.blake2b(content.encode(), digest_size=8).hexdigest()

    def save(self, path: str | Path) -> None:
        """Write the anchors with their provenance as JSON."""
        content = {
            "digest": self.digest,
            "provenance": self.provenance,
            "anchors": [{"id": p.id, "question": p.question, "answer": p.answer} for p in self.problems],
        }
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> AnchorSet:
        """Read what `save` wrote.

        Raises:
            ConfigError: if the file is missing, damaged, or was edited by hand.
        """
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
            anchors = cls([Problem(**anchor) for anchor in content["anchors"]], content["provenance"])
        except ConfigError:
            raise
        except FileNotFoundError as error:
            raise ConfigError(f"anchors: {str(path)!r} does not exist.") from error
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigError(
                f"anchors: {str(path)!r} cannot be read as a set of anchors: {error}."
            ) from error
        if anchors.digest != content.get("digest"):
            raise ConfigError(
                f"anchors: {str(path)!r} was changed after it was written (digest {content.get('digest')}, "
                f"content {anchors.digest}); choose new anchors, or restore the file."
            )
        return anchors


def choose_anchors(
    problems: Sequence[Problem],
    n: int = 250,
    *,
    embedder: str | Embedder | Sequence[str | Embedder] = "tfidf",
    strata: Sequence[object] | None = None,
    seed: int = 0,
    provenance: Mapping[str, Any] | None = None,
) -> AnchorSet:
    """Choose anchors that cover a set of questions.

    Within each stratum the embeddings are clustered by k-means, and the question nearest to every centre
    is taken. Strata get places in proportion to their size. The result depends on the arguments alone.

    Args:
        problems: to choose from; equal questions count once.
        n: how many.
        strata: a label per problem (difficulty, subject), where known.

    Raises:
        ConfigError: if there are fewer distinct problems than places, or as many labels as problems are not
            given.
    """
    if strata is not None and len(strata) != len(problems):
        raise ConfigError(f"strata must have one label per problem: {len(problems)}, not {len(strata)}.")
    labels = [str(label) for label in strata] if strata is not None else [""] * len(problems)
    distinct = {normalised(p.question): (p, label) for p, label in zip(problems, labels, strict=True)}
    if n < 1 or n > len(distinct):
        raise ConfigError(f"n must lie in [1, {len(distinct)}], the number of distinct questions, not {n}.")
    pool = list(distinct.values())
    space = _space([problem.question for problem, _ in pool], embedder, seed)
    chosen: list[int] = []
    for label, places in _places(Counter(label for _, label in pool), n).items():
        members = np.array([i for i, (_, own) in enumerate(pool) if own == label])
        chosen += members[_central(space[members], places, seed)].tolist()
    choice = {
        "n": n,
        "chosen_from": len(pool),
        "strata": dict(Counter(pool[i][1] for i in chosen)),
        "seed": seed,
    }
    name = getattr(embedder, "name", embedder)
    return AnchorSet([pool[i][0] for i in sorted(chosen)], {**choice, "embedder": name, **(provenance or {})})


def _space(
    questions: Sequence[str], embedder: str | Embedder | Sequence[str | Embedder], seed: int
) -> NDArray[np.float64]:
    require("SCOPE", "scope", "sklearn")
    from sklearn.decomposition import TruncatedSVD

    vectors = open_embedder(embedder).fit(questions).embed(questions)
    size = min(DIMENSIONS, vectors.shape[0] - 1, vectors.shape[1] - 1)
    if size < 1:
        return np.zeros((len(questions), 1))
    return np.asarray(TruncatedSVD(size, random_state=seed).fit_transform(vectors), dtype=np.float64)


def _places(sizes: Mapping[str, int], n: int) -> dict[str, int]:
    """Places by stratum in proportion to its size; the largest remainders get what is left."""
    total = sum(sizes.values())
    shares = {label: n * sizes[label] / total for label in sorted(sizes)}
    places = {label: int(share) for label, share in shares.items()}
    by_remainder = sorted(shares, key=lambda label: places[label] - shares[label])
    for label in by_remainder[: n - sum(places.values())]:
        places[label] += 1
    return {label: count for label, count in places.items() if count}


def _central(space: NDArray[np.float64], count: int, seed: int) -> NDArray[np.intp]:
    """Indices of ``count`` rows: the nearest to each centre of k-means, no row twice."""
    from sklearn.cluster import KMeans

    if count >= len(space):
        return np.arange(len(space))
    if len(np.unique(space, axis=0)) <= count:  # k-means cannot find that many clusters
        return np.arange(count)
    distance = KMeans(count, n_init=1, random_state=seed).fit(space).transform(space)
    taken: list[int] = []
    for centre in range(count):
        distance[taken, centre] = np.inf
        taken.append(int(np.argmin(distance[:, centre])))
    return np.array(sorted(taken))
