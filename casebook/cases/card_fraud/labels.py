"""Labels: what late ones do to a probability, what a policy does to its own training.

Two studies over many worlds. In the first nothing is stopped, and six kinds of labels train the
same models, whose answers keep the same guardrail: labels that everybody will know one day; those
of the morning on which the model starts; those three weeks old, as they are and with the odds
corrected for the share that has come; those of the morning with each fraud counted for its slower
neighbours, and with each payment that has no label counted as part fraud.
In the second all labels have come, but a policy has acted: one that blocks, or one that asks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from casebook.cases.card_fraud import bank, models
from casebook.cases.card_fraud.answers import GUARDRAIL, Answers, Cuts, within
from casebook.cases.card_fraud.world import World, simulate, visible_labels
from casebook.evaluate import rare
from casebook.evaluate.fraud_costs import expected_costs
from casebook.evaluate.selective import propensity_weights

#: Customers and days of the first study, and the day on which the model starts.
CUSTOMERS, DAYS, START = 1000, 112, 84
#: What trains, by name.
KINDS = (
    "all labels",
    "of the morning",
    "after three weeks",
    "three weeks, odds corrected",
    "weighted",
    "part fraud",
)


def _fits(world: World, kind: str) -> tuple[bank.Setting, int, dict[str, models.Model]]:
    """Return a setting, the frauds that were labelled, and models fitted on a kind of labels."""
    fitters = {"line": bank.fit_line, "trees": bank.fit_trees}
    wait = {"all labels": 0, "of the morning": 0}.get(kind, bank.WAIT)
    here = bank.setting(world, START, wait=wait)
    if kind in KINDS[4:]:
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
    made = {name: fit(X, y) for name, fit in fitters.items()}
    if kind == KINDS[3]:
        made = {name: corrected(model, here) for name, model in made.items()}
    return here, int(y.sum()), made


def corrected(model: models.Model, here: bank.Setting) -> models.Model:
    """Return a model whose odds are divided by the share of the labels that has come.

    The cheap remedy: one factor for all, since the training's payments are about equally old.
    """
    morning = bank.of_morning(here)
    age = (here.start - here.world.transactions.set_index("transaction")["received"]) / bank.DAY
    came = float(morning.arrived(age.loc[here.labels.index]).mean())
    score = model.score
    return replace(model, _score=lambda X: models.repair_probability(score(X), 1 / came))


def delayed(seeds: Sequence[int], customers: int = CUSTOMERS) -> pd.DataFrame:
    """Train on six kinds of labels, and test the four weeks that follow.

    Parameters
    ----------
    seeds : sequence of int
    customers : int

    Returns
    -------
    DataFrame
        ``seed``, ``labels`` (one of :data:`KINDS`), ``model``, ``frauds`` (labelled in training),
        ``AP``, ``log skill`` (against the base rate of all labels), ``ratio`` (predicted frauds
        over those that came), and of three answers within the guardrail ``cost`` (euro per
        thousand payments, by the truth) and ``friction``.
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
                rows.append({"seed": seed, "labels": kind, "model": name, "frauds": frauds})
                rows[-1] |= _judged(here, model, base_rate)
    return pd.DataFrame(rows)


def _judged(here: bank.Setting, model: models.Model, prevalence: float) -> dict[str, float]:
    test, p = here.test, model.score(here.X.loc[here.test.index])
    y = test["y"].to_numpy()
    policy = within(GUARDRAIL, Answers(), *here.expected(model.score))
    tier = policy(p, test["amount"])
    return {
        "AP": rare.average_precision(y, p),
        "log skill": rare.skill(y, p, "log", prevalence=prevalence),
        "ratio": float(p.sum() / y.sum()),
        "cost": paid(tier, test),
        "friction": float((tier[y == 0] != "allow").mean()),
    }


def paid(tier: np.ndarray, test: pd.DataFrame) -> float:
    """Return what answers cost per thousand payments, in euro, by the truth of each."""
    each = expected_costs(test["y"].to_numpy(float), test["amount"])
    chosen = each.to_numpy()[np.arange(len(test)), each.columns.get_indexer(tier)]
    return float(1000 * chosen.mean())


# Selective labels ------------------------------------------------------------------------------

#: The first model trains until this day, its policy acts until the next, and the rest tests.
SPANS = (14, 56, 112, 150)
#: What acts: the highest hundredth blocked, or three answers within the guardrail.
ACTING = ("blocks", "asks")
#: Shares of the requests that are held back.
HOLDBACKS = (0.01, 0.1)


