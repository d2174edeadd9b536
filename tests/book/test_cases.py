"""Roles and anchors of the pages, in a book of three pages (two seconds)."""

from __future__ import annotations

import io
import shutil

import pytest
from bs4 import BeautifulSoup
from sphinx.application import Sphinx
from sphinx.util.docutils import docutils_namespace

from casebook.book import cases, drill_prompts, mend
from casebook.project import require_checkout

ROOT = require_checkout()
PAGE = """\
# A page

{case}`01`, {case}`12`, {owner}`12`, [a term](glossary.md#wape), [other name](glossary.md#smape-2),
[of its own](glossary.md#own).
"""
GLOSSARY = """\
# Glossary

## W

### WAPE

<a id="own"></a>Text. *Also:* <a id="smape-2"></a>another.
"""


@pytest.fixture
def build(tmp_path):
    """Return a function that builds a small book; it returns the page and the warnings."""

    def run(page: str = PAGE, chapters: tuple[str, ...] = ("01_demand_forecasting",)):
        root = tmp_path / "book of three"
        shutil.rmtree(root, ignore_errors=True)
        (root / drill_prompts.FOLDER).mkdir(parents=True)
        index = drill_prompts.FOLDER / "_index.yml"
        shutil.copy(ROOT / index, root / index)
        (root / "index.md").write_text("# Index\n\n```{toctree}\n:glob:\nbook/*\nchapters/*\n```\n")
        (root / "book" / "page.md").write_text(page)
        (root / "book" / "glossary.md").write_text(GLOSSARY)
        (root / "chapters").mkdir()
        for name in chapters:
            (root / "chapters" / f"{name}.md").write_text(f"# {name}\n")
        warnings = io.StringIO()
        with docutils_namespace():
            app = Sphinx(
                srcdir=str(root),
                confdir=None,
                outdir=str(root / "_build"),
                doctreedir=str(root / "_build" / "doctrees"),
                buildername="html",
                confoverrides={
                    "extensions": ["myst_parser", "casebook.book.cases"],
                    "myst_heading_anchors": 3,
                    "html_theme": "basic",
                },
                status=None,
                warning=warnings,
                freshenv=True,
            )
            app.build()
        built = (root / "_build" / "book" / "page.html").read_text(encoding="utf-8")
        return BeautifulSoup(built, "html.parser").select_one("[role=main]"), warnings.getvalue()

    return run


def test_a_case_in_the_book_is_a_link_and_another_is_words(build):
    page, warnings = build()
    assert warnings == ""
    text = " ".join(page.get_text().split())
    assert text.startswith(
        "A page¶ chapter 01, demand forecasting, chapter 12, card fraud (in preparation), "
        "chapter 12, card fraud, a term"
    )
    links = {a.get_text(): a["href"] for a in page.select("p a")}
    assert links["chapter 01, demand forecasting"] == "../chapters/01_demand_forecasting.html"
    assert not any("card fraud" in name for name in links)


def test_a_case_that_joins_the_book_becomes_a_link(build):
    page, warnings = build(chapters=("01_demand_forecasting", "12_card_fraud"))
    assert warnings == ""
    assert "(in preparation)" not in page.get_text()
    joined = [a["href"] for a in page.select("p a") if "card fraud" in a.get_text()]
    assert joined == ["../chapters/12_card_fraud.html"] * 2


def test_an_id_in_the_html_of_a_page_can_be_linked_to(build):
    page, _ = build()
    links = {a.get_text(): a["href"] for a in page.select("p a")}
    assert links["other name"] == "glossary.html#smape-2"
    assert links["of its own"] == "glossary.html#own"


@pytest.mark.parametrize(
    ("page", "warning"),
    [
        ("{case}`77`", "there is no case '77'"),
        ("[a term](glossary.md#nowhere)", "local id not found"),
    ],
)
def test_gate_what_is_not_there_is_a_warning(build, page, warning):
    assert warning in build(f"# A page\n\n{page}\n")[1]


# What is left out of heavy pages


def page_with(headings: int) -> str:
    signs = '<h3>Term<a class="headerlink" href="#t" title="Link to this heading">#</a></h3>'
    link = (
        '<p><a class="reference internal" href="x.html"><span class="std std-ref">X</span></a></p>'
    )
    return f"<html><body>{signs * headings}{link}</body></html>"


def test_hundreds_of_headings_have_no_sign_and_links_no_wrapper():
    few = BeautifulSoup(mend.mend(page_with(mend.MOST_SIGNS)), "html.parser")
    many = BeautifulSoup(mend.mend(page_with(mend.MOST_SIGNS + 1)), "html.parser")
    assert len(few.select("a.headerlink")) == mend.MOST_SIGNS
    assert many.select("a.headerlink") == []
    assert len(many.select("h3")) == mend.MOST_SIGNS + 1
    assert [a.decode_contents() for a in many.select("p a")] == ["X"]


# The nearest chapter

ABOUT = {
    "a": {"forecast", "cost", "quantile"},
    "b": {"retrieval", "cost"},
    "c": {"forecast", "quantile"},
    "d": {"retrieval", "answer"},
    "e": {"alone"},
}


def test_a_case_that_is_not_there_leads_to_the_one_that_shares_most_with_it():
    assert cases.nearest(ABOUT, ["a", "b"]) == {"c": "a", "d": "b"}
    assert cases.nearest(ABOUT, ["b"]) == {"a": "b", "d": "b"}
    assert cases.nearest(ABOUT, ["a", "b", "c"]) == {"d": "b"}


def test_what_few_cases_have_counts_more_than_what_many_have():
    about = {"a": {"common", "usual"}, "b": {"rare"}, "c": {"common", "usual", "rare"}}
    about |= {name: {"common", "usual"} for name in "defgh"}
    assert cases.nearest(about, ["a", "b"])["c"] == "b"


def test_without_a_chapter_there_is_nothing_to_read():
    assert cases.nearest(ABOUT, []) == {}


def test_every_prompt_leads_to_a_chapter_of_its_kind():
    about = cases.ideas(ROOT)
    there = ["01_demand_forecasting", "12_card_fraud", "16_support_rag_chatbot"]
    found = cases.nearest(about, there)
    assert set(found) | set(there) == set(drill_prompts.chapters(drill_prompts.read_index(ROOT)))
    kinds = {
        "03_inventory_demand": "01_demand_forecasting",
        "13_aml_monitoring": "12_card_fraud",
        "18_knowledge_assistant": "16_support_rag_chatbot",
        "19_analytics_chatbot": "16_support_rag_chatbot",
    }
    assert {stem: found[stem] for stem in kinds} == kinds
    assert "hybrid retrieval" in about["18_knowledge_assistant"]  # a pattern
    assert "Part I, Forecasting and logistics" in about["03_inventory_demand"]
