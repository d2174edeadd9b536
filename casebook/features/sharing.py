"""What customers share: features of a graph of customers, devices, addresses and terminals.

A customer is linked with the devices, network addresses and terminals that his transactions used.
The features of a day come from the graph of the transactions that were received in the ``window``
days before its midnight, and from frauds that were known before that midnight. A transaction asks
the graph about its own customer, device, address and terminal; its own link, and all others of its
day, are not in the graph.

Sharing alone proves nothing: households share addresses and devices, strangers share public
machines and the addresses of the mobile network. So each machine passes suspicion on divided by
its customers, machines with too many of them (:data:`HUBS`) join nobody to anybody, and shares of
known fraud leave out the customer who is judged.

Components are those of :func:`scipy.sparse.csgraph.connected_components`; a large one is cut into
communities by networkx's greedy modularity. That draws no random numbers and meets the nodes in a
fixed order, so that the same rows give the same communities, and it always ends. Suspicion spreads
from known frauds along the links, step by step, as in APATE.

Examples
--------
Two customers use one device, and the first had a fraud. A third meets the device the day after:

>>> day = pd.Timestamp("2025-07-01")
>>> rows = pd.DataFrame({
...     "transaction": [0, 1, 2], "request": [0, 1, 2], "customer": [1, 2, 3],
...     "received": [day, day, day + pd.Timedelta(days=1)],
...     "device": 7, "ip": 8, "terminal": 9})
>>> frauds = pd.DataFrame({"transaction": [0], "known": [day + pd.Timedelta(hours=5)]})
>>> found = graph_features(rows, frauds, start=day + pd.Timedelta(days=1)).iloc[0]
>>> float(found["device_customers"]), float(found["device_suspects"])
(2.0, 0.5)

References
----------
Van Vlasselaer, Bravo, Caelen, Eliassi-Rad, Akoglu, Snoeck & Baesens (2015), *APATE: a novel
approach for automated credit card transaction fraud detection using network-based extensions*,
Decision Support Systems 75.
Clauset, Newman & Moore (2004), *Finding community structure in very large networks*, Physical
Review E 70.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from casebook.data.contracts import need_columns

if TYPE_CHECKING:
    from scipy.sparse import csr_array

#: What a customer is linked with: a column of the transactions each.
MACHINES = ("device", "ip", "terminal")
#: A machine with more customers than this in the window joins nobody to anybody: public machines
#: stay below the first (a test of stolen cards too), mobile-network addresses above the second.
HUBS = {"device": 60, "ip": 20}
#: Days for which a known fraud counts, from when the bank received it.
MEMORY = 60.0
#: Of the spreading: the share that comes from the neighbours at each step, and the steps.
DAMPING, STEPS = 0.5, 6
#: Components with more customers than this are cut into communities.
LARGE = 12

#: Column of :func:`graph_features` -> what it says, in words that an analyst reads.
GRAPH_FEATURES = {
    "device_customers": "other customers on this device in the window",
    "device_suspects": "share of them with a known fraud",
    "address_customers": "other customers at this network address in the window",
    "address_suspects": "share of them with a known fraud",
    "neighbours_by_device": "share with a known fraud among those he shares devices with",
    "neighbours_by_address": "the same among those he shares network addresses with",
    "neighbours_by_terminal": "the same among those he shares terminals with",
    "terminal_of_victims": "highest share of known-fraud customers at a terminal he used",
    "component_customers": "customers joined to this device (address, customer) by shared machines",
    "component_suspects": "share of the others among them with a known fraud",
    "component_new": "customers who came to these machines in the last 24 hours",
    "community_customers": "customers of the same community",
    "community_suspects": "share of the others among them with a known fraud",
    "risk_customer": "suspicion that reached this customer from known frauds",
    "risk_device": "suspicion that reached this device",
    "risk_address": "suspicion that reached this network address",
    "risk_terminal": "suspicion that reached this terminal",
}
_DAY = 86_400_000  # ms


# The table as codes --------------------------------------------------------------------


class _Table:
    """Transactions in order of arrival as arrays of codes, retries left out."""

    def __init__(self, transactions: pd.DataFrame, evidence: pd.DataFrame):
        need_columns(
            transactions,
            ["transaction", "request", "received", "customer", *MACHINES],
            "transactions",
        )
        need_columns(evidence, ["transaction", "known"], "evidence")
        if transactions["transaction"].duplicated().any():
            raise ValueError("`transaction` is not unique: give each row of the bank's table once.")
        frame = transactions.sort_values(["received", "transaction"], kind="stable")
        self.transaction = frame["transaction"].to_numpy()
        self.received = _milliseconds(frame["received"], "received")
        self.amount = frame["amount"].to_numpy(float) if "amount" in frame else None
        self.retry = frame["request"].duplicated().to_numpy()
        self.code, self.name = {}, {}
        for column in ("customer", *MACHINES):
            # An identifier may be missing (-1); sorted codes hang on no order of rows.
            self.code[column], self.name[column] = pd.factorize(frame[column], sort=True)
        if (self.code["customer"] < 0).any():
            raise ValueError("a transaction has no `customer`: the graph cannot place it.")
        first = evidence.groupby("transaction")["known"].min()
        known = first.reindex(self.transaction)
        self.known = np.where(known.isna(), np.inf, known.astype("datetime64[ms]").astype(np.int64))
        if len(early := self.transaction[self.known < self.received]):
            raise ValueError(
                f"evidence: {len(early)} frauds are known before the bank received them (first: "
                f"transaction {early[0]}); `known` is when the bank learnt of a fraud."
            )

    def size(self, column: str) -> int:
        return len(self.name[column])

    def between(self, start: float, stop: float) -> slice:
        """Return the rows received from a moment until before another one."""
        return slice(*np.searchsorted(self.received, [start, stop], side="left"))


def _milliseconds(times: pd.Series, name: str) -> np.ndarray:
    if not pd.api.types.is_datetime64_any_dtype(times) or times.isna().any():
        raise ValueError(f"`{name}` has to hold a time in each row; found {times.dtype}.")
    return times.astype("datetime64[ms]").astype(np.int64).to_numpy()


# The graph of a midnight ---------------------------------------------------------------


@dataclass(frozen=True)
class _Graph:
    """What stood at a midnight: links of the window, suspects, and the walk's result.

    ``links`` has for each kind of machine the pairs (customer, machine), each once, and when the
    pair was first seen in the window; ``matrix`` the same as customers × machines.
    """

    at: int
    rows: slice
    links: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]
    matrix: dict[str, csr_array]
    customers: dict[str, np.ndarray]
    suspect: np.ndarray
    frauds: dict[str, np.ndarray]


def _graph(table: _Table, at: int, window: float, memory: float) -> _Graph:
    """Build the graph of the rows received in the window before a midnight."""
    from scipy.sparse import csr_array

    rows = table.between(at - window * _DAY, at)
    keep = ~table.retry[rows]
    who, when = table.code["customer"][rows][keep], table.received[rows][keep]
    links, matrix, customers = {}, {}, {}
    for kind in MACHINES:
        machine, n = table.code[kind][rows][keep], table.size(kind)
        used = np.flatnonzero(machine >= 0)
        pair, first = np.unique(who[used].astype(np.int64) * n + machine[used], return_index=True)
        c, v = np.divmod(pair, max(n, 1))
        links[kind] = c, v, when[used][first]
        start = np.searchsorted(c, np.arange(table.size("customer") + 1))
        shape = (table.size("customer"), n)
        matrix[kind] = csr_array((np.ones(len(v)), v, start), shape=shape)
        customers[kind] = np.bincount(v, minlength=n)
    past = table.between(at - memory * _DAY, at)
    known = np.flatnonzero((table.known[past] < at) & ~table.retry[past]) + past.start
    frauds = {}
    for column in ("customer", *MACHINES):
        code = table.code[column][known]
        frauds[column] = np.bincount(code[code >= 0], minlength=table.size(column))
    return _Graph(
        at, rows, links, matrix, customers, (frauds["customer"] > 0).astype(float), frauds
    )


def _risk(graph: _Graph) -> dict[str, np.ndarray]:
    """Spread suspicion from known frauds: at each step a node keeps a part of its own.

    The rest is the mean of its neighbours': of the customers of a machine, and of the machines of
    a customer, where a machine weighs 1 / its customers. All stays between 0 and 1, and a hub says
    little to anybody.
    """
    kinds, links = ("customer", *MACHINES), graph.matrix
    seed = {"customer": graph.suspect}
    for kind in MACHINES:
        # Frauds against customers: of a busy merchant some are always known.
        frauds = graph.frauds[kind]
        seed[kind] = frauds / (frauds + graph.customers[kind] + 1)
    weight = {kind: 1 / np.maximum(graph.customers[kind], 1) for kind in MACHINES}
    total = sum(links[kind] @ weight[kind] for kind in MACHINES)
    weights = np.maximum(total, 1e-9)
    risk = seed
    for _ in range(STEPS):
        mean = {kind: (risk["customer"] @ links[kind]) * weight[kind] for kind in MACHINES}
        passed = sum(links[kind] @ (weight[kind] * risk[kind]) for kind in MACHINES)
        mean["customer"] = passed / weights
        risk = {kind: (1 - DAMPING) * seed[kind] + DAMPING * mean[kind] for kind in kinds}
    return risk


def _neighbours(graph: _Graph, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Return for each customer the suspects' share through a kind of machine, and the highest.

    Machines weigh 1 / their customers. The first is a weighted share of the neighbours, the second
    that of the most suspicious machine; both leave out the customer.
    """
    links, n, suspect = graph.matrix[kind], graph.customers[kind], graph.suspect
    c, v, _ = graph.links[kind]
    weight = 1 / np.maximum(n, 1)
    suspects = suspect @ links  # at each machine
    total = links @ (weight * n) - links @ weight
    found = links @ (weight * suspects) - suspect * (links @ weight)
    share = np.divide(found, total, out=np.zeros_like(found), where=total > 1e-9)
    others = n[v] - 1
    # A share of few customers is noise: five innocent ones are added to each machine.
    here = np.where(others > 0, (suspects[v] - suspect[c]) / (others + 5), 0.0)
    highest = np.zeros(len(suspect))
    np.maximum.at(highest, c, here)
    return share, highest


