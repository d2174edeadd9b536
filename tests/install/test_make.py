"""`make` repairs a broken environment and says what is missing; nothing is installed here.

A stand-in for Python makes environments whose Python is a stand-in too. Both write each call
into a log; the recipes, their order and their messages are the real ones.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from casebook.project import require_checkout

ROOT = require_checkout()
MAKE = shutil.which("make")
#: ``python -c 'import pip'`` fails without a pip, as the real one does.
PYTHON = """\
#!/bin/sh
here=$(dirname "$0")
echo "$(basename "$(dirname "$here")")/$(basename "$0") $*" >>"$STUB_LOG"
case "$*" in
    "-c import pip") test -e "$here/pip" ;;
    *libgomp*) test -z "$STUB_NO_OPENMP" ;;
    "-c "*version_info*) test -z "$STUB_OLD" || { echo "$2" >&2; exit 1; } ;;
    "-m venv --clear "*)
        for folder; do :; done
        test -z "$STUB_NO_VENV" || exit 1
        rm -rf "$folder"; mkdir -p "$folder/bin"
        cp "$STUB_PYTHON" "$folder/bin/python"; touch "$folder/bin/pip" ;;
    "-m pip install"*) test -e "$here/pip" && test -z "$STUB_INTERRUPT" ;;
    "-m casebook.author new "*) sleep 0.02; touch pyproject.toml ;;
