"""The steps of the pipeline: each reads the folders of others and writes one of its own.

A row is a payment as the feature store knows it when the bank decides (:data:`FEATURES`) and what
is derived from that (:data:`DERIVED`). Training derives it for a table (:func:`matrix`), the
service for one payment (:func:`vector`): two pieces of code, which a gate compares
(:func:`~casebook.cases.deployment_pipeline.gates.check`).
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from casebook.data.contracts import ContractBroken, between, enforce, need_columns, summary, typed
from casebook.evaluate import fraud_costs as costs
from casebook.evaluate.intervals import mean_interval

if TYPE_CHECKING:
    import lightgbm
    import pandera.pandas as pa

#: What a payment must have (chapter 12's definitions), with the values that are believed.
LIMITS: Mapping[str, tuple[float, float]] = {
    "amount": (-50_000, 50_000),
    "amount_ratio": (-10_000, 10_000),
    "customer_sum_24h": (0, 500_000),
    "customer_mean_30d": (0, 50_000),
    "log_seconds_since_last": (0, 20),
    "tenure": (0, 40_000),
    "km_from_home": (0, 25_000),
    "speed": (0, 250_000),
    "device_age": (0, 20_000),
    "customer_count_1h": (0, 1_000),
    "customer_count_24h": (0, 5_000),
    "customer_small_24h": (0, 5_000),
    "terminal_count_7d": (0, 1_000_000),
    "terminal_risk_30d": (0, 1),
    "device_customers_7d": (0, 10_000),
    "ip_customers_24h": (0, 100_000),
    "online": (0, 1),
    "terminal_new": (0, 1),
    "device_new": (0, 1),
    "night": (0, 1),
    "wallet": (0, 1),
    "magstripe": (0, 1),
}
FEATURES = tuple(LIMITS)
DERIVED = ("log_amount", "day_share")
COLUMNS = ("at", *FEATURES, "fraud", "known_at")
#: Euro between which the median payment of a day lies, of so many payments; cents lie above.
USUAL, ENOUGH = (5.0, 200.0), 30
#: What a run may change; each step has the settings that it names in the pipeline.
SETTINGS: Mapping[str, Any] = {
    "wait": 30,  # days after which a payment without a report counts as genuine
    "test_days": 21,
    "bad_rows": 0.001,  # share that is put aside; above it the table is refused
    "seed": 0,
    "rounds": 120,
    "learning_rate": 0.06,
    "num_leaves": 15,
    "min_data_in_leaf": 50,
    "min_sum_hessian_in_leaf": 1.0,
    "lambda_l2": 1.0,
    "feature_fraction": 0.6,
}
LEARNING = tuple(SETTINGS)[3:]
#: One thread and one order of sums: the same rows give the same bytes.
SAME = {"objective": "binary", "num_threads": 1, "deterministic": True, "force_row_wise": True}
#: Payments whose scores travel with the model: whoever loads it computes them again.
PROBES = 20
DAY = pd.Timedelta(days=1)
REMEDIES = {
    "column": "send it, or tell the owners of the model that it is gone",
    "type": "send true and false as such",
    "empty": "send the value, or leave the row out",
    "unit": "send euro, not cents",
    "repeat": "send each payment once",
}


# Rows --------------------------------------------------------------------------------------------


def contract() -> pa.DataFrameSchema:
    """Return the contract of a table of payments; the service refuses what it refuses."""
    import pandera.pandas as pa

    numbers = {name: between(None, *ends, rule="range") for name, ends in LIMITS.items()}
    return pa.DataFrameSchema({"at": pa.Column(), "fraud": pa.Column(bool), **numbers})


def accepted(frame: pd.DataFrame, most: float = SETTINGS["bad_rows"]) -> tuple[pd.DataFrame, list]:
    """Return the rows that keep the contract, and a line on each rule that others break.

    Parameters
    ----------
    frame : DataFrame
        ``at``, :data:`FEATURES`, ``fraud``.
    most : float
        Share of the rows that may be put aside.

    Raises
    ------
    ContractBroken
        If more rows are bad, a column is missing or has another type, the amounts are of another
        unit, or there is no row: what is wrong, where, and what to do.
    """

    def lines(rule: str, what: str, rows: pd.DataFrame) -> list[str]:
        remedy = REMEDIES.get(rule, "look at what computes it")
        return [summary(f"{rule}: {what}", rows, ["at"], remedy)]

    if frame.empty:
        raise ContractBroken(["rows: the table is empty; look at the feed"], frame, frame)
    numbers = [name for name in FEATURES if name in frame]
    said, good = [], typed(frame, numbers, ["at"] if "at" in frame else [])
    if what := _unit(good):  # before rows are blamed for it
        raise ContractBroken([f"unit: {what}; {REMEDIES['unit']}"], frame, frame.iloc[:0])
    again = good.duplicated(["at", *numbers]) if "at" in good else good.index < 0
    if bad := int(np.sum(again)):
        said += lines("repeat", "the same payment again", good[again])
        if bad > most * len(frame):
            raise ContractBroken(said, frame[again], frame[~again])
        good = good[~again]
    try:
        enforce(contract(), good, lines)
    except ContractBroken as broken:
        said, good = [*said, *broken.lines], broken.accepted
        if len(broken.rows) + bad > most * len(frame):
            raise
    return good, said


def _unit(frame: pd.DataFrame) -> str:
    """Return which days have amounts of another unit, the whole table first, or ""."""
    amounts = frame["amount"] if "amount" in frame else pd.Series(dtype=float)
    amounts = amounts[np.isfinite(amounts)]
    medians = pd.Series({"the whole table": amounts.median()})
    if "at" in frame:  # a few days of cents do not move the median of months
        by = amounts.groupby(frame["at"].dt.strftime("%Y-%m-%d")).agg(["median", "size"])
        medians = pd.concat([medians, by.loc[by["size"] >= ENOUGH, "median"]])
    off = medians[(medians < USUAL[0]) | (medians > USUAL[1])]
    if off.empty:
        return ""
    days = ", ".join(off.index[:5]) + (f" and {len(off) - 5} more" if len(off) > 5 else "")
    usual = f"usual are {USUAL[0]:g} to {USUAL[1]:g}"
    return f"the median amount is {off.iloc[0]:,.2f} ({days}), {usual}"


def as_of(frame: pd.DataFrame, until: pd.Timestamp) -> pd.DataFrame:
    """Return what was known at a moment: earlier payments, with the reports that had arrived.

    Rows without a time stay, and labels of another type, so that the contract refuses them.
    """
    need_columns(frame, COLUMNS, "payments")
    seen = frame.loc[~(frame["at"] >= until), list(COLUMNS)].reset_index(drop=True)
    arrived = seen["known_at"].le(until)
    said = seen["fraud"]
    if said.dtype == bool:  # else the contract says so
        said = said & arrived
    return seen.assign(fraud=said, known_at=seen["known_at"].where(arrived))


def known(frame: pd.DataFrame, until: pd.Timestamp, wait: float = SETTINGS["wait"]) -> pd.DataFrame:
    """Return the payments whose label is trusted at a moment: those ``wait`` days old."""
    seen = as_of(frame, until)
    return seen[seen["at"] < until - wait * DAY]


def joined(rows: pd.DataFrame, labels: pd.DataFrame) -> pd.DataFrame:
    """Return payments with the report on each, as :func:`as_of` takes them.

    Parameters
    ----------
    rows : DataFrame
        ``at`` and :data:`FEATURES`.
    labels : DataFrame
        ``row`` (index of ``rows``, each once), ``known_at`` and ``fraud``.

    Raises
    ------
    ValueError
        If a payment has two reports, which would make it two payments, or a report is no truth
        value.
    """
    if twice := int(labels["row"].duplicated().sum()):
        raise ValueError(f"{twice} reports are on a payment that has one: keep the latest of each")
    if labels["fraud"].dtype != bool:
        raise ValueError(f"fraud is {labels['fraud'].dtype}: {REMEDIES['type']}")
    both = rows[["at", *FEATURES]].join(labels.set_index("row")[["fraud", "known_at"]])
    return both.assign(fraud=both["fraud"].eq(True))


def matrix(frame: pd.DataFrame) -> np.ndarray:
    """Return the model's inputs for a table, shape (n, 24)."""
    need_columns(frame, FEATURES, "payments")
    spent = np.clip(frame["amount"].to_numpy(float), 0, None)
    day = frame["customer_sum_24h"].to_numpy(float)
    derived = [np.log1p(spent), spent / (1 + spent + day)]
    return np.column_stack([frame[name].to_numpy(float) for name in FEATURES] + derived)


