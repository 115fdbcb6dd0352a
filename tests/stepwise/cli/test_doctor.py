"""``stepwise doctor`` about this machine."""

from __future__ import annotations

import importlib.util
from importlib.machinery import ModuleSpec
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from stepwise.cli import doctor
from stepwise.cli.main import main


def test_a_foreign_distribution_of_the_same_name_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "stepwise-7.8.9.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: stepwise\nVersion: 7.8.9\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert main(["doctor"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "'stepwise' 7.8.9 is installed; it is another project" in shown
    assert "pip uninstall stepwise" in shown


def test_nothing_is_said_where_ours_is_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing(name: str) -> None:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(doctor, "distribution", missing)
    assert main(["doctor"]) == 0
    assert "another project" not in capsys.readouterr().out


def test_a_missing_library_is_named_with_its_extra(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def find(name: str) -> ModuleSpec | None:
        return None if name in ("torch", "transformers", "matplotlib") else importlib.util.find_spec(name)

    monkeypatch.setattr(doctor, "find_spec", find)
    assert main(["doctor"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "missing backend transformers: pip install -e '.[local]'" in shown
    assert "missing reports: pip install -e '.[report]'" in shown
    assert "device" not in shown and "nano large" in shown
