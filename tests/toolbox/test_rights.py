"""Rights: the rules one by one, lost at the next request, and cheap to ask for."""

from __future__ import annotations

import gc
import sqlite3
import stat

import numpy as np
import pytest

from casebook.serving.rights import EVERYBODY, Rights, Sight


class Office(Rights):
    """Ann is in a group; a page lies in a folder in a space that the group may see."""

    def __init__(self, path=":memory:", kept: int = 512) -> None:
        self.now = 1_000.0
        super().__init__(path, clock=lambda: self.now, kept=kept)

    def write(self, what: str, *told, **more) -> None:
        with self.writing():
            getattr(self, what)(*told, **more)

    def may(self, resource: str, **effects: str) -> None:
        self.write("grants", resource, {*effects.items()})

    def filled(self) -> Office:
        self.write("person", "ann", since=0)
        self.write("members", "group", ["ann"])
        self.write("lies_in", "space", "")
        self.write("lies_in", "folder", "space")
        self.write("lies_in", "page", "folder", item=True)
        self.may("space", group="allow")
        assert sees(self)
        return self


@pytest.fixture
def office() -> Office:
    return Office().filled()


def sees(rights: Rights, who: str = "ann", item: str = "page") -> bool:
    return bool(rights.sees(who, [item])[0])


# The rules ---------------------------------------------------------------------------


def test_a_denial_wins_at_any_depth_and_nobody_is_allowed_by_default(office):
    assert not sees(office, "bob")
    for resource in ("page", "folder", "space"):
        office.may(resource, group="allow", ann="deny")
        assert not sees(office), resource
        office.may(resource, group="allow")
        assert sees(office)
    office.may("space")
    assert sees(office)  # by the grants of page and folder
    office.may("page"), office.may("folder")
    assert not sees(office)


def test_groups_are_nested_and_may_hold_each_other(office):
    office.write("members", "group", ["inner"])
    assert not sees(office)
    office.write("members", "inner", ["inmost", "group"])
    office.write("members", "inmost", ["ann"])
    assert sees(office)
    office.may("page", inner="deny")
    assert not sees(office)


def test_what_stands_for_everybody_takes_and_never_gives(office):
    office.write("person", "bob", since=0)
    office.write("members", "open", [EVERYBODY])
    office.may("page", open="allow", **{EVERYBODY: "allow"})
    assert sees(office) and not sees(office, "bob")
    office.may("page", open="deny")
    assert not sees(office)
    office.may("page")
    assert sees(office)
    office.may("folder", **{EVERYBODY: "deny"})
    assert not sees(office)
    office.may("folder")
    office.write("members", "outer", ["open"])  # nested: outer takes as well
    office.may("space", group="allow", outer="deny")
    assert not sees(office)
    office.write("members", "open", ["bob"])
    assert sees(office)


def test_a_commit_that_fails_leaves_no_transaction_open(office):
    office._db.execute("PRAGMA foreign_keys = ON")
    office._db.execute("CREATE TABLE parent (id INTEGER PRIMARY KEY)")
    office._db.execute("CREATE TABLE child (id REFERENCES parent DEFERRABLE INITIALLY DEFERRED)")
    with pytest.raises(sqlite3.IntegrityError), office.writing():
        office._db.execute("INSERT INTO child VALUES (7)")
    assert sees(office)


def test_what_is_not_known_hides(office):
    office.write("lies_in", "page", "elsewhere", item=True)
    office.may("elsewhere", group="allow")
    assert not sees(office)  # nobody has told where it lies
    office.write("lies_in", "elsewhere", "")
    assert sees(office)
    office.write("lies_in", "elsewhere", "other"), office.write("lies_in", "other", "elsewhere")
    assert not sees(office)  # a circle
    office.write("lies_in", "other", "space")
    assert sees(office)
    office.write("lies_in", "page", None, item=True)
    assert not sees(office)
    assert not office.sees("ann", ["never", "", "space", "/"]).any()
    assert len(office.sees("ann", [])) == 0 and not sees(office, "never")


def test_who_leaves_sees_nothing_from_that_second_on(office):
    office.write("leaves", "ann", 1_060)
    office.now = 1_059.9
    assert sees(office)
    office.now = 1_060
    assert not sees(office)
    office.write("person", "ann", since=2_000)
    assert not sees(office)
    office.now = 2_000
    assert sees(office)


def test_an_edition_from_before_a_move_is_hidden(office):
    def which() -> list[bool]:
        return [bool(office.sees("ann", ["page"], [edition])[0]) for edition in (1, 2, 3)]

    office.write("lies_in", "page", "folder", item=True, edition=2)
    assert which() == [True, True, True]  # it has not moved
    before = office.sight("ann").fingerprint
    office.write("lies_in", "page", "space", item=True, edition=2)
    assert which() == [False, True, True]
    assert office.sight("ann").fingerprint != before  # the same items, fewer texts
    assert office.shows("ann", [("page", 1), ("page", 2)]).tolist() == [False, True]
    office.write("lies_in", "page", None, item=True)
    office.write("lies_in", "page", "space", item=True, edition=3)
    assert which() == [False, False, True] and sees(office)


def test_all_or_nothing_is_written(office):
    with pytest.raises(ValueError, match="allow"), office.writing():
        office.grants("space", set())
        office.grants("page", {("ann", "maybe")})
    for name in ("", "/"):  # the rows of nowhere and of the top
        with pytest.raises(ValueError, match="no name"):
            office.write("grants", name, {("bob", "allow")})
    assert sees(office)


def test_a_late_event_is_no_news(office):
    with office.writing():
        told = [office.newer("grants", "page", seq) for seq in (5, 5, 4, 6, 1)]
        assert told == [True, False, False, True, False]
        assert office.newer("members", "page", 1)


