"""What passed is loaded at a start and nothing else; a clock that jumps moves nothing."""

from __future__ import annotations

import os
import re
import threading

import numpy as np
import pandas as pd
import pytest

from casebook.serving.shelf import Busy, Shelf, read, write
from casebook.serving.stages import Stages
from casebook.serving.steady import Steady
from casebook.serving.swap import Swap

BIG = {"matrix": np.arange(6.0).reshape(2, 3), "fortran": np.ones((3, 2), order="F"), "name": "a"}


def test_arrays_come_back_mapped_and_may_be_changed_without_changing_the_file(tmp_path):
    path, empty = tmp_path / "x.serves", np.empty((0, 4))
    write(path, BIG | {"empty": empty, "frame": pd.DataFrame({"a": [1, 2], "b": ["x", "y"]})})
    found = read(path)
    assert (found["matrix"] == BIG["matrix"]).all() and found["empty"].shape == (0, 4)
    assert found["fortran"].flags.f_contiguous and found["frame"]["b"].tolist() == ["x", "y"]
    assert not found["matrix"].flags.owndata
    found["matrix"][:] = 7.0
    write(path, BIG)  # a new file: who has read the old one keeps it
    assert (found["matrix"] == 7.0).all() and (read(path)["matrix"] == BIG["matrix"]).all()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "FileNotFoundError"),
        (b"", "ValueError"),
        (b"no shelf", "none of a shelf"),
        (b"shelf 2\n", "error"),
        (-1, "cut off"),
        (100, "cut off"),
    ],
)
def test_a_file_that_is_not_whole_is_refused(tmp_path, content, says):
    path = tmp_path / "x.serves"
    if content is not None:
        write(path, BIG)
        path.write_bytes(path.read_bytes()[:content] if isinstance(content, int) else content)
    with pytest.raises(ValueError, match=rf"x\.serves: .*{says}"):
        read(path)


def larger(new: int, old: int) -> str:
    return "" if new > old else "not larger"


def test_after_each_step_a_start_loads_what_served_last(tmp_path):
    shelf = Shelf(tmp_path)
    shelf.put(1)
    swap = Swap(shelf.serves(), {"size": larger})
    steps = [
        (lambda: shelf.offer(0) or shelf.refresh(swap).swapped, False, 1),
        (lambda: shelf.offer(3) or shelf.refresh(swap).swapped, True, 3),
        (lambda: shelf.refresh(swap).swapped, False, 3),
        (lambda: shelf.offer(2) or shelf.refresh(swap).swapped, False, 3),
        (lambda: shelf.offer(5) or shelf.refresh(swap).swapped, True, 5),
        (lambda: shelf.back(swap).value, 3, 3),
    ]
    for act, told, serves in steps:
        assert act() == told
        assert swap.current.value == serves == Shelf(tmp_path).serves()
        assert not shelf.offered
    with pytest.raises(LookupError):
        shelf.back(swap)
    assert Shelf(tmp_path).serves() == 3 and read(tmp_path / "model.refused") == 5


def test_an_offer_that_comes_while_another_is_checked_is_not_taken_for_it(tmp_path):
    shelf = Shelf(tmp_path)
    shelf.put(1)

    def meanwhile(new: int, old: int) -> str:
        shelf.offer(-9)
        return larger(new, old)

    swap = Swap(shelf.serves(), {"size": meanwhile})
    shelf.offer(2)
    assert shelf.refresh(swap).swapped and Shelf(tmp_path).serves() == 2 and shelf.offered
    assert not shelf.refresh(swap).swapped and Shelf(tmp_path).serves() == 2


def test_of_two_refreshes_the_second_is_turned_away_and_no_unchecked_model_is_kept(tmp_path):
    """Planted: another object has another lock; its offer is taken while the first is placed."""
    for other, kept in ((False, 2), (True, -9)):
        shelf = Shelf(tmp_path)
        shelf.put(1)
        swap, link, told = Swap(1, {"size": larger}), shelf._link, []

        def meanwhile(*names, of=shelf, other=other, swap=swap, link=link, told=told):
            of.offer(-9)
            try:
                mine = Shelf(tmp_path) if other else of
                mine._taken() if other else mine.refresh(swap)
            except Busy as busy:
                told.append(str(busy))
            link(*names)

        shelf._link = meanwhile
        shelf.offer(2)
        assert shelf.refresh(swap).swapped and swap.current.value == 2
        assert Shelf(tmp_path).serves() == kept and len(told) == (not other)


