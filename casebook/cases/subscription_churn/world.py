"""World of case 07: subscribers of a business software, whom 20 people may call.

Mechanisms
----------
Time runs in months of four weeks (28 days). On the night before a month some subscribers are
chosen to be called; within the month some cancel.

* *Trouble*. A subscriber may get into an episode: the product is not adopted (more often in the
  first half year), the service fails, the price is too high, or the company closes (with all its
  subscribers). An episode takes 42 days to its full effect and ends by itself in one month of
  four. It raises the risk and leaves traces: logins fall (adoption, closing, less with service),
  tickets come (service), a plan is downgraded (price), payments fail (closing), surveys are bad.
* *Dormant subscribers* pay, hardly log in, and seldom cancel: nobody thinks of the contract.
* *Risk* ``p0`` is logistic in the episode, its age, youth, dormancy, what an account shares, and a
  *rumour*, which no table shows and the team hears of.
* *A call* saves a share ``s`` of those who would cancel, and makes some cancel who would not have
  (``h``, mostly dormant ones): ``p1 = p0 (1 - s) + h``. The effect of a call is ``p0 - p1``. The
  share is high for fresh troubles with adoption and service, low for price and closing; the *dial*
  sets its correlation with the log-odds of the risk (0: none).
* *One number* per subscriber and month decides in both worlds, called and not: below ``p0`` it
  cancels without a call, below ``p1`` with one. So each is a persuadable, a sleeping dog, a lost
  cause or a sure thing. A saved subscriber's trouble is solved.
* *Fatigue*. Each call within three months takes 40 % of what the next one saves and adds 0.6
  points to what it breaks; called subscribers complain and unsubscribe from mail more often.

Months -6 to -1 are history without calls. In months 0 to 3 the team calls a list of its own: risk,
long silence, and rumours (a confounded log). In month 4 chance decides, with known chances, who of
12,000 is called; the team calls 3 % of the others all the same. Month 5 is the test. A fifth of all
calls reach nobody: the effect is that of being called.

Traces that leak: a downgrade is booked back to the first day of its billing month, and many who
cancel downgrade some days before. Calls make people log in.

Every draw belongs to a seed, a month and a stream, whoever is called: another policy meets the same
numbers. Nothing is estimated from data.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd

from casebook.cases.subscription_churn.month import (
    FIRST,
    TEST,
    Month,
    after,
    joining,
    night_of,
    open_month,
    who,
)
from casebook.cases.subscription_churn.population import (
    Constants,
    Reference,
    State,
    account_shocks,
    first_state,
    reference,
)
from casebook.cases.subscription_churn.records import Rows, Tables, record, tables

CHAPTER = "07_subscription_churn"
SEED = 2026
#: From the tables as known on a night, and its day, to the rows to be called.
Policy = Callable[[Tables, int], np.ndarray]


@dataclass(frozen=True)
class World:
    """A world after some months.

    Attributes
    ----------
    seed : int
    constants : Constants
    months : dict of int to Month
        The truth, by number.
    next : int
        The month that comes next.
    state : State
        On the night before it.
    """

    seed: int
    constants: Constants
    months: dict[int, Month]
    next: int
    state: State
    rows: Rows
    scale: Reference
    shocks: np.ndarray

    @cached_property
    def tables(self) -> Tables:
        """The company's tables on that night."""
        return tables(self.state, self.rows)

    def expected(self, month: int) -> np.ndarray:
        """Return the effect of a call, known to an oracle who has not heard the rumour."""
        return self.months[month].expected(self.constants.rumour)


def _played(world: World, called: np.ndarray | None) -> World:
    """Return a world after one more month, in which some rows are called."""
    number, seed, c = world.next, world.seed, world.constants
    month = open_month(world.state, number, seed, c, world.shocks, world.scale)
    month = replace(month, **who(month, called, seed, c))
    state, reason, since = after(month, seed, c)
    rows, cheaper = record(world.rows, month, reason, since, state, seed, c)
    state = replace(state, plan=state.plan - cheaper).followed_by(joining(seed, number, c))
    return replace(
        world, months=world.months | {number: month}, next=number + 1, state=state, rows=rows
    )


def simulate(seed: int = SEED, constants: Constants | None = None, until: int = TEST) -> World:
    """Simulate a world up to the night before a month.

    Parameters
    ----------
    seed : int
        The same seed gives the same world, bit by bit.
    constants : Constants, optional
    until : int
        The first month that is not played: by default the test, to be played with :func:`play`.

    Returns
    -------
    World

    Raises
    ------
    ValueError
        If a constant is out of its range.
    """
    c = constants or Constants()
    if not -1 < c.dial < 1 or min(c.subscribers, c.accounts) < 100:
        raise ValueError(
            f"dial {c.dial}, {c.subscribers} subscribers, {c.accounts} accounts: the dial is "
            "a correlation between -1 and 1, and a world needs 100 of each."
        )
    shocks = account_shocks(seed, c)
    state = first_state(seed, c, night_of(FIRST))
    scale = reference(state, night_of(FIRST), c, shocks)
    world = World(seed, c, {}, FIRST, state, Rows(), scale, shocks)
    while world.next < until:
        world = _played(world, None)
    return world


def play(world: World, policy: Policy | None = None, months: int = 1) -> World:
    """Play more months under a policy; each meets the same random numbers.

    Parameters
    ----------
    world : World
        It is not changed.
    policy : callable, optional
        From the tables as they stand and the night's day to the rows to be called; nobody is
        called without one.
    months : int

    Returns
    -------
    World
    """
    for _ in range(months):
        rows = np.empty(0, int)
        if policy is not None:
            rows = np.asarray(policy(world.tables, night_of(world.next)), int)
        world = _played(world, rows)
    return world


#: The snapshots show the form of the tables on fewer subscribers.
SMALL = Constants(subscribers=4_000, joiners=160, accounts=480)


def snapshots() -> dict[str, pd.DataFrame]:
    """Return what ``data/07_subscription_churn/`` holds, by file name: a small world's tables.

    The truth is not among them: ``World.months`` gives it to the evaluation.
    """
    shown = simulate(SEED, SMALL).tables
    weeks = pd.DataFrame(shown.logins, columns=[f"week_{k}" for k in range(shown.logins.shape[1])])
    frames = {name: getattr(shown, name) for name in Tables.__dataclass_fields__}
    frames |= {"logins": weeks}
    del frames["last_day"]
    return {f"{name}.parquet": frame for name, frame in frames.items()}
