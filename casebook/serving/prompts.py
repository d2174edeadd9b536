"""A prompt registry: versions that never change, a test of each, and a split of the traffic.

A prompt belongs to one tenant. Its texts have ``{{variables}}``, which are filled once: what a
value says is never filled again. Which version a request gets is a hash of its user, so that a user
stays with one version and every process says the same. Operations are those of a
:class:`~casebook.serving.grouped.Grouped` store that has ``SCHEMA`` and that of the keys
(:mod:`casebook.serving.api_keys`), whose number of changes counts those of prompts too.

Examples
--------
>>> prompt = Prompt(user="Help {{name}} with {{issue}}.")
>>> render(prompt, {"name": "{{issue}}", "issue": "a parcel"})
[('user', 'Help {{issue}} with a parcel.')]
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from pydantic import Field

from casebook.llm.providers import Fixed
from casebook.serving.api_keys import touch
from casebook.serving.grouped import Database
from casebook.serving.refusals import Refusal

SCHEMA = """
create table if not exists prompts (
  tenant text, name text, version bigint, body text not null, created double precision not null,
  primary key (tenant, name, version));
create table if not exists splits (
  tenant text, name text, shares text not null, primary key (tenant, name));
"""
#: What every store can keep: PostgreSQL has no NUL in a text.
TEXT = r"^[^\x00]*$"
#: Names that a path can hold.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,62}")
_VARIABLE = re.compile(r"\{\{\s?([A-Za-z_]\w{0,39})\s?\}\}")


class Prompt(Fixed):
    """One version of a prompt: texts with variables, and a note about it."""

    system: str = Field(default="", max_length=20_000, pattern=TEXT)
    user: str = Field(default="", max_length=20_000, pattern=TEXT)
    note: str = Field(default="", max_length=500, pattern=TEXT)

    @property
    def variables(self) -> set[str]:
        """Names of what is filled in."""
        return {*_VARIABLE.findall(self.system), *_VARIABLE.findall(self.user)}


def render(prompt: Prompt, values: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return the messages of a prompt.

    Raises
    ------
    Refusal
        422 with the variables that are missing or unknown.
    """
    if missing := sorted(prompt.variables - {*values}):
        what = f"The prompt needs {', '.join(missing)}."
        raise Refusal(422, "missing variables", what, "Send them in prompt.variables.")
    if unknown := sorted({*values} - prompt.variables):
        what = f"The prompt knows no {', '.join(name[:40] for name in unknown[:5])}."
        raise Refusal(422, "unknown variables", what, "Leave them out.")
    texts = {"system": prompt.system, "user": prompt.user}
    fill = lambda match: values[match[1]]  # noqa: E731
    return [(role, _VARIABLE.sub(fill, text)) for role, text in texts.items() if text]


# Operations of the store ---------------------------------------------------------------


def add(db: Database, tenant: str, name: str, prompt: Prompt, now: float) -> int:
    """Add a version; return its number, from 1."""
    touch(db)
    last = "select coalesce(max(version), 0) from prompts where tenant = ? and name = ?"
    version = db.execute(last, (tenant, name)).fetchone()[0] + 1
    row = (tenant, name, version, prompt.model_dump_json(), now)
    db.execute("insert into prompts values (?, ?, ?, ?, ?)", row)
    return version


def fetch(db: Database, tenant: str, name: str) -> tuple[dict[int, Prompt], dict[str, float]]:
    """Return all versions of a prompt, and the shares of its traffic; nothing of other tenants."""
    rows = db.execute(
        "select version, body from prompts where tenant = ? and name = ?", (tenant, name)
    )
    versions = {version: Prompt.model_validate_json(body) for version, body in rows}
    split = db.execute(
        "select shares from splits where tenant = ? and name = ?", (tenant, name)
    ).fetchone()
    shares = dict(pair.split("=") for pair in split[0].split()) if split else {}
    return versions, {version: float(share) for version, share in shares.items()}


def names(db: Database, tenant: str) -> dict[str, int]:
    """Return a tenant's prompts, and the newest version of each."""
    rows = "select name, max(version) from prompts where tenant = ? group by name order by name"
    return dict(db.execute(rows, (tenant,)).fetchall())


def split(db: Database, tenant: str, name: str, shares: Mapping[int, float]) -> None:
    """Share the traffic between versions; an empty mapping gives all to the newest one.

    Raises
    ------
    ValueError
        If a version is not there, or the shares do not sum to one.
    """
    from casebook.evaluate.assign import ends

    versions, _ = fetch(db, tenant, name)
    if unknown := {*shares} - {*versions}:
        raise ValueError(f"{name} has no version {sorted(unknown)[0]}: add it first.")
    db.execute("delete from splits where tenant = ? and name = ?", (tenant, name))
    if shares:
        ends({str(version): share for version, share in shares.items()})
        told = " ".join(f"{version}={share}" for version, share in shares.items())
        db.execute("insert into splits values (?, ?, ?)", (tenant, name, told))
    touch(db)


def chosen(
    found: tuple[Mapping[int, Prompt], Mapping[str, float]],
    name: str,
    version: int | None,
    unit: str,
) -> tuple[int, Prompt]:
    """Return the version that a request gets.

    Raises
    ------
    Refusal
        404 if there is none.
    """
    versions, shares = found
    if version is None and shares:
        from casebook.evaluate.assign import arm_of

        version = int(arm_of(unit, f"prompt {name}", shares))
    version = version or max(versions, default=0)
    if version not in versions:
        what = f"There is no prompt {name[:64]!r}" + (
            f" of version {version}." if versions else "."
        )
        raise Refusal(404, "unknown prompt", what, "Create it, or send another name.")
    return version, versions[version]
