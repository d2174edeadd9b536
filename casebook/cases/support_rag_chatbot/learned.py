"""What the chatbot learned on the tuning questions: probabilities and thresholds.

``learning.learn`` makes it anew and ``learning.as_text`` writes ``learned.json``; the benchmark
``support_learned`` compares.
"""

from __future__ import annotations

import json
from pathlib import Path

_HELD = json.loads(Path(__file__).with_name("learned.json").read_text(encoding="utf-8"))
#: Logistic models: that an answer is right, that a question can be answered (by all evidence, by
#: its words alone, by search and reader alone), that it is off topic.
RIGHT, ANSWERABLE, OFF_TOPIC = (_HELD[name] for name in ("RIGHT", "ANSWERABLE", "OFF_TOPIC"))
ANSWERABLE_WORDS, ANSWERABLE_EVIDENCE = (
    _HELD[name] for name in ("ANSWERABLE_WORDS", "ANSWERABLE_EVIDENCE")
)
#: Probability of being right from which to answer rather than hand over; rather than show titles;
#: and that by the intent of what is cited.
ANSWER_FROM, ANSWER_FROM_TITLES = _HELD["ANSWER_FROM"], _HELD["ANSWER_FROM_TITLES"]
ANSWER_FROM_INTENT: dict[str, float] = _HELD["ANSWER_FROM_INTENT"]
#: Probability of being off topic from which to refuse.
REFUSE_FROM = _HELD["REFUSE_FROM"]
