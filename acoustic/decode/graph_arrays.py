"""Transducers between arrays and kaldifst.

kaldifst has the algorithms but visits arcs one Python call at a time; what it lacks is done on arrays.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import kaldifst

from acoustic.errors import DataError
from acoustic.kaldi.fst import NO_STATE, FstArrays, empty_fst, read_fst, write_const


def to_const(fst: FstArrays) -> kaldifst.StdConstFst:
    """The transducer as kaldifst's unchangeable kind, which the decoder takes."""
    with tempfile.NamedTemporaryFile(suffix=".fst") as file:
        write_const(file, fst)
        file.flush()
        return kaldifst.StdConstFst.read(file.name)


def to_vector(fst: FstArrays) -> kaldifst.StdVectorFst:
    """The transducer as kaldifst's changeable kind."""
    return kaldifst.StdVectorFst(to_const(fst))


def from_kaldifst(fst: kaldifst.StdFst) -> FstArrays:
    """The arrays of a transducer of kaldifst.

    Raises:
        DataError: the folder for temporary files is full.
    """
    if fst.start == NO_STATE:
        return empty_fst()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "graph.fst"
        if not kaldifst.StdConstFst(fst).write(str(path)):
            raise DataError("a transducer cannot be written", path=path, remedy="free space there or set TMPDIR")
        return read_fst(path)
