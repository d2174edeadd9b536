"""The study of a world's constants: one at a time, passed on and never changed in place."""

from __future__ import annotations

import doctest
from dataclasses import dataclass, replace

import pandas as pd

from casebook.recorded import studies
from casebook.recorded.studies import sensitivity


@dataclass(frozen=True)
class Constants:
    noise: float = 1.0
    share: float = 0.5


CHANGES = {
    "noise": lambda usual, factor: replace(usual, noise=usual.noise * factor),
    "share": lambda usual, factor: replace(usual, share=min(usual.share * factor, 0.9)),
}


def run(seed: int, constants: Constants) -> pd.DataFrame:
    return pd.DataFrame({"noise": [constants.noise], "share": [constants.share], "drawn": seed})


def test_the_example_holds():
    assert doctest.testmod(studies).failed == 0


def test_each_constant_is_varied_alone_in_every_world():
    table = sensitivity(run, Constants(), CHANGES, (0.5, 1, 2), (3, 4))
    assert len(table) == 2 * 2 * 3
    assert (table["drawn"] == table["seed"]).all()
    assert ((table["noise"] == 1) | (table["share"] == 0.5)).all()
    rows = table[(table["constant"] == "share") & (table["seed"] == 4)]
    assert rows["share"].tolist() == [0.25, 0.5, 0.9]
    usual = table[table["factor"] == 1]
    assert (usual[["noise", "share"]] == [1, 0.5]).all(axis=None)
