"""Insults and threats by a list of words: in a text, in a stream, and what a list cannot tell."""

from __future__ import annotations

import numpy as np
import pytest

from casebook.serving.streamed import StreamMask
from casebook.serving.toxicity import WORDS, toxic

BAD = ("idiot", "1D10T", "i d i o t", "mooooron", "f.u.c.k", "kill yourself", "We will hurt you",
       "$hithead", "You’re worthless", "go  and die")  # fmt: skip
#: Words that hold one of the list, or that look like one.
FINE = ("Scunthorpe", "assess the classic bass", "shiitake", "Dickens", "a cocktail", "twatch",
        "idiotype", "she went to die Post", "I will beat you to the answer", "the moro next door",
        "fit i d a", "go die-cut", "retardant foam")  # fmt: skip


@pytest.mark.parametrize("text", BAD)
def test_spellings_of_the_list_are_found(text):
    (one,) = toxic(f"Well, {text}!")
    assert (one.start, one.end) == (6, 6 + len(text))


def test_harmless_neighbours_are_not_found_but_a_known_few_are():
    found = [text for text in FINE if toxic(text)]
    assert found == ["I will beat you to the answer", "go die-cut"], "what a list cannot tell"
    assert toxic('He was called an "idiot" and complained.'), "nor a quotation"
    assert not toxic("People like you should not be allowed to vote."), (
        "nor contempt in plain words"
    )


@pytest.mark.parametrize("seed", range(5))
def test_a_stream_is_masked_wherever_it_is_cut(seed):
    rng, said = np.random.default_rng(seed), ["the", "parcel", "is", "here", "today"]
    words = [str(rng.choice(BAD if rng.random() < 0.1 else said)) for _ in range(80)]
    text, masked = " ".join(words), StreamMask(search=toxic)
    cuts = np.cumsum(rng.integers(1, 9, len(text)))
    pieces = np.split(np.array(list(text)), cuts[cuts < len(text)])
    got = "".join(masked.feed("".join(piece)) for piece in pieces) + masked.end()
    wanted, at = "", 0
    for one in toxic(text):
        wanted, at = f"{wanted}{text[at : one.start]}[toxic]", one.end
    assert got == wanted + text[at:] and masked.found["toxic"] == len(toxic(text)) > 2


def test_masking_each_piece_alone_would_miss_what_is_cut():
    halves = ("You are an idi", "ot, they say")
    assert not any(map(toxic, halves)) and toxic("".join(halves))
    assert len(set(WORDS)) == len(WORDS)
