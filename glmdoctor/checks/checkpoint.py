"""The checkpoint that ``--model`` names: is it there, whole, and of a kind that glmcore knows?"""

from __future__ import annotations

import re
from collections.abc import Iterator
from posixpath import join

from glmcore.checkpoint import pickles
from glmcore.config import ModelConfig
from glmcore.errors import GlmError
from glmdoctor.checks.base import Check, Machine, bad, known, maybe, ok, skipped, unknown
from glmdoctor.findings import Files, Finding, Status
from glmdoctor.host.facts import Checkpoint, CheckpointFile, Tensor
from glmdoctor.messages import Text, text

PATH = text("Model folder")
FILES = text("Files of the checkpoint")
WHOLE = text("Contents of the checkpoint's files")
CONFIG = text("Configuration of the model")
PICKLED = text("Weights in pickles")
SHAPES = text("Configuration beside the weights")
NO_FILES = text("There is no folder of files to look at.")

CORE_FILES = (
    "config.json", "tokenizer_config.json", "model.safetensors.index.json", "pytorch_model.bin.index.json",
)  # fmt: skip
SOME_WEIGHTS = "model.safetensors / pytorch_model.bin"  # either of them
INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
WEIGHTS = (".bin", ".safetensors", ".pt", ".pth")
# Kinds of files that hold tensors.
PICKLES = ("torch-zip", "torch-pickle")
TENSORS = ("safetensors", *PICKLES)
TOKENIZERS = {"v1": "ice_text.model", "v2": "tokenizer.model", "v3": "tokenizer.model", "glm4": "tokenizer.model"}
# ChatGLM-6B came with two vocabularies; the ids of one do not exist in the other.
VOCABULARIES = {150528: range(150000, 150010), 130528: range(130000, 130010)}

# What a training run leaves beside the weights; loading a model does not touch it.
TRAINING = re.compile(r"training_args|optimizer|scheduler|rng_state|scaler|trainer")

TITLES: dict[str, Text] = {
    "lfs-pointer-checkpoint": text("Git LFS pointers in place of files"),
    "html-instead-of-weights": text("A web page in place of a file"),
    "truncated-checkpoint": text("A file is cut or damaged"),
    "sentencepiece-model-corrupt": text("The tokenizer's file is damaged"),
}


def path(host: Machine) -> Iterator[Finding]:
    checkpoint = known(host.checkpoint)
    if checkpoint.exists and checkpoint.is_folder and checkpoint.readable:
        yield ok(PATH, text("{path}", path=checkpoint.path), path=checkpoint.path, files=len(checkpoint.files))
    elif not checkpoint.exists and checkpoint.generation:
        yield ok(
            PATH,
            text("{name} is known by its name; there is no folder of that name here.", name=checkpoint.path),
            path=checkpoint.path,
        )
    else:
        yield bad(
            Status.FAIL,
            "model-path-wrong",
            text("The model folder cannot be used"),
            text("{path} {fault}.", path=checkpoint.path, fault=_path_fault(checkpoint)),
            path=checkpoint.path,
        )
    os = maybe(host.os)
    if os and os.system == "Windows" and not checkpoint.path.isascii():
        yield bad(
            Status.WARN,
            "non-ascii-path",
            text("The path holds letters that sentencepiece cannot open"),
            text("{path} holds letters beyond ASCII; sentencepiece on Windows may not open it.", path=checkpoint.path),
            path=checkpoint.path,
        )


def _path_fault(checkpoint: Checkpoint) -> Text:
    if not checkpoint.exists:
        return text("does not exist")
    return text("cannot be listed by this user") if checkpoint.is_folder else text("is a file, not a folder")


def files(host: Machine) -> Iterator[Finding]:
    checkpoint = known(host.checkpoint)
    if not checkpoint.readable:
        yield skipped(FILES, NO_FILES)
        return
    names = {file.name for file in checkpoint.files if file.kind != "missing"}
    found = [*_missing_shards(checkpoint), *_missing_files(checkpoint, names), *_missing_tokenizer(checkpoint, names)]
    yield from found
    if not found:
        yield ok(FILES, text("{count} files; none is missing.", count=len(names)), files=sorted(names))


