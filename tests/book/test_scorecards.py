"""Scorecards of the built book against the values that were accepted."""

from __future__ import annotations

import copy
import json
import tomllib

import pytest

from casebook.author.files import notebooks
from casebook.data import find_real
from casebook.project import require_checkout

ROOT = require_checkout()
TARGETS = tomllib.loads((ROOT / "tests" / "targets.toml").read_text())
CHAPTERS = [path.stem for path in notebooks("chapters", root=ROOT)]

#: What rounding leaves of a zero, differently on each processor.
NOISE = 1e-9


def card(chapter: str) -> dict:
    """Return the scorecard that the last build of the book wrote."""
    path = ROOT / "_build" / "scorecards" / f"{chapter}.json"
    assert path.is_file(), f"{path} is not there: run `make book` first"
    return json.loads(path.read_text())


def differences(chapter: str, content: dict, targets: dict = TARGETS) -> list[str]:
    """Return where a scorecard differs from its accepted values, row by row."""
    rows = {f"{row['metric']} | {row['data']}": row for row in content["rows"]}
    accepted = targets.get(chapter, {})
    found = [f"{name}: not in targets.toml" for name in rows if name not in accepted]
    for name, wanted in accepted.items():
        if name not in rows:
            if "real" not in wanted or find_real(wanted["real"]) is not None:
                found.append(f"{name}: not on the scorecard")
            continue
        row = rows[name]
        if row["verdict"] != wanted["verdict"]:
            found.append(f"{name}: the verdict is {row['verdict']!r}, not {wanted['verdict']!r}")
        for key in ("baseline", "model", "peer", "oracle"):
            if abs(row.get(key) or 0) > NOISE and key not in wanted:  # zero has no tolerance
                found.append(f"{name}: {key} is not in targets.toml")
            off = abs(row[key] - wanted[key]) if key in wanted else 0
            if off > NOISE and off > wanted["tolerance"] * abs(wanted[key]):
                found.append(f"{name}: {key} is {row[key]:.4g}, accepted {wanted[key]:.4g}")
    return found


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_the_scorecard_shows_what_was_accepted(chapter):
    assert differences(chapter, card(chapter)) == []


def test_gate_a_metric_that_fell_is_found():
    content = copy.deepcopy(card("00_how_a_case_works"))
    content["rows"][1]["model"] *= 0.9
    assert differences("00_how_a_case_works", content) == [
        "share of the gap closed | simulated, five seeds: model is 0.6238, accepted 0.693"
    ]


def test_gate_missing_unknown_and_turned_rows_are_found():
    content = copy.deepcopy(card("00_how_a_case_works"))
    content["rows"][0]["verdict"] = "missed"
    content["rows"][1]["metric"] = "another metric"
    found = differences("00_how_a_case_works", content)
    assert any("the verdict is 'missed'" in line for line in found)
    assert any(line.startswith("another metric") for line in found)
    assert any(line.endswith("not on the scorecard") for line in found)


def test_gate_a_value_that_a_merge_cut_from_the_accepted_ones_is_found():
    name = "00_how_a_case_works"
    targets = copy.deepcopy(TARGETS)
    del targets[name]["WAPE | simulated, frozen world"]["oracle"]
    assert differences(name, card(name), targets) == [
        "WAPE | simulated, frozen world: oracle is not in targets.toml"
    ]


def test_gate_rounding_of_a_zero_passes_and_a_small_number_that_changed_does_not(monkeypatch):
    wanted = {"model": 7e-12, "verdict": "met", "tolerance": 0.05}
    monkeypatch.setitem(TARGETS, "99_planted", {"a | b": wanted})
    row = {"metric": "a", "data": "b", "verdict": "met"}
    for model, faults in ((0.0, 0), (2e-9, 1)):
        assert len(differences("99_planted", {"rows": [row | {"model": model}]})) == faults
