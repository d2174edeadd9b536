"""From costs to tiers: what each answer costs in expectation, and where the answers change.

A transaction of amount ``a`` is fraud with probability ``p``. Each tier has an expected cost that
is linear in ``p``, so the cheapest tier is the lower envelope of four lines, and its cut-offs are
intersections (Elkan, "The Foundations of Cost-Sensitive Learning", IJCAI 2001). The costs are those
of one decision: that a denial ends an attack, and that an attacker who was let through comes
back, is not among them. What it is worth shows only in the simulation.

Examples
--------
Three payments of 60 euro:

>>> cheapest([0.004, 0.1, 0.3], 60).tolist()
['allow', 'confirm', 'block']
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import numpy as np
import pandas as pd

#: What may be answered, from the least to the most friction.
TIERS = ("allow", "confirm", "call", "block")
#: The bank's answers. A call by an agent costs more than the block that it would spare, unless the
#: amount is large: it stays a tier of the world, and the bank does without.
ANSWERS = ("allow", "confirm", "block")


@dataclass(frozen=True)
class Economics:
    """Rates and prices of one decision, in euro and shares. All are facts of the problem.

    Attributes
    ----------
    margin : float
        Share of a purchase that the bank earns.
    chargeback : float
        Handling of a disputed payment.
    push, call : float
        Price of a confirmation on the phone, of a call by an agent.
    complaint, customer : float
        Price of a complaint, of a customer lost to friction.
    abandons_push, abandons_call : float
        Genuine customers who do not finish.
    passes_push, passes_call : float
        Attackers who get through.
    leaves_asked, leaves_abandoned, leaves_blocked : float
        Genuine customers who leave after a confirmation that they finished, that they did not
        finish, and after a block.
    complains_asked, complains_abandoned, complains_blocked : float
        The same for complaints.

    Raises
    ------
    ValueError
        When a price is negative or a rate is not a share.
    """

    margin: float = 0.012
    chargeback: float = 15.0
    push: float = 0.02
    call: float = 4.0
    complaint: float = 8.0
    customer: float = 150.0
    abandons_push: float = 0.075
    abandons_call: float = 0.135
    passes_push: float = 0.12
    passes_call: float = 0.05
    leaves_asked: float = 0.0015
    leaves_abandoned: float = 0.004
    leaves_blocked: float = 0.015
    complains_asked: float = 0.002
    complains_abandoned: float = 0.02
    complains_blocked: float = 0.05

    def __post_init__(self):
        prices = ("chargeback", "push", "call", "complaint", "customer")
        for field in fields(self):
            value, top = getattr(self, field.name), np.inf if field.name in prices else 1
            if not 0 <= value <= top:
                kind = "a price of 0 or more" if field.name in prices else "a share from 0 to 1"
                raise ValueError(f"{field.name} is {value}: {kind} is due")


def _lines(amount, economics: Economics) -> tuple[np.ndarray, np.ndarray]:
    """Return the costs of each tier if genuine and if fraud, each of shape (4, n)."""
    e, a = economics, np.clip(np.atleast_1d(np.asarray(amount, float)), 0, None)

    def friction(price, abandons):
        stays = e.leaves_asked * e.customer + e.complains_asked * e.complaint
        stops = e.leaves_abandoned * e.customer + e.complains_abandoned * e.complaint
        return price + (1 - abandons) * stays + abandons * (e.margin * a + stops)

    lost, nothing = a + e.chargeback, np.zeros_like(a)
    blocked = e.leaves_blocked * e.customer + e.complains_blocked * e.complaint
    genuine = (
        nothing,
        friction(e.push, e.abandons_push),
        friction(e.call, e.abandons_call),
        e.margin * a + blocked,
    )
    fraud = (lost, e.push + e.passes_push * lost, e.call + e.passes_call * lost, nothing)
    return np.stack(genuine), np.stack(fraud)


def expected_costs(probability, amount, economics: Economics | None = None) -> pd.DataFrame:
    """Return the expected cost of each tier, in euro.

    Parameters
    ----------
    probability : array_like of float, shape (n,)
        Calibrated probability of fraud.
    amount : array_like of float, shape (n,) or scalar
        Euro; a refund (negative) has nothing to lose but its handling.
    economics : Economics, optional

    Returns
    -------
    DataFrame, shape (n, 4)
        Columns are the tiers, from the least to the most friction.

    Raises
    ------
    ValueError
        When a probability is not within 0 and 1 or an amount is not finite.
    """
    p = _probabilities(probability)
    genuine, fraud = _lines(_amounts(amount, len(p)), economics or Economics())
    return pd.DataFrame(((1 - p) * genuine + p * fraud).T, columns=list(TIERS))


def tiers(
    probability, amount, economics: Economics | None = None, price: float = 0.0
) -> np.ndarray:
    """Return the cheapest tier of each transaction.

    Parameters
    ----------
    probability, amount, economics
        As in :func:`expected_costs`.
    price : float
        Euro added to each tier but allow when the customer is genuine: the price at which
        friction meets a guardrail (its shadow price).

    Returns
    -------
    ndarray of str, shape (n,)
        At equal cost the one with less friction.

    Examples
    --------
    >>> tiers([0.001, 0.03, 0.9], 60).tolist()
    ['allow', 'confirm', 'block']
    """
    p = _probabilities(probability)
    genuine, fraud = _lines(_amounts(amount, len(p)), economics or Economics())
    genuine[1:] += price
    return np.array(TIERS)[((1 - p) * genuine + p * fraud).argmin(axis=0)]


def cheapest(
    probability,
    amount,
    economics: Economics | None = None,
    price: float = 0.0,
    among: Sequence[str] = ANSWERS,
    bears=1.0,
) -> np.ndarray:
    """Return the cheapest of the answers that a bank has for a message.

    Parameters
    ----------
    probability, amount, economics, price
        As in :func:`tiers`.
    among : sequence of str
        The answers; nobody can be asked about a payment that recurs by itself.
    bears : array_like of float, shape (n,) or scalar
        Share of an undetected fraud that this bank pays: 0 where it goes back to the merchant. A
        fraud that was confirmed is always the bank's.

    Returns
    -------
    ndarray of str, shape (n,)
        At equal cost the one with less friction.

    Raises
    ------
    ValueError
        As :func:`expected_costs`, when a share is not within 0 and 1, or an answer is unknown.

    Examples
    --------
    200 euro online, one payment in twenty like it is fraud: ask if it is the bank's loss, and let
    it through if the merchant bears it.

    >>> cheapest([0.05, 0.05], 200, bears=[1, 0]).tolist()
    ['confirm', 'allow']
    """
    p = _probabilities(probability)
    a = _amounts(amount, len(p))
    cost = _by_answer(p, a, economics, bears)
    genuine_only = price * (1 - p)
    rows = [_tier(name) for name in among]
    cost[1:] += genuine_only
    return np.array(TIERS)[np.array(rows)[cost[rows].argmin(axis=0)]]


def answer_costs(
    probability, amount, economics: Economics | None = None, bears=1.0
) -> pd.DataFrame:
    """Return :func:`expected_costs` when the bank bears a share of undetected fraud.

    Parameters
    ----------
    probability, amount, economics, bears
        As in :func:`cheapest`.
    """
    p = _probabilities(probability)
    a = _amounts(amount, len(p))
    return pd.DataFrame(_by_answer(p, a, economics, bears).T, columns=list(TIERS))


def _by_answer(p, a, economics: Economics | None, bears) -> np.ndarray:
    """Return the expected cost of each tier, shape (4, n)."""
    share = np.broadcast_to(np.asarray(bears, float), p.shape)
    if not ((share >= 0) & (share <= 1)).all():
        raise ValueError("the share that the bank bears must be within 0 and 1")
    genuine, fraud = _lines(a, economics or Economics())
    fraud[0] -= (1 - share) * np.clip(a, 0, None)
    return (1 - p) * genuine + p * fraud


def _tier(name: str) -> int:
    if name not in TIERS:
        raise ValueError(f"no answer {name!r}: there are {list(TIERS)}")
    return TIERS.index(name)


def cutoffs(
    amount: float,
    economics: Economics | None = None,
    price: float = 0.0,
    among: Sequence[str] = TIERS,
) -> pd.DataFrame:
    """Return the tiers that are cheapest somewhere, and from which probability on.

    Parameters
    ----------
    amount : float
        Euro.
    economics : Economics, optional
    price : float
        Of friction, as in :func:`tiers`.
    among : sequence of str
        The answers that there are, from the least to the most friction.

    Returns
    -------
    DataFrame
        ``tier`` and ``from`` (probability), in order; the first begins at 0. A tier that is
        nowhere the cheapest is not among them.
    """
    genuine, fraud = _lines(_amounts(amount, 1), economics or Economics())
    genuine[1:] += price
    kept = [_tier(name) for name in among]
    at, slope = genuine[kept, 0], (fraud - genuine)[kept, 0]
    current, p = int(np.lexsort((slope, at))[0]), 0.0
    rows = [(among[current], 0.0)]
    while True:
        steeper = np.flatnonzero(slope < slope[current])
        meets = (at[steeper] - at[current]) / (slope[current] - slope[steeper])
        ahead = meets < 1
        if not ahead.any():
            return pd.DataFrame(rows, columns=["tier", "from"])
        p = max(float(meets[ahead].min()), p)
        # Of lines that meet here at once, the steepest is the cheapest from here on.
        here = steeper[ahead][meets[ahead] <= p + 1e-12]
        current = int(here[slope[here].argmin()])
        if rows[-1][1] == p:
            rows.pop()
        rows.append((among[current], p))


def price_within(limit: float, choose: Callable[[float], np.ndarray], genuine=None) -> float:
    """Return the price of friction at which at most a share of genuine payments is not allowed.

    Parameters
    ----------
    limit : float
        Largest share of the genuine payments that may be asked or blocked.
    choose : callable
        Price → answers, of transactions of a period before the one that is decided.
    genuine : array_like, shape (n,), optional
        Probability that each is genuine, by the model: no label is needed. A fraud that is stopped
        is no friction. By default all are genuine.

    Returns
    -------
    float
        Euro, 0 when the guardrail does not bind. It is found by bisection, so that all who are let
        through for it are those whose asking was worth least.

    Raises
    ------
    ValueError
        When the limit is not a share above 0, there is no genuine payment, or no price meets it.
    """
    if not 0 < limit <= 1:
        raise ValueError(f"limit is {limit}: a share above 0 is due")
    if not len(choose(0.0)) or (genuine is not None and not np.sum(genuine) > 0):
        raise ValueError("no genuine payment is expected: give those of some recent weeks")

    def asked(price: float) -> float:
        return float(np.average(choose(price) != "allow", weights=genuine))

    if asked(0.0) <= limit:
        return 0.0
    low, high = 0.0, 1.0
    while asked(high) > limit:
        low, high = high, 2 * high
        if high > 1e9:
            raise ValueError(
                f"no price of friction brings the share that is asked below {limit}: too many "
                "transactions are fraud with certainty"
            )
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if asked(middle) > limit else (low, middle)
    return high


def _probabilities(probability) -> np.ndarray:
    p = np.atleast_1d(np.asarray(probability, float))
    wrong = ~((p >= 0) & (p <= 1))
    if wrong.any():
        raise ValueError(
            f"{wrong.sum()} of {len(p)} probabilities are not within 0 and 1, the first at row "
            f"{wrong.argmax()}: {p[wrong][0]}; a score must be calibrated before costs are weighed"
        )
    return p


def _amounts(amount, n: int) -> np.ndarray:
    a = np.broadcast_to(np.asarray(amount, float), (n,))
    if not np.isfinite(a).all():
        raise ValueError(f"{(~np.isfinite(a)).sum()} of {n} amounts are not finite")
    return a
