"""What can be shared: how a folder of each kind is recognised, checked and described."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from stepwise.errors import ConfigError
from stepwise.recording.folder import Recording
from stepwise.routers.artifact import PolicyArtifact
from stepwise.routers.card import describe

Describe = Callable[[Path], str]
POLICY = ("policy.json", "policy.npz")
RECORDING = ("recording.json",)
FINGERPRINTS = ("anchors.json", "fingerprints.db")


@dataclass(frozen=True)
class Kind:
    """A kind of folder.

    Attributes:
        name: what it is called.
        repository: the hub's type of repository for it.
        marks: files that a folder of this kind has.
        files: patterns of the files that belong to it; others stay where they are.
        card: reads the folder, and says in Markdown what a stranger has to know. Raises ConfigError if the
            folder is damaged.
    """

    name: str
    repository: Literal["model", "dataset"]
    marks: tuple[str, ...]
    files: tuple[str, ...]
    card: Describe


def kind_of(folder: Path) -> Kind:
    """The kind of a folder.

    Raises:
        ConfigError: if it is no folder, or of no kind that is known.
    """
    if not folder.is_dir():
        raise ConfigError(f"folder must be a folder, and {folder} is none.")
    for kind in KINDS:
        if all((folder / mark).is_file() for mark in kind.marks):
            return kind
    known = "; ".join(f"a {kind.name} has {' and '.join(kind.marks)}" for kind in KINDS)
    raise ConfigError(f"folder {folder} holds nothing that can be shared: {known}.")


def _policy(folder: Path) -> str:
    PolicyArtifact.load(folder)
    return describe(json.loads((folder / "policy.json").read_text()))


def _recording(folder: Path) -> str:
    recording = Recording(folder)
    about, tree = recording.about, recording.tree
    counted = Counter(question.split for question in tree.questions.values())
    questions = ", ".join(f"{count} of {split}" for split, count in sorted(counted.items()))
    models = "\n".join(
        f"- {name}: {model['parameters']:,} parameters, weights `{model['weights']}`"
        for name, model in about["models"].items()
    )
    return (
        f"# {about['dataset']} as {about['pair']} wrote it\n\nA recording for StepBench: {len(tree):,} steps "
        f"and {len(tree.chains):,} chains on {questions} questions. It holds no questions and no gold "
        "answers.\n\n"
        f"{models}\n\n```sh\npython -m scripts.stepbench recording=FOLDER\n```\n"
    )


def _fingerprints(folder: Path) -> str:
    from stepwise.scope import AnchorSet, FingerprintStore

    anchors = AnchorSet.load(folder / "anchors.json")
    store = FingerprintStore(folder / "fingerprints.db", create=False)
    try:
        fingerprints = store.on(anchors.digest)
    finally:
        store.close()
    if not fingerprints:
        raise ConfigError(f"folder {folder}: no model in fingerprints.db was asked these anchors.")
    rows = "\n".join(
        f"| {fingerprint.model} | {sum(map(bool, fingerprint.correct)) / len(fingerprint.correct):.1%} |"
        for fingerprint in fingerprints
    )
    return (
        f"# Fingerprints of {len(fingerprints)} models on {len(anchors)} anchor questions\n\nAnchor set "
        f"`{anchors.digest}`. The anchor questions are in `anchors.json`: share them only where their data "
        f"set allows it.\n\n| model | right |\n|---|---|\n{rows}\n\n"
        "```sh\nstepwise scope report --folder FOLDER\n```\n"
    )


KINDS = (
    Kind("policy", "model", POLICY, (*POLICY, "calibration.npz"), _policy),
    Kind("recording", "dataset", RECORDING, (*RECORDING, "*.parquet", "journal.jsonl"), _recording),
    Kind("fingerprints", "dataset", FINGERPRINTS, FINGERPRINTS, _fingerprints),
)
