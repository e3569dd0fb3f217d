"""One repair from beginning to end: what was chosen, the plans for it, and the judgement of each by its own check."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from glmcore import programs
from glmdoctor import checks, remedies
from glmdoctor.actions.disk import Disk
from glmdoctor.diagnosis import judge
from glmdoctor.findings import Finding, Report, Status
from glmdoctor.host.facts import Unknown
from glmdoctor.host.host import Host
from glmdoctor.host.io import RealIO
from glmdoctor.messages import text
from glmdoctor.remedies import (
    Beyond,
    Options,
    Plan,
    configuration,
    fetch,
    kernel,
    links,
    original,
    pins,
    proxy,
    shell,
    variables,
)
from glmdoctor.repair import environment, inputs
from glmdoctor.repair.journal import NoHome

SEVERITY = {Status.FAIL: 2, Status.WARN: 1}


@dataclass(frozen=True)
class Choice:
    """What the user asked to have repaired; everything where nothing is named."""

    symlink: bool = False
    kernel: bool = False
    packages: bool = False
    start_file: bool = False
    only: tuple[str, ...] = ()
    python: str | None = None
    model: str | None = None

    @property
    def named(self) -> bool:
        return bool(self.symlink or self.kernel or self.packages or self.only)

    @property
    def problems(self) -> frozenset[str]:
        """The catalogue's problems that were asked for; empty for all."""
        named = {check.id: check.problems for check in checks.ALL}
        only = (problem for name in self.only for problem in named.get(name, (name,)))
        # Packages may be asked for by single findings: pip then solves for those alone.
        asked = {
            "--symlink": self.symlink,
            "--kernel": self.kernel,
            "--packages": self.packages and not self.only,
        }
        groups = (remedies.asked_by(option) for option, wanted in asked.items() if wanted)
        return frozenset(only).union(*groups)


