"""From effects to a decision: guardrails as tests of non-inferiority, value in euro, one verdict.

:func:`decide` is the one place where a decision is made: for the page, the report and the studies.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from casebook.evaluate.guardrails import Guard
from casebook.evaluate.heterogeneity import shrunk
from casebook.evaluate.intervals import Interval
from casebook.page.figures import spelled


@dataclass(frozen=True)
class Economics:
    """What an effect is worth.

    Attributes
    ----------
    users : int
        Users that open the app in a test period, all of them.
    periods : float
        Test periods in a year.
    per_minute : float
        Euro of revenue for each engaged minute.
    cost : float
        Euro a year of running the change: people and machines.
    """

    users: int = 383_000
    periods: float = 365 / 14
    per_minute: float = 0.016
    cost: float = 100_000.0

    def value(self, effect: float, minutes: float, revenue: float = 0.0) -> float:
        """Return euro a year of shipping.

        Parameters
        ----------
        effect : float
            Relative effect on minutes.
        minutes : float
            Minutes of a user in a test period without the change.
        revenue : float
            Relative effect on the revenue of a minute.
        """
        usual = self.users * self.periods * minutes * self.per_minute
        return usual * ((1 + effect) * (1 + revenue) - 1) - self.cost

    def break_even(self, minutes: float) -> float:
        """Return the relative effect on minutes that pays for the cost."""
        return self.cost / (self.users * self.periods * minutes * self.per_minute)


@dataclass(frozen=True)
class Verdict:
    """A decision with its reasons.

    Attributes
    ----------
    decision : str
        ``ship`` (to all but a hold-back), ``hold`` (the test does not say enough), ``stop``, or
        ``invalid`` (the split is broken: nothing may be read from the test).
    reasons : tuple of str
        Short sentences.
    value : Interval or None
        Euro a year, with the interval of the effect.
    guards : tuple of Guard
    sentence : str
        What to say to the product team.
    """

    decision: str
    reasons: tuple[str, ...]
    value: Interval | None
    guards: tuple[Guard, ...]
    sentence: str


#: What is said where there is no result: decision and sentence.
UNANSWERED = {
    "split": (
        "invalid",
        "We cannot answer yet: the arms do not hold the users that they should, so the difference "
        "between them is not the effect of the feed. We mend the cause and run the test again.",
    ),
    "unmeasured": (
        "invalid",
        "We cannot answer: a metric was not measured. We mend the log first.",
    ),
    "running": ("hold", "The test is still running, and its plan does not look today."),
}


def unanswered(why: str, kind: str) -> Verdict:
    """Return the verdict without a result: a broken split, a running test, a lost metric."""
    decision, sentence = UNANSWERED[kind]
    return Verdict(decision, (why,), None, (), sentence)


def decide(
    primary: Interval,
    minutes: float,
    guards: Sequence[Guard],
    economics: Economics,
    lasting: Interval | None = None,
    rule: str = "evidence",
    se: float | None = None,
) -> Verdict:
    """Decide on a test whose split was found in order.

    Both rules stop when a guardrail is harmed, or when even the upper end of the effect does not
    pay. ``evidence`` ships when the effect is there (its interval is above zero), every guardrail
    is safe and the expected value is positive. ``value`` ships when the expected value is positive,
    given what earlier launches were worth: not to ship is a decision too, and may cost as much.
    Otherwise they hold.

    Parameters
    ----------
    primary : Interval
        Relative effect on minutes over the test, by the plan's stopping rule.
    minutes : float
        Of control, a user and test period.
    guards : sequence of Guard
    economics : Economics
    lasting : Interval, optional
        The effect without novelty; the value is computed from it where it is given.
    rule : str
        ``evidence`` or ``value``.
    se : float, optional
        Standard error of what the value rests on. Without it that of a 95 % interval is taken,
        which the interval of a sequential rule is not.
    """
    if rule not in ("evidence", "value"):
        raise ValueError(f"rule is {rule!r}: evidence or value.")
    kept = primary if lasting is None else lasting
    numbers = (*primary, *kept, minutes, *(n for one in guards for n in (one.harm, one.worst)))
    if not np.isfinite(economics.value(0.0, 1.0)):
        raise ValueError(f"{economics}: users, periods, price and cost must be numbers.")
    if not np.isfinite(numbers).all():
        return unanswered("an effect or a guardrail is not a number", "unmeasured")
    if rule == "value":
        mean, se = shrunk(kept.mean, se or (kept.high - kept.low) / 3.92)
        kept = Interval(mean, mean - 1.96 * se, mean + 1.96 * se)
    value = Interval(*(float(economics.value(one, minutes)) for one in kept))
    found = f"minutes change by {primary.mean:+.1%} [{primary.low:+.1%}, {primary.high:+.1%}]"
    bad = [_said(one, "more than the tolerated") for one in guards if one.state == "harmed"]
    open_ = [_said(one, "not excluded beyond") for one in guards if one.state == "unclear"]
    if value.high <= 0:
        bad.append(f"{found}: even the upper end does not pay for the cost")
    if primary.low <= 0:
        open_.append(f"{found}: no effect is not excluded")
    if rule == "value":
        open_ = []
    if value.mean <= 0:
        open_.append(f"the expected value is {value.mean:,.0f} euro a year")
    decision = "stop" if bad else "hold" if open_ else "ship"
    reasons = bad or open_ or [found, f"worth {value.mean:,.0f} euro a year"]
    unclear = [one for one in guards if one.state == "unclear"]
    said = spelled(
        _sentence(decision, value, reasons) + (_next(unclear) if open_ and not bad else "")
    )
    return Verdict(decision, tuple(map(spelled, reasons)), value, tuple(guards), said)


def _said(one: Guard, how: str) -> str:
    """Return what a guardrail's test found, in words."""
    return f"{one.name}: harm of {one.harm:+.1%}, at worst {one.worst:+.1%}, {how} {one.margin:.1%}"


def _next(unclear: Sequence[Guard]) -> str:
    """Return what a hold asks for: other users, because the same ones teach little more."""
    known = [one.needed for one in unclear if one.needed < 100]
    if not known:
        return " Test a larger share of users, with a fresh salt."
    return (
        f" Showing that {' and '.join(one.name for one in unclear)} stays within its margin takes "
        f"about {max(known):.1f} times the users, if the harm is the one we saw: test a larger "
        "share, with a fresh salt. More days of the same users add little."
    )


def _sentence(decision: str, value: Interval, reasons: Sequence[str]) -> str:
    low, high = f"{value.low / 1e3:,.0f}", f"{value.high / 1e3:,.0f}"
    worth = f"{value.mean / 1e3:,.0f} thousand euro a year (between {low} and {high})"
    if decision == "ship":
        return (
            "Ship the feed, and keep 5 % of the users on the old one for 30 days: we expect "
            f"{worth}, and the hold-back will show whether the effect lasts."
        )
    if decision == "stop":
        return f"Do not ship the feed: {reasons[0]}."
    return f"Do not ship yet: {reasons[0]}. So far we would expect {worth}."
