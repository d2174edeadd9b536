"""Case 16's recorded tables: what a reduced run finds is what they say, and a change is noticed.

The run serves the test questions alone and learns nothing: under 40 seconds on a quiet machine.
"""

from __future__ import annotations

import tempfile
from functools import cache, partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from casebook.cases.support_rag_chatbot import evaluation as ev
from casebook.cases.support_rag_chatbot import learning, policies, studies, world, written
from casebook.cases.support_rag_chatbot.answer import Answerer
from casebook.cases.support_rag_chatbot.languages import HelpCentre, as_articles
from casebook.cases.support_rag_chatbot.world.contacts import (
    BASELINE,
    FATES,
    REACTIONS,
    UNDERSTANDS,
)
from casebook.recorded import bench
from casebook.retrieval.evaluate import per_query

CASE = "16_support_rag_chatbot"
#: Five significant digits are recorded; a number may differ by one in the last.
RELATIVE = 1.01 * 10 ** (1 - bench.DIGITS)


def recorded(name: str) -> pd.DataFrame:
    return bench.recorded(CASE, name).frame


def differences(
    table: pd.DataFrame, live: pd.DataFrame, keys: list[str], absolute: float = 1e-9
) -> list[str]:
    """Return a line for each row or number of a live table that a recorded one has otherwise.

    Parameters
    ----------
    table, live : DataFrame
        The live one may hold fewer rows, and fewer columns.
    keys : list of str
        Columns that name a row.
    absolute : float
        What a number may differ by, besides the last recorded digit.
    """
    known, found = (frame.set_index(keys) for frame in (table, live))
    if missing := [key for key in found.index if key not in known.index]:
        return [f"{key} is not recorded" for key in missing]
    lines = []
    for column in found:
        old, new = known[column].reindex(found.index), found[column]
        if pd.api.types.is_numeric_dtype(new) and not pd.api.types.is_bool_dtype(new):
            same = np.isclose(old.astype(float), new, RELATIVE, absolute, equal_nan=True)
        else:
            same = (old.fillna("") == new.fillna("")).to_numpy()
        gone = zip(found.index[~same], old[~same], new[~same], strict=True)
        lines += [f"{key}, {column}: {a} is recorded, {b} is found" for key, a, b in gone]
    return lines


def planted(table: pd.DataFrame, live: pd.DataFrame, keys: list[str]) -> tuple[pd.DataFrame, str]:
    """Change one number of a recorded table by a thousandth; return the table and the column."""
    numbers = [c for c in live.select_dtypes("number") if c not in keys and live[c].abs().max() > 0]
    rng = np.random.default_rng(len(table))
    column = str(rng.choice(numbers))
    rows = live.loc[live[column].abs() > 1e-6, keys]
    row = rows.iloc[rng.integers(len(rows))]
    where = (table[keys] == row).all(axis=1)
    changed = table.astype({column: float})
    changed.loc[where, column] *= 1.001
    return changed, column


def remember(centre: HelpCentre, patch: pytest.MonkeyPatch) -> None:
    """Let a centre that does not change read each article once: it saves a fifth of the time."""
    read, known = centre.read, {}

    def remembered(hit, at):
        if (hit.key, at) not in known:
            known[hit.key, at] = read(hit, at)
        return known[hit.key, at]

    patch.setattr(centre, "read", remembered)
    for name in ("in_force", "_siblings"):
        patch.setattr(centre, name, cache(getattr(centre, name)))


@pytest.fixture(scope="module")
def lab():
    """The help centre and its answers to the test questions."""
    model, folder = ev.embedder(), tempfile.TemporaryDirectory()
    centre = HelpCentre.build(Path(folder.name), as_articles(world.knowledge_base()), model)
    table = learning.with_scope(ev.asked())
    table = table[table["split"] == "test"]
    kept = (studies.confident, studies._numbers, written.written)
    with pytest.MonkeyPatch.context() as patch, folder, centre:
        remember(centre, patch)
        signals, answerer = ev.gather(centre, list(table["query"])), Answerer(centre, model)
        answered = ev.answers(table, signals, centre, answerer)
        made = studies.Lab(centre, answerer, table, signals, answered, folder)
        for module in (studies, written):  # each has its own name for it
            patch.setattr(module, "lab", lambda: made)
        # Which single ranking is better is decided on the tuning questions, which are not asked.
        against = recorded("support_retrieval")["against"].iloc[0]
        patch.setattr(studies, "better_single", lambda: against)
        for function in kept:
            function.cache_clear()
        yield made
        for function in kept:
            function.cache_clear()


def answers_live() -> pd.DataFrame:
    """Score the answers at the recorded thresholds: one of them is learned."""
    thresholds = recorded("support_answers").set_index("threshold")["from"].to_dict()
    return ev.answer_quality(ev.to_articles(studies.confident()), thresholds)


