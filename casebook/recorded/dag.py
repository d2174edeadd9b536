"""Steps in an order, each made once for the content that it is made of.

A step's folder is named by a hash of its inputs' content, the code that it reaches and its
settings. What is there already is not made again: after a kill a run goes on where it was, a
comment changes nothing, and a changed setting makes only what depends on it. A folder appears whole
or not at all, one that was altered is made again, and what a killed run left goes after a day.

Examples
--------
>>> import tempfile
>>> def double(have, out, settings):
...     text = (have["source"] / "word.txt").read_text()
...     (out / "words.txt").write_text(text * settings["times"])
>>> def source(have, out, settings):
...     (out / "word.txt").write_text("ab")
>>> steps = {"source": Step(source, {}), "double": Step(double, {"times": 2}, ("source",))}
>>> with tempfile.TemporaryDirectory() as folder:
...     first, again = run(folder, steps), run(folder, steps)
...     (again.path("double") / "words.txt").read_text(), first.new, again.new, read(
...         folder, again.keys
...     ).key == first.key
('abab', ('source', 'double'), (), True)
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from casebook.project import write_whole
from casebook.reach import of_function

#: From the folders of other steps, the step's own folder and its settings.
Make = Callable[[Mapping[str, Path], Path, Mapping[str, Any]], None]
#: Called with a point of a run, such as ``"made train"``; a test kills the process there.
Hook = Callable[[str], None]
#: Seconds after which an unfinished folder is that of a run that was killed.
LEFT = 86_400


class Step(NamedTuple):
    """A step: what it does, its settings, the steps that it reads, and what else it is made of.

    ``content`` is the hash of an input that is no step's output, for a step that reads none.
    """

    make: Make
    settings: Mapping[str, Any]
    needs: tuple[str, ...] = ()
    content: str = ""


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes
    ----------
    folder : Path
        Of all runs.
    made_of : mapping
        By step: ``key``, ``code``, ``settings``, ``inputs`` and ``outputs`` (hashes of files).
    new : tuple of str
        Steps that this run did; the others were there.
    """

    folder: Path
    made_of: Mapping[str, Mapping[str, Any]]
    new: tuple[str, ...]

    def path(self, step: str) -> Path:
        """Return the folder of a step's outputs."""
        return self.folder / f"{step}-{self.made_of[step]['key']}"

    @property
    def keys(self) -> dict[str, str]:
        """The key of each step, from which :func:`read` finds the run again."""
        return {name: one["key"] for name, one in self.made_of.items()}

    @property
    def key(self) -> str:
        """A hash of all that was made."""
        return digest({name: one["outputs"] for name, one in self.made_of.items()})

    def lineage(self) -> pd.DataFrame:
        """Return from which content, code and settings each step made what."""
        rows = {
            name: {
                "inputs": ", ".join(f"{a} {b}" for a, b in one["inputs"].items()),
                "code": one["code"],
                "settings": json.dumps(one["settings"]),
                "outputs": digest(one["outputs"]),
            }
            for name, one in self.made_of.items()
        }
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis("step")


def run(
    folder: Path | str,
    steps: Mapping[str, Step],
    packages: Sequence[str] = (),
    hook: Hook = lambda point: None,
) -> Run:
    """Make what is not there yet.

    Parameters
    ----------
    folder : Path
        Of all runs; two processes may use it together.
    steps : mapping of str to Step
        In an order in which each comes after what it needs. Their functions write the same bytes
        for the same inputs.
    packages : sequence of str
        Whose release enters the key of each step.
    hook : callable

    Raises
    ------
    KeyError
        If a step comes before one that it needs.
    """
    where, new = Path(folder), list[str]()
    _sweep(where)
    made_of: dict[str, dict[str, Any]] = {}
    for name, step in steps.items():
        inputs = {need: digest(made_of[need]["outputs"]) for need in step.needs}
        inputs |= {"content": step.content} if step.content else {}
        plan = {"inputs": inputs, "settings": dict(step.settings)}
        plan["code"] = code(step.make, packages)
        out = where / f"{name}-{digest(plan)}"
        if (found := _finished(out)) is None:
            have = {need: where / f"{need}-{made_of[need]['key']}" for need in step.needs}
            found = _make(out, step, have, plan, name, hook)
            new.append(name)
        made_of[name] = {"key": digest(plan), **found}
    return Run(where, made_of, tuple(new))


