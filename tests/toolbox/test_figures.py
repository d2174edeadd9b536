"""Figures and tables: alternative text, colours, and the form each place gets."""

from __future__ import annotations

import inspect
import itertools
import json
import re
import xml.etree.ElementTree as ElementTree

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import plotly.graph_objects as go
import plotly.io
import pytest
from bs4 import BeautifulSoup

from casebook.evaluate.metrics import wape
from casebook.page import figures
from casebook.page.figures import COLOURS, INK, axes, choices, show, show_source, table

matplotlib.use("Agg")

ALT = 'Trips over time: "holiday" & <business> rise in every summer'
PAGES = {"light": "#ffffff", "dark": "#14181e"}
#: Machado, Oliveira & Fernandes (2009), severity 1, on linear RGB.
VISION = {
    "normal": np.eye(3),
    "protanopia": np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
    "deuteranopia": np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
}
#: CIE XYZ of linear sRGB (D65).
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def linear_rgb(colour: str) -> np.ndarray:
    channels = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)


def contrast(one: str, other: str) -> float:
    """Return the contrast ratio of WCAG 2."""
    dark, light = sorted(float(TO_XYZ[1] @ linear_rgb(c)) for c in (one, other))
    return (light + 0.05) / (dark + 0.05)


def difference(one: str, other: str, vision: str) -> float:
    """Return the CIE 1976 colour difference as seen with a kind of vision."""
    seen = []
    for colour in (one, other):
        xyz = TO_XYZ @ np.clip(VISION[vision] @ linear_rgb(colour), 0, 1) / TO_XYZ.sum(axis=1)
        x, y, z = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
        seen.append(np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)]))
    return float(np.linalg.norm(seen[0] - seen[1]))


@pytest.fixture
def in_the_book(monkeypatch):
    monkeypatch.setenv("CASEBOOK_BOOK", "1")


@pytest.fixture
def in_lab(monkeypatch):
    """Show as JupyterLab does; without this renderer plotly would open a browser here."""
    monkeypatch.delenv("CASEBOOK_BOOK", raising=False)
    before = plotly.io.renderers.default
    plotly.io.renderers.default = "plotly_mimetype"
    yield
    plotly.io.renderers.default = before


def drawing():
    figure, ax = axes("Trips rise in summer", "quarter", "trips (thousand)")
    ax.plot([1, 2, 3], [2, 5, 3], label="holiday")
    ax.plot([1, 2, 3], [1, 2, 2], label="business")
    ax.legend()
    return figure


def scatter(title: str = "Trips rise in summer"):
    return go.Figure(go.Scatter(x=np.arange(3), y=np.array([2.0, 5.0, 3.0]))).update_layout(
        title=title
    )


def soup(bundle: dict) -> BeautifulSoup:
    return BeautifulSoup(bundle["text/html"], "html.parser")


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("name", COLOURS)
def test_every_colour_stands_out_from_the_page(name, page):
    assert contrast(COLOURS[name], PAGES[page]) >= 3


def test_contrast_knows_the_values_of_wcag():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("vision", VISION)
def test_any_two_colours_are_told_apart(vision):
    """Three just noticeable differences (2.3 each) at least."""
    pairs = itertools.combinations(COLOURS, 2)
    distance = {pair: difference(*(COLOURS[c] for c in pair), vision) for pair in pairs}
    closest = min(distance, key=distance.get)
    assert distance[closest] >= 3 * 2.3, closest


def test_the_simulated_vision_confuses_a_red_and_a_green():
    assert difference("#b03a2e", "#5f6a1f", "normal") > 40
    assert difference("#b03a2e", "#5f6a1f", "deuteranopia") < 15


@pytest.mark.parametrize("alt", ["", "a chart of trips", "  two\n\twords   "])
@pytest.mark.parametrize("draw", [drawing, scatter])
def test_a_figure_without_alternative_text_is_refused(shown, draw, alt):
    with pytest.raises(ValueError, match="too short"):
        show(draw(), alt)
    assert shown == []


