r"""The final answer in a chain of thought, whatever the model's habit of stating it.

Only what a model says when it has done thinking counts. There the last marker wins (a box, ``####``, JSON's
``"answer"``, "the answer is ..."); without one, the expression that the last line ends on. Everything here is
linear in the length of the text.
"""

from __future__ import annotations

import json
import re

from stepwise.verify.boxes import last_boxes
from stepwise.verify.statements import LONGEST, ends_on, last_statement, said, tidy
from stepwise.verify.tokens import last_number
from stepwise.verify.unicode import plain_typography

_END_OF_THOUGHT = re.compile(
    r"</(?:think|thinking|thought|reasoning)>|\[/THINK\]|<\|channel\|>final<\|message\|>", re.IGNORECASE
)
_CONTROL = re.compile(r"<\|[a-z_]{2,20}\|>|</s>")
_TAG = re.compile(r"<answer>", re.IGNORECASE)
_END_TAG = re.compile(r"</answer>", re.IGNORECASE)
_HASHES = re.compile(r"####[ \t]*(\S[^\n]*)")
_HEADING = re.compile(
    r".*:\W*|(?:step|part|case)\b.*|(?:\*\*)?(?:final )?(?:answer|solution)\b.*", re.IGNORECASE
)
_KEY = re.compile(
    r'"(?:final[_ ])?answers?"\s*:\s*'
    r'(?:"(?P<text>(?:[^"\\]|\\.)*)"|(?P<number>-?[\d.,/]*\d)|(?P<list>\[[^\[\]]*\]))',
    re.IGNORECASE,
)
_IN_BOX = re.compile(r"^((?:\\text\s*\{)?)\s*(?:the )?(?:final )?answer(?: is|\s*[:=])\s*", re.IGNORECASE)


def extract_answer(text: str) -> str:
    r"""The final answer that a text states, or '' when it states none.

    What stands behind the last ``</think>`` or final channel counts, and of that the last ``<answer>``, where
    there is one. The last marker wins: ``\boxed{...}`` (neighbours, "\boxed{1} and \boxed{2}", are one
    answer), GSM8K's ``#### ...``, JSON's ``"answer": ...``, or "the answer is ..."; else the last bold or
    mathematical expression or number of the last line; else the last number.
    """
    spoken = _spoken(plain_typography(text))
    return _marked(spoken) or ends_on(spoken) or last_number(spoken)


def marked(text: str) -> str:
    """What follows the last marker of an answer, or ''."""
    return _marked(_spoken(plain_typography(text)))


def _spoken(text: str) -> str:
    """What a model says once it has done thinking."""
    ends = [match.end() for match in _END_OF_THOUGHT.finditer(text)] if "<" in text or "[/" in text else []
    spoken = text[ends[-1] :] if ends else text
    return _CONTROL.sub("\n", spoken).strip() if "<" in spoken else spoken


def _marked(text: str) -> str:
    tag = _in_tag(text)
    if tag:
        return _mark(tag) or said(tag)
    return _mark(text)


def _in_tag(text: str) -> str:
    tags = [match.end() for match in _TAG.finditer(text)] if "<" in text else []
    return _END_TAG.split(text[tags[-1] :], maxsplit=1)[0].strip() if tags else ""


def _mark(text: str) -> str:
    """The answer behind the last marker; a sentence about the answer does not outdo an earlier mark."""
    marks = [_boxed(text), _after_hashes(text), _in_json(text)]
    place, answer = max(marks)
    stated, statement, at_once = last_statement(text)
    if statement and (not answer or (at_once and stated > place)):
        return statement
    return answer


def _boxed(text: str) -> tuple[int, str]:
    """End and content of the last box; boxes joined by "and", "or" or a comma are one answer."""
    boxes = last_boxes(text)
    answers = [tidy(_IN_BOX.sub(r"\1", box.content)) for box in boxes]
    return (boxes[-1].end, ", ".join(filter(None, answers))) if boxes else (-1, "")


def _after_hashes(text: str) -> tuple[int, str]:
    """GSM8K's marker; Markdown's headings look alike but end in a colon or hold no answer."""
    for match in reversed(list(_HASHES.finditer(text))[-LONGEST_LIST:]):
        content = tidy(match[1][:LONGEST])
        if re.search(r"[\d\\]", content) and not _HEADING.fullmatch(content):
            return match.end(), content
    return -1, ""


def _in_json(text: str) -> tuple[int, str]:
    """The last "answer" of a JSON object, also where the rest of it is broken."""
    matches = list(_KEY.finditer(text)) if re.search("nswer", text, re.IGNORECASE) else []
    if not matches:
        return -1, ""
    last = matches[-1]
    if last["list"]:
        return last.end(), _items(last["list"])
    content = last["number"] or (last["text"] or "").replace('\\"', '"').replace("\\\\", "\\")
    return last.end(), said(content) or tidy(content)


def _items(written: str) -> str:
    """A JSON list of texts and numbers as an answer."""
    try:
        items = json.loads(written)
    except ValueError:
        items = written.strip("[]").split(",")
    return ", ".join(tidy(str(item)) for item in items)


LONGEST_LIST = 20
"""Marks of a kind that are looked at, the last ones."""
