"""Running on NVIDIA GPUs with ONNX Runtime, or a clear word on why not.

ONNX Runtime falls back to the CPU without an error when it cannot use a GPU, tens of times slower and unseen. Here
that is found out when the model is loaded: `device: cuda` then ends with one line, `device: auto` says so and goes on
with the CPU.
"""

from __future__ import annotations

import contextlib
import io
from typing import TYPE_CHECKING, Any, Final

from stream_classifier.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy as np
    import onnxruntime
    from numpy.typing import NDArray

PROVIDER: Final = "CUDAExecutionProvider"

INSTALL: Final = "install the GPU build (`pip uninstall onnxruntime`, then `pip install '.[gpu]'`)"
LOOK: Final = "look whether nvidia-smi shows it, and whether its driver is new enough for this build's CUDA"

OLDEST: Final = (1, 25)
"""The first ONNX Runtime whose CUDA provider has the Attention operator of exported graphs: an older one would run it
on the CPU, layer for layer, with copies there and back."""

_MIB: Final = 2**20


def why_no_cuda(ort: Any, precision: str) -> str | None:  # noqa: ANN401 - a module
    """Why a bundle cannot run on a GPU here, as far as that can be told without loading it.

    Args:
        ort: ONNX Runtime.
        precision: The bundle's.

    Returns:
        What is wrong and what to do about it; None when nothing is known to be wrong.
    """
    if precision == "int7":
        # The operators of integer weights exist for the CPU only: they would run there, with copies in between.
        return "a bundle with integer weights is for the CPU: export the model with --precision fp16 for a GPU"
    if PROVIDER not in ort.get_available_providers():
        return f"this ONNX Runtime ({ort.__version__}) is built without CUDA: {INSTALL}"
    if tuple(int(part) for part in ort.__version__.split(".")[:2]) < OLDEST:
        return (
            f"this ONNX Runtime ({ort.__version__}) has no attention for GPUs: upgrade it (`pip install --upgrade"
            f" 'onnxruntime-gpu>={'.'.join(map(str, OLDEST))}'`)"
        )
    return None


class CudaSession:
    """A model on one GPU. Threads may share one.

    Args:
        ort: ONNX Runtime.
        model: The model, as `InferenceSession` takes it.
        options: A session's options, made anew for each.
        gpu: The GPU's number.
        memory_mib: The most memory to take there; None: all that there is.

    Attributes:
        session: ONNX Runtime's.

    Raises:
        BundleError: ONNX Runtime could not use the GPU.
    """

    def __init__(
        self,
        ort: Any,  # noqa: ANN401 - a module
        model: bytes,
        options: Callable[[], onnxruntime.SessionOptions],
        *,
        gpu: int,
        memory_mib: int | None,
    ) -> None:
        self._ort = ort
        self._gpu = gpu
        provider = {
            "device_id": str(gpu),
            # By doubling, the arena would take half of the memory again for a batch that is a little larger.
            "arena_extend_strategy": "kSameAsRequested",
            "use_tf32": "0",  # a bundle in float32 was compared in float32
        }
        if memory_mib is not None:
            provider["gpu_mem_limit"] = str(memory_mib * _MIB)
        _load_libraries(ort)
        # Shapes are computed on the CPU, so that ONNX Runtime's own switch against falling back refuses most models.
        self.session: onnxruntime.InferenceSession = ort.InferenceSession(
            model, options(), providers=[(PROVIDER, provider), "CPUExecutionProvider"], enable_fallback=False
        )
        if self.session.get_providers()[0] != PROVIDER:
            raise BundleError(f"ONNX Runtime {ort.__version__} cannot use GPU {gpu}: {LOOK}")

    def run(self, output: str, inputs: Mapping[str, NDArray[np.int64]]) -> NDArray[np.float32]:
        """Runs one batch: its inputs are copied to the GPU once, and what comes out back once."""
        binding = self.session.io_binding()
        for name, numbers in inputs.items():
            value = self._ort.OrtValue.ortvalue_from_numpy(numbers, "cuda", self._gpu)
            binding.bind_ortvalue_input(name, value)
        binding.bind_output(output, "cuda", self._gpu)
        self.session.run_with_iobinding(binding)
        numbers_out: Sequence[NDArray[np.float32]] = binding.copy_outputs_to_cpu()
        return numbers_out[0]


def _load_libraries(ort: Any) -> None:  # noqa: ANN401 - a module
    """Loads CUDA's libraries from the packages that came with the GPU build, where they are installed."""
    with contextlib.redirect_stdout(io.StringIO()):  # it prints what is missing; what comes of it is told below
        ort.preload_dlls()
