"""The C compiler, OpenMP and the CPU kernel for quantised weights, which is really built and checked.

Without the kernel glmcore falls back to torch's operators and says so: slower, but right. So a missing compiler is a
warning, and a failure only where ``--model`` names a quantised model that this machine would run on the CPU.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from glmdoctor.checks.base import Check, Machine, bad, known, maybe, ok, skipped
from glmdoctor.findings import Finding, Status
from glmdoctor.host.facts import Compiler, GivenKernel
from glmdoctor.messages import text
from glmdoctor.readings.cards import has_card
from glmdoctor.readings.severity import model

COMPILER = text("C compiler")
OPENMP = text("OpenMP")
KERNEL = text("CPU kernel for quantised models")
GIVEN = text("kernel_file given")
ORIGINAL = text("CPU kernel of the model's own code")
NATIVE = text("Code for this very processor")


def kernel_grade(host: Machine) -> Status:
    checkpoint = model(host)
    needed = checkpoint is not None and checkpoint.quantization_bit and not has_card(host)
    return Status.FAIL if needed else Status.WARN


# i686-linux-gnu, mingw32 (the old MinGW's whole answer), armv7l-unknown-linux-gnueabihf, arm-linux-gnueabi
TARGETS_OF_32_BITS = re.compile(r"i[3-6]86-|mingw32$|arm(?:v[4-7]\w*)?-|\S+-gnux32$")


def narrow(host: Machine) -> Compiler | None:
    """The first compiler, where it makes 32-bit libraries and the examined Python takes 64-bit ones."""
    toolchain, interpreter = known(host.toolchain), maybe(host.interpreter)
    first = toolchain.compilers[0] if toolchain.compilers else None
    wide = bool(interpreter and re.search(r"64$", interpreter.platform_tag))
    return first if first and wide and TARGETS_OF_32_BITS.match(first.target) else None


def compiler(host: Machine) -> Iterator[Finding]:
    toolchain, given, build = known(host.toolchain), maybe(host.given_kernel), maybe(host.kernel_build)
    if wrong := narrow(host):
        yield bad(
            kernel_grade(host),
            "compiler-32bit",
            text("The compiler makes 32-bit libraries"),
            text(
                "{path} compiles for {target}, and this Python is 64-bit: it cannot load what that makes.",
                path=wrong.path,
                target=wrong.target,
            ),
            path=wrong.path,
            target=wrong.target,
        )
    elif toolchain.compilers:
        first = toolchain.compilers[0]
        yield ok(
            COMPILER,
            text("{command} {version} at {path}.", command=first.command, version=first.version, path=first.path),
            compilers=[c.path for c in toolchain.compilers],
            cc=toolchain.cc_variable,
        )
    elif given and given.ok:
        yield ok(COMPILER, text("None, and none is needed: the kernel_file {path} works.", path=given.path))
    elif build and build.ok:
        yield ok(COMPILER, text("None, and none is needed: the kernel was built earlier ({path}).", path=build.path))
    else:
        yield bad(
            kernel_grade(host),
            "gcc-missing",
            text("No C compiler"),
            text("No gcc, clang or cc on PATH answers; quantised models run on the CPU without the fast kernel."),
            cc=toolchain.cc_variable,
        )


def native(host: Machine) -> Iterator[Finding]:
    """glmcore names the instructions that it wants; other projects' builds ask for this processor's."""
    asked = [each for each in known(host.toolchain).compilers if each.native is not None]
    refusing = next((each for each in asked if not each.native), None)
    if refusing:
        yield bad(
            Status.WARN,
            "clang-march-native",
            text("The compiler does not know -march=native"),
            text(
                "{path} ({family} {version}) refuses -march=native, with which chatglm.cpp and others build. glmcore's "
                "kernel does without.",
                path=refusing.path,
                family=refusing.family,
                version=refusing.version,
            ),
            path=refusing.path,
            version=refusing.version,
        )
    elif asked:
        yield ok(NATIVE, text("{path} knows -march=native.", path=asked[0].path))
    else:
        yield skipped(NATIVE, text("Only a clang may not know -march=native, and none is taken here."))


def openmp(host: Machine) -> Iterator[Finding]:
    build = known(host.kernel_build)
    if build.openmp:
        yield ok(OPENMP, text("{compiler} compiles and links with it.", compiler=build.compiler or "?"))
    elif build.stage == "openmp" or build.ok:
        yield bad(
            Status.WARN,
            "openmp-missing",
            text("The compiler has no OpenMP"),
            text(
                "{compiler} cannot build with -fopenmp; the kernel uses one core only.", compiler=build.compiler or "?"
            ),
            compiler=build.compiler,
            log=build.log,
        )
    else:
        yield skipped(OPENMP, text("The kernel was not built, so nothing is known of OpenMP."))


def kernel(host: Machine) -> Iterator[Finding]:
    build = known(host.kernel_build)
    evidence = {
        "stage": build.stage,
        "path": build.path,
        "compiler": build.compiler,
        "isa": build.isa,
        "openmp": build.openmp,
        "cached": build.cached,
        "max_error": build.max_error,
    }
    if build.ok:
        how = (
            text("taken from the cache")
            if build.cached
            else text("built with {compiler}", compiler=build.compiler or "?")
        )
        yield ok(
            KERNEL,
            text("{path} for {isa}, {how}, agrees with the reference.", path=build.path, isa=build.isa or "?", how=how),
            **evidence,
        )
        return
    if build.stage == "cache":
        yield bad(
            Status.WARN,
            "hf-cache-not-writable",
            text("The CPU kernel was not built"),
            text("Its folder takes nothing, and a check writes nowhere else: {log}", log=build.log),
            **evidence,
        )
        return
    titles = {
        "compile": text("The CPU kernel does not compile"),
        "load": text("The CPU kernel does not load"),
        "verify": text("The CPU kernel computes wrong numbers"),
    }
    yield bad(
        kernel_grade(host),
        "kernel-so-not-loadable" if build.stage == "load" else "cpu-kernel-not-loaded",
        titles.get(build.stage, text("The CPU kernel cannot be built")),
        text("Stopped at '{stage}': {log}", stage=build.stage, log=last_line(build.log)),
        log=build.log,
        **evidence,
    )


def last_line(log: str) -> str:
    """The line of a compiler's words that says most: the first error, else the last line."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    return next((line for line in lines if "error" in line.lower()), lines[-1] if lines else "-")


