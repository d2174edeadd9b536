"""Benchmarks of case 12: worlds in which the policy acts, many seeds, public data in full.

The models, cut-offs and rules were fixed before the worlds of :data:`SEEDS` were drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd

from casebook.cases.card_fraud import bank, costs, features, models, protocol, rules, studies
from casebook.cases.card_fraud.policy import (
    StorePolicy,
    between,
    business,
    clairvoyant,
    decide_by,
    friction_by,
)
from casebook.cases.card_fraud.world import TIERS, World, simulate, visible_labels
from casebook.cases.card_fraud.world import constants as worlds
from casebook.data import real
from casebook.data.tables import fraud_handbook, ulb
from casebook.evaluate.gap import gaps
from casebook.recorded.real import from_real
from casebook.recorded.studies import Change
from casebook.recorded.studies import sensitivity as varied

#: Fresh worlds.
SEEDS = (11, 12, 13, 14, 15)
#: Size of the worlds in which a policy acts, and the day on which it begins.
CUSTOMERS, DAYS, START = 1500, 150, 90
BASELINE, FLOOR = "rules", "knows every fraud"


# Policies ------------------------------------------------------------------------------------


def choices(here: bank.Setting, score: Callable) -> dict[str, Callable]:
    """Return what each policy makes of probabilities and amounts; none needs a label.

    Thresholds come from expected costs or from the guardrail, on the payments of the three weeks
    before the policy begins.
    """
    recent = here.recent()
    p, amount = score(recent), bank.amounts(here.world, recent.index)
    block = bank.single_threshold(p, amount, "block")
    confirm = bank.single_threshold(p, amount, "confirm")
    top = float(np.quantile(p, 1 - bank.GUARDRAIL))
    return {
        "block, one threshold": lambda p, a: costs.fixed_tiers(p, block, block, block),
        "confirm, one threshold": lambda p, a: costs.fixed_tiers(p, confirm, 1, 1),
        "confirm, within the guardrail": lambda p, a: costs.fixed_tiers(p, top, 1, 1),
        "0.01 / 0.5 / 0.9": lambda p, a: costs.fixed_tiers(p, 0.01, 0.5, 0.9),
        "tiers from costs": bank.Answers(),
        "tiers, within the guardrail": bank.answers(here, score),
    }


def run(here: bank.Setting, decide: Callable, seed: int, **options) -> World:
    """Return the world of a setting under a policy that begins at its start."""
    world = here.world
    policy = StorePolicy(decide, world.terminals, world.customers, here.start, **options)
    days = round((world.end - world.start) / bank.DAY)
    return simulate(policy, seed, len(world.customers), days, constants=world.constants)


def with_gap(table: pd.DataFrame) -> pd.DataFrame:
    """Add the share of the gap in cost from the rules (0) to knowing every fraud (1), by seed."""
    return table.assign(gap=gaps(table, BASELINE, FLOOR, "cost", item="policy"))


def in_world(
    seed: int,
    customers: int = CUSTOMERS,
    days: int = DAYS,
    start: int = START,
    only: Sequence[str] | None = None,
    constants: worlds.Constants | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Run the policies in one world.

    Returns
    -------
    policies : DataFrame
        ``seed``, ``policy`` and what :func:`~casebook.cases.card_fraud.policy.business` says.
    segments : DataFrame
        ``seed``, ``policy``, ``segment`` and what ``friction_by`` says.
    """
    world = simulate(seed=seed, n_customers=customers, days=days, constants=constants)
    here = bank.setting(world, start)
    score = here.train().score
    allowed = between(here.world, here.start)
    decided = {BASELINE: rules.decide}
    for name, choose in choices(here, score).items():
        decided[name] = decide_by(score, choose)
    if only is not None:
        decided = {name: decided[name] for name in only}
    made = {name: run(here, decide, seed) for name, decide in decided.items()}
    knows = simulate(clairvoyant(here.world), seed, customers, days, constants=constants)
    made = {"allow all": here.world, **made, FLOOR: knows}
    table, segments = [], []
    for name, world in made.items():
        part = between(world, here.start)
        table.append({"seed": seed, "policy": name, **business(part, allowed)})
        shares = friction_by(part).reset_index()
        segments.append(shares.assign(seed=seed, policy=name))
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


def segments(
    seeds: Sequence[int] = SEEDS[:3],
    only: Sequence[str] = ("tiers, within the guardrail", "tiers from costs"),
) -> pd.DataFrame:
    """Return friction by segment under the rules and the tiers.

    Returns
    -------
    DataFrame
        ``seed``, ``policy``, ``segment``, transactions, asked, blocked, abandoned, and false
        alarms for each fraud.
    """
    parts = [in_world(seed, only=(BASELINE, *only))[1] for seed in seeds]
    table = pd.concat(parts, ignore_index=True)
    return table[~table["policy"].isin(["allow all", FLOOR])]


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


