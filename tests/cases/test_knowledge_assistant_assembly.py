"""Case 18, all parts over a folder: a restart makes no text new, and its files are its owner's."""

import stat

import numpy as np
from fastapi.testclient import TestClient
from test_knowledge_assistant_rounds import ANN, AT, BOB, CLEAN, InProcess, page

from casebook.cases.knowledge_assistant.assembly import Assembly
from casebook.cases.knowledge_assistant.desk import Quotes
from casebook.cases.knowledge_assistant.records import DIRECTORY, SOURCES, Event, Grant
from casebook.cases.knowledge_assistant.service import app_of
from casebook.cases.knowledge_assistant.world.sources import told
from casebook.retrieval.dense import Hashed
from casebook.serving.bearer import Bearer, Ring
from casebook.serving.deltas import Feed, FeedDown

OPS = "user:ops"


class Whole:
    """An assembly that reads feeds of this process."""

    def __init__(self, folder):
        self.folder, self.now, self.seq, self.places = folder, 1_780_000_000.0, 0, {}
        self.feeds = {one: Feed() for one in (DIRECTORY, *SOURCES)}
        self.bearer = Bearer(Ring("k1", b"1" * 32), clock=lambda: self.now)
        for user in (ANN, BOB, OPS):
            self.tell(DIRECTORY, "user", user, True)
        self.tell("wiki", "container", "wiki:c1", "")
        self.tell("wiki", "grants", "wiki:c1", (Grant("wiki:c1", ANN, "allow"),))
        self.open()

    def open(self):
        made = Hashed(32), Quotes, self.bearer
        self.all = Assembly(self.folder, "http://127.0.0.1:1", *made, clock=lambda: self.now)
        for link in self.all.links:
            link.reader.close()
            link.reader = InProcess(self.feeds[link.source])
            link.reader.close = lambda: None
        app = app_of(self.all.service, lambda: 0.0, OPS)
        self.client = TestClient(app, raise_server_exceptions=False)

    def tell(self, source, kind, subject, payload):
        self.seq += 1
        event = Event(source, self.seq, AT, kind, subject, payload)
        self.feeds[source].publish(told([event], self.places))

    def write(self, document):
        self.tell("wiki", "document", document.id, document)

    def get(self, user, route):
        header = {"authorization": f"Bearer {self.bearer.issue(user)}"}
        return self.client.get(f"/v1/{route}", headers=header)


def later(document, days):
    import dataclasses

    return dataclasses.replace(document, modified=AT + np.timedelta64(days * 86_400, "s"))


def test_a_restart_makes_no_text_new_and_all_files_are_their_owners(tmp_path):
    whole = Whole(tmp_path / "assistant")
    for version, days in ((7, 0), (8, 90)):  # saved again as it was
        whole.write(later(page(1, CLEAN, version), days))
        whole.all.refresh()
    changed = whole.all.library.leaves["wiki:d1"].changed
    assert changed == AT
    assert whole.get(ANN, "documents/wiki:d1").json()["version"] == "8"
    ask = {"conversation": "c1", "question": CLEAN}
    header = {"authorization": f"Bearer {whole.bearer.issue(ANN)}"}
    assert '"told": 8' in whole.client.post("/v1/ask", json=ask, headers=header).text
    whole.all.close()
    whole.open()
    assert whole.get(ANN, "documents/wiki:d1").status_code == 404  # not stored yet
    whole.all.refresh()
    assert whole.all.library.leaves["wiki:d1"].changed == changed
    assert whole.get(ANN, "documents/wiki:d1").json()["version"] == "8"
    assert whole.get(BOB, "documents/wiki:d1").status_code == 404
    assert len(whole.get(ANN, "conversations/c1").json()["turns"]) == 1
    files = {path.name: stat.S_IMODE(path.stat().st_mode) for path in whole.folder.iterdir()}
    names = {"rights.db", "mirror.db", "dates.db", "conversations.db", "budgets.db", "thumbs.db"}
    assert {*files} >= names and {*files.values()} == {0o600}
    assert stat.S_IMODE(whole.folder.stat().st_mode) == 0o700
    whole.all.close()


def test_without_the_file_of_dates_a_restart_makes_a_text_new(tmp_path):
    """The fault that the test above would find."""
    whole = Whole(tmp_path / "assistant")
    for version, days in ((7, 0), (8, 90)):
        whole.write(later(page(1, CLEAN, version), days))
        whole.all.refresh()
    whole.all.close()
    (whole.folder / "dates.db").unlink()
    whole.open()
    whole.all.refresh()
    assert whole.all.library.leaves["wiki:d1"].changed > AT
    whole.all.close()


def test_lags_and_troubles_of_the_feeds_reach_the_operator(tmp_path):
    whole = Whole(tmp_path / "assistant")
    whole.all.refresh()
    whole.now += 5
    state = whole.get(OPS, "state").json()
    expected = dict.fromkeys((DIRECTORY, *SOURCES), 5.0)
    assert state["lags"] == state["rights_lags"] == expected and state["alarms"] == []

    def down(lane):
        raise FeedDown

    chat = next(link for link in whole.all.links if link.source == "chat")
    chat.reader.hook = down
    whole.now += 60
    whole.all.refresh()
    state = whole.get(OPS, "state").json()
    assert state["rights_lags"]["chat"] == 65.0 and state["rights_lags"]["wiki"] == 0.0
    assert [one["what"] for one in state["alarms"]] == [
        "chat (rights) was last read to its end 65 s ago.",
        "chat: does not answer: FeedDown.",
    ]
    assert whole.get(ANN, "state").status_code == 404
    whole.all.close()
