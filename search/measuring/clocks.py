"""The clock of a GPU, and what throttles it, while something is measured there."""

import contextlib
import statistics
import threading
from types import TracebackType
from typing import Any, Self

import torch

EVERY = 0.02
"""Seconds between two looks."""


class Clocks:
    """Looks at a GPU's clock as long as it is entered; at nothing on a CPU, or without nvidia-ml-py.

    Args:
        device: "cuda", or another, whose clock is left alone.
    """

    def __init__(self, device: str) -> None:
        self.device = device
        self.over = threading.Event()
        self.thread: threading.Thread | None = None
        self.mhz: list[int] = []
        self.throttle = 0

    def __enter__(self) -> Self:
        if self.device == "cuda":
            with contextlib.suppress(ImportError):
                import pynvml

                self.thread = threading.Thread(target=self.watch, args=(pynvml,), daemon=True)
                self.thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.over.set()
        if self.thread is not None:
            self.thread.join()

    def watch(self, nvml: Any) -> None:
        """Look until it is over."""
        with contextlib.suppress(nvml.NVMLError):
            nvml.nvmlInit()
            handle = nvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(self.device).uuid}")
            while True:
                self.mhz.append(nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM))
                self.throttle |= nvml.nvmlDeviceGetCurrentClocksEventReasons(handle)
                if self.over.wait(EVERY):
                    return

    def seen(self) -> dict[str, int]:
        """Return the median clock in MHz, the least, and all reasons for throttling that were seen."""
        if not self.mhz:
            return {}
        median = int(statistics.median(self.mhz))
        return {"sm_mhz": median, "sm_mhz_least": min(self.mhz), "throttle": self.throttle}
