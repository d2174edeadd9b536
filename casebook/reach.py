"""Which definitions of the course a function or a notebook cell reaches, read from the source.

Nothing is imported: modules are parsed. A definition is what a module binds at its top: a
function, a class, a constant. It reaches every definition that it mentions, in any module. Where
the source does not say what is reached (a module passed on as a value, ``exec``, an import by a
computed name), the whole module counts.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import io
import re
import threading
import tokenize
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

#: Names whose use hides what is reached.
DYNAMIC = frozenset({"__import__", "eval", "exec", "globals", "import_module"})
#: The statements of a module that bind no name: its effects when it is imported.
EFFECTS = ""

Chain = tuple[str, ...]
#: Module and attribute (None: the module itself) behind an imported name.
Imports = dict[str, tuple[str, str | None]]


@dataclass
class Definition:
    """What binds one name at the top of a module.

    Attributes
    ----------
    code : str
        Without comments, docstrings, import statements and empty lines; a text that names a
        module is cut to its last part. Moving a module changes none of it.
    uses : set of tuple of str
        Names that it mentions, with the attributes that follow: ``("worlds", "weeks")``.
    imports : dict
        What it imports itself.
    strings : set of str
        The texts in it.
    text : str
        As it is written, with everything.
    """

    code: str = ""
    uses: set[Chain] = field(default_factory=set)
    imports: Imports = field(default_factory=dict)
    strings: set[str] = field(default_factory=set)
    text: str = ""

    @property
    def digest(self) -> str:
        """Return a hash of the code."""
        return hashlib.sha256(self.code.encode()).hexdigest()[:16]

    def add(self, other: Definition) -> None:
        """Add another statement that binds the same name."""
        self.code += other.code + "\n"
        self.uses |= other.uses
        self.imports |= other.imports
        self.strings |= other.strings
        self.text += other.text + "\n"


@dataclass
class Module:
    """The definitions of a module by name, and what it imports at its top."""

    definitions: dict[str, Definition]
    imports: Imports


@dataclass
class Reached:
    """What is reached from some definitions.

    Attributes
    ----------
    definitions : dict
        By module and name.
    edges : dict
        For each of them what its names stand for: a definition's name and hash, or the dotted
        name of what another package defines.
    packages : set of str
        Top-level names of the other packages.
    named : set of str
        The texts in all of them, and in the cells: names of data sets and folders among them.
    direct : set of tuple
        Those that the cells themselves mention, by module and name.
    """

    definitions: dict[tuple[str, str], Definition] = field(default_factory=dict)
    edges: dict[tuple[str, str], set[str]] = field(default_factory=dict)
    packages: set[str] = field(default_factory=set)
    named: set[str] = field(default_factory=set)
    direct: set[tuple[str, str]] = field(default_factory=set)

    @property
    def modules(self) -> set[str]:
        """Return the modules of which something is reached."""
        return {module for module, _ in self.definitions}

    def fingerprint(self) -> str:
        """Return a hash of the code that is reached and of what its names stand for.

        The paths of modules do not enter. Sixteen hexadecimal digits.
        """
        lines = sorted(
            "\0".join([name, one.code, *sorted(self.edges[module, name])])
            for (module, name), one in self.definitions.items()
        )
        return hashlib.sha256("\1".join(lines).encode()).hexdigest()[:16]


class Sources:
    """The source of some packages.

    Parameters
    ----------
    tops : mapping of str to Path
        Folder of each package, or file of each single module, by its top-level name.
    closed : iterable of str
        Modules that are not looked into: of their definitions the name alone counts.
    """

    def __init__(self, tops: Mapping[str, Path], closed: Iterable[str] = ()) -> None:
        self.tops, self.closed = dict(tops), frozenset(closed)

    @classmethod
    def installed(cls, *names: str, closed: Iterable[str] = ()) -> Sources:
        """Return the source of importable packages."""
        return cls({name: _place(name) for name in dict.fromkeys(names)}, closed)

    def holds(self, module: str) -> bool:
        """Say whether a module belongs to one of the packages, whether it exists or not."""
        return module.split(".")[0] in self.tops

    def file(self, module: str) -> Path | None:
        """Return the file of a module, or None if there is none."""
        top, *rest = module.split(".")
        if top not in self.tops:
            return None
        path = self.tops[top].joinpath(*rest)
        alone = path.with_name(f"{path.name}.py") if rest else path
        files = [file for file in (path / "__init__.py", alone) if file.is_file()]
        return files[0] if files else None

    def modules(self) -> list[str]:
        """Return the names of all modules."""
        found = []
        for top, folder in self.tops.items():
            for file in sorted(folder.rglob("*.py")):
                parts = [top, *file.relative_to(folder).with_suffix("").parts]
                found.append(".".join(p for p in parts if p != "__init__"))
        return found

    def parsed(self, module: str) -> Module:
        """Return the definitions of a module.

        Raises
        ------
        ModuleNotFoundError
            If it has no file.
        """
        file = self.file(module)
        if file is None:
            raise ModuleNotFoundError(f"There is no source of {module}.", name=module)
        package = module if file.name == "__init__.py" else module.rpartition(".")[0]
        return self.parse(file.read_text(encoding="utf-8"), package)

    def parse(self, source: str, package: str = "") -> Module:
        """Return the definitions of a text.

        Parameters
        ----------
        source : str
        package : str
            What its relative imports start from.

        Raises
        ------
        SyntaxError
            If it is not Python.
        """
        return _parse(source, package, tuple(self.tops))

    def reached(self, module: str, name: str | None = None) -> Reached:
        """Return what a definition reaches; without a name, what the whole module does."""
        return _Walk(self).run([(module, name)])

    def reached_by(self, code: Module) -> Reached:
        """Return what all definitions of a parsed text reach, without themselves."""
        return _Walk(self, {"": code}).run([("", None)])


def _place(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    if spec is None:
        raise ModuleNotFoundError(f"There is no module {name}.", name=name)
    folders = spec.submodule_search_locations
    return Path(next(iter(folders))) if folders else Path(spec.origin)


# Parsing -----------------------------------------------------------------------------


def _documented(tree: ast.Module) -> Iterator[tuple[int, int]]:
    """Yield first and last line of each docstring that stands on lines of its own."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Module):
            first = node.body[0] if node.body else None
            value = getattr(first, "value", None)
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                yield max(first.lineno, getattr(node, "lineno", 0) + 1), first.end_lineno


