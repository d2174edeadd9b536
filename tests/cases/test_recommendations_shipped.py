"""Case 09: one function decides on the page, in the service and in the mail."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from recommendations_fakes import messages, world

from casebook.cases.recommendations.catalogue import SURFACES
from casebook.cases.recommendations.drills import DAY, HOUR, kills, prepare, queries
from casebook.cases.recommendations.emails import LONG, night
from casebook.cases.recommendations.nights import midnight
from casebook.cases.recommendations.rankers import asked
from casebook.cases.recommendations.recommend import recommend
from casebook.cases.recommendations.service import app_from
from casebook.cases.recommendations.store import FEATURES
from casebook.features.cluster import local_cluster
from casebook.features.store import Offline
from casebook.serving.lists import Lists
from casebook.serving.replies import Replies, told_stages

STOCK, LATER = world().stock[DAY], midnight(DAY) + HOUR + pd.Timedelta(minutes=10)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("shipped")
    return path, prepare(path, world(), rows=128)


@pytest.fixture
def service(folder):
    made = app_from(str(folder[0]), str(midnight(DAY) + HOUR), 5_000.0).state.service
    made.beat = lambda: None  # no page is taken in while a test compares
    made.clock = lambda: LATER
    yield made
    made.close()


def test_page_service_and_mail_are_one_function(folder, service):
    path, shipped = folder
    sent = queries(world(), 40)
    got = [service.recommend([(k, str(v)) for k, v in one.items()]) for one in sent]
    assert {one["source"] for one in got} == {"model"}
    read = service.online.read({"user": [one["user_id"] for one in sent]}, LATER)["recent_pages"]
    assert any(read)
    users, pages, kinds = (
        np.array([one["user_id"] for one in sent]),
        np.array([one.get("item_id", -1) for one in sent]),
        np.array([SURFACES.index(one["type"]) for one in sent]),
    )
    expected = recommend(shipped.parts, shipped.night, users, pages, kinds, STOCK, [*read])
    assert [one["items"] for one in got] == expected.items.tolist()
    np.testing.assert_allclose([one["scores"] for one in got], expected.scores, rtol=1e-5)
    mail = Lists.load(path / "lists")
    again = recommend(
        *(shipped.parts, shipped.night, np.arange(128), np.full(128, -1), np.full(128, 2)),
        world().stock[DAY - 1],
        count=LONG,
    )
    assert mail.items["mail"].tolist() == again.items.tolist()


def test_the_store_gives_the_pages_of_the_day_that_the_ranker_was_trained_on():
    days = range(DAY - 3, DAY + 1)
    first = world().shown[world().shown["day"].isin([*days])].iloc[::10]
    rows = pd.DataFrame({"user": first["user"].to_numpy(), "asked": first["at"].to_numpy()})
    mine = [f for f in FEATURES if f.name == "recent_pages"]
    got = Offline(mine, messages()).at(rows, "asked")["recent_pages"]
    trained = [tuple(row[row >= 0].tolist()) for row in asked(world().shown, days).recent]
    assert trained == got.tolist() and sum(map(bool, trained)) > 50


def test_workers_make_the_mail_of_one_process_to_the_last_bit(folder):
    sizes, shipped = {"mail": 512}, folder[1]
    alone = night(shipped, sizes, STOCK, midnight(DAY))
    with local_cluster(2) as client:
        assert night(shipped, sizes, STOCK, midnight(DAY), client).digest() == alone.digest()


@pytest.mark.parametrize("left", [0, 1, 6, 25])
def test_when_little_is_left_no_item_stands_twice(service, left):
    service.stock = STOCK & (np.cumsum(STOCK) <= left)
    for more in ([("item_id", "3")], [("item_id", "3"), ("user_id", "7")]):
        got = service.recommend(more)
        assert len({*got["items"]}) == len(got["items"]) and service.stock[got["items"]].all()
        assert got["source"] == ("model" if left else "bestsellers"), got["why"]


def test_a_user_who_joined_since_the_night_and_one_without_a_name_get_the_same_list(service):
    page = str(int(np.flatnonzero(STOCK)[3]))
    new = service.recommend([("user_id", "5000000"), ("item_id", page)])
    nobody = service.recommend([("item_id", page)])
    assert new["source"] == nobody["source"] == "model"
    assert new["items"] == nobody["items"] and STOCK[new["items"]].all()
    model = service.arms.swaps["control"].current.value
    service.stock, service.items = np.append(STOCK, True), len(STOCK) + 1
    later = service.recommend([("item_id", str(len(STOCK)))])  # a page newer than the model
    service.stock, service.items = STOCK, len(STOCK)
    assert model.items == len(STOCK) and later["source"] == "model", later["why"]
    assert len({*later["items"]}) == 10 and STOCK[later["items"]].all()


def test_drills_count_what_came(service):
    sent = queries(world(), 160)
    bodies = [json.dumps(service.recommend([(k, str(v)) for k, v in one.items()])) for one in sent]
    table = told_stages(Replies(np.ones(160), np.full(160, 200), bodies, 1.0))
    assert {"store", "candidates", "ranking", "rules", "whole", "client"} <= {*table.index}
    assert table.loc["client", "p99"] == 1.0 and (table["p50"] <= table["p99"]).all()
    found = kills(world(), losses=(0.0, 0.8), runs=200).set_index(["loss", "rule"])["stopped"]
    assert found[0.0, "estimate"] > 0.5 and found[0.0, "harm"] < 0.1 < found[0.8, "harm"]
