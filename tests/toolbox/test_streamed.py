"""Personal data over the pieces of a stream."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from casebook.serving.privacy import find, mask
from casebook.serving.streamed import HOLD, StreamMask, found, masked

PERSONAL = (
    "jane.doe@example.com", "4111 1111 1111 1111", "DE89 3704 0044 0532 0130 00", "020 7946 0123",
    "12 Baker Street, London NW1 6XE", "Hauptstraße 12, 10115 Berlin", "jane at example dot com",
)  # fmt: skip
OTHERS = ("EC314283557XA", "order 20250701-4411", "on 12.10.2025 at 10:30", "3 items", "12.50 €")
WORDS = "The parcel was sent to our store. Please ask about it,\n and we look".split(" ")  # noqa: SIM905


def texts(seed, n=40):
    """Yield texts with personal data in them, and cuts through each."""
    rng = np.random.default_rng(seed)
    for _ in range(n):
        kinds = rng.choice(3, int(rng.integers(5, 50)), p=[0.86, 0.08, 0.06])
        text = " ".join(str(rng.choice((WORDS, PERSONAL, OTHERS)[kind])) for kind in kinds)
        cuts = np.cumsum(rng.integers(1, 12, len(text)))
        yield text, [0, *cuts[cuts < len(text)].tolist(), len(text)]


def streamed(text, cuts, masked):
    pieces = [text[start:end] for start, end in pairwise(cuts)]
    return "".join(map(masked.feed, pieces)) + masked.end()


class PieceByPiece:
    """The guard that one writes first: it masks each piece alone."""

    feed = staticmethod(lambda piece: mask(piece).text)
    end = staticmethod(lambda: "")


@pytest.mark.parametrize("seed", [1, 2])
def test_a_stream_is_masked_as_the_whole_text_is_however_it_is_cut(seed):
    same, leaks, naive = [], 0, 0
    for text, cuts in texts(seed):
        want, got = masked(text, found(text)), streamed(text, cuts, StreamMask())
        hidden = [value for value in PERSONAL if value in text and value not in want]
        same.append(got == want)
        leaks += sum(value in got for value in hidden)
        naive += sum(value in streamed(text, cuts, PieceByPiece()) for value in hidden)
        assert found(text) == find(text), "the cheap look loses nothing"
    assert leaks == 0 and np.mean(same) >= 0.95
    assert naive > 20, "the planted fault shows"


def test_a_finding_at_each_place_of_a_cut_and_a_rejecting_guard():
    text = "Write to jane.doe@example.com or pay with 4111 1111 1111 1111 today, please."
    for cut in range(1, len(text)):
        for hold in (30, HOLD):
            got = streamed(text, [0, cut, len(text)], StreamMask(hold))
            assert got == "Write to [email] or pay with [card] today, please."

    def refuse(kind):
        raise KeyError(kind)

    with pytest.raises(KeyError, match="email"):
        streamed(text, [0, 20, len(text)], StreamMask(refuse=refuse))


HIDDEN = "4111\u200b1111\u200b1111\u200b1111"
LONG = f"{'sub.' * 40}mail@{'sub.' * 15}example.com"
ACCOUNT = "DE89370400440532013000"


@pytest.mark.parametrize(
    ("value", "kind"),
    [(HIDDEN, "card"), ("\u200b" * 10 + HIDDEN.replace("\u200b", "\u200b" * 40), "card"),
     (LONG, "email"), (f"{ACCOUNT} to {ACCOUNT}", "iban"),
     (f"{ACCOUNT} to GB29NWBK60161331926819", "iban")],
)  # fmt: skip
def test_what_is_stretched_or_long_or_comes_twice_does_not_leave(value, kind):
    text = f"Write to {value} please, and tell us " + "when it has come. " * 20
    whole = masked(text, found(text))
    assert f"[{kind}]" in whole and not set(value.split()) & set(whole.split()) - {"to"}
    for step in (1, 7, 50):
        cuts = [*range(0, len(text), step), len(text)]
        assert streamed(text, cuts, StreamMask()) == whole


def test_a_stream_says_how_much_of_it_has_left():
    text, stream = "Mail jane.doe@example.com for it. " + "word " * 60, StreamMask()
    for at, letter in enumerate(text):
        stream.feed(letter)
        assert stream.passed <= max(0, at + 1 - HOLD)
    stream.end()
    assert stream.passed == len(text)
    endless = StreamMask()
    assert endless.feed("x" * 1000), "a word without an end is let go in parts"
