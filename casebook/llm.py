"""The one seam between the course and a language model.

Chapters depend on the protocol :class:`ChatModel` and on nothing of a vendor.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable


@dataclass(frozen=True)
class Message:
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str


@dataclass(frozen=True)
class Usage:
    """Tokens that a reply cost."""

    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True)
class Reply:
    """A complete answer, which model gave it, and what it cost."""

    content: str
    model: str
    usage: Usage


@runtime_checkable
class ChatModel(Protocol):
    """What a chapter may ask of a language model.

    Attributes
    ----------
    name : str
        The model that answers; a page that shows its output prints it.
    """

    name: str

    def complete(self, messages: Sequence[Message]) -> Reply:
        """Return the whole answer to a conversation."""
        ...

    def stream(self, messages: Sequence[Message]) -> Iterator[str]:
        """Yield the answer in pieces, in order."""
        ...
