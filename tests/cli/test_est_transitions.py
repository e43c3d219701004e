"""Transition probabilities from alignments."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from acoustic.cli.main import run
from acoustic.errors import ConfigError, DataError
from acoustic.kaldi.alignments import write_alignments
from acoustic.kaldi.tables import read_table
from acoustic.kaldi.transitions import TransitionModel

GOLDEN = Path(__file__).parents[1] / "golden"
MODEL = str(GOLDEN / "model" / "tri1" / "final.mdl")
ALI = f"ark:{GOLDEN / 'align' / 'tri1' / 'ali.ark'}"


def test_probabilities_are_shares_of_the_frames(tmp_path):
    run(
        ["est-transitions", "--transition-min-count=0.5", "--transition-floor=0.001", MODEL, ALI, str(tmp_path / "new")]
    )
    old, new = TransitionModel.read(MODEL), TransitionModel.read(tmp_path / "new")
    assert new.fingerprint() == old.fingerprint()
    frames = np.concatenate([ids for _, ids in read_table(ALI, "int_vector")])
    counts = np.bincount(frames, minlength=new.num_transition_ids + 1)
    state = int(new.transition_state_of[counts.argmax()])
    ids = list(new.transition_ids(state))
    expected = np.maximum(counts[ids] / counts[ids].sum(), 0.001)
    np.testing.assert_allclose(np.exp(new.log_prob[ids]), expected, atol=2e-3)
    unseen = [
        i for i in range(1, len(counts)) if counts[list(new.transition_ids(new.transition_state_of[i]))].sum() == 0
    ]
    np.testing.assert_array_equal(new.log_prob[unseen], old.log_prob[unseen])


def test_a_directory_of_alignments_gives_the_same(tmp_path):
    write_alignments(tmp_path / "ali", list(read_table(ALI, "int_vector")), 2)
    for source, out in ((ALI, "a"), (str(tmp_path / "ali"), "b")):
        run(["est-transitions", "--binary=false", MODEL, source, str(tmp_path / out)])
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert (tmp_path / "a").read_text().startswith("<TransitionModel>")


def test_faults(tmp_path):
    with pytest.raises(ConfigError, match="--transition-floor"):
        run(["est-transitions", "--transition-floor=0.6", MODEL, ALI, str(tmp_path / "new")])
    mono = str(GOLDEN / "model" / "mono" / "final.mdl")
    with pytest.raises(DataError, match=r"ali\.ark.*alignments of another model"):
        run(["est-transitions", mono, ALI, str(tmp_path / "new")])
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("system", ["mono", "tri1"])
def test_alignments_that_look_like_another_models_are_told(tmp_path, caplog, system):
    """mono's transition_ids are all in the range of tri1's model, so that nothing else would tell."""
    model = str(GOLDEN / "model" / system / "final.mdl")
    alignments = f"ark:{GOLDEN / 'align' / 'mono' / 'ali.ark'}"
    with caplog.at_level("WARNING", "acoustic"):
        run(["est-transitions", model, alignments, str(tmp_path / "new")])
    told = f"{alignments}: only 49 % of the steps between HMM states are possible in {model}; if another model made"
    assert (told in caplog.text) == (system == "tri1") == bool(caplog.text)
