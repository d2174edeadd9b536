"""Reasons that an analyst reads, made of the contributions of features (SHAP values)."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

_LOGARITHM = "logarithm of one plus the "


def top_reasons(
    names: Sequence[str],
    contributions: Sequence[float],
    values: Sequence[float],
    definitions: Mapping[str, str],
    n: int = 3,
    *,
    usual: Mapping[str, float] | None = None,
    codes: Mapping[str, Sequence[str]] | None = None,
) -> list[str]:
    """Return what raises the probability of a transaction most, in words.

    Parameters
    ----------
    names : sequence of str
        Columns of the features.
    contributions : sequence of float
        One for each, on the scale of the log-odds, of the model that decides; the expected value
        may follow, as LightGBM gives it.
    values : sequence of float
        The transaction's features.
    definitions : mapping of str to str
        What a feature is, with its unit. "purchases of …", "euro …" (a noun in the plural) stands
        after its value; "whether …" is said or denied; "share …" is shown in per cent;
        "logarithm of one plus the …" is undone; anything else stands before its value. A note in
        brackets at the end is left out.
    n : int
        At most so many; features that lower the probability are never among them.
    usual : mapping of str to float, optional
        What is usual, put in brackets, as the median over genuine transactions. What is as usual
        is no reason.
    codes : mapping of str to sequence of str, optional
        Names of the values of features that are codes.

    Returns
    -------
    list of str
        The largest contribution first.

    Raises
    ------
    ValueError
        When the lengths do not fit, or ``n`` is negative.
    KeyError
        When a feature that is needed has no definition.

    Examples
    --------
    >>> words = {"n_24h": "purchases of this customer in the last 24 hours"}
    >>> top_reasons(["n_24h"], [1.2], [11], words, usual={"n_24h": 1})
    ['11 purchases of this customer in the last 24 hours (usual: 1)']
    """
    if len(values) != len(names) or len(contributions) not in (len(names), len(names) + 1):
        raise ValueError(
            f"{len(names)} names, {len(values)} values, {len(contributions)} contributions: give "
            "one of each for a feature; only the expected value may follow the contributions."
        )
    if n < 0:
        raise ValueError(f"n is {n}: it cannot be negative.")
    raising = [i for i in range(len(names)) if contributions[i] > 0]
    raising.sort(key=lambda i: -contributions[i])
    said = []
    for i in raising:
        if names[i] not in definitions:
            raise KeyError(f"The feature {names[i]!r} has no definition.")
        how = definitions[names[i]], (codes or {}).get(names[i])
        normal = (usual or {}).get(names[i])
        if normal is None or _words(*how, values[i]) != _words(*how, normal):
            said.append(_words(*how, values[i], normal))
    return said[:n]


def lost_when_usual(
    log_odds: Callable[[pd.DataFrame], np.ndarray], row: pd.DataFrame, usual: Mapping[str, float]
) -> np.ndarray:
    """Return what a model's log odds lose when each feature, alone, becomes usual.

    For a model that is additive in log odds these are its contributions, but for a constant.

    Parameters
    ----------
    log_odds : callable
        Table → log odds, shape (n,).
    row : DataFrame, shape (1, features)
    usual : mapping of str to float
        The usual value of each feature.

    Returns
    -------
    ndarray, shape (features,)

    Examples
    --------
    >>> import pandas as pd
    >>> line = lambda table: 2 * table["a"].to_numpy() - table["b"].to_numpy()
    >>> lost_when_usual(line, pd.DataFrame({"a": [3.0], "b": [1.0]}), {"a": 1.0, "b": 1.0}).tolist()
    [4.0, 0.0]
    """
    import numpy as np
    import pandas as pd

    names, n = list(row), row.shape[1]
    table = np.repeat(row.to_numpy(float), n + 1, axis=0)
    table[np.arange(n), np.arange(n)] = [usual[name] for name in names]
    odds = log_odds(pd.DataFrame(table, columns=names))
    return odds[-1] - odds[:-1]


def _words(
    definition: str, codes: Sequence[str] | None, value: float | None, usual: float | None = None
) -> str:
    meaning = re.sub(r"\s*\([^()]*\)$", "", definition)
    if meaning.startswith("whether "):
        said = meaning.removeprefix("whether ")
        return said if value else f"not the case: {said}"
    undo = meaning.startswith(_LOGARITHM)
    meaning = meaning.removeprefix(_LOGARITHM)

    def shown(number: float | None) -> str:
        if number is None or math.isnan(number):
            return "unknown"
        if codes is not None:
            return codes[int(number)]
        if meaning.startswith("share "):
            return f"{number:.0%}"
        return _number(math.expm1(number) if undo else number)

    text = _joined(meaning, shown(value))
    return text if usual is None else f"{text} (usual: {shown(usual)})"


def _joined(meaning: str, number: str) -> str:
    """Return "3 purchases …" for a noun in the plural, else "amount: 3"."""
    plural = re.match(r"((?:other )?\w+)s\b", meaning)
    if number == "unknown" or not (plural or meaning.startswith("euro ")):
        return f"{meaning}: {number}"
    if number == "1" and plural:
        meaning = plural[1] + meaning[plural.end() :]
    return f"{number} {meaning}"


def _number(value: float) -> str:
    """Return a number as one reads it: whole, or with three digits that count."""
    if abs(value - round(value)) < 1e-6 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"
