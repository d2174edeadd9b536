"""An incident drill: one fault of five in half an hour of logs, found, ended and written up.

The service logs a line for each request and each event. Each fault leaves a trace of its own:

* ``bad_release``: a new version answers a share of the requests with 500;
* ``cold_start``: the load doubles, requests reach pods that are starting and time out (504);
* ``store_down``: the feature store is silent; requests run into its time limit of a second and
  are scored by the rules instead (``fallback=1``);
* ``schema_break``: one caller's tills send a field under a new name, and are refused (422);
* ``unit_change``: one caller's tills send cents for euro. Every answer is 200 and fast, and too
  many payments are declined: only the layer above the requests sees it.

:func:`diagnose` reads lines, never the truth. It also names an ``outage`` (lines that should be
there are not), and says ``unknown`` where no version fails more than another. A drill ends the
fault only if the remedy of its runbook fits it. :func:`drills` counts over faults and seeds, and
over quiet logs without a fault.

Examples
--------
>>> found = drill("bad_release", seed=1)
>>> found.found.kind, found.severity, len(found.timeline)
('bad_release', 'SEV2', 4)
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from casebook.serving import loglines

FAULTS = ("bad_release", "cold_start", "store_down", "schema_break", "unit_change")
START, MINUTES, RATE = pd.Timestamp("2026-03-02 11:40:00"), 35, 5.0
END = START + pd.Timedelta(minutes=MINUTES)
CALLERS, QUIET = ("web", "app", "till"), 8  # minutes that no alarm uses but as the usual
#: A minute is silent if half the usual requests would be so few this seldom.
SILENT = 1e-6
SEEDS = tuple(range(15))


class Remedy(NamedTuple):
    """What the runbook says: what to do first, seconds until it works, what to change for good."""

    first: str
    seconds: int
    later: str


RUNBOOK = {
    "bad_release": Remedy(
        "Route all requests to the version before.", 45, "A canary stage that counts 5xx."
    ),
    "cold_start": Remedy(
        "Raise the least number of pods.", 130, "A floor by the clock; a readiness probe."
    ),
    "store_down": Remedy(
        "Open the breaker: score by the rules at once.", 60, "A time limit of 50 ms on the store."
    ),
    "schema_break": Remedy(
        "Accept the old and the new name.", 300, "A contract test in the caller's pipeline."
    ),
    "unit_change": Remedy(
        "Send the caller's payments to the rules.", 240, "A gate on each caller's median amount."
    ),
    "outage": Remedy(
        "Let callers answer by the rules; look at the router.", 60, "A probe from outside."
    ),
    "unknown": Remedy(
        "Page the owner; take out the pods that fail.", 300, "An entry for what was found."
    ),
}
#: What happens to requests, and its severity by the share of them: a wrong answer weighs more than
#: none, since the rules would have answered.
MATRIX = {
    "slow or degraded": ("SEV4", "SEV3", "SEV2"),
    "refused": ("SEV3", "SEV2", "SEV1"),
    "wrong": ("SEV2", "SEV1", "SEV1"),
}
#: Upper ends of the first two columns, and what each severity asks for.
SHARES = (0.01, 0.15)
ANSWERS = {
    "SEV1": "page everybody, answer in 5 minutes, tell the business",
    "SEV2": "page on-call, answer in 15 minutes",
    "SEV3": "the same day",
    "SEV4": "a ticket",
}
_HARM = {"bad_release": "refused", "cold_start": "refused", "store_down": "slow or degraded"}
_HARM |= {"schema_break": "refused", "unit_change": "wrong"}
_HARM |= {"outage": "refused", "unknown": "refused"}


# The logs -------------------------------------------------------------------------------


def _quiet(rng: np.random.Generator) -> pd.DataFrame:
    """Return half an hour of requests without a fault."""
    seconds = np.sort(rng.uniform(0, 60 * MINUTES, rng.poisson(60 * MINUTES * RATE)))
    n = len(seconds)
    rows = pd.DataFrame({"second": seconds, "caller": rng.choice(CALLERS, n, p=(0.5, 0.35, 0.15))})
    rows["status"] = np.where(rng.random(n) < 0.001, 500, 200)
    rows["ms"] = 15 + rng.gamma(2.0, 14.0, n)
    rows["declined"] = (rng.random(n) < 0.02).astype(int)
    return rows.assign(version="v12", pod=rng.integers(1, 5, n), fallback=0)


def _hit(
    rows: pd.DataFrame, kind: str, size: float, begin: float, end: float, seed: int
) -> pd.DataFrame:
    """Return the requests with the trace of a fault between two seconds."""
    now = (rows["second"] >= begin) & (rows["second"] < end)
    rng = np.random.default_rng([seed, 35])
    hit = now & (rng.random(len(rows)) < size)
    if kind == "bad_release":
        rows.loc[now, "version"] = "v13"
        rows.loc[hit, "status"] = 500
    elif kind == "cold_start":
        second, pod = rng.uniform(0, 1, len(rows)), rng.integers(1, 7, len(rows))
        more = rows.assign(second=rows["second"] + second, pod=pod, ms=4 * rows["ms"])[now]
        more.loc[hit[now], ["status", "ms"]] = 504, 2000
        rows = pd.concat([rows, more]).sort_values("second", ignore_index=True)
    elif kind == "store_down":
        rows.loc[hit, "ms"] += 1_000
        rows.loc[hit, "fallback"] = 1
    elif kind == "schema_break":
        rows.loc[hit & (rows["caller"] == "till"), "status"] = 422
    elif kind == "unit_change":
        rows.loc[hit & (rows["caller"] == "till"), "declined"] = 1
    return rows


class Logs(NamedTuple):
    """Lines as they were stored; the second at which the fault starts and its size: the truth."""

    lines: list[str]
    start: float
    size: float


def logs(kind: str, seed: int, until: float | None = None) -> Logs:
    """Return the lines of a drill, some of them broken.

    Parameters
    ----------
    kind : str
        One of ``FAULTS``, or ``none``.
    seed : int
        Draws the start (minute 10 to 16) and the size: the share of the requests, or of the
        caller's, that the fault hits, from 3 to 60 %.
    until : float, optional
        Second at which the fault ends. Lines before it are the same as without.

    Returns
    -------
    Logs
        Lines ``time level key=value …``: one in a hundred is cut off, or of another kind.
    """
    if kind not in ("none", *FAULTS):
        raise ValueError(f"fault {kind!r}: one of {', '.join(FAULTS)}, or none.")
    rng = np.random.default_rng([seed, 33])
    rows, start = _quiet(rng), float(rng.uniform(10, 16) * 60)
    own = np.random.default_rng([seed, 36, ("none", *FAULTS).index(kind)])
    size = float(np.exp(own.uniform(np.log(0.03), np.log(0.6))))
    rows = _hit(rows, kind, size, start, until or np.inf, seed)
    # A release and more pods are harmless in all drills but one each.
    release = start - 20 if kind == "bad_release" else float(rng.uniform(9, 20) * 60)
    more = start + 15 if kind == "cold_start" else float(rng.uniform(9, 20) * 60)
    events = [(0.0, "scale pods=4"), (more, "scale pods=6")]
    events.append((release, f"release version={'v13' if kind == 'bad_release' else 'v12.1'}"))
    lines = [(second, f"INFO event={text}") for second, text in events]
    for row in rows.itertuples():
        text = f"{'ERROR' if row.status >= 500 else 'INFO'} caller={row.caller}"
        text += f" version={row.version} pod=fraud-{row.pod} status={row.status} ms={row.ms:.0f}"
        lines.append((row.second, f"{text} declined={row.declined} fallback={row.fallback}"))
    lines.sort(key=lambda line: line[0])
    spoilt = np.random.default_rng([seed, 34])
    return Logs([_stored(second, text, spoilt) for second, text in lines], start, size)


def _stored(second: float, text: str, rng: np.random.Generator) -> str:
    """Return a line as the collector stores it: one in a hundred is broken."""
    time = START.to_pydatetime() + timedelta(seconds=second)
    stamp = time.isoformat(timespec="milliseconds") + "Z"
    line = f"{stamp} {text}"
    if rng.random() > 0.01:
        return line
    broken = (line[: int(rng.integers(5, 60))], "Traceback (most recent call last):")
    broken += (f"{stamp} {text.replace('ms=', 'ms=-')}", f"{text} {stamp}", "\x00\x00")
    return broken[int(rng.integers(len(broken)))]


def parse(lines: Iterable[object]) -> loglines.Read:
    """Read the service's lines: ``rows`` of requests, ``events``, and ``bad`` lines counted."""
    numbers = {"status": (100, 599), "ms": (0, 600_000), "declined": (0, 1), "fallback": (0, 1)}
    return loglines.parse(lines, ("caller", "version", "pod"), numbers)


