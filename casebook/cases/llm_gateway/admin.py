"""What tenants do for themselves: keys, prompts, settings, usage and bills, each by role.

A *caller* only asks models. A *developer* writes and tests prompts and reads usage; an *admin*
manages keys and settings and reads bills; both see their own tenant and nothing else, and what
another tenant has is 404 for them. The *platform* names a tenant with ``?tenant=`` and replaces the
configuration. A key is shown once, when it is made. Each change is a line in the log.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, ClassVar, NamedTuple

from fastapi import FastAPI, Request, Response
from pydantic import Field

from casebook.cases.llm_gateway import alerts as watch
from casebook.cases.llm_gateway import prompts, store
from casebook.cases.llm_gateway.config import ConfigError, Guard, Tenant
from casebook.cases.llm_gateway.config import read as read_config
from casebook.cases.llm_gateway.gateway import LOG, Gateway
from casebook.cases.llm_gateway.meter import invoice, month_of, months, spent
from casebook.cases.llm_gateway.requests import Problem, Refusal, parse
from casebook.cases.llm_gateway.store import Key
from casebook.serving.strict import Strict
from casebook.serving.strict_app import read

#: Bytes of a body, seconds until it is there, and seconds that a key lives beside its successor.
LARGEST, PATIENCE, GRACE = 1_000_000, 10.0, 86_400.0
#: Who may do what a role may.
ABOVE = {"developer": ("developer", "admin", "platform"), "admin": ("admin", "platform")}
ABOVE["platform"] = ("platform",)


class Asked(NamedTuple):
    """A request of the admin API: whose, by whom, what."""

    tenant: Tenant
    key: Key
    path: Mapping[str, str]
    query: Mapping[str, str]
    raw: bytes


Call = Callable[[Asked], Awaitable[Any]]
Who = Callable[[Request], Awaitable[tuple[Tenant, Key]]]


class NewKey(Strict):
    """A key to be made."""

    role: str = Field(default="caller", description="caller, developer or admin")
    label: str = Field(default="", max_length=60, pattern=prompts.TEXT, description="a short text")


class Sample(Strict):
    """Values to test a prompt with."""

    remedy: ClassVar[str] = "Send variables."
    variables: dict[str, str] = Field(default={}, description="an object of texts")
    version: int | None = Field(default=None, ge=1, description="a number of a version")


class Shares(Strict):
    """Which versions get which share of the traffic."""

    shares: dict[int, float] = Field(description="an object: version to share, which sum to one")


class NewPrompt(prompts.Prompt, Strict):
    """A version to be added."""


class Settings(Strict):
    """What a tenant may set itself; budget, limits and models are the platform's."""

    guard: Guard | None = Field(default=None, description="an object of rules")
    cache_s: int | None = Field(default=None, ge=0, le=86_400, description="seconds, to 86400")
    fallbacks: dict[str, tuple[str, ...]] | None = Field(
        default=None, description="an object: model to a list of models"
    )


