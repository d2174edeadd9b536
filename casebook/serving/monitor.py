"""Monitoring: an alarm on daily errors that asks for a retraining, and what it would have done.

:class:`DriftAlarm` is a one-sided CUSUM on the errors of one group (a country, a warehouse), in
units of the group's own usual error; :func:`daily_errors` scores what was forecast of it.
:func:`alarm_report` holds it against breaks that are known.

Examples
--------
>>> days = pd.date_range("2024-01-01", periods=130)
>>> errors = pd.Series([0.05] * 120 + [0.3] * 10, days)  # six times the usual from day 121 on
>>> (DriftAlarm().retrain_due(errors) - days[120]).days + 1
2
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

DAY = pd.Timedelta(days=1)
KEYS = ["unique_id", "ds"]


@dataclass(frozen=True)
class DriftAlarm:
    """A one-sided CUSUM on a group's daily error, measured in its own usual error.

    Each day adds ``error / usual - 1 - slack`` to a sum that never falls below zero; the alarm
    fires when the sum exceeds ``limit``. ``usual`` is the median error of the ``reference``
    days that ended ``gap`` days ago.

    Parameters
    ----------
    reference : int
        Days, 16 weeks: long against the memory of the shocks (12 days), short against a year.
    gap : int
        Days before today that the reference leaves out, so that a break does not at once
        become usual.
    slack : float
        Excess that a quiet time may have. Of a normal error the mean is 1.2 medians, after a
        jump of three standard deviations 4.4: halfway lies an excess of about 2.
    limit : float
        Chosen by the false alarms that can be borne, in chapter 01 about one a year and country.
    cap : float
        Highest excess of one day: with it a single day adds 2 and cannot fire alone.
    cool_down : int
        Days without an alarm after a retraining that the alarm started: the runs of before must
        leave the errors, and the features must have seen the new level.

    Notes
    -----
    After a first training there are no errors yet: for ``blind`` days nothing can fire.

    References
    ----------
    Page (1954), Continuous inspection schemes, *Biometrika* 41; Montgomery, *Introduction to
    Statistical Quality Control*, chapter 9.
    """

    reference: int = 112
    gap: int = 7
    slack: float = 2.0
    limit: float = 3.0
    cap: float = 4.0
    cool_down: int = 28

    @property
    def blind(self) -> int:
        """Days after a first training without a usual error: half a reference, and the gap."""
        return self.reference // 2 + self.gap

    def path(self, errors: pd.Series, retrained: pd.Timestamp | None = None) -> pd.DataFrame:
        """Return the sum day by day, as a control chart shows it.

        Parameters
        ----------
        errors : Series
            Daily errors of one group by day, such as the WAPE of a country's total. A day
            without one adds nothing.
        retrained : Timestamp, optional
            Day of the last retraining that the alarm started; the sum begins when its cool-down
            is over. A training by the calendar is none: handed in every four weeks, it would
            renew the cool-down for ever, and the alarm would never fire.

        Returns
        -------
        DataFrame
            Index ``ds``; ``error``, ``usual``, ``sum`` and ``fires``. After an alarm the sum
            rests for a cool-down.

        Raises
        ------
        ValueError
            If the index holds anything but single days, or an error is negative.
        """
        if not isinstance(errors.index, pd.DatetimeIndex) or not errors.index.is_unique:
            raise ValueError("the errors need one row for each day: index them by their day")
        if (errors < 0).any():
            raise ValueError(f"an error is negative on {errors.idxmin():%Y-%m-%d}: pass WAPE")
        errors = errors.sort_index().asfreq("D")
        past = errors.shift(self.gap).rolling(self.reference, min_periods=self.reference // 2)
        usual = past.median()
        excess = (errors / usual - 1).clip(upper=self.cap) - self.slack
        rest = self.cool_down * DAY
        quiet_until = errors.index[0] - DAY if retrained is None else pd.Timestamp(retrained) + rest
        sums, fires, total = [], [], 0.0
        for day, step in excess.items():
            total = 0.0 if day <= quiet_until else max(0.0, total + np.nan_to_num(step))
            sums.append(total)
            fires.append(total > self.limit)
            if fires[-1]:
                total, quiet_until = 0.0, day + rest
        return pd.DataFrame(
            {"error": errors, "usual": usual, "sum": sums, "fires": fires}, index=errors.index
        )

    def retrain_due(
        self, errors: pd.Series, retrained: pd.Timestamp | None = None
    ) -> pd.Timestamp | None:
        """Return the first day on which the alarm fires, or None.

        Parameters
        ----------
        errors, retrained
            As for :meth:`path`.
        """
        fires = self.path(errors, retrained)["fires"]
        return fires.idxmax() if fires.any() else None


def retrain_on_drift(
    alarm: DriftAlarm,
    errors: pd.DataFrame,
    retrain: Callable[[pd.Timestamp, list[str]], object],
    retrained: pd.Timestamp | None = None,
) -> pd.Timestamp | None:
    """Start one retraining when a group's alarm fires: the nightly step after the scoring.

    Parameters
    ----------
    alarm : DriftAlarm
    errors : DataFrame
        All errors so far: index days, a column for each group.
    retrain : callable
        ``retrain(day, groups)``, with the last scored day and the groups that fired.
    retrained : Timestamp, optional
        What the last call returned, at first None: with it a fire starts one retraining, not
        one each night. Trainings by the calendar do not change it.

    Returns
    -------
    Timestamp or None
        Day of the last retraining by the alarm, to be handed to the next call.
    """
    fired = [g for g in errors if alarm.retrain_due(errors[g], retrained) is not None]
    if not fired:
        return retrained
    day = errors.index.max()
    retrain(day, fired)
    return day


def alarm_report(
    errors: pd.DataFrame,
    breaks: pd.Series | Mapping[str, pd.Timestamp],
    alarm: DriftAlarm | None = None,
    patience: int = 60,
) -> pd.DataFrame:
    """Say of each group when the alarm fired after its break, and how often for nothing.

    Parameters
    ----------
    errors : DataFrame
        Index days, a column for each group; errors of days after the training only.
    breaks : Series or mapping
        Day of the break by group; a group without one had a quiet time.
    alarm : DriftAlarm, optional
        With its defaults if none is given.
    patience : int
        Days from the break on in which a fire is its notice; the model is to be retrained then,
        so that what fires later says nothing of the alarm.

    Returns
    -------
    DataFrame
        Index the groups, named as the columns are: ``sees_from`` (first day with a usual error;
        before it the alarm is blind), ``break``, ``fired``, ``delay`` (days; empty if it never
        fired), ``false_alarms`` (fires before the break), ``years`` (in which they could) and
        ``false_per_year``.
    """
    alarm, rows = alarm or DriftAlarm(), {}
    for group in errors:
        path = alarm.path(errors[group])
        fires, sees = path.index[path["fires"]], path["usual"].first_valid_index()
        broken = pd.Timestamp(breaks.get(group, pd.NaT))
        end = path.index[-1] + DAY if pd.isna(broken) else broken
        noticed = fires[(fires >= broken) & (fires < broken + patience * DAY)]
        fired = noticed[0] if len(noticed) else pd.NaT
        years = 0.0 if sees is None else max((end - sees) / DAY, 0) / 365.25
        false = int((fires < end).sum())
        rate = false / years if years else np.nan
        delay = (fired - broken).days if len(noticed) else pd.NA
        rows[group] = (sees, broken, fired, delay, false, years, rate)
    columns = ["sees_from", "break", "fired", "delay", "false_alarms", "years", "false_per_year"]
    report = pd.DataFrame.from_dict(rows, orient="index", columns=columns)
    return report.astype({"delay": "Int64"}).rename_axis(errors.columns.name)


def daily_errors(
    forecasts: pd.DataFrame,
    panel: pd.DataFrame,
    routes: pd.DataFrame,
    calendar: pd.DataFrame,
    leads: int = 7,
) -> pd.DataFrame:
    """Score, day by day, what earlier nights had forecast for each country.

    Parameters
    ----------
    forecasts : DataFrame
        ``origin`` (morning of the run), ``unique_id``, ``ds``, ``y_hat`` of many runs.
    panel : DataFrame
        ``unique_id``, ``ds``, ``y``: what came.
    routes : DataFrame
        ``unique_id``, ``country``.
    calendar : DataFrame
        ``country``, ``ds`` of public holidays. They are left out: a tenth of the parcels makes
        any error large.
    leads : int
        Forecasts of 1 to so many days ahead are pooled. The first week holds less of the
        shocks that nobody can foresee than all 28 days, so that a break stands out sooner.

    Returns
    -------
    DataFrame
        Index ``ds`` (days), one column for each country: WAPE of the country's total over the
        runs that had forecast the day; infinite where parcels were forecast and none came
        (the alarm caps it); NaN on holidays and where no run had.

    Raises
    ------
    ValueError
        If there is no day with both a forecast and its parcels.
    """
    lead = (forecasts["ds"] - forecasts["origin"]).dt.days + 1
    both = forecasts[lead.between(1, leads)].merge(panel[[*KEYS, "y"]], on=KEYS)
    if both.empty:
        raise ValueError(
            f"no parcels are known yet for forecasts of 1 to {leads} days ahead: wait for them"
        )
    both["country"] = both["unique_id"].map(routes.set_index("unique_id")["country"])
    totals = both.groupby(["country", "origin", "ds"])[["y", "y_hat"]].sum()
    totals["error"] = (totals["y"] - totals["y_hat"]).abs()
    sums = totals.groupby(level=["ds", "country"])[["error", "y"]].sum()
    error = sums["error"] / sums["y"].where(sums["y"] > 0)
    none_came = (sums["y"] == 0) & (sums["error"] > 0)
    wape = error.mask(none_came, np.inf).unstack("country").asfreq("D")
    closed = pd.crosstab(calendar["ds"], calendar["country"])
    return wape.mask(closed.reindex(index=wape.index, columns=wape.columns, fill_value=0) > 0)
