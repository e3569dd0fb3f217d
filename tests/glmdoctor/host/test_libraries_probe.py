"""Every libcuda of a machine with its chain, in fake roots."""

from __future__ import annotations

from glmdoctor.host.facts import Interpreter, Library, Unknown
from glmdoctor.host.host import Host

LIB = "/usr/lib/x86_64-linux-gnu"


def found(root, **environ: str) -> dict[str, Library]:
    host = Host(root.io(**environ))
    assert not isinstance(host.libraries, Unknown)
    return {library.path: library for library in host.libraries if "wheel" not in library.found_by}


def test_a_healthy_chain(root, shared_object):
    root.file(f"{LIB}/libcuda.so.535.183.01", shared_object("libcuda.so.1"))
    root.link(f"{LIB}/libcuda.so.1", "libcuda.so.535.183.01")
    root.link(f"{LIB}/libcuda.so", "libcuda.so.1")
    libcuda = found(root)[f"{LIB}/libcuda.so"]
    assert libcuda.chain == (f"{LIB}/libcuda.so", f"{LIB}/libcuda.so.1", f"{LIB}/libcuda.so.535.183.01")
    assert (libcuda.name, libcuda.fault, libcuda.version, libcuda.soname) == (
        "cuda",
        None,
        "535.183.01",
        "libcuda.so.1",
    )
    assert (libcuda.elf_class, libcuda.machine, libcuda.stub, libcuda.is_link) == (64, "x86_64", False, True)
    assert libcuda.file == libcuda.real == f"{LIB}/libcuda.so.535.183.01"
    assert libcuda.found_by == ("loader-folder",)


def test_faults_of_a_chain(root):
    root.link(f"{LIB}/libcuda.so.1", "libcuda.so.535.183.01")
    root.link("/usr/lib/libcuda.so.1", "libcuda.so")
    root.link("/usr/lib/libcuda.so", "libcuda.so.1")
    root.file("/usr/local/cuda/lib64/libcudart.so", b"")
    root.file("/usr/local/cuda/lib64/libnvrtc.so", b"not a library")
    root.folder("/usr/local/cuda/lib64/libcublasLt.so")
    libraries = found(root)
    dangling, loop = libraries[f"{LIB}/libcuda.so.1"], libraries["/usr/lib/libcuda.so"]
    assert (dangling.fault, dangling.file) == ("dangling", f"{LIB}/libcuda.so.535.183.01")
    assert (loop.fault, loop.chain[0], loop.chain[-1]) == ("loop", "/usr/lib/libcuda.so", "/usr/lib/libcuda.so")
    assert libraries["/usr/local/cuda/lib64/libcudart.so"].fault == "empty"
    assert libraries["/usr/local/cuda/lib64/libnvrtc.so"].fault == "not-elf"
    assert libraries["/usr/local/cuda/lib64/libcublasLt.so"].fault == "not-elf"


def test_absolute_and_upward_links_stay_in_the_root(root, shared_object):
    root.file(f"{LIB}/nvidia/current/libcuda.so.535.183.01", shared_object("libcuda.so.1"))
    root.link("/etc/alternatives/libcuda.so.1", f"{LIB}/nvidia/current/libcuda.so.535.183.01")
    root.link(f"{LIB}/libcuda.so.1", "/etc/alternatives/libcuda.so.1")
    root.link("/usr/local/cuda/lib64/libcuda.so", "../../../lib/x86_64-linux-gnu/libcuda.so.1")
    libcuda = found(root)["/usr/local/cuda/lib64/libcuda.so"]
    assert libcuda.chain[1:] == (
        f"{LIB}/libcuda.so.1",
        "/etc/alternatives/libcuda.so.1",
        f"{LIB}/nvidia/current/libcuda.so.535.183.01",
    )
    assert libcuda.fault is None


def test_one_file_in_folders_that_are_one(root, shared_object):
    """With a merged /usr each file is listed once, and by everything that led to it."""
    root.link("/lib", "usr/lib")
    root.file(f"{LIB}/libcuda.so.1", shared_object("libcuda.so.1"))
    root.link("/usr/local/cuda", "cuda-12.2")
    root.file("/usr/local/cuda-12.2/lib64/libcudart.so", shared_object("libcudart.so.12"))
    root.file("/usr/local/cuda-12.2/bin/nvcc")
    libraries = found(root, CUDA_PATH="/usr/local/cuda-12.2", CUDA_HOME="/usr/local/cuda")
    assert len(libraries) == 2
    cudart = libraries["/usr/local/cuda-12.2/lib64/libcudart.so"]
    assert cudart.found_by == ("CUDA_PATH", "CUDA_HOME", "toolkit")
    assert cudart.version == "12"


