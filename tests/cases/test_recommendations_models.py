"""Case 09: what a midnight knows, candidates, rankers, rules, and the one function that decides."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from casebook.cases.recommendations import (
    cold,
    fairness,
    ladder,
    nights,
    rankers,
    studies,
)
from casebook.cases.recommendations.candidates import SOURCES, allowed, merged
from casebook.cases.recommendations.catalogue import Shop
from casebook.cases.recommendations.nights import NAMES, known, look, midnight
from casebook.cases.recommendations.rankers import Nights, of_lists, opened_before
from casebook.cases.recommendations.recommend import fitted, for_days, recommend
from casebook.cases.recommendations.rules import NONE, Rules, reranked, wanted

SMALL = Shop(users=900, items=320)


@pytest.fixture(scope="module")
def here() -> studies.Setting:
    return studies.simulate(3, SMALL, requests=250)


@pytest.fixture(scope="module")
def served(here):
    """Return arguments of a day's requests for the one function."""
    day = int(here.test.day[0])
    some = here.test.where(here.test.day == day)
    given = some.user, some.page, some.surface, here.world.stock[day], some.recent
    return here.nights.known(day), some, given


# What a midnight knows -------------------------------------------------------------------


def assert_knows_nothing_later(log: nights.Log, day: int, cut: nights.Log) -> None:
    """What is laid out of a whole log is what is laid out of one that ends at the midnight."""
    for name, value in vars(known(log, day)).items():
        if isinstance(value, np.ndarray):
            np.testing.assert_array_equal(value, vars(known(cut, day))[name], err_msg=name)


def test_a_midnight_knows_nothing_that_arrives_later(here):
    log, day = here.nights.log, 20
    before = log.events["known_at"] < midnight(day)
    cut = replace(log, events=log.events[before], shown=log.shown[log.shown["day"] < day])
    vars(cut)["looked"] = log.looked
    assert_knows_nothing_later(log, day, cut)
    # Planted: impressions of the next week among those of the day before.
    ahead = log.shown[log.shown["day"].between(day, day + 6)].assign(day=day - 1)
    leaky = replace(cut, shown=pd.concat([cut.shown, ahead]))
    vars(leaky)["looked"] = log.looked
    with pytest.raises(AssertionError):
        assert_knows_nothing_later(log, day, leaky)
    late = log.events[~before].head(40).assign(known_at=midnight(day) - pd.Timedelta(hours=1))
    leaky = replace(cut, events=pd.concat([cut.events, late]).sort_values("known_at"))
    vars(leaky)["looked"] = log.looked
    with pytest.raises(AssertionError):
        assert_knows_nothing_later(log, day, leaky)


def test_looks_fade_as_they_do_in_truth():
    found = [look(studies.simulate_world(s, users=3_000, items=320).shown) for s in (1, 2)]
    assert np.mean(found) == pytest.approx(0.86, abs=0.05)


def test_pages_opened_before_are_those_of_the_same_user_and_day():
    rng, n = np.random.default_rng(0), 300
    day, user = np.sort(rng.integers(3, size=n)), rng.integers(30, size=n)
    page = np.where(rng.random(n) < 0.2, -1, rng.integers(50, size=n))
    made = opened_before(user, day, page)
    for i in range(n):
        before = [
            page[j]
            for j in range(i - 1, -1, -1)
            if user[j] == user[i] and day[j] == day[i] and page[j] >= 0
        ][: made.shape[1]]
        assert made[i].tolist() == before + [-1] * (made.shape[1] - len(before))


def test_features_by_hand(here):
    some = here.test.where(np.arange(40))
    x = of_lists(here.nights, some)
    assert x.shape == (40, 10, len(NAMES)) and np.isfinite(x).all()
    items, column = here.world.items, {name: x[:, :, i] for i, name in enumerate(NAMES)}
    kind = items["category"].cat.codes.to_numpy()
    same = (some.page >= 0)[:, None] & (kind[some.lists] == kind[some.page][:, None])
    assert (column["same"] == same).all()
    assert (column["campaign"] == items["campaign"].to_numpy()[some.lists]).all()
    opened = (kind[some.recent] == kind[some.lists[:, 0]][:, None]) & (some.recent >= 0)
    assert column["session"][:, 0] == pytest.approx(np.log1p(opened.sum(axis=1)))
    log = here.nights.log
    for row in range(40):
        moment = midnight(some.day[row])
        own = log.events[(log.events["user"] == some.user[row]) & (log.events["known_at"] < moment)]
        assert column["heard"][row, 0] == pytest.approx(np.log1p(len(own)), rel=1e-5)
        bought = own.loc[own["kind"] == "buy", "item"]
        assert (column["owned"][row] == np.isin(some.lists[row], bought)).all()


# Candidates and rules --------------------------------------------------------------------


