"""Scores of a small graph network, made once: GraphSAGE on customers and machines.

``make artifacts N=12`` trains it in an environment of its own and writes

* ``graph_network.parquet``: its scores of the four test weeks of the default world, and those of
  the same network without the graph;
* ``trials.csv``: what was tried before, on another world.

The network sees what LightGBM sees, the features of
:mod:`~casebook.cases.card_fraud.features`, and besides the graph of
:mod:`~casebook.cases.card_fraud.graph` as it stood at the midnight before a transaction:
customers, devices, addresses and terminals of the last 14 days. Of a node it is given how many
links it has and how many frauds were known of it. Rounds of mean aggregation carry that over the
links, with own weights for each kind of link; what reached the customer, device, address and
terminal of a transaction goes with its own features through two layers to one number, the log-odds
of fraud. No identity is learnt, so that nodes may come and go.

It learns from the span of :func:`~casebook.cases.card_fraud.graph.split`, a day a step, with the
labels that the bank knew when the test began. One thread, seeds for first weights and the order of
days: the same machine makes the same scores.

References
----------
Hamilton, Ying & Leskovec (2017), *Inductive representation learning on large graphs*, NeurIPS.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from casebook.cases.card_fraud.features import batch, evidence
from casebook.cases.card_fraud.graph import MACHINES, MEMORY, DayGraph, day_graphs, split
from casebook.cases.card_fraud.protocol import average_precision, recall_at_fpr, world_split
from casebook.cases.card_fraud.world import SEED, World, simulate, visible_labels
from casebook.recorded.artifacts import Recipe, frame_hash

if TYPE_CHECKING:
    import torch

NODES = ("customer", *MACHINES)
#: World of the trials.
TRIAL_SEED = 101
#: Of the network: first weights, and the order of the days.
NETWORK_SEED = 1
#: Days of transactions that make a graph.
WINDOW = 14
#: Codes among the features: a column for each value.
CODES = ("entry", "category")


@dataclass(frozen=True)
class Settings:
    """Settings of the network.

    Attributes
    ----------
    width : int
        Numbers that describe a node, and units of the last hidden layer.
    layers : int
        Rounds of aggregation; 0 leaves the graph out.
    epochs : int
        Times that each training day is seen.
    learning_rate : float
        Of Adam; it falls to a tenth along a line.
    weight : float
        Of a fraud in the loss, against a genuine transaction.
    """

    width: int = 32
    layers: int = 2
    epochs: int = 3
    learning_rate: float = 3e-3
    weight: float = 1.0


_FIRST = Settings()
#: Six trials, as many as LightGBM has: a first guess, then changes of the best so far. The seventh
#: is no candidate: the same without the graph.
TRIALS = (
    _FIRST,
    replace(_FIRST, learning_rate=1e-2),
    replace(_FIRST, weight=10.0),
    replace(_FIRST, epochs=6),
    replace(_FIRST, epochs=6, layers=1),
    replace(_FIRST, epochs=6, width=16),
    replace(_FIRST, epochs=6, layers=0),
)
#: By column of the scores: the best of the six by average precision, and the one without a graph.
CHOSEN = {"score": TRIALS[4], "without_graph": TRIALS[6]}


# What the network sees -----------------------------------------------------------------


@dataclass(frozen=True)
class Day:
    """A day's transactions, and the graph of the midnight before.

    Attributes
    ----------
    transaction : ndarray, shape (n,)
    own : Tensor, shape (n, features)
        Features of the transactions.
    place : dict of str to Tensor, shape (n,)
        The node of each transaction by kind; the number of nodes where the graph has none.
    nodes : dict of str to Tensor, shape (nodes, 2)
        What is known of the nodes.
    links : dict of str to Tensor, shape (2, links)
        Customers (first row) and machines of a kind.
    label : Tensor, shape (n,)
        1 for fraud; NaN where there is no label.
    """

    transaction: np.ndarray
    own: torch.Tensor
    place: dict[str, torch.Tensor]
    nodes: dict[str, torch.Tensor]
    links: dict[str, torch.Tensor]
    label: torch.Tensor


def inputs(features: pd.DataFrame, train: pd.Index) -> np.ndarray:
    """Return features on a scale that a network learns from.

    Parameters
    ----------
    features : DataFrame
        As :func:`~casebook.cases.card_fraud.features.batch` makes them.
    train : Index
        Rows that give mean and spread.

    Returns
    -------
    ndarray, shape (n, columns)
        Signed logarithms, standardised and cut at 5 spreads; codes as columns of 0 and 1.
    """
    codes = pd.get_dummies(features[list(CODES)].astype(int), columns=list(CODES), dtype=np.float32)
    numbers = features.drop(columns=list(CODES))
    numbers = np.sign(numbers) * np.log1p(numbers.abs())
    of = numbers.loc[train]
    scaled = ((numbers - of.mean()) / of.std().replace(0, 1)).clip(-5, 5)
    return np.concatenate([scaled.to_numpy(np.float32), codes.to_numpy(np.float32)], axis=1)


def day_tensors(day: DayGraph, own: np.ndarray, label: np.ndarray) -> Day:
    """Turn the graph of a midnight and a day's rows into tensors.

    Parameters
    ----------
    day : DayGraph
    own : ndarray, shape (n, columns)
        See :func:`inputs`.
    label : ndarray, shape (n,)

    Returns
    -------
    Day
    """
    import torch

    whole = torch.from_numpy
    nodes = {}
    for kind in NODES:
        degree, frauds = day.degree[kind], day.frauds[kind]
        known = np.column_stack([np.log1p(degree), np.log1p(frauds)])
        nodes[kind] = whole(known.astype(np.float32))
    return Day(
        day.transaction,
        whole(own),
        {kind: whole(day.place[kind]) for kind in NODES},
        nodes,
        {kind: whole(np.stack(day.links[kind])) for kind in MACHINES},
        whole(label.astype(np.float32)),
    )


@cache
def days_of(seed: int) -> tuple[list[Day], list[Day]]:
    """Return the training and the test days of a world.

    Parameters
    ----------
    seed : int

    Returns
    -------
    train, test : list of Day
    """
    world = simulate(seed=seed)
    found, week = evidence(world.transactions, world.labels), split(world)
    labels, _ = world_split(world, week)
    features = batch(world.transactions, world.terminals, world.customers, found)
    own = inputs(features, labels.index)
    y = labels.reindex(features.index).to_numpy(float)
    parts = [], []
    spans = ((week.train_from, week.train_to), (week.test_from, week.test_to))
    for part, (start, end) in zip(parts, spans, strict=True):
        for day in day_graphs(
            world.transactions, found, window=WINDOW, memory=MEMORY, start=start, end=end
        ):
            rows = features.index.get_indexer(day.transaction)
            part.append(day_tensors(day, own[rows], y[rows]))
    return parts


# The network ---------------------------------------------------------------------------


def network(settings: Settings, n_own: int) -> torch.nn.Module:
    """Return an untrained network; called with a :class:`Day` it gives log-odds, shape (n,).

    Parameters
    ----------
    settings : Settings
    n_own : int
        Columns of a transaction's own features.
    """
    import torch
    from torch import nn
    from torch_geometric.nn import HeteroConv, SAGEConv

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            width, rounds = settings.width, []
            for k in range(settings.layers):
                size = 2 if k == 0 else width
                kinds = {}
                for kind in MACHINES:
                    kinds["customer", "to", kind] = SAGEConv((size, size), width)
                    kinds[kind, "to", "customer"] = SAGEConv((size, size), width)
                rounds.append(HeteroConv(kinds, aggr="mean"))
            self.rounds = nn.ModuleList(rounds)
            carried = len(NODES) * (width if rounds else 0)
            self.head = nn.Sequential(
                nn.Linear(n_own + carried, 2 * width),
                nn.ReLU(),
                nn.Linear(2 * width, width),
                nn.ReLU(),
                nn.Linear(width, 1),
            )

        def forward(self, day: Day) -> torch.Tensor:
            links = {}
            for kind in MACHINES:
                links["customer", "to", kind] = day.links[kind]
                links[kind, "to", "customer"] = day.links[kind].flip(0)
            state, parts = day.nodes, [day.own]
            for one in self.rounds:
                state = {kind: torch.relu(x) for kind, x in one(state, links).items()}
            if len(self.rounds):
                for kind in NODES:
                    nothing = state[kind].new_zeros(1, settings.width)
                    parts.append(torch.cat([state[kind], nothing])[day.place[kind]])
            return self.head(torch.cat(parts, dim=1)).squeeze(1)

    return Network()


def train_network(settings: Settings, days: Sequence[Day]) -> torch.nn.Module:
    """Train a network, a day a step, on one thread.

    Parameters
    ----------
    settings : Settings
    days : sequence of Day

    Returns
    -------
    Module
    """
    import torch

    torch.set_num_threads(1)  # sums in one order
    torch.manual_seed(NETWORK_SEED)
    order = np.random.default_rng(NETWORK_SEED)
    model = network(settings, days[0].own.shape[1])
    labels = torch.cat([day.label for day in days])
    share = float(labels.nanmean())
    with torch.no_grad():  # begin at the share of fraud
        model.head[-1].bias.fill_(float(np.log(share * settings.weight / (1 - share))))
    adam = torch.optim.Adam(model.parameters(), lr=settings.learning_rate)
    steps = settings.epochs * len(days)
    fall = torch.optim.lr_scheduler.LinearLR(adam, 1.0, 0.1, steps)
    weight = torch.tensor(settings.weight)
    for _ in range(settings.epochs):
        for k in order.permutation(len(days)):
            known = ~days[k].label.isnan()
            loss = torch.nn.functional.binary_cross_entropy_with_logits(
                model(days[k])[known], days[k].label[known], pos_weight=weight
            )
            adam.zero_grad()
            loss.backward()
            adam.step()
            fall.step()
    return model


def network_scores(model: torch.nn.Module, days: Sequence[Day]) -> pd.Series:
    """Return the log-odds of fraud to the nearest twentieth, index ``transaction``."""
    import torch

    with torch.no_grad():
        parts = [pd.Series(model(day).numpy(), day.transaction) for day in days]
    rounded = (20 * pd.concat(parts).astype(float)).round() / 20  # single digits, a small file
    return rounded.astype("float32").rename_axis("transaction")


# What is stored ------------------------------------------------------------------------


def scores_of(name: str) -> pd.DataFrame:
    """Train one of :data:`CHOSEN` and score the test weeks.

    Parameters
    ----------
    name : {"score", "without_graph"}

    Returns
    -------
    DataFrame
        ``transaction`` and ``name`` (log-odds, single precision), in order of arrival.
    """
    train, test = days_of(SEED)
    found = network_scores(train_network(CHOSEN[name], train), test)
    return found.rename(name).reset_index()


def scores() -> pd.DataFrame:
    """Train both networks and score the test weeks.

    Returns
    -------
    DataFrame
        ``transaction``, ``score``, ``without_graph``.
    """
    one, other = map(scores_of, CHOSEN)
    return one.merge(other, on="transaction", validate="1:1")


def trial(number: int) -> dict[str, object]:
    """Try settings on the world of the trials.

    Parameters
    ----------
    number : int
        Of the trial in :data:`TRIALS`.

    Returns
    -------
    dict
        The settings, and ``AP`` and ``recall`` (at 1 % false positives) on the chargebacks of the
        test weeks of that world that were known at its end.
    """
    train, test = days_of(TRIAL_SEED)
    found = network_scores(train_network(TRIALS[number], train), test)
    y = _known_at_the_end(TRIAL_SEED).reindex(found.index)
    found = found[y.notna()]
    y = y.dropna().astype(int)
    return {
        **asdict(TRIALS[number]),
        "AP": average_precision(y, found),
        "recall": recall_at_fpr(y, found, 0.01),
    }


def _known_at_the_end(seed: int) -> pd.Series:
    world: World = simulate(seed=seed)
    labels = visible_labels(world, world.end, wait=0)
    return labels.set_index("transaction")["chargeback"]


def trials() -> pd.DataFrame:
    """Run all trials.

    Returns
    -------
    DataFrame
        A row for each of :data:`TRIALS`: see :func:`trial`, and ``seconds``.
    """
    rows = []
    for number in range(len(TRIALS)):
        start = time.perf_counter()
        rows.append({**trial(number), "seconds": round(time.perf_counter() - start)})
    return pd.DataFrame(rows)


def _world_hash(seed: int) -> str:
    world = simulate(seed=seed)
    return frame_hash(world.transactions.astype({"device": float, "ip": float}))


ARTIFACTS = {
    "graph_network.parquet": Recipe(
        scores, {"world": partial(_world_hash, SEED)}, {"world": SEED, "network": NETWORK_SEED}
    ),
    "trials.csv": Recipe(
        trials,
        {"world": partial(_world_hash, TRIAL_SEED)},
        {"world": TRIAL_SEED, "network": NETWORK_SEED},
    ),
}
PACKAGES = ("numpy", "pandas", "scikit-learn", "scipy", "torch", "torch-geometric")


# The sample --------------------------------------------------------------------------

#: On the kind of processor that made them, the scores come out equal to the last bit. Another kind
#: adds numbers in another order, and hundreds of steps magnify the last bit; without the newer
#: instruction sets (AVX) all of the 1,000 highest stayed so, in nearly the same order. More than
#: this is not rounding: the rank correlation, and the share of the highest that stay.
CORRELATION, TOP, TOP_SHARE = 0.99, 1000, 0.95
#: Of the average precision and the recall of a trial, for the same reason.
TRIAL_TOLERANCE = 0.03


def compare_scores(stored: pd.DataFrame, made: pd.DataFrame, name: str) -> tuple[str, list[str]]:
    """Compare scores of the test weeks with scores made anew.

    Parameters
    ----------
    stored, made : DataFrame
        ``transaction`` and ``name``.
    name : str
        Column of the scores.

    Returns
    -------
    how : str
        How near they are.
    differences : list of str
        A line for each that another processor does not explain.
    """
    again = f"{name}_made"
    both = stored[["transaction", name]].merge(
        made[["transaction", name]].rename(columns={name: again}), "outer", indicator="side"
    )
    if lone := int((both["side"] != "both").sum()):
        return "not the same rows", [f"{name}: {lone} rows are only stored, or only made anew"]
    if bad := int((~np.isfinite(both[name])).sum()):
        return "not scores", [f"{name}: {bad} stored scores are missing"]
    if (both[name] == both[again]).all():
        return "equal to the last bit", []
    correlation = float(both[name].corr(both[again], method="spearman"))
    top = min(TOP, len(both))
    high = [set(both.nlargest(top, column).index) for column in (name, again)]
    stay = len(high[0] & high[1]) / top
    found = []
    if correlation < CORRELATION:
        found.append(f"{name}: the rank correlation is {correlation:.3f}, below {CORRELATION}")
    if stay < TOP_SHARE:
        found.append(f"{name}: of the {top} highest {stay:.0%} are among them made anew")
    return f"rank correlation {correlation:.4f}, {stay:.0%} of the {top} highest", found


def compare_trial(stored: pd.Series, made: Mapping[str, object]) -> tuple[str, list[str]]:
    """Compare a row of the trials with the trial made anew."""
    found = [
        f"trial: {k} is {stored[k]:g} in the file, {made[k]:g} in the code"
        for k in Settings.__dataclass_fields__
        if stored[k] != made[k]
    ]
    gap = {k: abs(stored[k] - made[k]) for k in ("AP", "recall")}
    found += [
        f"trial: {k} is {stored[k]:.4f} in the file, {made[k]:.4f} made anew"
        for k, v in gap.items()
        if not v <= TRIAL_TOLERANCE
    ]
    return f"AP and recall within {max(gap.values()):.4f}", found


def draw(rng: np.random.Generator) -> str | int:
    """Draw what is made anew: a column of the scores, or a trial that trains in half a minute."""
    quick = [k for k, one in enumerate(TRIALS) if one.epochs * one.layers <= 6]
    pool = [*CHOSEN, *quick]
    return pool[rng.integers(len(pool))]


def recompute(
    stored: Mapping[str, pd.DataFrame], rng: np.random.Generator
) -> tuple[str, list[str]]:
    """Train one network anew: one that was chosen, or that of a random trial.

    Parameters
    ----------
    stored : mapping of str to DataFrame
        The artifacts by file.
    rng : Generator
        See :func:`draw`.

    Returns
    -------
    what : str
        What was drawn, and how near it comes.
    differences : list of str
    """
    which = draw(rng)
    if isinstance(which, str):
        what, frame = which, stored["graph_network.parquet"]
        how, found = compare_scores(frame, scores_of(which), which)
    else:
        what, row = f"trial {which + 1}", stored["trials.csv"].iloc[which]
        how, found = compare_trial(row, trial(which))
    return f"{what}: {how}", found
