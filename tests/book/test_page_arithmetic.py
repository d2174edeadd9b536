"""The arithmetic of the front-matter pages: each stated result is computed anew.

A page states a sum in a comment of the paragraph that shows its result::

    Ten million parcels a day are 115.7 a second.
    <!-- check: 10_000_000 / 86_400 = 115.7 -->

The check wants the value, to the digits typed, and the number in that paragraph; and each
``= number`` that a paragraph shows must be the result of such a line. Costs under a second.
"""

from __future__ import annotations

import re

import pytest

from casebook.book.drill_prompts import evaluate
from casebook.project import require_checkout

BOOK = require_checkout() / "book"
PAGES = ("method.md", "costs.md", "template.md", "answers.md", "paths.md")
_CHECK = re.compile(r"^<!-- check: (?P<sum>.+) = (?P<given>-?[\d,]*\.?\d+) -->$")
_SHOWN = re.compile(r"[=≈] *(?:about )?([−-]?\d[\d,]*(?:\.\d+)?)(?![\d.]*\s*[×/+*])")


def paragraphs(text: str) -> list[str]:
    """Return the paragraphs of a page, without fenced blocks and display formulas."""
    text = re.sub(r"^(```|~~~)[\s\S]*?^\1$", "", text, flags=re.M)
    text = re.sub(r"^\$\$[\s\S]*?^\$\$$", "", text, flags=re.M)
    return re.split(r"\n\s*\n", text)


def stands_in(number: str, text: str) -> bool:
    """Return whether a number stands in a text as a number of its own."""
    return re.search(rf"(?<![\d.,]){re.escape(number)}(?![\d]|[.,]\d)", text) is not None


def faults(text: str) -> list[str]:
    """Return what is wrong with the arithmetic of a page."""
    found = []
    seen = 0
    for paragraph in paragraphs(text):
        lines = paragraph.strip().splitlines()
        checks = [line for line in lines if line.startswith("<!-- check:")]
        prose = "\n".join(line for line in lines if not line.startswith("<!--"))
        seen += len(checks)
        results = set()
        for line in checks:
            match = _CHECK.match(line)
            if not match:
                found.append(f"not of the form `<!-- check: sum = number -->`: {line}")
                continue
            given = match["given"]
            results.add(given)
            try:
                value = evaluate(match["sum"])
            except ValueError as error:
                found.append(str(error))
                continue
            decimals = len(given.partition(".")[2])
            if abs(value - float(given.replace(",", ""))) > 0.5 * 10.0**-decimals + 1e-9:
                found.append(f"{match['sum']} is {value:.6g}, not {given}")
            if not stands_in(given, prose):
                found.append(f"{given} does not stand in the paragraph of its check: {prose[:60]}")
        for number in _SHOWN.findall(prose.replace("$", "")):
            if number.replace("−", "-") not in results:
                found.append(f"= {number} has no check: {prose[:60]}")
    if seen != text.count("<!-- check"):
        found.append(f"{text.count('<!-- check') - seen} checks stand where nobody reads them")
    return found


@pytest.mark.parametrize("page", PAGES)
def test_the_sums_of_a_page_are_right(page):
    path = BOOK / page
    text = path.read_text(encoding="utf-8")
    assert "<!-- check:" in text, f"{page} states no sum"
    assert faults(text) == []


GOOD = "Ten million a day are 115.7 a second.\n<!-- check: 10_000_000 / 86_400 = 115.7 -->"


def test_a_right_sum_passes():
    assert faults(GOOD) == []


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("86_400", "84_600", "is 118.203, not 115.7"),
        ("are 115.7", "are 116", "does not stand in the paragraph"),
        ("are 115.7", "are 115.75", "does not stand in the paragraph"),
        ("are 115.7", "are 1,115.7", "does not stand in the paragraph"),
        ("second.\n", "second.\n\n", "does not stand in the paragraph"),
        ("10_000_000 /", "__import__('os').getpid() /", "is not a sum of numbers"),
        ("86_400", "(1 - 1)", "cannot be computed"),
        ("check: 10_000_000 / 86_400 =", "check: 10_000_000 / 86_400", "not of the form"),
        ("Ten", "```text\nTen", "stand where nobody reads"),
        ("<!--", "So: <!--", "stand where nobody reads"),
        ("a second.", "a second, and 3 × 4 = 13.", "= 13 has no check"),
    ],
)
def test_a_planted_fault_is_found(old, new, complaint):
    assert old in GOOD
    assert any(complaint in fault for fault in faults(GOOD.replace(old, new) + "\n```\n"))