def test_stubs(root, shared_object):
    stub = shared_object("libcuda.so.1")
    root.file("/usr/local/cuda/lib64/stubs/libcuda.so", stub)
    root.link("/usr/local/cuda/lib64/libcuda.so", "stubs/libcuda.so")
    root.file("/opt/copied/libcuda.so", stub)
    root.file("/usr/lib/wsl/lib/libcuda.so.1", stub)
    root.file(f"{LIB}/libcuda.so.535.183.01", stub)
    stubs = {path for path, library in found(root, LD_LIBRARY_PATH="/opt/copied").items() if library.stub}
    assert stubs == {
        "/usr/local/cuda/lib64/stubs/libcuda.so",
        "/usr/local/cuda/lib64/libcuda.so",
        "/opt/copied/libcuda.so",
    }


def test_every_place_is_looked_at(root, shared_object):
    library = shared_object("libnvidia-ml.so.1")
    places = {
        "/opt/ld": "LD_LIBRARY_PATH",
        "/opt/conf": "loader-folder",
        "/opt/path/lib64": "CUDA_PATH",
        "/opt/home/lib64": "CUDA_HOME",
        "/usr/local/cuda-11.8/lib64": "toolkit",
        "/usr/lib/wsl/lib": "driver-folder",
        "/usr/lib/i386-linux-gnu": "loader-folder",
    }
    for folder in places:
        root.file(f"{folder}/libnvidia-ml.so.1", library)
    root.file("/usr/local/cuda-11.8/version.txt", "CUDA Version 11.8.0\n")
    root.file("/etc/ld.so.conf", "/opt/conf\n")
    libraries = found(root, LD_LIBRARY_PATH="/opt/ld", CUDA_PATH="/opt/path", CUDA_HOME="/opt/home")
    assert {path.rpartition("/")[0]: library.found_by[0] for path, library in libraries.items()} == places


def test_wheels_of_the_examined_interpreter(root, shared_object):
    site = "/venv/lib/python3.11/site-packages"
    root.file(f"{site}/nvidia/cuda_runtime/lib/libcudart.so.12", shared_object("libcudart.so.12"))
    root.file(f"{site}/torch/lib/libcudart-d0da41ae.so.11.0", shared_object("libcudart-d0da41ae.so.11.0"))
    root.file(f"{site}/torch/version.py", "__version__ = '2.1.0+cu118'\ncuda: str | None = '11.8'\nhip = None\n")
    host = Host(root.io())
    python = Interpreter("/venv/bin/python", "3.11.0", "/venv", "linux_x86_64", {}, (site,))
    host._values["interpreter"] = python
    wheels = {library.path.rpartition("/")[2]: library for library in host.libraries}
    assert {library.name for library in wheels.values()} == {"cudart"}
    assert wheels["libcudart.so.12"].found_by == ("wheel",)
    assert wheels["libcudart-d0da41ae.so.11.0"].version == "11.0"
    torch = host.torch
    assert (torch.version, torch.cuda, torch.hip) == ("2.1.0+cu118", "11.8", None)
    assert len(torch.bundled) == 2


def test_the_owning_package(root, shared_object):
    root.link("/lib", "usr/lib")
    root.file(f"{LIB}/libcuda.so.535.183.01", shared_object("libcuda.so.1"))
    root.link(f"{LIB}/libcuda.so.1", "libcuda.so.535.183.01")
    root.file("/var/lib/dpkg/info/libcuda1:amd64.list", "/.\n/lib/x86_64-linux-gnu/libcuda.so.535.183.01\n")
    root.file("/var/lib/dpkg/info/zlib1g:amd64.list", "/usr/lib/x86_64-linux-gnu/libcuda.so.1\n")
    assert {library.owner for library in found(root).values()} == {"libcuda1:amd64"}


def test_variables_that_point_nowhere(root):
    root.link("/usr/local/cuda", "cuda-11.8")
    install = Host(root.io(CUDA_PATH="/opt/none", CUDA_HOME="relative")).cuda
    assert install.cuda_path == "/opt/none"
    assert install.folders == {"/opt/none": False, "relative": False, "/usr/local/cuda": False}
    assert (install.default_exists, install.default_target) == (False, "/usr/local/cuda-11.8")


def test_installed_toolkits(root):
    root.file("/usr/local/cuda-12.2/version.json", '{"cuda": {"name": "CUDA SDK", "version": "12.2.140"}}')
    root.file("/usr/local/cuda-11.0/version.txt", "CUDA Version 11.0.228")
    root.file("/usr/local/cuda-10.2/bin/nvcc")
    root.file("/opt/cuda/include/cuda.h", "#define CUDA_VERSION 12040\n")
    root.file("/usr/local/cuda-9.0/version.json", "[]")
    root.link("/usr/local/cuda", "cuda-12.2")
    root.program("/usr/bin/nvcc")
    install = Host(root.io()).cuda
    assert install.toolkits == {
        "/usr/local/cuda-10.2": "10.2",
        "/usr/local/cuda-11.0": "11.0.228",
        "/usr/local/cuda-12.2": "12.2.140",
        "/usr/local/cuda-9.0": "9.0",
        "/opt/cuda": "12.4",
    }
    assert install.nvcc == "/usr/bin/nvcc"
