"""The same functions on public data: IBM's telephone customers (risk), Hillstrom's mails (uplift).

IBM's customers are made up, and nobody was called: they test the risk models alone. Hillstrom's are
real and chance decided who got which mail; what a mail should change there is a visit of the shop.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from casebook.data import real
from casebook.data.tables import MAILS, hillstrom, telco
from casebook.evaluate import effects
from casebook.evaluate.uplift import ips_scores, over_random
from casebook.recorded.real import from_real

#: Repeats of ten-fold cross-validation on the telephone customers.
REPEATS = (0, 1, 2)
#: Small models: the public sets have a tenth of the rows of a world.
SMALL = {"n_estimators": 100, "num_leaves": 4, "min_child_samples": 50}


def contract_rule(features: pd.DataFrame) -> np.ndarray:
    """Return a score by hand: contracts by the month first, then the youngest."""
    monthly = features["Contract_Month-to-month"].to_numpy()
    return 1_000 * monthly - features["tenure"].to_numpy(float)


def as_sample(table: pd.DataFrame) -> effects.Sample:
    """Return the experiment as a randomised month: not to visit is what a mail shall prevent."""
    features = table.drop(columns=["drawn", "visit", "spend"])
    drawn = table["drawn"].to_numpy(bool)
    n = len(table)
    chance = np.full(n, drawn.mean())
    return effects.Sample(features, table["visit"].to_numpy() == 0, drawn, chance, np.arange(n))


def real_telco(repeats: Sequence[int] = REPEATS) -> pd.DataFrame:
    """Score the risk models on the telephone customers by ten-fold cross-validation.

    Returns
    -------
    DataFrame
        ``repeat``, ``model`` (rule, logistic, risk), ``auc``, ``auprc``, ``top`` (precision in the
        tenth with the highest scores), ``brier``; ``data``.
    """
    from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score
    from sklearn.model_selection import StratifiedKFold

    x, y = telco(real("telco"))
    nobody, rows = np.zeros(len(y), bool), []
    for repeat in repeats:
        made = {name: np.zeros(len(y)) for name in effects.RISKS}
        for fit, test in StratifiedKFold(10, shuffle=True, random_state=repeat).split(x, y):
            own = effects.Sample(x.iloc[fit], y[fit], nobody[fit], np.full(len(fit), 0.5), fit)
            for name, learn in effects.RISKS.items():
                made[name][test] = learn(own, SMALL if name == "risk" else None)(x.iloc[test])
        for name, score in {"rule": contract_rule(x), **made}.items():
            top = np.argsort(-score, kind="stable")[: len(y) // 10]
            metrics = {"auc": roc_auc_score(y, score), "auprc": average_precision_score(y, score)}
            brier = brier_score_loss(y, score) if name != "rule" else np.nan
            rows.append(
                {"repeat": repeat, "model": name, **metrics, "top": y[top].mean(), "brier": brier}
            )
    return from_real(pd.DataFrame(rows), "telco")


def mail_scores(sample: effects.Sample, settings: Mapping[str, object]) -> dict[str, np.ndarray]:
    """Return out-of-fold scores of every learner, and of two rules.

    ``visits`` sorts by the chance to visit without a mail, as a response model does; ``recency``
    by the months since the last purchase, the latest first.
    """
    learners = {"visits": effects.risk, **effects.EFFECTS}
    made = {name: np.empty(len(sample.drawn)) for name in learners}
    for k in range(2):
        here = sample.folds() == k
        for name, learn in learners.items():
            made[name][here] = learn(sample.where(~here), settings)(sample.features[here])
    made["visits"] *= -1  # the risk is not to visit
    return made | {"recency": -sample.features["recency"].to_numpy()}


def real_hillstrom(mails: Sequence[str] = tuple(MAILS)) -> pd.DataFrame:
    """Score the learners on Hillstrom's mails by the area over a random order.

    Returns
    -------
    DataFrame
        ``mail``, ``score``, ``effect`` (visits that a mail adds, share), ``area``, ``low``,
        ``high`` (visits per 1,000 customers, over a random order); ``data``.
    """
    rows = []
    for mail in mails:
        sample = as_sample(hillstrom(real("hillstrom"), mail))
        # Less the mean the scores have the same expectation, and a third of the spread.
        centred = sample.cancelled - sample.cancelled.mean()
        gained = ips_scores(centred, sample.drawn, sample.chance)
        for name, score in mail_scores(sample, SMALL).items():
            found = over_random(score, gained, sample.account)
            area, low, high = (1_000 * v for v in (found.value, found.low, found.high))
            rows.append((mail, name, gained.mean(), area, low, high))
    columns = ["mail", "score", "effect", "area", "low", "high"]
    return from_real(pd.DataFrame(rows, columns=columns), "hillstrom")
