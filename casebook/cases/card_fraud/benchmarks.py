"""Benchmarks of case 12: worlds in which the policy acts, many seeds, public data in full.

The models, cut-offs and rules were fixed before the worlds of :data:`SEEDS` were drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache, lru_cache

import numpy as np
import pandas as pd

from casebook.cases.card_fraud import (
    bank,
    channels,
    costs,
    features,
    labels,
    models,
    protocol,
    rules,
    studies,
)
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
from casebook.data.tables import fraud_handbook, ulb
from casebook.evaluate.gap import gaps
from casebook.recorded.real import from_real
from casebook.recorded.studies import Change
from casebook.recorded.studies import sensitivity as varied

#: Fresh worlds.
SEEDS = tuple(range(101, 116))
#: Size of the worlds in which a policy acts, and the day on which it begins.
CUSTOMERS, DAYS, START = 800, 120, 98
BASELINE, FLOOR = "rules", "knows every fraud"


# Policies ------------------------------------------------------------------------------------

#: Largest shares of the payments that a family of policies may disturb; None: as the costs say.
LIMITS = (0.003, 0.01, None)
#: Answers of a family: one threshold on the probability, or the cheapest of three by amount.
FAMILIES = ("three answers", "confirm, one threshold", "block, one threshold")


def choices(here: bank.Setting, score: Callable) -> dict[tuple[str, float | None], Callable]:
    """Return what each family makes of probabilities and amounts at each limit, without labels.

    Thresholds come from expected costs or from the limit, on the payments of the three weeks
    before the policy begins.
    """
    recent = here.recent()
    p, amount = score(recent), bank.amounts(here.world, recent.index)
    made: dict[tuple[str, float | None], Callable] = {}
    for limit in LIMITS:
        made[FAMILIES[0], limit] = bank.answers(here, score, 1.0 if limit is None else limit)
        for name in FAMILIES[1:]:
            tier = name.split(",")[0]
            if limit is None:
                cut = bank.single_threshold(p, amount, tier)
            else:
                cut = float(np.quantile(p, 1 - limit))
            made[name, limit] = _threshold(tier, cut)
    return made


def _threshold(tier: str, cut: float) -> Callable:
    return lambda p, a: np.where(p > cut, tier, TIERS[0])


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


def with_gap(table: pd.DataFrame) -> pd.DataFrame:
    """Add the share of the gap in cost from the rules (0) to knowing every fraud (1), by seed."""
    return table.assign(gap=gaps(table, BASELINE, FLOOR, "cost", item="policy"))


def exempted(here: bank.Setting, score: Callable, limit: float = bank.GUARDRAIL) -> Callable:
    """Return a decision that knows that merchants bear what passes online unconfirmed."""
    recent = here.recent()
    p, amount = score(recent), bank.amounts(here.world, recent.index)
    channel = here.world.transactions.set_index("transaction")["channel"]
    bears = channels.borne(channel.loc[recent.index])
    price = costs.price_within(limit, lambda price: bank.Answers(price)(p, amount, bears))
    answers = bank.Answers(price)

    def decide(X: pd.DataFrame, batch: pd.DataFrame) -> np.ndarray:
        return answers(score(X), batch["amount"].to_numpy(), channels.borne(batch["channel"]))

    return decide


def decisions(here: bank.Setting, score: Callable) -> dict[tuple[str, str, float | None], Callable]:
    """Return all policies by name, family and limit."""
    made: dict[tuple[str, str, float | None], Callable] = {(BASELINE, "", None): rules.decide}
    cuts = (0.01, 0.5, 0.9)
    made["0.01 / 0.5 / 0.9", "", None] = decide_by(score, lambda p, a: costs.fixed_tiers(p, *cuts))
    for (family, limit), choose in choices(here, score).items():
        name = family + ("" if limit is None else f", at most {limit:.1%}")
        made[name, family, limit] = decide_by(score, choose)
    made["merchants bear online, at most 1.0%", "", bank.GUARDRAIL] = exempted(here, score)
    return made


@cache
def in_world(
    seed: int,
    customers: int = CUSTOMERS,
    days: int = DAYS,
    start: int = START,
    only: tuple[str, ...] | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Run the policies in one world.

    Returns
    -------
    policies : DataFrame
        ``seed``, ``policy``, ``family``, ``limit`` and what
        :func:`~casebook.cases.card_fraud.policy.business` says.
    segments : DataFrame
        ``seed``, ``policy``, ``segment`` and what ``friction_by`` says.
    """
    here = bank.drawn(seed, customers, days, start)
    score = bank.train(here).score
    allowed, shared = between(here.world, here.start), {}
    made = {("allow all", "", None): here.world}
    for key, decide in decisions(here, score).items():
        if only is None or key[0] in only:
            made[key] = run(here, decide, seed, shared=shared)
    made[FLOOR, "", None] = simulate(clairvoyant(here.world), seed, customers, days)
    table, segments = [], []
    for (name, family, limit), world in made.items():
        part = between(world, here.start)
        named = {"seed": seed, "policy": name, "family": family, "limit": limit}
        table.append({**named, **business(part, allowed)})
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
TOLD = (BASELINE, "three answers, at most 1.0%")


