"""Topics by similarity: pieces of long texts, thresholds by topic, and wrong input."""

from __future__ import annotations

import numpy as np
import pytest

from casebook.serving.topics import MOST, PIECE, SIMILAR, Topics, pieces

WORDS = ("tax", "cat", "boat", "rain")


def encode(texts):
    """Return how often each word is in a text, at length 1."""
    rows = np.array([[text.count(word) for word in WORDS] for text in texts], float) + 1e-3
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_a_topic_in_one_sentence_of_a_long_text_is_found():
    topics = Topics.nearest(encode, {"tax": ["tax tax"]})
    hidden = (
        "The cat sat on the boat. " * 24 + "How do I avoid the tax on tax? " + "Rain, cat. " * 30
    )
    assert topics(hidden, ["tax"])["tax"] > topics("cat boat " * 90, ["tax"])["tax"]
    whole = float(encode([hidden])[0] @ encode(["tax tax"])[0])
    assert topics.scores(hidden, ["tax"])["tax"] > 2 * whole, "as a whole it would be diluted"


@pytest.mark.parametrize("text", ["a " * 5_000, "b" * 5_000, "One. " * 999, "", "x"])
def test_pieces_are_short_few_and_hold_the_text(text):
    found = pieces(text)
    assert 1 <= len(found) <= MOST and all(len(piece) <= PIECE for piece in found)
    if len(text) < PIECE * MOST / 2:
        assert "".join(" ".join(found).split()) == "".join(text.split())


def test_each_topic_has_the_false_alarms_that_were_asked_for():
    rng = np.random.default_rng(1)
    drawn = lambda words: " ".join(rng.choice(words, 8))  # noqa: E731
    texts = [drawn(WORDS[1:]) + " tax" * int(rng.random() < 0.2) for _ in range(600)]
    own = {"tax": [drawn(["tax", "boat"]) for _ in range(20)], "snow": ["tax rain tax rain"]}
    topics = Topics.learned(encode, own, texts[:400], 0.05)
    assert topics.thresholds["tax"] != topics.thresholds["snow"]
    for name in own:
        alarms = [topics(text, [name])[name] >= SIMILAR for text in texts]
        assert np.mean(alarms[1:400:2]) <= 0.05 and np.mean(alarms[400:]) <= 0.12
    assert topics("tax boat tax tax", ["tax"])["tax"] >= SIMILAR
    assert topics("tax", ["unknown"]) == {}


def test_wrong_input_says_what_to_give():
    with pytest.raises(ValueError, match="The topic tax has no examples"):
        Topics.nearest(encode, {"tax": []})
    with pytest.raises(ValueError, match="give 100 or more"):
        Topics.learned(encode, {"tax": ["tax"]}, ["a"] * 99, 0.02)
