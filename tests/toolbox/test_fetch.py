"""Data sets of several files: fetched, resumed, refused and put together."""

from __future__ import annotations

import hashlib
import io
import pickle
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

import casebook.data.files
from casebook.data import RealDataUnavailable, RealFile, find_real, real, registry, tables
from casebook.data.fetch import Member, content_hash
from casebook.project import whole


def day(number: int) -> pd.DataFrame:
    """Return a small daily file, with the object columns that the Handbook's have."""
    rows = 3
    first = number * rows
    return pd.DataFrame(
        {
            "TRANSACTION_ID": np.arange(first, first + rows)[::-1],  # in no order
            "TX_DATETIME": pd.Timestamp("2018-06-10") + pd.to_timedelta([number] * rows, "D"),
            "CUSTOMER_ID": pd.Series([5, 6, 7], dtype=object),
            "TERMINAL_ID": pd.Series([1, 2, 3], dtype=object),
            "TX_AMOUNT": [1.5, 2.25, 0.1],
            "TX_TIME_SECONDS": pd.Series([1, 2, 3], dtype=object),
            "TX_TIME_DAYS": pd.Series([number] * rows, dtype=object),
            "TX_FRAUD": [0, 1, 0],
            "TX_FRAUD_SCENARIO": [0, 2, 0],
        }
    )


DAYS = [pickle.dumps(day(number), protocol=4) for number in range(4)]
TABLE = tables.handbook_days(DAYS)


@pytest.fixture
def server():
    """Serve ``server.bodies`` by path; ``server.asked`` lists the paths in order."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            state.asked.append(self.path)
            bodies = state.bodies[self.path]
            body = bodies.pop(0) if len(bodies) > 1 else bodies[0]
            self.send_response(200 if body else 503)
            self.send_header("Content-Length", str(len(state.whole[self.path])))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    whole = {f"/{number}.pkl": content for number, content in enumerate(DAYS)}
    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state = SimpleNamespace(
        whole=whole,
        bodies={path: [content] for path, content in whole.items()},
        asked=[],
        url=f"http://127.0.0.1:{http.server_port}",
    )
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield state
    http.shutdown()
    http.server_close()
    thread.join()


@pytest.fixture
def planted(server, tmp_path, monkeypatch):
    """Plant a registry with one set of four files."""
    parts = tuple(
        Member(path[1:], server.url + path, hashlib.sha256(content).hexdigest())
        for path, content in server.whole.items()
    )
    entry = RealFile(
        name="days",
        title="Four days",
        path="12_card_fraud/days.parquet",
        sha256="0a" * 32,
        licence="none",
        source="this test",
        assemble="handbook_days",
        content=content_hash(TABLE),
    )
    monkeypatch.setattr(casebook.data.files, "registry", lambda: {"days": entry})
    monkeypatch.setattr(casebook.data.files, "members", lambda name: parts)
    monkeypatch.setenv("CASEBOOK_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("CASEBOOK_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("CASEBOOK_REAL_DATA", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    (tmp_path / "data").mkdir()
    path = tmp_path / "cache" / entry.path
    return SimpleNamespace(
        entry=entry,
        path=path,
        folder=path.with_name(f"{path.name}.members"),
        local=tmp_path / "data" / entry.path,
    )


def test_a_reader_gets_a_set_of_several_files_and_keeps_the_table_alone(planted, server, capsys):
    path = real("days")
    pd.testing.assert_frame_equal(pd.read_parquet(path), TABLE)
    assert server.asked == list(server.whole)
    assert "4/4" in capsys.readouterr().err
    assert [p for p in planted.path.parents[1].rglob("*") if p.is_file()] == [path]


def test_where_no_file_comes_there_is_no_bar(planted, server, capsys):
    server.bodies["/0.pkl"] = [b""]
    with pytest.raises(RealDataUnavailable):
        real("days")
    assert capsys.readouterr().err == ""


def test_what_was_put_together_is_found_without_the_network(planted, server):
    path = real("days")
    server.asked.clear()
    assert find_real("days") == real("days") == path
    assert server.asked == []


@pytest.mark.parametrize("fault", ["cut", "altered", "refused"])
def test_a_run_that_is_broken_off_goes_on_where_it_was(planted, server, fault):
    good = server.whole["/2.pkl"]
    bad = {"cut": good[:-50], "altered": good.replace(b"TX_", b"TY_"), "refused": b""}[fault]
    server.bodies["/2.pkl"] = [bad]
    with pytest.raises(RealDataUnavailable, match="2 of 4 files are fetched, then its server"):
        real("days")
    assert sorted(p.name for p in planted.folder.iterdir()) == ["0.pkl", "1.pkl"]
    assert not planted.path.exists()
    server.bodies["/2.pkl"] = [good]
    server.asked.clear()
    assert real("days") == planted.path
    assert server.asked == ["/2.pkl", "/3.pkl"]


@pytest.mark.parametrize("cut", [0, 50])
def test_a_member_that_comes_cut_or_altered_once_is_asked_for_again(planted, server, cut):
    good = server.whole["/1.pkl"]
    bad = good[:-cut] if cut else good.replace(b"TX_", b"TY_")
    server.bodies["/1.pkl"] = [bad, good]
    assert real("days") == planted.path
    assert server.asked == ["/0.pkl", "/1.pkl", "/1.pkl", "/2.pkl", "/3.pkl"]


@pytest.mark.parametrize("spoil", [lambda content: content[:40], lambda content: b"x" + content])
def test_a_member_that_was_damaged_on_disk_is_fetched_again(planted, server, spoil):
    planted.folder.mkdir(parents=True)
    for path, content in server.whole.items():
        (planted.folder / path[1:]).write_bytes(content)
    damaged = planted.folder / "3.pkl"
    damaged.write_bytes(spoil(damaged.read_bytes()))
    assert real("days") == planted.path
    assert server.asked == ["/3.pkl"]


class Armed:
    """Unpickling this leaves a mark."""

    def __init__(self, mark):
        self.mark = str(mark)

    def __reduce__(self):
        return open, (self.mark, "w")


@pytest.mark.parametrize("where", ["server", "cache"])
def test_no_pickle_is_loaded_before_its_hash_is_checked(planted, server, tmp_path, where):
    mark = tmp_path / "unpickled"
    evil = pickle.dumps(Armed(mark))
    if where == "server":
        server.whole["/0.pkl"] = evil  # of the announced length
        server.bodies["/0.pkl"] = [evil]
        with pytest.raises(RealDataUnavailable, match="another file than the one"):
            real("days")
    else:
        planted.folder.mkdir(parents=True)
        (planted.folder / "0.pkl").write_bytes(evil)
        real("days")
    assert not mark.exists()
    pickle.loads(evil).close()  # the mark works
    assert mark.exists()


@pytest.mark.parametrize("where", ["path", "local"])
def test_a_table_that_was_altered_is_refused(planted, server, where):
    path = getattr(planted, where)
    path.parent.mkdir(parents=True, exist_ok=True)
    TABLE.assign(TX_AMOUNT=TABLE["TX_AMOUNT"] + 1e-9).to_parquet(path, index=False)
    assert find_real("days") is None
    path.write_bytes(b"no parquet")
    assert find_real("days") is None
    assert real("days") == planted.path
    assert len(server.asked) == 4


def test_a_table_with_the_same_content_counts_whatever_wrote_it(planted, server):
    planted.local.parent.mkdir(parents=True)
    wide = {name: "int64" for name in TABLE if TABLE[name].dtype.kind == "i"}
    TABLE.astype(wide).to_parquet(planted.local, compression="gzip", row_group_size=2)
    assert real("days") == planted.local
    assert server.asked == []


def test_other_members_than_the_content_says_are_not_stored(planted, server, monkeypatch):
    other = RealFile(**{**vars(planted.entry), "content": "0b" * 32})
    monkeypatch.setattr(casebook.data.files, "registry", lambda: {"days": other})
    with pytest.raises(RealDataUnavailable, match="the table made of them differs"):
        real("days")
    assert not planted.path.exists()
    assert len(list(planted.folder.iterdir())) == 4


def test_members_that_pandas_cannot_read_are_told_from_bad_ones(planted, server, monkeypatch):
    def unreadable(files):
        raise AttributeError("no attribute 'Int64Index'")

    monkeypatch.setattr(tables, "handbook_days", unreadable)
    with pytest.raises(RealDataUnavailable, match="installed pandas cannot read them"):
        real("days")


def test_the_days_are_put_together_in_one_form_and_in_order():
    assert TABLE["TRANSACTION_ID"].tolist() == list(range(12))
    assert TABLE.dtypes.astype(str).to_dict() == tables._HANDBOOK_TYPES
    part = pickle.dumps(day(1).drop(columns="TX_FRAUD"))
    with pytest.raises(ValueError, match=r"daily file 2 of 2 has no column \['TX_FRAUD'\]"):
        tables.handbook_days([DAYS[0], part])


def test_the_content_of_the_local_handbook_is_the_registrys():
    """The recipe's hash of the result was taken from the file with the known hash."""
    path = find_real("fraud_handbook")
    if path is None:
        pytest.skip("fraud_handbook is not here, or real data are switched off")
    table = tables._handbook_form(pd.read_parquet(path))
    assert content_hash(table) == registry()["fraud_handbook"].content


