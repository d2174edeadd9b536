"""Fixtures of the page tests: a browser for each file, and pages that are watched."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
from pace import patience, too_busy
from playwright.sync_api import TimeoutError as PageTimeout
from visits import REACTING, ROOT, chromium, stage, visits

from casebook.book.__main__ import toc_files


@pytest.fixture(scope="module")
def browser():
    """Give one browser to a file of tests.

    Playwright keeps an event loop running in this thread until it is stopped, and a test of
    another file that calls ``asyncio.run`` in the same worker would fail.
    """
    with chromium() as program:
        yield program


@pytest.fixture(scope="module")
def open_visits(browser):
    """Return a function that makes one like ``visit``, whose pages stay open for a file of tests.

    For tests that leave an open page as the next one may find it.
    """
    with ExitStack() as stack:
        yield lambda: stack.enter_context(visits(browser))


@pytest.fixture(scope="module")
def load(browser, tmp_path_factory):
    """Return a function that loads pages one after another in one window; cheaper than a visit."""
    with stage(browser, tmp_path_factory.mktemp("stage")) as load:
        yield load


@pytest.fixture
def visit(browser):
    """Return a function that opens a page of the book (or another file) and watches it."""
    with visits(browser) as open_page:
        yield open_page


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem):
    """Say of a page that did not react in its time whether the machine explains it."""
    try:
        return (yield)
    except PageTimeout as error:
        what = f"{pyfuncitem.name}: {error.message.splitlines()[0]}: the reaction of the page"
        raise too_busy(what, patience(REACTING)) from error


def pytest_generate_tests(metafunc):
    """Run a test that asks for ``name`` on every page of the table of contents."""
    if "name" in metafunc.fixturenames:
        metafunc.parametrize("name", toc_files(ROOT))
