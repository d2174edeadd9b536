"""The threshold calculator in a real browser, and the worked values beside it.

A check is a function that returns what is wrong. It runs on the page as built, where it must
find nothing, and on the page's article with a fault planted in its script.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import checks
import numpy as np
import pytest
from bs4 import BeautifulSoup
from scipy.optimize import minimize_scalar
from scipy.stats import norm
from visits import AXE, HTML, ROOT

PAGE = "book/costs"
SCRIPT = ROOT / "book" / "_static" / "threshold.js"
SOURCE = ROOT / "book" / "costs.md"
START = {
    **{"fp": 1, "fn": 10, "prevalence": 2, "chosen": 0.7},
    **{"mean0": 0.3, "sd0": 0.1, "mean1": 0.6, "sd1": 0.15},
}
SETTINGS = {
    "as opened": {},
    "equal costs": {"fn": 1},
    "misses dear, positives common": {"fn": 100, "prevalence": 20},
    "false alarms dear": {"fp": 10, "fn": 1},
    "wide negatives": {"sd0": 0.25, "sd1": 0.1, "prevalence": 10},
    "rare": {"prevalence": 0.1, "fn": 500},
    "scores say nothing": {"mean1": 0.3, "sd1": 0.1},
    "nothing, and misses dear": {"mean1": 0.3, "sd1": 0.1, "fn": 100},
    "far apart": {"mean0": 0, "mean1": 1, "sd0": 0.05, "sd1": 0.05},
}


# What scipy computes


def outcome(t, s: dict) -> dict:
    """Return shares of all cases and the cost of a case when scores above t are flagged."""
    share = s["prevalence"] / 100
    fp = (1 - share) * norm.sf(t, s["mean0"], s["sd0"])
    fn = share * norm.cdf(t, s["mean1"], s["sd1"])
    return {"fp": fp, "fn": fn, "cost": s["fp"] * fp + s["fn"] * fn}


def optimum(s: dict) -> float:
    """Return the cheapest threshold by a fine grid and scipy's bounded search."""
    ends = [s["mean0"] - 9 * s["sd0"], s["mean1"] - 9 * s["sd1"]]
    ends += [s["mean0"] + 9 * s["sd0"], s["mean1"] + 9 * s["sd1"]]
    grid = np.linspace(min(ends), max(ends), 100_001)
    k = int(np.clip(outcome(grid, s)["cost"].argmin(), 1, grid.size - 2))
    found = minimize_scalar(
        lambda t: outcome(t, s)["cost"],
        bounds=(grid[k - 1], grid[k + 1]),
        method="bounded",
        options={"xatol": 1e-10},
    )
    none, everybody = outcome(np.inf, s)["cost"], outcome(-np.inf, s)["cost"]
    if found.fun < min(none, everybody) * (1 - 1e-9):
        return float(found.x)
    return np.inf if none < everybody else -np.inf


# The worked values of the page: without a browser


def worked(marker: str) -> list[list[str]]:
    """Return the cells of the table that follows a marker on the page."""
    table = SOURCE.read_text(encoding="utf-8").partition(f"<!-- {marker} -->\n")[2]
    rows = table.partition("\n\n")[0].splitlines()[2:]
    assert len(rows) >= 5, f"no table after {marker}"
    return [[cell.strip() for cell in row.strip("| ").split("|")] for row in rows]


def number(cell: str) -> float:
    return float(re.sub(r"[,% ]", "", cell))


def worked_faults(rows: list[list[str]]) -> list[str]:
    """Return the cells of the table of worked values that scipy does not agree with."""
    found = []
    for cells in rows:
        fp, fn = (float(part) for part in cells[0].split(":"))
        s = {**START, "fp": fp, "fn": fn, "prevalence": number(cells[1])}
        t = optimum(s)
        least, habit = outcome(t, s), outcome(optimum({**s, "fp": 1, "fn": 1}), s)
        right = [t, 1e4 * least["cost"], 1e4 * habit["cost"]]
        for cell, value, decimals in zip(cells[2:], right, (3, 0, 0), strict=True):
            if abs(number(cell) - value) > 0.5 * 10.0**-decimals + 1e-6:
                found.append(f"{cells[0]}, {cells[1]}: {cell} is {value:.4f}")
    return found


