"""Readers of public texts: retrieval (Cranfield, SciFact), intents, handbooks of organisations.

Each reads the files that ``casebook.data.real`` found, checks their counts and returns tidy frames.
"""

from __future__ import annotations

import ast
import hashlib
import json
import re
import tarfile
import xml.etree.ElementTree as ET
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

#: A string literal as NumPy prints it; neighbours stand side by side without a comma.
_LITERAL = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"", re.DOTALL)


@dataclass(frozen=True)
class Collection:
    """A test collection of retrieval.

    Attributes
    ----------
    documents : DataFrame
        ``doc_id``, ``title``, ``text`` (without the title).
    queries : DataFrame
        ``query_id``, ``text``, ``split`` (``train`` or ``test``).
    judgements : DataFrame
        ``query_id``, ``doc_id``, ``relevance`` (above 0; what is not judged is not relevant).
    """

    documents: pd.DataFrame
    queries: pd.DataFrame
    judgements: pd.DataFrame


def _expect(path: Path, **counts: tuple[int, int]) -> None:
    """Refuse a file whose counts (found, expected) differ."""
    if wrong := {name: pair for name, pair in counts.items() if pair[0] != pair[1]}:
        text = ", ".join(f"{found:,} {name} instead of {n:,}" for name, (found, n) in wrong.items())
        raise ValueError(f"{path} holds {text}: it is cut off, or another version of the file.")


def _elements(path: Path, tag: str) -> list[ET.Element]:
    """Return the elements of a file whether or not one root stands around them."""
    content = Path(path).read_text(encoding="utf-8")
    content = re.sub(r"^\s*<\?xml[^>]*\?>", "", content)
    try:
        return list(ET.fromstring(f"<root>{content}</root>").iter(tag))
    except ET.ParseError as error:
        raise ValueError(f"{path} is not complete XML ({error}): it is cut off.") from error


def _flat(element: ET.Element, tag: str) -> str:
    return " ".join((element.findtext(tag) or "").split())


def cranfield(documents: Path, queries: Path, judgements: Path) -> Collection:
    """Read the Cranfield collection: abstracts on aerodynamics, with queries by researchers.

    Parameters
    ----------
    documents, queries, judgements : Path
        ``casebook.data.real`` of ``cranfield_documents``, ``cranfield_queries`` and
        ``cranfield_judgements``.

    Returns
    -------
    Collection
        1,400 documents (two of them empty), 225 queries and 1,612 judgements. The judgements
        number the queries by their order in the file, 1 to 225, not by the number printed there.
        Grades are reduced to relevant or not: all but one of this file are 1. There is no
        official split; queries with an odd number are called ``train``.

    Raises
    ------
    ValueError
        If a file is cut off or does not hold these counts.

    References
    ----------
    Cleverdon (1967), *The Cranfield tests on index language devices*, Aslib Proceedings 19.
    """
    found = _elements(documents, "doc")
    asked = _elements(queries, "top")
    table = pd.read_csv(
        judgements, sep=r"\s+", header=None, names=["query_id", "_", "doc_id", "relevance"]
    )
    _expect(documents, documents=(len(found), 1400))
    _expect(queries, queries=(len(asked), 225))
    _expect(judgements, judgements=(len(table), 1837))
    rows = []
    for doc in found:
        title, text = _flat(doc, "title"), _flat(doc, "text")
        # The text repeats the title in front.
        rows.append((_flat(doc, "docno"), title, text.removeprefix(title).strip()))
    numbers = range(1, len(asked) + 1)
    relevant = table[table["relevance"] > 0].assign(relevance=1)
    return Collection(
        pd.DataFrame(rows, columns=["doc_id", "title", "text"]),
        pd.DataFrame(
            {
                "query_id": [str(n) for n in numbers],
                "text": [_flat(query, "title") for query in asked],
                "split": ["train" if n % 2 else "test" for n in numbers],
            }
        ),
        relevant[["query_id", "doc_id", "relevance"]].astype({"query_id": str, "doc_id": str}),
    )


