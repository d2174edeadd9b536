"""The packages of the course: all rooms of casebook/, and data/ as ``casebook._data``."""

from setuptools import find_packages, setup

setup(packages=[*find_packages(include=["casebook", "casebook.*"]), "casebook._data"])
