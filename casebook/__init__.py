"""The ML Systems Casebook: the package that its notebooks import.

Import what you need from a module (``from casebook.evaluate.metrics import wape``);
this file imports nothing, so that ``import casebook`` costs nothing.
"""

__version__ = "0.1.0"
