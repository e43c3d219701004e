"""The same features and network inputs on a CUDA device as on the CPU."""

from __future__ import annotations

import pytest
import torch

from acoustic.features.fbank import Fbank, FbankOptions
from acoustic.features.frontend import Frontend, FrontendConfig
from tests.features.feature_data import random_feats, waveforms

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]


def test_fbank() -> None:
    options = FbankOptions(sample_frequency=8000.0, num_mel_bins=40, dither=1.0)
    audio = waveforms()
    on_cpu = Fbank(options)(list(audio.values()), list(audio))
    on_gpu = Fbank(options).to("cuda")(list(audio.values()), list(audio))
    for cpu, gpu in zip(on_cpu, on_gpu, strict=True):
        assert gpu.is_cuda
        assert torch.allclose(gpu.cpu(), cpu, atol=1e-3)


@pytest.mark.parametrize("delta_order", [0, 2])
def test_window(delta_order: int) -> None:
    frontend = Frontend(FrontendConfig(cmvn="none", delta_order=delta_order, splice_left=5, splice_right=5), 40)
    frontend.set_global_norm(random_feats(1, frontend.input_dim)[0], torch.full((frontend.input_dim,), 4.0))
    base = random_feats(200, 40).half()
    expected = frontend.utterance(base)
    assert torch.allclose(frontend.to("cuda").utterance(base.cuda()).cpu(), expected, atol=1e-3)
