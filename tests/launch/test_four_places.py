"""One chapter in four places: rendered book, JupyterLab, Colab, repository viewer.

The claims that the chapter stores are the sentences that each place shows.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import nbformat
import pytest
import requests
import websocket
from bs4 import BeautifulSoup
from markdown_it import MarkdownIt
from nbformat import NotebookNode
from places import CHAPTER, clean_environment

from casebook.author import files
from casebook.author.launch import COLAB_ID
from casebook.project import require_checkout

ROOT = require_checkout()
PAGE = ROOT / "_build" / "html" / "chapters" / f"{CHAPTER}.html"
PLACES = ("book", "lab", "colab", "viewer (Markdown)", "viewer (HTML)")
ROLE = re.compile(r"\{[a-z][\w:-]*\}$")
DIRECTIVE = re.compile(r"\s*\{[a-z][\w:-]*\}")
COLON_FENCE = re.compile(r"^\s*:{3,}|^\([\w-]+\)=\s*$", re.M)


def plain(html: str) -> str:
    """Return the text of a piece of HTML with even spaces and straight quotes."""
    text = " ".join(BeautifulSoup(html, "html.parser").get_text().split())
    return text.translate(str.maketrans("‘’“”", "''\"\""))


def plain_markdown(text: str) -> str:
    """Return the text of a piece of Markdown without its markup."""
    return plain(MarkdownIt().enable("table").render(text))


def claims(notebook: NotebookNode) -> dict[str, str]:
    """Return the sentences that a notebook's outputs state, by the id of their cell."""
    return {
        cell.id: plain_markdown(output.data["text/markdown"])
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
        if "text/markdown" in output.get("data", {})
    }


def page_text(page: Path) -> str:
    """Return the text of a rendered page; without a page the test fails."""
    if not page.is_file():
        pytest.fail(f"{page.name} is not built: run `make book` first")
    return plain(page.read_text(encoding="utf-8"))


def raw_markup(html: str) -> list[str]:
    """Return what shows as raw MyST in converted Markdown: roles, directives, colon fences.

    Code is left out: the inputs of cells, and fences that name a language.
    """
    page = BeautifulSoup(html, "html.parser")
    for element in page.select(".jp-CodeCell .jp-InputArea, code.language-python, script, style"):
        element.decompose()
    found = []
    for code in page.find_all("code"):
        language = " ".join(code.get("class") or ["language-"]).split("language-")[-1]
        if code.find_parent("pre"):
            if DIRECTIVE.match(language) or DIRECTIVE.match(code.get_text()):
                found.append(f"directive: {language or code.get_text().split()[0]}")
        elif role := ROLE.search(str(code.previous_sibling or "")):
            found.append(f"role: {role.group(0)}")
    for pre in page.find_all("pre"):
        pre.decompose()
    return found + [f"fence or target: {m.strip()}" for m in COLON_FENCE.findall(page.get_text())]


@dataclass
class Lab:
    """A running JupyterLab, spoken to as its page does.

    Attributes
    ----------
    url : str
        Address of the server.
    token : str
        What lets us in.
    """

    url: str
    token: str

    def __post_init__(self) -> None:
        self.http = requests.Session()
        self.http.trust_env = False  # no proxy stands between two processes of one machine
        self.http.headers["Authorization"] = f"token {self.token}"

    def call(self, method: str, path: str, **more) -> requests.Response:
        """Send a request; fail unless it is answered well."""
        answer = self.http.request(method, self.url + path, timeout=60, **more)
        answer.raise_for_status()
        return answer

    def run(self, path: str) -> NotebookNode:
        """Open a notebook, start its session, and execute its cells in order."""
        content = self.call("GET", f"api/contents/{path}").json()["content"]
        notebook = nbformat.from_dict(content)
        asked = {"path": path, "name": "", "type": "notebook", "kernel": {"name": "python3"}}
        session = self.call("POST", "api/sessions", json=asked).json()
        channels = websocket.create_connection(
            f"ws{self.url.removeprefix('http')}api/kernels/{session['kernel']['id']}/channels",
            header=[f"Authorization: token {self.token}"],
            http_no_proxy=["127.0.0.1"],
            timeout=120,
        )
        try:
            for cell in notebook.cells:
                if cell.cell_type == "code":
                    cell.outputs = list(_execute(channels, cell.source))
        finally:
            channels.close()
            self.call("DELETE", f"api/sessions/{session['id']}")
        return notebook