# The diagnosis --------------------------------------------------------------------------


class Found(NamedTuple):
    """What the logs say: the fault, what that rests on, the signal, and when it was sure."""

    kind: str
    evidence: str
    signal: str
    at: pd.Timestamp


def signals(requests: pd.DataFrame, until: pd.Timestamp | None = None) -> pd.DataFrame:
    """Return for each minute how many requests show each signal, and of how many.

    Of a ``silent`` minute the requests that did not come count too. Other minutes with fewer than
    five requests are left out: a wrong clock, or the end of the lines. Without ``until``, the
    moment to which lines should have come, silence is seen only between minutes that have some.
    """
    minute = requests["at"].dt.floor("min")
    shown = pd.DataFrame(
        {"failed": requests["status"] >= 500, "refused": requests["status"] == 422}
    )
    shown["fallback"], shown["declined"] = requests["fallback"] == 1, requests["declined"] == 1
    shown["slow"] = requests["ms"] >= 1_000
    table = shown.groupby(minute).sum().assign(n=minute.value_counts())
    full = table.index[table["n"] >= 5]
    if len(full) >= QUIET:
        last = full[-1] if until is None else until.floor("min")
        due = pd.date_range(full[QUIET - 1], last, freq="min", inclusive="neither")
        usual = table.loc[full[:QUIET], "n"].median()
        table = table.reindex(table.index.union(due), fill_value=0)
        few = stats.poisson.cdf(table["n"], usual / 2) < SILENT
        table["silent"] = (usual - table["n"]).where(few & table.index.isin(due), 0)
        table["n"] += table["silent"]
    return table[table["n"] >= 5]


