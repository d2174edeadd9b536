"""Messages are read as they were meant or refused, and tables become events in order."""

from __future__ import annotations

import json
from typing import Literal

import numpy as np
import pandas as pd
import pytest

from casebook.serving.messages import Feed, Message, bodies, decoder, in_order, moment

Moment = moment(pd.Timestamp("2025-01-01"), pd.Timestamp("2026-01-01"))


class Sold(Message):
    kind: Literal["sold"] = "sold"
    at: Moment
    cents: int


class Opened(Message):
    kind: Literal["opened"] = "opened"
    at: Moment


decode = decoder(Sold, Opened)
GOOD = {"kind": "sold", "at": "2025-03-01T10:00:00", "cents": 5}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"at": "2025-03-01"}, "at: Value error, send date and time, as 2025-10-07T10:00:00"),
        ({"at": 1759831200}, "at: Value error, send date and time"),
        ({"at": "2025-03-01T10:00:00+02:00"}, "at: Value error, send UTC without an offset"),
        ({"at": "2024-12-31T23:59:59"}, "at: Value error, not between 2025-01-01 and 2026-01-01"),
        ({"cents": "many"}, "cents: Input should be a valid integer"),
        ({"shop": 7}, "shop: Extra inputs are not permitted"),
        ({"kind": "lost"}, "message: Input tag 'lost'"),
        ({"at": None, "cents": None, "a": 1, "b": 1, "c": 1, "d": 1}, "b: Extra inputs"),
    ],
)
def test_a_message_that_is_none_says_what_is_wrong(change, says):
    with pytest.raises(ValueError, match=":") as refused:
        decode(json.dumps(GOOD | change))
    assert says in str(refused.value) and str(refused.value).count("; ") < 5


@pytest.mark.parametrize("body", ["", "{", "[]", "null", "7", '{"cents": 5}'])
def test_what_is_no_message_is_refused(body):
    with pytest.raises(ValueError, match=r"^message: "):
        decode(body)


def test_a_message_is_of_its_kind_and_its_time_has_no_fraction():
    found = decode(json.dumps(GOOD | {"at": "2025-03-01T10:00:00.999999"}))
    assert isinstance(found, Sold) and found.at == pd.Timestamp("2025-03-01 10:00:00")
    assert isinstance(decode(json.dumps({"kind": "opened", "at": GOOD["at"]})), Opened)
    assert decoder(Opened)(json.dumps({"at": GOOD["at"]})).kind == "opened"


def test_tables_become_events_in_the_order_in_which_they_became_known():
    times = pd.to_datetime(["2025-03-01 10:00", "2025-03-02 00:00", "2025-03-01 09:00"])
    sold = pd.DataFrame({"at": times, "cents": [1, 2, 3], "shop": ["A", "B", "A"]})
    opened = pd.DataFrame({"at": times[:1], "shop": ["A"]})
    feeds = [
        Feed("sold", sold, "at", "shop", np.array([2, 2, 2])),
        Feed("opened", opened, "at", "shop"),
    ]
    events = [
        (key, json.loads(body)["kind"], json.loads(body)["at"]) for key, body in in_order(feeds)
    ]
    assert events == [
        ("A", "sold", "2025-03-01T09:00:00"),
        ("A", "opened", "2025-03-01T10:00:00"),  # of one second the lowest rank comes first
        ("A", "sold", "2025-03-01T10:00:00"),
        ("B", "sold", "2025-03-02T00:00:00"),
    ]
    again = [decode(body) for body in bodies("sold", sold[["at", "cents"]])]
    assert [message.cents for message in again] == [1, 2, 3]
    shuffled = list(in_order([feed._replace(table=feed.table[::-1]) for feed in feeds]))
    assert sorted(shuffled) == sorted(in_order(feeds))
