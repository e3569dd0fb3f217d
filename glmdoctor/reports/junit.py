"""The report as JUnit XML: one test case for each finding."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree import ElementTree as xml

from glmdoctor.findings import Finding, Status
from glmdoctor.reports.redact import Redactor
from glmdoctor.reports.view import shown

if TYPE_CHECKING:
    from glmdoctor.diagnosis import Diagnosis

# JUnit knows failure, error and skipped; a warning passes and says so in its output.
ELEMENTS = {
    Status.FAIL: "failure",
    Status.CRASHED: "error",
    Status.SKIPPED: "skipped",
    Status.UNKNOWN: "skipped",
    Status.WARN: "system-out",
}


def render(diagnosis: Diagnosis, language: str, redact: Redactor | None = None) -> str:
    redact = redact or Redactor.of_this_machine()
    counts = diagnosis.report.summary
    suite = xml.Element(
        "testsuite",
        name="glmdoctor",
        tests=str(len(diagnosis.report.findings)),
        failures=str(counts["fail"]),
        errors=str(counts["crashed"]),
        skipped=str(counts["skipped"] + counts["unknown"]),
    )
    for finding in diagnosis.report.findings:
        _case(suite, finding, language, redact)
    xml.indent(suite)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + xml.tostring(suite, encoding="unicode") + "\n"


def _case(suite: xml.Element, finding: Finding, language: str, redact: Redactor) -> None:
    group = finding.id.split(".", 1)[0]
    name = finding.id if finding.problem is None else f"{finding.id} ({finding.problem})"
    case = xml.SubElement(suite, "testcase", classname=f"glmdoctor.{group}", name=name)
    if finding.status not in ELEMENTS:
        return
    title, detail = redact(shown(finding.title, language)), redact(shown(finding.detail, language))
    element = xml.SubElement(case, ELEMENTS[finding.status])
    if finding.status is Status.WARN:
        element.text = f"{title}\n{detail}"
        return
    element.set("message", title)
    element.text = "\n".join([detail, *_advice(finding, language, redact)])


def _advice(finding: Finding, language: str, redact: Redactor) -> list[str]:
    advice = []
    for remedy in finding.remedies:
        advice.append(redact(shown(remedy.title, language)))
        advice += [f"    {redact(command)}" for command in remedy.commands]
    return advice
