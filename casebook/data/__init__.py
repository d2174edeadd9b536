"""Snapshots, real data with their recipes, readers of public sets, contracts.

``snapshot`` reads a committed snapshot of a simulated world, ``real`` finds or fetches a public
file, ``explain`` says where it looks. The modules: ``files`` (these), ``fetch`` (downloads),
``tables`` and ``texts`` (readers of public data sets),
``contracts`` (what a feed must keep).
"""

from casebook.data.files import (
    RealDataUnavailable,
    RealFile,
    cache_dir,
    explain,
    find_real,
    real,
    real_or_note,
    registry,
    snapshot,
)

__all__ = [
    "RealDataUnavailable",
    "RealFile",
    "cache_dir",
    "explain",
    "find_real",
    "real",
    "real_or_note",
    "registry",
    "snapshot",
]
