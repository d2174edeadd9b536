"""Content checks: each finds its planted fault; the accepted counts only shrink."""

from __future__ import annotations

import warnings
from pathlib import Path

import nbformat
import pytest
import tiny

from casebook.author import content
from casebook.author.__main__ import main
from casebook.author.content import Block, Document
from casebook.project import require_checkout

ROOT = require_checkout()
CHAPTER = "chapters/01_planted.ipynb"
FENCE = "```"


@pytest.fixture(scope="module")
def found():
    """Return what the checks find in this checkout (two seconds)."""
    return content.findings(ROOT)


def test_no_dead_link_and_no_picture_without_a_text(found):
    assert [str(f) for f in found if f.check in content.ERRORS] == []


def test_no_count_has_grown_and_it_is_said_which_may_be_lowered(found):
    now, baseline = content.counts(found), content.read_baseline(ROOT)
    grown = content.grown(now, baseline)
    listed = "\n".join(
        str(f) for f in found if any(g.startswith(f"{f.check}: {f.document}:") for g in grown)
    )
    assert grown == [], f"mend one of these for each that is too many:\n{listed}"
    if shrunk := content.shrunk(now, baseline):
        lines = "\n".join(shrunk)
        warnings.warn(f"{content.BASELINE} may be lowered:\n{lines}", UserWarning, stacklevel=1)


def prose(source: str, name: str = CHAPTER) -> Document:
    return Document(name, (Block("planted", source),))


def code(source: str, name: str = CHAPTER) -> Document:
    return Document(name, (Block("planted", source, code=True),))


def said(found) -> list[str]:
    return [finding.what for finding in found]


# Spelling


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("We recieve parcels.", ["'recieve': receive?"]),
        ("The colors of a chart.", ["'colors': colours?"]),
        ("It was the the end.", ["'the the' twice"]),
        ("<details>\n<summary>Teh end</summary>\n\ntext\n\n</details>", ["'Teh': the?"]),
        ("All that that had had.", []),
        ("It covers 85% of them.", ["'85%': 85 %, with a space"]),
        ("It covers 85 % at recall@1% FPR; `85%` and {x:.1%} are code.", []),
        ("Write `recieve` and\n\n```python\nrecieve = color\n```", []),
        ("$recieve$ is a formula, [receive](recieve.md) a link.", []),
    ],
)
def test_spelling_of_prose(source, expected):
    assert said(content.spelling([prose(source)])) == expected


def test_spelling_of_what_a_cell_shows():
    cell = 'claim("We recieve {recieve}", recieve=1)\nax.set(title="Teh end")\nx = "recieve"'
    assert said(content.spelling([code(cell)])) == ["'recieve': receive?", "'Teh': the?"]


@pytest.mark.parametrize(
    ("word", "typo"),
    [
        *(("baseline", typo) for typo in ("baseeline", "basleine")),
        ("accurate", "acurate"),
        *(("distribution", typo) for typo in ("distribition", "distrbution", "distriobution")),
    ],
)
def test_a_rare_word_near_a_frequent_one_is_doubtful(word, typo):
    text = prose(f"{word}, " * 5 + typo)
    assert said(content.spelling([text])) == [
        f"{typo!r}: {word}? If it is right, words.toml accepts it"
    ]


def test_other_forms_of_a_word_and_accepted_ones_are_right(monkeypatch):
    text = prose(
        "contract, changed, models, forecasts, " * 5 + "contact, charged, model, Forecsats"
    )
    assert said(content.spelling([text])) == []
    doubtful = prose("causal, " * 5 + "casual")
    assert said(content.spelling([doubtful])) == [
        "'casual': causal? If it is right, words.toml accepts it"
    ]
    lists = content.word_lists() | {"accepted": ["casual"]}
    monkeypatch.setattr(content, "word_lists", lambda: lists)
    assert said(content.spelling([doubtful])) == []


def test_the_word_lists_do_not_contradict_each_other():
    lists = content.word_lists()
    wrong = lists["misspelt"] | lists["american"]
    assert len(wrong) == len(lists["misspelt"]) + len(lists["american"]) >= 150
    assert not set(wrong) & {m for meant in wrong.values() for m in meant.split()}
    assert not set(wrong) & set(lists["accepted"])
    assert all(word == word.lower() for word in wrong)


# Links and alternative texts


@pytest.fixture
def project(tmp_path) -> Path:
    """Return a folder with a page and a notebook to link to."""
    root = tiny.checkout(tmp_path / "project")
    (root / "tests").mkdir()
    (root / "book").mkdir()
    (root / "book" / "page.md").write_text(
        "# A page\n\n## What is *new*?\n\n## Twice\n\n## Twice\n\n<p id='mark'>here</p>\n"
    )
    tiny.add(root, "chapters/00_tiny.ipynb", tiny.prose("intro", "## The decision\n\nText."))
    return root


