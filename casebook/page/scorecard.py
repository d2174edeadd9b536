"""The scorecard of a chapter: what it claims, against what, and whether it is met."""

from __future__ import annotations

import json
import math
import numbers
from dataclasses import asdict, dataclass

import pandas as pd

from casebook.page.claims import not_run
from casebook.page.figures import decimals_for, spelled, table
from casebook.project import build_dir, write_whole

BETTER = ("lower", "higher")


@dataclass(frozen=True)
class Row:
    """One line of a scorecard.

    Attributes
    ----------
    metric, unit : str
        What is measured, and in what.
    better : {"lower", "higher"}
        Which direction is good.
    baseline, model : float
        The trivial baseline and what the chapter built, in the same run.
    peer, oracle : float or None
        A strong known method, and what perfect knowledge would reach.
    target : float
        What ``model`` must reach.
    data : str
        On which data.
    note : str
        What a reader must know to read the line; required when the target is missed.
    verdict : {"met", "missed"}
    """

    metric: str
    unit: str
    better: str
    baseline: float
    model: float
    peer: float | None
    oracle: float | None
    target: float
    verdict: str
    data: str
    note: str


class Scorecard:
    """Collect the rows of one chapter, write them as JSON and show them.

    Parameters
    ----------
    name : str
        Name of the chapter, such as ``"01_demand_forecasting"``.
    """

    def __init__(self, name: str):
        self.name = name
        self.rows: list[Row] = []

    def add(
        self,
        metric: str,
        *,
        unit: str,
        better: str,
        baseline: float,
        model: float,
        target: float,
        data: str,
        peer: float | None = None,
        oracle: float | None = None,
        note: str = "",
    ) -> None:
        """Add a row; the verdict is computed here and nowhere else.

        Raises
        ------
        ValueError
            If a value is not a finite number, ``better`` is unknown, the metric
            stands already, or a missed target has no note that says why.
        """
        if better not in BETTER:
            raise ValueError(f"better is {better!r}; it must be one of {BETTER}.")
        if any(row.metric == metric and row.data == data for row in self.rows):
            raise ValueError(f"{metric!r} on {data!r} already stands on the scorecard.")
        values = {"baseline": baseline, "model": model, "target": target}
        values |= {k: v for k, v in {"peer": peer, "oracle": oracle}.items() if v is not None}
        for key, value in values.items():
            if not isinstance(value, numbers.Real) or not math.isfinite(value):
                raise ValueError(f"{key} of {metric!r} is {value}: a scorecard holds results only.")
        met = model <= target if better == "lower" else model >= target
        if not met and not note:
            raise ValueError(f"{metric!r} misses its target ({model} against {target}): say why.")
        self.rows.append(
            Row(
                metric,
                unit,
                better,
                float(baseline),
                float(model),
                None if peer is None else float(peer),
                None if oracle is None else float(oracle),
                float(target),
                "met" if met else "missed",
                data,
                note,
            )
        )

    def show(self) -> None:
        """Write ``_build/scorecards/<name>.json`` and show the table.

        Where the file cannot be written, as in a read-only checkout, a sentence below the table
        says so.

        Raises
        ------
        ValueError
            If there is no row.
        """
        if not self.rows:
            raise ValueError(f"The scorecard of {self.name} is empty.")
        reason = self._write()
        table(self._frame(), caption="Scorecard (↓ lower is better, ↑ higher is better)")
        if reason:
            not_run(
                "storing the scorecard",
                f"Its file was not written ({reason}). Set `CASEBOOK_BUILD_DIR` to a folder that "
                "you may write to, and run this again.",
            )

    def _write(self) -> str:
        """Write the file; return why that was not possible, or nothing."""
        content = {"chapter": self.name, "rows": [asdict(row) for row in self.rows]}
        text = json.dumps(content, indent=1) + "\n"
        try:
            write_whole(build_dir() / "scorecards" / f"{self.name}.json", text.encode())
        except OSError as error:
            return (error.strerror or str(error)).lower()
        return ""

    def _frame(self) -> pd.DataFrame:
        """Return the rows as they are shown, without columns that say nothing."""
        frame = pd.DataFrame([asdict(row) for row in self.rows])
        arrow = frame["better"].map({"lower": "↓", "higher": "↑"})
        frame["metric"] = frame["metric"] + " (" + frame.pop("unit") + ") " + arrow
        frame["verdict"] = frame["verdict"].map({"met": "✓ met", "missed": "✗ missed"})
        frame = frame.drop(columns="better").set_index("metric")
        values = ["baseline", "model", "peer", "oracle", "target"]
        frame[values] = frame[values].astype(float).apply(_spelled_row, axis=1)
        if not frame["note"].any():
            frame = frame.drop(columns="note")
        return frame.loc[:, ~frame.isin([""]).all()]


def _spelled_row(row: pd.Series) -> pd.Series:
    """Return the values of one metric as text with equal decimals; whole ones are whole."""
    places = decimals_for(row.dropna())
    return row.map(lambda v: "" if pd.isna(v) else spelled(f"{v:,.{0 if v % 1 == 0 else places}f}"))
