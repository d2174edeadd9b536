"""Case 07: what is recorded agrees with a reduced live run, and holds every row it must."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest

from casebook.cases.subscription_churn import benchmarks, studies
from casebook.cases.subscription_churn.benchmarks import BENCHMARKS
from casebook.cases.subscription_churn.public import MAILS, REPEATS, hillstrom, telco
from casebook.cases.subscription_churn.studies import SEEDS
from casebook.cases.subscription_churn.world import CHAPTER, SEED
from casebook.data import real
from casebook.data.files import RealDataUnavailable
from casebook.recorded import bench

#: Five digits are recorded; other machines may add up in another order.
CLOSE = {"rtol": 5e-3, "atol": 1e-3}
LISTS = tuple(studies.policies())
GRIDS = {
    "lists": {"seed": (*SEEDS, SEED), "policy": LISTS},
    "offline": {"seed": SEEDS, "what": ("euro", "area"), "method": ("dr", "ips")},
    "real_telco": {"repeat": REPEATS, "model": ("rule", "logistic", "risk")},
    "real_hillstrom": {
        "mail": tuple(MAILS),
        "score": ("visits", "S", "T", "X", "DR", "recency"),
    },
}


def recorded(name: str) -> pd.DataFrame:
    return bench.recorded(CHAPTER, name).frame


def assert_agrees(live: pd.DataFrame, table: pd.DataFrame, keys: list[str]) -> None:
    both = live.merge(table, on=keys, how="left", suffixes=("", "_recorded"), validate="1:1")
    for column in live.columns.difference([*keys, "data"]):
        np.testing.assert_allclose(both[f"{column}_recorded"], both[column], **CLOSE)


@pytest.mark.parametrize("name", [*GRIDS])
def test_every_row_is_recorded_once(name):
    table, grid = recorded(name), GRIDS[name]
    found = table.groupby(list(grid)).size()
    wanted = set(itertools.product(*grid.values()))
    assert wanted <= set(found.index) and (found == 1).all()


def test_every_benchmark_is_recorded_and_none_else():
    assert set(bench.tables(CHAPTER)) == set(BENCHMARKS)


def test_a_cheap_part_of_the_lists_live():
    names = ("random", "silence", "points", "segments", "DR", "oracle")
    live = studies.one_world(SEEDS[0], names).assign(seed=SEEDS[0])
    assert_agrees(live, recorded("lists"), ["seed", "policy"])


@pytest.mark.parametrize("name", ["real_telco", "real_hillstrom"])
def test_public_results_live(name):
    try:
        real("telco"), real("hillstrom")
    except RealDataUnavailable as error:
        pytest.skip(str(error))
    if name == "real_telco":
        live = benchmarks.real_telco(REPEATS[:1])
        assert_agrees(live, recorded(name), ["repeat", "model"])
    else:
        live = benchmarks.real_hillstrom(["womens"])
        assert_agrees(live, recorded(name), ["mail", "score"])


# What the page says ------------------------------------------------------------------


def test_the_headings_hold_in_the_recorded_lists():
    table = recorded("lists")
    euro = table[table["seed"] != SEED].pivot(index="seed", columns="policy", values="euro")
    assert (euro["silence"] < euro["random"]).all() and (euro["random"] < 0).all()
    assert (euro["DR"] > euro["risk"]).mean() > 0.8
    assert euro["DR"].mean() > 1.25 * euro["risk"].mean()
    assert euro["DR"].mean() > euro["segments"].mean() > euro["risk"].mean() > euro["points"].mean()
    assert (euro["told"] > euro["DR"]).all() and (euro["oracle"] > euro["told"]).all()


def test_the_log_misleads_and_the_lottery_does_not():
    table = recorded("offline")
    covers = (table["low"] <= table["truth"]) & (table["truth"] <= table["high"])
    shares = covers.groupby([table["what"], table["method"]]).mean()
    assert shares[("euro", "dr")] > 0.85 > 0.5 > shares[("euro", "log")]


# Public files ------------------------------------------------------------------------


def test_files_of_another_form_are_refused(tmp_path):
    path = tmp_path / "some.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="no column"):
        telco(path)
    with pytest.raises(ValueError, match="no column"):
        hillstrom(path)


def test_the_public_files_are_as_published():
    try:
        features, churned = telco(real("telco"))
        mail = hillstrom(real("hillstrom"), "mens")
    except RealDataUnavailable as error:
        pytest.skip(str(error))
    assert len(features) == 7_043 and churned.mean() == pytest.approx(0.2654, abs=1e-4)
    rates = mail.groupby("drawn")["visit"].mean()
    assert rates[True] == pytest.approx(0.1828, abs=1e-4)
    assert rates[False] == pytest.approx(0.1062, abs=1e-4)
