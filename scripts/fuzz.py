"""Coverage-guided fuzzing of everything that the doctor reads from files somebody else made.

    pip install .[fuzz]
    python scripts/fuzz.py elf --seconds 120

A target must end within seconds, in little memory, without an exception other than its own refusals; libFuzzer writes
the input that breaks this to the corpus folder. The same bounds are held by hypothesis in the tests, with less reach.
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import pickle
import struct
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["glmdoctor", "elftools"]):
    import elftools.elf.enums  # what the readers import when they are called must be instrumented here
    import elftools.elf.structs  # noqa: F401

    from glmdoctor.checks import ALL
    from glmdoctor.checks.engine import examine_with
    from glmdoctor.explain import book, explain
    from glmdoctor.findings import Status
    from glmdoctor.host import facts
    from glmdoctor.host.host import Host
    from glmdoctor.host.probes import checkpoint, elf, elf_versions, linker, tensors, weights  # noqa: F401
    from glmdoctor.host.recorded import RecordedIO

SECONDS, MEGABYTES, LONGEST = 10, 1024, 1 << 16  # for one input
MODEL_CHECKS = tuple(check for check in ALL if check.id.startswith(("model.", "remote-code.")))
CONFIG = {"model_type": "chatglm", "num_layers": 2, "hidden_size": 32, "ffn_hidden_size": 48, "kv_channels": 32}
TENSOR = "transformer.encoder.layers.0.mlp.dense_4h_to_h.weight"


def fuzz_elf(data: bytes) -> None:
    elf.parse(io.BytesIO(data), len(data))
    elf_versions.versions(io.BytesIO(data))


def fuzz_linker_cache(data: bytes) -> None:
    _, fault = linker.read_cache(RecordedIO({linker.CACHE: data}))
    assert fault is None or fault.startswith("unreadable: "), fault


def fuzz_log(data: bytes) -> None:
    explain(io.BytesIO(data))


def in_checkpoint(name: str) -> Callable[[bytes], None]:
    """The probe and the checks over a folder that holds a configuration and the forged file."""

    def fuzz(data: bytes) -> None:
        host = Host(RecordedIO({"/m/config.json": json.dumps(CONFIG), f"/m/{name}": data}), model="/m")
        found = host.checkpoint
        assert isinstance(found, facts.Checkpoint), found.reason
        memory = facts.Memory(24 << 30, 20 << 30, 0, None, None)
        report = examine_with(MODEL_CHECKS, Host.of(checkpoint=found, memory=memory))
        crashed = [finding for finding in report.findings if finding.status is Status.CRASHED]
        assert not crashed, crashed

    return fuzz


def elf_seeds() -> list[bytes]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "x.so")
        source = "int answer(void) { return 42; }"
        command = ["gcc", "-shared", "-s", "-Wl,-soname,libcuda.so.1", "-x", "c", "-", "-o", str(path)]
        subprocess.run(command, input=source, text=True, check=True)
        whole = path.read_bytes()
    bits32 = whole[:4] + b"\x01" + whole[5:]
    return [whole, whole[:200], bits32, b"", b"\x7fELF"]


def safetensors_seeds() -> list[bytes]:
    header = {TENSOR: {"dtype": "F16", "shape": [32, 48], "data_offsets": [0, 3072]}, "__metadata__": {"format": "pt"}}
    raw = json.dumps(header).encode()
    return [struct.pack("<Q", len(raw)) + raw + bytes(3072), struct.pack("<Q", 1 << 40), struct.pack("<Q", 2) + b"{}"]


def pickle_seeds() -> list[bytes]:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"weight": [1, 2.0, "x"]}, protocol=2))
        archive.writestr("archive/data/0", bytes(64))
    plain = [pickle.dumps({"w": list(range(20)), "f": print}, protocol=number) for number in (0, 2, 4)]
    return [packed.getvalue(), *plain, gzip.compress(plain[1])]


def cache_seeds() -> list[bytes]:
    strings = b"libcuda.so.1\0/usr/lib/libcuda.so.1\0"
    start = linker.HEADER.size + linker.ENTRY.size
    entry = linker.ENTRY.pack(0x0303, start, start + 13, 0, 0)
    new = linker.HEADER.pack(linker.NEW_MAGIC, 1, len(strings)) + entry + strings
    old = linker.OLD_MAGIC + b"\0" + struct.pack("=I", 1) + linker.OLD_ENTRY.pack(1, 0, 0)
    return [new, old + bytes(-len(old) % 8) + new, linker.NEW_MAGIC]


def index_seeds() -> list[bytes]:
    names = {f"layer.{n}": f"model-0000{n}-of-00002.safetensors" for n in (1, 2)}
    whole = {"metadata": {"total_size": 1}, "weight_map": names}
    return [json.dumps(whole).encode(), b'{"weight_map": []}', b"[" * 5000]


def log_seeds() -> list[bytes]:
    texts = [" ".join(s.pattern.pieces) for s in book().signatures[::7]]
    container = json.dumps({"log": "RuntimeError: CUDA out of memory\n", "stream": "stderr"})
    return ["\n".join(texts).encode(), container.encode(), "\x1b[31m页面文件太小\x1b[0m".encode("utf-16")]


TARGETS: dict[str, tuple[Callable[[bytes], None], Callable[[], list[bytes]]]] = {
    "elf": (fuzz_elf, elf_seeds),
    "safetensors": (in_checkpoint("model.safetensors"), safetensors_seeds),
    "pickle": (in_checkpoint("pytorch_model.bin"), pickle_seeds),
    "linker-cache": (fuzz_linker_cache, cache_seeds),
    "index": (in_checkpoint("model.safetensors.index.json"), index_seeds),
    "log": (fuzz_log, log_seeds),
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Fuzz one of the doctor's readers.")
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--seconds", type=int, default=120, help="how long (default 120)")
    parser.add_argument("--corpus", type=Path, help="folder of inputs, kept and added to (default: a temporary one)")
    options = parser.parse_args()
    fuzz, seeds = TARGETS[options.target]
    corpus = options.corpus or Path(tempfile.mkdtemp(prefix=f"fuzz-{options.target}-"))
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds()):
        (corpus / f"seed-{number}").write_bytes(seed)
    print(f"corpus and failing inputs: {corpus}", flush=True)
    limits = [f"-timeout={SECONDS}", f"-rss_limit_mb={MEGABYTES}", f"-max_len={LONGEST}"]
    atheris.Setup(
        [sys.argv[0], *limits, f"-max_total_time={options.seconds}", f"-artifact_prefix={corpus}/", str(corpus)], fuzz
    )
    atheris.Fuzz()


if __name__ == "__main__":
    main()
