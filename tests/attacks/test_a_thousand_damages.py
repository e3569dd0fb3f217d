"""A thousand random damages of checkpoints, pickles, adapters and plans: an error with a code, or the whole thing read.

In one child of its own: with a gigabyte of memory beyond what it begins with, a watchdog for each damage, and a hook
that ends it where anything is executed.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

DAMAGES = 1000

CHILD = r"""
import json, os, pickle, random, resource, signal, struct, sys
from pathlib import Path
import torch
from safetensors.torch import save_file
from glmcore.checkpoint import open_checkpoint
from glmcore.checkpoint.tensor_files import open_tensor_file
from glmcore.config import ModelConfig
from glmcore.engine.placing import read_plan
from glmcore.errors import GlmError
from glmcore.place.adapters import open_adapter
from glmcore.plan import Device, Precision, make_plan
from glmcore.tokenizers import load_tokenizer

folder, count = Path(sys.argv[1]), int(sys.argv[2])
config = ModelConfig.from_folder(folder)
size, wide = config.hidden_size, (config.num_heads + 2 * config.num_kv_heads) * config.head_dim
layer = "base_model.model.transformer.encoder.layers.0.self_attention.query_key_value.lora_"

class Call:
    def __reduce__(self):
        return os.mkdir, ("/nowhere/at/all",)

adapter = folder / "adapter"
adapter.mkdir()
save_file({layer + "A.weight": torch.zeros(2, size), layer + "B.weight": torch.zeros(wide, 2)},
          adapter / "adapter_model.safetensors")
(adapter / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 2, "lora_alpha": 4}))
torch.save({"a": torch.zeros(40, 3), "b": torch.ones(5)}, folder / "x.bin")
torch.save({"a": torch.zeros(40, 3)}, folder / "old.bin", _use_new_zipfile_serialization=False)
(folder / "call.bin").write_bytes(pickle.dumps({"a": Call(), "b": [1.5, "x"]}, 2))
made = make_plan(config, [Device("cpu", 1 << 40)], precision=Precision.of(config, config.dtype), context=64)
(folder / "plan.json").write_text(json.dumps(made.to_json()))

def checkpoint():
    with open_checkpoint(folder) as opened:
        load_tokenizer(folder, opened.config)

def tensors(name):
    opened = open_tensor_file(folder / name)
    for tensor in opened.tensors:
        opened.read(tensor)

USES = {
    "config.json": checkpoint, "model.safetensors": checkpoint, "tokenizer.model": checkpoint,
    "adapter/adapter_config.json": lambda: open_adapter(adapter, config),
    "adapter/adapter_model.safetensors": lambda: open_adapter(adapter, config),
    "plan.json": lambda: read_plan(folder / "plan.json", config),
    "x.bin": lambda: tensors("x.bin"), "old.bin": lambda: tensors("old.bin"), "call.bin": lambda: tensors("call.bin"),
}
for use in list(USES.values())[:-1]:
    use()

WORDS = [b"[" * 900, b"null", b"-1", b"1e999", b'"\\ud800"', b"\x1b[2J", b"9" * 400, b"{}", b"[]", bytes(30)]

def damaged(whole, chance):
    raw = bytearray(whole)
    # The beginning holds the header; the rest is values.
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(min(len(raw), 20_000) or 1)
        match chance.randrange(4):
            case 0: raw[at:at + 1] = bytes([chance.randrange(256)])
            case 1: raw[at:at + chance.randint(1, 9)] = chance.choice(WORDS)
            case 2: del raw[at:at + chance.randint(1, 60)]
            case 3: raw[at:at] = chance.choice(WORDS)
    return bytes(raw if chance.randrange(8) else raw[: chance.randrange(len(raw) + 1)])

begun = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (begun + (1 << 30),) * 2)
armed = False
def hook(event, arguments):
    if armed and event in ("os.system", "subprocess.Popen", "os.mkdir", "exec", "os.exec", "os.posix_spawn"):
        if event != "exec":
            print("executed", event, arguments, flush=True)
            os._exit(3)
sys.addaudithook(hook)

refused = {}
for seed in range(count):
    chance = random.Random(seed)
    name = chance.choice(list(USES))
    whole = (folder / name).read_bytes()
    signal.alarm(20)
    (folder / name).write_bytes(damaged(whole, chance))
    armed = True
    try:
        USES[name]()
    except GlmError as error:
        refused[error.code] = refused.get(error.code, 0) + 1
        assert error.code != "internal" and error.line().isprintable() and len(error.line()) < 2000, (seed, name)
    except BaseException as error:
        print(f"seed {seed}, {name}: {type(error).__name__}: {str(error)[:300]}", flush=True)
        raise
    finally:
        armed = False
        (folder / name).write_bytes(whole)
print(json.dumps(refused))
"""


def test_a_thousand_damages_end_in_an_error_with_a_code(model: Path) -> None:
    command = [sys.executable, "-c", CHILD, str(model), str(DAMAGES)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=55, errors="replace")
    assert done.returncode == 0, (done.returncode, done.stdout[-600:], done.stderr[-2000:])
    assert done.stdout.count("checkpoint-") > 2, done.stdout
