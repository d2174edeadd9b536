"""`.ci/run` installs what is missing, passes the exit code on, and ends with the closing line."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

from casebook.project import require_checkout

ROOT = require_checkout()
NEEDED = ("bash", "dirname", "grep", "tee", "tail", "mkdir", "env", "sed", "cat", "id", "ls",
          "mktemp", "rm", "chmod", "chown", "sort")  # fmt: skip
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
#: Servers that run already, so that none is started.
URLS = {"CASEBOOK_POSTGRES_URL": "postgresql://x", "CASEBOOK_REDIS_URL": "redis://x"}
#: What stands for the programs of servers.
SERVERS = {
    "initdb": 'echo "initdb $6" >> calls\n',
    "pg_ctl": 'echo "pg_ctl ${@: -1}" >> calls\n',
    "redis-server": "cat >> calls\n",
    "runuser": '"${@:4}"\n',
}
LIBRARIES = {True: "libgomp.so.1 (libc6,x86-64) => /lib/libgomp.so.1", False: "libc.so.6"}


@pytest.fixture
def machine(tmp_path):
    """Return a function that runs the script on a machine that has only some programs."""
    checkout, programs = tmp_path / "there" / "checkout", tmp_path / "bin"
    (checkout / ".ci").mkdir(parents=True)
    for name in ("run", "servers"):
        shutil.copy(ROOT / ".ci" / name, checkout / ".ci")
    programs.mkdir()
    for name in NEEDED:
        (programs / name).symlink_to(shutil.which(name))
    (programs / "python3").symlink_to(sys.executable)  # not the shim of a version manager

    def program(name: str, text: str) -> None:
        (programs / name).write_text(f"#!/usr/bin/env bash\n{text}", encoding="utf-8")
        (programs / name).chmod(0o755)

    def run(*arguments: str, code: int = 0, has: tuple[str, ...] = (), openmp: bool = True,
            urls: dict[str, str] = URLS, make: str = MAKE):  # fmt: skip
        program("make", make.format(code))
        program("apt-get", 'echo "apt-get $*" >> calls')
        program("sudo", '"$@"')
        program("ldconfig", f"echo '{LIBRARIES[openmp]}'")
        for name in has:
            program(name, "")
        for name, text in SERVERS.items() if not urls else ():
            program(name, text)
        env = {k: v for k, v in os.environ.items() if not k.startswith("CASEBOOK_")}
        env |= {"PG_ROOT": str(tmp_path / "none"), **urls}
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


def test_servers_are_started_behind_a_password_and_stopped_also_after_a_failure(machine):
    make = MAKE.replace("exit {0}", 'echo "$CASEBOOK_POSTGRES_URL $CASEBOOK_REDIS_URL"; exit {0}')
    done, calls = machine(code=2, has=HAS, urls={}, make=make)
    assert done.returncode == 2, done.stderr
    postgres, redis = next(line for line in done.stdout.splitlines() if "@127" in line).split()
    secret = redis.split("@")[0].removeprefix("redis://:")
    assert len(secret) == 32 and postgres.startswith(f"postgresql://casebook:{secret}@127.0.0.1:")
    assert [one for one in calls if one.startswith(("initdb", "pg_ctl"))] == [
        "initdb scram-sha-256", "pg_ctl start", "pg_ctl stop",
    ]  # fmt: skip
    assert f"requirepass {secret}" in calls and "bind 127.0.0.1" in calls


def test_where_servers_run_already_or_do_not_start_the_checks_run_all_the_same(machine):
    _, calls = machine(has=HAS)
    assert not any("initdb" in one for one in calls), "their URLs are given"
    done, calls = machine(has=(*HAS, "initdb"), urls={"CASEBOOK_REDIS_URL": "redis://x"})
    assert done.returncode == 0 and any(one.endswith("recommends postgresql") for one in calls)
    assert "PostgreSQL did not start: its tests are skipped" in done.stderr


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
