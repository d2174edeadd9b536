"""Case 20: the admin API: keys, prompts, settings and bills, by role and by tenant."""

from __future__ import annotations

import asyncio
import json
import re

import httpx
import pytest
from llm_gateway_kit import KINDS, Running

from casebook.cases.llm_gateway.gateway import Gateway
from casebook.serving.api_keys import hashed
from casebook.serving.sessions import Sessions

HI = {"messages": [{"role": "user", "content": "hi"}]}
ROUTES = [
    ("GET", "/admin/keys", "admin"), ("POST", "/admin/keys", "admin"),
    ("POST", "/admin/keys/0123456789ab/revoke", "admin"),
    ("POST", "/admin/keys/0123456789ab/rotate", "admin"),
    ("GET", "/admin/prompts", "developer"), ("GET", "/admin/alerts", "developer"),
    ("GET", "/admin/bills", "admin"),
    ("GET", "/admin/prompts/greet", "developer"), ("POST", "/admin/prompts/greet", "developer"),
    ("PUT", "/admin/prompts/greet/split", "developer"),
    ("POST", "/admin/prompts/greet/test", "developer"), ("GET", "/admin/usage", "developer"),
    ("GET", "/admin/invoice", "admin"), ("PUT", "/admin/settings", "admin"),
    ("PUT", "/admin/config", "platform"),
]  # fmt: skip


@pytest.fixture(scope="module", params=KINDS)
def running(request):
    with Running(kind=request.param) as made:
        yield made


@pytest.fixture
def ask(running):
    def send(method, path, body=None, tenant="acme", role="admin"):
        headers = running.headers(tenant, role)
        json_ = {} if method == "GET" else {"json": body or {}}
        return running.http.request(method, running.url + path, headers=headers, **json_)

    return send


@pytest.mark.parametrize(("method", "path", "role"), ROUTES)
def test_each_route_asks_for_its_role(running, ask, method, path, role):
    roles = ["caller", "developer", "admin", "platform"]
    for lower in roles[: roles.index(role)]:
        got = ask(method, path, role=lower)
        assert (got.status_code, got.json()["error"]["code"]) == (403, "role_too_low")
    assert ask(method, path, role=role).status_code not in (401, 403, 500)
    assert running.http.request(method, running.url + path).status_code == 401


def test_a_key_is_made_rotated_and_revoked(running, ask):
    made = ask("POST", "/admin/keys", {"label": "shop"}).json()
    assert running.post("acme", HI, key=made["secret"]).status_code == 200
    after = ask("POST", f"/admin/keys/{made['key']}/rotate").json()
    assert after["role"] == "caller" and after["secret"] != made["secret"]
    for key in (made, after):
        assert running.post("acme", HI, key=key["secret"]).status_code == 200, "for a day both"
    assert ask("POST", f"/admin/keys/{after['key']}/revoke").status_code == 200
    assert running.post("acme", HI, key=after["secret"]).status_code == 401
    listed = ask("GET", "/admin/keys").json()["keys"]
    assert {"shop"} <= {one["label"] for one in listed}
    assert made["secret"] not in json.dumps(listed)
    assert ask("POST", "/admin/keys", {"role": "platform"}).status_code == 403
    assert ask("POST", "/admin/keys", {"role": "king"}).status_code == 422


def test_an_admin_neither_rotates_nor_revokes_the_platforms_key(running, ask):
    platform = running.headers("acme", "platform")
    begins = hashed(platform["authorization"].split()[1])[:12]
    for deed in ("rotate", "revoke"):
        got = ask("POST", f"/admin/keys/{begins}/{deed}")
        assert (got.status_code, got.json()["error"]["code"]) == (403, "role_too_low")
        assert "secret" not in got.text
    running.refresh()
    assert ask("GET", "/admin/usage?tenant=globex", role="platform").status_code == 200


def test_what_is_answered_with_a_fault_has_changed_nothing(running, ask):
    made = ask("POST", "/admin/keys").json()
    assert ask("POST", f"/admin/keys/{made['key'][:7]}/revoke").status_code == 404
    assert ask("POST", f"/admin/keys/{made['key'].upper()}x/rotate").status_code == 404
    assert running.post("acme", HI, key=made["secret"]).status_code == 200
    assert ask("POST", f"/admin/keys/{made['key'].upper()}/revoke").status_code == 200
    assert running.post("acme", HI, key=made["secret"]).status_code == 401


