"""Masks on network inputs: where they lie, how wide they are, and that a resumed run draws the same."""

import pytest
import torch

from acoustic.errors import ConfigError
from acoustic.features.frontend import Frontend, FrontendConfig
from acoustic.train.masking import InputMasking, MaskingConfig, random_spans
from tests.train.runs import metrics, same_weights, train_broken_off, train_small


def frontend(**options):
    return Frontend(FrontendConfig(splice_left=3, splice_right=3, **options), feat_dim=10)


def test_spans_have_every_width_and_every_place():
    torch.manual_seed(0)
    spans = random_spans(4000, 1, 3, 8, torch.device("cpu"))
    widths = spans.sum(1)
    shares = torch.bincount(widths, minlength=4) / len(spans)
    torch.testing.assert_close(shares, torch.full((4,), 0.25), atol=0.03, rtol=0)
    assert ((spans[:, 1:] & ~spans[:, :-1]).sum(1) + spans[:, 0] <= 1).all()  # one stretch each
    assert spans.any(0).all()
    for width in (1, 2, 3):  # as often at each place where it fits
        begins = spans[widths == width].to(torch.int8).argmax(1)
        shares = torch.bincount(begins, minlength=9 - width) / len(begins)
        torch.testing.assert_close(shares, torch.full((9 - width,), 1 / (9 - width)), atol=0.05, rtol=0)


def test_a_frequency_mask_hides_a_channel_with_its_deltas_in_all_frames():
    torch.manual_seed(1)
    front = frontend(delta_order=2)
    inputs = torch.rand(200, front.input_dim) + 1
    masked = InputMasking(MaskingConfig(num_freq_masks=1, max_freq_width=4), front)(inputs)
    assert torch.equal(masked, torch.where(masked == 0, 0.0, inputs))
    hidden = masked.view(200, 7, 3, 10) == 0
    assert (hidden == hidden[:, :1, :1]).all()
    assert set(hidden[:, 0, 0].sum(1).tolist()) == {0, 1, 2, 3, 4}


def test_a_time_mask_hides_whole_frames():
    torch.manual_seed(1)
    front = frontend(delta_order=1)
    inputs = torch.rand(200, front.input_dim) + 1
    masked = InputMasking(MaskingConfig(num_time_masks=2, max_time_width=2), front)(inputs)
    assert torch.equal(masked, torch.where(masked == 0, 0.0, inputs))
    hidden = masked.view(200, 7, 20) == 0
    assert (hidden == hidden[:, :, :1]).all()
    assert set(hidden[:, :, 0].sum(1).tolist()) == {0, 1, 2, 3, 4}


@pytest.mark.parametrize(
    ("masks", "features", "message"),
    [
        ({"num_time_masks": 1}, {"lda_dim": 5}, "lda_dim"),
        ({"num_time_masks": 1, "max_time_width": 8}, {}, "max_time_width"),
        ({"num_freq_masks": 1, "max_freq_width": 11}, {}, "max_freq_width"),
        ({"num_freq_masks": 1}, {"transform_dim": 10}, "transform"),
        ({"num_freq_masks": 1}, {"global_norm": False}, "global_norm"),
    ],
)
def test_inputs_that_cannot_be_masked_are_refused(masks, features, message):
    with pytest.raises(ConfigError, match=message):
        InputMasking(MaskingConfig(**masks), frontend(**features))


@pytest.mark.parametrize("kind", ["freq", "time"])
def test_a_rank_may_have_no_frame_of_an_epochs_last_batch(kind):
    front = frontend(delta_order=1)
    masking = InputMasking(MaskingConfig(**{f"num_{kind}_masks": 1, "max_time_width": 2}), front)
    assert masking(torch.ones(0, front.input_dim)).shape == (0, front.input_dim)


def test_masks_are_of_training_only_and_the_same_after_a_resume(corpus, tmp_path, monkeypatch):
    options = ["masking=specaugment", "model.dropout=0.2"]
    whole = train_small(corpus, tmp_path / "whole", *options)
    broken = train_broken_off(corpus, tmp_path / "broken", monkeypatch, 7, *options)
    assert same_weights(whole, broken)
    fixed = ["optim.learning_rate=1e-9"]
    train_small(corpus, tmp_path / "masked", "masking=specaugment", *fixed)
    train_small(corpus, tmp_path / "plain", *fixed)
    masked, plain = metrics(tmp_path / "masked")[0], metrics(tmp_path / "plain")[0]
    assert masked["dev_loss"] == pytest.approx(plain["dev_loss"], abs=1e-5)
    assert abs(masked["train_loss"] - plain["train_loss"]) > 1e-4
