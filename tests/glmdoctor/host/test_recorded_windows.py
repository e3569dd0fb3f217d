"""A Windows machine replayed: what is Linux's own is unknown with its reason, the rest is read."""

from __future__ import annotations

import json

from glmdoctor.host.facts import DriverCeiling, Nvml, Unknown
from glmdoctor.host.host import Host
from glmdoctor.host.io import Result
from glmdoctor.host.probes.cuda import WINDOWS_DEFAULT
from glmdoctor.host.probes.nvml import command
from glmdoctor.host.recorded import RecordedIO

NVML = {
    "code": 0,
    "message": "Success",
    "library": None,
    "library_version": "12.536",
    "driver_version": "536.25",
    "gpus": [],
}


def answered(script: str, answer: dict) -> tuple[tuple[str, ...], Result]:
    return command(script), Result(0, json.dumps(answer), "")


def machine() -> Host:
    answers = [answered("nvml.py", NVML), answered("ceiling.py", {"code": 0, "message": "", "version": 12020})]
    files = {f"{WINDOWS_DEFAULT}\\v11.8\\bin\\nvcc.exe": "", f"{WINDOWS_DEFAULT}\\v12.2\\bin\\nvcc.exe": ""}
    environ = {"CUDA_PATH": f"{WINDOWS_DEFAULT}\\v12.2", "PATH": "C:\\Windows\\System32"}
    return Host(RecordedIO(files, environ, dict(answers), system="Windows", machine="AMD64"))


def test_the_driver_answers_without_a_loader_of_linux():
    host = machine()
    assert host.nvml == Nvml(0, "Success", None, "12.536", "536.25")
    assert host.ceiling == DriverCeiling((12, 2), "nvcuda.dll")


def test_toolkits_by_their_folders():
    install = machine().cuda
    assert install.toolkits == {f"{WINDOWS_DEFAULT}\\v11.8": "11.8", f"{WINDOWS_DEFAULT}\\v12.2": "12.2"}
    assert install.cuda_path == f"{WINDOWS_DEFAULT}\\v12.2"


def test_what_only_linux_has_is_unknown():
    host = machine()
    for fact in (host.loader, host.libraries, host.kernel_driver, host.pci):
        assert isinstance(fact, Unknown) and fact.reason


def test_the_snapshot_replays_elsewhere():
    host = machine().gather(["os", "nvml", "ceiling", "cuda", "cpm"])
    data = json.loads(json.dumps(host.to_snapshot()))
    assert Host.from_snapshot(data).cpm == host.cpm
