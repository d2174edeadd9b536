"""Kill drills leave what the next process finds; stages add up, and no patch stays behind."""

from __future__ import annotations

import ast
import os
import threading
from functools import partial
from pathlib import Path

import pytest

import casebook
from casebook.serving.drills import BEGUN, kill_drill, stage_table, stages

PACKAGE = Path(casebook.__file__).parent


# Killed in the middle --------------------------------------------------------------------------
# Works write eight lines: whole through another name, or one after the other.

LINES = [f"line {n}\n" for n in range(8)]


def fresh(folder: Path) -> Path:
    path = folder / "file"
    path.write_text("old\n")
    return path


def whole(path: Path, passed) -> None:
    passed(BEGUN)
    part = path.with_name("part")
    with part.open("w") as file:
        for line in LINES:
            file.write(line)
            file.flush()
            passed("line")
    os.replace(part, path)
    passed("replaced")


def in_place(path: Path, passed) -> None:
    """What not to do."""
    passed(BEGUN)
    with path.open("w") as file:
        for line in LINES:
            file.write(line)
            file.flush()
            passed("line")


def waiting(path: Path, passed) -> None:
    """Begin late, and then work for long."""
    threading.Event().wait(0.2)
    path.write_text("begun\n")
    passed(BEGUN)
    for _ in range(20):
        threading.Event().wait(0.01)
        passed("tick")
    path.write_text("new\n")


def failing(path: Path, passed) -> None:
    passed(BEGUN)
    raise OSError("planted: the work fails")


def idle(path: Path, passed) -> None:
    """Do nothing, not even begin."""


def state(path: Path) -> str:
    known = {"old\n": "old", "begun\n": "begun", "".join(LINES): "new", "new\n": "new"}
    return known.get(path.read_text(), "mixed")


def check_old_or_new(work, folder: Path) -> None:
    points = [("line", n) for n in range(1, 9)]
    kills = kill_drill(partial(fresh, folder), work, state, [*points, ("replaced", 1), None])
    assert [kill.point for kill in kills] == [*points, ("replaced", 1), None]
    assert [kill.killed for kill in kills] == [True] * 9 + [False]
    assert [kill.left for kill in kills] == ["old"] * 8 + ["new"] * 2


def test_a_work_that_is_killed_at_its_points_leaves_the_old_or_the_new(tmp_path):
    check_old_or_new(whole, tmp_path)


def test_a_work_that_leaves_a_part_is_found(tmp_path):
    with pytest.raises(AssertionError):
        check_old_or_new(in_place, tmp_path)


def test_a_point_that_is_not_passed_kills_nobody(tmp_path):
    (kill,) = kill_drill(partial(fresh, tmp_path), whole, state, [("line", 9)])
    assert (kill.killed, kill.left) == (False, "new")


def test_a_share_is_counted_from_where_the_work_has_begun(tmp_path):
    kills = kill_drill(partial(fresh, tmp_path), waiting, state, [0.0, 0.1, None])
    assert [kill.killed for kill in kills] == [True, True, False]
    assert [kill.left for kill in kills] == ["begun", "begun", "new"]
    assert kills[2].seconds >= 0.2


def test_work_may_go_on_where_it_was_killed(tmp_path):
    path = fresh(tmp_path)
    kills = kill_drill(partial(Path, path), one_more, Path.read_text, [("added", 2)] * 3 + [None])
    assert [len(kill.left.splitlines()) for kill in kills] == [3, 5, 7, 10]


def one_more(path: Path, passed) -> None:
    for _ in range(3):
        with path.open("a") as file:
            file.write("more\n")
        passed("added")


def test_a_work_that_fails_by_itself_says_why(tmp_path):
    for points in ([None], [0.5], [("line", 1)]):
        with pytest.raises(RuntimeError, match=r"(?s)by itself.*planted: the work fails"):
            kill_drill(partial(fresh, tmp_path), failing, state, points)
    with pytest.raises(RuntimeError, match="FileNotFoundError"):
        kill_drill(partial(Path, tmp_path / "none"), idle, state, [None])


@pytest.mark.parametrize("point", [1.5, -0.1, ("line", 0), "line", ("line",), float("nan")])
def test_what_is_no_point_is_refused(point):
    with pytest.raises(ValueError, match="give a share"):
        kill_drill(Path, whole, state, [None, point])


# Stages ----------------------------------------------------------------------------------------


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


CLOCK = Clock()


def spend(seconds: float) -> None:
    CLOCK.now += seconds


class Base:
    def outer(self, fail: bool = False) -> str:
        spend(1)
        self.inner()
        spend(2)
        if fail:
            raise ValueError("planted")
        return "answer"

    @staticmethod
    def apart() -> None: ...


class Worker(Base):
    def inner(self) -> None:
        spend(10)


PLACES = {"out": [(Worker, "outer")], "in": [(Worker, "inner")]}


def test_the_outer_call_is_charged_only_what_is_its_own():
    with stages(PLACES, CLOCK) as watch:
        assert Worker().outer() == "answer"
        with pytest.raises(ValueError, match="planted"):
            Worker().outer(fail=True)
    assert watch.seconds == {"out": 6, "in": 20}
    assert watch.calls == {"out": 2, "in": 2}


def test_the_clocks_are_gone_afterwards_also_after_an_error():
    inner = Worker.inner
    for names in (["inner"], ["inner", "gone"], ["inner", "apart"]):
        places = {"s": [(Worker, "outer"), *((Worker, name) for name in names)]}
        try:
            with stages(places, CLOCK):
                assert Worker.inner is not inner
        except ValueError as error:
            assert names[-1] in str(error) and len(names) == 2
        else:
            assert len(names) == 1
        assert Worker.inner is inner and "outer" not in vars(Worker)


def test_a_static_method_is_refused():
    with pytest.raises(ValueError, match="apart"), stages({"s": [(Base, "apart")]}):
        pass


def test_the_stages_of_a_table_add_up_to_the_call():
    table = stage_table(lambda: Worker().outer(), PLACES, n=100, warm_up=2).set_index("stage")
    parts = table.drop("whole")
    assert list(table.index) == ["out", "in", "rest", "whole"]
    assert parts["mean_ms"].sum() == pytest.approx(table.loc["whole", "mean_ms"], rel=1e-6)
    assert parts["share"].sum() == pytest.approx(1) and (table["calls"] == 100).all()
    with pytest.raises(ValueError, match="100 calls"):
        stage_table(lambda: Worker().outer(), PLACES, n=99)


# Production code does not patch ----------------------------------------------------------------


def patching(source: str) -> list[str]:
    """Return the imports of ``unittest.mock`` in a module."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [a.name for a in node.names if a.name.startswith("unittest")]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("unittest"):
            found.append(node.module)
    return found


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: p.stem)
def test_no_module_of_the_package_imports_mocks(path):
    assert patching(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "line",
    [
        "from unittest.mock import patch",
        "import unittest.mock as m",
        "from unittest import mock",
        "def f():\n    import unittest.mock",
    ],
)
def test_a_mock_in_the_package_is_found(line):
    assert len(patching(f"import os\n{line}\n")) == 1
