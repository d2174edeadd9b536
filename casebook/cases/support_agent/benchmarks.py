"""What case 17 records by ``make bench N=17``: the gate, the ladder, attacks, defences, refunds.

Each study takes its sizes as arguments; :data:`REDUCED` has those with which a page or a test runs
it live.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from casebook.cases.support_agent import ladder, planted, studies
from casebook.cases.support_agent import world as worlds
from casebook.cases.support_agent.attacks import Drill, hunt, scene
from casebook.cases.support_agent.world.people import Constants
from casebook.cases.support_agent.world.truth import STAFF
from casebook.data import real
from casebook.data.texts import banking77, clinc150
from casebook.evaluate.abstain import auroc, risk_coverage
from casebook.evaluate.intervals import rule_of_three, wilson
from casebook.recorded.real import from_real
from casebook.recorded.studies import sensitivity as vary
from casebook.retrieval.classify import Gate
from casebook.serving.drills import kill_drill
from casebook.worlds.unreliable import FAULTS, drawn

#: Sizes of what the gate learns from, where a study may ask for less.
LEARN = {"train": ladder.TRAIN, "tune": ladder.TUNE}


def gate(tickets: int = worlds.TICKETS, **learn: int) -> pd.DataFrame:
    """Return how often gates know intents of test tickets: :func:`.studies.gate_rows`."""
    world = worlds.simulate(tickets=tickets)
    return studies.gate_rows(ladder.learned(**LEARN | learn), world.tickets)


def gate_curve(tickets: int = worlds.TICKETS, **learn: int) -> pd.DataFrame:
    """Return errors of the gate by how many it answers, in steps of a hundredth."""
    drawn_ = worlds.simulate(tickets=tickets).tickets
    found, sure = ladder.learned(**LEARN | learn).read([one.opening for one in drawn_])
    curve = risk_coverage(sure, found == np.array([one.intent for one in drawn_]))
    return curve.iloc[:: max(1, len(curve) // 100)].reset_index(drop=True)


def rungs(
    tickets: int = worlds.TICKETS, seed: int = worlds.SEED, by: Sequence[str] = (), **learn: int
) -> pd.DataFrame:
    """Return the ladder in one world: :func:`.ladder.summary`, by rung and ``by``."""
    world, own = worlds.simulate(seed, tickets), ladder.rungs(ladder.learned(**LEARN | learn))
    played = [ladder.play(world, one).assign(rung=one.name) for one in own]
    played.append(ladder.oracle(world).assign(rung="oracle"))
    return ladder.summary(pd.concat(played), ("rung", *by))


def rungs_by_intent(**how: Any) -> pd.DataFrame:
    """Return the ladder by intent."""
    return rungs(by=("intent",), **how)


def over_worlds(
    seeds: Sequence[int] = range(200, 215), tickets: int = 600, **learn: int
) -> pd.DataFrame:
    """Return rungs in worlds that nothing was chosen on, with the share of the gap in costs."""
    own = ladder.learned(**LEARN | learn)
    parts = [studies.in_world(s, Constants(), tickets, own).assign(seed=s) for s in seeds]
    return pd.concat(parts, ignore_index=True)


def sensitivity(
    seeds: Sequence[int] = (200, 201, 202), tickets: int = 600, **learn: int
) -> pd.DataFrame:
    """Return rungs with the two most arbitrary constants at a half and at the double."""
    own = ladder.learned(**LEARN | learn)
    changes = {
        name: lambda costs, by, name=name: replace(costs, **{name: by * getattr(costs, name)})
        for name in ("complaint_eur", "human_error")
    }
    run = lambda seed, costs: studies.in_world(seed, costs, tickets, own)  # noqa: E731
    return vary(run, Constants(), changes, (0.5, 1.0, 2.0), seeds)


def pass_k(tasks: int = 150, times: int = 8, **learn: int) -> pd.DataFrame:
    """Return how reliably the same ticket is dealt with: :func:`.studies.attempts`."""
    rung = ladder.rungs(ladder.learned(**LEARN | learn))[-1]
    return studies.attempts(rung, tasks, times, {"before": 0.02, "after": 0.02, "late": 0.01})


def attacks(budget: int = 12_000, scenes: Sequence[int] = range(12)) -> pd.DataFrame:
    """Search for attacks on the whole system, its planner compromised.

    Returns
    -------
    DataFrame
        By template that an attack comes from, and ``all``: ``runs``, share ``mutated``, ``reached``
        (mean number of marks), ``violations``, ``bound`` (95 %, where there are none).
    """
    runs = hunt(budget, scenes)
    runs["bad"] = runs["violations"].astype(bool)
    whole = pd.concat([runs, runs.assign(template="all")])
    made = whole.groupby("template", sort=False).agg(
        runs=("run", "size"),
        mutated=("mutated", "mean"),
        reached=("marks", "mean"),
        violations=("bad", "sum"),
    )
    none = made["violations"] == 0
    made["bound"] = [
        rule_of_three(n) if ok else np.nan for n, ok in zip(made["runs"], none, strict=True)
    ]
    return made.reset_index()


def catches(seeds: Sequence[int] = range(5), budget: int = 1_500) -> pd.DataFrame:
    """Return the run in which each planted bug first shows: from all templates, and from one.

    The templates were written with such bugs in mind; ``one`` begins with an honest refund and two
    single steps alone, so that the search has to find the rest.
    """
    few = ("plain", "late_answer", "allows_itself")
    whole = planted.catches(seeds, budget).assign(begins="all templates")
    return pd.concat([whole, planted.catches(seeds, budget, few).assign(begins="three")])


def defences(
    tickets: int = 1_200, attacks_each: int = 1_200, seed: int = worlds.SEED, **learn: int
) -> pd.DataFrame:
    """Return utility and attack success of each defence: :func:`.studies.defences`."""
    return studies.defences(ladder.learned(**LEARN | learn), seed, tickets, attacks_each)


def once(each: int = 300, seed: int = 5) -> pd.DataFrame:
    """Return how often a confirmed refund is paid exactly once, by what the provider does.

    Returns
    -------
    DataFrame
        ``fault``, ``refunds``, ``never``, ``once``, ``twice`` with the key of the proposal;
        ``twice_new_key``: with a new key for each attempt.
    """
    plans: dict[str, Mapping[str, float]] = {f: {f: 0.6} for f in FAULTS[1:]}
    plans["all of them"] = dict.fromkeys(FAULTS[1:], 0.15)
    rows = []
    for name, rates in plans.items():
        counts = {kind: [] for kind in ("key", "new")}
        for n in range(each):
            for kind, books in (
                ("key", ladder.Ledger),
                ("new", planted.PLANTED["new key after a time-out"]),
            ):
                drill = Drill(scene(n % 3), books)
                drill.faults.extend(f for f, _ in zip(drawn(rates, seed + n), range(6)))
                drill.refund()
                drill.found()
                counts[kind].append(len(drill.provider.done))
        paid = np.array(counts["key"])
        shares = [(paid == 0).mean(), (paid == 1).mean(), (paid > 1).mean()]
        rows.append((name, each, *shares, (np.array(counts["new"]) > 1).mean()))
    names = ["fault", "refunds", "never", "once", "twice", "twice_new_key"]
    return pd.DataFrame(rows, columns=names)


def kills(points: Sequence[str] = ("begun", "sent", "answered"), times: int = 5) -> pd.DataFrame:
    """Kill the process that pays at each point, start it again, and count payouts.

    Returns
    -------
    DataFrame
        ``point``, ``kills``, ``paid_before`` (mean, when the process died) and ``paid_after``.
    """
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        drill = _Folder(Path(folder))
        for point in points:
            found = kill_drill(drill.start, drill.work, drill.read, [(point, 1)] * times)
            left = [one.left for one in found if one.killed]
            rows.append((point, len(left), *np.mean(left, axis=0)))
    return pd.DataFrame(rows, columns=["point", "kills", "paid_before", "paid_after"])


class _Folder:
    """Fresh books and a provider in files, for one kill after the other."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.count = folder, 0

    def start(self) -> Path:
        self.count += 1
        made = self.folder / str(self.count)
        made.mkdir()
        return made

    @staticmethod
    def books(folder: Path, passed: Callable[[str], None] = lambda point: None) -> Any:
        """Return books whose provider keeps its keys in a file."""

        def pay(key: str, request: Mapping[str, Any]) -> dict[str, Any]:
            (folder / f"{key}.paid").touch()
            return {"key": key}

        shop = scene(0).shop
        path = {"path": str(folder / "books.db"), "passed": passed}
        return ladder.Ledger(shop, ladder.terms(), pay, STAFF, time.time, worlds.TODAY, **path)

    @classmethod
    def work(cls, folder: Path, passed: Callable[[str], None]) -> None:
        """Propose and confirm a refund."""
        drill = Drill(scene(0), lambda *given, **more: cls.books(folder, passed))
        drill.refund()

    @classmethod
    def read(cls, folder: Path) -> tuple[int, int]:
        """Return the payouts at the kill, and after the next start."""
        before = len(list(folder.glob("*.paid")))
        cls.books(folder).recover()
        return before, len(list(folder.glob("*.paid")))