@pytest.fixture
def page(running):
    """Return a browser of the admin page that is logged in, and the token of its forms."""
    with httpx.Client(base_url=f"{running.url}/admin/") as browser:
        key = running.headers("acme", "admin")["authorization"].split()[1]
        browser.post("login", data={"key": key})
        yield browser, re.search(r'name="token" value="(\w+)"', browser.get("").text)[1]


@pytest.mark.parametrize("name", ["a/b", ".", "..", "a b", "x" * 64, "<img>", "a?b", "", "ü"])
def test_a_prompt_that_a_path_could_not_name_is_not_made(page, name):
    browser, token = page
    form = {"deed": "add_prompt", "user": "x", "token": token}
    got = browser.post("do", data=form | {"name": name})
    assert got.status_code == 422 and "cannot be a prompt&#x27;s name" in got.text
    assert browser.post("do", data=form | {"name": "a.b_c:d-1"}).status_code == 303


def test_shares_that_name_a_version_twice_are_refused(page):
    browser, token = page
    form = {"deed": "add_prompt", "name": "two", "user": "x", "token": token}
    assert {browser.post("do", data=form).status_code for _ in "12"} == {303}
    split = {"deed": "split", "name": "two", "token": token}
    for shares in ("1=0.5 01=0.5 2=0.5", "1=0.5 1=0.5 2=0.5", "1=2 2=-1"):
        assert browser.post("do", data=split | {"shares": shares}).status_code == 422
    assert browser.post("do", data=split | {"shares": "1=0.5 2=0.5"}).status_code == 303


def test_a_session_that_was_ended_does_not_open_the_page_again(running, page):
    browser, token = page
    cookie = dict(browser.cookies)
    assert browser.post("logout", data={"token": token}).status_code == 303
    other = Gateway(running._store, environ={})
    asyncio.run(other.refresh())
    for gateway in (running.gateway, other):
        assert Sessions.number(next(iter(cookie.values())))[0] in gateway.logouts
    got = httpx.get(f"{running.url}/admin/", cookies=cookie)
    assert "Log in" in got.text and "id=keys" not in got.text
    got = httpx.post(f"{running.url}/admin/do", data={"deed": "make_key", "token": token},
                     cookies=cookie)  # fmt: skip
    assert got.status_code == 401


@pytest.mark.parametrize(("host", "secure"), [("gateway.example", True), ("localhost", False)])
def test_a_cookie_crosses_a_network_only_over_https(running, host, secure):
    """Whatever scheme a proxy in front of the gateway tells of."""
    key = running.headers("acme", "admin")["authorization"].split()[1]
    got = httpx.post(f"{running.url}/admin/login", data={"key": key}, headers={"host": host})
    assert ("secure" in got.headers["set-cookie"].lower()) == secure


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("prompts/empty", {"system": " ", "note": "nothing"}),
        ("prompts/shared/split", {"shares": {"1": 0.5, "01": 0.5}}),
        ("prompts/shared/split", {"shares": {"0": 1.0}}),
    ],
)
def test_what_a_prompt_cannot_be_is_refused(ask, path, body):
    ask("POST", "/admin/prompts/shared", {"user": "Hello"})
    method = "PUT" if "split" in path else "POST"
    assert ask(method, f"/admin/{path}", body).status_code == 422


@pytest.mark.parametrize("change", ["empty", "none of ours", "ours is off", "twice", "no port"])
def test_a_configuration_that_would_shut_everybody_out_does_not_hold(running, ask, change):
    raw, own = json.dumps(running.document), running.document["tenants"]
    others = [one for one in own if one["name"] != "acme"]
    sent = {
        "empty": json.dumps({"providers": [], "models": [], "tenants": []}),
        "none of ours": json.dumps(running.document | {"tenants": others}),
        "ours is off": json.dumps(
            running.document | {"tenants": [own[0] | {"active": False}, *others]}
        ),
        "twice": raw[:-1] + ', "tenants": []}',
        "no port": raw.replace(running.document["providers"][0]["url"], "http://127.0.0.1:99999"),
    }[change]
    headers = running.headers("acme", "platform") | {"content-type": "application/json"}
    got = running.http.put(f"{running.url}/admin/config", content=sent, headers=headers)
    assert (got.status_code, got.json()["error"]["code"]) == (422, "wrong_configuration")
    assert running.post("acme", HI).status_code == 200
    got = running.http.put(f"{running.url}/admin/config", content=raw, headers=headers)
    assert got.status_code == 200


