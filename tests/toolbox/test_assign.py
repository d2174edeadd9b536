"""Arms by a salted hash, and where a broken split is found."""

from __future__ import annotations

import pandas as pd
import pytest
from scipy.stats import kstest

from casebook.evaluate import assign
from casebook.evaluate.assign import CONTROL, REST, TREATMENT, diagnose

SHARES = {CONTROL: 0.05, TREATMENT: 0.05, REST: 0.90}


def test_a_hash_never_changes():
    """Other values would give the users of a running test another arm."""
    assert [assign.bucket(f"u{i:07d}", "new_feed") for i in range(4)] == VECTOR
    assert assign.buckets([f"u{i:07d}" for i in range(4)], "new_feed").tolist() == VECTOR
    with pytest.raises(ValueError, match="holds a colon"):
        assign.bucket("c", "salt:b")  # it would give "c" what "salt" gives "b:c"


VECTOR = [2875, 4463, 5490, 3577]


def test_one_by_one_and_all_at_once_give_the_same_arms():
    users = assign.numbered(range(2_000))
    one = [assign.arm_of(user, "s", SHARES) for user in users]
    assert assign.arms(users, "s", SHARES).tolist() == one
    codes = assign.codes_of_numbered(2_000, "s", SHARES)
    assert [list(SHARES)[code] for code in codes] == one
    assert {*one} == {*SHARES}


@pytest.mark.parametrize(
    "shares",
    [
        *({"a": 0.5, "b": 0.4}, {"a": 1.2, "b": -0.2}, {"a": 0.33333, "b": 0.66667}),
        *({"a": 1, "b": 0}, {"a": 0.5, "\ud800": 0.5}),
    ],
)
def test_shares_that_cannot_be_kept_are_refused(shares):
    with pytest.raises(ValueError, match="sum to 1"):
        assign.arm_of("u", "s", shares)


def test_experiments_with_salts_of_their_own_are_independent_and_a_reused_salt_shows():
    users = assign.numbered(range(20_000))
    salts = [f"experiment_{i}" for i in range(25)]
    p = assign.overlap(users, salts, SHARES)["p"]
    assert len(p) == 300
    assert kstest(p, "uniform").pvalue > 0.001
    assert assign.overlap(users, ["same", "same"], SHARES)["p"].item() < 1e-12


def test_an_arm_without_users_is_found_by_segment():
    table = pd.DataFrame(
        {
            "arm": [CONTROL, TREATMENT, CONTROL, TREATMENT],
            "platform": ["ios", "ios", "web", "web"],
            "users": [500, 490, 400, 0],
        }
    )
    found = diagnose(table, {CONTROL: 0.5, TREATMENT: 0.5}, ("platform",))
    assert found["segment"].tolist() == ["web", "ios"]
    assert found["ratio"].iloc[0] == 0
