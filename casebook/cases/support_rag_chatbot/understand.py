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


_WHOM = (
    r"(?:human|person|agent|someone|somebody|colleague|representative|operator|adviser"
    r"|kolleg(?:en?|in)|mitarbeiter(?:in)?|mensch(?:en)?|jemandem"
    r"|persona|alguien|agente|human[oa]|compañer[oa]|colega|emplead[oa]|operadora?)"
)
_HUMAN = re.compile(
    rf"(?:talk|speak|connect|transfer)\b.{{0,20}}{_WHOM}|real (?:person|human)|can somebody look"
    r"|\b(?:pass me on|put me through|(?:transfer|connect) me|hand me over to)\b"
    r"|(?:mit einem|einen|echten) (?:menschen|mitarbeiter)|mit einer (?:echten )?person"
    rf"|\bmit (?:eine[mr] )?{_WHOM} (?:sprechen|reden|verb)|mit eine[mr] (?:kolleg|mitarbeiterin)"
    r"|\bverbinden? sie mich\b|\bmich (?:bitte )?verbinden\b|\bverbunden werden\b"
    rf"|(?:hablar|hable|póngame|p[áa]s[ea]me|comuníqueme) con (?:una? )?{_WHOM}"
    rf"|^\W*(?:(?:an?|eine?[nm]?|una?)\W+)?{_WHOM}(?:\W+(?:please|bitte|por favor|now))?\W*$",
    re.IGNORECASE,
)


def wants_person(text: str) -> bool:
    """Say whether a customer asks for a person."""
    return bool(_HUMAN.search(text))


# A yes to a person whom the bot has offered, or its own words for one.
_OFFER = re.compile(
    r"(?!\W*(?:no|nein|nope)\b)[^?]*\b(?:colleague|kolleg\w+|verb[iu]nden?|compañer[oa])\b[^?]*",
    re.IGNORECASE,
)
_SURE = r"(?:oh|yes|yeah|yep|sure|please|do|ja|jawohl|gerne?|bitte|sí|si|claro|por favor)"
_YES = re.compile(  # "ok, thanks" is none: it ends a conversation
    rf"\W*(?:(?:ok|okay|vale)\b\W*)?(?:{_SURE}\b\W*){{1,4}}(?:(?:thanks|danke|gracias)\W*)?"
    r"|\W*(?:ok|okay|vale)\W*",
    re.IGNORECASE,
)


def takes_person(text: str, offered: bool = False) -> bool:
    """Say whether a customer asks for a person, or says yes to the offer of one.

    Parameters
    ----------
    text : str
    offered : bool
        Whether the bot's last reply offered a person.

    Examples
    --------
    >>> takes_person("yes please"), takes_person("yes please", offered=True)
    (False, True)
    >>> takes_person("I would rather talk to a colleague")
    True
    """
    accepts = _YES.fullmatch(text) or _OFFER.fullmatch(text)
    return wants_person(text) or (offered and bool(accepts))


_WHERE = re.compile(r"\b(?:where|any news|status|track\w*|wo|dónde|donde)\b", re.IGNORECASE)


def mistyped(text: str) -> str:
    """Return the number with a slip in it that a turn asks about; empty if there is none.

    Who asks why a number is not taken is answered from the articles: the turn must ask where a
    parcel is, or hold nothing but the number.

    Examples
    --------
    >>> mistyped("where is EC180358040XA?"), mistyped("EC180358040XA is invalid, why?")
    ('EC180358040XA', '')
    """
    found = entities(text)
    if len(found) != 1 or found[0].kind != "tracking_number_wrong":
        return ""
    around = text[: found[0].start] + text[found[0].end :]
    asked = _WHERE.search(around) or not re.search(r"[^\W_]", around)
    return found[0].value if asked else ""
