"""Measures how the house is built: rooms, imports, spread of ids, generation switches, function lengths, docstrings.

``python scripts/house.py [ROOT]`` prints a table for the checkout at ROOT (this one by default). Standard library only.
A room is a package's direct child: a folder, or a module beside ``__init__`` and ``__main__``.
"""

from __future__ import annotations

import ast
import json
import re
import statistics
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

Function = ast.FunctionDef | ast.AsyncFunctionDef

PACKAGES = ("glmdoctor", "glmcore")
SHAPE = r"\[[\w .,·*/+]+\]|shape"  # [B, S, hidden size]
ERROR = r"Error|[Rr]aises"
# Where a generation's name may be asked for: the table of what they differ in, and the reader of configurations.
ASKED_IN = {"config", "traits"}


def modules(root: Path, package: str) -> dict[Path, ast.Module]:
    return {path: ast.parse(path.read_text(encoding="utf-8")) for path in sorted((root / package).rglob("*.py"))}


def room(root: Path, package: str, dotted: str) -> str:
    """The room that a module of the package lies in, "" for the package itself."""
    inside = dotted.split(".")[1:]
    base = root / package
    known = inside and ((base / inside[0]).is_dir() or (base / f"{inside[0]}.py").exists())
    return inside[0] if known and inside[0] not in ("__init__", "__main__") else ""


def imported(tree: ast.Module) -> list[str]:
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


def arrows(root: Path, package: str) -> tuple[set[str], set[tuple[str, str]]]:
    """The rooms, and which imports which (imports for type checkers too)."""
    rooms, found = set(), set()
    for path, tree in modules(root, package).items():
        own = room(root, package, ".".join(path.relative_to(root).with_suffix("").parts))
        rooms.add(own)
        others = {room(root, package, name) for name in imported(tree) if name.split(".")[0] == package}
        found |= {(own, other) for other in others if "" not in (own, other) and own != other}
    return rooms - {""}, found


def circles(found: set[tuple[str, str]]) -> list[tuple[str, str]]:
    """Pairs of rooms that reach each other."""
    reach = set(found)
    while more := {(a, d) for a, b in reach for c, d in reach if b == c} - reach:
        reach |= more
    return sorted((a, b) for a, b in reach if a < b and (b, a) in reach)


def id_files(root: Path) -> tuple[int, str]:
    """The most Python files that spell one problem's id, and that id."""
    ids = set(json.loads((root / "glmdoctor/knowledge/problems.json").read_text(encoding="utf-8")))
    counts: Counter[str] = Counter()
    for package in PACKAGES:
        for tree in modules(root, package).values():
            texts = {n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)}
            counts.update(ids & texts)
    [(name, count)] = counts.most_common(1)
    return count, name


def generations(root: Path) -> set[str]:
    """Their names: the keys of the table of what they differ in."""
    tree = ast.parse((root / "glmcore/traits.py").read_text(encoding="utf-8"))
    tables = [node for node in tree.body if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "TRAITS"]
    return set(ast.literal_eval(ast.Set([key for table in tables for key in table.value.keys])))


def comparisons(root: Path) -> int:
    """How often code of glmcore compares something with a generation's name."""
    found, known = 0, generations(root)
    for path, tree in modules(root, "glmcore").items():
        if room(root, "glmcore", ".".join(path.relative_to(root).with_suffix("").parts)) in ASKED_IN:
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Compare):
                names = {n.value for n in ast.walk(node) if isinstance(n, ast.Constant) and isinstance(n.value, str)}
                found += bool(names & known)
    return found


def lengths(root: Path) -> list[int]:
    """Lines of every function of both packages, its docstring apart, in order."""
    return sorted(
        node.end_lineno - node.lineno + 1 - documented(node)
        for package in PACKAGES
        for tree in modules(root, package).values()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno is not None
    )


def documented(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    first = node.body[0]
    if ast.get_docstring(node) is None or first.end_lineno is None:
        return 0
    return first.end_lineno - first.lineno + 1


def told(root: Path, package: str, asks: Callable[[Function], bool], says: str) -> dict[str, bool]:
    """Of a package's public functions that ``asks`` picks, by place and name: whether the docstring matches ``says``.

    What a class says, or the method of the same name that is carried out, counts too.
    """
    found = {}
    for path, tree in modules(root, package).items():
        named: dict[str, str] = {}
        for node in ast.walk(tree):
            if isinstance(node, Function):
                named[node.name] = f"{named.get(node.name, '')} {ast.get_docstring(node) or ''}"
        for owner in [tree, *(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name[0] != "_")]:
            for node in owner.body:
                if isinstance(node, Function) and node.name[0] != "_" and asks(node):
                    text = f"{ast.get_docstring(owner) or ''} {ast.get_docstring(node) or named[node.name]}"
                    found[f"{path.relative_to(root)}:{node.lineno} {node.name}"] = bool(re.search(says, text))
    return found


def takes_tensors(node: Function) -> bool:
    """Whether an argument or the result is a tensor. (Commands and properties are no functions to a caller.)"""
    arguments = [each.annotation for each in (*node.args.args, *node.args.kwonlyargs)]
    words = " ".join(ast.unparse(each) for each in (*arguments, node.returns) if each is not None)
    return not node.decorator_list and re.search(r"\bTensor\b", words) is not None


def raises(node: Function) -> bool:
    """Whether it raises an error itself; a process that ends is none."""
    raised = [each.exc for each in ast.walk(node) if isinstance(each, ast.Raise) and each.exc is not None]
    return not node.decorator_list and any("SystemExit" not in ast.unparse(error) for error in raised)


def counted(found: dict[str, bool]) -> str:
    return f"{sum(found.values())} of {len(found)}"


def measured(root: Path) -> dict[str, str]:
    table = {}
    for package in PACKAGES:
        rooms, found = arrows(root, package)
        table[f"{package}: rooms"] = str(len(rooms))
        table[f"{package}: arrows between rooms"] = str(len(found))
        table[f"{package}: pairs of rooms in a circle"] = re.sub("[][()']", "", str(circles(found))) or "none"
    count, name = id_files(root)
    table["files that spell one problem's id, at most"] = f"{count} ({name})"
    table["comparisons with a generation's name"] = str(comparisons(root))
    lines = lengths(root)
    p90 = lines[int(len(lines) * 0.9)]
    table["lines of a function: median, p90, longest"] = f"{statistics.median(lines):g}, {p90}, {lines[-1]}"
    table["docstrings of tensor functions with shapes"] = counted(told(root, "glmcore", takes_tensors, SHAPE))
    for package in PACKAGES:
        table[f"{package}: docstrings of what raises with the errors"] = counted(told(root, package, raises, ERROR))
    return table


def main() -> None:
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent.parent
    for name, value in measured(root).items():
        print(f"{name:52} {value}")


if __name__ == "__main__":
    main()
