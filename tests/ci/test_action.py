"""The GitHub Action: its steps are run by bash as the runner runs them, with the runner's variables."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
yaml = pytest.importorskip("yaml", reason="PyYAML comes with transformers")
# What GitHub starts for `shell: bash`.
SHELL = ("bash", "--noprofile", "--norc", "-eo", "pipefail", "-c")

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="the action's steps are bash")


@pytest.fixture(scope="module")
def action() -> dict:
    return yaml.safe_load((ROOT / "action.yml").read_text())


def step(action: dict, name: str) -> dict:
    [found] = [step for step in action["runs"]["steps"] if step.get("name") == name]
    return found


def run(step: dict, folder: Path, values: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Fill the step's environment in as the runner does, and run its text."""
    filled = {
        name: re.sub(r"\$\{\{ *([\w.-]+) *\}\}", lambda match: values[match[1]], text)
        for name, text in step["env"].items()
    }
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "LANG": "C.UTF-8", **filled}
    environment["GITHUB_STEP_SUMMARY"] = str(folder / "summary.md")
    return subprocess.run(
        [*SHELL, step["run"]], env=environment, cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )


def installed(temp: Path) -> None:
    """The environment as the first step leaves it: glmdoctor's own program in a folder bin."""
    program = Path(sys.executable).with_name("glmdoctor")
    if not program.exists():
        pytest.skip("glmdoctor is not installed beside this Python")
    (temp / "glmdoctor" / "bin").mkdir(parents=True)
    (temp / "glmdoctor" / "bin" / "glmdoctor").symlink_to(program)


def test_it_is_a_composite_action_whose_inputs_are_used(action: dict) -> None:
    assert action["runs"]["using"] == "composite" and action["name"] and action["description"]
    text = (ROOT / "action.yml").read_text()
    assert set(re.findall(r"inputs\.(\w+)", text)) == action["inputs"].keys() == {"args", "python"}
    for part in action["runs"]["steps"]:
        assert ("uses" in part) != ("run" in part)
        # Texts that others control reach the shell as variables, never as part of the script.
        assert "${{" not in part.get("run", "") and part.get("shell", "bash") == "bash"


def test_the_doctor_is_installed_from_the_actions_own_checkout(action: dict, tmp_path: Path) -> None:
    """Python is a stand-in that writes down what it was asked, and makes the environment's folders."""
    python = tmp_path / "python"
    python.write_text(
        '#!/bin/sh\necho "$@" >>"$HOME/asked"\n'
        'if [ "$2" = venv ]; then mkdir -p "$3/bin"; cp "$0" "$3/bin/python"; fi\n'
    )
    python.chmod(0o755)
    values = {"steps.python.outputs.python-path": str(python), "github.action_path": "/the/action"}
    done = run(step(action, "Install glmdoctor"), tmp_path, {**values, "runner.temp": str(tmp_path / "temp")})
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "asked").read_text().splitlines() == [
        f"-m venv {tmp_path}/temp/glmdoctor",
        "-m pip install --quiet --disable-pip-version-check /the/action",
    ]


@pytest.mark.parametrize("python", ["", sys.executable], ids=["the first on PATH", "named"])
def test_a_machine_without_faults_passes_and_is_summed_up(action: dict, tmp_path: Path, python: str) -> None:
    installed(tmp_path)
    inputs = {"inputs.args": "--only system.cpu --only system.platform", "inputs.python": python}
    done = run(step(action, "Examine the machine"), tmp_path, {**inputs, "runner.temp": str(tmp_path)})
    assert done.returncode == 0, done.stdout + done.stderr
    assert "::error" not in done.stdout
    assert "glmdoctor" in (tmp_path / "summary.md").read_text()


def test_a_fault_fails_the_step_with_an_annotation(action: dict, tmp_path: Path) -> None:
    installed(tmp_path)
    inputs = {"inputs.args": "--model models/nowhere --only model.path", "inputs.python": ""}
    done = run(step(action, "Examine the machine"), tmp_path, {**inputs, "runner.temp": str(tmp_path)})
    assert done.returncode == 1, done.stdout + done.stderr
    assert re.search(r"^::error title=", done.stdout, re.MULTILINE)
    assert "model-path-wrong" in (tmp_path / "summary.md").read_text()


def test_arguments_are_words_and_never_shell(action: dict, tmp_path: Path) -> None:
    installed(tmp_path)
    inputs = {"inputs.args": "--only system.cpu; touch made $(touch made)", "inputs.python": ""}
    done = run(step(action, "Examine the machine"), tmp_path, {**inputs, "runner.temp": str(tmp_path)})
    assert done.returncode == 2
    assert not (tmp_path / "made").exists()


def test_no_arguments_are_none(action: dict, tmp_path: Path) -> None:
    (tmp_path / "glmdoctor" / "bin").mkdir(parents=True)
    program = tmp_path / "glmdoctor" / "bin" / "glmdoctor"
    program.write_text('#!/bin/sh\nfor word; do echo "<$word>"; done\n')
    program.chmod(0o755)
    values = {"inputs.args": "", "inputs.python": "/a python", "runner.temp": str(tmp_path)}
    done = run(step(action, "Examine the machine"), tmp_path, values)
    assert done.stdout.split("\n")[:-1] == ["<check>", "<--format>", "<github>", "<--python>", "</a python>"]


def test_workflows_are_yaml_and_use_what_exists() -> None:
    for path in (ROOT / ".github" / "workflows").glob("*.yml"):
        jobs = yaml.safe_load(path.read_text())["jobs"]
        for part in (part for job in jobs.values() for part in job["steps"]):
            assert ("uses" in part) != ("run" in part)
            if part.get("uses") == "./":
                assert part.get("with", {}).keys() <= {"args", "python"}


INSTRUCTIONS = {"FROM", "RUN", "COPY", "USER", "WORKDIR", "ENV", "CMD"}


def instructions(recipe: str) -> list[tuple[str, str]]:
    """As docker reads it: comments go, a backslash joins lines, and the first word is the instruction."""
    lines = [line for line in recipe.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in joined.splitlines())]


def test_the_container_recipe_reads_as_docker_reads_it() -> None:
    steps = instructions((ROOT / "examples" / "Dockerfile").read_text())
    assert {word for word, _ in steps} <= INSTRUCTIONS
    assert steps[0][0] == "FROM" and [word for word, _ in steps].count("CMD") == 1 and steps[-1][0] == "CMD"
    for word, command in steps:
        if word == "RUN":
            subprocess.run(["sh", "-n", "-c", command], check=True)
    [user] = [name for word, name in steps if word == "USER"]
    made = [
        number for number, (word, rest) in enumerate(steps) if word == "RUN" and f"useradd --create-home {user}" in rest
    ]
    assert made and made[0] < steps.index(("USER", user))
    [home] = [place for word, place in steps if word == "WORKDIR"]
    assert home == f"/home/{user}"


def test_the_container_recipe_names_what_exists() -> None:
    """Every check that the recipe asks for is one, and what it copies into the image is the package."""
    from glmdoctor.checks import ALL

    recipe = (ROOT / "examples" / "Dockerfile").read_text()
    asked = re.findall(r"--(?:only|skip) ([\w.-]+)", recipe)
    assert asked and set(asked) <= {check.id for check in ALL}
    assert "/src[core]" in recipe and (ROOT / "setup.cfg").exists()
    [command] = re.findall(r"^CMD (.+)$", recipe, re.MULTILINE)
    assert yaml.safe_load(command)[:2] == ["sh", "-c"]
    subprocess.run(["sh", "-n", "-c", yaml.safe_load(command)[2]], check=True)
