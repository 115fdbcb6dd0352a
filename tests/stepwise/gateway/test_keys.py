"""Who asks."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from stepwise.errors import ConfigError
from stepwise.gateway.failures import Refusal
from stepwise.gateway.keys import ANYONE, Keys, Tenant

KEY = "a key of some length"
DIGEST = hashlib.sha256(KEY.encode()).hexdigest()


def test_a_file_and_the_environment_name_tenants(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOB_KEY", "another key, as long")
    monkeypatch.setenv("CAROL", "the third of the keys\n")
    file = tmp_path / "keys.toml"
    file.write_text(
        f'[alice]\nsha256 = "{DIGEST}"\nconcurrency = 3\nspend = 1e9\n[bob]\nkey_env = "BOB_KEY"\n'
    )
    keys = Keys.load(file, ["CAROL"])
    assert keys.find(f"Bearer {KEY}") == Tenant("alice", DIGEST, 3, 1e9)
    assert keys.find("bearer another key, as long").name == "bob"
    assert keys.find("Bearer the third of the keys").name == "carol"
    assert KEY not in repr(keys)


@pytest.mark.parametrize(
    "header", [None, "", KEY, f"Basic {KEY}", "Bearer ", "Bearer wrong", f"Bearer {KEY}x", "é"]
)
def test_anything_but_a_key_is_refused(header: str | None) -> None:
    with pytest.raises(Refusal) as refused:
        Keys([Tenant("alice", DIGEST)]).find(header)
    assert refused.value.status == 401 and KEY not in str(refused.value)


def test_without_keys_anyone_may_ask() -> None:
    assert Keys().find(None) is ANYONE


@pytest.mark.parametrize(
    "text, message",
    [
        ("[alice", "cannot be read as TOML"),
        ("alice = 1", "tenant 'alice' must be a table"),
        ("[alice]", "sha256 or key_env"),
        ('[alice]\nsha256 = "xyz"', "64 hexadecimal digits"),
        (f'[alice]\nsha256 = "{DIGEST}"\nkey_env = "X"', "sha256 or key_env"),
        (f'[alice]\nsha256 = "{DIGEST}"\nspent = 3', "tenant 'alice' must be a table"),
        (f'[alice]\nsha256 = "{DIGEST}"\nspend = "3"', "must be numbers"),
        (f'[alice]\nsha256 = "{DIGEST}"\nconcurrency = 0', "concurrency must be a number above 0"),
        (f'[alice]\nsha256 = "{DIGEST}"\n[bob]\nsha256 = "{DIGEST}"', "a digest of its own"),
        ("", "names no tenant"),
        ("# all of them are gone\n", "names no tenant"),
        (f'[alice]\nsha256 = "{hashlib.sha256(b"").hexdigest()}"', "is that of an empty key"),
        ('[alice]\nkey_env = "BLANK_KEY"', "BLANK_KEY must hold a key of at least 16 characters"),
        ('[alice]\nkey_env = "UNSET_KEY"', "UNSET_KEY must hold a key of at least 16 characters"),
    ],
)
def test_unusable_keys_are_refused(
    text: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BLANK_KEY", " " * 20)
    file = tmp_path / "keys.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=message):
        Keys.load(file)
