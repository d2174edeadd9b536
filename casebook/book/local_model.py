"""The page on the small local model: a directive that shows its recorded answers.

``{local-model} results`` (or ``speed``, ``examples``, ``source``) reads the artifact
``data/local_model/artifacts/answers.parquet`` and judges it by the rules of
:mod:`casebook.recorded.local_model`, at every build.
"""

from __future__ import annotations

import html
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from sphinx.application import Sphinx

from casebook.book.reports import Cell, _Report, _table
from casebook.recorded.artifacts import artifact, manifest
from casebook.recorded.local_model import FOLDER, examples, results, speed

if TYPE_CHECKING:
    import pandas as pd

FILE = "answers.parquet"


def share(value: float) -> str:
    """Return a share as per cent, without decimals: there are at most 60 cases."""
    return f"{value:.0%}".replace("%", " %")


def results_table(rows: pd.DataFrame) -> str:
    """Return the table of what the model can and cannot do."""
    found = [
        [
            Cell(html.escape(row["measure"])),
            Cell(f"{row['good']} of {row['n']}", number=True),
            Cell(share(row["share"]), number=True),
            Cell(f"[{100 * row['low']:.0f}, {share(row['high'])}]", number=True),
        ]
        for row in results(rows).to_dict("records")
    ]
    caption = "What was measured, how often it happened, its share and the 95 % interval"
    return _table(
        "Results of the local model", caption, ["measure", "count", "share", "95 %"], found
    )


def speed_sentence(rows: pd.DataFrame) -> str:
    """Return what an answer takes, as a sentence."""
    took = speed(rows)
    return (
        f"<p>Over the {took['answers']} answers that came in one attempt without the grammar, the "
        f"median prompt had {took['prompt_tokens']:.0f} tokens and the median answer "
        f"{took['completion_tokens']:.0f}. The first token came after "
        f"{took['first_seconds']:.2f} seconds (median; 95 % within {took['first_p95']:.2f} "
        "seconds), "
        f"and then {took['tokens_per_second']:.1f} tokens per second, on one thread of a processor "
        "that other programs used too.</p>"
    )


def example_table(rows: pd.DataFrame) -> str:
    """Return answers that went wrong."""
    found = [
        [Cell(html.escape(what)), Cell(html.escape(asked)), Cell(html.escape(said))]
        for what, asked, said in examples(rows)
    ]
    return _table("Answers that went wrong", "The first two failures of each kind, as recorded",
                  ["what", "asked", "answered"], found)  # fmt: skip


def source(rows: pd.DataFrame) -> str:
    """Return where the answers come from."""
    entry = manifest(FOLDER)[FILE]
    versions = ", ".join(f"{name} {version}" for name, version in entry["versions"].items())
    return (
        f"<p>Recorded: {len(rows)} answers, made in {entry['seconds']:,} seconds by "
        f"<code>{html.escape(entry['command'])}</code> with {html.escape(versions)}. "
        "The tests ask a random sample of the questions again and compare the answers.</p>"
    )


PARTS: dict[str, Callable[[pd.DataFrame], str]] = {
    "results": results_table,
    "speed": speed_sentence,
    "examples": example_table,
    "source": source,
}


class LocalModelReport(_Report):
    """``{local-model} PART``: one part of the recorded answers."""

    required_arguments = 1

    def content_of(self, root: Path) -> str:
        part = self.arguments[0]
        if part not in PARTS:
            raise self.error(f"{part!r} is no part of the report; these are: {', '.join(PARTS)}.")
        return PARTS[part](artifact(FOLDER, FILE))


def setup(app: Sphinx) -> dict:
    """Register the directive."""
    app.add_directive("local-model", LocalModelReport)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
