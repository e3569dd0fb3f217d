"""Host: each fact once, concurrently, crashes isolated; snapshots that replay and tell no names."""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
import typing
from pathlib import Path

import pytest

from glmdoctor.host import facts, snapshot
from glmdoctor.host.facts import Os, Settings, State, Unknown
from glmdoctor.host.host import Host
from glmdoctor.host.io import RealIO
from glmdoctor.host.probes import kernel, leftovers, system
from glmdoctor.host.recorded import RecordedIO

WITHOUT_BUILD = tuple(name for name in Host.quick() if name != "kernel_build")


def test_every_fact_has_a_value_or_a_reason():
    host = Host().gather(WITHOUT_BUILD)
    for name in WITHOUT_BUILD:
        value = getattr(host, name)
        if isinstance(value, Unknown):
            assert value.reason and "crashed" not in value.reason, name
    assert set(host.timings) == set(WITHOUT_BUILD)


def test_a_probe_runs_once_whoever_asks(monkeypatch):
    calls = []

    def slow(io):
        calls.append(threading.get_ident())
        time.sleep(0.05)
        return Settings({})

    monkeypatch.setattr(leftovers, "settings", slow)
    host = Host(RecordedIO({}))
    threads = [threading.Thread(target=lambda: host.settings) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1
    assert host.gather(["settings"]).settings is host.settings


def test_a_probe_that_raises_leaves_the_others_alone(monkeypatch):
    def broken(io):
        raise RuntimeError("no such thing")

    monkeypatch.setattr(system, "operating_system", broken)
    host = Host(RecordedIO({})).gather(["os", "settings"])
    assert host.os == Unknown("probe crashed: RuntimeError: no such thing")
    assert isinstance(host.settings, Settings)


def test_machines_of_given_facts():
    host = Host.of(settings=Settings({"CC": "gcc"}))
    assert host.settings.values == {"CC": "gcc"}
    assert host.nvml == Unknown("not recorded")
    with pytest.raises(TypeError):
        Host.of(sttings=Settings({}))


@pytest.mark.parametrize("system_name", ["Windows", "Darwin"])
def test_other_systems_give_reasons_and_do_not_crash(system_name):
    host = Host(RecordedIO({}, system=system_name)).gather(WITHOUT_BUILD)
    values = {name: getattr(host, name) for name in WITHOUT_BUILD}
    crashed = {name: v.reason for name, v in values.items() if isinstance(v, Unknown) and "crashed" in v.reason}
    assert not crashed
    assert host.os.system == system_name


def test_nothing_is_written_and_neither_torch_nor_cpm_kernels_imported(tmp_path):
    """In a process of its own, with a home folder that shows every write but the kernel's build."""
    home = tmp_path / "home"
    home.mkdir()
    script = (
        "import sys\nfrom glmdoctor.host.host import Host\n"
        "Host().gather(name for name in Host.names() if name not in ('kernel_build', 'given_kernel', 'cpu_run'))\n"
        "print([name for name in sys.modules if name.partition('.')[0] in ('torch', 'cpm_kernels')])"
    )
    environ = {**os.environ, "HOME": str(home), "PYTHONDONTWRITEBYTECODE": "1"}
    for name in ("XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME"):
        environ.pop(name, None)
    done = subprocess.run([sys.executable, "-c", script], env=environ, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert list(home.rglob("*")) == []


def test_the_kernel_is_built_or_a_stage_is_named():
    if shutil.which("gcc") is None:
        pytest.skip("gcc builds the kernel")
    build = Host().kernel_build
    assert build.ok and build.stage == "done" and Path(build.path).is_file()
    assert build.max_error < 1e-3
    given = Host(kernel_file=build.path).given_kernel
    assert (given.path, given.ok, given.reason) == (build.path, True, "")


def test_a_kernel_file_that_is_none(tmp_path):
    text = tmp_path / "kernel.so"
    text.write_text("no library")
    for path in (text, tmp_path / "none.so"):
        given = kernel.given_kernel(RealIO("/"), str(path))
        assert not given.ok and given.reason
    by_environment = Host(RealIO("/", environ={"GLMCORE_KERNEL_FILE": str(text)})).given_kernel
    assert by_environment.path == str(text)


def test_settings_are_an_allow_list():
    io = RecordedIO({}, {"CUDA_PATH": "/opt/cuda", "HF_TOKEN": "hf_secret", "AWS_SECRET_ACCESS_KEY": "x"})
    assert leftovers.settings(io) == Settings({"CUDA_PATH": "/opt/cuda"})


def test_what_the_doctor_left_here(root, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    root.folder("/data/glmdoctor/cuda/lib64")
    root.file("/state/glmdoctor/runs/1.jsonl", '\n{"record": "run"}\n\n{"record": "finished"}\n')
    root.file("/state/glmdoctor/runs/2.jsonl", '\n{"record": "run"}\n\n{"record": "intent"}\n\n{"rec')
    root.file("/state/glmdoctor/runs/3.jsonl", '\n{"record": "run"}\n\n{"record": "closed"}\n')
    state = Host(root.io()).state
    assert state == facts.State("/data/glmdoctor/cuda", open_runs=("2",), done_runs=("1",))


# Snapshots


def example(hint: object) -> object:
    """A value of a fact's type, made from its annotation."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint):
        hints = typing.get_type_hints(hint)
        return hint(**{f.name: example(hints[f.name]) for f in dataclasses.fields(hint)})
    if origin is tuple:
        return tuple(example(part) for part in (arguments[:1] if arguments[1:] == (...,) else arguments))
    if origin is not None and type(None) in arguments:
        return example(arguments[0])
    if origin is not None:
        return {"key": example(arguments[1])}
    return {int: 3, float: 0.5, bool: True, str: "text", object: [1, {"a": None}]}[hint]


def fact_types() -> list[type]:
    kinds = [value for value in vars(facts).values() if dataclasses.is_dataclass(value)]
    assert len(kinds) > 20
    return kinds


@pytest.mark.parametrize("kind", fact_types(), ids=lambda kind: kind.__name__)
def test_every_fact_survives_the_round_trip(kind):
    value = example(kind)
    data = json.loads(json.dumps(snapshot.encode({"fact": value, "many": (value, value)}, {})))
    back = snapshot.decode(data)
    expected = dataclasses.replace(value, uuid="") if "uuid" in vars(value) else value
    if kind is facts.Nvml:
        expected = dataclasses.replace(value, gpus=tuple(dataclasses.replace(gpu, uuid="") for gpu in value.gpus))
    assert back == {"fact": expected, "many": (expected, expected)}


def test_this_machine_replays():
    host = Host().gather(WITHOUT_BUILD)
    values = {name: getattr(host, name) for name in WITHOUT_BUILD}
    data = json.loads(json.dumps(snapshot.encode(values, host.timings)))
    again = Host.from_snapshot(data)
    assert again.cpu == host.cpu and again.loader == host.loader
    assert snapshot.encode({name: getattr(again, name) for name in WITHOUT_BUILD}, host.timings) == data


@pytest.mark.parametrize(
    "data", [{}, [], {"schema_version": 99, "facts": {}}, {"schema_version": 1, "facts": {"os": 3}}]
)
def test_what_is_no_snapshot(data):
    with pytest.raises(ValueError):
        Host.from_snapshot(data)


def test_fields_of_other_versions():
    entry = {"type": "Disk", "path": "/", "total": 1, "free": 1, "writable": True, "new": "field"}
    data = {"schema_version": 1, "facts": {"disk_cache": entry, "cpu": {"type": "Cpu", "model": "x"}, "future": entry}}
    host = Host.from_snapshot(data)
    assert host.disk_cache == facts.Disk("/", 1, 1, True)
    assert isinstance(host.cpu, Unknown) and "does not fit" in host.cpu.reason


def test_names_are_taken_out():
    redact = snapshot.redactor(home="/home/alice", user="alice", host="wonder-land")
    assert redact("/home/alice/models:/home/alice") == "~/models:~"
    assert redact("/home/alicexyz/a /home/bob/b /Users/carol/c") == "/home/<user>/a /home/<user>/b /Users/<user>/c"
    assert redact("C:\\Users\\carol\\x") == "C:\\Users\\<user>\\x"
    assert redact("alice on wonder-land") == "<user> on <host>"
    assert redact("alice@wonder-land, git@alice.example:team/x") == "[address], [address]"  # whole, whoever it names
    assert redact("malice wonder-landing") == "malice wonder-landing"
    assert redact("https://user:token@mirror/simple") == "https://[address]"  # a mirror of one's own names its owner


def test_a_snapshot_of_this_machine_tells_neither_home_nor_name(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("CUDA_PATH", str(tmp_path / "cuda"))
    host = Host().gather(WITHOUT_BUILD)
    data = snapshot.encode({name: getattr(host, name) for name in WITHOUT_BUILD}, {})
    assert str(tmp_path) + "/" not in json.dumps(data)
    assert data["facts"]["settings"]["values"]["CUDA_PATH"] == "~/cuda"


def test_unknown_is_a_fact_like_others():
    data = snapshot.encode({"nvml": Unknown("no driver")}, {})
    assert snapshot.decode(data) == {"nvml": Unknown("no driver")}


def test_reading_all_facts_is_quick():
    """The bound is loose, since tests share the machine; a hang or a stray process start shows."""
    start = time.perf_counter()
    host = Host().gather(WITHOUT_BUILD)
    assert time.perf_counter() - start < 3, host.timings
    assert isinstance(host.os, Os)


def test_a_run_of_many_records_is_told_by_its_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leftovers, "user_folder", lambda kind, program: str(tmp_path))
    (tmp_path / "runs").mkdir()
    long = json.dumps({"record": "intent", "what": "x" * 1500}) + "\n"
    (tmp_path / "runs" / "a.jsonl").write_text(long * 1000 + '{"record": "finished"}\n')
    (tmp_path / "runs" / "b.jsonl").write_text('{"record": "finished"}\n' + long * 1000)
    state = leftovers.state(RealIO())
    assert isinstance(state, State) and (state.done_runs, state.open_runs) == (("a",), ("b",))


@pytest.mark.parametrize("name", Host.names())
def test_every_fact_names_the_probe_that_reads_it(name: str) -> None:
    fact = Host.table()[name]
    module, _, function = fact.probe.partition(".")
    probe = getattr(importlib.import_module(f"glmdoctor.host.probes.{module}"), function)
    hints = typing.get_type_hints(probe)
    assert hints.pop("return") | Unknown == fact.kind | Unknown
    for given, hint in hints.items():  # other facts, and what a host was told
        other = Host.table().get(given)
        assert hint == (other.kind | Unknown) if other else given in vars(Host(RecordedIO({})))
