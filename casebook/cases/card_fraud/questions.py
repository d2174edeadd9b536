"""Questions of exercise 12: cut-offs, repaired odds, hold-back, a leak, friction, weeks, scale."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import numpy as np
import pandas as pd

from casebook.cases.card_fraud import bank, costs, features, models, protocol
from casebook.cases.card_fraud.world import CHAPTER, simulate, visible_labels
from casebook.data import snapshot
from casebook.exercises.grading import Question, Wrong, WrongAnswer, close, number
from casebook.features.windows import trailing

DAY = pd.Timedelta(days=1)
#: Two-sided 95 % point of the normal distribution.
Z = 1.96

# What the exercise shows and the checks compute from.

CUSTOMERS, DAYS, BEGIN, STOP = 1500, 150, 84, 110


@cache
def here() -> bank.Setting:
    """Return the exercise's world, cut at day 84: half of the chapter's customers.

    Returns
    -------
    Setting
        Training on days 14 to 62 with the labels known on day 84, test from day 84 to 109.
    """
    return bank.setting(simulate(n_customers=CUSTOMERS, days=DAYS), BEGIN, STOP)


@cache
def _scores() -> pd.Series:
    """Return the probabilities of the bank's model from day 84 to the end of the world."""
    week = here()
    received = week.world.transactions["received"].to_numpy()
    return pd.Series(
        week.train().score(week.X[received >= week.start]), week.X.index[received >= week.start]
    )


def weeks() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return two weeks to choose on and the twelve days after them, scored by the bank's model.

    Returns
    -------
    validation, test : DataFrame
        Index ``transaction``: ``p`` (probability of fraud), ``amount`` (euro), ``fraud``.
    """
    week = here()
    table = pd.DataFrame(
        {
            "p": _scores().loc[week.test.index],
            "amount": week.test["amount"],
            "fraud": week.test["y"] == 1,
        }
    )
    later = (week.test["time"] >= week.start + 14 * DAY).to_numpy()
    return table[~later].copy(), table[later].copy()


#: Share of genuine rows that one colleague kept; frauds for each genuine row that SMOTE made.
KEPT, MADE = 0.05, 0.25
#: Fewer trees and thresholds than in the chapter: quicker, and enough for these questions.
QUICK = {**models.FAMILIES["LightGBM"].trials[0], "rounds": 60, "max_bin": 255}
COLLEAGUES = ("under-sampled", "SMOTE")


@cache
def _colleagues() -> tuple[pd.DataFrame, pd.DataFrame]:
    week = here()
    X, y = week.X.loc[week.labels.index], week.labels.to_numpy()
    kept = (y == 1) | (np.random.default_rng(0).random(len(y)) < KEPT)
    under = models.FAMILIES["LightGBM"].fit(X[kept], y[kept], QUICK)
    smote = models.FAMILIES["LightGBM SMOTE"].fit(
        X, y, {**QUICK, "frauds_per_genuine": MADE, "neighbours": 5}
    )
    test = week.X.loc[week.test.index]
    raw = pd.DataFrame(
        dict(zip(COLLEAGUES, (under.score(test), smote.score(test)), strict=True)), test.index
    )
    genuine, fraud = int((y == 0).sum()), int((y == 1).sum())
    counts = {
        "as it was": (genuine, fraud),
        "under-sampled": (int((y[kept] == 0).sum()), fraud),
        "SMOTE": (genuine, int(MADE * genuine)),
    }
    rows = pd.DataFrame(counts, index=["genuine", "fraud"]).T
    return raw, rows.rename_axis("training rows")


def colleagues() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return what the models of two colleagues say of the test weeks, and what they learned from.

    One kept every fraud and 5 % of the genuine rows, drawn at random. The other kept all rows and
    had SMOTE make more frauds, between those there are, until there was one for four genuine rows.

    Returns
    -------
    raw : DataFrame
        Index ``transaction``, columns ``under-sampled`` and ``SMOTE``: probabilities as they come
        out.
    counts : DataFrame
        Rows of the training, ``genuine`` and ``fraud``: as it was, and for each of the two.
    """
    raw, counts = _colleagues()
    return raw.copy(), counts.copy()


#: Payments of the quarter, share held back, cut-off of the policy.
PAYMENTS, HELD, CUT = 2_000_000, 0.01, 0.05


@cache
def _quarter() -> pd.DataFrame:
    scores = _scores()
    week = here()
    rows = week.world.transactions.set_index("transaction").loc[scores.index]
    fraud = week.world.truth.set_index("transaction")["is_fraud"].loc[scores.index].to_numpy()
    rng = np.random.default_rng(5)
    drawn = rng.integers(0, len(scores), PAYMENTS)
    return pd.DataFrame(
        {
            "amount": rows["amount"].clip(lower=0).to_numpy()[drawn],
            "advised": np.where(scores.to_numpy()[drawn] >= CUT, "block", "allow"),
            "held_back": rng.random(PAYMENTS) < HELD,
            "fraud": fraud[drawn].astype(float),
        }
    )


def quarter(truth: bool = False) -> pd.DataFrame:
    """Return a quarter of decisions at a bank that allows or blocks.

    Payments are drawn from the last weeks of the exercise's world, scored by the bank's model. One
    in a hundred was held back: let through whatever was advised.

    Parameters
    ----------
    truth : bool
        Whether to tell what became of the blocked payments, too: nobody at the bank knows it.

    Returns
    -------
    DataFrame
        A row for each payment: ``amount`` (euro), ``advised`` (allow or block), ``held_back``,
        ``fraud`` (1, 0, or missing where the payment was stopped).
    """
    table = _quarter().copy()
    if not truth:
        table.loc[(table["advised"] == "block") & ~table["held_back"], "fraud"] = np.nan
    return table


def _series(answer: object, name: str, index: pd.Index) -> np.ndarray:
    """Return an answer as finite numbers, one for each row of an index, in its order."""
    if isinstance(answer, pd.Series) and set(index) == set(answer.index):
        answer = answer.loc[index]
    try:
        values = np.asarray(answer, float)
    except (TypeError, ValueError):
        raise Wrong(f"`{name}` should hold numbers only, one for each row.") from None
    if values.shape != (len(index),):
        raise Wrong(
            f"`{name}` should have {len(index):,} values, one for each row in the same order; it "
            f"has the shape {values.shape}."
        )
    if missing := int((~np.isfinite(values)).sum()):
        raise Wrong(
            f"{missing:,} values of `{name}` are missing or endless: look for a division by zero."
        )
    return values


def _word(answer: object, name: str, allowed: tuple[str, ...]) -> str:
    if not isinstance(answer, str) or answer not in allowed:
        words = ", ".join(f'"{word}"' for word in allowed)
        raise Wrong(f"`{name}` should be one of {words}.")
    return answer


def _slip(value: float, slips: list[tuple[float, str]], tolerance: float) -> None:
    """Raise the reason of the first slip that gives this value."""
    for wrong, reason in slips:
        if close(value, wrong, tolerance):
            raise Wrong(reason)


# Question 1: cut-offs from costs.

AMOUNT = 60.0
ANSWERS = ("allow", "confirm", "call", "block")


