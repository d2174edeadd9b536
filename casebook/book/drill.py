"""The drill page: prompts, rubrics and model answers from ``book/drill_prompts``.

The page holds every prompt as folded text, so it can be used without
JavaScript; ``drill.js`` reads the same text for the timed drill.
"""

from __future__ import annotations

import html
import json
import re
from dataclasses import dataclass, field
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from casebook.book import cases
from casebook.book.drill_prompts import (
    FOLDER,
    LEVELS,
    RUBRIC,
    agrees,
    chapter_name,
    chapters,
    order,
    read_index,
    read_prompts,
)


def _text(text: str) -> str:
    """Return a text as HTML; `code` between backticks is the only markup."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text.strip(), quote=False))


def _fold(summary: str, body: str, kind: str = "") -> str:
    return f'<details class="{kind}"><summary>{_text(summary)}</summary>\n{body}\n</details>'


def _items(texts: list[str]) -> str:
    return "".join(f"<li>{_text(text)}</li>" for text in texts)


def _sum(expression: str, given: str, unit: str) -> str:
    sign = "=" if agrees(expression, given)[1] else "≈"
    shown = re.sub(r"(?<![\d.])\d{4,}", lambda found: f"{int(found[0]):,}", expression)
    for plain, nice in (("**", "^"), ("*", "×"), ("sqrt", "√"), ("-", "−")):
        shown = shown.replace(plain, nice)
    return f"{shown} {sign} {given} {unit}"


def _steps(prompt: dict, index: dict) -> str:
    items = []
    for step in index["cadence"]:
        text = prompt["steps"][step["id"]]
        more = ""
        if step["id"] == "clarify":
            more += f"<p><strong>Assumes.</strong> {_text(' '.join(prompt['assumes']))}</p>"
        if step["id"] == prompt["rejects"]["step"]:
            rejected = prompt["rejects"]
            more += (
                f'<p class="drill-rejected"><strong>Rejected: {_text(rejected["option"])}</strong> '
                f"{_text(rejected['because'])}</p>"
            )
        head = f"{step['title']}, {step['minutes']} min"
        items.append(
            f'<li data-step="{step["id"]}"><strong>{head}</strong>\n'
            f'<p class="drill-covers">{_text(text["covers"])}</p>\n'
            f'<div class="drill-answer"><p>{_text(text["answer"])}</p>{more}</div></li>'
        )
    return "<ol>" + "\n".join(items) + "</ol>"


def _rubric(prompt: dict, index: dict) -> str:
    return "\n".join(
        f'<div data-dimension="{d["id"]}"><p><strong>{d["title"]}</strong></p>'
        f'<ol start="0">{_items(prompt["rubric"][d["id"]])}</ol></div>'
        for d in index["dimensions"]
    )


WAITING = " (in preparation)"


def _case(name: str, address: str | None) -> str:
    """Return a case as a link, or as words that say that it is in preparation."""
    if address:
        return f'<a href="{html.escape(address)}">{_text(name)}</a>'
    return _text(name) + WAITING


@dataclass(frozen=True)
class Places:
    """Where the cases of the prompts are.

    Attributes
    ----------
    addresses : dict
        From the name of a case to the address of its page; None while it is not in the book.
    nearest : dict
        From the name of a case that is not in the book to that of the chapter to read instead.
    """

    addresses: dict[str, str | None]
    nearest: dict[str, str] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """Return how many cases are in the book."""
        return sum(address is not None for address in self.addresses.values())


def prompt_html(stem: str, prompt: dict, index: dict, address: str | None) -> str:
    """Return the folded text of one prompt.

    Parameters
    ----------
    stem : str
        The name of its chapter.
    prompt, index : dict
        As read from their files.
    address : str or None
        Where the chapter's page is; None while it is not in the book.
    """
    name = f"{chapter_name(stem)}, {chapters(index)[stem]}"
    where = _case(name, address)
    facts = "".join(f"<dt>{_text(q)}</dt><dd>{_text(a)}</dd>" for q, a in prompt["facts"])
    sums = _items([_sum(*item) for item in prompt["arithmetic"]])
    body = (
        f'<div id="prompt-{stem}" data-prompt="{stem}">\n'
        f'<p class="drill-meta">{prompt["format"].capitalize()} · {where}</p>\n'
        f'<blockquote class="drill-ask"><p>{_text(prompt["ask"])}</p></blockquote>\n'
        + _fold("Facts to give when asked", f"<dl>{facts}</dl>", "drill-facts")
        + _fold(
            "What an answer should cover, and a model answer",
            _steps(prompt, index)
            + f'<div class="drill-sums"><p><strong>The sums</strong></p><ul>{sums}</ul></div>',
            "drill-walk",
        )
        + _fold(RUBRIC, _rubric(prompt, index), "drill-rubric")
        + "\n</div>"
    )
    return _fold(prompt["title"], body, "drill-prompt")


def _table(caption: str, head: list[str], rows: list[list[str]]) -> str:
    """Return a table of the course's kind; the cells are HTML already."""
    top = "".join(f'<th scope="col">{_text(cell)}</th>' for cell in head)
    body = "\n".join("<tr>" + "".join(f"<td>{c}</td>" for c in row) + "</tr>" for row in rows)
    return (
        '<div class="casebook-table" tabindex="0" role="region"'
        f' aria-label="{html.escape(caption)}">'
        f"<table><caption>{_text(caption)}</caption><thead><tr>{top}</tr></thead>"
        f"<tbody>{body}</tbody></table></div>"
    )


