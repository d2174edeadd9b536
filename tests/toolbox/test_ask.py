"""An answer is whole in time, or there is none: odd, huge, dripping and silent servers."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager

import pytest

from casebook.serving.ask import LARGEST, Asker, NoAnswer


@contextmanager
def server(parts, pause: float = 0.0):
    """Answer one request with these bytes, ``pause`` seconds apart; yield URL and what was sent."""
    listener, over, sent = socket.create_server(("127.0.0.1", 0)), threading.Event(), []

    def answer():
        taken, _ = listener.accept()
        with taken:
            taken.recv(65_536)
            for part in parts:
                try:
                    taken.sendall(part)
                except OSError:  # the caller has gone
                    return
                sent.append(part)
                if over.wait(pause):
                    return
            taken.shutdown(socket.SHUT_WR)

    thread = threading.Thread(target=answer, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", sent
    finally:
        over.set()
        thread.join()
        listener.close()


def answered(parts, seconds: float = 60.0, pause: float = 0.0):
    with server(parts, pause) as (url, sent):
        asker = Asker(seconds)
        try:
            return asker.post(url, {"user": "u1"}), sent
        finally:
            asker.close()


def reply(body: bytes, status: str = "200 OK") -> list[bytes]:
    return [f"HTTP/1.1 {status}\r\ncontent-length: {len(body)}\r\n\r\n".encode(), body]


def test_an_object_is_returned():
    assert answered(reply(b'{"arm": "control"}'))[0] == {"arm": "control"}


ODD = {
    "a list": (reply(b"[1]"), "not an object"),
    "null": (reply(b"null"), "not an object"),
    "a text": (reply(b'"x"'), "not an object"),
    "deep": (reply(b"[" * 50_000), "RecursionError"),
    "no JSON": (reply(b"{"), "JSONDecodeError"),
    "bad UTF-8": (reply(b'{"a": "\xff"}'), "UnicodeDecodeError"),
    "huge": (reply(b" " * (LARGEST + 1)), "too large"),
    "refused": (reply(b"{}", "404 Not Found"), "404"),
    "cut": ([b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{}"], "RemoteProtocolError"),
    "no HTTP": ([b"hello\r\n\r\n"], "RemoteProtocolError"),
}


@pytest.mark.parametrize("case", ODD)
def test_what_is_no_answer_says_why(case):
    parts, why = ODD[case]
    with pytest.raises(NoAnswer, match=why):
        answered(parts)


@pytest.mark.parametrize("head", [b"", reply(b" " * 9_000)[0]], ids=["head", "body"])
def test_a_server_that_drips_is_left_before_it_has_finished(head):
    """A byte every 20 ms keeps each limit of a single read; the whole would take minutes."""
    parts = [head, *[b"x"] * 9_000]
    with server(parts, pause=0.02) as (url, sent):
        asker = Asker(0.2)
        with pytest.raises(NoAnswer, match="TimeoutError"):
            asker.post(url, {})
        asker.close()
        assert len(sent) < len(parts)


@pytest.mark.parametrize("url", ["http://[::bad", "http://127.0.0.1:9", "nothing://x", ""])
def test_an_address_without_a_service_is_no_answer(url):
    asker = Asker(5.0)
    with pytest.raises(NoAnswer):
        asker.post(url, {})
    asker.close()
