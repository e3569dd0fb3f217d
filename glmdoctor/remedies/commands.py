"""Commands that a person can read and run, made from the machine's own facts and quoted for a shell."""

from __future__ import annotations

import posixpath
import re
import shlex
from collections.abc import Callable, Iterable, Mapping

from glmdoctor.findings import Finding
from glmdoctor.host.facts import Checkpoint
from glmdoctor.readings.machine import Machine, maybe
from glmdoctor.readings.torch_builds import best
from glmdoctor.readings.versions import numbers

Commands = tuple[str, ...]

FAMILIES = {
    "debian": ("debian", "ubuntu", "linuxmint", "pop", "raspbian", "kali", "deepin", "uos"),
    "fedora": ("fedora", "rhel", "centos", "rocky", "almalinux", "ol", "amzn", "openeuler", "anolis"),
    "suse": ("opensuse", "opensuse-leap", "opensuse-tumbleweed", "sles", "suse"),
    "arch": ("arch", "manjaro", "endeavouros"),
    "alpine": ("alpine",),
}
INSTALL = {
    "debian": "apt-get install {}",
    "fedora": "dnf install {}",
    "suse": "zypper install {}",
    "arch": "pacman -S {}",
    "alpine": "apk add {}",
}
INITRAMFS = {
    "debian": "update-initramfs -u",
    "fedora": "dracut --force",
    "suse": "dracut --force",
    "arch": "mkinitcpio -P",
}
DRIVER = {"debian": "nvidia-driver", "fedora": "akmod-nvidia", "suse": "nvidia-open-driver-G06", "arch": "nvidia"}
USER_SPACE = {"debian": "libcuda1 libnvidia-ml1", "fedora": "xorg-x11-drv-nvidia-cuda-libs", "arch": "nvidia-utils"}
HEADERS = {
    "debian": "linux-headers-{}",
    "fedora": "kernel-devel-{}",
    "suse": "kernel-default-devel",
    "arch": "linux-headers",
}
COMPILER = {"debian": "gcc libc6-dev", "fedora": "gcc", "suse": "gcc", "arch": "gcc", "alpine": "gcc musl-dev"}
OPENMP = {"debian": "libgomp1", "fedora": "libgomp", "suse": "libgomp1", "arch": "gcc-libs", "alpine": "libgomp"}
CLANG_OPENMP = {"debian": "libomp-dev", "fedora": "libomp-devel", "suse": "libomp-devel", "arch": "openmp"}


def family(host: Machine) -> str:
    """The package manager's kind, by the distribution's id; "" where it is not known."""
    os = maybe(host.os)
    ids = {name: kind for kind, names in FAMILIES.items() for name in names}
    return ids.get(os.distribution, "") if os and os.system == "Linux" else ""


def sudo(host: Machine, *commands: str) -> Commands:
    """The commands as root."""
    os = maybe(host.os)
    prefix = "" if os and os.effective_uid == 0 else "sudo "
    return tuple(prefix + command for command in commands)


def install(host: Machine, packages: Mapping[str, str]) -> Commands:
    kind = family(host)
    return sudo(host, INSTALL[kind].format(packages[kind])) if kind in packages else ()


def pip(host: Machine, *requirements: str) -> Commands:
    """An installation into the interpreter that is examined."""
    interpreter = maybe(host.interpreter)
    program = interpreter.executable if interpreter else "python"
    return (shlex.join([program, "-m", "pip", "install", *requirements]),) if requirements else ()


def removal(host: Machine, package: str) -> Commands:
    interpreter = maybe(host.interpreter)
    return (shlex.join([interpreter.executable if interpreter else "python", "-m", "pip", "uninstall", "-y", package]),)


