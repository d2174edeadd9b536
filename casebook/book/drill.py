"""The drill page: prompts, rubrics and model answers from ``book/drill_prompts``.

The page holds every prompt as folded text, so it can be used without
JavaScript; ``drill.js`` reads the same text for the timed drill.
"""

from __future__ import annotations

import ast
import html
import json
import math
import operator
import re
import unicodedata
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import jsonschema
import yaml
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from casebook.book.reading import LOADER, read_yaml

FOLDER = Path("book") / "drill_prompts"
FORMATS = ("open design", "critique", "deep dive")
LEVELS = 4
RUBRIC = "Rubric: what was said aloud (1 mid level, 2 senior, 3 staff)"

#: Fewer words than this in the eight steps of a model answer is a sketch.
ANSWER_WORDS = 300

_TEXT = {"type": "string", "minLength": 12}
_SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "required": [
        "title",
        "format",
        "ask",
        "facts",
        "assumes",
        "steps",
        "rejects",
        "arithmetic",
        "rubric",
    ],
    "properties": {
        "title": {"type": "string", "minLength": 4},
        "format": {"enum": list(FORMATS)},
        "source": {"type": "integer", "minimum": 1, "maximum": 12},
        "ask": {"type": "string", "minLength": 60},
        "facts": {
            "type": "array",
            "minItems": 4,
            "items": {"type": "array", "prefixItems": [_TEXT, _TEXT], "minItems": 2, "maxItems": 2},
        },
        "assumes": {"type": "array", "minItems": 2, "items": _TEXT},
        "rejects": {
            "type": "object",
            "additionalProperties": False,
            "required": ["step", "option", "because"],
            "properties": {
                "step": {"type": "string"},
                "option": _TEXT,
                "because": {"type": "string", "minLength": 40},
            },
        },
        "arithmetic": {
            "type": "array",
            "minItems": 2,
            "items": {
                "type": "array",
                "items": {"type": "string", "minLength": 1},
                "minItems": 3,
                "maxItems": 3,
            },
        },
    },
}


def _named(what: list[str], item: dict) -> dict:
    return {
        "type": "object",
        "additionalProperties": False,
        "required": what,
        "properties": dict.fromkeys(what, item),
    }


def schema(index: dict) -> dict:
    """Return the JSON schema of a prompt for the cadence and dimensions of an index."""
    step = _named(["covers", "answer"], {"type": "string", "minLength": 40})
    levels = {"type": "array", "minItems": LEVELS, "maxItems": LEVELS, "uniqueItems": True}
    own = {
        "steps": _named([s["id"] for s in index["cadence"]], step),
        "rubric": _named(
            [d["id"] for d in index["dimensions"]], {**levels, "items": {"type": "string"}}
        ),
    }
    return {**_SCHEMA, "properties": {**_SCHEMA["properties"], **own}}


# Arithmetic

_OPERATORS = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
    ast.USub: operator.neg,
}


def evaluate(expression: str) -> float:
    """Return the value of a sum of numbers, ``+ - * / **``, brackets and ``sqrt``.

    Raises
    ------
    ValueError
        If the expression holds anything else.
    """

    def value(node: ast.AST) -> float:
        match node:
            case ast.Constant(value=int() | float() as number):
                return number
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
                return _OPERATORS[type(op)](value(left), value(right))
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return -value(operand)
            case ast.Call(func=ast.Name(id="sqrt"), args=[argument], keywords=[]):
                return math.sqrt(value(argument))
        raise ValueError(f"{expression!r} is not a sum of numbers")

    try:
        return value(ast.parse(expression, mode="eval").body)
    except (SyntaxError, ZeroDivisionError) as error:
        raise ValueError(f"{expression!r} cannot be computed: {error}") from error


def _agrees(expression: str, given: str) -> tuple[bool, bool]:
    """Return whether a stated number is its sum, rounded as written, and whether it is exact."""
    plain = given.replace(",", "")
    decimals = len(plain.partition(".")[2])
    off = abs(evaluate(expression) - float(plain))
    return off <= 0.5 * 10.0**-decimals + 1e-9, off < 1e-9


# Checks


def _texts(prompt: dict) -> str:
    steps = [text for step in prompt["steps"].values() for text in step.values()]
    facts = [answer for _, answer in prompt["facts"]]
    return " ".join([*steps, *facts, *prompt["assumes"], prompt["rejects"]["because"]])


#: A bracket of a level: an example that others may replace, or a formula.
_OPEN = re.compile(r"such as |\d+ / n$")


def _level_faults(where: str, level: str, index: dict) -> list[str]:
    evidence, judging = (index["words"][kind].split() for kind in ("evidence", "judging"))
    words = re.findall(r"[a-z]+", level.lower())
    found = []
    if not words or words[0] not in evidence:
        found.append(f"{where}: does not begin with something observable: {level!r}")
    if judged := sorted(set(judging).intersection(words)):
        found.append(f"{where}: judges ({', '.join(judged)}) instead of naming evidence")
    if len(words) < 6:
        found.append(f"{where}: fewer than six words: {level!r}")
    if fixed := [b for b in re.findall(r"\(([^)]*\d[^)]*)\)", level) if not _OPEN.match(b)]:
        found.append(f"{where}: wants the model answer's number; write (such as {fixed[0]})")
    return found


