"""The slides of each chapter in a real browser, opened from disk, with the network cut."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import checks
import nbformat
import pytest
import rotation
from visits import HTML, ROOT

from casebook.author.files import notebooks
from casebook.book import session, slides

CHAPTERS = [path.stem for path in notebooks("chapters", root=ROOT)]
WIDE, HIGH = 1280, 720


@pytest.fixture(scope="module", autouse=True)
def made():
    """Make the slides from the executed chapters."""
    assert slides.build(ROOT) == 0, "run `make book` first"


def opened(visit, chapter: str):
    """Open the slides of a chapter."""
    seen = visit(HTML / "slides" / f"{chapter}.html")
    seen.page.set_viewport_size({"width": WIDE, "height": HIGH})
    seen.page.wait_for_selector("html[data-slides]", state="attached")
    return seen


@pytest.fixture(scope="module")
def decks(open_visits):
    """Return a function that opens the slides of a chapter, once for all faults."""
    return cache(partial(opened, open_visits()))


@pytest.fixture
def deck(decks):
    """Return a function that gives the slides of a chapter, to plant a fault in them.

    Afterwards they are as they were, and the first slide is shown.
    """
    planted = []

    def plant_in(chapter: str):
        seen = decks(chapter)
        planted.append((seen.page, seen.page.evaluate("Reveal.getSlidesElement().innerHTML")))
        return seen

    yield plant_in
    for page, before in planted:
        page.evaluate(
            "(html) => { Reveal.getSlidesElement().innerHTML = html; Reveal.sync(); "
            "Reveal.slide(0, 0); }",
            before,
        )


#: What makes decks, besides the modules that this file imports.
MAKERS = ["casebook/book/templates", "book/_static", "package-lock.json"]


@cache
def makers_key() -> str:
    """Return the key of all that makes, shows and checks decks."""
    own = Path(__file__).relative_to(ROOT).as_posix()
    return rotation.file_key(ROOT, own, MAKERS)


def deck_key(chapter: str) -> str:
    """Return the key of a deck: its chapter, as executed, its plan, and what makes decks."""
    plan = ROOT / "book" / "instructors" / f"{chapter}.md"
    own = [ROOT / "chapters" / f"{chapter}.ipynb", *([plan] if plan.is_file() else [])]
    return rotation.notebook_key(f"chapters/{chapter}", makers_key(), *own)


def deck_faults(seen, chapter: str) -> dict[str, object]:
    """Return all that is wrong with the slides of a chapter, by check."""
    page, found = seen.page, {}
    found["asked of other hosts, failed, errors"] = [*seen.offsite, *seen.failed, *seen.errors]
    found["undrawn"] = checks.undrawn(page)
    if (count := page.evaluate("Reveal.getTotalSlides()")) < 10:
        found["few slides"] = count
    found["fits"] = walk(page, too_large, small_drawings, cut_labels)
    found["bare"] = bare(page)
    found["for the makers"] = for_makers(page)
    # A chapter with a plan has a poll and an exercise.
    planned = (ROOT / "book" / "instructors" / f"{chapter}.md").is_file()
    if (asked := questions(page)) != (["Poll", "Exercise"] if planned else []):
        found["asks"] = asked or "nothing"
    titled = page.locator("section h2:not(aside h2)").count()
    if not page.locator("aside.notes").count() >= titled >= 5:
        found["notes"] = f"{page.locator('aside.notes').count()} for {titled} titles"
    return {name: faults for name, faults in found.items() if faults}


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_the_slides_of_a_chapter_are_whole(visit, chapter):
    with rotation.turn("slides", chapter, deck_key(chapter), among=CHAPTERS):
        assert deck_faults(opened(visit, chapter), chapter) == {}


def walk(page, *looks: Callable) -> list[str]:
    """Walk through a deck; return what each look finds on the slides."""
    found = []
    for _ in range(page.evaluate("Reveal.getTotalSlides()")):
        name = page.evaluate("Reveal.getCurrentSlide().innerText.slice(0, 40)")
        found += [f"{name}: {fault}" for look in looks for fault in look(page)]
        page.evaluate("Reveal.next()")
    return found


def too_large(page) -> list[str]:
    """Return whether the content of the current slide is larger than the slide."""
    width, height = page.evaluate(
        "(() => { const s = Reveal.getCurrentSlide(); return [s.scrollWidth, s.scrollHeight]; })()"
    )
    return [f"{width} x {height}"] if width > WIDE + 2 or height > HIGH + 2 else []


def small_drawings(page, least: float = 0.85) -> list[str]:
    """Return figures and diagrams that fill neither the width nor the height of the slide."""
    return page.evaluate(
        """
        ([wide, high, least]) => {
          const scale = Reveal.getScale();
          return [...Reveal.getCurrentSlide().querySelectorAll(
            '.casebook-figure svg, .mermaid-drawn > svg, .casebook-plot')].flatMap((drawing) => {
              const { width, height } = drawing.getBoundingClientRect();
              const [across, down] = [width / scale / wide, height / scale / high];
              return across >= least || down >= least ? [] :
                [`a drawing of ${Math.round(100 * across)} % by ${Math.round(100 * down)} %`];
          });
        }
        """,
        [WIDE, HIGH, least],
    )


def cut_labels(page) -> list[str]:
    """Return labels of the current slide's diagrams that leave their boxes or cannot be read."""
    return page.evaluate(
        """
        () => [...Reveal.getCurrentSlide().querySelectorAll('svg .node')].flatMap((node) => {
          const shape = node.querySelector('rect, polygon, path, circle, ellipse');
          const box = shape.getBoundingClientRect();
          const range = document.createRange();
          range.selectNodeContents(node.querySelector('foreignObject, text'));
          const text = range.getBoundingClientRect();
          const out = Math.max(box.left - text.left, text.right - box.right,
                               box.top - text.top, text.bottom - box.bottom);
          const name = node.textContent.trim();
          const frame = node.querySelector('foreignObject').getBoundingClientRect();
          const cut = text.right > frame.right + 1 || text.bottom > frame.bottom + 1;
          return (out > 1 ? [`'${name}' is ${Math.round(out)} px out of its box`] : [])
            .concat(cut ? [`'${name}' is cut`] : []);
        })
        """
    )


