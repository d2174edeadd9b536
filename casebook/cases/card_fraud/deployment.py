"""The bank's service put together: feature store, rules, model, policy, audit, breaker.

:func:`app` is what ``python -m casebook.serving.load --factory`` starts: a service
on the small world of the data card, trained on its first months and warm with its history. It
decides as the benchmark does: the model's probability, and :class:`~.answers.Answers` with the
price of the guardrail and the hold-back. The rules decide alone where the model does not answer.
(Before the model the two hard ones would block one genuine payment per thousand that the policy
lets through.)
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.special import logit

from casebook.cases.card_fraud.world import simulate
from casebook.cases.card_fraud.world.constants import SNAPSHOT
from casebook.features import card_payments as features
from casebook.features.card_payments.words import CATEGORIES, ENTRIES
from casebook.serving.breaker import Breaker
from casebook.serving.log import canonical, sha256
from casebook.serving.reasons import lost_when_usual, top_reasons
from casebook.serving.tokens import Tokens, key_at

from . import bank, models, rules
from .answers import GUARDRAIL, HOLDBACK, Answers, within
from .audit import Audit
from .schema import payload

if TYPE_CHECKING:
    from fastapi import FastAPI

#: Day on which the small world's service begins.
BEGINS = 117
#: Names of the codes among the features.
CODES = {"entry": ENTRIES, "category": CATEGORIES}


@dataclass(frozen=True)
class Deployment:
    """A trained model with the history that the service starts from.

    Attributes
    ----------
    here : Setting
        The world, cut at the day on which the service begins.
    model : Model
        The bank's model.
    usual : Series
        Median of each feature over the genuine rows of the training; of a code the most frequent.
    answers : Answers
        The policy, with the guardrail's price. The service adds the hold-back, by its own key.
    """

    here: bank.Setting
    model: models.Model
    usual: pd.Series
    answers: Answers

    def past(self, tokens: Tokens) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Return what arrived before the service begins, and the evidence that was known by then.

        Cards stand there by their tokens.
        """
        world = self.here.world
        past = world.transactions[world.transactions["received"] < self.here.start]
        token = {card: tokens(card) for card in past["card"].unique().tolist()}
        known = features.evidence(world.transactions, world.labels)
        known = known[known["known"] < self.here.start]
        known = known[known["transaction"].isin(past["transaction"])]
        return past.assign(card=past["card"].map(token)), known

    def store(self, tokens: Tokens) -> features.OnlineStore:
        """Return a store that holds all that arrived and was known before the service begins."""
        store = features.OnlineStore(self.here.world.terminals, self.here.world.customers)
        store.warm(*self.past(tokens))
        return store

    def layout(self) -> str:
        """Return a digest of what a store is made of: its code, the master data, the first day."""
        files = sorted(Path(features.__file__).parent.glob("*.py"))
        code = [file.read_text("utf-8") for file in files]
        tables = (self.here.world.customers, self.here.world.terminals)
        data = [pd.util.hash_pandas_object(table).tolist() for table in tables]
        return sha256(canonical([code, str(self.here.start), data]))

    def score(self, row: Mapping[str, float]) -> tuple[float, Sequence[str]]:
        """Return probability and reasons of one event."""
        table = pd.DataFrame([row], columns=list(features.FEATURES))
        return float(self.model.score(table)[0]), self.reasons(table)

    def contributions(self, table: pd.DataFrame) -> np.ndarray:
        """Return what each feature of one event adds to the log odds of the model that decides.

        It is the mean of the line's and the trees' (``pred_contrib``, SHAP); their sum differs from
        the log odds by the same number for every event.
        """
        line, trees = self.model.inner
        table = table[list(self.model.columns)]
        # A usual payment is surer than the billionth at which `bank.log_odds` cuts.
        of_line = lost_when_usual(lambda X: logit(line.score(X)), table, self.usual)
        return (of_line + trees.inner.predict(table, pred_contrib=True)[0, :-1]) / 2

    def reasons(self, table: pd.DataFrame, n: int = 3) -> list[str]:
        """Return what raises the probability of one event most, in the model that decides."""
        return top_reasons(
            list(table),
            self.contributions(table),
            table.iloc[0].tolist(),
            features.FEATURES,
            n,
            usual=self.usual.to_dict(),
            codes=CODES,
        )

    def save(self, path: Path | str) -> None:
        """Write the deployment to a file, for :func:`app` in another process.

        The file is a pickle: read back only what this process wrote.
        """
        import cloudpickle

        with open(path, "wb") as file:
            cloudpickle.dump(self, file)

    def payloads(self, n: int | None = None) -> list[dict[str, Any]]:
        """Return the requests that arrive from the beginning of the service on, in order."""
        world = self.here.world
        rows = world.transactions[world.transactions["received"] >= self.here.start]
        rows = rows[~rows["request"].duplicated()].head(n)
        return [payload(row, stamped=True) for row in rows.to_dict("records")]


def small(customers: int = SNAPSHOT[0], days: int = SNAPSHOT[1]) -> Deployment:
    """Train the bank's model on the small world of the data card."""
    here = bank.setting(simulate(n_customers=customers, days=days), BEGINS)
    return deploy(here, bank.train(here))


def deploy(here: bank.Setting, model: models.Model) -> Deployment:
    """Return a deployment of a trained model."""
    genuine = here.X.loc[here.labels.index[here.labels == 0]]
    usual = genuine.median()
    usual[list(CODES)] = genuine[list(CODES)].mode().iloc[0]
    answers = within(GUARDRAIL, Answers(), *here.expected(model.score))
    return Deployment(here, model, usual, answers)


def app(
    audit: str,
    saved: str | None = None,
    budget_ms: float = 40,
    dies_at: str | None = None,
    made: Deployment | None = None,
) -> FastAPI:
    """Return the service of a small bank.

    Parameters
    ----------
    audit : str
        Path of the audit's file; an older one is taken up. Its anchor, the store's snapshot and
        the key of the cards' tokens and the hold-back lie beside it: a bank keeps them in other
        places.
    saved : str, optional
        File of :meth:`Deployment.save`, for a process of its own.
    budget_ms : float
        What the model may take.
    dies_at : str, optional
        Kill this process there, as if its machine had lost power: ``"observed"``, when the
        audit and the store have the decision and the client has no reply yet.
    made : Deployment, optional
        In place of a file; without both :func:`small` trains one.
    """
    from .service import create_app

    if made is None and saved is not None:
        import pickle

        made = pickle.loads(Path(saved).read_bytes())
    made = made or small()
    key = key_at(f"{audit}.key")
    tokens = Tokens(key)
    return create_app(
        store=made.store(tokens),
        score=made.score,
        rules=rules.none,
        fallback=rules.alone,
        policy=replace(made.answers, holdback=HOLDBACK, key=b"hold-back " + key),
        tokens=tokens,
        usual=made.usual.to_dict(),
        state=Path(f"{audit}.state"),
        layout=made.layout(),
        audit=Audit(Path(audit), anchor=f"{audit}.anchor", sign=tokens),
        breaker=Breaker(budget_ms=budget_ms),
        terminals=frozenset(made.here.world.terminals["terminal"].tolist()),
        customers=frozenset(made.here.world.customers["customer"].tolist()),
        model="bank's model of the small world",
        rules_version=f"{len(rules.RULES)} rules",
        gateway=True,
        hook=lambda point: os.kill(os.getpid(), signal.SIGKILL) if point == dies_at else None,
    )
