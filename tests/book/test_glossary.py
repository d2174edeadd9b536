"""The glossary: complete, in order, each name once, and its page as its data say (a second)."""

from __future__ import annotations

import copy
import re

import pytest

from casebook.author.content import anchors, glossary_anchors, links, read, slug
from casebook.book import cases, drill_prompts, glossary, reference
from casebook.project import require_checkout

ROOT = require_checkout()
KNOWN = cases.stems(ROOT)
DATA = glossary.read(ROOT)
#: Names of the five documents that the course grew from, at least: it may only grow.
LEAST_NAMES = {
    "AI system design scenarios": 490,
    "case studies overview": 250,
    "ML system design scenarios": 290,
    "business case studies": 295,
    "use-case analysis template": 250,
}


def test_the_glossary_has_no_fault():
    assert glossary.faults(DATA, KNOWN) == []


def test_the_written_pages_are_what_their_data_say():
    """`python -m casebook.book.reference` writes them."""
    assert reference.stale(ROOT) == []


def test_every_source_is_covered_and_no_term_of_it_was_dropped():
    assert {name: len(set(terms)) for name, terms in DATA["sources"].items()}.keys() == (
        LEAST_NAMES.keys()
    )
    for source, least in LEAST_NAMES.items():
        assert len(set(DATA["sources"][source])) >= least, source


def test_each_role_has_terms_and_each_chapter_owns_some():
    roles = [role for entry in DATA["terms"] for role in entry["roles"]]
    assert all(roles.count(role) >= 50 for role in glossary.ROLES)
    owned = {p.partition("#")[0] for entry in DATA["terms"] for p in entry["see"]}
    assert set(KNOWN) <= owned


def test_every_name_is_an_anchor_of_the_page():
    page = read(ROOT / glossary.PAGE, ROOT)
    named = {slug(name) for entry in DATA["terms"] for name in glossary.names(entry)}
    assert named <= anchors(page)
    assert set(glossary_anchors(ROOT)) == named


def test_front_matter_links_to_the_glossary():
    for name in ("method", "costs", "answers", "template", "patterns"):
        page = read(ROOT / "book" / f"{name}.md", ROOT)
        into = {link for block in page.prose for link in links(block) if "glossary.md#" in link}
        assert len(into) >= 2, name


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("text", "", "should be non-empty"),
        ("text", "Too short.", "2 words"),
        ("text", "word " * 80 + "end.", "81 words"),
        (
            "text",
            "One is here. Two is here. Three. Four. Five is too many.",
            "more than 4 sentences",
        ),
        ("text", "A definition that does not come to an end", "does not end as a sentence"),
        ("roles", ["CEO"], "is not one of"),
        ("roles", [], "should be non-empty"),
        ("see", ["77"], "there is no case '77'"),
        ("see", [], "should be non-empty"),
        ("also", ["A/A test"], "'A/A test' stands in A/A test already"),
        ("term", "WAPEs", "not in alphabetical order"),
        ("notes", "something", "Additional properties"),
    ],
)
def test_gate_planted_fault_of_an_entry(path, value, message):
    planted = copy.deepcopy(DATA)
    entry = next(e for e in planted["terms"] if e["term"] == "calibration")
    entry[path] = value
    found = glossary.faults(planted, KNOWN)
    assert any(message in fault for fault in found), found


def test_gate_a_term_twice_one_that_is_missing_and_a_wrong_order():
    planted = copy.deepcopy(DATA)
    planted["terms"].insert(5, copy.deepcopy(planted["terms"][4]))
    assert any("already" in fault for fault in glossary.faults(planted, KNOWN))

    planted = copy.deepcopy(DATA)
    planted["terms"] = [e for e in planted["terms"] if e["term"] != "conformal prediction"]
    found = glossary.faults(planted, KNOWN)
    assert "case studies overview: 'conformal prediction' has no entry" in found

    planted = copy.deepcopy(DATA)
    planted["terms"].reverse()
    assert any("not in alphabetical order" in fault for fault in glossary.faults(planted, KNOWN))


def test_gate_a_page_that_was_edited_by_hand(tmp_path):
    for path in (
        glossary.SOURCE,
        glossary.PAGE,
        *(p for p in reference.PAGES),
        drill_prompts.FOLDER,
    ):
        target = tmp_path / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if path == drill_prompts.FOLDER:
            target.mkdir()
            (target / "_index.yml").write_text((ROOT / path / "_index.yml").read_text())
        else:
            target.write_text((ROOT / path).read_text(encoding="utf-8"), encoding="utf-8")
    (tmp_path / "book" / "references.bib").write_text(
        (ROOT / "book" / "references.bib").read_text(encoding="utf-8"), encoding="utf-8"
    )
    assert reference.stale(tmp_path) == []
    page = tmp_path / glossary.PAGE
    page.write_text(page.read_text(encoding="utf-8").replace("Every term", "Each term"))
    assert reference.stale(tmp_path) == [glossary.PAGE]
    assert reference.write(tmp_path) == [glossary.PAGE]
    assert reference.stale(tmp_path) == []


# Names of cases


@pytest.mark.parametrize(
    ("stem", "written"),
    [
        ("07_subscription_churn", "chapter 07, subscription churn"),
        ("10_ab_testing", "chapter 10, A/B testing"),
        ("16_support_rag_chatbot", "chapter 16, support RAG chatbot"),
        ("A_lead_scoring", "capstone A, lead scoring"),
    ],
)
def test_a_case_is_written_as_one_says_it(stem, written):
    assert cases.written(stem) == written


def test_all_cases_are_known_by_number_or_letter():
    assert len(KNOWN) == 1 + 21 + 4
    assert cases.page(KNOWN["12"]) == "chapters/12_card_fraud"
    assert cases.page(KNOWN["A"]) == "exercises/A_lead_scoring"


def test_pages_name_only_cases_that_there_are():
    for path in (ROOT / "book").rglob("*.md"):
        for name in re.findall(r"\{(?:case|owner)\}`([^`]*)`", path.read_text(encoding="utf-8")):
            assert name in KNOWN, f"{path.name}: {name}"
