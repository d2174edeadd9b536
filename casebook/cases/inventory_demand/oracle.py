"""The conditional quantiles that no model can beat: the world's mechanisms, played on.

The oracle knows every constant of the world, its levels, the shocks of this evening and what is
forecast of the weather. It does not know what shocks, weather and customers will do next, and it
does not foresee the swan.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from casebook.cases.inventory_demand.play import Seen, Window
from casebook.cases.inventory_demand.world import SWAN, World, per_cell, weather_effect

DRAWS = 300


def _onward(rng, now: np.ndarray, rho: float, sd: float, days: int, draws: int) -> np.ndarray:
    """Return paths of autoregressive shocks from today on, shape (draws, days, n)."""
    path, x = np.empty((draws, days, len(now))), np.broadcast_to(now, (draws, len(now)))
    step = sd * np.sqrt(1 - rho**2)
    for day in range(days):
        x = rho * x + step * rng.standard_normal(x.shape)
        path[:, day] = x
    return path


def expected_mean(world: World) -> np.ndarray:
    """Return the expectation without shocks and weather, as it looks before the swan comes."""
    mean = world.mean
    if not mean[SWAN.start : SWAN.stop].any():
        return mean
    mean = mean.copy()
    mean[SWAN.start : SWAN.stop] /= per_cell(world.plan, "panic")
    return mean


def samples(world: World, day: int, window: Window, cells: np.ndarray, draws: int) -> np.ndarray:
    """Return draws of what cells will want in a window, shape (draws, len(cells))."""
    plan, c, last = world.plan, world.constants, window.last
    rng = np.random.default_rng([world.seed, day, window.first])
    s, own = world.shocks, slice(None)
    log = _onward(rng, s["store"][day], c.store_rho, c.store_sd, last, draws)[..., plan.store[cells]]
    log = log + _onward(rng, s["product"][day], c.product_rho, c.product_sd, last, draws)[
        ..., plan.product[cells]
    ]
    log = log + _onward(rng, s["cell"][day, cells], c.cell_rho, c.cell_sd, last, draws)
    sky, days = plan.weather, day + np.arange(1, last + 1)
    noise = _onward(rng, sky.noise[day], 0.5, 1.5, last, draws)
    rain = rng.random(noise.shape) < sky.chance[days]
    log = log[:, window.first - 1 :]
    seen = weather_effect(plan, sky.pattern[days] + noise, rain, c)[..., cells]
    mean = expected_mean(world)[day + window.ahead][:, cells]
    expected = mean * np.exp(log + seen[:, window.first - 1 :])
    factor = rng.gamma(c.dispersion, 1 / c.dispersion, expected.shape)
    return rng.poisson(expected * factor)[:, own].sum(axis=1)


class Oracle:
    """Orders the true conditional quantile of what a window will want.

    Parameters
    ----------
    world : World
    levels : mapping of int to float
        Level by life.
    draws : int
        Of the window.
    """

    def __init__(self, world: World, levels, draws: int = DRAWS) -> None:
        self.world, self.levels, self.draws = world, dict(levels), draws

    def quantiles(self, day: int, window: Window, levels: Sequence[float] | None = None):
        """Return units for each cell, shape (cells,), or for each of some levels."""
        plan = self.world.plan
        fresh = window.last == 1
        cells = np.flatnonzero(plan.fresh == fresh)
        drawn = samples(self.world, day, window, cells, self.draws)
        if levels is not None:
            result = np.zeros((len(levels), len(plan.product)))
            result[:, cells] = np.quantile(drawn, levels, axis=0, method="inverted_cdf")
            return result
        result = np.zeros(len(plan.product))
        for life, level in self.levels.items():
            own = plan.life[cells] == life
            if own.any():
                at = np.quantile(drawn[:, own], level, axis=0, method="inverted_cdf")
                result[cells[own]] = at
        return result

    def mean(self, day: int, window: Window) -> np.ndarray:
        """Return the mean of what each cell will want, shape (cells,)."""
        cells = np.arange(len(self.world.plan.product))
        return samples(self.world, day, window, cells, max(self.draws // 4, 1)).mean(axis=0)

    def __call__(self, seen: Seen, window: Window) -> np.ndarray:
        """Order up to the quantile, less what will be left."""
        from casebook.cases.inventory_demand.policies import order

        before = 0.0
        if window.first > 1:
            before = self.mean(seen.now, Window(1, window.first - 1))
        return order(self.quantiles(seen.now, window), before, seen, window)
