"""Answers that are said in words: "The answer is therefore 72, which ..."."""

from __future__ import annotations

import re
from collections import deque

from stepwise.verify.latex import without_filler
from stepwise.verify.tokens import expressions, leading, masked, without_delimiters

LONGEST = 2_000
"""Characters of a line that are searched for an answer."""
LAST = 20
"""Statements that are looked at, the last ones; of the others a model has had second thoughts."""

_STATEMENT = re.compile(
    r"\banswers?\b[*_`]*(?:\s+(?:is|are|equals)\b(?!\s+not\b)|\s*[:=])[\s:=*\"`}]*"
    r"|\b(?:correct|right|best) (?:option|choice)\b(?:\s+is\b|\s*:)[\s:*]*"
    r"|\b(?:choose|select|pick)(?: option| choice)?\s+(?=\(?(?-i:[A-J])\b)"
    r"|^[#*]{0,6}[ \t*]{0,4}(?:the )?(?:final )?answer[*:# \t]{0,9}\n[\s*]*"
    r"|答案\s*(?:是|为|為|[:：])+\s*|故?(?:应|應)?[选選](?:择|擇|项|項)?\s*[:：]?\s*(?=[(（]?[A-J])",
    re.IGNORECASE | re.MULTILINE,
)
_SENTENCE = re.compile(
    r"(?<!\bM[rs])(?<!\bDr)(?<!\bMrs)(?<!i\.e)(?<!e\.g)[.?](?=\s|$|\*)|(?<![\d)n}])!(?=\s|$|\*)|[。；]|;\s|\","
)
_REASON = re.compile(
    r",?\s+(?=(?:because|since|which|as|so|where|when|if|given|after|before|but|while|making|meaning)\b|i\.e\.)"
    r"|(?<=\S)\s+(?=\([^)]*[A-Za-z]{3})|(?<=\S)\s+(?:≈|\\approx)",
    re.IGNORECASE,
)
_CLAUSE = re.compile(r",\s+(?!(?:and|or)\b)(?=[A-Za-z]{2,})|,(?=[^\x00-\x7f])|\*\*(?=\s|$)")
_HEADING = re.compile(r"[^:]*:\W*|(?:step|part|case)\b.*", re.IGNORECASE)
_WORD = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{2,}")
_CHOICE = re.compile(r"\(?[A-J](?:\)|[.:](?=\s|$))")
_APPROXIMATION = re.compile(r"(?:(?<=[\d)}π])|(?<=pi))\s*(?:≈|\\approx)\s*-?(?:\d*\.\d+|\d+)(?!\.?\d|/)")
_PLURAL = re.compile(r"\b(?:solutions|roots|values)\b[^.\n]{0,40}?\s(?:are|is)\b[\s:*]*", re.IGNORECASE)
_CONNECTIVE = re.compile(r"\b(?:and|or)\b")
_EITHER = re.compile(
    r"\b(?P<name>[a-z]) ?= ?(?P<first>-?[\d./]*\d),? or (?:(?P=name) ?= ?)?(?P<last>-?[\d./]*\d)\W*$"
)
_OPENING = re.compile(r"\A\s*(?:\$\$|\\\[|```[a-z]*)?[ \t]*\n\s*")
_ASIAN = re.compile(r"\s*[\u3000-\u9fff\uac00-\ud7af]")
_LONG = 3  # words; a longer "answer is ..." is a sentence about the answer


def tidy(answer: str) -> str:
    """Without the full stop, the quotes, the emphasis and the math delimiters around an answer."""
    answer = answer.strip().strip("*`\"' \t").rstrip(". \t\r\n")
    for left, right in (("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]")):
        if len(answer) >= len(left + right) and answer.startswith(left) and answer.endswith(right):
            inside = answer[len(left) : -len(right)]
            if left not in inside:
                answer = inside.strip().rstrip(".")
    return answer


def last_statement(text: str) -> tuple[int, str, bool]:
    """Place and content of the last "the answer is ..." that gives one, and whether it does so at once."""
    for match in reversed(deque(_STATEMENT.finditer(text), LAST)):
        line = _OPENING.sub("", text[match.end() : match.end() + LONGEST]).split("\n", 1)[0]
        if answer := said(line):
            return match.start(), answer, begins_with_expression(_stripped(line))
    return -1, "", False


def said(line: str) -> str:
    """The first expression of what is said about an answer, to the end of its clause.

    What does not begin with an expression is short words ("Evelyn", "no solution"), or a sentence about the
    answer, of which the last expression counts.
    """
    sentence = _stripped(_until(_SENTENCE, line.strip()))
    if not re.search(r"\w", sentence) or _HEADING.fullmatch(sentence):
        return ""
    content = _until(_REASON, sentence)
    if begins_with_expression(content):
        return _expression(_until(_CLAUSE, content))
    return tidy(content) if len(_WORD.findall(content)) < _LONG else _emphasised(sentence)


def _stripped(line: str) -> str:
    return tidy(without_filler(tidy(line)))


def begins_with_expression(content: str) -> bool:
    """Whether a text begins with a number, a formula, or the letter of a choice."""
    return bool(
        leading(content) or _CHOICE.match(content) or re.match(r"[-+]?[$\\({\[\d]|[a-z]\w? ?=", content)
    )


def _expression(content: str) -> str:
    """An expression with its unit; of "42个" the number, since a word of another script is the unit."""
    content = tidy(without_delimiters(tidy(content)))
    first = leading(content)
    return tidy(first[1]) if first and _ASIAN.match(content[len(first[1]) :]) else content


def _emphasised(line: str) -> str:
    """The last bold expression of a line, else its last mathematical one or number."""
    written = [(kind, tidy(content)) for kind, content in expressions(line) if not content.endswith(":")]
    bold = [content for kind, content in written if kind == "bold" and content]
    return (bold or [content for _, content in written if content] or [""])[-1]


def ends_on(text: str) -> str:
    """What the last line of a text ends on: values in a row, else one expression; '' if it has none."""
    line = text.rstrip().rsplit("\n", 1)[-1][-LONGEST:]
    sentence = re.split(r"(?<=[.!?])\s", line)[-1]
    if either := _EITHER.search(sentence):
        return f"{either['first']}, {either['last']}"
    values = (
        without_delimiters(tidy(sentence[plural.end() :])) if (plural := _PLURAL.search(sentence)) else ""
    )
    if begins_with_expression(values) and not _WORD.search(_CONNECTIVE.sub(" ", values)):
        return values
    return _emphasised(_APPROXIMATION.sub("", line))


def _until(end: re.Pattern[str], line: str) -> str:
    """A line up to what ends it, which is looked for outside of its mathematics."""
    match = end.search(masked(line))
    return line[: match.start()] if match and match.start() > 0 else line
