"""The key of an execution: what changes it, and what does not."""

from __future__ import annotations

import hashlib
import json

import pytest
from tiny import code, notebook, prose

from casebook.author import keys
from casebook.author.files import CHECK_TAG, SERIAL_TAG

NAME = "chapters/00_tiny"
PUBLIC = b"public data"
FILES = {
    "casebook/__init__.py": "",
    "casebook/worlds.py": (
        "def weeks():\n    return len(load('06_routes/stops'))\n\n"
        "def load(name):\n    return name\n\ndef unused():\n    return 1\n"
    ),
    "casebook/other.py": "VALUE = 1\n",
    "casebook/texts/__init__.py": "def article():\n    return 'a'\n",
    "casebook/texts/articles/a.md": "An article.\n",
    "data/00_tiny/observed.csv": "1\n",
    "data/00_tiny/README.md": "About it.\n",
    "data/06_routes/stops.csv": "1\n",
    "data/07_churn/calls.csv": "1\n",
    "data/08_other/rows.csv": "1\n",
    "requirements.txt": "numpy\n",
    "constraints.txt": "numpy==1\n",
}
CELLS = (
    prose("words", "Some words."),
    code("use", "from casebook.texts import article\nfrom casebook.worlds import weeks\nweeks()"),
    code("read", "folder, data, part = '07_churn', 'trips', f'frauds_{1}'\narticle()"),
)


@pytest.fixture
def root(tmp_path):
    """Return a checkout with a package and data of its own."""
    registry = ""
    for name in ("trips", "frauds_1", "songs"):
        sha = hashlib.sha256(PUBLIC).hexdigest()
        registry += f'[{name}]\npath = "00_tiny/{name}.csv"\nsha256 = "{sha}"\n'
    for path, content in {**FILES, "data/real.toml": registry}.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(content)
    return tmp_path


@pytest.fixture
def env(tmp_path):
    """Return the environment of a kernel that finds no public data."""
    return {"CASEBOOK_DATA_DIR": str(tmp_path / "given"), "CASEBOOK_CACHE_DIR": str(tmp_path / "c")}


def key(root, env, *cells) -> str:
    return keys.key(root, NAME, notebook(*(cells or CELLS)), env)


def place(root, name: str, folder: str = "given") -> None:
    path = root / folder / "00_tiny" / f"{name}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(PUBLIC)


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("casebook/worlds.py", "len(", "2 * len("),
        ("casebook/worlds.py", "return name", "return name + name"),
        ("casebook/texts/articles/a.md", "An article", "Another"),
        ("data/00_tiny/observed.csv", "1", "2"),
        ("data/06_routes/stops.csv", "1", "2"),
        ("data/07_churn/calls.csv", "1", "2"),
        ("data/real.toml", "[trips]\npath", '[trips]\nurl = "elsewhere"\npath'),
        ("data/real.toml", "[frauds_1]\npath", '[frauds_1]\nurl = "elsewhere"\npath'),
        ("requirements.txt", "numpy", "scipy"),
        ("constraints.txt", "==1", "==2"),
    ],
)
def test_what_a_notebook_reaches_changes_its_key(root, env, file, old, new):
    before = key(root, env)
    content = (root / file).read_text()
    assert content.count(old) == 1
    (root / file).write_text(content.replace(old, new))
    assert key(root, env) != before
    (root / file).write_text(content)
    assert key(root, env) == before


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("casebook/worlds.py", "return 1", "return 2"),
        ("casebook/worlds.py", "def unused", "# A comment.\ndef unused"),
        ("casebook/other.py", "1", "2"),
        ("data/00_tiny/README.md", "About", "More about"),
        ("data/08_other/rows.csv", "1", "2"),
        ("data/real.toml", "[songs]\npath", '[songs]\nurl = "elsewhere"\npath'),
    ],
)
def test_what_it_does_not_reach_changes_nothing(root, env, file, old, new):
    before = key(root, env)
    content = (root / file).read_text()
    assert content.count(old) == 1
    (root / file).write_text(content.replace(old, new))
    assert key(root, env) == before


