"""The examples run, and print the numbers that they promise."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jupytext
import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"
PROMISED = re.compile(r"# ```text\n(.*?)# ```", re.S)


def printed(name: str, *arguments: str, **environment: str) -> list[str]:
    """The lines that an example prints, run as its text says."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", f"examples.{name}", *arguments],
        cwd=ROOT, capture_output=True, text=True, timeout=600, env=os.environ | environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.splitlines()


def promised(name: str) -> list[str]:
    """The lines that an example says it prints."""
    [block] = PROMISED.findall((EXAMPLES / f"{name}.py").read_text())
    return [line.removeprefix("#").removeprefix(" ") for line in block.splitlines()]


@pytest.mark.parametrize("name", ["own_dataset", "guarantee", "paper_table", "scope_from_table", "minimal"])
def test_it_prints_what_it_promises(name: str) -> None:
    lines = printed(name)
    assert [line for line in promised(name) if line not in lines] == []


@pytest.mark.parametrize("name", ["own_dataset", "guarantee"])
def test_its_notebook_is_the_same_and_runs(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    notebook = nbformat.read(EXAMPLES / f"{name}.ipynb", as_version=4)
    program: Any = jupytext.read(EXAMPLES / f"{name}.py")  # type: ignore[no-untyped-call]
    assert [(cell.cell_type, cell.source) for cell in notebook.cells] == [
        (cell.cell_type, cell.source) for cell in program.cells
    ]
    monkeypatch.chdir(ROOT)
    ran = NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
    outputs = [output for cell in ran.cells for output in cell.get("outputs", [])]
    said = "".join(output.text for output in outputs if output.output_type == "stream")
    assert [line for line in promised(name) if line not in said.splitlines()] == []


def test_a_router_of_ones_own_is_scored_on_the_recording_that_ships() -> None:
    lines = [line.split() for line in printed("my_router")]
    assert [line[0] for line in lines] == ["small", "large", *["from_the_first_doubt"] * 3]
    accuracy = {line[0]: line[line.index("accuracy") + 1] for line in lines[:2]}
    assert accuracy == {"small": "22.7%", "large": "44.3%"}  # docs/real_models.md


def test_ppo_in_one_file_learns_more_than_any_fixed_rule() -> None:
    from examples.cleanrl_loop import main

    results = main()
    assert results["learned"] > max(results["small"], results["large"], results["random"]) + 0.02