def _lines(amount: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the costs of the four answers if genuine and if fraud, as the question's table."""
    lost = amount + 20
    genuine = [0, 0.40 + 0.001 * amount, 3.40 + 0.002 * amount, 3.40 + 0.012 * amount]
    return np.array(genuine), np.array([lost, 0.10 + 0.20 * lost, 3.00 + 0.05 * lost, 0.0])


def _meet(amount: float, first: str, second: str) -> float:
    """Return the probability at which two answers cost the same."""
    genuine, fraud = _lines(amount)
    i, j = ANSWERS.index(first), ANSWERS.index(second)
    gap = genuine[j] - genuine[i]
    return float(gap / (gap + fraud[i] - fraud[j]))


@cache
def _call_amount() -> float:
    """Return the amount at which confirm, call and block cost the same at one probability."""
    from scipy.optimize import brentq

    def gap(amount: float) -> float:
        return _meet(amount, "confirm", "call") - _meet(amount, "confirm", "block")

    return float(brentq(gap, 1, 10_000, xtol=1e-12))


def _reason_for_confirm(value: float) -> str:
    genuine, fraud = _lines(AMOUNT)
    right = _meet(AMOUNT, "allow", "confirm")
    saved = fraud[0] - fraud[1]
    if abs(value - genuine[1] / saved) < 1e-6:
        return (
            "`confirm_from` is the price of a needless question over what the question saves: "
            "those are *odds*. At a probability p you pay with 1 − p and save with p; solve for p."
        )
    if abs(value - genuine[1] / (genuine[1] + fraud[0])) < 1e-6:
        return (
            "`confirm_from` forgets what a confirmation lets through: of the loss only the part "
            "that it stops is saved."
        )
    if abs(value - 100 * right) < 1e-4:
        return "`confirm_from` is in per cent. A probability lies between 0 and 1."
    if abs(value - 0.01) < 1e-9:
        return (
            "`confirm_from` is the number of the textbook table, the same for every amount. Here "
            "costs are given: set what it costs to allow equal to what it costs to ask."
        )
    if abs(value - right) < 2e-3:
        return (
            f"`confirm_from` is near, off by {abs(value - right):.1g}: that looks like a grid of "
            "probabilities. Two straight lines meet at one point, which can be computed."
        )
    return (
        f"`confirm_from`: at a probability of {value:.4g} and {AMOUNT:.0f} euro, to allow costs "
        f"{value * fraud[0]:.3f} euro and to confirm "
        f"{(1 - value) * genuine[1] + value * fraud[1]:.3f}. They should be equal."
    )


def _reason_for_block(value: float) -> str:
    right = _meet(AMOUNT, "confirm", "block")
    if abs(value - _meet(AMOUNT, "allow", "block")) < 1e-6:
        return (
            "`block_from` compares a block with letting the payment pass. By then nobody would let "
            "it pass: a confirmation is cheaper. Compare with the best of the other answers."
        )
    if abs(value - _meet(AMOUNT, "call", "block")) < 1e-6:
        return (
            "`block_from` is where a block gets cheaper than a *call*. You gave each answer its "
            "turn. Draw the four lines: at this probability, is a call the cheapest of the others?"
        )
    if abs(value - _meet(AMOUNT, "confirm", "call")) < 1e-6:
        return (
            "`block_from` is where a call gets cheaper than a confirmation. Before they meet, a "
            "third answer has become cheaper than both."
        )
    if abs(value - 100 * right) < 1e-4:
        return "`block_from` is in per cent. A probability lies between 0 and 1."
    if abs(value - 0.9) < 1e-9 or abs(value - 0.5) < 1e-9:
        return (
            "`block_from` is a number from the textbook. A block of a genuine payment costs little "
            "here compared with a lost amount, so that it pays much earlier."
        )
    if abs(value - right) < 2e-3:
        return (
            f"`block_from` is near, off by {abs(value - right):.1g}: that looks like a grid of "
            "probabilities. Compute the point at which the two lines meet."
        )
    return (
        f"`block_from`: {value:.4g} is no point at which a block begins to be the cheapest. Which "
        "answer is the cheapest just below it?"
    )


def _judge_cutoffs(confirm: object, block: object, call_amount: object) -> str:
    first, second = number(confirm, "confirm_from"), number(block, "block_from")
    if abs(first - _meet(AMOUNT, "allow", "confirm")) > 1e-6:
        raise Wrong(_reason_for_confirm(first))
    if abs(second - _meet(AMOUNT, "confirm", "block")) > 1e-6:
        raise Wrong("`confirm_from` is right. " + _reason_for_block(second))
    right = _call_amount()
    if call_amount is None or (isinstance(call_amount, float) and np.isinf(call_amount)):
        raise Wrong(
            "Both cut-offs are right. But a call is not the loser for ever: its price is fixed, "
            "and what a confirmation lets through grows with the amount, as does the margin that a "
            "block gives away. Try a thousand euro."
        )
    amount = number(call_amount, "call_amount")
    if abs(amount - right) > 0.01:
        if abs(amount - right) < 8:
            raise Wrong(
                f"Both cut-offs are right. `call_amount` is near, within {abs(amount - right):.2g} "
                "euro: do not step through amounts, solve for the one at which three lines meet in "
                "one point."
            )
        at = {name: _meet(amount, *name) for name in (("confirm", "call"), ("call", "block"))}
        raise Wrong(
            f"Both cut-offs are right. At {amount:,.2f} euro a call beats a confirmation from "
            f"{at['confirm', 'call']:.3f} on, and a block beats a call from "
            f"{at['call', 'block']:.3f} on. A call has a turn only where the first comes before "
            "the second, and you are asked where that begins."
        )
    return (
        f"At {AMOUNT:.0f} euro: confirm from {first:.4f}, block from {second:.3f}, and no call. "
        f"From {right:.2f} euro on there is a stretch of probabilities in which a call is the "
        "cheapest."
    )


_CUTS = (
    "allow, confirm, call, block = (\n"
    "    np.array(row) for row in ([0, 80], [0.46, 16.1], [3.52, 7], [4.12, 0])\n"
    ")\n"
    "def meet(a, b):\n"
    "    return (b[0] - a[0]) / (b[0] - a[0] + a[1] - b[1])\n"
    "confirm_from, block_from, call_amount = meet(allow, confirm), meet(confirm, block), 0\n"
)

q1 = Question(
    number=1,
    asks="`confirm_from` and `block_from`, two probabilities, and `call_amount`, euro",
    judge=_judge_cutoffs,
    hints=(
        "Put 60 euro into the table: each answer has two costs, and its expected cost is a "
        "straight line from the first (at probability 0) to the second (at 1). Draw the four "
        "lines.",
        "The cheapest answer is the lower edge of the drawing. Two lines with costs g₁, f₁ and g₂, "
        "f₂ meet at (g₂ − g₁) / (g₂ − g₁ + f₁ − f₂). Only corners of the lower edge count.",
        "A call has a turn where the point at which it passes the confirmation comes before the "
        "point at which the block passes it. Let the amount grow until the two are equal, with "
        "`scipy.optimize.brentq`.",
    ),
    wrong_answers=(
        WrongAnswer(_CUTS + "confirm_from = 0.46 / (80 - 16.1)", "those are *odds*"),
        WrongAnswer(_CUTS + "confirm_from = 0.46 / (0.46 + 80)", "forgets what a confirmation"),
        WrongAnswer(_CUTS + "confirm_from = 0.007", "looks like a grid"),
        WrongAnswer(
            "confirm_from, block_from, call_amount = 0.01, 0.9, 100", "number of the textbook"
        ),
        WrongAnswer(_CUTS + "block_from = meet(allow, block)", "letting the payment pass"),
        WrongAnswer(_CUTS + "block_from = meet(call, block)", "each answer its turn"),
        WrongAnswer(_CUTS + "block_from = meet(confirm, call)", "a third answer"),
        WrongAnswer(_CUTS + "call_amount = float('inf')", "not the loser for ever"),
        WrongAnswer(_CUTS + "call_amount = 1000", "where that begins"),
    ),
)


# Question 2: probabilities after resampling.


def _factors() -> dict[str, float]:
    """Return by how much the odds are too high, upside down: the factor that repairs them."""
    _, counts = _colleagues()
    ratio = counts["genuine"] / counts["fraud"]
    return {name: float(ratio[name] / ratio["as it was"]) for name in COLLEAGUES}


def _shares() -> pd.Series:
    _, counts = _colleagues()
    return counts["fraud"] / counts.sum(axis=1)


def _asked(p: np.ndarray) -> int:
    return int((costs.tiers(p, here().test["amount"]) != "allow").sum())


def _reason_for_repair(name: str, given: np.ndarray) -> str:
    raw = _colleagues()[0][name].to_numpy()
    factor, other = _factors()[name], _factors()[COLLEAGUES[1 - COLLEAGUES.index(name)]]
    shares = _shares()
    head = f"`repaired`, {name}: "
    if given.min() < 0 or given.max() > 1:
        return head + (
            f"values from {given.min():.3g} to {given.max():.3g} are no probabilities. What is "
            "multiplied are the odds p / (1 − p), not p; afterwards they become a probability "
            "again."
        )

    def same(values: np.ndarray) -> bool:
        return np.allclose(given, values, rtol=5e-3, atol=1e-9)

    def odds(by: float) -> np.ndarray:
        return models.repair_probability(raw, by)

    if same(raw):
        return (
            head + "these are the raw probabilities. Trained on other odds, a model tells others."
        )
    if same(factor * raw) or same(KEPT * raw):
        return head + (
            "the factor is right and stands at the wrong place: you multiplied the probability. A "
            "raw 1 would become at most "
            f"{factor:.3f}, however certain the model is. Multiply the odds p / (1 − p)."
        )
    if same(shares["as it was"] / shares[name] * raw):
        return head + (
            "you scaled by the two shares of fraud, so that the mean fits. A raw 1 would come out "
            f"as {shares['as it was'] / shares[name]:.3f}. What resampling multiplies are the odds."
        )
    if same(odds(1 / factor)):
        return head + (
            "turned round: the odds of fraud were raised by resampling, and you raised them once "
            "more. They have to come down."
        )
    if same(odds(other)):
        return head + "this is the factor of the other colleague. The two did not resample alike."
    if name == "SMOTE" and same(odds(MADE)):
        return head + (
            f"{MADE} is the ratio *after* SMOTE. By how much the odds were raised depends on the "
            "ratio before, too: compare both rows of the table."
        )
    if same(odds(shares["as it was"] / shares[name])):
        return head + (
            "you divided shares of fraud. Odds are frauds for each *genuine* row, not for each "
            "row; where fraud is no longer rare the two differ."
        )
    return head + (
        f"the mean is {given.mean():.4f}, after {raw.mean():.4f} before. Which factor lies between "
        "genuine rows for each fraud before and after, and to what is it applied?"
    )


def _judge_repair(repaired: object, ap: object, asked: object) -> str:
    if not isinstance(repaired, pd.DataFrame) or not set(COLLEAGUES) <= set(repaired):
        raise Wrong("`repaired` should be a DataFrame with the same index and columns as `raw`.")
    raw, _ = _colleagues()
    given = {name: _series(repaired[name], name, raw.index) for name in COLLEAGUES}
    for name in COLLEAGUES:
        # The nominal 5 % is as good as the share that the draw gave.
        exact = {_factors()[name], KEPT if name == "under-sampled" else _factors()[name]}
        right = (models.repair_probability(raw[name].to_numpy(), f) for f in exact)
        if not any(np.allclose(given[name], values, rtol=5e-3, atol=1e-9) for values in right):
            raise Wrong(_reason_for_repair(name, given[name]))
    allowed = {"ap": ("up", "same", "down"), "asked": ("more", "same", "fewer")}
    up_down = _word(ap, "ap", allowed["ap"])
    more = _word(asked, "asked", allowed["asked"])
    before, after = (_asked(p) for p in (raw["under-sampled"].to_numpy(), given["under-sampled"]))
    if up_down != "same":
        raise Wrong(
            "`repaired` is right. Average precision asks only which payment stands above which, "
            "and the repair is a rising function of the raw value: nobody changes places. What "
            f"should move it {up_down}?"
        )
    if more == "same":
        raise Wrong(
            "`repaired` is right, and so is `ap`. But decisions do not look at ranks: they compare "
            f"a probability with a cut-off. From the raw one {before:,} payments meet friction. "
            "Count them once more."
        )
    if more == "more":
        raise Wrong(
            "`repaired` is right, and so is `ap`. The raw probabilities are too high, so the costs "
            f"ask too often by them: {before:,} payments. Down they come."
        )
    return (
        f"The ranks stay, so AP stays at "
        f"{protocol.average_precision(here().test['y'], raw['under-sampled']):.2f}. By the same "
        f"costs {before:,} payments met friction by the raw probabilities of the under-sampled "
        f"model, and {after:,} do by the repaired ones."
    )


_REPAIR = (
    "ratio = counts['genuine'] / counts['fraud']\n"
    "def scaled(factor):\n"
    "    odds = raw / (1 - raw) * pd.Series(factor)\n"
    "    return odds / (1 + odds)\n"
    "factor = {m: ratio[m] / ratio['as it was'] for m in raw}\n"
    "repaired, ap, asked = scaled(factor), 'same', 'fewer'\n"
)

q2 = Question(
    number=2,
    asks='`repaired`, a DataFrame like `raw`, and two words: `ap` and `asked`, such as "same"',
    judge=_judge_repair,
    hints=(
        "Take a spot where 1 of 201 payments is fraud: odds of 1 to 200. Of the genuine ones, one "
        "in twenty is kept. Which odds does the model see at that spot?",
        "Resampling multiplies the odds p / (1 − p) by one factor, the same everywhere: genuine "
        "rows for each fraud before, over those after. Divide by it, and turn odds into a "
        "probability again, odds / (1 + odds).",
        "With `ratio = counts['genuine'] / counts['fraud']` and "
        "`k = ratio['SMOTE'] / ratio['as it was']` it is `k * s / (k * s + 1 - s)`. It rises with "
        "`s`: what does that mean for ranks, and what for a fixed cut-off?",
    ),
    wrong_answers=(
        WrongAnswer(_REPAIR + "repaired = raw", "the raw probabilities"),
        WrongAnswer(_REPAIR + "repaired = raw * pd.Series(factor)", "stands at the wrong place"),
        WrongAnswer(
            _REPAIR + "share = counts['fraud'] / counts.sum(axis=1)\n"
            "repaired = raw * (share['as it was'] / share[list(raw)])",
            "so that the mean fits",
        ),
        WrongAnswer(
            _REPAIR + "repaired = scaled({m: 1 / k for m, k in factor.items()})", "turned round"
        ),
        WrongAnswer(
            _REPAIR + "repaired = scaled({m: factor['under-sampled'] for m in raw})",
            "the other colleague",
        ),
        WrongAnswer(
            _REPAIR + "repaired = scaled({**factor, 'SMOTE': 0.25})", "the ratio *after* SMOTE"
        ),
        WrongAnswer(_REPAIR + "ap = 'up'", "nobody changes places"),
        WrongAnswer(_REPAIR + "asked = 'same'", "decisions do not look at ranks"),
        WrongAnswer(_REPAIR + "asked = 'more'", "Down they come"),
    ),
)


# Question 3: a hold-back that gives recall, precision and the amount of fraud.


@cache
def _held() -> dict[str, float]:
    """Return the counts that the table of decisions gives."""
    table = quarter()
    blocked = table["advised"] == "block"
    seen = table["fraud"] == 1
    amount = table["amount"]
    return {
        "blocked": int(blocked.sum()),
        "blocked held": int((blocked & table["held_back"]).sum()),
        "stopped held": int((blocked & seen).sum()),
        "missed": int((~blocked & seen).sum()),
        "missed held": int((~blocked & seen & table["held_back"]).sum()),
        "amount stopped held": float(amount[blocked & seen].sum()),
        "amount missed": float(amount[~blocked & seen].sum()),
        "amount missed held": float(amount[~blocked & seen & table["held_back"]].sum()),
    }


@cache
def _estimates() -> list[tuple[float, float, float]]:
    """Return recall, amount and half-width with both weights that are honest.

    One over the share that was to be held back, and blocked payments for each one held back.
    """
    n = _held()
    found = []
    precision = n["stopped held"] / n["blocked held"]
    for weight, rest in ((1 / HELD, 1 - HELD), (n["blocked"] / n["blocked held"], 1 - precision)):
        stopped = weight * n["stopped held"]
        recall = stopped / (stopped + n["missed"])
        half = Z * recall * (1 - recall) * (rest / n["stopped held"]) ** 0.5
        found.append((recall, weight * n["amount stopped held"] + n["amount missed"], half))
    return found


def _slips_in_recall() -> list[tuple[float, str]]:
    n = _held()
    stopped, missed = n["stopped held"], n["missed"]
    right = _estimates()[0][0]
    return [
        (
            stopped / (stopped + missed),
            f"`recall` counts labels as they lie: {stopped} frauds that were advised to be blocked "
            f"against {missed:,} that were missed. But of the blocked ones only one in a hundred "
            "has a label, of the others each. The naive recall is always too *low*, and the better "
            "you block, the worse it looks.",
        ),
        (
            n["blocked"] / (n["blocked"] + missed),
            "`recall` takes every blocked payment for a fraud. Then nobody could block needlessly; "
            "this recall is always too *high*.",
        ),
        (
            stopped / HELD / (stopped / HELD + missed + n["missed held"] * (1 / HELD - 1)),
            "`recall` gives the weight 100 to every held-back row and counts the other labels, "
            "too: the frauds that were allowed stand there about twice. An allowed payment has a "
            "label whether it was held back or not, so its weight is 1.",
        ),
        (
            stopped / (stopped + n["missed held"]),
            "`recall` uses the hold-back alone. That is not wrong on average, and it throws away "
            f"the labels of {missed - n['missed held']:,} frauds that were allowed, which need no "
            "weight. The interval gets much wider. Use every label, each with its own weight.",
        ),
        (
            1 - right,
            "`recall` is upside down: this is the share that was missed.",
        ),
    ]


def _slips_in_precision() -> list[tuple[float, str]]:
    n = _held()
    stopped = n["stopped held"]
    return [
        (
            stopped / n["blocked"],
            "`precision` divides the frauds of the *held-back* blocked payments by *all* blocked "
            "payments, so that missing labels count as genuine. Above and below the line must "
            "stand the same payments.",
        ),
        (
            (stopped + n["missed"]) / _labelled(),
            "`precision` is the share of fraud among all labels. Precision asks only of payments "
            "that were advised to be blocked.",
        ),
        (1.0, "`precision`: that would mean that no genuine payment was ever blocked."),
    ]


@cache
def _labelled() -> int:
    return int(quarter()["fraud"].notna().sum())


def _slips_in_amount() -> list[tuple[float, str]]:
    n = _held()
    return [
        (
            n["amount stopped held"] + n["amount missed"],
            "`amount` adds up the frauds that have a label. Of what was blocked, one euro in a "
            "hundred is among them: too low.",
        ),
        (
            n["amount stopped held"] / HELD,
            "`amount` is what was stopped. The question is about all fraud, with what was let "
            "pass.",
        ),
        (
            (n["amount stopped held"] + n["amount missed"]) / HELD,
            "`amount` weighs every label with 100. Frauds that were allowed are all labelled: "
            "their weight is 1.",
        ),
        (
            (n["amount stopped held"] + n["amount missed held"]) / HELD,
            "`amount` uses the hold-back alone: right on average, and noisier than it need be. "
            "Frauds that were allowed are all known.",
        ),
    ]


def _judge_holdback(recall: object, precision: object, amount: object, interval: object) -> str:
    n, given = _held(), number(recall, "recall")
    fits = [e for e in _estimates() if close(given, e[0], 0.002)]
    if not fits:
        _slip(given, _slips_in_recall(), 0.002)
        raise Wrong(
            f"`recall` of {given:.4g} is none of the usual mix-ups. Estimate how many frauds were "
            "stopped, add those that were missed, and take the share."
        )
    given = number(precision, "precision")
    if not close(given, n["stopped held"] / n["blocked held"], 0.002):
        _slip(given, _slips_in_precision(), 0.002)
        raise Wrong(
            f"`recall` is right. `precision` of {given:.4g}: of which payments with a known end "
            "was a block advised, and how many of them were fraud?"
        )
    euro = number(amount, "amount")
    if not any(close(euro, e[1], 0.002) for e in _estimates()):
        _slip(euro, _slips_in_amount(), 0.002)
        raise Wrong(
            f"`recall` and `precision` are right. `amount` of {euro:,.0f}: add the amounts of "
            "labelled frauds, each with its weight."
        )
    low, high = _bounds(interval, "interval")
    if not low < fits[0][0] < high:
        raise Wrong(
            f"`interval` from {low:.3f} to {high:.3f} does not hold your own estimate of the "
            "recall."
        )
    half = (high - low) / 2
    if abs((low + high) / 2 - fits[0][0]) > 0.4 * half:
        raise Wrong("`interval` is lopsided: the count that it hangs on errs to both sides alike.")
    _judge_width(half, fits)
    true = quarter(truth=True)
    frauds = true[true["fraud"] == 1]
    return (
        f"{n['stopped held']} held-back frauds speak for about {n['stopped held'] / HELD:,.0f}: "
        f"recall {fits[0][0]:.1%}, give or take {100 * half:.1f} points. The truth, which the bank "
        f"will never see, is {(frauds['advised'] == 'block').mean():.1%}."
    )


def _bounds(interval: object, name: str) -> tuple[float, float]:
    try:
        low, high = np.asarray(interval, float)
    except (TypeError, ValueError):
        raise Wrong(f"`{name}` should be two numbers, the lower one first.") from None
    if not low < high:
        raise Wrong(f"`{name}` should be two numbers, the lower one first.")
    return float(low), float(high)


def _judge_width(half: float, fits: list[tuple[float, float, float]]) -> None:
    n, recall = _held(), fits[0][0]
    if any(0.85 <= half / e[2] <= 1.2 for e in _estimates()):
        return
    right = fits[0][2]
    all_rows = Z * (recall * (1 - recall) / (n["stopped held"] / HELD + n["missed"])) ** 0.5
    alone = Z * (recall * (1 - recall) / (n["stopped held"] + n["missed held"])) ** 0.5
    standard = right / Z
    head = "The three estimates are right. `interval`: "
    if close(half, all_rows, 0.1):
        raise Wrong(
            head + "each held-back fraud was counted as a hundred observations. A weight makes one "
            f"observation speak for many, it does not make many of it: {n['stopped held']} were "
            "seen, and that is all the evidence there is."
        )
    if close(half, alone, 0.1):
        raise Wrong(
            head
            + "this is the interval of a recall that uses the hold-back alone. Yours also knows "
            "all missed frauds; only the stopped ones are guessed, so it is narrower."
        )
    if close(half, standard, 0.1):
        raise Wrong(head + "this is one standard error on each side, about 68 %, not 95 %.")
    raise Wrong(
        head + f"{100 * half:.2f} points on each side. Of all that goes into the recall, which "
        "count is uncertain, and by how much (a count of k varies by about √k)?"
    )


_HELD = (
    "blocked = decisions['advised'] == 'block'\n"
    "fraud = decisions['fraud'] == 1\n"
    "held = decisions['held_back']\n"
    "euro = decisions['amount']\n"
    "k, missed = (blocked & fraud).sum(), (~blocked & fraud).sum()\n"
    "recall = 100 * k / (100 * k + missed)\n"
    "precision = k / (blocked & held).sum()\n"
    "amount = 100 * euro[blocked & fraud].sum() + euro[~blocked & fraud].sum()\n"
    "half = 1.96 * recall * (1 - recall) / k**0.5\n"
    "interval = recall - half, recall + half\n"
)

q3 = Question(
    number=3,
    asks="`recall`, `precision` and `amount`, three numbers, and `interval`, two numbers",
    judge=_judge_holdback,
    hints=(
        "For which payments do you know the end? A blocked one only if it was held back: one "
        "chance in a hundred. An allowed one always. So how many does each labelled payment speak "
        "for?",
        "Weights: 100 for a held-back payment that was to be blocked, 1 for every allowed one, "
        "held back or not. Frauds stopped are 100 times the held-back frauds among the blocked; "
        "frauds missed are counted. Precision needs no weight.",
        "Only the number k of held-back frauds is uncertain, by about √k. With S = 100 k and M "
        "missed, recall S / (S + M) then varies by recall · (1 − recall) / √k; take 1.96 times "
        "that.",
    ),
    wrong_answers=(
        WrongAnswer(_HELD + "recall = k / (k + missed)", "always too *low*"),
        WrongAnswer(
            _HELD + "recall = blocked.sum() / (blocked.sum() + missed)", "always too *high*"
        ),
        WrongAnswer(
            _HELD + "weight = np.where(held, 100, 1) * fraud\n"
            "recall = weight[blocked].sum() / weight.sum()",
            "stand there about twice",
        ),
        WrongAnswer(_HELD + "recall = k / (fraud & held).sum()", "throws away the labels"),
        WrongAnswer(_HELD + "precision = k / blocked.sum()", "missing labels count as genuine"),
        WrongAnswer(_HELD + "amount = euro[fraud].sum()", "frauds that have a label"),
        WrongAnswer(_HELD + "amount = 100 * euro[fraud].sum()", "weighs every label with 100"),
        WrongAnswer(
            _HELD + "half = 1.96 * (recall * (1 - recall) / (100 * k + missed)) ** 0.5\n"
            "interval = recall - half, recall + half",
            "as a hundred observations",
        ),
        WrongAnswer(
            _HELD + "half = 1.96 * (recall * (1 - recall) / (fraud & held).sum()) ** 0.5\n"
            "interval = recall - half, recall + half",
            "uses the hold-back alone. Yours",
        ),
    ),
)


# Question 4: the feature that leaks.

LEAK = "terminal_fraud_rate_7d"
HARMLESS = {
    "spent_24h": (
        "`spent_24h` counts the payment that is being decided, and may: its amount stands in the "
        "request. What must not be in a feature is what nobody knows yet."
    ),
    "terminal_age": (
        "`terminal_age` takes a minimum over the whole table, which looks bad. But the first "
        "purchase at a terminal is never later than the present one: nothing that comes after can "
        "change it."
    ),
    "amount_record": (
        "`amount_record` grows with the table, row by row: `cummax` ends at the present payment, "
        "whose amount is known."
    ),
    "device_frauds": (
        "`device_frauds` uses labels, and uses them rightly: only those with `known` up to the "
        "moment of the payment. Whoever sees labels and cries leak loses the best features."
    ),
}


@cache
def _events() -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame, pd.Series]:
    """Return transactions, labels, evidence and the store's risk of the terminal."""
    names = ("transactions", "labels", "terminals", "customers")
    events, labels, terminals, customers = (snapshot(CHAPTER, f"{n}.parquet") for n in names)
    known = features.evidence(events, labels)
    store = features.batch(events, terminals, customers, known)
    return events, labels, known, store["terminal_risk_7d"].astype(float)


