"""Case 07: features know what was recorded by their night, and nothing else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from casebook.cases.subscription_churn import features
from casebook.cases.subscription_churn import world as worlds
from casebook.cases.subscription_churn.features import NAMES, build, cancels, there
from casebook.cases.subscription_churn.month import TEST, night_of
from casebook.cases.subscription_churn.population import MONTH, Constants
from casebook.cases.subscription_churn.records import Tables, date
from casebook.features.mood import Mood

SMALL = Constants(subscribers=10_000, joiners=400, accounts=1_200)
NIGHT = night_of(3)


@pytest.fixture(scope="module")
def world() -> worlds.World:
    return worlds.play(worlds.simulate(3, SMALL))


@pytest.fixture(scope="module")
def as_it_was(world) -> Tables:
    """The tables as they stood on the night of month 3."""
    return worlds.simulate(3, SMALL, until=3).tables


def test_a_later_copy_of_the_tables_gives_the_features_of_the_night(world, as_it_was):
    mood = Mood(world.tables.tickets, date(NIGHT))
    now, later = build(as_it_was, NIGHT, mood), build(world.tables, NIGHT, mood)
    assert list(later) == NAMES and len(now) > 9_000
    pd.testing.assert_frame_equal(now, later)


def test_it_would_be_seen_if_a_feature_looked_ahead(world, as_it_was):
    """The same comparison finds the downgrades that are booked back."""
    mood = Mood(world.tables.tickets, date(NIGHT))
    now, later = (build(t, NIGHT, mood, by="at") for t in (as_it_was, world.tables))
    differs = [name for name in NAMES if not now[name].equals(later[name])]
    assert differs == ["downgrades"]


def test_the_leak_is_worth_a_lot_to_a_model_that_may_have_it(world):
    """Of those booked as downgraded on the night, most cancel; of those recorded, few do."""
    shares = {}
    for by in ("recorded", "at"):
        made = build(world.tables, night_of(TEST), by=by)
        y = cancels(world.tables, made.index, night_of(TEST), night_of(TEST + 1))
        shares[by] = y[made["downgrades"] > 0].mean()
    assert shares["at"] > 1.3 * shares["recorded"]


def test_features_by_hand(world):
    tables, night = world.tables, night_of(TEST)
    made = build(tables, night)
    rows = made.index[[0, 100, 1000, 5000]]
    week = (night - night_of(-6)) // 7
    quarter = {"left": date(night) - pd.Timedelta(days=features.QUARTER), "right": date(night)}
    account = tables.subscribers["account"]
    for row in rows:
        tickets = tables.tickets.query("row == @row")["at"].between(**quarter, inclusive="left")
        called = tables.calls.query("row == @row and called")["at"]
        assert made.loc[row, "tickets_quarter"] == tickets.sum()
        assert made.loc[row, "logins_month"] == tables.logins[row, week - 4 : week].mean()
        assert made.loc[row, "calls"] == called.between(**quarter, inclusive="left").sum()
        assert made.loc[row, "seats"] == (account[made.index] == account[row]).sum()


def test_who_is_there_and_what_they_pay(world):
    month = world.months[TEST]
    rows = there(world.tables.subscribers, night_of(TEST))
    assert np.array_equal(rows, month.here)
    assert np.array_equal(
        features.plan_on(world.tables, rows, night_of(TEST)), month.state.plan[rows]
    )
    assert np.array_equal(features.value_on(world.tables, rows, night_of(TEST)), month.value[rows])


def test_an_outcome_is_known_after_its_month_and_not_before(world):
    rows, night = world.months[TEST].here, night_of(TEST)
    found = cancels(world.tables, rows, night, night + MONTH)
    assert np.array_equal(found, world.months[TEST].cancelled[rows])
    with pytest.raises(ValueError, match="1 days from now"):
        cancels(world.tables, rows, night, night + MONTH - 1)


def test_too_short_a_history_is_refused(world):
    with pytest.raises(ValueError, match="16 are needed"):
        build(world.tables, night_of(-3))
    unrated = replace(world.tables, tickets=world.tables.tickets.assign(rating=np.nan))
    with pytest.raises(ValueError, match="too few"):
        Mood(unrated.tickets, date(NIGHT))


def test_ids_that_are_not_positions_are_refused(world):
    people = world.tables.subscribers
    for wrong in (people.sample(frac=1, random_state=0), people.drop(index=5)):
        with pytest.raises(ValueError, match="the order is another"):
            build(replace(world.tables, subscribers=wrong), NIGHT)


def test_the_mood_of_a_text_is_learned_from_the_rated_ones(world):
    tickets = world.tables.tickets
    mood = Mood(tickets, date(NIGHT))
    sad, glad = "Once again the export fails. We are thinking about alternatives.", "Many thanks!"
    scores = mood.of(pd.Series([sad, glad]))
    assert scores[0] > 0.6 > 0.4 > scores[1]
    later = tickets[(tickets["at"] >= date(NIGHT)) & tickets["rating"].notna()]
    assert roc_auc_score(later["rating"] <= 3, mood.of(later["text"])) > 0.8
