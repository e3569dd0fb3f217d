"""What a probe can learn about a machine: frozen values without judgement.

A probe returns a fact or ``Unknown(reason)``; a check whose facts are unknown is skipped with that reason.
Sizes are bytes, versions are the text that the source gives, paths are absolute text.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Unknown:
    """A fact that could not be read, and why (English, one line; shown beside the skipped check)."""

    reason: str


@dataclass(frozen=True)
class Os:
    system: str  # "Linux", "Windows", "Darwin"
    kernel: str  # release
    machine: str  # "x86_64", "aarch64"
    distribution: str  # distro id: "debian", "ubuntu", …; "" where unknown
    distribution_version: str
    pretty_name: str
    container: str | None  # "docker", "podman", "kubernetes", "lxc", "systemd-nspawn"; None outside
    wsl: bool
    effective_uid: int | None  # None on Windows
    libc: str  # "glibc 2.36", "musl 1.2.4", ""


@dataclass(frozen=True)
class Cpu:
    model: str
    logical: int
    physical: int
    usable: float  # cores this process may use: the affinity mask and the cgroup quota, whichever is smaller
    features: tuple[str, ...]  # as /proc/cpuinfo spells them, sorted


@dataclass(frozen=True)
class Memory:
    total: int
    available: int
    swap_free: int
    limit: int | None  # cgroup memory.max or ulimit -v, the smaller; None where unlimited
    limit_used: int | None  # what of `limit` is used already; None where unlimited
    commit_free: int | None = None  # Windows: what this process can still commit, page file included

    @property
    def usable(self) -> int:
        """Bytes that this process can still take."""
        if self.limit is None:
            return self.available
        return max(0, min(self.available, self.limit - (self.limit_used or 0)))


@dataclass(frozen=True)
class Disk:
    path: str  # what was asked for
    total: int
    free: int
    writable: bool


@dataclass(frozen=True)
class PciDisplay:
    """A display or compute controller on the PCI bus."""

    address: str  # "0000:01:00.0"
    vendor: str  # "10de"
    device: str  # "1b38"
    device_class: str  # "0300"
    driver: str | None  # kernel driver bound to it: "nvidia", "nouveau", "vfio-pci"


@dataclass(frozen=True)
class Accelerator:
    """Hardware for computing that is not NVIDIA's, as the system shows it."""

    kind: str  # "amd" "intel" "ascend" "apple" "hexaflake"
    pci: tuple[str, ...]  # addresses
    nodes: tuple[str, ...]  # device nodes, named and never opened
    driver: str | None  # the kernel's
    runtime: str | None  # the maker's library or folder that was found


@dataclass(frozen=True)
class DeviceNode:
    path: str
    kind: str  # "char", "file", "directory", "missing"
    mode: int  # permission bits
    uid: int
    gid: int
    readable_and_writable: bool  # by access(2) with this process's ids; nothing is opened


@dataclass(frozen=True)
class Process:
    pid: int
    name: str


@dataclass(frozen=True)
class ModuleFile:
    """A kernel module on the disk; what a compressed one says of itself is not read."""

    path: str
    version: str | None
    kernel: str | None  # the release that it was built for
    signed: bool | None


@dataclass(frozen=True)
class KernelDriver:
    """The NVIDIA kernel module, and what stands in its place."""

    loaded: bool
    version: str | None  # of the loaded module, from /proc/driver/nvidia/version or /sys/module/nvidia/version
    source: str | None  # the file that gave the version
    open_module: bool  # "Open Kernel Module"
    nouveau_loaded: bool
    installed_versions: tuple[
        str, ...
    ]  # nvidia.ko under /lib/modules/<kernel>, by `modinfo`-like reading; may be empty
    nodes: tuple[DeviceNode, ...]  # /dev/nvidia*
    holders: tuple[Process, ...]  # processes that hold /dev/nvidia* open, as far as this user can see
    fabric_manager: bool | None = None  # does it run; None without NVSwitch
    modules: tuple[ModuleFile, ...] = ()  # nvidia.ko on the disk for the running kernel
    other_kernels: tuple[str, ...] = ()  # those that have an nvidia.ko; only looked for where none is loaded
    dxg: bool | None = None  # is WSL's device node /dev/dxg there


