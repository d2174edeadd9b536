"""Case 12: what the service computes is what training reads, whatever comes late or wrong.

A day of the world goes through the service as a gateway sends it: in swapped order, with retries
and one wrong clock, while outcomes and chargebacks come minutes later and the process starts anew.
Then the tables of the audit go through the batch.
"""

from __future__ import annotations

import json
from datetime import timedelta

import numpy as np
import pandas as pd
import pytest
from card_fraud_fakes import TOKENS, history

from casebook.cases.card_fraud import audit as audits
from casebook.cases.card_fraud import decisions
from casebook.cases.card_fraud.audit import Audit
from casebook.cases.card_fraud.schema import payload
from casebook.cases.card_fraud.world import simulate
from casebook.features import card_payments as features
from casebook.features.definition import skew
from casebook.serving.breaker import Breaker
from casebook.serving.strict import stamp

PAYMENTS = 900


@pytest.fixture(scope="module")
def world():
    return simulate(n_customers=300, days=20, seed=4)


@pytest.fixture(scope="module")
def ran(world, tmp_path_factory):
    """Return a service that has taken all of it, and was started anew from the audit."""
    return run(world, tmp_path_factory.mktemp("ran") / "a.sqlite")


class Asks:
    """Ask about each third payment, and block some."""

    def one(self, probability, amount, number, message="purchase", strict=False):
        lot = number % 12
        return ("confirm" if lot < 4 else "block" if lot == 4 else "allow",) * 2


def opened(world, path, state=None, **options) -> decisions.Service:
    """Return a service with the world's first days in its store."""
    store = features.OnlineStore(world.terminals, world.customers)
    return decisions.Service(
        store=store,
        score=lambda row: (0.5, []),
        rules=lambda row, event: ("pass", ""),
        policy=Asks(),
        audit=Audit(path),
        breaker=Breaker(budget_ms=5000),
        tokens=TOKENS,
        gateway=True,
        state=state,
        **options,
    )


def messages(world, rng) -> list[tuple[float, str, dict]]:
    """Return what comes, in order: payments, some swapped and some twice, and reports."""
    rows = world.transactions.drop_duplicates("request").iloc[:PAYMENTS]
    truth = world.truth.set_index("transaction").loc[rows["transaction"]]
    seconds = np.round(np.cumsum(rng.exponential(15, PAYMENTS)))
    times = world.start + pd.to_timedelta(seconds, unit="s")
    rows = rows.assign(received=times, time=times)
    # Few customers and machines: then what came late matters to many.
    came = []
    for row, second, push in zip(rows.to_dict("records"), seconds, truth["push"], strict=True):
        row |= {"customer": row["customer"] % 9, "refund": row["amount"] < 0}
        if pd.notna(row["device"]):
            row["device"] = int(row["device"]) % 5
        sent = payload(row, stamped=True)
        late = rng.uniform(0, 25)  # up to 25 s later than the gateway stamped it
        came.append((second + late, "payment", sent))
        if rng.random() < 0.05:
            again = sent | {"transaction": 10**7 + sent["transaction"]}
            came.append((second + late + 3, "payment", again))
        if push is not None:
            after = rng.choice([20.0, 600.0, 7000.0])
            at = stamp((row["received"] + timedelta(seconds=after / 2)).to_pydatetime())
            told = {"request": row["request"], "outcome": str(push), "at": at}
            came.append((second + late + after, "outcome", told))
        if rng.random() < 0.1:
            at = stamp((row["received"] + timedelta(hours=2)).to_pydatetime())
            told = {"request": row["request"], "outcome": "chargeback", "at": at}
            came.append((second + 9000, "outcome", told))
    came.sort(key=lambda message: message[0])
    return came


def run(world, path, seed=0, state=None, wrong_at=200, **planted):
    """Send everything, with a wrong clock and two new starts; return the service."""
    came = messages(world, np.random.default_rng(seed))
    service, refused = opened(world, path, state, **planted), 0
    paid = [place for place, message in enumerate(came) if message[1] == "payment"]
    for place, (_, kind, sent) in enumerate(came):
        if place in paid[wrong_at : wrong_at + 2]:  # twice, from one terminal
            sent = sent | {"received": "2025-07-09T00:00:00.000Z", "terminal": 3}
        if place in (400, 900):
            if state is not None and place == 400:
                service.save()
            service.audit.close()
            service = opened(world, path, state, **planted)
        try:
            send = service.decide if kind == "payment" else service.report
            send(json.dumps(sent).encode())
        except decisions.Problem as problem:
            assert problem.error == "outcome does not fit", problem
            refused += 1
    assert refused > 50  # confirmations of what was not asked, chargebacks of what was denied
    return service


