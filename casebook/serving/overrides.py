"""A planner's overrides: kept in a log that nobody can change, and billed when demand is known.

An override is compared with the order that it replaced, on the same demand. Where the shelf was
empty demand is an estimate, so the bill is one, too, and says so.

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

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
LONGEST = 200


@dataclass(frozen=True)
class Prices:
    """Euro of a unit too few and of a unit too many."""

    short: float
    over: float

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
        Says of a run whether its orders may still be changed.
    """

    def __init__(
        self,
        path: str | Path,
        prices: Prices,
        most: float,
        is_open: Callable[[str], bool] = lambda run: True,
    ) -> None:
        self.prices, self.most, self.is_open = prices, most, is_open
        self.log = Log(path, TABLES)

    def __enter__(self) -> Desk:
        return self

    def __exit__(self, *_: object) -> None:
        self.log.close()

    def place(
        self, run: str, line: str, planner: str, model: float, units: float, reason: str
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

        Raises
        ------
        Problem
            409 when the orders have been sent; 422 for units that cannot be, or without a reason.
        """
        if not self.is_open(run):
            what = f"The orders of {run} have been sent."
            raise Problem(409, "too late", what, "Call the supplier, or override the next run.")
        if not 0 <= units <= self.most or units != units:
            what = f"{units} units, not from 0 to {self.most:g}."
            raise Problem(422, "units", what, "Send the units of the whole line.")
        if not 3 <= len(reason.strip()) <= LONGEST:
            what = f"The reason has {len(reason.strip())} letters, not 3 to {LONGEST}."
            raise Problem(422, "reason", what, "Say why the model is wrong this time.")
        row = {"run": run, "line": line, "planner": planner, "model": float(model)}
        return self.log.append("override", row | {"units": float(units), "reason": reason.strip()})

    def units(self, run: str) -> dict[str, float]:
        """Return the units of the lines of a run that were overridden."""
        return {row["line"]: row["units"] for row in self.log.find("override", run=run)}

    def settle(
        self, run: str, line: str, wanted: float, sold_out: bool, prices: Prices | None = None
    ) -> float | None:
        """Bill an override by what was wanted, once; return what it saved, or None.

        Parameters
        ----------
        wanted : float
            Units; an estimate where the shelf was empty.
        sold_out : bool
        prices : Prices, optional
            Of this line, such as of goods whose leftovers are sold next week.
        """
        prices = prices or self.prices
        with self.log.alone():
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
            ``planner``, ``overrides``, ``helped`` (share that saved money), ``saved`` (euro, below
            0 where they cost), ``estimated`` (share whose demand is an estimate).
        """
        rows = pd.DataFrame(
            self.log.find("settled"), columns=["planner", "saved", "estimated"]
        ).assign(helped=lambda t: t["saved"] > 0)
        by = rows.groupby("planner", as_index=False)
        return by.agg(
            overrides=("saved", "size"),
            helped=("helped", "mean"),
            saved=("saved", "sum"),
            estimated=("estimated", "mean"),
        )
