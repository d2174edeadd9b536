"""A ranker that reads what a user took of late with attention, beside features of the pair; heads.

A row is a list of items with features of each. The last items of the user are weighed by how well
they fit the item that is scored (attention), and their mean is one more input of the network. A
head for each label (a click, a purchase) stands on the same inner layer; beside it each label has a
plain linear part, so that the network begins as a regression. The slot is a term of its own: lists
are scored as if all items stood in the first.

Training needs torch, which only the artifacts' environment has.

Examples
--------
A purchase and a click for each slot of two lists, as a head each:

>>> import numpy as np
>>> clicked, bought = np.array([[1, 0], [1, 1]]), np.array([[0, 0], [1, 0]])
>>> goals(clicked, bought).tolist()[1]
[[1.0, 1.0], [1.0, 0.0]]

References
----------
Zhou et al. (2018), *Deep interest network for click-through rate prediction*, KDD; Caruana (1997),
*Multitask learning*, Machine Learning 28.
"""

from __future__ import annotations

import numpy as np

from casebook.retrieval.towers import Settings


def goals(*labels: np.ndarray) -> np.ndarray:
    """Return labels of slots, shape (n, slots) each, as the heads of one network.

    Returns
    -------
    ndarray of float32, shape (n, slots, heads)

    Raises
    ------
    ValueError
        Without labels, or if their shapes differ.
    """
    if len({np.shape(label) for label in labels}) != 1:
        raise ValueError(f"labels of shapes {[np.shape(own) for own in labels]}: give equal ones.")
    return np.stack(labels, axis=2).astype("f4")


class Deep:
    """A network on the features of pairs, and on the last items of a user; with heads.

    Parameters
    ----------
    columns : ndarray of float32, shape (items, d)
        What is known of an item beside its number.
    x : ndarray, shape (n, slots, features)
        Of the lists that it learns from.
    items : ndarray of int, shape (n, slots)
    last : ndarray of int, shape (n, k)
        Last items of each list's user, newest first; −1: none.
    goal : ndarray of float32, shape (n, slots, heads)
        Of :func:`goals`.
    settings : Settings
        ``width``, ``rate`` and ``epochs`` count.
    sequence : bool
        Whether it reads the last items.
    seed : int
    """

    def __init__(
        self,
        columns: np.ndarray,
        x: np.ndarray,
        items: np.ndarray,
        last: np.ndarray,
        goal: np.ndarray,
        settings: Settings,
        sequence: bool = True,
        seed: int = 0,
    ) -> None:
        import torch

        torch.manual_seed(seed)
        torch.set_num_threads(1)
        self._torch, columns = torch, torch.tensor(columns)
        flat = x.reshape(-1, x.shape[-1])
        self.mean, self.scale = flat.mean(axis=0), flat.std(axis=0) + 1e-6
        heads, width = goal.shape[2], settings.width
        self.net = self._net(columns, x.shape[-1], heads, width, sequence)
        self._train(self._rows(x), items, last, goal, settings)

    def _net(self, columns, features: int, heads: int, width: int, sequence: bool):
        torch = self._torch

        class Net(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.of = torch.nn.Linear(columns.shape[1], width)
                self.key = torch.nn.Linear(columns.shape[1], width)
                inside = features + (2 * width + 1 if sequence else 0)
                self.body = torch.nn.Sequential(torch.nn.Linear(inside, 2 * width), torch.nn.ReLU())
                self.heads = torch.nn.Linear(2 * width, heads)
                self.plain = torch.nn.Linear(features, heads)
                self.slot = torch.nn.Parameter(torch.zeros(heads))

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

        return Net()

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
        """Return log-odds by head as if all stood in the first slot.

        Parameters
        ----------
        x, items, last
            As in training, with any number m of items; one below 0 is scored as item 0.

        Returns
        -------
        ndarray, shape (n, m, heads)
        """
        torch, made = self._torch, []
        with torch.no_grad():
            for rows in np.array_split(np.arange(len(x)), max(1, len(x) // 200)):
                parts = self._rows(x[rows]), np.maximum(items[rows], 0), last[rows]
                slot = torch.zeros(items.shape[1])
                made.append(self.net(*(torch.tensor(a) for a in parts), slot).numpy())
        return np.concatenate(made)
