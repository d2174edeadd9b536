"""Snapshots and real data: what is found, fetched, refused and said."""

from __future__ import annotations

import csv
import hashlib
import os
import re
import stat
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest

import casebook.data.files
from casebook.data import (
    RealDataUnavailable,
    RealFile,
    cache_dir,
    explain,
    fetch,
    find_real,
    real,
    real_or_note,
    snapshot,
)
from casebook.data.files import members, recipes
from casebook.project import data_dir, folder_from

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
        title="Planted trips",
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
    (tmp_path / "data").mkdir()
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
    with pytest.raises(RealDataUnavailable, match="another file than the one this") as caught:
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
    with pytest.raises(RealDataUnavailable, match="status 404"):
        real("planted")


def test_without_network_the_reader_learns_what_to_do(planted, monkeypatch, tmp_path):
    no_network(planted, monkeypatch)
    with pytest.raises(RealDataUnavailable) as caught:
        real("planted")
    for part in ("http://127.0.0.1:9/planted.csv", str(planted.cache), planted.entry.sha256):
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


# What goes wrong, with its cause and its remedy ----------------------------------------


def switched_off(planted, patch):
    patch.setenv("CASEBOOK_REAL_DATA", "OFF")


def no_network(planted, patch):
    nowhere(planted, patch, "http://127.0.0.1:9/planted.csv")


def nowhere(planted, patch, url):
    entry = RealFile(**{**vars(planted.entry), "url": url})
    patch.setattr(casebook.data.files, "registry", lambda: {"planted": entry})


def full_disk(planted, patch):
    opened = Path.open

    def of_parts(path, mode="r", **how):
        return (
            opened(Path("/dev/full"), "w+b")
            if path.suffix == ".part"
            else opened(path, mode, **how)
        )

    patch.setattr(Path, "open", of_parts)


def bad_certificates(planted, patch):
    patch.setenv("REQUESTS_CA_BUNDLE", "/nowhere/certificates.pem")
    nowhere(planted, patch, "https://127.0.0.1:9/planted.csv")


def no_tls(planted, patch):
    """The server speaks plain HTTP: to a client it has no valid certificate."""
    nowhere(planted, patch, planted.entry.url.replace("http:", "https:"))


def cache_is_a_file(planted, patch):
    put(planted.cache.parents[1], b"no folder")


def folder_of_the_case_is_a_file(planted, patch):
    put(planted.cache.parent, b"no folder")


def folder_in_the_files_place(planted, patch):
    planted.cache.mkdir(parents=True)


def damaged(planted, patch):
    put(planted.data, BAD_COPIES["truncated"])
    no_network(planted, patch)


def no_such_data_folder(planted, patch):
    patch.setenv("CASEBOOK_DATA_DIR", str(planted.data.parents[1] / "mistyped"))
    no_network(planted, patch)


def home_is_another(planted, patch):
    patch.setenv("HOME", str(planted.data.parents[1] / "home"))
    patch.setenv("CASEBOOK_DATA_DIR", "~/data")
    no_network(planted, patch)


def data_folder_is_a_file(planted, patch):
    put(planted.data, GOOD)
    patch.setenv("CASEBOOK_DATA_DIR", str(planted.data))
    no_network(planted, patch)


SITUATIONS = {
    switched_off: ("switched off (`CASEBOOK_REAL_DATA=off`)", "Unset that variable"),
    no_network: ("its server cannot be reached", "Connect to the network"),
    full_disk: ("the disk is full", "Free some space"),
    bad_certificates: ("file of certificates", "Correct or unset `REQUESTS_CA_BUNDLE`"),
    no_tls: ("certificate was not accepted", "Set `REQUESTS_CA_BUNDLE`"),
    cache_is_a_file: ("leads to a file", "Set `CASEBOOK_CACHE_DIR` to a folder"),
    folder_of_the_case_is_a_file: ("leads to a file", "Set `CASEBOOK_CACHE_DIR` to a folder"),
    folder_in_the_files_place: ("a folder is in the file's place", "Remove that folder"),
    damaged: ("copy in `CASEBOOK_DATA_DIR` is damaged", "Replace it, or connect to"),
    no_such_data_folder: ("`CASEBOOK_DATA_DIR` names no folder", "Correct `CASEBOOK_DATA_DIR`"),
    home_is_another: ("`CASEBOOK_DATA_DIR` names no folder", "Correct `CASEBOOK_DATA_DIR`"),
    data_folder_is_a_file: ("is a file, not a folder", "Correct `CASEBOOK_DATA_DIR`"),
}


