"""The pipeline: data, features, training and evaluation, each made once for what it is made of.

:func:`run` resumes after a kill, makes the same bytes from the same rows, and knows of what each
file was made (:mod:`casebook.recorded.dag`). It also runs from the command line:
``python -m casebook.cases.deployment_pipeline.pipeline --help``.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from casebook.cases.deployment_pipeline import steps
from casebook.recorded import dag

#: Packages whose release may change what a step writes.
PACKAGES = ("lightgbm", "numpy", "pandas", "pyarrow")
#: By step: its function, the steps that it reads, its settings.
STEPS: Mapping[str, tuple[Callable[..., None], tuple[str, ...], tuple[str, ...]]] = {
    "data": (steps.data, ("source",), ("bad_rows",)),
    "features": (steps.features, ("data",), ("until", "wait", "test_days")),
    "train": (steps.fit, ("features",), steps.LEARNING),
    "evaluate": (steps.evaluate, ("features", "train"), ()),
}


def run(
    folder: Path | str,
    data: pd.DataFrame,
    until: pd.Timestamp | str,
    settings: Mapping[str, Any] | None = None,
    hook: dag.Hook = lambda point: None,
) -> dag.Run:
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
        Called with each point of the run.

    Raises
    ------
    ValueError
        For a setting that no step has.
    ContractBroken
        If the data break their contract.

    Returns
    -------
    Run
        ``path("train")`` is the model's folder, ``path("evaluate")`` that of its card.
    """
    if unknown := sorted({*(settings or {})} - {*steps.SETTINGS}):
        raise ValueError(f"no setting {unknown}; there are {list(steps.SETTINGS)}.")
    until = pd.Timestamp(until)
    chosen = {**steps.SETTINGS, **(settings or {}), "until": str(until)}
    seen = steps.as_of(data, until)

    def source(have: Mapping[str, Path], out: Path, _: Mapping[str, Any]) -> None:
        seen.to_parquet(out / "payments.parquet", index=False)

    plan = {"source": dag.Step(source, {}, content=dag.of_frame(seen))}
    for name, (make, needs, own) in STEPS.items():
        plan[name] = dag.Step(make, {one: chosen[one] for one in own}, needs)
    return dag.run(folder, plan, PACKAGES, hook)


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
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    told = {"run": done.key, "model": str(done.path("train")), "new": done.new, "keys": done.keys}
    print(json.dumps(told))
    return 0


if __name__ == "__main__":
    sys.exit(main())
