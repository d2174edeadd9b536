"""Oracles: the world's mechanisms, played on by somebody who knows its constants and levels.

They are references and no bounds. For goods that live one cycle each orders the quantile that its
knowledge gives; the levels of longer-lived goods were chosen for the oracle that knows this
evening's shocks. None knows what shocks, weather and customers will do next, or foresees the swan.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from casebook.cases.inventory_demand.demand import SWAN, World, per_cell, weather_effect
from casebook.cases.inventory_demand.play import Seen, Window
from casebook.cases.inventory_demand.policies import order
from casebook.worlds.shocks import Filter, onward

DRAWS = 300
KINDS = ("store", "product", "cell")


def expected_mean(world: World) -> np.ndarray:
    """Return the expectation without shocks and weather, as it looks before the swan comes."""
    mean = world.mean.copy()
    mean[SWAN.start : SWAN.stop] /= per_cell(world.plan, "panic")
    return mean


class Shocks:
    """What is known of the shocks of an evening: all, or all but the last days'."""

    def __init__(self, world: World, delay: int = 0) -> None:
        self.world, self.delay = world, delay

    def draw(self, rng: np.random.Generator, day: int, draws: int) -> list[np.ndarray]:
        """Return shocks of an evening by kind, shape (draws, size)."""
        made, c = [], self.world.constants
        for name in KINDS:
            path, left = self.world.shocks[name], getattr(c, f"{name}_rho") ** self.delay
            # What is left of a shock after the delay, and the scatter that has come since.
            scatter = getattr(c, f"{name}_sd") * np.sqrt(1 - left**2)
            luck = rng.standard_normal((draws, path.shape[1]))
            made.append(left * path[day - self.delay] + scatter * luck)
        return made


class Learnt(Shocks):
    """What past demand and the weather tell of the shocks; that of empty shelves, too."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        plan, c = world.plan, world.constants
        of = plan.store, plan.product, np.arange(len(plan.product))
        rho, sd = ([getattr(c, f"{name}_{what}") for name in KINDS] for what in ("rho", "sd"))
        self.known, self.now = Filter(of, rho, sd, c.dispersion), -1
        sky = plan.weather
        seen = weather_effect(plan, sky.pattern + sky.noise, sky.rain, c)
        self._base = expected_mean(world) * np.exp(seen)

    def draw(self, rng: np.random.Generator, day: int, draws: int) -> list[np.ndarray]:
        """Return shocks of an evening by kind, shape (draws, size); evenings come in order."""
        if day < self.now:
            raise ValueError(f"the filter has learnt day {self.now}, after day {day}: start anew.")
        for k in range(self.now + 1, day + 1):
            self.known.learn(self._base[k], self.world.demand[k])
        self.now = day
        return self.known.draw(rng, draws)


def samples(shocks: Shocks, day: int, window: Window, cells: np.ndarray, draws: int) -> np.ndarray:
    """Return draws of what cells will want in a window, shape (draws, len(cells))."""
    world, last = shocks.world, window.last
    plan, c = world.plan, world.constants
    rng = np.random.default_rng([world.seed, day, window.first])
    log: np.ndarray | float = 0.0
    all_of = {"store": plan.store[cells], "product": plan.product[cells], "cell": cells}
    for name, now in zip(KINDS, shocks.draw(rng, day, draws), strict=True):
        of, which = np.unique(all_of[name], return_inverse=True)
        rho, sd = getattr(c, f"{name}_rho"), getattr(c, f"{name}_sd")
        log = log + onward(rng, now[:, of], rho, sd, last, draws)[..., which]
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
    """Orders the conditional quantile of what a window will want.

    Parameters
    ----------
    shocks : Shocks
        What it knows of them.
    levels : mapping of int to float
        Level by life.
    draws : int
        Of the window.
    """

    def __init__(self, shocks: Shocks, levels: Mapping[int, float], draws: int = DRAWS) -> None:
        self.shocks, self.levels, self.draws = shocks, dict(levels), draws

    def target(self, seen: Seen, window: Window) -> np.ndarray:
        """Return the quantile of each cell, shape (cells,)."""
        plan = seen.plan
        cells = np.flatnonzero(plan.fresh == (window.last == 1))
        drawn = samples(self.shocks, seen.now, window, cells, self.draws)
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
        cells = np.arange(len(seen.plan.product))
        lead, draws = Window(1, window.first - 1), max(self.draws // 4, 1)
        return samples(self.shocks, seen.now, lead, cells, draws).mean(axis=0)

    def __call__(self, seen: Seen, window: Window) -> np.ndarray:
        """Order up to the quantile, less what will be left."""
        return order(self.target(seen, window), self.before(seen, window), seen, window)
