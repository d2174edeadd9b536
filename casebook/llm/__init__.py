"""The one seam between the course and a language model.

Chapters depend on the protocol :class:`ChatModel` and on nothing of a vendor::

    model = from_env(ExtractiveReader(passages))
    reply = model.complete([Message("user", "Where is my parcel?")])

:func:`from_env` gives a client of the server that ``CASEBOOK_LLM_BASE_URL`` names (any vendor that
speaks the chat-completions format, vLLM, Ollama), and otherwise the chapter's stand-in, which is
deterministic and named for what it is. :func:`describe` says on the page which one answered.

``messages`` holds what is said, ``errors`` what can go wrong, ``wire`` the format, ``client`` and
``timing`` the way to a server, ``standins`` the models that are none. ``httpx`` and ``jsonschema``
are loaded at the first request and at the first schema.
"""

from __future__ import annotations

from casebook.llm.client import OpenAICompatible
from casebook.llm.environment import describe, from_env
from casebook.llm.errors import (
    AnswerTooLarge,
    ArgumentsDoNotFit,
    ArgumentsNotJSON,
    BadStructuredOutput,
    BadToolCall,
    ConfigurationError,
    ConnectionFailed,
    LLMError,
    MalformedJSON,
    NoChoices,
    OutputDoesNotFit,
    OutputNotJSON,
    RateLimited,
    Redirected,
    Refused,
    RequestRejected,
    ServerFailed,
    StreamCut,
    TimedOut,
    UnknownTool,
    WrongShape,
)
from casebook.llm.messages import (
    ChatModel,
    Chunk,
    Image,
    Message,
    Reply,
    Request,
    ResponseFormat,
    Tool,
    ToolCall,
    Usage,
    estimate_tokens,
    estimate_usage,
)
from casebook.llm.standins import Answer, Compromised, Scripted, StandIn
from casebook.llm.timing import Budget, Sources, Timeout

__all__ = [
    "Answer",
    "AnswerTooLarge",
    "ArgumentsDoNotFit",
    "ArgumentsNotJSON",
    "BadStructuredOutput",
    "BadToolCall",
    "Budget",
    "ChatModel",
    "Chunk",
    "Compromised",
    "ConfigurationError",
    "ConnectionFailed",
    "Image",
    "LLMError",
    "MalformedJSON",
    "Message",
    "NoChoices",
    "OpenAICompatible",
    "OutputDoesNotFit",
    "OutputNotJSON",
    "RateLimited",
    "Redirected",
    "Refused",
    "Reply",
    "Request",
    "RequestRejected",
    "ResponseFormat",
    "Scripted",
    "ServerFailed",
    "Sources",
    "StandIn",
    "StreamCut",
    "TimedOut",
    "Timeout",
    "Tool",
    "ToolCall",
    "UnknownTool",
    "Usage",
    "WrongShape",
    "describe",
    "estimate_tokens",
    "estimate_usage",
    "from_env",
]