# At the next request -----------------------------------------------------------------


def test_another_process_revokes_and_the_next_request_knows(tmp_path):
    writer, reader = Office(tmp_path / "rights.db").filled(), Office(tmp_path / "rights.db")
    for _ in range(3):
        assert sees(reader)
        writer.may("page", others="deny")
        assert sees(reader)
        writer.write("members", "others", ["ann"])
        assert not sees(reader)
        writer.write("members", "others", [])
    for path in tmp_path.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    reader.close()
    with pytest.raises(sqlite3.Error):  # no answer is no permission
        sees(reader)
    writer.close()
    again = Office(tmp_path / "rights.db")
    assert sees(again)


def test_a_change_by_another_program_counts_too(office):
    for table in ("grants", "members", "people"):
        kept = office._db.execute(f"SELECT * FROM {table}").fetchall()
        office._db.execute(f"DELETE FROM {table}")
        assert not sees(office), table
        office._db.executemany(f"INSERT INTO {table} VALUES ({','.join('?' * len(kept[0]))})", kept)
        assert sees(office)
    row = office.rows(["page"])[0]
    for doing in (
        "INSERT OR IGNORE INTO grants VALUES ('ann', ?, 'deny')",
        "UPDATE grants SET effect = 'allow' WHERE resource = ?",
        "INSERT OR REPLACE INTO grants VALUES ('group', ?, 'deny')",
        "UPDATE grants SET principal = 'bob' WHERE resource = ? AND effect = 'deny'",
        "UPDATE resources SET parent = 0 WHERE id = ?",
    ):
        before = sees(office)
        office._db.execute(doing, (int(row),))
        assert sees(office) != before, doing
    with pytest.raises(sqlite3.IntegrityError, match="its row stays"):
        office._db.execute("DELETE FROM resources WHERE name = 'page'")


class Interrupted(Office):
    """Another process writes between the reading of groups and that of grants."""

    def _of(self, principals):
        self.between()
        return super()._of(principals)


class ReadsTwice(Interrupted):
    """Reads groups in one state of the store and grants in a later one."""

    def _of(self, principals):
        self._db.execute("COMMIT")
        self.between()
        self._db.execute("BEGIN")
        return Office._of(self, principals)


@pytest.mark.parametrize(("store", "wrong"), [(Interrupted, False), (ReadsTwice, True)])
def test_groups_and_grants_are_read_in_one_state(tmp_path, store, wrong):
    """Ann leaves the group, and then it gets the page: there is no time at which she may see it."""
    writer, reader = Office(tmp_path / "rights.db").filled(), store(tmp_path / "rights.db")
    writer.may("space")

    def between() -> None:
        writer.write("members", "group", [])
        writer.may("space", group="allow")

    reader.between = between
    assert sees(reader) is wrong
    assert not sees(writer)


# Cheap -------------------------------------------------------------------------------


def test_while_nothing_changes_one_small_question_is_asked(office):
    said: list[str] = []
    office._db.set_trace_callback(said.append)
    assert sees(office)
    assert [line.split()[0] for line in said] == ["BEGIN", "SELECT", "COMMIT"]


def test_people_with_the_same_rights_share_a_mask_and_a_fingerprint(office):
    for name in ("bob", "eve"):
        office.write("person", name, since=0)
    office.write("members", "group", ["ann", "bob"])
    office.write("members", "lunch", ["bob"])  # of which no grant speaks
    first, second, third = (office.sight(name) for name in ("ann", "bob", "eve"))
    assert first.mask is second.mask
    assert first.fingerprint == second.fingerprint != third.fingerprint
    office.write("lies_in", "other", "nowhere", item=True)
    assert office.sight("ann").fingerprint == first.fingerprint
    office.write("lies_in", "other", "space", item=True)
    assert office.sight("ann").fingerprint != first.fingerprint


def test_only_whoever_has_the_changed_grants_is_computed_again(office, monkeypatch):
    office.write("person", "bob", since=0)
    office.may("space", group="allow", bob="allow")
    made, inherit = [], Rights._inherit
    assert sees(office) and sees(office, "bob")
    monkeypatch.setattr(Rights, "_inherit", lambda self, *f: made.append(1) or inherit(self, *f))
    office.may("page", bob="deny")
    assert sees(office) and not made
    assert not sees(office, "bob") and len(made) == 1


def test_memory_is_bounded():
    others = [one for one in gc.get_objects() if isinstance(one, Sight)]  # of other tests
    office = Office(kept=3).filled()
    for i in range(60):
        office.write("person", f"p{i}", since=0)
    office.may("space", **{f"p{i}": "allow" for i in range(60)})
    assert all(sees(office, f"p{i}") for i in range(60))
    for i in range(60):  # old masks are kept by nobody, however many users have asked
        office.may("page", **{f"p{i}": "allow"})
        assert sees(office, f"p{i}")
        office.write("lies_in", f"new{i}", "space", item=True)
    gc.collect()
    before = {id(one) for one in others}
    alive = [one for one in gc.get_objects() if isinstance(one, Sight) and id(one) not in before]
    assert len([one for one in alive if len(one.mask) > 5]) <= 3
    assert len(office._sights) <= 3 and len(office._users) <= 192


def test_a_row_stays_that_of_its_resource(office):
    office.sight("ann")
    before = office.rows(["page", "space", "never"])
    for i in range(30):
        office.write("lies_in", f"new{i}", "space", item=True)
    office.sight("ann")
    assert office.rows(["page", "space", "never"]).tolist() == before.tolist()
    assert office.sight("ann").mask.sum() == 31
    assert np.count_nonzero(office.sight("never").mask) == 0
