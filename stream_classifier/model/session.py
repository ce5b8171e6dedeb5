"""An ONNX model in ONNX Runtime, set up for many short calls from several threads."""

import ctypes
import itertools
import os
import re
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stream_classifier.errors import BundleError, ModelError, OutOfMemoryError
from stream_classifier.model.bundle import REBUILD, WEIGHTS_FILE, Precision
from stream_classifier.model.cuda import CudaSession, why_no_cuda

if TYPE_CHECKING:
    import onnxruntime

Device = Literal["auto", "cpu", "cuda"]

Output = Literal["embedding", "logits"]
"""What a model gives for a row of tokens: of a text an embedding, of a pair of texts the logits of what they are."""

INPUTS: Final = ("input_ids", "attention_mask")
TYPES: Final = "token_type_ids"
"""The input that some models of pairs take beside these: which text a token is of."""

_SILENT: Final = 4  # ORT's "fatal": every failure comes as an exception too, so its stderr lines would be said twice
_OUT_OF_MEMORY: Final = re.compile(r"bad_alloc|failed to allocate memory|out of memory|alloc_failed", re.IGNORECASE)
_FAILED_NODE: Final = re.compile(r"while running (\w+) node\. Name:'([^']*)'")
_M_TRIM_THRESHOLD: Final = -1  # malloc.h
_M_MMAP_THRESHOLD: Final = -3


class RunFailedError(ModelError):
    """The model failed on these texts; perhaps on one of them, perhaps on any. Whoever holds the texts finds out."""


class Place(NamedTuple):
    """Where a model is to run.

    Attributes:
        device: The CPU, NVIDIA GPUs, or these if they can be used and else the CPU.
        gpus: Their numbers; each gets a copy of the model.
        memory_mib: The most memory that a copy may take on its GPU; None: all that there is.
    """

    device: Device = "auto"
    gpus: tuple[int, ...] = (0,)
    memory_mib: int | None = None


ANYWHERE: Final = Place()


class OnnxSession:
    """A model that turns token ids into embeddings, or into logits. Threads may share one.

    On the CPU one call computes on the thread that makes it: parallel calls are the parallelism, so the session has no
    threads of its own, and nothing spins between calls. On GPUs parallel calls keep one busy while the next batch is
    made ready; each thread has one GPU that it always takes.

    Args:
        path: The model, with its external weights beside it. Both are read once: ONNX Runtime would map the weights,
            and a file that is cut short afterwards would end the process, one that is overwritten change the results.
        output: What it is to give.
        place: Where to run.
        precision: The bundle's: one with integer weights runs on the CPU only.
        progress: Is told, in a line, when no GPU can be used and the CPU is taken instead.

    Attributes:
        device: Where it runs: `cpu`, or `cuda:` and the numbers of the GPUs.
        dimensions: Length of an embedding, or number of logits.
        takes_types: Whether it takes the types of tokens, too.

    Raises:
        BundleError: ONNX Runtime is not installed, the file is not a model of this form, or it cannot run where it is
            to.
        OutOfMemoryError: There is no memory to load it into.
    """

    def __init__(
        self,
        path: Path,
        output: Output = "embedding",
        *,
        place: Place = ANYWHERE,
        precision: Precision = "fp32",
        progress: Callable[[str], None] = lambda _: None,
    ) -> None:
        ort = _onnxruntime()
        _keep_freed_memory()
        try:
            self._copies = _on_gpus(ort, path, place, precision, progress)
            self._session = self._copies[0].session if self._copies else _on_cpu(ort, path)
        except BundleError:
            raise
        except Exception as error:  # ORT's exceptions have no common root
            if _is_out_of_memory(error):
                raise OutOfMemoryError(f"out of memory while loading {path}: give the process more") from error
            raise BundleError(
                f"{path} cannot be loaded by ONNX Runtime {ort.__version__} ({type(error).__name__}): upgrade that, or"
                f" {REBUILD}"
            ) from error
        self.device = "cuda:" + ",".join(map(str, place.gpus)) if self._copies else "cpu"
        self._copy_of_thread = threading.local()
        self._next_copy = itertools.count()
        self._output = output
        self.dimensions, self.takes_types = self._checked_form(path)

    def _checked_form(self, path: Path) -> tuple[int, bool]:
        inputs = {put.name for put in self._session.get_inputs()}
        outputs = [(put.name, put.type, put.shape) for put in self._session.get_outputs()]
        may_take = {*INPUTS, TYPES} if self._output == "logits" else {*INPUTS}
        match outputs:
            case [(self._output, "tensor(float)", [_, int(dimensions)])] if {*INPUTS} <= inputs <= may_take:
                return dimensions, TYPES in inputs
        raise BundleError(f"{path} does not take {' and '.join(INPUTS)} and give {self._output}: {REBUILD}")

    def run(
        self, ids: Sequence[Sequence[int]], pad_id: int, types: Sequence[Sequence[int]] | None = None
    ) -> NDArray[np.float32]:
        """Runs one batch, each row padded to the longest.

        Args:
            ids: Token ids of at least one row, each with at least one token.
            pad_id: The id to pad with; padding is masked, so that it changes nothing but the time taken.
            types: The type of each token, for a model that takes them.

        Returns:
            Embeddings or logits, float32 [rows, dimensions].

        Raises:
            OutOfMemoryError: The batch does not fit in memory.
            RunFailedError: The model failed.
        """
        lengths = np.array([len(row) for row in ids])
        shape = (len(ids), int(lengths.max()))
        mask = np.arange(shape[1]) < lengths[:, None]
        inputs = dict(zip(INPUTS, (_padded(ids, mask, pad_id), mask.astype(np.int64)), strict=True))
        if types is not None:
            inputs[TYPES] = _padded(types, mask, 0)
        try:
            numbers = self._run(inputs)
        except Exception as error:  # ORT's exceptions have no common root
            raise _translated(error, shape) from error
        if not np.isfinite(numbers).all():
            raise RunFailedError(f"the model gave numbers that are not finite for {_size(shape)}")
        return numbers

    def _run(self, inputs: dict[str, NDArray[np.int64]]) -> NDArray[np.float32]:
        if self._copies:
            mine = self._copy_of_thread
            if not hasattr(mine, "copy"):
                mine.copy = self._copies[next(self._next_copy) % len(self._copies)]
            on_gpu: NDArray[np.float32] = mine.copy.run(self._output, inputs)
            return on_gpu
        outputs: list[Any] = self._session.run([self._output], inputs)
        numbers: NDArray[np.float32] = outputs[0]
        return numbers


