"""The report of an experiment, made from its plan and its log: one HTML file without scripts.

It is written by the functions that the page uses. Where the split is broken, it shows the split,
the segments and the verdict, and no result at all.

To write one::

    python -m casebook.cases.ab_testing.report plan.toml folder report.html

The folder holds ``exposures.parquet``, ``log.parquet`` and ``users.parquet``.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

import pandas as pd

from casebook.cases.ab_testing.decide import Economics
from casebook.cases.ab_testing.experiment import Experiment, SplitBroken
from casebook.cases.ab_testing.plan import PlanError
from casebook.evaluate.intervals import Interval
from casebook.page.figures import spelled

STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:52rem;margin:2rem auto;padding:0 1rem;"
    "color:#1f2429;background:#fff}table{border-collapse:collapse;margin:1rem 0;display:block;"
    "overflow-x:auto}th,td{padding:.25rem .75rem;border-bottom:1px solid #ccc;text-align:right}"
    "th:first-child,td:first-child{text-align:left}.verdict{padding:1rem;border-left:6px solid "
    "#2f7fc1;background:#f3f6f9}.invalid,.stop{border-color:#d1495b}.hold{border-color:#d16a0a}"
)
PERCENT = ("relative", "low", "high", "harm", "at worst", "tolerated", "planned", "seen")


def _cell(column: str, value: object) -> str:
    if isinstance(value, float):
        if pd.isna(value):
            return "–"
        if column in PERCENT or column in ("control share", "treatment share", "rest share"):
            return f"{value:+.1%}" if column not in ("planned", "seen") else f"{value:.2%}"
        if column.startswith("p"):
            return f"{value:.4f}" if value >= 1e-4 else "below 0.0001"
        return f"{value:,.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _table(frame: pd.DataFrame) -> str:
    """Return a table; whatever is in the log is escaped."""
    head = "".join(f"<th>{escape(str(column))}</th>" for column in frame)
    rows = (
        "".join(f"<td>{escape(spelled(_cell(c, v)))}</td>" for c, v in row.items())
        for row in frame.to_dict("records")
    )
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _plan(experiment: Experiment) -> str:
    plan = experiment.plan
    text = (
        f"{plan.days} days from {plan.start}, by {plan.unit}; primary metric {plan.primary.name}, "
        f"smallest effect {plan.mde:.1%} at level {plan.alpha:.0%} and power {plan.power:.0%}; "
        f"stopping rule {plan.stopping}."
    )
    return f"<p>{escape(spelled(text))}</p>"


def _split(experiment: Experiment) -> str:
    found = experiment.srm
    table = found.table.reset_index()[["arm", "users", "planned", "seen"]]
    said = "as planned" if experiment.in_order else "broken: nothing may be read from this test"
    text = f"The split is {said} (chi-squared {found.statistic:.1f}, p {_cell('p', found.p)})."
    return f"<p>{escape(text)}</p>{_table(table.astype({'users': int}))}"


def _diagnosis(experiment: Experiment) -> str:
    table = experiment.diagnosis()
    table = table[table["p_adjusted"] < experiment.plan.srm_alpha]
    shown = table[["by", "segment", "users", "ratio", "p_adjusted"]]
    return f"<h2>Where users are missing</h2>{_table(shown)}"


def _log(counts: Mapping[str, int], lines: Sequence[str]) -> str:
    text = (
        f"{counts['refused']:,} rows were refused, {counts['twice']:,} came twice, "
        f"{counts['waiting']:,} had not come yet. {counts['both_arms']:,} users were seen in both "
        f"arms and {counts['crawlers']:,} are crawlers; they are left out."
    )
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f"<p>{escape(text)}</p>" + (f"<ul>{items}</ul>" if items else "")


def _results(experiment: Experiment, adjust: str | None) -> str:
    frame = experiment.results(adjust)
    columns = ["metric", "role", "control", "treatment", "relative", "low", "high"]
    columns += ["p", "p_adjusted"]
    guards = pd.DataFrame(
        [(g.name, g.harm, g.worst, g.margin, g.state) for g in experiment.guards(adjust)],
        columns=["guardrail", "harm", "at worst", "tolerated", "state"],
    )
    days = experiment.over_days(adjust)[["day", "users", "relative", "low", "high", "p_always"]]
    note = "The intervals of single days are those of one look; p_always may be read on any day."
    return (
        f"<h2>Effects</h2>{_table(frame[columns])}<h2>Guardrails</h2>{_table(guards)}"
        f"<h2>Day by day</h2><p>{note}</p>{_table(days)}"
    )


def report_html(
    experiment: Experiment,
    economics: Economics | None = None,
    adjust: str | None = "cuped",
    lasting: Interval | None = None,
    rule: str = "evidence",
) -> str:
    """Return the report of an experiment.

    Parameters
    ----------
    experiment : Experiment
    economics, adjust, lasting, rule
        As for :meth:`~casebook.cases.ab_testing.experiment.Experiment.verdict`.

    Returns
    -------
    str
        A whole HTML page. If the split is broken it holds no effect, no guardrail and no day.
    """
    verdict = experiment.verdict(economics, adjust, lasting, rule)
    name = escape(experiment.plan.name)
    reasons = "".join(f"<li>{escape(reason)}</li>" for reason in verdict.reasons)
    top = (
        f'<div class="verdict {verdict.decision}"><p><strong>Verdict: {verdict.decision}.</strong> '
        f"{escape(verdict.sentence)}</p><ul>{reasons}</ul></div>"
    )
    parts = [top, "<h2>Plan</h2>", _plan(experiment), "<h2>Split</h2>", _split(experiment)]
    if not experiment.in_order:
        parts.append(_diagnosis(experiment))
    else:
        cleaned = experiment.cleaned
        parts += ["<h2>Log</h2>", _log(cleaned.counts, cleaned.lines)]
        try:
            parts.append(_results(experiment, adjust))
        except SplitBroken as broken:  # after cleaning
            parts.append(f"<p>{escape(str(broken))}</p>")
    return (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{name}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head>'
        f"<body><h1>Experiment {name}</h1>{''.join(parts)}</body></html>"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Write a report from files; a wrong plan is told, and nothing is written."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if len(given) != 3:
        print("usage: python -m casebook.cases.ab_testing.report plan.toml folder report.html")
        return 2
    plan, folder, out = map(Path, given)
    try:
        frames = [
            pd.read_parquet(folder / f"{name}.parquet") for name in ("exposures", "log", "users")
        ]
        text = report_html(Experiment(plan, *frames))
    except (PlanError, OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    out.write_text(text, encoding="utf-8")
    print(f"written  {out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
