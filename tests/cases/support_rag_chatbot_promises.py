"""Whether the world's text keeps the world's promises: :func:`audit` lists where it does not."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from itertools import pairwise

import pandas as pd

from casebook.cases.support_rag_chatbot.world import KINDS, PII, TODAY, Content, is_tracking_number
from casebook.cases.support_rag_chatbot.world.content import (
    as_text,
    in_force,
    name_of,
    own_content,
)
from casebook.cases.support_rag_chatbot.world.truth import entities

#: Questions of each kind, in the order of
#: :data:`~casebook.cases.support_rag_chatbot.world.content.KINDS`.
COUNTS = {
    "en": (420, 70, 60, 60, 30, 40, 20, 0),
    "de": (246, 41, 35, 35, 18, 23, 12, 40),
    "es": (246, 41, 35, 35, 18, 23, 12, 40),
}
ROUTES = {
    "paraphrase": {"answer"},
    "identifier": {"answer", "tracking"},
    "multi_turn": {"answer"},
    "unanswerable": {"human"},
    "off_topic": {"refuse"},
    "pii": {"answer", "human"},
    "injection": {"refuse"},
    "wrong_language": {"answer"},
}
#: Entities that are not personal data.
OTHER_ENTITIES = {
    *("tracking_number", "tracking_number_wrong", "article_number", "form"),
    *("status_code", "country", "amount", "weight", "date"),
}
WORDS = (100, 220)
VOICES, PARAPHRASES_A_TOPIC, MAX_OVERLAP = 10, 5, 0.30
#: What at most begins with the same three words.
SAME_OPENING = 0.02

# Reserved for examples and fiction, so that no value can be anybody's: RFC 2606 for e-mail, Ofcom's
# and the Bundesnetzagentur's numbers for drama, prefix 555 that Spain has not allocated; IBANs of
# banks' examples; card numbers of payment test systems; postcodes that no place has.
EMAIL = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+")
RESERVED_EMAIL = re.compile(r"[\w.+-]+@example\.(?:com|org|net)")
RESERVED_PHONE = re.compile(
    r"02079460\d{3}|07700900\d{3}"  # United Kingdom
    r"|03023125\d{3}|08999998\d{3}|017139200\d{2}"  # Germany
    r"|555\d{6}"  # Spain
)
PHONE = re.compile(
    r"(?<![\dA-Z])(?:\+\d{2} ?)?(?:0\d{2,4}[ /-]?\d{3,5}[ -]?\d{2,4}|555(?: ?\d){6})\b"
)
RESERVED_IBANS = {
    *("GB82WEST12345698765432", "DE89370400440532013000", "ES9121000418450200051332"),
    *("AT611904300234573201", "FR1420041010050500013M02606"),
}
IBAN = re.compile(r"\b[A-Z]{2}\d{2} ?[A-Z\d]{4}(?: ?\d[A-Z\d]{3}){2,6}(?: ?\d[A-Z\d]{0,2})?\b")
RESERVED_CARDS = {
    *("4111111111111111", "5555555555554444", "378282246310005", "4242424242424242"),
}
CARD = re.compile(r"(?<![\d\w])\d{4} ?(?:\d{4} ?\d{4} ?\d{4}|\d{6} ?\d{5})(?!\d)")
RESERVED_ADDRESS = re.compile(r"\bZZ99 ?\d[A-Z]{2}\b|\b00\d{3}\b|\b99\d{3}\b")


def is_reserved(kind: str, value: str) -> bool:
    """Say whether a personal datum is from a range that belongs to nobody.

    Parameters
    ----------
    kind : str
        email, phone, iban, card or address.
    value : str

    Returns
    -------
    bool
    """
    packed = re.sub(r"[\s/()-]", "", value)
    if kind == "email":
        return bool(RESERVED_EMAIL.fullmatch(value))
    if kind == "phone":
        local = re.sub(r"^\+34", "", re.sub(r"^\+(44|49)", "0", packed))
        return bool(RESERVED_PHONE.fullmatch(local))
    if kind == "iban":
        return packed.upper() in RESERVED_IBANS
    if kind == "card":
        return packed in RESERVED_CARDS
    if kind == "address":
        return bool(RESERVED_ADDRESS.search(value))
    raise ValueError(f"{kind!r} is no kind of personal data; there are {PII}.")


_WORD = re.compile(r"[^\W\d_]{3,}")


@cache
def stop_words(language: str) -> frozenset[str]:
    """Return the stop words of bm25s of a language (for English its long list)."""
    from bm25s import stopwords

    names = {"en": "EN_PLUS", "de": "GERMAN", "es": "SPANISH"}
    if language not in names:
        raise ValueError(f"No stop words for {language!r}; there are {sorted(names)}.")
    return frozenset(getattr(stopwords, f"STOPWORDS_{names[language]}"))


def content_words(text: str, language: str) -> frozenset[str]:
    """Return the words of three letters and more that are no stop words, in lower case."""
    return frozenset(_WORD.findall(text.casefold())) - stop_words(language)


def overlap(of: Content | None = None) -> pd.DataFrame:
    """Return how many of a question's content words stand in its first relevant article.

    Parameters
    ----------
    of : Content, optional
        By default the world's own.

    Returns
    -------
    DataFrame
        ``question``, ``language``, ``kind``, ``overlap`` (share of the question's content words, of
        all turns) and ``overlap_stems`` (the same of the first six letters of each word). Questions
        without a relevant article or content words are left out.
    """
    of = of or own_content()
    articles = of.articles.set_index("id")
    whole = (articles["title"] + "\n" + articles["text"]).to_dict()
    rows = []
    for question in of.questions.itertuples():
        if not question.relevant or question.relevant[0] not in whole:
            continue
        asked = content_words("\n".join(question.turns), question.language)
        said = content_words(whole[question.relevant[0]], question.language)
        if asked:
            stems = {word[:6] for word in said}
            rows.append(
                {
                    "question": question.id,
                    "language": question.language,
                    "kind": question.kind,
                    "overlap": len(asked & said) / len(asked),
                    "overlap_stems": sum(word[:6] in stems for word in asked) / len(asked),
                }
            )
    return pd.DataFrame(rows)


def _articles(of: Content) -> Iterator[str]:
    planned, written = of.planned.set_index("id"), of.articles.set_index("id")
    for ident in planned.index.difference(written.index):
        yield f"{ident}: planned and not written"
    for ident in written.index.difference(planned.index):
        yield f"{ident}: written and not planned"
    said = {ident: rows.set_index("fact") for ident, rows in of.facts.groupby("article")}
    for ident in written.index.intersection(planned.index):
        plan, article = planned.loc[ident], written.loc[ident]
        for field in ("topic", "language", "version", "valid_from", "valid_to", "audience"):
            same = plan[field] == article[field] or (
                pd.isna(plan[field]) and pd.isna(article[field])
            )
            if not same:
                yield f"{ident}: {field} is {article[field]}, planned {plan[field]}"
        words = len(f"{article['title']} {article['text']}".split())
        if not WORDS[0] <= words <= WORDS[1]:
            yield f"{ident}: {words} words"
        if not re.search(r"^## ", article["text"], re.M):
            yield f"{ident}: no heading"
        facts = said.get(ident, pd.DataFrame(columns=["value", "start"]))
        if set(facts.index) != set(plan["facts"]):
            yield f"{ident}: facts {sorted(set(facts.index) ^ set(plan['facts']))} not as planned"
            continue
        for fact, value in plan["facts"].items():
            if facts.loc[fact, "value"] != as_text(value):
                yield f"{ident}: {fact} is {facts.loc[fact, 'value']}, planned {as_text(value)}"
            if facts.loc[fact, "start"] < 0:
                yield f"{ident}: the answer to {fact} does not stand in the text"
    for text, rows in of.articles.groupby("text"):
        if len(rows) > 1:
            yield f"{', '.join(rows['id'])}: the same text {text[:20]!r}"


def _validity(of: Content) -> Iterator[str]:
    for (language, name), rows in of.articles.groupby(["language", "article_id"]):
        rows = rows.sort_values("valid_from")
        for row in rows.itertuples():
            if row.valid_to < row.valid_from:
                yield f"{row.id}: ends before it begins"
        for one, other in pairwise(rows.itertuples()):
            if pd.isna(one.valid_to) or one.valid_to >= other.valid_from:
                yield f"{language}/{name}: {one.id} and {other.id} are in force at once"
            elif one.valid_to + pd.Timedelta(days=1) != other.valid_from:
                yield f"{language}/{name}: a gap between {one.id} and {other.id}"
            if other.version <= one.version:
                yield f"{language}/{name}: {other.id} is later and has no higher version"
    today = in_force(of.articles, TODAY)
    for topic in of.plan["topics"].values():
        for language in topic["languages"]:
            here = today[(today["article_id"] == topic["id"]) & (today["language"] == language)]
            if len(here) != 1:
                yield f"{language}/{topic['id']}: {len(here)} articles in force today"


def _pairs(of: Content) -> Iterator[str]:
    values = {ident: rows.set_index("fact")["value"] for ident, rows in of.facts.groupby("article")}

    def differ(one: str, other: str) -> bool:
        return not values[one].sort_index().equals(values[other].sort_index())

    now = in_force(of.articles, TODAY).set_index("id")
    base = {f"{row.language}/{row.article_id}": ident for ident, row in now.iterrows()}
    for row in of.planned.itertuples():
        mine = base.get(f"{row.language}/{row.topic}")
        if row.id not in values or mine not in values or row.id == mine:
            continue
        if not differ(row.id, mine):
            yield f"{row.id}: says the same as {mine}"
        audience = of.articles.set_index("id").loc[[row.id, mine], "audience"]
        if row.role == "conflict" and audience.nunique() > 1:
            yield f"{row.id}: no conflict with {mine}, it is for other customers"


def _counts(of: Content) -> Iterator[str]:
    have = of.questions.groupby(["language", "kind"]).size()
    for language in of.plan["languages"]:
        for kind, n in zip(KINDS, COUNTS[language], strict=True):
            if (found := have.get((language, kind), 0)) != n:
                yield f"{language}: {found} questions of kind {kind}, promised {n}"
        mine = of.questions[of.questions["language"] == language]
        if mine["voice"].nunique() < VOICES:
            yield f"{language}: {mine['voice'].nunique()} voices"
        topics = mine.loc[mine["kind"] == "paraphrase", "topic"].value_counts()
        for topic in of.plan["topics"].values():
            if language in topic["languages"] and topics.get(topic["id"], 0) < PARAPHRASES_A_TOPIC:
                yield f"{language}/{topic['id']}: {topics.get(topic['id'], 0)} paraphrases"
        openings = Counter(" ".join(t[0].casefold().split()[:3]) for t in mine["turns"])
        for opening, n in openings.items():
            if n > max(1, SAME_OPENING * len(mine)):
                yield f"{language}: {n} questions begin with {opening!r}"
    for ident, n in Counter(of.questions["id"]).items():
        if n > 1:
            yield f"{ident}: the id is there {n} times"
    words = of.questions["turns"].map(lambda t: re.sub(r"[\W\d_]+", "", "".join(t).casefold()))
    for text, rows in of.questions.groupby(words):
        # Numbers and codes alone tell some questions apart: "H3?" and "H5?".
        if len(rows) > 1 and len(text) > 12:
            yield f"{', '.join(rows['id'])}: the same but for numbers and marks"
    # A number alone may be asked for in any language.
    whole = of.questions["turns"].map(lambda t: " ".join(" ".join(t).casefold().split()))
    for _, rows in of.questions.groupby([whole, "language"]):
        if len(rows) > 1:
            yield f"{', '.join(rows['id'])}: the same question"


def _labels(of: Content) -> Iterator[str]:
    rows = of.articles.set_index("id")
    now = in_force(of.articles, TODAY).set_index("id")
    value = of.facts.set_index(["article", "fact"])["value"].to_dict()
    for q in of.questions.itertuples():
        topic = of.plan["topics"].get(q.topic)
        if q.kind not in KINDS:
            yield f"{q.id}: kind {q.kind}"
            continue
        if q.route not in ROUTES[q.kind]:
            yield f"{q.id}: route {q.route} of a question of kind {q.kind}"
        if not all(turn.strip() for turn in q.turns):
            yield f"{q.id}: an empty turn"
        if (q.kind == "multi_turn") != (len(q.turns) > 1) or len(q.turns) > 3:
            yield f"{q.id}: {len(q.turns)} turns"
        if (q.route == "answer") != bool(q.relevant) and q.route != "tracking":
            yield f"{q.id}: {len(q.relevant)} relevant articles, route {q.route}"
        if (q.topic is None) != (q.kind in ("off_topic", "injection")):
            yield f"{q.id}: topic {q.topic} of a question of kind {q.kind}"
        if q.language_of_answer != q.language:
            yield f"{q.id}: to be answered in {q.language_of_answer}"
        if topic is None:
            continue
        if q.answer_fact is not None and q.answer_fact not in topic["facts"]:
            yield f"{q.id}: {q.answer_fact} is no fact of {q.topic}"
        if (q.kind == "wrong_language") != (q.language not in topic["languages"]) and q.relevant:
            yield f"{q.id}: kind {q.kind} on a topic in {', '.join(topic['languages'])}"
        for article in q.relevant:
            if article not in rows.index:
                yield f"{q.id}: there is no article {article}"
            elif article not in now.index:
                yield f"{q.id}: {article} is not in force"
            elif rows.loc[article, "topic"] != q.topic:
                yield f"{q.id}: {article} is on another topic"
            elif (rows.loc[article, "language"] == q.language) == (q.kind == "wrong_language"):
                yield f"{q.id}: {article} for a question in {q.language} of kind {q.kind}"
        if q.answer_fact is not None:
            if len({value.get((article, q.answer_fact)) for article in q.relevant}) > 1:
                yield f"{q.id}: its articles disagree on {q.answer_fact}"
            yield from _wrong_sides(q, topic)


def _wrong_sides(q, topic: dict) -> Iterator[str]:
    """Yield where a question lists the wrong side of a conflict."""
    names = {name_of(article) for article in q.relevant}
    for conflict in topic.get("conflicts", []):
        sides = {"base": topic["id"], "partner": f"{topic['id']}--{conflict['variant']}"}
        wrong = sides["base" if conflict["right"] == "partner" else "partner"]
        if q.answer_fact in conflict["facts"] and wrong in names:
            yield f"{q.id}: {wrong} is wrong on {q.answer_fact}"


def _entities(of: Content) -> Iterator[str]:
    try:
        found = entities(of)
    except ValueError as error:
        yield str(error)
        return
    joined = of.questions.set_index("id")["turns"].map("\n".join)
    for row in found.itertuples():
        if joined[row.question][row.start : row.end] != row.value:
            yield f"{row.question}: {row.value!r} does not stand at {row.start}"
        if row.type in PII:
            if not is_reserved(row.type, row.value):
                yield f"{row.question}: the {row.type} {row.value!r} may be somebody's"
        elif row.type not in OTHER_ENTITIES:
            yield f"{row.question}: entity of type {row.type}"
        if row.type.startswith("tracking_number"):
            right = row.type == "tracking_number"
            if is_tracking_number(row.value) != right:
                yield f"{row.question}: check digit of {row.value}, listed as {row.type}"
    kinds = of.questions.set_index("id")["kind"]
    pii = found[found["type"].isin(PII)]
    for ident in set(kinds.index[kinds == "pii"]) ^ set(pii["question"]):
        yield f"{ident}: kind {kinds[ident]}, and personal data are not as that says"
    for language, n in of.questions.query("kind == 'pii'").groupby("language").size().items():
        mine = pii[pii["question"].str.startswith(f"{language}-")]["type"].value_counts()
        for kind in PII:
            if mine.get(kind, 0) < 0.2 * n:
                yield f"{language}: {mine.get(kind, 0)} of kind {kind} among {n} with personal data"
    spans = {q: rows[["start", "end"]].to_numpy() for q, rows in found.groupby("question")}
    for ident, text in joined.items():
        for pattern in (EMAIL, PHONE, IBAN, CARD):
            for match in pattern.finditer(text):
                inside = (
                    (a <= match.start()) & (match.end() <= b) for a, b in spans.get(ident, ())
                )
                if not any(inside):
                    yield f"{ident}: {match[0]!r} is not listed"


def _overlap(of: Content) -> Iterator[str]:
    shares = overlap(of)
    for language, share in shares.groupby("language")["overlap"].median().items():
        if share > MAX_OVERLAP:
            yield f"{language}: median overlap is {share:.2f}"
    for key, share in shares.groupby(["language", "kind"])["overlap"].median().items():
        if share > MAX_OVERLAP:
            yield f"{key[0]}: median overlap of kind {key[1]} is {share:.2f}"


#: Name of each part of :func:`audit`.
CHECKS: dict[str, Callable[[Content], Iterator[str]]] = {
    "articles": _articles,
    "validity": _validity,
    "pairs": _pairs,
    "counts": _counts,
    "labels": _labels,
    "entities": _entities,
    "overlap": _overlap,
}


def audit(of: Content, only: Iterable[str] = CHECKS) -> list[str]:
    """List where a world's text breaks its promises.

    Articles are those of the plan, with its values, and each answer stands in the text; versions
    neither overlap nor leave gaps; versions, near duplicates and partners of conflicts differ in a
    fact. Questions have the promised numbers by language and kind, none is there twice, labels
    point to articles in force that agree, the right side of a conflict is listed, entities stand
    where they are said to, personal data are complete and belong to nobody, check digits are as
    listed, and the words are not those of the articles.

    Parameters
    ----------
    of : Content
    only : iterable of str
        Parts, of :data:`CHECKS`; by default all.

    Returns
    -------
    list of str
        One line for each breach; empty if all is kept.
    """
    return [line for name in only for line in CHECKS[name](of)]
