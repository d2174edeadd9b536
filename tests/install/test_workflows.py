"""What CI does: scripts that exist, least permissions, limits, no secret, verified actions."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

import pytest
import yaml

from casebook.project import require_checkout

ROOT = require_checkout()
FOLDER = ROOT / ".github" / "workflows"
WORKFLOWS = sorted(path.name for path in FOLDER.glob("*.y*ml"))
READ_ONLY = {"contents": "read"}
#: What a job may have beyond reading, and the only workflow that may.
DEPLOY = {"pages": "write", "id-token": "write"}
SECRET = re.compile(r"secrets\.|github\.token|GITHUB_TOKEN|ACTIONS_ID_TOKEN", re.I)
PRINTS_ALL = re.compile(r"\b(env|printenv|set)\s*($|[|;&])|\bset -x|toJSON\((env|github)\)", re.M)
#: Hosts from which packages come: pip and npm know theirs, no file of ours names one.
REGISTRY = re.compile(
    r"py(?:pi|thonhosted)\.|npm(?:js)\.|pkg\.dev|(?:ana)conda\.|download\.py(?:torch)", re.I
)


def targets() -> set[str]:
    """Return the targets of the Makefile."""
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.M))


def command_faults(command: str) -> list[str]:
    """Return what is wrong with the commands of a ``run`` step."""
    found = []
    for line in filter(str.strip, command.splitlines()):
        first, *rest = shlex.split(line)
        if first == "make":
            goals = [word for word in rest if "=" not in word]
            found += [f"no make target {goal!r}" for goal in goals if goal not in targets()]
            found += [] if goals else ["make without a target"]
        elif not (ROOT / first).is_file():
            found.append(f"no file {first!r}")
        elif not os.access(ROOT / first, os.X_OK):
            found.append(f"{first!r} is not executable")
    return found


def action_faults(action: str, text: str) -> list[str]:
    if re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40}", action):
        return [] if re.search(rf"{action} # v\d", text) else [f"{action} without its version"]
    return [f"{action} is not pinned by a full hash"]


def faults(text: str) -> list[str]:
    """Return what is wrong with a workflow."""
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        return [f"no valid YAML: {error}"]
    found = [f"the key {key!r} is missing" for key in ("name", "jobs") if key not in content]
    if True not in content:  # YAML 1.1 reads the key `on` as true
        found.append("the key 'on' is missing")
    if content.get("permissions") != READ_ONLY:
        found.append(f"the permissions are {content.get('permissions')}, not {READ_ONLY}")
    if "group" not in content.get("concurrency", {}):
        found.append("no concurrency group")
    if "pull_request_target" in text:
        found.append("pull_request_target runs foreign code with our rights")
    found += [f"{match[0]!r}: a secret" for match in SECRET.finditer(text)]
    found += [f"{match[0]!r}: a package registry" for match in REGISTRY.finditer(text)]
    for name, job in content.get("jobs", {}).items():
        where = f"job {name}: "
        limit = job.get("timeout-minutes")
        if not isinstance(limit, int) or not 0 < limit <= 120:
            found.append(f"{where}the time limit is {limit}")
        given = job.get("permissions", READ_ONLY)
        if given != READ_ONLY and (given != DEPLOY or content.get("name") != "publish"):
            found.append(f"{where}the permissions are {given}")
        for step in job.get("steps", []):
            if ("run" in step) == ("uses" in step):
                found.append(f"{where}a step with both or none of run and uses")
            run = str(step.get("run", ""))
            found += [where + fault for fault in command_faults(run)]
            if PRINTS_ALL.search(run):
                found.append(f"{where}prints its environment")
            if "${{" in run:
                found.append(f"{where}an expression within a command: pass it by env")
            if "uses" in step:
                found += [where + fault for fault in action_faults(step["uses"], text)]
                checks_out = step["uses"].startswith("actions/checkout")
                if checks_out and step.get("with", {}).get("persist-credentials") is not False:
                    found.append(f"{where}checkout keeps its token")
    return found


def test_these_workflows_are_there():
    assert WORKFLOWS == ["publish.yml", "test.yml", "weekly.yml"]


@pytest.mark.parametrize("name", WORKFLOWS)
def test_workflow_is_in_order(name):
    assert faults((FOLDER / name).read_text()) == []


def test_each_does_its_work():
    def runs(name: str) -> list[str]:
        jobs = yaml.safe_load((FOLDER / name).read_text())["jobs"]
        return [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]

    assert runs("test.yml") == [".ci/run"]
    assert runs("weekly.yml") == ["make links", ".ci/run test-all", ".ci/colab chapters/*.ipynb"]
    assert runs("publish.yml") == ['make released TAG="$GITHUB_REF_NAME"', "make slides"]


PLANTED = {
    "syntax": ("jobs:", "jobs: [", "no valid YAML"),
    "write": ("contents: read", "contents: write", "the permissions are {'contents': 'write'}"),
    "none": ("permissions:\n  contents: read\n", "", "the permissions are None"),
    "target": ("run: .ci/run", "run: make tests", "no make target 'tests'"),
    "bare": ("run: .ci/run", "run: make", "make without a target"),
    "file": ("run: .ci/run", "run: .ci/runs", "no file '.ci/runs'"),
    "plain": ("run: .ci/run", "run: README.md", "is not executable"),
    "second": ("run: .ci/run", "run: |\n          .ci/run\n          pip list", "no file 'pip'"),
    "secret": ("run: .ci/run", "run: .ci/run ${{ secrets.KEY }}", "a secret"),
    "printed": ("run: .ci/run", "run: .ci/run | env", "prints its environment"),
    "traced": ("run: .ci/run", "run: |\n          set -x\n          .ci/run", "prints its env"),
    "injected": ("run: .ci/run", "run: .ci/run ${{ github.head_ref }}", "pass it by env"),
    "no limit": ("    timeout-minutes: 120\n", "", "the time limit is None"),
    "long": ("timeout-minutes: 120", "timeout-minutes: 600", "the time limit is 600"),
    "no group": ("  group: test-${{ github.ref }}\n", "", "no concurrency group"),
    "job": ("    timeout-", "    permissions: {pages: write}\n    timeout-", "job test: the perm"),
    "tag": ("@11bd71901bbe5b1630ceea73d27597364c9af683 # v4.2.2", "@v4", "not pinned by a full"),
    "short": ("@11bd71901bbe5b1630ceea73d27597364c9af683", "@11bd719", "not pinned by a full"),
    "unnamed": ("c9af683 # v4.2.2", "c9af683", "without its version"),
    "foreign": ("uses: actions/cache@", "uses: someone/cache@", "not pinned by a full hash"),
    "token": ("persist-credentials: false", "persist-credentials: true", "keeps its token"),
    "target event": ("pull_request:", "pull_request_target:", "foreign code with our rights"),
    "host": ("run: .ci/run", "run: .ci/run --index-url https://Py" + "PI.org", "registry"),
}


@pytest.mark.parametrize("planted", PLANTED)
def test_gate_planted_faults(planted):
    old, new, expected = PLANTED[planted]
    text = (FOLDER / "test.yml").read_text()
    assert old in text
    found = faults(text.replace(old, new, 1))
    assert any(expected in fault for fault in found), found


def files_of_ci() -> list[Path]:
    return [ROOT / "Makefile", *sorted((ROOT / ".ci").iterdir()), *sorted(FOLDER.iterdir())]


@pytest.mark.parametrize("path", files_of_ci(), ids=lambda path: path.name)
def test_no_file_of_ci_names_a_package_registry(path):
    assert REGISTRY.findall(path.read_text()) == []