def _bare(source: str, tree: ast.Module) -> list[str]:
    """Return the lines of a source without comments, docstrings and import statements."""
    lines = source.splitlines()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column]
    for first, last in _documented(tree):
        lines[first - 1 : last] = [""] * (last - first + 1)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            before = lines[node.lineno - 1].encode()[: node.col_offset].decode()
            after = lines[node.end_lineno - 1].encode()[node.end_col_offset :].decode()
            lines[node.lineno - 1 : node.end_lineno] = [""] * (node.end_lineno - node.lineno + 1)
            lines[node.lineno - 1] = before + after
    return [line.rstrip() for line in lines]


class _Mentions(ast.NodeVisitor):
    """Collect the names, with their attributes, and the texts of a statement."""

    def __init__(self) -> None:
        self.chains: set[Chain] = set()
        self.bound: set[str] = set()
        self.strings: set[str] = set()

    def visit_Attribute(self, node: ast.Attribute) -> None:
        chain, base = [node.attr], node.value
        while isinstance(base, ast.Attribute):
            chain.append(base.attr)
            base = base.value
        if not isinstance(base, ast.Name):
            self.generic_visit(node)
            return
        self.chains.add((base.id, *reversed(chain)))
        if isinstance(node.ctx, ast.Store | ast.Del):
            self.bound.add(base.id)

    def visit_Name(self, node: ast.Name) -> None:
        self.chains.add((node.id,))
        if isinstance(node.ctx, ast.Store):
            self.bound.add(node.id)

    def visit_Subscript(self, node: ast.Subscript) -> None:
        base = node.value
        if isinstance(node.ctx, ast.Store | ast.Del) and isinstance(base, ast.Name):
            self.bound.add(base.id)
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, str):
            self.strings.add(node.value)


#: Two threads that parse at once can end with "AST constructor recursion depth mismatch" in
#: Python 3.11; the book asks for the keys of two notebooks at a time.
_ONE_AT_A_TIME = threading.Lock()


