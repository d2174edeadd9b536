"""The gates before promotion: each compares a candidate with a limit, and each can stop it.

In money, in ranking and in no slice may a candidate be worse than the champion: neither by more
than a margin at the far end of a paired interval over days (*non-inferiority*), nor by so little
that is certain (the near end). It must score a request as it scored the table, in time; its card
must be whole and its labels fresh.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from casebook.cases.deployment_pipeline import steps
from casebook.evaluate.intervals import Interval, mean_interval
from casebook.evaluate.rare import precision_gain
from casebook.recorded import dag
from casebook.serving.latency import measure

COLUMNS = ["value", "limit", "low", "high", "passed", "what"]
#: What a model card must say.
CARD = ("purpose", "not for", "training data", "evaluation", "limits", "fall-back", "owner")
SLICES: Mapping[str, Callable[[pd.DataFrame], pd.Series]] = {
    "online": lambda rows: rows["online"] > 0,
    "in person": lambda rows: rows["online"] == 0,
    "above 100 euro": lambda rows: rows["amount"] > 100,
    "new customers": lambda rows: rows["tenure"] < 365,
}


@dataclass(frozen=True)
class Limits:
    """What stops a candidate.

    Attributes
    ----------
    money : float
        Euro per thousand payments that the candidate may cost more than the champion, at most.
    ranking : float
        Average precision that it may lose, at most: a hundred frauds tell no less than .1.
    slice_money : float
        As ``money``, in the worst slice; its intervals are wider and hold for all slices together.
    p99_ms : float
        For one score.
    days : float
        Age of the last label that the training has seen: a month's wait, and a month.
    days_of_test : int
        Days with rows that the intervals need.
    """

    money: float = 40.0
    ranking: float = 0.1
    slice_money: float = 400.0
    p99_ms: float = 50.0
    days: float = 60.0
    days_of_test: int = 14


def check(
    candidate: steps.Model,
    champion: steps.Model | None,
    rows: pd.DataFrame,
    card: Mapping[str, str],
    now: pd.Timestamp,
    limits: Limits | None = None,
    one: Callable[[Mapping[str, Any]], float] | None = None,
) -> pd.DataFrame:
    """Return the gates of a candidate.

    Parameters
    ----------
    candidate : Model
    champion : Model or None
        Without one the rules take its place.
    rows : DataFrame
        Payments with trusted labels that neither model has learned from, each with its time.
    card : mapping
        Of the candidate.
    now : Timestamp
    limits : Limits, optional
    one : callable
        Scores one payment as the service does; the candidate's own by default.

    Returns
    -------
    DataFrame
        Index ``gate``: ``value``, ``limit``, ``low`` and ``high`` (95 %, where there is an
        interval), ``passed``, and ``what`` to do if it did not.

    Raises
    ------
    ValueError
        If some rows have no time, they are of too few days, or one of the models has learned from
        them.
    """
    lim = limits or Limits()
    days = _unseen(candidate, champion, rows, lim)
    score, cost = _scores(candidate, champion, rows)
    extra = 1000 * (cost["new"] - cost["old"])
    serve = one or candidate.one
    gates = {
        "money": _money(extra, days, lim),
        "ranking": _ranking(score, rows["fraud"].to_numpy(), days, lim),
        "worst slice": _slices(extra, rows, days, lim),
        "skew": _skew(candidate, serve, rows),
        "latency": _latency(serve, rows, lim),
        "model card": _card(card),
        "freshness": _fresh(candidate, now, lim),
    }
    return pd.DataFrame.from_dict(gates, orient="index", columns=COLUMNS).rename_axis("gate")


def _unseen(
    candidate: steps.Model, champion: steps.Model | None, rows: pd.DataFrame, lim: Limits
) -> pd.Series:
    """Return the day of each row; refuse rows that are no test of the two models."""
    if lost := int(rows["at"].isna().sum()):
        raise ValueError(f"{lost} rows have no time: which of them are later than the training?")
    days = rows["at"].dt.normalize()
    if days.nunique() < lim.days_of_test:
        raise ValueError(f"rows of {days.nunique()} days; {lim.days_of_test} are needed at least.")
    for name, model in {"candidate": candidate, "champion": champion}.items():
        if model and rows["at"].min() <= pd.Timestamp(model.meta["trained_until"]):
            raise ValueError(f"the {name} has learned from some of these rows: take later ones.")
    return days


def _scores(candidate: steps.Model, champion: steps.Model | None, rows: pd.DataFrame) -> tuple:
    """Return scores and costs of both; the rules have the cost of their answers and no score."""
    amount, fraud = rows["amount"].to_numpy(float), rows["fraud"].to_numpy()
    score = {"new": candidate.score(rows), "old": champion and champion.score(rows)}
    answers = {
        arm: steps.by_rules(rows) if p is None else steps.tiers(np.nan_to_num(p, nan=0.0), amount)
        for arm, p in score.items()
    }
    return score, {arm: steps.cost(answer, amount, fraud) for arm, answer in answers.items()}


def _row(value: float, limit: float, passed: bool, what: str, ends: Interval | None = None) -> list:
    """Return a gate; what to do is told only where it stops."""
    low, high = (ends.low, ends.high) if ends else (np.nan, np.nan)
    return [float(value), float(limit), low, high, bool(passed), "" if passed else what]


def _by_day(values: np.ndarray, days: pd.Series) -> pd.Series:
    return pd.Series(np.asarray(values), index=days.index).groupby(days).mean()


def _money(extra: np.ndarray, days: pd.Series, lim: Limits) -> list:
    ends = mean_interval(_by_day(extra, days))
    what = "it may cost more than the champion: look at what it lets through, or wait for more days"
    return _row(ends.mean, lim.money, ends.low <= 0 and ends.high <= lim.money, what, ends)


def _ranking(score: Mapping[str, Any], fraud: np.ndarray, days: pd.Series, lim: Limits) -> list:
    """Compare average precision, resampling days."""
    both = [np.zeros(len(fraud)) if p is None else p for p in (score["new"], score["old"])]
    if not np.isfinite(both[0]).all():
        return _row(np.nan, -lim.ranking, False, "some scores are no numbers")
    if not fraud.any():
        return _row(np.nan, -lim.ranking, False, "no fraud among these rows: wait for some")
    ends = precision_gain(fraud, *both, days)
    what = "it ranks worse than the champion: compare the training rows of both"
    passed = ends.high >= 0 and ends.low >= -lim.ranking
    return _row(ends.mean, -lim.ranking, passed, what, ends)


def _slices(extra: np.ndarray, rows: pd.DataFrame, days: pd.Series, lim: Limits) -> list:
    """Judge every slice, at a level for all together; show the worst that stops, or of all."""
    level, found, short = 1 - 0.05 / len(SLICES), {}, []
    for name, belongs in SLICES.items():
        mine = belongs(rows).to_numpy(bool)
        by_day = _by_day(extra[mine], days[mine])
        if len(by_day) < lim.days_of_test:
            short.append(name)
        else:
            found[name] = mean_interval(by_day, level)
    if short:
        what = f"{', '.join(short)}: too few days to judge"
        return _row(np.nan, lim.slice_money, False, what)
    worse = {k: v for k, v in found.items() if v.low > 0 or v.high > lim.slice_money}
    ends = max((worse or found).values(), key=lambda one: one.high)
    what = f"{', '.join(worse)}: it may cost more there"
    return _row(ends.mean, lim.slice_money, not worse, what, ends)


def _skew(candidate: steps.Model, one: Callable, rows: pd.DataFrame, n: int = 500) -> list:
    """Count payments that the service scores otherwise than the table; suspicious ones first."""
    score = candidate.score(rows)
    order = np.argsort(-score, kind="stable")
    some = np.unique(np.concatenate([order[: n // 2], order[:: max(2 * len(rows) // n, 1)]]))
    served = [one(row) for row in rows.iloc[some].to_dict("records")]
    off = int((np.asarray(served) != score[some]).sum())
    return _row(off, 0, off == 0, f"{off} of {len(some)} differ: compare matrix and vector")


def _latency(one: Callable, rows: pd.DataFrame, lim: Limits) -> list:
    row = rows.iloc[0].to_dict()
    p99 = measure(lambda: one(row), 200, 20).p99
    return _row(p99, lim.p99_ms, p99 <= lim.p99_ms, "fewer trees, or a faster machine")


def _card(card: Mapping[str, str]) -> list:
    missing = [name for name in CARD if not str(card.get(name) or "").strip()]
    return _row(len(missing), 0, not missing, f"write {', '.join(missing)}")


def _fresh(candidate: steps.Model, now: pd.Timestamp, lim: Limits) -> list:
    age = (pd.Timestamp(now) - pd.Timestamp(candidate.meta["trained_until"])) / steps.DAY
    what = "it has seen the future: look at the clock" if age < 0 else "train it on later payments"
    return _row(age, lim.days, 0 <= age <= lim.days, what)


def main(arguments: Sequence[str] | None = None) -> int:
    """Ask the gates of a run; register it as challenger if all pass, else say 1 and why."""
    from casebook.cases.deployment_pipeline.registry import CHAMPION, Registry

    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--folder", required=True, help="of the pipeline")
    parser.add_argument("--run", required=True, help="file with what the pipeline has printed")
    parser.add_argument("--registry", required=True, help="SQLite file")
    parser.add_argument("--now", help="in place of the clock, for a drill")
    given = parser.parse_args(arguments)
    run = dag.read(given.folder, json.loads(Path(given.run).read_text())["keys"])
    registry = Registry(given.registry)
    champion = registry.load(CHAMPION) if registry.version(CHAMPION) else None
    rows = pd.read_parquet(run.path("features") / "test.parquet")
    card = json.loads((run.path("evaluate") / "card.json").read_text())
    now = pd.Timestamp(given.now) if given.now else pd.Timestamp.now("UTC").tz_localize(None)
    table = check(steps.Model.load(run.path("train")), champion, rows, card, now)
    print(table.round(3).to_string())
    if not table["passed"].all():
        return 1
    print(f"version {registry.register(run, table)} is the challenger")
    return 0


if __name__ == "__main__":
    sys.exit(main())
