"""The rollout's judgement: what the router has counted, and when a version must go.

Each look asks of the new version, since the stage began: is a larger share of its answers bad than
of the stable one's, is a larger share slow, has its score moved? The first yes ends the rollout.
While both versions are ill, none goes on. :mod:`casebook.serving.rollout` moves the router.
``python -m casebook.cases.deployment_pipeline.rollout --help`` rolls out, promotes, and goes back.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from casebook.cases.deployment_pipeline import canary
from casebook.evaluate.psi import noise, psi
from casebook.evaluate.two_shares import upper
from casebook.serving import rollout
from casebook.serving.rollout import Found, Pace, Stage, Timeline, Usual

if TYPE_CHECKING:
    from casebook.cases.deployment_pipeline.registry import Registry

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
    shift : float
        Stability index of the score, beyond what sampling explains.
    """

    slow: float = 0.001
    usual: float = 0.001
    ceiling: float = canary.Watch().ceiling
    shift: float = 0.25


def level(stages: Sequence[Stage] = STAGES, limits: Limits | None = None) -> float:
    """Return at most how often a version like the stable one is rolled back for its answers.

    Examples
    --------
    >>> f"{level():.3f}"
    '0.059'
    """
    return sum(stage.level + (limits or Limits()).slow for stage in stages)


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
        What the stable version has answered in the stages before: at 100 % it answers nothing.
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
    theirs = usual.scores if stage.share == 1 and usual.scores else old["scores"]
    a, b = _log_odds(theirs), _log_odds(new["scores"])
    if min(len(a), len(b)) < 100:
        return Found("", hold)
    index = psi(a, b)
    far = index > lim.shift + noise(len(a), len(b), level=1 - 1e-5)
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


def released(registry: Registry | None, version: int, out: Callable[[], Timeline]) -> Timeline:
    """Roll a version of the registry out; it is the champion once it is live, and not before.

    Raises
    ------
    PromotionRefused
        Before anybody gets an answer of it, if a gate has stopped it.
    """
    if registry is None:
        return out()
    registry.may_lead(version)
    done = out()
    if done.outcome == "live":
        registry.promote(version)
    return done


def main(arguments: Sequence[str] | None = None) -> int:
    """Name the free colour, roll a version out and promote it, or go back; 1 if it went back."""
    import httpx

    from casebook.cases.deployment_pipeline.registry import Registry

    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("command", choices=["colour", "out", "back"])
    parser.add_argument("--router", required=True, help="address of its plans")
    parser.add_argument("--pods", nargs="+", default=[], help="out: addresses of the new version")
    parser.add_argument("--registry", help="SQLite file")
    parser.add_argument("--version", type=int, help="out: champion if it goes live")
    given = parser.parse_args(arguments)
    registry = Registry(given.registry) if given.registry else None
    if given.command == "colour":
        seen = httpx.get(f"{given.router}/watch", trust_env=False, timeout=10).raise_for_status()
        print(f"colour={free(seen.json()['pods']['stable'])}")
        return 0
    if given.command == "back":
        reply = httpx.post(f"{given.router}/back", json={}, trust_env=False, timeout=10)
        print(reply.text)
        if reply.is_success and registry:
            registry.roll_back()
        return int(not reply.is_success)
    done = released(registry, given.version, lambda: run(given.router, given.pods))
    print(done.rows.groupby("stage", sort=False).last().to_string())
    print(done.outcome, done.why)
    return int(done.outcome != "live")


if __name__ == "__main__":
    sys.exit(main())
