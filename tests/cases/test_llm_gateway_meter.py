"""Case 20: no request is billed twice, none is lost, also when a gateway is killed."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter

import numpy as np
import pytest
from llm_gateway_kit import KINDS, place

from casebook.cases.llm_gateway.gateway import Gateway
from casebook.cases.llm_gateway.meter import (
    Ask,
    Bill,
    Kept,
    Line,
    Meter,
    OverBudget,
    Repeated,
    Spent,
    audit,
    final,
    forget,
    invoice,
    kept,
    month_of,
    months,
    recover,
    release,
    reserve,
    settle,
    spent,
)
from casebook.cases.llm_gateway.store import SCHEMA, Store, StoreDown
from casebook.serving.grouped import Grouped, Sqlite

NOVEMBER = 1_795_000_000.0
MONTH = month_of(NOVEMBER)


def ask(request, most=100, budget=0, tenant="acme", at=NOVEMBER):
    return Ask(request, tenant, "small", most, at, budget)


def count(db, state):
    return db.execute("select count(*) from meter where state = ?", (state,)).fetchone()[0]


class Own:
    """A store and what it holds, without a thread for the test's own questions."""

    def __init__(self, path=""):
        self.store = Store(path or place(), durable=False)

    def __call__(self, operation, *given):
        return self.store.submit(operation, *given).result()


@pytest.fixture(params=KINDS)
def own(request):
    made = Own(place(request.param))
    yield made
    made.store.close()


def test_a_budget_holds_what_may_come_and_gives_back_what_did_not(own):
    assert own(reserve, ask("r1", 600, 1000), "g") == 600
    with pytest.raises(OverBudget):
        own(reserve, ask("r2", 600, 1000), "g")
    assert own(settle, "r1", "g", Bill("small", 1, 1, 400))
    assert own(reserve, ask("r2", 600, 1000), "g") == 1000
    with pytest.raises(OverBudget):
        own(reserve, ask("r3", 1, 1000), "g")
    assert own(reserve, ask("r3", 1, 1000, at=NOVEMBER + 40 * 86_400), "g") == 1, "another month"
    assert own(reserve, ask("r4", 9, 10, tenant="globex"), "g") == 9, "another tenant"
    assert own(spent, "acme", MONTH) == Spent(400, 600, 0) and own(audit) == []


def test_a_request_is_decided_once(own):
    own(reserve, ask("r1"), "g")
    with pytest.raises(Repeated, match="open"):
        own(reserve, ask("r1"), "g")
    assert not own(settle, "r1", "another gateway", Bill("small", 1, 1, 50))
    assert own(settle, "r1", "g", Bill("small", 1, 1, 50))
    assert not own(settle, "r1", "g", Bill("small", 1, 1, 50))
    with pytest.raises(Repeated, match="settled"):
        own(reserve, ask("r1"), "g")
    assert own(spent, "acme", MONTH) == Spent(50, 0, 0)


def test_who_was_failed_pays_nothing_and_may_ask_again(own):
    meter = Meter(own.store, lambda: NOVEMBER)

    async def twice():
        await meter.reserve(ask("r1"))
        await meter.release("r1", waste=7)
        await meter.reserve(ask("r1"))
        return await meter.settle("r1", Bill("large", 3, 4, 50, waste=2))

    assert asyncio.run(twice())
    assert own(spent, "acme", MONTH) == Spent(50, 0, 9) and own(audit) == []
    assert own(invoice, "acme", MONTH) == [Line("large", 1, 3, 4, 50)]


def test_open_requests_of_a_dead_gateway_are_released_and_those_of_a_living_one_stay(own):
    now = [0.0]
    dead, alive, other = (Meter(own.store, lambda: NOVEMBER, lambda: now[0]) for _ in range(3))

    async def run():
        for meter, request in ((dead, "d"), (alive, "a"), (other, "o")):
            await meter.live()
            await meter.reserve(ask(request))
        found = 0
        for _ in range(31):
            now[0] += 1
            found += await other.live() + await alive.live()
        return found, await dead.settle("d", Bill("small", 1, 1, 9))

    assert asyncio.run(run()) == (1, False), "who comes too late must not bill"
    assert own(spent, "acme", MONTH) == Spent(0, 200, 0) and own(audit) == []


