"""The world of case 20: tenants with their traffic, and providers that fail."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

CHAPTER = "20_llm_gateway"
#: Seed of the page's world of routing.
SEED = 20


def snapshots() -> dict[str, pd.DataFrame]:
    """Return what stands in ``data/20_llm_gateway``, by file name; the truth is not among it."""
    from casebook.cases.llm_gateway.world import attacks, requests

    world = requests.simulate(SEED)
    return {
        "tenants.parquet": world.tenants.reset_index(),
        "requests.parquet": world.requests,
        "attacks.parquet": attacks.corpus(),
    }
