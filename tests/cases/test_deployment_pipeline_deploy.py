"""Case 21: the linters accept container, cluster and workflow files, and refuse planted faults."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

import casebook.cases.deployment_pipeline as case
from casebook.cases.deployment_pipeline import autoscaling, rollout, service
from casebook.cases.deployment_pipeline.world import CHAPTER
from casebook.project import require_checkout
from casebook.recorded import bench
from casebook.serving.rollout import Pace

DEPLOY = Path(case.__file__).parent / "deploy"
BIN = Path(sys.executable).parent
MANIFESTS = ("deployment.yaml", "hpa.yaml", "router.yaml")
WORKFLOWS = ("ci.yaml", "cd.yaml", "ct.yaml", "back.yaml")
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
    "a policy of nobody": ("router.yaml", "podSelector:", "podSelection:"),
    "a schedule of nothing": ("hpa.yaml", "jobTemplate:", "template:"),
    "no target": ("hpa.yaml", "maxReplicas: 10", "mostReplicas: 10"),
    "a step that does nothing": ("ci.yaml", "run: python -m mypy", "runs: python -m mypy"),
    "a job without a machine": ("cd.yaml", "runs-on:", "run-on:"),
}


@pytest.mark.parametrize("command", TOOLS)
def test_each_planted_fault_is_refused(command, tmp_path):
    """One process for the files of a tool: it tells of each one that is not as it should be."""
    files = []
    for name, good, bad in (one for one in FAULTS.values() if one[0] in TOOLS[command]):
        text = (DEPLOY / name).read_text()
        assert good in text
        files.append(tmp_path / f"{len(files)}" / name)
        files[-1].parent.mkdir()
        files[-1].write_text(text.replace(good, bad, 1))
    status, said = lint(command, *files)
    assert status != 0 and len(files) > 1
    told = [line for line in said.splitlines() if "INFO" not in line]
    assert [file for file in files if not any(f"{file}" in line for line in told)] == []


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
    assert spec["behavior"]["scaleDown"]["stabilizationWindowSeconds"] == fleet.settle
    assert "replicas" not in documents("deployment.yaml")[0]["spec"]
    first, last, pods = autoscaling.STRATEGIES["scheduled"].floor
    begins, ends = documents("hpa.yaml")[1:3]
    for job, hour, least in ((begins, first, pods), (ends, last, fleet.least)):
        minute, of = job["spec"]["schedule"].split()[:2]
        assert int(of) + int(minute) / 60 == hour
        pod = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]
        assert pod["args"][-1] == f'{{"spec": {{"minReplicas": {least}}}}}'


def test_the_router_has_its_ports_its_plan_on_disk_and_plans_from_the_release_alone():
    router, policy = (documents("router.yaml")[i] for i in (1, -1))
    pod = router["spec"]["template"]["spec"]["containers"][0]
    given = dict(word.lstrip("-").split("=") for word in pod["args"][1:])
    assert find_spec(pod["args"][0])
    ports = {one["name"]: str(one["containerPort"]) for one in pod["ports"]}
    assert (given["port"], given["admin-port"]) == (ports["http"], ports["plans"])
    assert given["plan"].startswith(pod["volumeMounts"][0]["mountPath"])
    assert router["spec"]["replicas"] == 1
    open_to_all = [rule for rule in policy["spec"]["ingress"] if "from" not in rule]
    assert open_to_all == [{"ports": [{"port": "http"}]}]
    assert rollout.free([given["stable"]]) == "green"


def released(colour, image):
    """Return the manifests as the workflow writes them."""
    line = next(words for words in commands("cd.yaml") if words[0] == "sed")
    files = [DEPLOY / Path(word).name for word in line if word.startswith("$CASE")]
    marks = [one.strip('"') for one in re.findall(r'"s[^"]*"', " ".join(line))]
    marks = [one.replace("$COLOUR", colour).replace("$DIGEST", image) for one in marks]
    words = ["sed", *(part for one in marks for part in ("-e", one)), *files]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("colour", ["blue", "green"])
def test_a_release_writes_one_colour_and_the_digest_of_the_image_that_was_tested(colour, tmp_path):
    image = "registry.example.com/card-payments@sha256:" + "a" * 64
    text = released(colour, image)
    (tmp_path / "release.yaml").write_text(text)
    assert lint(("kubernetes-validate", "--strict"), tmp_path / "release.yaml")[0] == 0
    assert "colour: colour" not in text and "-colour" not in text
    written = list(yaml.safe_load_all(text))
    stored = [*documents("deployment.yaml"), *documents("hpa.yaml")]
    assert [one["kind"] for one in written] == [one["kind"] for one in stored]
    made = [one for one in written if one["kind"] == "Deployment"]
    assert [one["metadata"]["name"] for one in made] == [f"card-payments-{colour}"]
    assert made[0]["spec"]["template"]["spec"]["containers"][0]["image"] == image
    assert made[0]["spec"]["selector"]["matchLabels"]["colour"] == colour
    stored = documents("deployment.yaml")[0]["spec"]["template"]["spec"]["containers"][0]["image"]
    assert stored.endswith("@sha256:" + "0" * 64)  # nobody can deploy the file as it stands


def commands(name):
    for job in documents(name)[0]["jobs"].values():
        for step in job["steps"]:
            for line in step.get("run", "").splitlines():
                yield line.split()


def missing(words):
    """Return what of a command is not there: a module, a program or a file of the tests."""
    lacks = [w for w in words if w.startswith("tests/") and not (require_checkout() / w).exists()]
    if words[:2] == ["python", "-m"]:
        known = words[2] == "mypy" or find_spec(words[2])  # ci.yaml installs mypy
        return lacks if known else [*lacks, words[2]]
    outside = ("docker", "kubectl", "sed", "echo")  # of the machine that runs the workflow
    found = words[0] in outside or (BIN / words[0]).exists() or shutil.which(words[0])
    return lacks if found else [*lacks, words[0]]


def test_the_commands_of_the_workflows_exist():
    given = [words for name in WORKFLOWS for words in commands(name)]
    assert len(given) > 10
    assert [missing(words) for words in given if missing(words)] == []
    assert missing(["python", "-m", "casebook.nothing"]) == ["casebook.nothing"]
    assert missing(["python", "-m", "pytest", "tests/none.py"]) == ["tests/none.py"]


def steps_of(name, job):
    return [step.get("name") for step in documents(name)[0]["jobs"][job]["steps"]]


def test_each_kind_of_check_stands_before_a_release():
    assert {"lint", "types", "unit", "integration"} <= {*steps_of("ci.yaml", "check")}
    order = ["model", "build", "start", "smoke", "load", "push"]
    assert [one for one in steps_of("cd.yaml", "image") if one in order] == order
    jobs = documents("cd.yaml")[0]["jobs"]
    smoke = next(step for step in jobs["image"]["steps"] if step.get("name") == "smoke")
    start = next(step for step in jobs["image"]["steps"] if step.get("name") == "start")
    assert "--url http://127.0.0.1:18080" in smoke["run"]  # of the image, not of the checkout
    assert "127.0.0.1:18080:8080" in start["run"]
    assert jobs["production"]["needs"] == "image"
    assert steps_of("cd.yaml", "production")[-2:] == ["canary", "decide"]
    usual = rollout.STAGES[1].requests / (rollout.STAGES[1].share * 87)  # seconds
    assert 60 * jobs["production"]["timeout-minutes"] > Pace().slack * usual + 3_600


def test_a_pod_does_what_the_simulator_says_and_is_tested_with_that_much_of_a_core():
    pod = documents("deployment.yaml")[0]["spec"]["template"]["spec"]["containers"][0]
    given = pod["resources"]["limits"]["cpu"]
    assert given == pod["resources"]["requests"]["cpu"]
    core, fleet = int(given.removesuffix("m")) / 1000, autoscaling.Fleet()
    table = bench.recorded(CHAPTER, "capacity").frame
    full = table[table["p99"] < 250].iloc[-1]
    does = core * full["answered"] / full["cpu"]
    assert does == pytest.approx(fleet.per_pod / fleet.cpu, rel=0.4)
    text = (DEPLOY / "cd.yaml").read_text()
    assert f"--cpus {core:g} " in text and f"--rps {fleet.per_pod:g}" in text


def test_a_release_names_its_image_by_digest_and_never_updates_what_serves():
    text = (DEPLOY / "cd.yaml").read_text()
    assert "set image" not in text and "rollout undo" not in text
    assert "RepoDigests" in text and "needs.image.outputs.digest" in text


def test_the_arguments_of_a_release_are_those_of_its_commands(capsys):
    given = [words for name in ("cd.yaml", "ct.yaml", "back.yaml") for words in commands(name)]
    given = [words for words in given if words[:2] == ["python", "-m"]]
    assert len(given) == 9
    for words in given:
        with pytest.raises(SystemExit):
            import_module(words[2]).main(["--help"])
        told = capsys.readouterr().out
        assert not [word for word in words if word.startswith("--") and word not in told]
        assert words[3].startswith("--") or re.search(rf"{{[^}}]*\b{words[3]}\b", told)


def test_an_image_is_called_after_its_model():
    docker = (DEPLOY / "Dockerfile").read_text()
    assert "COPY --from=models ${MODEL} /models/${MODEL}" in docker
    assert "MODEL=/models/${MODEL}" in docker
    assert "image.version=${MODEL} org.opencontainers.image.revision=${REVISION}" in docker


def test_a_release_is_given_a_version_alone_and_its_gates_are_asked_of_what_serves():
    given = documents("cd.yaml")[0][True]["workflow_dispatch"]["inputs"]
    assert [*given] == ["version"]  # its model is the registry's, not typed beside it
    steps = steps_of("ct.yaml", "train")
    assert steps.index("champion") < steps.index("gates")
    for words in (words for name in WORKFLOWS for words in commands(name)):
        if words[:2] == ["python", "-m"] and words[2].endswith(".rollout"):
            options = {word.strip("-") for word in words if word.startswith("--")}
            assert {*rollout.NEEDS[words[3]]} == options


def inside(text):
    """Return what a workflow keeps in its checkout, which the next run finds empty."""
    return re.findall(r"(?:_build|--folder (?!/data/)|--registry (?!/data/))\S*", text)


@pytest.mark.parametrize("name", [*WORKFLOWS, "Dockerfile", "Dockerfile.dockerignore"])
def test_models_are_kept_outside_the_checkout_which_each_run_empties(name):
    text = (DEPLOY / name).read_text()
    said = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    assert inside("\n".join(said)) == []
    assert inside("gates --folder _build/pipeline --registry registry.db") != []


def test_an_image_gets_its_model_from_where_the_training_keeps_it():
    kept = next(words[words.index("--folder") + 1] for words in commands("ct.yaml"))
    build = next(words for words in commands("cd.yaml") if words[:2] == ["docker", "build"])
    assert build[build.index("--build-context") + 1] == f"models={kept}"
