"""One house style for figures and tables, readable in light and dark.

A notebook builds a figure with matplotlib or plotly as usual and hands it to
:func:`show` with its alternative text. JupyterLab and Colab get the library's
own rendering; the rendered book gets a form that follows the page's theme.
"""

from __future__ import annotations

import html
import inspect
import io
import json
import math
import numbers
import re
import textwrap
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

import pandas as pd
from IPython.display import display

from casebook.project import in_book

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Series colours: told apart with colour-blind vision, contrast of at least 3:1
#: on the white and on the dark page (tested).
COLOURS = {
    "blue": "#2f7fc1",
    "orange": "#d16a0a",
    "green": "#17936b",
    "purple": "#b05fa8",
    "grey": "#7d7d7d",
    "red": "#d1495b",
}
#: Text and axes. The book replaces this very value by the page's text colour.
INK = "#1f2429"
MIN_ALT_WORDS = 6
#: Coordinates with digits that nobody sees, half of a figure's bytes; scales keep theirs.
_LONG_NUMBER = re.compile(r"(?P<keep>(?:scale|matrix)\([^)]*\))|-?\d+\.\d{3,}")


def _check_alt(alt: str) -> str:
    alt = " ".join(alt.split())
    if len(alt.split()) < MIN_ALT_WORDS:
        raise ValueError(
            f"The alternative text {alt!r} is too short: say what the figure shows and what one "
            f"sees in it ({MIN_ALT_WORDS} words at least)."
        )
    return alt


def axes(
    title: str, xlabel: str, ylabel: str, figsize: tuple[float, float] = (7.2, 3.6)
) -> tuple[Figure, Axes]:
    """Make a figure with one pair of axes in the house style.

    Parameters
    ----------
    title : str
        The finding, not the name of the plot.
    xlabel, ylabel : str
        With units.
    figsize : tuple of float
        Inches.

    Returns
    -------
    Figure, Axes
    """
    import matplotlib.pyplot as plt
    from cycler import cycler

    rc = {
        "axes.prop_cycle": cycler(color=list(COLOURS.values())),
        "axes.edgecolor": INK,
        "axes.labelcolor": INK,
        "axes.titlecolor": INK,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titlelocation": "left",
        "axes.titlesize": 11,
        "axes.titleweight": "bold",
        "axes.axisbelow": True,
        "text.color": INK,
        "xtick.color": INK,
        "ytick.color": INK,
        "font.size": 10,
    }
    with plt.rc_context(rc):
        figure, ax = plt.subplots(figsize=figsize, layout="constrained")
        ax.grid(True, color=INK, alpha=0.15, linewidth=0.8)
        ax.set(xlabel=xlabel, ylabel=ylabel)
        ax.set_title("\n".join(textwrap.wrap(title, width=int(figsize[0] * 11))))
    return figure, ax


def _svg(figure: Figure) -> str:
    """Return the figure as SVG whose ink is the surrounding text colour."""
    import matplotlib.pyplot as plt

    buffer = io.StringIO()
    with plt.rc_context({"svg.fonttype": "path", "svg.hashsalt": "casebook"}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.S)
    svg = _LONG_NUMBER.sub(lambda found: found["keep"] or f"{float(found.group()):.2f}", svg)
    return svg.replace(INK, "currentColor")


def _apply_ink(figure: Figure) -> None:
    """Give what was added after :func:`axes` (legends, notes) the style's ink."""
    from matplotlib.colors import same_color
    from matplotlib.legend import Legend
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        if same_color(text.get_color(), "black"):
            text.set_color(INK)
    for legend in figure.findobj(Legend):
        legend.set_frame_on(False)


def _show_matplotlib(figure: Figure, alt: str) -> None:
    import matplotlib.pyplot as plt

    _apply_ink(figure)
    if in_book():
        svg = _svg(figure).replace("<svg ", f'<svg role="img" aria-label="{html.escape(alt)}" ', 1)
        bundle = {"text/html": f'<div class="casebook-figure">{svg}</div>', "text/plain": alt}
    else:
        import base64

        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=144, facecolor="white")
        data = base64.b64encode(buffer.getvalue()).decode()
        width = round(figure.get_figwidth() * 100)
        bundle = {
            "text/html": f'<img alt="{html.escape(alt)}" width="{width}" '
            f'src="data:image/png;base64,{data}">',
            "text/plain": alt,
        }
    plt.close(figure)
    display(bundle, raw=True)


