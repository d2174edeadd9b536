"""Messages that ask for a decision: which answers each leaves to the bank, and who bears a fraud.

The bank of this chapter issues cards. What it can answer and what a fraud costs it depend on the
message:

* With 3-D Secure the merchant asks *before* the authorisation. The bank lets the payer through
  silently (frictionless), challenges, or rejects. Letting through is an authentication too: the
  liability is the bank's in either case. The authorisation that follows can only be approved or
  declined, and its probability is that of a payment whose owner has confirmed.
* Online without 3-D Secure, or with an exemption that the merchant's bank asked for, a fraud goes
  back to the merchant through a chargeback: after the bank has refunded its customer, and if it
  wins the dispute. To ask there is a *soft decline*: the merchant comes back with 3-D Secure. An
  exemption that the bank itself grants leaves the loss with the bank.
* At a till or a cash machine nobody waits for a push. To confirm is to decline, to ask on the
  phone, and to approve the second try: a block with a remedy.
* A subscription that renews itself has nobody to ask; a terminal that was offline tells of
  purchases that have happened; a reversal takes back a payment that was decided. A verification
  moves no money: at stake is what the card is used for next.

Sources: Regulation (EU) 2015/751, article 3 (interchange of debit cards, at most 0.2 % of the
value); Directive (EU) 2015/2366, articles 73 (the payer is refunded at once) and 74(2) (who does
not accept strong authentication refunds the payer's bank); Delegated Regulation (EU) 2018/389,
articles 16 (up to 30 euro, with counters) and 18 (low risk: up to 100, 250 or 500 euro, by the
fraud rate of who asks). The contracts of card schemes decide the rest and differ: ask for yours.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from casebook.evaluate.fraud_costs import ANSWERS, Economics, answer_costs, cheapest

#: Largest fee for a debit card in the European Union, as a share of the purchase.
CAP_DEBIT = 0.002
#: Largest payment that can be exempted from strong authentication for low risk, in euro.
EXEMPTED = 500.0
#: What a verified card is used for next, if it is in a thief's hands, in euro: an assumption.
NEXT_USE = 60.0


@dataclass(frozen=True)
class Message:
    """A kind of message.

    Attributes
    ----------
    name : str
    what : str
        In words.
    answers : tuple of str
        What the bank can still do.
    bears : float
        Share of a fraud that the bank pays when it answers allow.
    asks : str
        What *confirm* is here.
    stake : float or None
        Euro at stake in place of the amount.
    confirmed : bool
        Whether its owner has confirmed it before.
    decided : bool
        Whether there is anything to decide.
    """

    name: str
    what: str
    answers: tuple[str, ...]
    bears: float = 1.0
    asks: str = ""
    stake: float | None = None
    confirmed: bool = False
    decided: bool = True


_SILENT = ("allow", "block")
MESSAGES: dict[str, Message] = {
    message.name: message
    for message in (
        Message("purchase", "at a till or a cash machine", ANSWERS, asks="decline, ask, try again"),
        Message("3-D Secure", "online, before the authorisation", ANSWERS, asks="challenge"),
        Message("authenticated", "its authorisation, once challenged", _SILENT, confirmed=True),
        Message("unauthenticated", "online without, or exempted", ANSWERS, 0.0, "soft decline"),
        Message("recurring", "a subscription renews itself", _SILENT, 0.0),
        Message("verification", "0 euro: is this card alive?", _SILENT, stake=NEXT_USE),
        Message("offline", "a terminal reports what it approved", ("allow",)),
        Message("reversal", "takes back a payment", ("allow",), decided=False),
    )
}


def message(name: str) -> Message:
    """Return a kind of message.

    Raises
    ------
    ValueError
        With the kinds that there are.
    """
    if name not in MESSAGES:
        raise ValueError(f"no message {name!r}: one of {', '.join(MESSAGES)} is due")
    return MESSAGES[name]


def once_confirmed(probability: float, economics: Economics | None = None) -> float:
    """Return the probability of fraud of a payment that its owner, or an attacker, has confirmed.

    Examples
    --------
    >>> round(once_confirmed(0.05), 4)
    0.0068
    """
    e = economics or Economics()
    fraud, genuine = probability * e.passes_push, (1 - probability) * (1 - e.abandons_push)
    return fraud / (fraud + genuine) if fraud + genuine else 0.0


def answer(
    probability: float,
    amount: float,
    kind: str = "purchase",
    economics: Economics | None = None,
    price: float = 0.0,
) -> tuple[str, dict[str, float]]:
    """Return the cheapest answer to one message, and what each answer costs in expectation.

    Parameters
    ----------
    probability : float
        Of fraud, before anybody was asked.
    amount : float
    kind : str
        Name of a :class:`Message`.
    economics : Economics, optional
    price : float
        Of friction, as of the guardrail.

    Examples
    --------
    >>> [answer(0.05, 200, kind)[0] for kind in ("3-D Secure", "authenticated", "unauthenticated")]
    ['confirm', 'allow', 'allow']
    >>> answer(0.05, 0, "verification")[1]
    {'allow': 3.75, 'block': 3.2}
    """
    kinds = message(kind)
    if not kinds.decided:
        return "allow", {}
    stake = amount if kinds.stake is None else kinds.stake
    p = once_confirmed(probability, economics) if kinds.confirmed else probability
    costs = answer_costs(p, stake, economics, kinds.bears).iloc[0]
    best = cheapest(p, stake, economics, price, kinds.answers, kinds.bears)[0]
    return str(best), {name: round(float(costs[name]), 2) for name in kinds.answers}


def cost_table(
    probability: float, amount: float, economics: Economics | None = None
) -> pd.DataFrame:
    """Return what each answer costs for each kind of message, and the cheapest.

    Returns
    -------
    DataFrame
        Index ``message``; ``what`` it is, a column for each answer (empty where the message does
        not leave it), ``confirm is`` and ``cheapest``.
    """
    rows = {}
    for name, kind in MESSAGES.items():
        best, costs = answer(probability, amount, name, economics)
        rows[name] = {"what": kind.what} | {a: costs.get(a, np.nan) for a in ANSWERS}
        rows[name] |= {"confirm is": kind.asks, "cheapest": best}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("message")


def borne(channel: pd.Series | np.ndarray, amount: np.ndarray) -> np.ndarray:
    """Return the share that the bank bears, if all that can be exempted online is.

    The world of this chapter does not say who was authenticated: this is the other extreme.
    """
    online = np.asarray(channel).astype(str) == "online"
    return np.where(online & (np.asarray(amount) <= EXEMPTED), 0.0, 1.0)
