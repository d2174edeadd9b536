"""When a machine in front of people pays, and how large a test must be that shows it.

Examples
--------
>>> costs = Deflection(human=5.4, machine=0.02, wrong=14.0)
>>> break_even(costs, [0.05, 0.4], a_year=36_500_000, fixed=2_000_000).round(3).to_dict("list")
{'wrong': [0.05, 0.4], 'saved_each': [4.68, -0.22], 'deflection': [0.012, inf]}
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from casebook.evaluate.power import needed_in_each_arm


@dataclass(frozen=True)
class Deflection:
    """Costs of a ticket.

    Attributes
    ----------
    human : float
        At a person, with what that person's errors cost.
    machine : float
        At the machine.
    wrong : float
        Of a wrong answer of the machine on top: a person after it, and the complaint.
    """

    human: float
    machine: float
    wrong: float


def break_even(
    costs: Deflection, wrong: Sequence[float], a_year: float, fixed: float
) -> pd.DataFrame:
    """Return the share of tickets that the machine has to answer, by how often it is wrong.

    Parameters
    ----------
    costs : Deflection
    wrong : sequence of float
        Shares of its answers.
    a_year, fixed : float
        Tickets, and what the machine costs without any.

    Returns
    -------
    DataFrame
        ``wrong``, ``saved_each`` (of an answered ticket), ``deflection`` (infinite where nothing is
        saved).
    """
    each = costs.human - costs.machine - np.asarray(wrong, float) * costs.wrong
    share = np.where(each > 0, fixed / a_year / np.where(each > 0, each, 1), np.inf)
    return pd.DataFrame({"wrong": list(wrong), "saved_each": each, "deflection": share})


def sizes_of_test(base: float, changes: Mapping[str, float], a_day: float) -> pd.DataFrame:
    """Return how many tickets each arm needs to show a change of a share, and how long that takes.

    Parameters
    ----------
    base : float
    changes : mapping of str to float
        Name → change of the share; none of zero.
    a_day : float
        Tickets of both arms together.

    Returns
    -------
    DataFrame
        ``difference``, ``base``, ``change``, ``each_arm``, ``hours``.
    """
    rows = [
        (name, base, change, n, 48 * n / a_day)
        for name, change in changes.items()
        for n in [needed_in_each_arm(base, change)]
    ]
    return pd.DataFrame(rows, columns=["difference", "base", "change", "each_arm", "hours"])
