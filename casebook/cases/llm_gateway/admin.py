"""What tenants do for themselves: keys, prompts, settings, usage and bills, each by role.

A *caller* only asks models. A *developer* writes and tests prompts and reads usage; an *admin*
manages keys and settings and reads bills; both see their own tenant and nothing else, and what
another tenant has is 404 for them. The *platform* names a tenant with ``?tenant=`` and replaces the
configuration. A key is shown once, when it is made. Each change is a line in the log.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Any, ClassVar, NamedTuple

from fastapi import FastAPI, Request, Response
from pydantic import Field

from casebook.cases.llm_gateway import alerts as watch
from casebook.cases.llm_gateway import store
from casebook.cases.llm_gateway.config import ConfigError, Guard, Tenant
from casebook.cases.llm_gateway.config import read as read_config
from casebook.cases.llm_gateway.gateway import LOG, Gateway
from casebook.cases.llm_gateway.meter import final, invoice, month_of, months, spent
from casebook.serving import api_keys, prompts
from casebook.serving.api_keys import Key
from casebook.serving.refusals import Refusal
from casebook.serving.strict import Problem, Strict, parse
from casebook.serving.strict_app import read

#: Bytes of a body, seconds until it is there, and seconds that a key lives beside its successor.
LARGEST, PATIENCE, GRACE = 1_000_000, 10.0, 86_400.0


class Asked(NamedTuple):
    """A request of the admin API: whose, by whom, what."""

    tenant: Tenant
    key: Key
    path: Mapping[str, str]
    query: Mapping[str, str]
    raw: bytes


Call = Callable[[Asked], Awaitable[Any]]
Who = Callable[[Request], Awaitable[tuple[Tenant, Key]]]


#: A version as text; one number has one text, so that no version stands twice.
Version = Annotated[str, Field(pattern=r"^[1-9][0-9]{0,8}$")]


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

    shares: dict[Version, float] = Field(
        description="an object: version to share, which sum to one"
    )


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
        own, now = asked.tenant.name, self.clock()
        listed = [
            {"key": hash_[:12], **key._asdict(), "holds": key.holds(now)}
            for hash_, key in (await self.do(api_keys.keys)).items()
            if key.tenant == own
        ]
        return {"keys": listed}

    async def make_key(self, asked: Asked) -> Any:
        """Make a key; nobody makes one of a role above the own one."""
        wanted = parse(asked.raw, NewKey)
        if wanted.role not in api_keys.ROLES:
            what = f"There is no role {wanted.role[:40]!r}."
            raise Refusal(422, "unknown role", what, f"Give one of {', '.join(api_keys.ROLES)}.")
        if not asked.key.may(wanted.role):
            what = f"A key of role {asked.key.role} makes none of role {wanted.role}."
            raise Refusal(403, "role too low", what, "Ask somebody with that role.")
        tenant, now = asked.tenant.name, self.clock()
        key = await self.do(api_keys.add_key, tenant, wanted.role, wanted.label, now)
        return {"secret": key, "key": api_keys.hashed(key)[:12], "role": wanted.role}

    async def _ended(self, end: Callable, asked: Asked, *more: float) -> Any:
        """End a key of the tenant in one operation, which undoes everything if it raises."""
        given = (asked.key, asked.tenant.name, asked.path["key"], self.clock(), *more)
        try:
            return await self.do(end, *given)
        except PermissionError as error:
            what = "Ask somebody with that role."
            raise Refusal(403, "role too low", str(error), what) from None
        except LookupError as error:
            raise Refusal(404, "unknown key", str(error), "List the keys.") from None

    async def revoke(self, asked: Asked) -> Any:
        """End a key at once."""
        await self._ended(api_keys.revoke_key, asked)
        return {"revoked": asked.path["key"]}

    async def rotate(self, asked: Asked) -> Any:
        """Make a key's successor; the old one holds for another day."""
        key, role = await self._ended(api_keys.rotate_key, asked, GRACE)
        return {"secret": key, "key": api_keys.hashed(key)[:12], "role": role}

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
        if not prompts.NAME.fullmatch(name):
            what = f"{name[:64]!r} cannot be a prompt's name."
            do = "Send 1 to 63 of A-Z, a-z, 0-9 and . _ : -, a letter or digit first."
            raise Refusal(422, "wrong name", what, do)
        if not (made.system + made.user).strip():
            what = "The prompt says nothing."
            raise Refusal(422, "empty prompt", what, "Give system or user a text.")
        return {"version": await self.do(prompts.add, tenant, name, made, self.clock())}

    async def split(self, asked: Asked) -> Any:
        """Share a prompt's traffic between versions."""
        shares = {int(one): share for one, share in parse(asked.raw, Shares).shares.items()}
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
        sums["final"] = final(month, now.reserved, self.clock())
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
        """Return what each month has cost, and whether that can still change."""
        found, now = await self.do(months, asked.tenant.name), self.clock()
        told = [(month, cost, final(month, open_, now)) for month, cost, open_ in found]
        return {"months": [dict(zip(("month", "cost", "final"), one, strict=True)) for one in told]}

    async def invoice(self, asked: Asked) -> Any:
        """Return a month's bill in nano-dollars and in dollars."""
        used = await self.usage(asked)
        total = sum(line["cost"] for line in used["models"])
        return used | {"total": total, "dollars": f"{total / 10**9:.9f}"}

    async def settings(self, asked: Asked) -> Any:
        """Change what a tenant may set itself."""
        given = parse(asked.raw, Settings).model_dump(mode="json", exclude_none=True)
        return await self._put(lambda db: store.put_settings(db, asked.tenant.name, given))

    async def configure(self, asked: Asked) -> Any:
        """Replace the configuration; one without the asker's tenant would shut the asker out."""

        def change(db: store.Database) -> int:
            config = read_config(asked.raw.decode("utf-8", "replace"))
            own = config.tenant.get(asked.key.tenant)
            if own is None or not own.active:
                raise ConfigError(f"tenant {asked.key.tenant}: it is your own. Keep it, active.")
            return store.put_config(db, config)

        return await self._put(change)

    async def _put(self, change: Callable[[store.Database], int]) -> Any:
        try:
            return {"revision": await self.do(change)}
        except ConfigError as error:
            raise Refusal(422, "wrong configuration", str(error), "The old one holds.") from None


def allowed(role: str, key: Key) -> None:
    """Refuse what a key's role may not do."""
    if not key.may(role):
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
