"""The rollout's judgement: what the router has counted, and when a version must go.

Each look asks of the new version, since the stage began: is a larger share of its answers bad than
of the stable one's, is a larger share slow? In shadow: does it decide too many of the same payments
otherwise, or rank them in another order? Later: have its scores moved from its own in shadow? The
first yes ends the rollout. A retrained model may differ from the champion, but not from itself.
While both versions are ill, or too little is compared, none goes on.
:mod:`casebook.serving.rollout` moves the router.
``python -m casebook.cases.deployment_pipeline.rollout --help`` rolls out and goes back; before and
after, the registry's names follow what the pods serve.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from casebook.cases.deployment_pipeline import canary
from casebook.cases.deployment_pipeline.registry import BEFORE, CHAMPION, Registry
from casebook.evaluate.psi import noise, psi
from casebook.evaluate.two_shares import log_evidence_against, upper
from casebook.serving import rollout
from casebook.serving.rollout import Found, Pace, Stage, Timeline, Usual, wait_ready

#: The canary answers the question that its sample is planned for, so it has the level of
#: :class:`canary.Watch`; crashes, which the other stages and the slow answers are for, need little.
STAGES = (
    Stage("shadow", 0.0, 600, 5_000, shadow=True),
    Stage("canary 5 %", canary.SHARE, 1_800, canary.Watch().planned, level=canary.LEVEL),
    Stage("rolling 25 %", 0.25, 300, 5_000),
    Stage("rolling 50 %", 0.5, 300, 5_000),
    Stage("rolling 100 %", 1.0, 300, 5_000),
)

NOTHING = Usual()
#: How many times more pairs may differ, for the evidence: near 1, since many pairs differ anyway.
PAIR_RATIOS = (1.1, 1.2, 1.5, 2.0, 4.0)


def brief(seconds: float, requests: int) -> tuple[Stage, ...]:
    """Return the same stages for little traffic: so many seconds, and its share of the requests."""
    return tuple(
        one._replace(seconds=seconds, requests=int(requests * (one.share or 1))) for one in STAGES
    )


@dataclass(frozen=True)
class Limits:
    """When a version must go.

    Attributes
    ----------
    slow : float
        Chance that a version like the stable one is rolled back for its slow answers, by stage.
    usual : float
        Share of bad or of slow answers that is taken for usual if no stage before has told it.
    ceiling : float
        Share of bad answers of both versions above which none goes on.
    tier, crossed : float
        In shadow, the share of payments that a sound retraining may decide otherwise, and of
        couples of payments that it may rank in another order: at chance it is one half. Months
        with new fraud between champion and challenger gave at most .067 and .368.
    pairs : float
        Chance that a version below such a share is rolled back for it; of each of the two.
    shift : float
        Stability index of the score against that in shadow, beyond what sampling explains.
    moved : float
        Chance that scores alike exceed it, by stage: far below, as ``shift`` comes on top.
    scores : int
        Pairs, and scores, without which no stage is over.
    """

    slow: float = 0.001
    usual: float = 0.001
    ceiling: float = canary.Watch().ceiling
    tier: float = 0.1
    crossed: float = 0.42
    pairs: float = 0.001
    shift: float = 0.25
    moved: float = 0.001
    scores: int = 100


def level(stages: Sequence[Stage] = STAGES, limits: Limits | None = None) -> float:
    """Return at most how often a version like the stable one is rolled back, by all questions.

    Examples
    --------
    >>> f"{level():.3f}"
    '0.065'
    """
    lim = limits or Limits()
    return sum(
        one.level + lim.slow + (2 * lim.pairs if one.shadow else lim.moved) for one in stages
    )


def verdict(
    seen: Mapping[str, Any], stage: Stage, usual: Usual = NOTHING, limits: Limits | None = None
) -> Found:
    """Return why the new version must go, why it may not go on yet, or neither.

    Parameters
    ----------
    seen : mapping
        What the router's ``/watch`` says.
    stage : Stage
    usual : Usual
        Of the stages before: at 100 % the stable version answers nothing.
    limits : Limits, optional

    Returns
    -------
    Found
        With the index of the score.
    """
    lim, new, old, hold = limits or Limits(), seen["new"], seen["stable"], ""
    for what, part, before in (("bad", stage.level, usual.bad), ("slow", lim.slow, usual.slow)):
        counts = canary.Counts(new["n"], new[what], old["n"], old[what])
        watch = canary.Watch(1, part, ceiling=lim.ceiling if what == "bad" else 1.0)
        known = None
        if stage.share == 1:  # what both have answered since is no sample
            counts = counts._replace(stable=0, stable_bad=0)
            known = upper(before, usual.n) if usual.n else lim.usual
        found = canary.decide(counts, watch, known)
        if found.action == "rollback":
            whose = dict(sorted(new["why"].items())) if what == "bad" else "above 250 ms"
            return Found(f"{what} answers ({found.reason}) {whose}")
        if found.action == "wait" and new["n"]:
            hold = hold or found.reason
    if stage.shadow:
        return _pairs(new["pairs"], lim, hold)
    return _moved(usual.scores, new, lim, hold)


def _pairs(seen: Mapping[str, int], lim: Limits, hold: str) -> Found:
    """Compare both versions' answers to the same requests; nobody was answered by the new one."""
    asked = (
        ("decided otherwise", seen["n"], seen["tier"], lim.tier),
        ("ranked in another order", seen["ranked"], seen["crossed"], lim.crossed),
    )
    for what, n, odd, usual in asked:
        if log_evidence_against(n, odd, usual, PAIR_RATIOS) >= np.log(1 / lim.pairs):
            return Found(f"{odd / n:.1%} of {n:,} pairs are {what}, {usual:.0%} may be")
    few = f"{seen['ranked']} pairs are ranked by both models: {lim.scores} are needed"
    return Found("", hold or (few if seen["ranked"] < lim.scores else ""))