def candidates(events: pd.DataFrame, known: pd.DataFrame) -> pd.DataFrame:
    """Return five features that are proposed for the store, by transaction.

    ``events`` is the table of today, in order of arrival; ``known`` has ``transaction`` and
    ``known`` of each fraud.
    """
    customer, terminal = events["customer"], events["terminal"]
    at, amount = events["received"], events["amount"].clip(lower=0)
    opened = events.groupby("terminal")["received"].transform("min")

    fraud = events["transaction"].isin(known["transaction"])
    one = np.ones(len(events), int)
    rate = trailing(terminal, at, fraud, 7, include_current=True)
    rate /= trailing(terminal, at, one, 7, include_current=True)

    used = events[["transaction", "received", "device"]].dropna()
    frauds = known.merge(used[["transaction", "device"]], on="transaction")
    pairs = used.merge(frauds[["device", "known"]], on="device")
    found = pairs[pairs["known"] <= pairs["received"]].groupby("transaction").size()

    columns = {
        "spent_24h": trailing(customer, at, amount, 1, include_current=True),
        "terminal_age": (at - opened) / DAY,
        "amount_record": amount.groupby(customer).cummax(),
        "terminal_fraud_rate_7d": rate,
        "device_frauds": events["transaction"].map(found).fillna(0),
    }
    return pd.DataFrame(columns).set_index(events["transaction"])