@dataclass(frozen=True)
class Acted:
    """What a policy left of the labels.

    Attributes
    ----------
    stopped : ndarray of bool, shape (n,)
        Advised to be stopped, and without a denial: no label, unless held back.
    label : ndarray of int, shape (n,)
        1 for fraud that passed or was denied by its owner.
    """

    stopped: np.ndarray
    label: np.ndarray


def acted(policy: str, p: np.ndarray, rows: pd.DataFrame) -> Acted:
    """Return what is known once a policy has answered payments, by the truth of each.

    Parameters
    ----------
    policy : str
        In :data:`ACTING`.
    p : ndarray, shape (n,)
    rows : DataFrame, shape (n, …)
        ``amount``, ``y`` and ``push``: what came, or would come, of a confirmation.
    """
    if policy == "blocks":
        tier = Cuts((float(np.quantile(p, 1 - GUARDRAIL)),), ("block",))(p, rows["amount"])
    else:
        tier = within(GUARDRAIL, Answers(), p, rows["amount"].to_numpy())(p, rows["amount"])
    denied = (tier == "confirm") & (rows["push"] == "denied").to_numpy()
    quiet = (tier == "confirm") & (rows["push"] == "abandoned").to_numpy()
    label = np.where(denied, 1, rows["y"].to_numpy())
    return Acted((tier == "block") | quiet, label)


def selective(seeds: Sequence[int], customers: int = 1000) -> pd.DataFrame:
    """Train the bank's model again on what its policy has left of the labels.

    Selection alone: all labels have come, features are those of a world in which nobody was
    stopped, and nobody reacts.

    Parameters
    ----------
    seeds : sequence of int
    customers : int

    Returns
    -------
    DataFrame
        ``seed``, ``policy`` (:data:`ACTING`), ``holdback`` (0: none), ``training`` (``truth``,
        ``labelled``, ``stopped as fraud``, ``weighted``), ``frauds`` (labelled), ``held`` (frauds
        among what was held back), ``AP`` and ``ratio`` of the new model on later payments.
    """
    rows = []
    for seed in seeds:
        first, (X, known), (Z, later) = _parts(
            simulate(seed=seed, n_customers=customers, days=SPANS[-1])
        )
        for policy in ACTING:
            made = acted(policy, first.score(X), known)
            ways = [(0.0, "truth", known["y"].to_numpy(), np.ones(len(X)))]
            ways.append((0.0, "labelled", made.label, (~made.stopped).astype(float)))
            ways.append((0.0, "stopped as fraud", made.label | made.stopped, np.ones(len(X))))
            for share in HOLDBACKS:
                held = np.random.default_rng([seed, round(1000 * share)]).random(len(X)) < share
                weight = propensity_weights(made.stopped, ~made.stopped | held, share)
                ways.append((share, "weighted", made.label, weight))
            for share, name, y, weight in ways:
                kept = weight > 0
                model = bank.fit(X[kept], y[kept].astype(int), weight=weight[kept])
                p, truth = model.score(Z), later["y"].to_numpy()
                rows.append({"seed": seed, "policy": policy, "holdback": share, "training": name})
                rows[-1] |= {
                    "frauds": int(y[kept].sum()),
                    "held": int(y[kept & made.stopped].sum()) if share else 0,
                    "AP": rare.average_precision(truth, p),
                    "ratio": float(p.sum() / truth.sum()),
                }
    return pd.DataFrame(rows)


def _parts(world: World) -> tuple[models.Model, tuple, tuple]:
    """Return the first model, and features and truth of its policy's days and of those after."""
    here = bank.setting(world, SPANS[1], wait=0)
    table = world.transactions.set_index("transaction").loc[here.X.index]
    truth = world.truth.set_index("transaction").loc[here.X.index]
    rows = table[["amount"]].assign(y=truth["is_fraud"].astype(int), push=truth["push"])
    day = ((table["received"] - world.start) / bank.DAY).to_numpy()
    twice = table["request"].duplicated().to_numpy()

    def span(start: int, end: int) -> tuple[pd.DataFrame, pd.DataFrame]:
        part = (day >= start) & (day < end) & ~twice
        return here.X[part], rows[part]

    X, known = span(*SPANS[:2])
    return bank.fit(X, known["y"].to_numpy()), span(*SPANS[1:3]), span(*SPANS[2:])
