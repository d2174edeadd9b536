"""Rows that break a schema are refused with their lines; the others go on."""

from __future__ import annotations

import warnings

import pandas as pd
import pandera.errors
import pandera.pandas as pa
import pytest

from casebook.data.contracts import (
    ContractBroken,
    between,
    checked,
    enforce,
    need_columns,
    summary,
)

TABLE = pd.DataFrame({"name": list("abcd"), "grams": [1.0, 2.0, 3.0, 4.0]}, index=[10, 11, 12, 13])
REMEDY = {
    "column": "ask for the file",
    "type": "convert it",
    "empty": "weigh it",
    "light": "weigh it again",
}


def schema():
    light = pa.Check(lambda g: ~(g > 10), name="light", error="heavier than 10 g", ignore_na=False)
    return pa.DataFrameSchema({"name": pa.Column(), "grams": pa.Column(float, light)})


def lines(rule, what, rows):
    return [summary(what, rows, ["name", "day", "grams"], REMEDY[rule])]


def refused(table):
    with pytest.raises(ContractBroken) as error:
        enforce(schema(), table, lines)
    return error.value


def test_a_table_that_keeps_its_contract_passes_without_a_word():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert enforce(schema(), TABLE, lines) is None


def test_broken_rows_are_set_aside_as_they_were_handed_in():
    table = TABLE.assign(grams=[11.0, 2.0, None, 40.0])
    error = refused(table)
    assert list(error.rows.index) == [10, 12, 13] and list(error.accepted.index) == [11]
    assert error.lines == (
        "grams is empty: 1 row, name c, grams nan; weigh it",
        "heavier than 10 g: 2 rows, first name a, grams 11.0; weigh it again",
    )
    assert str(error) == "\n".join(error.lines)
    pd.testing.assert_frame_equal(pd.concat([error.rows, error.accepted]).sort_index(), table)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (TABLE.drop(columns="grams"), "column 'grams' is missing: 4 rows, first name a; ask for"),
        (TABLE.assign(grams="heavy"), "grams holds object, not float64: 4 rows, first name a"),
    ],
)
def test_a_missing_or_mistyped_column_breaks_every_row_and_hides_what_cannot_be_asked(table, said):
    error = refused(table)
    assert len(error.lines) == 1 and error.lines[0].startswith(said)
    assert len(error.rows) == 4 and error.accepted.empty


def test_a_rule_that_cannot_be_asked_of_a_whole_table_is_a_fault_of_the_schema():
    broken = pa.DataFrameSchema(checks=pa.Check(lambda rows: rows["nowhere"] > 0, name="light"))
    with pytest.raises(pandera.errors.SchemaErrors):
        enforce(broken, TABLE, lines)


def test_lines_and_error_are_the_feeds_own():
    class Refused(ContractBroken):
        pass

    def each(rule, what, rows):
        return [f"{name}: {what}; {REMEDY[rule]}" for name in rows["name"]]

    with pytest.raises(Refused) as error:
        enforce(schema(), TABLE.assign(grams=[11.0, 12.0, 3.0, 4.0]), each, Refused)
    assert error.value.lines == (
        "a: heavier than 10 g; weigh it again",
        "b: heavier than 10 g; weigh it again",
    )


@pytest.mark.parametrize(
    ("column", "least", "most", "bad", "says"),
    [
        ("grams", 0.0, 10.0, 11.0, "grams: not between 0.0 and 10.0: 1 row"),
        (
            "day",
            pd.Timestamp("2024-05-01"),
            pd.Timestamp("2024-06-01"),
            pd.Timestamp("2024-06-02"),
            "day: not between 2024-05-01 and 2024-06-01: 1 row",
        ),
    ],
)
def test_both_ends_of_a_range_are_allowed(column, least, most, bad, says):
    rows = pd.DataFrame({"name": list("abc"), column: [least, most, bad]})
    schema = pa.DataFrameSchema({column: between(None, least, most, column)})
    found = checked(schema, rows, ["name"], {column: "look"})
    assert found.accepted["name"].tolist() == ["a", "b"] and found.lines[0].startswith(says)


def test_a_summary_counts_and_leaves_the_midnight_out():
    rows = TABLE.assign(day=pd.Timestamp("2024-05-01"))
    said = summary("too late", rows, ["name", "day", "depot"], "ask")
    assert said == "too late: 4 rows, first name a, day 2024-05-01; ask"
    assert summary("late", rows.head(1), ["name"], "ask") == "late: 1 row, name a; ask"


def test_a_table_without_a_needed_column_is_refused():
    need_columns(TABLE, ["grams"], "parcels")
    with pytest.raises(ValueError, match=r"parcels: no column \['day', 'to'\]; there are \['name'"):
        need_columns(TABLE, ("day", "grams", "to"), "parcels")
