"""Minutes are declared once, and every notebook of the case says the same."""

from __future__ import annotations

import pytest
import tiny
from tiny import ROOT

from casebook.author import files, minutes
from casebook.author.__main__ import main

DECLARED = {"read": 20, "run": 0.5, "exercise": 25}
SAID = "# Tiny\n\n**Time:** 20 minutes to read, half a minute to run."
ASKED = "# Tiny\n\n**Time:** 25 minutes."


@pytest.fixture
def write(checkout):
    """Return a function that writes a chapter and its solution and returns the faults."""

    def case(said=SAID, asked=ASKED, declared=DECLARED, difficulty="easy"):
        for room, title in (("chapters", said), ("solutions", asked)):
            path = tiny.add(checkout, f"{room}/00_tiny.ipynb")
            notebook = files.read(path)
            notebook.cells[0].source = title
            if room == "chapters" and declared is not None:
                notebook.metadata.casebook = {"minutes": declared, "difficulty": difficulty}
            files.write(notebook, path)
        return minutes.faults(checkout)

    return case


def test_the_notebooks_of_this_repository_agree():
    assert minutes.faults(ROOT) == []
    for path in files.notebooks("chapters", root=ROOT):
        assert minutes.declared(files.read(path)).keys() == set(minutes.KEYS)


def test_a_case_that_agrees(write):
    assert write() == []


@pytest.mark.parametrize(
    ("planted", "fault"),
    [
        (
            {"said": SAID.replace("20", "45")},
            "must say '20 minutes to read, half a minute to run.'",
        ),
        ({"said": SAID.replace("half a", "one")}, "must say '20 minutes to read, half a minute"),
        ({"asked": ASKED.replace("25", "75")}, "solutions/00_tiny.ipynb: the first cell must say"),
        ({"asked": "# Tiny"}, "solutions/00_tiny.ipynb: the first cell must say"),
        ({"declared": None}, "the metadata casebook.minutes are {}"),
        ({"declared": DECLARED | {"read": 0}}, "the metadata casebook.minutes are"),
        ({"declared": {"read": 20}}, "the metadata casebook.minutes are {'read': 20}"),
        ({"difficulty": "fair"}, "the metadata casebook.difficulty is 'fair'"),
    ],
)
def test_a_planted_difference_is_found(write, planted, fault):
    [found] = write(**planted)
    assert fault in found


def test_a_chapter_that_was_only_begun_declares_nothing(write):
    assert write(said="# Tiny\n\n**Time:** …", asked=ASKED, declared=None) == []


def test_check_lists_them(checkout, write, capfd):
    [fault] = write(said=SAID.replace("20", "45"))
    main(["--root", str(checkout), "check"])
    assert fault in capfd.readouterr().out.splitlines()


def test_normalise_keeps_what_is_declared(checkout, write):
    write()
    main(["--root", str(checkout), "normalise"])
    assert files.read(checkout / "chapters/00_tiny.ipynb").metadata.casebook == {
        "minutes": DECLARED,
        "difficulty": "easy",
    }