def scifact(path: Path) -> Collection:
    """Read SciFact: scientific claims and the abstracts that they cite.

    Parameters
    ----------
    path : Path
        ``casebook.data.real("scifact")``.

    Returns
    -------
    Collection
        5,183 abstracts; 809 claims of the split ``train`` and 300 of ``test`` (the development
        set of the authors, whose test set has no public labels), as the retrieval benchmark BEIR
        takes them; a document is relevant where the claim cites it.

    Raises
    ------
    ValueError
        If the archive does not hold these counts.

    References
    ----------
    Wadden et al. (2020), *Fact or fiction: verifying scientific claims*, EMNLP.
    Thakur et al. (2021), *BEIR: a heterogeneous benchmark for zero-shot evaluation of information
    retrieval models*, NeurIPS Datasets and Benchmarks.
    """
    names = {"train": "claims_train.csv", "test": "claims_validation.csv"}
    try:
        with zipfile.ZipFile(path) as archive:
            corpus = pd.read_csv(archive.open("corpus_train.csv"))
            claims = {split: pd.read_csv(archive.open(name)) for split, name in names.items()}
    except (zipfile.BadZipFile, KeyError) as error:
        raise ValueError(f"{path} is not the SciFact archive: {error}.") from error
    asked = pd.concat(
        frame.drop_duplicates("id").assign(split=split) for split, frame in claims.items()
    )
    cited = [(q, d) for q, ids in asked[["id", "cited_doc_ids"]].to_numpy() for d in _numbers(ids)]
    _expect(
        path,
        abstracts=(len(corpus), 5183),
        **{"training claims": (int((asked["split"] == "train").sum()), 809)},
        **{"test claims": (int((asked["split"] == "test").sum()), 300)},
    )
    documents = pd.DataFrame(
        {
            "doc_id": corpus["doc_id"].astype(str),
            "title": corpus["title"].str.strip(),
            "text": [_sentences(text) for text in corpus["abstract"]],
        }
    )
    queries = pd.DataFrame(
        {"query_id": asked["id"].astype(str), "text": asked["claim"], "split": asked["split"]}
    )
    judgements = pd.DataFrame(cited, columns=["query_id", "doc_id"]).astype(str)
    if unknown := set(judgements["doc_id"]) - set(documents["doc_id"]):
        raise ValueError(f"{path}: {len(unknown)} cited abstracts are not in the corpus.")
    return Collection(
        documents,
        queries.reset_index(drop=True),
        judgements.drop_duplicates(ignore_index=True).assign(relevance=1),
    )


def _numbers(printed: str) -> list[str]:
    return re.findall(r"\d+", printed)


def _sentences(printed: str) -> str:
    """Join the sentences of a printed NumPy array of strings."""
    return " ".join(ast.literal_eval(literal).strip() for literal in _LITERAL.findall(printed))


def banking77(train: Path, test: Path) -> pd.DataFrame:
    """Read BANKING77: questions to a bank with 77 intents.

    Parameters
    ----------
    train, test : Path
        ``casebook.data.real`` of ``banking77_train`` and ``banking77_test``.

    Returns
    -------
    DataFrame, 13,083 rows
        ``text``, ``intent``, ``split`` (10,003 ``train``, 3,080 ``test``).

    Raises
    ------
    ValueError
        If a file does not hold these counts, or not all intents.

    References
    ----------
    Casanueva et al. (2020), *Efficient intent detection with dual sentence encoders*, NLP for
    ConvAI.
    """
    parts = []
    for split, path, n in (("train", train, 10_003), ("test", test, 3_080)):
        frame = pd.read_csv(path).rename(columns={"category": "intent"}).assign(split=split)
        _expect(path, questions=(len(frame), n), intents=(frame["intent"].nunique(), 77))
        parts.append(frame[["text", "intent", "split"]])
    return pd.concat(parts, ignore_index=True)