def _risk(behind: float, known_only: bool, purchases: bool = True, recent: bool = False):
    """Return the share of fraud at the terminal in seven days that ended ``behind`` days ago.

    ``known_only`` asks that a fraud is known by then; ``purchases`` leaves out retries and refunds;
    ``recent`` divides by the purchases of the last seven days.
    """
    events, _, known, _ = _events()
    counted = np.ones(len(events), bool)
    if purchases:
        counted = (~events["request"].duplicated() & (events["amount"] >= 0)).to_numpy()
    total = trailing(events["terminal"], events["received"], counted, 7, 0 if recent else behind)
    columns = ["transaction", "terminal", "received"]
    frauds = known.merge(events.loc[counted, columns], on="transaction")
    pairs = events[columns].merge(
        frauds[["terminal", "received", "known"]], on="terminal", suffixes=("", "_fraud")
    )
    age = (pairs["received"] - pairs["received_fraud"]) / DAY
    hit = (age >= behind) & (age < behind + 7) & (age > 0)
    if known_only:
        hit &= pairs["known"] <= pairs["received"]
    found = pairs[hit].groupby("transaction").size().reindex(events["transaction"], fill_value=0)
    return found.to_numpy() / np.maximum(total, 1)


@cache
def _slips_in_risk() -> list[tuple[np.ndarray, str]]:
    events, labels, _, _ = _events()
    return [
        (
            features.leaky_risk(events, labels).to_numpy(float),
            "this is the leaking feature itself, unchanged.",
        ),
        (
            _risk(0, False, purchases=False),
            "the present row is out, and the labels are still those of today: a fraud of yesterday "
            "counts, though its chargeback comes in weeks.",
        ),
        (
            _risk(0, False),
            "retries, refunds and the present row are out, and the labels are still those of "
            "today: a fraud of yesterday counts, though its chargeback comes in weeks.",
        ),
        (
            _risk(0, True),
            "only frauds that are known count: no leak any more. But the window ends now, where "
            "hardly a chargeback has arrived, so it is nearly always zero. The store's window ends "
            "a label delay, seven days, ago.",
        ),
        (
            _risk(7, False),
            "the window ends seven days ago, and all its frauds count. A delay is no knowledge: "
            "the median chargeback takes 18 days. A fraud counts if its `known` has passed.",
        ),
        (
            _risk(7, True, purchases=False),
            "nearly the store's. Retries and refunds are counted as purchases: a *purchase* is the "
            "first row of its `request`, with an amount of zero or more.",
        ),
        (
            _risk(7, True, recent=True),
            "frauds of one week are divided by the purchases of another. Above and below the line "
            "must stand the same seven days.",
        ),
    ]


