"""The gateway's admin page in a real browser: what each role does, and what an attacker tries."""

from __future__ import annotations

import time
from contextlib import ExitStack

import httpx
import pytest
from visits import AXE

from casebook.cases.llm_gateway.config import read
from casebook.cases.llm_gateway.gateway import Gateway
from casebook.cases.llm_gateway.meter import Ask, Bill, reserve, settle
from casebook.cases.llm_gateway.server import create_app
from casebook.cases.llm_gateway.store import Store, put_config
from casebook.serving.api_keys import add_key
from casebook.serving.in_thread import serving

SCRIPT = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"
PRICES = {"price_in": 150, "price_out": 600}
DOCUMENT = {
    "providers": [{"name": "p", "url": "http://127.0.0.1:1", "format": "chat"}],
    "models": [{"name": "small", "provider": "p", "upstream": "s", **PRICES}],
    "tenants": [{"name": name, "models": ["small"]} for name in ("acme", "globex")],
}


class Site:
    """A gateway that has billed one request, with a key for each tenant and role."""

    def __init__(self, stack):
        self.store = Store(":memory:")
        stack.callback(self.store.close)
        self.do(put_config, read(DOCUMENT))
        self.keys = {
            (tenant, role): self.do(add_key, tenant, role, f"{role} of {tenant}", 0.0)
            for tenant in ("acme", "globex")
            for role in ("caller", "developer", "admin")
        }
        self.do(reserve, Ask("r1", "acme", "small", 10**10, time.time()), "g")
        self.do(settle, "r1", "g", Bill("small", 1000, 500, 1_234_500_000))
        self.url = stack.enter_context(serving(create_app(Gateway(self.store, environ={}))))

    def do(self, operation, *given):
        return self.store.submit(operation, *given).result()

    def answers(self, key):
        got = httpx.get(f"{self.url}/v1/models", headers={"authorization": f"Bearer {key}"})
        return got.status_code == 200


@pytest.fixture(scope="module")
def site():
    with ExitStack() as stack:
        yield Site(stack)


@pytest.fixture
def login(site, browser):
    """Return a function that logs in by the form, in a window of its own."""
    with ExitStack() as stack:

        def enter(tenant="acme", role="admin", **options):
            context = browser.new_context(**options)
            stack.callback(context.close)
            page = context.new_page()
            page.goto(f"{site.url}/admin/")
            page.fill("[name=key]", site.keys[tenant, role])
            page.click("text=Log in")
            return page

        yield enter


def row(page, label):
    return page.locator("#keys tr", has_text=label)


def test_an_admin_makes_rotates_and_revokes_a_key(site, login):
    page = login()
    assert page.locator("h1").inner_text() == "acme"
    page.fill("[name=label]", "shop")
    page.click("text=Make a key")
    first = page.locator("#secret code").inner_text()
    assert site.answers(first)
    page.goto(f"{site.url}/admin/")
    assert first not in page.content(), "a key is shown once"
    row(page, "shop").locator("text=rotate").click()
    second = page.locator("#secret code").inner_text()
    assert second != first and site.answers(first) and site.answers(second)
    page.goto(f"{site.url}/admin/")
    while (buttons := row(page, "shop").locator("text=revoke")).count():
        buttons.first.click()
    assert not site.answers(second) and not site.answers(first)


def test_a_developer_writes_tests_and_splits_a_prompt_and_sees_no_keys(login):
    page = login(role="developer")
    assert page.locator("#keys").count() == 0 and "Bills" not in page.content()
    new = page.locator("h3 ~ form")
    new.locator("[name=name]").fill("greet")
    new.locator("[name=user]").fill("Hello {{who}}")
    new.locator("text=Create").click()
    page.click("summary")
    page.fill("[name=variables]", "who = Ada & Bob")
    page.click("text=Test")
    assert page.locator("#tested dd").inner_text() == "Hello Ada & Bob"
    page.click("summary")
    page.fill("[name=shares]", "7=1.0")
    page.click("text=Split")
    assert "no version 7" in page.locator("[role=alert]").inner_text()
    page.click("summary")
    page.fill("[name=shares]", "most to the new one")
    page.click("text=Split")
    assert "cannot be read" in page.locator("[role=alert]").inner_text()


def test_usage_and_bills_are_those_of_the_own_tenant(login):
    assert "$1.2345" in login().locator("main").inner_text()
    other = login("globex").locator("main").inner_text()
    assert "$1.2345" not in other and "acme" not in other


