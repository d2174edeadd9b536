"""Two towers: a vector of what a user took of late, one of an item, near where he takes it next.

The user's vector is the mean of those of his last items, the older the less; an item's vector is
made of its number and of columns that a new item has too. In training the items of the other rows
of a batch are what was *not* taken. Popular items are among them more often, for which the scores
would pay; the *logQ correction* subtracts the logarithm of an item's chance to be in a batch from
the logits of the loss, and of the loss alone.

Training needs torch, which only the artifacts' environment has.

Examples
--------
What was taken next, and the two items before it, newest first; −1: none:

>>> import numpy as np
>>> user, item = np.array([0, 1, 0, 0]), np.array([5, 7, 6, 8])
>>> before, taken = steps(user, item, many=2)
>>> before.tolist(), taken.tolist()
([[5, -1], [6, 5]], [6, 8])
>>> latest(user, item, users=3, many=2).tolist()
[[8, 6], [7, -1], [-1, -1]]

References
----------
Yi et al. (2019), *Sampling-bias-corrected neural modeling for large corpus item recommendations*,
RecSys.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

#: Rows of a batch.
BATCH = 512


@dataclass(frozen=True)
class Settings:
    """What a trial may change.

    Attributes
    ----------
    width : int
        Of the vectors.
    rate : float
        Of learning.
    epochs : int
    cold : float
        Temperature: cosines are divided by it.
    """

    width: int = 32
    rate: float = 3e-3
    epochs: int = 4
    cold: float = 0.1

    def __post_init__(self) -> None:
        if min(self.width, self.epochs) < 1 or min(self.rate, self.cold) <= 0:
            raise ValueError(f"{self}: width and epochs are 1 at least, the others above 0.")


def latest(user: np.ndarray, item: np.ndarray, users: int, many: int) -> np.ndarray:
    """Return the last items of each user, newest first, shape (users, many); −1: no more.

    Parameters
    ----------
    user, item : ndarray of int, shape (n,)
        In order of time.
    users, many : int
    """
    user, item = user[::-1], item[::-1]
    place = pd.Series(user).groupby(user).cumcount().to_numpy()
    made = np.full((users, many), -1)
    kept = place < many
    made[user[kept], place[kept]] = item[kept]
    return made


def steps(user: np.ndarray, item: np.ndarray, many: int) -> tuple[np.ndarray, np.ndarray]:
    """Return what was taken before, newest first, and what was taken next; see the example.

    Parameters
    ----------
    user, item : ndarray of int, shape (n,)
        In order of time.
    many : int
        Items before.

    Returns
    -------
    before : ndarray of int, shape (m, many)
    item : ndarray of int, shape (m,)
    """
    order = np.argsort(user, kind="stable")
    user, item = user[order], item[order]
    before = np.full((len(item), many), -1)
    for back in range(many):
        there = np.arange(len(item)) > back
        there[there] = user[np.flatnonzero(there) - back - 1] == user[there]
        before[there, back] = item[np.flatnonzero(there) - back - 1]
    some = before[:, 0] >= 0
    return before[some], item[some]


class Towers:
    """Two towers, trained on what was taken next.

    Parameters
    ----------
    columns : ndarray, shape (items, d)
        What is known of an item beside its number.
    before, item : ndarray of int
        Of :func:`steps`.
    settings : Settings
    logq : bool
        With the correction for popular items.
    seed : int
    """

    def __init__(
        self,
        columns: np.ndarray,
        before: np.ndarray,
        item: np.ndarray,
        settings: Settings,
        logq: bool = True,
        seed: int = 0,
    ) -> None:
        import torch

        torch.manual_seed(seed)
        torch.set_num_threads(1)
        self._torch, columns = torch, torch.tensor(np.asarray(columns, "f4"))
        size, width, many = len(columns), settings.width, before.shape[1]

        class Net(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.item = torch.nn.Embedding(size + 1, width, padding_idx=0)
                self.seen = torch.nn.Embedding(size + 1, width, padding_idx=0)
                self.of_item = torch.nn.Linear(columns.shape[1], width)
                self.of_seen = torch.nn.Linear(columns.shape[1], width)
                self.fade = torch.nn.Parameter(torch.zeros(many))
                torch.nn.init.normal_(self.item.weight, std=0.05)
                torch.nn.init.normal_(self.seen.weight, std=0.05)

            def items(self) -> torch.Tensor:
                made = self.item.weight[1:] + self.of_item(columns)
                return torch.nn.functional.normalize(made, dim=1)

            def users(self, before: torch.Tensor) -> torch.Tensor:
                every = self.seen.weight[1:] + self.of_seen(columns)
                there = (before >= 0).float()
                share = torch.exp(self.fade) * there
                share = share / share.sum(dim=1, keepdim=True).clamp(min=1e-6)
                made = (every[before.clamp(min=0)] * share[:, :, None]).sum(dim=1)
                return torch.nn.functional.normalize(made, dim=1)

        self.net = Net()
        self._train(torch.tensor(before), torch.tensor(item), settings, logq)

    def _train(self, before, item, settings: Settings, logq: bool) -> None:
        torch, size = self._torch, len(self.net.item.weight) - 1
        count = torch.bincount(item, minlength=size).float() + 1
        log_q = torch.log(count / count.sum()) if logq else torch.zeros(size)
        best = torch.optim.Adam(self.net.parameters(), lr=settings.rate)
        for _ in range(settings.epochs):
            for rows in torch.randperm(len(item)).split(BATCH):
                best.zero_grad()
                self.batch_loss(before[rows], item[rows], log_q, settings.cold).backward()
                best.step()

    def batch_loss(self, before, taken, log_q, cold: float):
        """Return the loss of a batch: each row should score its own item highest."""
        torch = self._torch
        logits = self.net.users(before) @ self.net.items()[taken].T / cold
        logits = logits - log_q[taken]  # the correction: in the loss alone
        same = taken[:, None] == taken[None]
        same.fill_diagonal_(False)
        logits = logits.masked_fill(same, -1e9)  # another row's same item is no miss
        return torch.nn.functional.cross_entropy(logits, torch.arange(len(taken)))

    def scores(self, last: np.ndarray) -> np.ndarray:
        """Return scores of all items for users by their last items, shape (n, items)."""
        with self._torch.no_grad():
            users = self.net.users(self._torch.tensor(last))
            return (users @ self.net.items().T).numpy().astype(float)
