"""The house: a light import, imports that run one way, and where files go."""

from __future__ import annotations

import ast
import json
import math
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import networkx as nx
import pytest

import casebook
from casebook import project

PACKAGE = Path(casebook.__file__).resolve().parent
#: The rooms from the ground up; a module imports from its own room and from lower floors only.
FLOORS = (
    {"colab", "columns", "project", "strict_json"},
    {"page", "reach"},
    {"data", "exercises", "evaluate", "features", "llm", "worlds"},
    {"forecasting", "recorded", "retrieval", "serving"},
    {"cases"},
    {"author"},
    {"book"},
)
FLOOR = {room: level for level, rooms in enumerate(FLOORS) for room in rooms}
#: Cases that may import another one, as their chapters say.
SERVES = {"deployment_pipeline": {"card_fraud"}}
MODULES = sorted(PACKAGE.rglob("*.py"))


def imported(source: str, package: tuple[str, ...]) -> set[str]:
    """Return the dotted names that a module of ``package`` imports anywhere in its source."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            start = ".".join([*base, *([node.module] if node.module else [])])
            names |= {f"{start}.{alias.name}" for alias in node.names}
    return names


def place(dotted: str) -> tuple[str, str]:
    """Return the room of a module of the package, and its case (empty outside ``cases``)."""
    parts = [*dotted.split("."), "", ""]
    return parts[1], parts[2] if parts[1] == "cases" else ""


def wrong_way(source: str, path: Path) -> list[str]:
    """Return the imports of a module that run upwards, sideways between rooms or between cases.

    ``path`` is relative to the folder of the package: ``casebook/cases/x/world.py``.
    """
    room, case = place(".".join(path.with_suffix("").parts))
    found = []
    for name in sorted(imported(source, path.parent.parts)):
        if not name.startswith("casebook."):
            continue
        other, their_case = place(name)
        if other != room:
            if room == "__init__" or FLOOR.get(other, 99) >= FLOOR[room]:
                found.append(name)
        elif room == "cases" and case not in ("", "__main__") and their_case != case:
            found += [name] * (their_case not in SERVES.get(case, set()))
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda p: p.relative_to(PACKAGE).as_posix())
def test_imports_run_one_way(path):
    assert wrong_way(path.read_text(encoding="utf-8"), path.relative_to(PACKAGE.parent)) == []


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("casebook/project.py", "from casebook.page import figures"),
        ("casebook/page/claims.py", "import casebook.data.files"),
        ("casebook/data/files.py", "from casebook.recorded.bench import recorded"),
        ("casebook/data/files.py", "from ..evaluate import metrics"),
        ("casebook/serving/latency.py", "from casebook.cases.x import world"),
        ("casebook/serving/latency.py", "from casebook.retrieval import index"),
        ("casebook/__init__.py", "from .cases import x"),
        ("casebook/data/files.py", "def f():\n    from casebook.cases.x import world"),
        ("casebook/llm/x.py", "from ..cases.x import reader"),
        ("casebook/cases/x/world.py", "from casebook.author import files"),
        ("casebook/cases/x/world.py", "from casebook.cases.y import world"),
        ("casebook/cases/x/world.py", "from ..y.world import simulate"),
        ("casebook/author/execute.py", "if True:\n    import casebook.book.slides as s"),
    ],
)
def test_an_import_that_runs_the_other_way_is_found(path, source):
    assert len(wrong_way(source, Path(path))) == 1


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("casebook/data/files.py", "from casebook.project import data_dir\nfrom .tables import x"),
        ("casebook/cases/x/world.py", "from casebook.data import snapshot\nfrom . import y"),
        (
            "casebook/cases/x/drills.py",
            "from casebook.cases.x.world import simulate\nimport author",
        ),
        ("casebook/cases/deployment_pipeline/a.py", "from casebook.cases.card_fraud import models"),
        ("casebook/cases/__main__.py", "import casebook.cases\nfrom casebook.cases.x import world"),
        ("casebook/book/ext.py", "from casebook.author import files"),
    ],
)
def test_an_import_that_runs_the_right_way_is_left_alone(path, source):
    assert wrong_way(source, Path(path)) == []


def circles(sources: dict[str, str]) -> list[list[str]]:
    """Return the modules that import each other in a circle; sources by dotted name."""
    graph = nx.DiGraph()
    for name, source in sources.items():
        for other in imported(source, tuple(name.split(".")[:-1])):
            target = other if other in sources else other.rpartition(".")[0]
            if target in sources and target != name:
                graph.add_edge(name, target)
    return [sorted(ring) for ring in nx.strongly_connected_components(graph) if len(ring) > 1]


def test_no_modules_import_each_other_in_a_circle():
    names = {path: path.relative_to(PACKAGE.parent).with_suffix("") for path in MODULES}
    sources = {
        ".".join(name.parts): path.read_text(encoding="utf-8") for path, name in names.items()
    }
    assert circles(sources) == []
    # a hint for a type, or an import inside a function, closes a circle as well
    late = "def f():\n    from casebook.serving.load import Server"
    planted = sources | {"casebook.serving.latency": late}
    assert circles(planted) == [["casebook.serving.latency", "casebook.serving.load"]]


def test_every_room_has_its_floor():
    rooms = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in MODULES}
    assert rooms - {"__init__"} <= set(FLOOR)


def lengths(package: Path) -> dict[str, tuple[str, int]]:
    """Return what each module of questions or of the exercises' room has, and each case's mean."""
    found = {}
    for folder in (package / "exercises", *sorted(package.glob("cases/*"))):
        mask = "*.py" if folder.name == "exercises" else "questions*.py"
        sources = {path: path.read_text(encoding="utf-8") for path in sorted(folder.glob(mask))}
        each = {path: len(source.splitlines()) for path, source in sources.items()}
        for path, lines in each.items():
            found[path.relative_to(package).as_posix()] = ("module", lines)
        if folder.name != "exercises" and each:
            asked = sum(source.count(".asked(\n") for source in sources.values())
            mean = math.ceil(sum(each.values()) / asked)
            found[folder.relative_to(package).as_posix()] = ("question", mean)
    return found


def too_long(package: Path, allowed: dict) -> list[str]:
    """Return what has more lines than ``[lines]`` of tests/allowance.toml allows."""
    longer, found = allowed["longer"], []
    for name, (what, lines) in lengths(package).items():
        limit = longer.get(name, allowed[what])
        if lines > limit:
            found.append(f"{name}: {lines} lines a {what}, over {limit}")
        elif lines < limit and name in longer:
            least = f"lowered to {lines}" if lines > allowed[what] else "taken out"
            found.append(f"{name}: {lines} lines a {what}, its exception can be {least}")
    return found


def test_questions_and_their_modules_are_short():
    allowed = tomllib.loads((PACKAGE.parent / "tests/allowance.toml").read_text())["lines"]
    assert too_long(PACKAGE, allowed) == []
    assert allowed["longer"].keys() <= lengths(PACKAGE).keys()
    assert (allowed["question"], allowed["module"]) == (110, 500)


@pytest.mark.parametrize(
    ("lines", "longer", "fault"),
    [
        ((3, 3), {}, []),
        ((3, 4), {}, ["cases/x: 4 lines a question, over 3"]),
        ((5, 1), {}, ["cases/x/questions.py: 5 lines a module, over 4"]),
        ((5, 1), {"cases/x/questions.py": 5}, []),
        (
            (5, 1),
            {"cases/x/questions.py": 6},
            ["cases/x/questions.py: 5 lines a module, its exception can be lowered to 5"],
        ),
        ((3, 3), {"cases/x": 4}, ["cases/x: 3 lines a question, its exception can be taken out"]),
    ],
)
def test_a_question_or_a_module_that_is_too_long_is_found(tmp_path, lines, longer, fault):
    case = tmp_path / "cases" / "x"
    case.mkdir(parents=True)
    for name, count in zip(("questions.py", "questions_of_more.py"), lines, strict=True):
        (case / name).write_text("q = exercise.asked(\n" + ")\n" * (count - 1))
    allowed = {"question": 3, "module": 4, "longer": longer}
    assert too_long(tmp_path, allowed) == fault


def test_import_casebook_is_quick_and_pulls_in_nothing_heavy():
    code = (
        "import json, sys, time; start = time.process_time(); import casebook; "
        "print(json.dumps([time.process_time() - start, sorted(sys.modules)]))"
    )
    runs = [
        json.loads(
            subprocess.run(
                [sys.executable, "-c", code], capture_output=True, check=True, text=True
            ).stdout
        )
        for _ in range(3)
    ]
    assert min(seconds for seconds, _ in runs) < 0.3
    assert "casebook" in runs[0][1]
    assert not {"numpy", "pandas", "torch"} & set(runs[0][1])


def test_build_dir_is_made_where_the_variable_says(build_folder):
    assert not build_folder.exists()
    assert project.build_dir() == build_folder
    assert build_folder.is_dir()


@pytest.mark.parametrize("variable", ["CASEBOOK_DATA_DIR", "CASEBOOK_CACHE_DIR"])
@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("data", PACKAGE.parent / "data"),
        ("../shared/data", PACKAGE.parents[1] / "shared" / "data"),
        ("~/data", "HOME/data"),
        ("/srv/data", "/srv/data"),
        ("", None),
        (None, None),
    ],
)
@pytest.mark.parametrize("where", ["checkout", "chapters", "elsewhere"])
def test_a_folder_means_the_same_wherever_it_is_asked(
    monkeypatch, tmp_path, variable, given, expected, where
):
    start = {"checkout": PACKAGE.parent, "chapters": PACKAGE.parent / "chapters"}
    monkeypatch.chdir(start.get(where, tmp_path))
    monkeypatch.setenv("HOME", "/home/reader")
    monkeypatch.delenv(variable, raising=False)
    if given is not None:
        monkeypatch.setenv(variable, given)
    wanted = expected and Path(str(expected).replace("HOME", "/home/reader"))
    assert project.folder_from(variable) == wanted


def test_the_kernel_of_a_chapter_and_make_build_into_the_same_folder(tmp_path):
    """Both are processes: one is started in the checkout, one in ``chapters``."""
    relative = os.path.relpath(tmp_path / "built", PACKAGE.parent)
    code = "from casebook.project import build_dir; print(build_dir())"
    env = {**os.environ, "CASEBOOK_BUILD_DIR": relative, "PYTHONPATH": str(PACKAGE.parent)}
    seen = {
        subprocess.run(
            [sys.executable, "-c", code], cwd=cwd, env=env, capture_output=True, text=True
        ).stdout.strip()
        for cwd in (PACKAGE.parent, PACKAGE.parent / "chapters")
    }
    assert seen == {str(tmp_path / "built")}


def test_without_a_checkout_a_relative_folder_starts_where_the_reader_is(monkeypatch, tmp_path):
    monkeypatch.setattr(project, "checkout", lambda: None)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CASEBOOK_DATA_DIR", "files")
    assert project.folder_from("CASEBOOK_DATA_DIR") == tmp_path / "files"


@pytest.mark.parametrize(
    ("value", "off"),
    [("off", True), ("OFF", True), ("Off", True), ("on", False), ("ON", False), ("", False)],
)
def test_real_data_are_switched_off_in_any_case_of_letters(monkeypatch, value, off):
    monkeypatch.setenv("CASEBOOK_REAL_DATA", value)
    assert project.real_data_off() is off


@pytest.mark.parametrize("value", ["0", "false", "no", "of"])
def test_another_value_is_refused_with_those_that_are_allowed(monkeypatch, value):
    monkeypatch.setenv("CASEBOOK_REAL_DATA", value)
    with pytest.raises(ValueError, match=f"is '{value}'; allowed are on and off"):
        project.real_data_off()


def test_without_a_checkout_files_are_built_in_the_working_directory(monkeypatch, tmp_path):
    monkeypatch.delenv("CASEBOOK_BUILD_DIR", raising=False)
    monkeypatch.setattr(project, "checkout", lambda: None)
    monkeypatch.chdir(tmp_path)
    assert project.build_dir() == tmp_path / "_build"


def test_without_a_checkout_the_snapshots_are_those_of_the_package(monkeypatch):
    assert project.data_dir() == PACKAGE.parent / "data"
    monkeypatch.setattr(project, "checkout", lambda: None)
    assert project.data_dir() == PACKAGE / "_data"


def test_a_command_that_needs_a_checkout_says_so(monkeypatch):
    assert project.require_checkout() == PACKAGE.parent
    monkeypatch.setattr(project, "checkout", lambda: None)
    with pytest.raises(RuntimeError, match=r"works on a checkout.*Clone the repository") as caught:
        project.require_checkout()
    assert str(PACKAGE) in str(caught.value)


def test_the_settings_name_the_public_address_and_the_release():
    settings = project.settings()
    assert settings["repository"].startswith("https://")
    assert settings["release"]


@pytest.mark.parametrize(("value", "expected"), [("1", True), ("0", False), (None, False)])
def test_a_kernel_of_the_book_is_known_by_its_variable(monkeypatch, value, expected):
    monkeypatch.delenv("CASEBOOK_BOOK", raising=False)
    if value is not None:
        monkeypatch.setenv("CASEBOOK_BOOK", value)
    assert project.in_book() is expected


# Files that are whole ----------------------------------------------------------------


def full(*_: object) -> None:
    raise OSError("no space left")


def half_written(file) -> None:
    """Stand in for a writer whose disk fills up."""
    file.write(b"ne")
    full()


def check_a_crash_leaves_the_old_file(write, folder: Path, monkeypatch) -> None:
    path = folder / "deep" / "file"
    write(path, b"old")
    with pytest.raises(OSError, match="no space"):
        write(path, half_written)
    for name in ("fsync", "replace"):
        with monkeypatch.context() as patch, pytest.raises(OSError, match="no space"):
            patch.setattr(os, name, full)
            write(path, b"new")
        assert path.read_bytes() == b"old"
        assert list(path.parent.iterdir()) == [path], "a part was left behind"
    write(path, lambda file: file.write(b"new"))
    assert path.read_bytes() == b"new"


def test_a_crash_while_writing_leaves_the_old_file(tmp_path, monkeypatch):
    check_a_crash_leaves_the_old_file(project.write_whole, tmp_path, monkeypatch)


def test_a_writer_that_is_not_atomic_or_does_not_flush_is_found(tmp_path, monkeypatch):
    def plain(path, content):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            content(file) if callable(content) else file.write(content)

    def unflushed(path, content):
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", lambda _: None)
            project.write_whole(path, content)

    for write in (plain, unflushed):
        with pytest.raises((AssertionError, pytest.fail.Exception)):
            check_a_crash_leaves_the_old_file(write, tmp_path / write.__name__, monkeypatch)


@pytest.mark.parametrize("at", ["os.fsync", "os.replace"])
def test_a_process_that_is_killed_in_between_leaves_the_old_file(tmp_path, at):
    path = tmp_path / "file"
    project.write_whole(path, b"old")
    code = (
        "import os, pathlib, sys; from casebook.project import write_whole\n"
        f"{at} = lambda *_: os.kill(os.getpid(), 9)\n"
        "write_whole(pathlib.Path(sys.argv[1]), b'new' * 1000)"
    )
    assert subprocess.run([sys.executable, "-c", code, path], check=False).returncode == -9
    assert path.read_bytes() == b"old"
    project.write_whole(path, b"new")  # what the killed one left is in nobody's way
    assert path.read_bytes() == b"new"


def test_two_writers_do_not_share_a_part(tmp_path):
    path = tmp_path / "file"

    def meanwhile(file) -> None:
        file.write(b"first")
        project.write_whole(path, b"second")
        file.write(b" and last")

    project.write_whole(path, meanwhile)
    assert path.read_bytes() == b"first and last"


def test_others_may_read_the_file(tmp_path):
    """A temporary file of the standard library would be its owner's alone."""
    project.write_whole(tmp_path / "whole", b"x")
    (tmp_path / "plain").write_bytes(b"x")
    assert len({path.stat().st_mode for path in tmp_path.iterdir()}) == 1


def twice(names: list[str]) -> list[str]:
    """Return the file names that stand in more than one room."""
    return sorted({name for name in names if names.count(name) > 1})


def test_each_test_file_has_a_name_of_its_own():
    """Pytest imports test files by name: the second of one name is an error."""
    files = (PACKAGE.parent / "tests").rglob("*.py")
    assert twice([path.name for path in files if path.name != "conftest.py"]) == []


def test_a_name_in_two_rooms_is_found():
    assert twice(["test_a.py", "test_b.py", "test_a.py"]) == ["test_a.py"]
