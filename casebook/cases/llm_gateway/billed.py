"""Bills against the providers' ledgers, while providers fail, clients leave and gateways die.

What the meter says is compared with what it never reads: what the providers counted (their ledger),
the prices of the configuration, and the text that reached a client that left. Streams take seconds,
so that many are open when a gateway is killed. The comparison is tried on gateways with a planted
fault, each of which it must find.
"""

from __future__ import annotations

import asyncio
import json
import re
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from fastapi import FastAPI

from casebook.cases.llm_gateway.gateway import Gateway
from casebook.cases.llm_gateway.jobs import Tally
from casebook.cases.llm_gateway.live import Live
from casebook.cases.llm_gateway.measured import CHAT, filled, gateway, name_of
from casebook.cases.llm_gateway.meter import audit, recover
from casebook.cases.llm_gateway.store import Database, Store
from casebook.evaluate.intervals import rule_of_three
from casebook.llm.mock_providers import MockProvider
from casebook.llm.providers import Model
from casebook.serving.answer_cache import key_of
from casebook.serving.in_thread import serving
from casebook.serving.load import Server
from casebook.serving.scheduled import Request, Scheduled

FAULTS = {"failed": 0.01, "cut": 0.01, "stream_error": 0.01, "slow": 0.03, "malformed": 0.005}
#: Share of the streams whose client leaves, and tenants.
LEAVES, ASKING = 0.3, ("t0", "t1", "t2")
#: Seconds of a token; pieces after which a client leaves; tokens that may be under way to it then.
TOKEN_S, PIECES, UNDER_WAY = 0.03, 4, 10
#: Seconds that a client waits for a whole answer: nobody leaves whom the check does not know of.
WAIT_S = 60.0
#: Characters of an answer that are told: its usage, or all that had come when its client left.
END, WHOLE = 4_000, 200_000
#: Seconds between a bill and its answer's last byte in the arm ``a pause``.
PAUSE = 0.5
PRICES = {"price_in": 150, "price_out": 600}
MODELS = tuple(
    Model(name=name, provider=f"p{i}", upstream=f"up-{name}", **PRICES)
    for i, name in enumerate(("m", "other"))
)
FORMS = ("chat", "messages")
#: Rows that must be 0.
ZERO = (
    "billed twice",
    "answered, not billed",
    "tokens differ",
    "not as the ledger",
    "not at the price",
    "left, not as received",
    "billed, nobody asked",
    "invoice differs",
    "open at the end",
    "sums that differ",
)


# Gateways with a fault ---------------------------------------------------------------------


def _billing(change: Callable[[Any], Any], seconds: float = 0.0) -> Callable[[Gateway], None]:
    """Return what changes each bill of a gateway, or waits after it."""

    def plant(made: Gateway) -> None:
        settle = made.meter.settle

        async def changed(request: str, bill: Any, *kept: Any) -> bool:
            done = await settle(request, change(bill), *kept)
            await asyncio.sleep(seconds)
            return done

        made.meter.settle = changed

    return plant


def _at_most(bill: Any) -> Any:
    """Bill whoever left for all that could have come."""
    model, most = {one.name: one for one in MODELS}[bill.model], 500
    if bill.how != "left":
        return bill
    return bill._replace(tokens_out=most, cost=model.cost(bill.tokens_in, most))


def _counts_more(_: Gateway) -> None:
    counted = Tally.counted
    Tally.counted = lambda self: (counted(self)[0], counted(self)[1] + 7)


def _ignores_keys(made: Gateway) -> None:
    admit = made.admit
    made.admit = lambda tenant, asked, once="": admit(tenant, asked)


PLANTED: Mapping[str, Callable[[Gateway], None]] = {
    "prices doubled": _billing(lambda bill: bill._replace(cost=2 * bill.cost)),
    "seven tokens more": _counts_more,
    "who leaves pays the most": _billing(_at_most),
    "keys ignored": _ignores_keys,
}
#: Not a fault: a gateway that is killed between bill and answer more often than any would be.
PAUSED = "a pause"