def bare(page) -> list[str]:
    """Return the slides that hold nothing but a heading, or hardly a word more."""
    return page.evaluate(
        """
        () => [...document.querySelectorAll('.slides section:not(:has(section))')].flatMap((s) => {
          const copy = s.cloneNode(true);
          copy.querySelectorAll('aside, script, style, h1, h2, h3').forEach((e) => e.remove());
          const drawn = copy.querySelector('svg, table, pre, .casebook-plot');
          return drawn || copy.textContent.trim().length > 20 ? [] : [s.textContent.trim()];
        })
        """
    )


def for_makers(page) -> list[str]:
    """Return code that only displays, notes on what did not run, and hashes."""
    code = page.locator(".slides pre").all_text_contents()
    found = [f"code that displays: {text[:60]}" for text in code if slides.DISPLAY.search(text)]
    shown = page.evaluate(
        "[...document.querySelectorAll('.slides section:not(:has(section))')].map((slide) => {"
        " const copy = slide.cloneNode(true);"
        " copy.querySelectorAll('aside, script, style, svg').forEach((e) => e.remove());"
        " return copy.textContent; }).join('\\n')"
    )
    return found + re.findall(r"Not run here.{,40}|\b[0-9a-f]{16,}\b", shown)


def questions(page) -> list[str]:
    """Return which of poll and exercise a deck asks, in order."""
    titles = page.locator("section h2:not(aside h2)").all_text_contents()
    return [word for title in titles for word in ("Poll", "Exercise") if title.startswith(word)]


def test_gate_a_slide_that_is_too_large_is_found(deck):
    page = deck(CHAPTERS[0]).page
    assert walk(page, too_large) == []
    page.evaluate(
        "Reveal.slide(0); "
        "Reveal.getCurrentSlide().insertAdjacentHTML('beforeend', '<p style=height:900px>x</p>')"
    )
    assert len(walk(page, too_large)) == 1