def believed_faults(rows: list[list[str]]) -> list[str]:
    """Return the cells of the table of believed ratios that scipy does not agree with."""
    found = []
    least = outcome(optimum(START), START)["cost"]
    for cells in rows:
        t = optimum({**START, "fn": float(cells[0].split(":")[1])})
        cost = outcome(t, START)["cost"]
        right = [t, 1e4 * cost, 100 * (cost / least - 1)]
        for cell, value, decimals in zip(cells[1:], right, (3, 0, 1), strict=True):
            if abs(number(cell) - value) > 0.5 * 10.0**-decimals + 1e-6:
                found.append(f"{cells[0]}: {cell} is {value:.4f}")
    return found


@pytest.mark.parametrize(
    ("marker", "faults"), [("worked", worked_faults), ("believed", believed_faults)]
)
def test_worked_values(marker, faults):
    rows = worked(marker)
    assert faults(rows) == []
    for column in range(1, len(rows[2])):
        if marker == "worked" and column == 1:
            continue
        planted = [list(row) for row in rows]
        planted[2][column] = str(number(planted[2][column]) * 1.3 + 2)
        assert faults(planted), f"column {column} is not looked at"


# The calculator


@pytest.fixture(scope="module")
def article(tmp_path_factory) -> Path:
    """Write the article without the theme, which loads in a third of the time."""
    page = BeautifulSoup((HTML / f"{PAGE}.html").read_text(), "html.parser")
    for formula in page.select(".math"):  # which nothing would typeset here
        formula.decompose()
    file = tmp_path_factory.mktemp("threshold") / "article.html"
    file.write_text(
        f'<!doctype html><html lang="en"><base href="{(HTML / PAGE).as_uri()}.html">'
        '<title>Costs</title><link rel="stylesheet" href="../_static/threshold.css">'
        f"<body>{page.select_one('article.bd-article')}</body></html>"
    )
    return file


@pytest.fixture
def at(load, article):
    """Return a function that opens the page, or its article with a fault planted in the script."""

    def open_page(planted: tuple[str, str] = (), whole: bool | None = None, **options):
        scripts = {}
        if planted:
            old, new = planted
            source = SCRIPT.read_text()
            assert source.count(old) == 1, f"{old!r} stands {source.count(old)} times"
            scripts[SCRIPT.name] = source.replace(old, new)
        whole = not planted if whole is None else whole
        seen = load(PAGE if whole else article, scripts=scripts, **options)
        seen.page.wait_for_selector("#threshold:not([hidden])")
        return seen

    return open_page


def text(page, name: str) -> str:
    return page.locator(f"#threshold-{name}").inner_text()


def put(page, settings: dict) -> dict:
    """Type settings into the fields that say otherwise; return all that is set."""
    there = page.evaluate(
        "names => names.map((name) => document.getElementById(`threshold-${name}`).value)",
        list(START),
    )
    for (name, value), said in zip({**START, **settings}.items(), there, strict=True):
        if said != str(value):
            page.locator(f"#threshold-{name}").fill(str(value))
    return {**START, **settings}


def shown(value: float) -> str:
    if np.isinf(value):
        return "flag nobody" if value > 0 else "flag everybody"
    return f"{value:.3f}".replace("-", "−")


def calculator(page) -> Iterator[str]:
    """Yield every setting for which the page shows something else than scipy."""
    for name, settings in SETTINGS.items():
        s = put(page, settings)
        best = optimum(s)
        if text(page, "optimum") != shown(best):
            yield f"{name}: optimum {text(page, 'optimum')}, not {shown(best)}"
        rows = page.locator("#threshold-rows tr")
        for k, t in enumerate([best, s["chosen"], np.inf, -np.inf]):
            right = outcome(t, s)
            cells = rows.nth(k).locator("td").all_inner_texts()
            for cell, value in zip(cells[1:3], (right["fp"], right["fn"]), strict=True):
                if abs(number(cell) - 1e4 * value) > 0.51:
                    yield f"{name}, row {k}: {cell}, not {1e4 * value:.1f}"
            if abs(number(cells[5]) - 1e4 * right["cost"]) > 6e-4 * 1e4 * right["cost"] + 1e-9:
                yield f"{name}, row {k}: cost {cells[5]}, not {1e4 * right['cost']:.1f}"
            if abs(sum(number(c) for c in cells[1:5]) - 1e4) > 2:
                yield f"{name}, row {k}: the counts are not 10,000 cases"
        if np.isfinite(best) and text(page, "at") != text(page, "rule"):
            yield f"{name}: probability {text(page, 'at')}, rule {text(page, 'rule')}"


def test_the_optimum_is_scipys(at):
    assert list(calculator(at().page)) == []


