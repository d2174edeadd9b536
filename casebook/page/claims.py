"""Sentences whose numbers are printed by the run.

A result that stands in the prose of a chapter is the output of a cell::

    claim("WAPE falls from {base:.1%} to {model:.1%}", base=0.31, model=0.24)

The sentence is the same in JupyterLab, on Colab and in the rendered book.
"""

from __future__ import annotations

import math
import numbers
import re
import string

import pandas as pd
from IPython.display import display

from casebook.page.figures import spelled

#: An address, a path that starts at a root or a home, a hash.
_NOT_FOR_A_NOTE = re.compile(r"\S*://\S*|(?<![\w.])~?/[\w.]\S*|[A-Z]:\\\S*|[0-9a-f]{32,}")


def _say(text: str) -> None:
    display({"text/markdown": text, "text/plain": text}, raw=True)


def claim(sentence: str, /, **values: object) -> None:
    """Display a Markdown sentence with computed values.

    Numbers are spelled in the course's one way (:func:`casebook.page.figures.spelled`), so that
    ``{wape:.1%}`` reads "8.1 %".

    Parameters
    ----------
    sentence : str
        Markdown with format fields, such as ``{wape:.1%}``.
    **values
        One value for each field. Numbers must be finite.

    Raises
    ------
    ValueError
        If the sentence has no field, a field has no value, a value has no
        field, or a number is NaN or infinite: such a sentence states nothing.
    """
    formatter = string.Formatter()
    places = [name for _, name, _, _ in formatter.parse(sentence) if name is not None]
    fields = {name.split(".")[0].split("[")[0] for name in places}
    if "" in fields:
        raise ValueError(f"The claim {sentence!r} has a field without a name; write {{wape}}.")
    if not fields:
        raise ValueError(
            f"The claim {sentence!r} has no computed value. Write it as prose, or add a field "
            "such as {wape:.1%}."
        )
    if missing := sorted(fields - values.keys()):
        raise ValueError(f"The claim {sentence!r} has no value for: {', '.join(missing)}.")
    if unused := sorted(values.keys() - fields):
        raise ValueError(f"The claim {sentence!r} does not use: {', '.join(unused)}.")
    for name in places:
        value, _ = formatter.get_field(name, (), values)
        if value is None or value is pd.NA:
            raise ValueError(f"The claim {sentence!r} would print {name} = {value}.")
        if isinstance(value, numbers.Real) and not math.isfinite(value):
            raise ValueError(f"The claim {sentence!r} would print {name} = {value}.")
    _say(spelled(sentence.format(**values)))


def plural(count: int, one: str, many: str = "") -> str:
    """Return a count with its noun: "1 node", "2,300 nodes".

    Parameters
    ----------
    count : int
        How many.
    one, many : str
        The noun; ``many`` is needed where it is not ``one`` with an s.

    Raises
    ------
    ValueError
        If the count is not whole.
    """
    if count % 1:
        raise ValueError(f"There cannot be {count} {many or one + 's'}: a count is whole.")
    return f"{int(count):,} {one if count == 1 else many or one + 's'}"


def not_run(what: str, why: str) -> None:
    """Display in one note that a part of the chapter did not run here, and why.

    Parameters
    ----------
    what : str
        The part, as the reader knows it ("The check on Australian tourism").
    why : str
        The reason and what to do about it, without paths, hashes and addresses: they break the
        layout of a narrow page, and few readers want them.

    Raises
    ------
    ValueError
        If there is one all the same.
    """
    if found := _NOT_FOR_A_NOTE.search(f"{what} {why}"):
        raise ValueError(f"The note holds {found[0]!r}: leave paths, hashes and addresses out.")
    _say(f"> **Not run here: {what}.** {why}")
