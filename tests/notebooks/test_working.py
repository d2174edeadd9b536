"""A reader's answers survive every command, and each exercise has a copy to work on."""

from __future__ import annotations

import pytest
import tiny
from tiny import ROOT, prose

from casebook.author import exercises, files, working
from casebook.author.__main__ import main

CASE = "00_how_a_case_works"
EXERCISE = f"exercises/{CASE}.ipynb"
ANSWER = "share = 0.125  # mine"


@pytest.fixture
def checkout(tmp_path):
    """Return a checkout with the committed solutions and exercises, and one tiny chapter."""
    root = tiny.checkout(tmp_path / "course", "solutions", "exercises")
    tiny.add(root, f"chapters/{CASE}.ipynb", prose("text", "Words."))
    return root


def answer(path, source: str = ANSWER) -> None:
    """Write an answer into the first answer cell, as JupyterLab saves it: with an output."""
    notebook = files.read(path)
    cell = notebook.cells[exercises.answer_cells(notebook)[1]]
    cell.source, cell.execution_count = source, 7
    files.write(notebook, path)


def run(root, *arguments, capfd) -> tuple[int, str]:
    code = main(["--root", str(root), *arguments])
    return code, capfd.readouterr().out


def holds(path, source: str = ANSWER) -> bool:
    return any(cell.source == source for cell in files.read(path).cells)


def older(path) -> None:
    """Make an exercise that an earlier release generated."""
    notebook = files.read(path)
    notebook.cells[3].source += "\n# of an earlier release"
    notebook.metadata.casebook[working.GENERATED] = working.fingerprint(notebook)
    files.write(notebook, path)


# Commands that write exercises.

COMMANDS = (
    ("work",),
    ("normalise",),
    ("check",),
    ("exercises",),
    ("record", "00"),
    ("release", "v9.9"),
)


def test_answers_survive_every_command(checkout, capfd, monkeypatch):
    """The reader's situation: answers in exercises/, then each command in turn."""
    # Recording must not take minutes here; what it writes afterwards is what is tested.
    monkeypatch.setattr("casebook.author.__main__.execute", lambda *_: 0.0)
    answer(checkout / EXERCISE)
    before = (checkout / EXERCISE).read_bytes()
    for command in COMMANDS:
        run(checkout, *command, capfd=capfd)
        assert (checkout / EXERCISE).read_bytes() == before, command
    assert holds(checkout / "work" / f"{CASE}.ipynb")


def test_a_held_exercise_is_named_with_its_copy_and_the_flag(checkout, capfd):
    answer(checkout / EXERCISE)
    code, said = run(checkout, "exercises", capfd=capfd)
    assert code == 1
    assert said.startswith(f"held        {EXERCISE} has answers (answer-1) and is not replaced.")
    assert f"work/{CASE}.ipynb" in said and "OVERWRITE=1" in said and "--overwrite" in said
    code, said = run(checkout, "exercises", "--overwrite", capfd=capfd)
    assert code == 0
    assert said.splitlines()[-1] == f"generated   {EXERCISE}"
    assert (checkout / EXERCISE).read_bytes() == (ROOT / EXERCISE).read_bytes()
    assert holds(checkout / "work" / f"{CASE}.ipynb")


def test_check_does_not_advise_to_lose_answers(checkout, capfd):
    answer(checkout / EXERCISE)
    code, said = run(checkout, "check", capfd=capfd)
    assert code == 1
    [fault] = said.splitlines()
    assert fault.startswith(f"{EXERCISE}: has answers (answer-1)")
    assert "make exercises" not in fault and "work/" in fault


def test_a_release_writes_nothing_where_an_exercise_holds_answers(checkout, capfd):
    answer(checkout / EXERCISE)
    names = ("pyproject.toml", f"chapters/{CASE}.ipynb", "exercises/12_card_fraud.ipynb")
    before = [(checkout / name).read_bytes() for name in names]
    code, said = run(checkout, "release", "v9.9", capfd=capfd)
    assert code == 1 and "held" in said
    assert [(checkout / name).read_bytes() for name in names] == before


def test_record_writes_the_exercise_of_its_case_only(checkout, capfd, monkeypatch):
    monkeypatch.setattr("casebook.author.__main__.execute", lambda *_: 0.0)
    other = checkout / "exercises" / "12_card_fraud.ipynb"
    for path in (checkout / EXERCISE, other):
        older(path)
    before = other.read_bytes()
    assert run(checkout, "record", "00", capfd=capfd)[0] == 0
    assert (checkout / EXERCISE).read_bytes() == (ROOT / EXERCISE).read_bytes()
    assert other.read_bytes() == before


