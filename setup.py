"""The packages of the course: all rooms of casebook/, data/ as ``casebook._data`` and solutions/ as
``casebook._solutions``."""

from setuptools import find_packages, setup

setup(
    packages=[
        *find_packages(include=["casebook", "casebook.*"]),
        "casebook._data",
        "casebook._solutions",
    ]
)