def billing(path: str, arm: str = "") -> FastAPI:
    """Return a gateway with ``PLANTED`` faults (several joined by ``" + "``), or ``PAUSED``."""
    known = {**PLANTED, PAUSED: _billing(lambda bill: bill, PAUSE)}

    def change(made: Gateway) -> None:
        for name in filter(None, arm.split(" + ")):
            known[name](made)

    return gateway(path, change=change)


# Runs -----------------------------------------------------------------------------------


class Found(NamedTuple):
    """What a run leaves: answers, bills, ledgers.

    Attributes
    ----------
    seen : DataFrame
        An answer each: ``request`` (its name), ``status``, ``whole``, ``left``, ``id``, ``end``.
    bills : DataFrame
        ``id``, ``tenant``, ``model``, ``how``, ``tokens_in``, ``tokens_out``, ``cost``.
    ledger : DataFrame
        ``request``, ``model`` (as tenants name it), ``tokens_in``, ``tokens_out``, ``whole``.
    owners : dict of str to str
        Name of the request by the number under which it is billed.
    sums : dict of str to int
        By tenant.
    still, off : int
        Requests that are open; sums that differ from their requests.
    """

    seen: pd.DataFrame
    bills: pd.DataFrame
    ledger: pd.DataFrame
    owners: dict[str, str]
    sums: dict[str, int]
    still: int = 0
    off: int = 0