def bank_faqs(path: Path) -> Collection:
    """Read the questions and answers of a bank's help pages: each question asks for its answers.

    An answer that stands under several questions is one document; a question that stands over
    several answers asks for all of them. The questions of one answer are on one side of the split.

    Parameters
    ----------
    path : Path
        ``casebook.data.real("bank_faqs")``.

    Returns
    -------
    Collection
        1,440 ``documents`` (the answers; ``title`` is their class: cards, loans, …), 1,329
        ``queries``, two in five of them ``train``; every relevance is 1.

    Raises
    ------
    ValueError
        If the file does not hold these counts.
    """
    frame = pd.read_csv(path)
    for column in ("Question", "Answer"):
        frame[column] = frame[column].str.split().str.join(" ")
    documents = frame.drop_duplicates("Answer").reset_index(drop=True)
    questions = frame["Question"].drop_duplicates().reset_index(drop=True)
    _expect(path, answers=(len(documents), 1_440), questions=(len(questions), 1_329))
    doc = {text: f"a{n}" for n, text in enumerate(documents["Answer"])}
    query = {text: f"q{n}" for n, text in enumerate(questions)}
    pairs = pd.DataFrame(
        {
            "query_id": frame["Question"].map(query),
            "doc_id": frame["Answer"].map(doc),
            "relevance": 1,
        }
    ).drop_duplicates(ignore_index=True)
    group = _joined(pairs)
    return Collection(
        pd.DataFrame(
            {
                "doc_id": documents["Answer"].map(doc),
                "title": documents["Class"],
                "text": documents["Answer"],
            }
        ),
        pd.DataFrame({"query_id": questions.map(query), "text": questions}).assign(
            split=[_part(group[query[text]]) for text in questions]
        ),
        pairs,
    )


def _joined(pairs: pd.DataFrame) -> dict[str, str]:
    """Return for each query the least document that it is joined to, over any number of pairs."""
    least = dict(zip(pairs["doc_id"], pairs["doc_id"], strict=True))
    while True:
        held = pairs["doc_id"].map(least)
        best = held.groupby(pairs["query_id"]).min()
        lower = pairs["query_id"].map(best).groupby(pairs["doc_id"]).min()
        if lower.to_dict() == {k: least[k] for k in lower.index}:
            return best.to_dict()
        least |= lower.to_dict()


def _part(key: str) -> str:
    """Return the side of the split by a hash: two in five are for tuning."""
    return "train" if hashlib.sha256(key.encode()).digest()[0] < 0.4 * 256 else "test"


def clinc150(path: Path) -> pd.DataFrame:
    """Read CLINC150: requests with 150 intents, and requests outside of all of them.

    Parameters
    ----------
    path : Path
        ``casebook.data.real("clinc150")``.

    Returns
    -------
    DataFrame, 23,700 rows
        ``text``, ``intent`` (``oos`` is out of scope), ``split`` (``train``, ``validation``,
        ``test``).

    Raises
    ------
    ValueError
        If the file does not hold the expected counts.

    References
    ----------
    Larson et al. (2019), *An evaluation dataset for intent classification and out-of-scope
    prediction*, EMNLP.
    """
    counts = {
        "train": 15_000,
        "val": 3_000,
        "test": 4_500,
        "oos_train": 100,
        "oos_val": 100,
        "oos_test": 1_000,
    }
    content = json.loads(Path(path).read_text(encoding="utf-8"))
    _expect(path, **{name: (len(content.get(name, ())), n) for name, n in counts.items()})
    splits = {"train": "train", "val": "validation", "test": "test"}
    rows = [
        (text, intent, splits[name.removeprefix("oos_")])
        for name in counts
        for text, intent in content[name]
    ]
    frame = pd.DataFrame(rows, columns=["text", "intent", "split"])
    _expect(path, intents=(frame["intent"].nunique(), 151))
    return frame


def markdown_pages(names: Sequence[str], files: Sequence[bytes]) -> pd.DataFrame:
    """Put the pages of a handbook together.

    Parameters
    ----------
    names : sequence of str
        Paths in the repository; what does not end in ``.md`` is left out.
    files : sequence of bytes
        Their content, in the same order.

    Returns
    -------
    DataFrame
        ``page`` (path) and ``text``, in order of ``page``.
    """
    pairs = zip(names, files, strict=True)
    rows = [(name, raw.decode()) for name, raw in pairs if name.endswith(".md")]
    return pd.DataFrame(sorted(rows), columns=["page", "text"])


def handbook(path: Path) -> pd.DataFrame:
    """Read the pages of a handbook.

    Parameters
    ----------
    path : Path
        ``casebook.data.real("sourcegraph_handbook")`` or ``real("tts_handbook")``: an archive of
        the repository's files, or the table that was put together from them.

    Returns
    -------
    DataFrame
        As :func:`markdown_pages`: 883 pages of Sourcegraph, 251 of 18F and TTS.
    """
    if not tarfile.is_tarfile(path):
        return pd.read_parquet(path)
    with tarfile.open(path) as archive:
        found = [member for member in archive.getmembers() if member.isfile()]
        names = [member.name.partition("/")[2] for member in found]
        return markdown_pages(names, [archive.extractfile(member).read() for member in found])