@dataclass(frozen=True)
class Guards:
    """What may keep a module from being loaded or a device from being opened, whatever the modes say."""

    secure_boot: bool | None  # None where the firmware does not tell
    signatures_required: bool | None  # does the kernel refuse modules without a trusted signature
    key_enrolled: bool | None  # is one of this machine's own module-signing keys known to the firmware's shim
    selinux_enforcing: bool | None  # None where it cannot be seen, as in containers
    selinux_type: str | None  # of this process: "container_t", "unconfined_t"; None without SELinux


@dataclass(frozen=True)
class Containers:
    """How containers of this host would get its cards."""

    docker: str | None  # the daemon's program or socket
    toolkit: str | None  # a program of the NVIDIA Container Toolkit
    runtimes: Mapping[str, str | None] = field(default_factory=dict)  # of daemon.json → program, None where it is gone
    cdi: tuple[str, ...] = ()  # CDI specifications that name NVIDIA's devices


@dataclass(frozen=True)
class Library:
    """One file name of a CUDA library, with the whole chain of links behind it."""

    name: str  # "cuda", "nvidia-ml", "cudart", "nvrtc", "nvrtc-builtins", "cublasLt"
    path: str  # the name as found
    chain: tuple[str, ...]  # path, then each link's target, absolute; the last is the file (or where it stops)
    # "loader-folder" "linker-cache" "LD_LIBRARY_PATH" "CUDA_PATH" "CUDA_HOME" "toolkit" "wheel" "driver-folder"
    found_by: tuple[str, ...]
    fault: str | None  # None | "dangling" | "loop" | "empty" | "not-elf" | "truncated" | "unreadable"
    size: int = 0
    elf_class: int | None = None  # 32 or 64
    machine: str | None = None  # "x86_64", "aarch64", … as platform.machine() spells it
    soname: str | None = None
    version: str | None = None  # from the file name's tail, else the SONAME's: "535.183.01", "12", "13.0.88"
    stub: bool = False  # a link-time stub of the toolkit (lies in stubs/, or is tiny and exports no driver version)
    owner: str | None = None  # the package that owns the file ("libcuda1:amd64"), where the package database tells
    real: str = ""  # canonical path of the file: links of folders followed as well; equal for names of one file

    @property
    def file(self) -> str:
        return self.chain[-1] if self.chain else self.path

    @property
    def is_link(self) -> bool:
        return len(self.chain) > 1


@dataclass(frozen=True)
class CacheEntry:
    soname: str
    path: str
    elf_class: int  # 32 or 64
    exists: bool


@dataclass(frozen=True)
class Loader:
    """How the dynamic loader looks for a library by its plain name."""

    ld_library_path: tuple[str, ...]
    folders: tuple[str, ...]  # of ld.so.conf and the system's own, in order
    cache_path: str
    cache: tuple[CacheEntry, ...]  # only the libraries of interest (CUDA's and the driver's)
    cache_fault: str | None  # None, "missing", "unreadable: …"
    resolved: Mapping[str, str | None] = field(default_factory=dict)  # SONAME → the file dlopen would take, or None


@dataclass(frozen=True)
class CudaInstall:
    """The variables and folders that say where CUDA is."""

    cuda_path: str | None  # the variable's value; None where unset
    cuda_home: str | None
    default: str  # "/usr/local/cuda"
    default_exists: bool
    default_target: str | None  # where the link leads; None where it is no link
    folders: Mapping[str, bool]  # CUDA_PATH, CUDA_HOME, default: does <value>/lib64 exist as a folder
    toolkits: Mapping[str, str]  # folder of each installed toolkit → its version ("13.0.88"; "" where not written)
    nvcc: str | None  # nvcc on PATH


@dataclass(frozen=True)
class GpuProcess:
    pid: int
    name: str  # "" where this user may not know it
    memory: int | None  # bytes on the card; None where the driver does not tell (Windows, WSL)


