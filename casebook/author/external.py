"""The links that lead out of the course, and whether they still lead somewhere.

Nothing but ``make links`` asks other hosts; CI does it once a week.
"""

from __future__ import annotations

import ast
import re
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urldefrag, urlsplit

import httpx

from casebook.author.content import documents, links
from casebook.project import settings

TRIES = 3
SECONDS = 20.0
WORKERS = 8
#: What some hosts answer to programs although a reader gets the page.
REFUSED = (401, 403, 429)
_ADDRESS = re.compile(r"https?://[^\s\"'`<>)\]}{|]+")
_NOT_PUBLIC = re.compile(r"^(localhost|127\.|\[?::1|.*\.(test|invalid)$|(.*\.)?example\.)")


@dataclass(frozen=True)
class Answer:
    """What an address answered.

    Attributes
    ----------
    address : str
        Without its fragment.
    verdict : {"alive", "refused", "dead"}
        Refused: the host does not talk to programs, look by hand.
    detail : str
        Status or error.
    """

    address: str
    verdict: str
    detail: str


def external_links(root: Path) -> dict[str, list[str]]:
    """Return every address of another host and the files that name it.

    Read are the pages and notebooks, ``data/real.toml`` and the docstrings of the package;
    left out are the course's own address and examples.
    """
    found: dict[str, set[str]] = {}

    def note(address: str, where: str) -> None:
        address = urldefrag(address.rstrip(".,;:")).url
        host = urlsplit(address).netloc
        if host and not _NOT_PUBLIC.match(host) and not address.startswith(ours):
            found.setdefault(address, set()).add(where)

    ours = settings()["repository"].rstrip("/")
    for document in documents(root):
        for block in document.prose:
            for link in links(block):
                if urlsplit(link).scheme in ("http", "https"):
                    note(link, document.name)
    real = root / "data" / "real.toml"
    if real.is_file():
        text = real.read_text(encoding="utf-8")
        tomllib.loads(text)
        for address in _ADDRESS.findall(text):
            note(address, "data/real.toml")
    for path in sorted((root / "casebook").rglob("*.py")):
        for address in _ADDRESS.findall(_docstrings(path)):
            note(address, path.relative_to(root).as_posix())
    return {address: sorted(places) for address, places in sorted(found.items())}


def _docstrings(path: Path) -> str:
    """Return the docstrings of a module, one after the other."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    return "\n".join(ast.get_docstring(n) or "" for n in nodes if isinstance(n, documented))


def ask(client: httpx.Client, address: str, wait: float = 2.0) -> Answer:
    """Ask for one address, three times at most; a body is never read."""
    detail, verdict = "", "dead"
    for attempt in range(TRIES):
        if attempt:
            time.sleep(wait * 2**attempt)
        try:
            with client.stream("GET", address) as response:
                status = response.status_code
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            detail, verdict = f"{type(error).__name__}: {error}", "dead"
            continue
        if status < 400:
            return Answer(address, "alive", str(status))
        detail, verdict = str(status), "refused" if status in REFUSED else "dead"
        if status in (404, 410):
            break
    return Answer(address, verdict, detail)


def ask_all(addresses: list[str], wait: float = 2.0) -> list[Answer]:
    """Ask for all addresses, eight at a time, in the order given."""
    headers = {"User-Agent": "Mozilla/5.0 (link check of a course)"}
    with (
        httpx.Client(follow_redirects=True, timeout=SECONDS, headers=headers) as client,
        ThreadPoolExecutor(WORKERS) as pool,
    ):
        return list(pool.map(lambda address: ask(client, address, wait), addresses))
