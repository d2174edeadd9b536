"""The same recommenders on public data: films that a user likes next, split by time and at random.

Splits and scores are those of :mod:`casebook.retrieval.splits`; here are trials and the file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from casebook.data import real
from casebook.data.tables import movielens
from casebook.evaluate.intervals import bootstrap
from casebook.recorded.real import from_real
from casebook.retrieval.splits import (
    CUT,
    CUT_WITHIN,
    DRAWS,
    Settings,
    at_random,
    by_time,
    by_user,
    later_halves,
    likes,
)

#: Nine trials for each model; the validation chooses.
TRIALS: Mapping[str, tuple[Settings, ...]] = {
    "popularity": ({},),
    "item-item": tuple(
        {"shrinkage": s, "neighbours": k} for s in (5.0, 20.0, 60.0) for k in (10, 30, 200)
    ),
    "iALS": tuple(
        {"factors": f, "regularisation": r, "confidence": 4.0}
        for f in (32, 64, 128)
        for r in (10.0, 30.0, 100.0)
    ),
    "EASE": tuple({"penalty": float(p)} for p in (30, 60, 100, 200, 400, 600, 800, 1200, 1600)),
}


def tuned(table: pd.DataFrame, trials: Mapping[str, Sequence[Settings]] = TRIALS) -> dict:
    """Return of each model the settings with the best gain, by a split before the test's moment."""
    moment, _ = later_halves(table, CUT)
    split = by_time(table[table["at"] < moment].reset_index(drop=True), CUT_WITHIN)
    best = {}
    for name, grid in trials.items():
        gains = [by_user(split, name, settings)["ndcg"].mean() for settings in grid]
        best[name] = dict(grid[int(np.argmax(gains))])
    return best


def real_movielens(
    models: Sequence[str] = tuple(TRIALS), draws: int = DRAWS, choose: bool = True
) -> pd.DataFrame:
    """Score the recommenders on films by time and at random.

    Parameters
    ----------
    models : sequence of str
        Of :data:`TRIALS`.
    draws : int
        Random splits, of which each user's mean counts.
    choose : bool
        False takes the first trial in place of the best.

    Returns
    -------
    DataFrame
        ``split``, ``model``, ``users``, ``recall``, ``recall_low``, ``recall_high``, ``ndcg``,
        ``ndcg_low``, ``ndcg_high`` (at 20; 95 % by a bootstrap over users), ``settings``; ``data``.
    """
    table, rows = likes(movielens(real("movielens"))), []
    grid = {name: TRIALS[name] for name in models}
    chosen = tuned(table, grid) if choose else {name: dict(TRIALS[name][0]) for name in models}
    splits = {"by time": [by_time(table)]}
    splits["at random"] = [at_random(table, seed=seed) for seed in range(draws)]
    for kind, some in splits.items():
        for name, settings in chosen.items():
            found = [by_user(split, name, settings) for split in some]
            mean = sum(found) / len(found)
            row = {"split": kind, "model": name, "users": len(mean)}
            for metric in mean:
                interval = bootstrap(mean[metric])
                row |= dict(zip((metric, f"{metric}_low", f"{metric}_high"), interval, strict=True))
            rows.append(row | {"settings": ", ".join(f"{k} {v:g}" for k, v in settings.items())})
    return from_real(pd.DataFrame(rows), "movielens")
