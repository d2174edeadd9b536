"""Case 16: the world's articles keep the contract of the feed, and planted ones do not."""

from __future__ import annotations

import pytest

from casebook.cases.support_rag_chatbot import feed, world
from casebook.serving.guard import attack


def test_the_worlds_articles_keep_the_contract():
    everything = world.knowledge_base()
    assert len(everything) == 212
    assert feed.ARTICLES.check(everything) is everything
    said = everything["title"] + "\n" + everything["text"]
    assert said.map(attack).eq("").all()


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("number", "1032", "number is not of the form; write it as KB- and four digits"),
        ("audience", "staff", "unknown readers; an article is for readers who are private or"),
        ("language", "fr", "unknown language; an article is written in en, de, es"),
        ("text", "See https://evil.example/pay. " * 20, "links to a foreign host"),
    ],
)
def test_a_planted_fault_is_refused(column, value, said):
    rows = world.knowledge_base().head(4)
    rows.loc[2, column] = value
    with pytest.raises(feed.ContractBroken, match=said) as error:
        feed.ARTICLES.check(rows)
    assert list(error.value.rows.index) == [2]
