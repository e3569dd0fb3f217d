"""Whether anything that ends satisfies a schema: one that needs itself within itself goes on for ever."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote


def ends(schema: Mapping[str, Any]) -> bool:
    """As far as required properties, items and references decide; what else cannot be satisfied the compiler finds.

    The least fixed point: in each round those end that need only such as were known to.
    """
    nodes = list(_nodes(schema))
    known: set[int] = set()
    grown = True
    while grown:
        new = {id(node) for node in nodes if id(node) not in known and _ends(node, schema, known)}
        known |= new
        grown = bool(new)
    return id(schema) in known


def _nodes(value: Any) -> Iterator[Any]:
    """All objects within a schema, itself too: those that are no schemas do no harm."""
    waiting = [value]
    while waiting:
        value = waiting.pop()
        if isinstance(value, Mapping):
            yield value
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value


def _ends(node: Mapping[str, Any], root: Mapping[str, Any], known: set[int]) -> bool:
    needed = list(_needed(node, root))
    choices = [node[name] for name in ("anyOf", "oneOf") if isinstance(node.get(name), list)]
    return all(_known(each, known) for each in needed) and all(
        not cases or any(_known(case, known) for case in cases) for cases in choices
    )


def _known(schema: Any, known: set[int]) -> bool:
    return id(schema) in known if isinstance(schema, Mapping) else True


def _needed(node: Mapping[str, Any], root: Mapping[str, Any]) -> Iterator[Any]:
    """The schemas that whatever satisfies this one holds something of."""
    if "const" in node or "enum" in node:
        return
    reference = node.get("$ref")
    if isinstance(reference, str):
        yield _target(reference, root)
    yield from node["allOf"] if isinstance(node.get("allOf"), list) else ()
    if node.get("type") in ("object", ["object"]):
        properties, required = node.get("properties"), node.get("required")
        if isinstance(properties, Mapping) and isinstance(required, list):
            yield from (properties.get(name) for name in required if isinstance(name, str))
    if node.get("type") in ("array", ["array"]) and isinstance(count := node.get("minItems"), int) and count > 0:
        first = node.get("prefixItems")
        first = first if isinstance(first, list) else []
        yield from first[:count]
        if count > len(first):
            yield node.get("items")


def _target(reference: str, root: Any) -> Any:
    """What a reference within the schema names; None for another's, and where nothing is, which the compiler says."""
    if not reference.startswith("#"):
        return None
    for part in unquote(reference[1:]).split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        if isinstance(root, list) and name.isdigit() and int(name) < len(root):
            root = root[int(name)]
        else:
            root = root.get(name) if isinstance(root, Mapping) else None
    return root
