"""What can go wrong between a chapter and a language model: one class for each cause.

Every message says what was wrong and what to do. No message holds a key, a password or
the query of an address, not even where a server sent them back.
"""

from __future__ import annotations


class LLMError(RuntimeError):
    """A language model gave no answer that can be used.

    Attributes
    ----------
    so_far : str
        Text of a stream that had been passed on before it failed.
    attempts : int
        Requests that were made.
    seconds : float
        Time from the first request to the error.
    gave_up : str
        Why no further attempt was made, if another one could have helped.
    """

    #: Whether another attempt may help.
    transient = False

    def __init__(self, message: str, *, transient: bool | None = None) -> None:
        super().__init__(message)
        if transient is not None:
            self.transient = transient
        self.retry_after: float | None = None
        self.so_far = ""
        self.attempts = 1
        self.seconds = 0.0
        self.gave_up = ""

    def __str__(self) -> str:
        text = super().__str__()
        if self.attempts > 1:
            text += f" {self.attempts} attempts were made in {self.seconds:.1f} s."
        if self.gave_up:
            text += f" {self.gave_up}"
        if self.so_far:
            text += (
                " The text that had been passed on stands in `so_far` of this error (length "
                f"{len(self.so_far):,}); the request was not repeated."
            )
        return text


class ConfigurationError(LLMError, ValueError):
    """A setting of the client is wrong; the message names it."""


# The way there and back ----------------------------------------------------------------


class ConnectionFailed(LLMError):
    """The server cannot be reached, or the connection broke."""

    transient = True


class TimedOut(LLMError):
    """The server was silent, or not done, when the time was over."""


class RateLimited(LLMError):
    """The server answers 429: too many requests or tokens."""

    transient = True


class ServerFailed(LLMError):
    """The server answers 5xx, or reports an error inside its answer."""


class RequestRejected(LLMError):
    """The server answers 4xx: another attempt would be rejected too."""


class Redirected(LLMError):
    """The server sends the request elsewhere; the client never follows."""


class AnswerTooLarge(LLMError):
    """The answer is larger than the bound of the client."""


class StreamCut(LLMError):
    """A stream ended before its answer was complete."""

    transient = True


# The answer ----------------------------------------------------------------------------


class MalformedJSON(LLMError):
    """What the server sent is not the JSON text that it should be."""


class WrongShape(LLMError):
    """The JSON of the server is not a chat completion; the message names the field."""


class NoChoices(WrongShape):
    """The completion holds no answer."""


class Refused(LLMError):
    """The model declined to answer."""


class BadToolCall(LLMError):
    """The model called a tool in a way that cannot be run."""


class UnknownTool(BadToolCall):
    """The model called a tool that it was not offered."""


class ArgumentsNotJSON(BadToolCall):
    """The arguments of a tool call are not the text of a JSON object."""


class ArgumentsDoNotFit(BadToolCall):
    """The arguments of a tool call do not fit the tool's schema."""


class BadStructuredOutput(LLMError):
    """An answer that had to be JSON of a given schema is something else."""


class OutputNotJSON(BadStructuredOutput):
    """The structured answer is not JSON."""


class OutputDoesNotFit(BadStructuredOutput):
    """The structured answer does not fit its schema."""