def test_who_may_not_see_the_page_does_not_get_in(site, login):
    page = login(role="caller")
    assert "may not do this" in page.locator("[role=alert]").inner_text()
    page.fill("[name=key]", "gw-guess")
    page.click("text=Log in")
    assert page.locator("h1").inner_text() == "Gateway"
    page = login("globex")
    kept = page.context.cookies()
    page.click("text=Log out")
    page.goto(f"{site.url}/admin/")
    assert page.locator("[name=key]").is_visible()
    page.context.add_cookies(kept)
    page.goto(f"{site.url}/admin/")
    assert page.locator("#keys").count() == 0, "a cookie that was copied ends too"


def test_a_script_in_a_label_or_prompt_is_text(site, login):
    page = login()
    page.fill("[name=label]", SCRIPT[:60])
    page.click("text=Make a key")
    new = page.locator("h3 ~ form")
    for name in ("name", "system", "user", "note"):
        new.locator(f"[name={name}]").fill(SCRIPT[:64])
    new.locator("text=Create").click()
    assert "cannot be a prompt's name" in page.locator("[role=alert]").inner_text()
    for name in ("system", "user", "note"):
        new.locator(f"[name={name}]").fill(SCRIPT[:64])
    new.locator("[name=name]").fill("script")
    new.locator("text=Create").click()
    page.goto(f"{site.url}/admin/")
    assert page.title() == "Gateway: acme" and page.locator("main img, main script").count() == 0
    assert SCRIPT[:60] in page.locator("#keys").inner_text()


def test_an_injected_script_would_not_run_either(site, browser):
    """The second line: a page that forgets to escape is still bound by its policy."""
    context = browser.new_context()
    page = context.new_page()

    def planted(route):
        got = route.fetch()
        body = got.text().replace("<h1>Gateway</h1>", f"<h1>Gateway</h1>{SCRIPT}")
        route.fulfill(response=got, body=body)

    page.route("**/admin/", planted)
    page.goto(f"{site.url}/admin/")
    assert page.locator("h1 + img").count() == 1 and page.title() == "Gateway"
    context.close()


def form_of(site, page, token=""):
    """Let a page of another site send a form to the gateway, as its owner's browser would."""
    inner = "".join(
        f'<input name={name} value="{value}">'
        for name, value in {"deed": "make_key", "role": "admin", "token": token}.items()
    )
    page.set_content(f'<form method=post action="{site.url}/admin/do">{inner}<button>win</button>')
    page.click("text=win")
    page.wait_for_url(f"{site.url}/admin/do")
    return page.locator("main").inner_text()


def keys_of(site, tenant):
    def count(db):
        return db.execute("select count(*) from keys where tenant = ?", (tenant,)).fetchone()[0]

    return site.do(count)


def test_another_sites_form_does_nothing(site, login):
    page, before = login(), keys_of(site, "acme")
    token = page.locator("[name=token]").first.get_attribute("value")
    for stolen in ("", token):
        evil = page.context.new_page()
        evil.goto("data:text/html,evil")
        sent = []
        evil.on("request", lambda request, sent=sent: sent.append(request.all_headers()))
        assert "Another site" in form_of(site, evil, stolen)
        assert "cookie" not in sent[0], "SameSite=Strict"
    cookie = cookies_of(page)
    own = {"origin": site.url, "sec-fetch-site": "same-origin"}
    for tenant, sent in (("acme", ""), ("acme", "guess"), ("globex", token)):
        cookies = cookie if tenant == "acme" else cookies_of(login(tenant))
        form = {"deed": "make_key", "role": "admin", "label": "", "token": sent}
        got = httpx.post(f"{site.url}/admin/do", data=form, headers=own, cookies=cookies)
        assert got.status_code == 403 and "does not belong to your session" in got.text
    assert keys_of(site, "acme") == before
    assert not page.evaluate("document.cookie"), "no script reads it"
    assert httpx.get(f"{site.url}/admin/").headers["x-content-type-options"] == "nosniff"


def cookies_of(page):
    return {one["name"]: one["value"] for one in page.context.cookies()}


def test_a_developer_who_forges_the_form_of_an_admin_is_refused(site, login):
    page, before = login(role="developer"), keys_of(site, "acme")
    new = page.locator("h3 ~ form")
    new.locator("[name=name]").fill("x")
    new.locator("button").evaluate("b => { b.value = 'make_key' }")
    new.locator("button").click()
    assert "may not do this" in page.locator("[role=alert]").inner_text()
    assert keys_of(site, "acme") == before


def test_a_session_ends_with_its_key(site, login):
    page = login("globex")
    row(page, "admin of globex").locator("text=revoke").click()
    assert page.locator("[name=key]").is_visible() and page.locator("#keys").count() == 0


def test_the_page_is_accessible(login):
    page = login(bypass_csp=True)
    page.add_script_tag(path=AXE)
    found = page.evaluate("axe.run().then(r => r.violations.map(v => v.id))")
    assert found == []
