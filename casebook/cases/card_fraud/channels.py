"""Messages that ask for a decision: which answers each leaves to the bank, and who bears a fraud.

The bank of this chapter issues cards. A purchase with chip or phone, and one that its owner has
confirmed, are the bank's loss when they are fraud. Online without a confirmation the loss goes back
to the merchant through a chargeback; what stays with the bank is the work. That holds also where
the merchant's bank asked for an exemption from strong customer authentication, such as the one for
low risk. So a confirmation does two things at once: it stops most frauds, and it takes over the
liability for those that pass.

Not every message leaves all answers. Nobody sits in front of a subscription that renews itself; a
terminal that was offline tells of purchases that have happened; a reversal gives money back. A
verification moves no money, and what is at stake is what the card will be used for next.

Sources: Regulation (EU) 2015/751, article 3 (interchange of debit cards, at most 0.2 % of the
value); Directive (EU) 2015/2366, articles 73 (the payer is refunded) and 74(2) (who does not accept
strong authentication refunds the payer's bank); Delegated Regulation (EU) 2018/389, article 18
(payments of low risk, by amount and the fraud rate of who asks); European Banking Authority, Q&A
2018_4034. The contracts of card schemes decide the rest and differ: ask for yours.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from .costs import ANSWERS, Economics, answer_costs, cheapest

#: Largest fee for a debit card in the European Union, as a share of the purchase.
CAP_DEBIT = 0.002
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
    stake : float or None
        Euro at stake in place of the amount.
    """

    name: str
    what: str
    answers: tuple[str, ...]
    bears: float
    stake: float | None = None


_SILENT = ("allow", "block")
MESSAGES: dict[str, Message] = {
    message.name: message
    for message in (
        Message("purchase", "at a terminal, or nobody says who was asked", ANSWERS, 1.0),
        Message("authenticated", "online, confirmed by its owner (3-D Secure)", _SILENT, 1.0),
        Message("exempted", "online, not confirmed: the merchant's bank asks for it", ANSWERS, 0.0),
        Message("recurring", "a subscription; its first payment was confirmed", _SILENT, 0.0),
        Message("verification", "0 euro: is this card alive?", _SILENT, 1.0, NEXT_USE),
        Message("offline", "a terminal reports what it approved", ("allow",), 1.0),
        Message("reversal", "takes an earlier payment back", ("allow",), 0.0, 0.0),
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
    probability, amount : float
    kind : str
        Name of a :class:`Message`.
    economics : Economics, optional
    price : float
        Of friction, as of the guardrail.

    Examples
    --------
    >>> answer(0.05, 200, "purchase")[0], answer(0.05, 200, "exempted")[0]
    ('confirm', 'allow')
    >>> answer(0.05, 0, "verification")[1]
    {'allow': 3.75, 'block': 3.2}
    """
    kinds = message(kind)
    stake = amount if kinds.stake is None else kinds.stake
    costs = answer_costs(probability, stake, economics, kinds.bears).iloc[0]
    best = cheapest(probability, stake, economics, price, kinds.answers, kinds.bears)[0]
    return str(best), {name: round(float(costs[name]), 2) for name in kinds.answers}


def cost_table(
    probability: float, amount: float, economics: Economics | None = None
) -> pd.DataFrame:
    """Return what each answer costs for each kind of message, and the cheapest.

    Returns
    -------
    DataFrame
        Index ``message``; a column for each answer (empty where the message does not leave it)
        and ``cheapest``.
    """
    rows = {}
    for name in MESSAGES:
        best, costs = answer(probability, amount, name, economics)
        rows[name] = {**{a: costs.get(a, np.nan) for a in ANSWERS}, "cheapest": best}
    return pd.DataFrame(rows).T.rename_axis("message")


def borne(channel: pd.Series) -> np.ndarray:
    """Return the share that the bank bears, if nothing online is authenticated and exempted all.

    The world of this chapter does not say who was authenticated: this is the other extreme.
    """
    return np.where(channel.astype(str) == "online", 0.0, 1.0)