@lru_cache(maxsize=1024)
def _parse(source: str, package: str, tops: tuple[str, ...]) -> Module:
    return _Parser(source, package, tops).module


class _Parser:
    """Reads one module."""

    def __init__(self, source: str, package: str, tops: tuple[str, ...]) -> None:
        self.package, self.tops = package, tops
        with _ONE_AT_A_TIME:
            tree = ast.parse(source)
        self.lines, self.source = _bare(source, tree), source.splitlines()
        self.module = Module({}, {})
        statements = [node for node in tree.body if not _says_nothing(node)]
        for node in statements:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                continue
            self.module.imports |= self._imports(node)
        loose = []
        for node in statements:
            names, one = self._read(node)
            for name in names:
                self.module.definitions.setdefault(name, Definition()).add(one)
            if not names and one.code.strip():
                loose.append(one)
        for one in loose:  # an effect belongs to the definitions that it mentions
            own = {chain[0] for chain in one.uses} & self.module.definitions.keys()
            for name in own or {EFFECTS}:
                self.module.definitions.setdefault(name, Definition()).add(one)

    def _read(self, node: ast.stmt) -> tuple[set[str], Definition]:
        """Return the names that a statement binds, and what it says."""
        seen = _Mentions()
        seen.visit(node)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            bound, imports = {node.name}, self._imports(node)
        else:
            inner = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
            bound = seen.bound | {n.name for n in ast.walk(node) if isinstance(n, inner)}
            imports = {}
        code, uses = self._code(node), seen.chains
        for module in filter(None, map(self._named, seen.strings)):
            top, *_, last = parts = tuple(module.split("."))
            imports, uses = imports | {top: (top, None)}, uses | {parts}
            code = code.replace(module, last)
        return bound, Definition(code, uses, imports, seen.strings, self._text(node))

    def _named(self, text: str) -> str | None:
        """Return the module that a text such as ``"package.module:app"`` names."""
        match = re.fullmatch(r"((\w+)(?:\.\w+)+)(?::\w+)?", text)
        return match[1] if match and match[2] in self.tops else None

    def _code(self, node: ast.stmt) -> str:
        return "\n".join(line for line in self.lines[_start(node) : node.end_lineno] if line)

    def _text(self, node: ast.stmt) -> str:
        return "\n".join(self.source[_start(node) : node.end_lineno])

    def _imports(self, tree: ast.AST) -> Imports:
        """Return what each name that is imported within a node stands for."""
        found: Imports = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    top = alias.name.split(".")[0]
                    found[alias.asname or top] = (alias.name if alias.asname else top, None)
            elif isinstance(node, ast.ImportFrom):
                dots = "." * node.level
                base = importlib.util.resolve_name(dots + (node.module or ""), self.package)
                for alias in node.names:
                    name = alias.asname or alias.name
                    if alias.name == "*":
                        self.module.definitions.setdefault(EFFECTS, Definition()).add(
                            Definition("", {(f"*{base}",)})
                        )
                        self.module.imports[f"*{base}"] = (base, None)
                    else:
                        found[name] = (base, alias.name)
        return found


def _start(node: ast.stmt) -> int:
    """Return the index of a statement's first line, its decorators included."""
    return min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))]) - 1


def _says_nothing(node: ast.stmt) -> bool:
    """Say whether a statement of a module is a text alone or serves type checkers alone."""
    if isinstance(node, ast.If):
        return ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


# Walking -----------------------------------------------------------------------------


