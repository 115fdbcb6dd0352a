"""Text on its way to the client: stop strings cut it wherever the pieces fall."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from stepwise.gateway.answer_choice import Cut

letters = st.text("ab\n", max_size=40)
stops = st.lists(st.text("ab\n", min_size=1, max_size=4), max_size=3)


@given(letters, stops, st.lists(st.integers(0, 40), max_size=6))
def test_the_pieces_make_the_text_up_to_the_first_stop(text: str, stops: list[str], cuts: list[int]) -> None:
    cut = Cut(stops)
    places = [0, *sorted(cuts), len(text)]
    pieces = [text[a:b] for a, b in pairwise(places)]
    shown = "".join(map(cut.feed, pieces))
    places = [text.index(stop) for stop in stops if stop in text]
    if places:
        # The first stop to be complete ends the text, wherever longer ones would have begun.
        assert cut.stopped and min(places) <= len(shown) and text.startswith(shown)
        assert any(text[len(shown) :].startswith(stop) for stop in stops)
        assert not any(stop in shown for stop in stops)
    else:
        assert not cut.stopped and shown + cut.rest() == text


@given(letters, letters)
def test_only_the_beginning_of_a_stop_is_held_back(text: str, more: str) -> None:
    cut = Cut(["ab\n"])
    shown = cut.feed(text)
    if not cut.stopped:
        held = text[len(shown) :]
        assert "ab\n".startswith(held) and len(held) < 3
