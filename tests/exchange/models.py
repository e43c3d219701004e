"""Random models of every front end and activation, and what their features are outside an exported net."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from acoustic.decode.forward import AcousticModel
from acoustic.exchange.stages import Affine, Cmvn, Deltas, Fmllr, GlobalCmvn, Splice, Stage
from acoustic.features.cmvn import apply_cmvn, cmvn_stats
from acoustic.features.config import FrontendConfig
from acoustic.features.deltas import add_deltas
from acoustic.features.frontend import Frontend
from acoustic.features.splice import splice
from acoustic.features.transforms import apply_transform
from acoustic.nn.bundle import Bundle
from acoustic.nn.classifier import ClassifierConfig, SenoneClassifier

FEAT_DIM, NUM_PDFS = 7, 9
LENGTHS = (1, 2, 5, 40)

FRONTENDS = {
    "nothing": FrontendConfig(cmvn="none", global_norm=False),
    "splicing": FrontendConfig(cmvn="speaker", splice_left=3, splice_right=2),
    "deltas": FrontendConfig(cmvn="speaker", norm_vars=True, delta_order=2, splice_left=2, splice_right=2),
    "deltas alone": FrontendConfig(cmvn="utterance", delta_order=1, delta_window=3, global_norm=False),
    "global and lda": FrontendConfig(cmvn="global", norm_vars=True, splice_left=2, splice_right=1, lda_dim=8),
    "global and deltas": FrontendConfig(cmvn="global", delta_order=2, splice_left=2, splice_right=2),
    "lda and mllt": FrontendConfig(
        cmvn="speaker", transform_splice_left=2, transform_splice_right=2, transform_dim=6, splice_right=3
    ),
    "fmllr": FrontendConfig(
        cmvn="speaker", transform_delta_order=1, transform_dim=6, fmllr="speaker", delta_order=1, splice_right=2
    ),
}  # fmt: skip


@dataclass
class Utterance:
    """Features [T, FEAT_DIM], the speaker's CMVN statistics and fMLLR transform."""

    feats: Tensor
    stats: Tensor
    fmllr: Tensor | None


def make_frontend(config: FrontendConfig, feat_dim: int = FEAT_DIM) -> Frontend:
    """A front end with random values."""
    torch.manual_seed(1)
    frontend = Frontend.from_config(config, feat_dim)
    if frontend.global_cmvn is not None:
        frontend.set_global_cmvn(cmvn_stats(3 * torch.randn(50, feat_dim) + 2))
    if frontend.transform is not None:
        frontend.set_transform(torch.randn(config.transform_dim, frontend.transform_input_dim + 1) / 3)
    if frontend.lda_weight is not None:
        frontend.set_lda(torch.randn(config.lda_dim, frontend.spliced_dim + 1) / 3)
    if frontend.shift is not None:
        frontend.set_global_norm(torch.randn(frontend.input_dim), torch.rand(frontend.input_dim) + 0.5)
    return frontend


def make_bundle(frontend: Frontend, num_pdfs: int = NUM_PDFS, counts: Tensor | None = None, **model: object) -> Bundle:
    """A bundle with random weights, slopes and running moments; the first pdf was never seen."""
    torch.manual_seed(2)
    classifier = SenoneClassifier(ClassifierConfig(**model), frontend.input_dim, num_pdfs).eval()  # type: ignore[arg-type]
    for name, tensor in classifier.state_dict().items():
        if name.endswith(("bias", "running_mean")):
            tensor.normal_(std=0.3)
        elif tensor.ndim == 1:
            tensor.uniform_(0.1, 1.5)
    return Bundle(
        classifier=classifier,
        frontend_config=frontend.config_dict(),
        frontend_state=frontend.state_dict(),
        feat_dim=frontend.feat_dim,
        pdf_counts=torch.arange(num_pdfs) * 10 if counts is None else counts,
    )


def utterances(frontend: Frontend) -> list[Utterance]:
    """Utterances of several lengths."""
    generator = torch.Generator().manual_seed(3)
    normal = functools.partial(torch.randn, generator=generator)
    found = []
    for num_frames in LENGTHS:
        feats = 3 * normal(num_frames, frontend.feat_dim) + 2
        fmllr = None if frontend.config.fmllr == "none" else normal(frontend.base_dim, frontend.base_dim + 1) / 2
        found.append(Utterance(feats, cmvn_stats(3 * normal(50, frontend.feat_dim) + 2), fmllr))
    return found


def expected(bundle: Bundle, utterance: Utterance) -> tuple[np.ndarray, np.ndarray]:
    """Our own log posteriors and loglikes."""
    model = AcousticModel(bundle)
    base = model.frontend.per_utterance(utterance.feats, utterance.stats, utterance.fmllr)
    return model.log_posteriors([base])[0].numpy(), model.loglikes([base])[0].numpy()


def features_outside(stages: list[Stage], utterance: Utterance) -> np.ndarray:
    """The features of an utterance after the stages that are outside a net."""
    feats = utterance.feats
    for stage in stages:
        match stage:
            case Cmvn():
                feats = apply_cmvn(feats, utterance.stats, stage.norm_vars)
            case GlobalCmvn():
                feats = apply_cmvn(feats, torch.from_numpy(stage.stats), stage.norm_vars)
            case Deltas():
                feats = add_deltas(feats, stage.order, stage.window)
            case Splice():
                feats = splice(feats, stage.left, stage.right)
            case Affine():
                feats = apply_transform(feats, torch.from_numpy(stage.matrix))
            case Fmllr():
                assert utterance.fmllr is not None
                feats = apply_transform(feats, utterance.fmllr)
    return feats.numpy()
