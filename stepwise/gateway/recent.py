"""The latest chains, for the page."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

RECENT = 50
Entry = Mapping[str, Any]


class Recent:
    """Remembers the last chains of this process."""

    def __init__(self) -> None:
        self._entries: deque[tuple[str, Entry]] = deque(maxlen=RECENT)

    def add(self, tenant: str, entry: Entry) -> None:
        self._entries.append((tenant, entry))

    async def of(self, tenant: str) -> list[Entry]:
        """A tenant's, the newest first."""
        return [entry for name, entry in reversed(self._entries) if name == tenant]