def _judge_leak(leaks: object, repaired: object) -> str:
    if isinstance(leaks, (set, list, tuple)) and len(leaks) == 1:
        leaks = next(iter(leaks))
    if not isinstance(leaks, str):
        raise Wrong("`leaks` should be one name in quotes.")
    if leaks in HARMLESS:
        raise Wrong(HARMLESS[leaks])
    if leaks != LEAK:
        raise Wrong(f"There is no candidate `{leaks}`.")
    events, _, _, store = _events()
    values = _series(repaired, "repaired", store.index)
    right = store.to_numpy()
    differs = np.abs(values - right) > 1e-6
    if not differs.any():
        labels = events["transaction"].isin(_events()[2]["transaction"])
        leaking = _slips_in_risk()[0][0]
        return (
            f"Equal to the store's in all {len(values):,} rows. Its average precision alone falls "
            f"from {protocol.average_precision(labels, leaking):.2f} to "
            f"{protocol.average_precision(labels, values):.3f}: the rest was knowledge of the "
            "future."
        )
    head = f"The name is right. `repaired` differs from the store in {differs.sum():,} rows: "
    for wrong, reason in _slips_in_risk():
        if np.allclose(values, wrong, rtol=0, atol=1e-6):
            raise Wrong(head + reason)
    row = int(differs.argmax())
    raise Wrong(
        head + f"the first is transaction {store.index[row]}, where you have {values[row]:.4g} and "
        f"the store {right[row]:.4g}. Take the definition word by word."
    )


_RISK = (
    "leaks = 'terminal_fraud_rate_7d'\n"
    "def risk(behind, known_only, purchases=True):\n"
    "    counted = ~events['request'].duplicated() & (events['amount'] >= 0)\n"
    "    counted = counted | (not purchases)\n"
    "    key, at = events['terminal'], events['received']\n"
    "    total = trailing(key, at, counted, 7, behind)\n"
    "    frauds = known.merge(events[counted], on='transaction')\n"
    "    columns = ['transaction', 'terminal', 'received']\n"
    "    pairs = events[columns].merge(\n"
    "        frauds[['terminal', 'received', 'known']], on='terminal', suffixes=('', '_f')\n"
    "    )\n"
    "    age = (pairs['received'] - pairs['received_f']) / pd.Timedelta(days=1)\n"
    "    hit = (age >= behind) & (age < behind + 7) & (age > 0)\n"
    "    hit &= (pairs['known'] <= pairs['received']) | (not known_only)\n"
    "    found = events['transaction'].map(pairs[hit].groupby('transaction').size())\n"
    "    return found.fillna(0).to_numpy() / np.maximum(total, 1)\n"
)

