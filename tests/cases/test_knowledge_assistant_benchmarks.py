"""Every study runs with its reduced sizes and gives the columns that it promises."""

from __future__ import annotations

import inspect
import re

import pandas as pd
import pytest
from knowledge_assistant_reader import Understanding

from casebook.cases.knowledge_assistant import benchmarks
from casebook.data import find_real
from casebook.retrieval.dense import Hashed

UNDERSTANDING = Understanding()
#: Those of one world, which is fitted once, and those that build worlds of their own.
READING = ("rungs", "choices", "rewriting", "conflicts", "judge", "worth", "sensitivity", "latency")
OTHERS = ("filtered", "router", "rights", "leaks", "catches", "not_found", "bound", "sync")


def test_every_study_has_sizes_for_a_live_run():
    assert set(benchmarks.REDUCED) == set(benchmarks.BENCHMARKS)
    for name, study in benchmarks.BENCHMARKS.items():
        known = inspect.signature(study).parameters
        free = any(one.kind is one.VAR_KEYWORD for one in known.values())
        assert free or set(benchmarks.REDUCED[name]) <= set(known), name


def run(name: str) -> pd.DataFrame:
    how = dict(benchmarks.REDUCED[name])
    if name in READING:
        how["embedder"] = UNDERSTANDING
    if name == "real_handbooks":
        how["embedder"] = Hashed(64)
    return benchmarks.BENCHMARKS[name](**how)


@pytest.mark.parametrize("name", [*READING, *OTHERS])
def test_a_reduced_study_gives_what_it_says(name):
    made = run(name)
    assert len(made) and made.drop(columns=["check", "first"], errors="ignore").notna().any().all()
    if "DataFrame\n    ---" in (told := inspect.getdoc(benchmarks.BENCHMARKS[name]) or ""):
        said = re.findall(r"``(\w+)``", told.split("DataFrame\n")[1])
        assert set(said) <= {*made.columns}


def test_rungs_of_one_world_have_recall_first_and_right_and_no_measure_of_two_things():
    made = run("rungs")
    ranked = made[~made["rung"].str.startswith("answers")]
    assert set(ranked["measure"]) == {"recall", "first"}
    assert set(made["measure"]) - {"recall", "first"} == {"right"}
    assert set(made[made["measure"] == "right"]["rung"]) == {"answers, always", "answers"}


def test_the_handbooks_are_searched_under_permissions():
    if find_real("tts_handbook") is None:
        pytest.skip("the handbook is not here, or real data are switched off")
    made = run("real_handbooks").set_index("rung")
    assert made.loc["BM25", "recall"] > 0.4 and (made["of"] == 10).all()