@pytest.mark.parametrize(
    "planted",
    [
        ("at.fp * fp + at.fn * fn", "at.fn * fp + at.fp * fn"),
        ("const GRID = 4000", "const GRID = 2"),
        ("return all < none ? -Infinity : Infinity", "return all < none ? Infinity : -Infinity"),
        ("let sum = z;", "let sum = 0.98 * z;"),
        ("fp = (1 - share) * tail(", "fp = tail("),
        ("now.fp / (now.fp + now.fn)", "now.fn / (now.fp + now.fn)"),
    ],
)  # fmt: skip
def test_a_wrong_formula_is_found(at, planted):
    assert next(calculator(at(planted).page), None)


def picture(page) -> list[str]:
    """Return what the drawing shows otherwise than the numbers."""
    found = []
    svg = page.locator("#threshold-picture")
    box = svg.bounding_box()
    circle = page.locator("circle.threshold-best").bounding_box()
    s = put(page, {})
    low = min(s["mean0"] - 3.5 * s["sd0"], s["mean1"] - 3.5 * s["sd1"])
    high = max(s["mean0"] + 3.5 * s["sd0"], s["mean1"] + 3.5 * s["sd1"])
    centre = circle["x"] + circle["width"] / 2 - box["x"]
    wanted = 12 + (box["width"] - 24) * (optimum(s) - low) / (high - low)
    if abs(centre - wanted) > 2:
        found.append(f"the circle stands at {centre:.0f} px, not {wanted:.0f}")
    curve = page.locator("path.threshold-cost").get_attribute("d")
    points = [float(p.split(" ")[1]) for p in re.split("[ML]", curve)[1:]]
    cy = float(page.locator("circle.threshold-best").get_attribute("cy"))
    if abs(max(points) - cy) > 1:
        found.append("the circle is not at the least of the curve")
    if shown(optimum(s)) not in svg.get_attribute("aria-label"):
        found.append("the picture's text does not name the optimum")
    return found


@pytest.mark.parametrize("width", [390, 1280])
def test_the_picture_shows_the_optimum(at, width):
    assert picture(at(width=width).page) == []


@pytest.mark.parametrize(
    "planted",
    [
        ('mark(best, "threshold-best")', 'mark(best + 0.03, "threshold-best")'),
        ("It is lowest at ${place(best)}", "It is lowest at ${place(0)}"),
    ],
)
def test_a_wrong_picture_is_found(at, planted):
    assert picture(at(planted).page)


def keyboard(page) -> list[str]:
    """Return what cannot be done without a mouse."""
    found = []
    page.locator("#threshold-fp-slider").focus()
    order = []
    for _ in range(20):
        order.append(page.evaluate("document.activeElement.id"))
        page.keyboard.press("Tab")
    wanted = [f"threshold-{f}{part}" for f in ("fp", "fn", "prevalence", "chosen", "mean0", "sd0")
              for part in ("-slider", "")]  # fmt: skip
    if order[: len(wanted)] != wanted:
        found.append(f"the order of the tab key: {order}")
    if not {"threshold-move", "threshold-reset"} <= set(order):
        found.append("the buttons are not reached")
    page.locator("#threshold-fn-slider").focus()
    page.keyboard.press("ArrowRight")
    if page.locator("#threshold-fn").input_value() != "11":
        found.append("an arrow key does not move the slider and its field")
    if text(page, "optimum") != shown(optimum({**START, "fn": 11})):
        found.append("the optimum does not follow the slider")
    page.locator("#threshold-fn").focus()
    page.keyboard.press("Control+a")
    page.keyboard.type("40")
    if page.locator("#threshold-fn-slider").input_value() != "40":
        found.append("the slider does not follow its field")
    page.locator("#threshold-move").focus()
    page.keyboard.press("Enter")
    if text(page, "extra") != "0.0 %":
        found.append(f"the button leaves {text(page, 'extra')} of extra cost")
    if "Optimum" not in text(page, "status"):
        found.append("the status is not told")
    page.locator("#threshold-reset").focus()
    page.keyboard.press("Space")
    if page.locator("#threshold-fn").input_value() != "10":
        found.append("reset does not reset")
    return found


def test_everything_works_with_the_keyboard(at):
    assert keyboard(at().page) == []


@pytest.mark.parametrize(
    "planted",
    [
        ("if (source !== number) number.value = value;", ""),
        ("if (source !== slider) slider.value = value;", ""),
        ('slides ? "-slider" : ""}`;', 'slides ? "-slider" : ""}`; input.tabIndex = -1;'),
        ("for (const field of FIELDS) set(field, field.start);", ""),
    ],
)
def test_a_control_that_the_keyboard_misses_is_found(at, planted):
    assert keyboard(at(planted).page)


