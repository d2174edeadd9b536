"""Attackers: what they plan, what they try, and how they change when they are refused.

Everything that is random is drawn before the first day, by attack and attempt. A policy decides
only which of the numbers are used, so that two policies meet the same attackers.
"""

from __future__ import annotations

import numpy as np

from . import constants as k
from .people import (
    ATTACKER,
    DEVICE,
    LINE_KIND,
    MOBILE,
    NO_DEVICE,
    NOT_SENT,
    OWN,
    REQUEST,
    UNKNOWN,
    Columns,
    People,
    Terminals,
    amounts,
    calendar,
    dispute_delay,
    draw,
    ident,
    lags,
    mobile_pool,
)

#: Uniform numbers of an attempt, and of a reaction.
DRAWS = ("line", "entry", "device", "address", "mobile", "place", "lag", "late", "push", "call")
DRAWS += ("owner", "never", "retry", "hold")
REACTIONS, MOST_REACTIONS = ("quits", "amount", "device", "terminals", "card"), 12
#: Numbers that place an attack until it moves: where, and the terminals it keeps to.
POOL = 3


def clock(busy: np.ndarray, scenario: np.ndarray) -> np.ndarray:
    """Return the days that correspond to a count of days' worth of an attack's hours."""
    begin, long = np.array(k.HOURS_FROM)[scenario - 1], np.array(k.HOURS_LONG)[scenario - 1]
    day = np.floor(busy)
    return day + (begin + (busy - day) * long) / 24


def busy(time: np.ndarray, scenario: np.ndarray) -> np.ndarray:
    """Return the inverse of :func:`clock`; outside the hours the next or last one counts."""
    begin, long = np.array(k.HOURS_FROM)[scenario - 1], np.array(k.HOURS_LONG)[scenario - 1]
    day = np.floor(time)
    return day + np.clip(((time - day) * 24 - begin) / long, 0, 1 - 1e-9)


def intensity(days: int) -> np.ndarray:
    """Return attacks begun a day for each 1,000 customers, shape (scenarios, days)."""
    day, (_, _, holiday) = np.arange(days), calendar(days)
    rate = np.repeat(np.array(k.ATTACKS)[:, None], days, axis=1)
    rate[[k.PHISHED - 1, k.TAKEOVER - 1]] *= np.where(holiday, k.HOLIDAY_ATTACKS, 1.0)
    rate[k.WALLETED - 1] *= ((day - k.WAVE_DAY + 1) / k.WAVE_GROWTH).clip(0, 1)
    return rate


def victim_weight(people: People) -> np.ndarray:
    """Return the weight of each customer as a victim, shape (scenarios, customers)."""
    weight = np.ones((k.N_FRAUD, len(people.town)))
    weight[[k.PHISHED - 1, k.TAKEOVER - 1]] = np.array(k.VICTIM_WEIGHT)[people.segment]
    return weight


