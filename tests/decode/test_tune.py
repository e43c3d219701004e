"""Tuning on development data: every trial equals a decode and score of its own."""

from pathlib import Path

import numpy as np
import pytest

from acoustic.decode.decoder import Decoder, DecoderOptions
from acoustic.decode.priors import DISABLED
from acoustic.decode.tune import Grid, best_cell, read_tuned, tune
from acoustic.decode.wer import read_transcripts, score
from acoustic.errors import ConfigError, DataError
from acoustic.kaldi.symbols import SymbolTable
from acoustic.kaldi.tables import read_table
from acoustic.kaldi.transitions import TransitionModel

GOLDEN = Path(__file__).parents[1] / "golden"
GRAPH = GOLDEN / "graph" / "mono"


@pytest.fixture(scope="module")
def parts():
    rng = np.random.default_rng(0)
    # Noise, so that there are errors to count.
    loglikes = {
        utt: matrix + rng.normal(0.0, 80.0, matrix.shape).astype(np.float32)
        for utt, matrix in read_table(f"ark:{GOLDEN / 'decode' / 'mono' / 'loglikes.ark'}", "matrix")
    }
    model = TransitionModel.read(GOLDEN / "model" / "mono" / "final.mdl")
    return model, loglikes, read_transcripts(str(GOLDEN / "wav" / "text")), SymbolTable.read(GRAPH / "words.txt")


@pytest.mark.parametrize("num_jobs", [1, 2])
def test_trials_equal_decoding_and_scoring(parts, num_jobs):
    model, loglikes, ref, words = parts
    grid = Grid((0.005, 0.05, 0.5), (0.0, 20.0))
    result = tune(model, GRAPH / "HCLG.fst", loglikes.items(), ref, words.id_of, grid, num_jobs=num_jobs)
    assert [(t.acoustic_scale, t.insertion_penalty) for t in result.trials] == [
        (scale, penalty) for scale in grid.acoustic_scales for penalty in grid.insertion_penalties
    ]
    for trial in result.trials:
        options = DecoderOptions(acoustic_scale=trial.acoustic_scale, insertion_penalty=trial.insertion_penalty)
        decoder = Decoder(model, GRAPH / "HCLG.fst", options)
        hyp = {utt: [words.symbol_of[w] for w in decoder.decode(matrix).words] for utt, matrix in loglikes.items()}
        scores = score(ref, hyp)
        assert (trial.num_ins, trial.num_del, trial.num_sub) == (
            scores.num_ins.sum(),
            scores.num_del.sum(),
            scores.num_sub.sum(),
        )
        assert trial.wer == scores.wer
    assert result.best.num_errors == min(trial.num_errors for trial in result.trials)
    assert len({trial.num_errors for trial in result.trials}) > 1


def test_prior_scale_changes_loglikes_as_the_network_would(parts):
    model, loglikes, ref, words = parts
    # Far apart, so that scaling them changes decisions.
    log_priors = np.random.default_rng(1).uniform(-400.0, -1.0, model.num_pdfs).astype(np.float32)
    grid = Grid((0.1,), (0.0,), (1.0, 0.5, 2.0))
    tuned = tune(model, GRAPH / "HCLG.fst", loglikes.items(), ref, words.id_of, grid, log_priors=log_priors)
    for trial, scale in zip(tuned.trials, grid.prior_scales, strict=True):
        scaled = {utt: matrix + np.float32(1.0 - scale) * log_priors for utt, matrix in loglikes.items()}
        direct = tune(model, GRAPH / "HCLG.fst", scaled.items(), ref, words.id_of, Grid((0.1,))).trials[0]
        assert trial.prior_scale == scale
        assert (trial.num_ins, trial.num_del, trial.num_sub) == (direct.num_ins, direct.num_del, direct.num_sub)
    assert len({(trial.num_ins, trial.num_del, trial.num_sub) for trial in tuned.trials}) == 3
    with pytest.raises(ConfigError, match="log priors"):
        tune(model, GRAPH / "HCLG.fst", loglikes.items(), ref, words.id_of, grid)


def test_references_without_words_are_an_error(parts):
    model, loglikes, ref, words = parts
    with pytest.raises(DataError, match="hold no words"):
        tune(model, GRAPH / "HCLG.fst", loglikes.items(), dict.fromkeys(ref, ()), words.id_of, Grid((0.1,)))


def test_disabled_pdfs_stay_disabled_whatever_the_prior_scale(parts):
    """Their log prior is DISABLED, which a scale of 0 must not take off their loglikes again."""
    model, loglikes, ref, words = parts
    log_priors = np.full(model.num_pdfs, -4.0, np.float32)
    log_priors[::5] = DISABLED
    without = {utt: matrix - np.where(log_priors > 0.0, log_priors, 0.0) for utt, matrix in loglikes.items()}
    grid = Grid((0.1,), (0.0,), (1.0, 0.0))
    tuned = tune(model, GRAPH / "HCLG.fst", without.items(), ref, words.id_of, grid, log_priors=log_priors)
    # The other log priors are all alike, so that scaling them changes no decision.
    assert tuned.trials[1].num_errors == tuned.trials[0].num_errors > 0


def test_result_survives_its_file(parts, tmp_path):
    model, loglikes, ref, words = parts
    result = tune(model, GRAPH / "HCLG.fst", loglikes.items(), ref, words.id_of, Grid((0.05, 0.1)))
    result.write(tmp_path / "tuned.json")
    assert read_tuned(tmp_path / "tuned.json") == result.best
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(DataError, match="decode-tune"):
        read_tuned(tmp_path / "other.json")


def test_ties_go_to_the_middle_of_the_plateau():
    plateau = np.array([[[9, 9], [3, 4], [3, 4], [3, 4], [9, 9]]])
    assert np.unravel_index(best_cell(plateau), plateau.shape) == (0, 2, 0)
    flat = np.full((1, 5, 3), 2)
    assert np.unravel_index(best_cell(flat), flat.shape) == (0, 2, 1)
    unique = np.array([[[5, 1], [4, 4]]])
    assert best_cell(unique) == 1


def test_utterances_without_reference_are_too_many(parts):
    model, loglikes, ref, words = parts
    with pytest.raises(DataError, match="no_reference"):
        tune(model, GRAPH / "HCLG.fst", loglikes.items(), dict(list(ref.items())[:3]), words.id_of, Grid((0.1,)))


def test_a_grid_that_cannot_be_decoded_with_is_refused():
    with pytest.raises(ConfigError, match="at least one value"):
        Grid(())
    with pytest.raises(ConfigError, match="--acoustic-scales: 0 is among them"):
        Grid((0.1, 0.0))
