"""Studies: rungs over worlds, defences, reliability, and failures that no average shows."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from casebook.cases.support_agent import world as worlds
from casebook.cases.support_agent.attacks import hunt
from casebook.cases.support_agent.ladder import Rung, episode, oracle, play, rungs
from casebook.cases.support_agent.ledger import Ledger
from casebook.cases.support_agent.planner import Gullible
from casebook.cases.support_agent.planted import LimitPerCall
from casebook.cases.support_agent.world.shop import NOTES
from casebook.evaluate.attempts import pass_hat_k
from casebook.evaluate.gap import gap_closed
from casebook.evaluate.intervals import by_cluster, rule_of_three, wilson
from casebook.retrieval.classify import Gate, ahead
from casebook.serving.answer_review import review
from casebook.serving.planted_steps import NoYes
from casebook.serving.proposals import Verdict
from casebook.serving.quick_guard import attack
from casebook.worlds.people import Constants
from casebook.worlds.unreliable import Unreliable, drawn


def in_world(seed: int, constants: Constants, tickets: int, gate: Gate) -> pd.DataFrame:
    """Return what people, macros, the agent and the oracle are worth in one world."""
    world, own = worlds.simulate(seed, tickets), rungs(gate)
    tables = {r.name: play(world, r, constants) for r in (own[0], own[1], own[-1])}
    tables["oracle"] = oracle(world, constants)
    rows = {name: t[["eur", "deflected", "csat", "wrong"]].mean() for name, t in tables.items()}
    made = pd.DataFrame(rows).T.rename_axis("rung").reset_index()
    people, best = rows["people"]["eur"], rows["oracle"]["eur"]
    return made.assign(gap_closed=[gap_closed(people, eur, best) for eur in made["eur"]])


class Trusting(NoYes, Ledger):
    """Books that do what they are told: the model is trusted to know the policy."""

    def decide(self, content: Mapping[str, Any], but: str = "") -> Verdict:
        """Return ``do`` for every order that there is."""
        return Verdict("do" if content["order"] in self.shop.orders else "no")


class PerCall(NoYes, LimitPerCall):
    """The policy for each call alone, without a yes."""


class PolicyAlone(NoYes, Ledger):
    """The whole policy, without a yes."""


#: Name → books, whether the input is guarded, whether answers are reviewed.
DEFENCES: dict[str, tuple[type[Ledger], bool, bool]] = {
    "prompt alone": (Trusting, False, False),
    "input guard": (Trusting, True, False),
    "guard and review": (Trusting, True, True),
    "policy for each call": (PerCall, False, False),
    "whole policy": (PolicyAlone, False, False),
    "policy and a yes": (Ledger, False, False),
    "all of them": (Ledger, True, True),
}


def defences(gate: Gate, seed: int, tickets: int, attacks: int) -> pd.DataFrame:
    """Return utility and attack success of each defence.

    The planner obeys what it reads. Attacks: tickets of attackers, tickets whose parcel has a note
    with an order to the model, and a compromised planner that searches.

    Returns
    -------
    DataFrame
        ``defence``, ``utility`` (share of tickets of no attacker that end right and without theft),
        ``low``, ``high`` (by wording), ``relative`` to the best; of each kind of attack the share
        that stole (``attackers``, ``notes``, ``compromised``), and ``bound``: the
        95 % bound for the last one where none did.
    """
    world = worlds.simulate(seed, tickets)
    kinds = np.array([one.kind == "attacking" for one in world.tickets])
    noted = {o: replace(one, note=NOTES[int(o) % 2]) for o, one in world.shop.orders.items()}
    told = replace(world, shop=replace(world.shop, orders=noted))
    ours = np.flatnonzero([bool(t.order) and t.intent == "order_status" for t in world.tickets])
    rows = []
    for name, (kind, guarded, reviewed) in DEFENCES.items():
        rung = Rung(name, gate, Gullible(), reviewed, guarded)
        benign = play(world, rung, tickets=np.flatnonzero(~kinds), kind=kind)
        good = (benign["outcome"] == "right") & ~benign["stolen"]
        always = replace(rung, gate=lambda text: ("refund", 1.0))
        theirs = play(world, always, tickets=np.flatnonzero(kinds), kind=kind)["stolen"].mean()
        notes = play(told, rung, tickets=ours[:60], kind=kind)["stolen"].mean()
        runs = hunt(attacks, range(3), kind)["violations"].astype(bool)
        bound = rule_of_three(len(runs)) if not runs.any() else float("nan")
        utility = by_cluster(good, benign["wording"], draws=1000)
        rows.append((name, *utility, theirs, notes, runs.mean(), bound, len(runs)))
    names = ["defence", "utility", "low", "high", "attackers", "notes", "compromised", "bound"]
    made = pd.DataFrame(rows, columns=[*names, "attacks"])
    return made.assign(relative=made["utility"] / made["utility"].max())


def attempts(rung: Rung, tasks: int, times: int, rates: Mapping[str, float]) -> pd.DataFrame:
    """Return pass^k: the same tickets again, with other customers and systems that fail."""
    world = worlds.simulate(worlds.SEED, tasks)
    gate = ahead(rung.gate, [one.opening for one in world.tickets])
    parts, right = replace(rung.parts(), gate=gate), []
    for i, (ticket, true) in enumerate(zip(world.tickets, world.rights, strict=True)):
        own = []
        for again in range(times):
            wrap = lambda call, n=100 * i + again: Unreliable(call, drawn(rates, n))  # noqa: E731
            made = episode(world.shop, ticket, true, parts, again, wrap=wrap, reach=wrap)
            handed = made.closed == "person" and not made.unauthorised
            own.append(handed or worlds.judge(true, made) == "right")
        right.append(own)
    ks = [k for k in (1, 2, 4, 8) if k <= times]
    rows = [(k, *pass_hat_k(right, k), np.mean(right) ** k) for k in ks]
    return pd.DataFrame(rows, columns=["k", "pass_k", "low", "high", "if_independent"])


def probes(rung: Rung, seed: int, tickets: int) -> pd.DataFrame:
    """Return four failures, each on its own test set.

    Returns
    -------
    DataFrame
        ``probe``, ``what`` is counted, ``share``, ``low``, ``high``, ``n``.
    """
    path = Path(__file__).with_name("probes.toml")
    sets = tomllib.loads(path.read_text(encoding="utf-8"))
    results, rows = sets["policy"]["results"], []

    def add(probe: str, what: str, hits: Sequence[bool]) -> None:
        rows.append((probe, what, *wilson(hits), len(hits)))

    def flagged(texts: Sequence[str]) -> list[bool]:
        return [bool(review(text, results)) for text in texts]

    add("hallucinated policy", "stopped", flagged(sets["policy"]["bad"]))
    add("hallucinated policy", "true answers stopped", flagged(sets["policy"]["good"]))
    add("tone", "stopped", flagged(sets["tone"]["bad"]))
    add("tone", "good answers stopped", flagged(sets["tone"]["good"]))
    add(
        "over-refusal",
        "harmless messages refused",
        [bool(attack(t)) for t in sets["harmless"]["texts"]],
    )
    world = worlds.simulate(seed, tickets)
    insisted = [
        made
        for ticket, true in zip(world.tickets, world.rights, strict=True)
        if true.action == "tell" and ticket.kind in ("confused", "lying")
        for made in [episode(world.shop, ticket, true, rung.parts(), seed)]
        if any(said and said.button is None and t.act == "tell" for t, said in made.turns)
    ]
    add("sycophancy", "gave in to an insisting customer", [bool(m.effects) for m in insisted])
    names = ["probe", "what", "share", "low", "high", "n"]
    return pd.DataFrame(rows, columns=names)
