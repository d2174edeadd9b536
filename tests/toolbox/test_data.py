"""Snapshots and real data: what is found, fetched, refused and said."""

from __future__ import annotations

import csv
import hashlib
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest

import casebook.data.files
from casebook.data import RealDataUnavailable, RealFile, find_real, real, real_or_note, snapshot
from casebook.project import data_dir

GOOD = b"quarter,trips\n2020Q1,12\n" * 200
BAD_COPIES = {"truncated": GOOD[:100], "altered": GOOD.replace(b"12", b"13")}


@pytest.fixture
def server():
    """Serve ``server.body`` on the loopback interface; ``server.requests`` counts."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            state.requests += 1
            self.send_response(state.status)
            self.send_header("Content-Length", str(len(GOOD)))
            self.end_headers()
            self.wfile.write(state.body)

        def log_message(self, *args):
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    url = f"http://127.0.0.1:{http.server_port}/planted.csv"
    state = SimpleNamespace(body=GOOD, status=200, requests=0, url=url)
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield state
    http.shutdown()
    http.server_close()
    thread.join()


@pytest.fixture
def planted(server, tmp_path, monkeypatch):
    """Plant a registry with one entry, served by ``server``; data and cache folders are empty."""
    entry = RealFile(
        name="planted",
        path="01_case/planted.csv",
        url=server.url,
        sha256=hashlib.sha256(GOOD).hexdigest(),
        licence="none",
        source="this test",
    )
    monkeypatch.setattr(casebook.data.files, "registry", lambda: {"planted": entry})
    monkeypatch.setenv("CASEBOOK_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("CASEBOOK_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("CASEBOOK_REAL_DATA", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return SimpleNamespace(
        entry=entry, data=tmp_path / "data" / entry.path, cache=tmp_path / "cache" / entry.path
    )


def put(path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def files_below(folder) -> list[str]:
    return [p.name for p in folder.rglob("*") if p.is_file()]


@pytest.mark.parametrize("where", ["data", "cache"])
def test_a_good_local_copy_is_given_out_without_the_network(planted, server, where):
    path = getattr(planted, where)
    put(path, GOOD)
    assert real("planted") == path
    assert server.requests == 0


def test_the_data_folder_comes_before_the_cache(planted):
    put(planted.data, GOOD)
    put(planted.cache, GOOD)
    assert real("planted") == planted.data


@pytest.mark.parametrize("copy", BAD_COPIES)
@pytest.mark.parametrize("where", ["data", "cache"])
def test_a_bad_copy_is_refused_and_fetched_again(planted, server, where, copy):
    put(getattr(planted, where), BAD_COPIES[copy])
    assert find_real("planted") is None
    assert real("planted") == planted.cache
    assert planted.cache.read_bytes() == GOOD
    assert server.requests == 1


def test_the_hash_is_checked_every_time(planted, server):
    put(planted.cache, GOOD)
    real("planted")
    put(planted.cache, BAD_COPIES["altered"])
    real("planted")
    assert planted.cache.read_bytes() == GOOD
    assert server.requests == 1


def test_what_was_fetched_once_is_not_fetched_again(planted, server):
    assert real("planted") == real("planted") == planted.cache
    assert server.requests == 1


def test_a_download_shows_a_progress_bar(planted, capsys):
    real("planted")
    assert "100%|" in capsys.readouterr().err


def test_altered_bytes_from_the_server_are_thrown_away(planted, server, tmp_path):
    server.body = BAD_COPIES["altered"]
    with pytest.raises(RealDataUnavailable, match="hash differs") as caught:
        real("planted")
    assert server.url in str(caught.value)
    assert not files_below(tmp_path / "cache")


def test_a_download_cut_short_leaves_nothing(planted, server, tmp_path):
    server.body = BAD_COPIES["truncated"]  # the announced length is that of the whole
    with pytest.raises(RealDataUnavailable):
        real("planted")
    assert not files_below(tmp_path / "cache")


def test_an_address_that_is_gone_says_so(planted, server):
    server.status = 404
    with pytest.raises(RealDataUnavailable, match="HTTPError"):
        real("planted")


def test_without_network_the_reader_learns_what_to_do(planted, monkeypatch, tmp_path):
    nowhere = RealFile(**{**vars(planted.entry), "url": "http://127.0.0.1:9/planted.csv"})
    monkeypatch.setattr(casebook.data.files, "registry", lambda: {"planted": nowhere})
    with pytest.raises(RealDataUnavailable) as caught:
        real("planted")
    for part in (nowhere.url, str(planted.cache), nowhere.sha256):
        assert part in str(caught.value)
    assert not files_below(tmp_path)


def test_switched_off_means_no_file_and_no_network(planted, server, monkeypatch):
    put(planted.data, GOOD)
    monkeypatch.setenv("CASEBOOK_REAL_DATA", "off")
    assert find_real("planted") is None
    with pytest.raises(RealDataUnavailable, match="CASEBOOK_REAL_DATA=off"):
        real("planted")
    assert server.requests == 0


@pytest.mark.parametrize("function", [real, find_real])
def test_an_unknown_name_is_answered_with_the_names_there_are(planted, function):
    with pytest.raises(KeyError, match=r"'plantd'.*planted"):
        function("plantd")


def test_real_or_note_gives_the_path_and_says_nothing(planted, shown):
    put(planted.data, GOOD)
    assert real_or_note("planted", "The check") == planted.data
    assert shown == []


def test_real_or_note_shows_one_note_and_goes_on(planted, shown, monkeypatch):
    monkeypatch.setenv("CASEBOOK_REAL_DATA", "off")
    assert real_or_note("planted", "The check on trips") is None
    assert len(shown) == 1
    note = shown[0]["text/markdown"]
    assert "Not run here: The check on trips" in note
    assert "CASEBOOK_REAL_DATA=off" in note
    assert "The rest of the chapter runs without it" in note


@pytest.mark.parametrize(
    ("chapter", "there"),
    [("00_how_a_case_works", "campaigns.parquet, faults.parquet, observed"), ("99_x", "none")],
)
def test_a_missing_snapshot_is_answered_with_what_is_there(chapter, there):
    with pytest.raises(FileNotFoundError, match="`make data`") as caught:
        snapshot(chapter, "missing.parquet")
    assert f"there: {there}" in str(caught.value)


@pytest.mark.parametrize("entry", casebook.data.files.registry().values(), ids=lambda e: e.name)
def test_every_registry_entry_is_complete(entry):
    assert re.fullmatch(r"https://\S+/[0-9a-f]{40}/\S+", entry.url)
    assert re.fullmatch(r"[0-9a-f]{64}", entry.sha256)
    assert re.fullmatch(r"\d\d_[a-z0-9_]+/[\w.-]+", entry.path)
    assert entry.licence.strip()
    assert entry.source.strip()


@pytest.mark.parametrize("entry", casebook.data.files.registry().values(), ids=lambda e: e.name)
def test_every_registry_entry_agrees_with_the_manifest(entry):
    manifest = data_dir().parents[1] / "shared" / "data" / "MANIFEST.csv"
    if not manifest.is_file():
        pytest.skip("no shared data folder beside the checkout")
    with open(manifest, newline="", encoding="utf-8") as file:
        rows = {row["file"]: row for row in csv.DictReader(file)}
    row = rows[entry.path]
    assert row["sha256"] == entry.sha256
    if row["url"]:
        assert row["url"] == entry.url
    else:  # put together from several files: the address is the folder that holds them
        folder = row["path"].split("/")[0]
        expected = f"https://github.com/{row['repository']}/tree/{row['commit']}/{folder}"
        assert entry.url == expected
