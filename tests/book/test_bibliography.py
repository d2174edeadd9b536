"""The bibliography: every entry has the form of a citation that can be looked up (a second).

A form can be checked here, the truth of an entry cannot: only what was looked up is written.
"""

from __future__ import annotations

import pytest
from pybtex.database import Entry, parse_string

from casebook.author import content
from casebook.book import bibliography
from casebook.project import require_checkout

ROOT = require_checkout()
DATA = bibliography.read(ROOT)

GOOD = """\
@article{arrow1951,
  author = {Arrow, Kenneth J. and Harris, Theodore},
  title = {Optimal Inventory Policy},
  journal = {Econometrica},
  volume = {19},
  pages = {250--272},
  year = {1951},
  doi = {10.2307/1906813},
}"""


def test_the_bibliography_has_no_fault():
    assert bibliography.faults(DATA) == []
    assert len(DATA.entries) >= 100


def test_each_source_that_a_page_names_has_an_entry():
    found = content.uncited_sources(content.documents(ROOT), ROOT)
    allowed = content.read_baseline(ROOT).get("sources", {})
    assert [str(f) for f in found if f.document not in allowed] == []


def test_each_entry_is_an_anchor_of_the_page():
    page = content.read(ROOT / bibliography.PAGE, ROOT)
    assert set(DATA.entries) <= content.anchors(page)


def entry(text: str) -> tuple[str, Entry]:
    return next(iter(parse_string(text, "bibtex").entries.items()))


def test_a_right_entry_passes_and_is_shown_with_its_doi():
    key, parsed = entry(GOOD)
    assert bibliography.entry_faults(key, parsed) == []
    assert bibliography.line(key, parsed) == (
        '- <a id="arrow1951"></a>K. J. Arrow and T. Harris (1951). Optimal Inventory Policy. '
        "*Econometrica* 19, 250–272. [doi:10.2307/1906813](https://doi.org/10.2307/1906813)."
    )


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("  author = {Arrow, Kenneth J. and Harris, Theodore},\n", "", "has no author"),
        ("  title = {Optimal Inventory Policy},\n", "", "has no title"),
        ("  journal = {Econometrica},\n", "", "has no journal"),
        ("  year = {1951},\n", "", "has no year"),
        ("{1951}", "{to appear}", "is no year from"),
        ("{1951}", "{2031}", "is no year from"),
        ("{1951}", "{1952}", "the key does not name Arrow and 1952"),
        ("arrow1951,", "harris1951,", "the key does not name Arrow and 1951"),
        ("arrow1951,", "arrow-1951,", "the key is not of the form"),
        ("10.2307/1906813", "https://doi.org/10.2307/1906813", "is no DOI"),
        ("10.2307/1906813", "1906813", "is no DOI"),
        ("{250--272}", "{250-272}", "are not of the form"),
        ("{250--272}", "{272--250}", "run backwards"),
        ("doi = {10.2307/1906813}", "eprint = {19068}", "is no number of arXiv"),
        ("doi = {10.2307/1906813}", "isbn = {978-1-098-10796-4}", "check digit is wrong"),
        ("doi = {10.2307/1906813}", "url = {http://example.org/a}", "no address that begins"),
        ("@article", "@unpublished", "is none of"),
        (
            "  pages = {250--272},\n  year = {1951},\n  doi = {10.2307/1906813},",
            "  year = {1951},",
            "cannot be looked up",
        ),
    ],
)
def test_gate_planted_fault_of_an_entry(old, new, message):
    assert old in GOOD
    found = bibliography.entry_faults(*entry(GOOD.replace(old, new)))
    assert any(message in fault for fault in found), found


def test_gate_the_same_work_twice_and_a_wrong_order():
    twice = GOOD + "\n" + GOOD.replace("arrow1951", "arrow1951b")
    found = bibliography.faults(parse_string(twice, "bibtex"))
    assert any("doi stands in arrow1951 already" in fault for fault in found)
    assert any("title stands in arrow1951 already" in fault for fault in found)
    other = GOOD.replace("arrow1951", "aaa1951").replace("10.2307/", "10.2308/")
    unsorted = GOOD + "\n" + other.replace("Optimal", "Other").replace("{Arrow,", "{Aaa,")
    found = bibliography.faults(parse_string(unsorted, "bibtex"))
    assert found == ["not in alphabetical order: arrow1951"]


def test_gate_a_source_without_an_entry(tmp_path):
    (tmp_path / "book").mkdir()
    (tmp_path / "book" / "references.bib").write_text(GOOD)
    text = "Arrow (1951) and Nobody (2019) and Le Borgne et al. (2022); see https://example.org."
    page = content.Document("book/page.md", (content.Block("", text + "\n\n<https://a.org/x>"),))
    found = [f.what for f in content.uncited_sources([page], tmp_path)]
    assert [what.split(" is not")[0] for what in found] == [
        "https://a.org/x",
        "'Nobody (2019)'",
        "'Borgne et al. (2022)'",
    ]
    real = content.Document("book/page.md", (content.Block("", "Le Borgne et al. (2022)."),))
    assert list(content.uncited_sources([real], ROOT)) == []


def test_accents_particles_and_many_authors_are_handled():
    assert bibliography.ascii_letters("Künzel") == "kunzel"
    assert bibliography.ascii_letters("Dal Pozzolo") == "dalpozzolo"
    page = bibliography.page(ROOT)
    assert "S. Larson and 10 others (2019)" in page
    assert "H. van Hoof" in page
    assert "European Central Bank (2021)" in page
