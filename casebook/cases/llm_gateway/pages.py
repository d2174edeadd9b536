"""The admin page: keys, prompts, usage, bills and alerts of one tenant, rendered by the gateway.

Whoever logs in with a key of a developer or an admin sees what the admin API gives that key, and
nothing else: the page calls the same code. It has no script; sessions and forms are those of
:mod:`casebook.serving.sessions`. A session ends with its key, and with a logout in every gateway
of the store. Several gateways behind one address share sessions if ``CASEBOOK_SESSION_SECRET`` is
set. The cookie goes over HTTPS alone, unless the page is asked by a name of this machine.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from fastapi import FastAPI, Request, Response

from casebook.cases.llm_gateway.admin import Admin, Asked, allowed, changed
from casebook.cases.llm_gateway.gateway import Gateway
from casebook.cases.llm_gateway.store import StoreDown
from casebook.serving.api_keys import hashed, log_out
from casebook.serving.refusals import Refusal
from casebook.serving.sessions import HEADERS, Safe, Sessions, form_of, html, page, rows
from casebook.serving.strict import Problem

#: Hosts that no network is between.
LOOPBACK = ("127.0.0.1", "localhost", "::1")
STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1b1b1b; background: #fff; margin: 0 }
main { max-width: 60rem; margin: 0 auto; padding: 1rem }
table { border-collapse: collapse; width: 100% }
th, td { text-align: left; padding: .3rem .6rem; border-bottom: 1px solid #ccc }
td.n, th.n { text-align: right }
form { margin: .3rem 0 } td form { display: inline }
label { display: block } input, textarea, select, button { font: inherit; padding: .2rem .4rem }
textarea { width: 100%; box-sizing: border-box }
.error { border-left: .4rem solid #a00; padding: .4rem .8rem }
.note { border-left: .4rem solid #06c; padding: .4rem .8rem; overflow-wrap: anywhere }
"""
LOGIN = Safe(
    '<h1>Gateway</h1><form method="post" action="login"><label>Key of a developer or an admin '
    '<input name="key" type="password" autocomplete="off" required></label>'
    "<button>Log in</button></form>"
)
KEYS = (
    "<h2>Keys</h2><table id=keys><tr><th>Key<th>Label<th>Role<th>Made<th>Ends<td>{items}</table>"
    "<form method=post action=do>{token}<label>Label <input name=label maxlength=60></label>"
    "<label>Role <select name=role><option>caller<option>developer<option>admin</select></label>"
    "<button name=deed value=make_key>Make a key</button></form>"
)
BUTTON = (
    '<form method=post action=do>{token}<input type=hidden name=key value="{key}">'
    "<button name=deed value={deed}>{deed}</button></form>"
)
NOT_LOGGED_IN = Refusal(401, "no session", "You are not logged in.", "Log in with a key.")


def _lines(text: str) -> dict[str, str]:
    """Return the pairs of lines such as ``name = Ada``."""
    pairs = (line.partition("=") for line in text.splitlines() if line.strip())
    return {name.strip(): value.strip() for name, _, value in pairs}


def _shares(text: str) -> dict[str, float]:
    """Return the shares of a text such as ``1=0.9 2=0.1``."""
    try:
        pairs = [pair.split("=") for pair in text.split()]
        shares = {version: float(share) for version, share in pairs}
        if len(shares) < len(pairs):
            raise ValueError("a version stands twice")
        return shares
    except ValueError:
        do = "Write them as 1=0.9 2=0.1, or nothing for the newest version."
        raise Refusal(422, "wrong shares", "The shares cannot be read.", do) from None