q4 = Question(
    number=4,
    asks="`leaks`, a name in quotes, and `repaired`, a number for each row of `events`",
    judge=_judge_leak,
    hints=(
        "Stand at one payment and cover every row below it and every label that has not arrived. "
        "Which of the five columns can you no longer fill in?",
        "A fraud is not known when it happens: `known` says when. The store's risk has three "
        "conditions for a fraud that counts: the same terminal, between 7 and 14 days old, and "
        "known by now. Below the line stand all purchases of the same seven days.",
        "Below the line: `trailing(terminal, received, purchase, 7, 7)`. Above it: join `known` "
        "with `events` to get each fraud's terminal and time, join that to all rows of the "
        "terminal, keep the pairs that fulfil the conditions and count them by transaction.",
    ),
    wrong_answers=(
        WrongAnswer("leaks, repaired = 'spent_24h', 0", "its amount stands in the request"),
        WrongAnswer("leaks, repaired = 'terminal_age', 0", "nothing that comes after"),
        WrongAnswer("leaks, repaired = 'device_frauds', 0", "cries leak"),
        WrongAnswer(
            "leaks = 'terminal_fraud_rate_7d'\nrepaired = questions.candidates(events, "
            "known)[leaks]",
            "the leaking feature itself",
        ),
        WrongAnswer(_RISK + "repaired = risk(0, False, False)", "the present row is out"),
        WrongAnswer(_RISK + "repaired = risk(0, True)", "nearly always zero"),
        WrongAnswer(_RISK + "repaired = risk(7, False)", "A delay is no knowledge"),
        WrongAnswer(_RISK + "repaired = risk(7, True, False)", "Retries and refunds"),
    ),
)


# Question 5: recall within a guardrail.

LIMIT = 0.01


def _bill(table: pd.DataFrame, price: float) -> float:
    """Return the expected cost of the tiers at a price of friction, euro a thousand payments."""
    expected = costs.expected_costs(table["p"], table["amount"])
    tier = costs.tiers(table["p"], table["amount"], price=price)
    each = expected.to_numpy()[np.arange(len(table)), expected.columns.get_indexer(tier)]
    return float(1000 * each.mean())


def by_truth(table: pd.DataFrame, chosen: np.ndarray) -> dict[str, float]:
    """Return what the chosen answers to scored payments came to, by the truth.

    Parameters
    ----------
    table : DataFrame, shape (n, 3)
        As of :func:`weeks`.
    chosen : array of str, shape (n,)

    Returns
    -------
    dict
        Friction and frauds not allowed (per cent), and the cost of 1,000 payments (euro).
    """
    fraud = table["fraud"].to_numpy()
    paid = costs.expected_costs(fraud.astype(float), table["amount"])
    each = paid.to_numpy()[np.arange(len(table)), paid.columns.get_indexer(chosen)]
    return {
        "friction (%)": 100 * float((chosen != "allow")[~fraud].mean()),
        "frauds not allowed (%)": 100 * float((chosen != "allow")[fraud].mean()),
        "cost": 1000 * float(each.mean()),
    }


def _friction(table: pd.DataFrame, price: float) -> float:
    genuine = table[~table["fraud"]]
    return float((costs.tiers(genuine["p"], genuine["amount"], price=price) != "allow").mean())


def _price_for(table: pd.DataFrame) -> float:
    return costs.price_of_guardrail(table["p"], table["amount"], LIMIT)


@cache
def _prices() -> dict[str, float]:
    """Return the price on genuine payments of the validation, and what slips give."""
    validation, test = weeks()
    both = pd.concat([validation, test])
    return {
        "right": _price_for(validation[~validation["fraud"]]),
        "all payments": _price_for(validation),
        "test": _price_for(test[~test["fraud"]]),
        "test, all payments": _price_for(test),
        "both": _price_for(both[~both["fraud"]]),
        "threshold": float(np.quantile(validation.loc[~validation["fraud"], "p"], 1 - LIMIT)),
        "threshold, all": float(np.quantile(validation["p"], 1 - LIMIT)),
    }


def _reason_for_price(value: float) -> str:
    validation, _ = weeks()
    slips, genuine = _prices(), validation[~validation["fraud"]]
    for name in ("threshold", "threshold, all"):
        if close(value, slips[name], 0.02):
            caught = (validation.loc[validation["fraud"], "p"] > value).mean()
            return (
                f"{value:.4f} is a *probability*: the single threshold above which 1 % of the "
                f"payments lie. It would catch {caught:.0%} of the frauds, by number, asking for a "
                "coffee as it asks for a laptop. You are asked for a price in euro, which the "
                "tiers weigh against the amount."
            )
    friction = _friction(validation, value)
    asked = (costs.tiers(validation["p"], validation["amount"], price=value) != "allow").mean()
    if value == 0:
        return (
            f"Without a price the costs alone decide, and {friction:.2%} of the genuine payments "
            "meet friction: more than the guardrail allows."
        )
    if value < 0:
        return "A negative price rewards friction. The guardrail wants less of it, not more."
    for name in ("test", "test, all payments", "both"):
        if close(value, slips[name], 5e-4):
            return (
                "The test is in this price. It has not happened when the price is set, and a "
                "guardrail that was tuned on it is met by construction; on the validation weeks "
                f"friction would be {friction:.2%}."
            )
    if close(value, slips["all payments"], 5e-4):
        return (
            f"At this price {asked:.2%} of *all* payments are asked, frauds among them. Stopping a "
            f"fraud is no friction: of the genuine ones only {friction:.2%} are asked, so you pay "
            "for room that you leave unused."
        )
    if friction > LIMIT:
        return (
            f"At {value:.4g} euro {friction:.3%} of the {len(genuine):,} genuine payments of the "
            "validation weeks meet friction: above the guardrail."
        )
    return (
        f"At {value:.4g} euro {friction:.3%} of the genuine payments meet friction: within the "
        f"guardrail, and dearer than need be. The expected cost is {_bill(validation, value):.1f} "
        "euro a thousand payments; a lower price would do."
    )


def _judge_price(price: object, extra: object) -> str:
    value = number(price, "price")
    validation, test = weeks()
    right = _prices()["right"]
    same = value > 0 and (
        costs.tiers(validation["p"], validation["amount"], price=value)
        == costs.tiers(validation["p"], validation["amount"], price=right)
    )
    if not np.all(same):
        # A step of a cent may let one or two more through: that is near enough.
        near = value > 0 and _friction(validation, value) <= LIMIT and value <= right + 0.01
        if not near:
            raise Wrong(_reason_for_price(value))
    more = number(extra, "extra")
    free, bound = _bill(validation, 0.0), _bill(validation, value)
    asked = (costs.tiers(validation["p"], validation["amount"], price=value) != "allow").mean()
    if not close(more, bound - free, 0.01):
        if close(more, bound - free + 1000 * value * asked, 0.05):
            raise Wrong(
                "`price` is right. `extra` has the price in it, as if somebody paid it. It is a "
                "shadow price: it changes which answer is chosen, and no bill. Take the costs of "
                "the chosen answers without it."
            )
        if close(more, bound, 0.01):
            raise Wrong(
                "`price` is right. `extra` is the whole cost; the question is how much *more*."
            )
        if close(1000 * more, bound - free, 0.01):
            raise Wrong("`price` is right. `extra` is for one payment; give it for a thousand.")
        if close(more, free - bound, 0.01):
            raise Wrong(
                "`price` is right. The sign of `extra` is turned round: a guardrail that binds can "
                "only make the expected cost higher."
            )
        raise Wrong(
            f"`price` is right. `extra` of {more:.4g}: take the expected cost of the chosen "
            "answers at this price, minus that at price 0, both at the model's probabilities, "
            "times 1,000."
        )
    stopped = [
        float((costs.tiers(t["p"], t["amount"], price=value) != "allow")[t["fraud"]].mean())
        for t in (validation, test)
    ]
    return (
        f"At {value:.2f} euro for each question or block, {_friction(validation, value):.2%} of "
        f"the genuine payments meet friction and {stopped[0]:.0%} of the frauds are not allowed. "
        f"In the twelve days after, which had no say: {_friction(test, value):.2%} and "
        f"{stopped[1]:.0%}."
    )


_PRICE = (
    "def needed(table):\n"
    "    return costs.price_of_guardrail(table['p'], table['amount'], 0.01)\n"
    "def bill(price):\n"
    "    each = costs.expected_costs(validation['p'], validation['amount'])\n"
    "    tier = costs.tiers(validation['p'], validation['amount'], price=price)\n"
    "    return sum(each.loc[tier == t, t].sum() for t in each) / len(each) * 1000\n"
    "price = needed(validation[~validation['fraud']])\n"
    "extra = bill(price) - bill(0)\n"
)

