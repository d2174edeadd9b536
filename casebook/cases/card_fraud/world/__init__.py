"""World of case 12: cards, terminals, devices and those who abuse them, under a policy.

The policy acts inside the world. ``simulate(policy)`` goes through the days; each batch of
transactions is put to the policy, which answers allow, confirm, call or block for each, and what
comes back (customers, attackers, labels) hangs on the answers.

Mechanisms
----------
*Purchases.* A customer buys at a mean of the day (own rate, own week, salary day, holiday
shopping) at hours of a profile (day, evening, night workers), from 14 lines of category and
channel with own shares. Amounts are lognormal by line, with a level of the customer. Four
purchases of five are made at favourites; trips move purchases in person to another town or
country. Members of a household share their address at home and a device, strangers share the
addresses of the mobile network and the machines of public places, so that sharing alone proves
nothing. Devices are replaced, customers join and leave.

*Fraud.* Six scenarios: ``stolen`` (a thief's burst in person), ``skimmed`` (terminals that are
compromised for weeks; cards used there are abused elsewhere with the magnetic stripe),
``phished`` (card data online), ``takeover`` (the account, with a new device), ``testing`` (many
cards, tiny amounts; a card that passes may be phished next) and ``wallet`` (cards put into
phones: a wave that begins on day 110). Rings share devices and addresses over cards. ``friendly``
fraud is none: a genuine purchase that its buyer disputes.

*Reactions.* A confirmation is passed by some attackers; otherwise its owner denies it, or nobody
answers. Genuine customers abandon confirmations with a probability of their own that differs by
segment. One who could not pay comes back, puts the card aside for days, or leaves the bank; to be
asked at all tires, and some complain. An attacker who is refused gives up, or changes amounts,
device, terminals or card and tries again later. A ring that is refused often changes all devices.
A denial, a chargeback and the call of a thief's victim cancel the card, and the attacker needs
another one; a block tells the bank nothing.

*Labels.* What went through may come back as a chargeback, after a median of 18 days, together
with others of the same victim, within 120 days or never. What did not go through has no label.

*Faults of the table.* Retries of the same request, rows that arrive hours late, terminals with a
wrong clock, devices not sent, refunds as negative amounts, and a column that is filled only
after an investigation (``case_code``). ``World.faults`` lists where.

What is independent of the policy
---------------------------------
Customers, purchases meant, victims, plans and all random numbers are drawn first, from streams
of their own, by row or by attempt. A policy selects among them. The same ``request`` in two
worlds of one seed is the same purchase or attempt; attempts after a reaction may differ in amount,
terminal, device and card, which is the reaction.

What is lost by going day by day
--------------------------------
Attackers, customers and the bank's own service react at the end of a batch. A thief who is
blocked at ten goes on until midnight, the history that a policy sees ends at midnight, and the
rows of the day lie before it all at once: it has to use earlier rows only.
``batch_hours=1`` is nearer to a bank. Besides, an attack that is blocked never
tells the bank whose card it was.

Nothing here is estimated from data. About 0.4 % of transactions are fraud, between the 0.17 % of
the ULB data (492 of 284,807) and the 0.88 % of the Fraud Handbook's simulated days; the share of
the value, about 1 %, is far above what a bank sees (0.036 % of the value of cards issued in
SEPA, European Central Bank, Seventh report on card fraud, 2021), so that a small world holds
enough frauds to learn from. The dispute window of 120 days is the card schemes' usual one. The
Handbook's three scenarios (amounts over 220, terminals compromised for 28 days, customers for
14) are the public baseline; these are others.

The two most arbitrary constants are ``PASSES`` and the reaction to a refusal (``QUITS``,
``SWITCHES``): see :mod:`~casebook.cases.card_fraud.world.constants`. The world is frozen since its
tests pass: a change of it changes every number of the case.
"""

from .constants import CHAPTER, SCENARIOS, SEED, SEGMENTS, TIERS
from .world import (
    History,
    Policy,
    World,
    cost,
    simulate,
    snapshots,
    visible_labels,
)

__all__ = [
    "CHAPTER",
    "SCENARIOS",
    "SEED",
    "SEGMENTS",
    "TIERS",
    "History",
    "Policy",
    "World",
    "cost",
    "simulate",
    "snapshots",
    "visible_labels",
]