class Admin:
    """The calls of the admin API, without HTTP."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway, self.do, self.clock = gateway, gateway.store.do, gateway.clock

    def routes(self) -> list[tuple[str, str, str, Call]]:
        """Return method, path, role and call of each route."""
        return [
            ("GET", "/admin/keys", "admin", self.keys),
            ("POST", "/admin/keys", "admin", self.make_key),
            ("POST", "/admin/keys/{key}/revoke", "admin", self.revoke),
            ("POST", "/admin/keys/{key}/rotate", "admin", self.rotate),
            ("GET", "/admin/prompts", "developer", self.prompts),
            ("GET", "/admin/prompts/{name}", "developer", self.prompt),
            ("POST", "/admin/prompts/{name}", "developer", self.add_prompt),
            ("PUT", "/admin/prompts/{name}/split", "developer", self.split),
            ("POST", "/admin/prompts/{name}/test", "developer", self.test),
            ("GET", "/admin/usage", "developer", self.usage),
            ("GET", "/admin/alerts", "developer", self.alerts),
            ("GET", "/admin/invoice", "admin", self.invoice),
            ("GET", "/admin/bills", "admin", self.bills),
            ("PUT", "/admin/settings", "admin", self.settings),
            ("PUT", "/admin/config", "platform", self.configure),
        ]

    async def keys(self, asked: Asked) -> Any:
        """Return a tenant's keys by the beginning of their hash."""
        own = {
            h: k for h, k in (await self.do(store.keys)).items() if k.tenant == asked.tenant.name
        }
        return {"keys": [{"key": h[:12], **k._asdict()} for h, k in own.items()]}

    async def make_key(self, asked: Asked) -> Any:
        """Make a key; nobody makes one of a role above the own one."""
        wanted = parse(asked.raw, NewKey)
        if asked.key.role not in ABOVE.get(wanted.role, store.ROLES):
            what = f"A key of role {asked.key.role} makes none of role {wanted.role}."
            raise Refusal(403, "role too low", what, "Ask somebody with that role.")
        return await self._new(asked, wanted.role, wanted.label)

    async def _new(self, asked: Asked, role: str, label: str) -> Any:
        now = self.clock()
        try:
            key = await self.do(store.add_key, asked.tenant.name, role, label, now)
        except ValueError as error:
            raise Refusal(422, "unknown role", str(error), "Send another role.") from None
        return {"secret": key, "key": store.hashed(key)[:12], "role": role}

    async def _end(self, asked: Asked, when: float) -> Key:
        """Let a key of the tenant end that the asker may make; return it."""
        own, begins = asked.key.role, asked.path["key"]
        roles = [one for one in store.ROLES if own in ABOVE.get(one, store.ROLES)]
        try:
            return await self.do(store.end_key, asked.tenant.name, begins, when, roles)
        except KeyError:
            what = "There is no such key that holds."
            raise Refusal(404, "unknown key", what, "List the keys.") from None
        except PermissionError as error:
            what = f"A key of role {own} ends none of role {error}."
            raise Refusal(403, "role too low", what, "Ask somebody with that role.") from None

    async def revoke(self, asked: Asked) -> Any:
        """End a key at once."""
        await self._end(asked, 0.0)
        return {"revoked": asked.path["key"]}

    async def rotate(self, asked: Asked) -> Any:
        """Make a key's successor; the old one holds for another day."""
        old = await self._end(asked, self.clock() + GRACE)
        return await self._new(asked, old.role, old.label)

    async def prompts(self, asked: Asked) -> Any:
        """Return the names of a tenant's prompts, with their newest version."""
        return {"prompts": await self.do(prompts.names, asked.tenant.name)}

    async def _fetched(self, asked: Asked) -> Any:
        return await self.do(prompts.fetch, asked.tenant.name, asked.path["name"])

    async def prompt(self, asked: Asked) -> Any:
        """Return a prompt's versions and the shares of its traffic."""
        found, name = await self._fetched(asked), asked.path["name"]
        prompts.chosen(found, name, None, "")
        versions = {number: one.model_dump() for number, one in found[0].items()}
        return {"name": name, "versions": versions, "shares": found[1]}

    async def add_prompt(self, asked: Asked) -> Any:
        """Add a version."""
        made = prompts.Prompt(**parse(asked.raw, NewPrompt).model_dump())
        tenant, name = asked.tenant.name, asked.path["name"]
        if not 1 <= len(name) <= 64 or not name.isprintable() or "/" in name:
            what = f"The name has {len(name)} letters, a slash, or signs that cannot be printed."
            raise Refusal(422, "wrong name", what, "Send one of 1 to 64 letters.")
        return {"version": await self.do(prompts.add, tenant, name, made, self.clock())}

    async def split(self, asked: Asked) -> Any:
        """Share a prompt's traffic between versions."""
        shares = parse(asked.raw, Shares).shares
        try:
            await self.do(prompts.split, asked.tenant.name, asked.path["name"], shares)
        except ValueError as error:
            raise Refusal(422, "wrong shares", str(error), "The old shares hold.") from None
        return {"shares": shares}

    async def test(self, asked: Asked) -> Any:
        """Return what a prompt says with given values; no model is asked."""
        sample, name = parse(asked.raw, Sample), asked.path["name"]
        version, prompt = prompts.chosen(await self._fetched(asked), name, sample.version, "test")
        return {"version": version, "messages": prompts.render(prompt, sample.variables)}

    async def usage(self, asked: Asked) -> Any:
        """Return what a month has cost so far, and each model's share of it."""
        month = asked.query.get("month", month_of(self.clock()))[:7]
        lines = await self.do(invoice, asked.tenant.name, month)
        now = await self.do(spent, asked.tenant.name, month)
        sums = {"settled": now.settled, "reserved": now.reserved, "budget": asked.tenant.budget}
        return {"month": month, **sums, "models": [line._asdict() for line in lines]}

    async def alerts(self, asked: Asked) -> Any:
        """Return what the tenant should hear of, and where it might save."""
        name, month = asked.tenant.name, month_of(self.clock())
        found = await self.do(watch.alerts, name)
        lines = await self.do(invoice, name, month)
        saving = watch.advice(self.gateway.config, name, lines)
        told = {"alerts": [one._asdict() for one in found]}
        return told | {"advice": [one._asdict() for one in saving]}

    async def bills(self, asked: Asked) -> Any:
        """Return what each month has cost."""
        found = await self.do(months, asked.tenant.name)
        return {"months": [{"month": month, "cost": cost} for month, cost in found]}

    async def invoice(self, asked: Asked) -> Any:
        """Return a month's bill in nano-dollars and in dollars."""
        used = await self.usage(asked)
        total = sum(line["cost"] for line in used["models"])
        return used | {"total": total, "dollars": f"{total / 10**9:.9f}"}

    async def settings(self, asked: Asked) -> Any:
        """Change what a tenant may set itself."""
        given = parse(asked.raw, Settings).model_dump(mode="json", exclude_none=True)

        def change(db: store.Database) -> int:  # in one transaction: two changes at once both hold
            raw = store.get_config(db).model_dump(mode="json")
            for one in raw["tenants"]:
                one.update(given if one["name"] == asked.tenant.name else {})
            return store.put_config(db, read_config(raw))

        return await self._put(change)

    async def configure(self, asked: Asked) -> Any:
        """Replace the configuration."""
        raw = asked.raw.decode("utf-8", "replace")

        def change(db: store.Database) -> int:
            config, own = read_config(raw), store.keys(db)
            roles = {key.tenant for key in own.values() if key.role == "platform"}
            if not any(one.active for one in config.tenants if one.name in roles):
                fault = "nobody could change this configuration. Keep the platform's tenant active."
                raise ConfigError(fault)
            return store.put_config(db, config)

        return await self._put(change)

    async def _put(self, change: Callable[[store.Database], int]) -> Any:
        try:
            return {"revision": await self.do(change)}
        except ConfigError as error:
            raise Refusal(422, "wrong configuration", str(error), "The old one holds.") from None


