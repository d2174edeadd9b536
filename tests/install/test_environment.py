"""The environment: exact pins, nothing else installed, and groups that bring what is imported."""

from __future__ import annotations

import ast
import json
import re
import sys
import sysconfig
import tomllib
from collections.abc import Iterable, Iterator
from importlib.metadata import (
    PackageNotFoundError,
    distributions,
    packages_distributions,
    requires,
)
from importlib.metadata import files as package_files
from pathlib import Path

import pytest
from IPython.core.inputtransformer2 import TransformerManager
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from casebook.author import files
from casebook.project import require_checkout

ROOT = require_checkout()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
NOTEBOOKS = files.notebooks("chapters", "solutions", root=ROOT)
#: Who provides each importable name of the running environment.
PROVIDERS = {name: set(who) for name, who in packages_distributions().items()}
#: Not pinned: what installs the environment, and the course itself.
OURS = {"pip", "casebook"}
#: Asked for by its path: setuptools adds a folder of its own to sys.path when it is imported.
SITE = sysconfig.get_path("purelib")
#: Where `make lock` writes constraints.txt; elsewhere markers add and leave out packages.
LOCKED_HERE = sys.platform == "linux" and sys.version_info[:2] == (3, 11)
EXACT = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;#,*]+)(?: ; (.+))?$")


# --- pins ---------------------------------------------------------------------------------------


def pins(text: str) -> tuple[dict[str, str], list[str]]:
    """Return the pinned versions of a requirements file by name, and its lines that pin none.

    A pin whose marker names another platform is none of both.
    """
    pinned, loose = {}, []
    for line in (line.split(" #")[0].strip() for line in text.splitlines()):
        if not line or line.startswith("#"):
            continue
        if match := EXACT.match(line):
            if match[3] is None or Marker(match[3]).evaluate():
                pinned[canonicalize_name(match[1])] = match[2]
        else:
            loose.append(line)
    return pinned, loose


def differences(wanted: dict[str, str], there: dict[str, str]) -> list[str]:
    """Return what is missing, extra or of another version, one line for each name."""
    found = [f"{name}=={wanted[name]} is missing" for name in wanted.keys() - there.keys()]
    found += [f"{name}=={there[name]} is extra" for name in there.keys() - wanted.keys()]
    found += [
        f"{name} is {there[name]}, not {wanted[name]}"
        for name in wanted.keys() & there.keys()
        if wanted[name] != there[name]
    ]
    return sorted(found)


def read_pins(name: str) -> dict[str, str]:
    """Return the pins of a file of the checkout."""
    pinned, loose = pins((ROOT / name).read_text(encoding="utf-8"))
    assert loose == [], f"{name} has lines that are no exact pin: {loose}"
    return pinned


def installed() -> dict[str, str]:
    """Return what is installed in the running environment, by name."""
    found = {canonicalize_name(d.metadata["Name"]): d.version for d in distributions(path=[SITE])}
    return {name: version for name, version in found.items() if name not in OURS}


def test_requirements_stand_in_the_constraints():
    direct, everything = read_pins("requirements.txt"), read_pins("constraints.txt")
    assert differences(direct, {n: v for n, v in everything.items() if n in direct}) == []
    assert not OURS & everything.keys()


def test_the_installed_set_is_the_constraints():
    wanted, there = read_pins("constraints.txt"), installed()
    if not LOCKED_HERE:
        needed = brought_along(read_pins("requirements.txt"))
        wanted = {name: version for name, version in wanted.items() if name in needed}
        there = {n: v for n, v in there.items() if n in wanted or n not in needed}
    assert differences(wanted, there) == []


@pytest.mark.skipif(not LOCKED_HERE, reason="constraints.txt is written on Linux, Python 3.11")
def test_the_constraints_hold_nothing_that_no_requirement_brings():
    """A package that was dropped from requirements.txt leaves with all it brought."""
    direct, everything = read_pins("requirements.txt"), read_pins("constraints.txt")
    assert sorted(everything.keys() - brought_along(direct)) == []
    del direct["rdata"], direct["jupyter-repo2docker"]  # the planted fault: two were dropped
    left = everything.keys() - brought_along(direct)
    assert {"rdata", "jupyter-repo2docker", "escapism"} <= left and "numpy" not in left