def _show_plotly(figure, alt: str) -> None:
    figure.update_layout(
        colorway=list(COLOURS.values()),
        template="none",
        margin={"l": 60, "r": 16, "t": 64, "b": 48},
        legend={"orientation": "h", "y": -0.22},
        hoverlabel={"namelength": -1},
    )
    if not in_book():
        figure.show()
        display({"text/plain": alt, "text/markdown": f"*Figure: {alt}*"}, raw=True)
        return
    content = json.loads(figure.to_json())
    content["layout"].pop("template", None)
    if "casebook_choices" in content["layout"].get("meta", {}):
        content["layout"].pop("updatemenus")  # casebook.js makes an HTML selection of it
    payload = json.dumps(content, separators=(",", ":")).replace("<", "\\u003c")
    display(
        {
            "text/html": f'<div class="casebook-plotly" role="figure" '
            f'aria-label="{html.escape(alt)}">'
            f'<script type="application/json">{payload}</script></div>',
            "text/plain": alt,
        },
        raw=True,
    )


def choices(figure, label: str, options: Mapping[str, Iterable[int]], first: str) -> None:
    """Let the reader choose which traces of a plotly figure are shown.

    JupyterLab and Colab show plotly's own menu; the book shows a labelled,
    keyboard-usable selection in its place.

    Parameters
    ----------
    figure : plotly.graph_objects.Figure
        Gets the menu.
    label : str
        What is chosen ("State").
    options : mapping of str to iterable of int
        For each option, the indices of the traces that it shows.
    first : str
        The option that is shown first.

    Raises
    ------
    ValueError
        If ``first`` is no option or an option names a trace that is not there.
    """
    if first not in options:
        raise ValueError(f"{first!r} is none of the options {list(options)}.")
    shown = {name: sorted(traces) for name, traces in options.items()}
    count = len(figure.data)
    for name, traces in shown.items():
        if not traces or traces[0] < 0 or traces[-1] >= count:
            raise ValueError(f"Option {name!r} shows traces {traces}; the figure has {count}.")
    for i, trace in enumerate(figure.data):
        trace.visible = i in shown[first]
    names = list(shown)
    figure.update_layout(
        meta={"casebook_choices": {"label": label, "options": shown, "first": first}},
        updatemenus=[
            {
                "buttons": [
                    {
                        "label": name,
                        "method": "restyle",
                        "args": ["visible", [i in shown[name] for i in range(count)]],
                    }
                    for name in names
                ],
                "active": names.index(first),
                "x": 1,
                "xanchor": "right",
                "y": 1.15,
            }
        ],
    )


def show(figure, alt: str) -> None:
    """Show a matplotlib or plotly figure with its alternative text.

    Parameters
    ----------
    figure : matplotlib.figure.Figure or plotly.graph_objects.Figure
        Matplotlib figures come from :func:`axes`, so that they carry the style.
    alt : str
        What the figure shows and what one sees in it, for a reader who does
        not see it.

    Raises
    ------
    ValueError
        If ``alt`` has fewer than six words.
    TypeError
        If the figure is of neither library.
    """
    alt = _check_alt(alt)
    library = type(figure).__module__.split(".")[0]
    if library == "matplotlib":
        _show_matplotlib(figure, alt)
    elif library == "plotly":
        _show_plotly(figure, alt)
    else:
        raise TypeError(f"show takes a matplotlib or plotly figure, not {type(figure).__name__}.")


