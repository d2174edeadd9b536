"""Guardrails as tests of non-inferiority: is harm beyond a margin excluded?

Examples
--------
>>> from casebook.evaluate.experiments import effect_of
>>> found = guard("load", effect_of(100.0, 0.5, 102.0, 0.5), "down", margin=0.03)
>>> found.state, round(found.worst, 3)
('unclear', 0.032)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from casebook.evaluate.experiments import Effect

#: One-sided level of a guardrail's test.
GUARD_ALPHA = 0.05


@dataclass(frozen=True)
class Guard:
    """What a guardrail's test says.

    Attributes
    ----------
    name : str
    harm : float
        Relative change for the worse.
    worst : float
        Upper end of the one-sided interval of the harm.
    margin : float
        Tolerated harm.
    state : str
        ``safe`` (the worst is within the margin), ``harmed`` (even the best is beyond it) or
        ``unclear``.
    needed : float
        Times the users that a test needs to show it safe with power .80 if the true harm is the
        one that was measured; infinite where that is beyond the margin.
    """

    name: str
    harm: float
    worst: float
    margin: float
    state: str
    needed: float


def guard(
    name: str, effect: Effect, better: str, margin: float, errors: float | None = None
) -> Guard:
    """Test that a guardrail is not worse than its margin allows.

    Parameters
    ----------
    name : str
    effect : Effect
    better : str
        ``up`` or ``down``.
    margin : float
        Relative harm that is just tolerated.
    errors : float, optional
        Standard errors to the end of the interval: more than a single look's 1.64 where a
        stopping rule looks several times.
    """
    from scipy.stats import norm

    harm = -effect.relative if better == "up" else effect.relative
    z, se = norm.isf(GUARD_ALPHA) if errors is None else errors, effect.relative_se
    low, high = harm - z * se, harm + z * se
    state = "safe" if high < margin else "harmed" if low > margin else "unclear"
    room = margin - harm
    needed = ((z + norm.ppf(0.8)) * se / room) ** 2 if room > 0 else np.inf
    return Guard(name, harm, float(high), margin, state, float(needed))
