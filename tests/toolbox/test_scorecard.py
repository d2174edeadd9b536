"""Scorecards: verdicts, what is refused, and what is written and shown."""

from __future__ import annotations

import json

import pytest
from bs4 import BeautifulSoup

from casebook.page.scorecard import Scorecard

ROW = {
    "unit": "share",
    "better": "lower",
    "baseline": 0.30,
    "model": 0.20,
    "target": 0.25,
    "data": "simulated",
}


def card(**changes) -> Scorecard:
    scorecard = Scorecard("01_planted")
    scorecard.add("WAPE", **{**ROW, **changes})
    return scorecard


@pytest.mark.parametrize(
    ("better", "model", "verdict"),
    [
        ("lower", 0.24, "met"),
        ("lower", 0.25, "met"),
        ("lower", 0.26, "missed"),
        ("higher", 0.26, "met"),
        ("higher", 0.25, "met"),
        ("higher", 0.24, "missed"),
    ],
)
def test_the_verdict_follows_from_target_and_direction(better, model, verdict):
    assert card(better=better, model=model, note="why").rows[0].verdict == verdict


def test_a_missed_target_without_a_reason_is_refused():
    with pytest.raises(ValueError, match=r"misses its target .*say why"):
        card(model=0.26)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), None, "0.2"])
@pytest.mark.parametrize("field", ["baseline", "model", "target"])
def test_a_value_that_is_no_finite_number_is_refused(field, value):
    with pytest.raises(ValueError, match=f"{field} of 'WAPE'"):
        card(**{field: value})


@pytest.mark.parametrize("field", ["peer", "oracle"])
def test_a_peer_or_an_oracle_may_be_absent_but_not_undefined(field):
    assert getattr(card().rows[0], field) is None
    with pytest.raises(ValueError, match=f"{field} of 'WAPE' is nan"):
        card(**{field: float("nan")})


def test_an_unknown_direction_is_refused():
    with pytest.raises(ValueError, match="better is 'smaller'"):
        card(better="smaller")


def test_a_metric_stands_once_for_each_data_set():
    scorecard = card()
    scorecard.add("WAPE", **{**ROW, "data": "tourism"})
    with pytest.raises(ValueError, match="'WAPE' on 'simulated' already stands"):
        scorecard.add("WAPE", **ROW)
    assert len(scorecard.rows) == 2


def test_show_writes_every_field_as_json(build_folder, shown):
    card(peer=0.22, oracle=0.10).show()
    written = json.loads((build_folder / "scorecards" / "01_planted.json").read_text())
    row = {**ROW, "metric": "WAPE", "peer": 0.22, "oracle": 0.10, "verdict": "met", "note": ""}
    assert written == {"chapter": "01_planted", "rows": [row]}


def test_show_writes_the_same_bytes_again(build_folder, shown):
    path = build_folder / "scorecards" / "01_planted.json"
    card().show()
    first = path.read_bytes()
    card().show()
    assert path.read_bytes() == first


def shown_rows(bundle: dict) -> list[dict[str, str]]:
    """Return the rows of a shown table as a reader sees them."""
    page = BeautifulSoup(bundle["text/html"], "html.parser")
    columns = [th.text for th in page.find_all("th", scope="col")]
    rows = page.tbody.find_all("tr")
    return [dict(zip(columns, [c.text for c in row.children], strict=True)) for row in rows]


def test_show_shows_unit_direction_and_verdict_of_each_row(build_folder, shown):
    scorecard = card(peer=0.22)
    changes = {"better": "higher", "model": 0.2, "note": "too few quarters"}
    scorecard.add("gap closed", **{**ROW, **changes})
    scorecard.show()
    first, second = shown_rows(shown[0])
    assert (first["metric"], first["verdict"]) == ("WAPE (share) ↓", "✓ met")
    assert (second["metric"], second["verdict"]) == ("gap closed (share) ↑", "✗ missed")
    assert (first["model"], first["peer"], second["peer"]) == ("0.200", "0.220", "")


def test_show_leaves_out_columns_that_say_nothing(build_folder, shown):
    card(peer=0.22).show()
    assert "peer" in shown_rows(shown[0])[0]
    assert not {"oracle", "note"} & shown_rows(shown[0])[0].keys()


def test_a_row_without_a_note_shows_an_empty_note(build_folder, shown):
    scorecard = card()
    scorecard.add("bias", **{**ROW, "model": 0.5, "note": "too few quarters"})
    scorecard.show()
    assert [row["note"] for row in shown_rows(shown[0])] == ["", "too few quarters"]


def test_whole_numbers_are_shown_whole(build_folder, shown):
    scorecard = card(peer=0.22)
    counts = {"unit": "cases", "baseline": 1272, "model": 0, "target": 0}
    scorecard.add("stale hits", **{**ROW, **counts})
    scorecard.show()
    first, second = shown_rows(shown[0])
    assert (second["baseline"], second["model"], second["peer"]) == ("1,272", "0", "")
    assert first["baseline"] != "0" and "." in first["baseline"]
    right = BeautifulSoup(shown[0]["text/html"], "html.parser").select("tbody td.number")
    assert [cell.text for cell in right[-4:]] == ["1,272", "0", "", "0"]


def test_large_values_and_what_sums_leave_over_have_no_decimals(build_folder, shown):
    scorecard = card()
    left_over = {"unit": "parcels", "baseline": 3493.597, "model": 1e-12, "target": 0.5e-9}
    scorecard.add("incoherence", **{**ROW, **left_over})
    scorecard.show()
    row = shown_rows(shown[0])[1]
    assert [row[column] for column in ("baseline", "model", "target")] == ["3,494", "0", "0"]


def test_an_empty_scorecard_is_refused(build_folder, shown):
    with pytest.raises(ValueError, match="01_planted is empty"):
        Scorecard("01_planted").show()
    assert not build_folder.exists()


def test_a_read_only_checkout_shows_the_card_and_says_what_was_not_written(
    build_folder, shown, without_rights, monkeypatch
):
    folder = without_rights / "checkout"
    folder.mkdir(mode=0o555)
    monkeypatch.setenv("CASEBOOK_BUILD_DIR", str(folder / "_build"))
    card().show()
    assert shown_rows(shown[0])[0]["metric"] == "WAPE (share) ↓"
    note = shown[1]["text/markdown"]
    assert "not written (permission denied)" in note
    assert "Set `CASEBOOK_BUILD_DIR` to a folder that you may write to" in note
    assert not list(folder.iterdir())


def test_a_card_that_is_written_has_no_note(build_folder, shown):
    card().show()
    assert len(shown) == 1