def check_note(note: str, cause: str, remedy: str) -> None:
    """One note of at most forty words: what, cause, remedy, and no path, hash or address."""
    assert note.startswith("> **Not run here: the check on trips.** Planted trips is missing: ")
    assert cause in note and remedy in note
    assert note.endswith('; details: `casebook.data.explain("planted")`.')
    assert len(note.removeprefix("> ").split()) <= 40
    assert not re.search(r"://|/\w|[0-9a-f]{32}", note)


@pytest.mark.parametrize("situation", SITUATIONS, ids=lambda s: s.__name__)
def test_the_note_names_the_real_cause_and_its_remedy(planted, shown, monkeypatch, situation):
    situation(planted, monkeypatch)
    assert find_real("planted") is None
    assert real_or_note("planted", "the check on trips") is None
    (bundle,) = shown
    check_note(bundle["text/markdown"], *SITUATIONS[situation])


@pytest.mark.parametrize(
    "spoilt",
    [
        ("is missing: ", "is missing: /srv/cache/x.csv, "),
        ("is missing: ", f"is missing: {'word ' * 30}"),
        ("cannot be reached", "is gone"),
    ],
)
def test_a_note_with_a_path_too_many_words_or_another_cause_is_found(planted, spoilt):
    note = (
        "> **Not run here: the check on trips.** Planted trips is missing: its server cannot be "
        'reached. Connect to the network; details: `casebook.data.explain("planted")`.'
    )
    check_note(note, "cannot be reached", "Connect")
    with pytest.raises(AssertionError):
        check_note(note.replace(*spoilt), "cannot be reached", "Connect")


@pytest.fixture
def as_reader(planted, without_rights, monkeypatch):
    """Let the planted folders belong to a user without special rights."""
    monkeypatch.setenv("CASEBOOK_DATA_DIR", str(without_rights / "data"))
    monkeypatch.setenv("CASEBOOK_CACHE_DIR", str(without_rights / "cache"))
    (without_rights / "data").mkdir()
    planted.data, planted.cache = (
        without_rights / room / planted.entry.path for room in ("data", "cache")
    )
    return planted


def test_a_copy_that_may_not_be_read_is_absent_and_the_note_says_so(as_reader, shown, monkeypatch):
    put(as_reader.data, GOOD)
    as_reader.data.chmod(0)
    no_network(as_reader, monkeypatch)
    assert find_real("planted") is None
    assert real_or_note("planted", "the check on trips") is None
    cause = "the copy in `CASEBOOK_DATA_DIR` may not be read"
    check_note(shown[0]["text/markdown"], cause, "Make it readable, or connect")


def test_a_copy_that_may_not_be_read_is_fetched_again(as_reader, server):
    put(as_reader.cache, GOOD)
    as_reader.cache.chmod(0)
    assert real("planted").read_bytes() == GOOD
    assert server.requests == 1


def test_a_folder_that_may_not_be_entered_holds_nothing_for_us(as_reader, server):
    put(as_reader.data, GOOD)
    as_reader.data.parent.chmod(0)
    try:
        assert real("planted") == as_reader.cache
    finally:
        as_reader.data.parent.chmod(0o700)


