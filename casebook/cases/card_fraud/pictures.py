"""The chapter's figures whose code nobody would copy: frontier, rows, wave and prices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from casebook.cases.card_fraud import channels
from casebook.evaluate import fraud_costs as costs
from casebook.evaluate.intervals import mean_interval
from casebook.page import figures

_COLOURS = list(figures.COLOURS.values())


def frontier(
    acted: pd.DataFrame, families: Sequence[str], single: Mapping[str, str], budget: float
) -> Figure:
    """Draw cost against friction: a line for each family of policies, a cross for single ones.

    Parameters
    ----------
    acted : DataFrame
        The recorded table ``policies``: a row for each world and policy.
    families : sequence of str
    single : mapping
        Policy to the words beside its cross.
    budget : float
        Share of the genuine payments.
    """
    fig, ax = figures.axes(
        "Six families of policies: what they cost, and whom they disturb",
        "genuine payments that meet friction (%)",
        "cost per thousand payments (euro)",
        (7.4, 4.2),
    )
    of = acted.assign(x=100 * acted["friction"])
    for name, colour, mark in zip(families, _COLOURS, "osD^vP", strict=True):
        points = of[of["family"] == name].groupby("policy", sort=False)[["x", "cost"]].mean()
        points = points.sort_values("x")
        ax.plot(points["x"], points["cost"], marker=mark, markersize=4, color=colour, label=name)
    for name, text in single.items():
        at = of.loc[of["policy"] == name, ["x", "cost"]].mean()
        ax.plot(*at, "X", color=figures.INK)
        ax.annotate(text, tuple(at), xytext=(6, 5), textcoords="offset points")
    ax.axvline(100 * budget, color=figures.INK, linestyle=":", linewidth=1)
    ax.legend(fontsize=8)
    return fig


def by_row(
    title: str, xlabel: str, groups: Mapping[str, Mapping[str, pd.Series]], height: float = 3.0
) -> Figure:
    """Draw means with their 95 % intervals: a row for each kind, a colour for each group.

    Parameters
    ----------
    title, xlabel : str
    groups : mapping of str to mapping of str to Series
        For each group, row by row, a value for each world or week. All have the same rows.
    height : float
        Of the figure, in inches.
    """
    fig, ax = figures.axes(title, xlabel, "", (7.2, height))
    middle = (len(groups) - 1) / 2
    for number, (name, rows) in enumerate(groups.items()):
        for row, values in enumerate(rows.values()):
            at = mean_interval(values)
            ax.errorbar(
                at.mean,
                row + 0.2 * (number - middle),
                xerr=[[at.mean - at.low], [at.high - at.mean]],
                fmt="osD"[number],
                capsize=3,
                color=_COLOURS[number],
                label=None if row else name,
            )
    ax.set_yticks(range(len(rows)), rows)
    ax.invert_yaxis()
    if len(groups) > 1:
        ax.legend(fontsize=8)
    return fig


def frauds_by_week(by_week: pd.DataFrame, new: str) -> Figure:
    """Stack the frauds of each week by kind of attack; the title says when the new one begins.

    Parameters
    ----------
    by_week : DataFrame, shape (weeks, attacks)
        Frauds; the columns in the order in which they are stacked.
    new : str
        A column.
    """
    begins = by_week.index[by_week[new] > 0][0]
    fig, ax = figures.axes(
        f"Frauds a week; the wave begins in week {begins}", xlabel="week", ylabel="frauds a week"
    )
    bottom = np.zeros(len(by_week))
    for name, colour in zip(by_week, _COLOURS, strict=False):
        ax.bar(by_week.index, by_week[name], bottom=bottom, label=name, color=colour)
        bottom += by_week[name].to_numpy()
    ax.legend(ncols=3, loc="upper left", fontsize=9)
    ax.set_ylim(0, bottom.max() * 1.3)
    return fig


def prices():
    """Draw the expected cost of each answer against the probability, for payments to choose from.

    Returns
    -------
    plotly Figure
    """
    import plotly.graph_objects as go

    base, capped = costs.Economics(), costs.Economics(margin=channels.CAP_DEBIT)
    payments = {
        "20 euro": (20, base, 1.0),
        "60 euro": (60, base, 1.0),
        "200 euro": (200, base, 1.0),
        "200 euro, the merchant bears it": (200, base, 0.0),
        "2,000 euro": (2000, base, 1.0),
        "2,000 euro, margin .2 % (EU cap)": (2000, capped, 1.0),
        "60 euro, customer worth 600": (60, costs.Economics(customer=600), 1.0),
        "60 euro, 45 % of attackers pass": (60, costs.Economics(passes_push=0.45), 1.0),
    }
    p = np.geomspace(0.0005, 1, 60)
    fig, groups = go.Figure(), {}
    for name, (amount, economics, bears) in payments.items():
        first = len(fig.data)
        each = costs.answer_costs(p, amount, economics, bears).clip(lower=0.01).round(3)
        for answer, colour in zip(costs.ANSWERS, _COLOURS, strict=False):
            fig.add_scatter(x=p.round(5), y=each[answer], name=answer, line_color=colour)
        groups[name] = range(first, len(fig.data))
    fig.update_xaxes(type="log", title="probability of fraud")
    fig.update_yaxes(type="log", title="expected cost, euro")
    fig.update_layout(title="The cheapest answer is the lowest line")
    figures.choices(fig, "Payment", groups, "200 euro")
    return fig
