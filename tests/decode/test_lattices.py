"""Lattices of the included decoder: those that latgen-faster-mapped made without determinisation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from acoustic.cli.main import run
from acoustic.decode.lattices import LatticeDecoder, LatticeOptions
from acoustic.decode.search import NO_FINAL_STATE, NO_FRAMES, NoPathError
from acoustic.errors import ConfigError, DataError
from acoustic.kaldi.lattices import Lattice, sort_topologically, state_times
from acoustic.kaldi.tables import read_table
from acoustic.kaldi.transitions import TransitionModel

GOLDEN = Path(__file__).parents[1] / "golden"
MODEL_FILE, GRAPH = GOLDEN / "model/tri1/final.mdl", GOLDEN / "graph/tri1/HCLG.fst"
MODEL = TransitionModel.read(MODEL_FILE)
LOGLIKES = dict(read_table(f"ark:{GOLDEN / 'sequence/loglikes.ark'}", "matrix"))
OPTIONS = LatticeOptions(beam=16.0, lattice_beam=4.0)


def arcs_at_times(lattice: Lattice) -> list[tuple[int, int, int, float, float]]:
    """Frame, labels and costs of all arcs, sorted: what does not depend on how states are numbered."""
    ordered = sort_topologically(lattice)
    frames = state_times(ordered)[ordered.sources()].tolist()
    costs = [np.round(ordered.arcs[name].astype(float), 2).tolist() for name in ("graph_cost", "acoustic_cost")]
    return sorted(zip(frames, ordered.arcs["ilabel"].tolist(), ordered.arcs["olabel"].tolist(), *costs, strict=True))


def test_lattices_are_those_of_kaldis_decoder() -> None:
    decoder = LatticeDecoder(MODEL, GRAPH, OPTIONS)
    for utt, kaldi in read_table(f"ark:{GOLDEN / 'sequence/raw.ark'}", "lattice"):
        lattice = decoder.decode(LOGLIKES[utt])
        assert (lattice.num_states, lattice.num_arcs) == (kaldi.num_states, kaldi.num_arcs)
        ours, theirs = arcs_at_times(lattice), arcs_at_times(kaldi)
        np.testing.assert_allclose(ours, theirs, atol=0.02)


def test_a_wider_lattice_beam_keeps_more() -> None:
    loglikes = LOGLIKES["engb_f3-002"]
    sizes = [
        LatticeDecoder(MODEL, GRAPH, LatticeOptions(beam=16.0, lattice_beam=beam)).decode(loglikes).num_arcs
        for beam in (0.5, 2.0, 6.0)
    ]
    assert sizes == sorted(set(sizes))


def test_lattices_without_an_end_are_for_those_who_ask() -> None:
    loglikes = LOGLIKES["engb_f3-002"][:2]  # silence ends after three frames
    with pytest.raises(NoPathError) as caught:
        LatticeDecoder(MODEL, GRAPH, OPTIONS).decode(loglikes)
    assert caught.value.reason == NO_FINAL_STATE
    partial = LatticeOptions(beam=16.0, lattice_beam=4.0, allow_partial=True)
    lattice = LatticeDecoder(MODEL, GRAPH, partial).decode(loglikes)
    assert state_times(sort_topologically(lattice)).max() == 2 and lattice.is_final.any()


def test_unusable_loglikes_are_refused() -> None:
    decoder, loglikes = LatticeDecoder(MODEL, GRAPH, OPTIONS), LOGLIKES["engb_f3-002"]
    with pytest.raises(NoPathError) as caught:
        decoder.decode(loglikes[:0])
    assert caught.value.reason == NO_FRAMES
    with pytest.raises(NoPathError, match="within the beam"):
        decoder.decode(np.full_like(loglikes, -np.inf))
    with pytest.raises(DataError, match="shape"):
        decoder.decode(loglikes[:, 1:])
    with pytest.raises(DataError, match="frame 3"):
        decoder.decode(np.where(np.arange(len(loglikes))[:, None] == 3, np.nan, loglikes))
    of_decode_sh = LatticeOptions(acoustic_scale=0.1, beam=13.0, lattice_beam=8.0, prune_interval=25)  # of nnet1
    assert LatticeOptions() == of_decode_sh and LatticeOptions(prune_interval=1).prune_interval == 1
    none = ({"beam": 0.0}, {"lattice_beam": 0.0}, {"acoustic_scale": 0.0}, {"acoustic_scale": np.inf})
    for options in (*none, {"lattice_beam": -1.0}, {"prune_interval": 0}):
        with pytest.raises(ValueError, match="--"):
            LatticeOptions(**options)


def test_the_verb_writes_them_whatever_the_number_of_jobs(tmp_path: Path) -> None:
    loglikes = f"ark:{GOLDEN / 'sequence/loglikes.ark'}"
    command = ["lattices", "--beam=16", "--lattice-beam=4", str(MODEL_FILE), str(GRAPH), loglikes]
    run([*command, "--num-jobs=1", f"ark:{tmp_path / 'lat.1.gz'}"])
    run([*command, "--num-jobs=2", f"ark:{tmp_path / 'lat.2.gz'}"])
    one, two = (dict(read_table(f"ark:{tmp_path}/lat.{job}.gz", "lattice")) for job in (1, 2))
    assert list(one) == list(two) == list(LOGLIKES)
    for utt, lattice in one.items():
        np.testing.assert_array_equal(lattice.arcs, two[utt].arcs)
    with pytest.raises(ConfigError, match="--beam"):
        run([*command[:1], "--beam=-1", *command[3:], f"ark:{tmp_path / 'lat'}"])
