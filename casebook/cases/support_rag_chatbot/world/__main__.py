"""``python -m casebook.cases.support_rag_chatbot.world [freeze]``: is the text what was frozen,
and sound?"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

from . import SEED, audit, fingerprints, overlap, read
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
    """Print counts, breaches and changes; with ``freeze`` write the fingerprints.

    Returns
    -------
    int
        0 if the text is sound, and frozen as it is.
    """
    of = read(root)
    print(of.articles.groupby("language").size().rename("articles").to_string(), "\n")
    print(of.questions.groupby(["kind", "language"]).size().unstack(fill_value=0), "\n")
    medians = overlap(of).groupby(["kind", "language"])["overlap"].median().unstack()
    print("median content-word overlap\n", medians.round(2).to_string(na_rep=""), "\n", sep="")
    breaches = audit(of)
    print(*breaches, f"{len(breaches)} broken promises", sep="\n")
    if arguments == ["freeze"]:
        if breaches:
            print("not frozen: mend the text first")
            return 1
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
    return int(bool(breaches or changed))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
