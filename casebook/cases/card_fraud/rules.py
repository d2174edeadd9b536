"""The bank's rules: the baseline, and the service's way back when the model is absent.

Each rule reads features of the store and answers with a tier.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from casebook.cases.card_fraud.world import TIERS
from casebook.features.card_payments.words import ENTRIES

_MAGSTRIPE = ENTRIES.index("magstripe")


@dataclass(frozen=True)
class Rule:
    """One rule.

    Attributes
    ----------
    name : str
    text : str
        What an analyst and a customer are told.
    tier : str
    holds : callable
        Of a row of features, or of a frame of them.
    """

    name: str
    text: str
    tier: str
    holds: Callable[[Any], Any]


RULES: tuple[Rule, ...] = (
    Rule(
        "shared device",
        "three or more other customers on this device within 24 hours",
        "block",
        lambda f: f["device_customers_24h"] >= 3,
    ),
    Rule(
        "bad device",
        "two or more known frauds on this device",
        "block",
        lambda f: f["device_frauds"] >= 2,
    ),
    Rule(
        "suspected device",
        "a known fraud on this device",
        "confirm",
        lambda f: f["device_frauds"] >= 1,
    ),
    Rule(
        "stripe abroad",
        "magnetic stripe in another country than the last purchase",
        "confirm",
        lambda f: (f["entry"] == _MAGSTRIPE) & (f["country_changed"] > 0),
    ),
    Rule(
        "stripe and amount",
        "magnetic stripe and more than 150 euro",
        "confirm",
        lambda f: (f["entry"] == _MAGSTRIPE) & (f["amount"] > 150),
    ),
    Rule(
        "new device and amount",
        "a device that is new for this customer and more than 300 euro",
        "confirm",
        lambda f: (f["device_new"] > 0) & (f["amount"] > 300),
    ),
    Rule(
        "new device and address",
        "a new device at an address with three or more other customers today, over 50 euro",
        "confirm",
        lambda f: (f["device_new"] > 0) & (f["ip_customers_24h"] >= 3) & (f["amount"] > 50),
    ),
    Rule(
        "day's total",
        "more than 1,500 euro in the last 24 hours",
        "confirm",
        lambda f: f["customer_sum_24h"] > 1500,
    ),
    Rule(
        "speed",
        "faster than 900 kilometres an hour since the last purchase in person",
        "confirm",
        lambda f: f["speed"] > 900,
    ),
)


def decide(features: pd.DataFrame, batch: pd.DataFrame | None = None) -> np.ndarray:
    """Return the tiers of the rules: of the rules that hold, the hardest answer.

    Parameters
    ----------
    features : DataFrame, shape (n, features)
    batch : DataFrame, optional
        Not used; so that the function is a decision of a policy.

    Returns
    -------
    ndarray of str, shape (n,)
    """
    strength = np.zeros(len(features), int)
    for rule in RULES:
        level = TIERS.index(rule.tier)
        strength = np.where(np.asarray(rule.holds(features)), np.maximum(strength, level), strength)
    return np.array(TIERS)[strength]


def report(features: pd.DataFrame, fraud: np.ndarray) -> pd.DataFrame:
    """Return what each rule is worth.

    Parameters
    ----------
    features : DataFrame, shape (n, features)
    fraud : array of bool, shape (n,)

    Returns
    -------
    DataFrame
        By rule: ``answer``, ``alerts``, ``precision``, ``recall`` (share of all frauds) and
        ``friction`` (share of all genuine rows).
    """
    fraud = np.asarray(fraud, bool)
    rows = {}
    for rule in RULES:
        fires = np.asarray(rule.holds(features), bool)
        rows[rule.name] = {
            "answer": rule.tier,
            "alerts": int(fires.sum()),
            "precision": fraud[fires].mean() if fires.any() else np.nan,
            "recall": (fires & fraud).sum() / fraud.sum(),
            "friction": (fires & ~fraud).sum() / (~fraud).sum(),
        }
    return pd.DataFrame(rows).T.rename_axis("rule").infer_objects()


def none(features: Mapping[str, float], event: Mapping[str, Any]) -> tuple[str, str]:
    """Return that no rule decides before the model."""
    return "pass", ""


def alone(features: Mapping[str, float], event: Mapping[str, Any]) -> tuple[str, str]:
    """Return what all rules say of one event: the way back when the model is absent.

    Returns
    -------
    tier, reason : str
        ``"allow"`` when none holds.
    """
    return _first(features, RULES) or ("allow", "no rule holds")


def _first(features: Mapping[str, float], rules) -> tuple[str, str] | None:
    """Return tier and text of the hardest rule that holds."""
    held = [rule for rule in rules if rule.holds(features)]
    if not held:
        return None
    strongest = max(held, key=lambda rule: TIERS.index(rule.tier))
    return strongest.tier, strongest.text
