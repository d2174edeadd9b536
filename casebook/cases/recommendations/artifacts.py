"""Networks of case 09, trained once by ``make artifacts N=09``: two towers, a sequence, two heads.

* *Two towers*: :mod:`casebook.retrieval.towers`; the page is the newest item of the user's.
* *Deep*: a ranker that reads the last twenty items of a user with attention, beside the features.
* *Heads*: one network with a head for clicks and one for purchases, against two networks apart.

All see the same nights as the rungs of :mod:`.ladder`; each had nine trials on the first world of
the choice. Networks are trained anew in five worlds of the studies.

References
----------
Ma et al. (2018), *Modeling task relationships in multi-task learning with multi-gate
mixture-of-experts*, KDD.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

import numpy as np
import pandas as pd

from casebook.cases.recommendations import studies
from casebook.cases.recommendations.candidates import allowed, merged
from casebook.cases.recommendations.nights import Known
from casebook.cases.recommendations.rankers import Asked, asked, of_lists
from casebook.cases.recommendations.studies import CHOSEN_ON, SEEDS, Setting
from casebook.recorded.artifacts import Recipe
from casebook.retrieval.factors import top
from casebook.retrieval.towers import Settings, Towers, latest, steps

NETWORK_SEED, LAST = 0, 20
#: Worlds in which networks are trained, and their candidates for a ranker.
WORLDS, WIDE = SEEDS[:5], 160
DAYS = 14


TRIALS: Mapping[str, tuple[Settings, ...]] = {
    "towers": tuple(
        Settings(epochs=e, cold=c, rate=r)
        for e, c, r in (
            *((3, 0.1, 3e-3), (6, 0.1, 3e-3), (3, 0.2, 3e-3)),
            *((3, 0.05, 3e-3), (3, 0.1, 1e-2), (3, 0.2, 1e-2)),
            *((6, 0.2, 1e-2), (3, 0.4, 1e-2), (3, 0.2, 3e-2)),
        )
    ),
    "deep": tuple(
        Settings(width=w, rate=r, epochs=e)
        for w, r, e in (
            *((16, 3e-3, 1), (16, 3e-3, 3), (16, 1e-2, 1), (32, 3e-3, 1), (32, 3e-3, 3)),
            *((16, 3e-3, 6), (8, 3e-3, 3), (8, 3e-3, 6), (16, 3e-3, 12)),
        )
    ),
}
CHOSEN = {"towers": TRIALS["towers"][5], "deep": TRIALS["deep"][5]}


# Two towers --------------------------------------------------------------------------


def _columns(night: Known) -> np.ndarray:
    """Return what a tower sees of items beside their number."""
    goods = night.goods
    labels = [np.eye(codes.max() + 1)[codes] for codes in (goods.category, goods.brand)]
    return np.concatenate([*labels, goods.words, goods.price[:, None]], axis=1).astype("f4")


def fitted_towers(night: Known, settings: Settings, logq: bool = True) -> Towers:
    """Train towers on what users took next before a midnight."""
    before, item = steps(night.rows[:, 0], night.rows[:, 1], LAST)
    return Towers(_columns(night), before, item, settings, logq, NETWORK_SEED)


def last_of(night: Known) -> np.ndarray:
    """Return the last items of each user, newest first, and of nobody."""
    return latest(night.rows[:, 0], night.rows[:, 1], len(night.heard), LAST)


def tower_scores(towers: Towers, night: Known, some: Asked) -> np.ndarray:
    """Return scores of all items for requests; the page is the newest item."""
    last = last_of(night)[some.user]
    page = some.page >= 0
    last[page] = np.concatenate([some.page[page, None], last[page, :-1]], axis=1)
    return towers.scores(last)


def towers_of(here: Setting, settings: Settings, logq: bool = True) -> np.ndarray:
    """Return the scores of towers for the requests of a test, shape (n, items)."""
    made, fits = np.empty((len(here.test.user), here.world.shop.items)), {}
    for day in np.unique(here.test.day):
        week = day // 7 * 7
        if week not in fits:
            fits[week] = fitted_towers(here.nights.known(week), settings, logq)
        rows = np.flatnonzero(here.test.day == day)
        part = here.test.where(rows)
        scores = tower_scores(fits[week], here.nights.known(day), part)
        made[rows] = allowed(scores, here.world.stock[day], part.page)
    return made


def ranked(here: Setting, items: np.ndarray, rank) -> np.ndarray:
    """Return the ten best of candidates by a score of features."""
    x = of_lists(here.nights, here.test, items)
    best = top(np.where(items >= 0, rank(x), -np.inf), 10)
    return np.take_along_axis(items, best, axis=1)


def candidates_of(here: Setting) -> np.ndarray:
    """Return the merged candidates of the requests of a test."""
    made = np.full((len(here.test.user), 300), -1)
    for rows, lists in studies.proposals(here):
        items = merged(lists)
        made[rows, : items.shape[1]] = items
    return made


# A sequence, and two heads ----------------------------------------------------------------


def _histories(here: Setting, some: Asked) -> np.ndarray:
    """Return the last items of each request's user as of the midnight."""
    made = np.empty((len(some.user), LAST), int)
    for day in np.unique(some.day):
        rows = some.day == day
        made[rows] = last_of(here.nights.known(day))[some.user[rows]]
    return made