@pytest.mark.parametrize("hidden", ["exec(text)", "import importlib\nimportlib.import_module(m)"])
def test_a_cell_that_hides_what_it_reaches_reaches_the_whole_package(root, env, hidden):
    cells = [*CELLS, code("hidden", hidden)]
    before = key(root, env, *cells)
    (root / "casebook" / "other.py").write_text("VALUE = 2\n")
    assert key(root, env, *cells) != before


def test_the_cells_count_and_prose_and_tags_of_the_page_do_not(root, env):
    before = key(root, env)
    _, use, read = CELLS
    words = prose("words", "Other words.")
    assert key(root, env, words, use, code("read", read.source, [CHECK_TAG])) == before
    assert key(root, env, words, use, code("read", read.source, [SERIAL_TAG])) != before
    assert key(root, env, words, use, code("read", read.source + "\n1")) != before
    assert key(root, env, words, read, use) != before


def test_a_comment_counts_where_a_cell_shows_the_source(root, env):
    shows = [*CELLS, code("shows", "show_source(weeks)")]
    before = key(root, env), key(root, env, *shows)
    path = root / "casebook" / "worlds.py"
    path.write_text(path.read_text().replace("    return len", "    # Count.\n    return len"))
    assert key(root, env) == before[0]
    assert key(root, env, *shows) != before[1]
    after = key(root, env, *shows)
    path.write_text(path.read_text().replace("    return 1", "    # One.\n    return 1"))
    assert key(root, env, *shows) == after


def test_magics_are_read_and_what_is_no_python_reaches_everything(root, env):
    magic = [*CELLS, code("magic", "%matplotlib inline\n!ls")]
    broken = [*CELLS, code("broken", "def")]
    before = key(root, env, *magic), key(root, env, *broken)
    (root / "casebook" / "other.py").write_text("VALUE = 2\n")
    assert key(root, env, *magic) == before[0]
    assert key(root, env, *broken) != before[1]


def test_the_data_mode_counts_whether_data_are_here_or_not(root, env):
    absent, off = key(root, env), key(root, {**env, "CASEBOOK_REAL_DATA": "off"})
    assert absent != off
    assert key(root, {**env, "CASEBOOK_REAL_DATA": "OFF "}) == off
    assert key(root, {**env, "CASEBOOK_REAL_DATA": "on"}) == absent
    place(root, "trips")
    assert key(root, {**env, "CASEBOOK_REAL_DATA": "off"}) == off
    assert key(root, env) not in (absent, off)


def test_which_public_data_are_here_counts_and_not_where(root, env):
    absent = key(root, env)
    place(root, "songs")  # nothing names it
    assert key(root, env) == absent
    place(root, "frauds_1", "c")
    in_cache = key(root, env)
    assert in_cache != absent
    (root / "c" / "00_tiny" / "frauds_1.csv").unlink()
    place(root, "frauds_1")
    assert key(root, env) == in_cache
    (root / "given" / "00_tiny" / "frauds_1.csv").write_bytes(b"altered")
    assert key(root, env) == absent


def test_settings_of_the_course_count_and_places_do_not(root, env):
    before = key(root, env)
    for name in ("CASEBOOK_LLM_MODEL", "CASEBOOK_LLM_BASE_URL", "CASEBOOK_EMBEDDING_MODEL"):
        assert key(root, {**env, name: "m"}) != before, name
    for name in ("CASEBOOK_BUILD_DIR", "CASEBOOK_RUN_FOR", "HOME"):
        assert key(root, {**env, name: "m"}) == before, name


def test_no_setting_is_readable_in_a_key(root, env):
    secret = {**env, "CASEBOOK_LLM_API_KEY": "a-secret"}
    assert "a-secret" in json.dumps(keys.parts(root, NAME, notebook(*CELLS), secret))
    assert len(key(root, secret)) == 20