def test_neither_clocks_nor_a_pause_make_a_living_gateway_dead(own):
    """One is an hour ahead; nobody is heard for two minutes; a new one looks for the first time."""
    now, hour = [0.0], 3600
    mine = Meter(own.store, lambda: NOVEMBER, lambda: now[0])
    ahead = Meter(own.store, lambda: NOVEMBER + hour, lambda: now[0] + hour)

    async def run():
        await mine.live()
        await mine.reserve(ask("r1"))
        assert await ahead.live() == await ahead.live() == 0
        now[0] += 120
        assert await ahead.live() == 0, "the store was away for both"
        assert await Meter(own.store, patience=lambda: now[0] + hour).live() == 0
        return await mine.settle("r1", Bill("small", 1, 1, 9))

    assert asyncio.run(run())


@pytest.mark.parametrize("apart", [-3600.0, -40.0, 40.0, 3600.0])
def test_a_gateway_that_lives_keeps_its_requests_whatever_the_clocks_say(own, apart):
    now = [0.0]
    first = Meter(own.store, lambda: NOVEMBER + now[0], lambda: now[0])
    second = Meter(own.store, lambda: NOVEMBER + apart + now[0], lambda: now[0])

    async def run():
        for meter in (first, second):
            await meter.live()
            await meter.reserve(ask(meter.owner))
        found = 0
        for _ in range(50):
            now[0] += 1.0
            found += await first.live() + await second.live()
        return found, await first.settle(first.owner, Bill("small", 1, 1, 9))

    assert asyncio.run(run()) == (0, True)


def test_waste_of_refused_answers_counts_against_the_budget_and_other_waste_does_not(own):
    for at, (how, most) in enumerate([("failed", 600), ("refused", 600)]):
        own(reserve, ask(f"r{at}", most, 1000), "g")
        own(release, f"r{at}", "g", 900, how, 900)
    with pytest.raises(OverBudget):
        own(reserve, ask("r2", 101, 1000), "g")
    assert own(reserve, ask("r3", 100, 1000), "g") == 100
    assert own(spent, "acme", MONTH).waste == 1800 and own(audit) == []


def test_answers_are_kept_for_a_time_and_a_tenant_has_so_many_of_them(own):
    for at in range(5):
        own(reserve, ask(f"r{at}"), "g")
        own(settle, f"r{at}", "g", Bill("small", 1, 1, 1), Kept(f"text {at}", 100.0 + at, 3))
    own(reserve, ask("r9", tenant="globex"), "g")
    own(settle, "r9", "g", Bill("small", 1, 1, 1), Kept("text", 100.0, 3))
    assert [own(kept, f"r{at}", 50.0) for at in (0, 1, 2, 4, 9)] == [
        None, None, "text 2", "text 4", "text"
    ]  # fmt: skip
    assert own(kept, "r2", 102.0) is None
    own(forget, 103.5)
    assert own(lambda db: db.execute("select request from answers").fetchall()) == [("r4",)]


def test_a_gateway_gives_a_sign_of_life_before_its_first_request(own):
    gateway = Gateway(own.store, environ={})
    asyncio.run(gateway.refresh())
    asyncio.run(gateway.meter.reserve(ask("r1", at=time.time())))
    assert asyncio.run(Meter(own.store).live()) == 0 and own(count, "open") == 1


def test_a_release_waits_while_the_store_is_down(tmp_path):
    own = Own(tmp_path / "db")
    own(lambda db: db.execute("pragma busy_timeout = 1"))
    meter = Meter(own.store, lambda: NOVEMBER)
    asyncio.run(meter.reserve(ask("r1")))
    other = sqlite3.connect(tmp_path / "db", isolation_level=None)
    other.execute("begin exclusive")
    asyncio.run(meter.release("r1", 3))
    other.execute("rollback")
    other.close()
    assert own(count, "open") == 1
    asyncio.run(meter.live())
    assert own(spent, "acme", MONTH) == Spent(0, 0, 3)
    own.store.close()


