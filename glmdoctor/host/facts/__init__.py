"""What a probe can learn about a machine: frozen values without judgement, one module a subject.

A probe returns a fact or ``Unknown(reason)``; a check whose facts are unknown is skipped with that reason.
Sizes are bytes, versions are the text that the source gives, paths are absolute text.
"""

from glmdoctor.host.facts.base import *
from glmdoctor.host.facts.compiler import *
from glmdoctor.host.facts.driver import *
from glmdoctor.host.facts.engine import *
from glmdoctor.host.facts.libraries import *
from glmdoctor.host.facts.memory import *
from glmdoctor.host.facts.model import *
from glmdoctor.host.facts.nvml import *
from glmdoctor.host.facts.python import *
from glmdoctor.host.facts.system import *


class Machine(
    SystemFacts, MemoryFacts, DriverFacts, NvmlFacts, LibraryFacts, PythonFacts, CompilerFacts, ModelFacts, EngineFacts
):  # fmt: skip
    """All facts that a check or a remedy may look at; each is read when it is first asked for."""