@pytest.mark.parametrize("figure", [None, "figure.png", pd.DataFrame({"a": [1]})])
def test_what_is_no_figure_is_refused(shown, figure):
    with pytest.raises(TypeError, match=f"not {type(figure).__name__}"):
        show(figure, ALT)


def test_axes_draw_in_the_house_style():
    figure, ax = axes("A long finding " * 12, "quarter", "trips (thousand)")
    lines = [ax.plot([0, 1], [i, i])[0] for i in range(len(COLOURS))]
    assert [line.get_color() for line in lines] == list(COLOURS.values())
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("quarter", "trips (thousand)")
    assert {ax.xaxis.label.get_color(), ax.yaxis.label.get_color()} == {INK}
    assert "\n" in ax.get_title("left")
    assert not ax.spines["top"].get_visible()
    plt.close(figure)


def test_in_the_book_matplotlib_becomes_an_svg_in_the_colour_of_the_text(shown, in_the_book):
    show(drawing(), ALT)
    (bundle,) = shown
    assert bundle["text/plain"] == ALT
    assert INK not in bundle["text/html"]
    svg = ElementTree.fromstring(bundle["text/html"])[0]
    assert svg.tag.endswith("svg")
    assert (svg.get("role"), svg.get("aria-label")) == ("img", ALT)
    drawn = ElementTree.tostring(svg, encoding="unicode")
    assert "currentColor" in drawn
    assert COLOURS["blue"] in drawn


def test_in_the_book_every_word_of_a_figure_has_the_colour_of_the_text(shown, in_the_book):
    """Also what was added after ``axes``: SVG draws black, unseen on a dark page, by default."""
    figure = drawing()
    figure.axes[0].legend(title="purpose")
    figure.axes[0].annotate("a campaign", (2, 4))
    show(figure, ALT)
    words = soup(shown[0]).find_all("g", id=lambda name: name and name.startswith("text_"))
    assert len(words) >= 6
    for word in words:
        assert "fill: currentColor" in word.g["style"]


@pytest.mark.parametrize("colour", [(0.0, 0.0, 0.0), np.array([0.2, 0.4, 0.6, 1.0])], ids=type)
def test_a_text_may_have_a_colour_of_numbers(shown, in_the_book, colour):
    """As a colour map gives it."""
    figure = drawing()
    figure.axes[0].text(2, 4, "a campaign", color=colour)
    show(figure, ALT)
    assert len(shown) == 1


def test_in_the_book_coordinates_have_two_decimals_and_letters_keep_their_size(
    shown, in_the_book, monkeypatch
):
    def drawn():
        figure, ax = figures.axes("A line", "x", "y")
        ax.plot(np.linspace(0, 1, 50) ** 3)
        figures.show(figure, alt="A line that rises ever faster from left to right.")
        return shown[-1]["text/html"]

    rounded = drawn()
    monkeypatch.setattr(figures, "_LONG_NUMBER", re.compile(r"(?P<keep>(?!))"))
    exact = drawn()
    assert len(rounded) < len(exact)
    scales = [re.findall(r"scale\([^)]*\)", svg) for svg in (rounded, exact)]
    assert scales[0] == scales[1] and scales[0]
    path = [re.findall(r' d="([^"]*)"', svg) for svg in (rounded, exact)]
    for short, long in zip(*path, strict=True):
        number = r"-?\d+(?:\.\d+)?"
        pairs = zip(re.findall(number, short), re.findall(number, long), strict=True)
        assert all(abs(float(a) - float(b)) <= 0.0051 for a, b in pairs)


def test_in_the_book_the_same_figure_gives_the_same_bytes(shown, in_the_book):
    show(drawing(), ALT)
    show(drawing(), ALT)
    assert shown[0] == shown[1]


