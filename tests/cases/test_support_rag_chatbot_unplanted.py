"""Masks and guard on messages that nobody planted: the recorded table, and faults that it shows."""

from __future__ import annotations

import re

import pandas as pd
import pytest

from casebook.cases.support_rag_chatbot import studies
from casebook.cases.support_rag_chatbot.evaluation import CASE
from casebook.recorded.bench import recorded
from casebook.serving import formats, leaks
from casebook.serving.privacy import Finding, find, mask

TOLD = studies.unplanted()


@pytest.fixture(scope="module")
def live() -> pd.DataFrame:
    return studies.support_unplanted().set_index(["what", "part"])


def test_the_recorded_table_is_what_is_found_now(live):
    table = recorded(CASE, "support_unplanted").frame.set_index(["what", "part"])
    assert list(table.index) == list(live.index)
    assert (table[["cases", "hits"]] == live[["cases", "hits"]]).all(axis=None)
    assert table["precision"].to_numpy() == pytest.approx(
        live["precision"].to_numpy(), rel=1e-4, nan_ok=True
    )


def test_there_are_enough_of_each(live):
    cases = live["cases"].unstack("part")
    assert cases.loc["all", ["development", "held out"]].sum() >= 100
    probes = leaks.probes(TOLD)
    assert len(probes) >= 60 and 0.4 < sum(bad for *_, bad in probes) / len(probes) < 0.6
    assert cases.loc["all"].min() >= 40 and cases.loc["attack"].min() >= 15
    texts = [text for _, _, text, *_ in leaks.personal(TOLD)] + [t for _, t, _ in probes]
    assert len(set(texts)) == len(texts)


def test_formats_hold_and_the_limits_are_those_that_the_page_names(live):
    recall = live["recall"].unstack("part")
    assert (recall.loc[["card", "iban", "phone"], "fresh"] >= 0.8).all()
    assert recall.loc["all"].min() > 0.8 and live["precision"].dropna().min() > 0.9
    assert recall.loc["address"].max() <= 0.5 and recall.loc["attack", "fresh"] < 0.5
    for known in ("four one one one 1111 1111 1111", "7 rue Haute, Namur", "I am Kim Lee"):
        assert find(known) == []


def test_a_half_is_decided_by_the_text_alone():
    assert {leaks.half(f"text {n}") for n in range(9)} == set(leaks.HALVES)
    assert leaks.half("a") == leaks.half("a")
    assert leaks.unmarked("⟦1⟧ or ⟦23⟧") == ("1 or 23", [(0, 1), (5, 7)])


def test_a_value_is_whole_only_where_all_of_it_is_masked():
    text = "it is 020 7946"
    for span, says in (((6, 14), "whole"), ((6, 9), "part"), ((0, 5), "open")):
        assert leaks.covered(text, 6, 14, [Finding("phone", *span)]) == says


@pytest.mark.parametrize(
    ("look", "low", "high", "precise"),
    [
        (lambda text: [], 0.0, 0.0, False),
        (lambda text: [Finding("phone", 0, len(text))], 1.0, 1.0, False),
        (lambda text: [f for f in find(text) if f.kind != "iban"], 0.5, 0.8, True),
    ],
    ids=["finds nothing", "masks everything", "without IBANs"],
)
def test_a_planted_mask_is_seen(look, low, high, precise):
    guard = leaks.guard_cases(TOLD, lambda text: "attack")  # refuses everything
    table = leaks.summary(leaks.mask_cases(TOLD, look), guard).set_index(["what", "part"])
    found = table.loc[("all", "held out")]
    assert low <= found["recall"] <= high and (found["precision"] > 0.9) == precise
    assert table.loc[("attack", "fresh"), "recall"] == 1
    assert table.loc[("attack", "fresh"), "precision"] == pytest.approx(0.5)


# Over several turns --------------------------------------------------------------------


def test_a_number_over_two_turns_is_masked_in_both():
    assert leaks.turns_masked(TOLD) == 1
    assert leaks.turns_masked(TOLD, lambda turns: [mask(turn).text for turn in turns]) == 0


@pytest.mark.parametrize(("fault", "kind"), [("_PHONE", "phone"), ("_SPELLED", "email")])
def test_a_form_that_is_lost_is_seen(fault, kind, monkeypatch):
    whole = [leaks.mask_cases(TOLD).query("kind == @kind")["masked"].eq("whole").mean()]
    monkeypatch.setattr(formats, fault, re.compile("$^"))
    whole.append(leaks.mask_cases(TOLD).query("kind == @kind")["masked"].eq("whole").mean())
    assert whole[1] < whole[0] - 0.2


def test_what_is_left_of_a_value():
    assert leaks.left_of("DE89 3704 0044", "de-8937040044") == "whole"
    assert leaks.left_of("12 Mill Lane, Moor, ZZ99 1WN", "[address] Moor, zz99 1wn") == "part"
    assert leaks.left_of("12 Mill Lane, Moor, ZZ99 1WN", "[address], Moor") == ""
    assert leaks.left_of("customer.one@example.net", "[email] customer", "our customer") == ""