def test_what_another_tenant_has_is_not_there(running, ask):
    made = ask("POST", "/admin/keys").json()
    for deed in ("revoke", "rotate"):
        got = ask("POST", f"/admin/keys/{made['key']}/{deed}", tenant="globex")
        assert got.status_code == 404
    assert running.post("acme", HI, key=made["secret"]).status_code == 200
    ask("POST", "/admin/prompts/ours", {"user": "word-of-acme"})
    got = ask("GET", "/admin/prompts/ours", tenant="globex")
    assert got.status_code == 404 and "word-of-acme" not in got.text
    assert all(one["tenant"] == "globex" for one in
               ask("GET", "/admin/keys?tenant=acme", tenant="globex").json()["keys"])  # fmt: skip
    got = ask("GET", "/admin/keys?tenant=acme", tenant="globex", role="platform").json()
    assert {one["tenant"] for one in got["keys"]} == {"acme"}


def test_a_prompt_is_written_tested_and_split(ask):
    for text in ("Hello {{name}}", "Dear {{name}}"):
        assert ask("POST", "/admin/prompts/hello", {"user": text}, role="developer").is_success
    got = ask("POST", "/admin/prompts/hello/test", {"variables": {"name": "Ada"}}).json()
    assert got == {"version": 2, "messages": [["user", "Dear Ada"]]}
    got = ask("POST", "/admin/prompts/hello/test", {"variables": {}})
    assert got.status_code == 422 and "needs name" in got.text
    assert ask("PUT", "/admin/prompts/hello/split", {"shares": {"1": 0.5, "2": 0.5}}).is_success
    assert ask("PUT", "/admin/prompts/hello/split", {"shares": {"7": 1.0}}).status_code == 422
    assert ask("GET", "/admin/prompts/hello").json()["shares"] == {"1": 0.5, "2": 0.5}
    assert ask("GET", "/admin/prompts").json()["prompts"]["hello"] == 2
    assert ask("POST", "/admin/prompts/a%00b", {"user": "x"}).status_code == 422


def test_the_invoice_is_the_sum_of_the_bills(running, ask):
    bills = [running.post("globex", HI) for _ in range(3)]
    cost = sum(running.bill(got.json()["id"])["cost"] for got in bills)
    made = ask("GET", "/admin/invoice", tenant="globex").json()
    assert made["total"] == made["settled"] == cost > 0 and made["reserved"] == 0
    bill = ask("GET", "/admin/bills", tenant="globex").json()["months"][0]
    assert bill["cost"] == cost and not bill["final"], "the month goes on"
    assert made["models"][0]["requests"] == 3 and float(made["dollars"]) == cost / 10**9
    assert ask("GET", "/admin/usage?month=1999-01", tenant="globex").json() == {
        "month": "1999-01", "settled": 0, "reserved": 0, "budget": 0, "final": True, "models": []
    }  # fmt: skip


def test_a_tenant_sets_its_guard_and_not_its_budget(running, ask):
    assert ask("PUT", "/admin/settings", {"guard": {"pii_in": "reject"}}, "globex").is_success
    mail = {"messages": [{"role": "user", "content": "I am jane@example.com"}]}
    got = running.post("globex", mail)
    assert (got.status_code, got.json()["error"]["code"]) == (400, "personal_data")
    assert running.post("acme", mail).status_code == 200
    assert ask("PUT", "/admin/settings", {"budget": 9}, "globex").status_code == 422
    got = ask("PUT", "/admin/settings", {"fallbacks": {"small": ["large"]}}, "globex")
    assert got.status_code == 422 and "may not ask" in got.text
    got = ask("PUT", "/admin/config", {"providers": []}, role="platform")
    assert got.status_code == 422 and running.post("acme", HI).status_code == 200