def _moved(own: Sequence[float], new: Mapping[str, Any], lim: Limits, hold: str) -> Found:
    """Compare a version's scores with its own in shadow: another model's are no measure of it."""
    a, b = _log_odds(own), _log_odds(new["scores"])
    if min(len(a), len(b)) < lim.scores:
        few = f"{len(b)} scores, {len(a)} in shadow: {lim.scores} are needed of each"
        return Found("", hold or (few if new["n"] >= lim.scores else ""))
    index = psi(a, b)
    far = index > lim.shift + noise(len(a), len(b), level=1 - lim.moved)
    return Found(f"its score has moved: index {index:.2f}" if far else "", hold, index)


def _log_odds(scores: Sequence[float]) -> np.ndarray:
    p = np.clip(np.asarray(scores, float), 1e-9, 1 - 1e-9)
    return np.log(p / (1 - p))


def run(
    router: Any,
    pods: Sequence[str],
    stages: Sequence[Stage] = STAGES,
    pace: Pace | None = None,
    on_stage: Callable[[Stage], None] = lambda stage: None,
    **given: Any,
) -> Timeline:
    """Roll a version out by :func:`verdict`; the rest as :func:`casebook.serving.rollout.run`."""
    return rollout.run(router, pods, stages, verdict, pace, on_stage, **given)


def free(stable: Sequence[str]) -> str:
    """Return the colour whose pods do not serve.

    Examples
    --------
    >>> free(["http://card-payments-blue"])
    'green'
    """
    return "green" if any("blue" in pod for pod in stable) else "blue"


def serving(pods: Sequence[str], patience: float = 10.0) -> str:
    """Return the model that pods serve, by what they say themselves.

    Raises
    ------
    TimeoutError
        If one of them is not ready.
    ValueError
        If they serve several.
    """
    told = {pod: str(wait_ready(pod, patience)["version"]) for pod in pods}
    if len(models := {*told.values()}) != 1:
        raise ValueError(f"{told}: not one model; wait until the deployment is through.")
    return models.pop()