def allowed(role: str, key: Key) -> None:
    """Refuse what a key's role may not do."""
    if key.role not in ABOVE[role]:
        what = f"A key of role {key.role} may not do this."
        raise Refusal(403, "role too low", what, f"Use a key of role {role}.")


async def changed(gateway: Gateway, deed: str, asked: Asked) -> None:
    """Let a change hold here at once, and write it into the log."""
    await gateway.refresh()
    line = {"admin": deed, "tenant": asked.tenant.name, "role": asked.key.role}
    LOG.info(json.dumps(line | {"label": asked.key.label}))


def _whose(gateway: Gateway, own: Tenant, key: Key, query: Mapping[str, str]) -> Tenant:
    """Return the tenant that a request is about: the own one, or whom the platform names."""
    if "tenant" not in query or key.role != "platform":
        return own
    if (tenant := gateway.config.tenant.get(query["tenant"])) is None:
        raise Refusal(404, "unknown tenant", "There is no such tenant.", "Correct its name.")
    return tenant


def add_admin(app: FastAPI, gateway: Gateway, who: Who, refused: Callable) -> Admin:
    """Answer the admin API's routes; return its calls.

    Parameters
    ----------
    app : FastAPI
    gateway : Gateway
    who : callable
        Returns tenant and key of a request.
    refused : callable
        Turns a :class:`Problem` into a response.
    """
    admin = Admin(gateway)

    def handler(role: str, call: Call) -> Callable:
        async def handle(request: Request) -> Response:
            try:
                tenant, key = await who(request)
                allowed(role, key)
                query = dict(request.query_params)
                tenant = _whose(gateway, tenant, key, query)
                change = request.method != "GET"
                raw = await read(request, LARGEST, PATIENCE) if change else b""
                asked = Asked(tenant, key, request.path_params, query, raw or b"{}")
                body = await call(asked)
                if change:
                    await changed(gateway, call.__name__, asked)
            except store.StoreDown:
                what = "The store does not answer."
                return refused(Refusal(503, "store down", what, "Send it again later.", 2.0))
            except Problem as problem:
                return refused(problem)
            return Response(json.dumps(body), media_type="application/json")

        return handle

    for method, path, role, call in admin.routes():
        app.add_route(path, handler(role, call), methods=[method])
    return admin