q5 = Question(
    number=5,
    asks="`price`, euro, and `extra`, euro a thousand payments",
    judge=_judge_price,
    hints=(
        "`costs.tiers(p, amount, price=…)` lets fewer payments meet friction the higher the price "
        "is. Whose friction is limited, and how far must the price rise?",
        "The lowest price that fulfils the guardrail is also the cheapest: whatever is let through "
        "for it is what it was least worth asking for. Look for it by bisection, over the genuine "
        "payments of the validation only.",
        "`costs.price_of_guardrail` counts all the rows that it is given: give it the genuine "
        "ones. For `extra` add up `costs.expected_costs` (without any price) of the tiers chosen "
        "at `price`, and of those chosen at 0.",
    ),
    wrong_answers=(
        WrongAnswer(_PRICE + "price = needed(validation)", "Stopping a fraud is no friction"),
        WrongAnswer(_PRICE + "price = needed(test[~test['fraud']])", "The test is in this price"),
        WrongAnswer(_PRICE + "price = 0.0", "the costs alone decide"),
        WrongAnswer(
            _PRICE + "price = validation.loc[~validation['fraud'], 'p'].quantile(0.99)",
            "is a *probability*",
        ),
        WrongAnswer(_PRICE + "price = 0.5", "above the guardrail"),
        WrongAnswer(_PRICE + "price = 3.0", "dearer than need be"),
        WrongAnswer(
            _PRICE + "asked = costs.tiers(validation['p'], validation['amount'], price=price)\n"
            "extra += 1000 * price * (asked != 'allow').mean()",
            "as if somebody paid it",
        ),
        WrongAnswer(_PRICE + "extra = bill(price)", "how much *more*"),
    ),
)


# Question 6: the broken evaluation.

SPLITS = ("random", "weeks", "then")
_trained: dict[str, models.Model] = {}


def fit_and_score(X: pd.DataFrame, labels: pd.Series, test: pd.DataFrame) -> np.ndarray:
    """Train LightGBM on labelled rows and score others. The same training again is looked up.

    Parameters
    ----------
    X : DataFrame, shape (n, features)
    labels : Series of 0 and 1, shape (n,)
    test : DataFrame, shape (m, features)

    Returns
    -------
    ndarray, shape (m,)
    """
    import joblib

    key = joblib.hash((X, labels))
    if key not in _trained:
        _trained[key] = models.FAMILIES["LightGBM"].fit(X, labels, QUICK)
    return _trained[key].score(test)


def _labels(at: float, wait: float) -> pd.Series:
    """Return the labels known on a day of the world, by transaction."""
    world = here().world
    known = visible_labels(world, world.start + at * DAY, wait)
    return known.set_index("transaction")["chargeback"].astype(int)


def _between(labels: pd.Series, first: float, last: float) -> pd.Series:
    """Return the labels of what arrived between two days."""
    world = here().world
    received = world.transactions.set_index("transaction")["received"].loc[labels.index]
    day = (received - world.start) / DAY
    return labels[(day >= first) & (day < last)]


@cache
def _ap(at: float = BEGIN, wait: float = bank.WAIT, last: float = 63, judged: float = DAYS):
    """Return the AP of the weeks from day 84, with the training labels known on a day.

    The training ends before day ``last``; the test's labels are those of day ``judged``.
    """
    X = here().X
    learned = _between(_labels(at, wait), 14, last)
    test = _between(_labels(judged, 21 if judged == DAYS else 0), BEGIN, STOP)
    score = fit_and_score(X.loc[learned.index], learned, X.loc[test.index])
    return protocol.average_precision(test, score)


@cache
def _random_ap() -> float:
    X, labels = here().X, _between(_labels(DAYS, 21), 14, STOP)
    drawn = np.random.default_rng(0).random(len(labels)) < 0.7
    learned, test = labels[drawn], labels[~drawn]
    score = fit_and_score(X.loc[learned.index], learned, X.loc[test.index])
    return protocol.average_precision(test, score)


def _slips_in_ap() -> Iterator[tuple[float, str]]:
    """Yield what the usual slips give; each is a training, so one after the other."""
    yield (
        _random_ap(),
        "this is the random split. Its training holds payments of the attacks that its test "
        "holds, and of later days.",
    )
    yield (
        _ap(judged=STOP),
        "the *test* has immature labels: on day 110 most chargebacks of its weeks are still to "
        "come, and frauds that the model finds count as mistakes. To judge, wait as long as you "
        "can; only the training has to know no more than it could.",
    )
    yield (
        _ap(at=STOP),
        "the training labels are those of day 110. The model is to decide from day 84 on: what "
        "came in between was not known.",
    )
    yield (
        _ap(wait=0, last=BEGIN),
        "the training goes up to day 84, and what has no chargeback yet counts as genuine. Of "
        "the last three weeks that is nearly everything, frauds too: the training ends on day "
        "62, as the question says.",
    )


def _judge_weeks(ap_weeks: object, ap_then: object, production: object) -> str:
    right = {"ap_weeks": _ap(at=DAYS), "ap_then": _ap()}
    for name, answer in (("ap_weeks", ap_weeks), ("ap_then", ap_then)):
        value = number(answer, name)
        if close(value, right[name], 0.003):
            continue
        other = "ap_then" if name == "ap_weeks" else "ap_weeks"
        if close(value, right[other], 0.003):
            why = (
                "the training labels are those of today. On day 84 many of them had not arrived: "
                "ask `visible_labels` for that day."
                if name == "ap_then"
                else "these training labels are already those of day 84. For `ap_weeks` change one "
                "thing alone, the split, and keep the labels of today."
            )
            raise Wrong(f"`{name}`: {why}")
        for slip, reason in _slips_in_ap():
            if close(value, slip, 0.003):
                raise Wrong(f"`{name}`: {reason}")
        raise Wrong(
            f"`{name}` of {value:.4g} is none of the usual mix-ups. Days 14 to 62 train, days 84 "
            "to 109 test, the test has the labels of today, and `fit_and_score` is the model."
        )
    chosen = _word(production, "production", SPLITS)
    if chosen == "random":
        raise Wrong(
            "Both numbers are right. But the random split is the number that production will *not* "
            "see: nobody trains on payments of next week."
        )
    if chosen == "weeks":
        raise Wrong(
            "Both numbers are right. `weeks` has an honest order of days and labels that came "
            "after the training day. On day 84 nobody could have trained that model."
        )
    return (
        f"{_random_ap():.2f} by the random split, {right['ap_weeks']:.2f} by weeks, "
        f"{right['ap_then']:.2f} with the labels of the day: production sees the last."
    )


_SPLIT = (
    "day = (received - world.start) / pd.Timedelta(days=1)\n"
    "def part(labels, first, last):\n"
    "    d = day.loc[labels.index]\n"
    "    return labels[(d >= first) & (d < last)]\n"
    "def known(at, wait):\n"
    "    t = visible_labels(world, world.start + pd.Timedelta(days=at), wait)\n"
    "    return t.set_index('transaction')['chargeback'].astype(int)\n"
    "def ap(learned, judged):\n"
    "    s = questions.fit_and_score(X.loc[learned.index], learned, X.loc[judged.index])\n"
    "    return protocol.average_precision(judged, s)\n"
    "judged = part(today, 84, 110)\n"
    "ap_weeks = ap(part(today, 14, 63), judged)\n"
    "ap_then = ap_weeks\n"
    "production = 'then'\n"
)

q6 = Question(
    number=6,
    asks="`ap_weeks` and `ap_then`, two numbers, and `production`, a word",
    judge=_judge_weeks,
    hints=(
        "Two things are wrong at once: which payments train, and what is known of them. Change the "
        "first for `ap_weeks`, then the second as well for `ap_then`. The test stays the same.",
        "The test needs the best labels there are, those of today: judging is not deciding. The "
        "training may know only what had arrived when the model was to start.",
        "`visible_labels(world, world.start + pd.Timedelta(days=84), 21)`, kept for days 14 to 62, "
        "are the labels of `ap_then`.",
    ),
    wrong_answers=(
        WrongAnswer(_SPLIT + "ap_weeks = ap_random", "the random split. Its training"),
        WrongAnswer(_SPLIT, "had not arrived"),
        WrongAnswer(
            _SPLIT + "ap_then = ap(part(known(84, 21), 14, 63), part(known(110, 0), 84, 110))",
            "has immature labels",
        ),
        WrongAnswer(
            _SPLIT + "ap_then = ap(part(known(84, 0), 14, 84), judged)",
            "goes up to day 84",
        ),
        WrongAnswer(
            _SPLIT + "ap_then = ap(part(known(84, 21), 14, 63), judged)\nproduction = 'random'",
            "will *not* see",
        ),
        WrongAnswer(
            _SPLIT + "ap_then = ap(part(known(84, 21), 14, 63), judged)\nproduction = 'weeks'",
            "could have trained that model",
        ),
    ),
)


