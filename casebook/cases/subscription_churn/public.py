"""The same functions on public data: IBM's telephone customers (risk), Hillstrom's mails (uplift).

IBM's customers are made up, and nobody was called: they test the risk models alone. Hillstrom's are
real and chance decided who got which mail; what a mail should change there is a visit of the shop.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from casebook.cases.subscription_churn import uplift
from casebook.cases.subscription_churn.evaluation import ips_scores, over_random
from casebook.data import real
from casebook.recorded.real import from_real

#: Repeats of ten-fold cross-validation on the telephone customers.
REPEATS = (0, 1, 2)
#: Small models: the public sets have a tenth of the rows of a world.
SMALL = {"n_estimators": 100, "num_leaves": 4, "min_child_samples": 50}
MAILS = {"womens": "Womens E-Mail", "mens": "Mens E-Mail"}
NO_MAIL = "No E-Mail"


def telco(path: Path) -> tuple[pd.DataFrame, np.ndarray]:
    """Read the telephone customers.

    Parameters
    ----------
    path : Path
        ``casebook.data.real("telco")``.

    Returns
    -------
    features : DataFrame
        7,043 rows; numbers, and a column of 0 and 1 for each answer.
    churned : ndarray of bool

    Raises
    ------
    ValueError
        If columns are missing or the counts are not those of the published file.

    Notes
    -----
    Eleven customers have no ``TotalCharges``: all of them have joined this month (tenure 0), so it
    is 0.
    """
    table = pd.read_csv(path)
    wanted = {"customerID", "tenure", "Contract", "MonthlyCharges", "TotalCharges", "Churn"}
    if missing := sorted(wanted - {*table}):
        raise ValueError(f"{path} has no column {missing}: it is not the telephone customers.")
    total = pd.to_numeric(table["TotalCharges"], errors="coerce")
    blank = total.isna()
    if len(table) != 7_043 or blank.sum() != 11 or table.loc[blank, "tenure"].ne(0).any():
        raise ValueError(f"{path}: {len(table)} rows, {blank.sum()} blank: 7,043 and 11 expected.")
    rest = table.drop(columns=["customerID", "Churn"]).assign(TotalCharges=total.fillna(0))
    return pd.get_dummies(rest, dtype=float), table["Churn"].eq("Yes").to_numpy()


def contract_rule(features: pd.DataFrame) -> np.ndarray:
    """Return a score by hand: contracts by the month first, then the youngest."""
    monthly = features["Contract_Month-to-month"].to_numpy()
    return 1_000 * monthly - features["tenure"].to_numpy(float)


def hillstrom(path: Path, mail: str = "womens") -> pd.DataFrame:
    """Read one mail of the experiment and the customers without one.

    Parameters
    ----------
    path : Path
        ``casebook.data.real("hillstrom")``.
    mail : str
        ``"womens"`` or ``"mens"``.

    Returns
    -------
    DataFrame
        Numeric features, ``drawn`` (got the mail), ``visit``, ``spend``.

    Raises
    ------
    ValueError
        If the file has other columns or not 64,000 customers.
    """
    table = pd.read_csv(path)
    wanted = {"recency", "history", "mens", "womens", "zip_code", "newbie", "channel", "segment"}
    if missing := sorted((wanted | {"visit", "spend"}) - {*table}):
        raise ValueError(f"{path} has no column {missing}: it is not Hillstrom's experiment.")
    if len(table) != 64_000:
        raise ValueError(f"{path} has {len(table)} rows: Hillstrom's experiment has 64,000.")
    own = table[table["segment"].isin([MAILS[mail], NO_MAIL])].reset_index(drop=True)
    codes = pd.get_dummies(own[["zip_code", "channel"]], dtype=float)
    numbers = own[["recency", "history", "mens", "womens", "newbie"]].astype(float)
    outcome = own[["visit", "spend"]].assign(drawn=own["segment"] == MAILS[mail])
    return pd.concat([numbers, codes, outcome], axis=1)


def as_sample(table: pd.DataFrame) -> uplift.Sample:
    """Return the experiment as a randomised month: not to visit is what a mail shall prevent."""
    features = table.drop(columns=["drawn", "visit", "spend"])
    drawn = table["drawn"].to_numpy(bool)
    n = len(table)
    chance = np.full(n, drawn.mean())
    return uplift.Sample(features, table["visit"].to_numpy() == 0, drawn, chance, np.arange(n))


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
        made = {name: np.zeros(len(y)) for name in uplift.RISKS}
        for fit, test in StratifiedKFold(10, shuffle=True, random_state=repeat).split(x, y):
            own = uplift.Sample(x.iloc[fit], y[fit], nobody[fit], np.full(len(fit), 0.5), fit)
            for name, learn in uplift.RISKS.items():
                made[name][test] = learn(own, SMALL)(x.iloc[test])
        for name, score in {"rule": contract_rule(x), **made}.items():
            top = np.argsort(-score, kind="stable")[: len(y) // 10]
            metrics = {"auc": roc_auc_score(y, score), "auprc": average_precision_score(y, score)}
            brier = brier_score_loss(y, score) if name != "rule" else np.nan
            rows.append(
                {"repeat": repeat, "model": name, **metrics, "top": y[top].mean(), "brier": brier}
            )
    return from_real(pd.DataFrame(rows), "telco")


def mail_scores(sample: uplift.Sample, settings: Mapping[str, object]) -> dict[str, np.ndarray]:
    """Return out-of-fold scores of every learner, and of two rules.

    ``visits`` sorts by the chance to visit without a mail, as a response model does; ``recency``
    by the months since the last purchase, the latest first.
    """
    learners = {"visits": uplift.risk, **uplift.EFFECTS}
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
        effects = ips_scores(centred, sample.drawn, sample.chance)
        for name, score in mail_scores(sample, SMALL).items():
            found = over_random(score, effects, sample.account)
            area, low, high = (1_000 * v for v in (found.value, found.low, found.high))
            rows.append((mail, name, effects.mean(), area, low, high))
    columns = ["mail", "score", "effect", "area", "low", "high"]
    return from_real(pd.DataFrame(rows, columns=columns), "hillstrom")