class _Walk:
    """Follows names from definition to definition."""

    def __init__(self, sources: Sources, extra: Mapping[str, Module] | None = None) -> None:
        self.sources, self.extra = sources, dict(extra or {})
        self.parsed = dict(self.extra)
        self.files: dict[str, Path | None] = {}
        self.found = Reached()
        self.todo: list[tuple[str, str]] = []

    def run(self, start: Iterable[tuple[str, str | None]]) -> Reached:
        for module, name in start:
            for target in self._follow(module, (name,) if name else ()):
                self._take(target)
        while self.todo:
            self._visit(*self.todo.pop())
        self.found.named = {s for one in self.found.definitions.values() for s in one.strings}
        for key in [key for key in self.found.definitions if key[0] in self.extra]:
            del self.found.definitions[key], self.found.edges[key]
        return self.found

    def _file(self, module: str) -> Path | None:
        if module not in self.files:
            self.files[module] = self.sources.file(module)
        return self.files[module]

    def _parsed(self, module: str) -> Module:
        if module not in self.parsed:
            self.parsed[module] = self.sources.parsed(module)
        return self.parsed[module]

    def _take(self, target: tuple[str, str]) -> None:
        module, name = target
        if target in self.found.definitions:
            return
        definitions = self._parsed(module).definitions
        self.found.definitions[target] = definitions[name]
        self.found.edges[target] = set()
        self.todo.append(target)
        if EFFECTS in definitions:
            self._take((module, EFFECTS))

    def _visit(self, module: str, name: str) -> None:
        one = self._parsed(module).definitions[name]
        for chain in one.uses:
            for target in self._resolve(module, chain, one.imports):
                if isinstance(target, str):
                    self.found.packages.add(target.split(".")[0])
                    meaning = target
                elif target[0] in self.sources.closed:
                    meaning = target[1]
                else:
                    self._take(target)
                    if module in self.extra and target[0] not in self.extra:
                        self.found.direct.add(target)
                    meaning = f"{target[1]} {self.found.definitions[target].digest}"
                label = "" if self.sources.holds(chain[0]) else chain[0]  # no path of a module
                self.found.edges[module, name].add(f"{label} = {meaning}")
        if any(chain[-1] in DYNAMIC for chain in one.uses):
            everything = self.sources.modules() if module in self.extra else [module]
            for whole in everything:
                for target in self._follow(whole, ()):
                    if isinstance(target, str):  # a package hands it on from another one
                        self.found.packages.add(target.split(".")[0])
                    else:
                        self._take(target)

    def _resolve(self, module: str, chain: Chain, local: Imports) -> list:
        """Return the definitions, or the name in another package, behind a name."""
        parsed = self._parsed(module)
        head, *rest = chain
        if head in local:
            return self._imported(local[head], rest)
        if head in parsed.definitions:
            return [(module, head)]
        if head in parsed.imports:
            return self._imported(parsed.imports[head], rest)
        return []

    def _imported(self, source: tuple[str, str | None], rest: list[str]) -> list:
        module, attribute = source
        return self._follow(module, (*([attribute] if attribute else []), *rest))

    def _follow(self, module: str, chain: Chain, seen: frozenset = frozenset()) -> list:
        """Return what an attribute of a module stands for; without one, all that it defines."""
        if module not in self.extra and not self.sources.holds(module):
            return [".".join([module, *chain])]
        if module not in self.extra and self._file(module) is None:
            return []  # what is not there cannot be reached; importing it fails
        parsed = self._parsed(module)
        if chain:
            head, *rest = chain
            if head in parsed.definitions:
                return [(module, head)]
            if head in parsed.imports and (module, head) not in seen:
                inner, attribute = parsed.imports[head]
                on = (*([attribute] if attribute else []), *rest)
                return self._follow(inner, on, seen | {(module, head)})
            if self._file(f"{module}.{head}"):
                return self._follow(f"{module}.{head}", tuple(rest), seen)
        found: list = [(module, name) for name in parsed.definitions]
        if self._is_package(module) and (module, None) not in seen:  # hands on what it imports
            for inner, attribute in parsed.imports.values():
                on = (attribute,) if attribute else ()
                found += self._follow(inner, on, seen | {(module, None)})
        return found

    def _is_package(self, module: str) -> bool:
        file = None if module in self.extra else self._file(module)
        return file is not None and file.name == "__init__.py"


def of_function(
    function: Callable[..., object], *packages: str, closed: Iterable[str] = ()
) -> Reached:
    """Return what a function of the course reaches.

    Parameters
    ----------
    function : callable
        At the top of a module. Of anything else the whole module counts.
    *packages : str
        Packages whose definitions count, besides the function's own.
    closed : iterable of str
        As for :class:`Sources`.
    """
    top = function.__module__.split(".")[0]
    sources = Sources.installed(top, *packages, closed=closed)
    name = getattr(function, "__name__", None)
    known = name in sources.parsed(function.__module__).definitions
    return sources.reached(function.__module__, name if known else None)
