"""Sentences with computed values: what they show and what they refuse."""

from __future__ import annotations

import numpy as np
import pytest

from casebook.page.claims import claim, not_run, plural


def test_a_claim_shows_the_same_sentence_as_markdown_and_as_text(shown):
    claim("WAPE falls from **{base:.1%}** to {model:.1%}.", base=0.31, model=np.float64(0.2449))
    sentence = "WAPE falls from **31.0\u00a0%** to 24.5\u00a0%."
    assert shown == [{"text/markdown": sentence, "text/plain": sentence}]


def test_a_claim_takes_words_and_parts_of_values(shown):
    claim("{best} wins by {gap[0]:.2f} in {n:,} rows", best="LightGBM", gap=[0.126], n=4500)
    assert shown[0]["text/plain"] == "LightGBM wins by 0.13 in 4,500 rows"


@pytest.mark.parametrize(
    ("sentence", "values", "reason"),
    [
        ("Nothing is computed.", {}, "no computed value"),
        ("Escaped {{wape}} only.", {}, "no computed value"),
        ("WAPE is {wape:.1%}.", {}, "no value for: wape"),
        ("WAPE is {wape:.1%}.", {"wpae": 0.2}, "no value for: wape"),
        ("WAPE is {wape:.1%}.", {"wape": 0.2, "mase": 0.9}, "does not use: mase"),
        ("WAPE is {wape:.1%}.", {"wape": float("nan")}, "would print wape = nan"),
        ("WAPE is {wape:.1%}.", {"wape": np.float32("inf")}, "would print wape = inf"),
        ("WAPE is {wape:.1%}.", {"wape": -np.inf}, "would print wape = -inf"),
        ("WAPE is {row[wape]:.1%}.", {"row": {"wape": float("nan")}}, "nan"),
    ],
    ids=["no field", "escaped", "missing", "misspelled", "unused", "nan", "inf", "-inf", "part"],
)
def test_a_claim_that_states_nothing_is_refused(shown, sentence, values, reason):
    with pytest.raises(ValueError, match=reason):
        claim(sentence, **values)
    assert shown == []


def test_what_did_not_run_says_what_and_why(shown):
    not_run("The check on Australian tourism", "The file is absent.")
    text = "> **Not run here: The check on Australian tourism.** The file is absent."
    assert shown == [{"text/markdown": text, "text/plain": text}]


@pytest.mark.parametrize(
    ("args", "text"),
    [
        ((1, "node"), "1 node"),
        ((0, "node"), "0 nodes"),
        ((2300.0, "node"), "2,300 nodes"),
        ((2, "country", "countries"), "2 countries"),
        ((1, "country", "countries"), "1 country"),
    ],
)
def test_a_count_has_its_noun_in_the_right_number(args, text):
    assert plural(*args) == text


def test_half_a_node_is_refused():
    with pytest.raises(ValueError, match=r"cannot be 0\.5 nodes"):
        plural(0.5, "node")


@pytest.mark.parametrize(
    "why",
    ["put it at /srv/data/x.rda", "see https://host/x", "in ~/data", f"sha256 {'0a' * 32}"],
)
def test_a_note_holds_no_path_hash_or_address(shown, why):
    with pytest.raises(ValueError, match="leave paths, hashes and addresses out"):
        not_run("The check", why)
    assert shown == []


def test_a_note_may_name_commands_and_two_things_by_a_stroke(shown):
    not_run(
        "The check and/or test", 'Run `casebook.data.explain("fraud_handbook")`; 7/10 are here.'
    )
    assert len(shown) == 1