def diagnose(
    parsed: loglines.Read,
    by_caller: bool = True,
    level: float = 1e-6,
    until: pd.Timestamp | None = None,
) -> Found | None:
    """Name the fault of the first minute in which a signal is far above the usual.

    The usual is that of the first eight minutes (at least one in a thousand); a minute alarms if
    chance would bring so many at ``level``. Then the lines of that minute and the events before
    it say where the signal is.

    Parameters
    ----------
    parsed : Read
        As of :func:`parse`.
    by_caller : bool
        Whether each caller is watched too, beside the total: in it, what hits a small caller
        drowns.
    level : float
        Of one signal in one minute.
    until : Timestamp, optional
        To which lines should have come: without it, an outage that lasts is the end of the lines.

    Returns
    -------
    Found or None
    """
    rows = parsed.rows
    found = [_first(rows, level, until)] if len(rows) else []
    if by_caller:
        found += [_first(own, level, until) for _, own in rows.groupby("caller")]
    loud = min((one for one in found if one), default=None)
    if not loud:
        return None
    minute, _, signal = loud
    known = minute + pd.Timedelta(minutes=1)
    return Found(*_cause(signal, minute, rows[rows["at"] < known], parsed.events), signal, known)


def _first(
    rows: pd.DataFrame, level: float, until: pd.Timestamp | None
) -> tuple[pd.Timestamp, float, str] | None:
    """Return the first minute that alarms, with the smallest p-value and its signal."""
    table = signals(rows, until)
    quiet = table.iloc[:QUIET]
    usual = (quiet.drop(columns="n").sum() / max(quiet["n"].sum(), 1)).clip(lower=0.001)
    for minute, row in table.drop(quiet.index).iterrows():
        p = stats.binom.sf(row[usual.index] - 1, row["n"], usual)
        if p.min() < level:
            return minute, float(p.min()), str(usual.index[p.argmin()])
    return None