def to_slide_with(page, selector: str) -> None:
    """Turn to the first slide that holds an element."""
    page.evaluate("Reveal.slide(0)")
    while not page.evaluate("(s) => Boolean(Reveal.getCurrentSlide().querySelector(s))", selector):
        assert not page.evaluate("Reveal.isLastSlide()"), f"no slide has {selector}"
        page.evaluate("Reveal.next()")


def test_gate_a_bare_slide_is_found(deck):
    page = deck(CHAPTERS[0]).page
    assert bare(page) == []
    page.evaluate(
        "Reveal.slide(3); Reveal.getCurrentSlide().innerHTML = '<h3>Models</h3><p>See below.</p>'"
    )
    assert bare(page) == ["ModelsSee below."]


@pytest.mark.parametrize("kind", [".casebook-figure svg", ".mermaid-drawn > svg", ".casebook-plot"])
def test_gate_a_small_drawing_is_found(deck, kind):
    page = deck(CHAPTERS[0]).page
    to_slide_with(page, kind)
    assert small_drawings(page) == []
    page.evaluate(
        "(s) => { for (const e of Reveal.getCurrentSlide().querySelectorAll(s))"
        " e.style.cssText = 'display: block; width: 900px; height: 400px'; }",
        kind,
    )
    assert small_drawings(page) == ["a drawing of 70 % by 56 %"]


@pytest.mark.parametrize(
    "planted",
    [
        "label.textContent += ' and of every region as well'",
        "label.style.fontFamily = 'monospace'; label.style.fontSize = '21px'",
        "label.closest('foreignObject').setAttribute('height', 4)",
    ],
)
def test_gate_a_cut_label_is_found(deck, planted):
    page = deck(CHAPTERS[0]).page
    to_slide_with(page, ".mermaid-drawn")
    assert cut_labels(page) == []
    page.evaluate(
        "(() => { const label = Reveal.getCurrentSlide().querySelector('.node foreignObject p');"
        f" {planted}; }})()"
    )
    assert cut_labels(page)


@pytest.mark.parametrize(
    "planted",
    [
        "<pre>claim('{x:.1%}', x=1)</pre>",
        "<pre>figures.table(frame, caption='…')</pre>",
        "<p>Not run here: the check.</p>",
        "<p>sha256 0123456789abcdef01</p>",
    ],
)
def test_gate_what_is_for_the_makers_is_found(deck, planted):
    page = deck(CHAPTERS[0]).page
    assert for_makers(page) == []
    page.evaluate("(t) => Reveal.getCurrentSlide().insertAdjacentHTML('beforeend', t)", planted)
    assert len(for_makers(page)) == 1


def test_gate_a_deck_without_its_questions_is_found(deck):
    planned = next(c for c in CHAPTERS if session.tasks(ROOT, c))
    page = deck(planned).page
    assert questions(page) == ["Poll", "Exercise"]
    page.evaluate(
        "document.querySelectorAll('section h2').forEach((h) => { h.textContent = 'x'; })"
    )
    assert questions(page) == []


def test_gate_each_part_of_the_verdict_on_a_deck_finds_its_fault(deck):
    seen, watched = deck(CHAPTERS[0]), "asked of other hosts, failed, errors"
    assert deck_faults(seen, CHAPTERS[0]).keys() <= {watched}  # of what was planted before
    seen.page.evaluate(
        "document.querySelectorAll('aside.notes').forEach((notes) => notes.remove());"
        "document.querySelector('.mermaid-drawn').innerHTML = '<svg></svg>';"
        "document.querySelector('section h2').textContent = 'Poll';"
        "Reveal.slide(0); Reveal.getCurrentSlide().insertAdjacentHTML('beforeend', "
        "'<p style=height:900px>x</p><pre>claim(1)</pre><img src=\"none.png\">');"
        "[...document.querySelectorAll('section:not(:has(section))')].at(-1).innerHTML = "
        "'<h3>x</h3>'"
    )
    seen.page.wait_for_function("[...document.images].every((image) => image.complete)")
    found = deck_faults(seen, CHAPTERS[0])
    assert found.keys() == {watched, "undrawn", "fits", "bare", "for the makers", "asks", "notes"}
    assert any("none.png" in fault for fault in found[watched])


