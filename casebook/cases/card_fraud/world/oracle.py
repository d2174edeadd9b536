"""The probability of fraud under the generating process, given the whole past.

At a moment, purchases of a customer and attempts on the card are counting processes whose
intensities are known to the process: the customer's mean for the day, the hazard that an attack
begins, the pace of an attack that runs. The mark of a transaction (hour, line, amount, entry
mode, state of the device, place) has a density under each. The probability that the transaction
is fraud is the share of the attacks' intensity, mark included, in the sum of both.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from . import constants as k
from .attacks import Attacks, content, intensity
from .people import (
    AT_DESTINATION,
    AT_HOME,
    FAVOURITE,
    LINE_KIND,
    OTHER_COUNTRY,
    OTHER_TOWN,
    Columns,
    People,
    calendar,
)

IN_PERSON = (k.STOLEN, k.SKIMMED, k.WALLETED)
ONLINE = (k.PHISHED, k.TAKEOVER, k.TESTING)


def _bell(log_amount: np.ndarray, median: np.ndarray, sd: np.ndarray) -> np.ndarray:
    """Return the lognormal density but for the factors that genuine and fraud share."""
    return np.exp(-0.5 * ((log_amount - median) / sd) ** 2) / sd


def genuine_density(people: People, rows: Columns) -> np.ndarray:
    """Return purchases a day with this mark, shape (rows,)."""
    who, line, entry = rows["customer"], rows["line"], rows["entry"]
    day = rows["time"].astype(int)
    hour = ((rows["time"] - day) * 24).astype(int).clip(0, 23)
    holiday = calendar(people.mean.shape[1])[2][day].astype(int)
    density = people.mean[who, day] * 24 * k.HOURS[people.profile[who], hour]
    density *= people.mix[holiday, who, line]
    median = k.LINE_LOG_MEDIAN[line] + people.level[who]
    density *= _bell(np.log(np.abs(rows["amount"])), median, k.LINE_SD[line])
    density *= k.ENTRY_SHARE[people.wallet[who].astype(int), LINE_KIND[line], entry]
    online = k.LINE_CHANNEL[line] == 1
    states = np.array([(1 - k.WALLET_OTHER, k.WALLET_OTHER, 0, 1), (*k.DEVICE_SHARE, 1)])
    density *= states[online.astype(int), rows["status"]]
    chance = people.known_share[who, line]
    random = np.where(online, 1.0, 1 - k.ELSEWHERE)
    loyal = k.LOYALTY + (1 - k.LOYALTY) * random * chance
    at_home = (1 - k.LOYALTY) * (1 - k.ELSEWHERE) * (1 - chance)
    other = np.where(online, (1 - k.LOYALTY) * (1 - chance), (1 - k.LOYALTY) * k.ELSEWHERE)
    zero = np.zeros(len(who))
    usual = np.choose(rows["where"], [loyal, at_home, zero, other, zero])
    away = (people.trip[who, day] >= 0) & ~online
    return density * np.where(away, rows["where"] == AT_DESTINATION, usual)


def fraud_density(
    people: People, rows: Columns, scenario: np.ndarray, scale: np.ndarray | float = 1.0
) -> np.ndarray:
    """Return the density of the mark under a scenario, for each row its own."""
    who, line, s = rows["customer"], rows["line"], scenario - 1
    day = rows["time"].astype(int)
    hour = (rows["time"] - day) * 24
    begin, long = np.array(k.HOURS_FROM)[s], np.array(k.HOURS_LONG)[s]
    density = np.where((hour >= begin) & (hour < begin + long), 24 / long, 0.0)
    density *= k.FRAUD_LINES[s, line] / k.FRAUD_LINES[s].sum(axis=1)
    density *= _bell(np.log(np.abs(rows["amount"])), *content(scenario, line, scale))
    density *= k.FRAUD_ENTRY[s, LINE_KIND[line], rows["entry"]]
    device = np.concatenate([k.FRAUD_DEVICE, np.ones((k.N_FRAUD, 1))], axis=1)
    density *= device[s, rows["status"]]
    density *= _place_density(people, rows, scenario, people.trip[who, day])
    return np.where(rows["amount"] > 0, density, 0.0)


def _place_density(people: People, rows: Columns, scenario, trip) -> np.ndarray:
    """Return the probability of the kind of place under a scenario."""
    where, chance = rows["where"], people.known_share[rows["customer"], rows["line"]]
    zero, away, abroad = np.zeros(len(where)), trip >= 0, trip >= k.TOWNS
    online = np.choose(where, [chance, zero, zero, 1 - chance, zero])
    stolen = np.choose(where, [chance, 1 - chance, zero, zero, zero])
    stolen = np.where(away, where == AT_DESTINATION, stolen)
    town, country = 0.5 / (k.TOWNS - 1), 0.5 / len(k.ABROAD)
    there = np.where(away, np.where(abroad, country, town), 0)
    far = np.select(
        [where == AT_DESTINATION, where == OTHER_COUNTRY, where == OTHER_TOWN],
        [there, 0.5 - abroad * country, 0.5 - (away & ~abroad) * town],
    )
    one = 1 / k.TOWNS
    any_town = np.select(
        [where == FAVOURITE, where == AT_HOME, where == AT_DESTINATION, where == OTHER_TOWN],
        [
            chance * one,
            (1 - chance) * one,
            (away & ~abroad) * one,
            1 - one - (away & ~abroad) * one,
        ],
    )
    return np.select(
        [scenario == k.STOLEN, scenario == k.SKIMMED, scenario == k.WALLETED],
        [stolen, far, any_town],
        online,
    )


def _tested(attacks: Attacks, rows: Columns) -> np.ndarray:
    """Return the hazard that a card is abused because a test of it went through."""
    attack, attempt = np.nonzero(np.isfinite(attacks.passed))
    card, passed = attacks.cards[attack, attempt], attacks.passed[attack, attempt]
    child = attacks.follow[attack, attempt]
    until = np.where(child >= 0, passed + attacks.wait[child], np.inf)
    left = {"customer": card, "test": passed, "until": until}
    at = np.flatnonzero(np.isin(rows["customer"], card))
    right = {"customer": rows["customer"][at], "row": at, "time": rows["time"][at]}
    pairs = pd.DataFrame(left).merge(pd.DataFrame(right), on="customer")
    age = pairs["time"] - pairs["test"]
    hazard = k.FOLLOW_UP / k.FOLLOW_UP_DELAY * np.exp(-age / k.FOLLOW_UP_DELAY)
    hazard = hazard.where((age > 0) & (pairs["time"] <= pairs["until"]), 0.0)
    return np.bincount(pairs["row"], weights=hazard, minlength=len(rows["time"]))


def onset_density(people: People, attacks: Attacks, rows: Columns) -> np.ndarray:
    """Return attacks a day that begin on the customer with this mark, over all scenarios."""
    rate = intensity(attacks.days) * len(people.town) / 1000 / attacks.within
    total, tested = np.zeros(len(rows["time"])), _tested(attacks, rows)
    for channel, scenarios in enumerate((IN_PERSON, ONLINE)):
        at = np.flatnonzero(k.LINE_CHANNEL[rows["line"]] == channel)
        part = {c: rows[c][at] for c in ("time", "customer", "line", "amount", "entry")}
        part |= {c: rows[c][at] for c in ("status", "where")}
        who, day = part["customer"], part["time"].astype(int)
        for s in scenarios:
            hazard = rate[s - 1, day] * attacks.weight[s - 1, who]
            if s == k.SKIMMED:
                hazard = attacks.hazard_skimmed[who, day].astype(float)
            if s == k.PHISHED:
                hazard = hazard + tested[at]
            if s == k.TESTING:
                hazard = hazard * k.ATTEMPTS[s - 1]
            some = np.flatnonzero(hazard > 0)
            few = {c: v[some] for c, v in part.items()}
            density = fraud_density(people, few, np.full(len(some), s))
            total[at[some]] += hazard[some] * density
    return total
