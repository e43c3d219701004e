"""A trained model at work: features in, log posteriors or scaled likelihoods out."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from acoustic.decode.priors import PRIOR_FLOOR, log_priors
from acoustic.errors import CheckpointError, ConfigError, DataError
from acoustic.features.cmvn import cmvn_stats as accumulate_stats
from acoustic.features.fbank import Fbank, FbankOptions
from acoustic.features.frontend import Frontend
from acoustic.nn.bundle import Bundle, load_bundle
from acoustic.nn.classifier import SenoneClassifier

# Frames that are read and given to a device in one go.
BLOCK_FRAMES = 4096
# Frames that go through the network in one go; on a CPU so few that wide inputs, spliced deltas, stay in its cache.
PASS_FRAMES = {"cpu": 1024, "cuda": BLOCK_FRAMES}
# Frames whose outputs are normalised in one go: they are still in a CPU's cache when priors are subtracted.
OUTPUT_FRAMES = {"cpu": 128, "cuda": BLOCK_FRAMES}


class AcousticModel:
    """A bundle ready to use: front end, network and priors on one device.

    Args:
        bundle: what training wrote.
        device: where to compute.
        dtype: float32, or bfloat16 to run the matrix products of the network in it: logits are then rounded to 8
            bits, an error of up to 0.4 %, which decoding hardly notices.
        prior_scale: factor on the log priors (Kaldi's --prior-scale).
        prior_floor: relative frequency below which a pdf is disabled.
    """

    def __init__(
        self,
        bundle: Bundle,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
        prior_scale: float = 1.0,
        prior_floor: float = PRIOR_FLOOR,
    ) -> None:
        self.bundle, self.device, self.dtype = bundle, torch.device(device), dtype
        self.frontend = Frontend.restored(bundle.frontend_config, bundle.feat_dim, bundle.frontend_state)
        _check_fit(self.frontend, bundle)
        self.frontend.to(self.device).eval()
        self.classifier = bundle.classifier.to(self.device).eval()
        if dtype != torch.float32:
            self.classifier = with_rounded_weights(self.classifier, dtype)
        self.scaled_log_priors = prior_scale * log_priors(bundle.pdf_counts, prior_floor).to(self.device)

    @classmethod
    def load(cls, path: str | Path, **options: object) -> AcousticModel:
        """Load `final.pt` or the exp_dir that holds it; options as for the class.

        Raises:
            CheckpointError: no such file, or damaged.
        """
        return cls(load_bundle(path), **options)  # type: ignore[arg-type]

    @property
    def num_pdfs(self) -> int:
        """Columns of the loglikes."""
        return self.classifier.num_pdfs

    def log_posteriors(self, utterances: Sequence[Tensor]) -> list[Tensor]:
        """log p(pdf | frame) of utterances given as base frames (Frontend.per_utterance).

        Several utterances share each pass through the network, end to end whatever their lengths, so nothing is
        padded; no frame sees another utterance.

        Args:
            utterances: each [T, base_dim], T >= 1.

        Returns:
            for each, float32 [T, num_pdfs].
        """
        return self._outputs(utterances, None)

    def loglikes(self, utterances: Sequence[Tensor]) -> list[Tensor]:
        """Scaled likelihoods log p(pdf | frame) - prior_scale * log p(pdf), up to a constant of each frame.

        What `nnet-forward --no-softmax --class-frame-counts` gives Kaldi's decoders; the acoustic scale is theirs to
        apply. Arguments and shapes as for `log_posteriors`.
        """
        return self._outputs(utterances, self.scaled_log_priors)

    @torch.inference_mode()
    def _outputs(self, utterances: Sequence[Tensor], subtracted: Tensor | None) -> list[Tensor]:
        """Log posteriors of utterances, less `subtracted` [num_pdfs]."""
        frames = torch.cat([base.to(self.device) for base in utterances])
        lengths = torch.tensor([len(base) for base in utterances], device=self.device)
        begin = torch.repeat_interleave(lengths.cumsum(0) - lengths, lengths)
        end = torch.repeat_interleave(lengths.cumsum(0), lengths)
        index = torch.arange(len(frames), device=self.device)
        outputs = torch.empty(len(frames), self.num_pdfs, device=self.device)
        pass_frames, rows_at_once = (
            sizes.get(self.device.type, BLOCK_FRAMES) for sizes in (PASS_FRAMES, OUTPUT_FRAMES)
        )
        for block, block_outputs in zip(index.split(pass_frames), outputs.split(pass_frames), strict=True):
            inputs = self.frontend.window(frames, block, block - begin[block], end[block] - 1 - block, self.dtype)
            with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
                logits = self.classifier(inputs)
            for some, rows in zip(logits.split(rows_at_once), block_outputs.split(rows_at_once), strict=True):
                torch.log_softmax(some.float(), dim=1, out=rows)
                if subtracted is not None:
                    rows -= subtracted
        return list(outputs.split(lengths.tolist()))

    def loglikes_of_feats(
        self,
        feats: Tensor | np.ndarray,
        cmvn_stats: Tensor | np.ndarray | None = None,
        fmllr: Tensor | np.ndarray | None = None,
    ) -> Tensor:
        """Scaled likelihoods of one utterance's features.

        Args:
            feats: [T, feat_dim].
            cmvn_stats: [2, feat_dim + 1] of the speaker, for a model trained with speaker CMVN; the utterance's own
                when not given.
            fmllr: [base_dim, base_dim (+ 1)] of the speaker or utterance, for a model trained with fMLLR.

        Returns:
            float32 [T, num_pdfs].
        """
        feats = torch.as_tensor(feats)
        stats = None if cmvn_stats is None else torch.as_tensor(cmvn_stats)
        if stats is None and self.frontend.config.needs_cmvn_stats:
            stats = accumulate_stats(feats)
        transform = None if fmllr is None else torch.as_tensor(fmllr)
        base = self.frontend.per_utterance(feats.to(self.device), stats, transform)
        return self.loglikes([base])[0]

    def loglikes_of_waveform(self, samples: Tensor | np.ndarray, sample_frequency: float) -> Tensor:
        """Scaled likelihoods of one waveform, for a model trained on features whose options it knows.

        Args:
            samples: [num_samples] on the scale of 16-bit integers, as features.audio.read_audio gives them.
            sample_frequency: samples per second.

        Returns:
            float32 [T, num_pdfs].

        Raises:
            ConfigError: the model does not know its features' options, or they are for another rate.
            DataError: audio shorter than a frame, or of several channels.
        """
        options = self.bundle.fbank_options
        if options is None:
            raise ConfigError("this model was trained without features.fbank_config: give it features, not audio")
        fbank = FbankOptions(**{**options, "dither": 0.0})
        if fbank.sample_frequency != sample_frequency:
            raise ConfigError(f"audio of {sample_frequency:g} Hz given to a model of {fbank.sample_frequency:g} Hz")
        waveform = torch.as_tensor(samples, dtype=torch.float32)
        if waveform.dim() != 1:
            raise DataError(
                f"samples of shape {list(waveform.shape)} instead of [num_samples]", remedy="give one channel"
            )
        feats = Fbank(fbank)([waveform])[0]
        if len(feats) == 0:
            raise DataError(f"{len(samples)} samples are less than one frame")
        return self.loglikes_of_feats(feats)


def with_rounded_weights(classifier: SenoneClassifier, dtype: torch.dtype) -> SenoneClassifier:
    """A copy whose affine maps are of type `dtype`, so that autocast does not round them again for every block."""
    rounded = copy.deepcopy(classifier)
    for module in rounded.modules():
        if isinstance(module, torch.nn.Linear):
            module.to(dtype)
    return rounded


def _check_fit(frontend: Frontend, bundle: Bundle) -> None:
    """Refuse a network whose parts are of different ones.

    Raises:
        CheckpointError: front end, classifier or priors differ in their dimensions.
    """
    classifier = bundle.classifier
    if frontend.input_dim != classifier.input_dim:
        raise CheckpointError(
            f"a damaged network: its front end gives {frontend.input_dim} values, it takes {classifier.input_dim}"
        )
    if len(bundle.pdf_counts) != classifier.num_pdfs:
        raise CheckpointError(
            f"a damaged network: {len(bundle.pdf_counts)} priors for {classifier.num_pdfs} outputs; train again"
        )


def by_frames(
    utterances: Iterable[tuple[str, Tensor]], max_frames: int = BLOCK_FRAMES
) -> Iterator[list[tuple[str, Tensor]]]:
    """Group consecutive utterances (id, [T, D]) so that each group holds about `max_frames` frames, never none."""
    group: list[tuple[str, Tensor]] = []
    num_frames = 0
    for utt, base in utterances:
        if group and num_frames + len(base) > max_frames:
            yield group
            group, num_frames = [], 0
        group.append((utt, base))
        num_frames += len(base)
    if group:
        yield group
