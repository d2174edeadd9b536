"""The kernel that runs the course's notebooks must be the one of the course's environment."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel

NAME = "python3"


class ForeignKernel(RuntimeError):
    """Jupyter would start another Python than the one that has the course."""


def foreign_kernel(name: str = NAME) -> str | None:
    """Return what is wrong with the kernel that Jupyter finds by a name; None for the own one.

    Parameters
    ----------
    name : str
        As in a notebook's ``kernelspec``.
    """
    try:
        spec = KernelSpecManager().get_kernel_spec(name)
    except NoSuchKernel:
        return (
            f"Jupyter finds no kernel {name!r}: ipykernel is not installed in {sys.prefix}. "
            "Run `make lab` or `make book` once; they install it."
        )
    program = spec.argv[0] if spec.argv else ""
    # Jupyter itself puts its own interpreter in place of a bare "python".
    if not os.path.isabs(program) or _folder(program) == _folder(sys.executable):
        return None
    return (
        f"The kernel {name!r} that Jupyter found in {spec.resource_dir} starts {program}, and the "
        f"course is installed in {sys.prefix}. {_remedy(Path(spec.resource_dir))}"
    )


def _folder(program: str) -> Path:
    """Return where an interpreter is; the file itself is a link to another one's."""
    return Path(program).parent.resolve()


def _remedy(resource_dir: Path) -> str:
    """Say what to do about a kernel in that folder."""
    for folder in filter(None, os.environ.get("JUPYTER_PATH", "").split(os.pathsep)):
        if resource_dir.is_relative_to(folder):
            return "Unset JUPYTER_PATH, which names that folder, and run the command again."
    return f"Remove or rename that kernel (jupyter kernelspec remove {resource_dir.name})."


def require_own_kernel(name: str = NAME) -> None:
    """Do nothing if Jupyter finds the kernel of the running environment.

    Raises
    ------
    ForeignKernel
        With the kernel that was found, where, and what to do.
    """
    if reason := foreign_kernel(name):
        raise ForeignKernel(reason)


def own_package(root: Path) -> dict[str, str]:
    """Return what makes a kernel import the package of a checkout, whatever is installed.

    Parameters
    ----------
    root : Path
        The checkout; one without the package (in tests) changes nothing.
    """
    if not (root / "casebook" / "__init__.py").is_file():
        return {}
    paths = [str(root), os.environ.get("PYTHONPATH", "")]
    return {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
