"""Case 18, the shared types: what a feed sends comes back equal, and bad events are refused."""

import json

import numpy as np
import pytest

from casebook.cases.knowledge_assistant.records import (
    LONGEST_BODY,
    Document,
    Event,
    Grant,
    as_json,
    event_of,
    moment,
)

AT = moment("2025-03-01T09:30:05")
PAGE = Document(
    *("wiki:d7", "wiki", "Legal/Retention", "Retention", "Keep it.", 2, AT, "user:17"),
    *(False, "wiki:c2"),
)
EVENTS = [
    Event("wiki", 1, AT, "container", "wiki:c2", ""),
    Event("wiki", 2, AT, "document", "wiki:d7", PAGE),
    Event("wiki", 3, AT, "grants", "wiki:d7", (Grant("wiki:d7", "group:legal", "deny"),)),
    Event("wiki", 4, AT, "grants", "wiki:c2", ()),
    Event("wiki", 5, AT, "deleted", "wiki:d7"),
    Event("directory", 6, AT, "members", "group:legal", ("user:17", "group:all")),
    Event("directory", 7, AT, "user", "user:17", False),
]


@pytest.mark.parametrize("event", EVENTS, ids=lambda e: e.kind)
def test_an_event_survives_the_wire(event):
    assert event_of(json.loads(json.dumps(as_json(event)))) == event


def test_a_deletion_and_a_document_share_a_key_and_grants_have_their_own():
    assert EVENTS[1].key == EVENTS[4].key != EVENTS[2].key


def test_the_digest_is_of_the_text_alone():
    import dataclasses

    moved = dataclasses.replace(PAGE, container="wiki:c9", version=3, path="x", owner="user:1")
    assert moved.digest == PAGE.digest
    assert dataclasses.replace(PAGE, body="Keep it!").digest != PAGE.digest
    # what stands before and after the border of title and body is told apart
    split = dataclasses.replace(PAGE, title="RetentionK", body="eep it.")
    assert split.digest != PAGE.digest


def changed(event, **fields):
    return {**as_json(event), **fields}


def page(**fields):
    sent = as_json(EVENTS[1])
    return {**sent, "payload": {**sent["payload"], **fields}}


BAD = [
    ([], "not an object"),
    ({"source": "wiki"}, "missing or unknown"),
    (changed(EVENTS[0], source="mail"), "source 'mail'"),
    (changed(EVENTS[0], seq=-1), "seq -1"),
    (changed(EVENTS[0], seq=True), "seq True"),
    (changed(EVENTS[0], seq=2**60), "seq"),
    (changed(EVENTS[0], kind="moved"), "kind 'moved'"),
    (changed(EVENTS[0], subject="wiki:d2"), "no container"),
    (changed(EVENTS[0], payload="chat:c1"), "no container"),
    (changed(EVENTS[0], at="now"), "no time"),
    (changed(EVENTS[0], at="2025-13-01"), "no time"),
    (changed(EVENTS[0], at="2025-03-01T09:30:05Z"), "no time"),
    (changed(EVENTS[5], source="wiki"), "wiki does not send"),
    (changed(EVENTS[1], subject="chat:d7"), "not of wiki"),
    (changed(EVENTS[4], payload={}), "deletion"),
    (changed(EVENTS[6], payload=0), "not true or false"),
    (changed(EVENTS[5], payload=["legal"]), "no principal"),
    (changed(EVENTS[3], payload=[["group:legal", "maybe"]]), "neither allow nor deny"),
    (changed(EVENTS[3], payload=["group:legal"]), "no pair"),
    (page(version=0), "version"),
    (page(owner="Bo"), "owner"),
    (page(container="drive:c1"), "container"),
    (page(body="x" * (LONGEST_BODY + 1)), "200,001 characters"),
    (page(body="\ud83d"), "half a character"),
    (page(critical=1), "critical"),
    (page(extra=1), "needs"),
]


@pytest.mark.parametrize("sent, what", BAD, ids=range(len(BAD)))
def test_a_bad_event_is_refused_with_what_is_wrong(sent, what):
    with pytest.raises(ValueError, match=what):
        event_of(sent)


def test_times_are_whole_seconds():
    assert moment(np.datetime64("2025-03-01T09:30:05.9")) == AT
    with pytest.raises(ValueError, match="no time"):
        moment(np.datetime64("NaT"))
