"""Features and training on a Dask cluster, with the results of one machine to the last bit.

The model is a small one, one day ahead from lags: it stands for the work that outgrows a machine.

Examples
--------
>>> days = pd.date_range("2024-01-01", periods=3)
>>> panel = pd.DataFrame({"unique_id": "a", "ds": days, "y": [4.0, 6.0, 5.0]})
>>> lag_features(panel)["lag_1"].tolist()
[nan, 4.0, 6.0]
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    import dask.dataframe as dd
    from distributed import Client
    from lightgbm import LGBMRegressor

KEYS = ["unique_id", "ds"]
DAY = pd.Timedelta(days=1)
LAGS, WINDOWS = (1, 7, 14, 28), (7, 28)
FEATURES = [*(f"lag_{k}" for k in LAGS), *(f"mean_{k}" for k in WINDOWS), "weekday"]


def _lags_of_route(y: np.ndarray) -> dict[str, np.ndarray]:
    """Return lags and means of one route's consecutive days, NaN where too young."""
    before = np.concatenate([np.full(max(LAGS), np.nan), y])
    n, longest = len(y), max(LAGS)
    columns = {f"lag_{k}": before[longest - k : longest - k + n] for k in LAGS}
    for k in WINDOWS:  # the k days that end on the day before
        windows = np.lib.stride_tricks.sliding_window_view(before[longest - k :], k)[:n]
        columns[f"mean_{k}"] = windows.mean(axis=1)
    return columns


def lag_features(panel: pd.DataFrame) -> pd.DataFrame:
    """Add what is known of each route on the day before.

    Parameters
    ----------
    panel : DataFrame
        ``unique_id``, ``ds``, ``y``: one row for each route and day, in any order.

    Returns
    -------
    DataFrame
        The panel's rows in their order, with ``lag_1``, ``lag_7``, ``lag_14``, ``lag_28``,
        ``mean_7`` and ``mean_28`` (means of the 7 and 28 days that end on the day before; NaN
        for the first days of a route) and ``weekday`` (Monday is 0).

    Raises
    ------
    ValueError
        If a route's days are not consecutive: a lag counts rows, a gap would shift it.
    """
    order = panel.reset_index(drop=True).sort_values(KEYS).index.to_numpy()
    ordered = panel.iloc[order]
    first = np.diff(pd.factorize(ordered["unique_id"])[0], prepend=-1) != 0
    gap = ~first & ordered["ds"].diff().ne(DAY).to_numpy()
    if gap.any():
        row = ordered[gap].iloc[0]
        raise ValueError(
            f"{row['unique_id']} has no row for the day before {row['ds']:%Y-%m-%d}, or two for "
            "that day: repair the feed before you build features"
        )
    routes = np.split(ordered["y"].to_numpy(float), np.flatnonzero(first)[1:])
    columns = [_lags_of_route(y) for y in routes]
    back = np.argsort(order)
    built = {name: np.concatenate([route[name] for route in columns])[back] for name in columns[0]}
    return panel.assign(**built, weekday=panel["ds"].dt.dayofweek)


def train_lightgbm(features: pd.DataFrame, seed: int = 0) -> LGBMRegressor:
    """Train one LightGBM model for all routes, one day ahead, on one thread.

    Parameters
    ----------
    features : DataFrame
        As of :func:`lag_features`, in any order: rows are brought into the order of route and
        day first, because sums of floating-point numbers depend on it.
    seed : int

    Returns
    -------
    LGBMRegressor
        Predicts ``y`` from the columns ``FEATURES``.
    """
    from lightgbm import LGBMRegressor

    rows = features.sort_values(KEYS)
    model = LGBMRegressor(
        n_estimators=100,
        num_leaves=31,
        random_state=seed,
        n_jobs=1,
        deterministic=True,
        force_row_wise=True,
        verbose=-1,
    )
    return model.fit(rows[FEATURES], rows["y"])


