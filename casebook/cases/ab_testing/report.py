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
from casebook.cases.ab_testing.experiment import Experiment
from casebook.cases.ab_testing.plan import PlanError
from casebook.evaluate.intervals import Interval
from casebook.page.figures import spelled
from casebook.page.sheet import html_table, sheet, shown


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
    test = f"chi-squared {found.statistic:.1f}, p {shown('p', found.p)}"
    text = f"The split of the exposed users is {said} ({test})."
    return f"<p>{escape(text)}</p>{html_table(table.astype({'users': int}))}"


def _diagnosis(experiment: Experiment) -> str:
    table = experiment.diagnosis()
    table = table[table["p_adjusted"] < experiment.plan.srm_alpha]
    found = table[["by", "segment", "users", "ratio", "p_adjusted"]]
    return f"<h2>Where users are missing</h2>{html_table(found)}"


def _log(counts: Mapping[str, int], lines: Sequence[str]) -> str:
    text = (
        f"{counts['refused']:,} rows were refused, {counts['twice']:,} came twice "
        f"({counts['changed']:,} with another content; the first one counts), "
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
    note = (
        "Effects and guardrails have intervals of the plan's level and stopping rule; p and the "
        "intervals of single days are those of one look; p_always may be read on any day."
    )
    return (
        f"<h2>Effects</h2>{html_table(frame[columns])}<h2>Guardrails</h2>{html_table(guards)}"
        f"<h2>Day by day</h2><p>{note}</p>{html_table(days)}"
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
        A whole HTML page. If the split is broken or the plan does not look today, it holds no
        effect, no guardrail and no day.
    """
    verdict = experiment.verdict(economics, adjust, lasting, rule)
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
        if verdict.value is not None:  # in order, measured, and at a look of the plan
            parts.append(_results(experiment, adjust))
    return sheet(f"Experiment {experiment.plan.name}", parts)


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
        out.write_text(report_html(Experiment(plan, *frames)), encoding="utf-8")
    except (PlanError, OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"written  {out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