def only(model: str) -> Callable[[str, float], None]:
    """Return what waits for a pod and refuses one that serves another model."""

    def ready(pod: str, patience: float) -> None:
        if (told := serving([pod], patience)) != model:
            raise ValueError(f"{pod} serves {told} and not {model}: deploy its image first.")

    return ready


def agree(registry: Registry, router: str) -> int | None:
    """Let the registry follow what the router's stable pods serve; return its champion."""
    return registry.follow(serving(_watch(router)["pods"]["stable"]))


def released(
    registry: Registry, version: int, router: str, out: Callable[[str], Timeline]
) -> Timeline:
    """Roll a version of the registry out; it is the champion once it is live, and not before.

    Parameters
    ----------
    registry : Registry
    version : int
    router : str
        Address of its plans.
    out : callable
        Rolls out, from the model that the new pods must serve.

    Raises
    ------
    PromotionRefused
        Before anybody gets an answer of it, if a gate has stopped it.
    """
    registry.may_lead(version)
    agree(registry, router)  # if the last release was killed
    try:
        return out(registry.folder(version).name)
    finally:
        agree(registry, router)


def back(registry: Registry, router: str) -> int | None:
    """Go back to the pods before, or end a rollout; return the champion.

    Raises
    ------
    ValueError
        If there are none, or they serve a version that was never champion.
    """
    import httpx

    pods = _watch(router)["pods"]
    if pods["before"] and not pods["new"]:
        model = serving(pods["before"])
        if registry.find(model) not in (registry.version(CHAMPION), registry.version(BEFORE)):
            raise ValueError(f"{pods['before']} serve {model}, which never led: deploy another.")
    reply = httpx.post(f"{router}/back", json={}, trust_env=False, timeout=10)
    if reply.is_error:
        raise ValueError(f"The router: {reply.text}")
    print(reply.text)  # it is done, whether the registry can be told or not
    return agree(registry, router)


def _watch(router: str) -> dict[str, Any]:
    import httpx

    return httpx.get(f"{router}/watch", trust_env=False, timeout=10).raise_for_status().json()


#: The options that each command needs.
NEEDS = {
    "colour": ("router",),
    "model": ("registry", "version"),
    "out": ("router", "registry", "version", "pods"),
    "back": ("router", "registry"),
    "agree": ("router", "registry"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Name the free colour or a version's model; roll out; go back; let the registry agree.

    0 if it was done, 1 with the reason if it was refused or the version went back.
    """
    import httpx

    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("command", choices=NEEDS)
    parser.add_argument("--router", help="address of its plans")
    parser.add_argument("--registry", help="SQLite file")
    parser.add_argument("--version", type=int, help="of the registry: champion if it goes live")
    parser.add_argument("--pods", nargs="+", help="addresses of the new version")
    given = parser.parse_args(arguments)
    if lacks := [f"--{name}" for name in NEEDS[given.command] if getattr(given, name) is None]:
        parser.error(f"{given.command} needs {', '.join(lacks)}")
    try:
        return _do(given)
    except (ValueError, LookupError, TimeoutError, httpx.HTTPError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1


def _do(given: argparse.Namespace) -> int:
    if given.command == "colour":
        print(f"colour={free(_watch(given.router)['pods']['stable'])}")
        return 0
    registry = Registry(given.registry)
    if given.command == "model":
        registry.may_lead(given.version)
        print(f"MODEL={registry.folder(given.version).name}")
        return 0
    if given.command != "out":
        done = back if given.command == "back" else agree
        print(f"champion={done(registry, given.router)}")
        return 0

    def out(model: str) -> Timeline:
        return run(given.router, given.pods, ready=only(model))

    told = released(registry, given.version, given.router, out)
    print(told.rows.groupby("stage", sort=False).last().to_string())
    print(told.outcome, told.why)
    return int(told.outcome != "live")


if __name__ == "__main__":
    sys.exit(main())
