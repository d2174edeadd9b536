"""What case 17 records by ``make bench N=17``: the gate, the ladder, attacks, defences, refunds.

Each study takes its sizes as arguments; :data:`REDUCED` has those with which a page or a test runs
it live.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import islice, product
from typing import Any

import numpy as np
import pandas as pd

from casebook.cases.support_agent import ladder, planted, studies
from casebook.cases.support_agent import world as worlds
from casebook.cases.support_agent.attacks import Drill, hunt, scene
from casebook.cases.support_agent.planner import Keywords
from casebook.cases.support_agent.world.people import COSTS, ERRORS
from casebook.cases.support_agent.world.tickets import SCENARIOS
from casebook.cases.support_agent.world.truth import STAFF
from casebook.data import real
from casebook.data.texts import banking77, clinc150
from casebook.evaluate import deflection
from casebook.evaluate.abstain import risk_coverage
from casebook.evaluate.deflection import Deflection, sizes_of_test
from casebook.recorded.real import from_real
from casebook.recorded.studies import sensitivity as vary
from casebook.retrieval.intent_gates import by_coverage, on_public
from casebook.serving import step_drills
from casebook.serving.red_team import by_template
from casebook.worlds.people import Constants
from casebook.worlds.unreliable import FAULTS, drawn

#: Sizes of what the gate learns from, where a study may ask for less.
LEARN = {"train": ladder.TRAIN, "tune": ladder.TUNE}


def gate(tickets: int = worlds.TICKETS, **learn: int) -> pd.DataFrame:
    """Return how often lists of words and what is learned know intents; intervals by wording."""
    drawn_, model = worlds.simulate(tickets=tickets).tickets, ladder.learned(**LEARN | learn)
    texts, wordings = [one.opening for one in drawn_], [one.wording for one in drawn_]
    true = np.array([one.intent for one in drawn_])
    found = {"keywords": zip(*map(Keywords(), texts), strict=True), "learned": model.read(texts)}
    rows = [
        by_coverage(*map(np.array, told), true, wordings, model.threshold).assign(gate=name)
        for name, told in found.items()
    ]
    return pd.concat(rows, ignore_index=True)


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
    """Search for attacks on the whole system, its planner compromised; by template."""
    return by_template(hunt(budget, scenes))


def catches(seeds: Sequence[int] = range(5), budget: int = 3_000) -> pd.DataFrame:
    """Return the run in which each planted bug first shows: from all templates, and from one.

    The templates were written with such bugs in mind. ``honest refund`` begins with nothing else,
    so that the search has to find the rest from single steps.
    """
    whole = planted.catches(seeds, budget).assign(begins="all templates")
    return pd.concat(
        [whole, planted.catches(seeds, budget, ["plain"]).assign(begins="honest refund")]
    )


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
    books = {"key": ladder.Ledger, "new": planted.PLANTED["new key after a time-out"]}
    rows = []
    for name, rates in plans.items():
        paid: dict[str, list[int]] = {"key": [], "new": []}
        for n, kind in product(range(each), books):
            drill = Drill(scene(n % 3), books[kind])
            drill.faults.extend(islice(drawn(rates, seed + n), 6))
            drill.refund()
            drill.found()
            paid[kind].append(len(drill.provider.done))
        own, new = np.array(paid["key"]), np.array(paid["new"])
        shares = (own == 0).mean(), (own == 1).mean(), (own > 1).mean(), (new > 1).mean()
        rows.append((name, each, *shares))
    names = ["fault", "refunds", "never", "once", "twice", "twice_new_key"]
    return pd.DataFrame(rows, columns=names)


def _paying(pay: Callable[..., Any], **more: Any) -> ladder.Ledger:
    """Return books of a small shop whose provider is given."""
    shop, today = scene(0).shop, worlds.TODAY
    return ladder.Ledger(shop, ladder.terms(), pay, STAFF, time.time, today, **more)


def kills(times: int = 5, points: Sequence[str] = step_drills.POINTS) -> pd.DataFrame:
    """Kill the process that pays at each point: :func:`casebook.serving.step_drills.kills`."""
    at = scene(0)
    asked = {"customer": at.customer, "tenant": at.tenant, "order": at.names["due"]}
    return step_drills.kills(_paying, asked | {"cents": 3_000, "reason": "damaged"}, points, times)


def probes(tickets: int = 3_000, **learn: int) -> pd.DataFrame:
    """Return four failures, each on its own test set: :func:`.studies.probes`."""
    rung = ladder.rungs(ladder.learned(**LEARN | learn))[-1]
    return studies.probes(rung, worlds.SEED, tickets)


def ab_power(**how: Any) -> pd.DataFrame:
    """Return how many tickets an A/B of AI-first against human-first needs, by share wrong."""
    wrong = rungs(**how).set_index("rung")["wrong"]
    measured = wrong["agent + review"] - wrong["people"]
    changes = {"measured": measured or 1e-3, "half a point": 0.005, "one point": 0.01}
    return sizes_of_test(wrong["people"], changes, worlds.A_DAY)


def break_even(wrong: Sequence[float] = (0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4)) -> pd.DataFrame:
    """Return the share to be deflected at 100,000 tickets a day and 2 million euro a year."""
    mix = sum(one.share * ERRORS[one.intent] for one in SCENARIOS.values())
    human = COSTS.person_eur + mix * COSTS.complaint_eur
    each = Deflection(human, 2 * COSTS.turn_eur, COSTS.person_eur + COSTS.complaint_eur)
    return deflection.break_even(each, wrong, 365 * worlds.A_DAY, 2_000_000.0)


def real_gate(rows: int | None = None) -> pd.DataFrame:
    """Score the gate on public questions: :func:`casebook.retrieval.intent_gates.on_public`."""
    bank = banking77(real("banking77_train"), real("banking77_test"))
    made = on_public({"BANKING77": bank, "CLINC150": clinc150(real("clinc150"))}, rows)
    return from_real(made, "banking77_train", "banking77_test", "clinc150")


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
    **{name: {"tickets": 300, **_LEARN} for name in ("gate", "gate_curve")},
    **{name: {"tickets": 120, **_LEARN} for name in ("rungs", "rungs_by_intent", "ab_power")},
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
    "real_gate": {"rows": 450},
}
