"""The registry: versions of the model with their lineage, and the names champion and challenger.

It is MLflow's, in one SQLite file. A version points at the folder that the pipeline made and holds,
as tags, the hash of the data, of the code and of the files: what is served can be traced back to
the rows that it learned from. The service knows nothing of MLflow; it is given a folder. The
registry follows the pods: what they serve is the champion.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from casebook.cases.deployment_pipeline.steps import DAY, Model
from casebook.recorded import dag

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

CHAMPION, CHALLENGER, BEFORE = "champion", "challenger", "before"
#: What :func:`casebook.cases.deployment_pipeline.gates.check` asks of each candidate.
GATES = ("money", "ranking", "worst slice", "skew", "latency", "model card", "freshness")
#: The library reports its use to its makers and logs each table that it makes, unless it is told.
QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
}


class PromotionRefused(ValueError):
    """A version must not become champion; the message has the gates that stopped it."""


class Registry:
    """Versions of one model.

    Parameters
    ----------
    file : Path
        SQLite; made if need be.
    name : str
        Of the model.
    """

    def __init__(self, file: Path | str, name: str = "card_fraud") -> None:
        self.file, self.name = Path(file).resolve(), name

    @cached_property
    def client(self) -> MlflowClient:
        """MLflow's client; importing it takes seconds."""
        os.environ.update(QUIET)
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException

        self.file.parent.mkdir(parents=True, exist_ok=True)
        address = f"sqlite:///{self.file}"
        with warnings.catch_warnings():  # MLflow 3.17 uses what SQLAlchemy 2.1 will drop
            warnings.simplefilter("ignore", DeprecationWarning)
            client = MlflowClient(tracking_uri=address, registry_uri=address)
            client.search_experiments()  # it opens the file only when it is asked
        try:
            client.create_registered_model(self.name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        return client

    def register(self, run: dag.Run, gates: pd.DataFrame | None = None) -> int:
        """Return the version of a run, the challenger; registered once, however often it is asked.

        Parameters
        ----------
        run : Run
        gates : DataFrame, optional
            What :func:`gates.check` has said of it, for :meth:`may_lead`.
        """
        for one in self._all():
            if one.tags.get("run") == run.key:
                return self._challenger(int(one.version), gates)
        made = run.made_of
        tags = {
            "run": run.key,
            "data": made["source"]["inputs"]["content"],
            "until": made["features"]["settings"]["until"],
            "code": made["train"]["code"],
            "model": made["train"]["outputs"]["model.txt"],
            "meta": made["train"]["outputs"]["meta.json"],
            "folder": str(run.folder.resolve()),
            "steps": json.dumps(run.keys),
        }
        source = run.path("train").resolve().as_uri()
        found = self.client.create_model_version(self.name, source=source, tags=tags)
        return self._challenger(int(found.version), gates)

    def _challenger(self, version: int, gates: pd.DataFrame | None) -> int:
        if gates is not None:
            kept = gates[["value", "limit", "passed"]].to_json(orient="index")
            for tag, said in (("gates", kept), ("asked", str(pd.Timestamp.now("UTC")))):
                self.client.set_model_version_tag(self.name, str(version), tag, said)
        if self.version(CHAMPION) != version:
            self._alias(CHALLENGER, version)
        return version

    def may_lead(self, version: int, now: pd.Timestamp | None = None) -> None:
        """Refuse a version that must not serve; since its gates were asked its labels have aged.

        Parameters
        ----------
        version : int
        now : Timestamp, optional
            In place of the clock.

        Raises
        ------
        PromotionRefused
            With the gates that stopped it, or that were not asked.
        LookupError
            If its files are gone or were altered.
        """
        tags = self._of(version).tags
        kept = json.loads(tags.get("gates", "{}"))
        found = {gate: f"{one['value']} against {one['limit']}" for gate, one in kept.items()}
        stops = [f"{gate}: {found[gate]}" for gate, one in kept.items() if not one["passed"]]
        stops += [f"{gate}: not asked, run gates.check" for gate in GATES if gate not in kept]
        if "freshness" in kept:
            asked = pd.Timestamp(tags.get("asked", "1970-01-01T00:00Z"))
            passed = (now or pd.Timestamp.now("UTC")) - asked
            age, most = kept["freshness"]["value"] + passed / DAY, kept["freshness"]["limit"]
            if age > most:
                stops.append(f"freshness: by now {age:.0f} days against {most:g}, train anew")
        if stops:
            raise PromotionRefused("; ".join(stops))
        self._folder(version)

    def follow(self, model: str) -> int | None:
        """Call the version whose model the pods serve champion, and the one before ``before``.

        Safe to call at any time, and again after it was killed: the names follow what serves. What
        returns to ``before`` has no way back.

        Parameters
        ----------
        model : str
            As a pod's ``/ready`` says it: the name of the model's folder.

        Returns
        -------
        int or None
            None if no version has this model; then none is champion.
        """
        old, new = self.version(CHAMPION), self.find(model)
        if new != old:
            if new is None or new != self.version(BEFORE):
                self._alias(BEFORE, old)
            self._alias(CHAMPION, new)
        for alias in (BEFORE, CHALLENGER):
            if new is not None and self.version(alias) == new:
                self._alias(alias, None)
        return new

    def find(self, model: str) -> int | None:
        """Return the version with this model: champion, ``before`` or the newest, or None."""
        mine = [int(one.version) for one in self._all() if _model(one.tags) == model]
        named = (self.version(CHAMPION), self.version(BEFORE))
        return next((one for one in named if one in mine), max(mine, default=None))

    def version(self, alias: str) -> int | None:
        """Return the version of a name, or None."""
        found = self.client.get_registered_model(self.name).aliases.get(alias)
        return None if found is None else int(found)

    def folder(self, version: int | str) -> Path:
        """Return the folder of a version or of a name, as the service takes it.

        Raises
        ------
        LookupError
            If there is no such version, or its files are gone or were altered.
        """
        if isinstance(version, str):
            found = self.version(version)
            if found is None:
                raise LookupError(f"no version is called {version!r}: register or promote one.")
            version = found
        return self._folder(version)

    def load(self, version: int | str) -> Model:
        """Return the model of a version or of a name."""
        return Model.load(self.folder(version))

    def lineage(self, version: int) -> pd.DataFrame:
        """Return what a version was made of, step by step back to the data.

        Raises
        ------
        LookupError
            If a step's folder is gone, or its files were altered.
        """
        tags = self._of(version).tags
        return dag.read(tags["folder"], json.loads(tags["steps"]), self._kept(tags)).lineage()

    def _folder(self, version: int) -> Path:
        tags = self._of(version).tags
        keys = {"train": json.loads(tags["steps"])["train"]}
        return dag.read(tags["folder"], keys, self._kept(tags)).path("train")

    def _kept(self, tags: Mapping[str, str]) -> dict[str, str]:
        return {"model.txt": tags["model"], "meta.json": tags["meta"]}

    def _of(self, version: int) -> ModelVersion:
        from mlflow.exceptions import MlflowException

        try:
            return self.client.get_model_version(self.name, str(version))
        except MlflowException:
            raise LookupError(f"there is no version {version} of {self.name}.") from None

    def _all(self) -> list[ModelVersion]:
        return list(self.client.search_model_versions(f"name = '{self.name}'"))

    def _alias(self, alias: str, version: int | None) -> None:
        if version is not None:
            self.client.set_registered_model_alias(self.name, alias, str(version))
        elif self.version(alias) is not None:
            self.client.delete_registered_model_alias(self.name, alias)


def _model(tags: Mapping[str, str]) -> str:
    """Return the name of a version's folder, which its pods say."""
    return f"train-{json.loads(tags['steps'])['train']}"