class Attacks:
    """All attacks of a world: the plan, drawn once, and the state, which the policy changes.

    Parameters
    ----------
    rng : Generator
    people : People
    terminals : Terminals
    genuine : dict
        The purchases, among which the terminals that skim find their victims.
    days : int
    constants : Constants
    """

    def __init__(
        self,
        rng,
        people: People,
        terminals: Terminals,
        genuine: Columns,
        days: int,
        constants: k.Constants,
    ):
        self.people, self.terminals, self.days = people, terminals, days
        self.constants = constants
        n_customers = len(people.town)
        self.rings = max(2, round(k.RINGS * n_customers / 1000))
        self.by_age = np.argsort(people.joined, kind="stable")
        self.weight = victim_weight(people)
        self.reach = np.cumsum(self.weight[:, self.by_age], axis=1)
        #: Weight of all who are customers on a day, shape (scenarios, days).
        joined = np.searchsorted(people.joined[self.by_age], np.arange(days), side="right")
        self.within = self.reach[:, np.maximum(joined, 1) - 1]
        self.skimming = self._skimmers(rng, genuine)
        plans = [self._arrivals(rng, s) for s in range(1, k.N_FRAUD + 1) if s != k.SKIMMED]
        plans.append(self._skimmed(rng, genuine))
        plan = {c: np.concatenate([p[c] for p in plans]) for c in plans[0]}
        self._arrange(rng, plan)
        self._draw(rng)

    # The plan -----------------------------------------------------------------------------

    def _arrivals(self, rng: np.random.Generator, scenario: int) -> Columns:
        """Return when attacks of a scenario begin, and on whom."""
        rate = intensity(self.days)[scenario - 1] * len(self.people.town) / 1000
        day = np.repeat(np.arange(self.days), rng.poisson(rate))
        which = np.full(len(day), scenario)
        start = clock(day + rng.random(len(day)), which)
        return {"scenario": which, "start": start, "first": self._victims(rng, which, day)}

    def _victims(self, rng, scenario: np.ndarray, day: np.ndarray) -> np.ndarray:
        """Draw customers of a day by their weight in a scenario."""
        aim = rng.random(len(day)) * self.within[scenario - 1, day]
        found = np.empty(len(day), int)
        for one in np.unique(scenario):
            rows = scenario == one
            found[rows] = np.searchsorted(self.reach[one - 1], aim[rows], side="right")
        return self.by_age[np.minimum(found, len(self.by_age) - 1)]

    def _skimmers(self, rng, genuine: Columns) -> Columns:
        """Return the compromised terminals and their windows; busy ones are preferred."""
        n = max(2, rng.poisson(k.SKIMMERS * len(self.people.town) / 1000 * self.days / 100))
        usable = np.flatnonzero(np.isin(genuine["line"], (1, 2, k.CASH)) & ~genuine["retry"])
        home = self.terminals.country[genuine["terminal"][usable]] == 0
        terminal = genuine["terminal"][rng.choice(usable[home], n, replace=False)]
        start = rng.uniform(0, self.days * 0.9, n)
        return {
            "terminal": terminal,
            "start": start,
            "end": start + rng.uniform(*k.SKIMMER_DAYS, n),
        }

    def _skimmed(self, rng, genuine: Columns) -> Columns:
        """Return the attacks that follow from skimming."""
        exposed, days = [], self.days
        for terminal, start, end in zip(*self.skimming.values(), strict=True):
            rows = np.flatnonzero((genuine["terminal"] == terminal) & ~genuine["retry"])
            exposed.append(rows[(genuine["time"][rows] > start) & (genuine["time"][rows] < end)])
        rows = np.sort(np.concatenate(exposed))
        who, day = genuine["customer"][rows], np.floor(genuine["time"][rows]).astype(int)
        abused = rng.random(len(rows)) < k.SKIMMED_SHARE
        start = day[abused] + 1 + rng.exponential(k.SKIMMED_DELAY, abused.sum())
        which = np.full(len(start), k.SKIMMED)
        plan = {"scenario": which, "start": clock(start, which), "first": who[abused].astype(int)}
        return {c: v[start < days] for c, v in plan.items()}

    def _arrange(self, rng, plan: Columns) -> None:
        """Add the latent attacks that follow a test, the attackers and the stock of cards."""
        scenario, start = plan["scenario"], plan["start"]
        n = len(scenario)
        tests = np.flatnonzero(scenario == k.TESTING)
        latent = np.argwhere(rng.random((len(tests), k.CARDS[k.TESTING - 1])) < k.FOLLOW_UP)
        self.parent = np.concatenate([np.full(n, -1), tests[latent[:, 0]], [-1]])
        # The last one never begins: it is the attack of all that is none.
        never = np.full(len(latent) + 1, np.inf)
        scenario = np.concatenate([scenario, np.full(len(never), k.PHISHED)])
        start = np.concatenate([start, never])
        total = len(scenario)
        self.scenario, self.first_start = scenario, start
        self.follow = np.full((total, k.MOST_ATTEMPTS), -1)
        self.follow[tests[latent[:, 0]], latent[:, 1]] = n + np.arange(len(latent))
        self.wait = rng.exponential(k.FOLLOW_UP_DELAY, total)
        day = np.where(np.isinf(start), 0, start).astype(int).clip(0, self.days - 1)
        child = np.arange(n, total - 1)
        day[child] = day[self.parent[child]]
        stock = max(k.CARDS)
        flat = self._victims(rng, np.repeat(scenario, stock), np.repeat(day, stock))
        self.cards = flat.reshape(total, stock)
        self.cards[:n, 0] = plan["first"]
        self.cards[child, 0] = self.cards[self.parent[child], latent[:, 1]]
        ring = np.where(
            rng.random(total) < np.array(k.RING_SHARE)[scenario - 1],
            rng.integers(0, self.rings, total),
            -1,
        )
        ring[child] = ring[self.parent[child]]
        self.ring = ring
        member = ring * k.RING_MEMBERS + rng.integers(0, k.RING_MEMBERS, total)
        lone = self.rings * k.RING_MEMBERS + np.arange(total)
        self.attacker = np.where(ring >= 0, member, lone)
        #: Who owns the machines: the ring, or the attacker alone.
        self.owner = np.where(ring >= 0, ring, lone)
        mean = np.array(k.ATTEMPTS)[scenario - 1]
        n_attempts = np.where(
            scenario == k.TESTING,
            rng.poisson(mean).clip(1, k.CARDS[k.TESTING - 1]),
            rng.geometric(1 / mean),
        )
        self.planned = np.minimum(n_attempts, k.MOST_ATTEMPTS // 2)
        self.planned[scenario == k.TESTING] = n_attempts[scenario == k.TESTING]
        lost = rng.exponential(k.REPORT_DAYS, total)
        self.report = np.where(scenario == k.STOLEN, start + lost, np.inf)

    def _draw(self, rng: np.random.Generator) -> None:
        """Draw all numbers of all attempts and reactions, and set the state to the start."""
        n = len(self.scenario)
        u = rng.random((len(DRAWS), n, k.MOST_ATTEMPTS), dtype=np.float32)
        self.u = dict(zip(DRAWS, u, strict=True))
        self.z_amount = rng.normal(size=(n, k.MOST_ATTEMPTS)).astype(np.float32)
        self.z_delay = rng.normal(size=(n, k.MOST_ATTEMPTS)).astype(np.float32)
        self.gap = rng.exponential(size=(n, k.MOST_ATTEMPTS)).astype(np.float32)
        react = rng.random((len(REACTIONS), n, MOST_REACTIONS), dtype=np.float32)
        self.react = dict(zip(REACTIONS, react, strict=True))
        self.retreat = rng.exponential(k.RETREAT_DAYS, (n, MOST_REACTIONS))
        self.pool = rng.random((n, MOST_REACTIONS + 1, POOL))
        self.next = self.first_start.copy()
        self.made = np.zeros(n, int)
        self.left = self.planned.copy()
        self.scale = np.ones(n)
        self.pace = np.array(k.PER_DAY)[self.scenario - 1]
        self.machines, self.moves, self.card, self.refused = np.zeros((4, n), int)
        #: First attempt.
        self.began = np.full(n, np.inf)
        self.ring_machines = np.zeros(self.rings, int)

    # What they try ------------------------------------------------------------------------

    def holds(self, attack: np.ndarray) -> np.ndarray:
        """Return the customer whose card an attack uses now."""
        stock = np.array(k.CARDS)[self.scenario[attack] - 1]
        return self.cards[attack, np.minimum(self.card[attack], stock - 1)]

    def attempts(self, until: float) -> list[Columns]:
        """Return all attempts before a moment, round by round, and move the state on."""
        made = []
        while len(due := np.flatnonzero(self.next < until)):
            made.append(self._attempt(due))
            s, j = self.scenario[due], self.made[due]
            testing = s == k.TESTING
            self.card[due[testing]] += 1
            self.began[due] = np.minimum(self.began[due], self.next[due])
            self.made[due] += 1
            self.left[due] -= 1
            self.pace[due] = np.array(k.PER_DAY)[s - 1]
            self.next[due] = clock(busy(self.next[due], s) + self.gap[due, j] / self.pace[due], s)
            spent = (self.left[due] <= 0) | (self.made[due] >= k.MOST_ATTEMPTS)
            late = self.next[due] >= self.report[due]
            self.next[due[spent | late]] = np.inf
        return made

    def _attempt(self, due: np.ndarray) -> Columns:
        """Return one attempt of each of these attacks."""
        s, j, time, who = self.scenario[due], self.made[due], self.next[due], self.holds(due)
        u = {name: values[due, j].astype(float) for name, values in self.u.items()}
        line = draw(k.FRAUD_LINES, s - 1, u["line"])
        entry = draw(k.FRAUD_ENTRY.reshape(-1, 6), (s - 1) * 3 + LINE_KIND[line], u["entry"])
        median, sd = content(s, line, self.scale[due])
        terminal = self._terminal(due, who, line, u["place"])
        rows = {
            "time": time,
            "customer": who.astype(np.int32),
            "line": line,
            "amount": amounts(line, median, sd, self.z_amount[due, j]),
            "entry": entry,
            "terminal": terminal,
            "attack": due,
            "attempt": j,
            "request": ident(REQUEST, self.people.seed, due * k.MOST_ATTEMPTS + j, 1),
            "received": time + lags(u["lag"], u["late"], self.terminals.offline[terminal]),
            "hold": u["hold"].astype(np.float32),
            "again": u["retry"] < k.RETRIES,
            "retry": np.zeros(len(due), bool),
        }
        rows |= self._machine(due, s, who, entry, time, u)
        passes = np.array(self.constants.passes)[s - 1]
        unanswered = np.where(u["owner"] < k.OWNER_DENIES, k.DENIED, k.ABANDONED)
        for name, share in (("push", passes), ("call", passes * k.PASSES_CALL)):
            # The same number decides both: who passes a call passes a push too.
            rows[name] = np.where(u["push"] < share, k.CONFIRMED, unanswered).astype(np.int8)
        delay = dispute_delay(self.people.patience[who], self.z_delay[due, j])
        never = np.where(rows["amount"] < k.SMALL_AMOUNT, k.NEVER_SMALL, k.NEVER)
        rows["delay"] = np.where(u["never"] < never, np.nan, delay).astype(np.float32)
        return rows

    def _terminal(self, due, who, line, u) -> np.ndarray:
        """Return the terminals: where the card was lost, abroad, or where a ring works."""
        s, j = self.scenario[due], self.made[due]
        day = np.minimum(self.next[due].astype(int), self.days - 1)
        town, trip = self.people.town[who], self.people.trip[who, day]
        move = np.minimum(self.moves[due], MOST_REACTIONS)
        # Wallets are many phones in many towns; a counterfeit card is in one place.
        u = np.where(s == k.WALLETED, u, self.pool[due, move, 0])
        here = np.where(trip >= 0, trip, town)
        other = (town + 1 + (u * 2 * (k.TOWNS - 1)).astype(int) % (k.TOWNS - 1)) % k.TOWNS
        abroad = k.TOWNS + (u * 2 * len(k.ABROAD)).astype(int) % len(k.ABROAD)
        far = np.where(u < 0.5, abroad, other)
        anywhere = (u * k.TOWNS).astype(int)
        place = np.select([s == k.STOLEN, s == k.SKIMMED, s == k.WALLETED], [here, far, anywhere])
        return self.terminals.choose(place, line, self.pool[due, move, 1 + j % (POOL - 1)])

    def _machine(self, due, s, who, entry, time, u) -> Columns:
        """Return device and address: of the ring or the attacker, seldom the victim's own."""
        n, seed, ring = len(due), self.people.seed, self.ring[due]
        used = (entry == k.WALLET) | (entry == k.TYPED) | (entry == k.STORED)
        kind = draw(k.FRAUD_DEVICE, s - 1, u["device"])
        status = np.where(used, np.choose(kind, [OWN, UNKNOWN, NOT_SENT]), NO_DEVICE)
        learnt = np.where(ring >= 0, self.ring_machines[ring.clip(0)], 0)
        slot = np.where(ring >= 0, due % k.RING_DEVICES, 0)
        theirs = ident(DEVICE, seed, self.owner[due] + 10**6, slot, self.machines[due], learnt)
        own = self.people.device(who, np.zeros(n, int), time)
        device = np.where(status == UNKNOWN, theirs, np.where(status == OWN, own, -1))
        pool = mobile_pool(len(self.people.town) / 1000)
        mobile = ident(MOBILE, seed, (u["address"] * pool).astype(int))
        slot = np.where(ring >= 0, (u["address"] * k.RING_ADDRESSES).astype(int), 0)
        theirs = ident(ATTACKER, seed, self.owner[due], slot, learnt)
        ip = np.where(u["mobile"] < k.FRAUD_MOBILE, mobile, theirs)
        ip = np.where(used & (entry != k.WALLET), ip, -1)
        return {"device": device, "ip": ip, "status": status.astype(np.int8)}

    # How they react -----------------------------------------------------------------------

    def learn(self, rows: Columns, now: float) -> None:
        """Change the state after a batch: ``rows`` are its attempts with their outcomes."""
        through = rows["outcome"] <= k.CONFIRMED
        self._follow_up(rows, through, now)
        hit = np.unique(rows["attack"][~through])
        if not len(hit):
            return
        ring = self.ring[rows["attack"][~through]]
        refusals = np.bincount(ring[ring >= 0], minlength=self.rings)
        self.ring_machines += refusals >= k.RING_LEARNS
        missed = np.bincount(rows["attack"][~through], minlength=len(self.left))[hit]
        r, s = self.refused[hit], self.scenario[hit]
        step = np.minimum(r, MOST_REACTIONS - 1)
        says = {name: values[hit, step] for name, values in self.react.items()}
        self.refused[hit] += 1
        quits = (says["quits"] < self.constants.quits) | (r >= MOST_REACTIONS)
        quits |= self.made[hit] >= k.MOST_ATTEMPTS
        self.scale[hit] *= np.where(says["amount"] < k.SWITCHES["amount"], k.SMALLER, 1.0)
        self.machines[hit] += says["device"] < k.SWITCHES["device"]
        self.moves[hit] += says["terminals"] < k.SWITCHES["terminals"]
        another = (says["card"] < k.SWITCHES["card"]) & (s != k.TESTING)
        self.card[hit] = np.minimum(
            self.card[hit] + another, np.array(k.CARDS)[s - 1] - (s != k.TESTING)
        )
        self.left[hit] += missed
        later = clock(busy(np.full(len(hit), now), s) + self.retreat[hit, step], s)
        self.pace[hit] = 1 / k.RETREAT_DAYS
        ends = quits | (later >= self.report[hit])
        self.next[hit] = np.where(ends, np.inf, later)

    def _follow_up(self, rows: Columns, through: np.ndarray, now: float) -> None:
        """Start the attacks on cards whose test went through."""
        passed = through & (self.scenario[rows["attack"]] == k.TESTING)
        attack, attempt = rows["attack"][passed], rows["attempt"][passed]
        child = self.follow[attack, attempt]
        child = child[child >= 0]
        start = now + self.wait[child]
        self.next[child] = np.where(start < self.days, start, np.inf)

    def cancel(self, customers: np.ndarray, now: float) -> None:
        """Take cancelled cards from the attacks that use them: another card, or the end."""
        running = np.flatnonzero(np.isfinite(self.next) & np.isfinite(self.began))
        lost = running[np.isin(self.holds(running), customers)]
        lost = lost[self.scenario[lost] != k.TESTING]
        self.card[lost] += 1
        none = self.card[lost] >= np.array(k.CARDS)[self.scenario[lost] - 1]
        self.next[lost[none]] = np.inf


def content(scenario: np.ndarray, line: np.ndarray, scale: np.ndarray | float):
    """Return log median and log sd of the amounts of fraud."""
    shift, sd = np.array(k.AMOUNT_SHIFT)[scenario - 1], np.array(k.AMOUNT_SD)[scenario - 1]
    median = np.where(scenario == k.TESTING, np.log(k.TEST_AMOUNT), k.LINE_LOG_MEDIAN[line] + shift)
    return median + np.log(scale), sd
