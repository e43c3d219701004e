"""The forward pass: utterances together as one by one, in either precision."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor

from acoustic.decode.forward import BLOCK_FRAMES, AcousticModel, by_frames
from acoustic.decode.priors import log_priors
from acoustic.errors import CheckpointError, ConfigError, DataError
from acoustic.features.cmvn import cmvn_stats
from acoustic.features.fbank import Fbank, FbankOptions
from acoustic.features.frontend import Frontend, FrontendConfig
from acoustic.nn.bundle import Bundle
from acoustic.nn.classifier import ClassifierConfig, SenoneClassifier

NUM_PDFS = 37


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    """An untrained network of some size."""
    torch.manual_seed(0)
    config = FrontendConfig(cmvn="none", delta_order=0, splice_left=2, splice_right=2, global_norm=False)
    frontend = Frontend(config, 8)
    return Bundle(
        classifier=SenoneClassifier(ClassifierConfig(hidden_layers=2, hidden_dim=64), frontend.input_dim, NUM_PDFS),
        frontend_config=dataclasses.asdict(config),
        frontend_state=frontend.state_dict(),
        feat_dim=8,
        fbank_options=None,
        pdf_counts=torch.arange(1, NUM_PDFS + 1),
        fingerprints={},
        config={},
    )


def utterances(*lengths: int) -> list[Tensor]:
    """Random base frames."""
    return [torch.randn(length, 8, generator=torch.Generator().manual_seed(length)) for length in lengths]


def test_loglikes_are_log_posteriors_less_log_priors(bundle: Bundle) -> None:
    model = AcousticModel(bundle, prior_scale=0.5)
    (posteriors,), (loglikes,) = model.log_posteriors(utterances(300)), model.loglikes(utterances(300))
    torch.testing.assert_close(posteriors.exp().sum(1), torch.ones(300))
    torch.testing.assert_close(loglikes, posteriors - 0.5 * log_priors(bundle.pdf_counts))


def test_utterances_together_as_one_by_one(bundle: Bundle) -> None:
    model = AcousticModel(bundle)
    several = utterances(1, BLOCK_FRAMES, 3, 700)
    for base, together in zip(several, model.loglikes(several), strict=True):
        torch.testing.assert_close(together, model.loglikes([base])[0], atol=1e-5, rtol=1e-5)


def test_bf16_errs_by_the_rounding_of_logits(bundle: Bundle) -> None:
    exact, rounded = AcousticModel(bundle), AcousticModel(bundle, dtype=torch.bfloat16)
    (expected,), (actual,) = exact.loglikes(utterances(2000)), rounded.loglikes(utterances(2000))
    assert actual.dtype == torch.float32
    spread = float(expected.max(1).values.mean() - expected.min(1).values.mean())
    assert 0 < float((actual - expected).abs().max()) < 0.02 * spread
    # The bundle's own weights stay as they were trained.
    assert bundle.classifier.output.weight.dtype == torch.float32


def test_nothing_is_dropped_out(bundle: Bundle) -> None:
    config = ClassifierConfig(hidden_layers=2, hidden_dim=64, dropout=0.5)
    classifier = SenoneClassifier(config, bundle.classifier.input_dim, NUM_PDFS)
    model = AcousticModel(dataclasses.replace(bundle, classifier=classifier.train()))
    first, second = (model.loglikes(utterances(50))[0] for _ in range(2))
    assert torch.equal(first, second)


def test_audio_goes_through_the_features_that_the_model_knows(bundle: Bundle) -> None:
    options = dataclasses.asdict(FbankOptions(sample_frequency=8000.0, num_mel_bins=8, dither=1.0))
    model = AcousticModel(dataclasses.replace(bundle, fbank_options=options))
    samples = 1000 * torch.randn(4000, generator=torch.Generator().manual_seed(1))
    (feats,) = Fbank(FbankOptions(sample_frequency=8000.0, num_mel_bins=8, dither=0.0))([samples])
    assert torch.equal(model.loglikes_of_waveform(samples, 8000), model.loglikes_of_feats(feats))
    with pytest.raises(ConfigError, match="audio of 16000 Hz given to a model of 8000 Hz"):
        model.loglikes_of_waveform(samples, 16000)
    with pytest.raises(DataError, match="150 samples are less than one frame"):
        model.loglikes_of_waveform(samples[:150], 8000)
    with pytest.raises(ConfigError, match="give it features, not audio"):
        AcousticModel(bundle).loglikes_of_waveform(samples, 8000)


def test_a_network_of_parts_of_different_ones_is_refused(bundle: Bundle) -> None:
    with pytest.raises(CheckpointError, match="36 priors for 37 outputs"):
        AcousticModel(dataclasses.replace(bundle, pdf_counts=torch.ones(NUM_PDFS - 1)))
    narrow = SenoneClassifier(ClassifierConfig(hidden_layers=1, hidden_dim=8), 39, NUM_PDFS)
    with pytest.raises(CheckpointError, match="its front end gives 40 values, it takes 39"):
        AcousticModel(dataclasses.replace(bundle, classifier=narrow))


def test_groups_hold_as_many_utterances_as_fit() -> None:
    groups = by_frames(
        ((str(length), base) for length, base in zip((6, 4, 20, 1, 2), utterances(6, 4, 20, 1, 2), strict=True)), 10
    )
    assert [[utt for utt, _ in group] for group in groups] == [["6", "4"], ["20"], ["1", "2"]]


def test_one_utterance_as_tables_and_audio_give_it(bundle: Bundle) -> None:
    """Statistics and transforms are numpy arrays when `read_table` has read them."""
    config = FrontendConfig(cmvn="speaker", delta_order=0, fmllr="speaker", global_norm=False)
    frontend = Frontend(config, 8)
    model = AcousticModel(
        dataclasses.replace(
            bundle,
            classifier=SenoneClassifier(ClassifierConfig(hidden_layers=1, hidden_dim=4), frontend.input_dim, NUM_PDFS),
            frontend_config=dataclasses.asdict(config),
            frontend_state=frontend.state_dict(),
            fbank_options={"num_mel_bins": 8},
        )
    )
    feats, stats, transform = utterances(20)[0], cmvn_stats(utterances(50)[0]), 2.0 * torch.eye(8)
    of_tensors = model.loglikes_of_feats(feats, stats, transform)
    assert torch.equal(of_tensors, model.loglikes_of_feats(feats.numpy(), stats.numpy(), transform.numpy()))
    assert not torch.equal(of_tensors, model.loglikes_of_feats(feats, None, transform))
    with pytest.raises(DataError, match=r"samples of shape \[16000, 2\] instead of \[num_samples\]; give one channel"):
        model.loglikes_of_waveform(np.zeros((16000, 2)), 16000)