def test_a_cache_that_may_not_be_written_names_the_variable(as_reader, shown):
    as_reader.cache.parents[1].mkdir(mode=0o555)
    assert real_or_note("planted", "the check on trips") is None
    cause, remedy = "may not be written to", "Set `CASEBOOK_CACHE_DIR` to a folder that you may"
    check_note(shown[0]["text/markdown"], cause, remedy)


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600)])
def test_a_download_has_the_mode_that_the_umask_says(planted, umask, mode):
    before = os.umask(umask)
    try:
        path = real("planted")
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == mode


def test_without_home_and_with_an_unknown_user_there_is_a_cache_all_the_same(monkeypatch):
    import pwd

    def unknown(uid):
        raise KeyError(uid)

    for variable in ("HOME", "XDG_CACHE_HOME", "CASEBOOK_CACHE_DIR"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    assert cache_dir().is_absolute()
    assert cache_dir().name == f"ml-systems-casebook-{os.getuid()}"


def test_without_home_a_chapter_gets_a_note_and_goes_on(planted, shown, monkeypatch, tmp_path):
    import pwd
    import tempfile

    monkeypatch.setattr(pwd, "getpwuid", lambda uid: {}[uid])
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for variable in ("HOME", "XDG_CACHE_HOME", "CASEBOOK_CACHE_DIR"):
        monkeypatch.delenv(variable, raising=False)
    no_network(planted, monkeypatch)
    assert real_or_note("planted", "the check on trips") is None
    check_note(shown[0]["text/markdown"], "cannot be reached", "Connect to the network")


def test_a_relative_data_folder_is_the_same_for_make_and_for_a_chapter(planted, monkeypatch):
    put(planted.data, GOOD)
    root = data_dir().parent
    monkeypatch.setenv("CASEBOOK_DATA_DIR", os.path.relpath(planted.data.parents[1], root))
    for where in (root, root / "chapters"):
        monkeypatch.chdir(where)
        assert find_real("planted") == planted.data


def test_a_value_that_is_not_allowed_is_refused_with_those_that_are(planted, monkeypatch):
    monkeypatch.setenv("CASEBOOK_REAL_DATA", "no")
    for function in (find_real, real, lambda name: real_or_note(name, "x")):
        with pytest.raises(ValueError, match="allowed are on and off"):
            function("planted")


def test_explain_tells_path_state_hash_and_address(planted, capsys):
    put(planted.data, BAD_COPIES["altered"])
    explain("planted")
    text = capsys.readouterr().out
    entry = planted.entry
    for part in (planted.data, planted.cache, entry.sha256, entry.url, entry.source):
        assert str(part) in text
    assert "is damaged" in text and "not there" in text
    put(planted.data, GOOD)
    explain("planted")
    assert "its hash is right" in capsys.readouterr().out


def test_explain_counts_the_files_of_a_set_that_is_put_together(capsys):
    explain("fraud_handbook")
    text = capsys.readouterr().out
    assert "66 files" in text and "members.csv" in text


@pytest.mark.parametrize(
    ("chapter", "there"),
    [("00_how_a_case_works", "campaigns.parquet, faults.parquet, observed"), ("99_x", "none")],
)
def test_a_missing_snapshot_is_answered_with_what_is_there(chapter, there):
    with pytest.raises(FileNotFoundError, match="`make data`") as caught:
        snapshot(chapter, "missing.parquet")
    assert f"there: {there}" in str(caught.value)


def test_the_data_are_read_without_what_displays_and_downloads():
    """The environment that makes artifacts has neither IPython nor pooch."""
    code = (
        "import sys; sys.modules |= dict.fromkeys(['IPython', 'pooch', 'requests', 'tqdm']);"
        "import casebook.data.texts;"
        "from casebook.data import find_real; print(find_real('tourism') is None)"
    )
    env = {**os.environ, "CASEBOOK_CACHE_DIR": "nowhere", "CASEBOOK_DATA_DIR": "nowhere"}
    ran = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert ran.stdout == "True\n", ran.stderr


# The registry --------------------------------------------------------------------------

ENTRIES = pytest.mark.parametrize(
    "entry", casebook.data.files.registry().values(), ids=lambda entry: entry.name
)
#: A file at a commit of a repository: no page, no folder.
_FILE = re.compile(r"https://raw\.githubusercontent\.com/[\w.-]+/[\w.-]+/[0-9a-f]{40}/\S+\.\w+")


def address_faults(entry, parts) -> list[str]:
    """Return what keeps a reader from fetching a set."""
    if entry.assemble:
        found = [f"{m.file}: no file at {m.url}" for m in parts if not _FILE.fullmatch(m.url)]
        hashes = [m.sha256 for m in parts]
        found += [f"{h}: no hash" for h in hashes if not re.fullmatch("[0-9a-f]{64}", h)]
        if len({m.file for m in parts}) != len(parts) or len({m.url for m in parts}) != len(parts):
            found.append("a member is listed twice")
        if not parts:
            found.append("no member is listed")
        if entry.url:
            found.append("an address beside the members")
        return found
    return [] if _FILE.fullmatch(entry.url) else [f"no file at {entry.url}"]


@ENTRIES
def test_every_registry_entry_can_be_fetched(entry):
    assert address_faults(entry, members(entry.name)) == []


@pytest.mark.parametrize(
    "url",
    [
        f"https://github.com/owner/name/tree/{'0a' * 20}/data",
        f"https://raw.githubusercontent.com/owner/name/{'0a' * 20}/data",
        "https://raw.githubusercontent.com/owner/name/main/data.csv",
        "https://example.org/data.html",
    ],
)
def test_an_entry_that_points_at_a_page_or_a_folder_is_found(planted, url):
    entry = RealFile(**{**vars(planted.entry), "url": url})
    assert address_faults(entry, ()) == [f"no file at {url}"]
    several = RealFile(**{**vars(entry), "url": "", "assemble": "handbook_days"})
    member = fetch.Member("x.pkl", url, "0a" * 32)
    assert address_faults(several, [member]) == [f"x.pkl: no file at {url}"]
    assert "a member is listed twice" in address_faults(several, [member, member])
    assert address_faults(several, []) == ["no member is listed"]


@ENTRIES
def test_every_registry_entry_is_complete(entry):
    assert re.fullmatch(r"[0-9a-f]{64}", entry.sha256)
    assert re.fullmatch(r"\d\d_[a-z0-9_]+/[\w.-]+", entry.path)
    assert entry.licence.strip()
    assert entry.source.strip()
    assert 0 < len(entry.title.split()) <= 8
    assert bool(entry.assemble) == bool(re.fullmatch(r"[0-9a-f]{64}", entry.content))
    if entry.assemble:
        assert callable(recipes()[entry.assemble])


def test_every_member_belongs_to_a_set_that_is_put_together():
    with open(data_dir() / "members.csv", newline="", encoding="utf-8") as file:
        named = {row["set"] for row in csv.DictReader(file)}
    registry = casebook.data.files.registry()
    assert named == {name for name, entry in registry.items() if entry.assemble}


def listed(name: str) -> list[dict[str, str]]:
    """Return the rows of a list that comes with the data, or skip the test."""
    folder = folder_from("CASEBOOK_DATA_DIR")
    if folder is None or not (folder / name).is_file():
        pytest.skip(f"no {name} in CASEBOOK_DATA_DIR")
    with open(folder / name, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@ENTRIES
def test_every_registry_entry_agrees_with_the_manifest(entry):
    rows = {row["file"]: row for row in listed("MANIFEST.csv")}
    assert rows[entry.path]["sha256"] == entry.sha256
    assert rows[entry.path]["url"] == entry.url or entry.assemble


@ENTRIES
def test_every_member_agrees_with_the_list_of_members(entry):
    rows = [row for row in listed("BUNDLE_MEMBERS.csv") if row["bundle"] == entry.path]
    named = [(row["member"].partition("/")[2], row["raw_url"], row["sha256"]) for row in rows]
    wanted = sorted(row for row in named if "." in row[0])  # a licence is no page
    assert wanted == [(m.file, m.url, m.sha256) for m in members(entry.name)]