@dataclass(frozen=True)
class GpuLink:
    """The PCIe link as it is, and the best that this card in this slot can do. An idle card lowers its generation."""

    generation: int
    generation_max: int
    width: int
    width_max: int


@dataclass(frozen=True)
class GpuMemoryFaults:
    """Uncorrectable errors of the card's memory, and what the driver has done about them."""

    since_boot: int | None  # None where the card has no ECC, or has it switched off
    ever: int | None
    remap_pending: bool = False  # a bad row or page is taken out at the next reset
    remap_failed: bool = False  # there is no spare row left


@dataclass(frozen=True)
class NvmlGpu:
    index: int
    name: str
    memory_total: int
    memory_free: int
    compute_capability: tuple[int, int] | None
    uuid: str = ""
    # What the driver or the card does not tell is None or empty.
    pci: str = ""  # "00000000:01:00.0"
    performance_state: int | None = None  # 0 is the fastest; 8 and above is idle
    temperature: int | None = None  # degrees Celsius
    slowed_by: tuple[str, ...] = ()  # "hw-slowdown" "hw-thermal" "sw-thermal" "power-brake" "power-cap"
    link: GpuLink | None = None
    memory_faults: GpuMemoryFaults | None = None
    persistence: bool | None = None
    mig: bool | None = None
    mig_instances: int = 0
    compute_mode: str | None = None  # "default" "exclusive-thread" "prohibited" "exclusive-process"
    fabric: str | None = None  # "not-started" "in-progress" "completed", or "error 31"; None without NVSwitch
    processes: tuple[GpuProcess, ...] = ()


@dataclass(frozen=True)
class Nvml:
    """What the driver's management library answers (through pynvml)."""

    code: int  # 0, or nvmlReturn_t: 9 driver not loaded, 12 library not found, 18 mismatch, …
    message: str
    library: str | None  # the file loaded
    library_version: str | None
    driver_version: str | None
    gpus: tuple[NvmlGpu, ...] = ()
    asked: bool = True  # False: not called (as root without a driver the call would create nodes), concluded by looking
    code_without_ld_library_path: int | None = None  # asked again where the code is 18 and the variable is set


@dataclass(frozen=True)
class Xid:
    """A fault that the NVIDIA driver wrote to the kernel log."""

    number: int
    pci: str
    line: str


@dataclass(frozen=True)
class KernelLog:
    """What the kernel's log since the start says about cards and memory."""

    source: str  # "dmesg", or the file
    xids: tuple[Xid, ...]  # each card's and number's last, in the order of the log
    killed: tuple[Process, ...] = ()  # by the out-of-memory killer
    unsigned: tuple[str, ...] = ()  # lines by which the kernel refused a module for its signature
    foreign: tuple[str, ...] = ()  # lines by which it refused NVIDIA's module as another kernel's


@dataclass(frozen=True)
class MemoryKills:
    """How often the kernel's out-of-memory killer struck, by the kernel's own counters, and whom, by its log."""

    machine: int | None  # since the start; None where the kernel does not count
    group: int | None  # in the cgroup of this process (its container or session)
    group_path: str  # that cgroup's folder; "" where there is none
    log: str | None  # "dmesg", or the file; None where there was no need to look, or this user may not
    killed: tuple[Process, ...] = ()


@dataclass(frozen=True)
class DriverCeiling:
    """Highest CUDA version the driver's libcuda supports, from cuDriverGetVersion in a child process."""

    cuda: tuple[int, int]  # (12, 2)
    library: str


@dataclass(frozen=True)
class Interpreter:
    """The Python that is examined; packages by their metadata, nothing imported."""

    executable: str
    version: str
    prefix: str
    platform_tag: str  # "linux_x86_64"
    packages: Mapping[str, str]  # normalised name → version
    site_folders: tuple[str, ...]
    # What the wheels themselves ask for, of the few that decide: name → requirements, "python>=3.9" among them.
    requires: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Torch:
    """torch in the examined interpreter, read from its version file; never imported."""

    version: str  # "2.13.0+cpu"
    cuda: str | None  # "12.6"; None for a CPU build
    hip: str | None
    path: str
    bundled: tuple[str, ...]  # CUDA library files in torch/lib and nvidia/*/lib