def read(
    folder: Path | str, keys: Mapping[str, str], outputs: Mapping[str, str] | None = None
) -> Run:
    """Return steps of a run again, from their keys.

    Parameters
    ----------
    folder : Path
    keys : mapping
        Of the steps.
    outputs : mapping, optional
        Hashes of files, as kept elsewhere: what lies beside a file says only what was written last.

    Raises
    ------
    LookupError
        If a folder is gone, or a file in it was altered.
    """
    where = Path(folder)
    made = Run(where, {n: {"key": k, **_stored(where / f"{n}-{k}")} for n, k in keys.items()}, ())
    found = {name: told for one in made.made_of.values() for name, told in one["outputs"].items()}
    if off := [name for name, told in (outputs or {}).items() if found.get(name) != told]:
        raise LookupError(f"{off} in {where} is not what was kept: run it again.")
    return made


def _make(
    out: Path, step: Step, have: Mapping[str, Path], plan: Mapping[str, Any], name: str, hook: Hook
) -> dict[str, Any]:
    """Make a step's folder beside its place, and put it there in one move."""
    part = out.with_name(f".{out.name}.{uuid.uuid4().hex}.part")
    part.mkdir(parents=True)
    try:
        hook(f"begun {name}")
        step.make(have, part, step.settings)
        hook(f"made {name}")
        found = {**plan, "outputs": {one.name: _of_file(one) for one in sorted(part.iterdir())}}
        write_whole(part / "step.json", json.dumps(found, indent=1).encode())
        hook(f"written {name}")
        try:
            os.rename(part, out)
        except OSError:  # another process was first, and made the same
            if (there := _finished(out)) is None:
                raise
            return there
        hook(f"finished {name}")
        return found
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _finished(out: Path) -> dict[str, Any] | None:
    """Return what a step made; a folder that was altered is moved away, to be made again."""
    for _ in range(2):  # another process may put it there between a look and the move
        if not out.exists():
            return None
        with suppress(LookupError):
            return _stored(out)
    with suppress(FileNotFoundError):  # another process has moved it
        os.rename(out, out.with_name(f".{out.name}.{uuid.uuid4().hex}.altered"))
    return None


def _sweep(where: Path) -> None:
    """Remove the unfinished folders of runs that were killed long ago."""
    for part in where.glob(".*.part"):
        with suppress(FileNotFoundError):  # finished, or removed by another process
            if time.time() - part.stat().st_mtime > LEFT:
                shutil.rmtree(part, ignore_errors=True)


def _stored(out: Path) -> dict[str, Any]:
    """Return what a step made; a ``LookupError`` if it is not what was written."""
    try:
        found = json.loads((out / "step.json").read_bytes())
        plan = {name: found[name] for name in ("inputs", "settings", "code")}
        if digest(plan) != out.name.rpartition("-")[2]:
            raise ValueError("made of something else than it is called after")
        off = [name for name, told in found["outputs"].items() if _of_file(out / name) != told]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise LookupError(f"{out} is no finished step ({error}): run it again.") from None
    if off:
        raise LookupError(f"{off} in {out} was altered: run it again.")
    return found


# Hashes ------------------------------------------------------------------------------------------


def digest(value: Any) -> str:
    """Return sixteen digits for a value that JSON can hold."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def _of_file(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def of_frame(frame: pd.DataFrame) -> str:
    """Return sixteen digits for a table's columns, types and values; its index does not count."""
    told = hashlib.sha256(repr([(name, str(kind)) for name, kind in frame.dtypes.items()]).encode())
    rows = pd.util.hash_pandas_object(frame, index=False)
    told.update(np.ascontiguousarray(rows.to_numpy()).tobytes())
    return told.hexdigest()[:16]


def code(make: Make, packages: Sequence[str] = ()) -> str:
    """Return a hash of the code that a step reaches, and of the packages that run it."""
    reached = of_function(make, "casebook").fingerprint()
    return digest([reached, {name: version(name) for name in packages}])
