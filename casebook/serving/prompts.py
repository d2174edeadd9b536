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
from typing import NamedTuple

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
#: Characters of a prompt that is filled in: as many as a body could have said itself.
LARGEST = 1_000_000
#: Versions of a prompt, characters of all of them, and names of a tenant: who looks at a prompt
#: reads all versions, and who looks at the page all names. A request reads the version it wants.
VERSIONS, KEPT, NAMES = 1_000, 2_000_000, 200
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


class Outline(NamedTuple):
    """What there is of a prompt, without its texts.

    Attributes
    ----------
    newest : int
        Versions are numbered from 1, and none is taken away; 0 for a prompt that is not there.
    shares : mapping of str to float
        Of its traffic, by version.
    read : dict of int to Prompt
        Texts that were read so far, for whoever keeps an outline.
    """

    newest: int
    shares: Mapping[str, float]
    read: dict[int, Prompt]


def render(prompt: Prompt, values: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return the messages of a prompt.

    Raises
    ------
    Refusal
        422 with the variables that are missing or unknown, 413 for what would be too long.
    """
    if missing := sorted(prompt.variables - {*values}):
        what = f"The prompt needs {', '.join(missing)}."
        raise Refusal(422, "missing variables", what, "Send them in prompt.variables.")
    if unknown := sorted({*values} - prompt.variables):
        what = f"The prompt knows no {', '.join(name[:40] for name in unknown[:5])}."
        raise Refusal(422, "unknown variables", what, "Leave them out.")
    texts = {"system": prompt.system, "user": prompt.user}
    used = [name for text in texts.values() for name in _VARIABLE.findall(text)]
    size = sum(map(len, texts.values())) + sum(len(values[name]) for name in used)
    if size > LARGEST:  # reckoned before: a short variable can stand four thousand times
        what = f"The prompt would have {size:,} characters; {LARGEST:,} are taken at most."
        raise Refusal(413, "too long", what, "Send shorter variables.")
    fill = lambda match: values[match[1]]  # noqa: E731
    return [(role, _VARIABLE.sub(fill, text)) for role, text in texts.items() if text]


# Operations of the store ---------------------------------------------------------------


def add(db: Database, tenant: str, name: str, prompt: Prompt, now: float) -> int:
    """Add a version; return its number, from 1.

    Raises
    ------
    Refusal
        409 where no more of them are kept.
    """
    touch(db)
    kept = (
        "select count(*), coalesce(sum(length(body)), 0), coalesce(max(version), 0)"
        " from prompts where tenant = ? and name = ?"
    )
    count, size, last = db.execute(kept, (tenant, name)).fetchone()
    version, body = last + 1, prompt.model_dump_json()
    if count >= VERSIONS or size + len(body) > KEPT:
        what = f"The prompt has {count} versions of {size:,} characters."
        raise Refusal(409, "too many versions", what, "Go on under another name.")
    if not count and len(names(db, tenant)) >= NAMES:
        what = f"There are {NAMES} prompts already."
        raise Refusal(409, "too many prompts", what, "Add a version to one of them.")
    row = (tenant, name, version, body, now)
    db.execute("insert into prompts values (?, ?, ?, ?, ?)", row)
    return version


def fetch(db: Database, tenant: str, name: str) -> tuple[dict[int, Prompt], dict[str, float]]:
    """Return all versions of a prompt, and the shares of its traffic; nothing of other tenants."""
    rows = db.execute(
        "select version, body from prompts where tenant = ? and name = ?", (tenant, name)
    )
    versions = {version: Prompt.model_validate_json(body) for version, body in rows}
    return versions, _shares(db, tenant, name)


def _shares(db: Database, tenant: str, name: str) -> dict[str, float]:
    split = db.execute(
        "select shares from splits where tenant = ? and name = ?", (tenant, name)
    ).fetchone()
    shares = dict(pair.split("=") for pair in split[0].split()) if split else {}
    return {version: float(share) for version, share in shares.items()}


def outline(db: Database, tenant: str, name: str) -> Outline:
    """Return the number of a prompt's versions and its shares; nothing of other tenants."""
    last = "select coalesce(max(version), 0) from prompts where tenant = ? and name = ?"
    newest = db.execute(last, (tenant, name)).fetchone()[0]
    return Outline(newest, _shares(db, tenant, name), {})


def version(db: Database, tenant: str, name: str, number: int) -> Prompt:
    """Return one version of a prompt.

    Raises
    ------
    Refusal
        404 if there is none.
    """
    wanted = "select body from prompts where tenant = ? and name = ? and version = ?"
    if (row := db.execute(wanted, (tenant, name, number)).fetchone()) is None:
        raise _unknown(name, number)
    return Prompt.model_validate_json(row[0])


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
    Refusal
        404 if there is no such prompt.
    """
    from casebook.evaluate.assign import ends

    rows = db.execute("select version from prompts where tenant = ? and name = ?", (tenant, name))
    if not (versions := {version for (version,) in rows}):
        chosen(({}, {}), name, None, "")
    if unknown := {*shares} - versions:
        raise ValueError(f"{name} has no version {sorted(unknown)[0]}: add it first.")
    db.execute("delete from splits where tenant = ? and name = ?", (tenant, name))
    if shares:
        ends({str(version): share for version, share in shares.items()})
        told = " ".join(f"{version}={share}" for version, share in shares.items())
        db.execute("insert into splits values (?, ?, ?)", (tenant, name, told))
    touch(db)


def number_of(found: Outline, name: str, version: int | None, unit: str) -> int:
    """Return the number of the version that a request gets.

    Raises
    ------
    Refusal
        404 if there is none.
    """
    if version is None and found.shares:
        from casebook.evaluate.assign import arm_of

        version = int(arm_of(unit, f"prompt {name}", found.shares))
    if not found.newest or (version is not None and not 1 <= version <= found.newest):
        raise _unknown(name, version if found.newest else None)
    return version or found.newest


def chosen(
    found: tuple[Mapping[int, Prompt], Mapping[str, float]],
    name: str,
    version: int | None,
    unit: str,
) -> tuple[int, Prompt]:
    """Return the version that a request gets of all, as :func:`number_of`, and its text."""
    versions, shares = found
    number = number_of(Outline(max(versions, default=0), shares, {}), name, version, unit)
    return number, versions[number]


def _unknown(name: str, version: int | None) -> Refusal:
    what = f"There is no prompt {name[:64]!r}" + (f" of version {version}." if version else ".")
    return Refusal(404, "unknown prompt", what, "Create it, or send another name.")
