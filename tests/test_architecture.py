"""Keeps the import directions of the two packages, read from the syntax trees (nothing is imported)."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# Which parts of each package a part may import at all. A part not listed may import nothing of its own package.
GLMDOCTOR = {
    "": {"diagnosis"},
    "__main__": {"cli"},
    "cli": {
        "diagnosis", "repair", "actions", "explain", "reports", "checks", "knowledge", "findings", "host", "messages",
        "",
    },
    "diagnosis": {"checks", "remedies", "findings", "host"},
    "reports": {
        "repair", "actions", "explain", "findings", "messages", "knowledge", "host.facts", "private", "people", "",
    },
    "repair": {"diagnosis", "checks", "remedies", "actions", "findings", "host", "messages"},
    "remedies": {"readings", "actions", "findings", "knowledge", "messages", "host.facts"},
    "checks": {"readings", "findings", "knowledge", "messages", "host.facts"},
    "readings": {"findings", "knowledge", "host.facts"},
    "actions": {"host", "messages"},
    "explain": {"knowledge"},
    "knowledge": set(),
    "findings": {"messages"},
    "messages": set(),
    "private": set(),
    "people": {"private"},
    "host": {"host", "host.facts", "private", "people"},
}  # fmt: skip
GLMDOCTOR_OF_GLMCORE = {
    "compiled.checks", "compiled.manifest",
    "plan", "config", "errors", "output", "folders", "programs", "workers", "reading", "kernels.build",
    "kernels.failure", "kernels.opening", "checkpoint.tables", "startup",
    "layout", "checkpoint.headers", "checkpoint.pickles", "tokenizers.ranks",
    "cluster.session", "cluster.examination", "cluster.nodes", "checkpoint.locate", "extras",
}  # fmt: skip

GLMCORE = {
    "": {"config", "errors", "engine", "place"},
    "versions": set(),
    "__main__": {"cli", "startup"},
    "startup": set(),
    "digest": {"folders", "output", "reading"},
    "machine": {"folders", "output", "plan", "kernels"},
    "cli": {
        "machine",
        "folders",
        "programs",
        "compiled",
        "server",
        "cluster",
        "bench",
        "engine",
        "place",
        "models",
        "quant",
        "kernels",
        "checkpoint",
        "tokenizers",
        "chat",
        "plan",
        "config",
        "errors",
        "extras",
        "demo",
        "golden",
        "output",
        "reading",
        "",
    },
    "cluster": {
        "checkpoint", "chat", "config", "demo", "digest", "engine", "errors", "folders", "kernels", "machine", "output",
        "place", "plan", "programs", "reading", "server", "tokenizers", "",
    },
    "server": {"grammar", "engine", "tokenizers", "chat", "plan", "config", "errors", "demo", "programs", ""},
    "bench": {"layout", "engine", "place", "models", "quant", "kernels", "checkpoint", "plan", "config", "errors"},
    "grammar": {"tokenizers", "chat", "traits", "programs", "extras", "errors"},
    "engine": {
        "grammar",
        "layout",
        "machine",
        "place",
        "models",
        "quant",
        "kernels",
        "checkpoint",
        "tokenizers",
        "chat",
        "plan",
        "config",
        "reading",
        "errors",
        "demo",
        "versions",
    },
    "compiled": {
        "layout", "engine", "place", "models", "quant", "packing", "kernels", "checkpoint", "plan", "config", "golden",
        "output", "folders", "reading", "programs", "errors", "digest", "",
    },
    "place": {"layout", "models", "quant", "kernels", "checkpoint", "plan", "config", "reading", "errors"},
    "huggingface": {
        "layout",
        "engine",
        "models",
        "quant",
        "kernels",
        "checkpoint",
        "tokenizers",
        "chat",
        "place",
        "config",
        "reading",
        "errors",
        "versions",
        "traits",
    },
    "models": {"quant", "kernels", "config", "errors"},
    "quant": {"packing", "kernels", "config", "errors", "checkpoint"},
    "kernels": {"packing", "folders", "output", "programs", "workers", "config", "errors"},
    "checkpoint": {"layout", "packing", "config", "output", "reading", "errors"},
    "tokenizers": {"traits", "chat", "config", "reading", "errors"},
    "chat": {"traits", "errors"},
    "plan": {"layout", "config", "reading", "errors"},
    "demo": {"config", "errors"},
    "golden": {"checkpoint", "output", "errors"},
    "layout": {"config"},
    "config": {"reading", "errors", "traits"},
    "traits": set(),
    "output": {"errors"},
    "packing": {"errors"},
    "reading": {"errors"},
    "folders": set(),
    "programs": {"folders"},
    "isolated": set(),
    "workers": set(),
    "errors": set(),
    "extras": {"programs"},
}
WITHOUT_TORCH = [
    "glmcore/__init__.py", "glmcore/errors.py", "glmcore/output.py", "glmcore/reading.py", "glmcore/config",
    "glmcore/layout.py", "glmcore/traits.py", "glmcore/machine.py", "glmcore/plan", "glmcore/chat", "glmcore/grammar",
    "glmcore/kernels/build.py", "glmcore/kernels/opening.py", "glmcore/kernels/abi.py", "glmcore/kernels/plain_step.py",
    "glmcore/kernels/reading.py",
    "glmcore/engine/sequence.py", "glmcore/engine/batch/scheduler.py", "glmcore/engine/batch/costs.py",
    "glmcore/engine/batch/lookup.py", "glmcore/engine/batch/worth.py", "glmdoctor",
    "glmcore/digest.py",
    "glmcore/folders.py", "glmcore/programs.py", "glmcore/isolated.py", "glmcore/workers.py", "glmcore/startup.py",
    *(f"glmcore/checkpoint/{name}.py" for name in ("__init__", "headers", "pickles", "tables")),
    *(f"glmcore/compiled/{name}.py" for name in ("__init__", "manifest", "checks")),
    *(f"glmcore/compiled/{name}.py" for name in ("questions", "throughput", "wishes")),
    "glmcore/tokenizers/ranks.py",
    *(
        f"glmcore/cluster/{name}.py"
        for name in (
            "__init__", "examination", "fingerprints", "nodes", "planning", "probe", "router", "session", "table",
        )
    ),
    *(f"glmcore/server/{name}.py" for name in ("__init__", "address", "errors", "guard", "schemas")),
    "glmcore/server/dialects/failures.py",
]  # fmt: skip


def imports(path: Path) -> list[tuple[str, bool]]:
    """(dotted name, at module level?) of every absolute import; ``from a import b`` gives a.b."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and getattr(node.test, "id", None) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    top = {id(node) for node in tree.body}
    found: list[tuple[str, bool]] = []
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            found += [(alias.name, id(node) in top) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found += [(f"{node.module}.{alias.name}", id(node) in top) for alias in node.names]
    return found


def part_of(name: str, package: str) -> str:
    """The part of the package that a module belongs to: its first component (for the host, facts apart)."""
    inside = name.split(".")[1:]
    if ".".join(inside[:2]) in ("host.facts", *GLMDOCTOR_OF_GLMCORE):
        return ".".join(inside[:2])
    first = inside[0] if inside else ""
    is_module = (ROOT / package / first).is_dir() or (ROOT / package / f"{first}.py").exists()
    return first if is_module else ""


def modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("package, allowed", [("glmdoctor", GLMDOCTOR), ("glmcore", GLMCORE)])
def test_imports_follow_the_directions(package: str, allowed: dict[str, set[str]]) -> None:
    wrong = []
    for path in modules(package):
        own = part_of(".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"), package)
        own = own.split(".")[0]
        for name, _ in imports(path):
            if name.split(".")[0] != package:
                continue
            part = part_of(name, package)
            if part.split(".")[0] != own and part not in allowed[own] and part.split(".")[0] not in allowed[own]:
                wrong.append(f"{path.relative_to(ROOT)} imports {name}")
    assert not wrong, "\n".join(wrong)