# The hash of a content -----------------------------------------------------------------


def test_a_content_is_the_same_by_any_writer_and_width():
    again = pd.read_parquet(io.BytesIO(TABLE.to_parquet(compression="brotli")))
    assert content_hash(again.astype({"TX_FRAUD": "int64"})) == content_hash(TABLE)


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.assign(TX_AMOUNT=np.nextafter(t["TX_AMOUNT"], 9)),
        lambda t: t.iloc[::-1],
        lambda t: t.iloc[:-1],
        lambda t: t[t.columns[::-1]],
        lambda t: t.rename(columns={"TX_FRAUD": "FRAUD"}),
        lambda t: t.astype({"TX_FRAUD": float}),
        lambda t: t.assign(TX_DATETIME=t["TX_DATETIME"].astype("int64")),
    ],
)
def test_any_change_of_a_content_changes_its_hash(change):
    assert content_hash(change(TABLE)) != content_hash(TABLE)


def test_a_column_of_another_kind_is_refused():
    for values in (["a", 1], ["a", None], [["a"]]):
        with pytest.raises(TypeError, match="column 'name' is of type object"):
            content_hash(pd.DataFrame({"name": values}))


def test_texts_count_with_their_borders_and_in_their_order():
    tables = [["ab", "c"], ["a", "bc"], ["c", "ab"], ["ab", "c", ""], ["ab", "ç"]]
    hashes = {content_hash(pd.DataFrame({"name": values})) for values in tables}
    assert len(hashes) == len(tables)
    assert content_hash(pd.DataFrame({"other": ["ab", "c"]})) not in hashes
    assert content_hash(pd.DataFrame({"name": ["ab", "c"]}, index=[7, 5])) in hashes


def test_two_that_fetch_the_same_file_do_not_meet(tmp_path):
    target = tmp_path / "file"
    with whole(target) as one, whole(target) as two:
        one.write(b"one")
        two.write(b"two")
    assert target.read_bytes() == b"one"  # ended last, and whole
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