def test_what_a_kill_interrupted_is_tried_again_and_a_full_disk_refuses_no_good_model(
    tmp_path, monkeypatch
):
    shelf = Shelf(tmp_path)
    shelf.put(1)
    shelf.offer(2)
    shelf._taken()  # and here it is killed
    assert Shelf(tmp_path).offered
    swap, shelf = Swap(1, {"size": larger}), Shelf(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "link", lambda *names: (_ for _ in ()).throw(OSError(28, "no space")))
        assert shelf.refresh(swap).why.startswith("settle: OSError")
        assert swap.current.value == shelf.serves() == 1 and shelf.offered
    assert shelf.refresh(swap).swapped and shelf.serves() == 2 and not shelf.offered


@pytest.mark.parametrize(
    ("serves", "before", "found", "says"),
    [
        (b"cut", b"", 1, r"model\.serves.*before serves"),
        (None, b"", 1, r"model\.serves.*before serves"),
        (b"cut", b"cut", None, "none from before"),
        (b"", b"", 2, "^$"),
    ],
)
def test_a_start_takes_the_one_before_if_the_file_is_torn(tmp_path, serves, before, found, says):
    shelf = Shelf(tmp_path)
    shelf.put(1)
    shelf.offer(2)
    shelf.refresh(Swap(1, {}))
    for name, content in (("serves", serves), ("before", before)):
        path = tmp_path / f"model.{name}"
        path.unlink() if content is None else content and path.write_bytes(content)
    value, why = Shelf(tmp_path).start()
    assert value == found and re.search(says, why)
    assert Shelf(tmp_path).start()[0] == found


def test_the_way_back_and_the_name_of_a_model_hold_after_a_restart(tmp_path):
    shelf = Shelf(tmp_path)
    shelf.put(["a"])
    first = shelf.serves()
    shelf.knows(first)
    swap, named = Swap(first, {}), {"a": shelf.digest(first)}
    shelf.offer(["b"])
    assert shelf.refresh(swap).version == 2
    named["b"] = shelf.digest(swap.current.value)
    assert len({*named.values()}) == 2 and all(len(name) == 12 for name in named.values())
    again = Shelf(tmp_path)
    swap = Swap(again.serves(), {})
    again.knows(swap.current.value)
    assert again.digest(swap.current.value) == named["b"] and not swap.kept
    assert again.back(swap) == (2, ["a"]) and again.digest(swap.current.value) == named["a"]
    assert Shelf(tmp_path).serves() == ["a"] and again.digest(["a"]) == ""
    with pytest.raises(LookupError, match="no version before"):
        again.back(swap)


def test_at_no_moment_is_there_no_model_to_start_with(tmp_path, monkeypatch):
    """Looked at before and after each renaming, as a kill there would leave it."""
    shelf = Shelf(tmp_path)
    shelf.put(1)
    swap, kept, seen = Swap(1, {"size": larger}), os.replace, []

    def looked(a, b):
        seen.append(Shelf(tmp_path).serves())
        kept(a, b)
        seen.append(Shelf(tmp_path).serves())

    shelf.offer(2)
    monkeypatch.setattr(os, "replace", looked)
    assert shelf.refresh(swap).swapped and shelf.back(swap).value == 1
    assert {*seen} == {1, 2} and seen[-1] == 1


def test_a_clock_follows_small_steps_and_no_large_one_and_never_goes_back():
    wall, passed, day = [0.0], [0.0], pd.Timestamp("2025-03-01")
    clock = Steady(lambda: day + pd.Timedelta(seconds=wall[0]), 60.0, lambda: passed[0])
    told = []
    for seconds, at in ((1, 1), (2, 61), (3, 30), (4, 62), (5, 9_000), (6, -9_000), (7, 65)):
        passed[0], wall[0] = float(seconds), float(at)
        told.append(((clock() - day).total_seconds(), bool(clock.trouble)))
    assert told == [(1, 0), (61, 0), (61, 0), (62, 0), (63, 1), (64, 1), (65, 0)]


def test_stages_of_a_call_that_was_abandoned_count_for_nothing():
    stages = Stages()
    late, inner = threading.Event(), stages.inner()

    def work() -> None:
        late.wait(5)
        inner.end("late")

    thread = threading.Thread(target=work)
    thread.start()
    stages.end("fall-back")
    late.set()
    thread.join()
    assert [*stages.ms()] == ["fall-back"]
