"""What the tests of a case's exercise share."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def chapters_world(monkeypatch):
    """The exercise's own numbers, and no student's, wherever the tests run."""
    monkeypatch.delenv("CASEBOOK_STUDENT_SEED", raising=False)


def message(question, *answers) -> str:
    """Return what a wrong answer is told."""
    outcome = question.outcome(*answers)
    assert outcome.status == "wrong"
    return outcome.message