def test_outside_the_book_matplotlib_becomes_an_image_with_alternative_text(shown, in_lab):
    show(drawing(), ALT)
    image = soup(shown[0]).img
    assert image["alt"] == shown[0]["text/plain"] == ALT
    assert image["src"].startswith("data:image/png;base64,iVBOR")


def test_a_shown_matplotlib_figure_is_closed(shown, in_lab):
    """JupyterLab would show an open figure a second time."""
    before = plt.get_fignums()
    show(drawing(), ALT)
    assert plt.get_fignums() == before


@pytest.mark.parametrize("title", ["Trips rise", "</script><b>a title</b> that ends </SCRIPT >"])
def test_in_the_book_plotly_becomes_json_that_no_title_breaks_out_of(shown, in_the_book, title):
    show(scatter(title), ALT)
    (bundle,) = shown
    figure = soup(bundle).find("div", class_="casebook-plotly")
    assert (figure["role"], figure["aria-label"], bundle["text/plain"]) == ("figure", ALT, ALT)
    assert bundle["text/html"].lower().count("</script") == 1  # its own end
    content = json.loads(figure.script.string)
    assert content["layout"]["title"]["text"] == title
    assert content["layout"]["colorway"] == list(COLOURS.values())
    assert "template" not in content["layout"]
    assert len(content["data"]) == 1


def test_outside_the_book_plotly_shows_itself_and_its_alternative_text(shown, in_lab, capsys):
    show(scatter(), ALT)
    assert "application/vnd.plotly.v1+json" in capsys.readouterr().out
    assert shown == [{"text/plain": ALT, "text/markdown": f"*Figure: {ALT}*"}]


def two_states():
    figure = go.Figure([go.Scatter(y=[1, 2]), go.Scatter(y=[3, 4]), go.Scatter(y=[5, 6])])
    choices(figure, "State", {"North": [0, 2], "South": [1]}, first="South")
    return figure


def test_a_choice_shows_the_traces_of_its_first_option():
    figure = two_states()
    assert [trace.visible for trace in figure.data] == [False, True, False]


def test_outside_the_book_a_choice_is_the_menu_of_plotly(shown, in_lab):
    figure = two_states()
    show(figure, ALT)
    (menu,) = figure.layout.updatemenus
    assert [button.label for button in menu.buttons] == ["North", "South"]
    what, visible = menu.buttons[0].args
    assert (what, list(visible)) == ("visible", [True, False, True])
    assert menu.active == 1


def test_in_the_book_a_choice_is_left_to_the_page(shown, in_the_book):
    show(two_states(), ALT)
    layout = json.loads(soup(shown[0]).script.string)["layout"]
    assert "updatemenus" not in layout
    expected = {"label": "State", "options": {"North": [0, 2], "South": [1]}, "first": "South"}
    assert layout["meta"]["casebook_choices"] == expected


@pytest.mark.parametrize(
    ("options", "first", "reason"),
    [
        ({"North": [0]}, "South", "'South' is none of the options"),
        ({"North": [0], "South": [1]}, "South", "'South' shows traces .1.; the figure has 1"),
        ({"North": [-1]}, "North", "'North' shows traces"),
        ({"North": []}, "North", "'North' shows traces"),
    ],
)
def test_a_choice_of_what_is_not_there_is_refused(options, first, reason):
    with pytest.raises(ValueError, match=reason):
        choices(scatter(), "State", options, first)


@pytest.fixture
def shown_table(shown) -> dict:
    frame = pd.DataFrame(
        {
            "trips": [1234567, 20],
            "WAPE": [0.12345, np.nan],
            "note": ["<script>alert(1)</script>", "R&D"],
        },
        index=pd.Index(["seasonal <b>naive</b>", "LightGBM"], name="model"),
    )
    table(frame, 'Errors of "both" <models>, share', decimals=2)
    return shown[0]


