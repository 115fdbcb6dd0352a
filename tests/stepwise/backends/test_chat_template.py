"""Chat templates: rendered as transformers renders them, and refused in a sentence."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from stepwise import load_pair
from stepwise.backends import gguf
from stepwise.backends.chat_template import ChatTemplate
from stepwise.backends.tokenized import Tokenized
from stepwise.errors import ConfigError
from stepwise.types import Turn
from tests.gguf_file import save_gguf

NANO = Path(load_pair("nano").models[0].path)
THEIRS = PreTrainedTokenizerFast.from_pretrained(NANO)
CHATML = (
    "{{ bos_token }}{% for message in messages %}\n"
    "    {% if loop.index > 9 %}{% break %}{% endif %}\n"
    "{{ '<|' + message.role + '|>' + message['content'] | trim + '\\n' }}\n"
    "{% endfor %}\n"
    "{% if add_generation_prompt %}<|assistant|>{{ {'é': 1} | tojson }}{% endif %}"
)
STRICT = "{% if messages[0].role == 'system' %}{{ raise_exception('No system messages.') }}{% endif %}Hi."


def folder(tmp: Path, template: object, **more: object) -> Path:
    """A checkpoint's tokenizer with this template."""
    shutil.copy(NANO / "tokenizer.json", tmp)
    config = {"bos_token": {"content": "<s>"}, "chat_template": template, **more}
    (tmp / "tokenizer_config.json").write_text(json.dumps(config))
    return tmp


turns = st.lists(
    st.builds(Turn, st.sampled_from(["system", "user", "assistant"]), st.text(max_size=5)),
    min_size=1,
    max_size=12,
)


@given(turns)
def test_a_template_is_rendered_as_transformers_does(
    tmp_path_factory: pytest.TempPathFactory, said: list[Turn]
) -> None:
    ours = ChatTemplate(folder(tmp_path_factory.mktemp("t"), CHATML)).render(said)
    messages = [{"role": turn.role, "content": turn.text} for turn in said]
    THEIRS.bos_token = "<s>"
    theirs = THEIRS.apply_chat_template(
        messages, chat_template=CHATML, tokenize=False, add_generation_prompt=True
    )
    assert ours == theirs


def test_a_gguf_file_has_its_template_with_it(tmp_path: Path) -> None:
    said = [Turn("user", "x"), Turn("assistant", "y"), Turn("user", "z")]
    file = save_gguf(NANO, tmp_path / "nano.gguf", CHATML)
    bos = json.loads((NANO / "config.json").read_text())["bos_token_id"]
    piece = Tokenized(NANO).text((), (bos,)) or gguf.tokenizer(file).id_to_token(bos)
    rendered = ChatTemplate(file).render(said)
    assert rendered == ChatTemplate(folder(tmp_path, CHATML, bos_token=piece)).render(said)
    assert Tokenized(file).converse(said) == Tokenized(NANO).encode(rendered, first=False)
    with pytest.raises(ConfigError, match="it has no chat template"):
        ChatTemplate(save_gguf(NANO, tmp_path / "none.gguf"))


def test_token_ids_are_those_of_the_rendered_text(tmp_path: Path) -> None:
    model = Tokenized(folder(tmp_path, "{{ messages[0].content }}: "))
    assert model.converse([Turn("user", "How many")]) == model.encode("How many: ", first=False)


def test_a_template_may_be_a_file_or_one_of_several(tmp_path: Path) -> None:
    several = [{"name": "tool_use", "template": "tools"}, {"name": "default", "template": "usual"}]
    assert ChatTemplate(folder(tmp_path, several)).render([Turn("user", "x")]) == "usual"
    (tmp_path / "chat_template.jinja").write_text("of a file")
    assert ChatTemplate(tmp_path).render([Turn("user", "x")]) == "of a file"


@pytest.mark.parametrize(
    "template, message",
    [
        (None, "it has no chat template"),
        ("{% if %}", "its chat template cannot be read"),
        (STRICT, "its chat template refuses such a conversation: No system messages."),
        ("{{ messages[0].content.__class__.__mro__ }}", "refuses such a conversation"),
        ("{{ nothing.at.all }}", "refuses such a conversation"),
    ],
)
def test_what_cannot_be_rendered_is_a_sentence(tmp_path: Path, template: str | None, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ChatTemplate(folder(tmp_path, template)).render([Turn("system", "x"), Turn("user", "y")])


def test_a_checkpoint_without_a_configuration_has_none(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no chat template"):
        ChatTemplate(tmp_path)
