"""Case 20: blocked topics by stored vectors of MiniLM, on new families and wordings."""

from __future__ import annotations

import numpy as np
import pytest
from llm_gateway_kit import Running

from casebook.cases.llm_gateway.artifacts import stored
from casebook.cases.llm_gateway.world.requests import bank
from casebook.serving.topics import SIMILAR, Topics

TOPIC = "hospital"


def split(topic):
    """Return examples of a topic, harmless texts, and new ones: other families and wordings."""
    texts = bank()
    texts = texts[texts["language"] == "en"]
    families = sorted(texts["family"].unique())
    known = texts["family"].isin(families[:6]) & (texts["wording"] < 2)
    new = texts["family"].isin(families[6:]) & (texts["wording"] >= 2)
    own = texts["domain"] == topic
    rng = np.random.default_rng(3)
    pick = lambda rows, n: list(rng.permutation(texts.loc[rows, "text"])[:n])  # noqa: E731
    return (
        pick(known & own, 30),
        pick(known & ~own, 300),
        pick(new & own, 150),
        pick(new & ~own, 300),
    )


@pytest.mark.parametrize("topic", ["hospital", "banking"])
def test_what_is_learned_finds_a_topic_where_nearness_to_examples_does_not(topic):
    examples, harmless, about, others = split(topic)
    topics = Topics.learned(stored().encode, {topic: examples}, harmless)
    near = Topics.nearest(stored().encode, {topic: examples})
    blocked = lambda by, texts: np.mean([by(text, [topic])[topic] >= SIMILAR for text in texts])  # noqa: E731
    assert blocked(topics, about) > 0.75 and blocked(topics, others) < 0.12
    assert blocked(near, about) < 0.05, "a cosine of 0.85 with an example"
    held = sorted((near.scores(text, [topic])[topic] for text in harmless), reverse=True)
    near.thresholds[topic] = held[6]
    assert blocked(near, about) < 0.2, "at two per cent of false alarms"


def test_a_gateway_blocks_a_topic_for_who_asked_for_it():
    examples, harmless, about, _ = split(TOPIC)

    def change(raw):
        raw["tenants"][0]["guard"] = {"topics": [TOPIC]}

    with Running(change) as running:
        topics = Topics.learned(stored().encode, {TOPIC: examples}, harmless)
        running.gateway.topics = topics
        near = max(about, key=lambda text: topics(text, [TOPIC])[TOPIC])
        far = min(harmless, key=lambda text: topics(text, [TOPIC])[TOPIC])
        ask = lambda tenant, text: running.post(  # noqa: E731
            tenant, {"messages": [{"role": "user", "content": text}]}
        )
        got = ask("acme", near)
        assert (got.status_code, got.json()["error"]["code"]) == (400, "blocked_topic")
        assert near[:30] not in got.text and TOPIC in got.text
        assert ask("acme", far).status_code == ask("globex", near).status_code == 200