def segments(seeds: Sequence[int] = SEEDS) -> pd.DataFrame:
    """Return friction by segment under the rules and the three answers, in the same runs.

    Returns
    -------
    DataFrame
        ``seed``, ``policy``, ``segment``, transactions, asked, blocked, abandoned, and false
        alarms for each fraud.
    """
    table = pd.concat([in_world(seed)[1] for seed in seeds], ignore_index=True)
    return table[table["policy"].isin(TOLD)].reset_index(drop=True)


# The two most arbitrary constants --------------------------------------------------------------

CONSTANTS: dict[str, Change] = {
    "attackers who pass": lambda usual, factor: replace(
        usual, passes=tuple(np.minimum(np.multiply(usual.passes, factor), 0.95))
    ),
    "attackers who give up": lambda usual, factor: replace(
        usual, quits=min(usual.quits * factor, 0.95)
    ),
}
FACTORS = (0.5, 1.0, 2.0)
#: What is compared where the constants vary.
COMPARED = ("three answers, at most 1.0%", "block, one threshold, at most 1.0%")


def sensitivity(
    seeds: Sequence[int] = SEEDS, names: Sequence[str] = tuple(CONSTANTS), customers: int = 600
) -> pd.DataFrame:
    """Halve and double the two most arbitrary constants of the world, one at a time.

    The bank goes on believing what :class:`~casebook.cases.card_fraud.costs.Economics` says.

    Returns
    -------
    DataFrame
        ``seed``, ``constant``, ``factor``, ``policy``, ``cost``, ``friction``.
    """
    table = varied(
        lambda seed, constants: _under(seed, constants, customers),
        worlds.Constants(),
        {name: CONSTANTS[name] for name in names},
        FACTORS,
        seeds,
    )
    return table[["seed", "constant", "factor", "policy", "cost", "friction"]]


def _under(seed: int, constants: worlds.Constants, customers: int) -> pd.DataFrame:
    """Return cost and friction of two policies in a world with other reactions.

    Nobody reacts while everything is allowed, so the setting and the model stay.
    """
    here, decided, allowed, shared = _unreacting(seed, customers)
    rows = []
    for name, decide in decided.items():
        part = between(run(here, decide, seed, constants, shared=shared), here.start)
        rows.append({"seed": seed, "policy": name, **business(part, allowed)})
    return pd.DataFrame(rows)


@lru_cache(maxsize=1)
def _unreacting(seed: int, customers: int) -> tuple[bank.Setting, dict, World, dict]:
    here = bank.drawn(seed, customers, START + 20, START)
    made = decisions(here, bank.train(here).score)
    decided = {name: decide for (name, *_), decide in made.items() if name in COMPARED}
    return here, decided, between(here.world, here.start), {}


# Labels ----------------------------------------------------------------------------------------


def delayed(seeds: Sequence[int] = SEEDS) -> pd.DataFrame:
    """Return :func:`~casebook.cases.card_fraud.labels.delayed` of fresh worlds."""
    return labels.delayed(seeds)


def selective(seeds: Sequence[int] = SEEDS) -> pd.DataFrame:
    """Return :func:`~casebook.cases.card_fraud.labels.selective` of fresh worlds."""
    return labels.selective(seeds)


# Models on the bank's worlds -------------------------------------------------------------------

#: Families with six settings each, chosen on the worlds for tuning.
LADDER = ("logistic regression", "logistic regression, logs", "XGBoost", "LightGBM")
#: Before the wave of day 110, and in its first weeks.
SPANS: Mapping[str, tuple[int, int]] = {
    "before the wave": (84, 110),
    "its first weeks": (126, 147),
}


