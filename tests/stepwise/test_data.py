"""Problems from a file of one's own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stepwise import load_dataset
from stepwise.errors import ConfigError


def test_a_json_lines_file_is_read(tmp_path: Path) -> None:
    file = tmp_path / "mine.jsonl"
    file.write_text(
        json.dumps({"question": "1 + 1?", "answer": 2}) + "\n" + '{"question":"q","answer":"a","id":"x"}\n'
    )
    first, second = load_dataset(str(file))
    assert (first.id, first.question, first.answer) == ("mine-1", "1 + 1?", "2")
    assert second.id == "x"
    assert len(load_dataset(str(file), limit=1)) == 1


@pytest.mark.parametrize("line", ['{"question": "q"}', "not json", "[1]", '{"question": " ", "answer": "1"}'])
def test_an_unusable_line_is_named_by_its_number(tmp_path: Path, line: str) -> None:
    file = tmp_path / "mine.jsonl"
    file.write_text('{"question": "q", "answer": "a"}\n' + line + "\n")
    with pytest.raises(ConfigError, match="line 2"):
        load_dataset(str(file))
