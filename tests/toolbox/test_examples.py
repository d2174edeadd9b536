"""The examples in the docstrings of the rooms that cases serve from."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import casebook.features
import casebook.forecasting
import casebook.serving
import casebook.worlds

MODULES = sorted(
    module.name
    for room in (casebook.features, casebook.forecasting, casebook.serving, casebook.worlds)
    for module in pkgutil.iter_modules(room.__path__, f"{room.__name__}.")
)
#: Of a room that mostly computes metrics, those that a reader would copy from.
MODULES += [
    f"casebook.evaluate.{name}" for name in ("conformal", "gap", "power", "quantiles", "ranges")
]
MODULES += [
    f"casebook.evaluate.{name}" for name in ("imbalance", "killing", "psi", "rare", "survival")
]
MODULES += [
    f"casebook.evaluate.{name}" for name in ("delays", "fraud_costs", "frontier", "selective")
]
MODULES += [f"casebook.llm.{name}" for name in ("adapters", "mock_providers", "providers", "sse")]
MODULES += [f"casebook.evaluate.{name}" for name in ("attempts", "deflection")]
MODULES += [
    "casebook.llm.reading",
    "casebook.recorded.asked_model",
    "casebook.retrieval.intent_gates",
]
MODULES += ["casebook.columns", "casebook.retrieval.text_attacks", "casebook.strict_json"]
MODULES += [
    f"casebook.data.{name}"
    for name in ("clocks", "contracts", "feed", "plans", "reports", "values")
]


def check_examples(module) -> None:
    result = doctest.testmod(module, optionflags=doctest.ELLIPSIS)
    assert result.attempted > 0, f"{module.__name__} has no example"
    assert result.failed == 0


@pytest.mark.parametrize("name", MODULES)
def test_each_module_has_an_example_that_holds(name):
    check_examples(importlib.import_module(name))


@pytest.mark.parametrize("text", ["", ">>> 1 + 1\n3"], ids=["none", "wrong"])
def test_a_module_without_an_example_or_with_a_wrong_one_is_found(text):
    module = type(doctest)("planted", text)
    with pytest.raises(AssertionError):
        check_examples(module)