def code(source: str, *said: str, name: str = "cell", **metadata):
    """Return an executed cell that displayed Markdown."""
    outputs = [
        nbformat.v4.new_output("display_data", data={"text/markdown": text}) for text in said
    ]
    return nbformat.v4.new_code_cell(source, id=name, outputs=outputs, metadata=metadata)


def chapter_of(*cells):
    title = nbformat.v4.new_markdown_cell("## Title\n\nA sentence of some more words.", id="title")
    return nbformat.v4.new_notebook(cells=[title, *cells])


def texts(notebook) -> list[str]:
    """Return what stands on each slide, without notes."""
    made: list[str] = []
    for cell in notebook.cells:
        kind = cell.metadata.slideshow.slide_type
        said = [next(iter(o.data.values())) for o in cell.get("outputs", [])]
        text = "\n".join(filter(None, [cell.source, *said]))
        if kind in ("slide", "subslide"):
            made.append(text)
        elif kind == "-":
            made[-1] += f"\n{text}"
    return made


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("def f(x):\n    return x\n\nclaim('{a}', a=f(1))", "def f(x):\n    return x"),
        ("y = f(1)\nfigures.table(y, 'Some')", ""),
        ("def f(x):\n    figures.show(x)", ""),
        ("def f(x):\n" + "    x += 1\n" * 20 + "    return x", ""),
        ("%pip install x", ""),
    ],
)
def test_of_code_only_short_functions_are_shown(source, shown):
    assert slides.functions(source) == shown
    hidden = slides.slides(
        chapter_of(code(source, "A claim of six words or more.", tags=["claim"]))
    )
    assert "def f" not in "".join(texts(hidden))


def markdown(name: str, *lines: str):
    return nbformat.v4.new_markdown_cell("\n\n".join(lines), id=name)


def test_what_a_cell_prints_is_shown_where_it_fits():
    short, long, wide = "a 1\nb 2\n", "a line\n" * 20, f"{'w' * 120}\n"
    for said, shown in ((short, "\na 1\nb 2"), (long, ""), (wide, ""), ("", "")):
        cell = code("print(a)", tags=["hide-input"])
        cell.outputs = [
            nbformat.v4.new_output("stream", name=name, text=text)
            for name, text in (("stdout", said[:3]), ("stderr", "w"), ("stdout", said[3:]))
        ]
        made = slides.slides(chapter_of(cell))
        assert texts(made) == [f"## Title\n\nA sentence of some more words.{shown}"]


def test_a_folded_cell_is_not_on_a_slide():
    folded = code("claim()", "A table of the deeper part.", tags=["hide-cell"])
    assert texts(slides.slides(chapter_of(folded))) == [
        "## Title\n\nA sentence of some more words."
    ]


def test_a_bare_heading_opens_the_next_slide_or_goes():
    long = "A first sentence has words enough."
    cells = [
        markdown("a", "## Section", "### First idea"),
        markdown("b", long, "| a |\n|-|\n| 1 |"),
        code("claim()", "### A box\n\n> It has a heading of its own."),
        markdown("c", "### Folded", "<details>\n<summary>More</summary>", "Text.", "</details>"),
        markdown("d", "## Last", "### Second idea", long),
    ]
    assert texts(slides.slides(chapter_of(*cells)))[1:] == [
        f"## Section\n\n### First idea\n{long}\n\n| a |\n|-|\n| 1 |",
        "### A box\n> It has a heading of its own.",
        f"## Last\n\n### Second idea\n\n{long}",
    ]


def test_what_did_not_run_here_is_not_on_a_slide():
    made = slides.slides(chapter_of(code("x = 1", "> **Not run here: it.** Hash 0123.")))
    assert texts(made) == ["## Title\n\nA sentence of some more words."]


