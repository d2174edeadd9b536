"""The contract of an order file: lines that a supplier can take.

Examples
--------
>>> known = pd.DataFrame({"store": ["S1"], "product": ["milk"], "pack": [6], "price": [9.0]})
>>> line = {"store": "S1", "product": "milk", "cases": 2, "pack": 6, "units": 12, "source": "model"}
>>> check_lines(pd.DataFrame([line]), known, ["model"])
>>> check_lines(pd.DataFrame([line | {"units": 13}]), known, ["model"])
Traceback (most recent call last):
...
casebook.data.contracts.ContractBroken: sum: units are not cases times pack: 1 row, store S1, ...
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import pandas as pd

from casebook.data.contracts import between, enforce, summary

KEYS = ["store", "product"]


def contract(known: pd.DataFrame, sources: Collection[str], most: int, budget: float):
    """Return the contract; it holds for a table without lines, too."""
    import pandera.pandas as pa

    goods = pd.MultiIndex.from_frame(known[KEYS])
    pack, price = (pd.Series(known[name].to_numpy(), goods) for name in ("pack", "price"))

    def of(values: pd.Series, table: pd.DataFrame) -> pd.Series:
        found = values.reindex(pd.MultiIndex.from_frame(table[KEYS]))
        return found.set_axis(table.index)

    def paid(table: pd.DataFrame) -> pd.Series:
        euro = table["cases"] * of(price, table)
        return euro.groupby(table["store"]).transform("sum").fillna(0) <= budget + 0.005

    names = {
        name: pa.Column("object", pa.Check.isin([*known[name].unique()], name=name,
                                                error=f"unknown {name}"))
        for name in KEYS
    }  # fmt: skip
    source = pa.Check.isin([*sources], name="source", error="nobody that may order")
    every = {
        "once": (lambda t: ~t.duplicated(KEYS), "line twice"),
        "sum": (lambda t: t["units"] == t["cases"] * t["pack"], "units are not cases times pack"),
        "goods": (lambda t: of(pack, t).notna(), "not ordered in this run"),
        "terms": (lambda t: t["pack"] == of(pack, t), "another pack than agreed"),
        "budget": (paid, f"a store that orders for more than {budget:,.0f} euro"),
    }
    columns = {
        "cases": between("int64", 1, most, "cases"),
        "pack": between("int64", 1, 48, "pack"),
        "units": between("int64", 1, most * 48, "units"),
        "source": pa.Column("object", source),
    }
    checks = [pa.Check(rule, name=name, error=says) for name, (rule, says) in every.items()]
    return pa.DataFrameSchema(names | columns, checks=checks)


def check_lines(
    lines: pd.DataFrame,
    known: pd.DataFrame,
    sources: Collection[str],
    most: int = 60,
    budget: float = np.inf,
) -> None:
    """Refuse an order file with a line that breaks the contract.

    Parameters
    ----------
    lines : DataFrame
        ``store``, ``product``, ``cases``, ``pack``, ``units`` and ``source``.
    known : DataFrame
        ``store``, ``product``, ``pack`` and ``price`` (euro a case) of all that may be ordered.
    sources : collection of str
        Who may order.
    most : int
        Cases of a line.
    budget : float
        Euro of a store.

    Raises
    ------
    ContractBroken
    """

    def say(rule: str, what: str, rows: pd.DataFrame) -> list[str]:
        return [summary(f"{rule}: {what}", rows, KEYS, "send no order; run again")]

    enforce(contract(known, sources, most, budget), lines, say)
