"""The NVIDIA card, its kernel module, its device nodes, and the way of all that into containers."""

from __future__ import annotations

from collections.abc import Iterator

from glmdoctor.checks.base import Check, Machine, bad, known, maybe, not_looked_at, ok, skipped, unknown
from glmdoctor.checks.causes import NO_MODULE, OUT_OF_REACH
from glmdoctor.checks.modules import refused
from glmdoctor.findings import Finding, Nodes, Status
from glmdoctor.host.facts import DeviceNode, KernelDriver, Unknown
from glmdoctor.messages import text
from glmdoctor.readings.cards import cards, confined_by_selinux, container, has_card, on_wsl
from glmdoctor.readings.driver import driver_libraries

CARD = text("NVIDIA card")
MODULE = text("NVIDIA kernel module")
NODES = text("NVIDIA device nodes")
UVM = text("nvidia-uvm device")
NO_CARD = text("There is no NVIDIA card here; models run on the CPU.")
NOT_LOADED = text("The NVIDIA kernel module is not loaded.")


def card(host: Machine) -> Iterator[Finding]:
    found = cards(host)
    if found:
        names = [f"{d.address} ({d.vendor}:{d.device})" for d in found]
        yield ok(CARD, text("Found on the PCI bus: {cards}.", cards=", ".join(names)), cards=names)
        return
    if has_card(host):
        yield ok(CARD, text("No card on the PCI bus, but the driver is running and serves one."))
        return
    leftovers = sorted({lib.real or lib.file: lib.file for lib in driver_libraries(host)}.values())
    if leftovers and not on_wsl(host):
        yield bad(
            Status.WARN,
            "no-gpu-hardware",
            text("Driver installed, but no NVIDIA card"),
            text(
                "The driver's libraries are installed ({files}), but no device of vendor 10de is on the PCI bus. "
                "Models run on the CPU.",
                files=", ".join(leftovers[:3]),
            ),
            libraries=leftovers,
        )
        return
    if isinstance(host.pci, Unknown):
        yield not_looked_at(CARD, host.pci)
        return
    yield ok(CARD, NO_CARD)


def module(host: Machine) -> Iterator[Finding]:
    driver = known(host.kernel_driver)
    if driver.loaded:
        yield ok(
            MODULE,
            text("Version {version} is loaded.", version=driver.version or "?"),
            version=driver.version,
            source=driver.source,
        )
    elif on_wsl(host):
        yield skipped(MODULE, text("Under WSL the driver is that of Windows; Linux needs no module."))
    elif has_card(host):
        yield _module_missing(host, driver)
    elif driver_libraries(host):
        yield _not_loaded(host, driver, Status.WARN)
    else:
        yield skipped(MODULE, NO_CARD)


def _module_missing(host: Machine, driver: KernelDriver) -> Finding:
    """A card without its module: who is in the way, or what is missing?"""
    held = [d.address for d in cards(host) if d.driver == "nouveau"]
    if held or driver.nouveau_loaded:
        return bad(
            Status.FAIL,
            "nouveau-in-the-way",
            text("nouveau holds the NVIDIA card"),
            text(
                "The free driver nouveau holds {cards}; CUDA needs NVIDIA's own module, which cannot take the card.",
                cards=", ".join(held) or "?",
            ),
            cards=held,
            nouveau_loaded=driver.nouveau_loaded,
        )
    refusal = refused(host, driver)
    if refusal:
        return refusal
    if driver.installed_versions or driver_libraries(host):
        return _not_loaded(host, driver, Status.FAIL)
    return bad(
        Status.FAIL,
        "no-nvidia-driver",
        text("No NVIDIA driver installed"),
        text(
            "The card {cards} has no driver: neither the kernel module nor the driver's libraries were found.",
            cards=", ".join(d.address for d in cards(host)),
        ),
        cards=[d.address for d in cards(host)],
        bound_to=[d.driver for d in cards(host)],
        container=container(host),
    )


def _not_loaded(host: Machine, driver: KernelDriver, status: Status) -> Finding:
    versions = sorted({lib.version for lib in driver_libraries(host) if lib.version and "." in lib.version})
    for_kernel = (
        text("nvidia.ko {versions} is installed for this kernel", versions=", ".join(driver.installed_versions))
        if driver.installed_versions
        else text("no nvidia.ko was found for this kernel")
    )
    return bad(
        status,
        "driver-not-loaded",
        text("NVIDIA kernel module not loaded"),
        text(
            "The driver's libraries are of version {versions}, but the module is not loaded; {for_kernel}.",
            versions=", ".join(versions) or "?",
            for_kernel=for_kernel,
        ),
        library_versions=versions,
        installed_modules=list(driver.installed_versions),
    )


