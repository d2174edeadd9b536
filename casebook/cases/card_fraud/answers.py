"""Policies: what a probability and an amount are answered with, and whom that disturbs.

:class:`Answers` is the bank's: the cheapest answer under the guardrail's price, but for the
hold-back. :class:`Cuts` are its peers, which compare one number with cut-offs. Page, benchmark and
service decide with them. Each is set on the payments of the weeks before it begins (:func:`within`,
:func:`cut_within`), without labels: the model's probabilities stand for them.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from casebook.evaluate.fraud_costs import ANSWERS, Economics, cheapest, expected_costs, price_within

from . import channels

#: Largest share of the genuine payments that may meet friction.
GUARDRAIL = 0.01
#: Share of the requests that are let through whatever the policy says, so that their labels are
#: seen: the whole share up to ``WHOLE`` euro, beyond it less in proportion, above ``CAP`` none.
HOLDBACK, WHOLE, CAP = 0.01, 50.0, 500.0


class Policy:
    """What decides a table of payments from their probabilities."""

    def __call__(self, probability: Any, amount: Any, channel: Any = None) -> np.ndarray:
        """Return the tier that is advised for each payment, shape (n,)."""
        raise NotImplementedError

    def decide(self, probability: np.ndarray, batch: pd.DataFrame) -> np.ndarray:
        """Return what is done with each row of a batch, shape (n,)."""
        return self(probability, batch["amount"].to_numpy(), batch["channel"])


@dataclass(frozen=True)
class Answers(Policy):
    """The cheapest of the answers under the guardrail, but for the hold-back.

    Attributes
    ----------
    price : float
        Euro of friction at which the guardrail is met: see :func:`~.costs.price_within`.
    economics : Economics, optional
    among : tuple of str
        The answers that there are.
    in_person : tuple of str, optional
        Those at a till or a cash machine, where they are others.
    exempted : bool
        Whether merchants bear what passes online unconfirmed, up to the largest exemption.
    holdback : float
        Share of the requests that are let through whatever is advised.
    key : bytes
        Secret that draws them: who could compute the draw would choose to be let through.

    Raises
    ------
    ValueError
        When there is a hold-back and no key, a price is not finite or below 0, or a hold-back is no
        share.

    Examples
    --------
    >>> free, strict = Answers(), Answers(price=2.0)
    >>> free([0.03, 0.9], 60.0).tolist(), strict([0.03, 0.9], 60.0).tolist()
    (['confirm', 'block'], ['allow', 'block'])
    >>> Answers(holdback=0.01, key=b"a key of the tests").share([20, 100, 600]).tolist()
    [0.01, 0.005, 0.0]
    """

    price: float = 0.0
    economics: Economics | None = None
    among: tuple[str, ...] = ANSWERS
    in_person: tuple[str, ...] | None = None
    exempted: bool = False
    holdback: float = 0.0
    key: bytes = b""

    def __post_init__(self) -> None:
        if not 0 <= self.price < np.inf or not 0 <= self.holdback <= 1:
            raise ValueError(
                f"a price of {self.price} or a hold-back of {self.holdback}: a price is finite and "
                "0 or more, a hold-back is a share"
            )
        if self.holdback and not 16 <= len(self.key) <= 64:
            raise ValueError(
                "a hold-back that anybody can compute lets attackers through: give a key of 16 to "
                "64 bytes"
            )

    def __call__(self, probability: Any, amount: Any, channel: Any = None) -> np.ndarray:
        """Return the tier that is advised for each payment, shape (n,).

        ``channel`` is needed where answers or liability depend on it.

        Raises
        ------
        ValueError
            When it is needed and not given.
        """
        if channel is None and (self.exempted or self.in_person is not None):
            raise ValueError("this policy depends on the channel of a payment: give it")
        bears = channels.borne(channel, amount) if self.exempted else 1.0
        given = (probability, amount, self.economics, self.price)
        tier = cheapest(*given, self.among, bears)
        if self.in_person is None:
            return tier
        there = np.asarray(channel).astype(str) == "in person"
        return np.where(there, cheapest(*given, self.in_person, bears), tier)

    def decide(self, probability: np.ndarray, batch: pd.DataFrame) -> np.ndarray:
        """Return what is done with each row: what is advised, but for those held back."""
        advised = super().decide(probability, batch)
        held = self.held(batch["transaction"], batch["amount"])
        return np.where(held, "allow", advised)

    def share(self, amount: Any) -> np.ndarray:
        """Return the chance to be held back, by amount, shape (n,): the propensity of a label."""
        amount = np.atleast_1d(np.asarray(amount, float))
        kept = self.holdback * WHOLE / np.maximum(amount, WHOLE)
        return np.where(amount > CAP, 0.0, kept)

    def held(self, number: Any, amount: Any) -> np.ndarray:
        """Return which payments are held back, shape (n,).

        The draw is a keyed hash of the number that the *bank* gives a payment. A card that is known
        to be compromised has been cancelled: nothing of it is held back.
        """
        numbers = np.atleast_1d(np.asarray(number)).tolist()
        if not self.holdback:
            return np.zeros(len(numbers), bool)
        draws = [hashlib.blake2b(b"%d" % n, digest_size=8, key=self.key) for n in numbers]
        chance = np.array([int.from_bytes(draw.digest()) / 2**64 for draw in draws])
        return chance < self.share(amount)

    def one(
        self,
        probability: float,
        amount: float,
        number: int,
        message: str = "purchase",
        strict: bool = False,
    ) -> tuple[str, str]:
        """Return what is advised for one message, and what is done.

        ``strict``: without the guardrail's price and the hold-back, where something is unknown. The
        kind of message says which answers there are and who bears the loss.

        Raises
        ------
        ValueError
            When the policy has answers or a liability of its own.
        """
        if self.exempted or self.in_person is not None or self.among != ANSWERS:
            raise ValueError("by message only the bank's own three answers are decided")
        price = 0.0 if strict else self.price
        advised = channels.answer(probability, amount, message, self.economics, price)[0]
        held = not strict and self.held(number, amount)[0]
        return advised, "allow" if held else advised


@dataclass(frozen=True)
class Cuts(Policy):
    """Answers from cut-offs of one number: the probability, or its product with the amount.

    Attributes
    ----------
    at : tuple of float
        Rising; what is equal to a cut-off stays below it.
    tiers : tuple of str
        What is answered above each.
    by_amount : bool
        Whether the number is the expected loss, probability times amount.

    Raises
    ------
    ValueError
        When the cut-offs do not rise or are not one for each tier.

    Examples
    --------
    >>> Cuts((0.1, 0.5), ("confirm", "block"))([0.1, 0.2, 0.9], 60.0).tolist()
    ['allow', 'confirm', 'block']
    >>> Cuts((5.0,), ("confirm",), by_amount=True)([0.1, 0.1], [20.0, 200.0]).tolist()
    ['allow', 'confirm']
    """

    at: tuple[float, ...]
    tiers: tuple[str, ...]
    by_amount: bool = False

    def __post_init__(self) -> None:
        if len(self.at) != len(self.tiers) or (np.diff(self.at) < 0).any():
            raise ValueError(f"cut-offs {self.at} do not rise, or are not one for each tier")

    def __call__(self, probability: Any, amount: Any, channel: Any = None) -> np.ndarray:
        """Return the tier of each payment, shape (n,)."""
        place = np.searchsorted(self.at, self.number(probability, amount), side="left")
        return np.array(("allow", *self.tiers))[place]

    def number(self, probability: Any, amount: Any) -> np.ndarray:
        """Return what is compared with the cut-offs, shape (n,)."""
        p = np.asarray(probability, float)
        if np.isnan(p).any():
            raise ValueError(f"{int(np.isnan(p).sum())} probabilities are missing")
        return p * np.clip(amount, 0, None) if self.by_amount else p


def within(
    limit: float, policy: Answers, probability: np.ndarray, amount: np.ndarray, channel: Any = None
) -> Answers:
    """Return a policy with the least price at which it keeps the guardrail on recent payments.

    Parameters
    ----------
    limit : float
        Largest share of the genuine payments that are not allowed, as the probabilities expect it.
    policy : Answers
    probability, amount, channel : array_like, shape (n,)
        Of the payments of the weeks before it begins.
    """

    def choose(price: float) -> np.ndarray:
        return replace(policy, price=price)(probability, amount, channel)

    return replace(policy, price=price_within(limit, choose, 1 - np.asarray(probability)))


def cut_within(
    tier: str,
    probability: np.ndarray,
    amount: np.ndarray,
    limit: float = 1.0,
    by_amount: bool = False,
    economics: Economics | None = None,
) -> Cuts:
    """Return the cut-off above which one tier costs least in expectation, within the guardrail.

    Parameters
    ----------
    tier : str
        ``confirm``, ``call`` or ``block``.
    probability, amount : ndarray, shape (n,)
        Of the payments of the weeks before it begins.
    limit : float
        Largest share of the genuine payments above the cut-off, as the probabilities expect it.
    by_amount : bool
        As of :class:`Cuts`.
    economics : Economics, optional

    Returns
    -------
    Cuts
        One that stops fewer than it may, where stopping more does not pay.
    """
    score = Cuts((), (), by_amount).number(probability, amount)
    frame = expected_costs(probability, amount, economics)
    order = np.argsort(-score, kind="stable")
    gain = np.cumsum((frame["allow"] - frame[tier]).to_numpy()[order])
    met = np.cumsum((1 - probability)[order]) / (1 - probability).sum()
    # Only where the number falls can a cut-off lie: equal ones go together.
    ends = np.append(np.diff(score[order]) < 0, True) & (met <= limit)
    if not ends.any() or gain[ends].max() <= 0:
        return Cuts((float(score.max()),), (tier,), by_amount)
    stop = int(np.flatnonzero(ends)[gain[ends].argmax()])
    below = score[order][stop + 1] if stop + 1 < len(score) else -1.0
    return Cuts((float((score[order][stop] + below) / 2),), (tier,), by_amount)