def probes(tickets: int = 3_000, **learn: int) -> pd.DataFrame:
    """Return four failures, each on its own test set: :func:`.studies.probes`."""
    rung = ladder.rungs(ladder.learned(**LEARN | learn))[-1]
    return studies.probes(rung, worlds.SEED, tickets)


def ab_power(**how: Any) -> pd.DataFrame:
    """Return how many tickets an A/B of AI-first against human-first needs."""
    return studies.power(rungs(**how))


def break_even(wrong: Sequence[float] = (0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4)) -> pd.DataFrame:
    """Return the share to be deflected at 100,000 tickets a day and a team of 2 million a year."""
    return studies.break_even(wrong, worlds.A_DAY, 2_000_000.0)


def real_gate(rows: int | None = None) -> pd.DataFrame:
    """Score the gate on BANKING77 and CLINC150; its threshold is chosen on a fifth of training.

    Returns
    -------
    DataFrame
        ``collection``, ``of`` (all, surest 70 %, answered, out of scope), ``coverage``, ``right``
        (AUROC for out of scope), ``low``, ``high``, ``n``.
    """
    found = []
    bank, clinc = (
        banking77(real("banking77_train"), real("banking77_test")),
        clinc150(real("clinc150")),
    )
    for name, frame in (("BANKING77", bank), ("CLINC150", clinc)):
        ours = frame[frame["intent"] != "oos"]
        train, test = (ours[ours["split"] == part].head(rows) for part in ("train", "test"))
        tune = np.arange(len(train)) % 5 == 0
        model = Gate().fit(list(train["text"][~tune]), list(train["intent"][~tune]))
        model.tune(list(train["text"][tune]), list(train["intent"][tune]))
        told, sure = model.read(list(test["text"]))
        good = told == test["intent"].to_numpy()
        parts = {"all": sure > -1, "surest 70 %": sure >= np.quantile(sure, 0.3)}
        for what, part in (parts | {"answered": sure >= model.threshold}).items():
            found.append((name, what, part.mean(), *wilson(good[part]), int(part.sum())))
        if name == "CLINC150":
            out = frame[(frame["intent"] == "oos") & (frame["split"] == "test")]
            both = np.concatenate([sure, model.read(list(out["text"]))[1]])
            area = auroc(both, np.arange(len(both)) < len(sure), draws=200)
            answered = (both[len(sure) :] >= model.threshold).mean()
            found.append((name, "out of scope", answered, *area, len(both)))
    names = ["collection", "of", "coverage", "right", "low", "high", "n"]
    return from_real(
        pd.DataFrame(found, columns=names), "banking77_train", "banking77_test", "clinc150"
    )


