"""Benchmarks of case 12: worlds in which the policy acts, many seeds, public data in full.

The models, cut-offs and rules were fixed before the worlds of :data:`SEEDS` were drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial

import numpy as np
import pandas as pd

from casebook.cases.card_fraud import (
    bank,
    labels,
    models,
    rules,
    studies,
)
from casebook.cases.card_fraud.answers import (
    GUARDRAIL,
    HOLDBACK,
    Answers,
    Cuts,
    Policy,
    cut_within,
    within,
)
from casebook.cases.card_fraud.channels import CAP_DEBIT
from casebook.cases.card_fraud.policy import (
    StorePolicy,
    between,
    business,
    clairvoyant,
    decide_by,
    friction_by,
)
from casebook.cases.card_fraud.world import TIERS, World, simulate
from casebook.cases.card_fraud.world import constants as worlds
from casebook.data import real
from casebook.data.tables import fraud_handbook
from casebook.evaluate import rare
from casebook.evaluate.gap import gaps
from casebook.features import card_payments as features
from casebook.recorded.real import from_real

#: Fresh worlds.
SEEDS = tuple(range(101, 116))
#: Size of the worlds in which a policy acts, and the day on which it begins.
CUSTOMERS, DAYS, START = 500, 120, 98
BASELINE, FLOOR, COLLEAGUE = "rules", "knows every fraud", "0.01 / 0.5 / 0.9"


# Policies ------------------------------------------------------------------------------------

#: Probability, amount and channel of the payments of the three weeks before a policy begins.
Recent = tuple[np.ndarray, np.ndarray, np.ndarray]
#: Makes the policy of a family that keeps a limit (None: as the costs say) on recent payments.
Maker = Callable[[Recent, float | None], Policy]
#: Largest shares of the genuine payments that a family of policies may disturb.
LIMITS = (0.002, 0.005, 0.007, GUARDRAIL, None)


def _answers(recent: Recent, limit: float | None, **given: object) -> Policy:
    policy = Answers(**given)
    return policy if limit is None else within(limit, policy, *recent)


def _cut(recent: Recent, limit: float | None, tier: str, by_amount: bool = False) -> Policy:
    return cut_within(tier, *recent[:2], 1.0 if limit is None else limit, by_amount)


#: The cheapest of three answers, and its peers: with two answers, and with one cut-off of the
#: expected loss or of the probability.
FAMILIES: Mapping[str, Maker] = {
    "three answers": _answers,
    "allow or confirm": partial(_answers, among=("allow", "confirm")),
    "allow or block": partial(_answers, among=("allow", "block")),
    "p × amount, confirm above": partial(_cut, tier="confirm", by_amount=True),
    "p, confirm above": partial(_cut, tier="confirm"),
    "p, block above": partial(_cut, tier="block"),
}
#: Three answers that differ in one thing, at the guardrail.
VARIANTS: Mapping[str, Maker] = {
    "nobody asked in person": partial(_answers, in_person=("allow", "block")),
    "1 % held back": partial(_answers, holdback=HOLDBACK, key=b"drawn for the benchmark"),
    "merchants bear online": partial(_answers, exempted=True),
}
#: Other models, with three answers at the guardrail, trained on the same labels.
MODELS = {"plain logistic regression": bank.fit_plain, "XGBoost": bank.fit_xgboost}


def named(family: str, limit: float | None = GUARDRAIL) -> str:
    """Return the name of a policy."""
    return family if limit is None else f"{family}, at most {100 * limit:g} %"


WITHIN = named("three answers")


def run(
    here: bank.Setting,
    decide: Callable,
    seed: int,
    constants: worlds.Constants | None = None,
    **options,
) -> World:
    """Return the world of a setting under a policy that begins at its start."""
    world = here.world
    policy = StorePolicy(decide, world.terminals, world.customers, here.start, **options)
    days = round((world.end - world.start) / bank.DAY)
    constants = constants or world.constants
    return simulate(policy, seed, len(world.customers), days, constants=constants)


def judged(world: World, start: pd.Timestamp) -> World:
    """Return the three weeks of a world that are judged: without its last day.

    Who is disturbed on that day and leaves, leaves after the end and would not be counted.
    """
    return between(world, start, world.end - bank.DAY)


def with_gap(table: pd.DataFrame) -> pd.DataFrame:
    """Add the share of the gap in cost from the rules (0) to knowing every fraud (1), by seed."""
    return table.assign(gap=gaps(table, BASELINE, FLOOR, "cost", item="policy"))


def policies_of(here: bank.Setting, score: Callable) -> dict[tuple[str, str, float | None], Policy]:
    """Return the policies of the bank's model by name, family and limit, set without labels."""
    recent = here.expected(score)
    made: dict[tuple[str, str, float | None], Policy] = {
        (COLLEAGUE, "", None): Cuts((0.01, 0.5, 0.9), TIERS[1:])
    }
    for family, make in FAMILIES.items():
        for limit in LIMITS:
            made[named(family, limit), family, limit] = make(recent, limit)
    for family, make in VARIANTS.items():
        made[named(family), "", GUARDRAIL] = make(recent, GUARDRAIL)
    return made


