"""no_proxy with this machine's own names in it, so that no proxy is asked for what runs here."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterable, Mapping

from glmdoctor.findings import Finding
from glmdoctor.messages import text
from glmdoctor.readings.machine import Machine, maybe
from glmdoctor.remedies.plan import Plan

NAMES = ("no_proxy", "NO_PROXY")  # Python reads the small one first, others only the other


def exempted(environ: Mapping[str, str], own_names: Collection[str]) -> dict[str, str]:
    """What is exempted now, and those of this machine's names that are not; empty where there are none."""
    if not own_names:
        return {}
    present = [part.strip() for part in (environ.get("no_proxy") or environ.get("NO_PROXY") or "").split(",")]
    return dict.fromkeys(NAMES, ",".join(dict.fromkeys([*filter(None, present), *own_names, "::1"])))


def of(host: Machine, environ: Mapping[str, str]) -> dict[str, str]:
    hub = maybe(host.hub)
    return exempted(environ, hub.own_names_through_proxy if hub else ())


def plan(environ: Mapping[str, str], host: Machine, findings: Iterable[Finding]) -> Plan | None:
    """Variables alone: `glmdoctor run` and `chat` set them, and the start file where that is wanted."""
    answered = tuple(finding.id for finding in findings)
    if not answered:
        return None
    variables = of(host, environ)
    lines = tuple(f"export {name}={shlex.quote(value)}" for name, value in variables.items())
    title = text("Exempt this machine's own names from the proxy")
    return Plan("exempt-localhost", title, answered, environment=variables, commands=lines)
