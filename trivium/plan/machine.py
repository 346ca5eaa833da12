"""What this machine is, and how fast large products are here. Trains nothing."""

import time

import msgspec
import torch

from trivium.allowance import cores, memory
from trivium.compute import Compute

ROOM = 0.9  # of the memory may be planned with: other programs need some too


class Machine(msgspec.Struct, frozen=True):
    """What was measured here."""

    name: str
    cores: int
    memory: int  # bytes
    precision: str
    matmul_flops: float  # floating-point operations per second, large products in that precision, of all ranks

    @property
    def dtype_bytes(self) -> int:
        """Of a number in products and activations."""
        return 2 if self.precision == "bfloat16" else 4

    def holds(self, size: int) -> bool:
        """Whether so many bytes fit, with room to spare."""
        return size <= ROOM * self.memory


def measure_machine(compute: Compute, *, seconds: float = 1.0, ranks: int = 1) -> Machine:
    """A second of large matrix products; of so many ranks together, if each is as fast."""
    size = 1024 if compute.device.type == "cpu" else 8192
    a = torch.randn(size, size, device=compute.device, dtype=compute.dtype)
    b = torch.randn(size, size, device=compute.device, dtype=compute.dtype)
    best, end = 0.0, time.monotonic() + seconds
    while time.monotonic() < end:
        begun = time.monotonic()
        a @ b
        if compute.device.type == "cuda":
            torch.cuda.synchronize()
        best = max(best, 2 * size**3 / (time.monotonic() - begun))
    return Machine(
        name=machine_name(compute),
        cores=cores(),
        memory=memory_at_hand(compute),
        precision=str(compute.dtype).removeprefix("torch."),
        matmul_flops=ranks * best,
    )


def machine_name(compute: Compute) -> str:
    """The processor's name, as the system tells it."""
    if compute.device.type == "cuda":
        return torch.cuda.get_device_name(compute.device)
    try:
        with open("/proc/cpuinfo") as file:  # noqa: PTH123 - not a file of ours
            return next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        import platform

        return platform.processor() or platform.machine()


def memory_at_hand(compute: Compute) -> int:
    """Bytes that a run may take at most: the GPU's, or what this process may use of the machine's."""
    if compute.device.type == "cuda":
        return int(torch.cuda.mem_get_info(compute.device)[1])
    return memory()