def sensitivity(
    seeds: Sequence[int] = SEEDS[:2], names: Sequence[str] = tuple(CONSTANTS)
) -> pd.DataFrame:
    """Halve and double the two most arbitrary constants of the world, one at a time.

    The bank goes on believing what :class:`~casebook.cases.card_fraud.costs.Economics` says.

    Returns
    -------
    DataFrame
        ``seed``, ``constant``, ``factor``, ``policy``, ``cost``, ``gap``.
    """
    only = (BASELINE, "block, one threshold", "tiers, within the guardrail")
    table = varied(
        lambda seed, constants: in_world(seed, 1000, 130, START, only, constants)[0],
        worlds.Constants(),
        {name: CONSTANTS[name] for name in names},
        FACTORS,
        seeds,
    )
    return table[["seed", "constant", "factor", "policy", "cost", "friction", "gap"]]


# Selective labels ------------------------------------------------------------------------------

#: Days between two trainings, and shares that are let through whatever the policy says.
EVERY, HOLDBACKS = 14, (0.0, 0.01, 0.05)
#: Which labels train: of the days whose genuine payments are labelled, or all that there are.
TRAININGS = ("same days", "all there are")


def retrainer(here: bank.Setting, training: str = TRAININGS[0]) -> Callable:
    """Return a training of the bank's model on what is known by then.

    A denial is known at once and its genuine neighbours are not: ``"all there are"`` holds the
    denials of the last weeks alone, and a share of fraud that never was.
    """
    first_X, first_y = here.X.loc[here.labels.index], here.labels.to_numpy()

    def retrain(log: pd.DataFrame, known: pd.DataFrame, now: pd.Timestamp) -> Callable:
        rows = known[known["transaction"].isin(log.index)]
        if training == TRAININGS[0]:
            last = known.loc[~known["fraud"].astype(bool), "transaction"].max()
            rows = rows[rows["transaction"] <= last]
        X, y = log.loc[rows["transaction"]], rows["fraud"].to_numpy(int)
        model = bank.fit(pd.concat([first_X, X]), np.concatenate([first_y, y]))
        return decide_by(model.score, bank.Answers())

    return retrain


def selective(
    seeds: Sequence[int] = SEEDS[:3], holdbacks: Sequence[float] = HOLDBACKS
) -> pd.DataFrame:
    """Let a policy train on what it let through, for 60 days, with and without a hold-back.

    At the end two models are trained on the policy's payments that are three weeks old: on the
    labels that the bank has, and on the truth. Both score the same payments: those of the last
    20 days of the world in which everything was allowed.

    Returns
    -------
    DataFrame
        ``seed``, ``training`` (one of :data:`TRAININGS`), ``holdback``, ``cost`` (euro a thousand
        payments), ``labelled`` (share of frauds that were tried and have a label by the end),
        ``AP known``, ``AP truth``, ``recall held back`` and ``held back frauds``: recall of the
        policy as the hold-back shows it, and of how many frauds.
    """
    rows = []
    for seed in seeds:
        here = bank.drawn(seed, CUSTOMERS, DAYS, START)
        score = here.train().score
        last = here.world.end - 20 * bank.DAY
        late = here.test[here.test["time"] >= last]
        allowed = between(here.world, here.start)
        for training, share in [*((TRAININGS[0], h) for h in holdbacks), (TRAININGS[1], 0.0)]:
            policy = StorePolicy(
                decide_by(score, bank.Answers()),
                here.world.terminals,
                here.world.customers,
                here.start,
                retrain=retrainer(here, training),
                every=EVERY,
            )
            world = simulate(policy, seed, CUSTOMERS, DAYS, holdback=share)
            rows.append(
                {
                    "seed": seed,
                    "training": training,
                    "holdback": share,
                    "cost": business(between(world, here.start), allowed)["cost"],
                    **_learned(here, world, policy, late),
                    **_held_back(between(world, here.start)),
                }
            )
    return pd.DataFrame(rows)


def _learned(here: bank.Setting, world: World, policy: StorePolicy, late: pd.DataFrame) -> dict:
    """Train on the labels of a policy's world, and on its truth, and score the same payments."""
    X = pd.concat(policy.log)
    received = world.transactions.set_index("transaction")["received"].loc[X.index]
    X = X[received < world.end - bank.WAIT * bank.DAY]
    fraud = world.truth.set_index("transaction")["is_fraud"].loc[X.index]
    seen = visible_labels(world, world.end, bank.WAIT).set_index("transaction")["chargeback"]
    outcome = world.transactions.set_index("transaction")["outcome"].loc[X.index]
    known = seen.reindex(X.index)
    known[outcome == "denied"] = True
    has = known.notna()
    both = {
        "AP known": bank.fit(X[has], known[has].to_numpy(int)),
        "AP truth": bank.fit(X, fraud.to_numpy(int)),
    }
    judged = {
        name: protocol.average_precision(late["y"], model.score(here.X.loc[late.index]))
        for name, model in both.items()
    }
    return {"labelled": float(known[fraud].eq(True).mean()), **judged}


def _held_back(world: World) -> dict:
    """Return what the hold-back says of recall: of its frauds, how many would have been stopped."""
    seen = world.transactions
    fraud = seen["holdback"] & world.truth["is_fraud"].to_numpy()
    fraud &= ~seen["request"].duplicated()
    advised = seen.loc[fraud, "advised"] != TIERS[0]
    return {
        "recall held back": advised.mean() if len(advised) else np.nan,
        "held back frauds": len(advised),
    }