def torch(host: Machine) -> Commands:
    """The newest torch that the driver's CUDA ceiling, the cards and the interpreter all admit."""
    interpreter, ceiling, nvml = maybe(host.interpreter), maybe(host.ceiling), maybe(host.nvml)
    cards = [gpu.compute_capability for gpu in (nvml.gpus if nvml else ()) if gpu.compute_capability]
    python = numbers(interpreter.version)[:2] if interpreter else None
    build = best(python, ceiling.cuda if ceiling else None, cards)
    index = ("--extra-index-url", build.index) if build and build.index else ()
    return pip(host, f"torch=={build.version}", *index) if build else ()


def toolkit_wheels(host: Machine, *wanted: str) -> Commands:
    """NVIDIA's wheels of CUDA libraries for torch's release; since CUDA 13 their names carry none."""
    found = maybe(host.torch)
    major = numbers(found.cuda)[0] if found and found.cuda else 12
    suffix = f"-cu{major}" if major < 13 else ""
    return pip(host, *(f"nvidia-{name}{suffix}" for name in wanted))


def cpm_libraries(host: Machine) -> Commands:
    return (*toolkit_wheels(host, "cuda-nvrtc", "cuda-runtime", "cublas"), "glmdoctor fix --symlink")


def driver(host: Machine) -> Commands:
    """The driver; in a container it comes from outside."""
    os = maybe(host.os)
    if os and os.container:
        return ("docker run --gpus all …",)
    if os and os.distribution == "ubuntu":
        return sudo(host, "ubuntu-drivers install")
    return install(host, DRIVER)


TOOLKIT_IN_CONTAINERS = dict.fromkeys(("debian", "fedora", "suse", "arch"), "nvidia-container-toolkit")
START_WITH_CARD = {
    "docker": "docker run --gpus all …",
    "podman": "podman run --device nvidia.com/gpu=all …",
}


def card_into_containers(host: Machine) -> Commands:
    """From inside, how the container has to be started; on the host, what enables Docker for it."""
    os, found = maybe(host.os), maybe(host.containers)
    if os and os.container:
        return tuple(filter(None, [START_WITH_CARD.get(os.container)]))
    lacking = () if found and found.toolkit else install(host, TOOLKIT_IN_CONTAINERS)
    return (*lacking, *sudo(host, "nvidia-ctk runtime configure --runtime=docker", "systemctl restart docker"))


def enrol_key(host: Machine) -> Commands:
    """Ubuntu's DKMS signs with a key of its own place; a reboot then asks for the password at the console."""
    os = maybe(host.os)
    ubuntu = os is not None and os.distribution in ("ubuntu", "linuxmint", "pop")
    key = "/var/lib/shim-signed/mok/MOK.der" if ubuntu else "/var/lib/dkms/mok.pub"
    return sudo(host, "mokutil --sb-state", f"mokutil --import {key}", "reboot")


def older_toolkit(finding: Finding, host: Machine) -> Commands:
    """The newest installed toolkit of a release that the driver knows."""
    cuda, ceiling = maybe(host.cuda), numbers(str(finding.evidence.get("ceiling", "")))
    known = {folder: numbers(v)[:2] for folder, v in (cuda.toolkits if cuda else {}).items() if v}
    fitting = [folder for folder, version in known.items() if version <= ceiling]
    best = max(fitting, key=lambda folder: known[folder], default=None)
    return (f"export CUDA_PATH={shlex.quote(best)}",) if best else ()


def remove_linux_driver(finding: Finding, host: Machine) -> Commands:
    owner = finding.evidence.get("owner")
    return remove_packages(host, (str(owner),)) if owner else ()


def headers(host: Machine) -> Commands:
    os, kind = maybe(host.os), family(host)
    return install(host, {kind: HEADERS[kind].format(os.kernel)}) if os and kind in HEADERS else ()


def load_module(host: Machine) -> Commands:
    return (*sudo(host, "modprobe nvidia"), *headers(host), *sudo(host, "dkms autoinstall"))


