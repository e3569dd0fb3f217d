"""A checkpoint's JSON files with one word changed, and every other letter as it was."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping

from glmdoctor.actions import WriteFile, digest
from glmdoctor.findings import AutoMap, Finding, RopeTheta
from glmdoctor.messages import text
from glmdoctor.remedies.plan import Plan

FILES = ("config.json", "tokenizer_config.json")
ROPE_THETA = re.compile(r'("rope_theta"\s*:\s*)[-+.\deE]+')


def plan(files: Mapping[str, str], findings: Iterable[Finding]) -> Plan | None:
    """``files``: path → text of the checkpoint's JSON files as they lie there."""
    changed, answered = dict(files), []
    for finding in findings:
        fault = finding.payload
        if not isinstance(fault, (AutoMap, RopeTheta)) or fault.path not in changed:
            continue
        corrected = _corrected(changed[fault.path], fault)
        if corrected is not None:
            changed[fault.path] = corrected
            answered.append(finding.id)
    writes = tuple(WriteFile(p, content, digest(files[p])) for p, content in changed.items() if content != files[p])
    if not writes:
        return None
    title = text("Correct {names}", names=", ".join(write.path for write in writes))
    return Plan("correct-configuration", title, tuple(dict.fromkeys(answered)), writes)


def _corrected(content: str, fault: AutoMap | RopeTheta) -> str | None:
    """None where the file is not written as the finding says."""
    if isinstance(fault, RopeTheta):
        corrected = ROPE_THETA.sub(rf"\g<1>{fault.base}.0", content)
    else:
        corrected = content
        for value in fault.values:
            corrected = corrected.replace(json.dumps(value), json.dumps(value.partition("--")[2]))
    return corrected if corrected != content and _is_json(corrected) else None


def _is_json(content: str) -> bool:
    try:
        json.loads(content)
    except (ValueError, RecursionError):
        return False
    return True