def _missing_shards(checkpoint: Checkpoint) -> Iterator[Finding]:
    shards = [file.name for file in checkpoint.files if file.kind == "missing"]
    folders = [file.name for file in checkpoint.files if file.kind == "missing" and file.fault]
    if folders:
        index = INDEXES[0] if INDEXES[0] in {file.name for file in checkpoint.files} else INDEXES[1]
        yield bad(
            Status.FAIL,
            "missing-shard",
            text("The index names a folder"),
            text(
                "The index in {folder} puts tensors into {names}, a folder and no shard: fetch the index again, "
                "and the shards that it names.",
                folder=checkpoint.path,
                names=", ".join(folders[:4]),
            ),
            Files((index, *folders)),
            files=[index, *folders],
        )
    elif shards:
        yield bad(
            Status.FAIL,
            "missing-shard",
            text("Shards are missing"),
            text(
                "The index names {count} that are not in {folder}: {names}.",
                count=len(shards),
                folder=checkpoint.path,
                names=", ".join(shards[:4]),
            ),
            Files(tuple(shards)),
            files=shards,
        )


def _missing_files(checkpoint: Checkpoint, names: set[str]) -> Iterator[Finding]:
    weights = [name for name in names if name.endswith(WEIGHTS)]
    indexed = any(file.kind == "missing" for file in checkpoint.files)
    absent = [] if "config.json" in names else ["config.json"]
    absent += [] if weights or indexed else [SOME_WEIGHTS]
    if absent:
        yield bad(
            Status.FAIL,
            "missing-checkpoint-file",
            text("Files of the checkpoint are missing"),
            text("{folder} has no {names}.", folder=checkpoint.path, names=", ".join(absent)),
            Files(tuple(name for name in absent if name != SOME_WEIGHTS)),
            files=absent,
        )


def _missing_tokenizer(checkpoint: Checkpoint, names: set[str]) -> Iterator[Finding]:
    wanted = TOKENIZERS.get(checkpoint.generation or "")
    if wanted and wanted not in names:
        yield bad(
            Status.FAIL,
            "missing-tokenizer-file",
            text("The tokenizer's file is missing"),
            text("{path} is not there.", path=join(checkpoint.path, wanted)),
            Files((wanted,)),
            files=[wanted],
        )


def whole(host: Machine) -> Iterator[Finding]:
    checkpoint = known(host.checkpoint)
    if not checkpoint.readable:
        yield skipped(WHOLE, NO_FILES)
        return
    by_problem: dict[str, list[CheckpointFile]] = {}
    for file in checkpoint.files:
        problem = _file_problem(checkpoint, file)
        if problem:
            by_problem.setdefault(problem, []).append(file)
    for problem, faulty in by_problem.items():
        yield bad(
            Status.FAIL,
            problem,
            TITLES[problem],
            text("In {folder}: {files}.", folder=checkpoint.path, files="; ".join(map(_described, faulty[:4]))),
            Files(tuple(file.name for file in faulty)),
            files={file.name: file.fault or file.kind for file in faulty},
            folder=checkpoint.path,
        )
    foreign = {file.name: names for file in checkpoint.files if (names := _foreign(file))}
    if foreign:
        yield _runs_code(checkpoint, foreign)
    if not by_problem and not foreign:
        size = f"{checkpoint.weight_bytes / 2**30:.2f} GiB"
        yield ok(WHOLE, text("{size} of weights, each file whole.", size=size), weight_bytes=checkpoint.weight_bytes)


def _foreign(file: CheckpointFile) -> list[str]:
    """What the file's pickle calls besides what torch writes for tensors."""
    return [] if TRAINING.match(file.name) else list(pickles.foreign_calls(file.imports))


def _runs_code(checkpoint: Checkpoint, foreign: dict[str, list[str]]) -> Finding:
    """A file that was changed on its way."""
    name, calls = next(iter(foreign.items()))
    return bad(
        Status.FAIL,
        "unsafe-pickle",
        text("A weight file holds more than tensors"),
        text(
            "Loading {file} with pickle would call {calls}; glmcore refuses it. Do not load it elsewhere; "
            "fetch the published file.",
            file=join(checkpoint.path, name),
            calls=", ".join(calls[:6]),
        ),
        Files(tuple(foreign)),
        files={name: "calls " + ", ".join(calls[:20]) for name, calls in foreign.items()},
        imports=foreign,
        folder=checkpoint.path,
    )


