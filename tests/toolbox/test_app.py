"""Every error is an object that says what was wrong and what to do."""

from __future__ import annotations

import pytest
from fastapi import FastAPI, Request
from fastapi.testclient import TestClient
from pydantic import BaseModel

from casebook.serving.app import (
    Problem,
    bare_app,
    body_of,
    json_list,
    json_object,
    one_by_one,
    parsed,
    reply,
    serve_calls,
    whole_number,
)
from casebook.serving.log import LogFailed


@pytest.fixture
def client():
    app = bare_app("Planted")

    @app.get("/refuse")
    def refuse():
        raise Problem(409, "taken", "The name is taken.", "Choose another one.")

    @app.get("/crash")
    def crash():
        return reply({"value": float("nan")})

    @app.post("/length")
    async def length(request: Request):
        return reply({"bytes": len(await body_of(request, 10))}, 202)

    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


@pytest.mark.parametrize(
    ("method", "path", "content", "status", "error"),
    [
        ("GET", "/refuse", None, 409, "taken"),
        ("GET", "/crash", None, 500, "internal error"),
        ("POST", "/length", b"x" * 11, 413, "too large"),
        ("GET", "/nothing", None, 404, "not found"),
        ("DELETE", "/length", None, 405, "method not allowed"),
    ],
)
def test_an_error_says_what_and_what_to_do(client, method, path, content, status, error):
    found = client.request(method, path, content=content)
    assert (found.status_code, found.json()["error"]) == (status, error)
    assert set(found.json()) == {"error", "what", "do"} and all(found.json().values())
    assert "nan" not in found.text.lower()


def test_a_body_within_the_limit_is_read_and_no_page_asks_another_host(client):
    found = client.post("/length", content=b"x" * 10)
    assert (found.status_code, found.json()) == (202, {"bytes": 10})
    assert client.get("/docs").status_code == 404
    plain = TestClient(FastAPI())  # the planted fault: the framework's own pages
    assert "https://" in plain.get("/docs").text


class Named(BaseModel):
    name: str


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        (b'{"name": "x"}', 200, ""),
        (b"{", 400, "The body is no JSON"),
        (b"[" * 100_000, 413, "goes on after 50,000 bytes"),
        (b"[" * 40_000, 400, "The body is no JSON"),
        (b"[]", 422, "The body is no object"),
        (b'{"name": 7}', 422, "name: Input should be a valid string"),
        (b'{"name": "locked"}', 503, "disk full"),
    ],
)
def test_calls_know_nothing_of_http(body, status, says):
    def call(raw: bytes) -> dict[str, str]:
        name = parsed(Named, raw).name
        if name == "locked":
            raise LogFailed("disk full")
        return {"name": name}

    app = bare_app("Calls")
    serve_calls(app, {"/names": call}, {"/names/{name}": lambda name: {"name": name}}, 50_000)
    with TestClient(app, raise_server_exceptions=False) as client:
        found = client.post("/names", content=body)
        assert found.status_code == status
        assert says in found.json().get("what", "")
        assert client.get("/names/x").json() == {"name": "x"}


@pytest.mark.parametrize(
    ("raw", "status", "what"),
    [
        (b"{", 400, "The body is no JSON: Expecting property name"),
        (b"[" * 900, 400, "The body is no JSON: Expecting value"),
        (b'[{"a": 1, "a": 2}]', 400, "the field 'a' stands twice in one object"),
        (b"{}", 400, "The body is a dict."),
        (b"[1, 2, 3, 4]", 413, "The list has 4 scans, more than 3."),
        (b" " * 1001, 413, "The body has 1,001 bytes, more than 1,000."),
    ],
)
def test_a_body_that_is_no_list_is_refused(raw, status, what):
    with pytest.raises(Problem) as refused:
        json_list(raw, "scans", 1000, 3)
    assert refused.value.status == status and what in refused.value.what
    assert json_list(b'[{"a": 1, "b": 2}]', "scans", 1000, 3) == [{"a": 1, "b": 2}]


def test_an_object_says_each_field_once():
    assert json_object(b'{"a": {"a": 1}}') == {"a": {"a": 1}}
    with pytest.raises(Problem, match="'a' stands twice"):
        json_object(b'{"a": 1, "a": 2}')


def test_a_bad_entry_spoils_no_other():
    taken, refused = one_by_one(["1", None, "x", "4"], int)
    assert taken == [1, 4] and [entry["position"] for entry in refused] == [1, 2]
    with pytest.raises(ZeroDivisionError):  # a fault of ours is no fault of an entry
        one_by_one([0], lambda entry: 1 / entry)


@pytest.mark.parametrize("text", ["0", "-1", "+1", "1.0", " 1", "abc", "1001", "١", "²", "9" * 99])
def test_what_is_no_whole_number_of_an_address_is_refused(text):
    with pytest.raises(Problem, match="is not a row") as refused:
        whole_number(text, 1000, "a row", "Look.")
    assert refused.value.status == 400 and len(refused.value.what) < 70
    assert [whole_number(good, 1000, "a row", "Look.") for good in ("1", "0007", "1000")] == [
        1,
        7,
        1000,
    ]
