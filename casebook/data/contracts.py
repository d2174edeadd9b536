"""Contracts of tables: rows that break a rule are refused, with what is wrong and what to do.

The rules are a pandera schema, whose checks are named; the rows that keep them all go on, the
others are for the quarantine. :func:`enforce` turns what pandera finds into lines for whoever sent
the table.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from casebook.columns import need_columns as need_columns

if TYPE_CHECKING:
    import pandas as pd
    import pandera.pandas as pa

    #: Writes lines about a broken rule: its name, what is wrong, the rows that break it.
    Lines = Callable[[str, str, pd.DataFrame], Iterable[str]]


class ContractBroken(ValueError):
    """Rows of a table break its contract.

    Attributes
    ----------
    lines : tuple of str
        What is wrong, where, and what to do.
    rows : DataFrame
        The rows that break a rule, as they were handed in: for the quarantine.
    accepted : DataFrame
        All others. No row is in neither.
    """

    def __init__(self, lines: Iterable[str], rows: pd.DataFrame, accepted: pd.DataFrame):
        self.lines, self.rows, self.accepted = tuple(lines), rows, accepted
        super().__init__("\n".join(self.lines))


class ModelRefused(ValueError):
    """A stored model must not answer: it is missing, altered, too old, or of other features."""


def typed(frame: pd.DataFrame, numbers: Sequence[str], times: Sequence[str]) -> pd.DataFrame:
    """Return a table whose numbers and times are such, so that each rule can be asked.

    A text that holds a number is that number, a time with a zone the same moment in UTC. A time in
    a text is read if it is ISO 8601: "02/03/2026" is a day of March or of February. What is neither
    becomes missing, and a contract refuses it with the row.

    Parameters
    ----------
    frame : DataFrame
    numbers, times : sequence of str
        Columns.

    Examples
    --------
    >>> import pandas as pd
    >>> typed(pd.DataFrame({"minutes": [1.5, "9", "much"]}), ["minutes"], [])["minutes"].tolist()
    [1.5, 9.0, nan]
    """
    import pandas as pd

    changed = {
        name: pd.to_numeric(frame[name], errors="coerce")
        for name in numbers
        if not pd.api.types.is_numeric_dtype(frame[name])
    }
    for name in times:
        if frame[name].dtype.kind != "M" or frame[name].dt.tz is not None:
            zoned = pd.to_datetime(frame[name], utc=True, errors="coerce", format="ISO8601")
            changed[name] = zoned.dt.tz_localize(None)
    return frame.assign(**changed) if changed else frame


def countable(
    frame: pd.DataFrame, counts: Sequence[str], day: str, names: Sequence[str]
) -> tuple[pd.DataFrame, np.ndarray]:
    """Return a table whose counts are whole numbers, and which rows hold one that is none.

    One text in a column of a million numbers must not cost the other rows: they keep their values,
    and those of which ``True`` is returned are for the quarantine.

    Parameters
    ----------
    frame : DataFrame
    counts : sequence of str
    day : str
        A column of days.
    names : sequence of str
        Columns of texts.

    Examples
    --------
    >>> import pandas as pd
    >>> rows = pd.DataFrame({"day": "2025-01-05", "sold": [3, "12", "many", None], "store": "S1"})
    >>> told, bad = countable(rows, ["sold"], "day", ["store"])
    >>> told["sold"].tolist(), bad.tolist()
    ([3, 12, 0, 0], [False, False, True, True])
    """
    told = typed(frame, counts, [day])
    values = told[[*counts]].to_numpy(float)
    with np.errstate(invalid="ignore"):
        whole = np.isfinite(values) & (values % 1 == 0) & (np.abs(values) < 1e15)
    bad = ~whole.all(axis=1) | told[day].isna().to_numpy()
    clean = dict(zip(counts, np.where(whole, values, 0).astype("int64").T, strict=True))
    clean |= {name: told[name].astype(object) for name in names}
    return told.assign(**clean, **{day: told[day].astype("datetime64[ns]")}), bad


def summary(what: str, rows: pd.DataFrame, columns: Sequence[str], remedy: str) -> str:
    """Return one line on all rows that break a rule: how many, the first of them, what to do.

    Parameters
    ----------
    what : str
        That is wrong.
    rows : DataFrame
    columns : sequence of str
        That tell which row it is; those that are missing are left out.
    remedy : str

    Returns
    -------
    str
    """
    if rows.empty:  # a batch without rows may still lack a column
        return f"{what}: no rows; {remedy}"
    count = "1 row," if len(rows) == 1 else f"{len(rows):,} rows, first"
    first = rows.iloc[0]
    where = [f"{c} {str(first[c]).removesuffix(' 00:00:00')}" for c in columns if c in rows]
    return f"{what}: {count} {', '.join(where)}; {remedy}"


def _broken(error, rows: pd.DataFrame) -> tuple[str, str, np.ndarray]:
    """Return of a pandera error the rule, what is wrong, and the positions of the rows."""
    everywhere, reason = np.arange(len(rows)), error.reason_code.name
    if reason == "COLUMN_NOT_IN_DATAFRAME":
        return "column", f"column {error.failure_cases!r} is missing", everywhere
    if reason == "WRONG_DATATYPE":
        column = error.column_name
        return "type", f"{column} holds {rows[column].dtype}, not {error.schema.dtype}", everywhere
    where = np.unique(error.failure_cases["index"].to_numpy(int))
    if reason == "SERIES_CONTAINS_NULLS":
        return "empty", f"{error.column_name} is empty", where
    return error.check.name, error.check.error, where


def enforce(
    schema: pa.DataFrameSchema,
    table: pd.DataFrame,
    lines: Lines,
    broken: type[ContractBroken] = ContractBroken,
) -> None:
    """Refuse the rows of a table that break a schema; nothing happens if all keep it.

    Parameters
    ----------
    schema : pandera.pandas.DataFrameSchema
        Each check has a ``name`` (the rule) and an ``error`` (what is wrong). A missing column, a
        wrong type and an empty value are the rules ``column``, ``type`` and ``empty``.
    table : DataFrame
        With any index.
    lines : callable
        From rule, what is wrong and rows to lines, such as one :func:`summary`.
    broken : type
        Of the error.

    Raises
    ------
    ContractBroken
        With the lines of all broken rules and all rows that break one.
    pandera.errors.SchemaErrors
        If a rule could not be asked and nothing else is wrong: a fault of the schema.
    """
    from pandera.errors import SchemaErrors

    rows = table.reset_index(drop=True)
    try:
        with warnings.catch_warnings():
            # pandera 0.35 joins its own empty frames in a way that pandas 2.3 warns about.
            warnings.filterwarnings("ignore", "The behavior of DataFrame concat", FutureWarning)
            schema.validate(rows, lazy=True)
    except SchemaErrors as errors:
        # A rule that could not be asked is no finding while a column is missing or mistyped.
        asked = [e for e in errors.schema_errors if e.reason_code.name != "CHECK_ERROR"]
        if not asked:
            raise
        found = [_broken(error, rows) for error in asked]
        bad = rows.index.isin(np.concatenate([where for _, _, where in found]))
        said = [line for rule, what, at in found for line in lines(rule, what, rows.iloc[at])]
        raise broken(said, table[bad], table[~bad]) from None


def between(kind: str | None, least: object, most: object, rule: str) -> pa.Column:
    """Return a column of a schema whose values lie between two, both allowed.

    Parameters
    ----------
    kind : str or None
        Its type; None takes any.
    least, most : object
        Numbers or times; a time is told by its day.
    rule : str
        Name of the check.

    Examples
    --------
    >>> between("int64", 0, 2, "attempt").checks[0].error
    'not between 0 and 2'
    """
    import pandas as pd
    import pandera.pandas as pa

    day = isinstance(least, pd.Timestamp)
    ends = [f"{end:%Y-%m-%d}" if day else f"{end}" for end in (least, most)]
    error = f"not between {ends[0]} and {ends[1]}"
    return pa.Column(kind, pa.Check.in_range(least, most, name=rule, error=error))


class Checked(NamedTuple):
    """A table's rows, each accepted or quarantined, and lines: what is wrong, where, what to do."""

    accepted: pd.DataFrame
    quarantined: pd.DataFrame
    lines: tuple[str, ...] = ()


