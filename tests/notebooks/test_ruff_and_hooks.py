"""ruff reads the cells too, and the hooks stop a commit that is not in order."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import tiny
import yaml
from tiny import ROOT, code

CONFIG = ROOT / ".pre-commit-config.yaml"
HOOKS = {hook["id"]: hook for hook in yaml.safe_load(CONFIG.read_text())["repos"][0]["hooks"]}
CASE = "00_how_a_case_works.ipynb"


def ruff(command: str, *paths, cwd=ROOT):
    """Run ruff; return its exit code and what it said."""
    options = ["--check"] if command == "format" else ["--output-format=concise"]
    done = tiny.run("ruff", command, *options, "--no-cache", *paths, cwd=cwd)
    return done.returncode, done.stdout


# ruff.


@pytest.mark.parametrize("command", ["check", "format"])
def test_the_notebooks_of_this_repository_pass(command):
    code, said = ruff(command, *tiny.ROOMS)
    assert code == 0, said


@pytest.mark.parametrize("command", ["check", "format"])
def test_a_tidy_notebook_passes(checkout, command):
    for room in tiny.ROOMS:
        cells = [code("n", "import math\n\nn = math.pi"), code("show", "n")]
        tiny.add(checkout, f"{room}/00_tiny.ipynb", *cells)
    assert ruff(command, cwd=checkout)[0] == 0


LONG = "n = " + " + ".join(["number_of_trips"] * 5)


@pytest.mark.parametrize(
    ("room", "command", "source", "said"),
    [
        ("chapters", "check", "import math", "F401"),
        ("solutions", "check", "import math", "F401"),
        ("chapters", "check", "n = unknown", "F821"),
        ("exercises", "check", "n = unknown", "F821"),
        ("chapters", "check", "import numpy as np\n\nnp.random.seed(3)", "NPY002"),
        ("chapters", "check", f"number_of_trips = 3\n{LONG}", "E501"),
        ("chapters", "format", "n = {'a':1}", "would be reformatted"),
        ("solutions", "format", "n = 3;  m = 4", "would be reformatted"),
        ("exercises", "format", "n = f( 3 )", "would be reformatted"),
        ("chapters", "format", "n = f(\n    3,\n)", "would be reformatted"),
        ("chapters", "format", LONG, "would be reformatted"),
    ],
)
def test_a_planted_fault_is_found(checkout, room, command, source, said):
    path = tiny.add(checkout, f"{room}/00_tiny.ipynb", code("planted", source))
    code_, output = ruff(command, cwd=checkout)
    assert code_ == 1
    assert said in output and str(path.relative_to(checkout)) in output


def test_an_exercise_may_import_what_the_answer_needs(checkout):
    tiny.add(checkout, "exercises/00_tiny.ipynb", code("set-up", "import math"))
    assert ruff("check", cwd=checkout)[0] == 0


# The hooks.


@pytest.fixture
def clone(tmp_path):
    """Return a git repository with a copy of the checkout; its ``.venv`` is the running one."""
    root = tiny.copy_of_the_checkout(tmp_path / "clone")
    author = ("-c", "user.name=Reader", "-c", "user.email=reader@example.org")
    for command in (("init", "-q"), ("add", "-A"), (*author, "commit", "-q", "-m", "Copy")):
        done = tiny.shell("git", *command, cwd=root)
        assert done.returncode == 0, done.stdout
    (root / ".venv").symlink_to(sys.prefix)
    return root


def verdicts(root) -> tuple[int, dict[str, str]]:
    """Run all hooks on all files; return the exit code and what each hook said."""
    done = tiny.run("pre_commit", "run", "--all-files", "--color=never", cwd=root)
    said = [line for line in tiny.lines(done) if line.endswith(("Passed", "Failed", "Skipped"))]
    names = {hook["name"]: hook["id"] for hook in HOOKS.values()}
    found = {names[line.partition("..")[0]]: line.rpartition(".")[2] for line in said}
    assert found.keys() == HOOKS.keys(), done.stdout
    return done.returncode, found


def test_the_configuration_is_valid(tmp_path):
    assert tiny.run("pre_commit", "validate-config", CONFIG, cwd=ROOT).returncode == 0
    broken = tmp_path / "broken.yaml"
    broken.write_text(CONFIG.read_text().replace("language:", "tongue:"), encoding="utf-8")
    assert tiny.run("pre_commit", "validate-config", broken, cwd=ROOT).returncode == 1


@pytest.mark.parametrize("hook", HOOKS.values(), ids=HOOKS)
def test_the_command_of_a_hook_exists(hook):
    program = Path(hook["entry"].split()[0])
    assert program.parts[:2] == (".venv", "bin")
    assert Path(sys.prefix, *program.parts[1:]).exists()
    assert hook["language"] == "system"  # nothing is downloaded


def test_the_hooks_pass_on_a_clean_clone(clone):
    assert verdicts(clone) == (0, dict.fromkeys(HOOKS, "Passed"))


def test_each_hook_stops_a_planted_fault(clone):
    tiny.plant(clone / "chapters" / CASE, "set-up", execution_count=3)
    module = clone / "casebook" / "page" / "claims.py"
    text = module.read_text(encoding="utf-8")
    module.write_text(f"{text}\n\nimport  this\n", encoding="utf-8")
    assert verdicts(clone) == (1, dict.fromkeys(HOOKS, "Failed"))