def decisions(
    here: bank.Setting, only: Sequence[str] | None = None
) -> dict[tuple[str, str, float | None], tuple[object, Callable]]:
    """Return decisions by name, family and limit, each with what makes it another one."""
    score = bank.train(here).score
    made = {(BASELINE, "", None): ("rules", rules.decide)}
    for key, policy in policies_of(here, score).items():
        made[key] = (policy, decide_by(score, policy))
    others = {n: fit for n, fit in MODELS.items() if only is None or named(n) in only}
    for name, fitter in others.items():
        other = bank.train(here, fitter).score
        policy = FAMILIES["three answers"](here.expected(other), GUARDRAIL)
        made[named(name), "", GUARDRAIL] = ((name, policy), decide_by(other, policy))
    return {key: one for key, one in made.items() if only is None or key[0] in only}


@cache
def in_world(
    seed: int,
    customers: int = CUSTOMERS,
    days: int = DAYS,
    start: int = START,
    only: tuple[str, ...] | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Run the policies in one world.

    Limits that do not bind lead to one policy, which runs once.

    Returns
    -------
    policies : DataFrame
        ``seed``, ``policy``, ``family``, ``limit`` and what
        :func:`~casebook.cases.card_fraud.policy.business` says.
    segments : DataFrame
        ``seed``, ``policy``, ``segment`` and what ``friction_by`` says.
    """
    here = bank.drawn(seed, customers, days, start)
    allowed, shared = judged(here.world, here.start), {}
    made = {("allow all", "", None): ("allow", here.world)}
    made[FLOOR, "", None] = ("knows", simulate(clairvoyant(here.world), seed, customers, days))
    for key, (what, decide) in decisions(here, only).items():
        known = [world for same, world in made.values() if same == what]
        made[key] = (what, known[0] if known else run(here, decide, seed, shared=shared))
    table, segments = [], []
    for (name, family, limit), (_, world) in made.items():
        part = judged(world, here.start)
        place = {"seed": seed, "policy": name, "family": family, "limit": limit}
        table.append({**place, **business(part, allowed)})
        segments.append(friction_by(part).reset_index().assign(seed=seed, policy=name))
    return with_gap(pd.DataFrame(table)), pd.concat(segments)


def policies(seeds: Sequence[int] = SEEDS) -> pd.DataFrame:
    """Run each policy in fresh worlds of :data:`CUSTOMERS` customers, from day :data:`START` on.

    Returns
    -------
    DataFrame
        ``seed``, ``policy``, cost and friction, and ``gap``: the share of the gap in cost between
        the rules and knowing every fraud.
    """
    return pd.concat([in_world(seed)[0] for seed in seeds], ignore_index=True)


#: Whose friction is told by segment.
TOLD = (BASELINE, WITHIN)


def segments(seeds: Sequence[int] = SEEDS) -> pd.DataFrame:
    """Return friction by segment under the rules and the three answers, in the same runs.

    Returns
    -------
    DataFrame
        ``seed``, ``policy``, ``segment``, transactions, asked, blocked and abandoned.
    """
    table = pd.concat([in_world(seed)[1] for seed in seeds], ignore_index=True)
    return table[table["policy"].isin(TOLD)].reset_index(drop=True)


# Constants that nobody knows -------------------------------------------------------------------


def _passes(factor: float) -> worlds.Constants:
    usual = worlds.Constants()
    return replace(usual, passes=tuple(np.minimum(np.multiply(usual.passes, factor), 0.95)))


def _quits(factor: float) -> worlds.Constants:
    usual = worlds.Constants()
    return replace(usual, quits=min(usual.quits * factor, 0.95))


#: What is changed: how attackers react, or how dear a kind of cost is. The bank goes on believing
#: what :class:`~casebook.evaluate.fraud_costs.Economics` says.
CHANGES: Mapping[str, tuple[worlds.Constants, Mapping[str, float]]] = {
    "as it is": (worlds.Constants(), {}),
    "attackers who pass × 0.5": (_passes(0.5), {}),
    "attackers who pass × 2": (_passes(2), {}),
    "attackers who give up × 0.5": (_quits(0.5), {}),
    "attackers who give up × 2": (_quits(2), {}),
    "price of a lost customer × 0.5": (worlds.Constants(), {"churn": 0.5}),
    "price of a lost customer × 2": (worlds.Constants(), {"churn": 2.0}),
    "margin at the European cap": (worlds.Constants(), {"margin": CAP_DEBIT / worlds.MARGIN}),
}
#: What is compared there.
COMPARED = tuple(
    named(family)
    for family in (
        *("three answers", "allow or confirm"),
        *("p × amount, confirm above", "p, block above"),
    )
)


def sensitivity(
    seeds: Sequence[int] = SEEDS, names: Sequence[str] = tuple(CHANGES), customers: int = 400
) -> pd.DataFrame:
    """Change constants that nobody knows, one at a time, and compare policies at the guardrail.

    Returns
    -------
    DataFrame
        ``seed``, ``change``, ``policy``, ``cost``, ``friction``.
    """
    rows = []
    for seed in seeds:
        # Nobody reacts while everything is allowed, so the setting and the model stay.
        here = bank.drawn(seed, customers, DAYS, START)
        score, shared, ran = bank.train(here).score, {}, {}
        made = {key[0]: policy for key, policy in policies_of(here, score).items()}
        allowed = judged(here.world, here.start)
        for change in names:
            constants, prices = CHANGES[change]
            for policy in COMPARED:
                key = (constants, policy)
                if key not in ran:
                    decide = decide_by(score, made[policy])
                    ran[key] = run(here, decide, seed, constants, shared=shared)
                found = business(judged(ran[key], here.start), allowed, prices)
                place = {"seed": seed, "change": change, "policy": policy}
                rows.append({**place, **found[["cost", "friction"]]})
    return pd.DataFrame(rows)


# Labels ----------------------------------------------------------------------------------------


def delayed(seeds: Sequence[int] = SEEDS) -> pd.DataFrame:
    """Return :func:`~casebook.cases.card_fraud.labels.delayed` of fresh worlds."""
    return labels.delayed(seeds)


def selective(seeds: Sequence[int] = SEEDS) -> pd.DataFrame:
    """Return :func:`~casebook.cases.card_fraud.labels.selective` of fresh worlds."""
    return labels.selective(seeds)


# Models on the bank's worlds -------------------------------------------------------------------

#: Families with six settings each, chosen on the worlds for tuning.
LADDER = tuple(bank.CHOSEN)
#: Means in log odds of a line and trees, each at the setting that was chosen.
BLENDS = {
    "XGBoost + line": (bank.fit_line, bank.fit_xgboost),
    "LightGBM + line": (bank.fit_line, partial(bank.fit_family, "LightGBM")),
}
SHIPPED = "the bank's, late labels counted"
#: Before the wave of day 110, and weeks 3 to 5 of it.
SPANS: Mapping[str, tuple[int, int]] = {
    "before the wave": (84, 110),
    "weeks 3 to 5 of the wave": (126, 147),
}
#: Cards a day that are looked at: few are compromised, as there are few customers.
CARDS = 10


def trials(
    seeds: Sequence[int] = bank.TUNING, families: Sequence[str] = LADDER, customers: int = 1000
) -> pd.DataFrame:
    """Try the six settings of each family on the worlds that are for tuning, before the wave.

    Returns
    -------
    DataFrame
        ``family``, ``trial``, ``params``, ``AP`` (mean over worlds, on the truth of the
        validation weeks, which no bank has), ``worst``, ``seconds``, ``chosen``.
    """
    folds = []
    for seed in seeds:
        here = bank.drawn(seed, customers, 110, 84)
        folds.append(
            models.Fold(
                here.X.loc[here.labels.index],
                here.labels.to_numpy(),
                here.X.loc[here.test.index],
                here.test["y"].to_numpy(),
            )
        )
    parts = [models.tune_over(models.FAMILIES[name], folds)[1] for name in families]
    return pd.concat(parts, ignore_index=True)


def ladder(
    seeds: Sequence[int] = SEEDS,
    spans: Mapping[str, tuple[int, int]] = SPANS,
    families: Sequence[str] = LADDER,
    customers: int = 1000,
) -> pd.DataFrame:
    """Compare rules, families, their means and the shipped model on fresh worlds, in two spans.

    All learn from the same labels, three weeks old; the shipped model, from those of the morning.

    Returns
    -------
    DataFrame
        ``seed``, ``span``, ``model``, ``AP``, ``AP old`` (without wallet fraud), ``AP new``
        (wallet fraud alone; empty before the wave), ``recall`` (at 1 % false positives),
        ``card precision`` (of :data:`CARDS` a day; the model ``truth`` says how far it can go),
        and Brier and log skill of the probability (empty for a rank).
    """
    rows = []
    for seed in seeds:
        world = simulate(seed=seed, n_customers=customers, days=150)
        for span, (start, end) in spans.items():
            here = bank.setting(world, start, end)
            X, y = here.X.loc[here.labels.index], here.labels.to_numpy()
            Z = here.X.loc[here.test.index]
            scored = {"rules": _strength(Z), "truth": here.test["y"].to_numpy(float)}
            fitted = {name: bank.fit_family(name, X, y) for name in families}
            fitted |= {name: bank.fit(X, y, parts=parts) for name, parts in BLENDS.items()}
            fitted[SHIPPED] = bank.train(here)
            scored |= {name: model.score(Z) for name, model in fitted.items()}
            for name, score in scored.items():
                found = _scores(here.test, score, y.mean() if name in fitted else None)
                rows.append({"seed": seed, "span": span, "model": name, **found})
    return pd.DataFrame(rows)


def _strength(X: pd.DataFrame) -> np.ndarray:
    """Return the number of the hardest answer that the rules give."""
    return pd.Index(TIERS).get_indexer(rules.decide(X)).astype(float)


def _scores(test: pd.DataFrame, score: np.ndarray, prevalence: float | None) -> dict[str, float]:
    whole = rare.scores(test.assign(score=score), prevalence=prevalence, k=CARDS)
    wave = (test["scenario"] == "wallet").to_numpy()
    old, new = ~wave, wave | (test["y"] == 0).to_numpy()
    y = test["y"].to_numpy()
    return {
        **{name: whole[name] for name in ("AP", "recall", "card precision")},
        "AP old": rare.average_precision(y[old], score[old]),
        "AP new": rare.average_precision(y[new], score[new]) if wave.any() else np.nan,
        "brier skill": whole["brier skill"],
        "log skill": whole["log skill"],
    }


# Public data -----------------------------------------------------------------------------------


@cache
def _handbook() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the Handbook's transactions and their features, or say that the file is missing."""
    frame = fraud_handbook(real("fraud_handbook"))
    return frame, features.handbook(frame)


@cache
def _handbook_tuned() -> tuple[dict, pd.DataFrame]:
    frame, X = _handbook()
    return studies.handbook_tuning(frame, studies.handbook_weeks()[0], LADDER, features=X)


def handbook_trials() -> pd.DataFrame:
    """Try the settings of each family on the Handbook's two validation weeks.

    Returns
    -------
    DataFrame
        As :func:`~casebook.cases.card_fraud.models.tune_over`.
    """
    return _handbook_tuned()[1]


def handbook() -> pd.DataFrame:
    """Judge the tuned families on the Handbook's four test weeks, by its protocol.

    Returns
    -------
    DataFrame
        As :func:`~casebook.cases.card_fraud.studies.handbook_study`.
    """
    frame, X = _handbook()
    names = (*LADDER, *studies.PUBLISHED)
    test = studies.handbook_weeks()[1]
    return studies.handbook_study(frame, test, names, _handbook_tuned()[0], features=X)


def imbalance() -> pd.DataFrame:
    """Hold weights, SMOTE and under-sampling against doing nothing, on the Handbook.

    Returns
    -------
    DataFrame
        As :func:`~casebook.cases.card_fraud.studies.imbalance_study`, one setting, four weeks.
    """
    frame, X = _handbook()
    test = studies.handbook_weeks()[1]
    folds = studies.handbook_folds(frame, test, X)
    return studies.imbalance_study(dict(zip([w.name for w in test], folds, strict=True)))


def real_thinned() -> pd.DataFrame:
    """Thin out the genuine rows of the Handbook's last test week; the model is LightGBM.

    Returns
    -------
    DataFrame
        As :func:`~casebook.evaluate.rare.thinned_test`.
    """
    frame, X = _handbook()
    (fold,) = studies.handbook_folds(frame, studies.handbook_weeks()[1][-1:], X)
    boosted = models.FAMILIES["LightGBM"].fit(fold.X_train, fold.y_train)
    thin = rare.thinned_test(fold.y_validation, boosted.score(fold.X_validation), draws=20)
    return from_real(thin, "fraud_handbook")


BENCHMARKS: dict[str, Callable[[], pd.DataFrame]] = {
    "trials": trials,
    "ladder": ladder,
    "policies": policies,
    "segments": segments,
    "delayed": delayed,
    "selective": selective,
    "sensitivity": sensitivity,
    "handbook_trials": handbook_trials,
    "handbook": handbook,
    "imbalance": imbalance,
    "real_thinned": real_thinned,
}
