"""The seam to a language model: what satisfies the protocol."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest

from casebook.llm import ChatModel, Message, Reply, Usage


class Parrot:
    """A minimal stand-in: says the last message again."""

    name = "parrot"

    def complete(self, messages):
        text = messages[-1].content
        return Reply(text, self.name, Usage(len(messages), len(text.split())))

    def stream(self, messages):
        yield from self.complete(messages).content.split()


class WithoutStream:
    name = "mute"
    complete = Parrot.complete


class WithoutName:
    complete = Parrot.complete
    stream = Parrot.stream


def test_a_minimal_stand_in_is_a_chat_model():
    assert isinstance(Parrot(), ChatModel)


def test_a_model_that_cannot_stream_is_none():
    assert not isinstance(WithoutStream(), ChatModel)


def test_a_model_without_a_name_is_none():
    assert not isinstance(WithoutName(), ChatModel)


@pytest.mark.parametrize("record", [Message("user", "hi"), Reply("hi", "parrot", Usage(1, 1))])
def test_what_was_said_cannot_be_changed(record):
    with pytest.raises(FrozenInstanceError):
        record.content = "something else"