def _cause(
    loud: str, minute: pd.Timestamp, seen: pd.DataFrame, events: pd.DataFrame
) -> tuple[str, str]:
    """Return the fault that explains a signal of the last minute that was seen, and the reason."""
    here = seen[seen["at"] >= minute]
    if loud == "silent":
        came = here["caller"].value_counts().reindex(seen["caller"].unique(), fill_value=0)
        return "outage", f"requests of the minute by caller: {came.sort_index().to_dict()}"
    failed, slow = here[here["status"] >= 500], here[here["ms"] >= 1_000]
    fallback = slow["fallback"].mean() if len(slow) else 0.0
    if loud == "fallback" or (loud == "slow" and fallback > 0.5):
        return "store_down", f"{fallback:.0%} of the slow answers fell back; {len(failed)} failed"
    timeouts = (failed["status"] == 504).mean() if len(failed) else 0.0
    if loud == "slow" or timeouts > 0.5:
        scaled = (events["event"] == "scale").sum()
        return (
            "cold_start",
            f"{timeouts:.0%} of the failures time out; pods were scaled {scaled} times",
        )
    if loud == "failed":
        return _failing(failed, seen)
    bad = here[here["status"] == 422] if loud == "refused" else here[here["declined"] == 1]
    of = bad["caller"].value_counts(normalize=True)
    why = f"{of.iloc[0]:.0%} of the {loud} requests are from the caller {of.index[0]}"
    return ("schema_break" if loud == "refused" else "unit_change"), why


def _failing(failed: pd.DataFrame, seen: pd.DataFrame) -> tuple[str, str]:
    """Return whether a release explains failures: another version must have had fewer."""
    of, pods = (failed[name].value_counts(normalize=True) for name in ("version", "pod"))
    rate = (seen["status"] >= 500).groupby(seen["version"]).mean()
    if (rate < rate[of.index[0]]).any():
        return "bad_release", f"{of.iloc[0]:.0%} of the failures are of version {of.index[0]}"
    return "unknown", (
        f"no version has fewer failures; {pods.iloc[0]:.0%} of them are of pod {pods.index[0]}"
    )


# The drill ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Drill:
    """A drill from start to end.

    Attributes
    ----------
    kind, seed, size
        The truth.
    found, by_total : Found or None
        The diagnosis, and what it is if callers are not watched.
    timeline : DataFrame
        ``event`` (started, detected, mitigated, resolved), ``at``, ``minutes`` since the start;
        what did not happen has no row.
    severity : str
    impact : dict
        ``hit`` (requests with the signal, above the usual, until it was mitigated),
        ``requests`` meanwhile, ``share``, ``bad_lines``.
    """

    kind: str
    seed: int
    size: float
    found: Found | None
    by_total: Found | None
    timeline: pd.DataFrame
    severity: str
    impact: dict[str, float]


def severity(kind: str, share: float) -> str:
    """Return the severity by the matrix: what happens, to which share of the requests."""
    return MATRIX[_HARM[kind]][int(np.searchsorted(SHARES, share, side="right"))]


def matrix() -> pd.DataFrame:
    """Return the matrix as a table: harm by share of the requests, and what to do."""
    low, high = (f"{share:.0%}" for share in SHARES)
    columns = [f"under {low}", f"{low} to {high}", f"over {high}"]
    table = pd.DataFrame.from_dict(MATRIX, orient="index", columns=columns)
    return table.map(lambda one: f"{one}: {ANSWERS[one]}").rename_axis("requests are")


def drill(kind: str, seed: int) -> Drill:
    """Run a drill: read the logs, name the fault, apply its remedy, wait until all is quiet.

    Parameters
    ----------
    kind : str
        The fault that is injected, or ``none``.
    seed : int
    """
    told = logs(kind, seed)
    parsed = parse(told.lines)
    found, total = (diagnose(parsed, by_caller, until=END) for by_caller in (True, False))
    began = START + pd.Timedelta(seconds=told.start)
    times = {} if kind == "none" else {"started": began}
    until = None
    if found:
        times["detected"] = found.at
        if found.kind == kind:  # another remedy ends nothing
            times["mitigated"] = found.at + pd.Timedelta(seconds=RUNBOOK[kind].seconds)
            until = (times["mitigated"] - START).total_seconds()
            parsed = parse(logs(kind, seed, until).lines)
            if quiet := _quiet_again(parsed, found, times["mitigated"]):
                times["resolved"] = quiet
    timeline = pd.DataFrame({"event": [*times], "at": pd.to_datetime([*times.values()])})
    first = timeline["at"].min()
    timeline["minutes"] = (timeline["at"] - first).dt.total_seconds() / 60
    impact = _impact(parsed, found, began, times.get("mitigated"))
    rank = severity(found.kind, impact["share"]) if found else "none"
    return Drill(kind, seed, told.size, found, total, timeline, rank, impact)