def pickled(host: Machine) -> Iterator[Finding]:
    """Weights in pickles are read by a torch that keeps what ``weights_only`` promises, or not at all."""
    checkpoint, torch = known(host.checkpoint), known(host.torch)
    # What is damaged or unsafe itself is said elsewhere: no torch reads it.
    sound = [file for file in checkpoint.files if not file.fault and not _foreign(file)]
    names = [file.name for file in sound if file.kind in PICKLES and not TRAINING.match(file.name)]
    if not names or any(file.kind == "safetensors" for file in checkpoint.files):
        yield skipped(PICKLED, text("No weights of this model are read from pickles."))
    elif pickles.reads_safely(torch.version):
        yield ok(PICKLED, text("torch {version} reads them safely.", version=torch.version), version=torch.version)
    else:
        yield bad(
            Status.FAIL,
            "torch-unsafe-pickle",
            text("This torch does not read .bin files safely"),
            text(
                "torch {version} may run code in {file} (CVE-2025-32434, CVE-2026-24747); glmcore reads it with torch "
                "{wanted} or later. Update torch, or convert the files to safetensors.",
                version=torch.version,
                file=join(checkpoint.path, names[0]),
                wanted=".".join(map(str, pickles.SAFE_TORCH)),
            ),
            version=torch.version,
            files=names,
        )


def _file_problem(checkpoint: Checkpoint, file: CheckpointFile) -> str | None:
    needed = file.name.endswith((*WEIGHTS, ".model")) or file.name in CORE_FILES
    if _foreign(file):  # unsafe, and not merely damaged
        return None
    if file.kind == "lfs-pointer":
        return "lfs-pointer-checkpoint"
    if file.kind == "html" and needed:
        return "html-instead-of-weights"
    if file.name == TOKENIZERS.get(checkpoint.generation or "") and _no_tokenizer(checkpoint, file):
        return "sentencepiece-model-corrupt"
    unreadable = pickles.UNREADABLE in file.imports and not TRAINING.match(file.name)
    damaged = file.kind == "empty" or unreadable or (file.fault is not None and file.kind != "missing")
    return "truncated-checkpoint" if damaged and needed else None


def _no_tokenizer(checkpoint: Checkpoint, file: CheckpointFile) -> bool:
    """GLM-4's tokenizer.model is a text of ranks; the others' are sentencepiece models."""
    wanted = "tiktoken" if checkpoint.generation == "glm4" else "sentencepiece"
    return file.kind not in (wanted, "missing") or file.fault is not None


def _described(file: CheckpointFile) -> str:
    return f"{file.name} ({file.fault or file.kind}, {file.size} B)"


def config(host: Machine) -> Iterator[Finding]:
    checkpoint = known(host.checkpoint)
    if not checkpoint.config:
        yield skipped(CONFIG, text("There is no readable config.json."))
    elif checkpoint.generation is None:
        yield unknown(
            CONFIG,
            text(
                "config.json is of type '{type}', not one of the ChatGLM family.",
                type=checkpoint.config.get("model_type"),
            ),
            model_type=str(checkpoint.config.get("model_type")),
        )
    elif stray := _ids_outside(checkpoint):
        yield bad(
            Status.FAIL,
            "token-ids-mismatch",
            text("Token ids and vocabulary are of different dates"),
            text(
                "The vocabulary has {size} entries, but {ids}.",
                size=checkpoint.config.get("vocab_size"),
                ids=", ".join(f"{name} = {value}" for name, value in stray.items()),
            ),
            vocab_size=checkpoint.config.get("vocab_size"),
            **stray,
        )
    elif fault := _config_fault(checkpoint):
        yield bad(
            Status.FAIL,
            "config-weights-mismatch",
            text("config.json holds a value that no model has"),
            text("In {folder}: {fault}.", folder=checkpoint.path, fault=fault),
        )
    else:
        bits = checkpoint.quantization_bit
        yield ok(
            CONFIG,
            text("Generation {generation}, quantised to {bits} bits.", generation=checkpoint.generation, bits=bits)
            if bits
            else text("Generation {generation}, not quantised.", generation=checkpoint.generation),
            generation=checkpoint.generation,
            quantization_bit=bits,
        )


def _config_fault(checkpoint: Checkpoint) -> str | None:
    """What glmcore says of a value in config.json, None where it takes them all."""
    try:
        ModelConfig.from_dict(checkpoint.config)
    except GlmError as error:
        return error.what
    return None


