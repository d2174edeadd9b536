"""Write the snapshots of all worlds and fetch the real data: ``make data``."""

from __future__ import annotations

import importlib
import pkgutil
import sys

import casebook.cases
from casebook.data import RealDataUnavailable, real, registry
from casebook.project import data_dir


def worlds():
    """Return the modules of all simulated worlds."""
    names = [m.name for m in pkgutil.iter_modules(casebook.cases.__path__) if m.ispkg]
    return [importlib.import_module(f"casebook.cases.{name}.world") for name in names]


def main() -> int:
    """Make everything in ``data/`` that is made, and fetch what is fetched."""
    for world in worlds():
        folder = data_dir() / world.CHAPTER
        folder.mkdir(exist_ok=True)
        for name, frame in world.snapshots().items():
            frame.to_parquet(folder / name, index=False, compression="zstd")
            print(f"written  {world.CHAPTER}/{name}  {len(frame):,} rows")
    for name in registry():
        try:
            print(f"ready    {name}: {real(name)}")
        except RealDataUnavailable as error:
            print(f"absent   {error}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