class Lossy(Sqlite):
    """A database that commits and then loses the connection, as often as it is told."""

    lose, away = 0, False

    def __init__(self):
        super().__init__(":memory:")
        self._plain, self.execute = self.execute, self._losing

    def _losing(self, sql, values=()):
        done = self._plain(sql, values)
        if self.lose and (sql == "commit" or (self.away and sql == self.begin)):
            self.lose -= 1
            self.away = self.lose > 0
            self.rollback()
            raise sqlite3.OperationalError("no connection")
        return done


@pytest.mark.parametrize("lose", [1, 2, 3])
def test_a_commit_whose_answer_is_lost_bills_once_or_is_taken_back(lose):
    """With three losses nobody knows: the client is refused, so in the end it pays nothing."""
    own = Own(":memory:")
    own.store.close()
    own.store = Grouped(Lossy(), SCHEMA)
    meter, database = Meter(own.store, lambda: NOVEMBER), own.store.database

    async def run():
        database.lose = lose
        try:
            await meter.reserve(ask("r1"))
        except StoreDown:
            assert own(spent, "acme", MONTH) == Spent(0, 100, 0)
            await meter.reserve(ask("r1"))
        database.lose = lose
        try:
            return await meter.settle("r1", Bill("small", 1, 1, 50))
        except StoreDown:
            await meter.release("r1")
            assert await meter.live() == 0
            return False

    billed = asyncio.run(run())
    assert billed == (lose < 3)
    assert own(spent, "acme", MONTH) == Spent(50 * billed, 0, 0) and own(audit) == []
    assert (
        own(lambda db: db.execute("select sum(cost) from hours").fetchone()[0] or 0) == 50 * billed
    )
    own.store.close()


def test_what_may_be_open_after_the_store_was_down_is_released():
    own = Own(":memory:")
    own.store.close()
    own.store = Grouped(Lossy(), SCHEMA)
    meter, own.store.database.lose = Meter(own.store, lambda: NOVEMBER), 3
    with pytest.raises(StoreDown):
        asyncio.run(meter.reserve(ask("r1")))
    assert own(count, "open") == 1
    asyncio.run(meter.live())
    assert own(count, "open") == 0 and own(spent, "acme", MONTH) == Spent()
    own.store.close()


def test_a_bill_is_final_when_the_month_is_over_and_nothing_of_it_is_open(own):
    december = 1_796_083_200.0
    own(reserve, ask("late", at=december - 60), "g")
    (month, _, open_) = own(months, "acme")[0]
    assert month == MONTH and not final(month, open_, december + 9000)
    own(settle, "late", "g", Bill("small", 1, 1, 5))
    assert own(months, "acme") == [(MONTH, 5, 0)]
    assert [final(MONTH, 0, december + later) for later in (-1, 60, 3600)] == [False, False, True]


def test_sums_do_not_outgrow_their_numbers(own):
    with pytest.raises(OverBudget):
        for number in range(12):
            own(reserve, ask(f"r{number}", 10**18), "g")
    assert own(audit) == [] and own(spent, "acme", MONTH) == Spent(0, 10**18, 0)


def test_the_audit_finds_a_sum_that_is_off(own):
    own(reserve, ask("r1"), "g")
    own(lambda db: db.execute("update spend set settled = settled + 1"))
    assert own(audit)[0][:4] == ("acme", MONTH, 1, 0)


