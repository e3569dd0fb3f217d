"""The library chain as a drawing: who links to whom, and which file each consumer gets. Inline SVG, no script.

Files stand in the last column, the links that lead to them before it, by how many links they are away; the consumers
stand in the first column, each with an arrow to the name that its own search takes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from html import escape
from typing import TYPE_CHECKING

from glmdoctor.host.facts import Cpm, Library, Loader, Nvml, Unknown
from glmdoctor.messages import Text, text

if TYPE_CHECKING:
    from glmdoctor.host.host import Host

CHARACTER, ROW, BOX, MARGIN, SPACE = 6.7, 50, 36, 12, 56  # pixels
DRIVER_NAMES = {"cuda": "libcuda.so.1", "nvidia-ml": "libnvidia-ml.so.1"}


@dataclass(frozen=True)
class Consumer:
    name: Text
    takes: str | None  # the path that its search gives
    rule: str
    real: str | None = None  # the file behind that path


@dataclass
class Node:
    path: str
    label: str
    note: str
    bad: bool
    column: int = 0
    row: int = 0


def consumers(cpm: Cpm | Unknown, loader: Loader | Unknown, nvml: Nvml | Unknown) -> list[Consumer]:
    """Each program that opens one of these libraries, and what its own search finds."""
    found = []
    if not isinstance(cpm, Unknown):
        found += [Consumer(text("cpm_kernels: {library}", library=h.library), h.path, h.rule, h.real) for h in cpm.hits]
    if not isinstance(loader, Unknown):
        torch = loader.resolved.get(DRIVER_NAMES["cuda"])
        found.append(Consumer(text("torch, by the dynamic loader"), torch, DRIVER_NAMES["cuda"]))
        library = nvml.library if not isinstance(nvml, Unknown) else None
        management = library or loader.resolved.get(DRIVER_NAMES["nvidia-ml"])
        found.append(Consumer(text("NVML (pynvml)"), management, DRIVER_NAMES["nvidia-ml"]))
    return found


def draw(host: Host, language: str, redact: Callable[[str], str], *, failing: bool) -> str:
    """The drawing as an ``<svg>`` element; faults are red only where a check of libraries is ``failing``.

    On a machine that needs no card nothing is wrong with a library that is not there.
    """
    libraries = () if isinstance(host.libraries, Unknown) else host.libraries
    users = [replace(user, rule=redact(user.rule)) for user in consumers(host.cpm, host.loader, host.nvml)]
    libraries = (*libraries, *_other_names(libraries, users))
    nodes = _nodes(libraries, users, redact)
    starts = _columns(list(nodes.values()), users, language)
    height = ROW * max([len(users), *(node.row + 1 for node in nodes.values())], default=1) + 2 * MARGIN
    width = starts[-1] + MARGIN
    title = escape(text("Which file each consumer gets, and who links to whom").render(language))
    head = f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{title}" viewBox="0 0 {width:.0f} {height}"'
    parts = [f'{head} width="{width:.0f}" height="{height}"><title>{title}</title>', ARROW]
    parts += _links(libraries, nodes, starts)
    parts += _arrows(users, nodes, starts, language)
    fault = "bad" if failing else "odd"
    parts += [_box(node, starts, fault) for node in nodes.values()]
    parts += [_consumer_box(i, user, starts, language, fault) for i, user in enumerate(users)]
    return "\n".join([*parts, "</svg>"])


ARROW = (
    '<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
    '<path d="M0 0 L8 4 L0 8 z"/></marker></defs>'
)


def _other_names(libraries: tuple[Library, ...], users: list[Consumer]) -> Iterator[Library]:
    """Paths that a consumer takes through linked folders, as names of the files that they are."""
    known = {path for library in libraries for path in library.chain}
    for user in users:
        for library in libraries:
            if user.takes and user.takes not in known and user.real and user.real == library.real:
                known.add(user.takes)
                yield replace(library, path=user.takes, chain=(user.takes, library.file))


def _nodes(libraries: tuple[Library, ...], users: list[Consumer], redact: Callable[[str], str]) -> dict[str, Node]:
    """Every name and file once; the column counts the links that still follow, until ``_columns`` turns it round."""
    nodes: dict[str, Node] = {}
    for library in sorted(libraries, key=lambda lib: (lib.name, lib.file, -len(lib.chain))):
        for step, path in enumerate(library.chain):
            following = len(library.chain) - 1 - step
            note, bad = ("", bool(library.fault)) if following else _note(library)
            nodes.setdefault(path, Node(path, redact(path), note, bad, following))
    for user in users:
        if user.takes and user.takes not in nodes:
            nodes[user.takes] = Node(user.takes, redact(user.takes), "", False)
    _place_rows(nodes, libraries)
    return nodes


def _note(library: Library) -> tuple[str, bool]:
    """What is worth saying about a file, and whether it is a fault."""
    words = [library.version or "", library.machine or "", "stub" if library.stub else "", library.fault or ""]
    return ", ".join(word for word in words if word), bool(library.fault or library.stub)


def _place_rows(nodes: dict[str, Node], libraries: tuple[Library, ...]) -> None:
    """Names that lead to one file stand beside it; no two boxes share a place."""
    ends = {path: library.file for library in libraries for path in library.chain}
    row = 0
    for end in dict.fromkeys(ends.get(path, path) for path in nodes):
        group = [node for node in nodes.values() if ends.get(node.path, node.path) == end]
        used: dict[int, int] = {}
        for node in group:
            node.row = row + used.get(node.column, 0)
            used[node.column] = used.get(node.column, 0) + 1
        row += max(used.values())


def _columns(nodes: list[Node], users: list[Consumer], language: str) -> list[float]:
    """Turn the distances into columns from the left and give the left edge of each, and the right edge of the last."""
    depth = max((node.column for node in nodes), default=0)
    for node in nodes:
        node.column = depth - node.column + 1
    widths = [max((_width(u.name.render(language), u.rule) for u in users), default=80.0)]
    for column in range(1, depth + 2):
        widths.append(max((_width(n.label, n.note) for n in nodes if n.column == column), default=0.0))
    starts = [float(MARGIN)]
    for width in widths:
        starts.append(starts[-1] + width + SPACE)
    return [*starts[:-1], starts[-1] - SPACE]


def _width(*rows: str) -> float:
    """Wide letters take two places."""
    return max(sum(2 if ord(c) > 0x2E80 else 1 for c in row) for row in rows) * CHARACTER + 2 * 8


def _middle(row: int) -> float:
    return MARGIN + row * ROW + BOX / 2


def _links(libraries: tuple[Library, ...], nodes: dict[str, Node], starts: list[float]) -> Iterator[str]:
    for source, target in dict.fromkeys(
        pair for lib in libraries for pair in zip(lib.chain, lib.chain[1:], strict=False)
    ):
        a, b = nodes[source], nodes[target]
        if a.column < b.column:
            yield _line("link", starts[a.column] + _width(a.label, a.note), a.row, starts[b.column], b.row)


def _arrows(users: list[Consumer], nodes: dict[str, Node], starts: list[float], language: str) -> Iterator[str]:
    for i, user in enumerate(users):
        if user.takes:
            node = nodes[user.takes]
            left = starts[0] + _width(user.name.render(language), user.rule)
            yield _line("takes", left, i, starts[node.column], node.row)


def _line(kind: str, x1: float, row1: int, x2: float, row2: int) -> str:
    y1, y2, bend = _middle(row1), _middle(row2), (x1 + x2) / 2
    curve = f"M{x1:.0f} {y1:.0f} C{bend:.0f} {y1:.0f} {bend:.0f} {y2:.0f} {x2:.0f} {y2:.0f}"
    return f'<path class="{kind}" d="{curve}" marker-end="url(#tip)"/>'


def _box(node: Node, starts: list[float], fault: str) -> str:
    return _labelled(fault if node.bad else "file", starts[node.column], node.row, node.label, node.note)


def _consumer_box(row: int, user: Consumer, starts: list[float], language: str, fault: str) -> str:
    nothing = text("finds nothing").render(language)
    kind = "consumer" if user.takes else fault
    return _labelled(kind, starts[0], row, user.name.render(language), user.rule if user.takes else nothing)


def _labelled(kind: str, x: float, row: int, label: str, note: str) -> str:
    y = MARGIN + row * ROW
    first = 15 if note else 22
    lines = f'<text x="{x + 8:.0f}" y="{y + first}">{escape(label)}</text>'
    if note:
        lines += f'<text class="note" x="{x + 8:.0f}" y="{y + 29}">{escape(note)}</text>'
    box = f'<rect x="{x:.0f}" y="{y}" width="{_width(label, note):.0f}" height="{BOX}" rx="6"/>'
    return f'<g class="{kind}">{box}{lines}</g>'