@dataclass(frozen=True)
class _Groups:
    """A group of each customer, device and address (-1: of none), and what is in each group."""

    of: dict[str, np.ndarray]
    customers: np.ndarray
    suspects: np.ndarray
    new: np.ndarray


def _joining(graph: _Graph) -> list[tuple[str, np.ndarray, np.ndarray, np.ndarray]]:
    """Return the links by machines that several customers share and that are no hubs."""
    found = []
    for kind, most in HUBS.items():
        c, v, first = graph.links[kind]
        n = graph.customers[kind][v]
        use = (n >= 2) & (n <= most)
        found.append((kind, c[use], v[use], first[use]))
    return found


def _groups(table: _Table, graph: _Graph) -> tuple[_Groups, _Groups]:
    """Return the components and the communities of customers joined by shared machines."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    n_customers = table.size("customer")
    joining, offset = _joining(graph), {}
    head, tail, weight, start = [], [], [], n_customers
    for kind, c, v, _ in joining:
        offset[kind] = start
        head.append(c)
        tail.append(v + start)
        weight.append(1 / graph.customers[kind][v])
        start += table.size(kind)
    head, tail, weight = (np.concatenate(part) for part in (head, tail, weight))
    edges = coo_array((weight, (head, tail)), shape=(start, start))
    component = connected_components(edges, directed=False)[1].astype(np.int64)
    community = _communities(component, n_customers, head, tail, weight)
    return tuple(_summary(table, graph, label, offset, joining) for label in (component, community))


def _communities(component, n_customers, head, tail, weight) -> np.ndarray:
    """Cut the components with many customers by modularity; the others stay as they are."""
    import networkx as nx

    size = np.bincount(component[:n_customers], minlength=component.max() + 1)
    label, top = component.copy(), len(size)
    inside = np.flatnonzero(size[component[head]] > LARGE)
    for one in np.unique(component[head[inside]]):
        part = inside[component[head[inside]] == one]
        graph = nx.Graph()
        graph.add_weighted_edges_from(
            zip(head[part].tolist(), tail[part].tolist(), weight[part].tolist(), strict=True)
        )
        for nodes in nx.community.greedy_modularity_communities(graph, weight="weight"):
            label[list(nodes)] = top
            top += 1
    return label


def _summary(table: _Table, graph: _Graph, label, offset, joining) -> _Groups:
    """Count customers, suspects and newcomers by group, and give each machine its group."""
    n_customers, n_groups = table.size("customer"), label.max() + 1
    of = {"customer": label[:n_customers]}
    recent = []
    for kind, _, _, _ in joining:
        code = np.full(table.size(kind), -1)
        c, v, _ = graph.links[kind]
        # A machine of one customer, or a hub, has no group of its own. The former takes his.
        n = graph.customers[kind]
        code[v] = np.where(n[v] == 1, of["customer"][c], -1)
        shared = np.flatnonzero((n >= 2) & (n <= HUBS[kind]))
        code[shared] = label[offset[kind] + shared]
        of[kind] = code
    for kind, c, v, first in joining:
        late = first >= graph.at - _DAY
        recent.append(of[kind][v[late]] * n_customers + c[late])
    new = np.unique(np.concatenate(recent)) // n_customers
    return _Groups(
        of,
        np.bincount(of["customer"], minlength=n_groups),
        np.bincount(of["customer"], weights=graph.suspect, minlength=n_groups),
        np.bincount(new, minlength=n_groups),
    )


# Features ------------------------------------------------------------------------------


def graph_features(
    transactions: pd.DataFrame,
    evidence: pd.DataFrame,
    *,
    window: float = 14,
    memory: float = MEMORY,
    start: pd.Timestamp | str | None = None,
    end: pd.Timestamp | str | None = None,
) -> pd.DataFrame:
    """Return what the graph of the midnight before says about each transaction.

    Parameters
    ----------
    transactions : DataFrame
        ``transaction``, ``request``, ``received``, ``customer``, ``device``, ``ip``,
        ``terminal``. A retry (the same ``request`` again) is no link of its own.
    evidence : DataFrame
        ``transaction``, ``known``: frauds, and when the bank learnt of each. Those of transactions
        that are not in the table are left aside.
    window : float
        Days of transactions that make the graph.
    memory : float
        Days for which a known fraud counts, from when its transaction was received.
    start, end : Timestamp, optional
        First midnight, and the one after the last day; by default all days. Earlier transactions
        are in the graph.

    Returns
    -------
    DataFrame
        Index ``transaction`` in order of arrival, columns :data:`GRAPH_FEATURES`, float32. Without
        a device or an address its columns are 0; a group is that of the device if the window knows
        it, else that of the address, else that of the customer.

    Raises
    ------
    ValueError
        If columns are missing, an identifier is not unique, a fraud is known before it was
        received, the window is not positive, or there is no transaction in the range.
    """
    _positive(window, memory)
    table = _Table(transactions, evidence)
    if not len(table.received):
        raise ValueError("there are no transactions.")
    first = table.received[0] if start is None else _moment(start, "start")
    last = table.received[-1] + 1 if end is None else _moment(end, "end")
    rows = table.between(first, last)
    if rows.start >= rows.stop:
        raise ValueError(
            f"no transaction was received from {pd.Timestamp(first, unit='ms')} until "
            f"{pd.Timestamp(last, unit='ms')}: choose `start` and `end` within the table."
        )
    parts = []
    for day in range(first // _DAY, -(-last // _DAY)):
        today = table.between(max(first, day * _DAY), min(last, (day + 1) * _DAY))
        if today.start < today.stop:
            parts.append(_of_day(table, _graph(table, day * _DAY, window, memory), today))
    index = pd.Index(table.transaction[rows], name="transaction")
    return pd.DataFrame(np.concatenate(parts), index=index, columns=list(GRAPH_FEATURES))


def _positive(window: float, memory: float) -> None:
    for name, value in (("window", window), ("memory", memory)):
        if not value > 0:
            raise ValueError(f"`{name}` is {value}: give a positive number of days.")


def _moment(value: pd.Timestamp | str, name: str) -> int:
    moment = pd.Timestamp(value)
    if moment != moment.normalize():
        raise ValueError(f"`{name}` is {moment}: give a midnight, the graph is made once a day.")
    return int(moment.to_datetime64().astype("datetime64[ms]").astype(np.int64))


def _of_day(table: _Table, graph: _Graph, today: slice) -> np.ndarray:
    """Look up what the graph says about each transaction of a day, shape (rows, features)."""
    code = {column: table.code[column][today] for column in ("customer", *MACHINES)}
    who = code["customer"]
    value = {}
    for kind, name in (("device", "device"), ("ip", "address")):
        others, suspects = _others(graph, kind, who, code[kind])
        value[f"{name}_customers"] = others
        value[f"{name}_suspects"] = _share(suspects, others)
        value[f"neighbours_by_{name}"] = _neighbours(graph, kind)[0][who]
    by_terminal, highest = _neighbours(graph, "terminal")
    value["neighbours_by_terminal"] = by_terminal[who]
    value["terminal_of_victims"] = highest[who]
    for name, groups in zip(("component", "community"), _groups(table, graph), strict=True):
        group = np.select(
            [_lookup(groups.of[kind], code[kind], -1) >= 0 for kind in ("device", "ip")],
            [_lookup(groups.of[kind], code[kind], -1) for kind in ("device", "ip")],
            groups.of["customer"][who],
        )
        own = groups.of["customer"][who] == group
        others = groups.customers[group] - own
        value[f"{name}_customers"] = groups.customers[group]
        value[f"{name}_suspects"] = _share(
            groups.suspects[group] - own * graph.suspect[who], others
        )
        value[f"{name}_new"] = groups.new[group]
    risk = _risk(graph)
    for kind in ("customer", *MACHINES):
        name = "address" if kind == "ip" else kind
        value[f"risk_{name}"] = _lookup(risk[kind], code[kind], 0.0)
    return np.column_stack([value[name] for name in GRAPH_FEATURES]).astype(np.float32)


def _lookup(values: np.ndarray, code: np.ndarray, missing: float) -> np.ndarray:
    if not len(values):
        return np.full(len(code), missing)
    return np.where(code >= 0, values[code.clip(0)], missing)


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)


def _others(graph: _Graph, kind: str, who, machine) -> tuple[np.ndarray, np.ndarray]:
    """Return how many other customers a machine has in the window, and how many are suspects."""
    links = graph.matrix[kind]
    own = np.zeros(len(who))
    known = machine >= 0
    if known.any():
        own[known] = links[who[known], machine[known]]
    customers = _lookup(graph.customers[kind], machine, 0) - own
    suspects = _lookup(graph.suspect @ links, machine, 0) - own * graph.suspect[who]
    return customers, suspects