Fields = Mapping[str, str]
#: What a form asks for: the role that it needs, and the body for the admin API.
DEEDS: dict[str, tuple[str, Callable[[Fields], Any]]] = {
    "make_key": ("admin", lambda form: {"role": form["role"], "label": form["label"]}),
    "revoke": ("admin", lambda form: {}),
    "rotate": ("admin", lambda form: {}),
    "add_prompt": ("developer", lambda form: {k: form[k] for k in ("system", "user", "note")}),
    "test": ("developer", lambda form: {"variables": _lines(form["variables"])}),
    "split": ("developer", lambda form: {"shares": _shares(form["shares"])}),
}


class Pages:
    """The pages of one gateway.

    Parameters
    ----------
    gateway : Gateway
    admin : Admin
    ready : callable
        Waits until keys are known.
    """

    def __init__(
        self, gateway: Gateway, admin: Admin, ready: Callable[[], Awaitable[None]]
    ) -> None:
        self.gateway, self.admin, self.ready = gateway, admin, ready
        secret = os.environ.get("CASEBOOK_SESSION_SECRET", "").encode()
        self.sessions = Sessions(secret or None, name="gateway_session", clock=gateway.clock)

    def _cookie(self, request: Request) -> str:
        return request.cookies.get(self.sessions.name, "")

    def _session(self, cookie: str) -> str | None:
        """Return who logged in and not out again."""
        who = self.sessions.who(cookie)
        return who if who and self.sessions.number(cookie)[0] not in self.gateway.logouts else None

    def _who(self, digest: str | None) -> Asked:
        """Return an empty request of who holds a key that may see the page."""
        key = self.gateway.holds(digest) if digest else None
        tenant = self.gateway.config.tenant.get(key.tenant) if key else None
        if key is None or tenant is None or not tenant.active:
            raise NOT_LOGGED_IN
        allowed("developer", key)
        return Asked(tenant, key, {}, {}, b"{}")

    async def login(self, request: Request) -> Response:
        """Begin a session for a key."""
        digest = hashed((await form_of(request)).get("key", "").strip())
        try:
            asked = self._who(digest)
            address = request.client.host if request.client else ""
            self.gateway.uses.note(digest, asked.key, address, self.gateway.clock())
        except Problem as problem:
            return self._login(problem)
        return self._back(request, self.sessions.begin(digest))

    async def logout(self, request: Request) -> Response:
        """End a session, wherever its cookie is."""
        await self._form(request)
        ended, clock = self.sessions.number(self._cookie(request)), self.gateway.clock
        await self.gateway.store.do(log_out, *ended, clock())
        await self.gateway.refresh()
        return self._back(request, "")

    def _back(self, request: Request, cookie: str | None = None) -> Response:
        response = Response(status_code=303, headers=HEADERS | {"Location": "./"})
        if cookie is not None:
            self.sessions.put(response, cookie, request.url.hostname not in LOOPBACK)
        return response

    def _login(self, problem: Problem | None = None) -> Response:
        return page("Gateway", _error(problem) + LOGIN, problem.status if problem else 200)

    async def _form(self, request: Request) -> tuple[Asked, Fields]:
        """Return who sent a form, and its fields; refuse one that is not of this session."""
        form, cookie = await form_of(request), self._cookie(request)
        asked = self._who(self._session(cookie))
        if not self.sessions.fits(cookie, form.get("token", "")):
            what = "The form does not belong to your session."
            raise Refusal(403, "wrong token", what, "Load the page and send it again.")
        return asked, form

    async def home(self, request: Request) -> Response:
        """Show everything."""
        cookie = self._cookie(request)
        if (who := self._session(cookie)) is None:
            return self._login()
        return await self._shown(self._who(who), cookie)

    async def act(self, request: Request) -> Response:
        """Do what a form asks for."""
        asked, form = await self._form(request)
        cookie, deed = self._cookie(request), form.get("deed", "")
        try:
            if deed not in DEEDS:
                raise Refusal(404, "unknown deed", "There is no such form.", "Load the page.")
            role, body = DEEDS[deed]
            allowed(role, asked.key)
            raw = json.dumps(body({"role": "caller", **_EMPTY, **form})).encode()
            asked = asked._replace(raw=raw, path={"key": "", "name": "", **form})
            done = await getattr(self.admin, deed)(asked)
            await changed(self.gateway, deed, asked)
        except Problem as problem:
            return await self._shown(asked, cookie, _error(problem), problem.status)
        if "secret" in done:
            note = html(
                '<p class="note" id="secret">Copy it now, it is not shown again:'
                " <code>{secret}</code></p>",
                **done,
            )
            return await self._shown(asked, cookie, note)
        if deed == "test":
            told = rows("<dt>{role}</dt><dd>{text}</dd>", _said(done["messages"]))
            note = html(
                '<dl class="note" id="tested">Version {v}{told}</dl>', v=done["version"], told=told
            )
            return await self._shown(asked, cookie, note)
        return self._back(request)

    async def _shown(
        self, asked: Asked, cookie: str, note: str = "", status: int = 200
    ) -> Response:
        """Return the whole page as a role may see it."""
        token = html(
            '<input type="hidden" name="token" value="{t}">', t=self.sessions.token(cookie)
        )
        head = html(
            "<h1>{tenant}</h1><form method=post action=logout>{token}You are {role}. "
            "<button>Log out</button></form>",
            tenant=asked.tenant.name,
            token=token,
            role=asked.key.role,
        )
        parts = [head, Safe(note), await self._usage(asked), await self._alerts(asked)]
        if asked.key.role != "developer":
            parts += [await self._bills(asked), await self._keys(asked, token)]
        parts.append(await self._prompts(asked, token))
        return page(f"Gateway: {asked.tenant.name}", "".join(parts), status)

    async def _usage(self, asked: Asked) -> Safe:
        used = await self.admin.usage(asked)
        line = "<tr><td>{model}<td class=n>{requests}<td class=n>{tokens}<td class=n>{dollars}"
        items = [
            one | {"dollars": _dollars(one["cost"]), "tokens": one["tokens_in"] + one["tokens_out"]}
            for one in used["models"]
        ]
        budget = f" of {_dollars(used['budget'])}" if used["budget"] else ""
        return html(
            "<h2>Usage in {month}</h2><p>{spent}{budget} spent, {reserved} reserved.</p><table>"
            "<tr><th>Model<th class=n>Requests<th class=n>Tokens<th class=n>Cost{items}</table>",
            month=used["month"],
            spent=_dollars(used["settled"]),
            budget=budget,
            reserved=_dollars(used["reserved"]),
            items=rows(line, items),
        )

    async def _alerts(self, asked: Asked) -> Safe:
        found = await self.admin.alerts(asked)
        told = [one | {"at": _day(one["at"])} for one in found["alerts"]]
        saving = [one | {"saving": _dollars(one["saving"])} for one in found["advice"]]
        if not told and not saving:
            return Safe("<h2>Alerts</h2><p>None.</p>")
        return html(
            "<h2>Alerts</h2><ul id=alerts>{told}{saving}</ul>",
            told=rows("<li>{at} {kind}: {what} {do}", told),
            saving=rows(
                "<li>With {cheaper} in place of {model}, {saving} less this month. Compare both on"
                " your own requests first.",
                saving,
            ),
        )

    async def _bills(self, asked: Asked) -> Safe:
        months = (await self.admin.bills(asked))["months"]
        final = {True: "final", False: "so far"}
        items = [
            one | {"cost": _dollars(one["cost"]), "final": final[one["final"]]} for one in months
        ]
        return html(
            "<h2>Bills</h2><table><tr><th>Month<th class=n>Cost<th>State{items}</table>",
            items=rows("<tr><td>{month}<td class=n>{cost}<td>{final}", items),
        )

    async def _keys(self, asked: Asked, token: Safe) -> Safe:
        found = (await self.admin.keys(asked))["keys"]
        items = []
        for one in found:
            shown = _ENDS if one["holds"] and asked.key.may(one["role"]) else ()
            deeds = [{"token": token, "key": one["key"], "deed": deed} for deed in shown]
            when = {"created": _day(one["created"]), "ends": _day(one["ends"])}
            items.append(one | when | {"buttons": rows(BUTTON, deeds)})
        line = "<tr><td>{key}<td>{label}<td>{role}<td>{created}<td>{ends}<td>{buttons}"
        return html(KEYS, items=rows(line, items), token=token)

    async def _prompts(self, asked: Asked, token: Safe) -> Safe:
        names = (await self.admin.prompts(asked))["prompts"]
        items = []
        for name, version in names.items():
            found = await self.admin.prompt(asked._replace(path={"name": name}))
            shares = " ".join(f"{v}={share}" for v, share in found["shares"].items())
            texts = found["versions"][version]
            items.append({**texts, "name": name, "version": version, "shares": shares})
        form = "<form method=post action=do>{token}"
        fields = (
            "<label>System <textarea name=system>{system}</textarea></label>"
            "<label>User <textarea name=user>{user}</textarea></label>"
            '<label>Note <input name=note maxlength=500 value="{note}"></label>'
        )
        named = form + '<input type=hidden name=name value="{name}">'
        one = (
            "<details><summary>{name}, version {version}</summary>"
            + named
            + fields
            + "<button name=deed value=add_prompt>Add a version</button></form>"
            + named
            + "<label>Variables, one a line (name = value)"
            " <textarea name=variables></textarea></label>"
            "<button name=deed value=test>Test</button></form>"
            + named
            + '<label>Shares of versions (1=0.9 2=0.1) <input name=shares value="{shares}"></label>'
            "<button name=deed value=split>Split</button></form></details>"
        )
        new = form + "<label>Name <input name=name maxlength=64 required></label>" + fields
        return html(
            "<h2>Prompts</h2>{items}<h3>New prompt</h3>{new}"
            "<button name=deed value=add_prompt>Create</button></form>",
            items=rows(one, [item | {"token": token} for item in items]),
            new=html(new, token=token, system="", user="", note=""),
        )