def blacklist_nouveau(host: Machine) -> Commands:
    lines, file = r"blacklist nouveau\noptions nouveau modeset=0\n", "/etc/modprobe.d/blacklist-nouveau.conf"
    write = shlex.join(["sh", "-c", f"printf '{lines}' > {file}"])
    return sudo(host, write, *filter(None, [INITRAMFS.get(family(host))]), "reboot")


def reinstall_user_space(host: Machine) -> Commands:
    """The driver's own libraries anew; Ubuntu names the package by the driver's release."""
    os, module, kind = maybe(host.os), maybe(host.kernel_driver), family(host)
    if os and os.distribution == "ubuntu" and module and module.version:
        return sudo(host, f"apt-get install --reinstall libnvidia-compute-{module.version.split('.')[0]}")
    verb = {"debian": "apt-get install --reinstall", "fedora": "dnf reinstall", "arch": "pacman -S"}.get(kind)
    return sudo(host, f"{verb} {USER_SPACE[kind]}") if verb else ()


def _module_runs(host: Machine) -> bool:
    module = maybe(host.kernel_driver)
    return bool(module and module.loaded)


def reload_module(host: Machine) -> Commands:
    return sudo(host, "modprobe -r nvidia_uvm nvidia_drm nvidia_modeset nvidia", "modprobe nvidia", "reboot")


def remove_packages(host: Machine, packages: Iterable[str]) -> Commands:
    verb = {"debian": "apt-get remove", "fedora": "dnf remove", "suse": "zypper remove", "arch": "pacman -R"}
    names = " ".join(shlex.quote(name) for name in dict.fromkeys(packages))
    return sudo(host, f"{verb[family(host)]} {names}") if names and family(host) in verb else ()


def openmp(host: Machine) -> Commands:
    toolchain = maybe(host.toolchain)
    clang = toolchain and toolchain.compilers and toolchain.compilers[0].family == "clang"
    os = maybe(host.os)
    if os and os.system == "Darwin":
        return ("brew install libomp",)
    return install(host, CLANG_OPENMP if clang else OPENMP)


def open_nodes(finding: Finding, host: Machine) -> Commands:
    nodes = finding.evidence.get("nodes")
    names = [shlex.quote(str(name)) for name in nodes] if isinstance(nodes, Mapping) else ["/dev/nvidia*"]
    return sudo(host, 'usermod -aG video "$USER"', f"chmod 0666 {' '.join(names)}")


def missing_packages(finding: Finding, host: Machine) -> Commands:
    """The set that was solved for this machine, else the packages that are missing."""
    wanted = finding.evidence.get("install") or finding.evidence.get("missing")
    return pip(host, *map(str, wanted)) if isinstance(wanted, (list, tuple)) else ()


def bitsandbytes(finding: Finding, host: Machine) -> Commands:
    if finding.evidence.get("BNB_CUDA_VERSION"):
        return ("unset BNB_CUDA_VERSION",)
    return pip(host, "--upgrade", "bitsandbytes")


def hub(finding: Finding, host: Machine) -> Commands:
    """The variables that are in the way; those of proxies are read in small letters too."""
    given = finding.evidence.get("variables")
    names = [str(name) for name in given] if isinstance(given, (list, tuple)) else []
    spellings = [(name, name.lower()) if "PROXY" in name else (name,) for name in names]
    return tuple(shlex.join(["unset", *both]) for both in spellings)


def pull_lfs(finding: Finding, host: Machine) -> Commands:
    return tuple(shlex.join(["git", "-C", folder, "lfs", "pull"]) for folder in _folder(host))


