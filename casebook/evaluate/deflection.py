"""When a machine in front of people pays, and how large a test must be that shows it.

Examples
--------
>>> costs = Deflection(human=5.4, machine=0.02, wrong=10.0)
>>> break_even(costs, [0.05, 0.6], a_year=36_500_000, fixed=2_000_000).round(3).to_dict("list")
{'wrong': [0.05, 0.6], 'saved_each': [4.88, -0.62], 'deflection': [0.011, inf]}
>>> round(costs.stop, 3)
0.538
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from casebook.evaluate.power import needed_for_no_worse, needed_in_each_arm


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
        Of a wrong answer of the machine on top: a person and the complaint of those who notice,
        goodwill of the others.
    """

    human: float
    machine: float
    wrong: float

    @property
    def stop(self) -> float:
        """The share of wrong answers at which an answered ticket saves nothing."""
        return (self.human - self.machine) / self.wrong


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


_TESTS = needed_in_each_arm, needed_for_no_worse


def sizes_of_test(base: float, margins: Mapping[str, float], design: float = 1.0) -> pd.DataFrame:
    """Return how many judged tickets each arm needs, by what is to be shown.

    Whether an answer is wrong is not seen in traffic: each of these tickets has to be read.

    Parameters
    ----------
    base : float
        Share wrong in the control arm.
    margins : mapping of str to float
        Name → change of the share, above zero.
    design : float
        Factor for tickets that are not independent (several of a customer).

    Returns
    -------
    DataFrame
        ``margin``, ``base``, ``change``, ``differs`` (tickets in each arm so that a two-sided test
        finds a change of this size), ``no_worse`` (so that a machine that is just as good is shown
        to be worse by less than this).
    """
    rows = [
        (name, base, by, *(of(base, by, design=design) for of in _TESTS))
        for name, by in margins.items()
    ]
    return pd.DataFrame(rows, columns=["margin", "base", "change", "differs", "no_worse"])
