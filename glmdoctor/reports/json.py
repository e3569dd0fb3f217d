"""The report as JSON, schema version 1: what other programs rely on."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from glmdoctor import __version__
from glmdoctor.findings import Finding, Remedy
from glmdoctor.reports.view import shown

if TYPE_CHECKING:
    from glmdoctor.diagnosis import Diagnosis

SCHEMA_VERSION = 1


def render(diagnosis: Diagnosis, language: str) -> str:
    return dumps(as_dict(diagnosis, language))


def dumps(value: object) -> str:
    """JSON in pure ASCII, so that no output encoding can damage it."""
    return json.dumps(value, indent=2, default=str)


def as_dict(diagnosis: Diagnosis, language: str) -> dict[str, Any]:
    report = diagnosis.report
    return {
        "schema_version": SCHEMA_VERSION,
        "glmdoctor": __version__,
        "created": datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "host": diagnosis.host.to_snapshot()["facts"],
        "verdict": report.verdict,
        "summary": report.summary,
        "findings": [finding_dict(finding, language) for finding in report.findings],
    }


def finding_dict(finding: Finding, language: str) -> dict[str, Any]:
    return {
        "id": finding.id,
        "problem": finding.problem,
        "status": finding.status.value,
        "title": shown(finding.title, language),
        "detail": shown(finding.detail, language),
        "evidence": dict(finding.evidence),
        "root_cause": finding.root_cause,
        "caused_by": list(finding.caused_by),
        "remedies": [remedy_dict(remedy, language) for remedy in finding.remedies],
    }


def remedy_dict(remedy: Remedy, language: str) -> dict[str, Any]:
    return {
        "id": remedy.id,
        "title": shown(remedy.title, language),
        "automatic": remedy.automatic,
        "needs_root": remedy.needs_root,
        "reversible": remedy.reversible,
        "commands": list(remedy.commands),
    }