NUMERIC = ("boolean", "integer", "floating", "mixed-integer-float", "decimal")
#: No line is broken at this space.
HARD_SPACE = "\u00a0"
#: What a column may be said to hold.
FORMATS = ("count", "share", "euro", "interval", "number", "text")
#: Less than this is shown as nothing: what a sum of floats leaves over.
NOTHING = 5e-4
_PER_CENT = re.compile(r"(?<=\d)[ \u00a0]?%(?![0-9A-Za-z])")
_MINUS_NOTHING = re.compile(r"(?<![\w.])-(0(?:\.0+)?)(?![\d.])")
_INTERVAL = re.compile(r"(?P<low>\[[+-]?[\d.,]+), (?P<high>[+-]?[\d.,]+\])")
#: Text that is a number, with its unit or interval if it has one.
_A_NUMBER = re.compile(
    r"(?:[+-]?(?:[\d,]*\.?\d+|inf)(?:\u00a0%)?)?(?:[ \u00a0]?\[[^\]\s]+,\u00a0[^\]\s]+\])?"
)


def spelled(text: str) -> str:
    """Return a text whose numbers are spelled in the one way of the course.

    Parameters
    ----------
    text : str
        Prose, or a cell of a table.

    Returns
    -------
    str
        A hard space before each per-cent sign ("85 %") and within intervals
        ("[0.12, 0.30]"), which then never break over lines; no minus before nothing.
    """
    text = _PER_CENT.sub(f"{HARD_SPACE}%", text)
    text = _MINUS_NOTHING.sub(r"\1", text)
    return _INTERVAL.sub(rf"\g<low>,{HARD_SPACE}\g<high>", text)


def interval(low: float, high: float, decimals: int = 2) -> str:
    """Return an interval in the form of the course, "[0.12, 0.30]"."""
    return spelled(f"[{low:,.{decimals}f}, {high:,.{decimals}f}]")


def decimals_for(values: Iterable[float], most: int = 3) -> int:
    """Return how many decimals numbers that are compared should have.

    Parameters
    ----------
    values : iterable of float
        Of one column or row; what is not finite does not count.
    most : int
        More decimals are never shown.

    Returns
    -------
    int
        0 for whole numbers that go beyond one, and from 100 on; 1 from 10 on, and from 1 on
        beside hundreds; else ``most``.
    """
    sizes = [abs(v) for v in values if math.isfinite(v) and abs(v) >= NOTHING]
    least, largest = min(sizes, default=0), max(sizes, default=0)
    if least >= 100 or (largest > 1 and all(v % 1 == 0 for v in sizes)):
        return 0
    return min(most, 1) if least >= 10 or (least >= 1 and largest >= 100) else most


def _is_missing(value: object) -> bool:
    return value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value))


def _is_number(value: object) -> bool:
    return (
        isinstance(value, numbers.Real) and not isinstance(value, bool) and not _is_missing(value)
    )


def _column(values: list[object], form: str | None, decimals: int | None) -> list[str]:
    """Return the text of a column's values."""
    reals = [float(v) for v in values if isinstance(v, float) and not _is_missing(v)]
    known = [float(v) for v in values if _is_number(v)]
    if form == "share":
        places = 0 if decimals is None else decimals
    elif form == "euro":
        places = 0 if decimals is None and max(map(abs, known), default=0) >= 100 else 2
    elif form == "count" or (decimals_for(reals) == 0 and all(v % 1 == 0 for v in reals)):
        places = 0
    else:
        places = decimals_for(reals) if decimals is None else decimals

    def say(value: object) -> str:
        if _is_missing(value):
            return ""
        if form == "interval":
            low, high = value  # type: ignore[misc]
            return interval(low, high, 2 if decimals is None else decimals)
        if form == "text" or not _is_number(value):
            return spelled(str(value))
        if form == "share":
            return spelled(f"{100 * float(value):,.{places}f}%")
        whole = isinstance(value, numbers.Integral) and form != "euro"
        return spelled(f"{value:,}" if whole else f"{float(value):,.{places}f}")

    return [say(value) for value in values]