BAD = {
    ("fp", "0"): "0 is below the smallest, 0.001",
    ("fp", "10000000"): "10000000 is above the largest, 1,000,000",
    ("prevalence", "100"): "100 is above the largest, 99.9",
    ("sd0", "-1"): "-1 is below the smallest, 0.01",
    ("fn", ""): "a number is missing",
}


def results(page) -> str:
    """Return everything that is computed from the fields."""
    said = [text(page, name) for name in ("optimum", "extra", "at", "rule", "status")]
    drawn = page.locator("#threshold-picture").evaluate("e => e.innerHTML + e.ariaLabel")
    cells = page.locator("#threshold-rows td").all_inner_texts()
    return " ".join([*said, *cells, drawn])


def refusals(page) -> Iterator[str]:
    """Yield bad numbers that are taken, refused without a reason, or that leave a result."""
    for (name, bad), reason in BAD.items():
        put(page, {})
        field = page.locator(f"#threshold-{name}")
        field.fill(bad)
        if digits := re.findall(r"\d[\d.,]*", results(page)):
            yield f"{name} = {bad!r} leaves results: {digits[:3]}"
        label = page.locator(f"label[for=threshold-{name}]").inner_text()
        if text(page, f"{name}-fault") != f"{label}: {reason}.":
            yield f"{name} = {bad!r} is refused with {text(page, f'{name}-fault')!r}"
        if field.get_attribute("aria-invalid") != "true":
            yield f"{name} = {bad!r} is not marked"
        page.set_viewport_size({"width": 1100, "height": 900})
        page.locator("#threshold-move").click()
        page.locator("#threshold-chosen").fill("0.6")
        page.wait_for_timeout(50)
        if digits := re.findall(r"\d[\d.,]*", results(page)):
            yield f"{name} = {bad!r} lets results come back: {digits[:3]}"
        page.set_viewport_size({"width": 1280, "height": 900})
        put(page, {})
        if field.get_attribute("aria-invalid") or text(page, f"{name}-fault"):
            yield f"{name}: the complaint stays"
        if text(page, "optimum") != shown(optimum(START)) or "No result" in text(page, "status"):
            yield f"{name}: the result does not come back"


def test_bad_numbers_are_refused_with_a_reason_and_leave_no_result(at):
    assert list(refusals(at().page)) == []


def test_what_is_no_number_is_refused(at):
    page = at().page
    page.locator("#threshold-fp").fill("")
    page.locator("#threshold-fp").press_sequentially("1e")
    assert text(page, "fp-fault") == "Cost of a false alarm: this is not a number."
    page.locator("#threshold-reset").click()
    assert text(page, "fp-fault") == ""
    assert text(page, "optimum") == shown(optimum(START))


@pytest.mark.parametrize(
    ("planted", "found"),
    [
        (("if (text) refuse(field, number, text);", "if (!text) refuse(field, number, text);"), ""),
        (("    clear();\n", ""), "leaves results"),
        (('for (const id of ["optimum", "extra", "at", "rule"]) element', "element"), "leaves"),
        (('    element("picture").replaceChildren();\n', ""), "leaves results"),
        (('number.setAttribute("aria-invalid", "true");', ""), "is not marked"),
        (('number.removeAttribute("aria-invalid");', ""), "the complaint stays"),
        (("wrong.delete(field.id);", ""), "does not come back"),
        (("if (wrong.size) return;\n    if (element", "if (element"), "come back"),
        (("wrong.size || draw", "draw"), "come back"),
        (("value < field.min ? `below", "value > field.min ? `below"), "is refused with"),
    ],
)
def test_a_bad_number_that_is_taken_is_found(at, planted, found):
    assert any(found in fault for fault in refusals(at(planted).page))


def opening(page) -> list[str]:
    """Return how the calculator, as opened, fails to show that a threshold costs something."""
    extra = number(text(page, "extra"))
    yours = float(page.locator("#threshold-chosen").input_value())
    apart = abs(float(text(page, "optimum")) - yours)
    faults = [f"yours costs {extra} % more"] if extra < 10 else []
    return faults + ([f"the thresholds are {apart:.3f} apart"] if apart < 0.1 else [])


def test_it_opens_where_yours_is_not_the_optimum(at):
    assert opening(at().page) == []
    planted = ("max: 25, start: 0.7", "max: 25, start: 0.5")
    assert len(opening(at(planted).page)) == 2


def wcag(page) -> list[str]:
    """Return axe's violations, a refused number on the page."""
    page.locator("#threshold-fp").fill("0")
    return checks.axe(page, AXE.read_text())


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_no_wcag_violation(at, theme):
    assert wcag(at(theme=theme).page) == []


