"""Keys stay where they belong: out of everything that is shown, raised or logged."""

from __future__ import annotations

import json
import logging
import re
from base64 import b64encode
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from urllib.parse import quote, unquote, urlsplit

from casebook.llm.errors import ConfigurationError

HIDDEN = "[hidden]"
#: Shorter ones are placeholders for servers that want any key: ``ollama``, ``EMPTY``.
SHORTEST = 8
#: Letters and digits of a secret that are hidden where they stand in a row.
WINDOW = 8
#: Parts of a path that may be shown: words, and versions such as v1beta.
HARMLESS = re.compile(r"[a-z]{1,12}|v\d+[a-z]*\d*")
#: Loggers below the client. At DEBUG they print headers of answers, which may repeat a key.
LOGGERS = (
    "httpcore.connection", "httpcore.http11", "httpcore.proxy", "httpcore.socks",
    "httpx", "openai._base_client",
)  # fmt: skip


class Secrets:
    """Texts that must not be seen, and how to take them out of what others wrote.

    Found is each run of eight letters and digits of a secret, in upper or lower case, whatever
    signs and blanks stand between them, and the same of its base64, hexadecimal and quoted forms.
    """

    def __init__(self, values: Iterable[str]) -> None:
        grams = set()
        for value in values:
            if len(value) >= SHORTEST:
                for form in _forms(value):
                    letters = "".join(character for _, character in _letters(form))
                    width = min(WINDOW, len(letters))
                    grams |= {letters[i : i + width] for i in range(len(letters) - width + 1)}
        self.forms = frozenset(grams - {""})
        self._widths = sorted({len(gram) for gram in self.forms})

    def __repr__(self) -> str:
        return f"Secrets({HIDDEN})"

    def hide(self, text: str) -> str:
        """Return a text without the secrets."""
        if not self.forms:
            return text
        letters = list(_letters(text))
        line = "".join(character for _, character in letters)
        runs: list[list[int]] = []
        for i in range(len(line)):
            for width in self._widths:
                if line[i : i + width] in self.forms:
                    start, end = letters[i][0], letters[i + width - 1][0] + 1
                    if runs and start <= runs[-1][1]:
                        runs[-1][1] = max(runs[-1][1], end)
                    else:
                        runs.append([start, end])
        for start, end in reversed(runs):
            text = text[:start] + HIDDEN + text[end:]
        return text


def _letters(text: str) -> Iterator[tuple[int, str]]:
    """Yield the letters and digits of a text with their places, in lower case."""
    for place, character in enumerate(text):
        if character.isalnum():
            yield place, character.lower() if character.isascii() else character


def _forms(value: str) -> Iterator[str]:
    """Yield what a secret looks like where it was quoted, escaped or encoded."""
    code = value.encode()
    yield from (value, value[::-1], quote(value, safe=""), json.dumps(value)[1:-1])
    yield from (repr(value)[1:-1], code.hex())
    for shift in range(3):  # in base64 of a longer text it may begin at any of three places
        encoded = b64encode(b"\0" * shift + code).decode("ascii").rstrip("=")
        cut = encoded[(0, 2, 3)[shift] : len(encoded) - (1 if (shift + len(code)) % 3 else 0)]
        yield from (cut, cut.replace("+", "-").replace("/", "_"))


class _HidingFilter(logging.Filter):
    """Take the secrets of all clients out of records, before any handler sees them."""

    def __init__(self) -> None:
        super().__init__()
        self.known: dict[frozenset[str], Secrets] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        for secrets in self.known.values():
            text = secrets.hide(text)
        record.msg, record.args = text, ()
        return True


_FILTER = _HidingFilter()


def keep_out_of_logs(secrets: Secrets) -> None:
    """Hide secrets in what the libraries below the client log, from now on."""
    _FILTER.known[secrets.forms] = secrets
    for name in LOGGERS:
        logging.getLogger(name).addFilter(_FILTER)  # adds it once


@dataclass(frozen=True, repr=False)
class Address:
    """A base URL taken apart: what is sent, and what may be shown.

    Attributes
    ----------
    url : str
        Where completions are asked for, with its query and without user and password.
    shown : str
        The base URL without query, and without parts of the path that could be a key.
    basic : str
        User and password of the URL as the value of an Authorization header, or empty.
    hidden : tuple of str
        All of the URL that must not be seen.
    """

    url: str
    shown: str
    basic: str
    hidden: tuple[str, ...]

    def __repr__(self) -> str:
        return f"Address({self.shown})"


def address(base_url: str) -> Address:
    """Take a base URL apart.

    Raises
    ------
    ConfigurationError
        If it is no http or https URL, or not the base. The message does not repeat it.
    """
    example = "give an address such as http://localhost:11434/v1"
    if not isinstance(base_url, str) or not base_url.isascii() or re.search(r"\s", base_url):
        raise ConfigurationError(f"The base URL is no address: {example}.")
    try:
        parts = urlsplit(base_url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ConfigurationError(f"The base URL has a bad host or port: {example}.") from None
    if parts.scheme not in ("http", "https") or not host:
        raise ConfigurationError(f"The base URL is no http or https address: {example}.")
    if parts.fragment:
        raise ConfigurationError(f"The base URL has a fragment (#): {example}.")
    path = parts.path.rstrip("/")
    if path.endswith("/completions"):
        raise ConfigurationError(
            f"The base URL ends in /completions, which the client adds itself: {example}."
        )
    origin = f"{parts.scheme}://[{host}]" if ":" in host else f"{parts.scheme}://{host}"
    origin += f":{port}" if port else ""
    segments = path.split("/")
    secret = [part for part in segments if part and not HARMLESS.fullmatch(part)]
    shown = "/".join("…" if part in secret else part for part in segments)
    values = [pair.partition("=")[2] for pair in parts.query.split("&")]
    hidden = [*secret, *values, parts.query]
    basic = ""
    if parts.username is not None:
        user, password = unquote(parts.username), unquote(parts.password or "")
        token = b64encode(f"{user}:{password}".encode()).decode("ascii")
        basic = f"Basic {token}"
        hidden += [token, parts.password or "", password]
        hidden += [] if password else [parts.username, user]
    query = f"?{parts.query}" if parts.query else ""
    return Address(
        f"{origin}{path}/chat/completions{query}",
        origin + shown,
        basic,
        tuple(filter(None, hidden)),
    )