def vector(payment: Mapping[str, Any]) -> np.ndarray:
    """Return the model's inputs for one payment as it is served, shape (1, 24)."""
    spent = max(float(payment["amount"]), 0.0)
    derived = [np.log1p(spent), spent / (1 + spent + float(payment["customer_sum_24h"]))]
    return np.array([[*(payment[name] for name in FEATURES), *derived]], float)


# Model -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Model:
    """A trained model: LightGBM's text, and what must be known of it.

    Attributes
    ----------
    text : str
    meta : mapping
        ``inputs``, ``settings``, ``rows``, ``frauds``, ``trained_until`` (last day seen) and
        ``probes``: payments with the score that the training computed.
    """

    text: str
    meta: Mapping[str, Any]

    @cached_property
    def booster(self) -> lightgbm.Booster:
        import lightgbm

        return lightgbm.Booster(model_str=self.text)

    def score(self, frame: pd.DataFrame) -> np.ndarray:
        """Return the probability of fraud of each payment, shape (n,)."""
        return self.booster.predict(matrix(frame), num_threads=1)

    def one(self, payment: Mapping[str, Any]) -> float:
        """Return the probability of fraud of one payment, through the code of the service."""
        return float(self.booster.predict(vector(payment), num_threads=1)[0])

    def probed(self) -> str:
        """Return what is wrong with the model here, or "": its probes are scored again."""
        if self.meta["inputs"] != [*FEATURES, *DERIVED]:
            return "the model was trained on other inputs: train it with this code"
        wanted = [probe["score"] for probe in self.meta["probes"]]
        if not wanted:
            return "it has no probes, so nothing tells whether it scores as in training"
        found = [self.one(probe) for probe in self.meta["probes"]]
        off = sum(a != b for a, b in zip(found, wanted, strict=True))
        return f"{off} of {len(wanted)} probes have another score than in training" if off else ""

    def save(self, folder: Path) -> None:
        """Write ``model.txt``, and ``meta.json`` with its hash."""
        (folder / "model.txt").write_text(self.text)
        meta = {**self.meta, "sha256": _hash(self.text)}
        (folder / "meta.json").write_text(json.dumps(meta, indent=1))

    @classmethod
    def load(cls, folder: Path | str) -> Model:
        """Read a model from its folder.

        Raises
        ------
        ValueError
            If its text is not what was saved: LightGBM ends the process over a damaged one.
        """
        where = Path(folder)
        text = (where / "model.txt").read_bytes().decode(errors="replace")
        meta = json.loads((where / "meta.json").read_text())
        if meta.pop("sha256", "") != _hash(text):
            raise ValueError(f"{where / 'model.txt'} is not what was saved: fetch it again.")
        return cls(text, meta)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def train(frame: pd.DataFrame, seed: int = 0, settings: Mapping[str, Any] = SETTINGS) -> Model:
    """Train the model; the same rows, seed and settings give the same bytes.

    Parameters
    ----------
    frame : DataFrame
        Payments with the label to learn in ``fraud``, such as of :func:`known`.
    seed : int
    settings : mapping
        Of LightGBM; see :data:`SETTINGS`.

    Raises
    ------
    ValueError
        If one of the classes has no row.
    """
    import lightgbm

    y = frame["fraud"].to_numpy(float)
    if not 0 < y.sum() < len(y):
        raise ValueError(f"{y.sum():.0f} frauds among {len(y)} payments: send rows of both kinds.")
    chosen = {name: settings[name] for name in LEARNING if name != "seed"}
    given = {**SAME, "verbosity": -1, "seed": seed, **chosen}
    rounds = given.pop("rounds")
    inputs = [*FEATURES, *DERIVED]
    data = lightgbm.Dataset(matrix(frame), y, feature_name=inputs)
    text = lightgbm.train(given, data, num_boost_round=rounds).model_to_string()
    meta = {
        "inputs": inputs,
        "settings": {**chosen, "seed": seed},
        "rows": len(y),
        "frauds": int(y.sum()),
        "trained_until": str(frame["at"].max()),
    }
    model = Model(text, meta)
    half, spread = PROBES // 2, frame.iloc[:: max(2 * len(y) // PROBES, 1)]
    some = pd.concat([frame[frame["fraud"]].head(half), spread.head(half)])
    probes = some[list(FEATURES)].astype(float).assign(score=model.score)
    return Model(text, meta | {"probes": probes.to_dict("records")})


