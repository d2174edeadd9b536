"""What a turn names, by patterns with check digits where there are any, and whether it asks for a
person. Everything here reads masked text.

The language of a turn and whether it is a question for us are learned
(:mod:`casebook.retrieval.classify`); attacks are for :mod:`casebook.serving.guard`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from casebook.cases.support_rag_chatbot.world import is_tracking_number
from casebook.serving.privacy import Free

# A number is read from its beginning alone: elsewhere each digit would be a beginning.
_COUNT = (
    r"(?:(?<!\d)(?<!\d[.,])\d+(?:[.,]\d+)*|\b(?:one|two|three|four|five|ten|twenty|ein|zwei|drei|vier|fünf|zehn|dos"
    r"|tres|cuatro|cinco|diez|veinte)\b)"
)
#: A tracking number, in any spelling.
TRACKING_NUMBER = r"(?<![^\W_])[A-Za-z]{2}(?:[ .-]?\d){9}[ .-]?[A-Za-z]{2}(?![^\W_])"
_PATTERNS = {
    "tracking_number": TRACKING_NUMBER,
    "article_number": r"(?<!\w)KB[- ]?\d{4}(?!\w)",
    "form": r"(?<!\w)(?:F[- ]?\d{3}|CN[- ]?2[23])(?!\w)",
    "status_code": r"(?<!\w)(?:A1|T2|T7|H3|H5|D4|Z9)(?!\w)",
    "amount": rf"[€£$] ?\d+(?:[.,]\d+)*|{_COUNT} ?(?:€|£|\$"
    r"|(?:eur|euros?|pounds?|quid|pfund|libras?|dollars?|bucks|franken|francos?|chf|gbp|usd)\b)",
}
_ENTITIES = {name: re.compile(pattern, re.IGNORECASE) for name, pattern in _PATTERNS.items()}


@dataclass(frozen=True)
class Entity:
    """Something that a text names.

    Attributes
    ----------
    kind : str
        ``tracking_number``, ``tracking_number_wrong`` (its check digit does not fit),
        ``article_number``, ``form``, ``status_code``, ``amount``.
    value : str
        In one spelling: numbers without spaces in capitals; else as written.
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
    for kind, pattern in _ENTITIES.items():
        for match in pattern.finditer(text):
            value, name = match[0], kind
            if kind == "tracking_number":
                value = re.sub(r"[ .-]", "", value).upper()
                name = kind if is_tracking_number(value) else "tracking_number_wrong"
            elif kind != "amount":
                value = re.sub(r"^(KB|F)[- ]?", r"\1-", value.upper())
                value = re.sub(r"^CN[- ]?", "CN ", value)
            if free.take(*match.span()):
                found.append(Entity(name, value, *match.span()))
    return sorted(found, key=lambda entity: entity.start)


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
