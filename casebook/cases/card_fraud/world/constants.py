"""Constants of the world of case 12: every number that shapes it, in one place.

The two most arbitrary are ``PASSES`` (how many attackers get past a confirmation) and the
reaction to a refusal (``QUITS`` and ``SWITCHES``): nothing public gives them, and they decide
what blocking is worth. Repeat a result that hangs on them with other values.

Codes are positions in the tuples of names; they are the values in the arrays of the simulation.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from casebook.evaluate import fraud_costs
from casebook.features.card_payments import words

CHAPTER = "12_card_fraud"
SEED = 2026
#: Midnight of the first day. 180 days from here hold the holiday shopping of one year.
START = np.datetime64("2025-07-01T00:00:00", "ms")
#: Default size: about a million transactions.
CUSTOMERS, DAYS = 6000, 180
#: Customers and days of the snapshot in ``data/``.
SNAPSHOT = 400, 130

#: What a policy may answer, from the least to the most friction.
TIERS = fraud_costs.TIERS
ALLOW, CONFIRM, CALL, BLOCK = range(4)
#: The words that a bank and its world share, in the order of their codes.
CATEGORIES, CHANNELS, COUNTRIES = words.CATEGORIES, words.CHANNELS, words.COUNTRIES
ENTRIES, OUTCOMES = words.ENTRIES, words.OUTCOMES
APPROVED, CONFIRMED, DENIED, ABANDONED, DECLINED = range(5)  # the outcomes
CHIP, CONTACTLESS, WALLET, MAGSTRIPE, TYPED, STORED = range(6)
SEGMENTS = ("standard", "elderly", "newcomer")
SCENARIOS = ("genuine", "stolen", "skimmed", "phished", "takeover", "testing", "wallet", "friendly")
#: The six that are fraud are 1 to 6; friendly fraud is a genuine transaction that is disputed.
STOLEN, SKIMMED, PHISHED, TAKEOVER, TESTING, WALLETED, FRIENDLY = range(1, 8)
N_FRAUD = 6

# Purchases ---------------------------------------------------------------------------------

#: Category, channel, share of purchases, median amount (euro), log sd, factor of the share in
#: the holiday season. Shares sum to one.
LINES = (
    ("grocery", 0, 0.24, 28.0, 0.70, 1.0),
    ("restaurant", 0, 0.12, 19.0, 0.60, 1.1),
    ("fuel", 0, 0.07, 45.0, 0.35, 1.0),
    ("transport", 0, 0.08, 6.0, 0.60, 0.9),
    ("pharmacy", 0, 0.05, 16.0, 0.60, 1.0),
    ("clothes", 0, 0.05, 48.0, 0.70, 1.5),
    ("electronics", 0, 0.02, 130.0, 0.90, 2.0),
    ("cash", 0, 0.06, 80.0, 0.60, 1.0),
    ("marketplace", 1, 0.13, 32.0, 0.80, 1.8),
    ("digital", 1, 0.07, 9.0, 0.70, 1.2),
    ("delivery", 1, 0.05, 24.0, 0.40, 1.0),
    ("travel", 1, 0.02, 210.0, 0.80, 0.8),
    ("electronics", 1, 0.02, 110.0, 0.90, 2.0),
    ("clothes", 1, 0.02, 55.0, 0.70, 1.7),
)
N_LINES = len(LINES)
LINE_CHANNEL = np.array([line[1] for line in LINES], np.int8)
LINE_SHARE = np.array([line[2] for line in LINES])
LINE_LOG_MEDIAN = np.log([line[3] for line in LINES])
LINE_SD = np.array([line[4] for line in LINES])
LINE_HOLIDAY = np.array([line[5] for line in LINES])
LINE_CATEGORY = np.array([CATEGORIES.index(line[0]) for line in LINES], np.int8)
CASH = 7
#: Lines whose purchases are sometimes sent back, and the share that is.
REFUND_LINES, REFUNDS = (5, 6, 8, 12, 13), 0.015

#: Purchases a day: mean over customers and gamma shape; log sd of a customer's amounts.
RATE, RATE_SHAPE, LEVEL_SD = 0.90, 3.0, 0.35
#: Concentration of a customer's own mix around the shares; weight of online lines by segment.
MIX_CONCENTRATION = 30.0
ONLINE_WEIGHT = (1.0, 0.45, 0.9)
SEGMENT_SHARE = (0.74, 0.16, 0.10)
#: Share of customers who pay with the phone, by segment.
WALLET_USERS = (0.55, 0.15, 0.50)
#: Share who work at night, share who joined within the simulated days, share closing unprovoked
#: a day.
NIGHT_WORKERS, JOINERS, NATURAL_LEAVING = 0.05, 0.12, 0.0001
#: Weight of each hour: day people, evening people, night workers.
HOURS = np.array(
    [
        [3, 1, 1, 1, 1, 3, 12, 32, 44, 46, 50, 58, 72, 60, 50, 52, 62, 78, 82, 66, 44, 28, 16, 7],
        [14, 7, 3, 2, 1, 1, 3, 10, 22, 32, 42, 52, 64, 62, 54, 54, 60, 70, 80, 80, 76, 66, 48, 28],
        [
            48,
            44,
            42,
            38,
            34,
            40,
            52,
            46,
            22,
            10,
            6,
            5,
            6,
            8,
            18,
            34,
            46,
            52,
            54,
            50,
            46,
            46,
            50,
            52,
        ],
    ],
    float,
)
HOURS /= HOURS.sum(axis=1, keepdims=True)
EVENING_PEOPLE = 0.35
#: Monday to Sunday, and how much a customer's own week differs (log sd).
WEEK, WEEK_SD = (0.92, 0.93, 0.96, 1.00, 1.16, 1.20, 0.83), 0.15
#: The salary comes on one of these days of the month; spending then is higher and fades.
SALARY_DAYS, SALARY_LIFT, SALARY_FADE = (1, 15, 25, 28), 0.35, 4.0
#: Holiday shopping: first and last day (month, day) and how many more purchases.
HOLIDAY_FROM, HOLIDAY_TO, HOLIDAY_LIFT = (11, 21), (12, 24), 0.25
#: Trips a day and customer, their days, share that goes abroad.
TRIPS, TRIP_DAYS, TRIP_ABROAD = 1 / 150, (2, 10), 0.4

# Places and machines -----------------------------------------------------------------------

#: Towns of the home country on a square of 400 km, and their size (exponent of the rank).
TOWNS, SIDE_KM, TOWN_SIZE, TOWN_SPREAD_KM = 12, 400.0, 0.8, 8.0
#: Other countries and where they lie (km); a tenth of the online merchants are abroad.
ABROAD = {"north": (200, 1500), "east": (1900, 200), "south": (250, -1400), "west": (-1700, 300)}
ONLINE_ABROAD = 0.10
#: Terminals for each 1,000 customers: in person at home, of each country abroad, online.
TERMINALS_HOME, TERMINALS_ABROAD, TERMINALS_ONLINE = 500, 20, 60
#: Favourites of a customer in a line, share of purchases made there, popularity of an online
#: merchant (exponent of its rank).
FAVOURITES, LOYALTY, POPULARITY = 4, 0.80, 0.7
#: Share of the other purchases in person, not on a trip, made in another town.
ELSEWHERE = 0.25
#: Persons of a household, and share of online purchases made on its shared device.
HOUSEHOLD, SHARED_DEVICE = (0.35, 0.33, 0.17, 0.15), 0.10
#: A device is replaced after so many days on average, an address at home after so many.
DEVICE_LIFE, ADDRESS_LIFE = 450, 60
#: Online: address at home, of the mobile network, of a public place. The mobile network has so
#: many addresses for each 1,000 customers; public places have machines that many use.
ADDRESS_SHARE, MOBILE_ADDRESSES, PUBLIC_PLACES = (0.60, 0.34, 0.06), 25, 8
#: Device of a genuine online purchase: own, not known before, not sent.
DEVICE_SHARE = (0.955, 0.025, 0.020)
#: Share of wallet purchases with the phone of somebody in the household, or a new watch.
WALLET_OTHER = 0.01
#: Half of the unknown ones are public machines, the others are used once.
PUBLIC_MACHINES = 0.5
#: Entry mode: without wallet / with wallet × in person / cash / online.
ENTRY_SHARE = np.array(
    [
        [(0.36, 0.60, 0, 0.04, 0, 0), (0.97, 0, 0, 0.03, 0, 0), (0, 0, 0, 0, 0.55, 0.45)],
        [(0.15, 0.32, 0.51, 0.02, 0, 0), (0.97, 0, 0, 0.03, 0, 0), (0, 0, 0, 0, 0.55, 0.45)],
    ]
)

# Attacks -----------------------------------------------------------------------------------
# One value for each of: stolen, skimmed, phished, takeover, testing, wallet.

#: Attacks begun a day for each 1,000 customers. Skimming follows from the compromised
#: terminals, phished cards also from cards that passed a test.
ATTACKS = (0.12, 0.0, 0.20, 0.16, 0.030, 0.15)
#: Mean attempts of an attack that is not refused, attempts a day, and opening and length of the
#: hours in which they are made.
ATTEMPTS = (7.0, 3.0, 4.0, 4.0, 30.0, 9.0)
PER_DAY = (12.0, 2.5, 3.0, 6.0, 60.0, 5.0)
HOURS_FROM, HOURS_LONG = (8, 8, 0, 0, 0, 8), (14, 14, 24, 24, 24, 14)
#: Cards that an attack holds; the next one is used after a refusal (testing: at each attempt).
CARDS = (1, 3, 5, 2, 44, 6)
#: Share of attacks run by rings; the others have an attacker of their own.
RING_SHARE = (0.0, 0.3, 0.5, 0.3, 1.0, 1.0)
#: Log shift of the amount against the category's median, and log sd.
AMOUNT_SHIFT, AMOUNT_SD = (0.35, 0.60, 0.70, 0.90, 0.0, 0.15), (0.7, 0.7, 0.8, 0.7, 0.5, 0.6)
#: A test has this median amount (euro).
TEST_AMOUNT = 1.5
#: Which lines they buy from (shares, order of LINES).
FRAUD_LINES = np.array(
    [
        (0.25, 0.05, 0.10, 0.05, 0.05, 0.15, 0.20, 0.15, 0, 0, 0, 0, 0, 0),
        (0.10, 0.05, 0.15, 0.00, 0.00, 0.15, 0.20, 0.35, 0, 0, 0, 0, 0, 0),
        (0, 0, 0, 0, 0, 0, 0, 0, 0.36, 0.20, 0.04, 0.10, 0.20, 0.10),
        (0, 0, 0, 0, 0, 0, 0, 0, 0.36, 0.10, 0.02, 0.22, 0.22, 0.08),
        (0, 0, 0, 0, 0, 0, 0, 0, 0.10, 0.85, 0.05, 0, 0, 0),
        (0.45, 0.08, 0.10, 0.05, 0.15, 0.12, 0.05, 0, 0, 0, 0, 0, 0, 0),
    ]
)
#: Entry mode: scenario × in person / cash / online.
FRAUD_ENTRY = np.zeros((N_FRAUD, 3, 6))
FRAUD_ENTRY[0, 0] = (0.15, 0.75, 0, 0.10, 0, 0)
FRAUD_ENTRY[0, 1] = (0.90, 0, 0, 0.10, 0, 0)
FRAUD_ENTRY[1, :2] = (0.10, 0, 0, 0.90, 0, 0)
FRAUD_ENTRY[2, 2] = FRAUD_ENTRY[4, 2] = (0, 0, 0, 0, 1.0, 0)
FRAUD_ENTRY[3, 2] = (0, 0, 0, 0, 0.15, 0.85)
FRAUD_ENTRY[5, 0] = (0, 0, 1.0, 0, 0, 0)
#: Device online: the victim's own (remote control of it), not known before, not sent.
FRAUD_DEVICE = np.array(
    [(0, 1, 0), (0, 1, 0), (0, 0.90, 0.10), (0.15, 0.80, 0.05), (0, 0.87, 0.13), (0, 1, 0)]
)
#: Attackers online: address of their own or of the mobile network.
FRAUD_MOBILE = 0.30
#: Weight of a segment as a victim of phishing and takeover.
VICTIM_WEIGHT = (1.0, 1.8, 1.4)
#: Compromised terminals for each 1,000 customers and 100 days, length of the compromise (days),
#: share of the cards used there that are abused, mean days until they are.
SKIMMERS, SKIMMER_DAYS, SKIMMED_SHARE, SKIMMED_DELAY = 3.0, (10, 30), 0.22, 10.0
#: A tested card whose test went through is used with this probability after so many days.
FOLLOW_UP, FOLLOW_UP_DELAY = 0.16, 2.0
#: Day from which wallet attacks exist: the new wave. It grows over so many days.
WAVE_DAY, WAVE_GROWTH = 110, 10
#: In the holiday season phishing and takeover are more frequent by this factor.
HOLIDAY_ATTACKS = 1.5
#: Rings for each 1,000 customers (at least two), their members, devices, addresses.
RINGS, RING_MEMBERS, RING_DEVICES, RING_ADDRESSES = 1.2, 3, 4, 3
#: A thief's victim misses the card after so many days on average; the bank cancels it.
REPORT_DAYS = 1.2
#: Most attempts of an attack, whatever happens: a test has no more cards.
MOST_ATTEMPTS = 44

# Reactions ---------------------------------------------------------------------------------

#: ARBITRARY. Share of attackers who pass a push confirmation (they hold the phone, or talk the
#: owner into it), and of those how many pass a call too.
PASSES, PASSES_CALL = (0.15, 0.03, 0.06, 0.45, 0.02, 0.05), 0.4
#: An owner who is asked about a fraud denies it with this probability; else nobody answers.
OWNER_DENIES = 0.75
#: ARBITRARY. After a refusal an attacker gives up with this probability; otherwise each change
#: is made with its own: smaller amounts (times SMALLER), another device, other terminals,
#: another card. He waits so many days on average.
QUITS, SMALLER, RETREAT_DAYS = 0.30, 0.45, 0.8
SWITCHES = {"amount": 0.6, "device": 0.7, "terminals": 0.6, "card": 0.5}
#: Refusals of a ring in one batch after which all its members change their devices.
RING_LEARNS = 4

#: Genuine customers who do not finish a confirmation, by segment: push, call.
ABANDONS = ((0.05, 0.18, 0.11), (0.12, 0.10, 0.30))
#: How much customers of one segment differ (log sd).
ABANDON_SD = 0.5
#: Genuine customers who deny what they bought themselves.
MISTAKEN_DENIAL = 0.004
#: After an abandoned or denied genuine purchase, and after a declined one: probability to leave
#: the bank, and to put the card aside for so many days on average.
LEAVES, LEAVES_DECLINED, ASIDE, ASIDE_DAYS = 0.004, 0.015, 0.20, 4.0
#: Being asked tires: probability to leave after a confirmation that was finished.
TIRES = 0.0015
#: Genuine customers who complain after a tier other than allow: by outcome (OUTCOMES).
COMPLAINS = (0.0, 0.002, 0.02, 0.02, 0.05)
#: Newcomers and the elderly leave sooner or later than the others.
LEAVES_SEGMENT = (1.0, 0.6, 1.6)

# Labels ------------------------------------------------------------------------------------

#: Median days until a chargeback, log sd that one victim's share, and that each adds.
LABEL_MEDIAN, LABEL_SD_VICTIM, LABEL_SD_OWN = 18.0, 0.65, 0.45
#: Owners may dispute for so many days; a chargeback that would come later never does.
DISPUTE_DAYS = 120
#: Frauds that nobody ever disputes: usual, and below SMALL_AMOUNT (euro).
NEVER, NEVER_SMALL, SMALL_AMOUNT = 0.06, 0.30, 5.0
#: Customers who dispute what they bought, and the share of their online purchases that they do.
DISPUTERS, DISPUTES = 0.015, 0.12

# Costs (euro) ------------------------------------------------------------------------------

#: A push, a call, the handling of a chargeback and of a complaint, a customer lost to friction.
PUSH_COST, CALL_COST, CHARGEBACK_COST, COMPLAINT_COST, CHURN_COST = 0.02, 4.0, 15.0, 8.0, 150.0
#: Share of a purchase that the bank earns.
MARGIN = 0.012

# Faults of the feed ------------------------------------------------------------------------

#: Requests sent again, and seconds until they are.
RETRIES, RETRY_SECONDS = 0.003, (2.0, 40.0)
#: Terminals that upload late, share of their rows that do, by up to so many hours.
OFFLINE, OFFLINE_ROWS, OFFLINE_HOURS = 0.03, 0.5, 3.0
#: Terminals with a wrong clock, and their errors (hours).
SKEWED, SKEWS = 0.015, (-1.0, 1.0, -0.2, 2.0)
#: The case code is filled after an investigation: share of known chargebacks with one, and of
#: other rows (an enquiry that came to nothing).
CASE_CODED, CASE_ENQUIRY = 0.85, 0.0005


@dataclass(frozen=True)
class Constants:
    """The most arbitrary reactions of attackers; a study of sensitivity varies them.

    Attributes
    ----------
    passes : tuple of float
        Share of attackers who pass a push confirmation, by scenario.
    quits : float
        Probability that an attacker gives up after a refusal.
    """

    passes: tuple[float, ...] = PASSES
    quits: float = QUITS
