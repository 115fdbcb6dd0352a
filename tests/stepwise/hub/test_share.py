"""What is pushed comes back, whole, with a card; what is damaged goes nowhere."""

from __future__ import annotations

import json
import shutil
from importlib.resources import files
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub.errors import RepositoryNotFoundError

from stepwise import load_router
from stepwise.cli.main import main
from stepwise.errors import BackendError, ConfigError
from stepwise.hub import pull, push
from stepwise.recording.folder import Recording
from stepwise.scope import AnchorSet, FingerprintStore
from tests.stepwise.recording.worlds import open_recording, recording_engine
from tests.stepwise.scope import worlds as scope_worlds

POLICY = Path(str(files("stepwise") / "assets" / "nano-ppo"))


class Hub:
    """A hub in a folder, with the calls of the client that are used."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.private: dict[str, bool] = {}

    def create_repo(self, repo_id: str, *, repo_type: str, private: bool, exist_ok: bool) -> None:
        assert exist_ok
        self.private[repo_id] = private
        (self.folder / repo_type / repo_id).mkdir(parents=True, exist_ok=True)

    def upload_folder(self, *, repo_id: str, repo_type: str, folder_path: Path, commit_message: str) -> str:
        shutil.copytree(folder_path, self.folder / repo_type / repo_id, dirs_exist_ok=True)
        return f"https://hub.test/{repo_id}"

    def snapshot_download(self, repo_id: str, *, repo_type: str, **_: Any) -> str:
        folder = self.folder / repo_type / repo_id
        if not folder.is_dir():
            raise RepositoryNotFoundError.__new__(RepositoryNotFoundError)
        return str(folder)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    hub = Hub(tmp_path / "hub")
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: hub)
    return hub


@pytest.mark.parametrize("place", ["FOLDER", "hf://me/nano-ppo"])
def test_a_policy_comes_back_as_it_was(place: str, tmp_path: Path, hub: Hub) -> None:
    place = place.replace("FOLDER", str(tmp_path / "shared"))
    push(POLICY, place, private=True)
    assert pull(place, tmp_path / "here").name == "policy"
    load_router(str(tmp_path / "here"), budget=0.4)  # it can be used
    for name in ("policy.json", "policy.npz", "calibration.npz"):
        assert (tmp_path / "here" / name).read_bytes() == (POLICY / name).read_bytes()
    assert "45.7%" in (tmp_path / "here" / "README.md").read_text(), "the card has the calibrated curve"
    if place.startswith("hf"):
        card = (hub.folder / "model" / "me" / "nano-ppo" / "README.md").read_text()
        assert card.startswith("---\ntags: [stepwise, policy]") and hub.private == {"me/nano-ppo": True}


def test_a_recording_and_fingerprints_come_back(tmp_path: Path, hub: Hub) -> None:
    recording = open_recording(tmp_path / "recorded")
    recording_engine(recording)
    recording.about.update(dataset="gsm8k", pair="mine", models={"small": {"weights": "w", "parameters": 1}})
    recording.close()
    (recording.folder / "recording.json").write_text(json.dumps(recording.about))
    anchors = AnchorSet(scope_worlds.problems(40))
    known = tmp_path / "known"
    known.mkdir()
    anchors.save(known / "anchors.json")
    store = FingerprintStore(known / "fingerprints.db")
    store.add(*scope_worlds.store(anchors))
    names = store.models
    store.close()
    for name, folder in (("recording", recording.folder), ("fingerprints", known)):
        push(folder, f"hf://me/{name}")
        assert pull(f"hf://me/{name}", tmp_path / f"{name}-here").name == name
    assert len(Recording(tmp_path / "recording-here").tree) == len(Recording(recording.folder).tree)
    card = (tmp_path / "fingerprints-here" / "README.md").read_text()
    assert all(f"| {name} |" in card for name in names)


def test_a_damaged_folder_is_not_pushed(tmp_path: Path) -> None:
    shutil.copytree(POLICY, tmp_path / "damaged")
    (tmp_path / "damaged" / "policy.npz").write_bytes(b"no weights")
    with pytest.raises(ConfigError):
        push(tmp_path / "damaged", str(tmp_path / "shared"))
    assert not (tmp_path / "shared").exists()


def test_nothing_is_written_over(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "mine").write_text("mine")
    with pytest.raises(ConfigError, match="is there already"):
        pull(str(POLICY), tmp_path / "here")
    assert (tmp_path / "here" / "mine").read_text() == "mine"


def test_a_hub_that_is_down_is_a_sentence(
    tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def down(*_: Any, **__: Any) -> None:
        raise ConnectionError("no route")

    monkeypatch.setattr(hub, "create_repo", down)
    with pytest.raises(BackendError, match="me/nano could not be reached"):
        push(POLICY, "hf://me/nano")
    assert main(["pull", "hf://nobody/nothing", str(tmp_path / "here")]) == 2
    assert "no repository nobody/nothing" in capsys.readouterr().err
    assert main(["push", str(tmp_path), "hf://me/x"]) == 2
    assert "holds nothing that can be shared" in capsys.readouterr().err
    assert main(["push", str(POLICY), "hf://only-a-name"]) == 2
