"""Who may ask which model, at what price and under which limits: checked before it holds.

A configuration is one JSON document; :func:`read` names every fault in it at once. Providers and
models are those of :mod:`casebook.llm.providers`.

Examples
--------
>>> read({"providers": [], "models": [], "tenants": [{"name": "acme", "models": ["m"]}]})
Traceback (most recent call last):
...
casebook.cases.llm_gateway.config.ConfigError: tenant acme: model m is not listed. Add it to ...
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from ipaddress import ip_address
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, ValidationError

from casebook.llm.providers import Fixed, Model, Name, Provider
from casebook.serving.conversation_guard import Guard
from casebook.serving.rate_limits import Limit
from casebook.strict_json import parse

#: Scheme, host (a name, or an address of version 6 in brackets), port, and path.
ADDRESS = re.compile(r"https?://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:\d{1,5})?(/[\w.~/-]*)?", re.A)


class ConfigError(ValueError):
    """A configuration that cannot hold; the message says what to change, a line for each fault."""


class Tenant(Fixed):
    """A client of the gateway.

    Attributes
    ----------
    models : tuple of str
        What it may ask; the first one answers where a request names none.
    limits : dict of str to Limit
        By model; a model without one is not limited.
    fallbacks : dict of str to tuple of str
        By model: who is asked in its place, in this order.
    budget : int
        Nano-dollars a calendar month (UTC); 0 for none.
    over : str
        What happens to a request that could exceed the budget.
    cache_s : int
        Seconds for which an answer is kept for the same question; 0 for none.
    weight : float
        Share of a busy provider, compared with that of others.
    """

    name: Name
    models: tuple[Name, ...] = Field(min_length=1)
    limits: dict[str, Limit] = Field(default={})
    fallbacks: dict[str, tuple[Name, ...]] = Field(default={})
    budget: int = Field(default=0, ge=0, le=10**18)
    over: Literal["reject", "warn"] = "reject"
    guard: Guard = Guard()
    cache_s: int = Field(default=0, ge=0, le=86_400)
    weight: float = Field(default=1.0, gt=0, le=1000)
    active: bool = True


class Config(Fixed):
    """Providers, models and tenants that fit together."""

    providers: tuple[Provider, ...]
    models: tuple[Model, ...]
    tenants: tuple[Tenant, ...]

    @cached_property
    def provider(self) -> dict[str, Provider]:
        """Providers by name."""
        return {one.name: one for one in self.providers}

    @cached_property
    def model(self) -> dict[str, Model]:
        """Models by name."""
        return {one.name: one for one in self.models}

    @cached_property
    def tenant(self) -> dict[str, Tenant]:
        """Tenants by name."""
        return {one.name: one for one in self.tenants}

    def chain(self, tenant: str, model: str) -> list[Model]:
        """Return the models that may answer a request, the wanted one first."""
        rest = self.tenant[tenant].fallbacks.get(model, ())
        return [self.model[name] for name in (model, *rest)]


def read(raw: Mapping[str, Any] | str) -> Config:
    """Return a configuration.

    Parameters
    ----------
    raw : mapping or str
        The document, or its JSON.

    Raises
    ------
    ConfigError
        With every fault of its form; where the form is right, with every fault of its sense.
    """
    try:
        given = parse(raw) if isinstance(raw, str) else raw
    except ValueError as error:
        raise ConfigError(f"It is no JSON: {error}. Correct it.") from None
    try:
        config = Config.model_validate_json(json.dumps(given))
    except ValidationError as error:
        faults = error.errors(include_url=False, include_input=False)
        lines = (f"{'.'.join(map(str, one['loc']))}: {one['msg']}. Correct it." for one in faults)
        raise ConfigError("\n".join(lines)) from None
    if faults := list(_faults(config)):
        raise ConfigError("\n".join(faults))
    return config


def dedicated(config: Config, name: str) -> Config:
    """Return the part of a configuration that serves one tenant: physical isolation.

    A gateway of its own with this part, a store of its own and its own keys for the providers
    shares nothing with the others but the software; let it be inactive in their configuration.
    Isolation of providers alone needs no second gateway: name the tenant in ``provider.tenants``.

    Raises
    ------
    ConfigError
        If there is no such tenant.
    """
    if (tenant := config.tenant.get(name)) is None:
        raise ConfigError(f"tenant {name} is not listed. Give one of {', '.join(config.tenant)}.")
    models = tuple(config.model[one] for one in tenant.models)
    asked = {one.provider for one in models}
    providers = tuple(one for one in config.providers if one.name in asked)
    return Config(providers=providers, models=models, tenants=(tenant,))


def _is_address(url: str) -> bool:
    """Say whether an HTTP client can ask there."""
    try:
        parts = urlsplit(url)
        host = ip_address(parts.hostname) if "[" in url else parts.hostname
        return bool(ADDRESS.fullmatch(url) and host and parts.port != 0)
    except ValueError:  # a port above 65535, or no address between the brackets
        return False


def _faults(config: Config) -> Iterator[str]:
    """Yield what does not fit together."""
    for kind in ("provider", "model", "tenant"):
        names = [one.name for one in getattr(config, f"{kind}s")]
        for name in sorted({name for name in names if names.count(name) > 1}):
            yield f"{kind} {name} is listed twice. Give each its own name."
    for one in config.providers:
        if not _is_address(one.url):
            yield f"provider {one.name}: its url is no address. Give http(s)://host[:port]."
        if not one.first_s <= one.total_s:
            yield f"provider {one.name}: first_s exceeds total_s. Give it more time as a whole."
    for one in config.models:
        if one.provider not in config.provider:
            yield f"model {one.name}: provider {one.provider} is not listed. Add it to providers."
    for one in config.tenants:
        yield from _faults_of(one, config)


def _faults_of(tenant: Tenant, config: Config) -> Iterator[str]:
    """Yield what is wrong with one tenant."""
    who, allowed = f"tenant {tenant.name}", set(tenant.models)
    if len(allowed) < len(tenant.models):
        yield f"{who}: a model is named twice. Name each once."
    for name in tenant.models:
        if name not in config.model:
            yield f"{who}: model {name} is not listed. Add it to models, or take it away here."
            continue
        at = config.provider.get(config.model[name].provider)
        if at and at.tenants and tenant.name not in at.tenants:
            yield f"{who}: model {name} is of a provider for others. Take it away here."
    named = {"limits": set(tenant.limits), "fallbacks": set(tenant.fallbacks)}
    for model, chain in tenant.fallbacks.items():
        named["fallbacks"] |= set(chain)
        if len({model, *chain}) < 1 + len(chain):
            yield f"{who}: the fallbacks of {model} name a model twice. Each is asked once."
    for field, names in named.items():
        for name in sorted(names - allowed):
            yield f"{who}: {field} name {name}, which it may not ask. Add it to its models."
