"""Between the editors and the index: what an article of this help centre must be like."""

from __future__ import annotations

from casebook.data.contracts import ContractBroken
from casebook.serving.admission import Admission, Field

__all__ = ["ARTICLES", "ContractBroken"]

#: The contract of the articles, which have 99 words and more. No phrase of theirs is taken for an
#: attack, so none is approved.
ARTICLES = Admission(
    languages=("en", "de", "es"),
    hosts=("carrier.example",),
    fields={
        "number": Field(
            "number is not of the form", "write it as KB- and four digits", r"KB-\d{4}"
        ),
        "audience": Field(
            "unknown readers",
            "an article is for readers who are private or business",
            "private|business",
        ),
    },
)
