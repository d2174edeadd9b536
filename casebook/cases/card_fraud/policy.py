"""Policies inside the world: what a bank decides with, and what comes of it.

A :class:`StorePolicy` keeps an :class:`~casebook.features.card_payments.OnlineStore` up to
date, computes the features of a day's transactions one event at a time, and hands them to a
function that decides.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
import pandas as pd

from casebook.cases.card_fraud.world import TIERS, History, World, cost
from casebook.features.card_payments import FEATURES, OnlineStore
from casebook.features.card_payments import evidence as known_frauds

from .answers import Policy
from .channels import borne

#: Features of the day and the batch → a tier for each row.
Decide = Callable[[pd.DataFrame, pd.DataFrame], Iterable[str]]
#: Kinds of cost that come from fraud; the others are the price of friction.
FRAUD_KINDS = ("fraud", "friendly", "chargebacks")


class Scorer(Protocol):
    """A model: features of shape (n, features) → probability of fraud, shape (n,)."""

    def __call__(self, features: pd.DataFrame) -> np.ndarray: ...


class StorePolicy:
    """A policy that decides from the features of an online store.

    Parameters
    ----------
    decide : callable
        ``decide(features, batch)`` gives a tier for each row.
    terminals, customers : DataFrame
        Master data, as in :class:`~casebook.cases.card_fraud.world.World`. Customers who join
        later are in it from the start; nothing is computed of them before.
    start : Timestamp
        Before it everything is allowed and nothing is computed.
    shared : dict, optional
        Filled by the first policy of a world with its store at ``start``, for those that follow.

    Attributes
    ----------
    log : list of DataFrame
        The features of each day since ``start``, index ``transaction``.

    Notes
    -----
    Asked twice about a batch it answers the same: the store is brought up to date by what the
    history holds, never by the batch itself, so that a test may check that it does not look ahead.
    What became known during a day
    counts from the next midnight, since the history ends there.
    """

    def __init__(
        self,
        decide: Decide,
        terminals: pd.DataFrame,
        customers: pd.DataFrame,
        start: pd.Timestamp,
        shared: dict | None = None,
    ):
        self._decide = decide
        self._store = OnlineStore(terminals, customers)
        self._start, self._seen, self._told = pd.Timestamp(start), -1, set()
        self._frames: dict[pd.Timestamp, pd.DataFrame] = {}
        self._shared = {} if shared is None else shared

    @property
    def log(self) -> list[pd.DataFrame]:
        return list(self._frames.values())

    def __call__(self, batch: pd.DataFrame, history: History) -> Iterable[str]:
        if history.now < self._start or batch.empty:
            return [TIERS[0]] * len(batch)
        self._catch_up(history)
        features = self._features(batch)
        known = self._frames.get(history.now)
        if known is None or len(known) < len(features):
            self._frames[history.now] = features
        return self._decide(features, batch)

    def _catch_up(self, history: History) -> None:
        """Bring the store to the moment at which the batch begins."""
        first = self._seen < 0
        if first and self._shared:
            warm, self._seen, self._told = (self._shared[k] for k in ("store", "seen", "told"))
            self._store = warm.fork()
            return
        seen = history.transactions(None if first else 2.0)
        seen = seen[seen["transaction"] > self._seen]
        labels = history.labels()
        fraud = labels.loc[labels["chargeback"], "transaction"]
        told = pd.DataFrame({"transaction": fraud, "known": history.now})
        if first:
            denied = known_frauds(seen, told.iloc[:0].assign(chargeback=False))
            self._store.warm(seen, pd.concat([told, denied], ignore_index=True))
        else:
            denied = seen.loc[seen["outcome"] == "denied", "transaction"]
            new = pd.concat([fraud[~fraud.isin(self._told)], denied])
            self._store.warm(seen, pd.DataFrame({"transaction": new, "known": history.now}))
        self._told = set(fraud)
        if len(seen):
            self._seen = int(seen["transaction"].iloc[-1])
        if first:
            self._shared |= {"store": self._store.fork(), "seen": self._seen, "told": self._told}

    def _features(self, batch: pd.DataFrame) -> pd.DataFrame:
        """Return the features of the batch, one event after the other, on a copy of the store."""
        store, rows = self._store.fork(), []
        collects = gc.isenabled()
        gc.disable()  # thousands of small states are copied, none of them garbage
        try:
            for event in batch.to_dict("records"):
                rows.append(store.features(event))
                store.observe(event)
        finally:
            if collects:
                gc.enable()
        index = pd.Index(batch["transaction"].to_numpy(), name="transaction")
        return pd.DataFrame(rows, index=index, columns=list(FEATURES)).astype(np.float32)


def decide_by(score: Scorer, policy: Policy) -> Decide:
    """Return the decision of a model, whose probabilities a policy answers."""

    def decide(features: pd.DataFrame, batch: pd.DataFrame) -> np.ndarray:
        return policy.decide(score(features), batch)

    return decide


def clairvoyant(allowed: World) -> Callable[[pd.DataFrame, History], Sequence[str]]:
    """Return the policy that knows: it blocks each fraud and asks nobody.

    Parameters
    ----------
    allowed : World
        The same seed and size with everything allowed: all genuine requests stand in it, as
        nobody was ever refused. What is not among them is an attack.

    Notes
    -----
    Nobody can decide like this. Its cost, what is left of friendly fraud, is the floor on which
    shares of a gap are measured.
    """
    fraud = allowed.truth["is_fraud"].to_numpy()
    genuine = pd.Index(allowed.transactions.loc[~fraud, "request"].unique())

    def policy(batch: pd.DataFrame, history: History) -> Sequence[str]:
        return np.where(batch["request"].isin(genuine), "allow", "block").tolist()

    return policy


def between(world: World, start: pd.Timestamp, end: pd.Timestamp | None = None) -> World:
    """Return the part of a world that arrived from ``start`` until before ``end``.

    Transactions, truth, labels, faults, complaints and departures are cut; a customer counts as
    left only if that was in the period. One who leaves does so at the midnight that ends a day: at
    ``end`` because of the last day, at ``start`` because of the day before the period.
    """
    end = world.end if end is None else pd.Timestamp(end)
    rows = world.transactions["received"].between(start, end, inclusive="left")
    kept = world.transactions.loc[rows, "transaction"]

    def of_time(frame: pd.DataFrame, inclusive: str = "left") -> pd.DataFrame:
        return frame[frame["time"].between(start, end, inclusive=inclusive)]

    def of_rows(frame: pd.DataFrame) -> pd.DataFrame:
        return frame[frame["transaction"].isin(kept)]

    departures = of_time(world.departures, "right")
    who = world.truth_customers
    stays = ~who["customer"].isin(departures["customer"])
    return replace(
        world,
        transactions=world.transactions[rows].reset_index(drop=True),
        truth=world.truth[rows.to_numpy()].reset_index(drop=True),
        labels=of_rows(world.labels),
        faults=of_rows(world.faults),
        complaints=of_time(world.complaints),
        departures=departures,
        truth_customers=who.assign(left=who["left"].mask(stays, "")),
        start=pd.Timestamp(start),
        end=end,
    )


def business(world: World, allowed: World, prices: Mapping[str, float] | None = None) -> pd.Series:
    """Return what a policy achieved, in the words of those who pay for it.

    Parameters
    ----------
    world : World
        Under the policy, cut to a period (:func:`between`).
    allowed : World
        The same seed and period with everything allowed.
    prices : mapping of str to float, optional
        Kinds of cost (:func:`~casebook.cases.card_fraud.world.cost`) that are so many times as dear
        as usual.

    Returns
    -------
    Series
        ``cost`` (euro per thousand transactions of the allowed world), ``fraud cost`` and
        ``friction cost`` (its two parts), ``fraud stopped`` (share of the amount),
        ``merchants`` (what they bear of the cost, if all that can be exempted online is),
        ``friction`` (share of genuine transactions that were not simply
        allowed), ``blocked`` (share of genuine ones that were declined), ``complaints`` (for a
        thousand customers and 30 days).
    """
    paid, free = cost(world), cost(allowed)
    for kind, factor in (prices or {}).items():
        paid[kind] *= factor
    thousand = (~allowed.transactions["request"].duplicated()).sum() / 1000
    of_fraud = [kind for kind in paid.index if kind in FRAUD_KINDS]
    fraud, friction = paid[of_fraud].sum(), paid.drop(of_fraud).sum()
    genuine = ~world.truth["is_fraud"].to_numpy() & ~world.transactions["request"].duplicated()
    tier = world.transactions.loc[genuine, "tier"]
    months = (world.end - world.start) / pd.Timedelta(days=30)
    return pd.Series(
        {
            "cost": (fraud + friction) / thousand,
            "fraud cost": fraud / thousand,
            "friction cost": friction / thousand,
            "merchants": merchants_part(world) / thousand,
            "fraud stopped": 1 - paid["fraud"] / free["fraud"] if free["fraud"] else np.nan,
            "friction": (tier != "allow").mean(),
            "blocked": (tier == "block").mean(),
            "complaints": 1000 * len(world.complaints) / len(world.customers) / months,
        }
    )


def merchants_part(world: World) -> float:
    """Return the euro of disputed payments that went through online without a confirmation.

    They go back to the merchant where the merchant's bank asked for an exemption, as it may up to
    500 euro.
    """
    seen = world.transactions
    part = (borne(seen["channel"], seen["amount"]) == 0) & (seen["outcome"] == "approved")
    part &= world.truth["delay"].notna().to_numpy() & ~seen["request"].duplicated()
    return float(seen.loc[part, "amount"].clip(lower=0).sum())


def friction_by(world: World, group: str = "segment") -> pd.DataFrame:
    """Return how friction falls on groups of genuine customers.

    Parameters
    ----------
    world : World
    group : str
        A column of ``world.customers``.

    Returns
    -------
    DataFrame
        By group: ``transactions``, ``asked`` (share confirmed or called), ``blocked``, and
        ``abandoned`` (share of the asked).
    """
    seen = world.transactions.assign(fraud=world.truth["is_fraud"].to_numpy())
    seen = seen[~seen["request"].duplicated()]
    seen = seen.merge(world.customers[["customer", group]], on="customer")
    rows = {}
    for name, genuine in seen[~seen["fraud"]].groupby(group, observed=True):
        asked = genuine["tier"].isin(["confirm", "call"])
        rows[name] = {
            "transactions": len(genuine),
            "asked": asked.mean(),
            "blocked": (genuine["tier"] == "block").mean(),
            "abandoned": (genuine.loc[asked, "outcome"] == "abandoned").mean(),
        }
    return pd.DataFrame(rows).T.rename_axis(group)