def _text(
    frame: pd.DataFrame, decimals: int | None, formats: Mapping[str, str]
) -> tuple[pd.DataFrame, set[str]]:
    """Return a frame as text, its index as the first columns, and which columns are numbers."""
    whole = frame.reset_index()
    names = [str(column) for column in whole.columns]
    if unknown := sorted(set(formats) - set(names)):
        raise ValueError(f"formats names {unknown}; the columns are {names}.")
    if wrong := sorted(set(formats.values()) - set(FORMATS)):
        raise ValueError(f"formats has {wrong}; it may have {list(FORMATS)}.")
    texts, numeric = {}, set()
    for i, name in enumerate(names):
        values = whole.iloc[:, i].astype(object).tolist()
        form = formats.get(name)
        texts[i] = _column(values, form, decimals)
        kind = pd.api.types.infer_dtype(whole.iloc[:, i], skipna=True)
        said = all(_A_NUMBER.fullmatch(text) for text in texts[i]) and any(texts[i])
        if i >= frame.index.nlevels and form != "text" and (kind in NUMERIC or said):
            numeric.add(name)
    text = pd.DataFrame(texts)
    text.columns = names
    return text, numeric


def table(
    frame: pd.DataFrame,
    caption: str,
    decimals: int | None = None,
    formats: Mapping[str, str] | None = None,
) -> None:
    """Show a small table with a caption, numbers rounded at the source.

    Parameters
    ----------
    frame : DataFrame
        With the row names in the index. At most 60 rows: a page is no data browser.
    caption : str
        What the table shows, with units; code stands between backticks.
    decimals : int, optional
        Of the floating-point columns that are not whole. By default each column has what
        leaves its smallest number three digits, and three at most.
    formats : mapping of str to str, optional
        For columns that their values do not explain: ``count`` (whole, with thousands
        separators), ``share`` (of one, shown as "85 %"), ``euro`` (whole from 100 on),
        ``interval`` (of pairs, "[0.12, 0.30]"), ``number`` or ``text`` (as it is, to the left).

    Raises
    ------
    ValueError
        If the frame is empty or longer than 60 rows, or a format is unknown or names no
        column.
    """
    if not 0 < len(frame) <= 60:
        raise ValueError(f"table shows 1 to 60 rows, got {len(frame)}: aggregate or use head().")
    text, numeric = _text(frame, decimals, formats or {})
    head = "".join(
        f'<th scope="col"{" class=number" if c in numeric else ""}>{html.escape(c)}</th>'
        for c in text.columns
    )
    rows = []
    for record in text.itertuples(index=False):
        cells = [f'<th scope="row">{html.escape(record[0])}</th>']
        cells += [
            f"<td{' class=number' if c in numeric else ''}>{html.escape(v)}</td>"
            for c, v in zip(text.columns[1:], record[1:], strict=True)
        ]
        rows.append(f"<tr>{''.join(cells)}</tr>")
    caption = spelled(caption)
    label = html.escape(caption.replace("`", ""))
    title = re.sub("`([^`]+)`", r"<code>\1</code>", html.escape(caption))
    page = (
        f'<div class="casebook-table" tabindex="0" role="region" aria-label="{label}"><table>'
        f"<caption>{title}</caption><thead><tr>{head}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )
    plain = f"{caption}\n{text.to_string(index=False)}"
    display({"text/html": page, "text/plain": plain}, raw=True)


def show_source(function: Callable) -> None:
    """Show the source of a function of the package, folded.

    Parameters
    ----------
    function : callable
        Any Python function or class of the course.
    """
    source = textwrap.dedent(inspect.getsource(function)).rstrip()
    name = f"{function.__module__}.{function.__qualname__}"
    text = f"<details>\n<summary>Source of <code>{name}</code></summary>\n\n"
    text += f"```python\n{source}\n```\n\n</details>"
    display({"text/markdown": text, "text/plain": f"Source of {name}:\n{source}"}, raw=True)


def show_source_in_sight(function: Callable) -> None:
    """Show the source of a short function of the package that a reader would copy, not folded."""
    source = textwrap.dedent(inspect.getsource(function)).rstrip()
    display({"text/markdown": f"```python\n{source}\n```", "text/plain": source}, raw=True)