# Random faults -------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_with_random_faults_what_is_billed_is_what_was_answered(seed, own):
    """Requests of three tenants at once: repeated, settled twice, released, swept, left open."""
    rng = np.random.default_rng(seed)
    now = [NOVEMBER]
    meters = [Meter(own.store, lambda: now[0], lambda: now[0]) for _ in range(3)]
    answered: dict[str, int] = {}
    budget, refused = 30_000, Counter()

    async def one(number: int) -> None:
        tenant, meter = f"t{rng.integers(3)}", meters[rng.integers(3)]
        request = f"{tenant}/{rng.integers(number // 2 + 1)}"  # many come again
        most, fate = int(rng.integers(50, 400)), rng.random()
        try:
            await meter.reserve(ask(request, most, budget, tenant))
        except (Repeated, OverBudget) as error:
            refused[type(error).__name__] += 1
            return
        await asyncio.sleep(0)
        cost = int(rng.integers(0, most + 1))
        if fate < 0.55:
            tries = [meter.settle(request, Bill("small", 1, 1, cost)) for _ in range(2)]
            won = await asyncio.gather(*tries)
            assert sum(won) <= 1
            if any(won):
                assert request not in answered, "billed twice"
                answered[request] = cost
        elif fate < 0.75:
            await meter.release(request, waste=cost)
        elif fate < 0.8:  # both at once: one of them counts
            won, _ = await asyncio.gather(
                meter.settle(request, Bill("small", 1, 1, cost)), meter.release(request)
            )
            if won:
                answered[request] = cost

    async def run() -> None:
        for start in range(0, 300, 25):
            await asyncio.gather(*(one(start + i) for i in range(25)))
            for _ in range(int(rng.choice([1, 12]))):
                now[0] += 3.0
                await meters[0].live()
            assert own(audit) == []
        own(recover)

    asyncio.run(run())
    rows = own(
        lambda db: db.execute(
            "select request, cost from meter where state = 'settled'"
            " union all select request, -1 from meter where state = 'open'"
        ).fetchall()
    )
    assert dict(rows) == answered and len(rows) == len(answered) > 50
    assert refused["Repeated"] > 10
    for tenant in ("t0", "t1", "t2"):
        now_spent = own(spent, tenant, MONTH)
        assert now_spent.reserved == 0 and now_spent.settled <= budget
        assert sum(line.cost for line in own(invoice, tenant, MONTH)) == now_spent.settled


CHILD = """
import asyncio, sys, numpy as np
from casebook.cases.llm_gateway.meter import Ask, Bill, Meter
from casebook.cases.llm_gateway.store import Store

async def client(meter, rng, run, who):
    for number in range(10**6):
        request = f"{run}-{who}-{number}"
        most = int(rng.integers(100, 1000))
        await meter.reserve(Ask(request, f"t{who % 2}", "small", most, meter.clock()))
        await asyncio.sleep(float(rng.exponential(0.001)))
        if rng.random() < 0.2:
            await meter.release(request, waste=3)
        elif await meter.settle(request, Bill("small", 1, 2, most // 2)):
            print(f"{request} {most // 2}", flush=True)

async def main(path, run):
    meter = Meter(Store(path, durable=False))
    await meter.live()
    rng = np.random.default_rng(run)
    await asyncio.gather(*(client(meter, rng, run, who) for who in range(4)))

asyncio.run(main(sys.argv[1], int(sys.argv[2])))
"""


def test_a_killed_gateway_has_billed_what_it_answered_and_nothing_stays_open(tmp_path):
    path, seen, rng = tmp_path / "db", {}, np.random.default_rng(3)
    for run in range(3):
        command = [sys.executable, "-c", CHILD, str(path), str(run)]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        first = child.stdout.readline()
        time.sleep(float(rng.uniform(0.05, 0.3)))
        child.send_signal(signal.SIGKILL)
        lines = (first + child.stdout.read()).splitlines()
        child.wait()
        whole = lines[:-1] if lines and len(lines[-1].split()) < 2 else lines
        seen |= {request: int(cost) for request, cost in map(str.split, whole)}
    own = Own(path)
    killed = own(count, "open")
    assert own(audit) == [], "sums agree even before anybody cleans up"
    assert own(recover) == killed <= 12, "four clients a run at most"
    billed = dict(
        own(
            lambda db: db.execute(
                "select request, cost from meter where state = 'settled'"
            ).fetchall()
        )
    )
    assert seen.items() <= billed.items(), "answered means billed, at the same cost"
    assert len(billed) - len(seen) <= 12, "billed and not yet answered: those in flight"
    assert own(audit) == [] and own(count, "open") == 0 and len(seen) > 20
    own.store.close()