def _padded(rows: Sequence[Sequence[int]], mask: NDArray[np.bool_], padding: int) -> NDArray[np.int64]:
    padded = np.full(mask.shape, padding, np.int64)
    padded[mask] = [number for row in rows for number in row]
    return padded


def _on_cpu(ort: Any, path: Path) -> "onnxruntime.InferenceSession":  # noqa: ANN401 - a module
    options = _options_with_weights(path)  # holds the weights until the session has been made
    return ort.InferenceSession(path.read_bytes(), options(), providers=["CPUExecutionProvider"])


def _on_gpus(
    ort: Any,  # noqa: ANN401 - a module
    path: Path,
    place: Place,
    precision: Precision,
    progress: Callable[[str], None],
) -> list[CudaSession]:
    """A copy on each GPU; none when the CPU is wanted, or is all that there is."""
    if place.device == "cpu":
        return []
    problem = why_no_cuda(ort, precision)
    if problem is None:
        try:
            model, options = path.read_bytes(), _options_with_weights(path)
            return [CudaSession(ort, model, options, gpu=gpu, memory_mib=place.memory_mib) for gpu in place.gpus]
        except BundleError as error:
            if place.device == "cuda":
                raise
            progress(f"{error}; running on the CPU")
    elif place.device == "cuda":
        raise BundleError(f"model.device is cuda: {problem}, or set model.device to cpu")
    return []


def _options_with_weights(path: Path) -> Callable[[], "onnxruntime.SessionOptions"]:
    """Options for sessions of a model, its external weights among them: these are read once, for all copies.

    What is returned holds the weights, which ONNX Runtime reads while it makes a session, and not after that: keep it
    for so long.
    """
    weights = path.with_name(WEIGHTS_FILE)
    content = weights.read_bytes() if weights.exists() else None

    def made() -> "onnxruntime.SessionOptions":
        options = session_options()
        if content is not None:  # ONNX Runtime copies what it keeps of it
            options.add_external_initializers_from_files_in_memory([WEIGHTS_FILE], [content], [len(content)])
        return options

    return made


def session_options() -> "onnxruntime.SessionOptions":
    """How every model is run: in production, and where a bundle is checked.

    Raises:
        BundleError: ONNX Runtime is not installed.
    """
    ort = _onnxruntime()
    options = ort.SessionOptions()
    options.log_severity_level = _SILENT
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    # Bundles hold graphs that are written or optimised once, when they are made: what runs is what was checked,
    # whatever another version of ONNX Runtime would rewrite it to.
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    # ORT's arena would hand one thread the buffers that another has just written, out of its core's cache; malloc
    # keeps a heap for each thread. A memory pattern would be kept for every shape seen, and each batch has its own.
    options.enable_cpu_mem_arena = False
    options.enable_mem_pattern = False
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    return options


def _onnxruntime() -> "onnxruntime":
    """ONNX Runtime, without its telemetry and its lines on stderr."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # read once, while it is imported
    try:
        import onnxruntime  # noqa: PLC0415 - an extra, and the line above must come first
    except ModuleNotFoundError as error:
        raise BundleError("ONNX Runtime is not installed: run `pip install '.[cpu]'`") from error
    onnxruntime.set_default_logger_severity(_SILENT)
    return onnxruntime


def _keep_freed_memory() -> None:
    """Lets glibc's malloc keep what a run has freed for the next run, up to a bound for each thread.

    It would otherwise give large buffers back to the kernel, hundreds of times in a run, and have them zeroed and
    mapped again. Other C libraries have no such switch and are left as they are.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, 32 * 2**20)  # the most it allows
        mallopt(_M_TRIM_THRESHOLD, 16 * 2**20)


def _is_out_of_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError) or _OUT_OF_MEMORY.search(str(error)) is not None


def _translated(error: Exception, shape: tuple[int, int]) -> ModelError:
    """Our error for ORT's; of ORT's message only the node is kept, the rest may quote input values."""
    if _is_out_of_memory(error):
        return OutOfMemoryError(
            f"out of memory on {_size(shape)}: give the process more, or lower batch.max_tokens or model.max_length"
        )
    node = _FAILED_NODE.search(str(error))
    where = f" in {node[1]} {node[2]}".rstrip() if node else ""
    return RunFailedError(f"the model failed on {_size(shape)}: {type(error).__name__}{where}")


def _size(shape: tuple[int, int]) -> str:
    return f"a batch of {shape[0]} x {shape[1]} tokens"
