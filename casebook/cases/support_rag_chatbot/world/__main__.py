"""``python -m casebook.cases.support_rag_chatbot.world [freeze]``: is the text what was frozen?"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

from . import SEED, fingerprints
from .content import ROOT

FROZEN = "frozen.toml"
HEAD = """\
# SHA-256 of what the support world says: the plan, and articles and questions of each language.
# Models are judged on this text. A change of it is a decision: make it before a model is tried,
# then run `python -m casebook.cases.support_rag_chatbot.world freeze` and `make data`.
"""


def frozen(root: Path = ROOT) -> dict[str, str | int]:
    """Return what was frozen: the fingerprints and the seed; nothing if nothing was."""
    path = root / FROZEN
    return tomllib.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def now(root: Path = ROOT) -> dict[str, str | int]:
    """Return what the files and the seed are now."""
    return {"seed": SEED} | fingerprints(root)


def main(arguments: list[str], root: Path = ROOT) -> int:
    """Print what has changed; with ``freeze`` write the fingerprints.

    Returns
    -------
    int
        0 if the text is what was frozen.
    """
    if arguments == ["freeze"]:
        lines = [f"{k} = {v if isinstance(v, int) else repr(v)}\n" for k, v in now(root).items()]
        (root / FROZEN).write_text(HEAD + "".join(lines).replace("'", '"'), encoding="utf-8")
        print(f"written  {FROZEN}")
        return 0
    if arguments:
        print(f"unknown: {' '.join(arguments)}; freeze, or nothing")
        return 2
    was, is_now = frozen(root), now(root)
    changed = sorted(k for k in was.keys() | is_now.keys() if was.get(k) != is_now.get(k))
    print(f"changed since it was frozen: {', '.join(changed) or 'nothing'}")
    return int(bool(changed))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
