"""What a definition and a notebook cell reach, read from planted sources."""

from __future__ import annotations

import ast
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress

import pytest

from casebook import reach
from casebook.reach import Sources

FILES = {
    "__init__.py": "",
    "worlds.py": '''"""Worlds."""
from __future__ import annotations
import numpy as np
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from planted.models import Model

SIZE = 3
RATES = {}
RATES["low"] = 0.1

def weeks(n: int) -> list:
    """Return weeks."""
    return np.arange(n * SIZE)

def days():
    return weeks(7)

def rate(model: Model):
    return RATES["low"]
''',
    "models.py": """from . import worlds
from .worlds import weeks as weekly

class Model:
    def fit(self):
        return worlds.days()

def light():
    return weekly(1)

def local():
    from planted.worlds import SIZE as LARGE

    return LARGE

def by_name(name):
    return getattr(worlds, name)

def hidden(code):
    exec(code)

def started():
    return ["python", "-m", "planted.server"]
""",
    "server.py": "PORT = 0\n\ndef app():\n    return 1\n\nif __name__ == '__main__':\n    app()\n",
    "hand/__init__.py": "from planted.worlds import weeks\nfrom .inner import deep\n",
    "hand/inner.py": "def deep():\n    return 1\n\ndef unused():\n    return 2\n",
    "effects.py": "import warnings\n\nwarnings.simplefilter('error')\n\ndef one():\n    return 1\n",
}


@pytest.fixture
def sources(tmp_path) -> Sources:
    """Return the sources of a planted package in a folder of its own."""
    for name, content in FILES.items():
        (tmp_path / "planted" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "planted" / name).write_text(content)
    return Sources({"planted": tmp_path / "planted"})


def names(reached) -> set[str]:
    return {f"{module.removeprefix('planted.')}.{name}" for module, name in reached.definitions}


def edit(sources, file: str, old: str, new: str) -> None:
    path = sources.tops["planted"] / file
    assert path.read_text().count(old) == 1
    path.write_text(path.read_text().replace(old, new))


WORLDS = {"worlds.SIZE", "worlds.RATES", "worlds.weeks", "worlds.days", "worlds.rate"}
MODELS = {"Model", "light", "local", "by_name", "hidden", "started"}
SERVER = {"server.PORT", "server.app"}


@pytest.mark.parametrize(
    ("name", "reaches"),
    [
        ("light", {"worlds.weeks", "worlds.SIZE"}),
        ("Model", {"worlds.days", "worlds.weeks", "worlds.SIZE"}),
        ("local", {"worlds.SIZE"}),
        ("by_name", WORLDS),
        ("started", SERVER),
        ("hidden", WORLDS | SERVER | {f"models.{name}" for name in MODELS}),
    ],
)
def test_a_definition_reaches_what_it_mentions(sources, name, reaches):
    assert names(sources.reached("planted.models", name)) == reaches | {f"models.{name}"}


def test_types_alone_are_not_reached_and_statements_about_a_name_belong_to_it(sources):
    reached = sources.reached("planted.worlds", "rate")
    assert names(reached) == {"worlds.rate", "worlds.RATES"}
    assert '["low"] = 0.1' in reached.definitions["planted.worlds", "RATES"].code


def test_what_a_module_does_when_it_is_imported_belongs_to_all_that_it_defines(sources):
    before = sources.reached("planted.effects", "one").fingerprint()
    edit(sources, "effects.py", "'error'", "'ignore'")
    assert sources.reached("planted.effects", "one").fingerprint() != before


@pytest.mark.parametrize(
    ("cell", "reaches"),
    [
        ("from planted.models import light\nlight()", {"models.light", "worlds.weeks"}),
        ("import planted.worlds as w\nw.days()", {"worlds.days", "worlds.weeks"}),
        ("import planted.worlds\nplanted.worlds.days()", {"worlds.days", "worlds.weeks"}),
        ("from planted.hand import deep\ndeep()", {"hand.inner.deep"}),
        ("from planted import hand\nhand.weeks(2)", {"worlds.weeks"}),
        ("from planted.hand import *", {"hand.inner.deep", "worlds.weeks"}),
        ("weeks = 3\nweeks", set()),
    ],
)
def test_a_cell_reaches_what_it_imports_and_mentions(sources, cell, reaches):
    found = names(sources.reached_by(sources.parse(cell)))
    assert found == reaches | ({"worlds.SIZE"} if "worlds.weeks" in reaches else set())


