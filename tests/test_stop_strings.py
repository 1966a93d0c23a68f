"""Stop strings: never shown, not even in part."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatkit.engines.stop_strings import StopStrings

letters = st.text("ab|<>", max_size=12)


@pytest.mark.lengthy
@given(pieces=st.lists(letters, max_size=8), stop=st.lists(letters.filter(bool), max_size=3))
def test_what_is_shown_is_the_text_before_the_first_stop(
    pieces: list[str], stop: list[str]
) -> None:
    strings, shown = StopStrings(stop), ""
    for piece in pieces:
        shown += strings.feed(piece)
    shown += strings.rest()
    text = "".join(pieces)
    cuts = [text.index(one) for one in stop if one in text]
    if not cuts:
        assert shown == text
    else:
        assert strings.reached
        assert text.startswith(shown) and len(shown) >= min(cuts) - max(map(len, stop))
        assert not any(one in shown for one in stop)


def test_a_beginning_that_comes_to_nothing_is_shown_after_all() -> None:
    strings = StopStrings(["<end>"])
    assert strings.feed("a <en") == "a "
    assert strings.feed("emy>") == "<enemy>"