def nodes(host: Machine) -> Iterator[Finding]:
    driver = known(host.kernel_driver)
    if not driver.loaded:
        yield skipped(NODES, NOT_LOADED)
        return
    # /dev/nvidia-uvm is judged by its own check; caps and modeset are not needed for computing.
    used = [n for n in driver.nodes if n.kind != "missing" and _is_control_or_card(n)]
    closed = [n for n in used if n.kind == "char" and not n.readable_and_writable]
    wrong = [n for n in used if n.kind != "char"]
    if closed:
        yield _closed(host, closed)
    if wrong:
        yield _no_device(host, wrong)
    if not closed and not wrong:
        yield ok(NODES, text("{count} nodes, all open to this user.", count=len(used)), nodes=[n.path for n in used])


def _closed(host: Machine, closed: list[DeviceNode]) -> Finding:
    label = confined_by_selinux(host)
    if label and all(node.mode & 0o006 == 0o006 for node in closed):
        return _closed_by_label(label, closed)
    os = maybe(host.os)
    return bad(
        Status.FAIL,
        "device-node-permission",
        text("Device nodes closed to this user"),
        text(
            "User {uid} may not read and write {nodes}.",
            uid=os.effective_uid if os else "?",
            nodes=", ".join(f"{n.path} (mode {n.mode:04o}, uid {n.uid}, gid {n.gid})" for n in closed),
        ),
        Nodes(tuple(n.path for n in closed)),
        nodes={n.path: f"{n.mode:04o} {n.uid}:{n.gid}" for n in closed},
    )


def _closed_by_label(label: str, closed: list[DeviceNode]) -> Finding:
    """Open to everybody by their modes, and yet closed."""
    return bad(
        Status.FAIL,
        "selinux-blocks-gpu",
        text("SELinux keeps this container from the device nodes"),
        text(
            "{nodes} are open to everybody by their modes, but the label {label} may not use them.",
            nodes=", ".join(node.path for node in closed),
            label=label,
        ),
        label=label,
        nodes={node.path: f"{node.mode:04o}" for node in closed},
    )


def _no_device(host: Machine, wrong: list[DeviceNode]) -> Finding:
    return bad(
        Status.FAIL,
        "cuda-init-os-error",
        text("Something else lies where a device node belongs"),
        text("{nodes} is no character device; CUDA cannot open the card.", nodes=", ".join(n.path for n in wrong)),
        nodes={n.path: n.kind for n in wrong},
    )


def uvm(host: Machine) -> Iterator[Finding]:
    driver = known(host.kernel_driver)
    node = next((n for n in driver.nodes if n.path == "/dev/nvidia-uvm"), None)
    if not driver.loaded:
        yield skipped(UVM, NOT_LOADED)
    elif node is None or node.kind == "missing":
        yield _uvm_missing(host, driver)
    elif node.kind == "char" and node.readable_and_writable:
        yield ok(UVM, text("{path} is there and open to this user.", path=node.path))
    else:
        yield bad(
            Status.FAIL,
            "cuda-unknown-error-999",
            text("nvidia-uvm cannot be used"),
            text(
                "{path} is a {kind} of mode {mode}; CUDA needs it as a device that this user may read and write.",
                path=node.path,
                kind=node.kind,
                mode=f"{node.mode:04o}",
            ),
            path=node.path,
            kind=node.kind,
            mode=f"{node.mode:04o}",
        )


def _uvm_missing(host: Machine, driver: KernelDriver) -> Finding:
    """nvidia-modprobe makes the node at the first use, so its absence is fatal only in a container."""
    others = [n.path for n in driver.nodes if n.kind == "char"]
    if not others:
        return unknown(UVM, text("The node /dev/nvidia-uvm is not there yet; the driver makes it at the first use."))
    return bad(
        Status.FAIL if container(host) else Status.WARN,
        "cuda-unknown-error-999",
        text("nvidia-uvm is missing"),
        text("The node /dev/nvidia-uvm is not there; without it cuInit answers 999 (unknown error)."),
        nodes=others,
    )


def _is_control_or_card(node: DeviceNode) -> bool:
    tail = node.path.removeprefix("/dev/nvidia")
    return tail == "ctl" or tail.isdigit()


CHECKS = (
    Check("driver.card", CARD, card, problems=("no-gpu-hardware",)),
    Check(
        "driver.module",
        MODULE,
        module,
        problems=(*NO_MODULE,),
        needs=("kernel_driver",),
        explained_by=("no-gpu-hardware",),
    ),
    Check(
        "driver.nodes",
        NODES,
        nodes,
        problems=("device-node-permission", "selinux-blocks-gpu", "cuda-init-os-error"),
        needs=("kernel_driver",),
    ),
    Check(
        "driver.uvm",
        UVM,
        uvm,
        problems=("cuda-unknown-error-999",),
        needs=("kernel_driver",),
        explained_by=("device-node-permission", "selinux-blocks-gpu", *OUT_OF_REACH),
    ),
)