@pytest.mark.parametrize("cell", ["exec('x = 1')", "import importlib as i\ni.import_module(m)"])
def test_a_cell_that_hides_what_it_reaches_reaches_everything(sources, cell):
    found = sources.reached_by(sources.parse(cell))
    assert {"planted.worlds", "planted.models", "planted.server"} <= found.modules
    assert names(found) >= WORLDS


def test_what_a_package_hands_on_from_another_one_is_reached_by_name(sources):
    """A method named like a function that hides what it reaches, as `frame.eval`, counts too."""
    sources.tops["planted"].joinpath("__init__.py").write_text("import numpy as np\n")
    for cell in ("exec('x = 1')", "frame.eval('x + 1')"):
        assert "numpy" in sources.reached_by(sources.parse(cell)).packages


def test_the_name_that_an_import_takes_from_another_package_counts(sources):
    before = sources.reached("planted.worlds", "weeks")
    assert before.packages == {"numpy"}
    edit(sources, "worlds.py", "import numpy as np", "import pandas as np")
    assert sources.reached("planted.worlds", "weeks").fingerprint() != before.fingerprint()


def test_two_definitions_of_one_name_that_change_places_are_told_apart(sources):
    folder = sources.tops["planted"]
    (folder / "a.py").write_text("def f():\n    return 1\n")
    (folder / "b.py").write_text("def f():\n    return 2\n")
    user = "from .a import f as first\nfrom .b import f as second\n\ndef g():\n"
    (folder / "user.py").write_text(user + "    return first() - second()\n")
    before = sources.reached("planted.user", "g").fingerprint()
    edit(sources, "a.py", "return 1", "return 2")
    edit(sources, "b.py", "return 2", "return 1")
    assert sources.reached("planted.user", "g").fingerprint() != before


def test_a_module_without_a_source_is_named(sources):
    with pytest.raises(ModuleNotFoundError, match=r"no source of planted\.gone"):
        sources.parsed("planted.gone")
    with pytest.raises(ModuleNotFoundError, match="no module no_such_package"):
        Sources.installed("no_such_package")


def test_a_closed_module_is_not_looked_into_but_another_name_of_it_counts(sources):
    closed = Sources(sources.tops, closed=["planted.worlds"])
    before = closed.reached("planted.models", "light")
    assert before.modules == {"planted.models"}
    path = sources.tops["planted"] / "worlds.py"
    plain = sources.reached("planted.models", "light").fingerprint()
    path.write_text(path.read_text().replace("def weeks(", "def weeks(more=1, *, "))
    assert sources.reached("planted.models", "light").fingerprint() != plain
    assert closed.reached("planted.models", "light").fingerprint() == before.fingerprint()
    path = sources.tops["planted"] / "models.py"
    path.write_text(path.read_text().replace("weeks", "days"))
    assert closed.reached("planted.models", "light").fingerprint() != before.fingerprint()


# Two threads -------------------------------------------------------------------------


def most_at_once(monkeypatch) -> int:
    """Parse two sources in two threads; return how many were being parsed at the same time."""
    inside, most, both = [], [], threading.Barrier(2)
    parse = ast.parse

    def watched(source):
        inside.append(source)
        with suppress(threading.BrokenBarrierError):
            both.wait(0.3)
        most.append(len(inside))
        inside.remove(source)
        return parse(source)

    monkeypatch.setattr(reach.ast, "parse", watched)
    reach._parse.cache_clear()
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda name: reach._parse(f"{name} = 1", "", ("planted",)), "ab"))
    return max(most)


def test_one_source_is_parsed_at_a_time(monkeypatch):
    assert most_at_once(monkeypatch) == 1


def test_without_the_lock_two_are(monkeypatch):
    monkeypatch.setattr(reach, "_ONE_AT_A_TIME", nullcontext())
    assert most_at_once(monkeypatch) == 2
