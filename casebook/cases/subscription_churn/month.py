"""One month of case 07: who would cancel, called and not, who is called, and what follows.

The truth of a month; :mod:`.records` writes what the company's tables show of it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from casebook.cases.subscription_churn.population import (
    CLOSING,
    MONTH,
    NONE,
    YOUNG,
    Chances,
    Constants,
    Reference,
    State,
    chances,
    earlier,
    people,
)
from casebook.worlds.draws import expit, stream

#: First month of the history, first with calls, the randomised one, the test.
FIRST, LOG, LOTTERY, TEST = -6, 0, 4, 5
#: Euro that a subscriber is worth who does not cancel, by plan.
VALUE = (2_000.0, 3_000.0, 5_000.0)
TYPES = ("sure thing", "persuadable", "sleeping dog", "lost cause")
#: Nodes and weights of a mean over a standard normal number.
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(9)


def night_of(month: int) -> int:
    """Return the day of the night before a month."""
    return MONTH * month


@dataclass(frozen=True)
class Month:
    """The truth of one month, an entry for each subscriber (those who left before too).

    Attributes
    ----------
    number : int
    state : State
        On the night before.
    chances : Chances
    cancels, cancels_called : ndarray of bool
        Within the month: without a call, and with one.
    called, assigned : ndarray of bool
        Whom the team called, and whom the policy or the lottery had chosen.
    chance : ndarray
        Of being chosen, where chance decides.
    day : ndarray
        Of cancelling, if so.
    complains, unsubscribes : ndarray of bool
        After a call, if so.
    """

    number: int
    state: State
    chances: Chances
    cancels: np.ndarray
    cancels_called: np.ndarray
    called: np.ndarray
    assigned: np.ndarray
    chance: np.ndarray
    day: np.ndarray
    complains: np.ndarray
    unsubscribes: np.ndarray

    @property
    def here(self) -> np.ndarray:
        """Rows of the subscribers who are there on the night."""
        return np.flatnonzero(self.state.alive)

    @property
    def value(self) -> np.ndarray:
        """Euro that each subscriber is worth."""
        return np.array(VALUE)[self.state.plan]

    @property
    def effect(self) -> np.ndarray:
        """Cancellations that a call prevents, as a chance; negative where it does harm."""
        return self.chances.risk - self.chances.risk_called

    def expected(self, rumour: float) -> np.ndarray:
        """Return the effect for somebody who knows every mechanism, but has not heard the rumour.

        Parameters
        ----------
        rumour : float
            Its standard deviation, of :class:`Constants`: the effect is a mean over it.
        """
        now = self.chances
        own = now.risk_called - now.risk * (1 - now.saves)
        risk = sum(w * expit(now.seen + rumour * z) for z, w in zip(_NODES, _WEIGHTS, strict=True))
        return risk / _WEIGHTS.sum() * now.saves - own

    @property
    def type(self) -> np.ndarray:
        """Position in :data:`TYPES`."""
        return np.select(
            [
                self.cancels & ~self.cancels_called,
                ~self.cancels & self.cancels_called,
                self.cancels,
            ],
            [1, 2, 3],
            0,
        )

    @property
    def cancelled(self) -> np.ndarray:
        """Who cancels, given who was called."""
        return np.where(self.called, self.cancels_called, self.cancels) & self.state.alive


# Who is called -----------------------------------------------------------------------


def team_scores(month: Month, seed: int, c: Constants) -> np.ndarray:
    """Return how the team ranks everybody: by risk, silence, and what it has heard."""
    rng, n = stream(seed, month.number, 7), len(month.state)
    guess = month.chances.seen + rng.normal(0, 0.7, n)
    silent = month.state.usual < -0.5
    heard = month.chances.logit - month.chances.seen
    return guess + 1.0 * silent + c.hunch * (heard + rng.normal(0, 0.3, n))


def _team_list(month: Month, seed: int, c: Constants) -> np.ndarray:
    """Return whom the team calls by itself; it gives everybody a rest of three months."""
    score = team_scores(month, seed, c)
    score[~month.state.alive | (earlier(month.state) > 0)] = -np.inf
    most = int(c.capacity * month.state.alive.sum() / 100_000)
    return _top(score, most)


def _top(score: np.ndarray, most: int) -> np.ndarray:
    chosen = np.zeros(len(score), bool)
    chosen[np.argpartition(-score, most)[:most]] = True
    return chosen


def _lottery(month: Month, rng: np.random.Generator, c: Constants) -> tuple[np.ndarray, ...]:
    """Return who is drawn, who is called, and each one's chance to be drawn.

    Half of the calls go to the fifth of subscribers whom the team thinks in danger.
    """
    here, n = month.state.alive, len(month.state)
    score = np.where(here, month.chances.seen + rng.normal(0, 0.7, n), -np.inf)
    worst = _top(score, int(here.sum() / 5))
    calls = c.lottery * here.sum() / 100_000
    chance = np.where(worst, calls / 2 / worst.sum(), calls / 2 / (here & ~worst).sum()) * here
    drawn = rng.random(n) < chance
    heard = month.chances.logit - month.chances.seen + rng.normal(0, 0.3, n)
    heard[~here | drawn] = -np.inf
    leak = _top(heard, int(c.leak * here.sum()))
    return drawn, drawn | leak, chance


def open_month(
    state: State, number: int, seed: int, c: Constants, shocks: np.ndarray, scale: Reference
) -> Month:
    """Draw what each subscriber will do in a month, called or not."""
    n = len(state)
    rng = stream(seed, number, 1)
    rumour, luck, when, anger, mail = rng.standard_normal(n), *rng.random((4, n))
    now = chances(state, night_of(number), c, shocks, rumour, scale)
    before, here = earlier(state), state.alive
    nobody = np.zeros(n, bool)
    return Month(
        number=number,
        state=state,
        chances=now,
        cancels=(luck < now.risk) & here,
        cancels_called=(luck < now.risk_called) & here,
        called=nobody,
        assigned=nobody,
        chance=np.full(n, np.nan),
        day=night_of(number) + 1 + np.floor(when * (MONTH - 1)),
        complains=(anger < 0.01 + 0.03 * before + 0.05 * state.dormant) & here,
        unsubscribes=(mail < 0.005 + 0.02 * before + 0.03 * state.dormant) & here,
    )


def who(month: Month, called: np.ndarray | None, seed: int, c: Constants) -> dict:
    """Return who is chosen and called: by a policy, the team, the lottery, or nobody."""
    if called is not None:
        chosen = np.zeros(len(month.state), bool)
        chosen[called] = True
        chosen &= month.state.alive
        return {"called": chosen, "assigned": chosen}
    if LOG <= month.number < LOTTERY:
        chosen = _team_list(month, seed, c)
        return {"called": chosen, "assigned": chosen}
    if month.number == LOTTERY:
        drawn, called, chance = _lottery(month, stream(seed, month.number, 7), c)
        return {"called": called, "assigned": drawn, "chance": chance}
    return {}


# What follows ------------------------------------------------------------------------


def after(month: Month, seed: int, c: Constants) -> tuple[State, np.ndarray, np.ndarray]:
    """Return the state after a month, the reasons within it, and their starts."""
    state, night = month.state, night_of(month.number)
    rng = stream(seed, month.number, 2)
    n = len(state)
    begins, when, ends, solves = rng.random((4, n))
    closing = rng.random(c.accounts) < c.onset[3]
    gone = month.cancelled
    solved = month.called & ~gone & (month.cancels | (solves < month.chances.saves))
    solved &= (state.reason > 0) & (state.reason != CLOSING)
    reason = np.where(solved, NONE, state.reason)
    onset = np.tile(c.onset[:3], (n, 1)) * ~state.dormant[:, None]
    onset[:, 0] *= np.where(night - state.joined < YOUNG, 2.5, 1.0)
    new = 1 + (begins[:, None] > np.cumsum(onset, axis=1)).sum(axis=1)
    starts = (reason == NONE) & (state.reason == NONE) & (new <= 3)
    reason = np.where(starts, new, reason)
    closes = closing[state.account] & (reason != CLOSING)
    reason = np.where(closes, CLOSING, reason).astype(np.int8)
    starts |= closes
    since = np.where(starts, night + MONTH * when, np.where(reason > 0, state.since, np.inf))
    over = (ends < c.ends) & ~starts & (reason != CLOSING)
    called = np.column_stack([month.called, state.called[:, :2]])
    after = replace(
        state,
        reason=np.where(over, NONE, reason).astype(np.int8),
        since=np.where(over, np.inf, since),
        alive=state.alive & ~gone,
        left=np.where(gone, month.day, state.left),
        called=called,
    )
    return after, reason, since


def joining(seed: int, number: int, c: Constants) -> State:
    """Return those who join within a month; some leave before their first night."""
    rng, night = stream(seed, number, 6), night_of(number)
    joined = night + MONTH * rng.random(c.joiners)
    new = people(rng, seed, c, joined)
    early = rng.random(c.joiners) < c.early
    left = joined + (night + MONTH - joined) * rng.random(c.joiners)
    return replace(new, alive=~early, left=np.where(early, left, np.inf))
