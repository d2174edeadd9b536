"""One experiment, from its plan and its log to a verdict.

The order is fixed: the plan is read, the log is cleaned, the split is tested. Only an experiment
whose split is in order shows a result; :class:`SplitBroken` says why the others do not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from casebook.cases.ab_testing import events
from casebook.cases.ab_testing.decide import Economics, Verdict, decide, unanswered
from casebook.cases.ab_testing.plan import Metric, Plan, read_plan
from casebook.data.contracts import need_columns
from casebook.evaluate import designs, novelty, sequential, variance
from casebook.evaluate.assign import CONTROL, SEGMENTS, TREATMENT, arms, diagnose
from casebook.evaluate.event_quantiles import quantile_effect
from casebook.evaluate.experiments import Effect, Srm, adjusted, ratio_effect, srm, welch
from casebook.evaluate.guardrails import GUARD_ALPHA, Guard, guard
from casebook.evaluate.intervals import Interval
from casebook.page.figures import spelled

RESULTS = [
    *("metric", "role", "kind", "control", "treatment", "relative", "low", "high"),
    *("se", "p", "p_adjusted", "explained"),
]
#: Of the exposed users: how many the log may lack or have too many, or show in another arm than
#: the hash gives.
LOST, MOVED = 0.05, 0.01
ADJUSTMENTS = (None, "cuped", "cupac")


class SplitBroken(RuntimeError):
    """The arms do not hold the users that the plan says: no result may be shown."""


class LookNotPlanned(ValueError):
    """The test is not at a look of its plan: a result of today would be peeking."""


class Experiment:
    """An experiment as an analyst may see it.

    Parameters
    ----------
    plan : Plan, mapping or path
        A plan, or what :func:`~casebook.cases.ab_testing.plan.read_plan` takes.
    exposures : DataFrame
        ``arm``, ``platform``, ``client``, ``country``, ``users``: who was shown what, all arms.
    log, users : DataFrame
        As of :class:`~casebook.cases.ab_testing.world.World`.
    until : str or Timestamp, optional
        The moment of the analysis; rows received later are not known.
    units : mapping of str to int, optional
        Units of each arm that were randomised. A plan with the unit ``cluster`` needs them: users
        of a community come together, so their split is less even than the test expects.

    Raises
    ------
    PlanError
        If the plan cannot be used. The log is not looked at then.
    ValueError
        If a table lacks a column, or the exposures have an arm that the plan lacks.
    """

    def __init__(
        self,
        plan: Plan | Mapping[str, Any] | str | Path,
        exposures: pd.DataFrame,
        log: pd.DataFrame,
        users: pd.DataFrame,
        until: str | pd.Timestamp | None = None,
        units: Mapping[str, int] | None = None,
    ) -> None:
        # read again: a plan can be made or changed without its checks
        self.plan = read_plan(plan.model_dump() if isinstance(plan, Plan) else plan)
        self._need(exposures, users)
        if self.plan.unit == "cluster" and not units:
            raise ValueError("The plan randomises clusters: hand in `units`, clusters by arm.")
        if self.plan.unit == "user" and units is not None:
            raise ValueError(
                "The plan randomises users, whom `exposures` counts: leave out `units`."
            )
        self._units = units
        self.exposures, self._log, self._users, self._until = exposures, log, users, until

    def _need(self, exposures: pd.DataFrame, users: pd.DataFrame) -> None:
        """Raise unless the tables hold what the plan needs."""
        need_columns(exposures, ("arm", "users", *SEGMENTS), "exposures")
        before = [metric.before for _, metric in self.plan.metrics.values() if metric.before]
        columns = ("user", "tenure_days", "cluster", *before, *self.plan.covariates)
        need_columns(users, dict.fromkeys(columns), "users")
        if unknown := {*exposures["arm"]} - {*self.plan.shares}:
            raise ValueError(
                f"The exposures have the arms {sorted(unknown)}, which the plan lacks: correct "
                "their spelling, or the plan's shares."
            )

    @cached_property
    def srm(self) -> Srm:
        """The test of the split, over all units that were exposed."""
        counts = self._units or self.exposures.groupby("arm")["users"].sum().to_dict()
        return srm({arm: counts.get(arm, 0) for arm in self.plan.shares}, self.plan.shares)

    @property
    def in_order(self) -> bool:
        """Whether the exposed users are split as planned."""
        return self.srm.p >= self.plan.gate_alpha

    @cached_property
    def kept(self) -> Srm:
        """The test of the two arms after cleaning: a rule that removes more of one is found."""
        people = self.people
        if self.plan.unit == "cluster":
            people = people.drop_duplicates("cluster")
        counts = people["arm"].value_counts()
        shares = {arm: self.plan.shares[arm] for arm in (CONTROL, TREATMENT)}
        return srm({arm: counts.get(arm, 0) for arm in shares}, shares)

    @cached_property
    def day(self) -> int:
        """Days of the test that are over: by the last session in the log, and by ``until``."""
        last = self.cleaned.sessions["time"].max() + pd.Timedelta("1h")  # the app sleeps at night
        if self._until is not None:
            last = min(last, events.moment(self._until))
        passed = last - pd.Timestamp(self.plan.start)
        return 0 if pd.isna(passed) else int(np.clip(passed.days, 0, self.plan.days))

    def planned_look(self) -> int:
        """Return which look of the plan today is, from 1.

        Raises
        ------
        LookNotPlanned
            On a day without one. An always-valid rule may look on any day.
        """
        looks, days = self.plan.looks, self.plan.days
        if self.plan.stopping == "always_valid" and self.day:
            return looks
        planned = [round(days * k / looks) for k in range(1, looks + 1)]
        if self.day not in planned:
            after = next((day for day in planned if day > self.day), days)
            raise LookNotPlanned(
                f"{self.day} of {days} days are over, and the plan ({self.plan.stopping}) looks "
                f"next after day {after}: no verdict before."
            )
        return planned.index(self.day) + 1

    def diagnosis(self) -> pd.DataFrame:
        """Return where the split is broken, by :func:`diagnose`."""
        return diagnose(self.exposures, self.plan.shares)

    @cached_property
    def cleaned(self) -> events.Cleaned:
        """The log after cleaning."""
        return events.clean(self._log, self.plan, self._until)

    @cached_property
    def people(self) -> pd.DataFrame:
        """One row for each user that is compared."""
        return events.per_user(self.cleaned.sessions, self._users)

    def _check(self) -> None:
        """Raise unless the split is in order, before and after cleaning."""
        self._refuse(self.srm, "exposed users")
        if len(self.people) < 4:
            raise SplitBroken(
                f"{len(self.people)} users are left after cleaning: `cleaned.lines` says what was "
                "wrong with the rows."
            )
        self._refuse(self.kept, "users after cleaning")
        if fault := self.lost or self.moved:
            raise SplitBroken(f"{fault} No result is shown.")
        self.planned_look()

    @cached_property
    def lost(self) -> str:
        """Return how many exposed users the log lacks at the end, if they are too many."""
        there = len(self.people) + len(self.cleaned.left_out)
        rows = self.exposures["arm"].isin((CONTROL, TREATMENT))
        exposed = int(self.exposures.loc[rows, "users"].sum())
        if self.day < self.plan.days or abs(there - exposed) <= LOST * exposed:
            return ""
        return f"{exposed:,} users of the two arms were exposed, and the log holds {there:,}."

    @cached_property
    def moved(self) -> str:
        """Return how many users the log shows in another arm than the hash gives, if too many."""
        if self.plan.unit == "cluster":
            return ""  # communities are assigned elsewhere
        given = arms(self.people["user"].astype(str), self.plan.salt, self.plan.shares)
        wrong = int((given != self.people["arm"]).sum())
        if wrong <= MOVED * len(self.people):
            return ""
        return (
            f"{wrong:,} of {len(self.people):,} users have another arm in the log than the plan's "
            "salt and shares give: log the arm that was assigned, or correct the plan."
        )

    def _refuse(self, found: Srm, where: str) -> None:
        if found.p < self.plan.gate_alpha:
            source = "diagnosis()" if found is self.srm else "cleaned.left_out"
            seen = ", ".join(f"{arm} {share:.2%}" for arm, share in found.table["seen"].items())
            raise SplitBroken(
                spelled(
                    f"The split of the {where} is not the planned one (p = {found.p:.1e}; seen: "
                    f"{seen}). No result is shown: `{source}` says where users are missing."
                )
            )

    # Results ------------------------------------------------------------------------------

    def effect(self, metric: Metric, adjust: str | None = None) -> tuple[Effect, float]:
        """Return the effect on a metric, and the share of its variance that was explained.

        Parameters
        ----------
        metric : Metric
        adjust : str, optional
            ``cuped`` (by the metric's own past) or ``cupac`` (by a model of all covariates); of
            means with a past only.

        Raises
        ------
        SplitBroken
            If the split is not in order.
        LookNotPlanned
            If the plan does not look today.
        """
        self._check()
        if metric.kind == "quantile":
            rows = self.cleaned.sessions
            arms = [rows[rows["arm"] == arm] for arm in (CONTROL, TREATMENT)]
            pairs = [(own[metric.column], self._unit_of(own)) for own in arms]
            return quantile_effect(*pairs, metric.q), 0.0
        treated = (self.people["arm"] == TREATMENT).to_numpy()
        if metric.kind == "ratio":
            top, bottom = self.people[[metric.numerator, metric.denominator]].to_numpy(float).T
            return ratio_effect(*self._arms(top, bottom, treated)), 0.0
        made = self.adjusted(metric, adjust)
        return self._mean(made.values, treated, self.people), made.explained

    def _mean(self, values: np.ndarray, treated: np.ndarray, people: pd.DataFrame) -> Effect:
        """Return the effect on a mean, by the unit that was randomised."""
        if self.plan.unit == "cluster":
            return designs.cluster_effect(values, treated, people["cluster"])
        return welch(values[~treated], values[treated])

    def _unit_of(self, sessions: pd.DataFrame) -> pd.Series:
        """Return the randomised unit of each session."""
        if self.plan.unit == "user":
            return sessions["user"]
        return sessions["user"].map(self.people.set_index("user")["cluster"])

    def _arms(self, top: np.ndarray, bottom: np.ndarray, treated: np.ndarray) -> list:
        """Return numerators and denominators of the randomised units, control first."""
        pairs = []
        for rows in (~treated, treated):
            parts = top[rows], bottom[rows]
            if self.plan.unit == "cluster":
                _, codes = np.unique(self.people["cluster"].to_numpy()[rows], return_inverse=True)
                parts = tuple(np.bincount(codes, part) for part in parts)
            pairs.append(parts)
        return pairs

    def adjusted(self, metric: Metric, adjust: str | None) -> variance.Adjusted:
        """Return a mean metric of all users, adjusted or as it is."""
        self._check()
        values = self.people[metric.column].to_numpy(float)
        if _known(adjust) is None or metric.before is None:
            return variance.Adjusted(values, np.zeros(0), 0.0)
        if adjust == "cuped":
            return variance.cuped(values, self.people[metric.before], self.people["arm"])
        arm = self.people["arm"]
        return variance.cupac(self.people, values, self.plan.covariates, arm=arm)

    def results(self, adjust: str | None = "cuped") -> pd.DataFrame:
        """Return the effect on each metric of the plan.

        Parameters
        ----------
        adjust : str, optional
            As for :meth:`effect`.

        Returns
        -------
        DataFrame
            ``metric``, ``role``, ``kind``, ``control``, ``treatment`` (as measured), ``relative``,
            ``low``, ``high`` (by the plan's level and stopping rule), ``se`` (relative), ``p`` (of
            one look), ``p_adjusted`` (secondary metrics, by the plan's correction) and
            ``explained``.

        Raises
        ------
        SplitBroken
            If the split is not in order.
        """
        frame = pd.DataFrame([*self._rows(adjust)])
        second = frame["role"] == "secondary"
        frame.loc[second, "p_adjusted"] = adjusted(frame.loc[second, "p"], self.plan.correction)
        return frame[RESULTS]

    def _rows(self, adjust: str | None) -> Iterator[dict[str, Any]]:
        for name, (role, metric) in self.plan.metrics.items():
            found, explained = self.effect(metric, adjust)
            half = self.errors(found.relative_se) * found.relative_se
            yield {
                "metric": name,
                "role": role,
                "kind": metric.kind,
                "control": found.control,
                "treatment": found.treatment,
                "relative": found.relative,
                "low": found.relative - half,
                "high": found.relative + half,
                "se": found.relative_se,
                "p": found.p,
                "p_adjusted": found.p if role == "primary" else np.nan,
                "explained": explained,
            }

    def errors(self, se: float, alpha: float | None = None, tau: float | None = None) -> float:
        """Return how many standard errors today's interval reaches, by the plan's rule.

        Parameters
        ----------
        se : float
            Relative; the always-valid rule depends on it.
        alpha, tau : float, optional
            Two-sided level and expected size of an effect; by default those of the plan.
        """
        plan = self.plan
        looks = plan.information or plan.looks
        alpha, tau, look = alpha or plan.alpha, tau or plan.mde, self.planned_look()
        return sequential.reach(plan.stopping, looks, look, alpha, se, tau)

    def primary(self, adjust: str | None = "cuped") -> Interval:
        """Return the relative effect on the primary metric with the interval of the plan's rule.

        Raises
        ------
        LookNotPlanned
            By :meth:`planned_look`.
        """
        found, _ = self.effect(self.plan.primary, adjust)
        half = self.errors(found.relative_se) * found.relative_se
        return Interval(found.relative, found.relative - half, found.relative + half)

    def guards(self, adjust: str | None = "cuped") -> list[Guard]:
        """Return what each guardrail's test of non-inferiority says, by the plan's rule."""
        found = []
        for one in self.plan.guardrails:
            effect, _ = self.effect(one, adjust)
            errors = self.errors(effect.relative_se, 2 * GUARD_ALPHA, one.margin)
            found.append(guard(one.name, effect, one.better, one.margin, errors))
        return found

    # Over the days ------------------------------------------------------------------------

    def daily(self, rows: np.ndarray | None = None) -> novelty.Daily:
        """Return the effect on the primary metric by days since the first exposure.

        Parameters
        ----------
        rows : ndarray of bool, optional
            Users of a segment.
        """
        self._check()
        if self.plan.unit == "cluster":
            raise ValueError("Days since the exposure are compared by user: randomise users.")
        keep = np.ones(len(self.people), bool) if rows is None else np.asarray(rows, bool)
        own = self.people[keep]
        table = events.by_day(self.cleaned.sessions, own, self.plan.days, self.plan.primary.column)
        since = novelty.since_exposure(table[:, : self.day], own["day"].to_numpy())
        known = variance.features(own, self.plan.covariates)
        return novelty.daily_effects(since, own["arm"] == TREATMENT, known)

    def by_tenure(
        self, estimate: Callable[[novelty.Daily, float, novelty.Prior], Interval]
    ) -> Interval:
        """Return an effect that is estimated for new and old users apart, put together.

        Newcomers look around at first, veterans have to learn: the two fade in opposite directions,
        each with a half-life and a first day of its own.

        Parameters
        ----------
        estimate : callable
            Of the effects by day, the half-life and the prior of a group.
        """
        veteran = (events.tenure_segment(self.people) == "veteran") if len(self.people) else []
        parts = []
        for rows, half, prior in ((~veteran, *novelty.NEW), (veteran, *novelty.OLD)):
            own = self.people[rows]
            usual = own.loc[own["arm"] == CONTROL, self.plan.primary.column].sum()
            parts.append((estimate(self.daily(rows), half, prior), usual))
        return novelty.together(parts)

    def lasting(self, prior: bool = True) -> Interval:
        """Return the effect that remains, by :meth:`by_tenure`.

        Parameters
        ----------
        prior : bool
            Use what earlier launches say about the part that fades.
        """
        return self.by_tenure(
            lambda daily, half, known: (
                novelty.fit_decay(daily, half, known if prior else None).lasting
            )
        )

    def over_days(self, adjust: str | None = "cuped") -> pd.DataFrame:
        """Return the effect so far at the end of each day: what a dashboard shows.

        Returns
        -------
        DataFrame
            ``day`` (from 1), ``users``, ``relative``, ``low``, ``high``, ``p`` (of that day alone),
            ``p_always`` (always valid), ``low_always`` and ``high_always``.
        """
        self._check()
        days, primary, adjust = self.plan.days, self.plan.primary, _known(adjust)
        total = events.by_day(self.cleaned.sessions, self.people, days, primary.column)
        total, first = np.cumsum(total, axis=1), self.people["day"].to_numpy()
        rows = []
        for day in range(self.day):
            there = first <= day
            people = self.people[there]
            own, treated = total[there, day], (people["arm"] == TREATMENT).to_numpy()
            if min(treated.sum(), (~treated).sum()) < 3:
                continue  # an arm has not started
            if adjust is not None and primary.before:
                own = variance.cuped(own, people[primary.before], treated).values
            found = self._mean(own, treated, people)
            low, high = sequential.always_valid_interval(
                found.relative, found.relative_se, self.plan.mde, self.plan.alpha
            )
            head = (day + 1, there.sum(), found.relative, found.relative_low, found.relative_high)
            rows.append((*head, found.p, found.relative_se, low, high))
        names = ["day", "users", "relative", "low", "high", "p", "se", "low_always", "high_always"]
        frame = pd.DataFrame(rows, columns=names)
        p = sequential.always_valid_p(frame["relative"], frame["se"], self.plan.mde)
        return frame.assign(p_always=p)

    def verdict(
        self,
        economics: Economics | None = None,
        adjust: str | None = "cuped",
        lasting: Interval | None = None,
        rule: str = "evidence",
    ) -> Verdict:
        """Return the decision; of a broken split the one that says so.

        Parameters
        ----------
        economics : Economics, optional
        adjust : str, optional
        lasting, rule
            As for :func:`~casebook.cases.ab_testing.decide.decide`.
        """
        _known(adjust)
        try:
            self._check()
        except SplitBroken as broken:
            return unanswered(str(broken), "split")
        except LookNotPlanned as early:
            return unanswered(str(early), "running")
        minutes = self.people.loc[self.people["arm"] == CONTROL, self.plan.primary.column].mean()
        money = economics or Economics()
        try:
            primary, guards = self.primary(adjust), self.guards(adjust)
        except ValueError as error:
            return unanswered(str(error), "unmeasured")
        se = self.effect(self.plan.primary, adjust)[0].relative_se if lasting is None else None
        return decide(primary, minutes, guards, money, lasting, rule, se)


def _known(adjust: str | None) -> str | None:
    """Return an adjustment, or raise."""
    if adjust not in ADJUSTMENTS:
        raise ValueError(f"adjust is {adjust!r}: None, 'cuped' or 'cupac'.")
    return adjust