def test_candidates_are_in_stock_each_once_and_never_the_pages_own(here, served):
    night, some, given = served
    made = recommend(replace(here.parts, rules=NONE), night, *given)
    stock = given[3]
    assert {*made.proposed} == {*SOURCES}
    for items in made.proposed.values():
        assert (
            stock[items[items >= 0]].all()
            and not ((items == some.page[:, None]) & (items >= 0)).any()
        )
    union = merged(made.proposed)
    for row in range(len(union)):
        own = union[row][union[row] >= 0].tolist()
        every = {i for items in made.proposed.values() for i in items[row].tolist()} - {-1}
        assert len(own) == len({*own}) and {*own} == every
    assert merged({"a": np.array([[1, 1]])}, least=2).tolist() == [[1, -1]]


def test_all_rules_hold_in_every_list(here, served):
    night, _, given = served
    plain, ruled = (
        recommend(replace(here.parts, rules=rules), night, *given).items
        for rules in (NONE, Rules(cap=1))
    )
    brand = night.goods.brand
    for lists in (plain, ruled):
        assert given[3][lists].all() and (np.sort(lists)[:, 1:] != np.sort(lists)[:, :-1]).all()
    most = [np.bincount(brand[row]).max() for row in ruled]
    assert max(most) == 1 < max(np.bincount(brand[row]).max() for row in plain)
    margin = here.world.items["margin"].to_numpy()
    dear = recommend(replace(here.parts, rules=replace(NONE, margin=20.0)), night, *given).items
    assert margin[dear].mean() > margin[plain].mean() + 0.05
    open_ = replace(here.parts, rules=replace(NONE, stock=False))
    assert not given[3][recommend(open_, night, *given).items].all()


def test_what_was_opened_of_late_is_held_back(here, served):
    night, _, _ = served
    items, scores = np.array([[5, 6, 7]]), np.array([[0.3, 0.2, 0.1]])
    recent = np.array([[5, -1]])
    bare = replace(NONE, seen=1.0)
    made = wanted(bare, night, np.array([-1]), items, scores, recent)
    assert made[0] == pytest.approx([-0.7, 0.2, 0.1])
    assert reranked(bare, night, items, made, 2).tolist() == [[1, 2]]
    with pytest.raises(ValueError, match="propose more"):
        reranked(bare, night, items, made, 4)
    for wrong in ({"cap": 0}, {"diversity": 1.0}):
        with pytest.raises(ValueError, match="at least 1"):
            Rules(**wrong)


# The one function ------------------------------------------------------------------------


def test_one_request_alone_has_the_list_that_it_has_among_others_and_after_a_pickle(here, served):
    night, some, given = served
    every = recommend(here.parts, night, *given)
    parts, again = pickle.loads(pickle.dumps((here.parts, night)))
    for row in (0, len(some.user) // 2):
        recent = tuple(int(i) for i in some.recent[row] if i >= 0)
        one = [values[[row]] for values in given[:3]]
        alone = recommend(parts, again, *one, given[3], [recent])
        assert (alone.items == every.items[[row]]).all()
        assert alone.scores == pytest.approx(every.scores[[row]], abs=1e-4)
        assert all(alone.sources())
    lists = for_days(here.nights, here.parts, some, here.world.stock)
    assert (lists == every.items).all()


def test_where_candidates_run_out_places_stay_empty_and_none_is_twice(here, served):
    night, _, given = served
    stock = np.zeros_like(given[3])
    stock[np.flatnonzero(given[3])[:6]] = True
    made = recommend(here.parts, night, *given[:3], stock, given[4])
    for row in made.items:
        own = row[row >= 0].tolist()
        assert len(own) == len({*own}) <= 6 and stock[own].all()
    assert (made.items < 0).sum(axis=1).min() >= 4 and (made.scores[made.items < 0] <= 0).all()


def test_nobody_is_served_too(here, served):
    night, _, given = served
    made = recommend(here.parts, night, [-1, -1], [4, -1], [0, 2], given[3])
    assert (made.items >= 0).all() and made.items.shape == (2, 10)
    assert not night.taken[-1].nnz and night.heard[-1] == 0


def test_stages_are_timed_in_order(here, served):
    night, _, given = served
    seen = []

    class Stage:
        def __init__(self, name):
            seen.append(name)

        __enter__ = __exit__ = lambda self, *_: None

    recommend(here.parts, night, *given, stage=Stage)
    assert seen == ["candidates", "ranking", "rules"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"users": [900]}, "a user is outside"),
        ({"pages": [320]}, "a page is outside"),
        ({"surfaces": [3]}, "a surface is outside"),
        ({"recent": [(999,)]}, "recent item is outside"),
        ({"pages": [1, 2]}, "one row for each"),
        ({"users": [1.5]}, "whole numbers"),
        ({"stock": np.ones(4, bool)}, "a flag for each item"),
    ],
)
def test_bad_requests_are_refused(here, served, change, says):
    given = {"users": [1], "pages": [2], "surfaces": [0], "stock": served[2][3], "recent": [()]}
    with pytest.raises(ValueError, match=says):
        recommend(here.parts, served[0], **{**given, **change})


