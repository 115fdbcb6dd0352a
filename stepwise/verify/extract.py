r"""The final answer in a chain of thought, whatever the model's habit of stating it."""

from __future__ import annotations

import re
from collections.abc import Iterator

_BRACE = re.compile(r"\\(?:boxed|fbox)\s*\{|\\.|[{}]", re.DOTALL)
_BETWEEN_BOXES = re.compile(r"[\s$.,;:()\\]*(?:\b(?:and|or)\b)?[\s$,:()\\]*")
_HASHES = re.compile(r"####[ \t]*(\S[^\n]*)")
_KEY = re.compile(r'"(?:final[_ ])?answer"\s*:\s*(?:"((?:[^"\\]|\\.)*)"|(-?[\d.,/]+))', re.IGNORECASE)
_PHRASE = re.compile(r"\banswer\b(?:\s+is\b(?!\s+not\b)|\s*[:=])[\s:=*\"`]*", re.IGNORECASE)
_PHRASE_IN_BOX = re.compile(
    r"^((?:\\text\s*\{)?)\s*(?:the )?(?:final )?answer(?: is|\s*[:=])\s*", re.IGNORECASE
)
_HEADING = re.compile(r".*:\W*|(?:step|part|case)\b.*", re.IGNORECASE)
_SENTENCE_END = re.compile(r"[.!](?:\s|$)")
_WORD = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{2,}")
_STATED = re.compile(
    r"\*\*(?P<bold>[^*\n]+)\*\*"
    r"|\\\((?P<inline>(?:[^\\\n]|\\[^()\n])+)\\\)|\\\[(?P<display>(?:[^\\]|\\[^\[\]])+)\\\]"
    r"|\$(?P<dollars>[^$\n]*[\\=^_][^$\n]*)\$"
    r"|(?P<number>(?:(?<![\w)])-)?\$?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?(?:/\d+)?%?)"
)
_NUMBER = re.compile(r"(?:(?<![\w)])-)?\$?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?(?:/\d+)?%?")
_LONG = 3  # words; a longer "answer is ..." is a sentence about the answer
_LONGEST_STATEMENT = 2_000  # characters of a text's last line that are searched for a statement


def extract_answer(text: str) -> str:
    r"""The final answer that a text states, or '' when it states none.

    The last ``\boxed{...}`` (neighbours, "\boxed{1} and \boxed{2}", are one answer), GSM8K's ``#### ...`` or
    JSON's ``"answer": ...``; else the last "the answer is ..."; else the last bold or mathematical expression
    or number of the last line; else the last number.
    """
    return marked(text) or _last_statement(text) or _last_number(text)


def marked(text: str) -> str:
    """What follows the last marker of an answer, or ''."""
    found = [_last_boxed(text), _last_hashes(text), _last_key(text)]
    return max(found)[1] or _last_phrase(text)


def tidy(answer: str) -> str:
    """Without the full stop, the quotes, the emphasis and the math delimiters around an answer."""
    answer = answer.strip().strip("*`\"' \t").rstrip(". \t\r\n")
    for left, right in (("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]")):
        if len(answer) >= len(left + right) and answer.startswith(left) and answer.endswith(right):
            answer = answer[len(left) : -len(right)].strip().rstrip(".")
    return answer


def _last_boxed(text: str) -> tuple[int, str]:
    """Place and content of the last box whose braces close; boxes joined by "and" or a comma are one."""
    boxes: list[tuple[int, int, int]] = []  # start, content's start, end
    opened = list[tuple[int, int]]()
    for match in _BRACE.finditer(text) if "box" in text else ():
        token = match[0]
        if token == "}" and opened:
            start, inside = opened.pop()
            if start >= 0:
                while boxes and boxes[-1][0] > start:
                    boxes.pop()  # inner ones are part of this one
                boxes.append((start, inside, match.end()))
        elif token == "{" or len(token) > 2:
            opened.append((match.start() if len(token) > 1 else -1, match.end()))
    if not boxes:
        return -1, ""
    answers = [_unwrapped(text[boxes[-1][1] : boxes[-1][2] - 1])]
    for before, after in zip(boxes[-2::-1], boxes[:0:-1], strict=False):
        if not _BETWEEN_BOXES.fullmatch(between := text[before[2] : after[0]]) or not re.search(
            r"and|or|,", between
        ):
            break
        answers.append(_unwrapped(text[before[1] : before[2] - 1]))
    return boxes[-1][0], ", ".join(reversed(answers))


def _unwrapped(content: str) -> str:
    r"""A box's content without a box or a phrase inside it: ``\boxed{\boxed{7}}``, ``\boxed{answer: 7}``."""
    inner = _last_boxed(content)[1] if "boxed" in content else ""
    return inner or tidy(_PHRASE_IN_BOX.sub(r"\1", content))


def _last_hashes(text: str) -> tuple[int, str]:
    """GSM8K's marker; Markdown's headings look alike but end in a colon or hold no answer."""
    for match in reversed(list(_HASHES.finditer(text))):
        content = tidy(match[1])
        if re.search(r"[\d\\]", content) and not _HEADING.fullmatch(content):
            return match.start(), content
    return -1, ""


def _last_key(text: str) -> tuple[int, str]:
    """The last "answer" of a JSON object, also where the rest of it is broken."""
    matches = list(_KEY.finditer(text)) if "nswer" in text or "NSWER" in text else []
    if not matches:
        return -1, ""
    last = matches[-1]
    raw = last[1] if last[1] is not None else last[2]
    content = tidy(raw.replace('\\"', '"').replace("\\\\", "\\"))
    return last.start(), _shortened(content) or content


def _last_phrase(text: str) -> str:
    """What the last "the answer is ..." says; of a whole sentence, its last expression."""
    for match in reversed(list(_PHRASE.finditer(text))):
        line = text[match.end() : match.end() + _LONGEST_STATEMENT].split("\n", 1)[0]
        content = tidy(_SENTENCE_END.split(line)[0].split('",')[0])
        if not content or _HEADING.fullmatch(content) or not re.search(r"\w", content):
            continue
        if said := _shortened(content):
            return said
    return ""


def _shortened(content: str) -> str:
    """Of a sentence about the answer, the last expression; '' if it has none."""
    short = len(_WORD.findall(content)) < _LONG or re.match(r"[-+]?[$\\]?[\d(\\]", content)
    return content if short else _last_stated(content)


def _last_statement(text: str) -> str:
    """The expression that the last line ends on; '' if it has none."""
    lines = text.rstrip().rsplit("\n", 1)
    return _last_stated(lines[-1][-_LONGEST_STATEMENT:])


def _last_stated(line: str) -> str:
    """The last bold expression of a line, else its last mathematical one or number."""
    found = list(_expressions(line))
    bold = [content for kind, content in found if kind == "bold"]
    return (bold or [content for _, content in found] or [""])[-1]


def _expressions(line: str) -> Iterator[tuple[str, str]]:
    for match in _STATED.finditer(line):
        kind = match.lastgroup or ""
        content = tidy(match[0] if kind == "number" else match[kind])
        if content and not content.endswith(":"):
            yield kind, content


def _last_number(text: str) -> str:
    numbers: list[str] = _NUMBER.findall(text)
    return numbers[-1] if numbers else ""
