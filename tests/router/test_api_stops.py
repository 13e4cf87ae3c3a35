"""StopMatcher: what is let through, and that it does not depend on how the text is cut."""

from __future__ import annotations

import itertools

import pytest

from xpod.router.api.stops import StopMatcher

CASES = [
    # stops, text, shown, stopped
    ((), "anything", "anything", False),
    (("END",), "to the END of", "to the ", True),
    (("END",), "to the EN", "to the EN", False),
    (("END",), "ENEND", "EN", True),
    (("aab",), "aaab", "a", True),
    (("abab", "bac"), "ababac", "", True),
    (("abcd", "bc"), "abcd", "a", True),  # bc completes first
    (("abc", "bc"), "xabc", "x", True),  # both complete together: the one that begins first
    (("bc", "abc"), "xabc", "x", True),
    (("\n\n",), "a\nb\n\nc", "a\nb", True),
    (("é",), "caf\u00e9!", "caf", True),
    (("🙂🙃",), "ok 🙂🙂🙃", "ok 🙂", True),
    (("日本",), "日 日本", "日 ", True),
    (("aaa",), "aabaa", "aabaa", False),
]


def play(stops: tuple[str, ...], pieces: list[str]) -> tuple[str, bool]:
    matcher, shown = StopMatcher(stops), ""
    for piece in pieces:
        out, stopped = matcher.push(piece)
        shown += out
        if stopped:
            return shown, True
    return shown + matcher.flush(), False


def cuts(text: str) -> list[list[str]]:
    """Every way to cut `text` into pieces."""
    places = range(1, len(text))
    chosen = (c for size in range(len(text)) for c in itertools.combinations(places, size))
    return [[text[a:b] for a, b in itertools.pairwise((0, *cut, len(text)))] for cut in chosen]


@pytest.mark.parametrize(("stops", "text", "shown", "stopped"), CASES)
def test_every_cut_gives_the_same(stops: tuple[str, ...], text: str, shown: str, stopped: bool) -> None:
    for pieces in cuts(text):
        assert play(stops, pieces) == (shown, stopped), pieces


def test_only_a_possible_beginning_is_held() -> None:
    matcher = StopMatcher(["<end>"])
    assert matcher.push("a<e") == ("a", False)
    assert matcher.push("x<") == ("<ex", False)
    assert matcher.push("end>tail") == ("", True)
    assert matcher.flush() == ""


def test_the_longest_beginning_is_held() -> None:
    matcher = StopMatcher(["aab"])
    assert matcher.push("xaa") == ("x", False)
    assert matcher.push("a") == ("a", False)
    assert matcher.push("b") == ("", True)