def _quiet_again(parsed: loglines.Read, found: Found, after: pd.Timestamp) -> pd.Timestamp | None:
    """Return the end of the first five minutes in a row without the signal."""
    table = signals(parsed.rows, END)
    share = table[found.signal] / table["n"]
    usual = max(share.iloc[:QUIET].max(), 0.02)
    calm = (share <= usual)[share.index >= after.ceil("min")]
    five = calm.rolling(5).sum() == 5
    return five.idxmax() + pd.Timedelta(minutes=1) if five.any() else None


def _impact(
    parsed: loglines.Read, found: Found | None, began: pd.Timestamp, ended: pd.Timestamp | None
) -> dict[str, float]:
    """Count what the signal hit above the usual, while the fault lasted."""
    bad = float(sum(parsed.bad.values()))
    if not found:
        return {"hit": 0.0, "requests": 0.0, "share": 0.0, "bad_lines": bad}
    table = signals(parsed.rows, END)
    usual = table[found.signal].iloc[:QUIET].sum() / table["n"].iloc[:QUIET].sum()
    last = ended if ended is not None else table.index[-1]
    during = table[(table.index >= began.floor("min")) & (table.index < last)]
    n = float(during["n"].sum())
    hit = max(float(during[found.signal].sum()) - usual * n, 0.0)
    return {"hit": hit, "requests": n, "share": hit / max(n, 1), "bad_lines": bad}


def post_mortem(drill: Drill) -> str:
    """Return the post-mortem as Markdown, filled from the drill.

    Raises
    ------
    ValueError
        If nothing was found: there is nothing to write up.
    """
    if not drill.found:
        raise ValueError("nothing was found in this drill: there is no incident to write up.")
    remedy, at = RUNBOOK[drill.found.kind], drill.timeline.set_index("event")
    rows = [f"| {t:%H:%M:%S} | {event} | {m:.1f} |" for event, t, m in drill.timeline.to_numpy()]
    late = at["minutes"].get("detected", float("nan"))
    ended = "mitigated" in at.index
    lines = [
        f"**Post-mortem: {drill.found.kind.replace('_', ' ')} ({drill.severity})**",
        f"**Impact.** {drill.impact['hit']:.0f} of {drill.impact['requests']:.0f} requests "
        f"({drill.impact['share']:.1%}) were {_HARM[drill.found.kind]}.",
        "| time | event | minutes |\n| --- | --- | --- |\n" + "\n".join(rows),
        f"**Detection.** The signal “{drill.found.signal}”, {late:.1f} minutes after the start.",
        f"**Cause.** {drill.found.evidence}.",
        f"**Mitigation.** {remedy.first} "
        + ("The signal ended." if ended else "The signal did not end: the diagnosis is wrong."),
        f"**So that it does not happen again.** {remedy.later}",
        f"**Log lines that could not be read:** {drill.impact['bad_lines']:.0f}.",
    ]
    return "\n\n".join(lines) + "\n"


def drills(seeds: Sequence[int] = SEEDS) -> pd.DataFrame:
    """Run every fault with every seed, and as many quiet logs.

    Returns
    -------
    DataFrame
        ``kind``, ``seed`` and ``size`` (truth), ``named`` (by the diagnosis), ``total`` (named
        if callers are not watched), ``right``, ``delay`` and ``mitigated`` (minutes from the
        start), ``severity``, ``share`` (of the requests until then that were hit), ``bad_lines``.
    """
    rows = []
    for kind in ("none", *FAULTS):
        for seed in seeds:
            run = drill(kind, seed)
            named, total = (one.kind if one else "none" for one in (run.found, run.by_total))
            at = run.timeline.set_index("event")["minutes"]
            own = (at.get("detected", np.nan), at.get("mitigated", np.nan), run.severity)
            impact = run.impact["share"], run.impact["bad_lines"]
            rows.append((kind, seed, run.size, named, total, named == kind, *own, *impact))
    names = ["kind", "seed", "size", "named", "total", "right", "delay"]
    return pd.DataFrame(rows, columns=[*names, "mitigated", "severity", "share", "bad_lines"])
