"""A service for planners: the lines of an order file, overrides of them, what these have saved.

Examples
--------
>>> import tempfile
>>> folder = tempfile.TemporaryDirectory()
>>> lines = "store,product,units,source\\nS01,meat-01,40,model\\n"
>>> _ = (Path(folder.name) / "orders_2025-01-05.csv").write_text(lines)
>>> service = Service(Path(folder.name), Prices(short=5, over=2))
>>> wish = b'{"line": "S01 meat-01", "planner": "anna", "units": 60.0, "reason": "a street fair"}'
>>> service.override(wish)["model"]
40.0
>>> service.orders("orders_2025-01-05")["lines"]
[{'line': 'S01 meat-01', 'units': 60.0, 'source': 'planner'}]
>>> service.desk.log.close(), folder.cleanup()
(None, None)
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import BaseModel, ConfigDict

from casebook.project import write_whole
from casebook.serving.app import Problem, bare_app, json_object, parsed, serve_calls
from casebook.serving.overrides import Desk, Prices

#: Units of a line, bytes of a body.
MOST, BYTES = 2_000, 2_000


class Wish(BaseModel):
    """What a planner sends."""

    model_config = ConfigDict(extra="forbid", strict=True)
    line: str
    planner: str
    units: float
    reason: str


class Service:
    """Answers about the orders of the last run; a file ``<run>.sent`` beside them closes it.

    Parameters
    ----------
    folder : Path
        Of the order files (``orders_<day>.csv`` with ``store``, ``product``, ``units`` and
        ``source``) and the log of overrides.
    prices : Prices
    """

    def __init__(self, folder: Path, prices: Prices) -> None:
        self.folder = Path(folder)
        self.desk = Desk(self.folder / "overrides.db", prices, MOST, self._open)

    def _open(self, run: str) -> bool:
        return not (self.folder / f"{run}.sent").exists()

    def _lines(self, run: str) -> pd.DataFrame:
        known = {path.stem for path in self.folder.glob("orders_*.csv")}
        if run not in known:
            what = f"There are no orders {run[:40]!r}."
            raise Problem(404, "unknown run", what, f"Ask for {max(known, default='a Sunday')}.")
        table = pd.read_csv(self.folder / f"{run}.csv")
        return table.assign(line=table["store"] + " " + table["product"]).set_index("line")

    def orders(self, run: str) -> Mapping[str, Any]:
        """Return the lines of a run, the planners' units where there are some."""
        table, wishes = self._lines(run), self.desk.units(run)
        lines = [{"line": line, "units": wishes.get(line, float(units)),
                  "source": "planner" if line in wishes else source}
                 for line, units, source in zip(table.index, table["units"], table["source"],
                                                strict=True)]  # fmt: skip
        return {"run": run, "open": self._open(run), "lines": lines}

    def override(self, raw: bytes) -> Mapping[str, Any]:
        """Take an override of the last run; the answer has its place in the log."""
        wish, runs = parsed(Wish, raw), sorted(self.folder.glob("orders_*.csv"))
        run = runs[-1].stem if runs else ""
        table = self._lines(run)
        one = pd.Series(1, table.index)
        if wish.line not in table.index:
            what = f"{run} has no line {wish.line[:40]!r}."
            raise Problem(404, "unknown line", what, "Send store and product, as in the orders.")
        model, pack = float(table.loc[wish.line, "units"]), int(table.get("pack", one)[wish.line])
        if wish.units % pack:
            what = f"{wish.units:g} units are no whole cases of {pack}."
            raise Problem(422, "units", what, "Send the units of whole cases.")
        row = self.desk.place(run, wish.line, wish.planner, model, wish.units, wish.reason)
        return {"run": run, "line": wish.line, "sequence": row["sequence"], "model": model}

    def send(self, raw: bytes) -> Mapping[str, Any]:
        """Close the last run: what goes to the supplier is written once and never again."""
        json_object(raw)
        runs = sorted(self.folder.glob("orders_*.csv"))
        made = self.orders(runs[-1].stem if runs else "")
        if not made["open"]:
            what = f"The orders of {made['run']} have been sent."
            raise Problem(409, "too late", what, "Read them; the next run is on Sunday.")
        text = pd.DataFrame(made["lines"]).to_csv(index=False, lineterminator="\n")
        write_whole(self.folder / f"{made['run']}.sent", text.encode())
        return {"run": made["run"], "lines": len(made["lines"])}

    def value(self) -> Mapping[str, Any]:
        """Return what overrides have saved, by planner."""
        return {"planners": self.desk.added_value().to_dict("records")}


def app_from(folder: str, short: float, over: float):
    """Return the application over a folder of order files."""
    service, app = Service(Path(folder), Prices(short, over)), bare_app("orders")
    gets = {"/orders/{run}": service.orders, "/value": service.value}
    serve_calls(app, {"/overrides": service.override, "/send": service.send}, gets, BYTES)
    return app