def fetch_again(finding: Finding, host: Machine) -> Commands:
    """By `glmdoctor fix`; on Windows by hand: damaged files moved aside, then what is missing fetched and verified."""
    checkpoint, files, os = maybe(host.checkpoint), finding.evidence.get("files"), maybe(host.os)
    name = hub_name(checkpoint) if checkpoint else None
    if checkpoint is None or name is None or not isinstance(files, (list, tuple, Mapping)):
        return ()
    if os is None or os.system != "Windows":
        return (shlex.join(["glmdoctor", "fix", "--only", str(finding.problem), "--model", checkpoint.path]),)
    present = {file.name for file in checkpoint.files if file.kind != "missing"}
    damaged = [posixpath.join(checkpoint.path, str(file)) for file in files if file in present]
    aside = (shlex.join(["mv", "-n", path, f"{path}.damaged"]) for path in damaged)
    return (*aside, shlex.join(["glmcore", "download", name, "-o", checkpoint.path]))


def hub_name(checkpoint: Checkpoint) -> str | None:
    """What the configuration or the folder says that the checkpoint is; None where neither tells."""
    said = str(checkpoint.config.get("_name_or_path", ""))
    if re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", said, re.ASCII):
        return said
    folder = posixpath.basename(posixpath.normpath(checkpoint.path))
    return folder if re.fullmatch(r"(chatglm\d?-6b|codegeex2-6b|glm-4-9b)[\w-]*", folder, re.ASCII) else None


def correct(finding: Finding, host: Machine) -> Commands:
    return tuple(
        shlex.join(["glmdoctor", "fix", "--only", str(finding.problem), "--model", folder]) for folder in _folder(host)
    )


def smaller(finding: Finding, host: Machine) -> Commands:
    return tuple(shlex.join(["glmcore", "chat", "--model", folder, "--quant", "int4"]) for folder in _folder(host))


def _folder(host: Machine) -> Commands:
    checkpoint = maybe(host.checkpoint)
    return (checkpoint.path,) if checkpoint else ()


def _by_host(make: Callable[[Machine], Commands]) -> Callable[[Finding, Machine], Commands]:
    return lambda finding, host: make(host)


def _packages(*requirements: str) -> Callable[[Finding, Machine], Commands]:
    return lambda finding, host: pip(host, *requirements)


def _as_root(*commands: str) -> Callable[[Finding, Machine], Commands]:
    return lambda finding, host: sudo(host, *commands)


def _lines(*commands: str) -> Callable[[Finding, Machine], Commands]:
    return lambda finding, host: commands