def test_a_long_claim_is_shortened_and_whole_in_the_notes():
    sentences = [f"Sentence {i} has a dozen words or so, all of them about {i}." for i in range(20)]
    made = slides.slides(chapter_of(code("x = 1", " ".join(sentences))))
    (slide,) = texts(made)
    assert slide.endswith(sentences[6])
    assert made.cells[-1].source.endswith(sentences[-1])
    assert made.cells[-1].metadata.slideshow.slide_type == "notes"


def test_a_question_of_the_interview_is_shown_without_its_answer():
    said = "\n**Why not one world and a longer test?**\n\n<details>\n<summary>A</summary>\n\n"
    said += "No.\n\n</details>"
    made = slides.slides(chapter_of(code("claim()", said)))
    assert texts(made)[0].endswith("**Why not one world and a longer test?**")
    assert any("No." in c.source for c in made.cells if c.metadata.slideshow.slide_type == "notes")


def test_every_slide_has_a_heading():
    lead = nbformat.v4.new_markdown_cell(
        "**A lead.** A table of some words:\n\n| a |\n|-|\n| 1 |", id="a"
    )
    more = nbformat.v4.new_markdown_cell("| b |\n|-|\n| 1 |", id="b")
    made = texts(slides.slides(chapter_of(lead, more)))
    assert [text.splitlines()[0] for text in made] == [
        "## Title",
        "### Title · A lead",
        "### Title",
    ]


@pytest.mark.parametrize(
    ("paragraph", "sentence"),
    [
        ("Recall falls. Is it age, or an idea?", "Recall falls. Is it age, or an idea?"),
        ("**New?** Recall falls. Is it the age?", "**New?** Recall falls. Is it the age?"),
        ("**A trap.** It looks right to all of us.", "**A trap.** It looks right to all of us."),
        ("That is why. The cost of an idle hour is paid.", "The cost of an idle hour is paid."),
        ("Both are alike. Nothing is shown to a model.", "Nothing is shown to a model."),
        ("So it goes. They fail.", ""),
        ("A *whole. Emphasis* is kept in one. More.", "A *whole. Emphasis* is kept in one."),
        ("**All of it.**", "**All of it.**"),
        ("**1. Which is right?** Choose.", "**1. Which is right?** Choose."),
    ],
)  # fmt: skip
def test_of_a_paragraph_the_sentence_that_stands_alone_is_shown(paragraph, sentence):
    assert slides.key_sentence(paragraph) == sentence
    assert sentence[:2] in ("", "**") or slides.stands_alone(sentence)


@pytest.mark.parametrize(
    "sentence", ["Recall falls.", "That is what a simulated world cannot say."]
)
def test_a_sentence_that_loses_its_point_is_known(sentence):
    assert not slides.stands_alone(sentence)


PLAN = """
## The ninety minutes

| minutes | what | how |
|---|---|---|
| 0–70 | Data | Run `load`. |
| 70–90 | **Exercise, 20 minutes, in pairs** | Question 2, *win*: predict. |
| 90–99 | After | Run `after` and `last`. |

## The poll

*A route
is empty?* Before and after `load`.

| answer | what to say |
|---|---|
| MAPE | no |
| WAPE | `yes` |
"""


def planned(tmp_path, plan: str):
    (tmp_path / "book" / "instructors").mkdir(parents=True)
    (tmp_path / "book" / "instructors" / "01_x.md").write_text(plan)
    (tmp_path / "exercises").mkdir()
    cells = [
        "# T",
        "## Question 1: a\n\nB.",
        "## Question 2: make it win\n\nTwo depots.",
        "**Predict** it.",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(c) for c in cells])
    nbformat.write(notebook, tmp_path / "exercises" / "01_x.ipynb")
    return session.tasks(tmp_path, "01_x")