@dataclass(frozen=True)
class FlashAttention:
    """flash-attn in the examined interpreter, by the name of its wheel."""

    version: str
    wheel: str  # the file or address that pip installed; "" where pip wrote none down, as after building it here
    torch: str | None  # "2.5": the release that the wheel is for


@dataclass(frozen=True)
class Bitsandbytes:
    """bitsandbytes in the examined interpreter, by its files."""

    version: str
    folder: str
    binaries: tuple[str, ...]  # what it brings: "cpu", "cuda118", "rocm62", …


@dataclass(frozen=True)
class CxxLibrary:
    """A libstdc++.so.6, and the GLIBCXX versions that it defines."""

    path: str
    found_by: str  # "conda" "LD_LIBRARY_PATH" "loader"
    defines: tuple[str, ...]


@dataclass(frozen=True)
class CxxRuntime:
    """The C++ runtimes of this machine, that which the examined Python loads first, and what its packages need."""

    libraries: tuple[CxxLibrary, ...]
    needs: Mapping[str, tuple[str, ...]]  # file → GLIBCXX versions that it asks for, the oldest first


@dataclass(frozen=True)
class Compiler:
    command: str  # "gcc"
    path: str
    family: str  # "gcc", "clang", "apple-clang"; "" as for version
    version: str  # "" where it was not asked, because one that comes before it answered
    target: str = ""  # "x86_64-linux-gnu", "mingw32", …; "" as for version, or where it does not tell


@dataclass(frozen=True)
class Toolchain:
    compilers: tuple[Compiler, ...]  # in the order in which the kernel build tries them, each program once
    cc_variable: str | None  # $CC


@dataclass(frozen=True)
class KernelBuild:
    """The CPU quantisation kernel, really built (or taken from the cache) and compared with a reference."""

    ok: bool
    stage: str  # "cache" "compiler" "compile" "openmp" "load" "verify" "done": how far it came
    path: str | None  # the kernel_file
    compiler: str | None
    isa: str | None  # "avx512-vnni", "avx2", "plain", …
    openmp: bool
    cached: bool
    log: str  # the compiler's or loader's own words on failure
    max_error: float | None  # against the reference, relative


@dataclass(frozen=True)
class GivenKernel:
    """A kernel_file that the user or the environment names, tried as it is."""

    path: str
    ok: bool
    reason: str
    stage: str = ""  # where it failed: "load" "symbols" "crash" "verify"
    built_by: str = ""  # the compiler's own note in the file: "GCC: (Debian 12.2.0-14) 12.2.0"
    machine: str = ""  # the processor it was built for, as platform.machine() spells it


@dataclass(frozen=True)
class OriginalKernel:
    """A copy of a checkpoint's own quantization.py, and what its CPU kernel would find when it is imported there."""

    path: str
    in_cache: bool  # transformers' modules cache, which is what is really imported
    sources: tuple[str, ...]  # C files that it names
    missing: tuple[str, ...]  # those that are neither beside it nor inside it as text
    compiled: tuple[str, ...]  # libraries beside it
    kernel_file: str | None  # what it passes on itself; None: "No compiled kernel found", and it compiles


@dataclass(frozen=True)
class CpmHit:
    """What cpm_kernels' own search gives for one library."""

    library: str  # "nvrtc", "cuda", "cudart", "cublasLt"
    path: str | None  # the winning file or name; None where nothing is found
    rule: str  # "CUDA_PATH/lib64", "/usr/local/cuda/lib64", "find_library", "PATH", "none"
    tried: tuple[str, ...]  # every file looked for, in order
    loads: bool | None  # can it be opened (ELF class, not dangling, not a stub); None where not known
    stub: bool = False
    real: str | None = None  # the winning file with every link followed, its folders' too