@contextmanager
def local_cluster(n_workers: int = 2, processes: bool = False) -> Iterator[Client]:
    """Open a Dask cluster on this machine, and close it.

    Parameters
    ----------
    n_workers : int
        One thread each.
    processes : bool
        Workers as processes (their own interpreter and memory) or as threads, which start
        sooner.

    Yields
    ------
    distributed.Client
        It listens on the loopback address only, and serves no dashboard.
    """
    from distributed import Client, LocalCluster

    with (
        LocalCluster(
            n_workers=n_workers,
            threads_per_worker=1,
            processes=processes,
            protocol="tcp",
            host="127.0.0.1",
            # Its health pages are served in any case, without an address on port 8787.
            dashboard_address="127.0.0.1:0",
            scheduler_kwargs={"dashboard": False},
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


def features_dask(
    panel: pd.DataFrame | dd.DataFrame, client: Client, n_partitions: int | None = None
) -> dd.DataFrame:
    """Build :func:`lag_features` on a cluster, routes side by side.

    A lag never leaves its route, so that a partition with whole routes needs no other.

    Parameters
    ----------
    panel : DataFrame or dask DataFrame
        As for :func:`lag_features`. A dask one, read from files, is first shuffled so that no
        route is spread over two partitions.
    client : distributed.Client
        Of a cluster that the caller opened and will close.
    n_partitions : int, optional
        Two for each worker by default.

    Returns
    -------
    dask DataFrame
        Held by the workers, in an order of their own: sort what you gather.
    """
    import dask
    import dask.dataframe as dd

    n_partitions = n_partitions or 2 * len(client.scheduler_info(n_workers=-1)["workers"])
    with dask.config.set({"dataframe.convert-string": False}):  # route names as pandas has them
        if isinstance(panel, pd.DataFrame):
            meta, start = panel.head(0), panel.sort_values("unique_id")
            bounds = np.linspace(0, start["unique_id"].nunique(), n_partitions + 1)[1:-1]
            part = np.searchsorted(bounds, pd.factorize(start["unique_id"])[0], side="right")
            parts = [rows for _, rows in start.groupby(part)]
            frame = dd.from_delayed(client.scatter(parts), meta=meta)
        else:
            meta, frame = (
                panel._meta,
                panel.shuffle("unique_id", npartitions=n_partitions, shuffle_method="tasks"),
            )
        return client.persist(frame.map_partitions(lag_features, meta=lag_features(meta)))


def train_dask(panel: pd.DataFrame | dd.DataFrame, client: Client, seed: int = 0) -> LGBMRegressor:
    """Train the model of :func:`train_lightgbm` on a cluster, exactly as on one machine.

    Parameters
    ----------
    panel, client
        As for :func:`features_dask`.
    seed : int

    Returns
    -------
    LGBMRegressor

    Notes
    -----
    Features are built side by side and gathered on one worker, which trains. LightGBM's own
    distributed training (``lightgbm.DaskLGBMRegressor``) cuts the features into bins by the
    rows of each worker and adds gradients in the order of the workers: another model, about
    as good, that changes with the number of workers. A row of features takes some 80 bytes,
    so gathering holds up to a few hundred million rows on a large machine.
    """
    features = client.compute(features_dask(panel, client))
    return client.submit(train_lightgbm, features, seed).result()


def copies(panel: pd.DataFrame, n: int) -> pd.DataFrame:
    """Return a panel n times as large: the same routes under new ids."""
    rows = panel[[*KEYS, "y"]]
    frames = [rows.assign(unique_id=rows["unique_id"] + f"-{k}") for k in range(n)]
    return pd.concat(frames, ignore_index=True)


def digest(frame: pd.DataFrame) -> str:
    """Return a hash of a frame's values, whatever the order of its rows."""
    values = pd.util.hash_pandas_object(frame.sort_values(KEYS), index=False)
    return hashlib.sha256(values.to_numpy().tobytes()).hexdigest()


def timed(call: Callable[[], object]) -> tuple[object, float]:
    """Return the result of a call and its seconds."""
    start = time.perf_counter()
    return call(), time.perf_counter() - start


def on_one_machine(panel: pd.DataFrame) -> dict[str, tuple[str, float]]:
    """Return hash of the result and seconds of features, and of features and training."""
    features, seconds = timed(lambda: lag_features(panel))
    model, more = timed(lambda: train_lightgbm(features))
    text = model.booster_.model_to_string()
    return {"features": (digest(features), seconds), "training": (text, seconds + more)}


def on_cluster(panel: pd.DataFrame, client: Client) -> dict[str, tuple[str, float]]:
    """Return the same of a cluster; the features stay with the workers while they are timed."""
    from distributed import wait

    def built():
        features = features_dask(panel, client)
        wait(features)
        return features

    features, seconds = timed(built)
    gathered = digest(features.compute())
    del features
    model, more = timed(lambda: train_dask(panel, client))
    return {"features": (gathered, seconds), "training": (model.booster_.model_to_string(), more)}


def scaling(panel: pd.DataFrame, sizes: Sequence[int], workers: Sequence[int]) -> pd.DataFrame:
    """Time features and training on one machine and on its cluster of worker processes.

    Each is timed once, after a warm-up on one route. Training includes its features. The panel
    starts in the caller's memory and has to be sent to the workers.

    Parameters
    ----------
    panel : DataFrame
        ``unique_id``, ``ds``, ``y``.
    sizes : sequence of int
        How many times as large a panel to time.
    workers : sequence of int
        Processes of a cluster.

    Returns
    -------
    DataFrame
        ``size`` (times the panel), ``rows``, ``workers`` (0: without Dask), ``step``, ``seconds``,
        ``equal`` (features and model are those of one machine, to the last bit).
    """
    panels = {size: copies(panel, size) for size in sizes}
    one_route = panel[panel["unique_id"] == panel["unique_id"].iloc[0]][[*KEYS, "y"]]
    on_one_machine(one_route)
    runs = {(size, 0): on_one_machine(rows) for size, rows in panels.items()}
    for n in workers:
        with local_cluster(n, processes=True) as client:
            on_cluster(one_route, client)
            runs |= {(size, n): on_cluster(rows, client) for size, rows in panels.items()}
    table = [
        (size, len(panels[size]), n, step, seconds, result == runs[size, 0][step][0])
        for (size, n), steps in runs.items()
        for step, (result, seconds) in steps.items()
    ]
    return pd.DataFrame(table, columns=["size", "rows", "workers", "step", "seconds", "equal"])
