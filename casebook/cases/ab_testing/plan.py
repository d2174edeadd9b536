"""The plan of an experiment, written and checked before any result is shown.

:func:`read_plan` takes what a TOML file of the team holds and returns a :class:`Plan`, or says of
each field what is wrong and what to do. Nothing else in this case takes a plan that was not read.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from datetime import date
from itertools import pairwise
from math import ceil
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from casebook.evaluate.assign import CONTROL, TREATMENT, ends
from casebook.evaluate.experiments import sample_size
from casebook.evaluate.sequential import inflation
from casebook.page.figures import spelled

#: Columns of the log that can be summed or read as they are.
COLUMNS = ("minutes", "impressions", "clicks", "hides", "revenue", "load_ms", "sessions")
#: What is known of a user before the test.
KNOWN_BEFORE = (
    *("pre_sessions", "pre_minutes", "pre_impressions", "pre_clicks", "pre_revenue"),
    *("tenure_days", "platform", "client", "country"),
)
Rule = Literal["fixed", "obrien_fleming", "always_valid"]

#: The plan of the chapter, as its TOML file holds it.
NEW_FEED: dict[str, Any] = {
    "name": "new_feed",
    "salt": "new_feed",
    "unit": "user",
    "shares": {"control": 0.05, "treatment": 0.05, "rest": 0.90},
    "start": date(2026, 3, 2),
    "days": 14,
    "users": 400_000,
    "primary": {"name": "minutes", "kind": "mean", "column": "minutes", "before": "pre_minutes"},
    "secondary": [
        {"name": "sessions", "kind": "mean", "column": "sessions", "before": "pre_sessions"},
        {
            **{"name": "click rate", "kind": "ratio"},
            **{"numerator": "clicks", "denominator": "impressions"},
        },
    ],
    "guardrails": [
        {
            **{"name": "load p95", "kind": "quantile", "column": "load_ms", "q": 0.95},
            **{"better": "down", "margin": 0.03},
        },
        {
            **{"name": "hide rate", "kind": "ratio", "numerator": "hides"},
            **{"denominator": "impressions", "better": "down", "margin": 0.15},
        },
        {
            **{"name": "revenue", "kind": "mean", "column": "revenue", "before": "pre_revenue"},
            "margin": 0.05,
        },
    ],
    "covariates": [*KNOWN_BEFORE],
    "mde": 0.03,
    "cv": 1.4,
    "explained": 0.65,
    "alpha": 0.05,
    "power": 0.80,
    "srm_alpha": 0.01,
    "correction": "holm",
    "stopping": "fixed",
    "looks": 1,
}


class PlanError(ValueError):
    """A plan cannot be used: one line for each fault, with its field and what to do."""


class Metric(BaseModel):
    """A metric of a plan.

    Attributes
    ----------
    name : str
    kind : str
        ``mean`` (of ``column`` summed by user), ``ratio`` (of two sums) or ``quantile`` (of
        ``column`` over sessions, at ``q``).
    better : str
        ``up`` or ``down``.
    margin : float or None
        Of a guardrail: the relative harm that is just tolerated.
    before : str or None
        Column of the pre-period that adjusts it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^\S(.{0,38}\S)?$")
    kind: Literal["mean", "ratio", "quantile"]
    column: Literal[COLUMNS] | None = None
    numerator: Literal[COLUMNS] | None = None
    denominator: Literal[COLUMNS] | None = None
    q: float | None = Field(default=None, gt=0, lt=1)
    better: Literal["up", "down"] = "up"
    margin: float | None = Field(default=None, gt=0, le=0.5)
    before: Literal[KNOWN_BEFORE[:5]] | None = None

    @model_validator(mode="after")
    def _has_what_its_kind_needs(self) -> Metric:
        needs = {
            "mean": ("column",),
            "ratio": ("numerator", "denominator"),
            "quantile": ("column", "q"),
        }
        given = {n for n in ("column", "numerator", "denominator", "q") if getattr(self, n)}
        if given != {*needs[self.kind]}:
            raise ValueError(
                f"a {self.kind} needs {' and '.join(needs[self.kind])}, and nothing else; "
                f"given: {', '.join(sorted(given)) or 'none'}"
            )
        summed = (
            {self.column, self.numerator, self.denominator} if self.kind != "quantile" else set()
        )
        if "load_ms" in summed or (self.kind == "quantile" and self.column == "sessions"):
            raise ValueError("load_ms is read by session (quantile), sessions are summed by user")
        if self.kind == "ratio" and self.numerator == self.denominator:
            raise ValueError(f"{self.numerator} over itself is always 1: name two columns")
        if self.before and self.kind != "mean":
            raise ValueError("only a mean is adjusted by a column from before: leave it out")
        return self


