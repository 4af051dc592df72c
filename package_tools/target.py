"""The machines that a package can be made for."""

from __future__ import annotations

from dataclasses import dataclass

# The wheels of onnxruntime need it: their platform tag is manylinux_2_28.
MINIMUM_GLIBC = "2.28"


@dataclass(frozen=True)
class Target:
    """One kind of machine, in the words of those who name it.

    Attributes:
        name: as `tod package --target` and Python's users say.
        machine: as `uname -m` and the platform tags of wheels say.
        debian: as Debian's packages say.
        elf: as an ELF header says (`e_machine`).
        loader: the dynamic loader's file name, fixed by the platform's ABI.
    """

    name: str
    machine: str
    debian: str
    elf: str
    loader: str

    @property
    def wheel_platforms(self) -> tuple[str, ...]:
        """Platform tags of the wheels that run there, PEP 600 and the older names."""
        newest = int(MINIMUM_GLIBC.split(".")[1])
        tags = [f"manylinux_2_{minor}_{self.machine}" for minor in range(newest, 16, -1)]
        return (*tags, f"manylinux2014_{self.machine}")


TARGETS = {
    target.name: target
    for target in (
        Target("arm64", "aarch64", "arm64", "EM_AARCH64", "ld-linux-aarch64.so.1"),
        Target("x86_64", "x86_64", "amd64", "EM_X86_64", "ld-linux-x86-64.so.2"),
    )
}