def test_poll_and_exercise_come_from_the_plan(tmp_path):
    poll, exercise = planned(tmp_path, PLAN)
    assert poll.shown == ("## Poll\n\n**A route is empty?**\n\n* A. MAPE\n* B. WAPE",)
    assert (poll.before, "what to say" in poll.notes) == (("load",), True)
    where = "*Question 2 of `exercises/01_x.ipynb`*"
    assert exercise.shown == (
        "## Make it win\n\nTwo depots.",
        f"## Exercise, 20 minutes, in pairs\n\n**Predict** it.\n\n{where}",
    )
    assert exercise.before == ("after", "last")


def test_poll_and_exercise_stand_before_their_cells_and_lend_no_heading(tmp_path):
    told = [code("x = 1", "A claim of six words or more.", name=name) for name in ("load", "last")]
    made = texts(slides.slides(chapter_of(*told), planned(tmp_path, PLAN)))
    assert [text.splitlines()[0] for text in made] == [
        *("## Title", "## Poll", "### Title"),
        *("## Make it win", "## Exercise, 20 minutes, in pairs", "### Title"),
    ]
    told.insert(1, markdown("own", "### Its own heading", "A sentence of the cell that follows."))
    made = texts(slides.slides(chapter_of(*told), planned(tmp_path / "again", PLAN)))
    assert made[-1].startswith("### Its own heading")


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("## The poll", "## A vote", "0 sections '## The poll'"),
        ("| WAPE | `yes` |\n", "", "needs .*its question.* and a table of answers"),
        ("**Exercise, 20 minutes, in pairs**", "Work", "must be an .*Exercise"),
        ("Question 2", "Question 7", "question 7, which is not there"),
    ],
)
def test_a_plan_without_its_poll_or_exercise_is_refused(tmp_path, old, new, fault):
    assert old in PLAN
    with pytest.raises(ValueError, match=fault):
        planned(tmp_path, PLAN.replace(old, new))


def test_a_task_without_a_place_is_refused(tmp_path):
    with pytest.raises(ValueError, match="has no place: the chapter has none of the cells load"):
        slides.slides(chapter_of(), planned(tmp_path, PLAN))


def test_a_digest_keeps_key_sentences_and_what_is_shown_whole():
    source = (
        "## Title\n\nThe first has six whole words. Second.\n\n**All of it. Really.** More.\n\n"
        "$$\nx = 1\n$$\n\n"
        "<details>\n<summary>A. One</summary>\n\nNot quite.\n\n</details>\n<details>\n"
        "<summary>B. Two</summary>\n\nRight.\n\n</details>\n\nThis too is too short."
    )
    assert slides.digest(source) == [
        (
            "## Title\n\nThe first has six whole words.\n\n**All of it. Really.** More.\n\n"
            "$$\nx = 1\n$$\n\n* A. One\n\n* B. Two",
            True,
        )
    ]


def test_a_second_big_thing_opens_a_second_slide_under_the_same_heading():
    table = "| a |\n|---|\n| 1 |"
    source = f"## Title\n\n**First.**\n\n{table}\n\n**Between.**\n\n{table}\n\n* a list"
    assert slides.digest(source) == [
        (f"## Title\n\n**First.**\n\n{table}\n\n**Between.**", True),
        (f"## Title\n\n{table}", True),
        ("## Title\n\n* a list", False),
    ]


def test_type_shrinks_until_a_slide_fits(deck):
    page = deck(CHAPTERS[0]).page
    page.evaluate(
        "do Reveal.next(); while (Reveal.getCurrentSlide().querySelector('svg, table, pre'));"
        "Reveal.getCurrentSlide().insertAdjacentHTML('beforeend', '<p>line</p>'.repeat(14));"
        "Reveal.prev(); Reveal.next()"
    )
    assert page.evaluate("Reveal.getCurrentSlide().scrollHeight") <= HIGH
    assert 0.6 <= float(page.evaluate("Reveal.getCurrentSlide().style.fontSize")[:-2]) < 1


def test_slides_of_a_chapter_that_was_not_executed_are_refused(monkeypatch, capsys):
    monkeypatch.setattr(slides, "stored", lambda root, name: None)
    assert slides.build(ROOT) == 1
    assert "make book" in capsys.readouterr().out