def test_every_rule_is_about_a_room_that_exists() -> None:
    named = {(package, room) for package, rules in (("glmdoctor", GLMDOCTOR), ("glmcore", GLMCORE))
             for part, others in rules.items() for room in {part, *others}}  # fmt: skip
    named |= {("glmcore", module) for module in GLMDOCTOR_OF_GLMCORE}
    places = {each: ROOT / each[0] / each[1].replace(".", "/") for each in named if each[1]}
    assert not [each for each, path in places.items() if not path.is_dir() and not path.with_suffix(".py").exists()]


def test_kernels_and_quantisation_form_no_circle() -> None:
    """The layers use the kernels; what both stand on is the packing."""
    assert "quant" not in GLMCORE["kernels"]
    tied = [path for path in (ROOT / "glmcore" / "kernels").rglob("*.py") if "glmcore.quant" in path.read_text("utf-8")]
    assert not tied, tied


def test_the_doctors_rooms_form_no_circle() -> None:
    """Rooms are taken away as long as one asks no other; what is left asks in a circle."""
    asks = {room: {part.split(".")[0] for part in parts} - {room, ""} for room, parts in GLMDOCTOR.items()}
    while free := {room for room, parts in asks.items() if not parts}:
        asks = {room: parts - free for room, parts in asks.items() if room not in free}
    assert not asks


