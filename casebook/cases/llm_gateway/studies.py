"""Routing over many worlds: ladder, frontier, other worlds, other checks.

Worlds, decision and ways were fixed before the worlds of these tables were drawn. The settings of
the learned routers were chosen on the validation tenants of ``TUNED_ON`` (:func:`trials`), six
trials for each learner with and without vectors. What would be new next time is a tenant, and with
it a family of tasks and a way of wording; each world draws all of them, so intervals are over
worlds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd

from casebook.cases.llm_gateway.artifacts import stored
from casebook.cases.llm_gateway.routing import (
    Bill,
    Chances,
    Check,
    Rates,
    Router,
    Settings,
    points,
    summed,
    to_strong,
)
from casebook.cases.llm_gateway.world.requests import DEFAULT, Constants, World, simulate

TUNED_ON = (201, 202, 203, 204)
SEEDS = tuple(range(1_101, 1_117))
#: Settings that are tried: as many for each learner, with vectors and without.
TRIALS: Mapping[str, tuple[Settings, ...]] = {
    "logistic": tuple(Settings(strength=c, directions=0) for c in (3e-4, 1e-3, 3e-3, 0.01, 0.1, 1)),
    "trees": tuple(
        Settings("trees", rows, 0, leaves) for leaves in (4, 15) for rows in (20, 60, 180)
    ),
    "logistic + vectors": tuple(
        Settings(strength=c, directions=k) for k in (24, 96) for c in (1e-3, 0.01, 0.1)
    ),
    "trees + vectors": tuple(
        Settings("trees", rows, k, 7) for k in (24, 96) for rows in (20, 60, 180)
    ),
}
#: What :func:`trials` chose; of the trees' settings two tie.
CHOSEN: Mapping[str, Settings] = {
    "logistic": Settings(strength=0.003, directions=0),
    "trees": Settings("trees", 60, 0, 4),
    "logistic + vectors": Settings(strength=0.01, directions=24),
    "trees + vectors": Settings("trees", 60, 96, 7),
}
#: What a gateway would run: vectors take .3 % off the loss of the validation, and need a model at
#: every request.
SHIPPED = "logistic"
LADDER = ("all cheap", "random split", "all strong", "error cost alone", "rules", *TRIALS)
#: Who knows the chances, and who knows all of the world that a request shows.
ORACLE, SHOWN = "oracle", "knows what is shown"
CASCADES = ("cascade, error cost alone", "cascade, logistic", "cascade, oracle")
#: The simple cascade, which asks the cheap model and the check every time.
ALWAYS = "always a check, error cost alone"
CHECK = Check()


# Fits -----------------------------------------------------------------------------------


@lru_cache(maxsize=4)
def world_of(seed: int, constants: Constants = DEFAULT) -> World:
    """Return a world that was simulated once."""
    return simulate(seed, constants)


@lru_cache(maxsize=32)
def fitted(name: str, seed: int, constants: Constants = DEFAULT) -> Rates | Router:
    """Return an estimator that has learned from the training tenants of a world.

    Parameters
    ----------
    name : str
        ``"error cost alone"``, ``"rules"`` or a learner of ``CHOSEN``.
    seed : int
    constants : Constants
    """
    simple = {"error cost alone": Rates, "rules": lambda: Rates(points)}
    made = simple[name]() if name in simple else Router(CHOSEN[name], stored())
    return made.fit(world_of(seed, constants).part("train").requests)


def chances_of(name: str, seed: int, part: World, constants: Constants = DEFAULT) -> Chances:
    """Return what a way believes of the requests of a part; an oracle knows."""
    if name in (ORACLE, SHOWN):
        kind = "p" if name == ORACLE else "shown"
        return part.truth[f"{kind}_cheap"].to_numpy(), part.truth[f"{kind}_strong"].to_numpy()
    return fitted(name, seed, constants).chances(part.requests)


def log_loss(chances: Chances, requests: pd.DataFrame) -> float:
    """Return the mean log loss of both models' chances on graded answers."""
    graded = requests[["cheap_ok", "strong_ok"]].to_numpy(bool)
    p = np.clip(np.column_stack(chances), 1e-6, 1 - 1e-6)
    return float(-np.log(np.where(graded, p, 1 - p)).mean())


def trials(seeds: Sequence[int] = TUNED_ON, names: Sequence[str] = tuple(TRIALS)) -> pd.DataFrame:
    """Try the settings on validation tenants: ``seed``, ``model``, ``settings``, ``log_loss``."""
    rows = []
    for seed in seeds:
        world = simulate(seed)
        train, held = world.part("train"), world.part("validation")
        for name in names:
            for at in TRIALS[name]:
                found = Router(at, stored()).fit(train.requests).chances(held.requests)
                text = f"{at.strength:g} {at.directions} {at.leaves}"
                rows.append((seed, name, text, log_loss(found, held.requests)))
    return pd.DataFrame(rows, columns=["seed", "model", "settings", "log_loss"])


# The ladder -----------------------------------------------------------------------------