# Question 7: machines, storage and days.

MEAN, PEAK, REPEATS = 80.0, 320.0, 0.10
FIRST_MS, REPEAT_MS = 40.0, 2.0
CORES, BUSY, SPARE = 4, 0.50, 1
ROW, COPIES, KEPT_DAYS = 1_500, 3, 400
FRAUD, RECALL, HALF = 0.0005, 0.6, 0.05
DAY_SECONDS = 86_400


def _machines(peak: float = PEAK, repeat_ms: float = REPEAT_MS, busy: float = BUSY) -> float:
    cores = peak * ((1 - REPEATS) * FIRST_MS + REPEATS * repeat_ms) / 1000
    return cores / (CORES * busy)


def _terabytes(rate: float = MEAN * (1 - REPEATS), copies: int = COPIES) -> float:
    return rate * DAY_SECONDS * ROW * copies * KEPT_DAYS / 1e12


def _needed() -> float:
    """Return the held-back frauds that show a recall within the wanted half-width."""
    return Z**2 * RECALL * (1 - RECALL) / HALF**2


def _days(rate: float = MEAN * (1 - REPEATS)) -> float:
    return _needed() / (rate * DAY_SECONDS * FRAUD * HELD)


def _slips_in_machines() -> list[tuple[float, str]]:
    full = int(np.ceil(_machines(repeat_ms=FIRST_MS))) + SPARE
    return [
        (
            np.ceil(_machines()),
            "`machines` has none to lose: when one of them dies at the peak, the others are busier "
            "than they may be.",
        ),
        (
            full,
            "`machines` decides repeats once more. A repeat is found in the audit and gets its old "
            "answer: 2 ms, not 40.",
        ),
        (
            np.ceil(_machines(peak=MEAN)) + SPARE,
            "`machines` serves the mean. Payments come at the peak when they come.",
        ),
        (
            np.ceil(_machines(busy=1)) + SPARE,
            "`machines` keeps every core busy all the time. Then queues grow without end, and the "
            "99th percentile with them; the table allows one half.",
        ),
        (
            np.ceil(_machines() * CORES) + SPARE,
            "`machines` counts cores. Each machine has four.",
        ),
    ]


def _judge_scale(machines: object, terabytes: object, days: object) -> str:
    count = number(machines, "machines")
    right = int(np.ceil(_machines())) + SPARE
    if count != right:
        for slip, reason in _slips_in_machines():
            if count == slip:
                raise Wrong(reason)
        if count != int(count):
            raise Wrong(
                f"`machines` of {count:.4g} is no whole number. Round up what the load needs, then "
                "add the spare one."
            )
        raise Wrong(
            f"`machines` of {count:.0f}: the peak keeps {_machines() * CORES * BUSY:.2f} cores "
            "busy. How many machines is that if half of their cores may be busy, rounded up, and "
            "one to lose?"
        )
    size = number(terabytes, "terabytes")
    if not close(size, _terabytes(), 0.005):
        _slip(
            size,
            [
                (
                    _terabytes(MEAN),
                    "`machines` is right. `terabytes` has a row for each request. A repeat is the "
                    "same payment, and its row is there already.",
                ),
                (
                    _terabytes(PEAK * (1 - REPEATS)),
                    "`machines` is right. `terabytes` fills up at the peak all day. Machines are "
                    "bought for the peak, disks for the mean.",
                ),
                (
                    _terabytes(copies=1),
                    "`machines` is right. `terabytes` keeps one copy; the audit is kept three "
                    "times.",
                ),
                (
                    _terabytes() * 1e12 / 1024**4,
                    "`machines` is right. `terabytes` was divided by 1,024 four times: those are "
                    "tebibytes. A terabyte is 10¹² bytes.",
                ),
                (
                    1000 * _terabytes(),
                    "`machines` is right. `terabytes` is in gigabytes.",
                ),
            ],
            0.005,
        )
        raise Wrong(
            f"`machines` is right. `terabytes` of {size:.4g}: write the units beside each factor. "
            "Payments a second, seconds a day, bytes a payment, copies, days: all but bytes cancel."
        )
    wait = number(days, "days")
    if not close(wait, _days(), 0.005):
        _slip(wait, _slips_in_days(), 0.005)
        if wait == np.ceil(_days()) or wait == np.floor(_days()):
            raise Wrong("`machines` and `terabytes` are right. Give `days` without rounding.")
        raise Wrong(
            f"`machines` and `terabytes` are right. `days` of {wait:.4g}: first the number of "
            "frauds that a half-width of five points needs, then how many of them a day brings "
            "into the hold-back."
        )
    return (
        f"{right} machines, {size:.1f} TB, and {wait:.0f} days to collect {_needed():.0f} "
        "held-back frauds. To know how they ended takes months more."
    )


def _slips_in_days() -> list[tuple[float, str]]:
    head = "`machines` and `terabytes` are right. `days` "
    right = _days()
    return [
        (
            _days(MEAN),
            head
            + "counts repeats as payments of their own. A fraud that is sent twice is one fraud, "
            "and is held back once.",
        ),
        (
            right * FRAUD,
            head + f"waits for {_needed():.0f} *payments* in the hold-back. Recall is a share of "
            "frauds, and one payment in two thousand is fraud.",
        ),
        (
            right * HELD,
            head + "counts all frauds. Only one in a hundred is held back.",
        ),
        (
            right / Z**2,
            head + "takes five points for the standard error. A 95 % interval reaches 1.96 of them "
            "to each side.",
        ),
        (
            right * 4,
            head + "makes the whole interval five points wide. The question allows five on *each* "
            "side.",
        ),
        (
            right / RECALL,
            head + "waits for so many frauds that would have been *stopped*. All frauds in the "
            "hold-back count, those that the policy would have missed, too.",
        ),
        (
            right * 0.25 / (RECALL * (1 - RECALL)),
            head
            + "takes the widest case, a recall of one half. That is a safe answer when nothing "
            "is known; here about 0.6 is.",
        ),
        (
            right * MEAN / PEAK,
            head + "goes on at the peak all day. Over days it is the mean that counts.",
        ),
    ]


_SCALE = (
    "payments = 80 * (1 - 0.10)\n"
    "machines = np.ceil(320 * (0.9 * 0.040 + 0.1 * 0.002) / (4 * 0.5)) + 1\n"
    "terabytes = payments * 86_400 * 1500 * 3 * 400 / 1e12\n"
    "needed = 1.96**2 * 0.6 * 0.4 / 0.05**2\n"
    "days = needed / (payments * 86_400 * 0.0005 * 0.01)\n"
)

q7 = Question(
    number=7,
    asks="`machines`, a whole number, `terabytes` and `days`, two numbers",
    judge=_judge_scale,
    hints=(
        "Which rate belongs to which number: the peak or the mean, requests or payments? Write the "
        "unit beside every factor.",
        "Seconds of processor for each second are busy cores: at the peak, first requests at 40 ms "
        "and repeats at 2 ms. Disks and hold-back count payments, once each, at the mean.",
        "A share R seen in n frauds has a 95 % half-width of 1.96 · √(R (1 − R) / n). Solve for n; "
        "a day brings payments × fraud rate × hold-back share of them.",
    ),
    wrong_answers=(
        WrongAnswer(_SCALE + "machines = np.ceil(320 * 0.040 / (4 * 0.5)) + 1", "once more"),
        WrongAnswer(_SCALE + "machines -= 1", "none to lose"),
        WrongAnswer(_SCALE + "machines = 3", "serves the mean"),
        WrongAnswer(_SCALE + "terabytes *= 80 / payments", "a row for each request"),
        WrongAnswer(_SCALE + "terabytes *= 320 / 80", "at the peak all day"),
        WrongAnswer(_SCALE + "terabytes /= 3", "keeps one copy"),
        WrongAnswer(_SCALE + "days *= payments / 80", "counts repeats"),
        WrongAnswer(_SCALE + "days *= 0.0005", "*payments* in the hold-back"),
        WrongAnswer(_SCALE + "days /= 1.96**2", "for the standard error"),
        WrongAnswer(_SCALE + "days *= 4", "whole interval"),
    ),
)
