r"""One spelling of an answer: of its LaTeX, ASCII mathematics and wording, only what they mean stays."""

from __future__ import annotations

import re

from stepwise.verify.unicode import folded

_LOOKS = (
    (r"\\(?:displaystyle|textstyle|tiny|small|normalsize|[lL]arge|LARGE|[hH]uge|bf|rm|it|sf|bfseries|limits|left|right"
     r"|[bB]igg?[lr]?|q?quad)(?![A-Za-z])\.?", " "),
    (r"\\(?:color|textcolor)\s*\{[^{}]*\}", ""),
    (r"\\(?:boxed|fbox|underline|mathbf|boldsymbol|bm|mathit|mathsf)(?=\s*\{)", ""),
    (r"\\(?:textbf|textit|textrm|textnormal|mathrm|mbox|operatorname)(?=\s*\{)", r"\\text"),
    (r"\\[dtc]frac", r"\\frac"),
    (r"\\frac\s*(\d)\s*(\d)", r"\\frac{\1}{\2}"),
    (r"\\frac\s*(\d)\s*\{", r"\\frac{\1}{"),
    (r"\\sqrt\s*(\d)", r"\\sqrt{\1}"),
    (r"\\(?:leqslant|leq)(?![A-Za-z])", r"\\le"),
    (r"\\(?:geqslant|geq)(?![A-Za-z])", r"\\ge"),
    (r"\\neq(?![A-Za-z])", r"\\ne"),
    (r"\\varnothing", r"\\emptyset"),
    (r"\\!\s*", ""),
    (r"\*\*", "^"),
    (r"\\(?:vert|mid|lvert|rvert)(?![A-Za-z])", "|"),
    (r"\\colon(?![A-Za-z])|\{:\}", ":"),
    (r"\\(?:lbrace|\{)", r"\\{"), (r"\\rbrace", r"\\}"),
)  # fmt: skip
_DIGITS = (
    (r"(?<==)\s*\d{1,3}(?:,\d{3})+(?![\d,])", lambda match: match[0].replace(",", "")),
    (r"(?<=\d)\{,\}(?=\d{3}(?!\d))", ","),
    (r"(?<=\d)\{,\}(?=\d)", "."),
    (r"(?<![\d.,])(\d{1,3}(?:(?:\\,|\\ |~| )\d{3})+)(?![\d/])", lambda match: re.sub(r"\D", "", match[1])),
    (r"(?<![\d.,])(\d{1,3}(?:\.\d{3})+),(\d+)(?![\d,])",
     lambda match: match[1].replace(".", "") + "." + match[2]),
)  # fmt: skip
_ASCII = (
    (r"(?<=[A-Za-z]) (?:equals|is equal to) ", "="),
    (r"(?<![\\A-Za-z])(?:oo|infinity|inf)(?![A-Za-z])", r"\\infty "),
    (r"(?<![\\A-Za-z])(pi|theta|alpha|beta|(?:arc)?(?:sin|cos|tan)|sec|csc|cot|ln|log|exp)(?![A-Za-z])",
     r"\\\1 "),
    (r"(?<![\\A-Za-z])sqrt\s*(\d+|[A-Za-z])(?![A-Za-z(])", r"\\sqrt{\1}"),
    (r"(?<!\\)<=", r"\\le "), (r"(?<!\\)>=", r"\\ge "), (r"!=", r"\\ne "),
    (r"\+/?-(?=\s*[\\\d(a-z])", r"\\pm "),
    (r"\s+U\s+|(?<=[)\]])U(?=[(\[])", r" \\cup "),
    (r"(?<=[\w)}])\s*\*\s*(?=[\w(\\{])", r" \\cdot "),
)  # fmt: skip
_FILLER = re.compile(
    r"\s*(?:\\text\s*\{\s*)?(?:(?:(?:yes|no)(?=\s*,)|so|thus|hence|therefore|then|simply|indeed|just|clearly"
    r"|actually|also|only|still|now|given by|found to be|(?:the )?(?:final )?answer is|(?:final )?answer"
    r"|option|choice|approximately|approx\.?|about|around|roughly|exactly|equal to|equals|is)"
    r"(?=[\s,:}]|\\)[\s,:]*|\\(?:approx|sim|therefore|implies|Rightarrow)\b\s*|= *)"
    r"(?=[^\s}]|\s*\}\s*[^\s.}])",
    re.IGNORECASE,
)
_LABEL = re.compile(r"\s*\\text\s*\{[^{}=]*(?:\}\s*=|\b(?:is|are|about)\s*\}|:\s*\})\s*(?=\S)")
_SET_BUILDER = re.compile(
    r"\\\{\s*([a-zA-Z])\s*(?:\\in\s*\\mathbb\s*\{?R\}?\s*)?(?:\\,|\s)*(?:\||:)(?:\\,|\s)*(?P<condition>[^{}|]*\S)\s*\\\}"
)
_REALS = re.compile(
    r"(?:\\text\s*\{)?\s*all real numbers\s*(?:except\s*\}?\s*(?P<hole>-?[\d/.]+))?\s*\}?", re.IGNORECASE
)
_ANGLED = re.compile(r"\\langle(.*)\\rangle", re.DOTALL)
_COMPONENT = re.compile(
    r"\s*(?P<sign>[+-]?)\s*(?P<size>[^+-]*?)\s*\\(?:hat|mathbf|vec|bm|boldsymbol)\s*\{\s*\\?(?P<axis>[ijk])(?:math)?\s*\}\s*"
)
_FUNCTION = re.compile(r"\\?(?<![A-Za-z])(sqrt|cbrt|abs)\s*\(")
_BRACKETS = {"sqrt": (r"\sqrt{", "}"), "cbrt": (r"\sqrt[3]{", "}"), "abs": ("|", "|")}
_MODULUS = re.compile(
    r"\s*(?:\\pmod\s*\{?(\d+)\}?|\(?\s*(?:\\bmod|\\mod|\\text\s*\{\s*mod\s*\}|mod)\s*\{?(\d+)\}?\s*\)?)\s*$"
)
_TEXT = re.compile(r"\\text\s*\{([^{}]*)\}")