def test_a_table_has_its_caption_and_scopes(shown_table):
    page = soup(shown_table)
    assert page.caption.text == page.div["aria-label"] == 'Errors of "both" <models>, share'
    assert [th.text for th in page.find_all("th", scope="col")] == [
        "model",
        "trips",
        "WAPE",
        "note",
    ]
    assert [th.text for th in page.find_all("th", scope="row")] == [
        "seasonal <b>naive</b>",
        "LightGBM",
    ]


def test_code_in_a_caption_is_shown_as_code(shown):
    table(pd.DataFrame({"a": [1]}), "Made by `make <all>`, in `x`")
    page = soup(shown[0])
    assert [code.text for code in page.caption.find_all("code")] == ["make <all>", "x"]
    assert page.div["aria-label"] == "Made by make <all>, in x"


def test_a_table_rounds_and_groups_numbers_and_leaves_missing_ones_empty(shown_table):
    cells = soup(shown_table).find_all("td", class_="number")
    assert [td.text for td in cells] == ["1,234,567", "0.12", "20", ""]
    assert "1,234,567" in shown_table["text/plain"]
    assert "0.12345" not in shown_table["text/plain"]


def test_a_column_of_mixed_or_missing_numbers_stands_to_the_right(shown):
    ranks = pd.Series([1, None], dtype="Int64")
    table(pd.DataFrame({"rank": ranks, "value": pd.Series([3, 0.5], dtype=object)}), "Two")
    cells = soup(shown[0]).find_all("td", class_="number")
    assert [td.text for td in cells] == ["1", "3", "", "0.500"]


def cells_of(bundle: dict) -> dict[str, list[str]]:
    """Return the text of a shown table by column."""
    page = soup(bundle)
    columns = [th.text for th in page.find_all("th", scope="col")]
    rows = [[cell.text for cell in row.children] for row in page.tbody.find_all("tr")]
    return dict(zip(columns, map(list, zip(*rows, strict=True)), strict=True))


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        ([36.0, 21.0], ["36", "21"]),
        ([3493.597, 6012.2], ["3,494", "6,012"]),
        ([131.328, 8.5], ["131.3", "8.5"]),
        ([31.328, 8.5], ["31.328", "8.500"]),
        ([12.34, 20.5], ["12.3", "20.5"]),
        ([0.12345, 0.5], ["0.123", "0.500"]),
        ([-0.0001, 0.25], ["0.000", "0.250"]),
        ([1.0, 0.0], ["1.000", "0.000"]),
        ([1.0, 0.696], ["1.000", "0.696"]),
        ([np.inf, 34.2], ["inf", "34.2"]),
        ([100.0, 0.001], ["100.000", "0.001"]),
        ([np.nan, 12.0], ["", "12"]),
        ([None, None], ["", ""]),
        (["0.92%", "-0.1 %"], ["0.92\u00a0%", "-0.1\u00a0%"]),
        (["-0.23 [-0.35, -0.00]", ""], ["-0.23 [-0.35,\u00a00.00]", ""]),
    ],
)
def test_a_column_has_the_form_that_its_numbers_ask_for(shown, values, texts):
    table(pd.DataFrame({"x": values}), "Values")
    assert cells_of(shown[0])["x"] == texts


@pytest.mark.parametrize(
    ("form", "value", "text"),
    [
        ("count", 1234.4, "1,234"),
        ("share", 0.853, "85\u00a0%"),
        ("euro", 1234.56, "1,235"),
        ("euro", 4.5, "4.50"),
        ("interval", (0.1234, -0.001), "[0.12,\u00a00.00]"),
        ("number", 0.5, "0.500"),
        ("text", "5794", "5794"),
    ],
)
def test_a_column_has_the_form_that_it_is_given(shown, form, value, text):
    table(pd.DataFrame({"x": pd.Series([value], dtype=object)}), "Values", formats={"x": form})
    assert cells_of(shown[0])["x"] == [text]
    assert bool(soup(shown[0]).find_all("td", class_="number")) == (form != "text")


