"""A swap under load: no failed and no mixed answer, and no bad version serves."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from casebook.serving.swap import Swap, finds, finite, recall, size


class Index:
    """Vectors with ids, and a brute-force search that reads both more than once."""

    def __init__(self, vectors, tag: int, broken: bool = False) -> None:
        self.vectors, self.tag, self.broken = np.asarray(vectors, float), tag, broken

    def search(self, queries, k: int = 5):
        scores = queries @ self.vectors.T
        if self.broken:
            scores = -scores
        return np.argsort(-scores, axis=1, kind="stable")[:, :k]

    def exact(self, queries, k: int = 5):
        return np.argsort(-(queries @ self.vectors.T), axis=1, kind="stable")[:, :k]


RNG = np.random.default_rng(0)
VECTORS, QUERIES = RNG.normal(size=(200, 8)), RNG.normal(size=(30, 8))
CHECKS = {
    "size": size(lambda index: len(index.vectors), least=100, shrinks=0.2),
    "numbers": finite(lambda index: index.vectors),
    "recall": finds(lambda i: i.search(QUERIES), lambda i: i.exact(QUERIES)),
}


def crash():
    raise MemoryError("planted")


def spoilt(change):
    vectors = VECTORS.copy()
    change(vectors)
    return lambda: Index(vectors, 2)


@pytest.mark.parametrize(
    ("build", "why"),
    [
        (crash, "build: MemoryError: planted"),
        (lambda: None, "size: AttributeError"),
        (lambda: Index(VECTORS[:0], 2), "size: 0 is below 100"),
        (lambda: Index(VECTORS[:150], 2), "size: 150 is less than 80 % of the 200 that serve"),
        (spoilt(lambda v: v.__setitem__((3, 1), np.nan)), "numbers: no number in 1 of 200 rows"),
        (spoilt(lambda v: v.__setitem__((3, 1), np.inf)), "numbers: no number in 1 of 200 rows"),
        (spoilt(lambda v: v.__setitem__(slice(None), 1)), "numbers: all 200 rows are the same"),
        (lambda: Index(VECTORS, 2, broken=True), "recall: recall"),
    ],
)
def test_a_bad_build_is_refused_with_its_reason_and_the_old_one_goes_on(build, why):
    first = Index(VECTORS, 1)
    served = Swap(first, CHECKS)
    outcome = served.offer(build)
    assert not outcome.swapped and outcome.why.startswith(why)
    assert served.current == (1, first) and served.outcomes[-1] == outcome
    with pytest.raises(LookupError, match="build one"):
        served.back()
    assert served.offer(lambda: Index(VECTORS + 1, 2)).swapped
    assert served.current.number == 2


def test_roll_back_returns_the_version_before_and_numbers_are_never_used_again():
    served = Swap("a", {}, keep=2)
    for value in "bcd":
        served.offer(lambda value=value: value)
    assert served.current == (4, "d")
    assert served.back() == (3, "c") and served.back() == (2, "b")
    with pytest.raises(LookupError):
        served.back()
    assert served.offer(lambda: "e").version == 5


def test_under_load_no_answer_fails_and_none_is_mixed():
    """Readers use their version in several steps while it is replaced, refused and rolled back."""
    served = Swap(Index(VECTORS, 1), CHECKS, keep=2)
    answers, faults, over = [], [], threading.Event()

    def read(seed: int) -> None:
        queries = np.random.default_rng(seed).normal(size=(1, 8))
        while not over.is_set():
            try:
                number, index = served.current
                ids = index.search(queries)[0]
                time.sleep(0)
                tag, vectors = (
                    index.tag,
                    index.vectors[ids],
                )
                right = np.array_equal(ids, index.exact(queries)[0])
                answers.append((number, tag, right and bool(np.isfinite(vectors).all())))
            except Exception as error:
                faults.append(error)

    readers = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
    for reader in readers:
        reader.start()
    made = {1: 1}
    for tag in range(2, 14):
        rows = 200 + 10 * tag
        vectors = np.random.default_rng(tag).normal(size=(rows, 8))
        outcome = served.offer(lambda v=vectors, t=tag: Index(v, t, broken=t % 3 == 0))
        assert outcome.swapped == (tag % 3 != 0)
        if outcome.swapped:
            made[outcome.version] = tag
        if tag == 8:
            served.back()
        time.sleep(0.01)
    over.set()
    for reader in readers:
        reader.join()
    assert not faults and all(right for *_, right in answers)
    assert all(made[number] == tag for number, tag, _ in answers)
    assert len({number for number, *_ in answers}) > 4 and len(answers) > 200


def test_the_check_of_mixed_answers_finds_a_swap_in_two_steps():
    """Planted: vectors and ids that are replaced one after the other."""

    class TwoSteps:
        vectors, ids = np.zeros(3), np.zeros(3)

    served, mixed, over = TwoSteps(), [], threading.Event()

    def read() -> None:
        while not over.is_set():
            vectors = served.vectors
            time.sleep(0)
            mixed.append(vectors[0] != served.ids[0])

    reader = threading.Thread(target=read)
    reader.start()
    for tag in range(1, 400):
        served.vectors = np.full(3, tag)
        time.sleep(0.0001)
        served.ids = np.full(3, tag)
        if any(mixed):
            break
    over.set()
    reader.join()
    assert any(mixed)


def test_two_offers_at_a_time_are_made_one_after_the_other():
    served, running, most = Swap(0, {}), [], []

    def build():
        running.append(1)
        most.append(len(running))
        time.sleep(0.02)
        running.pop()
        return 1

    threads = [threading.Thread(target=served.offer, args=(build,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) == 1 and served.current.number == 5


def test_recall_needs_the_same_queries():
    assert recall([[1, 2], [3, 4]], [[2, 1], [3, 5]]) == 0.75
    with pytest.raises(ValueError, match="same queries"):
        recall([[1, 2]], [[1]])
    with pytest.raises(ValueError, match="empty"):
        recall([[-1]], [[-1]])
    with pytest.raises(ValueError, match="keep is -1"):
        Swap(0, {}, keep=-1)
