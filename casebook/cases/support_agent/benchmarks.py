"""What case 17 records by ``make bench N=17``: the gate, the ladder, attacks, defences, refunds.

Each study takes its sizes as arguments; :data:`REDUCED` has those with which a page or a test runs
it live.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import islice, product
from typing import Any

import numpy as np
import pandas as pd

from casebook.cases.support_agent import ladder, planted, studies
from casebook.cases.support_agent import probes as probing
from casebook.cases.support_agent import world as worlds
from casebook.cases.support_agent.attacks import Drill, draws, hunt, scene
from casebook.cases.support_agent.planner import Keywords
from casebook.cases.support_agent.world.customers import NOTICES
from casebook.cases.support_agent.world.people import COSTS, ERRORS
from casebook.cases.support_agent.world.tickets import SCENARIOS
from casebook.cases.support_agent.world.truth import STAFF
from casebook.data import real
from casebook.data.texts import banking77, clinc150
from casebook.evaluate import deflection
from casebook.evaluate.abstain import risk_coverage
from casebook.recorded.real import from_real
from casebook.recorded.studies import sensitivity as vary
from casebook.retrieval.intent_gates import by_coverage, on_public
from casebook.serving import step_drills
from casebook.serving.red_team import by_template
from casebook.worlds.people import Constants
from casebook.worlds.unreliable import FAULTS, drawn

#: Tickets of a customer in a test, and how alike they are (assumed).
PER_CUSTOMER, ALIKE = 1.5, 0.2
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
    """Return rungs in new worlds, with the share of the gap in costs, by whose words they are in.

    ``test`` are the page's test wordings again, so that their spread is over shops and customers
    alone; ``fresh`` ones are by another hand and were run once.
    """
    own, made = ladder.learned(**LEARN | learn), []
    for part, seed in product(("test", "fresh"), seeds):
        one = studies.in_world(seed, Constants(), tickets, own, part)
        made.append(one.assign(seed=seed, wordings=part))
    return pd.concat(made, ignore_index=True)


def against_people(
    tickets: int = worlds.TICKETS, seed: int = worlds.SEED, **learn: int
) -> pd.DataFrame:
    """Return how rungs differ from people on the same tickets, in test and in fresh wordings."""
    own, made = ladder.rungs(ladder.learned(**LEARN | learn)), []
    for part in ("test", "fresh"):
        world = worlds.simulate(seed, tickets, part=part)
        tables = {r.name: ladder.play(world, r) for r in (own[0], own[1], own[-2], own[-1])}
        made.append(studies.against(tables).assign(wordings=part, n=tickets))
    return pd.concat(made, ignore_index=True)


def sensitivity(
    seeds: Sequence[int] = (200, 201, 202), tickets: int = 600, **learn: int
) -> pd.DataFrame:
    """Return rungs with the most arbitrary constants changed.

    Complaints and people's errors at a half and at the double; of the money that people pay wrongly
    nothing (as elsewhere), a half and all of it is lost, at the factors of .5, 1 and 2.
    """
    own = ladder.learned(**LEARN | learn)
    changes = {
        name: lambda costs, by, name=name: replace(costs, **{name: by * getattr(costs, name)})
        for name in ("complaint_eur", "human_error")
    }
    lost = {0.5: 0.0, 1.0: 0.5, 2.0: 1.0}
    changes["paid_wrongly"] = lambda costs, by: replace(costs, paid_wrongly=lost[by])
    run = lambda seed, costs: studies.in_world(seed, costs, tickets, own)  # noqa: E731
    return vary(run, Constants(), changes, (0.5, 1.0, 2.0), seeds)


def pass_k(tasks: int = 150, times: int = 8, **learn: int) -> pd.DataFrame:
    """Return how reliably the same ticket is dealt with: :func:`.studies.attempts`."""
    rung = ladder.rungs(ladder.learned(**LEARN | learn))[-1]
    return studies.attempts(rung, tasks, times, {"before": 0.02, "after": 0.02, "late": 0.01})


def attacks(
    budget: int = 12_000, scenes: Sequence[int] = range(12), drawn_each: int = 6_000
) -> pd.DataFrame:
    """Search for attacks on the whole system, its planner compromised; by template.

    Returns
    -------
    DataFrame
        As of :func:`casebook.serving.red_team.by_template`, with a last row ``drawn independently``
        and its exact 95 % ``bound``: of attacks drawn in that way, and of no others.
    """
    free = draws(drawn_each)
    last = by_template(free).iloc[:1].assign(template="drawn independently")
    last["bound"] = 1 - 0.05 ** (1 / len(free)) if not last["violations"].iloc[0] else np.nan
    return pd.concat([by_template(hunt(budget, scenes)), last], ignore_index=True)


def catches(
    seeds: Sequence[int] = range(3), budget: int = 3_000, alone: int = 3_000
) -> pd.DataFrame:
    """Return the run in which each planted bug first shows: from all templates, and from one.

    The templates were written with such bugs in mind. ``honest refund`` begins with nothing else,
    so that the search has to find the rest from single steps.
    """
    whole = planted.catches(seeds, budget).assign(begins="all templates")
    return pd.concat(
        [whole, planted.catches(seeds, alone, ["plain"]).assign(begins="honest refund")]
    )


def defences(
    tickets: int = 1_200,
    attacks_each: int = 1_200,
    seed: int = worlds.SEED,
    each: int = 120,
    **learn: int,
) -> pd.DataFrame:
    """Return utility and attack success of each defence: :func:`.studies.defences`."""
    return studies.defences(ladder.learned(**LEARN | learn), seed, tickets, attacks_each, each)


def once(each: int = 300, seed: int = 5) -> pd.DataFrame:
    """Return how often a confirmed refund is paid exactly once, by what the provider does.

    ``declined``: the provider refuses; ``key forgotten``: done without an answer, and looked up
    after the provider has forgotten the key.

    Returns
    -------
    DataFrame
        ``fault``, ``refunds``, ``never``, ``once``, ``twice`` with the key of the proposal;
        ``untrue``: the books say another thing than the provider; ``twice_new_key``: with a new key
        for each attempt.
    """
    plans: dict[str, Mapping[str, float]] = {f: {f: 0.6} for f in FAULTS[1:]}
    plans["all of them"] = dict.fromkeys(FAULTS[1:], 0.15)
    plans |= {"declined": {}, "key forgotten": {}}
    books = {"key": ladder.Ledger, "new": planted.PLANTED["new key after a time-out"]}
    rows = []
    for name, rates in plans.items():
        paid: dict[str, list[int]] = {"key": [], "new": []}
        untrue = []
        for n, kind in product(range(each), books):
            drill = Drill(scene(n % 6), books[kind])
            drill.faults.extend(islice(drawn(rates, seed + n), 6))
            _fail(drill, name)
            paid[kind].append(len(drill.provider.done))
            if kind == "key":
                untrue.append((drill.books.rows()[-1]["state"] == "done") != bool(paid[kind][-1]))
        own, new = np.array(paid["key"]), np.array(paid["new"])
        shares = (own == 0).mean(), (own == 1).mean(), (own > 1).mean(), np.mean(untrue)
        rows.append((name, each, *shares, (new > 1).mean()))
    names = ["fault", "refunds", "never", "once", "twice", "untrue", "twice_new_key"]
    return pd.DataFrame(rows, columns=names)


def _fail(drill: Drill, name: str) -> None:
    """Let a refund be paid while the provider fails in a way that a call alone cannot have."""
    drill.declined = int(name == "declined")
    if name == "key forgotten":
        drill.faults[:] = ["after"]
    drill.refund()
    if name == "key forgotten":
        drill.wait(2 * 1_440)
    drill.found()


def _paying(pay: Callable[..., Any], **more: Any) -> ladder.Ledger:
    """Return books of a small shop whose provider is given."""
    return ladder.Ledger(scene(0).shop, ladder.terms(), pay, STAFF, worlds.clock(), **more)


def kills(times: int = 5, points: Sequence[str] = step_drills.POINTS) -> pd.DataFrame:
    """Kill the process that pays at each point: :func:`casebook.serving.step_drills.kills`."""
    at = scene(0)
    asked = {"customer": at.customers["me"], "tenant": at.tenant, "order": at.names["due"]}
    return step_drills.kills(_paying, asked | {"cents": 3_000, "reason": "damaged"}, points, times)


def probes(tickets: int = 3_000, **learn: int) -> pd.DataFrame:
    """Return failures, each on its own test set: :func:`.probes.probes`."""
    rung = ladder.rungs(ladder.learned(**LEARN | learn))[-1]
    return probing.probes(rung, worlds.SEED, tickets)


def ab_power() -> pd.DataFrame:
    """Return how many tickets have to be judged for an A/B of AI-first against human-first.

    Tickets are assigned by customer, who has some: :data:`PER_CUSTOMER` and their correlation.
    """
    mix = sum(one.share * ERRORS[one.intent] for one in SCENARIOS.values())
    margins = {"half a point": 0.005, "one point": 0.01, "two points": 0.02}
    return deflection.sizes_of_test(mix, margins, 1 + (PER_CUSTOMER - 1) * ALIKE)


def break_even(wrong: Sequence[float] = (0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.6)) -> pd.DataFrame:
    """Return the share to be deflected at 100,000 tickets a day and 2 million euro a year."""
    each = deflection.Deflection(ladder.by_person(), 2 * COSTS.turn_eur, COSTS.mistake(NOTICES))
    made = deflection.break_even(each, wrong, 365 * worlds.A_DAY, 2_000_000.0)
    return made.assign(human=each.human, mistake=each.wrong, stop=each.stop)


def real_gate(rows: int | None = None) -> pd.DataFrame:
    """Score the gate on public questions: :func:`casebook.retrieval.intent_gates.on_public`."""
    bank = banking77(real("banking77_train"), real("banking77_test"))
    made = on_public({"BANKING77": bank, "CLINC150": clinc150(real("clinc150"))}, rows)
    return from_real(made, "banking77_train", "banking77_test", "clinc150")


BENCHMARKS: dict[str, Callable[[], pd.DataFrame]] = {
    one.__name__: one
    for one in (
        *(
            gate,
            gate_curve,
            rungs,
            rungs_by_intent,
            over_worlds,
            against_people,
            sensitivity,
            pass_k,
        ),
        *(attacks, catches, defences, once, kills, probes, ab_power, break_even, real_gate),
    )
}
_LEARN = {"train": 500, "tune": 250}
#: Arguments with which a study runs live, in seconds.
REDUCED: dict[str, dict[str, Any]] = {
    **{name: {"tickets": 300, **_LEARN} for name in ("gate", "gate_curve")},
    **{name: {"tickets": 120, **_LEARN} for name in ("rungs", "rungs_by_intent", "against_people")},
    "ab_power": {},
    "over_worlds": {"seeds": (3, 4), "tickets": 80, **_LEARN},
    "sensitivity": {"seeds": (3,), "tickets": 60, **_LEARN},
    "pass_k": {"tasks": 20, "times": 2, **_LEARN},
    "attacks": {"budget": 120, "scenes": (0, 1), "drawn_each": 60},
    "catches": {"seeds": (0,), "budget": 240, "alone": 30},
    "defences": {"tickets": 150, "attacks_each": 240, "each": 12, **_LEARN},
    "once": {"each": 12},
    "kills": {"times": 1},
    "probes": {"tickets": 120, **_LEARN},
    "break_even": {"wrong": (0.05, 0.4)},
    "real_gate": {"rows": 450},
}
