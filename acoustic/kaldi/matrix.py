"""Matrices and vectors as Kaldi writes them (matrix/kaldi-matrix.cc, kaldi-vector.cc).

Binary matrices are `FM` (float), `DM` (double) or compressed (`CM`, `CM2`, `CM3`), vectors `FV` or `DV`; text is
` [` rows `]`. Text gives float32, the precision it was printed with. A matrix without elements is 0 x 0.
"""

from __future__ import annotations

from pathlib import Path
from typing import IO, Any

import numpy as np

from acoustic.errors import DataError
from acoustic.kaldi.basic import write_binary_header, write_int32, write_token
from acoustic.kaldi.compressed import compress, read_compressed
from acoustic.kaldi.numbers import FloatArray
from acoustic.kaldi.stream import ByteReader, open_reader, open_writer

Array = np.ndarray[Any, np.dtype[np.floating[Any]]]

_COMPRESSED = ("CM", "CM2", "CM3")
_MATRIX_DTYPES = {"FM": np.float32, "DM": np.float64}
_VECTOR_DTYPES = {"FV": np.float32, "DV": np.float64}


def read_matrix(reader: ByteReader) -> Array:
    """Read a matrix in the mode of `reader` (see `ByteReader.read_binary_header`).

    Returns:
        float32 of shape [num_rows, num_cols]; float64 for a binary double matrix.

    Raises:
        DataError: there is no matrix, or it is cut or malformed.
    """
    if not reader.binary:
        return _read_text_matrix(reader)
    token = reader.expect_token(*_MATRIX_DTYPES, *_COMPRESSED)
    if token in _COMPRESSED:
        return read_compressed(reader, token)
    num_rows, num_cols = reader.read_count("rows"), reader.read_count("columns")
    check_shape(reader, num_rows, num_cols)
    array: Array = reader.read_array(_MATRIX_DTYPES[token], num_rows * num_cols).reshape(num_rows, num_cols)
    return array


def check_shape(reader: ByteReader, num_rows: int, num_cols: int) -> None:
    """Refuse what Kaldi cannot hold.

    Raises:
        DataError: one of the two is zero and the other is not.
    """
    if (num_rows == 0) != (num_cols == 0):
        raise reader.error(f"a matrix of {num_rows} rows and {num_cols} columns", "the file is damaged")


def _read_text_matrix(reader: ByteReader) -> FloatArray:
    text, start = reader.read_brackets()
    lines = [line.split() for line in text.replace(b";", b"\n").split(b"\n")]
    lengths = [len(words) for words in lines if words]
    num_cols = lengths[0] if lengths else 0
    for row, length in enumerate(lengths):
        if length != num_cols:
            problem = f"row {row} has {length} columns, the rows before it {num_cols}"
            raise reader.error(problem, "the file is damaged", byte=start)
    return reader.floats_of(text.replace(b";", b" "), start).reshape(len(lengths), num_cols)


def read_vector(reader: ByteReader) -> Array:
    """Read a vector in the mode of `reader`.

    Returns:
        float32 of shape [dim]; float64 for a binary double vector.

    Raises:
        DataError: there is no vector, or it is cut or malformed.
    """
    if reader.binary:
        token = reader.expect_token(*_VECTOR_DTYPES)
        array: Array = reader.read_array(_VECTOR_DTYPES[token], reader.read_count("elements"))
        return array
    text, start = reader.read_brackets()
    if b"\n" in text:
        raise reader.error("a vector that goes over several lines", "maybe it is a matrix", byte=start)
    return reader.floats_of(text, start)


def write_matrix(
    file: IO[bytes], matrix: np.ndarray[Any, Any], binary: bool = True, compression_method: int | None = None
) -> None:
    """Write a matrix as Kaldi does: float64 as double, everything else as float.

    Args:
        file: a binary file, in text mode too.
        matrix: shape [num_rows, num_cols].
        binary: Kaldi's binary or text form (without the binary marker of a file).
        compression_method: one of 1..7 (see compressed.py) for a compressed binary matrix.

    Raises:
        DataError: `matrix` is not a matrix of real numbers, or cannot be compressed.
    """
    array = _as_real(matrix, num_dims=2)
    if not binary:
        file.write(_text_matrix(array))
    elif compression_method is not None:
        file.write(compress(array.astype(np.float32, copy=False), compression_method))
    else:
        num_rows, num_cols = array.shape if array.size else (0, 0)
        write_token(file, "DM" if array.dtype == np.float64 else "FM")
        write_int32(file, num_rows)
        write_int32(file, num_cols)
        file.write(array.data if array.size else b"")


def _text_matrix(array: Array) -> bytes:
    if array.size == 0:
        return b" [ ]\n"
    row_format = "\n  " + "%.7g " * array.shape[1]
    return (" [" + "".join(row_format % tuple(row) for row in array.tolist()) + "]\n").encode()


def write_vector(file: IO[bytes], vector: np.ndarray[Any, Any], binary: bool = True) -> None:
    """Write a vector as Kaldi does: float64 as double, everything else as float.

    Raises:
        DataError: `vector` is not a vector of real numbers.
    """
    array = _as_real(vector, num_dims=1)
    if binary:
        write_token(file, "DV" if array.dtype == np.float64 else "FV")
        write_int32(file, len(array))
        file.write(array.data if array.size else b"")
    else:
        file.write((" [ " + "".join(f"{value:.7g} " for value in array.tolist()) + "]\n").encode())


def _as_real(values: np.ndarray[Any, Any], num_dims: int) -> Array:
    """A contiguous little-endian array of float64 (if it was) or float32."""
    array = np.asarray(values)
    if array.ndim != num_dims or array.dtype.kind not in "fiu":
        what = "matrix" if num_dims == 2 else "vector"
        raise DataError(f"expected a {what} of real numbers, got {array.dtype} of shape {array.shape}")
    return np.ascontiguousarray(array, dtype="<f8" if array.dtype == np.float64 else "<f4")


def read_matrix_file(rxfilename: str | Path) -> Array:
    """Read a file that holds one matrix, such as `final.mat` or global CMVN statistics, binary or text.

    Raises:
        DataError: it cannot be read, or holds none.
    """
    with open_reader(rxfilename) as reader:
        reader.read_binary_header()
        return read_matrix(reader)


def read_vector_file(rxfilename: str | Path) -> Array:
    """Read a file that holds one vector, such as class counts, binary or text.

    Raises:
        DataError: it cannot be read, or holds none.
    """
    with open_reader(rxfilename) as reader:
        reader.read_binary_header()
        return read_vector(reader)


def write_matrix_file(wxfilename: str | Path, matrix: np.ndarray[Any, Any], binary: bool = True) -> None:
    """Write a file that holds one matrix.

    Raises:
        DataError: it cannot be written, or is no matrix.
    """
    with open_writer(wxfilename) as file:
        if binary:
            write_binary_header(file)
        write_matrix(file, matrix, binary)


def write_vector_file(wxfilename: str | Path, vector: np.ndarray[Any, Any], binary: bool = True) -> None:
    """Write a file that holds one vector.

    Raises:
        DataError: it cannot be written, or is no vector.
    """
    with open_writer(wxfilename) as file:
        if binary:
            write_binary_header(file)
        write_vector(file, vector, binary)