def tiers(p: Sequence[float] | np.ndarray, amount: Sequence[float] | np.ndarray) -> np.ndarray:
    """Return the cheapest answer to each payment: the one decision of page, gates and service."""
    return costs.tiers(p, amount)


def cost(tier: np.ndarray, amount: np.ndarray, fraud: np.ndarray) -> np.ndarray:
    """Return what answers cost, in euro a payment, now that it is known which were fraud."""
    lines = costs.expected_costs(np.asarray(fraud, float), np.asarray(amount, float))
    return lines.to_numpy()[np.arange(len(lines)), [lines.columns.get_loc(one) for one in tier]]


#: What an analyst would do without a model: the answer, and what it holds for.
RULES: tuple[tuple[str, Callable[[Any], Any]], ...] = (
    ("confirm", lambda f: (f["magstripe"] > 0) & (f["amount"] > 150)),
    ("confirm", lambda f: (f["device_new"] > 0) & (f["amount"] > 300)),
    ("confirm", lambda f: (f["online"] > 0) & (f["ip_customers_24h"] >= 3) & (f["amount"] > 50)),
    ("confirm", lambda f: (f["customer_sum_24h"] > 1_500) | (f["speed"] > 900)),
    ("confirm", lambda f: f["terminal_risk_30d"] > 0.1),
    ("block", lambda f: f["device_customers_7d"] >= 3),
)


