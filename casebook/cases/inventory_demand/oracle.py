"""The conditional quantiles that no model can beat: the world's mechanisms, played on.

The oracle knows every constant of the world, its levels, the shocks of this evening and what is
forecast of the weather. It does not know what shocks, weather and customers will do next, and it
does not foresee the swan.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from casebook.cases.inventory_demand.demand import SWAN, World, per_cell, weather_effect
from casebook.cases.inventory_demand.play import Seen, Window
from casebook.cases.inventory_demand.policies import order
from casebook.worlds.shocks import onward

DRAWS = 300


def expected_mean(world: World) -> np.ndarray:
    """Return the expectation without shocks and weather, as it looks before the swan comes."""
    mean = world.mean.copy()
    mean[SWAN.start : SWAN.stop] /= per_cell(world.plan, "panic")
    return mean


def samples(
    world: World, day: int, window: Window, cells: np.ndarray, draws: int, delay: int = 0
) -> np.ndarray:
    """Return draws of what cells will want in a window, shape (draws, len(cells)).

    ``delay``: the shocks are known as they were so many days ago.
    """
    plan, c, last = world.plan, world.constants, window.last
    rng = np.random.default_rng([world.seed, day, window.first])
    kinds = (("store", plan.store[cells]), ("product", plan.product[cells]), ("cell", cells))
    log: np.ndarray | float = 0.0
    for name, of in kinds:
        rho, sd = getattr(c, f"{name}_rho"), getattr(c, f"{name}_sd")
        of, which = np.unique(of, return_inverse=True)
        # What is left of a shock after the delay, and the scatter that has come since.
        old, left = world.shocks[name][day - delay, of], rho**delay
        now = left * old + sd * np.sqrt(1 - left**2) * rng.standard_normal((draws, len(of)))
        log = log + onward(rng, now, rho, sd, last, draws)[..., which]
    sky, days = plan.weather, day + np.arange(1, last + 1)
    noise = onward(rng, sky.noise[day], 0.5, 1.5, last, draws)
    rain = rng.random(noise.shape) < sky.chance[days]
    log = log[:, window.first - 1 :]
    seen = weather_effect(plan, sky.pattern[days] + noise, rain, c)[..., cells]
    mean = expected_mean(world)[day + window.ahead][:, cells]
    expected = mean * np.exp(log + seen[:, window.first - 1 :])
    factor = rng.gamma(c.dispersion, 1 / c.dispersion, expected.shape)
    return rng.poisson(expected * factor).sum(axis=1)


class Oracle:
    """Orders the true conditional quantile of what a window will want.

    Parameters
    ----------
    world : World
    levels : mapping of int to float
        Level by life.
    draws : int
        Of the window.
    delay : int
        Days for which it does not know the shocks.
    """

    def __init__(
        self, world: World, levels: Mapping[int, float], draws: int = DRAWS, delay: int = 0
    ) -> None:
        self.world, self.levels, self.draws, self.delay = world, dict(levels), draws, delay

    def target(self, seen: Seen, window: Window) -> np.ndarray:
        """Return the quantile of each cell, shape (cells,)."""
        plan = self.world.plan
        cells = np.flatnonzero(plan.fresh == (window.last == 1))
        drawn = samples(self.world, seen.now, window, cells, self.draws, self.delay)
        result = np.zeros(len(plan.product))
        for life, level in self.levels.items():
            own = plan.life[cells] == life
            if own.any():
                at = np.quantile(drawn[:, own], level, axis=0, method="inverted_cdf")
                result[cells[own]] = at
        return result

    def before(self, seen: Seen, window: Window) -> np.ndarray | float:
        """Return the mean of what will be sold before a window begins."""
        if window.first == 1:
            return 0.0
        cells = np.arange(len(self.world.plan.product))
        draws = max(self.draws // 4, 1)
        lead = Window(1, window.first - 1)
        return samples(self.world, seen.now, lead, cells, draws, self.delay).mean(axis=0)

    def __call__(self, seen: Seen, window: Window) -> np.ndarray:
        """Order up to the quantile, less what will be left."""
        return order(self.target(seen, window), self.before(seen, window), seen, window)