@pytest.mark.parametrize(
    ("line", "loose"),
    [
        ("numpy==2.4.6  # a remark", False),
        ("numpy==2.4.6 ; python_version > '3'", False),
        ("numpy>=2 ; python_version > '3'", True),
        ("numpy>=2", True),
        ("numpy==2.*", True),
        ("numpy", True),
        ("-e .", True),
        ("numpy @ https://example.org/numpy.whl", True),
    ],
)
def test_what_is_no_exact_pin_is_named(line, loose):
    assert pins(f"# a comment\n\n{line}\n") == (({}, [line]) if loose else ({"numpy": "2.4.6"}, []))


def test_planted_differences_are_named():
    wanted = read_pins("constraints.txt")
    there = {**wanted, "numpy": "1.0", "left-pad": "1.3"}
    del there["pandas"]
    assert differences(wanted, there) == [
        "left-pad==1.3 is extra",
        f"numpy is 1.0, not {wanted['numpy']}",
        f"pandas=={wanted['pandas']} is missing",
    ]


def test_python_is_a_supported_one():
    supported = SpecifierSet(PROJECT["requires-python"])
    assert supported.contains("{}.{}.{}".format(*sys.version_info[:3]))
    assert not supported.contains("3.10.13")
    binder = (ROOT / "binder" / "runtime.txt").read_text(encoding="utf-8").strip()
    assert supported.contains(binder.removeprefix("python-"))


# --- page assets --------------------------------------------------------------------------------


def lock_faults(package: dict, lock: dict) -> list[str]:
    """Return where package-lock.json departs from package.json, and where it names an address."""
    found = []
    locked = lock["packages"]
    for kind in ("dependencies", "devDependencies"):
        if package.get(kind, {}) != locked[""].get(kind, {}):
            found.append(f"{kind} differ: {package.get(kind)} and {locked[''].get(kind)}")
        for name, version in package.get(kind, {}).items():
            if not re.fullmatch(r"\d+\.\d+\.\d+", version):
                found.append(f"{name}: {version} is no exact version")
            there = locked.get(f"node_modules/{name}", {}).get("version")
            if there != version:
                found.append(f"{name} is locked at {there}, not {version}")
    for name, entry in locked.items():
        if "resolved" in entry:
            found.append(f"{name} names the address {entry['resolved']}")
        if name and not entry.get("integrity"):
            found.append(f"{name} has no hash")
    return found


def page_assets() -> tuple[dict, dict]:
    """Return package.json and package-lock.json."""
    names = ("package.json", "package-lock.json")
    package, lock = (json.loads((ROOT / name).read_text(encoding="utf-8")) for name in names)
    return package, lock


def test_the_page_assets_are_locked_without_addresses():
    assert lock_faults(*page_assets()) == []


@pytest.mark.parametrize(
    ("plant", "reason"),
    [
        (lambda p, k: p["dependencies"].update(mermaid="^11.0.0"), "is no exact version"),
        (lambda p, k: p["dependencies"].update(mermaid="1.2.3"), "not 1.2.3"),
        (lambda p, k: k["packages"].pop("node_modules/axe-core"), "axe-core is locked at None"),
        (
            lambda p, k: k["packages"]["node_modules/mathjax"].update(resolved="https://x.test/y"),
            "node_modules/mathjax names the address https://x.test/y",
        ),
        (
            lambda p, k: k["packages"]["node_modules/mathjax"].pop("integrity"),
            "node_modules/mathjax has no hash",
        ),
    ],
)
def test_a_planted_fault_of_the_lock_is_named(plant, reason):
    package, lock = page_assets()
    plant(package, lock)
    assert any(reason in fault for fault in lock_faults(package, lock))


# --- imports ------------------------------------------------------------------------------------


