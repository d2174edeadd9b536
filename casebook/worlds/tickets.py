"""What subscribers write in tickets: a question or a complaint about a part of the product.

A text is made of an area, an opening and a closing phrase. Which phrases a text has depends on
whether its writer is unhappy, and the unhappy write politely at times: one word decides nothing.
:mod:`casebook.features.mood` learns to read them.

Examples
--------
>>> write(np.random.default_rng(3), np.array([True]))[0]
'Once again notifications does not work. This is not what we pay for.'
"""

from __future__ import annotations

import numpy as np

AREAS = (
    "the export",
    "the login",
    "our invoice",
    "the report builder",
    "the import",
    "user rights",
    "the mobile app",
    "the calendar",
    "notifications",
    "the search",
)
CALM = (
    "How do I set up {}?",
    "Where can I find the settings of {}?",
    "Could you explain {} to a new colleague?",
    "Is there a guide for {}?",
    "We would like to change {}.",
    "A small question about {}.",
)
UPSET = (
    "Once again {} does not work.",
    "This is the third time that {} fails.",
    "We have lost a day because of {}.",
    "Nobody could tell us why {} is so slow.",
    "Our team has stopped using {}.",
    "I asked about {} last week and heard nothing.",
)
KIND = ("Thank you!", "Many thanks in advance.", "No hurry.", "Have a good day.")
TENSE = (
    "Please treat this as urgent.",
    "We are thinking about alternatives.",
    "I expect an answer today.",
    "This is not what we pay for.",
)


def write(rng: np.random.Generator, upset: np.ndarray) -> np.ndarray:
    """Return a text for each ticket; one phrase in five of the unhappy is calm, and vice versa."""
    n = len(upset)
    area = np.array(AREAS)[rng.integers(len(AREAS), size=n)]
    first, last = (upset ^ (rng.random(n) < 0.2) for _ in range(2))
    opening = np.array([*CALM, *UPSET], object)[rng.integers(6, size=n) + 6 * first]
    closing = np.array([*KIND, *TENSE], object)[rng.integers(4, size=n) + 4 * last]
    made = [f"{o.replace('{}', a)} {c}" for o, a, c in zip(opening, area, closing, strict=True)]
    return np.array(made, object)
