"""Sessions, forms and escaping of server-rendered pages."""

from __future__ import annotations

import asyncio

import pytest
from fastapi import Request, Response

from casebook.serving.refusals import Refusal
from casebook.serving.sessions import Safe, Sessions, check_origin, form_of, html, page, rows

FORM = {"content-type": "application/x-www-form-urlencoded", "host": "here:1"}


def request(body=b"", **headers):
    """Return a request with headers whose names have _ for -."""
    given = FORM | {name.replace("_", "-"): value for name, value in headers.items()}
    raw = [(name.encode(), value.encode()) for name, value in given.items()]

    async def receive():
        return {"type": "http.request", "body": body, "more_body": False}

    return Request({"type": "http", "method": "POST", "headers": raw}, receive)


def test_a_session_ends_in_time_and_another_secret_does_not_know_it():
    now = [0.0]
    own = Sessions(b"secret", seconds=60, clock=lambda: now[0])
    cookie = own.begin("abc")
    assert own.who(cookie) == "abc" != Sessions(b"other").who(cookie)
    who, ends, rest = cookie.split(".", 2)
    for forged in (
        f"abd.{ends}.{rest}",
        f"{who}.{int(ends) + 9}.{rest}",
        "a.b",
        "é.1.x.y",
        cookie[:-1],
    ):
        assert own.who(forged) is None
    now[0] = 60.0
    assert own.who(cookie) is None
    with pytest.raises(ValueError, match="holds a dot"):
        own.begin("a.b")


def test_a_token_is_of_one_session_and_is_not_its_signature():
    own = Sessions(b"secret")
    one, two = own.begin("abc"), own.begin("abc")
    assert own.fits(one, own.token(one)) and not own.fits(two, own.token(one))
    assert not own.fits(one, "") and own.token(one) not in one


def test_a_cookie_is_out_of_the_reach_of_scripts_and_other_sites():
    made = Response()
    Sessions(b"secret").put(made, "x", secure=True)
    sent = made.headers["set-cookie"].lower()
    assert all(word in sent for word in ("httponly", "samesite=strict", "secure"))


def test_a_session_has_a_number_of_its_own_by_which_it_can_be_ended():
    own = Sessions(b"secret", seconds=60, clock=lambda: 5.0)
    one, two = own.number(own.begin("abc")), own.number(own.begin("abc"))
    assert one != two and one[1] == two[1] == 65.0


@pytest.mark.parametrize(
    "headers",
    [{"origin": "http://evil:1"}, {"origin": "http://["}, {"origin": "here:1"},
     {"origin": "null"}, {"sec_fetch_site": "cross-site"},
     {"origin": "http://here:1", "sec_fetch_site": "same-site"}],
)  # fmt: skip
def test_a_form_of_another_site_is_refused(headers):
    with pytest.raises(Refusal, match="Another site"):
        asyncio.run(form_of(request(b"a=1", **headers)))
    check_origin(request(origin="http://here:1", sec_fetch_site="same-origin"))


def test_a_form_is_read_and_what_is_none_is_refused():
    read = lambda body, **headers: asyncio.run(form_of(request(body, **headers)))  # noqa: E731
    assert read(b"a=1&a=2&b=%3Cx%3E&c=") == {"a": "1", "b": "<x>", "c": ""}
    for body, headers, status in (
        (b"{}", {"content_type": "application/json"}, 415),
        (b"x" * 100_001, {}, 413), (b"&".join([b"a=1"] * 101), {}, 400), (b"a=\xff", {}, 400),
    ):  # fmt: skip
        with pytest.raises(Refusal) as caught:
            read(body, **headers)
        assert caught.value.status == status


def test_values_are_escaped_once_and_pages_forbid_scripts():
    bad = "<img src=x onerror='a()'>\"{0}"
    assert html("{a}{b}", a=bad, b=Safe("<b>")).count("<") == 1
    assert rows("<li>{a}", [{"a": bad}, {"a": 1}]).count("<") == 2
    made = page(bad, html("<p>{a}</p>", a=bad))
    assert (
        b"<img" not in made.body and "default-src 'none'" in made.headers["content-security-policy"]
    )


def test_a_form_that_does_not_come_is_given_up():
    async def receive():
        await asyncio.sleep(60)

    kind = (b"content-type", b"application/x-www-form-urlencoded")
    scope = {"type": "http", "method": "POST", "headers": [kind], "path": "/", "query_string": b""}
    with pytest.raises(Refusal, match="did not come within") as caught:
        asyncio.run(form_of(Request(scope, receive), seconds=0.05))
    assert caught.value.status == 408
