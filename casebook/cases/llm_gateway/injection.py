"""Detect attacks on the model in a message: the guard of patterns against two classifiers.

The guard (:func:`casebook.serving.guard.attack`) was written for a support chatbot. A classifier
reads the letters (n-grams of characters) and the MiniLM vector of a text. What an attacker writes
next is not in any training set, so a detector is judged on **families** that it has not seen: each
family of attacks is left out in turn, and with it a part of the families of harmless texts and of
ordinary requests.

The threshold is set on texts of the training families that the detector had not read either, at
one false alarm in a hundred; false alarms on what is new are measured, not assumed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache

import numpy as np
import pandas as pd

from casebook.cases.llm_gateway.artifacts import stored
from casebook.cases.llm_gateway.world.attacks import corpus
from casebook.retrieval.text_attacks import Settings, learn, rates
from casebook.serving.guard import attack

#: None is the guard. The settings won among six for each learner, in parts of another seed in which
#: all families were judged: what was chosen is a little flattered.
DETECTORS: dict[str, Settings | None] = {
    "guard": None,
    "logistic": ("logistic", 30.0, "both"),
    "trees": ("trees", 5.0, "both"),
}

# Families that are left out -------------------------------------------------------------


def left_out(
    seed: int = 0, new_families: bool = True
) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Yield rows to learn from and rows to judge on.

    Parameters
    ----------
    seed : int
    new_families : bool
        Each family of attacks is judged in turn, with a fifth of the families of harmless texts
        and of ordinary requests. Otherwise each random fifth of the texts, as many evaluations do.

    Yields
    ------
    name : str
        Of the family, or of the part.
    train, test : ndarray of bool, shape (rows of the corpus,)
        No written text is in both, and no family where families are new.
    """
    texts, rng, part = corpus(), np.random.default_rng(seed), {}
    family, attacks = texts["family"].to_numpy(), (texts["kind"] == "attack").to_numpy()
    for kind in ("harmless", "ordinary"):
        names = sorted(texts.loc[texts["kind"] == kind, "family"].unique())
        part |= {str(name): i % 5 for i, name in enumerate(rng.permutation(names))}
    own = texts["family"].map(part).fillna(-1).to_numpy()
    if new_families:
        for i, name in enumerate(sorted(set(family[attacks]))):
            test = (family == name) | (own == i % 5)
            yield name, ~test, test
        return
    names = texts["origin"].unique()
    drawn = texts["origin"].map(dict(zip(names, rng.permutation(len(names)) % 5, strict=True)))
    for i in range(5):
        yield f"part {i + 1}", (drawn != i).to_numpy(), (drawn == i).to_numpy()


@lru_cache(maxsize=4_096)
def _guarded(text: str) -> bool:
    return bool(attack(text))


def judged(
    seed: int = 0,
    detectors: Mapping[str, Settings | None] = DETECTORS,
    new_families: bool = True,
) -> pd.DataFrame:
    """Let detectors judge each family of attacks that they have not seen.

    Parameters
    ----------
    seed, new_families
        As of :func:`left_out`.
    detectors : mapping of str to Settings or None
        None is the guard.

    Returns
    -------
    DataFrame
        As of the corpus, with ``left_out`` (family of attacks), ``detector``, ``score``, ``flag``.
        ``guard or logistic`` and ``guard or trees`` flag what one of the two flags; by score, what
        the guard flags comes first.
    """
    texts, parts = corpus(), []
    for name, train, test in left_out(seed, new_families):
        own, scored = texts[test], {}
        for detector, at in detectors.items():
            if at is None:
                flag = np.array([_guarded(text) for text in own["text"]])
                scored[detector] = flag.astype(float), flag
                continue
            made, threshold = learn(at, texts[train], stored())
            scores = made(own["text"])
            scored[detector] = scores, scores > threshold
        for other in {"logistic", "trees"} & {*scored} if "guard" in scored else ():
            (sure, yes), (likely, maybe) = scored["guard"], scored[other]
            scored[f"guard or {other}"] = sure + likely, yes | maybe
        for detector, (score, flag) in scored.items():
            parts.append(own.assign(left_out=name, detector=detector, score=score, flag=flag))
    return pd.concat(parts, ignore_index=True)


# Tables ---------------------------------------------------------------------------------


def detected(seeds: Sequence[int] = (0,)) -> pd.DataFrame:
    """Judge all detectors: ``seed``, ``new_families`` and as of :func:`rates`."""
    return pd.concat(
        [
            rates(judged(seed, new_families=new)).assign(seed=seed, new_families=new)
            for seed in seeds
            for new in (True, False)
        ],
        ignore_index=True,
    )


def latency(n: int = 300, clock: Callable[[], float] = time.thread_time) -> pd.DataFrame:
    """Time a text, its vector at hand: ``detector``, ``p50_ms``, ``p99_ms`` (CPU)."""
    texts, rows = corpus(), []
    some = texts["text"].iloc[np.random.default_rng(0).choice(len(texts), n, replace=False)]
    for name, at in DETECTORS.items():
        made, spent = None if at is None else learn(at, texts, stored())[0], np.zeros(n)
        for i, text in enumerate(some):
            start = clock()
            _ = attack(text) if made is None else made([text])
            spent[i] = 1000 * (clock() - start)
        rows.append((name, *np.quantile(spent, [0.5, 0.99])))
    return pd.DataFrame(rows, columns=["detector", "p50_ms", "p99_ms"])
