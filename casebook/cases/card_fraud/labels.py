"""Labels: what late ones do to a probability, what a policy that blocks does to its own training.

Two studies over many worlds. In the first nothing is blocked, and five kinds of labels train the
same models: those that everybody will know one day, those of the morning on which the model starts,
with and without a wait, those of the morning with each fraud counted for its slower neighbours, and
with each payment that has no label counted as part fraud.
In the second all labels have come, but a policy has blocked the most suspicious hundredth.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from casebook.cases.card_fraud import bank, costs, models, protocol
from casebook.cases.card_fraud.world import World, simulate, visible_labels
from casebook.evaluate.selective import propensity_weights, recall

#: Customers and days of the first study, and the day on which the model starts.
CUSTOMERS, DAYS, START = 1000, 112, 84
#: What trains, by name.
KINDS = ("all labels", "of the morning", "after three weeks", "weighted", "part fraud")


def _fits(world: World, kind: str) -> tuple[bank.Setting, int, dict[str, models.Model]]:
    """Return a setting, the frauds that were labelled, and models fitted on a kind of labels."""
    fitters = {"line": bank.fit_line, "trees": bank.fit_trees}
    wait = {"all labels": 0, "of the morning": 0}.get(kind, bank.WAIT)
    here = bank.setting(world, START, wait=wait)
    if kind in KINDS[3:]:
        morning = bank.of_morning(here)
        frauds = int(morning.labels.sum())
        if kind == "weighted":
            X, y = here.X.loc[morning.labels.index], morning.labels.to_numpy()
            made = {name: f(X, y, weight=morning.weight) for name, f in fitters.items()}
        else:
            made = {name: bank.train(here, f) for name, f in fitters.items()}
        return here, frauds, made
    y = here.labels.to_numpy()
    if kind == KINDS[0]:
        final = visible_labels(world, world.end + 120 * bank.DAY, 0).set_index("transaction")
        y = final["chargeback"].loc[here.labels.index].to_numpy(int)
    X = here.X.loc[here.labels.index]
    return here, int(y.sum()), {name: fit(X, y) for name, fit in fitters.items()}


def decided(p: np.ndarray, test: pd.DataFrame) -> float:
    """Return what three answers cost per thousand payments, in euro, by the truth of each."""
    tier = costs.cheapest(p, test["amount"])
    each = costs.expected_costs(test["y"].to_numpy(float), test["amount"])
    paid = each.to_numpy()[np.arange(len(test)), each.columns.get_indexer(tier)]
    return float(1000 * paid.mean())


def delayed(seeds: Sequence[int], customers: int = CUSTOMERS) -> pd.DataFrame:
    """Train on five kinds of labels, and test the four weeks that follow.

    Parameters
    ----------
    seeds : sequence of int
    customers : int

    Returns
    -------
    DataFrame
        ``seed``, ``labels`` (one of :data:`KINDS`), ``model``, ``frauds`` (labelled in training),
        ``AP``, ``log skill`` (against the base rate of all labels), ``ratio`` (predicted frauds
        over those that came) and ``cost`` (euro per thousand payments, by the truth).
    """
    rows = []
    for seed in seeds:
        world = simulate(seed=seed, n_customers=customers, days=DAYS)
        for kind in KINDS:
            here, frauds, made = _fits(world, kind)
            if kind == KINDS[0]:
                base_rate = frauds / len(here.labels)
            made["both"] = bank.blend(made["line"], made["trees"])
            for name, model in made.items():
                p = model.score(here.X.loc[here.test.index])
                rows.append({"seed": seed, "labels": kind, "model": name, "frauds": frauds})
                rows[-1] |= _judged(here.test, p, base_rate)
    return pd.DataFrame(rows)


def _judged(test: pd.DataFrame, p: np.ndarray, prevalence: float) -> dict[str, float]:
    y = test["y"].to_numpy()
    return {
        "AP": protocol.average_precision(y, p),
        "log skill": protocol.skill(y, p, "log", prevalence=prevalence),
        "ratio": float(p.sum() / y.sum()),
        "cost": decided(p, test),
    }


# Selective labels ------------------------------------------------------------------------------

#: The first model trains until this day, its policy acts until the next, and the rest tests.
SPANS = (14, 56, 112, 150)
#: Share of the payments that the policy blocks, and shares that are held back.
BLOCKED, HOLDBACKS = 0.01, (0.02, 0.1)


def selective(seeds: Sequence[int], customers: int = 1500) -> pd.DataFrame:
    """Train again on what a policy that blocks a hundredth has let through.

    Selection alone: all labels have come, features are those of a world in which nobody was
    blocked, and nobody reacts.

    Parameters
    ----------
    seeds : sequence of int
    customers : int

    Returns
    -------
    DataFrame
        ``seed``, ``holdback``, ``training`` (``truth``, ``let through``, ``weighted``),
        ``frauds`` (labelled), ``AP`` and ``ratio`` of trees on later payments, and of the first
        policy its ``recall`` by the truth, ``naive`` and ``weighted`` with ``low`` and ``high``.
    """
    rows = []
    for seed in seeds:
        world = simulate(seed=seed, n_customers=customers, days=SPANS[-1])
        parts = _parts(world)
        first, (X, y), (Z, truth) = parts["first"], parts["acts"], parts["test"]
        stopped = first.score(X)
        stopped = stopped > np.quantile(stopped, 1 - BLOCKED)
        for share in HOLDBACKS:
            held = np.random.default_rng([seed, round(1000 * share)]).random(len(y)) < share
            known = ~stopped | held
            weight = propensity_weights(stopped, known, share)
            told = _recalls(stopped, y, known, weight)
            ways = {
                "truth": (np.ones(len(y), bool), None),
                "let through": (~stopped, None),
                "weighted": (known, weight[known]),
            }
            for name, (kept, w) in ways.items():
                model = bank.fit_line(X[kept], y[kept], weight=w)
                p = model.score(Z)
                rows.append({"seed": seed, "holdback": share, "training": name})
                rows[-1] |= {"frauds": int(y[kept].sum()), "ratio": float(p.sum() / truth.sum())}
                rows[-1] |= {"AP": protocol.average_precision(truth, p), **told}
    return pd.DataFrame(rows)


def _parts(world: World) -> dict:
    """Return the first policy's model, and features and truth of its days and of those after."""
    here = bank.setting(world, SPANS[1], wait=0)
    received = world.transactions.set_index("transaction")["received"].loc[here.X.index]
    twice = world.transactions["request"].duplicated().to_numpy()
    day = ((received - world.start) / bank.DAY).to_numpy()
    y = world.truth.set_index("transaction")["is_fraud"].loc[here.X.index].to_numpy(int)

    def span(start, end):
        rows = (day >= start) & (day < end) & ~twice
        return here.X[rows], y[rows]

    first = bank.fit_line(*span(*SPANS[:2]))
    return {"first": first, "acts": span(*SPANS[1:3]), "test": span(*SPANS[2:])}


def _recalls(stopped, y, known, weight) -> dict[str, float]:
    estimate = recall(stopped, y, weight)
    return {
        "recall": float(stopped[y == 1].mean()),
        "naive": recall(stopped, y, known.astype(float)).value,
        "weighted": estimate.value,
        "low": estimate.low,
        "high": estimate.high,
    }