def test_the_packages_meet_only_at_torch_free_modules() -> None:
    wrong = []
    for path in modules("glmdoctor"):
        for name, _ in imports(path):
            if name.split(".")[0] == "glmcore" and part_of(name, "glmcore") not in GLMDOCTOR_OF_GLMCORE:
                wrong.append(f"{path.relative_to(ROOT)} imports {name}")
    for path in modules("glmcore"):
        wrong += [f"{path.relative_to(ROOT)} imports {n}" for n, _ in imports(path) if n.split(".")[0] == "glmdoctor"]
    assert not wrong, "\n".join(wrong)


def test_light_modules_import_no_torch() -> None:
    heavy = {"torch", "transformers", "numpy", "cpm_kernels"}
    wrong = []
    for place in WITHOUT_TORCH:
        paths = [ROOT / place] if place.endswith(".py") else sorted((ROOT / place).rglob("*.py"))
        for path in paths:
            wrong += [
                f"{path.relative_to(ROOT)} imports {n}" for n, top in imports(path) if top and n.split(".")[0] in heavy
            ]
    assert not wrong, "\n".join(wrong)


# What starts a program, or finds one, and the only files that do: all others go through glmcore.programs, which takes
# nothing from the current folder. ``launch`` becomes the command that the user named.
STARTERS = {"subprocess", "multiprocessing", "pty", "os.system", "os.popen", "os.fork", "os.startfile", "shutil.which"}
STARTING = {"glmcore/programs.py", "glmdoctor/cli/launch.py"}
# They ask which interpreter is examined.
OWN_PYTHON = {"glmcore/programs.py", "glmdoctor/host/host.py", "glmdoctor/host/probes/python.py"}


def starters(path: Path) -> set[str]:
    """What of STARTERS (and os.exec…, os.spawn…, os.posix_spawn…, sys.executable) a module names."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imported = {name for name, _ in imports(path)}  # a fact may be called os too
    used = imported | {
        f"{node.value.id}.{node.attr}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in imported
    }
    families = ("os.exec", "os.spawn", "os.posix_spawn", "sys.executable")
    return {name for name in used if name in STARTERS or name.split(".")[0] in STARTERS or name.startswith(families)}


def test_programs_are_started_in_one_place() -> None:
    wrong = []
    for path in (*modules("glmcore"), *modules("glmdoctor")):
        name = str(path.relative_to(ROOT))
        found = starters(path) - ({"sys.executable"} if name in OWN_PYTHON else set())
        if found and name not in STARTING:
            wrong.append(f"{name} uses {', '.join(sorted(found))}")
    assert not wrong, "\n".join(wrong)


# All that the rooms which only decide may use: nothing reads a file, a clock, the environment, or starts a program.
PURE_ROOMS = ("checks", "readings", "remedies")
PURE = {
    "__future__", "ast", "collections.abc", "dataclasses", "difflib", "enum", "functools", "importlib.resources",
    "itertools", "json", "packaging", "posixpath", "re", "shlex", "traceback", "typing", "urllib.parse",
}  # fmt: skip
OF_PLUGINS = {"glmdoctor/checks/plugins.py": {"importlib.metadata"}}  # whose entry points name checks
IMPURE_NAMES = {"open", "print", "input", "exec", "eval", "compile", "__import__"}
IMPURE_PATHS = {
    "abspath", "exists", "expanduser", "expandvars", "getsize", "isdir", "isfile", "islink", "lexists", "realpath",
}  # fmt: skip


def impure(path: Path) -> set[str]:
    """What a module uses beyond pure words."""
    allowed = PURE | OF_PLUGINS.get(str(path.relative_to(ROOT)), set())
    own = ("glmdoctor.", "glmcore.")
    foreign = [name for name, _ in imports(path) if not name.startswith(own)]
    used = {name for name in foreign if not any(f"{name}.".startswith(f"{word}.") for word in allowed)}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in IMPURE_NAMES:
            used.add(node.func.id)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "posixpath":
            used |= {node.attr} & IMPURE_PATHS
    return used | {name for name, _ in imports(path) if name.split(".")[-1] in IMPURE_PATHS}


def test_checks_readings_and_remedies_touch_nothing() -> None:
    paths = [path for room in PURE_ROOMS for path in sorted((ROOT / "glmdoctor" / room).rglob("*.py"))]
    wrong = {str(path.relative_to(ROOT)): found for path in paths if (found := impure(path))}
    assert len(paths) > 40 and not wrong, wrong


def test_what_is_decided_and_done_reads_no_evidence_back() -> None:
    """It is for people and programs; a remedy goes by the finding's payload, which has a type."""
    paths = [path for room in ("remedies", "actions", "repair") for path in (ROOT / "glmdoctor" / room).rglob("*.py")]
    reads = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in paths
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr == "evidence"
    ]
    assert len(paths) > 20 and not reads, reads