@pytest.mark.parametrize(
    ("planted", "rule"),
    [
        (('slides) input.setAttribute("aria-label"', 'slides) input.setAttribute("x"'), "label"),
        (("label.htmlFor = `threshold-${field.id}`", "label.htmlFor = ''"), "label"),
        (('fault.setAttribute("role", "alert")', 'fault.style.color = "#999"'), "color-contrast"),
    ],
)
def test_a_control_without_a_name_and_pale_text_are_found(at, planted, rule):
    assert any(line.startswith(rule) for line in wcag(at(planted).page))


@pytest.mark.parametrize("width", [390, 768])
def test_no_sideways_scrolling(at, width):
    page = at(width=width).page
    assert checks.sideways(page) == []
    svg = page.locator("#threshold-picture").bounding_box()
    assert svg["x"] >= 0
    assert svg["x"] + svg["width"] <= width


def clipped(page) -> bool:
    """Return whether the table of outcomes is wider than its box."""
    return page.locator("#threshold .casebook-table").evaluate("e => e.scrollWidth > e.clientWidth")


def test_the_table_of_outcomes_fits_a_wide_window(at):
    assert not clipped(at().page)
    planted = ("cell.textContent = text;", 'cell.textContent = text + "0000000";')
    assert clipped(at(planted, whole=True).page)


def test_a_picture_that_is_too_wide_is_found(at):
    planted = (
        'svg.setAttribute("height", 370);',
        'svg.setAttribute("height", 370); svg.style.width = "900px";',
    )
    assert checks.sideways(at(planted, width=390).page)


def asked(seen) -> list[str]:
    """Return what the page asked of others or failed at, after it was used."""
    put(seen.page, {"fn": 20})
    seen.page.wait_for_timeout(200)
    return [*seen.offsite, *seen.failed, *seen.errors]


@pytest.mark.parametrize(
    "check",
    [calculator, picture, keyboard, refusals, opening, wcag],
    ids=lambda check: check.__name__,
)
def test_in_the_article_alone_a_check_finds_nothing(at, check):
    """So what it finds there, once a fault is planted, is the fault."""
    assert [*check(at(whole=False).page)] == []


@pytest.mark.parametrize("whole", [True, False], ids=["page", "article"])
def test_it_asks_nothing_of_anybody(at, whole):
    assert asked(at(whole=whole)) == []


@pytest.mark.parametrize(
    ("planted", "found"),
    [
        ('fetch("https://example.org/count");', "https://example.org/count"),
        ('new Image().src = "https://example.org/pixel.png";', "https://example.org/pixel.png"),
        ('new Image().src = "../_static/not-there.png";', "not-there.png"),
        ('setTimeout(() => { throw new Error("planted"); });', "planted"),
    ],
)
def test_a_request_and_an_error_are_found(at, planted, found):
    first = "const GRID = 4000"
    assert any(found in fault for fault in asked(at((first, f"{planted} {first}"))))


def bare(browser, path) -> list[str]:
    """Return what a reader without JavaScript misses."""
    context = browser.new_context(java_script_enabled=False)
    context.set_default_timeout(5_000)
    page, found = context.new_page(), []
    page.goto(path.as_uri())
    if page.locator("#threshold").is_visible():
        found.append("controls that do nothing are shown")
    note = page.locator("article noscript p")
    if not note.count() or not note.first.is_visible():
        found.append("nothing says that the calculator needs JavaScript")
    elif "needs JavaScript" not in note.first.text_content():
        found.append("the note does not say what is needed")
    for cells in worked("worked"):
        cell = page.locator("td", has_text=cells[2])
        if not cell.count() or not cell.first.is_visible():
            found.append(f"the worked value {cells[2]} is not shown")
    context.close()
    return found


def test_without_javascript_the_worked_values_stand(browser):
    assert bare(browser, HTML / f"{PAGE}.html") == []


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ('class="threshold" hidden="" id="threshold"', 'id="threshold"', "controls that do"),
        ("<noscript>", "<template>", "nothing says"),
        ("The calculator needs JavaScript.", "Please wait.", "does not say what"),
        (">0.593<", "><script>document.write('0.593')</script><", "0.593 is not shown"),
    ],
)
def test_what_is_missing_without_javascript_is_found(browser, tmp_path, old, new, fault):
    html = (HTML / f"{PAGE}.html").read_text()
    assert old in html
    planted = tmp_path / "planted.html"
    planted.write_text(html.replace(old, new))
    assert any(fault in line for line in bare(browser, planted))