esac
"""


class Place:
    """A folder with the Makefile and a stand-in for Python."""

    def __init__(self, root: Path):
        self.root, self.venv, self.log = root, root / ".venv", root / "calls.log"
        (root / "tools").mkdir(parents=True)
        self.python = root / "tools" / "python3.11"
        self.python.write_text(PYTHON, encoding="utf-8")
        self.python.chmod(0o755)
        for name in ("Makefile", "requirements.txt", "constraints.txt", "pyproject.toml"):
            shutil.copy(ROOT / name, root)

    def make(self, *arguments: str, **env: str) -> tuple[int, str, list[str]]:
        """Run make; return its exit code, what it printed, and the calls of Python."""
        self.log.write_text("", encoding="utf-8")
        own = {"STUB_LOG": self.log, "STUB_PYTHON": self.python, "PYTHON": self.python}
        given = {k: str(v) for k, v in (own | env).items()}
        done = subprocess.run(
            [MAKE, *arguments],
            cwd=self.root,
            env={"PATH": os.defpath, **given},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        return done.returncode, done.stdout, self.log.read_text(encoding="utf-8").splitlines()


@pytest.fixture
def place(tmp_path) -> Place:
    return Place(tmp_path / "course")


def made(calls: list[str]) -> bool:
    """Say whether an environment was made from nothing."""
    return any(" -m venv --clear .venv" in call for call in calls)


def is_whole(place: Place) -> bool:
    return (place.venv / ".installed").is_file() and (place.venv / "bin" / "pip").is_file()


def installed(place: Place) -> None:
    code, said, calls = place.make(".venv/.installed")
    assert code == 0 and made(calls) and is_whole(place), said


def test_an_environment_is_made_once(place):
    installed(place)
    code, _, calls = place.make(".venv/.installed")
    assert code == 0
    assert calls == [".venv/python -c import pip"]  # the look that every make takes


def no_pip(place: Place) -> None:
    (place.venv / "bin" / "pip").unlink()


def dangling(place: Place) -> None:
    (place.venv / "bin" / "python").unlink()
    (place.venv / "bin" / "python").symlink_to(place.root / "gone" / "python3.11")


def emptied(place: Place) -> None:
    shutil.rmtree(place.venv / "bin")


def interrupted(place: Place) -> None:
    """Ctrl-C while the environment was made: a Python, no pip, no stamp."""
    no_pip(place)
    (place.venv / ".installed").unlink()


@pytest.mark.parametrize("fault", [no_pip, dangling, emptied, interrupted])
def test_a_broken_environment_is_repaired(place, fault):
    installed(place)
    fault(place)
    code, said, calls = place.make(".venv/.installed")
    assert code == 0, said
    assert made(calls) and is_whole(place)


def test_an_installation_that_was_interrupted_goes_on(place):
    code, _, calls = place.make(".venv/.installed", STUB_INTERRUPT="1")
    assert code != 0 and made(calls)
    assert not (place.venv / ".installed").exists()
    code, _, calls = place.make(".venv/.installed")
    assert code == 0 and is_whole(place)
    assert not made(calls)  # what is installed already is kept


def test_the_earlier_rule_leaves_it_broken(place):
    """The planted fault: an environment is taken for whole when it has a file `python`."""
    makefile = place.root / "Makefile"
    text = makefile.read_text(encoding="utf-8")
    old = text.replace("$(1)/bin/python -c 'import pip' >/dev/null 2>&1", "test -x $(1)/bin/python")
    assert old != text
    makefile.write_text(old, encoding="utf-8")
    installed(place)
    interrupted(place)
    code, _, calls = place.make(".venv/.installed")
    assert code != 0 and not made(calls)


@pytest.mark.parametrize(
    ("line", "seen"), [("unexport PYTHONDONTWRITEBYTECODE\n", "no"), ("", "yes")]
)
def test_modules_are_compiled_once_also_where_the_shell_says_never(place, line, seen):
    """Nothing is compiled at installation: every kernel would pay for its imports again."""
    makefile = place.root / "Makefile"
    text = makefile.read_text(encoding="utf-8")
    assert "--no-compile" in text and text.count("unexport PYTHONDONTWRITEBYTECODE\n") == 1
    recipe = 'show:\n\t@echo "$${PYTHONDONTWRITEBYTECODE:+yes}$${PYTHONDONTWRITEBYTECODE:-no}"\n'
    text = text.replace("unexport PYTHONDONTWRITEBYTECODE\n", line)
    makefile.write_text(text + recipe, encoding="utf-8")
    code, said, _ = place.make("show", PYTHONDONTWRITEBYTECODE="1")
    assert code == 0 and said.splitlines()[-1].startswith(seen), said


def test_without_python_a_sentence_says_so(place):
    code, said, calls = place.make(".venv/.installed", "PYTHON=")
    assert code != 0 and calls == []
    assert "Python 3.11 to 3.13 is needed, and no python3 is on the path" in said
    assert "not found" not in said


def test_a_python_that_is_not_there_is_named(place):
    code, said, _ = place.make(".venv/.installed", "PYTHON=/nowhere/python3.11")
    assert code != 0
    assert "There is no Python at /nowhere/python3.11" in said and "not found" not in said


@pytest.mark.parametrize(
    ("variable", "sentence"),
    [
        ("STUB_OLD", "Python 3.11 to 3.13 is needed"),
        ("STUB_NO_VENV", "apt-get install python3-venv"),
        ("STUB_NO_OPENMP", "apt-get install libgomp1"),
    ],
)
def test_what_is_missing_is_said_before_anything_is_installed(place, variable, sentence):
    code, said, calls = place.make(".venv/.installed", **{variable: "1"})
    assert code != 0 and sentence in said
    assert not any("pip install" in call for call in calls)
    assert not (place.venv / ".installed").exists()


def test_openmp_is_named_wherever_the_course_is_installed():
    assert (ROOT / "binder" / "apt.txt").read_text(encoding="utf-8").split() == ["libgomp1"]
    assert "libgomp1" in (ROOT / "README.md").read_text(encoding="utf-8")


# make lab


def lab(place: Place, *arguments: str, user: str = "1000") -> list[str]:
    """Run `make lab` as a user; return what it started."""
    who = place.root / "tools" / "id"
    who.write_text(f"#!/bin/sh\necho {user}\n", encoding="utf-8")
    who.chmod(0o755)
    installed(place)
    path = f"{who.parent}{os.pathsep}{os.defpath}"
    code, said, calls = place.make("lab", *arguments, PATH=path)
    assert code == 0, said
    return [call.removeprefix(".venv/python -m ") for call in calls if " -m " in call]


def test_lab_opens_the_copies_of_the_exercises(place):
    assert lab(place) == [
        "casebook.author work",
        "jupyterlab --LabApp.default_url=/lab/tree/work",
    ]


def test_lab_takes_options_and_root_may_start_it(place):
    started = lab(place, "ARGS=--no-browser --port=8899", user="0")[-1]
    assert started.endswith("--allow-root --no-browser --port=8899")


@pytest.mark.parametrize(
    ("arguments", "call"),
    [
        (("exercises",), "casebook.author exercises"),
        (("exercises", "OVERWRITE=1"), "casebook.author exercises --overwrite"),
        (("chapter", "N=00"), "casebook.author record 00"),
        (("chapter", "N=00", "OVERWRITE=1"), "casebook.author record --overwrite 00"),
        (("release", "TAG=v1"), "casebook.author release v1"),
        (("release", "TAG=v1", "OVERWRITE=1"), "casebook.author release --overwrite v1"),
    ],
)
def test_answers_are_replaced_only_on_request(place, arguments, call):
    installed(place)
    assert f".venv/python -m {call}" in place.make(*arguments)[2]


# make new


def new(place: Place) -> list[str]:
    """Run `make new`; return the calls of Python but the looks for a pip."""
    code, said, calls = place.make("new", "N=22_lifts", "TITLE=Lifts for all", "GROUP=llm")
    assert code == 0, said
    return [call.removeprefix(".venv/python -m ") for call in calls if "import pip" not in call]


NEW = "casebook.author new 22_lifts Lifts for all --group llm --part "


def test_a_new_case_installs_nothing_and_neither_does_what_follows(place):
    """It changes pyproject.toml, on which the environment depends."""
    installed(place)
    assert new(place) == [NEW]
    code, _, calls = place.make(".venv/.installed")
    assert (code, [call for call in calls if "pip install" in call]) == (0, [])


def test_a_new_case_in_an_older_environment_leaves_it_to_be_renewed(place):
    installed(place)
    os.utime(place.venv / ".installed", (0, 0))
    assert new(place) == [NEW]
    code, _, calls = place.make(".venv/.installed")
    assert code == 0 and any("pip install" in call for call in calls)


def test_a_new_case_without_an_environment_makes_one(place):
    calls = new(place)
    assert any("pip install" in call for call in calls) and calls[-1] == NEW
    assert is_whole(place)
