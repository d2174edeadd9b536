"""The pipeline: steps in an order, each made once for the content that it is made of.

A step's folder is named by a hash of its inputs' content, the code that it reaches and its
settings. What is there already is not made again: after a kill the pipeline goes on where it was,
a comment changes nothing, and a changed setting makes only what depends on it.
``python -m casebook.cases.deployment_pipeline.pipeline --help`` runs it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from casebook.cases.deployment_pipeline import steps
from casebook.project import write_whole
from casebook.reach import of_function

#: Packages whose release may change what a step writes.
PACKAGES = ("lightgbm", "numpy", "pandas", "pyarrow")
#: Called with a point of a run, such as ``"made train"``; a test kills the process there.
Hook = Callable[[str], None]


class Step(NamedTuple):
    """A step: what it does, the steps whose folders it reads, and the settings that it sees."""

    make: Callable[[Mapping[str, Path], Path, Mapping[str, Any]], None]
    needs: tuple[str, ...]
    settings: tuple[str, ...] = ()


#: In an order in which each comes after what it needs.
STEPS: Mapping[str, Step] = {
    "data": Step(steps.data, ("source",), ("bad_rows",)),
    "features": Step(steps.features, ("data",), ("until", "wait", "test_days")),
    "train": Step(steps.fit, ("features",), steps.LEARNING),
    "evaluate": Step(steps.evaluate, ("features", "train")),
}


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes
    ----------
    folder : Path
        Of the pipeline.
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
    def key(self) -> str:
        """What the whole run is known by: the hash of all that it made."""
        return _hash({name: one["outputs"] for name, one in self.made_of.items()})

    @property
    def model(self) -> steps.Model:
        """The model that was trained."""
        return steps.Model.load(self.path("train"))

    def lineage(self) -> pd.DataFrame:
        """Return from which content, code and settings each step made what."""
        rows = [
            {
                "step": name,
                "inputs": ", ".join(f"{a} {b}" for a, b in one["inputs"].items()),
                "code": one["code"],
                "settings": json.dumps(one["settings"]),
                "outputs": _hash(one["outputs"]),
            }
            for name, one in self.made_of.items()
        ]
        return pd.DataFrame(rows).set_index("step")


def run(
    folder: Path | str,
    data: pd.DataFrame,
    until: pd.Timestamp | str,
    settings: Mapping[str, Any] | None = None,
    hook: Hook = lambda point: None,
) -> Run:
    """Run the pipeline on what was known at a moment; what is there already is not made again.

    Parameters
    ----------
    folder : Path
        Of all runs; two processes may use it together.
    data : DataFrame
        Payments, with columns :data:`steps.COLUMNS`; later payments and reports are left out.
    until : Timestamp
    settings : mapping, optional
        In place of some of :data:`steps.SETTINGS`.
    hook : callable

    Raises
    ------
    ValueError
        For a setting that no step has.
    ContractBroken
        If the data break their contract.
    """
    where, until = Path(folder), pd.Timestamp(until)
    if unknown := sorted({*(settings or {})} - {*steps.SETTINGS}):
        raise ValueError(f"no setting {unknown}; there are {list(steps.SETTINGS)}.")
    chosen = {**steps.SETTINGS, **(settings or {}), "until": str(until)}
    seen = steps.as_of(data, until)

    def source(have: Mapping[str, Path], out: Path, _: Mapping[str, Any]) -> None:
        seen.to_parquet(out / "payments.parquet", index=False)

    made_of: dict[str, dict[str, Any]] = {}
    new = []
    order = {"source": Step(source, ()), **STEPS}
    for name, step in order.items():
        inputs = {need: _hash(made_of[need]["outputs"]) for need in step.needs}
        inputs |= {} if step.needs else {"payments": frame_hash(seen)}
        mine = {one: chosen[one] for one in step.settings}
        plan = {"inputs": inputs, "settings": mine, "code": code(step.make) if step.needs else ""}
        out = where / f"{name}-{_hash(plan)}"
        if (found := _finished(out)) is None:
            have = {need: where / f"{need}-{made_of[need]['key']}" for need in step.needs}
            found = _make(out, step.make, have, mine, plan, lambda p, n=name: hook(f"{p} {n}"))
            new.append(name)
        made_of[name] = {"key": _hash(plan), **found}
    return Run(where, made_of, tuple(new))


def _make(
    out: Path,
    make: Callable[..., None],
    have: Mapping[str, Path],
    settings: Mapping[str, Any],
    plan: Mapping[str, Any],
    hook: Hook,
) -> dict[str, Any]:
    """Make a step's folder beside its place, and put it there in one move."""
    part = out.with_name(f".{out.name}.{uuid.uuid4().hex}.part")
    part.mkdir(parents=True)
    try:
        hook("begun")
        make(have, part, settings)
        hook("made")
        outputs = {file.name: _file_hash(file) for file in sorted(part.iterdir())}
        found = {**plan, "outputs": outputs}
        write_whole(part / "step.json", json.dumps(found, indent=1).encode())
        hook("written")
        try:
            os.rename(part, out)
        except OSError:  # another process was first, and made the same
            if (there := _finished(out)) is None:
                raise
            return there
        hook("finished")
        return found
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _finished(out: Path) -> dict[str, Any] | None:
    """Return what a step made; a folder that was altered is moved away, to be made again."""
    try:
        return _stored(out)
    except LookupError:
        if out.exists():
            os.rename(out, out.with_name(f".{out.name}.{uuid.uuid4().hex}.altered"))
        return None


