"""Kaldi's compressed matrices, bit for bit (matrix/compressed-matrix.h and .cc).

Three formats on disk, after a header (min_value float32, range float32, num_rows int32, num_cols int32):

- `CM`: one byte per element, column by column; four uint16 percentiles per column (0, 25, 75, 100 %) place three
  linear pieces: codes 0..64, 64..192, 192..255;
- `CM2`: a uint16 per element, row by row, linear over the range;
- `CM3`: a uint8 per element, row by row, linear over the range.

Seven methods choose among them: 1 automatic (2 above eight rows, otherwise 3), 2 speech feature (`CM`), 3 two bytes
over the matrix's own range, 4 two bytes over [-32768, 32767], 5 one byte over the matrix's own range, 6 one byte over
[0, 255], 7 one byte over [0, 1]. The arithmetic mixes float and double where the C++ does, and rounds `a * b + c` once,
as compilers do where the machine has fused multiply-add: every step counts for equality in the last bit.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np

from acoustic.errors import DataError
from acoustic.kaldi.numbers import FloatArray
from acoustic.kaldi.stream import ByteReader

AUTOMATIC, SPEECH_FEATURE = 1, 2
TWO_BYTE_AUTO, TWO_BYTE_SIGNED = 3, 4
ONE_BYTE_AUTO, ONE_BYTE_UNSIGNED, ONE_BYTE_ZERO_ONE = 5, 6, 7

_FORMATS = {
    SPEECH_FEATURE: "CM",
    TWO_BYTE_AUTO: "CM2",
    TWO_BYTE_SIGNED: "CM2",
    ONE_BYTE_AUTO: "CM3",
    ONE_BYTE_UNSIGNED: "CM3",
    ONE_BYTE_ZERO_ONE: "CM3",
}
_FIXED_RANGES = {TWO_BYTE_SIGNED: (-32768.0, 65535.0), ONE_BYTE_UNSIGNED: (0.0, 255.0), ONE_BYTE_ZERO_ONE: (0.0, 1.0)}
_EMPTY = b"CM " + bytes(16)

_Codes = np.ndarray[Any, np.dtype[np.integer[Any]]]


@dataclass(frozen=True)
class _Header:
    """The scale that all elements of one matrix share."""

    min_value: np.float32
    range: np.float32

    def encode(self, values: FloatArray, max_code: int) -> _Codes:
        """Codes 0..max_code of values, linear over the range (FloatToUint16, FloatToUint8)."""
        fraction = np.clip((values - self.min_value) / self.range, np.float32(0), np.float32(1))
        return ((fraction * np.float32(max_code)).astype(np.float64) + 0.499).astype(np.int64)

    def decode(self, codes: _Codes, max_code: int) -> FloatArray:
        """Values of linear codes (CopyToMat)."""
        increment = np.float32(np.float64(self.range) * (1.0 / max_code))
        return _multiply_add(codes, increment, self.min_value)

    def decode_percentiles(self, codes: _Codes) -> FloatArray:
        """Values of a column's percentile codes (Uint16ToFloat)."""
        return _multiply_add(codes, self.range * np.float32(1.52590218966964e-05), self.min_value)


def _multiply_add(codes: _Codes, scale: np.float32, offset: np.float32) -> FloatArray:
    """codes * scale + offset with one rounding, as the fused instruction Kaldi is compiled to does it."""
    values = codes.astype(np.float64)
    values *= np.float64(scale)  # exact: at most 16 times 24 bits
    values += np.float64(offset)
    return values.astype(np.float32)


def read_compressed(reader: ByteReader, token: str) -> FloatArray:
    """Read and expand a compressed matrix whose token (`CM`, `CM2`, `CM3`) has been read.

    Returns:
        float32 of shape [num_rows, num_cols].

    Raises:
        DataError: it is cut, or its header or a column's percentiles are impossible.
    """
    min_value, value_range, num_rows, num_cols = struct.unpack("<ffii", reader.read(16))
    if num_rows < 0 or num_cols < 0 or (num_rows == 0) != (num_cols == 0):
        raise reader.error(f"a matrix of {num_rows} rows and {num_cols} columns", "the file is damaged")
    if num_cols == 0:
        return np.zeros((0, 0), np.float32)
    if not (math.isfinite(min_value) and math.isfinite(value_range)):
        raise reader.error(f"a matrix of values from {min_value} to {value_range} above that", "the file is damaged")
    header = _Header(np.float32(min_value), np.float32(value_range))
    with np.errstate(all="ignore"):  # a damaged header may hold a range that is too large
        if token == "CM":
            return _read_speech_feature(reader, header, num_rows, num_cols)
        dtype, max_code = (np.uint16, 65535) if token == "CM2" else (np.uint8, 255)
        return header.decode(reader.read_array(dtype, num_rows * num_cols), max_code).reshape(num_rows, num_cols)


def _read_speech_feature(reader: ByteReader, header: _Header, num_rows: int, num_cols: int) -> FloatArray:
    start = reader.offset
    data = reader.read_array(np.uint8, num_cols * (8 + num_rows))
    percentile_codes = data[: 8 * num_cols].view("<u2").reshape(num_cols, 4)
    if (percentile_codes[:, 1:] < percentile_codes[:, :-1]).any():
        raise reader.error("a column whose percentiles fall", "the file is damaged", byte=start)
    tables = _decoding_tables(header.decode_percentiles(percentile_codes))
    codes = data[8 * num_cols :].reshape(num_cols, num_rows)
    matrix = np.empty((num_rows, num_cols), np.float32)
    np.copyto(matrix.T, np.take_along_axis(tables, codes.astype(np.intp), axis=1))
    return matrix