def faults(prompt: dict, index: dict) -> list[str]:
    """Return what is wrong with a prompt; an empty list when nothing is.

    Parameters
    ----------
    prompt : dict
        A prompt as read from its file.
    index : dict
        Cadence and dimensions, as read from ``_index.yml``.
    """
    validator = jsonschema.Draft202012Validator(schema(index))
    if broken := list(validator.iter_errors(prompt)):
        return [f"{'/'.join(map(str, e.absolute_path)) or 'prompt'}: {e.message}" for e in broken]
    found = []
    if prompt["rejects"]["step"] not in prompt["steps"]:
        found.append(f"rejects: {prompt['rejects']['step']!r} is no step of the cadence")
    words = sum(len(step["answer"].split()) for step in prompt["steps"].values())
    if words < ANSWER_WORDS:
        found.append(f"steps: a model answer of {words} words is a sketch ({ANSWER_WORDS} needed)")
    text = _texts(prompt)
    for expression, given, unit in prompt["arithmetic"]:
        try:
            right = _agrees(expression, given)[0]
        except ValueError as error:
            found.append(f"arithmetic: {error}")
            continue
        if not right:
            found.append(f"arithmetic: {expression} is {evaluate(expression):.6g}, not {given}")
        if not re.search(rf"(?<![\d.,]){re.escape(given)}(?![\d]|[.,]\d)", text):
            found.append(f"arithmetic: {given} {unit} is stated nowhere in the answer")
    for dimension, levels in prompt["rubric"].items():
        for number, level in enumerate(levels):
            found += _level_faults(f"rubric/{dimension}/{number}", level, index)
    if sum(bool(re.search(r"\d", levels[-1])) for levels in prompt["rubric"].values()) < 2:
        found.append("rubric: fewer than two of the top levels name a number")
    return found


def read_index(root: Path) -> dict:
    """Return cadence, dimensions, parts and plan of a checkout."""
    return read_yaml(root / FOLDER / "_index.yml")


def chapters(index: dict) -> dict[str, str]:
    """Return every chapter and capstone with its title, in the order of the book."""
    return {stem: title for part in index["parts"] for stem, title in part["chapters"].items()}


@lru_cache(maxsize=256)
def _known_faults(prompt: str, index: str) -> tuple[str, ...]:
    """Return the faults of a prompt for the text of its file and of the index as JSON."""
    return tuple(faults(yaml.load(prompt, LOADER), json.loads(index)))


def read_prompts(root: Path, index: dict) -> dict[str, dict]:
    """Return the prompts of a checkout by the name of their chapter, in the book's order.

    Raises
    ------
    ValueError
        With every fault of every prompt, and for a file that is named like no chapter.
    """
    known, found, wrong = chapters(index), {}, []
    given = json.dumps(index, sort_keys=True)
    for path in sorted((root / FOLDER).glob("[!_]*.yml")):
        prompt = read_yaml(path)
        if path.stem not in known:
            wrong.append(f"{path.name}: there is no chapter of this name in _index.yml")
        wrong += [
            f"{path.name}: {fault}" for fault in _known_faults(path.read_text("utf-8"), given)
        ]
        found[path.stem] = prompt
    if wrong:
        raise ValueError("The prompts of the drill have faults:\n" + "\n".join(wrong))
    return {stem: found[stem] for stem in known if stem in found}


# The draw


def number(text: str) -> int:
    """Return the 32-bit number that orders prompts: FNV-1a, mixed as in mulberry32.

    ``drill.js`` computes the same number.
    """
    mask = 0xFFFFFFFF
    h = 0x811C9DC5
    for byte in text.encode():
        h = (h ^ byte) * 0x01000193 & mask
    h = (h + 0x6D2B79F5) & mask
    h = (h ^ h >> 15) * (h | 1) & mask
    h ^= (h + ((h ^ h >> 7) * (h | 61) & mask)) & mask
    return h ^ h >> 14


def order(seed: str, names: list[str]) -> list[str]:
    """Return the names in the order in which a seed draws them.

    The order of two names depends on the seed and on nothing else, so a new
    prompt leaves the order of the others as it was.
    """
    seed = unicodedata.normalize("NFC", seed.strip())
    return sorted(names, key=lambda name: (number(f"{seed}/{name}"), name))


# The page


def _text(text: str) -> str:
    """Return a text as HTML; `code` between backticks is the only markup."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text.strip(), quote=False))


def _fold(summary: str, body: str, kind: str = "") -> str:
    return f'<details class="{kind}"><summary>{_text(summary)}</summary>\n{body}\n</details>'


def _items(texts: list[str]) -> str:
    return "".join(f"<li>{_text(text)}</li>" for text in texts)


def _sum(expression: str, given: str, unit: str) -> str:
    sign = "=" if _agrees(expression, given)[1] else "≈"
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


def chapter_name(stem: str) -> str:
    """Return how a chapter is called in a sentence: ``chapter 07`` or ``capstone A``."""
    head = stem.partition("_")[0]
    return f"chapter {head}" if head.isdigit() else f"capstone {head}"


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
        from casebook.book import cases  # it imports this module

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
