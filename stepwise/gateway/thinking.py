"""What a model thinks, apart from what it says then: ``reasoning_content``, for clients that ask for it."""

from __future__ import annotations


class Thinking:
    """Parts a text that comes in pieces where its thinking ends.

    Args:
        end: the text that ends it, ``</think>`` say. It belongs to neither part, nor does a tag that opens
            it, nor the space behind them.
    """

    def __init__(self, end: str) -> None:
        self._end, self._opening = end, end.replace("</", "<", 1)
        self._held = ""
        self._opened = self._over = self._said = False

    def feed(self, text: str) -> tuple[str, str]:
        """What of it is thought, and what is said. What may be part of a tag is held back."""
        if self._over:
            return "", self._spoken(text)
        self._held += text
        if not self._opened and not self._open():
            return "", ""
        thought, end, said = self._held.partition(self._end)
        if end:
            self._over, self._held = True, ""
            return thought, self._spoken(said)
        keep = overlap(self._held, self._end)
        thought, self._held = self._held[: len(thought) - keep], self._held[len(thought) - keep :]
        return thought, ""

    def rest(self) -> str:
        """Thought that was held back in vain."""
        held, self._held = self._held, ""
        return held

    def _open(self) -> bool:
        bare = self._held.lstrip()
        if len(bare) < len(self._opening) and self._opening.startswith(bare):
            return False
        if inside := bare.removeprefix(self._opening).lstrip():
            self._held, self._opened = inside, True
        return self._opened

    def _spoken(self, text: str) -> str:
        text = text if self._said else text.lstrip()
        self._said = self._said or bool(text)
        return text


def overlap(text: str, mark: str) -> int:
    """Length of the longest end of ``text`` that begins ``mark``."""
    longest = min(len(text), len(mark) - 1)
    return next((size for size in range(longest, 0, -1) if mark.startswith(text[-size:])), 0)
