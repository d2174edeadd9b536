"""`.ci/run` installs what is missing, passes the exit code on, and ends with the closing line."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

from casebook.project import require_checkout

ROOT = require_checkout()
NEEDED = ("bash", "dirname", "grep", "tee", "tail", "mkdir", "env", "sed", "cat", "id")
#: Prints what a run of all checks prints; {} is the exit code.
MAKE = """\
echo "make $*" >> calls
[ "$1" = book ] || [ "$1" = -j2 ] && exit 0
echo "8 passed in 3.10s"
echo "a test of errors in 7 notebooks failed to be quiet"
echo "===== 1 failed, 4000 passed, 2 skipped in 812.44s (0:13:32) ====="
[ {0} = 0 ] || echo "make: *** [Makefile:45: test] Error {0}" >&2
exit {0}
"""
#: Both environments at a time, before the two commands.
INSTALLS = "make -j2 environments"
LIBRARIES = {True: "libgomp.so.1 (libc6,x86-64) => /lib/libgomp.so.1", False: "libc.so.6"}


@pytest.fixture
def machine(tmp_path):
    """Return a function that runs the script on a machine that has only some programs."""
    checkout, programs = tmp_path / "there" / "checkout", tmp_path / "bin"
    (checkout / ".ci").mkdir(parents=True)
    shutil.copy(ROOT / ".ci" / "run", checkout / ".ci")
    programs.mkdir()
    for name in NEEDED:
        (programs / name).symlink_to(shutil.which(name))

    def program(name: str, text: str) -> None:
        (programs / name).write_text(f"#!/usr/bin/env bash\n{text}", encoding="utf-8")
        (programs / name).chmod(0o755)

    def run(*arguments: str, code: int = 0, has: tuple[str, ...] = (), openmp: bool = True):
        program("make", MAKE.format(code))
        program("apt-get", 'echo "apt-get $*" >> calls')
        program("sudo", '"$@"')
        program("ldconfig", f"echo '{LIBRARIES[openmp]}'")
        for name in has:
            program(name, "")
        env = {k: v for k, v in os.environ.items() if k != "CASEBOOK_DATA_DIR"}
        done = subprocess.run(
            [checkout / ".ci" / "run", *arguments],
            env=env | {"PATH": str(programs)},
            capture_output=True,
            text=True,
        )
        calls = (checkout / "calls").read_text(encoding="utf-8").splitlines()
        return done, calls

    return run


HAS = ("chromium", "git")


def test_it_calls_the_two_commands_of_the_readme(machine):
    done, calls = machine(has=HAS)
    assert done.returncode == 0, done.stderr
    assert calls == [INSTALLS, "make book", "make test"]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert all(f"{call} " in readme for call in calls[1:])


def test_it_runs_everything_when_asked(machine):
    _, calls = machine("test-all", has=HAS)
    assert calls == [INSTALLS, "make book", "make test-all"]


@pytest.mark.parametrize("code", [0, 2])
def test_the_closing_line_of_the_runner_is_the_last(machine, code):
    done, _ = machine(code=code, has=HAS)
    assert done.returncode == code
    last = done.stdout.splitlines()[-1]
    assert last == "===== 1 failed, 4000 passed, 2 skipped in 812.44s (0:13:32) ====="


@pytest.mark.parametrize(
    ("has", "openmp", "installed"),
    [
        (("git",), True, "chromium fonts-dejavu-core"),
        (("chromium",), True, "git"),
        (HAS, False, "libgomp1"),
        ((), False, "chromium fonts-dejavu-core git libgomp1"),
    ],
)
def test_it_installs_what_a_new_machine_lacks(machine, has, openmp, installed):
    done, calls = machine(has=has, openmp=openmp)
    assert done.returncode == 0, done.stderr
    assert calls[0] == "apt-get update -qq"
    assert calls[1].endswith(f"--no-install-recommends {installed}")
    assert calls[2:] == [INSTALLS, "make book", "make test"]


def test_the_makefile_has_the_goals_that_it_calls():
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert all(f"\n{goal}:" in text for goal in ("environments", "book", "test", "test-all"))


def test_test_all_runs_everything_in_both_data_modes(tmp_path):
    """Make only says what it would do."""
    command = ["make", "--dry-run", "--always-make", "test-all"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("casebook.book\n") == 2
    assert "EVERY_CHECK=1 CASEBOOK_REAL_DATA=off" in done.stdout


def test_one_case_alone_hands_its_number_on():
    command = ["make", "--no-print-directory", "--dry-run", "test", "N=07"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert "casebook.author nbval 07\n" in done.stdout
    assert done.stdout.rstrip().endswith("pytest -n 2 --dist loadfile --case 07")
