"""The conditional quantiles that no model can beat: the mechanisms, played on from the true state.

The oracle knows every constant of the world, where each parcel truly is and since when, and the
queues of this morning. It does not know what the queues, the storm or the parcel will do next. A
storm that has not begun is not foreseen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from casebook.cases.delivery_eta.stages import (
    ATTEMPTED,
    MOST_ATTEMPTS,
    OUT,
    day_of,
    hours,
    onward,
    storm_goes_on,
    tomorrow,
)
from casebook.cases.delivery_eta.world import World

LEVELS = (0.1, 0.5, 0.9)
#: So many days ahead the queues are played on; later they stay as they are.
HORIZON = 12
#: Rows that are played on together.
CHUNK = 1500


@dataclass(frozen=True)
class Futures:
    """Queues as they may become: one path for each entry, the past before today.

    By entry ``today``, its row ``bank`` in ``backlog`` and which ``path``; ``backlog`` has the
    shape (days, draws, HORIZON + 1, hubs), played on from each day's morning, ``blows`` the same of
    days.
    """

    world: World
    today: np.ndarray
    bank: np.ndarray
    path: np.ndarray
    backlog: np.ndarray
    blows: np.ndarray

    def _ahead(self, at: np.ndarray) -> np.ndarray:
        return day_of(at) - self.today

    def wait(self, hub: np.ndarray, at: np.ndarray) -> np.ndarray:
        """Return the hours that a hub's queue lasts at some times."""
        past, ahead = self.world.past, self._ahead(at)
        k = np.clip(ahead, 0, HORIZON)
        backlog = self.backlog[self.bank, self.path, k, hub]
        return np.where(ahead < 0, past.wait(hub, at), 24 * backlog * past.network.utilisation[hub])

    def storm(self, at: np.ndarray) -> np.ndarray:
        """Return whether the storm blows at some times."""
        ahead = self._ahead(at)
        blows = self.blows[self.bank, self.path, np.clip(ahead, 0, HORIZON)]
        return np.where(ahead < 0, self.world.past.storm(at), blows)


def _bank(
    world: World, days: np.ndarray, draws: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Play the queues on from the morning of some days."""
    past = world.past
    hubs = len(past.network.hubs)
    backlog = np.zeros((len(days), draws, HORIZON + 1, hubs))
    blows = np.zeros((len(days), draws, HORIZON + 1), bool)
    for i, day in enumerate(days):
        left = np.broadcast_to(past.backlog[day], (draws, hubs))
        shock = np.broadcast_to(past.shock[day], (draws, hubs))
        blown = np.full(draws, past.blows[: day + 1].sum() if past.blows[day] else 0)
        for k in range(HORIZON + 1):
            backlog[i, :, k], blows[i, :, k] = left, blown > 0
            noise = rng.standard_normal((draws, hubs))
            left, shock = tomorrow(
                left, shock, blown > 0, day + k, noise, past.network, world.constants
            )
            blown = np.where(storm_goes_on(rng, blown), blown + 1, 0)
    return backlog, blows


def true_state(world: World, rows: pd.DataFrame) -> pd.DataFrame:
    """Return where parcels truly were when something became known of them.

    Returns ``row`` (of the parcel), ``step``, ``entered``, ``now`` (hours), ``attempts`` (failed
    before), ``delivered`` (hours).
    """
    row, now = rows["parcel"].to_numpy() - 1, hours(rows["known_at"])
    times = world.times
    events = [*times.stages.T]
    steps = [0, 1, 2, 3]
    for attempt in range(MOST_ATTEMPTS):
        events += [times.out[:, attempt], times.rung[:, attempt]]
        steps += [OUT, ATTEMPTED]
    at = np.stack(events, axis=1)[row]
    # Events of a parcel are in order; those that never happen are NaN and count as later.
    last = np.maximum((at <= now[:, None]).sum(axis=1) - 1, 0)
    frame = pd.DataFrame(
        {
            "row": row,
            "step": np.array(steps)[last],
            "entered": at[np.arange(len(row)), last],
            "now": now,
            "attempts": np.maximum(last - 3, 0) // 2,
            "delivered": times.delivered[row],
        },
        index=rows.index,
    )
    return frame


def oracle_samples(world: World, rows: pd.DataFrame, draws: int = 200, seed: int = 0) -> np.ndarray:
    """Draw remaining hours given the true state, shape (rows, draws); 0 for the delivered."""
    rng = np.random.default_rng(seed)
    state = true_state(world, rows).reset_index(drop=True)
    days, place = np.unique(day_of(state["now"].to_numpy()), return_inverse=True)
    backlog, blows = _bank(world, days, draws, rng)
    result = np.zeros((len(state), draws))
    moving = state[state["delivered"] > state["now"]]
    for step, group in moving.groupby("step"):
        for begin in range(0, len(group), CHUNK):
            part = group.iloc[begin : begin + CHUNK]
            many = np.repeat(part.index.to_numpy(), draws)
            path = np.tile(np.arange(draws), len(part))
            futures = Futures(world, days[place][many], place[many], path, backlog, blows)
            now = state["now"].to_numpy()[many]
            times = onward(
                rng,
                world.trips.take(state["row"].to_numpy()[many]),
                int(step),
                state["entered"].to_numpy()[many],
                now,
                state["attempts"].to_numpy()[many],
                futures,
                world.past.network,
                world.constants,
            )
            result[part.index] = (times.delivered - now).reshape(len(part), draws)
    return result


def oracle_quantiles(
    world: World,
    rows: pd.DataFrame,
    levels: Sequence[float] = LEVELS,
    draws: int = 200,
    seed: int = 0,
) -> pd.DataFrame:
    """Return the true conditional quantiles of the remaining hours: ``p10``, ``p50``, …"""
    if not all(0 < level < 1 for level in levels):
        raise ValueError(f"levels are {tuple(levels)}: quantiles lie between 0 and 1.")
    samples = oracle_samples(world, rows, draws, seed)
    values = np.quantile(samples, levels, axis=1).T
    return pd.DataFrame(values, rows.index, [f"p{100 * level:.0f}" for level in levels])