def test_without_a_click_there_is_nothing_to_learn(here):
    log = here.nights.log
    dull = Nights(replace(log, shown=log.shown.assign(clicked=False)))
    with pytest.raises(ValueError, match="nothing to learn"):
        fitted(dull, 30)


# The ladder ------------------------------------------------------------------------------


def test_the_order_of_the_ladder_and_what_the_log_says_of_it(here):
    boosted = ("trees", "pointwise")
    lists = studies.lists_by(here, [name for name in studies.RUNGS if name not in boosted])
    until = here.world.split.validate_until
    some = rankers.asked(here.world.shown, range(until - 14, until))
    for name in boosted:  # a sixth of their trees: less than the recorded ones, and enough here
        few = {**rankers.CHOSEN[name], "n_estimators": 200}
        rank = rankers.LEARNERS[name](of_lists(here.nights, some), some, few)
        parts = replace(here.parts, rank=rank)
        lists[name] = for_days(here.nights, parts, here.test, here.world.stock)
    made = {name: studies.measured(here, own) for name, own in lists.items()}
    clicks = {name: row["clicks"] for name, row in made.items()}
    assert clicks["popular"] < clicks["analyst"] < clicks["logistic"] < clicks["oracle"]
    assert min(clicks["trees"], clicks["pointwise"]) > clicks["analyst"]
    assert made["shown"]["logged_recall"] == 1 and made["oracle"]["logged_recall"] < 0.6
    assert all(row["sold_out"] == 0 for row in made.values())


def test_the_rungs_of_trees_are_in_the_ladder():
    tiny = studies.simulate(3, Shop(users=50, items=160), requests=20)
    made = studies.lists_by(tiny, ("logistic", "trees", "pointwise"))
    assert len({lists.tobytes() for lists in made.values()}) == 3
    assert all(studies.measured(tiny, lists)["sold_out"] == 0 for lists in made.values())


@pytest.mark.parametrize("name", ladder.TRIALS)
def test_a_retriever_is_fitted_on_what_was_known_on_monday(here, name):
    fits = ladder.Fits(here.nights)
    fits(name, 38)
    assert {day for _, day in fits._made} == {35}
    lists = ladder.lists(fits, name, here.test, here.world.stock)
    assert here.world.stock[here.test.day[:, None], lists].all()


def test_equal_trials_and_settings_that_were_tried():
    grids = {**ladder.TRIALS, **rankers.TRIALS}
    assert {len(grid) for grid in grids.values()} == {9}
    for name, chosen in {**ladder.CHOSEN, **rankers.CHOSEN}.items():
        assert chosen in grids[name]
    assert not {*studies.SEEDS} & {*studies.CHOSEN_ON}


def test_sold_out_items_and_the_pages_own_are_never_allowed():
    scores = allowed(np.zeros((2, 3)), np.array([True, False, True]), np.array([2, -1]))
    assert np.isfinite(scores).tolist() == [[True, False, False], [True, False, True]]


# What is new -----------------------------------------------------------------------------


def test_rates_begin_with_the_contents_promise_and_end_with_their_own(here):
    night = here.nights.known(36)
    made = cold.blended(night)
    seen = night.looked > 50 * cold.BLEND
    unseen = night.looked == 0
    own = night.looked / (night.looked + cold.BLEND)
    assert made[unseen] == pytest.approx(cold.promised(night)[unseen])
    assert (np.abs(made - night.rate)[seen] < 0.05 * np.abs(cold.promised(night) - night.rate)[
        seen] + 1e-9).all()  # fmt: skip
    assert made == pytest.approx(own * night.rate + (1 - own) * cold.promised(night))


def test_a_bonus_and_a_random_place_show_more_of_the_new_items():
    table = cold.cold_items(3, SMALL).set_index("way")
    plain = table.loc["as they are"]
    for way in ("content, bonus", "a random place"):
        assert table.loc[way, "new_share"] > plain["new_share"]
        assert table.loc[way, "new_covered"] >= plain["new_covered"]
        assert table.loc[way, "clicks"] < 1.02 * plain["clicks"]


def test_brands_are_lifted_towards_what_they_merit():
    table = fairness.fairness_of(3, SMALL).set_index("weight")
    assert table.loc[0.1, "off"] < table.loc[0.0, "off"]
    assert table.loc[0.1, "least"] > table.loc[0.0, "least"]
    assert table.loc[0.4, "clicks"] < table.loc[0.0, "clicks"]
    lists, brand = np.array([[0, 1, 2]]), np.array([0, 1, 1])
    assert fairness.exposure(lists, brand, 0.5) == pytest.approx([4 / 7, 3 / 7])


def test_newcomers_are_counted_by_what_is_known_of_them():
    table = cold.cold_users(3, SMALL)
    counts = table.groupby("way")["requests"].sum()
    assert counts.nunique() == 1 and counts.iloc[0] > 50
    first = table[table["seen"] == "0"].set_index("way")["clicks"]
    assert first["popular"] < first["ranker"]
