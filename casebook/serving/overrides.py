"""A planner's overrides: kept in a log that nobody can change, and billed when demand is known.

An override is compared with the order that it replaced, on the same demand. Where the shelf was
empty demand is an estimate, so the bill is one, too, and says so. What was billed cannot be
overridden any more, and what can still be overridden is not billed.

Examples
--------
>>> import tempfile
>>> folder = tempfile.TemporaryDirectory()
>>> with Desk(f"{folder.name}/log.db", Prices(short=5, over=2), most=500) as desk:
...     _ = desk.place("2025-01-05", "S01 meat-01", "anna", 40, 60, "butchers' fair in the street")
...     _ = desk.settle("2025-01-05", "S01 meat-01", wanted=46.0, sold_out=False)
...     desk.added_value()[["planner", "overrides", "saved"]].to_dict("records")
[{'planner': 'anna', 'overrides': 1, 'saved': 2.0}]
>>> folder.cleanup()
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from casebook.serving.app import Problem
from casebook.serving.log import Log, Table

TABLES = {
    "override": Table(
        {"run": "text", "line": "text", "planner": "text", "model": "float", "units": "float",
         "reason": "text"}
    ),
    "settled": Table(
        {"run": "text", "line": "text", "planner": "text", "wanted": "float", "estimated": "int",
         "saved": "float"}
    ),
}  # fmt: skip
#: Letters of a reason, and of the name of a run, a line or a planner.
LONGEST, NAME = 200, 80


@dataclass(frozen=True)
class Prices:
    """Euro of a unit too few and of a unit too many.

    Raises
    ------
    ValueError
        On a cost that is no number above 0: with it, each order would seem to save money.
    """

    short: float
    over: float

    def __post_init__(self) -> None:
        if not (0 < self.short < math.inf and 0 < self.over < math.inf):
            raise ValueError(
                f"short {self.short}, over {self.over}: both costs are numbers above 0."
            )

    def cost(self, wanted: float, units: float) -> float:
        """Return what an order costs beyond that of a clairvoyant."""
        return max(self.short * (wanted - units), self.over * (units - wanted))


class Desk:
    """Where planners override orders, until these are sent.

    Parameters
    ----------
    path : str or Path
        Of the log.
    prices : Prices
    most : float
        Units that no line may have.
    is_open : callable, optional
        Says of a run whether its orders may still be changed. Without it each line is open until
        it is billed.
    """

    def __init__(
        self,
        path: str | Path,
        prices: Prices,
        most: float,
        is_open: Callable[[str], bool] | None = None,
    ) -> None:
        self.prices, self.most, self.is_open = prices, most, is_open
        self.log = Log(path, TABLES)

    def __enter__(self) -> Desk:
        return self

    def __exit__(self, *_: object) -> None:
        self.log.close()

    def place(
        self,
        run: str,
        line: str,
        planner: str,
        model: float,
        units: float,
        reason: str,
        after: int | None = None,
    ) -> dict[str, Any]:
        """Write an override: the last one of a line holds.

        Parameters
        ----------
        run, line, planner : str
            Which orders, which line of them, and who.
        model, units : float
            Units of the order that is replaced, and instead.
        reason : str
            Why: a person reads it when the bill comes.
        after : int, optional
            ``sequence`` of the override that the planner saw on this line, 0 for none. The same
            override sent again is answered by the row that is there.

        Raises
        ------
        Problem
            409 when the orders have been sent or billed, or another override came after the one
            that was seen; 422 for units that cannot be, or for texts that nobody can read.
        """
        _check_texts({"run": run, "line": line, "planner": planner})
        if not 0 <= units <= self.most:
            what = f"{units} units, not from 0 to {self.most:g}."
            raise Problem(422, "units", what, "Send the units of the whole line.")
        reason = _reason(reason)
        row = {"run": run, "line": line, "planner": planner, "model": float(model)}
        row |= {"units": float(units) + 0.0, "reason": reason}  # + 0.0: no -0
        with self.log.alone():
            closed = self.is_open is not None and not self.is_open(run)
            if closed or self.log.find("settled", run=run, line=line):
                what = f"The orders of {run} have been {'sent' if closed else 'billed'}."
                raise Problem(409, "too late", what, "Call the supplier, or override the next run.")
            placed = self.log.find("override", run=run, line=line)
            seen = [0, *(one["sequence"] for one in placed)]
            if after in (None, seen[-1]):
                return self.log.append("override", row)
            if placed and after == seen[-2] and row.items() <= placed[-1].items():
                return placed[-1]
            what, do = f"{line} has no override.", f"Look at it, then send after {seen[-1]}."
            if placed:
                what = f"{line} has {placed[-1]['units']:g} units by {placed[-1]['planner']}."
            raise Problem(409, "overtaken", what, do)

    def holding(self, run: str) -> dict[str, dict[str, Any]]:
        """Return the last override of each line of a run: its row in the log."""
        return {row["line"]: row for row in self.log.find("override", run=run)}

    def units(self, run: str) -> dict[str, float]:
        """Return the units of the lines of a run that were overridden."""
        return {line: row["units"] for line, row in self.holding(run).items()}

    def settle(
        self, run: str, line: str, wanted: float, sold_out: bool, prices: Prices | None = None
    ) -> float | None:
        """Bill an override by what was wanted, once; return what it saved, or None.

        Parameters
        ----------
        wanted : float
            Units, 0 or more; an estimate where the shelf was empty.
        sold_out : bool
        prices : Prices, optional
            Of this line, such as of goods whose leftovers are sold next week.

        Raises
        ------
        Problem
            409 while the orders may still be changed; 422 for units that nobody can want.
        """
        if not 0 <= wanted < math.inf:
            what = f"{wanted} units were wanted on {line[:NAME]!r}."
            raise Problem(422, "wanted", what, "Send a number, 0 or more.")
        prices = prices or self.prices
        with self.log.alone():
            if self.is_open is not None and self.is_open(run):
                what = f"The orders of {run} may still be changed."
                raise Problem(409, "too early", what, "Bill them when they have been sent.")
            placed = self.log.find("override", run=run, line=line)
            if not placed or self.log.find("settled", run=run, line=line):
                return None
            last = placed[-1]
            before, after = (prices.cost(wanted, last[name]) for name in ("model", "units"))
            row = {"run": run, "line": line, "planner": last["planner"], "wanted": float(wanted)}
            self.log.append(
                "settled", row | {"estimated": int(sold_out), "saved": float(before - after)}
            )
            return before - after

    def added_value(self) -> pd.DataFrame:
        """Return what each planner's overrides saved.

        Returns
        -------
        DataFrame
            ``planner``, ``overrides`` that were billed, ``helped`` (share that saved money),
            ``saved`` (euro, below 0 where they cost), ``estimated`` (share whose demand is an
            estimate), ``replaced`` (overrides of billed lines that another one replaced). One that
            takes a line back to the model's units is not counted: it changed nothing. Shares of
            no override are missing.
        """
        bills = {(row["run"], row["line"]): row for row in self.log.find("settled")}
        last = {(row["run"], row["line"]): row for row in self.log.find("override")}
        rows = []
        for row in self.log.find("override"):
            key = row["run"], row["line"]
            holds = row == last[key]
            if key in bills and not (holds and row["units"] == row["model"]):
                saved, estimated = bills[key]["saved"], bills[key]["estimated"]
                told = (float(saved > 0), saved, estimated) if holds else (np.nan,) * 3
                rows.append((row["planner"], int(not holds), *told))
        table = pd.DataFrame(rows, columns=["planner", "replaced", "helped", "saved", "estimated"])
        return table.groupby("planner", as_index=False).agg(
            overrides=("saved", "count"),
            helped=("helped", "mean"),
            saved=("saved", "sum"),
            estimated=("estimated", "mean"),
            replaced=("replaced", "sum"),
        )


def _check_texts(texts: dict[str, str]) -> None:
    """Refuse names that nobody can read: empty, too long, with signs that are not seen."""
    for name, text in texts.items():
        if not (text.strip() and len(text) <= NAME and text.isprintable()):
            what = f"The {name} is {text[:NAME]!r}."
            raise Problem(422, name, what, f"Send 1 to {NAME} letters that can be printed.")


def _reason(text: str) -> str:
    """Return a reason that a person can read, without blanks around it."""
    text = text.strip()
    if not 3 <= len(text) <= LONGEST:
        what = f"The reason has {len(text)} letters, not 3 to {LONGEST}."
        raise Problem(422, "reason", what, "Say why the model is wrong this time.")
    if not text.isprintable():
        what = f"The reason is {text[:NAME]!r}: it has signs that cannot be printed."
        raise Problem(422, "reason", what, "Send it in plain letters, on one line.")
    return text