def test_nothing_is_imported_before_the_current_folder_is_gone() -> None:
    """``python -m`` puts it first: what comes before it is left must be loaded already, or lie in this installation."""
    loaded = {"os", "sys", "__future__"}
    for path in ("glmcore/__init__.py", "glmdoctor/__init__.py", "glmcore/startup.py"):
        assert {name.split(".")[0] for name, top in imports(ROOT / path) if top} <= loaded, path
    for package in ("glmcore", "glmdoctor"):
        path = ROOT / package / "__main__.py"
        assert [name for name, _ in imports(path)] == ["os", "sys", "glmcore.startup", f"{package}.cli.main"]
        statements = [ast.unparse(node) for node in ast.parse(path.read_text(encoding="utf-8")).body]
        first, left = (
            next(i for i, line in enumerate(statements) if line.startswith(word)) for word in ("sys.path.", "startup.")
        )
        found = [i for i, line in enumerate(statements) if line.startswith("from ")]
        assert first < found[0] < left < found[1]


def test_rich_stays_in_the_reports() -> None:
    wrong = [
        str(path.relative_to(ROOT))
        for path in modules("glmdoctor")
        if "reports" not in path.parts and any(name.split(".")[0] == "rich" for name, _ in imports(path))
    ]
    assert not wrong, wrong


def test_few_places_ask_for_a_generation_by_its_name() -> None:
    """How generations differ is in ``traits``, in their configurations and in tables: the rest asks those."""
    table = next(
        node.value
        for node in ast.parse((ROOT / "glmcore" / "traits.py").read_text(encoding="utf-8")).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "TRAITS"
    )
    names = {key.value for key in table.keys}  # type: ignore[attr-defined]
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in modules("glmcore")
        if not {"config", "traits.py"} & {*path.parts}
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Compare)
        and any(isinstance(part, ast.Constant) and part.value in names for part in ast.walk(node))
    ]
    assert len(found) <= 4, "\n".join(found)


def test_both_packages_carry_one_version() -> None:
    def version(package: str) -> str:
        tree = ast.parse((ROOT / package / "__init__.py").read_text(encoding="utf-8"))
        [value] = [n.value for n in tree.body if isinstance(n, ast.Assign) and n.targets[0].id == "__version__"]  # type: ignore[attr-defined]
        return ast.literal_eval(value)

    assert version("glmdoctor") == version("glmcore")


def test_a_problem_is_spelled_in_few_files() -> None:
    """Where it is found, where it explains others, and where it is answered; all else goes by a name."""
    problems = json.loads((ROOT / "glmdoctor/knowledge/problems.json").read_text(encoding="utf-8"))
    sources = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in modules("glmdoctor")}
    spelled = {name: [path for path, source in sources.items() if f'"{name}"' in source] for name in problems}
    assert not {name: paths for name, paths in spelled.items() if len(paths) > 3}
