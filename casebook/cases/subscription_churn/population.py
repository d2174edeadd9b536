"""Subscribers of case 07: who they are, what troubles them, and what a call would change.

The state of all subscribers at a night, and the chances that follow from it. Nothing here may be
seen by a model; :mod:`.world` turns it into the tables of the company.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import NamedTuple

import numpy as np

from casebook.worlds.draws import expit

#: Days of a *month* of this case: four weeks, so that each has the same weekdays.
MONTH = 28
WEEKS = MONTH // 7
REASONS = ("none", "adoption", "service", "price", "closing")
NONE, ADOPTION, SERVICE, PRICE, CLOSING = range(5)
INDUSTRIES = ("software", "retail", "health", "finance")
PLANS = ("basic", "team", "business")
#: Days until an episode has its full effect; days in which a subscriber is new.
RAMP, YOUNG = 42, 180


@dataclass(frozen=True)
class Constants:
    """Numbers of the world. Chances are of a month.

    Attributes
    ----------
    subscribers, joiners, accounts : int
        At the start, each month, and the companies that they belong to.
    capacity, lottery : int
        Calls of the own team, and of the randomised month (an agency helps).
    dial : float
        Correlation of how well a call saves with the log-odds of cancelling, -1 to 1.
    base, risk, new, asleep, rumour : float or tuple
        Log-odds of cancelling: base; by reason at full effect; of a new, of a dormant subscriber;
        standard deviation of the part that no table shows.
    movable, fresh, admin : float or tuple
        What raises the share that a call saves: by reason; a fresh episode; the contact's role.
    most_saved, save_level, save_slope : float
        Share of cancellations that a call saves: most, and the logistic curve in the index.
    wakes, annoys, tires : float
        Chance that a call itself makes a dormant subscriber cancel; any other; and what each
        earlier call within three months adds.
    fades : float
        Factor of the saved share for each earlier call within three months.
    onset, ends : tuple or float
        Chance that an episode begins, by reason (closing: of an account); that it ends by itself.
    dormant, early : float
        Share of dormant subscribers; chance to cancel before the first night.
    leak, reached, hunch : float
        Share of those not drawn who are called all the same in the randomised month; share of
        calls that reach somebody; weight of the rumour in the team's choice.
    """

    subscribers: int = 100_000
    joiners: int = 4_000
    accounts: int = 12_000
    capacity: int = 4_000
    lottery: int = 12_000
    dial: float = 0.0
    base: float = -4.2
    risk: tuple[float, ...] = (0.0, 2.0, 2.3, 2.5, 3.6)
    new: float = 0.5
    asleep: float = -0.8
    rumour: float = 0.6
    movable: tuple[float, ...] = (0.0, 2.0, 1.6, -1.0, -2.5)
    fresh: float = 1.0
    admin: float = 0.5
    most_saved: float = 0.8
    save_level: float = -1.0
    save_slope: float = 1.2
    wakes: float = 0.05
    annoys: float = 0.002
    tires: float = 0.006
    fades: float = 0.6
    onset: tuple[float, ...] = (0.03, 0.02, 0.02, 0.005)
    ends: float = 0.25
    dormant: float = 0.12
    early: float = 0.06
    leak: float = 0.03
    reached: float = 0.8
    hunch: float = 1.0


class Reference(NamedTuple):
    """How risk and movability are put on a scale: taken once, so that no policy changes it."""

    risk_mean: float
    risk_sd: float
    slope: float
    level: float
    sd: float


@dataclass(frozen=True)
class State:
    """All subscribers at a night, an entry each; those who left stay as rows.

    Attributes
    ----------
    account, industry, first_plan, plan, reason : ndarray of int
    admin, dormant, alive : ndarray of bool
    usual : ndarray
        Log of the logins in a usual week.
    hidden : ndarray
        What no table shows of how well a call saves.
    joined, since, left : ndarray
        Days: of joining, of the start of the episode, of leaving (infinite while there).
    called : ndarray of bool, shape (n, 3)
        Calls in the last three months, the latest first.
    """

    account: np.ndarray
    industry: np.ndarray
    first_plan: np.ndarray
    plan: np.ndarray
    admin: np.ndarray
    dormant: np.ndarray
    usual: np.ndarray
    hidden: np.ndarray
    joined: np.ndarray
    reason: np.ndarray
    since: np.ndarray
    alive: np.ndarray
    left: np.ndarray
    called: np.ndarray

    def __len__(self) -> int:
        return len(self.account)

    def followed_by(self, other: State) -> State:
        """Return both, one after the other."""
        parts = {
            f.name: np.concatenate([getattr(self, f.name), getattr(other, f.name)])
            for f in fields(self)
        }
        return replace(self, **parts)


class Chances(NamedTuple):
    """What may happen to each subscriber within the month after a night.

    Attributes
    ----------
    risk : ndarray
        Chance to cancel without a call.
    risk_called : ndarray
        Chance to cancel with one.
    saves, index : ndarray
        Share of the cancellations that a call saves, and the index it comes from.
    logit, seen : ndarray
        Log-odds of ``risk``, and what they would be without the rumour.
    """

    risk: np.ndarray
    risk_called: np.ndarray
    saves: np.ndarray
    index: np.ndarray
    logit: np.ndarray
    seen: np.ndarray


def _shares(seed: int, constants: Constants) -> tuple[np.ndarray, np.ndarray]:
    """Return the size of each account as a share, and its industry."""
    rng = np.random.default_rng([seed, 0])
    weight = rng.lognormal(0, 1.0, constants.accounts)
    return weight / weight.sum(), rng.integers(len(INDUSTRIES), size=constants.accounts)


def people(rng: np.random.Generator, seed: int, constants: Constants, joined: np.ndarray) -> State:
    """Draw new subscribers who join on some days; none of them is in trouble yet."""
    n = len(joined)
    share, industry = _shares(seed, constants)
    account = rng.choice(constants.accounts, n, p=share)
    plan = rng.choice(len(PLANS), n, p=(0.5, 0.35, 0.15))
    return State(
        account=account,
        industry=industry[account],
        first_plan=plan,
        plan=plan,
        admin=rng.random(n) < 0.3,
        dormant=np.zeros(n, bool),
        usual=rng.normal(1.3, 0.6, n),
        hidden=rng.normal(0, 0.5, n),
        joined=joined,
        reason=np.zeros(n, np.int8),
        since=np.full(n, np.inf),
        alive=np.ones(n, bool),
        left=np.full(n, np.inf),
        called=np.zeros((n, 3), bool),
    )


def first_state(seed: int, constants: Constants, day: int) -> State:
    """Draw the subscribers of the first night, with episodes under way."""
    rng = np.random.default_rng([seed, 1])
    n = constants.subscribers
    state = people(rng, seed, constants, day - rng.exponential(700, n) - 1)
    old = day - state.joined > 2 * YOUNG
    dormant = old & (rng.random(n) < constants.dormant / old.mean())
    lasting = np.array(constants.onset) / (constants.ends + 0.08)
    reason = np.searchsorted(np.cumsum(lasting[:3]), rng.random(n)) + 1
    reason = np.where((reason > 3) | dormant, NONE, reason)
    closing = rng.random(constants.accounts) < lasting[3]
    reason = np.where(closing[state.account], CLOSING, reason).astype(np.int8)
    since = np.where(reason > 0, day - rng.exponential(60, n), np.inf)
    usual = np.where(dormant, rng.normal(-1.8, 0.5, n), state.usual)
    return replace(state, dormant=dormant, reason=reason, since=since, usual=usual)


def ramp(since: np.ndarray, day: float | np.ndarray) -> np.ndarray:
    """Return how far an episode has come on a day: 0 to 1."""
    return np.clip((day - since) / RAMP, 0, 1)


def earlier(state: State) -> np.ndarray:
    """Return the number of calls in the last three months."""
    return state.called.sum(axis=1)


def _log_odds(state: State, day: int, constants: Constants, shocks: np.ndarray) -> np.ndarray:
    """Return the log-odds of cancelling, without the rumour."""
    c, trouble = constants, state.reason > 0
    far = np.where(trouble, 0.5 + 0.5 * ramp(state.since, day), 0)
    young = day - state.joined < YOUNG
    logit = c.base + np.array(c.risk)[state.reason] * far + c.new * young + c.asleep * state.dormant
    return logit + 0.3 * shocks[state.account] - 0.15 * state.plan


def _moves(state: State, day: int, constants: Constants) -> np.ndarray:
    """Return how well a call would work, before the dial mixes in the risk."""
    c, fresh = constants, np.where(state.reason > 0, 1 - ramp(state.since, day), 0)
    return (
        np.array(c.movable)[state.reason] + c.fresh * fresh + c.admin * state.admin + state.hidden
    )


def account_shocks(seed: int, constants: Constants) -> np.ndarray:
    """Return what the colleagues of an account share, in standard deviations."""
    return np.random.default_rng([seed, 2]).standard_normal(constants.accounts)


def reference(state: State, day: int, constants: Constants, shocks: np.ndarray) -> Reference:
    """Return the scales of risk and movability among those who are there on a night."""
    here = state.alive
    risk = _log_odds(state, day, constants, shocks)[here]
    moves = _moves(state, day, constants)[here]
    standard = (risk - risk.mean()) / risk.std()
    slope, level = np.polyfit(standard, moves, 1)
    rest = moves - level - slope * standard
    return Reference(*map(float, (risk.mean(), risk.std(), slope, level, rest.std())))


def chances(
    state: State,
    day: int,
    constants: Constants,
    shocks: np.ndarray,
    rumour: np.ndarray,
    scale: Reference,
) -> Chances:
    """Return what may happen within the month after a night.

    ``rumour`` is standard normal: the part of the risk that no table shows.
    """
    c = constants
    seen = _log_odds(state, day, c, shocks)
    standard = (seen - scale.risk_mean) / scale.risk_sd
    rest = (_moves(state, day, c) - scale.level - scale.slope * standard) / scale.sd
    index = np.sqrt(1 - c.dial**2) * rest + c.dial * standard
    saves = c.most_saved * expit(c.save_level + c.save_slope * index)
    before = earlier(state)
    saves = saves * c.fades**before
    logit = seen + c.rumour * rumour
    risk = expit(logit)
    own = np.where(state.dormant, c.wakes, c.annoys) + c.tires * before
    return Chances(risk, np.minimum(risk * (1 - saves) + own, 1), saves, index, logit, seen)