BY_PROBLEM: Mapping[str, Callable[[Finding, Machine], Commands]] = {
    "nvml-not-found": _by_host(driver),
    "no-nvidia-driver": _by_host(driver),
    "driver-not-loaded": _by_host(load_module),
    "kernel-module-mismatch": _by_host(lambda host: (*headers(host), *sudo(host, "dkms autoinstall", "reboot"))),
    "nouveau-in-the-way": _by_host(blacklist_nouveau),
    "secure-boot-module-rejected": _by_host(enrol_key),
    "cuda-driver-too-old": _by_host(torch),
    "torch-cpu-only": _by_host(torch),
    "torch-arch-unsupported": _by_host(torch),
    "cuda-system-not-ready": _as_root("systemctl enable --now nvidia-fabricmanager"),
    "cuda-unknown-error-999": _as_root("modprobe nvidia_uvm", "nvidia-modprobe -u -c=0"),
    "uvm-hmm-cuinit-fails": _as_root(
        "sh -c 'echo options nvidia_uvm uvm_disable_hmm=1 >/etc/modprobe.d/uvm.conf'",
        "modprobe -r nvidia_uvm",
        "modprobe nvidia_uvm",
    ),
    "device-node-permission": open_nodes,
    "selinux-blocks-gpu": _as_root("setsebool -P container_use_devices on"),
    "docker-no-gpu-runtime": _by_host(card_into_containers),
    "ptx-newer-than-driver": older_toolkit,
    "wsl-libcuda-shadowed": remove_linux_driver,
    "gpu-xid-fault": _as_root("dmesg | grep -i xid"),
    "gpu-throttled": _lines("nvidia-smi -q -d PERFORMANCE,TEMPERATURE,POWER"),
    "pcie-link-narrow": _as_root("lspci -vv -d 10de:"),
    "gpu-exclusive-compute-mode": _as_root("nvidia-smi -c 0"),
    "gpu-ecc-errors": _as_root("nvidia-smi -q -d ECC,ROW_REMAPPER", "nvidia-smi -r"),
    "invalid-device-ordinal": _lines("unset CUDA_VISIBLE_DEVICES"),
    "no-cuda-gpu-visible": _lines("unset CUDA_VISIBLE_DEVICES"),
    "libcuda-link-broken": _by_host(reinstall_user_space),
    "libcuda-so-missing": _by_host(lambda host: reinstall_user_space(host) if _module_runs(host) else driver(host)),
    "linker-cache-stale": _as_root("glmdoctor fix --symlink"),
    "cpm-toolkit-libs-missing": _by_host(cpm_libraries),
    "cuda-runtime-so-missing": _by_host(lambda host: toolkit_wheels(host, "cuda-runtime")),
    "cublaslt-symbol-conflict": _lines("unset LD_LIBRARY_PATH"),
    "flash-attn-abi": _by_host(lambda host: removal(host, "flash-attn")),
    "bitsandbytes-cuda-setup": bitsandbytes,
    "gcc-missing": _by_host(lambda host: install(host, COMPILER)),
    "openmp-missing": _by_host(openmp),
    "cpu-kernel-not-loaded": _lines("glmdoctor fix --kernel"),
    "kernel-so-not-loadable": _lines("unset GLMCORE_KERNEL_FILE", "glmdoctor fix --kernel"),
    "ram-oom": smaller,
    "process-killed-ram": smaller,
    "cuda-oom": smaller,
    "lfs-pointer-checkpoint": pull_lfs,
    "truncated-checkpoint": fetch_again,
    "unsafe-pickle": fetch_again,
    "torch-unsafe-pickle": _packages("torch>=2.10"),
    "html-instead-of-weights": fetch_again,
    "sentencepiece-model-corrupt": fetch_again,
    "missing-shard": fetch_again,
    "missing-checkpoint-file": fetch_again,
    "missing-tokenizer-file": fetch_again,
    "python-deps-missing": missing_packages,
    "protobuf-too-new": _packages("protobuf<3.21"),
    "numpy2-abi": _packages("numpy<2"),
    "libstdcxx-too-old": _lines("conda install -c conda-forge libstdcxx-ng"),
    "gradio-incompatible": _packages("gradio>=3.39,<3.51"),
    "torch-too-old-skip-init": _packages("torch>=1.10"),
    "tf-new-tokenizer-init": missing_packages,
    "tf-new-token-property": missing_packages,
    "tf-config-attr-missing": missing_packages,
    "tf-new-pad-padding-side": missing_packages,
    "tf-new-cache-format": missing_packages,
    "tf-new-tied-weights": missing_packages,
    "tf-no-generation-mixin": missing_packages,
    "tf-too-old": _packages("--upgrade", "transformers"),
    "mps-op-unsupported": _lines("export PYTORCH_ENABLE_MPS_FALLBACK=1"),
    "hf-cache-not-writable": _lines(
        'export HF_MODULES_CACHE="$HOME/.cache/huggingface/modules"', 'export XDG_CACHE_HOME="/var/tmp/cache-$(id -un)"'
    ),
    "hub-unreachable": hub,
    "mps-oom": smaller,
    "half-on-cpu": _packages("torch>=2.2"),
    "localhost-through-proxy": _lines('export no_proxy="${no_proxy:+$no_proxy,}localhost,127.0.0.1,::1"'),
    "pydantic-version": _packages("pydantic>=2,<2.11"),
    "auto-map-points-to-hub": correct,
    "hf-rope-theta-lost": correct,
}


def commands(finding: Finding, host: Machine) -> Commands:
    """What to run for a finding; nothing where no command helps."""
    make = BY_PROBLEM.get(finding.problem or "")
    return make(finding, host) if make else ()
