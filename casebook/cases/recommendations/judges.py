"""Judges of recommendation lists: what the log says, what its random slice says, and the truth.

A candidate names ten items for every list of the test days. Judges on *logged clicks* ask whether
it names what was clicked, and only what the shop showed could be clicked. Judges on the *random
slice* ask what came of items that chance showed, with the chance known. An A/B test shows the lists
to half of the users; the truth is what it would find without end.

All values but those on logged clicks are clicks a list, and can be compared with the truth.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from casebook.cases.recommendations.catalogue import SURFACES, stream
from casebook.cases.recommendations.features import History, define, look_curve, training_rows
from casebook.cases.recommendations.log import by_chance, moment
from casebook.cases.recommendations.messages import repair
from casebook.evaluate.assign import CONTROL, TREATMENT, arms, numbered
from casebook.evaluate.experiments import Effect, ratio_effect, ratio_with_se
from casebook.evaluate.off_policy import Estimate, Z, dr, ips, snips

if TYPE_CHECKING:
    from casebook.cases.recommendations.world import World

#: Lists of items for each row of :func:`contexts`, or a function from these rows to them.
Candidate = np.ndarray | Callable[[pd.DataFrame], np.ndarray]
JUDGES = ("recall", "ndcg", "weighted recall", "ips", "snips", "dr", "dr cut", "ab", "truth")
#: The judge "dr cut" cuts weights to this: less noise, and a part of the model's errors stays.
CUT = 20.0
#: From rows with ``user``, ``item``, ``at``, ``seed_item`` to the chance of a click if looked at.
Model = Callable[[pd.DataFrame], np.ndarray]


def contexts(world: World, days: Sequence[int] | None = None) -> pd.DataFrame:
    """Return the lists that some days asked for: what a candidate is given, a row each.

    Parameters
    ----------
    world : World
    days : sequence of int, optional
        By default those of the test.

    Returns
    -------
    DataFrame
        ``list``, ``at``, ``day``, ``user``, ``surface``, ``seed_item``, ``session``, ``random``.
    """
    wanted = set(world.split.test if days is None else days)
    if not wanted <= {*range(world.shop.days)}:
        raise ValueError(f"the world has the days 0 to {world.shop.days - 1}.")
    parts, first = [], 0
    for day in world.played:
        asked, n = day.asked, len(day.asked)
        if asked.day in wanted:
            columns = {
                "list": first + np.arange(n),
                "at": moment(asked.at),
                "day": asked.day,
                "user": asked.user,
                "surface": pd.Categorical.from_codes(asked.surface, SURFACES),
                "seed_item": asked.seed_item,
                "session": asked.session,
                "random": day.random,
            }
            parts.append(pd.DataFrame(columns))
        first += n
    return pd.concat(parts, ignore_index=True)


def lists_of(world: World, candidate: Candidate, asked: pd.DataFrame) -> np.ndarray:
    """Return a candidate's lists, or raise a ``ValueError`` that says what is wrong with them.

    An item that is sold out, the item of the page itself and an item named twice are refused: the
    random slice never shows them, so that it could not say what they are worth.
    """
    made = np.asarray(candidate(asked) if callable(candidate) else candidate)
    if made.shape != (len(asked), world.shop.slots) or made.dtype.kind not in "iu":
        raise ValueError(
            f"lists of {made.dtype}, shape {made.shape}: give item numbers of shape "
            f"({len(asked)}, {world.shop.slots}), a row for each of contexts()."
        )
    if made.min(initial=0) < 0 or made.max(initial=0) >= world.shop.items:
        raise ValueError(f"items are numbered from 0 to {world.shop.items - 1}.")
    ordered = np.sort(made, axis=1)
    faults = {
        "twice in a list": ordered[:, 1:] == ordered[:, :-1],
        "sold out on the day": ~world.stock[asked["day"].to_numpy()[:, None], made],
        "the page's own": made == asked["seed_item"].to_numpy()[:, None],
    }
    for what, where in faults.items():
        if where.any():
            raise ValueError(f"{int(where.sum())} items are {what}: leave them out.")
    return made


# Logged clicks ------------------------------------------------------------------------


def _ratio(top: np.ndarray, bottom: np.ndarray, clusters: np.ndarray) -> Estimate:
    """Return a ratio of sums over rows with the standard error over clusters."""
    _, code = np.unique(clusters, return_inverse=True)
    value, se = ratio_with_se(np.bincount(code, top), np.bincount(code, bottom))
    return Estimate(value, se, value - Z * se, value + Z * se, float(len(code)))


def _impressions(world: World, asked: pd.DataFrame) -> pd.DataFrame:
    """Return the impressions of the lists, with the row of :func:`contexts` of each."""
    slots, first = world.shop.slots, asked["list"].to_numpy()
    at = (first[:, None] * slots + np.arange(slots)).ravel()
    return world.shown.iloc[at].assign(row=np.repeat(np.arange(len(asked)), slots))


def _places(rows: pd.DataFrame, lists: np.ndarray) -> np.ndarray:
    """Return the slot at which each impression's item stands in the candidate's list, or −1."""
    same = lists[rows["row"].to_numpy()] == rows["item"].to_numpy()[:, None]
    return np.where(same.any(axis=1), same.argmax(axis=1), -1)


def recall(clicks: pd.DataFrame, lists: np.ndarray) -> Estimate:
    """Return the share of logged clicks on items that the candidate names too."""
    hit = _places(clicks, lists) >= 0
    return _ratio(hit.astype(float), np.ones(len(hit)), clicks["user"].to_numpy())


def ndcg(clicks: pd.DataFrame, lists: np.ndarray) -> Estimate:
    """Return the mean NDCG@10 of lists with a logged click."""
    place = _places(clicks, lists)
    gain = np.where(place >= 0, 1 / np.log2(np.maximum(place, 0) + 2.0), 0.0)
    row, code = np.unique(clicks["row"].to_numpy(), return_inverse=True)
    best = (1 / np.log2(np.arange(lists.shape[1]) + 2.0)).cumsum()
    each = np.bincount(code, gain) / best[np.bincount(code) - 1]
    user = clicks.groupby("row")["user"].first().loc[row].to_numpy()
    return _ratio(each, np.ones(len(each)), user)


def weighted_recall(clicks: pd.DataFrame, lists: np.ndarray, share: np.ndarray) -> Estimate:
    """Return the recall with each click weighted by one over the share of lists with its item.

    ``share``, shape (items,), is counted: the shop does not log the chance of what its own policy
    shows. It is a mean over all pages, and right for none.
    """
    hit = _places(clicks, lists) >= 0
    weight = 1 / share[clicks["item"].to_numpy()]
    return _ratio(hit * weight, weight, clicks["user"].to_numpy())


# The random slice ---------------------------------------------------------------------


def chance_from_scratch(world: World, rows: pd.DataFrame) -> np.ndarray:
    """Return the chance that a random list has a given item in a given slot, counted anew.

    Parameters
    ----------
    world : World
    rows : DataFrame
        Impressions: ``day``, ``seed_item``.

    Returns
    -------
    ndarray, shape (n,)
        One over the items in stock on the day, without the page's own.
    """
    day, seed = rows["day"].to_numpy(), rows["seed_item"].to_numpy()
    own = (seed >= 0) & world.stock[day, np.maximum(seed, 0)]
    return 1 / (world.stock[day].sum(axis=1) - own)


class Slice(NamedTuple):
    """The random slice as a candidate sees it, a row for each impression.

    Attributes
    ----------
    rows : DataFrame
    clicked : ndarray
    chance : ndarray
        Of the item, to stand in the slot.
    target : ndarray
        The share of the candidate's looks that falls on this item; 0 if it does not name it.
    """

    rows: pd.DataFrame
    clicked: np.ndarray
    chance: np.ndarray
    target: np.ndarray


def slice_of(
    rows: pd.DataFrame, lists: np.ndarray, look: np.ndarray, chance: np.ndarray | None = None
) -> Slice:
    """Return the random slice with the weights of a candidate.

    An item tells what it is worth in whatever slot chance put it: a look at it is a look at it.
    With a look curve that sums to E, an impression of an item which the candidate puts in slot t
    stands for ``look[t] / E`` over its chance.

    Raises
    ------
    ValueError
        If no list is random, or the weights are off by far: their mean is one if chances are right.
    """
    rows = rows[rows["random"]]
    if rows.empty:
        raise ValueError("no list is random on these days: set Shop.random_share, or take more.")
    chance = rows["chance"].to_numpy() if chance is None else np.asarray(chance, float)
    place = _places(rows, lists)
    target = np.where(place >= 0, look[place] / look.sum(), 0.0)
    weight = target / chance
    # Matches are a Poisson number. Beyond five standard errors and by half, the chance is wrong.
    se = np.sqrt(np.square(weight).sum()) / len(weight)
    if abs(weight.mean() - 1) > max(5 * se, 0.5):
        raise ValueError(
            f"the weights have the mean {weight.mean():.2f}, which is 1 for right chances: use the "
            "chance of an item to stand in one slot."
        )
    return Slice(rows, rows["clicked"].to_numpy(float), chance, target)


def _times(estimate: Estimate, factor: float) -> Estimate:
    return Estimate(*(factor * value for value in estimate[:4]), estimate.effective)


def click_model(world: World, until: int, most: int = 60_000) -> Model:
    """Fit a logistic regression of clicks on the features, on impressions before a day.

    Parameters
    ----------
    world : World
    until : int
    most : int
        Impressions that it is fitted on, about.

    Returns
    -------
    callable
        From rows to the chance of a click if the first slot is looked at.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    made = define(world, until)
    past = History(made, repair(world.events, world.items), world.shown)
    rows = training_rows(world, range(until // 4, until))
    if len(rows) > most:
        rows = training_rows(world, range(until // 4, until), most / len(rows))
    features = past.features(rows).assign(look=np.log(made.look[rows["slot"].to_numpy()]))
    fitted = make_pipeline(StandardScaler(), LogisticRegression(max_iter=300))
    fitted.fit(features, rows["clicked"])

    def expects(asked: pd.DataFrame) -> np.ndarray:
        return fitted.predict_proba(past.features(asked).assign(look=0.0))[:, 1]

    return expects


def doubly_robust(
    part: Slice,
    asked: pd.DataFrame,
    lists: np.ndarray,
    look: np.ndarray,
    model: Model,
    most: float = np.inf,
) -> Estimate:
    """Return clicks a list by a model, corrected on the random slice for where it errs.

    Weights are cut to ``most``: the smaller, the less noise, and the more the model decides alone.
    """
    rows, slots = part.rows, lists.shape[1]
    expected = look[rows["slot"].to_numpy()] * model(rows)
    drawn = rows["row"].to_numpy()[::slots]
    named = asked.iloc[np.repeat(drawn, slots)][["user", "at", "seed_item"]]
    chosen = model(named.assign(item=lists[drawn].ravel()).reset_index(drop=True))
    under = (chosen.reshape(-1, slots) @ look) / slots
    users = rows["user"].to_numpy()
    found = dr(
        part.clicked, part.chance, part.target, expected, np.repeat(under, slots), users, most
    )
    return _times(found, slots)


# A test, and the truth ----------------------------------------------------------------


def _outcome(world: World, asked: pd.DataFrame, lists: np.ndarray) -> np.ndarray:
    """Return the clicks on each list, had it been shown: with the luck of the log."""
    clicks = np.empty(len(asked))
    start = asked.groupby("day")["list"].transform("min").to_numpy()
    for day in asked["day"].unique():
        on = (asked["day"] == day).to_numpy()
        rng = stream(world.seed, 100 + int(day), 5)
        n = len(world.played[day].asked)
        eye, will, _ = rng.random((3, n, world.shop.slots))
        at = asked.loc[on, "list"].to_numpy() - start[on]
        appeal = world.truth.appeal(asked.loc[on, "user"].to_numpy(), lists[on], int(day))
        seen = (eye[at] < world.truth.examined) & (will[at] < appeal)
        clicks[on] = seen.sum(axis=1)
    return clicks


class Trial(NamedTuple):
    """An A/B test of one candidate against the shop's own lists.

    Attributes
    ----------
    effect : Effect
        Of clicks a list.
    value : Estimate
        Clicks a list of the candidate.
    users : dict of str to int
        Users of each arm.
    """

    effect: Effect
    value: Estimate
    users: dict[str, int]


def ab_test(
    world: World, asked: pd.DataFrame, lists: np.ndarray, salt: str = "lists", share: float = 0.5
) -> Trial:
    """Show a candidate to some users by a salted hash, and the shop's own lists to the others.

    Parameters
    ----------
    world : World
    asked : DataFrame
        Of :func:`contexts`; random lists are left out.
    lists : ndarray, shape (n, slots)
    salt : str
    share : float
        Of the users who get the candidate.
    """
    users = numbered(range(world.shop.users))
    arm = arms(users, salt, {CONTROL: 1 - share, TREATMENT: share})
    counted = ~asked["random"].to_numpy()
    treated = (arm == TREATMENT)[asked["user"]]
    own = _impressions(world, asked).groupby("row", sort=True)["clicked"].sum().to_numpy(float)
    clicks = np.where(treated, 0.0, own)
    clicks[treated] = _outcome(world, asked, lists)[treated]
    sums = []
    for here in (counted & ~treated, counted & treated):
        _, code = np.unique(asked.loc[here, "user"], return_inverse=True)
        sums.append((np.bincount(code, clicks[here]), np.bincount(code).astype(float)))
    value, se = ratio_with_se(*sums[1])
    n = {name: len(both[1]) for name, both in zip((CONTROL, TREATMENT), sums, strict=True)}
    held = Estimate(value, se, value - Z * se, value + Z * se, float(n[TREATMENT]))
    return Trial(ratio_effect(*sums), held, n)


def true_clicks(world: World, asked: pd.DataFrame, lists: np.ndarray) -> Estimate:
    """Return the expected clicks a list; its error is that of who happened to come."""
    chance = world.truth.clicks(asked["user"].to_numpy(), lists, asked["day"].to_numpy())
    return _ratio(chance, np.ones(len(chance)), asked["user"].to_numpy())


# All of them --------------------------------------------------------------------------


def controls(world: World, asked: pd.DataFrame, seed: int = 0) -> dict[str, np.ndarray]:
    """Return lists that every table has: the bestsellers, and lists drawn by chance.

    Bestsellers are the items with the most logged clicks before the first of the days, in stock,
    without the page's own.
    """
    slots, first = world.shop.slots, int(asked["day"].min())
    before = world.shown[(world.shown["day"] < first) & world.shown["clicked"]]
    count = np.bincount(before["item"], minlength=world.shop.items)
    best, even = np.empty((len(asked), slots), int), np.empty((len(asked), slots), int)
    rng = np.random.default_rng([seed, 9])
    for day, rows in asked.groupby("day").indices.items():
        stock, own = world.stock[day], asked["seed_item"].to_numpy()[rows]
        ranked = np.argsort(-np.where(stock, count, -1), kind="stable")[: slots + 1]
        top = np.tile(ranked, (len(rows), 1))
        # The page's own goes last, and the last is cut off.
        order = np.argsort(top == own[:, None], axis=1, kind="stable")[:, :slots]
        best[rows] = np.take_along_axis(top, order, 1)
        even[rows] = by_chance(rng, stock, own, slots)[0]
    return {"bestsellers": best, "random list": even}


def judge_table(
    world: World,
    candidates: Mapping[str, Candidate],
    days: Sequence[int] | None = None,
    model: Model | None = None,
    judges: Sequence[str] = JUDGES,
) -> pd.DataFrame:
    """Let every judge value every candidate, and the controls.

    Parameters
    ----------
    world : World
    candidates : mapping of str to Candidate
    days : sequence of int, optional
        By default those of the test.
    model : callable, optional
        Of the doubly robust judge; by default :func:`click_model` of the days before.
    judges : sequence of str
        Of :data:`JUDGES`.

    Returns
    -------
    DataFrame
        ``candidate``, ``judge``, ``value``, ``se`` (over users), ``low``, ``high``.

    Raises
    ------
    ValueError
        If a judge is unknown or lists are not allowed.
    """
    if unknown := sorted({*judges} - {*JUDGES}):
        raise ValueError(f"no judge has the name {unknown}: choose among {JUDGES}.")
    asked = contexts(world, days)
    rows, first = _impressions(world, asked), int(asked["day"].min())
    clicks, slots = rows[rows["clicked"]], world.shop.slots
    earlier = world.shown[world.shown["day"] < first]
    look = look_curve(earlier)
    share = np.bincount(rows["item"], minlength=world.shop.items) / len(asked)
    if model is None and {"dr", "dr cut"} & {*judges}:
        model = click_model(world, first)
    found = []
    for name, candidate in {**controls(world, asked), **candidates}.items():
        lists = lists_of(world, candidate, asked)
        part = slice_of(rows, lists, look)
        users = part.rows["user"].to_numpy()
        ask = {
            "recall": partial(recall, clicks, lists),
            "ndcg": partial(ndcg, clicks, lists),
            "weighted recall": partial(weighted_recall, clicks, lists, share),
            "ips": lambda p=part, u=users: _times(ips(*p[1:], u), slots),
            "snips": lambda p=part, u=users: _times(snips(*p[1:], u), slots),
            "dr": partial(doubly_robust, part, asked, lists, look, model),
            "dr cut": partial(doubly_robust, part, asked, lists, look, model, CUT),
            "ab": lambda given=lists: ab_test(world, asked, given).value,
            "truth": partial(true_clicks, world, asked, lists),
        }
        for judge in judges:
            found.append((name, judge, *ask[judge]()[:4]))
    return pd.DataFrame(found, columns=["candidate", "judge", "value", "se", "low", "high"])


def verdicts(table: pd.DataFrame, always: str) -> pd.DataFrame:
    """Return whom each judge names, and what is lost by it; with a judge who names the same always.

    Parameters
    ----------
    table : DataFrame
        Of :func:`judge_table`, with the truth.
    always : str
        The candidate that the control names without looking.

    Returns
    -------
    DataFrame
        By judge: ``named``, ``right``, ``truth`` (of who is named), ``loss`` (to the best one).
    """
    wide = table.pivot(index="candidate", columns="judge", values="value")
    if always not in wide.index or "truth" not in wide:
        raise ValueError(f"the table needs the truth and a candidate {always!r}.")
    truth = wide["truth"]
    named = {judge: wide[judge].idxmax() for judge in wide} | {f"always {always}": always}
    held = truth.loc[[*named.values()]].to_numpy()
    columns = {"named": [*named.values()], "right": held >= truth.max(), "truth": held}
    made = pd.DataFrame(columns, index=pd.Index([*named], name="judge"))
    return made.assign(loss=truth.max() - made["truth"])
