"""Links to other hosts: which there are, and how a host's answers are judged (on loopback)."""

from __future__ import annotations

import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import tiny

from casebook.author import external
from casebook.author.__main__ import main
from casebook.author.external import Answer
from casebook.project import settings


@pytest.fixture
def host():
    """Return a server on loopback that answers as its paths say, and counts the questions."""
    asked = Counter()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked[self.path] += 1
            status = int(self.path.strip("/").split("-")[0])
            if self.path.endswith("-once") and asked[self.path] > 1:
                status = 200
            self.send_response(status)
            if status == 301:
                self.send_header("Location", "/200")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    server.address, server.asked = f"http://127.0.0.1:{server.server_port}", asked
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize(
    ("path", "verdict", "times"),
    [
        ("/200", "alive", 1),
        ("/301", "alive", 1),
        ("/503-once", "alive", 2),
        ("/403", "refused", external.TRIES),
        ("/500", "dead", external.TRIES),
        ("/404", "dead", 1),
        ("/410", "dead", 1),
    ],
)
def test_answers(host, path, verdict, times):
    (answer,) = external.ask_all([host.address + path], wait=0)
    assert answer.verdict == verdict
    assert host.asked[path] == times


def test_a_host_that_is_not_there_and_an_address_that_is_none(host):
    host.shutdown()
    host.server_close()
    answers = external.ask_all([host.address + "/200", "http://["], wait=0)
    assert [answer.verdict for answer in answers] == ["dead", "dead"]
    assert answers[0].detail.startswith("ConnectError")


def test_which_links_there_are(tmp_path):
    root = tiny.checkout(tmp_path / "project")
    tiny.add(
        root,
        "chapters/00_tiny.ipynb",
        tiny.prose("text", "[a](https://a.test-host.org/x#part) <https://b.test-host.org/>"),
        tiny.prose("more", f"[a](https://a.test-host.org/x) [ours]({settings()['repository']}/x)"),
        tiny.prose("none", "[c](https://example.org/) [d](../book/page.md) [e](mailto:x@y.z)"),
    )
    (root / "data").mkdir()
    (root / "data" / "real.toml").write_text('[x]\nurl = "https://data.test-host.org/x.csv"\n')
    (root / "casebook").mkdir()
    (root / "casebook" / "module.py").write_text(
        '"""See https://doi.org/10.1/x."""\nADDRESS = "https://code.test-host.org"\n'
    )
    assert external.external_links(root) == {
        "https://a.test-host.org/x": ["chapters/00_tiny.ipynb"],
        "https://b.test-host.org/": ["chapters/00_tiny.ipynb"],
        "https://data.test-host.org/x.csv": ["data/real.toml"],
        "https://doi.org/10.1/x": ["casebook/module.py"],
    }


@pytest.mark.parametrize(("verdict", "code"), [("alive", 0), ("refused", 0), ("dead", 1)])
def test_the_command(tmp_path, monkeypatch, capsys, verdict, code):
    root = tiny.checkout(tmp_path / "project")
    monkeypatch.setattr(external, "external_links", lambda root: {"https://a/": ["page"]})
    monkeypatch.setattr(external, "ask_all", lambda found: [Answer(*found, verdict, "418")])
    assert main(["--root", str(root), "links"]) == code
    shown = capsys.readouterr().out
    assert ("https://a/ (418) in page" in shown) == (verdict != "alive")
    assert f"1 addresses, {code} dead" in shown