@pytest.mark.parametrize(
    ("link", "fault"),
    [
        ("../book/page.md", None),
        ("../book/page.md#what-is-new", None),
        ("../book/page.md#twice-1", None),
        ("../book/page.md#mark", None),
        ("../chapters/00_tiny.ipynb#the-decision", None),
        ("#here", None),
        ("https://example.org/no/such/page#x", None),
        ("../book/pages.md", "'../book/pages.md' leads to no file"),
        ("../../elsewhere.md", "'../../elsewhere.md' leads to no file"),
        ("../book/page.md#new", "'../book/page.md#new': no heading has that anchor"),
        ("#nowhere", "'#nowhere': no heading has that anchor"),
    ],
)
def test_links(project, link, fault):
    for source in (f"## Here\n\n[a link]({link})", f'## Here\n\nan <a href="{link}">old</a> one'):
        found = content.dead_links([prose(source)], project)
        assert said(found) == ([fault] if fault else [])


@pytest.mark.parametrize(
    ("planted", "expected"),
    [
        (prose("![](a.svg)"), "the picture 'a.svg' has no text"),
        (prose("<img src='b.svg'>"), "the picture 'b.svg' has no text"),
        (prose("in a line <img src='b.svg'> too"), "the picture 'b.svg' has no text"),
        (prose(f"{FENCE}mermaid\nflowchart\naccTitle: A\n{FENCE}"), "a diagram without accDescr"),
        (code("figures.show(fig)"), "figures.show without alt"),
        (code("figures.show(fig, alt='A plot')"), "an alternative text of 2 words (6 at least)"),
        (code("%matplotlib inline\nplt.show()"), "plt.show() shows no text"),
        (prose("![A line that rises](a.svg)"), None),
        (prose("<img src='b.svg' alt=''>"), None),
        (code("figures.show(fig, alt=text)"), None),
        (code("figures.show(fig, 'One line rises while the other falls')"), None),
    ],
)
def test_alternative_texts(planted, expected):
    found = said(content.missing_texts([planted]))
    assert len(found) == (expected is not None)
    assert expected is None or found[0].startswith(expected)


# What is counted


@pytest.mark.parametrize(
    ("source", "numbers"),
    [
        ("WAPE falls to 12.3 % here.", ["12.3 %"]),
        ("It is 12% better, by 1.5 points.", ["12%", "1.5"]),
        ("It costs 1,234.5 euro.", ["1,234.5"]),
        ("| fact | value |\n|---|---|\n| share | 12.3 % |", []),
        ("A 95 % interval, `12.3 %`, $1.5$ and Python 3.11.", []),
        ("Version 1.2.3, 76 regions, 2017.", []),
    ],
)
def test_typed_results(source, numbers):
    found = content.typed_results([prose(source)])
    assert [f.what.split("'")[1] for f in found] == numbers
    assert said(content.typed_results([prose(source, "solutions/01_planted.ipynb")])) == []


def test_prose_ratio():
    words = Block("text", "word " * 20)
    two, three = (Block("cell", "x = 1\n\n" * n, code=True) for n in (2, 3))
    assert said(content.prose_ratio([Document(CHAPTER, (words, two))])) == []
    assert said(content.prose_ratio([Document(CHAPTER, (words, three))])) == [
        "6.7 words for a line of code (10 at least)"
    ]
    assert said(content.prose_ratio([Document("book/page.md", (words,))])) == []
    hidden = Block("cell", "x = 1\n" * 9, code=True, folded=True)
    assert said(content.prose_ratio([Document(CHAPTER, (words, two, hidden))])) == []


@pytest.mark.parametrize(
    ("tags", "folded"), [(["hide-input"], True), (["solution", "hide-cell"], True), (["a"], False)]
)
def test_a_cell_is_folded_by_its_tags(tmp_path, tags, folded):
    cell = nbformat.v4.new_code_cell("x = 1", id="one", metadata={"tags": tags})
    path = tmp_path / "chapters" / "01_planted.ipynb"
    path.parent.mkdir()
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), path)
    assert [block.folded for block in content.read(path, tmp_path).blocks] == [folded]


def test_cell_length():
    assert said(content.long_cells([code("x = 1\n\n" * 20)])) == []
    assert said(content.long_cells([code("x = 1\n" * 21)])) == [
        "21 lines: at most 20, longer code lives in the package"
    ]


