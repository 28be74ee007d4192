"""Stand-ins for the CUDA libraries that PyPI's torch is linked with: ``cuda_stubs.py TORCH_LIB``.

Run once while the engine's image is built. Every function in a stand-in returns 1 (an error);
nothing on the CPU path calls one. Empty libraries would not do: symbols whose address is taken
must exist, and the versions of symbols must match. Needs binutils.
"""

from __future__ import annotations

import platform
import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

LIBRARY = re.compile(
    r"lib(cudnn|cublas|cublasLt|cusparse|cufft|cufile|cusparseLt|nccl|curand"
    r"|nvrtc|nvshmem_host|cusolver|nvJitLink)\.so\.\d+"
)
UNVERSIONED = re.compile(r"(nvshmem|nccl|cudnn|cublas|cusparse|cufft|cuFile|curand|nvrtc|cusolver)")
RETURN_ONE = {"x86_64": "mov $1, %eax\nret\n", "aarch64": "mov w0, #1\nret\n"}


@dataclass
class Wanted:
    """What torch wants of the libraries that are not there."""

    libraries: set[str] = field(default_factory=set)
    library_of_version: dict[str, str] = field(default_factory=dict)
    # by version of the symbol; "" for symbols without one
    symbols: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))

    def collect(self, library: Path) -> None:
        """Add what one of torch's own libraries is linked with."""
        needed = re.findall(r"NEEDED.*\[(.*)\]", _output("readelf", "-dW", library))
        self.libraries |= {name for name in needed if LIBRARY.fullmatch(name)}
        source = ""
        for line in _output("readelf", "-VW", library).splitlines():
            if found := re.search(r"File: (\S+)", line):
                source = found[1]
            found = re.search(r"Name: (\S+)\s+Flags", line)
            if found and LIBRARY.fullmatch(source):
                self.library_of_version[found[1]] = source
        for line in _output("nm", "-D", "--undefined-only", library).splitlines():
            self._add_symbol(*line.split()[-1].split("@", 1))

    def _add_symbol(self, name: str, version: str = "") -> None:
        version = version.lstrip("@")
        if version in self.library_of_version or (not version and UNVERSIONED.match(name)):
            self.symbols[version].add(name)

    def versions_of(self, library: str) -> list[str]:
        """Versions whose symbols the library must define."""
        return [v for v, source in self.library_of_version.items() if source == library]

    def symbols_of(self, library: str) -> set[str]:
        """Every symbol that the library must define."""
        names = {name for version in self.versions_of(library) for name in self.symbols[version]}
        # symbols without a version need one home, no matter which
        return names | self.symbols[""] if library.startswith("libnccl") else names


def main(directory: Path) -> None:
    """Write the stand-ins beside torch's own libraries, which look for them there."""
    wanted = Wanted()
    for library in sorted(directory.glob("lib*.so")):
        wanted.collect(library)
    for name in sorted(wanted.libraries):
        _link(directory / name, wanted, name)
        print(name, len(wanted.symbols_of(name)))


def _link(out: Path, wanted: Wanted, name: str) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        source, compiled, script = (Path(scratch, n) for n in ("stub.s", "stub.o", "versions"))
        source.write_text(_assembly(wanted.symbols_of(name)))
        script.write_text(_version_script(wanted, name))
        _output("as", "-o", compiled, source)
        versions = [f"--version-script={script}"] if wanted.versions_of(name) else []
        _output("ld", "-shared", "-soname", name, *versions, "-o", out, compiled)


def _assembly(symbols: Iterable[str]) -> str:
    labels = "".join(f".globl {s}\n.type {s}, %function\n{s}:\n" for s in sorted(symbols))
    no_executable_stack = '.section .note.GNU-stack,"",%progbits\n'
    return f".text\n{labels}{RETURN_ONE[platform.machine()]}{no_executable_stack}"


def _version_script(wanted: Wanted, name: str) -> str:
    return "".join(
        f"{version} {{ global: {' '.join(f'{s};' for s in sorted(wanted.symbols[version]))} }};\n"
        for version in wanted.versions_of(name)
    )


def _output(*command: str | Path) -> str:
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, check=True)
    return done.stdout


if __name__ == "__main__":
    main(Path(sys.argv[1]))
