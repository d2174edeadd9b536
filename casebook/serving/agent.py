"""An agent as a state machine around a planner: limits, a review, and a way out to a person.

States: ``new`` → ``asked`` (the customer owes an answer) | ``proposed`` (a yes or no) | ``told``
(an answer was given: did it help?) → ``closed`` | ``person``. The planner, a chat model, chooses
words and calls; the machine decides what follows. It ends a turn at the first call that asks,
proposes or hands over; takes a yes from a button alone; reviews each answer; and gives up to a
person after so many steps, calls or tokens, or when the planner fails. A turn that raises leaves
the conversation as it was, so that it can be sent again.

A system subclasses :class:`Conversation` and says what its tools' results mean (:meth:`control`)
and what follows a yes or no (:meth:`answered`).

Examples
--------
>>> from casebook.llm import Scripted
>>> class Echo(Conversation):
...     def control(self, body):
...         return None
...     def answered(self, said):
...         return self.tell("Done.")
>>> parts = Parts(lambda text: ("greeting", 1.0), Scripted(["Hello!"]))
>>> talk = Echo(parts, Toolset([], most=3), system="intent: {intent}")
>>> talk.open("Hi").text, talk.hear(Said("", True)), talk.state
('Hello!', None, 'closed')
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from casebook.llm import ChatModel, Message, Reply
from casebook.llm.messages import estimate_usage
from casebook.serving.tools import Toolset

PERSON = "I am passing this to a colleague, who reads our conversation and writes to you."


@dataclass(frozen=True, slots=True)
class Turn:
    """What the agent says, and what it expects.

    Attributes
    ----------
    act : str
        ``ask_…`` (something is missing), ``propose`` (a yes or no is awaited), ``tell`` (an answer,
        after which the customer says whether it helped), ``hand_over`` (a person takes over).
    text : str
    proposal : str
        Its number.
    content : mapping
        What is proposed.
    did : tuple of str
        Effects that the agent claims.
    """

    act: str
    text: str
    proposal: str = ""
    content: Mapping[str, Any] = field(default_factory=dict)
    did: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Said:
    """What a customer says. ``button``: yes or no where it was asked for; ``proposal``: to what."""

    text: str
    button: bool | None = None
    proposal: str = ""


@dataclass(frozen=True)
class Limits:
    """What a conversation may take.

    Attributes
    ----------
    steps, same : int
        Of a turn: steps, and how often the planner may make the same call.
    tokens, answer : int
        Tokens of the conversation, and of one answer.
    """

    steps: int = 8
    same: int = 3
    tokens: int = 40_000
    answer: int = 1_000


class Budget(Protocol):
    """Tokens that are taken before a planner is asked, and settled by what it used."""

    def take(self, tokens: int) -> bool:
        """Take tokens, all or none; say whether they were there."""
        ...

    def settle(self, taken: int, used: int) -> None:
        """Book what was used instead of what was taken."""
        ...


class NoLimit:
    """A budget without an end."""

    def take(self, tokens: int) -> bool:
        """Return True."""
        return True

    def settle(self, taken: int, used: int) -> None:
        """Book nothing."""


@dataclass(frozen=True)
class Parts:
    """What an agent is made of; a study or a test exchanges one part.

    Attributes
    ----------
    gate : callable
        Message → intent (``other``: a person) and confidence.
    planner : ChatModel
    review : callable
        Answer, results of tools, what is the customer's own → faults; none may be left.
    guard : callable
        Text → why it looks like an attack; empty if it does not.
    budget : Budget
    log : callable
        Takes what happens as keywords.
    """

    gate: Callable[[str], tuple[str, float]]
    planner: ChatModel
    review: Callable[..., list[tuple[str, str]]] = lambda text, results, own: []
    guard: Callable[[str], str] = lambda text: ""
    budget: Budget = field(default_factory=NoLimit)
    limits: Limits = Limits()
    log: Callable[..., object] = lambda **row: None


class Conversation(ABC):
    """One conversation.

    Parameters
    ----------
    parts : Parts
    tools : Toolset
    system : str
        What the planner is told first; ``{intent}`` is filled in.

    Attributes
    ----------
    state : str
    messages : list of Message
        What the planner sees.
    transcript : list of (str, str)
        Who said what: for the person who takes over.
    why, by : str
        Why a person took over, and whose words these are: ``machine`` or ``planner``.
    results : list of dict
        What the tools returned.
    facts : list of dict
        The same without what strangers wrote: what an answer is held against.
    pending : list of str
        Proposals whose outcome the customer has not been told.
    """

    def __init__(self, parts: Parts, tools: Toolset, system: str) -> None:
        self.parts, self.tools, self._system = parts, tools, system
        self.state, self.why, self.by, self.tokens = "new", "", "machine", 0
        self.messages: list[Message] = []
        self.transcript: list[tuple[str, str]] = []
        self.results: list[dict[str, Any]] = []
        self.facts: list[dict[str, Any]] = []
        self.pending: list[str] = []
        self.shown: Turn | None = None

    @abstractmethod
    def control(self, body: dict[str, Any]) -> Turn | None:
        """Return the turn that a tool's result ends, if it does."""

    @abstractmethod
    def answered(self, said: Said) -> Turn:
        """Take a yes or no to what was proposed: the customer's, not the planner's."""

    def own(self) -> Iterable[str]:
        """Return what is the customer's own and may be said."""
        return ()

    def did(self) -> tuple[str, ...]:
        """Return the effects that an answer of the planner may claim."""
        return ()

    def foreign(self, body: Mapping[str, Any]) -> Iterable[str]:
        """Return the texts in a tool's result that somebody else has written."""
        return ()

    def withhold(self, body: dict[str, Any]) -> None:
        """Take those texts out; all that was returned, unless a system knows better."""
        body.clear()

    # Turns ------------------------------------------------------------------------------------

    def open(self, text: str) -> Turn:
        """Take the first message."""
        return self._whole(self._opened, text)

    def _whole(self, step: Callable[[Any], Any], given: Any) -> Any:
        """Make a step; if it raises, take back all but the tokens and calls that it used."""
        lists = (self.messages, self.transcript, self.results, self.facts, self.pending)
        kept, lengths = (self.state, self.why, self.by, self.shown), [len(one) for one in lists]
        try:
            return step(given)
        except BaseException:
            self.state, self.why, self.by, self.shown = kept
            for one, length in zip(lists, lengths, strict=True):
                del one[length:]
            raise

    def _opened(self, text: str) -> Turn:
        intent, _ = self.parts.gate(text)
        self.messages.append(Message("system", self._system.format(intent=intent)))
        if intent == "other":
            self._heard(text)
            return self.person("the intent is not clear")
        return self.work(text)

    def hear(self, said: Said) -> Turn | None:
        """Take what the customer says next; None where nothing more is to be said.

        Raises
        ------
        RuntimeError
            If the conversation is at its end, or has not begun.
        """
        if self.state in ("new", "closed", "person"):
            raise RuntimeError(f"The conversation is {self.state}: open another one.")
        return self._whole(self._taken, said)

    def _taken(self, said: Said) -> Turn | None:
        if said.button is None or self.state == "asked":
            return self.work(said.text)
        if self.state == "proposed" and said.proposal != self.shown.proposal:
            return self.shown  # a yes to something else is no yes to this
        self._heard(said.text or str(said.button))
        if self.state == "proposed":
            return self.answered(said)
        if said.button:
            self.state = "closed"
            return None
        return self.person("the customer said no")

    def work(self, text: str = "") -> Turn:
        """Let the planner work until something is to be said."""
        if text:
            self._heard(text)
        if why := self.parts.guard(text):
            return self.person(f"the message {why}")
        made: Counter[str] = Counter()
        for _ in range(self.parts.limits.steps):
            reply = self._planned()
            if reply is None:
                return self.person("the planner or its budget failed")
            made.update(f"{one.name} {one.arguments}" for one in reply.tool_calls)
            if max(made.values(), default=0) > self.parts.limits.same:
                return self.person("the planner repeats itself")
            if not reply.tool_calls:
                return self._reviewed(reply.content)
            if (turn := self._called(reply)) is not None:
                return turn
        return self.person("too many steps")

    def _heard(self, text: str) -> None:
        self.transcript.append(("customer", text))
        self.messages.append(Message("user", text))

    def _planned(self) -> Reply | None:
        """Ask the planner, if its budget holds; None if it fails or costs too much."""
        limits, budget = self.parts.limits, self.parts.budget
        taken = estimate_usage(self.messages, "").total_tokens + limits.answer
        if not budget.take(taken):
            self.parts.log(what="budget", why=f"{taken} tokens were not there")
            return None
        used = 0
        try:
            reply = self.parts.planner.complete(self.messages, tools=self.tools.offered())
            used = reply.usage.total_tokens
        except Exception as error:  # whatever a planner does, a person takes over
            self.parts.log(what="planner", why=f"{type(error).__name__}: {error}"[:200])
            return None
        finally:
            budget.settle(taken, used)
        self.tokens += used
        return reply if self.tokens <= limits.tokens else None

    def _called(self, reply: Reply) -> Turn | None:
        """Make the calls of a reply, up to the first that ends the turn."""
        self.messages.append(reply.message)
        turn = None
        for call in reply.tool_calls:
            if turn is not None:
                self.messages.append(call.result('{"error": "the turn is over"}'))
                continue
            result = self.tools.run(call)
            self.parts.log(what="call", tool=call.name, ok=result.ok, arguments=call.arguments)
            facts = copy.deepcopy(result.body)
            if result.ok and (written := [*self.foreign(result.body)]):
                self.withhold(facts)
                if any(map(self.parts.guard, written)):
                    self.withhold(result.body)
            self.results.append(result.body)
            self.facts.append(facts)
            self.messages.append(call.result(result.text))
            turn = self.control(result.body) if result.ok else None
        return turn

    def _reviewed(self, text: str) -> Turn:
        """Say an answer if the review finds nothing; else a person writes one."""
        if faults := self.parts.review(text, self.facts, self.own()):
            self.parts.log(what="review", faults=faults)
            return self.person(f"the answer had a fault: {faults[0][0]}")
        return self.tell(text, *self.did())

    def tell(self, text: str, *did: str) -> Turn:
        """Say an answer."""
        self.messages.append(Message("assistant", text))
        return self.turn(Turn("tell", text, did=did), "told")

    def person(self, why: str, by: str = "machine") -> Turn:
        """Hand over; ``by``: whose words the reason is."""
        self.why, self.by = why, by
        self.parts.log(what="hand over", why=why)
        return self.turn(Turn("hand_over", PERSON), "person")

    def turn(self, turn: Turn, state: str) -> Turn:
        """Say something and go to a state."""
        self.state, self.shown = state, turn
        self.transcript.append(("agent", turn.text))
        return turn