def trials(
    seeds: Sequence[int] = bank.TUNING[:2], families: Sequence[str] = LADDER, customers: int = 1500
) -> pd.DataFrame:
    """Try the six settings of each family on the worlds that are for tuning, before the wave.

    Returns
    -------
    DataFrame
        ``family``, ``trial``, ``params``, ``AP`` (mean over worlds, on the truth of the
        validation weeks), ``worst``, ``seconds``, ``chosen``.
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
    customers: int = 1500,
    chosen: Mapping[str, int] | None = None,
) -> pd.DataFrame:
    """Compare the families, the bank's model, rules and oracle on fresh worlds, in two spans.

    All learn from the same labels, three weeks old; the shipped model, from those of the morning.

    Parameters
    ----------
    chosen : mapping, optional
        Family → number of its setting; by default as :func:`trials` recorded.

    Returns
    -------
    DataFrame
        ``seed``, ``span``, ``model``, ``AP``, ``AP old`` (without wallet fraud), ``AP new``
        (wallet fraud alone; empty before the wave), ``recall`` (at 1 % false positives),
        ``card precision`` (of 20 cards a day, as there are 1,500 customers), and Brier and log
        skill of the repaired probability (empty for a rank).
    """
    chosen = _recorded_choice() if chosen is None else chosen
    rows = []
    for seed in seeds:
        world = simulate(seed=seed, n_customers=customers, days=150)
        for span, (start, end) in spans.items():
            here = bank.setting(world, start, end)
            X, y = here.X.loc[here.labels.index], here.labels.to_numpy()
            Z = here.X.loc[here.test.index]
            scored = {"rules": (_strength(Z), False)}
            for name in families:
                family = models.FAMILIES[name]
                model = family.fit(X, y, family.trials[chosen[name]])
                scored[name] = (model.repaired(Z), model.probability)
            scored["bank's model"] = (bank.fit(X, y).score(Z), True)
            scored["bank's, late labels counted"] = (bank.train(here).score(Z), True)
            oracle = world.truth.set_index("transaction")["oracle"].loc[Z.index].to_numpy()
            scored["oracle"] = (oracle, True)
            for name, (score, probability) in scored.items():
                judged = _judged(here.test, score, y.mean() if probability else None)
                rows.append({"seed": seed, "span": span, "model": name, **judged})
    return pd.DataFrame(rows)


def _recorded_choice() -> dict[str, int]:
    from casebook.recorded.bench import recorded

    table = recorded(worlds.CHAPTER, "trials").frame
    table = table[table["chosen"].astype(bool)]
    return dict(zip(table["family"], table["trial"], strict=True))


def _strength(X: pd.DataFrame) -> np.ndarray:
    """Return the number of the hardest answer that the rules give."""
    return pd.Index(TIERS).get_indexer(rules.decide(X)).astype(float)


def _judged(test: pd.DataFrame, score: np.ndarray, prevalence: float | None) -> dict[str, float]:
    whole = protocol.scores(test.assign(score=score), prevalence=prevalence, k=20)
    wave = (test["scenario"] == "wallet").to_numpy()
    old, new = ~wave, wave | (test["y"] == 0).to_numpy()
    y = test["y"].to_numpy()
    return {
        **{name: whole[name] for name in ("AP", "recall", "card precision")},
        "AP old": protocol.average_precision(y[old], score[old]),
        "AP new": protocol.average_precision(y[new], score[new]) if wave.any() else np.nan,
        "brier skill": whole["brier skill"],
        "log skill": whole["log skill"],
    }


# Public data -----------------------------------------------------------------------------------

#: Families that meet tuned XGBoost on the Fraud Handbook's data.
PEERS = (*LADDER, "autoencoder", "LightGBM + autoencoder")


@cache
def _handbook() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the Handbook's transactions and their features, or say that the file is missing."""
    frame = fraud_handbook(real("fraud_handbook"))
    return frame, features.handbook(frame)


@cache
def _handbook_tuned() -> tuple[dict, pd.DataFrame]:
    frame, X = _handbook()
    return studies.handbook_tuning(frame, studies.handbook_weeks()[0], PEERS, features=X)


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
    names = (*PEERS, *studies.PUBLISHED)
    test = studies.handbook_weeks()[1]
    return studies.handbook_study(frame, test, names, _handbook_tuned()[0], features=X)


def imbalance() -> pd.DataFrame:
    """Hold weights, SMOTE, under-sampling and focal loss against doing nothing, on the Handbook.

    Returns
    -------
    DataFrame
        As :func:`~casebook.cases.card_fraud.studies.imbalance_study`, one setting, four weeks.
    """
    frame, X = _handbook()
    test = studies.handbook_weeks()[1]
    folds = studies.handbook_folds(frame, test, X)
    return studies.imbalance_study(dict(zip([w.name for w in test], folds, strict=True)))


def real_handbook_week() -> pd.DataFrame:
    """Judge three families without tuning on the Handbook's last test week.

    Returns
    -------
    DataFrame
        As :func:`~casebook.cases.card_fraud.studies.handbook_study`, without ``seconds``.
    """
    frame, X = _handbook()
    names = ("logistic regression", "LightGBM", *studies.PUBLISHED)
    last = studies.handbook_weeks()[1][-1:]
    study = studies.handbook_study(frame, last, names, features=X)
    return from_real(study.drop(columns="seconds"), "fraud_handbook")


def real_thinned() -> pd.DataFrame:
    """Thin out the genuine rows of the Handbook's last test week; the model is LightGBM.

    Returns
    -------
    DataFrame
        As :func:`~casebook.cases.card_fraud.studies.thinned_test`.
    """
    frame, X = _handbook()
    (fold,) = studies.handbook_folds(frame, studies.handbook_weeks()[1][-1:], X)
    boosted = models.FAMILIES["LightGBM"].fit(fold.X_train, fold.y_train)
    thin = studies.thinned_test(fold.y_validation, boosted.score(fold.X_validation), draws=20)
    return from_real(thin, "fraud_handbook")


def real_ulb() -> pd.DataFrame:
    """Score two families on the larger ULB sample, as reported and at the real share of fraud.

    Returns
    -------
    DataFrame
        As :func:`~casebook.cases.card_fraud.studies.ulb_study`.
    """
    families = ("logistic regression", "LightGBM")
    return from_real(studies.ulb_study(ulb(real("ulb_4800")), families, resamples=100), "ulb_4800")


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
    "real_handbook_week": real_handbook_week,
    "real_thinned": real_thinned,
    "real_ulb": real_ulb,
}