def metering(
    requests: int = 2_000, kills: int = 20, rps: float = 40.0, seed: int = 1, few: int = 240
) -> pd.DataFrame:
    """Compare bills with what providers counted and clients saw.

    Each request has an idempotency key; one of the tenants has personal data masked. The gateway
    is killed (``kill -9``) ``kills`` times while streams are open; after each, what got no answer
    is sent again with its key, and with it some that had one. Gateways with planted faults, and one
    that pauses between a bill and its answer's last byte, get ``few`` requests and a quarter of the
    kills.

    Returns
    -------
    DataFrame
        ``arm`` (empty: the gateway as it is), ``what`` and ``n``: ``requests``, ``sent`` (with
        repeats), ``kills``, ``open at a kill``, ``billed at a kill`` (whose answer was still on its
        way), ``at most`` (95 % bound of the share of these among what was open, if there was
        none), and as of :func:`differences`.
    """
    rows = []
    for arm in ("", PAUSED, *PLANTED):
        n, times = (few, -(-kills // 4)) if arm else (requests, kills)
        rows += [(arm, what, value) for what, value in _metered(n, times, rps, seed, arm).items()]
    return pd.DataFrame(rows, columns=["arm", "what", "n"])


def _metered(requests: int, kills: int, rps: float, seed: int, arm: str = "") -> dict[str, float]:
    rng = np.random.default_rng(seed)
    asked = {f"r{i}": _question(i, rng) for i in range(requests)}
    may = {"models": ["m", "other"], "fallbacks": {"m": ["other"]}}
    tenants = [{"name": one, **may} for one in ASKING]
    tenants[-1] |= {"guard": {"pii_out": "redact"}}
    faults = {"shares": FAULTS, "token_s": TOKEN_S, "pause_s": 0.05}
    own = [MockProvider(form, 7, **faults) for form in FORMS]
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        path = Path(folder) / "db"
        keys = filled(path, _document([stack.enter_context(serving(p)) for p in own], tenants))
        seen, opened, caught = _lives(path, asked, keys, kills, rps, rng, arm)
        store = Store(str(path))
        bills, *sums = store.submit(_bills).result()
        store.close()
    owners = {_number(asked[name]["tenant"], name): name for name in asked}
    owners |= {row.id: row.request for row in seen.itertuples() if row.id}
    found = Found(seen, bills, ledger_of(own), owners, *sums)
    told = {"requests": requests, "sent": len(seen), "kills": kills, "open at a kill": opened}
    told |= {"billed at a kill": caught}
    told["at most"] = min(1.0, rule_of_three(opened)) if opened and not caught else np.nan
    return told | differences(found)


def _number(tenant: str, key: str) -> str:
    """Return the number under which a request with an idempotency key is billed."""
    return key_of(tenant, key)[:32]


def _document(urls: Sequence[str], tenants: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    pairs = enumerate(zip(urls, FORMS, strict=True))
    return {
        "providers": [
            {"name": f"p{i}", "url": url, "format": form, "slots": 1_000}
            for i, (url, form) in pairs
        ],
        "models": [one.model_dump() | {"most_out": 500} for one in MODELS],
        "tenants": list(tenants),
    }


def ledger_of(providers: Sequence[MockProvider]) -> pd.DataFrame:
    """Return what providers did with each request, by the question in its body."""
    rows, names = [], {one.upstream: one.name for one in MODELS}
    for provider in providers:
        for body, done in zip(provider.bodies, provider.ledger, strict=True):
            name = "r" + re.findall(r"Question (\d+)", json.dumps(body["messages"]))[0]
            rows.append((name, names[done.model], done.tokens_in, done.tokens_out, done.whole))
    return pd.DataFrame(rows, columns=["request", "model", "tokens_in", "tokens_out", "whole"])


def _question(number: int, rng: np.random.Generator) -> dict[str, Any]:
    """Return tenant, body and the pieces after which the client leaves."""
    stream = bool(rng.integers(2))
    body = {"messages": [{"role": "user", "content": f"Question {number}"}], "stream": stream}
    body |= {"stream_options": {"include_usage": True}} if stream else {}
    leaves = PIECES if stream and rng.random() < LEAVES else 0
    return {"tenant": ASKING[number % 3], "body": body, "leaves": leaves}


def _lives(path: Path, asked, keys, kills: int, rps: float, rng, arm: str):
    """Send all requests to one gateway after the other.

    Returns the answers, how many requests were open when a gateway was killed, and how many were
    billed then whose answer was not there yet.
    """
    parts = [*np.array_split(rng.permutation([*asked]), kills + 1), [], []]
    seen, again, opened, caught, had = [], [], 0, 0, set()
    for turn, part in enumerate(parts):
        if not (todo := [*again, *part]):
            break
        after = rng.uniform(0.4, 0.95) * len(todo) / rps if turn < kills else 0.0
        rows = _a_life(path, todo, asked, keys, rps, after, arm).assign(request=todo)
        seen.append(rows[["request", "status", "whole", "left", "id", "end"]])
        lost = ~(rows["whole"] | rows["left"]).astype(bool)
        repeated = rows["status"].isin((0, 502, 503)) | lost
        if turn <= kills:
            repeated |= (rng.random(len(rows)) < 0.05) & ~rows["left"].astype(bool)
        again = [one for one, yes in zip(todo, repeated, strict=True) if yes]
        if after:
            first = {*rows.loc[lost, "request"]} - had  # a repeat is billed since long
            numbers = [_number(asked[one]["tenant"], one) for one in first]
            store = Store(str(path))
            caught += store.submit(_settled_of, numbers).result()
            opened += store.submit(recover).result()  # as if the lease were over
            store.close()
        had |= {*rows.loc[~lost, "request"]}
    return pd.concat(seen, ignore_index=True), opened, caught


def _settled_of(db: Database, numbers: Sequence[str]) -> int:
    """Return how many of these are billed."""
    found = db.execute("select request from meter where state = 'settled'").fetchall()
    return len({row[0] for row in found} & {*numbers})


def _a_life(path: Path, todo, asked, keys, rps: float, after: float, arm: str) -> pd.DataFrame:
    """Send requests to a gateway that is killed after so many seconds; return the answers."""
    with Server(name_of(billing), {"path": str(path), "arm": arm}) as one:
        sent = []
        for at, name in enumerate(todo):
            own = asked[name]
            head = {"Authorization": f"Bearer {keys[own['tenant']]}", "Idempotency-Key": name}
            keep = WHOLE if own["leaves"] else END
            sent.append(Request(one.url + CHAT, own["body"], at / rps, head, own["leaves"], keep))
        with Scheduled(sent, patience=WAIT_S) as crowd:
            if after:
                time.sleep(0.3 + after)
                one.kill()
            return crowd.wait()


def _bills(db: Database) -> tuple[pd.DataFrame, dict[str, int], int, int]:
    """Return what the meter holds: bills, sums by tenant, open requests, sums that differ."""
    names = ["id", "tenant", "model", "how", "tokens_in", "tokens_out", "cost"]
    sql = "select request, tenant, model, how, tokens_in, tokens_out, cost from meter"
    rows = db.execute(f"{sql} where state = 'settled'").fetchall()
    sums = dict(db.execute("select tenant, sum(settled) from spend group by tenant").fetchall())
    still = db.execute("select count(*) from meter where state = 'open'").fetchone()[0]
    return pd.DataFrame([tuple(row) for row in rows], columns=names), sums, still, len(audit(db))


# Comparisons ----------------------------------------------------------------------------


def differences(found: Found) -> dict[str, int]:
    """Compare bills with ledgers, prices and what clients saw; count what does not agree.

    Returns
    -------
    dict
        ``answered`` (whole), ``left`` (clients), ``billed``; ``billed, not answered`` (complete,
        and its client has it not, after all repeats); ``ZERO``, which must be 0: of a request with
        two bills; of answers without a bill; of usage told and billed; of complete bills that are
        in no ledger; of costs that are not tokens times price; of clients that left and were billed
        for less text than they have or for over ``UNDER_WAY`` tokens more; of bills without a
        request; of the tenants' sums (nano-dollars).
    """
    seen, bills = found.seen, found.bills
    own = bills.assign(id=bills["id"].str.partition(":")[0])
    own["request"] = own["id"].map(found.owners)
    good = seen[(seen["status"] == 200) & seen["whole"]]
    usage = {row.id: _usage(row.end) for row in good.itertuples()}
    told = own.set_index("id")[["tokens_in", "tokens_out"]].apply(tuple, axis=1).to_dict()
    invoice = own.groupby("tenant")["cost"].sum().to_dict()
    whole = own[own["how"] == "complete"]
    answered = {*good["request"]} | {*seen.loc[seen["left"].astype(bool), "request"]}
    return {
        "answered": good["request"].nunique(),
        "left": int(seen["left"].sum()),
        "billed": len(own),
        "billed twice": int(own["request"].dropna().duplicated().sum()),
        "answered, not billed": len(usage.keys() - told.keys()),
        "tokens differ": sum(told.get(one, used) != used for one, used in usage.items()),
        "not as the ledger": _unlike(whole, found.ledger),
        "not at the price": _off_price(own),
        "left, not as received": _off_text(seen, own),
        "billed, nobody asked": int(own["request"].isna().sum()),
        "invoice differs": sum(abs(found.sums[t] - invoice.get(t, 0)) for t in found.sums),
        "open at the end": found.still,
        "sums that differ": found.off,
        "billed, not answered": len({*whole["request"]} - answered),
    }


def _unlike(whole: pd.DataFrame, ledger: pd.DataFrame) -> int:
    """Return how many complete bills are not what a provider counted for that question."""
    names = ["request", "model", "tokens_in", "tokens_out"]
    counted = {*ledger.loc[ledger["whole"].astype(bool), names].itertuples(index=False, name=None)}
    return sum(row not in counted for row in whole[names].itertuples(index=False, name=None))


def _off_price(bills: pd.DataFrame) -> int:
    """Return how many bills are not their tokens times the configuration's prices."""
    price_in, price_out = (bills["model"].map({m.name: getattr(m, side) for m in MODELS})
                           for side in PRICES)  # fmt: skip
    due = bills["tokens_in"] * price_in + bills["tokens_out"] * price_out
    return int((due != bills["cost"]).sum())


def _off_text(seen: pd.DataFrame, bills: pd.DataFrame) -> int:
    """Return how many clients that left are not billed for what reached them."""
    off = 0
    ends = seen.loc[seen["left"].astype(bool)].set_index("request")["end"].to_dict()
    for row in bills[bills["how"] == "left"].itertuples():
        have = len(_text(ends.get(row.request, "")).split())  # a token is a word
        off += not have <= row.tokens_out <= have + UNDER_WAY
    return off


def _text(end: str) -> str:
    """Return the text in the events of a stream."""
    lines = re.findall(r"^data: (\{.*\})$", end, re.MULTILINE)
    choices = [one for line in lines for one in json.loads(line).get("choices", ())]
    return "".join(one["delta"].get("content") or "" for one in choices)


def _usage(end: str) -> tuple[int, int]:
    """Return tokens in and out as the end of an answer tells them."""
    used = re.findall(r'"usage": (\{[^}]*\})', end)[-1]
    told = json.loads(used)
    return told["prompt_tokens"], told["completion_tokens"]


# The official client ---------------------------------------------------------------------

#: Seconds that a client waits, and that a late provider takes; the client's own repeats.
WAITS, LATE, AGAIN = 0.3, 0.5, 2
#: How often a provider is late before it answers at once.
LATENESS = {"late once": 1, "always late": AGAIN + 1}


def official(calls: int = 10) -> pd.DataFrame:
    """Let the official client ask a late provider, with its own repeats, with and without a key.

    The client gives up after ``WAITS`` seconds and asks again up to ``AGAIN`` times, as it does by
    default (after ten minutes). By itself it sends no ``Idempotency-Key``.

    Parameters
    ----------
    calls : int
        Of the client, each for a tenant of its own.

    Returns
    -------
    DataFrame
        ``provider`` (``late once``, ``always late``), ``key`` (whether one is sent), ``calls``,
        ``answered``, ``asked`` (attempts at the provider), ``bills`` (that cost something),
        ``twice`` (calls with more than one) and ``for_nothing`` (calls that were billed and not
        answered).
    """
    rows = []
    for provider, late in LATENESS.items():
        for key in (False, True):
            made = [_one_call(late, f"k{i}" if key else "") for i in range(calls)]
            ok, asked, bills = (np.array(column) for column in zip(*made, strict=True))
            told = {"provider": provider, "key": key, "calls": calls, "answered": int(ok.sum())}
            told |= {"asked": int(asked.sum()), "bills": int(bills.sum())}
            told |= {"twice": int((bills > 1).sum()), "for_nothing": int((~ok & (bills > 0)).sum())}
            rows.append(told)
    return pd.DataFrame(rows)


def _one_call(late: int, key: str) -> tuple[bool, int, int]:
    """Return whether a call was answered, how often its provider was asked, and its bills."""
    from openai import APIError, OpenAI

    with Live() as here:
        here.providers["north"].pause_s = LATE
        here.plan("north", *["timeout"] * late)
        options = {"api_key": here.keys["acme"], "timeout": WAITS, "max_retries": AGAIN}
        head = {"Idempotency-Key": key} if key else {}
        said = [{"role": "user", "content": "Where is my parcel?"}]
        with OpenAI(base_url=f"{here.url}/v1", **options) as client:
            try:
                client.chat.completions.create(model="swift", messages=said, extra_headers=head)
                ok = True
            except APIError:
                ok = False
        time.sleep(LATE)  # what was begun ends
        bills = here.meter("acme")
        return ok, len(here.providers["north"].ledger), int((bills["cost"] > 0).sum())
