"""The gate: after every stage, what ONNX Runtime makes of the graph is held against what PyTorch makes of the model.

ONNX Runtime is set up as in the worker. What is over the limit of its precision ends the export; the figures of what is
not go into the manifest.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stream_classifier.errors import ExportError
from stream_classifier.model.bundle import Parity, ParityStage, Precision, Task
from stream_classifier.model.session import session_options
from stream_classifier_export.probes import Ids, Probe

Floats = NDArray[np.float32]


class Limits(NamedTuple):
    """What a precision is held to.

    Attributes:
        worst: The largest difference of a probability, or 1 less the smallest cosine.
        batch: The largest difference of a probability, or of a component of an embedding, between a text alone and the
            same text in a batch.
    """

    worst: float
    batch: float


# Integer products are exact, so they add nothing to what a batch changes. Half-precision ones are not.
_LIMITS: Final[dict[tuple[Task, Precision], Limits]] = {
    ("similarity", "fp32"): Limits(1e-7, 1e-6),
    ("similarity", "fp16"): Limits(1e-3, 5e-3),
    ("similarity", "int7"): Limits(3e-2, 1e-6),
    ("entailment", "fp32"): Limits(1e-4, 1e-6),
    ("entailment", "fp16"): Limits(2e-2, 5e-3),
    ("entailment", "int7"): Limits(1e-1, 1e-6),
}


class Gate:
    """Holds every stage of one model against the model.

    Args:
        task: What the model does.
        probes: What to compare on.
        reference: The model itself: a probe to embeddings of unit length, or to logits.
        inputs: Names of the graph's inputs.
        compared_with: What `reference` is.
        limit: Over the default limit of what is worst; None for the default.
    """

    def __init__(
        self,
        task: Task,
        probes: Sequence[Probe],
        reference: Callable[[Probe], Floats],
        inputs: Sequence[str],
        compared_with: str,
        limit: float | None,
    ) -> None:
        self._task = task
        self._probes = probes
        self._inputs = tuple(inputs)
        self._compared_with = compared_with
        self._limit = limit
        self._expected = [self._answers(reference(probe)) for probe in probes]
        self._stages: list[ParityStage] = []

    def check(self, stage: str, path: Path, precision: Precision) -> ParityStage:
        """Compares one stage.

        Args:
            stage: What it is called.
            path: The graph, its weights beside it.
            precision: What it is held to.

        Raises:
            ExportError: It is too far from the model, or cannot be run.
        """
        run = _runner(path, self._inputs)
        limits = _LIMITS[self._task, precision]
        limit = limits.worst if self._limit is None else self._limit
        try:
            actual = [self._answers(run(probe)) for probe in self._probes]
            alone = [np.concatenate([self._answers(run(one)) for one in probe.alone()]) for probe in self._probes]
        except Exception as error:  # ORT's exceptions have no common root
            raise ExportError(
                f"the {stage} model cannot be run by ONNX Runtime ({type(error).__name__}): --debug shows why"
            ) from error
        expected, together, apart = (np.concatenate(answers) for answers in (self._expected, actual, alone))
        if not (np.isfinite(together).all() and np.isfinite(apart).all()):
            raise ExportError(f"the {stage} model gives numbers that are not finite: choose another precision")
        found = ParityStage(
            stage=stage,
            agreement=float((self._best(together) == self._best(expected)).mean()),
            worst=self._distance(expected, together),
            batch_worst=float(np.abs(together - apart).max()),
            limit=limit,
            batch_limit=limits.batch,
        )
        self._refuse(found)
        self._stages.append(found)
        return found

    def report(self) -> Parity:
        """The figures of all stages so far, with those of the last on top."""
        last = self._stages[-1]
        return Parity(
            compared_with=self._compared_with,
            inputs=sum(len(probe.ids) for probe in self._probes),
            agreement=last.agreement,
            worst=last.worst,
            batch_worst=last.batch_worst,
            limit=last.limit,
            shapes=tuple(probe.shape for probe in self._probes),
            stages=tuple(self._stages),
        )

    def _answers(self, output: Floats) -> Floats:
        """Embeddings as they are, logits as probabilities of the classes."""
        if self._task == "similarity":
            return output
        powers = np.exp(output - output.max(axis=1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=1, keepdims=True), np.float32)

    def _distance(self, expected: Floats, actual: Floats) -> float:
        if self._task == "entailment":
            return float(np.abs(expected - actual).max())
        # Of unit vectors, and exact where the cosine is so near to 1 that float32 cannot tell.
        return float((np.square(expected - actual, dtype=np.float64).sum(axis=1) / 2).max())

    def _best(self, answers: Floats) -> Ids:
        """The class of each input, or its nearest neighbour."""
        if self._task == "entailment":
            return np.asarray(answers.argmax(axis=1))
        cosines = answers @ answers.T
        np.fill_diagonal(cosines, -np.inf)
        return np.asarray(cosines.argmax(axis=1))

    def _refuse(self, found: ParityStage) -> None:
        what = "1 - cosine" if self._task == "similarity" else "a probability's difference"
        if found.worst > found.limit:
            raise ExportError(
                f"the {found.stage} model is too far from the one it was made from ({what} is {found.worst:.2g}, the"
                f" limit {found.limit:.2g}): choose a finer precision; nothing was written"
            )
        if found.batch_worst > found.batch_limit:
            raise ExportError(
                f"what the {found.stage} model makes of a text depends on the batch (a difference of"
                f" {found.batch_worst:.2g}, the limit {found.batch_limit:.2g}): nothing was written"
            )


def _runner(path: Path, inputs: tuple[str, ...]) -> Callable[[Probe], Floats]:
    """A session on the CPU, set up as in the worker."""
    options = session_options()
    import onnxruntime  # noqa: PLC0415 - the line above has set its environment

    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ORT's exceptions have no common root
        raise ExportError(
            f"ONNX Runtime {onnxruntime.__version__} cannot load the exported model ({type(error).__name__}): --debug"
            " shows why"
        ) from error

    def run(probe: Probe) -> Floats:
        values = {"input_ids": probe.ids, "attention_mask": probe.mask, "token_type_ids": probe.types}
        [output] = session.run(None, {name: values[name] for name in inputs})
        return np.asarray(output, np.float32)

    return run
