"""Unicode's mathematics and typography in the characters of ASCII and LaTeX."""

from __future__ import annotations

import re
import unicodedata

_SIGNS = {
    "×": r"\times ", "·⋅": r"\cdot ", "÷": "/", "±": r"\pm ", "∓": r"\mp ", "≤⩽": r"\le ", "≥⩾": r"\ge ",
    "≠": r"\ne ", "≈≃": r"\approx ", "≡": r"\equiv ", "π": r"\pi ", "θ": r"\theta ", "α": r"\alpha ",
    "β": r"\beta ", "λ": r"\lambda ", "ω": r"\omega ", "φϕ": r"\phi ", "∞": r"\infty ", "∪": r"\cup ",
    "∩": r"\cap ", "∈": r"\in ", "∖": r"\setminus ", "∅": r"\emptyset ", "ℝ": r"\mathbb{R}",
    "ℤ": r"\mathbb{Z}",
    "ℕ": r"\mathbb{N}", "ℚ": r"\mathbb{Q}", "ℂ": r"\mathbb{C}", "⟨〈": r"\langle ", "⟩〉": r"\rangle ",
    "∶：": ":", "°": r"^\circ ", "−": "-", "、": ",", "。": ".", "‘’": "'", "“”„": '"',
    "…": r"\ldots ", "【": "[", "】": "]",
}  # fmt: skip
_RAISED = re.compile("[⁰¹²³⁴-⁹⁺⁻ⁿⁱ]+")
_LOWERED = re.compile("[₀-₉₊₋]+")
_OVERLINED = re.compile("((?:[0-9]\u0305)+)")
_ROOT = re.compile(
    r"(?P<root>[√∛∜])\s*(?:\((?P<round>[^()]*)\)|\{(?P<curly>[^{}]*)\}|(?P<bare>\d+|[A-Za-z]))"
)
_THOUSANDS = re.compile(r"(?<=\d)[\u00a0\u2009\u202f](?=\d{3}(?!\d))")
_ORDER = {"√": "", "∛": "[3]", "∜": "[4]"}


def folded(text: str) -> str:
    """The same text in ASCII, as far as it has a spelling there.

    Minus signs and dashes are hyphens, all spaces are spaces, full-width characters and styled letters are
    plain ones; fractions, roots, superscripts and symbols become LaTeX. Letters of other scripts stay.
    """
    if text.isascii():
        return text
    text = _OVERLINED.sub(lambda digits: rf"\overline{{{digits[1].replace(chr(0x305), '')}}}", text)
    text = _RAISED.sub(lambda run: f"^{{{_compatible(run[0])}}}", text)
    text = _LOWERED.sub(lambda run: f"_{{{_compatible(run[0])}}}", text)
    return _ROOT.sub(_root, text).translate(_CHARACTERS)


def plain_typography(text: str) -> str:
    """A chain's text with its minus signs, spaces and full-width characters made plain, and no more."""
    return text if text.isascii() else _THOUSANDS.sub(",", text).translate(_TYPOGRAPHY)


def _root(match: re.Match[str]) -> str:
    return rf"\sqrt{_ORDER[match['root']]}{{{match['round'] or match['curly'] or match['bare'] or ''}}}"


def _compatible(characters: str) -> str:
    return unicodedata.normalize("NFKC", characters).replace("−", "-")


def _plain(character: str) -> str:
    """An ordinary spelling of a dash, a space or a full-width character; others stay as they are."""
    category = unicodedata.category(character)
    if category == "Pd" or character == "−":
        return "-"
    if category == "Zs":
        return " "
    if category == "Cf":
        return ""
    return _compatible(character) if "\uff01" <= character <= "\uff5e" else character


def _latex(character: str) -> str:
    """The LaTeX of a symbol or fraction; else its ordinary spelling."""
    for signs, latex in _SIGNS.items():
        if character in signs:
            return latex
    decomposed = unicodedata.decomposition(character)
    if decomposed.startswith("<fraction>"):
        return r"\frac{{{}}}{{{}}}".format(*_compatible(character).split("\u2044"))
    return _compatible(character) if decomposed.startswith("<font>") else _plain(character)


class _Translation(dict[int, str]):
    """A table for `str.translate` that is filled as characters are met."""

    def __init__(self, spelling: object) -> None:
        super().__init__()
        self._spelling = spelling

    def __missing__(self, code: int) -> str:
        self[code] = self._spelling(chr(code)) if code > 127 else chr(code)  # type: ignore[operator]
        return self[code]


_CHARACTERS = _Translation(_latex)
_TYPOGRAPHY = _Translation(_plain)