def given(host: Machine) -> Iterator[Finding]:
    kernel = known(host.given_kernel)
    if kernel.ok:
        yield ok(GIVEN, text("{path} loads and agrees with the reference.", path=kernel.path), path=kernel.path)
        return
    yield bad(
        Status.FAIL,
        "kernel-so-not-loadable",
        text("The kernel_file cannot be used"),
        text("{path}: {reason}{origin}", path=kernel.path, reason=kernel.reason, origin=_origin(host, kernel)),
        path=kernel.path,
        reason=kernel.reason,
        stage=kernel.stage,
        built_by=kernel.built_by,
        machine=kernel.machine,
    )


def _origin(host: Machine, kernel: GivenKernel) -> object:
    """Who built it, where that is not who would build it here."""
    toolchain = maybe(host.toolchain)
    here = toolchain.compilers[0] if toolchain and toolchain.compilers else None
    if not kernel.built_by or (here and here.version and here.version in kernel.built_by):
        return ""
    return text(" (built by {compiler})", compiler=kernel.built_by)


def original(host: Machine) -> Iterator[Finding]:
    """The CPU kernel of a checkpoint's own code: which of its copies would be left without one."""
    checkpoint, copies, toolchain = known(host.checkpoint), known(host.original_kernels), maybe(host.toolchain)
    if not copies or not checkpoint.quantization_bit:
        yield skipped(ORIGINAL, text("The checkpoint brings no kernel code of its own; glmcore has its own kernel."))
        return
    # What is imported is the copy in the modules cache, once there is one.
    used = next((copy for copy in reversed(copies) if copy.in_cache), copies[0])
    compiles = toolchain is None or any(compiler.command == "gcc" for compiler in toolchain.compilers)
    evidence = {"code": used.path, "sources": list(used.sources), "compiled": list(used.compiled)}
    if used.kernel_file:
        yield ok(
            ORIGINAL, text("{code} passes kernel_file '{file}'.", code=used.path, file=used.kernel_file), **evidence
        )
    elif used.missing or not compiles:
        why = (
            text("{files} are not beside {code}", files=", ".join(used.missing), code=used.path)
            if used.missing
            else text("{code} calls gcc, which is not there", code=used.path)
        )
        yield bad(
            Status.WARN,  # glmcore loads the checkpoint with its own kernel
            "cpu-kernel-not-loaded",
            text("The original code would find no CPU kernel"),
            text(
                "No kernel_file is passed, and {why}: it prints 'No compiled kernel found' and fails on the CPU. "
                "glmcore runs this checkpoint with its own kernel.",
                why=why,
            ),
            missing=list(used.missing),
            **evidence,
        )
    else:
        yield ok(
            ORIGINAL,
            text(
                "{code} passes no kernel_file: it prints 'No compiled kernel found', then compiles with gcc.",
                code=used.path,
            ),
            **evidence,
        )


CHECKS = (
    Check("compiler.found", COMPILER, compiler, problems=("gcc-missing", "compiler-32bit"), needs=("toolchain",)),
    Check("compiler.native", NATIVE, native, problems=("clang-march-native",), needs=("toolchain",)),
    Check(
        "compiler.openmp",
        OPENMP,
        openmp,
        problems=("openmp-missing",),
        needs=("kernel_build",),
        explained_by=("gcc-missing", "compiler-32bit"),
    ),
    Check(
        "kernel.build",
        KERNEL,
        kernel,
        problems=("cpu-kernel-not-loaded", "kernel-so-not-loadable", "hf-cache-not-writable"),
        needs=("kernel_build",),
        explained_by=("gcc-missing", "compiler-32bit", "openmp-missing", "disk-full", "hf-cache-not-writable"),
    ),
    Check(
        "kernel.original",
        ORIGINAL,
        original,
        problems=("cpu-kernel-not-loaded",),
        needs=("checkpoint", "original_kernels"),
        explained_by=("gcc-missing", "compiler-32bit"),
    ),
    Check("kernel.given", GIVEN, given, problems=("kernel-so-not-loadable",), needs=("given_kernel",)),
)
