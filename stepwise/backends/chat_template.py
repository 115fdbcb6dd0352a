"""A checkpoint's own chat template: a conversation as the text that its model was trained on.

Rendered as Hugging Face does it (Jinja in a sandbox, with its few names), without transformers: clients of
servers need none.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import TemplateError
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from stepwise.backends import gguf
from stepwise.errors import ConfigError
from stepwise.types import Turn


class ChatTemplate:
    """The chat template in a folder or a GGUF file.

    Raises:
        ConfigError: if there is none, or it is no template.
    """

    def __init__(self, place: Path) -> None:
        source, self._special = _in_file(place) if place.is_file() else _in_folder(place)
        if not source:
            raise ConfigError("it has no chat template")
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols]
        )
        environment.filters["tojson"] = _json
        environment.globals |= {"raise_exception": _refuse, "strftime_now": _now}
        try:
            self._template = environment.from_string(source)
        except TemplateError as error:
            raise ConfigError(f"its chat template cannot be read: {error}") from error

    def render(self, turns: Sequence[Turn]) -> str:
        """The conversation, up to where the model's answer begins.

        Raises:
            ConfigError: if the model takes no such conversation: no system message, for example.
        """
        messages = [{"role": turn.role, "content": turn.text} for turn in turns]
        try:
            return self._template.render(messages=messages, add_generation_prompt=True, **self._special)
        except (TemplateError, TypeError, ValueError) as error:
            raise ConfigError(f"its chat template refuses such a conversation: {error}") from error


def _in_folder(folder: Path) -> tuple[str | None, dict[str, str]]:
    """The template, and the special tokens that it may name."""
    config = _config(folder / "tokenizer_config.json")
    return _source(folder, config), {name: _token(config[name]) for name in gguf.SPECIAL if config.get(name)}


def _in_file(file: Path) -> tuple[str | None, dict[str, str]]:
    header, tokenizer = gguf.header(file), gguf.tokenizer(file)
    names = {name: tokenizer.id_to_token(token) for name, token in header.special.items()}
    return header.chat_template, {name: text for name, text in names.items() if text is not None}


def _config(file: Path) -> Mapping[str, Any]:
    try:
        read = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return {}
    return read if isinstance(read, dict) else {}


def _source(folder: Path, config: Mapping[str, Any]) -> str | None:
    """A file of its own, or a field of the configuration: one template, or several by name."""
    file = folder / "chat_template.jinja"
    if file.is_file():
        return file.read_text(encoding="utf-8")
    given = config.get("chat_template")
    if isinstance(given, list):
        given = {each.get("name"): each.get("template") for each in given}.get("default")
    return given if isinstance(given, str) else None


def _token(given: Any) -> str:
    return str(given.get("content", "")) if isinstance(given, dict) else str(given)


def _json(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _refuse(message: str) -> None:
    raise TemplateError(message)


def _now(form: str) -> str:
    return datetime.now().strftime(form)