class Deep:
    """A network on the features of a pair, the user's last twenty items, or both; with heads.

    Parameters
    ----------
    here : Setting
    some : Asked
        Lists that it learns from.
    x : ndarray, shape (n, slots, features)
    labels : tuple of str
        A head for each: ``clicked``, ``bought``.
    settings : Settings
    sequence : bool
        Whether it reads the last items.
    """

    def __init__(self, here, some, x, labels=("clicked",), settings=None, sequence=True):
        import torch

        torch.manual_seed(NETWORK_SEED)
        torch.set_num_threads(1)
        settings = settings or CHOSEN["deep"]
        self._torch, self.sequence = torch, sequence
        flat = x.reshape(-1, x.shape[-1])
        self.mean, self.scale = flat.mean(axis=0), flat.std(axis=0) + 1e-6
        columns = torch.tensor(_columns(here.nights.known(here.world.split.validate_until)))
        width, features = settings.width, x.shape[-1]

        class Net(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.of = torch.nn.Linear(columns.shape[1], width)
                self.key = torch.nn.Linear(columns.shape[1], width)
                inside = features + (2 * width + 1 if sequence else 0)
                self.body = torch.nn.Sequential(torch.nn.Linear(inside, 2 * width), torch.nn.ReLU())
                self.heads = torch.nn.Linear(2 * width, len(labels))
                self.plain = torch.nn.Linear(features, len(labels))
                self.slot = torch.nn.Parameter(torch.zeros(len(labels)))

            def forward(self, x, items, last, slot):
                parts = [x]
                if sequence:
                    own, seen = self.of(columns)[items], self.key(columns)[last.clamp(min=0)]
                    fit = torch.einsum("nmd,nkd->nmk", own, seen) / width**0.5
                    fit = fit.masked_fill((last < 0)[:, None], -1e9)
                    share = torch.softmax(fit, dim=2) * (last >= 0)[:, None]
                    read = share @ self.of(columns)[last.clamp(min=0)]
                    parts += [own, read, (own * read).sum(dim=2, keepdim=True)]
                made = self.heads(self.body(torch.cat(parts, dim=2))) + self.plain(x)
                return made + self.slot * slot[:, None]

        self.net = Net()
        last = _histories(here, some)
        goal = np.stack([getattr(some, label) for label in labels], axis=2).astype("f4")
        self._train(*(self._rows(x), some.lists, last, goal), settings)

    def _rows(self, x: np.ndarray) -> np.ndarray:
        return ((x - self.mean) / self.scale).astype("f4")

    def _train(self, x, items, last, goal, settings: Settings) -> None:
        torch = self._torch
        x, items, last, goal = (torch.tensor(a) for a in (x, items, last, goal))
        slot = torch.arange(x.shape[1]).float()
        best = torch.optim.Adam(self.net.parameters(), lr=settings.rate, weight_decay=1e-5)
        for _ in range(settings.epochs):
            for rows in torch.randperm(len(x)).split(128):
                made = self.net(x[rows], items[rows], last[rows], slot)
                loss = torch.nn.functional.binary_cross_entropy_with_logits(
                    made, goal[rows], reduction="none"
                )
                loss = loss.mean(dim=(0, 1)).sum()
                best.zero_grad()
                loss.backward()
                best.step()

    def scores(self, x: np.ndarray, items: np.ndarray, last: np.ndarray) -> np.ndarray:
        """Return log-odds by head as if all stood in the first slot, shape (n, m, heads)."""
        torch, made = self._torch, []
        with torch.no_grad():
            for rows in np.array_split(np.arange(len(x)), max(1, len(x) // 200)):
                parts = self._rows(x[rows]), np.maximum(items[rows], 0), last[rows]
                slot = torch.zeros(items.shape[1])
                made.append(self.net(*(torch.tensor(a) for a in parts), slot).numpy())
        return np.concatenate(made)


def _fitted_on(here: Setting) -> tuple[Asked, np.ndarray]:
    """Return the lists of the two weeks before the test, and their features."""
    until = here.world.split.validate_until
    some = asked(here.world.shown, range(until - DAYS, until))
    return some, of_lists(here.nights, some)


def deep_lists(here: Setting, settings: Settings, items: np.ndarray) -> np.ndarray:
    """Return the lists of the sequence ranker."""
    some, x = _fitted_on(here)
    model = Deep(here, some, x, settings=settings)
    scores = model.scores(
        of_lists(here.nights, here.test, items), items, _histories(here, here.test)
    )
    best = top(np.where(items >= 0, scores[:, :, 0], -np.inf), 10)
    return np.take_along_axis(items, best, axis=1)


def heads_of(seed: int) -> pd.DataFrame:
    """Compare one network with two heads with two networks apart, on the lists of the test.

    ``way``, ``label``, ``auc`` (of all impressions of the test's days that are judged) and ``loss``
    (log loss, per 1,000 impressions).
    """
    from sklearn.metrics import log_loss, roc_auc_score

    here = studies.simulate(seed, requests=4_000)
    (some, x), test = _fitted_on(here), here.test
    own, last, rows = of_lists(here.nights, test), _histories(here, test), []
    labels = ("clicked", "bought")
    made = {"two heads": Deep(here, some, x, labels, sequence=False).scores(own, test.lists, last)}
    apart = [
        Deep(here, some, x, (label,), sequence=False).scores(own, test.lists, last)
        for label in labels
    ]
    made["two networks"] = np.concatenate(apart, axis=2)
    for way, scores in made.items():
        for place, label in enumerate(labels):
            truth = getattr(test, label).ravel()
            chance = 1 / (1 + np.exp(-scores[:, :, place].ravel()))
            loss = 1_000 * log_loss(truth, chance)
            auc = roc_auc_score(truth, scores[:, :, place].ravel())
            rows.append({"seed": seed, "way": way, "label": label, "auc": auc, "loss": loss})
    return pd.DataFrame(rows)


# The artifacts --------------------------------------------------------------------------


def one_world(seed: int) -> pd.DataFrame:
    """Train the networks in one world: ``rung`` and as of :func:`.studies.measured`."""
    here = studies.simulate(seed)
    lists, rank = {}, here.parts.rank
    for name, logq in (("towers", True), ("towers no logQ", False)):
        scores = towers_of(here, CHOSEN["towers"], logq)
        lists[name] = top(scores, 10)
        lists[f"{name} + ranker"] = ranked(here, top(scores, WIDE), rank)
    fits = studies.ladder.Fits(here.nights)
    wide = studies.ladder.lists(fits, "EASE", here.test, here.world.stock, WIDE)
    lists |= {"EASE": wide[:, :10], "EASE + ranker": ranked(here, wide, rank)}
    items = candidates_of(here)
    lists["deep"] = deep_lists(here, CHOSEN["deep"], items)
    lists["logistic"] = ranked(here, items, rank)
    rows = [{"seed": seed, "rung": k, **studies.measured(here, v)} for k, v in lists.items()]
    return pd.DataFrame(rows)


def networks() -> pd.DataFrame:
    """Train the networks in all worlds: ``seed`` and as of :func:`one_world`."""
    return pd.concat([one_world(seed) for seed in WORLDS], ignore_index=True)


def heads() -> pd.DataFrame:
    """Compare the heads in all worlds; see :func:`heads_of`."""
    return pd.concat([heads_of(seed) for seed in WORLDS], ignore_index=True)


def trial(name: str, number: int, seed: int) -> dict[str, object]:
    """Try settings in a world of the choice: ``network``, the settings, ``seed``, ``clicks``."""
    here, settings = studies.setting(seed), TRIALS[name][number]
    if name == "towers":
        lists = top(towers_of(here, settings), 10)
    else:
        lists = deep_lists(here, settings, candidates_of(here))
    return {"network": name, **asdict(settings), "seed": seed, "clicks": here.clicks(lists)}


def trials() -> pd.DataFrame:
    """Run all trials in the first world of the choice: see :func:`trial`."""
    return pd.DataFrame(
        trial(name, number, seed)
        for seed in CHOSEN_ON[:1]
        for name, grid in TRIALS.items()
        for number in range(len(grid))
    )


_SEEDS = {"worlds": WORLDS[0], "network": NETWORK_SEED}
ARTIFACTS = {
    "networks.csv": Recipe(networks, seeds=_SEEDS),
    "heads.csv": Recipe(heads, seeds=_SEEDS),
    "network_trials.csv": Recipe(trials, seeds={"worlds": CHOSEN_ON[0], "network": NETWORK_SEED}),
}
PACKAGES = ("numpy", "pandas", "scikit-learn", "scipy", "torch")


def recompute(
    stored: Mapping[str, pd.DataFrame], rng: np.random.Generator
) -> tuple[str, list[str]]:
    """Train the networks of one random world anew, and compare their clicks.

    Parameters
    ----------
    stored : mapping of str to DataFrame
        The artifacts by file.
    rng : Generator

    Returns
    -------
    what : str
    differences : list of str
    """
    seed = int(rng.choice(WORLDS))
    table = stored["networks.csv"]
    kept = table[table["seed"] == seed].set_index("rung")["clicks"]
    made = one_world(seed).set_index("rung")["clicks"]
    off = (made - kept).abs() / kept
    found = [f"{rung} in world {seed}: {made[rung]:.4f}, stored {kept[rung]:.4f}" for rung in
             off.index[off > 0.02]]  # fmt: skip
    return f"networks of world {seed}: clicks within {off.max():.1%}", found