def _decoding_tables(percentiles: FloatArray) -> FloatArray:
    """What each of the 256 codes of each column stands for, shape [num_cols, 256] (CharToFloat)."""
    p0, p25, p75, p100 = (percentiles[:, i : i + 1] for i in range(4))
    codes = np.arange(256, dtype=np.float32)

    def piece(low: FloatArray, high: FloatArray, first: int, last: int) -> Any:
        steps = ((high - low) * (codes[first:last] - np.float32(pieces_start(first)))).astype(np.float64)
        return low.astype(np.float64) + steps * (1 / {0: 64.0, 65: 128.0, 193: 63.0}[first])

    parts = [piece(p0, p25, 0, 65), piece(p25, p75, 65, 193), piece(p75, p100, 193, 256)]
    return np.concatenate(parts, axis=1).astype(np.float32)


def pieces_start(first: int) -> int:
    """The code at which the linear piece that holds code `first` begins."""
    return {0: 0, 65: 64, 193: 192}[first]


def compress(matrix: FloatArray, method: int) -> bytes:
    """A float32 matrix of shape [num_rows, num_cols] as the bytes Kaldi writes for it, token included.

    Args:
        matrix: the matrix.
        method: 1..7, Kaldi's --compression-method.

    Raises:
        DataError: the matrix holds NaN or infinite values, or there is no such method.
    """
    if method not in (AUTOMATIC, *_FORMATS):
        raise DataError(f"no compression method {method}", remedy="choose one of 1..7")
    if matrix.size == 0:
        return _EMPTY
    if method == AUTOMATIC:
        method = SPEECH_FEATURE if len(matrix) > 8 else TWO_BYTE_AUTO
    header = _header(matrix, method)
    if _FORMATS[method] == "CM":
        body = _compress_speech_feature(matrix, header)
    elif _FORMATS[method] == "CM2":
        body = header.encode(matrix, 65535).astype("<u2").tobytes()
    else:
        body = header.encode(matrix, 255).astype(np.uint8).tobytes()
    scale = struct.pack("<ffii", header.min_value, header.range, *matrix.shape)
    return f"{_FORMATS[method]} ".encode() + scale + body


def _header(matrix: FloatArray, method: int) -> _Header:
    """The scale for a matrix (ComputeGlobalHeader)."""
    if not np.isfinite(matrix).all():
        raise DataError("a matrix with NaN or infinite values cannot be compressed")
    if method in _FIXED_RANGES:
        min_value, value_range = _FIXED_RANGES[method]
        return _Header(np.float32(min_value), np.float32(value_range))
    low, high = matrix.min(), matrix.max()
    if high == low:  # a constant matrix still needs a range above zero
        high = np.float32(np.float64(low) + (1.0 + abs(np.float64(low))))
    with np.errstate(over="ignore"):
        value_range = high - low
    if not np.isfinite(value_range) or value_range <= 0:
        raise DataError(f"values from {low} to {high} cannot be compressed")
    return _Header(low, value_range)


def _compress_speech_feature(matrix: FloatArray, header: _Header) -> bytes:
    columns = np.ascontiguousarray(matrix.T)
    percentile_codes = _percentile_codes(np.sort(columns, axis=1), header)
    percentiles = header.decode_percentiles(percentile_codes)
    codes = _encode_pieces(columns, percentiles)
    return percentile_codes.astype("<u2").tobytes() + codes.astype(np.uint8).tobytes()


def _percentile_codes(columns: FloatArray, header: _Header) -> _Codes:
    """The four percentile codes of each sorted column, strictly rising, shape [num_cols, 4] (ComputeColHeader)."""
    num_rows = columns.shape[1]
    quarter = num_rows // 4
    at = [0, quarter, 3 * quarter, num_rows - 1] if num_rows >= 5 else list(range(num_rows))
    codes = header.encode(columns[:, at], 65535)
    codes = np.pad(codes, ((0, 0), (0, 4 - len(at))))  # a column of fewer rows has its last percentiles made up
    codes[:, 0] = np.minimum(codes[:, 0], 65532)
    codes[:, 1] = np.minimum(np.maximum(codes[:, 1], codes[:, 0] + 1), 65533)
    codes[:, 2] = np.minimum(np.maximum(codes[:, 2], codes[:, 1] + 1), 65534)
    codes[:, 3] = np.maximum(codes[:, 3], codes[:, 2] + 1)
    return codes


def _encode_pieces(columns: FloatArray, percentiles: FloatArray) -> _Codes:
    """Codes 0..255 of columns [num_cols, num_rows] given their percentiles [num_cols, 4] (FloatToChar)."""
    p0, p25, p75, p100 = (percentiles[:, i : i + 1] for i in range(4))

    def piece(low: FloatArray, high: FloatArray, first: int, num_steps: int) -> _Codes:
        fraction = (columns - low) / (high - low)
        steps = ((fraction * np.float32(num_steps)).astype(np.float64) + 0.5).astype(np.int64)
        return np.clip(first + steps, first, first + num_steps)

    lower, middle, upper = piece(p0, p25, 0, 64), piece(p25, p75, 64, 128), piece(p75, p100, 192, 63)
    return np.where(columns < p25, lower, np.where(columns < p75, middle, upper))