def _stored(out: Path) -> dict[str, Any]:
    """Return what a step made; a ``LookupError`` if it is not what was written."""
    try:
        found = json.loads((out / "step.json").read_bytes())
        off = [name for name, told in found["outputs"].items() if _file_hash(out / name) != told]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise LookupError(f"{out} is no finished step ({error}): run the pipeline.") from None
    if off:
        raise LookupError(f"{off} in {out} was altered: run the pipeline again.")
    return found


def read(folder: Path | str, keys: Mapping[str, str]) -> Run:
    """Return steps of a run again, from their keys.

    Raises
    ------
    LookupError
        If a folder is gone, or a file in it was altered.
    """
    where = Path(folder)
    return Run(where, {n: {"key": k, **_stored(where / f"{n}-{k}")} for n, k in keys.items()}, ())


def leftovers(folder: Path | str) -> Iterator[Path]:
    """Yield what killed runs left behind; nothing reads it, and no run may be going on."""
    yield from Path(folder).glob(".*.part")


# Hashes ------------------------------------------------------------------------------------------


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def _file_hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def frame_hash(frame: pd.DataFrame) -> str:
    """Return a hash of a table's columns, types and values; its index does not count."""
    told = hashlib.sha256(repr([(name, str(kind)) for name, kind in frame.dtypes.items()]).encode())
    rows = pd.util.hash_pandas_object(frame, index=False)
    told.update(np.ascontiguousarray(rows.to_numpy()).tobytes())
    return told.hexdigest()[:16]


@cache
def code(make: Callable[..., None]) -> str:
    """Return a hash of the code that a step reaches, and of the packages that run it."""
    versions = {name: version(name) for name in PACKAGES}
    return _hash([of_function(make, "casebook").fingerprint(), versions])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line; 1 with the reasons if the data are refused."""
    parser = argparse.ArgumentParser(description="Train a model from a table of payments.")
    parser.add_argument("--folder", required=True, help="of the pipeline")
    parser.add_argument("--data", required=True, help="a parquet file of payments")
    parser.add_argument("--until", required=True, help="what is known then, such as 2025-10-28")
    parser.add_argument("--settings", default="{}", help="JSON, in place of some settings")
    given = parser.parse_args(arguments)
    try:
        chosen = json.loads(given.settings)
        done = run(given.folder, pd.read_parquet(given.data), given.until, chosen)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    print(json.dumps({"run": done.key, "model": str(done.path("train")), "new": done.new}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
