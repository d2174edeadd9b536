"""A file of page tests leaves its worker as it found it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

pytest_plugins = "pytester"

FOLDER = Path(__file__).parent
ONE_BROWSER_A_FILE = '@pytest.fixture(scope="module")\ndef browser'


@pytest.mark.parametrize(
    ("scope", "outcome"),
    [("module", {"passed": 2}), ("session", {"passed": 1, "failed": 1})],
    ids=["as it is", "a browser that outlives its file"],
)
def test_a_test_of_another_file_may_run_an_event_loop(pytester, monkeypatch, scope, outcome):
    conftest = (FOLDER / "conftest.py").read_text(encoding="utf-8")
    assert ONE_BROWSER_A_FILE in conftest
    changed = ONE_BROWSER_A_FILE.replace("module", scope)
    pytester.makeconftest(conftest.replace(ONE_BROWSER_A_FILE, changed))
    pytester.makepyfile(
        test_a="def test_a_page(browser):\n    assert browser.is_connected()",
        test_b="import asyncio\n\ndef test_a_service():\n    asyncio.run(asyncio.sleep(0))",
    )
    monkeypatch.setenv("PYTHONPATH", ":".join([str(FOLDER), str(FOLDER.parent), *sys.path]))
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-p", "no:xdist")
    result.assert_outcomes(**outcome)


def test_a_page_that_does_not_react_is_told_apart_from_a_wrong_one(pytester, monkeypatch):
    pytester.makeconftest((FOLDER / "conftest.py").read_text(encoding="utf-8"))
    pytester.makepyfile(
        "from playwright.sync_api import TimeoutError\n\n"
        "def test_late():\n    raise TimeoutError('Timeout 10 ms exceeded.')\n\n"
        "def test_wrong():\n    assert 1 == 2\n"
    )
    monkeypatch.setenv("PYTHONPATH", ":".join([str(FOLDER), str(FOLDER.parent), *sys.path]))
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-p", "no:xdist")
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines_random(
        ["*pace.TooBusy: *test_late: Timeout 10 ms exceeded.*", "*assert 1 == 2*"]
    )
