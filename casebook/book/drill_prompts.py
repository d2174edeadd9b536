"""The prompts in ``book/drill_prompts``: their schema, arithmetic, faults, and their order."""

from __future__ import annotations

import ast
import json
import math
import operator
import re
import unicodedata
from functools import lru_cache
from pathlib import Path

import jsonschema
import yaml

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


def agrees(expression: str, given: str) -> tuple[bool, bool]:
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
            right = agrees(expression, given)[0]
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


def chapter_name(stem: str) -> str:
    """Return how a chapter is called in a sentence: ``chapter 07`` or ``capstone A``."""
    head = stem.partition("_")[0]
    return f"chapter {head}" if head.isdigit() else f"capstone {head}"