def _ids_outside(checkpoint: Checkpoint) -> dict[str, object]:
    """Special ids of ChatGLM-6B that do not belong to the vocabulary's date."""
    size = checkpoint.config.get("vocab_size")
    if checkpoint.generation != "v1" or not isinstance(size, int) or size not in VOCABULARIES:
        return {}
    names = ("bos_token_id", "eos_token_id", "gmask_token_id", "mask_token_id")
    ids = {name: checkpoint.config[name] for name in names if name in checkpoint.config}
    return {name: value for name, value in ids.items() if value not in VOCABULARIES[size]}


def fits(host: Machine) -> Iterator[Finding]:
    """The configuration beside the shapes that the files' headers give."""
    checkpoint = known(host.checkpoint)
    wrong = list(_differences(checkpoint)) or ([checkpoint.misfit] if checkpoint.misfit else [])
    if not wrong and not (checkpoint.tensors and checkpoint.config):
        yield skipped(SHAPES, text("There are no weights or no config.json to compare."))
    elif wrong:
        yield bad(
            Status.FAIL,
            "config-weights-mismatch",
            text("config.json does not fit the weights"),
            text("In {folder}: {differences}.", folder=checkpoint.path, differences="; ".join(wrong)),
            differences=wrong,
        )
    else:
        yield ok(SHAPES, text("{count} tensors compared; they agree.", count=len(checkpoint.tensors)))


def _differences(checkpoint: Checkpoint) -> Iterator[str]:
    config, bits = checkpoint.config, checkpoint.quantization_bit or 0
    layers = {tensor.name for tensor in checkpoint.tensors if ".layers." in tensor.name}
    # A shard that is gone, damaged or something else tells of no layers; that is said elsewhere.
    shards = [file for file in checkpoint.files if file.name.endswith(WEIGHTS) and not TRAINING.match(file.name)]
    complete = all(file.kind in TENSORS and not file.fault for file in shards)
    wanted = config.get("num_layers")
    if layers and complete and wanted not in (None, len(layers)):
        yield f"num_layers {wanted}, {len(layers)} layers in the files"
    hidden, inner = config.get("hidden_size"), config.get("ffn_hidden_size", config.get("inner_hidden_size"))
    vocabulary = config.get("padded_vocab_size", config.get("vocab_size"))
    for tensor in checkpoint.tensors:
        expected = (hidden, inner) if tensor.name in layers else (vocabulary, hidden)
        difference = _difference(tensor, expected, bits if tensor.name in layers else None)
        if difference:
            yield f"{tensor.name} {difference}"
            return


def _difference(tensor: Tensor, wanted: tuple[object, object], bits: int | None) -> str | None:
    """What is wrong with one matrix. ``bits`` is None where a quantised checkpoint may keep it whole: the embedding."""
    packed = tensor.dtype in ("I8", "U8")
    if bits is not None and packed != bool(bits):
        return f"is of type {tensor.dtype}, quantization_bit is {bits}"
    if len(tensor.shape) != 2 or None in wanted:
        return None
    rows, columns = tensor.shape
    possible = (columns, columns * 2) if packed and bits in (4, None) else (columns,)
    return (
        None if rows == wanted[0] and wanted[1] in possible else f"is {rows} x {columns}, not {wanted[0]} x {wanted[1]}"
    )


CHECKS = (
    Check("model.path", PATH, path, problems=("model-path-wrong", "non-ascii-path"), needs=("checkpoint",)),
    Check(
        "model.files",
        FILES,
        files,
        problems=("missing-shard", "missing-checkpoint-file", "missing-tokenizer-file"),
        needs=("checkpoint",),
    ),
    Check(
        "model.contents",
        WHOLE,
        whole,
        problems=(*TITLES, "unsafe-pickle"),
        needs=("checkpoint",),
    ),
    Check(
        "model.pickles",
        PICKLED,
        pickled,
        problems=("torch-unsafe-pickle",),
        needs=("checkpoint", "torch"),
    ),
    Check(
        "model.config",
        CONFIG,
        config,
        problems=("token-ids-mismatch", "config-weights-mismatch"),
        needs=("checkpoint",),
    ),
    Check("model.shapes", SHAPES, fits, problems=("config-weights-mismatch",), needs=("checkpoint",)),
)