@dataclass
class Repair:
    """The machine, the findings that were chosen, and their plans."""

    choice: Choice
    private: str = field(init=False)

    def __post_init__(self) -> None:
        private = environment.private_folder()
        if private is None:
            raise NoHome
        self.private = private
        self.host = self.fresh_host({})
        self.disk = Disk(self.host.io.root)
        self.report = Report(())

    def fresh_host(self, variables: Mapping[str, str]) -> Host:
        io = RealIO(environ={**os.environ, **variables})
        return Host(io, interpreter=self.choice.python, model=self.choice.model)

    def examine(self, variables: Mapping[str, str] | None = None) -> None:
        """Read the machine anew, as programs with these variables see it, with remedies for what was chosen."""
        self.host = self.fresh_host(variables or {})
        self.report = judge(self.host, only=self.choice.problems & _decided()).report
        self.disk = Disk(self.host.io.root, self._bound())

    @property
    def chosen(self) -> tuple[Finding, ...]:
        wanted = self.choice.problems
        return tuple(f for f in self.report.findings if f.bad and (not wanted or f.problem in wanted))

    def plans(self, besides: Collection[Plan] = ()) -> tuple[Plan, ...]:
        """Plans for causes, ``besides`` those; what only follows from a cause that has a plan may be gone after it."""
        options = Options(self.private, self.disk.may_write)
        every = remedies.plans(self.chosen, self.host, options=options)
        answered = {finding for plan in every for finding in plan.findings}
        follow = {finding.id for finding in self.chosen if answered & set(finding.caused_by)}
        causes = tuple(plan for plan in every if not set(plan.findings) <= follow)
        asked = (
            links.complete(self.host, options) if self.choice.symlink and not causes else None,
            kernel.place(self.host, options) if self.choice.kernel else None,
            self._original_code(options) if self.choice.kernel else None,
            self._configuration(),
            proxy.plan(self.host.io.env(), self.host, remedies.beyond(Beyond.ENVIRONMENT, self.chosen)),
            self._pins() if self.choice.packages and not besides else None,
            self._fetch() if self.choice.only else None,
        )
        done = {plan.id for plan in besides}
        return tuple(self._with_notes(plan) for plan in (*causes, *asked) if plan and plan.id not in done)

    def _original_code(self, options: Options) -> Plan | None:
        findings = [finding.id for finding in self.chosen if finding.id == original.CHECK]
        return original.patch(inputs.original_code(self.host.io, self.choice.model), self.host, options, findings)

    def _configuration(self) -> Plan | None:
        """The checkpoint's JSON files, where a finding says which of their words lead astray."""
        chosen = remedies.beyond(Beyond.CONFIGURATION, self.chosen)
        checkpoint = self.host.checkpoint
        if not chosen or isinstance(checkpoint, Unknown):
            return None
        files = inputs.written(self.host.io, checkpoint.path, configuration.FILES)
        return configuration.plan(files, chosen)

    def _pins(self) -> Plan | None:
        """What pip itself would do for the chosen findings, exactly; asks the package index."""
        wanted, python = pins.wanted(self.chosen, self.host), self.host.interpreter
        if not wanted or isinstance(python, Unknown):
            return None
        arguments = tuple(argument for each in wanted.values() for argument in each)
        solved = inputs.solved(self.host.io, python.executable, arguments)
        present = inputs.packages(self.host.io, python.executable)
        return pins.plan(python.executable, arguments, solved, present, tuple(wanted))

    def _fetch(self) -> Plan | None:
        """Files that findings say are missing or damaged, where one of these findings was asked for by its name."""
        chosen = remedies.beyond(Beyond.FILES, self.chosen)
        checkpoint, io = self.host.checkpoint, self.host.io
        if isinstance(checkpoint, Unknown):
            return None
        wanted = inputs.wanted(io.bound(checkpoint.path), checkpoint.path, fetch.names(chosen))
        return fetch.plan(wanted, self.host, [finding.id for finding in chosen])

    def start_file(self, plans: Iterable[Plan]) -> Plan | None:
        """What `run` and `chat` set, and ``plans`` besides, for every new shell; no finding asks for it."""
        io = self.host.io
        path = shell.start_file(programs.environment(io.env()), inputs.home(io))
        values = {**self.variables(), **{name: value for plan in plans for name, value in plan.environment.items()}}
        former = inputs.exact(io, path)
        if former is None and io.exists(path):
            return None
        return shell.plan(io.realpath(path), former, values, ())

    def _with_notes(self, plan: Plan) -> Plan:
        """Name the lines that put stray folders into LD_LIBRARY_PATH; they are the user's own to change."""
        strays = variables.stray_folders(self.host) if variables.LD_PATH in plan.environment else ()
        if not strays:
            return plan
        io = self.host.io
        lines = shell.setting_lines(inputs.start_files(io), variables.LD_PATH, strays, inputs.home(io))
        return replace(plan, notes=tuple(text("the line to change is {line}", line=line) for line in lines))

    def variables(self) -> dict[str, str]:
        """What `glmdoctor run` and `chat` would set now, the kernel apart."""
        return environment.settings(self.fresh_host({}))

    def beyond(self, plans: Iterable[Plan]) -> tuple[Finding, ...]:
        """Chosen findings that no plan answers, and that do not merely follow from another."""
        answered = {finding for plan in plans for finding in plan.findings}
        return tuple(finding for finding in self.chosen if finding.root_cause and finding.id not in answered)

    def holds(self, plan: Plan) -> bool:
        """Do the checks that the plan answers pass again, in the environment that it gives programs?

        Where variables go round a fault that only root can mend, the fault stays, and is less grave than before.
        """
        report = judge(self.fresh_host(self.variables() if plan.environment else {}), only=plan.findings).report
        before = _severities(self.report, plan) if plan.environment else {}
        return all(now < before.get(what, 1) for what, now in _severities(report, plan).items())

    def _bound(self) -> tuple[str, ...]:
        """What of the running system a fake root sees too."""
        python, build = self.host.interpreter, self.host.kernel_build if self.choice.kernel else None
        sites = () if isinstance(python, Unknown) else python.site_folders
        made = () if build is None or isinstance(build, Unknown) or not build.path else (posixpath.dirname(build.path),)
        return (*sites, *made)


def _decided() -> set[str]:
    """The problems that some check decides."""
    return {problem for check in checks.ALL for problem in check.problems}


def _severities(report: Report, plan: Plan) -> dict[tuple[str, str | None], int]:
    bad = [finding for finding in report.findings if finding.bad and finding.id in plan.findings]
    return {(finding.id, finding.problem): SEVERITY[finding.status] for finding in bad}
