"""Units after a number or an expression: what counts as one, and which are the same."""

from __future__ import annotations

import re

_NAMES = {
    "cm": "centimeter centimetre", "mm": "millimeter millimetre", "km": "kilometer kilometre kms",
    "m": "meter metre", "in": "inch inches", "ft": "foot feet", "yd": "yard", "mi": "mile",
    "g": "gram gm gms", "kg": "kilogram kgs kilo", "mg": "milligram", "lb": "pound lbs", "oz": "ounce",
    "l": "liter litre", "ml": "milliliter millilitre", "gal": "gallon", "cc": "",
    "mb": "megabyte", "gb": "gigabyte",
    "s": "second sec secs", "min": "minute mins", "h": "hour hr hrs", "day": "", "week": "wk", "month": "",
    "year": "yr yrs", "mph": "", "kph": "kmh kmph", "rpm": "", "hz": "hertz", "n": "newton",
    "j": "joule", "w": "watt",
    "kw": "kilowatt", "v": "volt", "ohm": "", "pa": "pascal", "k": "kelvin",
    "degree": "deg", "radian": "rad", "acre": "", "hectare": "ha", "square": "sq", "cubic": "cu",
    "dollar": "usd", "cent": "", "euro": "eur", "rupee": "rs", "yuan": "rmb", "unit": "",
    "point": "", "digit": "", "way": "", "student": "", "time": "", "edge": "", "integer": "",
    "person": "people", "child": "children", "man": "men", "woman": "women", "per": "",
}  # fmt: skip
_CANONICAL = {alias: name for name, aliases in _NAMES.items() for alias in (name, *aliases.split())}
_LETTERS = {"m", "g", "s", "h", "l"}
"""Letters that are units after a number and a space; at a number ("3m") one other than g is a variable."""
_NO_UNIT = frozenset({
    "and", "or", "to", "by", "over", "plus", "minus", "mod", "choose", "factorial", "squared", "cubed", "if",
    "for", "where", "when", "with", "except", "not", "is", "are", "hundred", "thousand", "million", "billion",
    "trillion", "dozen", "sqrt", "log", "ln", "sin", "cos", "tan", "sec", "csc", "cot", "exp", "pi", "alpha",
    "beta", "theta",
})  # fmt: skip
_SPACE = r"(?:\\[,;:! ]|[~\s])*"
_POWER = r"(?P<power>\^\s*\{?[23]\}?)?\s*\.?"
_IN_TEXT = re.compile(
    rf"(?P<body>.*[\w)}}\]%]){_SPACE}[\^{{\s]*\\text\s*\{{{_SPACE}"
    rf"(?P<words>[A-Za-z][A-Za-z./' ~\n-]*)\}}\}}?\s*{_POWER}",
    re.DOTALL,
)
_DEGREES = re.compile(
    r"(?P<body>.*[\w)}\]])\s*(?:\^\s*(?:\{\s*\\circ\s*\}|\\circ)|\\degree)\s*(?:\\text\s*\{\s*)?(?P<scale>[CF]?)\}?\s*",
    re.DOTALL,
)
_WORDS = re.compile(
    r"(?P<body>.*(?:[\d)}\].]|\\pi|\b(?:thousand|[mb]illion|dozen)\b))"
    rf"(?P<space>{_SPACE})(?P<words>[A-Za-z][A-Za-z./' -]*){_POWER}",
    re.DOTALL,
)
_PERCENT = re.compile(
    r"(?P<body>.*[^\s\\])\s*"
    r"(?:\\?%|\b(?:percent|percentage|per ?cent|pct)\b|\\text\s*\{\s*(?:\\?%|percent)\s*\})\.?",
    re.DOTALL,
)
_SLASH = re.compile(
    r"(?P<body>.*\d)\s*/\s*(?P<words>year|month|week|day|hour|hr|min|minute|second|sec|s|h|kg|lb|person)"
)
_ORDINAL = re.compile(r"(?P<body>\d+)\s*(?:\^\s*)?\{?(?:\\text\s*\{)?\s*(?:st|nd|rd|th)\s*\}?\}?")
_CURRENCY = re.compile(r"(?P<body>.*\d)(?:\\[,;: ]|[~\s])*(?:\\text\s*\{\s*)?(?:\\?\$|[€£¥₹])\s*\}?")


def split_unit(answer: str) -> tuple[str, str]:
    r"""What is measured, and its unit in one spelling ('' for none): ``8\sqrt{3} \text{ sq in}`` is 8√3 and
    "square in".

    Letters are no units: only what stands in ``\text``, a known word after a number, or a word of three
    letters after a plain number.
    """
    if match := _ORDINAL.fullmatch(answer) or _CURRENCY.fullmatch(answer):
        return match["body"], ""
    if match := _PERCENT.fullmatch(answer):
        return match["body"].rstrip(), "%"
    if match := _DEGREES.fullmatch(answer):
        return match["body"], f"degree {match['scale']}".strip()
    if match := _SLASH.fullmatch(answer):
        return match["body"], "/" + canonical(match["words"])
    if (match := _IN_TEXT.fullmatch(answer)) and _may_be_unit(match["words"]):
        return match["body"].rstrip(), canonical(match["words"], match["power"])
    match = _WORDS.fullmatch(answer)
    if match and _is_unit(match["body"], match["space"], match["words"].rstrip(". ")):
        return match["body"], canonical(match["words"], match["power"])
    return answer, ""


def same_unit(a: str, b: str) -> bool:
    """Whether two units agree: one side has none, or both are the same; "units" are whatever they are."""
    a, b = (re.sub(r"^(square |cubic )?unit$", "", unit) for unit in (a, b))
    return not a or not b or a == b or {a, b} <= {"degree", "degree C"} or {a, b} <= {"degree", "degree F"}


def canonical(words: str, power: str | None = "") -> str:
    """A unit in one spelling: singular, abbreviated, "square" and "cubic" in words."""
    raised = {"2": "square", "3": "cubic"}.get(re.sub(r"\D", "", power or ""), "")
    parts = re.findall(r"[a-z']+|/", words.lower().replace("~", " ").replace("per ", "/"))
    return " ".join(filter(None, (raised, *map(_singular, parts))))


def _singular(word: str) -> str:
    for form in (word, word.removesuffix("s"), word.removesuffix("es")):
        if form in _CANONICAL:
            return _CANONICAL[form]
    return word.removesuffix("s")


def _may_be_unit(words: str) -> bool:
    first, *_ = re.findall("[a-z]+", words.lower())
    return first not in _NO_UNIT


def _is_unit(body: str, space: str, words: str) -> bool:
    """Whether words after a body are its unit, and not variables or functions."""
    parts = re.findall("[a-z']+", words.lower())
    if not parts or parts[0] in _NO_UNIT:
        return False
    known = all(part in _CANONICAL or part.removesuffix("s") in _CANONICAL for part in parts)
    if len(parts) == 1 and len(parts[0]) == 1:
        return (bool(space) or parts[0] == "g") and parts[0] in _LETTERS and "\\" not in body
    if known:
        return True
    plain = re.fullmatch(r"[-+$€£¥₹\d.,/ ]+", body)
    return bool(plain and space and len(parts[0]) > 2)
