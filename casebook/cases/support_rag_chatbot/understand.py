"""What a customer wants: language, entities, intent, and what is no question for us.

Everything here reads masked text. Languages are told apart by character n-grams, intents by TF-IDF
and logistic regression beside the keyword rules that they have to beat, entities by patterns with
check digits where there are any. Attacks are for :mod:`casebook.serving.guard`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from casebook.cases.support_rag_chatbot.glossary import translated
from casebook.cases.support_rag_chatbot.world import is_tracking_number
from casebook.retrieval.text import fold, stop_words
from casebook.serving.privacy import Free

# Entities ----------------------------------------------------------------------------

#: Countries by ISO code: names in English, German and Spanish, beginnings of words.
_COUNTRIES = """
AT austria osterreich; AU australia australien; BE belgium belgien belgica; BG bulgaria bulgarien
BR brazil brasilien brasil; CA canada kanada; CH switzerland swiss schweiz suiza; CL chile
CN china; CO colombia kolumbien; CZ czechia tschechien chequia; DE germany deutschland alemania
DK denmark danemark dinamarca; ES spain spanien espana; FI finland finnland finlandia
FR france frankreich francia; GR greece griechenland grecia; HR croatia kroatien croacia
HU hungary ungarn hungria; IE ireland irland irlanda; IN india indien; IS iceland island islandia
IT italy italien italia; JP japan japon; KR korea corea; MA morocco marokko marruecos
MX mexico mexiko mejico; NL netherlands holland niederlande holanda; NO norway norwegen noruega
NZ neuseeland; PE peru; PL poland polen polonia; PT portugal; RO romania rumanien rumania
RS serbia serbien; SE sweden schweden suecia; SI slovenia slowenien eslovenia; TH thailand tailandia
TR turkey turkei turquia; UA ukraine ucrania; US usa amerika america eeuu; AR argentina argentinien
GB britain england grossbritannien inglaterra scotland wales; ZA sudafrika sudafrica; EG egypt
""".replace("\n", ";")
COUNTRIES = {
    name: code
    for entry in _COUNTRIES.split(";")
    if entry.strip()
    for code, *names in [entry.split()]
    for name in names
}
_PHRASES = {
    "united kingdom": "GB",
    "united states": "US",
    "new zealand": "NZ",
    "south africa": "ZA",
    "reino unido": "GB",
    "estados unidos": "US",
    "nueva zelanda": "NZ",
    "republica checa": "CZ",
    "paises bajos": "NL",
}
_MONTHS = (
    r"(?:jan\w*|feb\w*|mar(?:ch|zo)|märz|apr\w*|may|mai|mayo|jun\w*|jul\w*|aug\w*|agosto|sep\w*|oct"
    r"\w*|okt\w*|nov\w*|dec\w*|dez\w*|dic\w*|enero)"
)
# A number is read from its beginning alone: elsewhere each digit would be a beginning.
_COUNT = (
    r"(?:(?<!\d)(?<!\d[.,])\d+(?:[.,]\d+)*|\b(?:one|two|three|four|five|ten|twenty|ein|zwei|drei|vier|fünf|zehn|dos"
    r"|tres|cuatro|cinco|diez|veinte)\b)"
)
_PATTERNS = {
    "tracking_number": r"(?<![^\W_])[A-Za-z]{2}(?:[ .-]?\d){9}[ .-]?[A-Za-z]{2}(?![^\W_])",
    "article_number": r"(?<!\w)KB[- ]?\d{4}(?!\w)",
    "form": r"(?<!\w)(?:F[- ]?\d{3}|CN[- ]?2[23])(?!\w)",
    "status_code": r"(?<!\w)(?:A1|T2|T7|H3|H5|D4|Z9)(?!\w)",
    "date": rf"\b\d{{1,2}}[./]\d{{1,2}}[./]\d{{2,4}}"
    rf"|\b\d{{1,2}}(?:\.|st|nd|rd|th)? (?:of |de )?"
    rf"{_MONTHS}(?: (?:de )?\d{{4}})?\b|\b{_MONTHS} \d{{1,2}}(?:, \d{{4}})?\b"
    rf"|\b{_MONTHS} \d{{4}}\b",
    "amount": rf"[€£$] ?\d+(?:[.,]\d+)*|{_COUNT} ?(?:€|£|\$"
    r"|(?:eur|euros?|pounds?|quid|pfund|libras?|dollars?|bucks|franken|francos?|chf|gbp|usd)\b)",
    "weight": rf"{_COUNT} ?-?(?:kg|kgs|kilos?|kilogram\w*|kilogramm|g|gramm?s?|gramos?)\b",
}
_ENTITIES = {name: re.compile(pattern, re.IGNORECASE) for name, pattern in _PATTERNS.items()}
_WORD = re.compile(r"[^\W\d_]+")


@dataclass(frozen=True)
class Entity:
    """Something that a text names.

    Attributes
    ----------
    kind : str
        ``tracking_number``, ``tracking_number_wrong`` (its check digit does not fit),
        ``article_number``, ``form``, ``status_code``, ``date``, ``amount``, ``weight``,
        ``country``.
    value : str
        In one spelling: numbers without spaces in capitals, a country's ISO code; else as written.
    start, end : int
    """

    kind: str
    value: str
    start: int
    end: int


def entities(text: str) -> list[Entity]:
    """Find what a text names, in any of the languages.

    Parameters
    ----------
    text : str

    Returns
    -------
    list of Entity
        In the order of the text, not overlapping.
    """
    found: list[Entity] = []
    free = Free(len(text))

    def add(kind: str, value: str, start: int, end: int) -> None:
        if free.take(start, end):
            found.append(Entity(kind, value, start, end))

    for kind, pattern in _ENTITIES.items():
        for match in pattern.finditer(text):
            value, name = match[0], kind
            if kind == "tracking_number":
                value = re.sub(r"[ .-]", "", value).upper()
                name = kind if is_tracking_number(value) else "tracking_number_wrong"
            elif kind in ("article_number", "form", "status_code"):
                value = re.sub(r"^(KB|F)[- ]?", r"\1-", value.upper())
                value = re.sub(r"^CN[- ]?", "CN ", value)
            add(name, value, *match.span())
    words = [(fold(match[0]), match.start(), match.end()) for match in _WORD.finditer(text)]
    for (a, start, _), (b, _, end) in pairwise(words):
        if code := _PHRASES.get(f"{a} {b}"):
            add("country", code, start, end)
    for word, start, end in words:
        if code := COUNTRIES.get(word):
            add("country", code, start, end)
    return sorted(found, key=lambda entity: entity.start)


# Language ----------------------------------------------------------------------------


class LanguageModel:
    """Tell languages apart by character n-grams (naive Bayes), from a few pages of each.

    Parameters
    ----------
    sizes : (int, int)
        Shortest and longest n-gram.

    References
    ----------
    Cavnar & Trenkle (1994), *N-gram-based text categorization*, SDAIR.
    """

    def __init__(self, sizes: tuple[int, int] = (1, 4)) -> None:
        from sklearn.feature_extraction.text import CountVectorizer
        from sklearn.naive_bayes import MultinomialNB
        from sklearn.pipeline import make_pipeline

        counts = CountVectorizer(analyzer="char_wb", ngram_range=sizes, preprocessor=str.casefold)
        self._model = make_pipeline(counts, MultinomialNB(alpha=0.1, fit_prior=False))

    def fit(self, texts: Sequence[str], languages: Sequence[str]) -> LanguageModel:
        """Learn from texts whose language is known, and return itself."""
        self._model.fit(list(texts), list(languages))
        return self

    def __call__(self, text: str) -> tuple[str, float]:
        """Return the language of a text and its probability."""
        shares = self._model.predict_proba([_ENTITIES["tracking_number"].sub(" ", text)])[0]
        best = int(shares.argmax())
        return str(self._model.classes_[best]), float(shares[best])


#: Languages of ours, and those whose function words tell that a text is in none of them.
OURS = ("en", "de", "es")
_OTHERS = ("fr", "it", "pt", "nl", "pl", "tr", "ro", "sv", "da", "no")
#: English function words that the short list of stop words does not hold.
_AROUND = """
i me my you your he she we is are was do does how what when where which who why can will have has
had
"""
_ENGLISH = frozenset(_AROUND.split())
#: Function words of another language alone that make a text one in that language.
FEWEST = 2


def spoken(code: str) -> str:
    """Return which of our languages a code names (``de-AT`` is ``de``); empty if none."""
    short = re.split(r"[-_]", code.strip().lower())[0]
    return short if short in OURS else ""


def foreign(text: str) -> bool:
    """Say whether a text is in none of our languages: by its letters, or its function words.

    Two words or more must be function words of one other language and of none of ours, and that
    language must have more function words in the text than each of ours. A greeting is too short.

    Examples
    --------
    >>> foreign("Où est mon colis ? Je l'attends."), foreign("Where is my parcel?")
    (True, False)
    """
    letters = [letter for letter in text if letter.isalpha()]
    latin = sum(fold(letter).isascii() for letter in letters)
    if len(letters) > 3 and latin < len(letters) / 2:
        return True
    said = [word for word in _WORD.findall(text.casefold()) if len(word) > 1]
    own = {code: stop_words(code) | (_ENGLISH if code == "en" else frozenset()) for code in OURS}
    ours = frozenset().union(*own.values())
    most = max(sum(word in held for word in said) for held in own.values())
    for code in _OTHERS:
        there = [word for word in said if word in stop_words(code)]
        if len(there) > most and sum(word not in ours for word in there) >= FEWEST:
            return True
    return False


# Intent ------------------------------------------------------------------------------

#: Keyword rules on the question's English: the first that fits; an intent each.
RULES: tuple[tuple[str, str], ...] = (
    ("complaint", r"complain|moan|ombudsman|arbitration"),
    ("customs", r"custom|duty|import|export|cn ?2[23]|vat\b|h3|h5|allowance|non-eu"),
    ("claim", r"claim|damage|broken|lost|missing|compensation|liab|insur|cracked|dented|refund"),
    ("account", r"invoice|account|password|log ?in|privacy|data|delete|contract|newsletter|bill"),
    ("pickup_return", r"return|pick(?:ed)? ?up|collect|locker|merchant|seller"),
    ("delivery_change", r"redirect|neighbou?r|holiday|safe place|another address|nobody at home"
     r"|missed|change|hold|pause|refuse|signature|card\b|courier"),
    ("prices", r"price|cost|how much|fee|charge|surcharge|discount|free|rate\b|euro"),
    ("shipping", r"weight|heavy|kg|size|pack|label|dangerous|battery|perfume|prohibited|send|box"),
    ("tracking", r"track|status|where is|where's|arrive|late|stuck|delivered|t7|t2|a1|z9|d4"),
)  # fmt: skip
FALLBACK = "other"


def intent_by_rules(text: str, language: str) -> str:
    """Return the intent of the first keyword rule that fits, :data:`FALLBACK` if none does."""
    english = translated(text, language).lower()
    return next((name for name, rule in RULES if re.search(rule, english)), FALLBACK)


class IntentModel:
    """TF-IDF and logistic regression, on a question and on its English by the glossary.

    Parameters
    ----------
    strength : float
        Inverse of the regularisation (C).
    """

    def __init__(self, strength: float = 10.0) -> None:
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline, make_union

        words = TfidfVectorizer(
            ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"\b\w[\w-]*\b"
        )
        letters = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5), sublinear_tf=True)
        regression = LogisticRegression(C=strength, max_iter=2000, class_weight="balanced")
        self._model = make_pipeline(make_union(words, letters), regression)

    @staticmethod
    def _both(texts: Iterable[str], languages: Iterable[str]) -> list[str]:
        pairs = zip(texts, languages, strict=True)
        return [
            f"{text} {translated(text, code)}" if code != "en" else text for text, code in pairs
        ]

    def fit(
        self, texts: Sequence[str], languages: Sequence[str], intents: Sequence[str]
    ) -> IntentModel:
        """Learn from labelled texts, and return itself."""
        self._model.fit(self._both(texts, languages), list(intents))
        return self

    @property
    def classes(self) -> list[str]:
        """The intents, in the order of :meth:`probabilities`."""
        return list(self._model.classes_)

    def probabilities(self, texts: Sequence[str], languages: Sequence[str]) -> np.ndarray:
        """Return probabilities of the intents, shape (texts, intents)."""
        return self._model.predict_proba(self._both(texts, languages))

    def predict(self, texts: Sequence[str], languages: Sequence[str]) -> list[str]:
        """Return the most probable intents."""
        return [str(x) for x in self._model.predict(self._both(texts, languages))]


#: What a question may be by its words alone: ours, ours but hard to answer, not ours.
SCOPES = ("ours", "unanswerable", "off_topic")
#: Names of the evidence that :class:`Scope` gives.
SCOPE = ("scope_unanswerable", "scope_off_topic")


class Scope:
    """Guess from the words of a question alone whether articles can answer it.

    Parameters
    ----------
    strength : float
        See :class:`IntentModel`.
    """

    def __init__(self, strength: float = 3.0) -> None:
        self._model = IntentModel(strength)

    def fit(self, texts: Sequence[str], languages: Sequence[str], scopes: Sequence[str]) -> Scope:
        """Learn from questions, each labelled with one of :data:`SCOPES`, and return itself."""
        self._model.fit(texts, languages, scopes)
        return self

    def __call__(self, texts: Sequence[str], languages: Sequence[str]) -> np.ndarray:
        """Return log odds of unanswerable and of off topic against ours, shape (texts, 2)."""
        shares = np.log(self._model.probabilities(texts, languages) + 1e-6)
        place = {name: i for i, name in enumerate(self._model.classes)}
        ours, unanswerable, off_topic = (shares[:, place[name]] for name in SCOPES)
        return np.column_stack([unanswerable - ours, off_topic - ours])


# A person -----------------------------------------------------------------------------

_HUMAN = re.compile(
    r"(?:talk|speak|connect|put me through)\b.{0,20}(?:human|person|agent|someone|somebody)"
    r"|real person"
    r"|(?:mit einem|einen|echten) (?:menschen|mitarbeiter)|(?:hablar|hable"
    r"|póngame) con (?:una persona|alguien"
    r"|un agente|un humano)|can somebody look",
    re.IGNORECASE,
)


def wants_person(text: str) -> bool:
    """Say whether a customer asks for a person."""
    return bool(_HUMAN.search(text))