class Plan(BaseModel):
    """A plan that was checked.

    Attributes
    ----------
    name, salt : str
    unit : str
        ``user`` or ``cluster``: what is randomised and what the analysis counts by.
    shares : dict of str to float
        Arms; ``control`` and ``treatment`` are compared.
    start, days
        First day and length of the test.
    users : int
        Users of the app that are expected during the test, in all arms.
    primary, secondary, guardrails : Metric
    covariates : tuple of str
        Known before the test; for CUPAC and the forest.
    mde : float
        Smallest relative effect on the primary metric that the test has to find.
    cv, explained : float
        Standard deviation of the primary metric over its mean, and the share of its variance that
        the covariates explain; of an earlier period.
    design_effect : float
        Of clusters: by which factor they inflate the variance, in an earlier period.
    alpha, power : float
    srm_alpha : float
        Chance that a sound test is refused: half of it for the exposed users, half for the users
        after cleaning (:attr:`gate_alpha`).
    correction : str
        Of the secondary metrics: ``holm`` or ``bh``.
    stopping, looks
        ``fixed`` (one look at the end), ``obrien_fleming`` (so many planned looks) or
        ``always_valid`` (any look).
    information : tuple of float
        Share of the information at each planned look, as an A/A test showed; none: equal steps.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{2,39}$")
    salt: str = Field(pattern=r"^[\w.-]{4,60}$")
    unit: Literal["user", "cluster"]
    shares: dict[str, float]
    start: date = Field(ge=date(2000, 1, 1))
    days: int = Field(ge=7, le=56)
    users: int = Field(ge=1_000, le=10_000_000_000)
    primary: Metric
    secondary: tuple[Metric, ...] = ()
    guardrails: tuple[Metric, ...] = Field(min_length=1)
    covariates: tuple[Literal[KNOWN_BEFORE], ...] = ()
    mde: float = Field(ge=1e-4, le=1)
    cv: float = Field(gt=0, le=100)
    explained: float = Field(default=0.0, ge=0, lt=1)
    design_effect: float = Field(default=1.0, ge=1, le=1_000)
    alpha: float = Field(default=0.05, ge=1e-4, le=0.2)
    power: float = Field(default=0.8, ge=0.5, lt=1)
    srm_alpha: float = Field(default=0.01, ge=1e-3, le=0.05)
    correction: Literal["holm", "bh"] = "holm"
    stopping: Rule = "fixed"
    looks: int = Field(default=1, ge=1, le=56)
    information: tuple[float, ...] = ()

    @property
    def metrics(self) -> dict[str, tuple[str, Metric]]:
        """Role and metric by name, the primary one first."""
        rows = [("primary", self.primary)]
        rows += [("secondary", one) for one in self.secondary]
        rows += [("guardrail", one) for one in self.guardrails]
        return {metric.name: (role, metric) for role, metric in rows}

    @property
    def needed(self) -> int:
        """Users that control needs to find the smallest effect, adjusted, by the stopping rule."""
        ratio = self.shares[TREATMENT] / self.shares[CONTROL]
        sd = self.cv * (1 - self.explained) ** 0.5
        more = inflation(self.stopping, self.information or self.looks, self.alpha, self.power)
        return ceil(
            more * self.design_effect * sample_size(sd, self.mde, self.power, self.alpha, ratio)
        )

    def same(self, other: Plan | None) -> bool:
        """Return whether another plan is this one, with its arms in the same order."""
        return self == other and [*self.shares] == [*other.shares]

    @property
    def gate_alpha(self) -> float:
        """Level of each of the two tests of the split."""
        return self.srm_alpha / 2

    @model_validator(mode="after")
    def _can_be_kept(self) -> Plan:
        if faults := [*_faults(self)]:
            raise ValueError("; ".join(faults))
        return self


def _faults(plan: Plan) -> Iterator[str]:
    """Yield what is wrong between the fields of a plan."""
    if missing := {CONTROL, TREATMENT} - {*plan.shares}:
        yield f"shares lack {' and '.join(sorted(missing))}: name the two arms that are compared"
        return
    try:
        ends(plan.shares)
    except ValueError as error:
        yield str(error)
        return
    if plan.days % 7:
        yield f"days is {plan.days}: take whole weeks, so that each weekday counts equally"
    metrics = (plan.primary, *plan.secondary, *plan.guardrails)
    names = [metric.name.casefold() for metric in metrics]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        yield f"{', '.join(twice)} is named twice: a metric has one role"
    if free := [metric.name for metric in plan.guardrails if metric.margin is None]:
        yield f"guardrails {', '.join(free)} have no margin: say which harm is just tolerated"
    one = plan.primary
    if (one.kind, one.column, one.better) != ("mean", "minutes", "up"):
        yield "the primary metric must be the mean of minutes, better up: its value rests on them"
    if plan.unit == "user" and plan.design_effect != 1:
        yield "design_effect is of clusters: leave it out where users are randomised"
    yield from _faults_of_looks(plan)


def _faults_of_looks(plan: Plan) -> Iterator[str]:
    """Yield what is wrong with when the test looks, and with its size, which rests on that."""
    if (plan.stopping == "fixed") != (plan.looks == 1):
        yield f"stopping is {plan.stopping} with {plan.looks} looks: only `fixed` has one"
    if plan.looks > plan.days:
        yield f"looks is {plan.looks}: there are {plan.days} days, and at most one look on each"
        return
    steps = (0.0, *plan.information)
    if plan.information and (
        len(plan.information) != plan.looks
        or abs(steps[-1] - 1) > 1e-9
        or not all(b - a > 1e-3 for a, b in pairwise(steps))
    ):
        yield (
            f"information has {len(plan.information)} shares for {plan.looks} looks: give one for "
            "each, rising to 1 in steps of .001 at least"
        )
        return
    there = int(plan.users * plan.shares[CONTROL])
    if there < plan.needed:
        yield (
            f"control has {there:,} users and needs {plan.needed:,} to find an effect of "
            f"{plan.mde:.1%} with power {plan.power:.0%} ({plan.stopping}, the past explains "
            f"{plan.explained:.0%}): raise the share or the mde"
        )


def read_plan(source: Mapping[str, Any] | str | Path) -> Plan:
    """Read and check a plan.

    Parameters
    ----------
    source : mapping or path
        Fields, or a TOML file of them.

    Returns
    -------
    Plan

    Raises
    ------
    PlanError
        With a line for each fault.

    Examples
    --------
    >>> read_plan({**NEW_FEED, "days": 10})
    Traceback (most recent call last):
    ...
    casebook.cases.ab_testing.plan.PlanError: The plan cannot be used:
    - days is 10: take whole weeks, so that each weekday counts equally
    """
    try:
        if not isinstance(source, Mapping):
            source = tomllib.loads(Path(source).read_text(encoding="utf-8"))
        return Plan.model_validate(dict(source))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise PlanError(f"The plan cannot be read: {error}") from None
    except ValidationError as error:
        lines = [f"- {line}" for line in _lines(error)]
        raise PlanError(spelled("\n".join(["The plan cannot be used:", *lines]))) from None


def _lines(error: ValidationError) -> Iterator[str]:
    for fault in error.errors(include_url=False):
        where = ".".join(str(part) for part in fault["loc"])
        what = fault["msg"].removeprefix("Value error, ")
        if fault["type"] == "missing":
            what = "is missing: every plan states it"
        elif fault["type"] == "extra_forbidden":
            what = "is no field of a plan: correct its spelling or leave it out"
        elif fault["type"] == "string_pattern_mismatch":
            what = f"is {fault['input']!r}: give what matches {fault['ctx']['pattern']}"
        yield from (f"{where} {part}".strip() for part in what.split("; "))
