"""Which model answers: the reader's own, or the chapter's stand-in."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from casebook.llm.client import OpenAICompatible
from casebook.llm.errors import ConfigurationError
from casebook.llm.messages import ChatModel
from casebook.llm.standins import StandIn
from casebook.llm.timing import Budget, Timeout

PREFIX = "CASEBOOK_LLM_"
#: Variables that are read, each with what it holds.
VARIABLES = {
    f"{PREFIX}BASE_URL": "where the server is, such as http://localhost:11434/v1",
    f"{PREFIX}MODEL": "the model's name there",
    f"{PREFIX}API_KEY": "the key, if the server wants one",
    f"{PREFIX}TIMEOUT": "seconds that one attempt may take",
    f"{PREFIX}RETRIES": "how often a failed request is repeated",
}
#: Base URLs of local servers with their default ports.
OLLAMA, VLLM = "http://localhost:11434/v1", "http://localhost:8000/v1"
#: That of the course's own small model, once `make llm` serves it, and its name there.
SMALL, SMALL_NAME = "http://127.0.0.1:8642/v1", "SmolLM2-135M-Instruct"
#: Starts JupyterLab with a local model.
LOCAL = f"{PREFIX}BASE_URL={OLLAMA} {PREFIX}MODEL=llama3.2 make lab"


def _seconds(value: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise ConfigurationError(
            f"{PREFIX}TIMEOUT is {value!r}: give seconds, a number above 0 such as 120."
        )
    return seconds


def _count(value: str) -> int:
    if not (value.isascii() and value.isdigit() and len(value) <= 3):
        raise ConfigurationError(
            f"{PREFIX}RETRIES is {value!r}: give a whole number from 0 to 999, such as 2."
        )
    return int(value)


def from_env(stand_in: ChatModel, *, options: Mapping[str, Any] | None = None) -> ChatModel:
    """Return the reader's model where the environment names one, else the stand-in.

    ``CASEBOOK_LLM_BASE_URL`` and ``CASEBOOK_LLM_MODEL`` name it; ``CASEBOOK_LLM_API_KEY``,
    ``CASEBOOK_LLM_TIMEOUT`` (seconds of one attempt, 120) and ``CASEBOOK_LLM_RETRIES`` (2) may
    stand beside them. An empty variable counts as none.

    Parameters
    ----------
    stand_in : ChatModel
        The chapter's offline stand-in.
    options : mapping, optional
        Fields of each request to a server, such as ``{"temperature": 0}``.

    Returns
    -------
    ChatModel

    Raises
    ------
    TypeError
        If the stand-in is no chat model.
    ConfigurationError
        If a variable has a bad value, is needed and missing, or is not known. The message names
        it; it shows neither the address nor the key.
    """
    if isinstance(stand_in, type) or not isinstance(stand_in, ChatModel):
        raise TypeError("The stand-in is no ChatModel: it needs name, complete and stream.")
    if unknown := sorted(n for n in os.environ if n.startswith(PREFIX) and n not in VARIABLES):
        raise ConfigurationError(
            f"{', '.join(unknown)}: no such variable is read. These are: {', '.join(VARIABLES)}."
        )
    given = {name.removeprefix(PREFIX): os.environ.get(name, "").strip() for name in VARIABLES}
    if not given["BASE_URL"]:
        return stand_in
    if not given["MODEL"]:
        raise ConfigurationError(
            f"{PREFIX}BASE_URL is set and {PREFIX}MODEL is not: give the model's name there "
            "(`ollama list` shows those of Ollama)."
        )
    timeout, budget = Timeout(), Budget()
    if given["TIMEOUT"]:
        seconds = _seconds(given["TIMEOUT"])
        timeout = Timeout(min(timeout.connect, seconds), seconds, seconds)
    if given["RETRIES"]:
        budget = Budget(1 + _count(given["RETRIES"]))
    try:
        return OpenAICompatible(
            given["BASE_URL"],
            given["MODEL"],
            given["API_KEY"] or None,
            timeout=timeout,
            budget=budget,
            options=options,
        )
    except ConfigurationError as error:
        # The client knows no variables: name the one that its message is about.
        for what, name in (("base URL", "BASE_URL"), ("key", "API_KEY")):
            if str(error).startswith(f"The {what}"):
                raise ConfigurationError(f"{PREFIX}{name}: {error}") from None
        raise


def describe(model: ChatModel) -> str:
    """Return the Markdown for a chapter's first screen: who answers, and how to change that.

    Parameters
    ----------
    model : ChatModel
        What :func:`from_env` returned.

    Returns
    -------
    str
        One sentence; after a stand-in also the line that starts JupyterLab with a local model.
    """
    if isinstance(model, OpenAICompatible):
        return (
            f"The answers on this page come from the language model `{model.name}` at "
            f"`{model.shown_url}`: another run may word them differently."
        )
    if isinstance(model, StandIn):
        who = (
            f"come from the **{model.name}**, a deterministic offline stand-in that {model.does}: "
            "no language model ran."
        )
    else:
        who = f"come from **{model.name}**."
    return (
        f"The answers on this page {who} For a local model instead, start Ollama and run\n\n"
        f"```bash\n{LOCAL}\n```\n\n"
        f"(vLLM listens at `{VLLM}`; a vendor also wants `{PREFIX}API_KEY`; `make llm` serves the "
        f"small model `{SMALL_NAME}` at `{SMALL}` without any download)."
    )
