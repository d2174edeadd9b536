"""Write the snapshots of all worlds and fetch the real data: ``make data``.

``make data N=02`` writes those of one case and fetches nothing.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
from collections.abc import Sequence
from types import ModuleType

import casebook.cases
from casebook.data import RealDataUnavailable, real, registry
from casebook.project import data_dir


def worlds():
    """Return the modules of all simulated worlds."""
    names = [m.name for m in pkgutil.iter_modules(casebook.cases.__path__) if m.ispkg]
    return [importlib.import_module(f"casebook.cases.{name}.world") for name in names]


def write_snapshots(world: ModuleType) -> None:
    """Write what a world puts into ``data/``."""
    folder = data_dir() / world.CHAPTER
    folder.mkdir(exist_ok=True)
    for name, frame in world.snapshots().items():
        frame.to_parquet(folder / name, index=False, compression="zstd")
        print(f"written  {world.CHAPTER}/{name}  {len(frame):,} rows")


def main(which: Sequence[str] = ()) -> int:
    """Make everything in ``data/`` that is made, and fetch what is fetched.

    Parameters
    ----------
    which : sequence of str
        Numbers of cases (``02``): only their snapshots are written.
    """
    made = [w for w in worlds() if not which or w.CHAPTER.split("_")[0] in which]
    if which and not made:
        print(f"no case has the number {', '.join(which)}")
        return 1
    for world in made:
        write_snapshots(world)
    for name in registry() if not which else ():
        try:
            print(f"ready    {name}: {real(name)}")
        except RealDataUnavailable as error:
            print(f"absent   {error}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