def abstention_live() -> pd.DataFrame:
    """Score abstention; the intervals take longer than all else and are left out."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ev, "auroc", partial(ev.auroc, draws=20))
        return studies.support_abstention().drop(columns=["low", "high"])


#: By table: what makes it live, and the columns that name a row.
LIVE = {
    "support_retrieval": (studies.support_retrieval, ["questions_of", "model", "metric"]),
    "support_kinds": (studies.support_kinds, ["model", "kind"]),
    "support_rescues": (studies.support_rescues, ["id"]),
    "support_answers": (answers_live, ["threshold"]),
    "support_abstention": (abstention_live, ["what", "score"]),
    "support_generation": (written.support_generation, ["model", "what"]),
    "support_policies": (studies.support_policies, ["policy"]),
}


@pytest.mark.parametrize("name", LIVE)
def test_a_live_run_agrees_with_the_recorded_table(lab, name):
    make, keys = LIVE[name]
    live, table = make(), recorded(name)
    assert len(live) == len(table)
    assert differences(table, live, keys) == []
    wrong, column = planted(table, live, keys)
    found = differences(wrong, live, keys)
    assert len(found) == 1 and f", {column}: " in found[0]


def test_a_row_that_is_not_recorded_is_found():
    table = pd.DataFrame({"name": ["a", "b"], "value": [1.0, 2.0], "note": ["x", None]})
    assert differences(table, table, ["name"]) == []
    assert differences(table[:1], table, ["name"]) == ["b is not recorded"]
    assert len(differences(table, table.assign(note="y"), ["name"])) == 2


def test_the_rescues_are_those_of_the_rankings(lab):
    """The recorded ranks give the recorded recall at ten, where one article is relevant."""
    judged = ev.relevance()
    count = judged["query_id"].value_counts()
    table = recorded("support_rescues").set_index("id")
    one = table[table.index.map(count) == 1]
    run = ev.runs(lab.table[lab.table["id"].isin(one.index)], lab.signals)
    judged = judged[judged["query_id"].isin(one.index)]
    for name in ("words", "vectors", "all"):
        recall = per_query(run[name], judged)["recall"].mean()
        assert recall == pytest.approx((one[name] <= 10).mean())
        assert recall != pytest.approx((one[name] < 10).mean())  # planted: off by one


# The headline ------------------------------------------------------------------------


def _sums(costs: dict[str, list[float]]) -> pd.DataFrame:
    """Return what policies cost in two months of three topics, ten contacts each."""
    rows = [
        {"policy": name, "seed": seed, "cluster": f"t{n}", "contacts": 10}
        | dict.fromkeys(policies.MEASURES, 0.0)
        | {"cost_eur": 10 * value}
        for name, values in costs.items()
        for seed in (1, 2)
        for n, value in enumerate(values)
    ]
    return pd.DataFrame(rows)


ENDS = {"box": [4.0, 5.0, 6.0], "all": [0.0, 1.0, 2.0]}


def test_the_gap_is_what_was_planted():
    table = _sums(ENDS | {"half": [2.0, 3.0, 4.0], "dearer": [5.0, 6.0, 7.0]})
    half = policies.gap_closed(table, "half", "box", "all")
    assert half == pytest.approx((0.5, 0.5, 0.5))  # the same in every topic: nothing to resample
    assert policies.gap_closed(table, "dearer", "box", "all").mean == pytest.approx(-0.25)
    more = policies.gap_closed(table, "half", "box", "all", against="dearer")
    assert more.mean == pytest.approx(0.75)
    table["loss_eur"] = np.where(table["policy"] == "half", 20.0, 0.0)
    assert policies.gap_closed(table, "half", "box", "all").mean == pytest.approx(0)
    only = policies.gap_closed(table, "half", "box", "all", columns=["cost_eur"])
    assert only.mean == pytest.approx(0.5)


def test_topics_that_differ_widen_the_interval_and_months_alone_do_not_see_them():
    table = _sums(ENDS | {"mixed": [0.0, 5.0, 6.0]})  # all of its gain is in one topic
    found = policies.gap_closed(table, "mixed", "box", "all")
    assert found.mean == pytest.approx(1 / 3) and found.low == 0 and found.high > 0.9
    merged = table.assign(cluster="one").groupby(["policy", "seed", "cluster"]).sum().reset_index()
    narrow = policies.gap_closed(merged, "mixed", "box", "all")
    assert narrow.high - narrow.low < 1e-9  # planted: the topics are not resampled


# Other assumptions -------------------------------------------------------------------


@pytest.mark.parametrize("parameter", policies.SETTINGS)
def test_the_worlds_own_setting_changes_nothing_and_all_are_shares(parameter):
    values = policies.SETTINGS[parameter]
    kind, fate, _ = policies.ASSUMPTIONS[parameter]
    kinds = set(policies.FOREIGN) if kind in policies.FOREIGN else {kind}
    own = dict(zip(FATES, REACTIONS[kind], strict=True))[fate]
    own = UNDERSTANDS if kind == "right_other_language" else own
    for one in kinds:
        assert policies.reactions_if(parameter, own)[one] == pytest.approx(REACTIONS[one])
    assert own not in values  # it is recorded once, not for each parameter
    rows = [policies.reactions_if(parameter, value) for value in values]
    for row in rows:
        assert {k for k, shares in row.items() if shares != REACTIONS[k]} == kinds
    for one in kinds:
        shares = [dict(zip(FATES, row[one], strict=True)) for row in rows]
        assert all(sum(s.values()) == pytest.approx(1) and min(s.values()) >= 0 for s in shares)
        assert np.all(np.diff([s[fate] for s in shares]) > 0)
    with pytest.raises(ValueError, match="left"):
        policies.reactions_if(parameter, 1.1)


def idle(table: pd.DataFrame) -> set[tuple[str, float]]:
    """Return the settings of a table of the sensitivity that change the gap of no policy."""
    own = table[table["parameter"] == "as the world is"].set_index("policy")["gap"]
    varied = table[table["parameter"] != "as the world is"]
    moved = (varied["gap"] - varied["policy"].map(own)).abs() > 1e-6
    each = moved.groupby([varied["parameter"], varied["value"]]).any()
    return set(each[~each].index)


def test_each_setting_that_is_recorded_changes_something():
    table = recorded("support_sensitivity")
    assert idle(table) == set()
    base = table[table["parameter"] == "as the world is"]
    planted = pd.concat([table, base.assign(parameter="nothing", value=1.0)])
    assert idle(planted) == {("nothing", 1.0)}


def test_each_setting_changes_an_answer_that_the_policies_give():
    """Titles and answers in another language, and what is wrong: kinds that occur."""
    kinds = {*BASELINE.values(), "right", "wrong"}
    for parameter, values in policies.SETTINGS.items():
        for value in values:
            row = policies.reactions_if(parameter, value)
            assert any(row[kind] != REACTIONS[kind] for kind in kinds), (parameter, value)


def test_an_assumption_is_passed_and_changes_nothing_else():
    before = dict(REACTIONS)
    frame = world.contacts(1, 1, 500)

    def lost(**more):
        out = world.outcomes(frame, ["wrong"] * len(frame), 1, **more)
        return out["customer_loss_eur"].mean()

    own = lost()
    assert lost(reactions=policies.reactions_if("believes a wrong answer", 0.55)) > 1.3 * own
    assert before == REACTIONS and lost() == own


def test_an_assumption_sets_prices_thresholds_and_what_customers_do(monkeypatch):
    table = ev.to_articles(ev.asked()).reset_index(drop=True)
    p, rng = np.linspace(0, 1, len(table)), np.random.default_rng(0)
    label = np.where(rng.random(len(p)) < p, "right", "wrong")
    crossed = table.assign(right=p, label=label, shown=[()] * len(p))
    kinds = dict.fromkeys((studies.CAREFUL, studies.TITLES), "wrong")
    kinds |= {studies.FLOOR: "titles_wrong", studies.SEARCH: "partial", studies.CEILING: "right"}
    kinds[studies.SIMPLE] = "abstain_to_human"
    served = {name: (pd.Series(kind, index=table["id"]), "bot") for name, kind in kinds.items()}
    values = {"believes a wrong answer": (0.05, 0.9)}
    monkeypatch.setattr(policies, "SETTINGS", values)
    monkeypatch.setattr(studies, "confident", lambda: table)
    monkeypatch.setattr(studies, "_crossed", lambda: crossed)
    monkeypatch.setattr(studies, "_numbers", dict)
    monkeypatch.setattr(studies, "compared", lambda person, titles: served)
    monkeypatch.setattr(learning, "kind_costs", partial(learning.kind_costs, (1,), 400))
    found = studies.support_sensitivity(seeds=(11,), per_month=400)
    assert len(found) == 3 * 4
    found = found.set_index(["policy", "parameter"]).sort_index()
    for policy in (studies.CAREFUL, studies.TITLES):
        (own,) = found.loc[(policy, "as the world is")].itertuples()
        little, much = found.loc[(policy, "believes a wrong answer")].itertuples()
        assert little.answer_from < own.answer_from < much.answer_from
        assert little.gap > own.gap > much.gap  # a wrong answer that is believed costs more


def test_a_comparison_begins_with_a_tracking_system_nobody_has_asked():
    table = ev.asked()
    numbers = policies.tracking_numbers(table)
    kinds = pd.Series(policies.HUMAN, index=table["id"])
    kinds = kinds.mask(table["id"].isin(numbers).to_numpy(), policies.TRACK)
    where = table.set_index("id")["cluster"]
    serve = partial(policies.serve, {"bot": (kinds, "bot")}, numbers, where, (1,), 500)
    first = serve()
    pd.testing.assert_frame_equal(first, serve())
    with pytest.MonkeyPatch.context() as patch:  # planted: it still counts the calls of before
        patch.setattr(policies._tracking, "cache_clear", lambda: None, raising=False)
        assert not first.equals(serve())


def test_a_reader_that_knows_its_misses_answers_where_it_is_right_and_shows_titles_elsewhere():
    served = studies.compared()
    eager, titles = served[studies.EAGER][0], served[studies.SEARCH][0]
    knows = served["this reader, knows its misses"][0]
    right = eager.isin(ev.RIGHT)
    assert 0.2 < right.mean() < 0.6 and (knows[right] == eager[right]).all()
    assert (knows[~right] == titles[~right]).all() and not (knows == "wrong").any()