_ENDS = ("rotate", "revoke")
_EMPTY = dict.fromkeys(("label", "system", "user", "note", "variables", "shares"), "")


def _said(messages: list[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"role": role, "text": text} for role, text in messages]


def _dollars(nano: int) -> str:
    return f"${nano / 10**9:,.4f}"


def _day(at: float | None) -> str:
    return "" if at is None else time.strftime("%Y-%m-%d %H:%M", time.gmtime(at))


def _error(problem: Problem | None) -> Safe:
    if problem is None:
        return Safe("")
    return html('<p class="error" role="alert">{what} {do}</p>', **problem.body)


def add_pages(
    app: FastAPI, gateway: Gateway, admin: Admin, ready: Callable[[], Awaitable[None]]
) -> None:
    """Answer the routes of the admin page."""
    pages = Pages(gateway, admin, ready)

    def handler(call: Callable[[Request], Awaitable[Response]]) -> Callable:
        async def handle(request: Request) -> Response:
            try:
                await ready()
                return await call(request)
            except StoreDown:
                what = "The store does not answer."
                down = Refusal(503, "store down", what, "Load the page again later.")
                return page("Gateway", _error(down), 503)
            except Problem as problem:
                shown = LOGIN if problem.status == 401 else Safe("")
                return page("Gateway", _error(problem) + shown, problem.status)

        return handle

    async def style(_: Request) -> Response:
        return Response(STYLE, headers=HEADERS, media_type="text/css")

    app.add_route("/admin/", handler(pages.home), methods=["GET"])
    app.add_route("/admin/style.css", style, methods=["GET"])
    for path, call in (("login", pages.login), ("logout", pages.logout), ("do", pages.act)):
        app.add_route(f"/admin/{path}", handler(call), methods=["POST"])