def differ(world, service) -> dict[str, int]:
    """Return by feature how many of the served values are not those of the batch."""
    transactions, evidence = history(service.audit)
    table = features.batch(transactions, world.terminals, world.customers, evidence)
    rows = [row.features for row in service.audit.records() if isinstance(row, audits.Decision)]
    return skew(pd.DataFrame(rows), table)


@pytest.mark.parametrize("starts", ["from the audit", "from a snapshot"])
def test_batch_equals_service_whatever_comes_late_or_wrong(world, ran, tmp_path, starts):
    service = ran
    if starts == "from a snapshot":
        service = run(world, tmp_path / "a.sqlite", 1, tmp_path / "state")
    rows = [r for r in service.audit.records() if isinstance(r, audits.Decision)]
    told = [r for r in service.audit.records() if isinstance(r, audits.Outcome)]
    numbers = np.array([row.transaction for row in rows])
    assert len(rows) == PAYMENTS and (np.diff(numbers) < 0).sum() > 20
    assert len(told) > 200 and sum(row.known > row.at for row in told) > 100
    assert sum(row.clock != "" for row in rows) >= 1
    served = pd.DataFrame([row.features for row in rows])
    for name in ("customer_refused_24h", "device_refused_24h", "device_frauds"):
        assert (served[name] > 0).sum() > 20, name
    assert service.refused == 0 and differ(world, service) == {}


def test_a_wrong_clock_is_put_aside_and_the_payments_after_it_keep_their_time(ran):
    check_clock(ran)


def check_clock(service) -> None:
    rows = [r for r in service.audit.records() if isinstance(r, audits.Decision)]
    wrong = [row for row in rows if row.input["received"] == "2025-07-09T00:00:00.000Z"]
    assert wrong and all("ahead of all before it" in row.clock for row in wrong)
    others = [row for row in rows if row not in wrong]
    late = [pd.Timestamp(r.received) - pd.Timestamp(r.input["received"]) for r in others]
    assert max(late) < pd.Timedelta("26s") and not any(row.clock for row in others)


def test_outcomes_that_are_dated_when_they_happened_are_found(world, ran):
    service = ran
    told = [r for r in service.audit.records() if isinstance(r, audits.Outcome)]
    at = {r.transaction: pd.Timestamp(r.at).tz_localize(None) for r in told}
    transactions, evidence = history(service.audit)
    happened = transactions["transaction"].map(at).fillna(transactions["received"])
    planted = transactions.assign(outcome_known=happened.where(happened > transactions["received"]))
    table = features.batch(planted, world.terminals, world.customers, evidence)
    rows = [r.features for r in service.audit.records() if isinstance(r, audits.Decision)]
    assert skew(pd.DataFrame(rows), table)["customer_refused_24h"] > 20


def test_the_order_of_the_numbers_is_found(world, ran):
    service = ran
    transactions, evidence = history(service.audit)
    by_number = transactions.sort_values("transaction")
    by_number["received"] = by_number["received"].cummax()
    known = evidence.merge(by_number[["transaction", "received"]])
    known["known"] = known[["known", "received"]].max(axis=1)
    by_number["outcome_known"] = by_number[["outcome_known", "received"]].max(axis=1)
    table = features.batch(by_number, world.terminals, world.customers, known)
    rows = [r.features for r in service.audit.records() if isinstance(r, audits.Decision)]
    found = skew(pd.DataFrame(rows), table.loc[transactions["transaction"]])
    assert sum(found.values()) > 100


class Poisoned(decisions.Service):
    """Planted: believe every clock."""

    def _believed(self, payment):
        return max(payment.received, self._latest or payment.received), ""


def test_a_service_that_believes_every_clock_is_found(world, tmp_path, monkeypatch):
    monkeypatch.setattr(decisions, "Service", Poisoned)
    with pytest.raises(AssertionError):
        check_clock(run(world, tmp_path / "a.sqlite"))
