"""Case 21: the linters accept container, cluster and workflow files, and refuse planted faults."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import casebook.cases.deployment_pipeline as case
from casebook.cases.deployment_pipeline import autoscaling, service
from casebook.project import require_checkout

DEPLOY = Path(case.__file__).parent / "deploy"
BIN = Path(sys.executable).parent
MANIFESTS = ("deployment.yaml", "hpa.yaml")
WORKFLOWS = ("ci.yaml", "cd.yaml", "ct.yaml")
TOOLS = {
    ("hadolint",): ("Dockerfile",),
    ("kubernetes-validate", "--strict"): MANIFESTS,
    ("check-jsonschema", "--builtin-schema", "vendor.github-workflows"): WORKFLOWS,
}


def lint(command, *paths):
    words = [BIN / command[0], *command[1:], *paths]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("command", TOOLS)
def test_each_file_is_accepted(command):
    status, said = lint(command, *(DEPLOY / name for name in TOOLS[command]))
    assert status == 0, said


FAULTS = {
    "an image of any version": ("Dockerfile", "python:3.11.7-slim-bookworm AS", "python AS"),
    "a package of any version": ("Dockerfile", "libgomp1=12.2.0-14+deb12u1", "libgomp1"),
    "a probe that nobody knows": ("deployment.yaml", "startupProbe:", "startingProbe:"),
    "a number that is a text": ("deployment.yaml", "maxUnavailable: 0}", "maxUnavailable: [0]}"),
    "no target": ("hpa.yaml", "maxReplicas: 10", "mostReplicas: 10"),
    "a step that does nothing": ("ci.yaml", "run: python -m mypy", "runs: python -m mypy"),
    "a job without a machine": ("cd.yaml", "runs-on:", "run-on:"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_planted_fault_is_refused(fault, tmp_path):
    name, good, bad = FAULTS[fault]
    text = (DEPLOY / name).read_text()
    assert good in text
    (tmp_path / name).write_text(text.replace(good, bad, 1))
    command = next(words for words, names in TOOLS.items() if name in names)
    assert lint(command, tmp_path / name)[0] != 0


def documents(name):
    return list(yaml.safe_load_all((DEPLOY / name).read_text()))


def test_the_probes_are_routes_of_the_pod_and_a_slow_start_is_waited_for(tmp_path):
    pod = documents("deployment.yaml")[0]["spec"]["template"]["spec"]["containers"][0]
    routes = {route.path for route in service.app(str(tmp_path)).routes}
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert pod[probe]["httpGet"]["path"] in routes
    start = pod["startupProbe"]
    assert start["periodSeconds"] * start["failureThreshold"] > autoscaling.Fleet().cold
    docker = (DEPLOY / "Dockerfile").read_text()
    assert f"EXPOSE {pod['ports'][0]['containerPort']}" in docker
    assert re.findall(r"^USER (\S+)", docker, re.M)[-1] not in ("root", "0")


def test_the_autoscaler_is_the_one_that_is_simulated():
    spec, fleet = documents("hpa.yaml")[0]["spec"], autoscaling.Fleet()
    assert (spec["minReplicas"], spec["maxReplicas"]) == (fleet.least, fleet.most) == (4, 10)
    target = spec["metrics"][0]["resource"]["target"]["averageUtilization"]
    assert target == 100 * fleet.cpu == 60
    assert "replicas" not in documents("deployment.yaml")[0]["spec"]


def commands(name):
    for job in documents(name)[0]["jobs"].values():
        for step in job["steps"]:
            for line in step.get("run", "").splitlines():
                yield line.split()


def missing(words):
    """Return what of a command is not there: a module, a program or a file of the tests."""
    lacks = [w for w in words if w.startswith("tests/") and not (require_checkout() / w).exists()]
    if words[:2] == ["python", "-m"]:
        known = words[2] == "mypy" or importlib.util.find_spec(words[2])  # ci.yaml installs mypy
        return lacks if known else [*lacks, words[2]]
    outside = ("docker", "kubectl")  # of the machine that runs the workflow
    found = words[0] in outside or (BIN / words[0]).exists() or shutil.which(words[0])
    return lacks if found else [*lacks, words[0]]


def test_the_commands_of_the_workflows_exist():
    given = [words for name in WORKFLOWS for words in commands(name)]
    assert len(given) > 10
    assert [missing(words) for words in given if missing(words)] == []
    assert missing(["python", "-m", "casebook.nothing"]) == ["casebook.nothing"]
    assert missing(["python", "-m", "pytest", "tests/none.py"]) == ["tests/none.py"]


def test_each_kind_of_check_stands_before_a_release():
    names = {
        step.get("name")
        for job in documents("ci.yaml")[0]["jobs"].values()
        for step in job["steps"]
    }
    assert {"lint", "types", "unit", "integration"} <= names
    jobs = documents("cd.yaml")[0]["jobs"]
    steps = [step.get("name") for step in jobs["staging"]["steps"]]
    assert steps.index("smoke") < steps.index("load") < steps.index("build")
    assert jobs["production"]["needs"] == "staging"