def test_an_untouched_exercise_of_an_earlier_release_is_replaced(checkout, capfd):
    older(checkout / EXERCISE)
    assert run(checkout, "exercises", capfd=capfd) == (0, f"generated   {EXERCISE}\n")
    assert not (checkout / "work").exists()


def test_notes_outside_of_answers_are_copied_before_they_are_replaced(checkout, capfd):
    path = checkout / EXERCISE
    notebook = files.read(path)
    notebook.cells.append(prose("mine", "What I learned."))
    files.write(notebook, path)
    code, said = run(checkout, "exercises", capfd=capfd)
    assert code == 0
    assert said.splitlines()[0].startswith(f"kept        work/{CASE}.ipynb")
    assert holds(checkout / "work" / f"{CASE}.ipynb", "What I learned.")


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda cell: None, []),
        (lambda cell: cell.update(outputs=[], execution_count=3), []),
        (lambda cell: cell.update(source=f"{cell.source}\n"), ["answer-1"]),
        (lambda cell: cell.update(source=""), ["answer-1"]),
        (lambda cell: cell.metadata.nbgrader.pop("checksum"), ["answer-1"]),
    ],
    ids=["untouched", "run", "a line more", "emptied", "without its checksum"],
)
def test_what_counts_as_an_answer(change, found):
    notebook = files.read(ROOT / EXERCISE)
    change(notebook.cells[exercises.answer_cells(notebook)[1]])
    assert working.answered(notebook) == found


# Working copies.


def test_each_exercise_gets_a_copy_once(checkout, capfd):
    code, said = run(checkout, "work", capfd=capfd)
    names = [path.name for path in files.notebooks("exercises", root=checkout)]
    assert (code, len(said.splitlines())) == (0, len(names))
    assert sorted(path.name for path in (checkout / "work").iterdir()) == names
    assert run(checkout, "work", capfd=capfd) == (0, "")
    copied = files.read(checkout / "work" / f"{CASE}.ipynb")
    assert [c.source for c in copied.cells] == [c.source for c in files.read(ROOT / EXERCISE).cells]


def test_a_copy_is_never_written_again(checkout, capfd):
    run(checkout, "work", capfd=capfd)
    mine = checkout / "work" / f"{CASE}.ipynb"
    answer(mine)
    before = mine.read_bytes()
    older(checkout / EXERCISE)
    said = run(checkout, "work", capfd=capfd)[1]
    assert mine.read_bytes() == before
    newer = checkout / "work" / f"{CASE}-2.ipynb"
    assert said == (
        f"made        work/{newer.name}: your copy of {EXERCISE}, which has changed; "
        f"your answers are in work/{mine.name}\n"
    )
    note = files.read(newer).cells[1]
    assert note.id == working.NOTE_ID and f"({mine.name})" in note.source
    answer(newer, "share = 2")
    assert run(checkout, "work", capfd=capfd)[1] == ""
    assert holds(newer, "share = 2")


def test_answers_in_the_exercise_itself_are_taken_along(checkout, capfd):
    answer(checkout / EXERCISE)
    said = run(checkout, "work", capfd=capfd)[1]
    assert "with the answers that you wrote there (answer-1)" in said
    assert holds(checkout / "work" / f"{CASE}.ipynb")


def test_a_file_that_is_no_notebook_is_left_alone(checkout, capfd):
    (checkout / "work").mkdir()
    broken = checkout / "work" / f"{CASE}.ipynb"
    broken.write_text("not JSON", encoding="utf-8")
    assert run(checkout, "work", capfd=capfd)[0] == 0
    assert broken.read_text(encoding="utf-8") == "not JSON"
    assert (checkout / "work" / f"{CASE}-2.ipynb").is_file()


@pytest.mark.parametrize("number", [2, 3, 10])
def test_copies_are_counted_in_their_order(tmp_path, number):
    (tmp_path / "work").mkdir()
    for name in ("00_a", f"00_a-{number}", "00_a-b", "00_ab", "01_a"):
        (tmp_path / "work" / f"{name}.ipynb").touch()
    assert [p.stem for p in working.copies(tmp_path, "00_a")] == ["00_a", f"00_a-{number}"]


def test_the_exercise_says_where_answers_are_kept():
    [badges] = [c for c in files.read(ROOT / EXERCISE).cells if c.id == "launch-badges"]
    assert f"`work/{CASE}.ipynb`" in badges.source and "Save a copy in Drive" in badges.source
    for name in ("README.md", "CONTRIBUTING.md"):
        assert "`work/`" in (ROOT / name).read_text(encoding="utf-8")