def _cadence(index: dict) -> str:
    rows, begun = [], 0
    for step in index["cadence"]:
        end = begun + step["minutes"]
        minutes = f"{step['minutes']} ({begun}–{end})"
        rows.append([_text(step["title"]), minutes, _text(step["does"])])
        begun = end
    return _table(f"The cadence: {begun} minutes", ["Step", "Minutes", "What you do"], rows)


def plan_rows(index: dict, names: list[str]) -> list[dict]:
    """Return the mocks of the plan: number, round, prompt, and for sealed ones seed and draw.

    Raises
    ------
    ValueError
        If a mock names a prompt that is not there, or names one twice.
    """
    rows, used = [], set()
    for block in index["plan"]:
        for stem in block.get("mocks", []):
            if stem not in names or stem in used:
                raise ValueError(f"plan: {stem} is no prompt, or stands in the plan twice")
            used.add(stem)
            rows.append({"round": block["round"], "prompt": stem})
        if "seed" in block:
            drawn = enumerate(order(block["seed"], names), start=1)
            fresh = [(draw, stem) for draw, stem in drawn if stem not in used]
            for draw, stem in fresh[: block["draws"]]:
                used.add(stem)
                rows.append(
                    {
                        "round": block["round"],
                        "prompt": stem,
                        "seed": block["seed"],
                        "draw": draw,
                    }
                )
        if block.get("repeat"):
            rows.append({"round": block["round"], "prompt": None})
    return [{"mock": number, **row} for number, row in enumerate(rows, start=1)]


def _plan(index: dict, prompts: dict[str, dict]) -> str:
    def link(stem: str) -> str:
        return f'<a href="#prompt-{stem}">{_text(prompts[stem]["title"])}</a>'

    rows, parts = plan_rows(index, list(prompts)), []
    for block in index["plan"]:
        head, cells = ["Mock", "Prompt", "Format", "From"], []
        if "seed" in block:
            head = ["Mock", "Drawn by the page", "Without the page's draw"]
        for row in (row for row in rows if row["round"] == block["round"]):
            stem, mock = row["prompt"], str(row["mock"])
            if stem is None:
                cells.append([mock, "the prompt with your lowest total, again", ""])
            elif "seed" in row:
                seed, draw = row["seed"], row["draw"]
                opened = f'<a href="#seed={seed}&amp;draw={draw}">seed {seed}, draw {draw}</a>'
                cells.append([mock, opened, _fold(f"Unseal mock {mock}", f"<p>{link(stem)}</p>")])
            else:
                cells.append([mock, link(stem), prompts[stem]["format"], chapter_name(stem)])
        week = block["round"].partition(":")[0]
        how = f"<p><strong>{_text(week)}.</strong> {_text(block['how'])}</p>"
        parts.append(f"{how}\n{_table(block['round'], head, cells)}")
    return "\n".join(parts)


def map_rows(prompts: dict[str, dict]) -> list[tuple[str, str]]:
    """Return number and chapter of every prompt: the common twelve in order, then the rest."""
    listed = [stem for stem in prompts if "source" in prompts[stem]]
    listed.sort(key=lambda stem: prompts[stem]["source"])
    rows = [(str(prompts[stem]["source"]), stem) for stem in listed]
    return rows + [("", stem) for stem in prompts if stem not in listed]