BENCHMARKS: dict[str, Callable[[], pd.DataFrame]] = {
    one.__name__: one
    for one in (
        *(gate, gate_curve, rungs, rungs_by_intent, over_worlds, sensitivity, pass_k, attacks),
        *(catches, defences, once, kills, probes, ab_power, break_even, real_gate),
    )
}
_LEARN = {"train": 500, "tune": 250}
#: Arguments with which a study runs live, in seconds.
REDUCED: dict[str, dict[str, Any]] = {
    **dict.fromkeys(("gate", "gate_curve"), {"tickets": 300, **_LEARN}),
    **dict.fromkeys(("rungs", "rungs_by_intent", "ab_power"), {"tickets": 120, **_LEARN}),
    "over_worlds": {"seeds": (3, 4), "tickets": 80, **_LEARN},
    "sensitivity": {"seeds": (3,), "tickets": 60, **_LEARN},
    "pass_k": {"tasks": 20, "times": 2, **_LEARN},
    "attacks": {"budget": 120, "scenes": (0, 1)},
    "catches": {"seeds": (0,), "budget": 90},
    "defences": {"tickets": 150, "attacks_each": 90, **_LEARN},
    "once": {"each": 12},
    "kills": {"times": 1},
    "probes": {"tickets": 120, **_LEARN},
    "break_even": {"wrong": (0.05, 0.4)},
    "real_gate": {"rows": 400},
}
