"""TRL's trainers, as `scripts.train_scope` uses them: one function a stage, each resumable."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from scripts.program import console
from stepwise.extras import missing_extra
from stepwise.scope.reward import reward


@dataclass(frozen=True)
class Datum:
    """A prompt, the answer to learn (empty where it is not for learning), and what really happened."""

    prompt: str
    completion: str
    model: str
    correct: bool
    tokens: int


def supervise(data: Sequence[Datum], settings: Mapping[str, Any], folder: Path, *, seed: int) -> None:
    """Stage 1: learn the answers as they are. The model lands in ``<folder>/model``."""

    def make(model: Any, tokenizer: Any, rows: Any, lora: Any) -> Any:
        from trl import SFTConfig, SFTTrainer

        arguments = SFTConfig(**_arguments(folder, seed), completion_only_loss=True, **settings["sft"])
        return SFTTrainer(model, arguments, train_dataset=rows, processing_class=tokenizer, peft_config=lora)

    rows = [{"prompt": datum.prompt, "completion": datum.completion} for datum in data]
    _train(make, rows, settings["model"], settings, folder)


def reinforce(
    data: Sequence[Datum], settings: Mapping[str, Any], start: str, folder: Path, *, seed: int
) -> None:
    """Stage 2: GRPO with the gated reward, from the supervised model."""

    def rewards(
        completions: Sequence[str], correct: Sequence[bool], tokens: Sequence[int], **_: Any
    ) -> list[float]:
        return [reward(*case) for case in zip(completions, correct, tokens, strict=True)]

    def make(model: Any, tokenizer: Any, rows: Any, lora: Any) -> Any:
        from trl import GRPOConfig, GRPOTrainer

        arguments = GRPOConfig(
            **_arguments(folder, seed), max_completion_length=settings["max_tokens"], **settings["grpo"]
        )
        return GRPOTrainer(
            model, rewards, arguments, train_dataset=rows, processing_class=tokenizer, peft_config=lora
        )

    rows = [{name: value for name, value in asdict(datum).items() if name != "completion"} for datum in data]
    _train(make, rows, start, settings, folder)


def _arguments(folder: Path, seed: int) -> dict[str, Any]:
    return {
        "output_dir": str(folder),
        "seed": seed,
        "report_to": "none",
        "save_total_limit": 1,
        "disable_tqdm": False,
    }


def _train(
    make: Callable[[Any, Any, Any, Any], Any],
    rows: list[dict[str, Any]],
    start: str,
    settings: Mapping[str, Any],
    folder: Path,
) -> None:
    """Load, train from the last checkpoint if there is one, and write the model; nothing if it is there."""
    if (folder / "model" / "config.json").exists():
        console.print(f"{folder / 'model'}: is trained; nothing is left.")
        return
    try:
        from datasets import Dataset
        from transformers import AutoModelForCausalLM, AutoTokenizer
    except ImportError as error:
        raise missing_extra("training an estimator", "scope-train") from error
    tokenizer = AutoTokenizer.from_pretrained(start)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    model = AutoModelForCausalLM.from_pretrained(start, dtype=settings["dtype"])
    trainer = make(model, tokenizer, Dataset.from_list(rows), _lora(settings))
    if (checkpoint := last_checkpoint(folder)) is not None:
        console.print(f"{checkpoint}: goes on from there.")
    trainer.train(resume_from_checkpoint=checkpoint)
    trained = trainer.model.merge_and_unload() if settings["lora"] else trainer.model
    tokenizer.save_pretrained(folder / "partial")
    trained.save_pretrained(folder / "partial")
    (folder / "partial").rename(folder / "model")


def last_checkpoint(folder: Path) -> str | None:
    """The latest whole checkpoint. A trainer writes its state last: what it was killed over has none, or a
    torn one."""
    for path in sorted(folder.glob("checkpoint-[0-9]*"), key=lambda path: -int(path.name.split("-")[1])):
        try:
            json.loads((path / "trainer_state.json").read_text())
        except (OSError, ValueError):
            continue
        return str(path)
    return None


def _lora(settings: Mapping[str, Any]) -> Any:
    if not settings["lora"]:
        return None
    from peft import LoraConfig

    return LoraConfig(task_type="CAUSAL_LM", **settings["lora"])
