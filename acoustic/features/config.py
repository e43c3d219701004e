"""What a front end does, in plain values that a config file or a model bundle can hold."""

from __future__ import annotations

from dataclasses import dataclass

CMVN_KINDS = ("none", "global", "speaker", "utterance", "sliding")
FMLLR_KINDS = ("none", "speaker", "utterance")
# How many frames before and after a frame may count for it: 255 is what one byte a frame holds of the distance to its
# utterance's edge (data/pool.py), 2.5 seconds where a second has 100 frames.
MAX_REACH = 255


@dataclass
class FrontendConfig:
    """The stages from stored features to network input, in their order. Stages left at 0 or "none" do nothing.

    Per utterance, giving the base frames that the frames cache holds:
    CMVN; deltas; splicing; a linear or affine transform (Kaldi's final.mat); fMLLR.

    By frame index, on the training device, giving the network's input:
    deltas; splicing; a linear or affine transform (LDA); shift and scale to zero mean and unit variance.
    """

    cmvn: str = "speaker"  # whose statistics: none, global, speaker, utterance or sliding (a window of frames)
    norm_means: bool = True
    norm_vars: bool = False
    cmvn_window: int = 600  # frames, of sliding CMVN
    cmvn_min_window: int = 100  # frames, of sliding CMVN at the start of an utterance when it is not centred
    cmvn_center: bool = True  # the sliding window lies around the frame, not before it
    transform_delta_order: int = 0  # deltas before the transform
    transform_delta_window: int = 2
    transform_splice_left: int = 0  # frames joined before the transform
    transform_splice_right: int = 0
    transform_dim: int = 0  # rows of the transform; 0: none
    fmllr: str = "none"  # whose fMLLR transforms are applied: none, speaker or utterance
    delta_order: int = 0  # deltas of the network input
    delta_window: int = 2
    splice_left: int = 0  # frames before and after in the network input
    splice_right: int = 0
    lda_dim: int = 0  # rows of the transform applied after splicing; 0: none
    global_norm: bool = True  # shift and scale each dimension of the network input by the training frames' moments

    def __post_init__(self) -> None:
        """Check every field.

        Raises:
            ValueError: naming the field that is wrong.
        """
        if self.cmvn not in CMVN_KINDS:
            raise ValueError(f"cmvn must be one of {', '.join(CMVN_KINDS)}, not {self.cmvn!r}")
        if self.fmllr not in FMLLR_KINDS:
            raise ValueError(f"fmllr must be one of {', '.join(FMLLR_KINDS)}, not {self.fmllr!r}")
        for name in (
            "transform_delta_order", "transform_splice_left", "transform_splice_right", "transform_dim",
            "delta_order", "splice_left", "splice_right", "lda_dim",
        ):  # fmt: skip
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, it is {getattr(self, name)}")
        for name in ("cmvn_window", "cmvn_min_window", "transform_delta_window", "delta_window"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, it is {getattr(self, name)}")
        if self.norm_vars and not self.norm_means:
            raise ValueError("norm_vars: variances cannot be normalised without norm_means")
        if self.cmvn == "sliding" and not self.norm_means:
            raise ValueError("norm_means: sliding CMVN always normalises means")
        if self.cmvn == "sliding" and self.cmvn_center and self.cmvn_min_window > self.cmvn_window:
            raise ValueError(f"cmvn_min_window ({self.cmvn_min_window}) exceeds cmvn_window ({self.cmvn_window})")

    @property
    def needs_cmvn_stats(self) -> bool:
        """Whether an utterance's statistics must come from outside it (speaker CMVN)."""
        return self.cmvn == "speaker" and self.norm_means
