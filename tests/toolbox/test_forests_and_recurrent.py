"""What a forest and a network over sequences are given; what cannot be learned from is refused.

Both are grown and trained in the environment of the artifacts: see tests/install/test_artifacts.py.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from casebook.evaluate.forests import filled
from casebook.forecasting import recurrent


def test_a_missing_value_is_one_below_the_least_of_the_training_rows():
    train = pd.DataFrame({"a": [2.0, np.nan, 5.0], "b": [0.0, 1.0, 2.0]})
    assert filled(train).tolist() == [[2, 0], [1, 1], [5, 2]]
    later = pd.DataFrame({"a": [np.nan], "b": [7.0]})
    assert filled(later, train.min()).tolist() == [[1, 7]]


def test_counts_are_read_as_logarithms():
    read = recurrent.steps(np.array([[0, 9]], np.int8))
    assert read.dtype == np.float32 and np.allclose(read, [[0, np.log(10)]])


@pytest.mark.parametrize(
    ("rows", "event", "says"),
    [(3, [True, False], "give the same rows"), (2, [True, True], "nothing to learn")],
)
def test_rows_that_do_not_agree_and_a_constant_outcome_are_refused(rows, event, says):
    features = pd.DataFrame({"a": [0.0, 1.0]})
    with pytest.raises(ValueError, match=says):
        recurrent.fit(np.zeros((rows, 4)), features, np.array(event), recurrent.Settings())
