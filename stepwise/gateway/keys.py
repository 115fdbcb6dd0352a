"""Who asks: tenants and their API keys, of which only SHA-256 digests are kept."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stepwise.errors import ConfigError
from stepwise.gateway.failures import Refusal

NO_KEY = hashlib.sha256(b"").hexdigest()
SHORTEST = 16
"""Characters of a key. A digest without salt only protects keys that cannot be guessed."""


@dataclass(frozen=True, slots=True)
class Tenant:
    """One holder of a key.

    Attributes:
        digest: SHA-256 of the key, in hex.
        concurrency: chains at the same time; None for the server's limit.
        spend: cost a UTC day, in the engine's unit; None for no limit.
    """

    name: str
    digest: str = ""
    concurrency: int | None = None
    spend: float | None = None

    def __post_init__(self) -> None:
        for field, value in (("concurrency", self.concurrency), ("spend", self.spend)):
            if value is not None and not 0 < value < float("inf"):
                raise ConfigError(f"tenant {self.name!r}: {field} must be a number above 0, not {value}.")


ANYONE = Tenant("anyone")
"""Who asks where there are no keys."""


@dataclass(frozen=True)
class Keys:
    """The tenants of a server; none at all means that nobody needs a key."""

    tenants: Sequence[Tenant] = ()

    def __post_init__(self) -> None:
        for field in ("name", "digest"):
            values = [getattr(tenant, field) for tenant in self.tenants]
            if len(set(values)) != len(values):
                raise ConfigError(f"keys: each tenant needs a {field} of its own.")

    def find(self, authorization: str | None) -> Tenant:
        """The tenant of an ``Authorization`` header. Takes the same time whichever key is given.

        Raises:
            Refusal: 401 if there are keys and this is none of them.
        """
        if not self.tenants:
            return ANYONE
        scheme, _, key = (authorization or "").partition(" ")
        given = digest(key.strip())
        holders = [tenant for tenant in self.tenants if hmac.compare_digest(tenant.digest, given)]
        if scheme.lower() != "bearer" or not holders:
            raise Refusal(
                401,
                "this server needs one of its API keys, as `Authorization: Bearer KEY`.",
                code="invalid_api_key",
            )
        return holders[0]

    @classmethod
    def load(cls, path: Path | None, variables: Sequence[str] = ()) -> Keys:
        """Tenants from a TOML file and from environment variables that hold keys.

        One table per tenant: ``[alice]`` with ``sha256 = "..."`` or ``key_env = "VARIABLE"``, and
        ``concurrency`` and ``spend`` where they are limited. A variable's tenant has its name.

        Raises:
            ConfigError: if the file cannot be read, a variable is not set, or a key is too short.
        """
        tables: dict[str, Any] = {}
        if path is not None:
            try:
                tables = tomllib.loads(path.read_text(encoding="utf-8"))
            except (OSError, ValueError) as error:
                raise ConfigError(f"keys: {path} cannot be read as TOML: {error}.") from error
            if not tables:
                raise ConfigError(f"keys: {path} names no tenant; add a table for each, or leave --keys out.")
        tenants = [_tenant(name, table) for name, table in tables.items()]
        return cls([*tenants, *(Tenant(name.lower(), _from_environment(name)) for name in variables)])


def digest(key: str) -> str:
    """SHA-256 of a key, in hexadecimal: what the file of tenants holds in its place."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


def _tenant(name: str, table: Any) -> Tenant:
    known = {"sha256", "key_env", "concurrency", "spend"}
    if not isinstance(table, dict) or set(table) - known or ("sha256" in table) == ("key_env" in table):
        raise ConfigError(
            f"keys: tenant {name!r} must be a table with sha256 or key_env (concurrency and spend: optional)."
        )
    kept = str(table["sha256"]).lower() if "sha256" in table else _from_environment(str(table["key_env"]))
    if not re.fullmatch(r"[0-9a-f]{64}", kept):
        raise ConfigError(f"keys: sha256 of tenant {name!r} must be 64 hexadecimal digits.")
    if kept == NO_KEY:
        raise ConfigError(f"keys: sha256 of tenant {name!r} is that of an empty key.")
    limits = table.get("concurrency"), table.get("spend")
    if type(limits[0]) not in (int, type(None)) or type(limits[1]) not in (int, float, type(None)):
        raise ConfigError(f"keys: concurrency and spend of tenant {name!r} must be numbers.")
    return Tenant(name, kept, *limits)


def _from_environment(variable: str) -> str:
    key = os.environ.get(variable, "").strip()
    if len(key) < SHORTEST:
        raise ConfigError(f"keys: ${variable} must hold a key of at least {SHORTEST} characters.")
    return digest(key)