# Models on the bank's worlds -------------------------------------------------------------------

#: Families with six settings each, chosen on the worlds for tuning.
LADDER = (
    "logistic regression",
    "random forest",
    "XGBoost",
    "LightGBM",
    "LightGBM weighted",
    "LightGBM SMOTE",
    "LightGBM under-sampled",
    "LightGBM focal",
    "autoencoder",
)
#: Before the wave of day 110, in its first weeks, and after it has been labelled.
SPANS: Mapping[str, tuple[int, int]] = {
    "before the wave": (84, 110),
    "its first weeks": (126, 147),
    "weeks later": (154, 175),
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
    """Compare the families, the bank's model, rules and oracle on fresh worlds, in three spans.

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
        world = simulate(seed=seed, n_customers=customers)
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


def waits(
    seeds: Sequence[int] = SEEDS[:3], days: Sequence[float] = (0, 7, 14, 21, 28, 42)
) -> pd.DataFrame:
    """Train with labels that had so many days to come, and test the four weeks from day 84.

    Returns
    -------
    DataFrame
        ``seed``, ``wait``, ``frauds`` (labelled in training), ``share known`` (of those that
        happened in the same days), and ``AP`` of logistic regression, LightGBM and their blend.
    """
    rows = []
    for seed in seeds:
        world = simulate(seed=seed, n_customers=3000, days=112)
        for wait in days:
            here = bank.setting(world, 84, wait=wait)
            index = here.labels.index
            true = world.truth.set_index("transaction")["is_fraud"].loc[index]
            fitted = {
                "logistic": models.FAMILIES["logistic regression"].fit,
                "LightGBM": bank.fit_trees,
                "both": bank.fit,
            }
            Z = here.X.loc[here.test.index]
            rows.append(
                {
                    "seed": seed,
                    "wait": wait,
                    "frauds": int(here.labels.sum()),
                    "share known": here.labels[true].mean(),
                    **{
                        f"AP {name}": protocol.average_precision(
                            here.test["y"], here.train(one).score(Z)
                        )
                        for name, one in fitted.items()
                    },
                }
            )
    return pd.DataFrame(rows)


# Graph -----------------------------------------------------------------------------------------

#: Steps of :func:`~casebook.cases.card_fraud.graph.lift_table` in words.
STEPS = {
    "without devices + graph − without devices": "no device features → graph",
    "features − without devices": "no device features → device features",
    "features + graph − features": "all features → and graph",
}


def graph(seeds: Sequence[int] = SEEDS[:3]) -> pd.DataFrame:
    """Measure what graph features add to LightGBM in fresh worlds of the default size.

    Returns
    -------
    DataFrame
        ``step``, ``metric``, ``before``, ``after``, ``gain``, ``low``, ``high``: see
        :func:`~casebook.cases.card_fraud.graph.lift_table`.
    """
    from casebook.cases.card_fraud.graph import lift_study, lift_table

    table = lift_table({seed: lift_study(simulate(seed=seed)) for seed in seeds})
    return table.loc[list(STEPS)].rename(index=STEPS, level="step").reset_index()


def rings() -> pd.DataFrame:
    """Flag rings each third morning of the default world, by how many victims are demanded.

    Returns
    -------
    DataFrame
        ``victims``, ``precision`` (flagged communities that are a ring's), ``flags`` (a morning),
        ``active found`` (share of the rings with a fraud in the window), ``foreseen`` (share of
        the rings' frauds of the next seven days on a flagged machine), ``days`` (median from a
        ring's first fraud to its flag).
    """
    from casebook.cases.card_fraud.graph import ring_study

    world = simulate()
    known = features.evidence(world.transactions, world.labels)
    rows = []
    for least in (1, 2, 3):
        by_day, by_ring = ring_study(world, known, least=least, every=3)
        rows.append(
            {
                "victims": least,
                "precision": by_day["right"].sum() / by_day["flagged"].sum(),
                "flags": by_day["flagged"].mean(),
                "active found": by_day["found"].sum() / by_day["active"].sum(),
                "foreseen": by_day["foreseen"].sum() / by_day["frauds"].sum(),
                "days": by_ring["delay"].median(),
            }
        )
    return pd.DataFrame(rows)


# Public data -----------------------------------------------------------------------------------

#: Families that meet tuned XGBoost on the Fraud Handbook's data.
PEERS = (*LADDER, "LightGBM + autoencoder")


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
    names = (*PEERS, "XGBoost as published")
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
    names = ("logistic regression", "LightGBM", "XGBoost as published")
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
    "waits": waits,
    "policies": policies,
    "segments": segments,
    "selective": selective,
    "sensitivity": sensitivity,
    "graph": graph,
    "rings": rings,
    "handbook_trials": handbook_trials,
    "handbook": handbook,
    "imbalance": imbalance,
    "real_handbook_week": real_handbook_week,
    "real_thinned": real_thinned,
    "real_ulb": real_ulb,
}
