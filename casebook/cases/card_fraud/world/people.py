"""Customers, terminals and what customers mean to buy: the part that no policy changes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from . import constants as k

#: Device of a purchase: own, not known before, not sent, or a purchase without any.
OWN, UNKNOWN, NOT_SENT, NO_DEVICE = range(4)
N_PLACES, N_IN_PERSON = k.TOWNS + len(k.ABROAD), int((k.LINE_CHANNEL == 0).sum())
#: Kinds of purchase for the entry mode: in person, cash, online.
LINE_KIND = np.where(k.LINE_CHANNEL == 1, 2, 0)
LINE_KIND[k.CASH] = 1

Columns = dict[str, np.ndarray]


def ident(kind: int, seed: int, *numbers: np.ndarray | int) -> np.ndarray:
    """Return identifiers of 53 bits that say nothing about what they were made from.

    The mixing step is that of SplitMix64 (Steele, Lea and Flood, 2014,
    https://doi.org/10.1145/2660193.2660195).
    """
    with np.errstate(over="ignore"):
        state = np.uint64(kind * 1_000_003 + seed)
        for number in numbers:
            state = state * np.uint64(0x100000001B3) + np.asarray(number).astype(np.uint64)
            state = state + np.uint64(0x9E3779B97F4A7C15)
            state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            state = state ^ (state >> np.uint64(31))
    return (state >> np.uint64(11)).astype(np.int64)


#: Kinds of identifier.
REQUEST, CARD, DEVICE, SHARED, PUBLIC, ONCE, WATCH, HOME, MOBILE, PLACE, ATTACKER = range(11)


def draw(shares: np.ndarray, row: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Draw a column for each row number from a table of shares, shape (rows, columns).

    A row of zeros is one that cannot be drawn from.
    """
    edges = np.cumsum(shares, axis=1)
    edges /= np.maximum(edges[:, -1:], 1e-12)
    flat = (np.arange(len(edges))[:, None] + edges).ravel()
    found = np.searchsorted(flat, row + u, side="right") - row * edges.shape[1]
    return np.minimum(found, edges.shape[1] - 1).astype(np.int8)


@dataclass
class Terminals:
    """Terminals, sorted by place and line, so that a group is a slice."""

    line: np.ndarray
    country: np.ndarray
    x: np.ndarray
    y: np.ndarray
    offline: np.ndarray
    skew: np.ndarray  # hours
    start: np.ndarray  # of each group: place × line in person, then each online line
    size: np.ndarray

    def group(self, place: np.ndarray, line: np.ndarray) -> np.ndarray:
        """Return the group of a line at a place; online merchants are everywhere."""
        in_person = place.astype(np.int64) * N_IN_PERSON + line
        online = N_PLACES * N_IN_PERSON + line.astype(np.int64) - N_IN_PERSON
        return np.where(k.LINE_CHANNEL[line] == 1, online, in_person)

    def choose(self, place: np.ndarray, line: np.ndarray, u: np.ndarray) -> np.ndarray:
        """Choose a terminal: evenly in person, by popularity online."""
        group = self.group(place, line)
        # The inverse of a continuous power law stands in for the ranks' own.
        power = np.where(k.LINE_CHANNEL[line] == 1, 1 / (1 - k.POPULARITY), 1.0)
        return (self.start[group] + self.size[group] * u**power).astype(np.int32)


def make_terminals(rng: np.random.Generator, n_customers: int, towns: np.ndarray) -> Terminals:
    """Return the terminals: each line exists at each place, the rest follow the towns' sizes."""
    thousands = n_customers / 1000
    sizes = np.concatenate([town_weights(), np.full(len(k.ABROAD), 0.0)])
    home = np.outer(sizes, k.LINE_SHARE[:N_IN_PERSON]).ravel()
    home *= k.TERMINALS_HOME * thousands / home.sum()
    home = home.reshape(N_PLACES, N_IN_PERSON)
    home[k.TOWNS :] = k.TERMINALS_ABROAD * thousands / N_IN_PERSON
    in_person = np.maximum(2, np.rint(home)).astype(int).ravel()
    shares = k.LINE_SHARE[N_IN_PERSON:]
    online = np.rint(k.TERMINALS_ONLINE * thousands * shares / shares.sum()).astype(int)
    size = np.concatenate([in_person, np.maximum(6, online)])
    start = np.concatenate([[0], np.cumsum(size)[:-1]])
    group = np.repeat(np.arange(len(size)), size)
    is_online = group >= N_PLACES * N_IN_PERSON
    place = np.where(is_online, 0, group // N_IN_PERSON)
    line = np.where(is_online, group - N_PLACES * N_IN_PERSON + N_IN_PERSON, group % N_IN_PERSON)
    n = len(group)
    centres = np.vstack([towns, list(k.ABROAD.values())])
    spots = centres[place] + rng.normal(0, k.TOWN_SPREAD_KM, (n, 2))
    spots[is_online] = np.nan
    country = np.maximum(0, place - k.TOWNS + 1)
    foreign = is_online & (rng.random(n) < k.ONLINE_ABROAD)
    country[foreign] = rng.integers(1, len(k.COUNTRIES), foreign.sum())
    offline = (rng.random(n) < k.OFFLINE) & ~is_online
    skewed = (rng.random(n) < k.SKEWED) & ~is_online
    skew = np.where(skewed, rng.choice(k.SKEWS, n), 0.0)
    return Terminals(
        line.astype(np.int8), country.astype(np.int8), *spots.T.round(2), offline, skew, start, size
    )


def town_weights() -> np.ndarray:
    """Return the shares of the towns, shape (towns,)."""
    weights = np.arange(1, k.TOWNS + 1) ** -k.TOWN_SIZE
    return weights / weights.sum()


@dataclass
class People:
    """Customers with all that makes them buy, shape (customers, …)."""

    seed: int
    segment: np.ndarray
    town: np.ndarray
    home: np.ndarray
    profile: np.ndarray
    level: np.ndarray
    mix: np.ndarray  # (2, customers, lines): usual, holiday season
    wallet: np.ndarray
    household: np.ndarray
    joined: np.ndarray  # days since the start, negative for those who were there before
    leaves: np.ndarray
    disputer: np.ndarray
    abandons: np.ndarray  # (customers, 2): push, call
    patience: np.ndarray  # log delay of a victim's disputes
    device_change: np.ndarray  # (customers, 2)
    mean: np.ndarray  # (customers, days): purchases
    trip: np.ndarray  # (customers, days): place, or -1
    favourites: np.ndarray  # (customers, lines, FAVOURITES)

    def device(self, customer: np.ndarray, slot: np.ndarray, time: np.ndarray) -> np.ndarray:
        """Return the device of a customer (0 phone, 1 computer) at a time."""
        renewed = (time >= self.device_change[customer, slot]).astype(np.int64)
        return ident(DEVICE, self.seed, customer, slot * 2 + renewed)


def calendar(days: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return weekday (Monday is 0), day of the month and whether in the holiday season."""
    dates = k.START.astype("datetime64[D]") + np.arange(days)
    month = dates.astype("datetime64[M]")
    of_month = (dates - month).astype(int) + 1
    number = month.astype(int) % 12 + 1
    key = number * 100 + of_month
    first, last = (100 * month + day for month, day in (k.HOLIDAY_FROM, k.HOLIDAY_TO))
    return (dates.astype(int) + 3) % 7, of_month, (key >= first) & (key <= last)


def _mean(rng: np.random.Generator, joined: np.ndarray, leaves: np.ndarray, days: int):
    """Return the mean purchases of each customer and day."""
    n = len(joined)
    weekday, of_month, holiday = calendar(days)
    rate = rng.gamma(k.RATE_SHAPE, k.RATE / k.RATE_SHAPE, n).clip(0.05)
    week = np.array(k.WEEK) * rng.lognormal(0, k.WEEK_SD, (n, 7))
    since = (of_month[None, :] - np.array(k.SALARY_DAYS)[:, None]) % 30
    salary = 1 + k.SALARY_LIFT * np.exp(-since / k.SALARY_FADE)
    mean = rate[:, None] * week[:, weekday] * salary[rng.integers(0, len(salary), n)]
    mean *= 1 + k.HOLIDAY_LIFT * holiday
    day = np.arange(days)
    return (mean * ((day >= joined[:, None]) & (day < leaves[:, None]))).astype(np.float32)


def _trips(rng: np.random.Generator, town: np.ndarray, days: int) -> np.ndarray:
    """Return where customers are on a trip, −1 at home, shape (customers, days)."""
    trip = np.full((len(town), days), -1, np.int8)
    for customer in np.repeat(np.arange(len(town)), rng.poisson(k.TRIPS * days, len(town))):
        first, long = rng.integers(days), rng.integers(*k.TRIP_DAYS, endpoint=True)
        if rng.random() < k.TRIP_ABROAD:
            place = k.TOWNS + rng.integers(len(k.ABROAD))
        else:
            place = (town[customer] + rng.integers(1, k.TOWNS)) % k.TOWNS
        trip[customer, first : first + long] = place
    return trip


def make_people(rng: np.random.Generator, n: int, days: int, seed: int) -> tuple[People, Terminals]:
    """Return the customers and the terminals."""
    towns = rng.uniform(0, k.SIDE_KM, (k.TOWNS, 2))
    terminals = make_terminals(rng, n, towns)
    segment = rng.choice(len(k.SEGMENTS), n, p=k.SEGMENT_SHARE)
    sizes = rng.choice(len(k.HOUSEHOLD), n, p=k.HOUSEHOLD) + 1
    household = np.repeat(np.arange(n), sizes)[:n]
    town = rng.choice(k.TOWNS, n, p=town_weights())[household]
    home = towns[town] + rng.normal(0, k.TOWN_SPREAD_KM, (n, 2))[household]
    profile = np.where(rng.random(n) < k.EVENING_PEOPLE, 1, 0)
    profile[rng.random(n) < k.NIGHT_WORKERS] = 2
    online = k.LINE_CHANNEL == 1
    base = np.where(online, np.array(k.ONLINE_WEIGHT)[segment][:, None], 1.0) * k.LINE_SHARE
    mix = rng.gamma(k.MIX_CONCENTRATION * base) + 1e-6
    mix = np.stack([mix, mix * k.LINE_HOLIDAY])
    mix /= mix.sum(axis=2, keepdims=True)
    joining = rng.random(n) < k.JOINERS
    joined = np.where(joining, rng.integers(0, max(days, 1), n), -rng.integers(30, 3650, n))
    leaves = rng.exponential(1 / k.NATURAL_LEAVING, n) + joined.clip(0)
    abandons = np.array(k.ABANDONS).T[segment] * rng.lognormal(
        -(k.ABANDON_SD**2) / 2, k.ABANDON_SD, (n, 1)
    )
    every = np.tile(np.arange(k.N_LINES), (n, 1))
    favourites = np.stack(
        [
            terminals.choose(np.repeat(town, k.N_LINES), every.ravel(), rng.random(n * k.N_LINES))
            for _ in range(k.FAVOURITES)
        ],
        axis=1,
    ).reshape(n, k.N_LINES, k.FAVOURITES)
    people = People(
        seed=seed,
        segment=segment,
        town=town,
        home=home.round(2),
        profile=profile,
        level=rng.normal(0, k.LEVEL_SD, n),
        mix=mix,
        wallet=rng.random(n) < np.array(k.WALLET_USERS)[segment],
        household=household,
        joined=joined,
        leaves=leaves,
        disputer=rng.random(n) < k.DISPUTERS,
        abandons=abandons.clip(0, 0.8),
        patience=rng.normal(0, k.LABEL_SD_VICTIM, n),
        device_change=rng.exponential(k.DEVICE_LIFE, (n, 2)),
        mean=_mean(rng, joined, leaves, days),
        trip=_trips(rng, town, days),
        favourites=favourites,
    )
    return people, terminals


def addresses(
    rng: np.random.Generator, people: People, customer: np.ndarray, time: np.ndarray, place
) -> np.ndarray:
    """Return the addresses of online purchases; ``place`` is a public machine's, or −1."""
    n = len(customer)
    kind = rng.choice(3, n, p=k.ADDRESS_SHARE)
    thousands = len(people.town) / 1000
    household = people.household[customer]
    phase = (household * 37) % k.ADDRESS_LIFE
    at_home = ident(HOME, people.seed, household, (time + phase) // k.ADDRESS_LIFE)
    mobile = ident(MOBILE, people.seed, rng.integers(0, mobile_pool(thousands), n))
    spot = rng.integers(0, public_pool(thousands), n)
    public = ident(PLACE, people.seed, np.where(place >= 0, place, spot))
    return np.where(place >= 0, public, np.choose(kind, [at_home, mobile, public]))


def mobile_pool(thousands: float) -> int:
    """Return how many addresses the mobile network has."""
    return max(4, round(k.MOBILE_ADDRESSES * thousands))


def public_pool(thousands: float) -> int:
    """Return how many public places there are."""
    return max(2, round(k.PUBLIC_PLACES * thousands))


def amounts(line: np.ndarray, log_median: np.ndarray, sd: np.ndarray, z: np.ndarray):
    """Return amounts in cents' precision; cash comes in tens."""
    amount = np.exp(log_median + sd * z)
    cash = np.maximum(10.0, np.round(amount, -1))
    return np.where(line == k.CASH, cash, np.maximum(0.5, np.round(amount, 2)))


def purchases(rng: np.random.Generator, people: People, terminals: Terminals, days: int) -> Columns:
    """Return everything the customers mean to buy, sorted by arrival.

    Each row carries its own random numbers, so that what a policy does to one row
    leaves the others as they are.
    """
    n_customers = len(people.town)
    counts = rng.poisson(people.mean)
    cell = np.repeat(np.arange(counts.size), counts.ravel())
    customer, day = (cell // days).astype(np.int32), (cell % days).astype(np.int16)
    n = len(cell)
    hour = draw(k.HOURS, people.profile[customer], rng.random(n))
    time = day + (hour + rng.random(n)) / 24
    holiday = calendar(days)[2][day]
    shares = people.mix.reshape(-1, k.N_LINES)
    line = draw(shares, customer + n_customers * holiday.astype(np.int64), rng.random(n))
    online = k.LINE_CHANNEL[line] == 1
    median = k.LINE_LOG_MEDIAN[line] + people.level[customer]
    amount = amounts(line, median, k.LINE_SD[line], rng.normal(size=n))
    entry = draw(
        k.ENTRY_SHARE.reshape(-1, 6), people.wallet[customer] * 3 + LINE_KIND[line], rng.random(n)
    )
    terminal = _where(rng, people, terminals, customer, day, line)
    rows = {
        "time": time,
        "customer": customer,
        "line": line,
        "amount": amount,
        "entry": entry,
        "terminal": terminal,
    }
    rows |= _machines(rng, people, rows, online)
    rows["request"] = ident(REQUEST, people.seed, np.arange(n), 0)
    refund = np.isin(line, k.REFUND_LINES) & (rng.random(n) < k.REFUNDS)
    rows["amount"] = np.where(refund, -rows["amount"], rows["amount"])
    rows["received"] = time + lags(rng.random(n), rng.random(n), terminals.offline[terminal])
    rows |= _answers(rng, people, rows, online & ~refund)
    rows["retry"] = np.zeros(n, bool)
    rows = _send_again(rng, rows)
    rows = {c: v[rows["received"] < days] for c, v in rows.items()}
    order = np.argsort(rows["received"], kind="stable")
    return {c: v[order] for c, v in rows.items()}


def lags(u: np.ndarray, late: np.ndarray, offline: np.ndarray) -> np.ndarray:
    """Return days from a purchase to its arrival: a second or so, hours at offline terminals."""
    usual = (0.2 + 1.5 * u) / 86400
    return np.where(offline & (late < k.OFFLINE_ROWS), u * k.OFFLINE_HOURS / 24, 0) + usual


def _where(rng, people: People, terminals: Terminals, customer, day, line):
    """Return the terminal of each purchase."""
    n = len(customer)
    town, trip = people.town[customer], people.trip[customer, day]
    online = k.LINE_CHANNEL[line] == 1
    away = (trip >= 0) & ~online
    slot = draw(np.array([[0.45, 0.27, 0.17, 0.11]]), np.zeros(n, int), rng.random(n))
    favourite = people.favourites[customer, line, slot]
    loyal = (rng.random(n) < k.LOYALTY) & ~away
    elsewhere = ~away & ~online & (rng.random(n) < k.ELSEWHERE)
    place = np.where(elsewhere, (town + rng.integers(1, k.TOWNS, n)) % k.TOWNS, town)
    place = np.where(away, trip, place)
    terminal = np.where(loyal, favourite, terminals.choose(place, line, rng.random(n)))
    return terminal


def _machines(rng, people: People, rows: Columns, online: np.ndarray) -> Columns:
    """Return device and address of the purchases that have them (−1: none)."""
    n = len(online)
    device, ip = np.full(n, -1), np.full(n, -1)
    status = np.full(n, NO_DEVICE, np.int8)
    phone = np.flatnonzero(rows["entry"] == k.WALLET)
    who, when = rows["customer"][phone], rows["time"][phone]
    device[phone], status[phone] = people.device(who, np.zeros(len(phone), int), when), OWN
    other = rng.random(len(phone)) < k.WALLET_OTHER
    mate = np.minimum(who[other] + 1, len(people.town) - 1)
    mate_phone = people.device(mate, np.zeros(len(mate), int), when[other])
    alone = people.household[mate] != people.household[who[other]]
    watch = ident(WATCH, people.seed, phone[other])
    device[phone[other]] = np.where(alone, watch, mate_phone)
    status[phone[other]] = UNKNOWN
    at = np.flatnonzero(online)
    who, when, m = rows["customer"][at], rows["time"][at], len(at)
    u = rng.random(m)
    own = people.device(who, (u > 0.6).astype(int), when)
    own = np.where(u < k.SHARED_DEVICE, ident(SHARED, people.seed, people.household[who]), own)
    kind = rng.choice(3, m, p=k.DEVICE_SHARE).astype(np.int8)
    thousands = len(people.town) / 1000
    spot = rng.integers(0, public_pool(thousands), m)
    spot = np.where((kind == UNKNOWN) & (rng.random(m) < k.PUBLIC_MACHINES), spot, -1)
    once = ident(ONCE, people.seed, at)
    unknown = np.where(spot >= 0, ident(PUBLIC, people.seed, spot.clip(0)), once)
    device[at] = np.choose(kind, [own, unknown, np.full(m, -1)])
    status[at] = kind
    ip[at] = addresses(rng, people, who, when, spot)
    return {"device": device, "ip": ip, "status": status}


def _answers(rng, people: People, rows: Columns, disputable: np.ndarray) -> Columns:
    """Return what the customer would answer to a push and to a call, and dispute later."""
    n, who = len(rows["time"]), rows["customer"]
    answers: Columns = {}
    for column, name in enumerate(("push", "call")):
        u = rng.random(n)
        abandoned = u < k.MISTAKEN_DENIAL + people.abandons[who, column]
        answer = np.where(abandoned, k.ABANDONED, k.CONFIRMED)
        answers[name] = np.where(u < k.MISTAKEN_DENIAL, k.DENIED, answer).astype(np.int8)
    disputes = disputable & people.disputer[who] & (rng.random(n) < k.DISPUTES)
    delay = dispute_delay(people.patience[who], rng.normal(size=n))
    answers["delay"] = np.where(disputes, delay, np.nan).astype(np.float32)
    answers["react"] = rng.random(n, dtype=np.float32)
    answers["rest"] = rng.exponential(k.ASIDE_DAYS, n).astype(np.float32)
    answers["hold"] = rng.random(n, dtype=np.float32)
    return answers


def dispute_delay(patience: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Return the days until a chargeback, not a number when the time to dispute has passed."""
    days = np.maximum(1 / 24, k.LABEL_MEDIAN * np.exp(patience + k.LABEL_SD_OWN * z))
    return np.where(days < k.DISPUTE_DAYS, days, np.nan)


def _send_again(rng, rows: Columns) -> Columns:
    """Return the rows and the retries of some: the same request, seconds later."""
    again = np.flatnonzero(rng.random(len(rows["time"])) < k.RETRIES)
    copies = {c: v[again] for c, v in rows.items()}
    copies["received"] = copies["received"] + rng.uniform(*k.RETRY_SECONDS, len(again)) / 86400
    copies["retry"][:] = True
    return {c: np.concatenate([v, copies[c]]) for c, v in rows.items()}
