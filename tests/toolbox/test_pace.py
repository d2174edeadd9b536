"""Waiting scales with the machine; a time that ran out is not called a fault of the product."""

from __future__ import annotations

import subprocess
import sys
import time
from queue import Empty

import httpx
import pace
import pytest

BURN = "import time\nwhile time.process_time() < {seconds}: pass\n"


class PlaywrightTimeoutError(Exception):
    """Stands for the libraries that have a time-out of their own."""


@pytest.mark.parametrize(
    ("loop", "strain"), [(0.02, 1), (0.1, 1), (0.3, 3), (1.0, 10), (60.0, pace.MOST)]
)
def test_a_slow_or_busy_machine_is_waited_for_longer(loop, strain):
    now = pace.strain(lambda: loop * pace.REFERENCE / 0.1)
    assert now == pytest.approx(strain)
    assert pace.patience(10, now) == pytest.approx(10 * strain)


def test_the_strain_is_measured_and_never_shortens_a_time():
    assert 1 <= pace.strain() <= pace.MOST
    assert 10 <= pace.patience(10) <= 10 * pace.MOST


def test_the_error_says_whether_the_machine_explains_it():
    busy = pace.too_busy("the first answer", 12, loop=lambda: 5 * pace.REFERENCE)
    assert str(busy).startswith("machine too busy: the first answer did not come within 12 s")
    quiet = pace.too_busy("the first answer", 12, loop=lambda: pace.REFERENCE)
    assert "machine too busy" not in str(quiet)
    assert "1.0 times slower than a quiet one, which does not explain it. It hangs" in str(quiet)
    assert not isinstance(busy, AssertionError)


@pytest.mark.parametrize(
    "error",
    [
        TimeoutError(),
        subprocess.TimeoutExpired("sleep", 1),
        Empty(),
        httpx.ReadTimeout(""),
        PlaywrightTimeoutError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_time_out_inside_is_no_verdict_about_the_product(error):
    with pytest.raises(pace.TooBusy, match="the answer"), pace.waiting("the answer", 0.01):
        raise error


def test_another_error_inside_stays_what_it_is():
    with pytest.raises(AssertionError, match="a fault"), pace.waiting("the answer", 9):
        raise AssertionError("a fault of the product")


def test_waiting_until_something_happened():
    answers = iter([0, None, 7])
    assert pace.until(lambda: next(answers), "a seven", 5, step=0) == 7
    with pytest.raises(pace.TooBusy, match="a seven did not come"):
        pace.until(lambda: False, "a seven", 0.001, step=0.001)


def test_seconds_of_a_child_and_of_what_it_started_count():
    start = "import subprocess, sys\n"
    grandchild = f"subprocess.run([sys.executable, '-c', {BURN.format(seconds=0.2)!r}])\n"
    before = pace.cpu_seconds()
    subprocess.run([sys.executable, "-c", start + grandchild + BURN.format(seconds=0.2)])
    assert pace.cpu_seconds() - before >= 0.35


def test_seconds_of_a_running_process_and_not_of_a_sleeping_one():
    command = [sys.executable, "-c", BURN.format(seconds=0.3) + "time.sleep(600)"]
    with subprocess.Popen(command) as child:
        try:  # the system counts in hundredths, so that 0.3 may show as 0.28
            pace.until(lambda: pace.cpu_seconds(child.pid) >= 0.25, "0.3 CPU seconds", 20)
            time.sleep(0.5)
            assert pace.cpu_seconds(child.pid) < 0.45
        finally:
            child.kill()