def by_rules(frame: pd.DataFrame) -> np.ndarray:
    """Return the answers of the rules: the baseline, and what the service falls back to."""
    answer = np.full(len(frame), "allow", dtype=object)
    for tier, holds in RULES:
        answer[np.asarray(holds(frame), bool)] = tier
    return answer


def rule_for(payment: Mapping[str, Any]) -> str:
    """Return the answer of the rules to one payment."""
    return next((tier for tier, holds in reversed(RULES) if holds(payment)), "allow")


# Steps: folders of the others, own folder, settings ----------------------------------------------

Have = Mapping[str, Path]


def data(have: Have, out: Path, settings: Mapping[str, Any]) -> None:
    """Hold the table to its contract; what is put aside is counted."""
    frame = pd.read_parquet(have["source"] / "payments.parquet")
    good, lines = accepted(frame, settings["bad_rows"])
    good = good.sort_values(["at", *FEATURES])  # the order in which they came changes nothing
    good.to_parquet(out / "payments.parquet", index=False)
    told = {"rows": len(good), "put_aside": len(frame) - len(good), "lines": lines}
    (out / "report.json").write_text(json.dumps(told, indent=1))


def features(have: Have, out: Path, settings: Mapping[str, Any]) -> None:
    """Take the payments whose labels are trusted, the last days of them for the test."""
    seen = pd.read_parquet(have["data"] / "payments.parquet")
    until = pd.Timestamp(settings["until"])
    rows = known(seen, until, settings["wait"])
    cut = until - (settings["wait"] + settings["test_days"]) * DAY
    for name, part in (("train", rows[rows["at"] < cut]), ("test", rows[rows["at"] >= cut])):
        if part.empty:
            raise ValueError(f"no rows to {name}: {until} leaves none before {cut}, or after.")
        part.to_parquet(out / f"{name}.parquet", index=False)


def fit(have: Have, out: Path, settings: Mapping[str, Any]) -> None:
    """Train."""
    rows = pd.read_parquet(have["features"] / "train.parquet")
    train(rows, settings["seed"], settings).save(out)


def evaluate(have: Have, out: Path, settings: Mapping[str, Any]) -> None:
    """Score the test days; write what the model is worth, and its card."""
    from sklearn.metrics import average_precision_score

    model, rows = Model.load(have["train"]), pd.read_parquet(have["features"] / "test.parquet")
    score, amount, fraud = model.score(rows), rows["amount"].to_numpy(), rows["fraud"].to_numpy()
    days = rows["at"].dt.normalize().to_numpy()
    saved = cost(by_rules(rows), amount, fraud) - cost(tiers(score, amount), amount, fraud)
    by_day = 1000 * pd.Series(saved).groupby(days).mean()
    worth = {
        "average_precision": float(average_precision_score(fraud, score)),
        "saved_against_rules": list(mean_interval(by_day)),
        "payments": len(rows),
        "frauds": int(fraud.sum()),
        "days": len(by_day),
    }
    (out / "evaluation.json").write_text(json.dumps(worth, indent=1))
    (out / "card.json").write_text(json.dumps(card(model, worth), indent=1))
    scores = pd.DataFrame({"at": rows["at"], "score": score, "fraud": fraud})
    scores.to_parquet(out / "scores.parquet", index=False)


def card(model: Model, worth: Mapping[str, Any]) -> dict[str, str]:
    """Return the model card: what a reviewer must find before the model decides anything."""
    low, high = worth["saved_against_rules"][1:]
    n, days = f"{worth['payments']:,} payments", worth["days"]
    return {
        "purpose": "chooses allow, confirm, call or block for a card payment",
        "not for": "credit, hiring, or any decision about a person beyond one payment",
        "training data": f"{model.meta['rows']:,} payments to {model.meta['trained_until'][:10]}, "
        f"{model.meta['frauds']:,} of them fraud",
        "evaluation": f"average precision {worth['average_precision']:.3f} on {n} of {days} days; "
        f"saves {low:.0f} to {high:.0f} euro per thousand payments against the rules (95 %)",
        "limits": "labels are trusted after a month; new kinds of fraud are not in them",
        "fall-back": "six rules answer when the model does not within two seconds",
        "owner": "the fraud team; the version before it is one swap away",
    }


def finite_probability(value: Any) -> float:
    """Return a probability; a ``ValueError`` for anything else, such as NaN."""
    if not isinstance(value, float) or not math.isfinite(value) or not 0 <= value <= 1:
        raise ValueError(f"{value!r} is no probability.")
    return value
