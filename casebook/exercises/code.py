"""Code of a question: an expression with its value, a template filled with expressions."""

from __future__ import annotations

import ast
import string
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

Scope = dict[str, object]


def run(code: str, scope: Scope) -> object:
    """Run code and return the value of its last expression.

    Parameters
    ----------
    code : str
        Statements; the last one may be an expression.
    scope : dict
        Names that the code may use. Those that it assigns are added.

    Returns
    -------
    object
        None if the last statement is no expression.

    Examples
    --------
    >>> run("half = 1 / 2\\nhalf + 1", {})
    1.5
    """
    tree = ast.parse(code)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "<casebook question>", "exec"), scope)
    if last is None:
        return None
    return eval(compile(ast.Expression(last.value), "<casebook question>", "eval"), scope)


class _Template(string.Formatter):
    """A template whose fields are expressions."""

    def get_field(self, field_name: str, args: Sequence, kwargs: Mapping) -> tuple[object, str]:
        return run(field_name, dict(kwargs)), field_name


def fill(template: str, scope: Scope) -> str:
    """Return a template with its expressions replaced by their values.

    Examples
    --------
    >>> fill("{share:.0%} of {len(rows)} rows", {"share": 0.25, "rows": [1, 2]})
    '25% of 2 rows'
    """
    return _Template().vformat(template, (), scope)


def evaluated(code: str, names: Mapping[str, object], setup: str = "", right: str = "") -> object:
    """Return what code gives among the names of a notebook, and leave these as they are.

    Parameters
    ----------
    code : str
        As in :class:`Slip`.
    names : mapping
        ``globals()`` of the notebook.
    setup : str
        Run before it.
    right : str
        Code for the value that ``code`` may call ``right``.
    """
    scope = {**TOOLS, **names}
    run(setup, scope)
    if right:
        scope["right"] = run(right, scope)
    return run(code, scope)


def set_up(setup: str, names: Mapping[str, object]) -> Scope:
    """Return what a question's setup makes of the names of a notebook, and leave these as they are.

    Parameters
    ----------
    setup : str
        Statements.
    names : mapping
        ``globals()`` of the notebook.

    Examples
    --------
    >>> set_up("half = total / 2", {"total": 12})
    {'half': 6.0}
    """
    before: Scope = {**TOOLS, **names}
    scope = dict(before)
    run(setup, scope)
    made = {n: value for n, value in scope.items() if n not in before or value is not before[n]}
    made.pop("__builtins__", None)  # what runs code puts them in
    return made


def distinct(value: float, *others: float, digits: int = 3) -> str:
    """Return a number with as many digits as it takes to tell it from others.

    Examples
    --------
    >>> distinct(1.0029, 1.0031)
    '1.0029'
    >>> distinct(0.5, 0.25)
    '0.5'
    """
    for count in range(digits, 16):
        said = f"{value:.{count}g}"
        if all(said != f"{other:.{count}g}" for other in others if other != value):
            return said
    return repr(value)


def names(labels: object) -> str:
    """Return labels as code, with commas.

    Examples
    --------
    >>> names(["fold", "share"])
    '`fold`, `share`'
    """
    return ", ".join(f"`{label}`" for label in labels)


#: Names that every question's code and templates may use.
TOOLS: Scope = {"np": np, "pd": pd, "distinct": distinct, "names": names}