def test_decimals_that_are_asked_for_are_kept_except_for_whole_numbers(shown):
    table(pd.DataFrame({"x": [36.0, 7.0], "y": [1.5, 1000.25]}), "Values", decimals=1)
    assert cells_of(shown[0]) == {"index": ["0", "1"], "x": ["36", "7"], "y": ["1.5", "1,000.2"]}


@pytest.mark.parametrize(
    ("formats", "fault"),
    [({"z": "share"}, r"names \['z'\]"), ({"x": "percent"}, r"has \['percent'\]; it may have")],
)
def test_a_format_that_is_not_there_is_refused(shown, formats, fault):
    with pytest.raises(ValueError, match=fault):
        table(pd.DataFrame({"x": [0.5]}), "Values", formats=formats)
    assert shown == []


def test_numbers_written_as_text_stand_to_the_right_and_words_do_not(shown):
    frame = pd.DataFrame(
        {
            "difference": ["+0.1 [0.0, 0.2]", ""],
            "share": ["3%", "12.5%"],
            "days": ["0 0 1", "5"],
            "note": ["3 of 4", "all"],
        }
    )
    table(frame, "Two")
    right = [td.text for td in soup(shown[0]).find_all("td", class_="number")]
    assert right == ["+0.1 [0.0,\u00a00.2]", "3\u00a0%", "", "12.5\u00a0%"]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("85% and 95 % of 3 %", "85\u00a0% and 95\u00a0% of 3\u00a0%"),
        ("a%20b, 5%a, %d", "a%20b, 5%a, %d"),
        ("[-0.000, 0.1] and -0.00, not -0.05", "[0.000,\u00a00.1] and 0.00, not -0.05"),
        ("2024-01-01, 10-0", "2024-01-01, 10-0"),
        ("[see, there](x.md) and [1](y)", "[see, there](x.md) and [1](y)"),
    ],
)  # fmt: skip
def test_numbers_are_spelled_in_one_way(text, wanted):
    assert figures.spelled(text) == wanted


def test_an_interval_never_breaks():
    assert figures.interval(-0.00001, 1234.5, 1) == "[0.0,\u00a01,234.5]"


def test_a_table_escapes_what_its_cells_say(shown_table):
    page = soup(shown_table)
    assert page.find(["script", "b"]) is None
    assert [td.text for td in page.find_all("td", class_=False)] == [
        "<script>alert(1)</script>",
        "R&D",
    ]


@pytest.mark.parametrize("rows", [0, 61])
def test_a_table_without_rows_or_with_too_many_is_refused(shown, rows):
    with pytest.raises(ValueError, match=f"got {rows}"):
        table(pd.DataFrame({"a": np.zeros(rows)}), "Zeros")
    assert shown == []


@pytest.mark.parametrize("rows", [1, 60])
def test_a_table_within_its_limits_shows_every_row(shown, rows):
    table(pd.DataFrame({"a": np.zeros(rows)}), "Zeros")
    assert len(soup(shown[0]).tbody.find_all("tr")) == rows


@pytest.mark.parametrize("thing", [wape, figures.axes])
def test_show_source_shows_the_code_folded(shown, thing):
    show_source(thing)
    (bundle,) = shown
    folded = bundle["text/markdown"]
    source = inspect.getsource(thing).rstrip()
    name = f"{thing.__module__}.{thing.__name__}"
    assert folded.startswith("<details>\n<summary>")
    assert folded.endswith("</details>")
    assert f"<code>{name}</code>" in folded
    assert f"\n\n```python\n{source}\n```\n\n" in folded
    assert source in bundle["text/plain"]


def test_show_source_in_sight_shows_the_code_without_a_fold(shown):
    figures.show_source_in_sight(wape)
    source = inspect.getsource(wape).rstrip()
    assert shown == [{"text/markdown": f"```python\n{source}\n```", "text/plain": source}]