def bill_of(
    policy: str, seed: int, part: World, constants: Constants = DEFAULT, check: Check = CHECK
) -> pd.DataFrame:
    """Price the requests of a part under one policy of ``LADDER`` or ``CASCADES``, or an oracle.

    The random split sends as many to the strong model as ``SHIPPED`` does.
    """
    bill, n = Bill(part), len(part.requests)
    if policy in ("all cheap", "all strong"):
        return bill.routed(np.full(n, policy == "all strong"))
    if policy == "random split":
        found = chances_of(SHIPPED, seed, part, constants)
        return bill.routed(np.full(n, to_strong(found, part.requests).mean()))
    if policy in (ALWAYS, *CASCADES):
        found = chances_of(policy.split(", ")[1], seed, part, constants)
        return bill.cascaded(found, check, always=policy == ALWAYS)
    return bill.routed(to_strong(chances_of(policy, seed, part, constants), part.requests))


def ladder(
    seeds: Sequence[int] = SEEDS,
    policies: Sequence[str] = (*LADDER, ALWAYS, *CASCADES, SHOWN, ORACLE),
    constants: Constants = DEFAULT,
) -> pd.DataFrame:
    """Price all policies on the test tenants of each world.

    Returns
    -------
    DataFrame
        ``seed``, ``families`` (``"all"``, ``"known"``, ``"new"``), ``policy``, ``euro`` and
        ``model_euro`` (for 1,000 requests), ``acceptable`` and ``strong`` (shares), ``seconds``.
    """
    rows = []
    for seed in seeds:
        part = world_of(seed, constants).part("test")
        new = part.truth["new_family"].to_numpy()
        for policy in policies:
            table = bill_of(policy, seed, part, constants)
            for families, keep in (("all", new | ~new), ("known", ~new), ("new", new)):
                keys = {"seed": seed, "families": families, "policy": policy}
                rows.append(keys | summed(table[keep]))
    return pd.DataFrame(rows)


# Cost against quality -------------------------------------------------------------------

#: What an unacceptable answer costs every tenant, in euro, along a frontier.
ERRORS = tuple(np.geomspace(0.001, 1.0, 19).round(5).tolist())
DRAWN = ("error cost alone", "rules", SHIPPED, ORACLE)


def frontier(
    seeds: Sequence[int] = SEEDS, names: Sequence[str] = DRAWN, errors: Sequence[float] = ERRORS
) -> pd.DataFrame:
    """Trace price against quality, with one cost of an unacceptable answer for all tenants.

    Returns
    -------
    DataFrame
        ``seed``, ``policy``, ``way`` (``"router"``, ``"cascade"`` or ``"ends"``: all cheap and all
        strong, between which a random split is the straight line), ``error_euro``, ``strong``,
        ``model_euro`` (for 1,000 requests), ``acceptable``.
    """
    rows = []
    for seed in seeds:
        part = world_of(seed).part("test")
        bill, n = Bill(part), len(part.requests)
        drawn = [("random split", "ends", np.nan, bill.routed(np.full(n, at))) for at in (0, 1)]
        for name in names:
            found = chances_of(name, seed, part)
            for error in errors:
                routed = bill.routed(to_strong(found, part.requests, error))
                drawn.append((name, "router", error, routed))
                drawn.append((name, "cascade", error, bill.cascaded(found, CHECK, error)))
        for policy, way, error, table in drawn:
            keys = {"seed": seed, "policy": policy, "way": way, "error_euro": error}
            rows.append(keys | summed(table[["strong", "model_euro", "acceptable"]]))
    return pd.DataFrame(rows)


def closed(table: pd.DataFrame) -> pd.DataFrame:
    """Return the share of the gap from *error cost alone* to the oracle that each policy closes.

    Parameters
    ----------
    table : DataFrame
        ``seed``, ``policy``, ``euro``, each policy once a seed.

    Returns
    -------
    DataFrame
        A row for each seed and a column for each policy: worlds are shared, so policies are
        compared seed by seed.
    """
    euro = table.pivot(index="seed", columns="policy", values="euro")
    floor = euro["error cost alone"]
    return euro.rsub(floor, axis=0).div(floor - euro[ORACLE], axis=0)


# Other worlds ---------------------------------------------------------------------------

#: Constants that are changed one at a time.
CHANGED: Mapping[str, tuple[Any, ...]] = {
    "error_euro": (0.005, 0.1),
    "hidden_sd": (0.0, 1.2),
    "tenant_sd": (0.0, 1.0),
    "declares": (0.0, 1.0),
    "tenants": (240,),
    "new_wordings": (False,),
}


def sensitivity(
    seeds: Sequence[int] = SEEDS,
    changed: Mapping[str, Sequence[Any]] = CHANGED,
    policies: Sequence[str] = ("error cost alone", "rules", SHIPPED, *CASCADES[:2], ORACLE),
) -> pd.DataFrame:
    """Change constants of the world: ``constant``, ``at``, and as of :func:`ladder`."""
    parts = []
    for name in changed:
        for value in changed[name]:
            found = ladder(seeds, policies, replace(DEFAULT, **{name: value}))
            parts.append(found[found["families"] == "all"].assign(constant=name, at=value))
    return pd.concat(parts, ignore_index=True).drop(columns="families")


def checks(seeds: Sequence[int] = SEEDS, powers: Sequence[float] = (0.5, 1.0, 2.0)) -> pd.DataFrame:
    """Vary the check's power: ``seed``, ``power``, ``policy``, and as of :func:`.summed`."""
    rows = []
    for seed in seeds:
        part = world_of(seed).part("test")
        for power in powers:
            for policy in (ALWAYS, *CASCADES):
                table = bill_of(policy, seed, part, check=replace(CHECK, power=power))
                rows.append({"seed": seed, "power": power, "policy": policy} | summed(table))
    return pd.DataFrame(rows)