def spelt(answer: str) -> str:
    """An answer in one spelling of LaTeX; words in ``\\text`` stay there."""
    answer = folded(answer)
    if vector := _in_components(answer):
        return vector
    for pattern, replacement in (*_LOOKS, *_DIGITS, *_ASCII):
        answer = re.sub(pattern, replacement, answer)
    answer = _functions(answer)
    answer = _ANGLED.sub(r"(\1)", without_filler(answer.strip()))
    if reals := _REALS.fullmatch(answer):
        return r"\mathbb{R}" + (rf" \setminus \{{{reals['hole']}\}}" if reals["hole"] else "")
    if builder := _SET_BUILDER.fullmatch(answer):
        return builder["condition"]
    return _unbraced(answer)


def wording(answer: str) -> str:
    """An answer as plain text: no ``\\text``, no escapes, single spaces, no full stop."""
    answer = _TEXT.sub(r" \1 ", answer)
    answer = re.sub(r"\\([%$])", r"\1", answer)
    answer = re.sub(r"(?:\\[,;: ]|~|\s)+", " ", answer).strip().rstrip(".")
    letter = re.fullmatch(r"\(?([A-Za-z])\)", answer)
    return letter[1] if letter else answer


def modulus(answer: str) -> tuple[str, str]:
    """A residue and its modulus ('' for none): of ``N \\equiv 3 \\pmod{5}``, "3" and "5"."""
    match = _MODULUS.search(answer)
    if not match:
        return answer, ""
    return answer[: match.start()].rpartition(r"\equiv")[2].rpartition("=")[2].strip(), match[1] or match[2]


def both_signs(answer: str) -> str:
    """``a \\pm b`` written out as two answers."""
    if r"\pm" not in answer or "," in answer:
        return answer
    name, equals, value = answer.rpartition("=")
    signs = (("+", "-"), ("-", "+"))
    return ", ".join(
        f"{name}{equals}" + value.replace(r"\pm", upper).replace(r"\mp", lower) for upper, lower in signs
    )


def without_filler(answer: str) -> str:
    """Without the words before what is said: "the answer is", "option", "about", "Volume ="."""
    answer = answer.lstrip(", ")
    for _ in range(4):
        shorter = _LABEL.sub("", answer, count=1) if _LABEL.match(answer) else answer
        if match := _FILLER.match(shorter):
            closing = r"\text{" if match[0].lstrip().startswith(r"\text") else ""
            shorter = re.sub(r"^\\text\s*\{[\s,:]*\}\s*", "", closing + shorter[match.end() :])
        if shorter == answer:
            break
        answer = shorter.strip()
    return answer


def _in_components(answer: str) -> str:
    r"""``2\mathbf{i}+3\mathbf{j}`` as ``(2,3)``; '' for what is no such sum."""
    terms = list(_COMPONENT.finditer(answer))
    if not terms or "".join(term[0] for term in terms) != answer:
        return ""
    parts = {term["axis"]: term["sign"] + (term["size"].strip() or "1") for term in terms}
    return "({})".format(",".join(parts.get(axis, "0") for axis in ("ijk" if "k" in parts else "ij")))


def _unbraced(answer: str) -> str:
    """Without a pair of braces around all of it."""
    while answer.startswith("{") and answer.endswith("}") and _closing(answer, 0) == len(answer) - 1:
        answer = answer[1:-1].strip()
    return answer


def _functions(answer: str) -> str:
    r"""``sqrt(a+b)`` as ``\sqrt{a+b}``, and the like."""
    place = 0
    while match := _FUNCTION.search(answer, place):
        end = _closing(answer, match.end() - 1)
        if end < 0:
            break
        left, right = _BRACKETS[match[1]]
        answer = answer[: match.start()] + left + answer[match.end() : end] + right + answer[end + 1 :]
        place = match.start() + len(left)
    return answer


def _closing(answer: str, opening: int) -> int:
    """Where the bracket or brace at a place is closed; -1 if it is not."""
    left = answer[opening]
    right = {"(": ")", "{": "}"}[left]
    depth = 0
    for i in range(opening, len(answer)):
        depth += (answer[i] == left) - (answer[i] == right)
        if depth == 0:
            return i
    return -1