@dataclass(frozen=True)
class Cpm:
    """cpm_kernels in the examined interpreter and its search, replayed as the installed version has it."""

    version: str | None  # None: not installed; the rules of 1.0.11 are replayed then
    hits: tuple[CpmHit, ...]
    path_files: tuple[str, ...] = ()  # Windows: entries of PATH that are files, which it lists as folders
    architectures: tuple[int, ...] = ()  # of the machine code in its fatbins: 61, 62, 70, …; () where it was not read


@dataclass(frozen=True)
class CheckpointFile:
    name: str
    size: int
    # "safetensors" "torch-zip" "torch-pickle" "lfs-pointer" "html" "json" "sentencepiece" "tiktoken" "empty" "other"
    # "missing" (an index names it)
    kind: str
    fault: str | None = None  # "truncated: …", "damaged: …", "unreadable: …"
    imports: tuple[str, ...] = ()  # what the pickle in it would call, as "torch._utils._rebuild_tensor_v2"


@dataclass(frozen=True)
class Tensor:
    name: str
    dtype: str  # as safetensors names it: "F16", "I8"
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint folder as it lies on the disk; no weights are read."""

    path: str
    exists: bool
    is_folder: bool
    readable: bool
    generation: str | None  # "v1" "v2" "v3" "glm4"
    quantization_bit: int | None
    config: Mapping[str, object]
    files: tuple[CheckpointFile, ...]
    weight_bytes: int
    # what its own Python files show about their age ("tokenizer-init-early", …; "present" first); () where it has none
    remote_code: tuple[str, ...] = ()
    tensors: tuple[Tensor, ...] = ()  # the embedding and each layer's last projection; of safetensors files only
    misfit: str | None = None  # the first tensor that is not as config.json asks; of safetensors files only
    # JSON file → values of its auto_map that name another repository, as "THUDM/chatglm3-6b--modeling_chatglm.X"
    code_elsewhere: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class OwnCode:
    """What a checkpoint's own Python files define and ask for, by their text; nothing is imported."""

    classes: Mapping[str, tuple[str, ...]]  # file → its classes
    offers: tuple[str, ...]  # ways to talk to the model: "chat", "stream_chat"
    asked_of_tokenizer: tuple[str, ...]  # methods that the model's code calls on the tokenizer that it is given
    tokenizer_offers: tuple[str, ...]  # those of them that the tokenizer's code defines


@dataclass(frozen=True)
class Hub:
    """The settings by which the hub would be reached; nothing is sent."""

    endpoint: str | None
    offline: tuple[str, ...]  # variables that forbid the network
    proxies: Mapping[str, str]  # variable → "http://127.0.0.1:7890"; other machines' names are left out
    silent: tuple[str, ...]  # variables whose proxy is on this machine, where nothing listens on its port
    cached: bool | None  # is the model that was named in the hub's cache; None where no hub name was
    # this machine's own names that no_proxy leaves to a proxy for plain HTTP; empty where there is none
    own_names_through_proxy: tuple[str, ...] = ()


@dataclass(frozen=True)
class KernelRun:
    """A real product at a model's shape on one device, compared with exact numbers (``--deep``)."""

    device: str  # "cpu", "cuda:0"
    name: str
    fault: str | None  # what went wrong, in the device's own words
    error: float | None = None  # the largest, relative
    seconds: float | None = None  # the best of some rounds
    bandwidth: float | None = None  # bytes/s of the device's memory


@dataclass(frozen=True)
class FileHash:
    """The sha256 of a checkpoint's file beside the one that it should have (``--deep``)."""

    name: str
    size: int
    sha256: str
    expected: str | None  # None where nothing tells
    source: str  # what tells it: "hub cache" "download record" "git lfs"; ""
    not_finite: tuple[str, ...] = ()  # of safetensors: the first weights that hold a NaN or an infinity


@dataclass(frozen=True)
class Settings:
    """Variables of the environment that steer the libraries (an allow-list; nothing else is read)."""

    values: Mapping[str, str]


@dataclass(frozen=True)
class State:
    """What glmdoctor itself left here: the private CUDA_PATH and repairs in the journal."""

    private_cuda: str | None  # folder, where it exists
    open_runs: tuple[str, ...]  # repairs that were not finished
    done_runs: tuple[str, ...]  # repairs that can be undone
