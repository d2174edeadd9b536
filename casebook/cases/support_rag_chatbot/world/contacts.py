"""Who writes when, and what an answer leads to: contacts, outcomes, cost. All numbers are invented.

*Arrivals.* A Poisson stream whose rate follows the hour (two humps), the weekday and a peak before
Christmas. Each contact has a channel, a language, a question of the world (drawn with replacement,
by shares of classes and topics that are the stream's, not the file's), a patience, and what would
be lost by acting on a wrong answer. Some customers write twice through two channels before anybody
answered. The stream begins on the day after the questions were written: two articles change in it.

*Outcomes.* An answer is of one of :data:`ANSWER_KINDS`. What the customer then does (is helped,
believes what is wrong, calls, asks again, gives up) is drawn from the kind's row of
:data:`REACTIONS`. Who calls, or is handed over, is served by a person. Satisfaction from 1 to 5 is
an ordered logit of what happened, minutes of waiting, turns and patience.

*Common random numbers.* A contact's outcome hangs on the seed, the contact and the answer's kind
(and turns and waiting) alone, and the reactions are laid on the same uniform from good to bad: two
policies on the same contacts are compared in pairs.

The two most arbitrary are what customers do after a wrong answer and how well they read another
language; nothing public gives them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from .content import TODAY, own_content
from .tracking import SEED

#: By arithmetic only: what a carrier of this kind would have.
CONTACTS_A_MONTH, LANGUAGES_SERVED = 2_000_000, 15
START = TODAY + pd.Timedelta(days=1)
DAYS_A_MONTH = 365.25 / 12

#: Relative rate by hour: a hump before noon, one in the evening, little at night.
HOURS = (3, 2, 1, 1, 1, 3, 10, 26, 55, 80, 90, 84, 70, 62, 60, 58, 60, 68, 80, 86, 70, 42, 20, 8)
#: Monday to Sunday.
WEEK = (1.25, 1.15, 1.10, 1.05, 1.05, 0.80, 0.60)
#: The peak: factor, and first and last day (month, day).
PEAK, PEAK_FIRST, PEAK_LAST = 1.6, (11, 25), (12, 31)

CHANNELS = {"chat": 0.38, "app": 0.24, "e-mail": 0.22, "phone": 0.16}
LANGUAGES = {"en": 0.52, "de": 0.27, "es": 0.21}
#: Shares of classes. ``tracking``: identifiers that the tracking system answers.
CLASSES = {
    "tracking": 0.38,
    "paraphrase": 0.34,
    "identifier": 0.03,
    "multi_turn": 0.08,
    "unanswerable": 0.06,
    "pii": 0.05,
    "off_topic": 0.04,
    "wrong_language": 0.01,
    "injection": 0.01,
}
#: How often an intent is asked for, whatever the file holds; within it all questions alike.
INTENTS = {
    "tracking": 0.20,
    "delivery_change": 0.22,
    "claim": 0.14,
    "prices": 0.10,
    "shipping": 0.10,
    "customs": 0.09,
    "pickup_return": 0.09,
    "account": 0.03,
    "complaint": 0.02,
    "other": 0.01,
}
#: Median in euro of what is lost by acting on a wrong answer, and log sd.
STAKES = {
    "tracking": 3.0,
    "delivery_change": 5.0,
    "claim": 60.0,
    "prices": 5.0,
    "shipping": 15.0,
    "customs": 20.0,
    "pickup_return": 6.0,
    "account": 8.0,
    "complaint": 15.0,
    "other": 4.0,
}
STAKE_SD = 0.9
#: Patience is Beta distributed, between 0 and 1.
PATIENCE = (4.0, 2.0)
#: Contacts that come twice, and after how many minutes (median, log sd).
TWICE, TWICE_AFTER = 0.03, (45.0, 0.8)

#: A person: median minutes, log sd, factor by phone, euro a minute. The mean is 4 to 6 euro.
HANDLING_MINUTES, HANDLING_SD, PHONE_FACTOR, EURO_A_MINUTE = 6.5, 0.6, 1.3, 0.55
#: Minutes until a person answers: median, log sd.
QUEUE_MINUTES, QUEUE_SD = 4.0, 0.9
#: Hours in which people answer.
STAFFED = (7, 21)
#: Euro for one automatic answer: the bot without and with a call of a hosted model, FAQ search.
BOT, MODEL_CALL, FAQ_SEARCH = 0.010, 0.004, 0.002
SERVED = {"faq": FAQ_SEARCH, "bot": BOT, "bot_with_model": BOT + MODEL_CALL}
#: A customer who gives up buys elsewhere: probability and margin lost in euro.
CHURN, CHURN_EUR = 0.03, 40.0
#: Of a customer's loss by a wrong answer the carrier makes good this share.
GOODWILL = 0.5
#: Share of contacts that a person settles.
PERSON_RESOLVES = 0.93
#: Whoever asks the bot again is helped with this probability; otherwise he calls.
AGAIN_HELPED = 0.35
#: A right answer in another language is understood with this probability.
UNDERSTANDS = 0.55
#: Hours until the customer comes back: median, log sd.
REPEAT_HOURS, REPEAT_SD = {"called": 20.0, "again": 2.0}, 0.9

#: What a customer does, in this order on one uniform.
FATES = ("helped", "handed_over", "again", "called", "gave_up", "believed")
#: Probabilities of the fates after an answer of each kind.
REACTIONS = {
    "right": (0.93, 0.00, 0.02, 0.04, 0.01, 0.00),
    "right_other_language": (0.93 * UNDERSTANDS, 0.00, 0.08, 0.26, 0.1485, 0.00),
    "partial": (0.58, 0.00, 0.12, 0.20, 0.10, 0.00),
    "partial_other_language": (0.58 * UNDERSTANDS, 0.00, 0.12, 0.36, 0.201, 0.00),
    "wrong": (0.00, 0.00, 0.10, 0.40, 0.15, 0.35),
    "stale": (0.00, 0.00, 0.06, 0.29, 0.10, 0.55),
    "abstain_to_human": (0.00, 0.97, 0.00, 0.00, 0.03, 0.00),
    "abstain_no_human": (0.00, 0.00, 0.20, 0.58, 0.22, 0.00),
    "titles_wrong": (0.00, 0.00, 0.20, 0.58, 0.22, 0.00),
    "timeout_told": (0.00, 0.00, 0.60, 0.25, 0.15, 0.00),
    "refused_right": (0.94, 0.00, 0.04, 0.01, 0.01, 0.00),
    "refused_wrong": (0.00, 0.00, 0.25, 0.50, 0.25, 0.00),
}
ANSWER_KINDS = tuple(REACTIONS)
#: After ``timeout_told`` the second try helps more often than after another failure.
AGAIN_HELPED_BY_KIND = {"timeout_told": 0.80}
#: Kinds of answer of a search that always shows three titles: by what stands behind them.
BASELINE = {
    "right": "partial",
    "foreign": "partial_other_language",
    "nothing": "titles_wrong",
}

#: Satisfaction: latent value by fate, changes by kind of answer, slopes, and the cuts between
#: 1 and 5.
CSAT_FATE = {
    "helped": 1.6,
    "handed_over": 1.2,
    "again": -0.3,
    "called": -1.2,
    "gave_up": -2.0,
    "believed": -0.4,
}
CSAT_KIND = {"right": 0.4, "partial": -0.4, "refused_wrong": -0.6, "timeout_told": 0.2}
CSAT_WAIT, CSAT_TURN, CSAT_PATIENCE = -0.45, -0.12, 1.5
CSAT_CUTS = (-2.2, -1.2, -0.2, 1.2)
#: Share of customers who answer the survey at a satisfaction from 1 to 5: the angry do more.
SURVEYED = (0.30, 0.20, 0.10, 0.10, 0.16)


def _rate(hours: pd.DatetimeIndex, per_month: float) -> np.ndarray:
    """Return the expected contacts of each hour, shape (hours,)."""
    rate = np.array(HOURS)[hours.hour] / np.sum(HOURS)
    rate = rate * np.array(WEEK)[hours.dayofweek] / np.mean(WEEK)
    day = hours.month * 100 + hours.day
    first, last = (month * 100 + d for month, d in (PEAK_FIRST, PEAK_LAST))
    return rate * np.where((first <= day) & (day <= last), PEAK, 1.0) * per_month / DAYS_A_MONTH


def _classes() -> pd.DataFrame:
    """Return the questions with class, intent and weight within the class of their language."""
    frame = own_content().questions[["id", "language", "kind", "topic", "route"]].copy()
    by_number = (frame["kind"] == "identifier") & (frame["route"] == "tracking")
    frame["class"] = frame["kind"].mask(by_number, "tracking")
    topics = own_content().plan["topics"]
    frame["intent"] = frame["topic"].map(lambda t: topics[t]["intent"] if t else "none")
    alike = frame.groupby(["language", "class", "intent"])["id"].transform("size")
    frame["weight"] = frame["intent"].map(INTENTS).fillna(1.0) / alike
    return frame


def _draw_questions(rng: np.random.Generator, languages: np.ndarray) -> pd.DataFrame:
    """Draw a question for each contact, by class and intent of its language."""
    pool = _classes()
    weight = pool["weight"] / pool.groupby(["language", "class"])["weight"].transform("sum")
    pool["weight"] = weight * pool["class"].map(CLASSES)
    chosen = np.empty(len(languages), dtype=np.int64)
    for language, rows in pool.groupby("language"):
        share = rows["weight"].to_numpy()
        mine = languages == language
        # A class that a language does not have leaves its share to the others.
        chosen[mine] = rng.choice(rows.index, size=mine.sum(), p=share / share.sum())
    return pool.loc[chosen].reset_index(drop=True)


def contacts(
    seed: int = SEED, months: float = 3, per_month: float = 2000, start: object = START
) -> pd.DataFrame:
    """Draw a sample of the stream of contacts.

    Parameters
    ----------
    seed : int
    months : float
        Length of the stream.
    per_month : float
        Expected contacts of a month outside the peak, without those that come twice.
    start : date-like
        First day.

    Returns
    -------
    DataFrame
        In order of arrival: ``contact`` (from 0), ``arrived``, ``channel``, ``language``,
        ``question`` (id), ``customer_patience`` (0 to 1), ``repeat_of`` (number of the same
        customer's contact a little before, missing if none), ``value_at_stake_eur`` (what is lost
        by acting on a wrong answer; 0 off topic). Patience and value at stake are truth.

    Raises
    ------
    ValueError
        If the length or the rate is not positive.
    """
    if not (months > 0 and per_month > 0):
        raise ValueError(f"months ({months}) and per_month ({per_month}) must be positive.")
    rng = np.random.default_rng([seed, 1])
    first = pd.Timestamp(start).normalize()
    hours = pd.date_range(first, periods=round(months * DAYS_A_MONTH) * 24, freq="h")
    counts = rng.poisson(_rate(hours, per_month))
    arrived = hours.repeat(counts) + pd.to_timedelta(rng.uniform(0, 3600, counts.sum()), unit="s")
    n = len(arrived)
    have = [x for x in LANGUAGES if x in set(own_content().questions["language"])]
    shares = np.array([LANGUAGES[x] for x in have])
    languages = rng.choice(have, size=n, p=shares / shares.sum())
    asked = _draw_questions(rng, languages)
    stake = asked["intent"].map(STAKES).fillna(0.0).to_numpy()
    frame = pd.DataFrame(
        {
            "arrived": arrived.floor("s"),
            "channel": rng.choice(list(CHANNELS), size=n, p=list(CHANNELS.values())),
            "language": languages,
            "question": asked["id"],
            "customer_patience": rng.beta(*PATIENCE, size=n).round(3),
            "value_at_stake_eur": (stake * rng.lognormal(0, STAKE_SD, n)).round(2),
            "customer": np.arange(n),
        }
    )
    again = frame[rng.random(n) < TWICE]
    minutes = rng.lognormal(np.log(TWICE_AFTER[0]), TWICE_AFTER[1], len(again))
    other = {c: [x for x in CHANNELS if x != c] for c in CHANNELS}
    again = again.assign(
        arrived=(again["arrived"] + pd.to_timedelta(minutes, unit="min")).dt.floor("s"),
        channel=[
            other[c][k]
            for c, k in zip(again["channel"], rng.integers(3, size=len(again)), strict=True)
        ],
    )
    frame = pd.concat([frame.assign(twice=False), again.assign(twice=True)])
    frame = frame.sort_values(["arrived", "twice"], ignore_index=True)
    number = frame.index[~frame["twice"]].to_series(index=frame.loc[~frame["twice"], "customer"])
    earlier = frame["customer"].map(number).where(frame["twice"]).astype("Int64")
    frame.insert(0, "contact", np.arange(len(frame)))
    frame.insert(6, "repeat_of", earlier)
    return frame.drop(columns=["customer", "twice"])


def staffed(arrived: pd.Series) -> np.ndarray:
    """Say of each time whether people answer then, shape (times,)."""
    first, last = STAFFED
    return arrived.dt.hour.between(first, last - 1).to_numpy()


@dataclass(frozen=True)
class Outcome:
    """What came of one contact; the fields of a row of :func:`outcomes`."""

    fate: str
    resolved: bool
    repeat_in_hours: float
    escalated: bool
    minutes: float
    csat: int
    surveyed: bool
    cost_eur: float
    customer_loss_eur: float


def _uniforms(seed: int, contact: np.ndarray) -> np.ndarray:
    """Return nine numbers in (0, 1) for each contact, the same whatever else is drawn."""
    size = int(contact.max(initial=-1)) + 1
    table = np.random.default_rng([seed, 2]).random((size, 9)).clip(1e-12, 1 - 1e-12)
    return table[contact]


def _lognormal(uniform: np.ndarray, median: float | np.ndarray, sd: float) -> np.ndarray:
    from scipy.special import ndtri

    return median * np.exp(sd * ndtri(uniform))


def outcomes(
    frame: pd.DataFrame,
    answer_kinds: Sequence[str],
    seed: int = SEED,
    served: str = "bot",
    turns: int | Sequence[int] = 1,
    reactions: Mapping[str, Sequence[float]] = REACTIONS,
) -> pd.DataFrame:
    """Return what came of contacts, one row each.

    Parameters
    ----------
    frame : DataFrame
        Of :func:`contacts`, any rows of it.
    answer_kinds : sequence of str
        Of :data:`ANSWER_KINDS`, one for each row.
    seed : int
    served : str
        Who answered first: faq, bot or bot_with_model.
    turns : int or sequence of int
        Turns until that answer.
    reactions : mapping of str to sequence of float
        Probabilities of :data:`FATES` by kind of answer.

    Returns
    -------
    DataFrame
        ``contact``, ``answer_kind`` and

        * ``fate``: of :data:`FATES`; handed_over counts as served by a person at once;
        * ``resolved``: the customer has what he came for, whoever gave it;
        * ``repeat_in_hours``: until he comes back about the same, ``NaN`` if he does not;
        * ``escalated``: a person had to deal with it, at once or after a call. **Contained** is
          what is not escalated: those who gave up or believe what is wrong are among them;
        * ``minutes``: a person's time;
        * ``csat``: 1 to 5, and ``surveyed``: he told so;
        * ``cost_eur``: the carrier's: answers, people, goodwill, customers lost;
        * ``customer_loss_eur``: what the customer loses by what he was told.

    Raises
    ------
    ValueError
        On an unknown kind of answer or way to serve, or another number of kinds than of rows.
    """
    kinds = np.asarray(answer_kinds, dtype=object)
    if unknown := set(kinds) - set(REACTIONS):
        raise ValueError(f"Unknown kinds of answer {sorted(unknown)}; known: {ANSWER_KINDS}.")
    if len(kinds) != len(frame):
        raise ValueError(f"{len(kinds)} kinds of answer for {len(frame)} contacts.")
    if served not in SERVED:
        raise ValueError(f"Answers are served by {', '.join(SERVED)}, not by {served!r}.")
    u = _uniforms(seed, frame["contact"].to_numpy())
    table = np.cumsum(pd.DataFrame(reactions).T.loc[kinds].to_numpy(), axis=1)
    fate = np.array(FATES, dtype=object)[(u[:, :1] > table[:, :-1]).sum(axis=1)]
    again, believed = fate == "again", fate == "believed"
    helped_again = again & (
        u[:, 1] < [AGAIN_HELPED_BY_KIND.get(kind, AGAIN_HELPED) for kind in kinds]
    )
    escalated = np.isin(fate, ["called", "handed_over"]) | (again & ~helped_again)
    resolved = (fate == "helped") | helped_again | (escalated & (u[:, 2] < PERSON_RESOLVES))
    phone = np.where((frame["channel"] == "phone") | (fate == "called"), PHONE_FACTOR, 1.0)
    minutes = _lognormal(u[:, 3], HANDLING_MINUTES * phone, HANDLING_SD) * escalated
    waited = _lognormal(u[:, 4], QUEUE_MINUTES, QUEUE_SD) * escalated
    median = np.select(
        [fate == "called", again], [REPEAT_HOURS["called"], REPEAT_HOURS["again"]], 0
    )
    stake = frame["value_at_stake_eur"].to_numpy()
    cost = (
        SERVED[served] * (1 + again)
        + minutes * EURO_A_MINUTE
        + GOODWILL * stake * believed
        + CHURN_EUR * ((fate == "gave_up") & (u[:, 6] < CHURN))
    )
    latent = (
        np.array([CSAT_FATE[f] for f in fate])
        + np.where(helped_again, 0.8, 0.0)
        + np.array([CSAT_KIND.get(kind, 0.0) for kind in kinds])
        + CSAT_WAIT * np.log1p(waited) * (fate == "handed_over")
        + CSAT_TURN * (np.broadcast_to(turns, len(frame)) - 1)
        + CSAT_PATIENCE * (frame["customer_patience"].to_numpy() - PATIENCE[0] / sum(PATIENCE))
        + np.log(u[:, 7] / (1 - u[:, 7]))
    )
    csat = 1 + (latent[:, None] > np.array(CSAT_CUTS)).sum(axis=1)
    return pd.DataFrame(
        {
            "contact": frame["contact"].to_numpy(),
            "answer_kind": kinds,
            "fate": fate,
            "resolved": resolved,
            "repeat_in_hours": np.where(
                median > 0,
                _lognormal(u[:, 5], np.where(median > 0, median, 1.0), REPEAT_SD),
                np.nan,
            ),
            "escalated": escalated,
            "minutes": minutes,
            "csat": csat,
            "surveyed": u[:, 8] < np.array(SURVEYED)[csat - 1],
            "cost_eur": cost,
            "customer_loss_eur": stake * believed,
        }
    )


def outcome(contact: pd.Series, answer_kind: str, seed: int = SEED, **settings) -> Outcome:
    """Return what came of one contact: a row of :func:`contacts`; see :func:`outcomes`."""
    row = outcomes(contact.to_frame().T.infer_objects(), [answer_kind], seed, **settings).iloc[0]
    return Outcome(**row.drop(["contact", "answer_kind"]).to_dict())


def a_month(per_contact_eur: float) -> float:
    """Return what an amount for each contact is in a month at the carrier's scale (arithmetic)."""
    return per_contact_eur * CONTACTS_A_MONTH