def _execute(channels: websocket.WebSocket, code: str) -> Iterator[NotebookNode]:
    """Execute one cell; yield what it displays. An error fails the test."""
    header = {
        "msg_id": uuid.uuid4().hex,
        "msg_type": "execute_request",
        "session": uuid.uuid4().hex,
        "username": "reader",
        "version": "5.3",
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    content = {"code": code, "silent": False, "store_history": True, "stop_on_error": True}
    channels.send(
        json.dumps(
            {
                "channel": "shell",
                "header": header,
                "parent_header": {},
                "metadata": {},
                "content": content | {"user_expressions": {}, "allow_stdin": False},
                "buffers": [],
            }
        )
    )
    waiting = {"execute_reply", "idle"}
    while waiting:
        message = json.loads(channels.recv())
        if message["parent_header"].get("msg_id") != header["msg_id"]:
            continue
        kind, said = message["msg_type"], message["content"]
        if kind == "error":
            pytest.fail(f"{said['ename']}: {said['evalue']}\nin the cell\n{code}")
        if kind == "status":
            waiting.discard(said["execution_state"])
        elif kind == "execute_reply":
            waiting.discard(kind)
        elif kind in ("display_data", "execute_result", "stream"):
            yield nbformat.from_dict({"output_type": kind, **said})


@pytest.fixture(scope="module")
def lab(checkout_copy, tmp_path_factory) -> Iterator[Lab]:
    """Start JupyterLab on a free port of this machine; end it afterwards."""
    folder = tmp_path_factory.mktemp("lab")
    token = secrets.token_hex(16)
    env = clean_environment(
        CASEBOOK_BUILD_DIR=folder / "build",
        CASEBOOK_REAL_DATA="off",
        IPYTHONDIR=folder / "ipython",
        JUPYTER_CONFIG_DIR=folder / "config",
        JUPYTER_DATA_DIR=folder / "data",
        JUPYTER_RUNTIME_DIR=folder / "runtime",
        JUPYTER_TOKEN=token,
        JUPYTERLAB_SETTINGS_DIR=folder / "settings",
        JUPYTERLAB_WORKSPACES_DIR=folder / "workspaces",
    )
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"]
    command += ["--ServerApp.ip=127.0.0.1", "--ServerApp.port=0"]
    command += [f"--ServerApp.root_dir={checkout_copy}", "--LabApp.news_url=None"]
    command += ["--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"]
    log = folder / "lab.log"
    with log.open("w", encoding="utf-8") as file:
        server = subprocess.Popen(command, env=env, stdout=file, stderr=file, cwd=checkout_copy)
    try:
        running = folder / "runtime" / f"jpserver-{server.pid}.json"
        yield Lab(_address(running, server, log), token)
    finally:
        server.terminate()  # it ends its kernels first
        try:
            server.wait(timeout=20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _address(running: Path, server: subprocess.Popen, log: Path, seconds: float = 60) -> str:
    """Wait until the server has written where it runs and answers there."""
    until = time.monotonic() + seconds
    while time.monotonic() < until and server.poll() is None:
        try:
            url = json.loads(running.read_text(encoding="utf-8"))["url"]
            with requests.Session() as http:
                http.trust_env = False
                http.get(url + "login", timeout=5)
            return url
        except (OSError, ValueError):  # not yet, or half written
            time.sleep(0.1)
    pytest.fail(f"JupyterLab did not start:\n{log.read_text(encoding='utf-8')}")


@pytest.fixture(scope="module")
def lab_run(lab) -> NotebookNode:
    """Execute the chapter in JupyterLab."""
    return lab.run(f"chapters/{CHAPTER}.ipynb")


def convert(sources: list[Path]) -> dict[str, dict[str, str]]:
    """Run plain nbconvert, without executing anything; return the text by format and by name."""
    results = {}
    for kind, suffix in (("markdown", ".md"), ("html", ".html")):
        command = [sys.executable, "-m", "nbconvert", "--to", kind, *map(str, sources)]
        done = subprocess.run(command, capture_output=True, text=True, env=clean_environment())
        assert done.returncode == 0, done.stderr
        results[kind] = {
            path.stem: path.with_suffix(suffix).read_text(encoding="utf-8") for path in sources
        }
    return results


@pytest.fixture(scope="module")
def converted(tmp_path_factory) -> dict[str, dict[str, str]]:
    """Convert every committed notebook as it is."""
    folder = tmp_path_factory.mktemp("converted")
    sources = []
    for path in files.notebooks(root=ROOT):
        sources.append(folder / f"{path.parent.name}-{path.name}")
        sources[-1].write_bytes(path.read_bytes())
    return convert(sources)


#: Raw markup of each kind, and how the check names it.
PLANTED = {
    "role": ("The area is {math}`x^2` here.", "role: {math}"),
    "directive": ("```{note}\nMind the gap.\n```", "directive: {note}"),
    "folded": (
        "<details>\n<summary>More</summary>\n\n```{note}\nMind the gap.\n```\n\n</details>",
        "directive: {note}",
    ),
    "colon": (":::{tip}\nMind the gap.\n:::", "fence or target: :::"),
    "target": ("(a-target)=\n## Heading", "fence or target: (a-target)="),
}


@pytest.fixture(scope="module")
def planted_texts(tmp_path_factory, chapter) -> dict[str, dict[str, str]]:
    """Convert copies of the chapter, each with a last cell that shows raw markup."""
    folder = tmp_path_factory.mktemp("planted")
    for name, (markup, _) in PLANTED.items():
        last = nbformat.v4.new_markdown_cell(markup, id="planted")
        copy = nbformat.from_dict({**chapter, "cells": [*chapter.cells, last]})
        nbformat.write(copy, folder / f"{name}.ipynb")
    return convert([folder / f"{name}.ipynb" for name in PLANTED])


@pytest.fixture
def text_of(request) -> str:
    """Return the text of the chapter in the place that the test names."""
    place, name = request.param, f"chapters-{CHAPTER}"
    if place == "book":
        return page_text(PAGE)
    if place == "lab":
        return "\n".join(claims(request.getfixturevalue("lab_run")).values())
    if place == "colab":
        run = request.getfixturevalue("colab_run")
        assert run.code == 0, run.log
        return "\n".join(claims(run.notebook).values())
    converted = request.getfixturevalue("converted")
    if place == "viewer (Markdown)":
        return plain_markdown(converted["markdown"][name])
    return plain(converted["html"][name])


def test_the_chapter_stores_the_baseline_claim(chapter):
    assert re.fullmatch(
        r"Seasonal naive misses \d+\.\d % of all trips of 2022 to 2024 "
        r"\(WAPE over 900 forecasts\)\.",
        claims(chapter)["baseline-claim"],
    )


@pytest.mark.parametrize("text_of", PLACES, indirect=True)
def test_the_stored_claims_are_what_the_place_shows(chapter, text_of):
    stored = claims(chapter)
    assert "baseline-claim" in stored
    assert {cell: said for cell, said in stored.items() if said not in text_of} == {}
    for said in stored.values():  # the planted fault: one digit of it is another
        for digit in re.finditer(r"\d", said):
            other = str((int(digit.group()) + 1) % 10)
            assert said[: digit.start()] + other + said[digit.end() :] not in text_of


def test_elsewhere_the_set_up_cell_does_nothing(lab_run):
    assert next(cell for cell in lab_run.cells if cell.id == COLAB_ID).outputs == []


def test_jupyterlab_serves_its_page_for_the_chapter(lab):
    page = lab.call("GET", f"lab/tree/chapters/{CHAPTER}.ipynb").text
    assert "jupyter-config-data" in page
    with pytest.raises(requests.HTTPError, match="404"):
        lab.call("GET", "api/contents/chapters/no_such_chapter.ipynb")


def test_a_failing_cell_is_seen_in_jupyterlab(lab, checkout_copy):
    """The planted fault: a name that nothing defines."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("undefined_name")])
    broken = checkout_copy / "broken.ipynb"
    nbformat.write(notebook, broken)
    try:
        with pytest.raises(pytest.fail.Exception, match="NameError: name 'undefined_name'"):
            lab.run("broken.ipynb")
    finally:
        os.unlink(broken)


def test_a_page_that_is_not_built_fails(tmp_path):
    with pytest.raises(pytest.fail.Exception, match="run `make book` first"):
        page_text(tmp_path / "absent.html")


def test_no_notebook_shows_raw_markup_in_a_viewer(converted):
    shown = {
        f"{name}, {kind}": raw_markup(text if kind == "html" else MarkdownIt().render(text))
        for kind, texts in converted.items()
        for name, text in texts.items()
    }
    assert len(shown) == 2 * len(files.notebooks(root=ROOT))
    assert {name: found for name, found in shown.items() if found} == {}


@pytest.mark.parametrize("kind", ["markdown", "html"])
@pytest.mark.parametrize("planted", PLANTED)
def test_planted_markup_is_found(planted_texts, planted, kind):
    _, reason = PLANTED[planted]
    text = planted_texts[kind][planted]
    found = raw_markup(text if kind == "html" else MarkdownIt().render(text))
    assert found and found[0].startswith(reason), found