def test_sources(project):
    text = prose(
        "Taylor and Letham (2018), Salinas et al. (2020), (Lim, 2021), March (2021); "
        "[one](https://example.org/one), [two](https://doi.org/10.1/x), "
        "[ours](https://github.com/ml-systems-casebook/ml-systems-casebook/issues)"
    )
    without = said(content.uncited_sources([text], project))
    assert [line.split(" is not")[0] for line in without] == [
        "https://example.org/one",
        "https://doi.org/10.1/x",
        "'Taylor and Letham (2018)'",
        "'Salinas et al. (2020)'",
        "'Lim, 2021)'",
    ]
    (project / content.BIBLIOGRAPHY).write_text(
        "@article{a, author={Taylor, A. and Letham, B.}, year={2018}, url={https://example.org/one/}}\n"
        "@article{b, author={Salinas, D.}, year={2020}, doi={10.1/x}}\n"
        "@article{c, author={Lim, B.}, year={2020}}\n"
    )
    assert said(content.uncited_sources([text], project)) == [
        "'Lim, 2021)' is not in book/references.bib"
    ]


# The baseline


def test_counts_may_only_shrink(project):
    old = {"cell length": {CHAPTER: 3, "gone": 1}, "spelling": {CHAPTER: 1}}
    content.write_baseline(project, old)
    assert content.read_baseline(project) == old
    now = {"cell length": {CHAPTER: 2}, "spelling": {CHAPTER: 2}, "sources": {CHAPTER: 1}}
    assert content.grown(now, old) == [
        f"spelling: {CHAPTER}: 2, accepted 1",
        f"sources: {CHAPTER}: 1, accepted 0",
    ]
    assert content.shrunk(now, old) == [
        f"cell length: {CHAPTER}: 2, accepted 3",
        "cell length: gone: 0, accepted 1",
    ]
    assert content.lower(now, old) == {"cell length": {CHAPTER: 2}, "spelling": {CHAPTER: 1}}


def test_an_unknown_check_in_the_baseline_is_refused(project):
    (project / content.BASELINE).write_text('["cell lenght"]\n"a" = 1\n')
    with pytest.raises(ValueError, match="cell lenght"):
        content.read_baseline(project)


def test_the_command(project, capsys):
    path = tiny.add(project, "chapters/00_tiny.ipynb", tiny.prose("intro", "We recieve it."))
    command = ["--root", str(project), "content"]
    assert main(command) == 1
    shown = capsys.readouterr().out
    assert "spelling: chapters/00_tiny.ipynb, intro: 'recieve': receive?" in shown
    assert "more than accepted: spelling: chapters/00_tiny.ipynb: 1, accepted 0" in shown

    content.write_baseline(project, {"spelling": {"chapters/00_tiny.ipynb": 1}})
    assert main(command) == 0
    tiny.plant(path, "intro", source="We receive it.")
    assert main(command) == 0
    assert "may be lowered" in capsys.readouterr().out
    assert main([*command, "--lower"]) == 0
    assert content.read_baseline(project) == {}

    tiny.plant(path, "intro", source="[dead](nowhere.md)")
    assert main(command) == 1
    assert "1 errors" in capsys.readouterr().out


# Terms of the glossary


@pytest.fixture
def with_glossary(tmp_path) -> Path:
    """Return a folder with a glossary of two entries."""
    (tmp_path / "book").mkdir()
    (tmp_path / "book" / "glossary.yml").write_text(
        "terms:\n- {term: WAPE, also: [weighted absolute percentage error]}\n- {term: MinT}\n"
    )
    return tmp_path


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("The **weighted absolute percentage\nerror** is", ["weighted-absolute-percentage-error"]),
        ("**WAPE** and **WAPE** again", ["wape"]),
        ("**MinT.** Then **WAPE**.", ["mint", "wape"]),
        ("The **[WAPE](../book/glossary.md#wape)** is", []),
        ("**WAPE** … see [its error](../book/glossary.md#weighted-absolute-percentage-error)", []),
        ("WAPE in passing, and **something else** in bold", []),
        ("| **WAPE** |\n|---|\n| of a table |", []),
    ],
)
def test_a_term_that_a_chapter_explains_is_linked(with_glossary, source, expected):
    found = said(content.unlinked_terms([prose(source)], with_glossary))
    assert [what.partition("#")[2] for what in found] == expected
    assert said(content.unlinked_terms([prose(source, "book/page.md")], with_glossary)) == []


def test_without_a_glossary_no_term_is_asked_for(tmp_path):
    assert said(content.unlinked_terms([prose("**WAPE**")], tmp_path)) == []


def test_titles_of_the_bibliography_keep_their_spelling():
    assert said(content.spelling([prose("On Modeling", "book/bibliography.md")])) == []
    assert said(content.spelling([prose("On Modeling", "book/page.md")])) == [
        "'Modeling': modelling?"
    ]