def checked(
    schema: pa.DataFrameSchema,
    table: pd.DataFrame,
    columns: Sequence[str],
    remedies: Mapping[str, str],
) -> Checked:
    """Sort out the rows that break a schema; nothing is raised for a bad row.

    Parameters
    ----------
    schema : pandera.pandas.DataFrameSchema
        As of :func:`enforce`.
    table : DataFrame
        May be empty.
    columns : sequence of str
        That tell which row it is.
    remedies : mapping of str to str
        By rule.

    Examples
    --------
    >>> import pandas as pd, pandera.pandas as pa
    >>> rule = pa.Check.ge(0, name="sign", error="less than none")
    >>> sold = pd.DataFrame({"day": [1, 2], "sold": [5, -1]})
    >>> schema = pa.DataFrameSchema({"sold": pa.Column("int64", rule)})
    >>> checked(schema, sold, ["day"], {"sign": "count again"}).lines
    ('sign: less than none: 1 row, day 2; count again',)
    """
    if table.empty:
        return Checked(table, table)

    def lines(rule: str, what: str, rows: pd.DataFrame) -> list[str]:
        return [summary(f"{rule}: {what}", rows, columns, remedies[rule])]

    try:
        enforce(schema, table, lines)
    except ContractBroken as broken:
        return Checked(broken.accepted, broken.rows, broken.lines)
    return Checked(table, table.iloc[:0])