def at_import(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes that run when a module is imported: all but the bodies of functions."""
    for node in ast.iter_child_nodes(tree):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield node
            yield from at_import(node)


def imports(source: str, deferred: bool = True) -> set[str]:
    """Return the modules that a source imports; ``from a import b`` gives both forms.

    Without `deferred`, those that a function imports when it is called are left out.
    """
    names, tree = set(), ast.parse(source)
    for node in ast.walk(tree) if deferred else at_import(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def notebook_imports(path: Path) -> set[str]:
    """Return the modules that the cells of a notebook import."""
    transform = TransformerManager().transform_cell
    return {
        name
        for cell in files.read(path).cells
        if cell.cell_type == "code"
        for name in imports(transform(cell.source))
    }


def course_modules() -> dict[str, Path]:
    """Return the modules of the course by dotted name."""
    found = {}
    for path in sorted((ROOT / "casebook").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def providers(name: str) -> set[str]:
    """Return the distributions that provide a module.

    Where many share a namespace (``sphinxcontrib``), these are the ones that
    hold the module's own file; nobody, if the name is only an attribute.
    """
    candidates = PROVIDERS.get(name.split(".")[0], set())
    if len(candidates) > 1:
        path = name.replace(".", "/")
        candidates = {
            candidate
            for candidate in candidates
            if any(str(f).startswith((f"{path}/", f"{path}.py")) for f in package_files(candidate))
        }
    return {canonicalize_name(candidate) for candidate in candidates}


def third_party(names: Iterable[str]) -> dict[str, set[str]]:
    """Return, for each import that is neither ours nor Python's, who provides it."""
    found = {}
    for name in names:
        top = name.split(".")[0]
        if top in sys.stdlib_module_names or top == "casebook":
            continue
        if len(PROVIDERS.get(top, ())) < 2:
            found[top] = providers(top)
        elif holders := providers(name):
            found[name] = holders
    return found


def is_builder(path: Path) -> bool:
    """Say whether a module makes artifacts: it has an environment of its own (test_artifacts).

    The embedding models of the retriever and the small local model are loaded there alone, and so
    are causal forests, recurrent networks and the two towers.
    """
    builders = {"artifacts", "dense", "forests", "local", "networks", "recurrent", "towers"}
    rooms = {"cases", "evaluate", "forecasting", "retrieval", "llm"}
    return path.stem in builders and bool(rooms & {*path.parts})


def of_artifacts_alone(name: str) -> bool:
    """Say whether only the artifacts' environment pins the package of a module."""
    package = canonicalize_name(name.split(".")[0])
    return package in read_pins("constraints-artifacts.txt").keys() - read_pins("constraints.txt")


def reachable(names: set[str]) -> set[str]:
    """Return all that is imported from here on, through the modules of the course.

    What a builder loads when it is asked for a model, and only the artifacts' environment has, is
    left out: a notebook reads what it made.
    """
    modules, seen, everything = course_modules(), set(), set()
    waiting = set(names)
    while waiting:
        name = waiting.pop()
        everything.add(name)
        # Importing a.b.c runs a and a.b too.
        parts = name.split(".")
        for module in {".".join(parts[:i]) for i in range(1, len(parts) + 1)} & modules.keys():
            if module not in seen:
                seen.add(module)
                source = modules[module].read_text(encoding="utf-8")
                found = imports(source)
                if is_builder(modules[module]):
                    later = found - imports(source, deferred=False)
                    found -= {name for name in later if of_artifacts_alone(name)}
                waiting |= found
    return everything


def brought_along(requirements: Iterable[str]) -> set[str]:
    """Return the names that installing these requirements installs."""
    found, waiting = set(), [Requirement(line) for line in requirements]
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        key = (name, frozenset(requirement.extras))
        if key in found:
            continue
        found.add(key)
        try:
            lines = requires(name) or []
        except PackageNotFoundError:
            continue  # of another platform, or not installed: it brings nothing here
        for needed in map(Requirement, lines):
            extras = ["", *requirement.extras]
            if needed.marker is None or any(needed.marker.evaluate({"extra": e}) for e in extras):
                waiting.append(needed)
    return {name for name, _ in found}


def unpinned(names: Iterable[str], pinned: set[str]) -> list[str]:
    """Return the imports that no pinned distribution provides, with who does."""
    return sorted(
        f"{module}: {', '.join(sorted(who)) or 'nobody'}"
        for module, who in third_party(names).items()
        if not who & pinned
    )


def not_in_group(names: set[str], group: str) -> list[str]:
    """Return what a notebook imports and ``casebook[group]`` does not install."""
    declared = PROJECT["dependencies"] + (PROJECT["optional-dependencies"][group] if group else [])
    return unpinned(reachable(names), brought_along(declared))


def all_imports() -> set[str]:
    """Return what the package, the chapters and the solutions import, but for the builders."""
    modules = (path for path in course_modules().values() if not is_builder(path))
    sources = (path.read_text(encoding="utf-8") for path in modules)
    return set().union(*map(imports, sources), *map(notebook_imports, NOTEBOOKS))


def test_every_import_is_pinned():
    """By requirements.txt, or by what its packages bring along and constraints.txt pins."""
    direct, everything = read_pins("requirements.txt"), read_pins("constraints.txt")
    along = brought_along(direct)
    assert unpinned(all_imports(), along & everything.keys()) == []


def builder_imports() -> set[str]:
    """Return what the builders import."""
    modules = (path for path in course_modules().values() if is_builder(path))
    return set().union(*(imports(path.read_text(encoding="utf-8")) for path in modules))


def unpinned_builders(pinned: set[str]) -> list[str]:
    """Return the packages of builders that neither environment pins."""
    both = set(read_pins("constraints.txt")) | pinned
    names = {line.split(":")[0] for line in unpinned(builder_imports(), both)}
    return sorted(name for name in names if name.replace("_", "-") not in pinned)


def test_what_builders_import_is_pinned_for_their_environment():
    assert unpinned_builders(set(read_pins("constraints-artifacts.txt"))) == []


def test_a_builder_s_import_that_nothing_pins_is_named():
    pinned = set(read_pins("constraints-artifacts.txt"))
    assert "torch" in unpinned_builders(pinned - {"torch"})
    assert "sentence_transformers" in unpinned_builders(pinned - {"sentence-transformers"})


def test_an_import_that_nothing_pins_is_named():
    everything = set(read_pins("constraints.txt"))
    assert unpinned({"no_such_module.part"}, everything) == ["no_such_module: nobody"]
    assert unpinned({"sklearn.metrics"}, everything - {"scikit-learn"}) == ["sklearn: scikit-learn"]
    assert unpinned({"sphinxcontrib.mermaid"}, everything - {"sphinxcontrib-mermaid"}) == [
        "sphinxcontrib.mermaid: sphinxcontrib-mermaid"
    ]
    assert (
        unpinned({"os.path", "casebook.evaluate.metrics", "sphinxcontrib.mermaid"}, everything)
        == []
    )


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_the_group_of_a_notebook_brings_what_it_imports(path):
    group = files.read(path).metadata.get("casebook", {}).get("group", "")
    assert not_in_group(notebook_imports(path), group) == []


def test_a_group_that_lacks_a_package_is_named():
    chapter = notebook_imports(ROOT / "chapters" / "00_how_a_case_works.ipynb")
    lacking = not_in_group(chapter, "")
    assert {line.split(":")[0] for line in lacking} == {"lightgbm", "mlforecast", "rdata"}


def test_of_a_builder_only_models_that_it_loads_when_asked_are_left_out(monkeypatch, tmp_path):
    path = tmp_path / "retrieval" / "dense.py"
    path.parent.mkdir()
    path.write_text("import ray\nclass A:\n    def f(self):\n        import torch, yaml\n")
    monkeypatch.setattr(sys.modules[__name__], "course_modules", lambda: {"dense": path})
    assert reachable({"dense"}) == {"dense", "ray", "yaml"}
    elsewhere = path.rename(path.with_name("index.py"))
    monkeypatch.setattr(sys.modules[__name__], "course_modules", lambda: {"dense": elsewhere})
    assert reachable({"dense"}) == {"dense", "ray", "torch", "yaml"}


def test_what_the_package_declares_is_pinned():
    """pyproject.toml names no package that the environment lacks, and no version."""
    groups = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    named = {Requirement(line) for group in groups for line in group}
    assert not any(r.specifier or r.url for r in named), "versions belong in requirements"
    assert {canonicalize_name(r.name) for r in named} <= read_pins("constraints.txt").keys()
