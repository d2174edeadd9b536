"""A recurrent network (GRU) over short sequences beside fixed features, for a yes or a no.

It reads a sequence week by week into a few numbers, joins the features of the night and says how
likely the event is. One thread and seeds for weights and order: one machine makes one result.

Examples
--------
Two series over three weeks, the second one short of a week:

>>> steps(np.array([[0, 1, 3], [0, 0, 7]])).astype(float).round(1).tolist()
[[0.0, 0.7, 1.4], [0.0, 0.0, 2.1]]
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

#: From sequences and features of the same rows to a chance of each.
Predict = Callable[[np.ndarray, pd.DataFrame], np.ndarray]
BATCH = 1_024


@dataclass(frozen=True)
class Settings:
    """Settings of the network.

    Attributes
    ----------
    width : int
        Numbers that the sequence is read into, and units of the layer that joins the features.
    epochs : int
        Times that each row is seen.
    learning_rate : float
        Of Adam; it falls to zero along a half cosine.
    """

    width: int = 32
    epochs: int = 4
    learning_rate: float = 3e-3


def steps(counts: np.ndarray) -> np.ndarray:
    """Return counts as the network reads them: log(1 + count), shape as given."""
    return np.log1p(np.asarray(counts, np.float32))


def fit(
    counts: np.ndarray,
    features: pd.DataFrame,
    event: np.ndarray,
    settings: Settings,
    seed: int = 0,
) -> Predict:
    """Train the network; needs torch.

    Parameters
    ----------
    counts : ndarray, shape (n, weeks)
        Not negative, the latest last.
    features : DataFrame, shape (n, k)
        Brought onto normal quantiles; a missing value is the median, and a column says so.
    event : ndarray of bool, shape (n,)
    settings : Settings
    seed : int

    Raises
    ------
    ValueError
        If the rows do not agree, or the event never or always happens.
    """
    if not len(counts) == len(features) == len(event):
        raise ValueError(
            f"{len(counts)} sequences, {len(features)} rows of features, {len(event)} outcomes: "
            "give the same rows in the same order."
        )
    if not 0 < np.mean(event) < 1:
        raise ValueError("the event always or never happens: there is nothing to learn.")
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(seed)
    form = _form().fit(features)
    x = [torch.from_numpy(part) for part in _inputs(counts, features, form)]
    y = torch.from_numpy(np.asarray(event, np.float32))
    network = _network(x[1].shape[1], settings.width)
    _train(network, x, y, settings, seed)

    def predict(counts: np.ndarray, features: pd.DataFrame) -> np.ndarray:
        parts = [torch.from_numpy(part) for part in _inputs(counts, features, form)]
        with torch.no_grad():
            made = [network(*both) for both in zip(*(p.split(8_192) for p in parts), strict=True)]
        return torch.sigmoid(torch.cat(made)).double().numpy()

    return predict


def _form():
    """Return what brings features onto one scale."""
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import QuantileTransformer

    return make_pipeline(
        SimpleImputer(strategy="median", add_indicator=True),
        QuantileTransformer(n_quantiles=200, output_distribution="normal", random_state=0),
    )


def _inputs(counts: np.ndarray, features: pd.DataFrame, form) -> tuple[np.ndarray, np.ndarray]:
    """Return the sequences (n, weeks, 1) and the scaled features (n, columns)."""
    scaled = np.clip(form.transform(features), -4, 4).astype(np.float32)
    return steps(counts)[:, :, None], scaled


def _network(columns: int, width: int):
    """Return the network: a GRU, a layer that joins the features, and one number."""
    from torch import cat, nn, relu

    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.read = nn.GRU(1, width, batch_first=True)
            self.join = nn.Linear(width + columns, width)
            self.out = nn.Linear(width, 1)

        def forward(self, sequence, fixed):
            last = self.read(sequence)[1][0]
            return self.out(relu(self.join(cat([last, fixed], dim=1))))[:, 0]

    return Recurrent()


def _train(network, x: list, y, settings: Settings, seed: int) -> None:
    """Show all rows in random order, as often as the settings say."""
    import torch

    order = torch.Generator().manual_seed(seed)
    adam = torch.optim.Adam(network.parameters(), settings.learning_rate)
    rounds = settings.epochs * -(-len(y) // BATCH)
    falls = torch.optim.lr_scheduler.CosineAnnealingLR(adam, rounds)
    loss = torch.nn.BCEWithLogitsLoss()
    for _ in range(settings.epochs):
        for rows in torch.randperm(len(y), generator=order).split(BATCH):
            adam.zero_grad()
            loss(network(x[0][rows], x[1][rows]), y[rows]).backward()
            adam.step()
            falls.step()
