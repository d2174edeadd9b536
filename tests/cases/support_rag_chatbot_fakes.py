"""A help centre of six articles, and an embedder without a model, for the tests of case 16."""

from __future__ import annotations

import pandas as pd

from casebook.retrieval.dense import Hashed

NOW = pd.Timestamp("2026-06-30 12:00")
MODEL = Hashed(128)


def article(name, language, title, text, version=1, start="2024-01-01", end=None, tags="KB-1001"):
    """Return one row for an index."""
    return {
        "article_id": name,
        "version": version,
        "language": language,
        "title": title,
        "text": text,
        "valid_from": pd.Timestamp(start),
        "valid_to": pd.Timestamp(end) if end else pd.NaT,
        "tags": f"{tags} private",
    }


ARTICLES = pd.DataFrame(
    [
        article(
            "storage",
            "en",
            "How long we keep a parcel",
            "## In the branch\n\nWe keep a parcel for 7 days. After that it goes back.\n\n"
            "## Longer\n\nFive more days cost 3.90 euros. You cannot extend twice.\n",
        ),
        article(
            "storage",
            "de",
            "Wie lange wir ein Paket aufbewahren",
            "## In der Filiale\n\nWir bewahren ein Paket 7 Tage auf. Danach geht es zurück.\n\n"
            "## Länger\n\nFünf weitere Tage kosten 3,90 Euro.\n",
        ),
        article(
            "damage",
            "en",
            "A parcel is damaged",
            "## Report it\n\nReport the damage within 7 days on form F-114.\n\n"
            "## Money\n\nWe pay up to 500 euros.\n",
            end="2026-01-01",
            tags="KB-1002",
        ),
        article(
            "damage",
            "en",
            "A parcel is damaged",
            "## Report it\n\nReport the damage within 14 days on form F-114.\n\n"
            "## Money\n\nWe pay up to 750 euros.\n",
            version=2,
            start="2026-01-01",
            tags="KB-1002",
        ),
        article(
            "storage--business",
            "en",
            "How long we keep a parcel for business customers",
            "## In the branch\n\nWe keep a parcel for 14 days.\n",
        ),
        article(
            "opening",
            "en",
            "Opening hours of branches",
            "## Hours\n\nBranches are open from 8 to 18 on working days.\n",
            tags="KB-1003",
        ),
    ]
)