def _map(index: dict, prompts: dict[str, dict], addresses: dict[str, str | None], page: str) -> str:
    rows, titles = [], chapters(index)
    for number_, stem in map_rows(prompts):
        prompt = f'<a href="{page}#prompt-{stem}">{_text(prompts[stem]["title"])}</a>'
        name = f"{chapter_name(stem)}, {titles[stem]}"
        rows.append([number_ or "–", prompt, prompts[stem]["format"], _case(name, addresses[stem])])
    return _table("Prompts and cases", ["No.", "Prompt", "Format", "Case"], rows)


def _count(places: Places) -> str:
    """Say how many prompts have a chapter to compare the answer with."""
    here, every = places.count, len(places.addresses)
    if here == every:
        return f"<p>Each of the {every} prompts has its case in the book.</p>"
    have = "has its case" if here == 1 else "have their case"
    text = f"{here} of the {every} prompts {have} in the book; the other cases are in preparation"
    if places.nearest:
        text += ", and for them the drill names the nearest chapter that you can read now"
    return f"<p>{text}. You can draw all of them: the model answer and the rubric are here.</p>"


def _data(index: dict, prompts: dict[str, dict], places: Places) -> str:
    """Return what ``drill.js`` needs besides the text of the page."""
    titles, parts = chapters(index), {}

    def read(stem: str | None) -> dict | None:
        """Return name and address of a chapter in the book."""
        if stem is None:
            return None
        name = f"{chapter_name(stem)}, {titles[stem]}"
        return {"chapter": name, "address": places.addresses[stem]}

    for part in index["parts"]:
        parts |= dict.fromkeys(part["chapters"], part["title"])
    listed = [
        {
            "id": stem,
            "title": prompt["title"],
            "format": prompt["format"],
            "chapter": f"{chapter_name(stem)}, {titles[stem]}",
            "part": parts[stem],
            "address": places.addresses[stem],
            "nearest": read(places.nearest.get(stem)),
        }
        for stem, prompt in prompts.items()
    ]
    data = {
        "cadence": index["cadence"],
        "dimensions": index["dimensions"],
        "levels": LEVELS,
        "prompts": listed,
    }
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("</", "<\\/")
    return f'<script type="application/json" id="drill-data">{text}</script>'


class Drill(SphinxDirective):
    """``{drill} cadence``, ``count``, ``plan`` or ``prompts``: a part of the page; ``map``."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        root = Path(self.env.srcdir)
        index = read_index(root)
        prompts = read_prompts(root, index)
        for path in sorted((root / FOLDER).glob("*.yml")):
            self.env.note_dependency(str(path))
        self.env.note_reread()  # a chapter that joins the book becomes a link here
        places = self._places(root, prompts)
        match self.arguments[0]:
            case "cadence":
                content = _cadence(index)
            case "plan":
                content = _plan(index, prompts)
            case "map":
                page = self.env.app.builder.get_relative_uri(self.env.docname, "book/drill")
                content = _map(index, prompts, places.addresses, page)
            case "count":
                content = _count(places)
            case "prompts":
                folds = [
                    prompt_html(stem, prompt, index, places.addresses[stem])
                    for stem, prompt in prompts.items()
                ]
                content = "\n".join([_data(index, prompts, places), *folds])
                content = f'<div id="drill-prompts">\n{content}\n</div>'
            case other:
                raise self.error(
                    f"{{drill}} knows cadence, count, map, plan and prompts, not {other!r}"
                )
        return [nodes.raw("", content, format="html")]

    def _places(self, root: Path, prompts: dict[str, dict]) -> Places:
        addresses = {stem: self._address(stem) for stem in prompts}
        there = [stem for stem, address in addresses.items() if address]
        needed = self.arguments[0] in ("count", "prompts")
        return Places(addresses, cases.nearest(cases.ideas(root), there) if needed else {})

    def _address(self, stem: str) -> str | None:
        for room in ("chapters", "exercises"):
            if f"{room}/{stem}" in self.env.found_docs:
                return self.env.app.builder.get_relative_uri(self.env.docname, f"{room}/{stem}")
        return None


def _page(app: Sphinx, pagename: str, templatename: str, context: dict, doctree) -> None:
    if 'id="drill-data"' in (context.get("body") or ""):
        app.add_css_file("drill.css")
        app.add_js_file("drill.js", loading_method="defer")


def setup(app: Sphinx) -> dict:
    """Register the directive and the page's own script and style."""
    app.add_directive("drill", Drill)
    app.connect("html-page-context", _page)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
