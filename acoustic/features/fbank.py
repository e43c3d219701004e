"""Log mel filter-bank features equal to Kaldi's compute-fbank-feats, many utterances at a time.

All waveforms of a batch are laid end to end, each starting on a multiple of the frame shift, so that the frames of all
of them are one strided view of one signal; the few frames that straddle two waveforms are computed and thrown away.
Everything after that runs over blocks of frames small enough to stay in a processor core's cache.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from acoustic.features.mel import mel_banks

WINDOW_TYPES = ("hamming", "hanning", "povey", "rectangular", "sine", "blackman")
FLOAT_EPSILON = torch.finfo(torch.float32).eps  # Kaldi's floor before every logarithm

# Frames worked on at a time: with 256-point transforms the intermediate values of 1024 frames take 2 MB. Graphics
# processors want more work per launch.
BLOCK_FRAMES = 1024
BLOCK_FRAMES_GPU = 1 << 17


@dataclass
class FbankOptions:
    """Options of compute-fbank-feats, with Kaldi's names (underscores for hyphens) and defaults."""

    sample_frequency: float = field(default=16000.0, metadata={"help": "sample rate the audio must have, Hz"})
    frame_length: float = field(default=25.0, metadata={"help": "milliseconds"})
    frame_shift: float = field(default=10.0, metadata={"help": "milliseconds"})
    preemphasis_coefficient: float = field(default=0.97, metadata={"help": "0 for none"})
    remove_dc_offset: bool = field(default=True, metadata={"help": "subtract the mean of each frame's samples"})
    dither: float = field(default=1.0, metadata={"help": "deviation of the noise added to each sample, 0 for none"})
    window_type: str = field(default="povey", metadata={"help": "|".join(WINDOW_TYPES)})
    blackman_coeff: float = field(default=0.42, metadata={"help": "constant of the generalised Blackman window"})
    round_to_power_of_two: bool = field(default=True, metadata={"help": "pad frames with zeros for the FFT"})
    snip_edges: bool = field(default=True, metadata={"help": "only frames that lie within the file; else reflect it"})
    num_mel_bins: int = field(default=23, metadata={"help": "number of triangular filters"})
    low_freq: float = field(default=20.0, metadata={"help": "lower edge of the first filter, Hz"})
    high_freq: float = field(default=0.0, metadata={"help": "upper edge of the last, Hz; <= 0: offset from Nyquist"})
    vtln_low: float = field(default=100.0, metadata={"help": "lower inflection point of the VTLN warp, Hz"})
    vtln_high: float = field(default=-500.0, metadata={"help": "upper one, Hz; negative: offset from Nyquist"})
    vtln_warp: float = field(default=1.0, metadata={"help": "VTLN warp factor"})
    use_energy: bool = field(default=False, metadata={"help": "add the frame's log energy as one more dimension"})
    energy_floor: float = field(default=0.0, metadata={"help": "floor of that energy, 0 for none"})
    raw_energy: bool = field(default=True, metadata={"help": "take the energy before preemphasis and windowing"})
    htk_compat: bool = field(default=False, metadata={"help": "put the energy last instead of first"})
    use_log_fbank: bool = field(default=True, metadata={"help": "logarithm of the filters' outputs"})
    use_power: bool = field(default=True, metadata={"help": "power spectrum; else magnitude"})

    def __post_init__(self) -> None:
        """Check what the values themselves show; the mel bank checks its frequencies.

        Raises:
            ValueError: naming the option.
        """
        if self.sample_frequency <= 0 or self.window_shift < 1:
            raise ValueError("sample_frequency and frame_shift must give a shift of at least one sample")
        if self.window_size < 2:
            raise ValueError(f"frame_length {self.frame_length:g} ms holds fewer than two samples")
        if self.num_fft % 2:
            raise ValueError(
                f"frame_length gives {self.num_fft} samples, an odd number; set round_to_power_of_two=true"
            )
        if self.window_type not in WINDOW_TYPES:
            raise ValueError(f"window_type must be one of {', '.join(WINDOW_TYPES)}, not {self.window_type!r}")
        if not 0 <= self.preemphasis_coefficient <= 1:
            raise ValueError(f"preemphasis_coefficient {self.preemphasis_coefficient:g} is not between 0 and 1")
        if self.dither < 0:
            raise ValueError(f"dither must not be negative, it is {self.dither:g}")
        if self.vtln_warp <= 0:
            raise ValueError(f"vtln_warp must be positive, it is {self.vtln_warp:g}")

    @property
    def window_shift(self) -> int:
        """Samples from one frame to the next."""
        return int(self.sample_frequency * 0.001 * self.frame_shift)

    @property
    def window_size(self) -> int:
        """Samples in a frame."""
        return int(self.sample_frequency * 0.001 * self.frame_length)

    @property
    def num_fft(self) -> int:
        """Samples in a frame padded for the Fourier transform."""
        return 1 << (self.window_size - 1).bit_length() if self.round_to_power_of_two else self.window_size

    def num_frames(self, num_samples: int) -> int:
        """Frames of a waveform (feature-window.cc, NumFrames)."""
        if self.snip_edges:
            return max(0, 1 + (num_samples - self.window_size) // self.window_shift)
        return (num_samples + self.window_shift // 2) // self.window_shift


def window_function(options: FbankOptions) -> Tensor:
    """The window of a frame: float32 [window_size] (FeatureWindowFunction)."""
    phase = 2 * math.pi / (options.window_size - 1) * torch.arange(options.window_size, dtype=torch.float64)
    hanning = 0.5 - 0.5 * phase.cos()
    blackman = options.blackman_coeff - 0.5 * phase.cos() + (0.5 - options.blackman_coeff) * (2 * phase).cos()
    return {
        "hamming": 0.54 - 0.46 * phase.cos(),
        "hanning": hanning,
        "povey": hanning**0.85,
        "rectangular": torch.ones_like(phase),
        "sine": (0.5 * phase).sin(),
        "blackman": blackman,
    }[options.window_type].float()


class Fbank(nn.Module):
    """Log mel filter-bank features of waveforms, on the CPU or any device it is moved to.

    Attributes:
        dim: values in a frame of features.
    """

    window: Tensor  # [2, half a frame]: at its even and odd samples
    mel: Tensor
    twiddles: Tensor

    def __init__(self, options: FbankOptions) -> None:
        """Prepare window and filters.

        Raises:
            ValueError: the options' frequencies contradict each other.
        """
        super().__init__()
        self.options = options
        self.dim = options.num_mel_bins + int(options.use_energy)
        banks = mel_banks(
            options.num_mel_bins, options.num_fft, options.sample_frequency, options.low_freq, options.high_freq,
            options.vtln_low, options.vtln_high, options.vtln_warp,
        )  # fmt: skip
        window = nn.functional.pad(window_function(options), (0, options.window_size % 2))
        self.register_buffer("window", window.view(-1, 2).t().contiguous(), persistent=False)
        self.register_buffer("mel", fold_bins(torch.from_numpy(banks)), persistent=False)
        self.register_buffer("twiddles", kaldi_twiddles(options.num_fft), persistent=False)

    @torch.no_grad()
    def forward(self, waveforms: Sequence[Tensor], keys: Sequence[str] | None = None) -> list[Tensor]:
        """Features of a batch of waveforms.

        Args:
            waveforms: samples on int16 scale, [num_samples] each, any real type.
            keys: their utterance ids, which seed the dither, so that an utterance's features depend on nothing but the
                utterance; without them dither is seeded by the place in the batch.

        Returns:
            float32 [num_frames, dim] for each, on the module's device; no rows when a waveform is shorter than a frame.
        """
        options, device = self.options, self.window.device
        num_frames = [options.num_frames(len(waveform)) for waveform in waveforms]
        pieces: list[Tensor] = []
        first_frames: list[int] = []
        num_shifts = 0  # of the signal so far
        for i, waveform in enumerate(waveforms):
            samples = waveform.to(device, torch.float32)
            if options.dither:
                samples = samples + options.dither * gaussian_noise(len(samples), keys[i] if keys else str(i)).to(
                    device
                )
            samples = self._whole_shifts(samples, num_frames[i])
            pieces.append(samples)
            first_frames.append(num_shifts)
            num_shifts += len(samples) // options.window_shift
        signal = torch.cat([*pieces, torch.zeros(options.window_size + 1, device=device)])
        feats = self._frames_of_signal(signal, num_shifts)
        return [feats[first : first + count] for first, count in zip(first_frames, num_frames, strict=True)]

    def _whole_shifts(self, samples: Tensor, num_frames: int) -> Tensor:
        """What the frames of a waveform cover, padded to a multiple of the shift so that the next one starts on it.

        Without snip_edges the first frame begins before the waveform and the last may end behind it; there the
        waveform is reflected (ExtractWindow).
        """
        options = self.options
        if num_frames == 0:
            return samples[:0]
        covered = (num_frames - 1) * options.window_shift + options.window_size
        if options.snip_edges:
            samples = samples[:covered]
        else:
            position = torch.arange(covered, device=samples.device)
            position += options.window_shift // 2 - options.window_size // 2
            period = 2 * len(samples)
            position %= period
            samples = samples[torch.minimum(position, period - 1 - position)]
        return nn.functional.pad(samples, (0, -len(samples) % options.window_shift))

    def _frames_of_signal(self, signal: Tensor, num_frames: int) -> Tensor:
        """Features of the frames that start on each of the first `num_frames` multiples of the shift."""
        options = self.options
        # Preemphasis of a frame is that of the signal, but for the frame's first sample.
        emphasised = signal.clone()
        emphasised[1:] -= options.preemphasis_coefficient * signal[:-1]
        frames = signal.unfold(0, options.window_size, options.window_shift)
        # Even and odd samples apart, as the transform wants them: [num_frames, 2, half].
        emphasised_frames = emphasised.as_strided((num_frames, *self.window.shape), (options.window_shift, 1, 2))
        feats = torch.empty(num_frames, self.dim, device=signal.device)
        block = BLOCK_FRAMES if signal.device.type == "cpu" else BLOCK_FRAMES_GPU
        padded = torch.zeros(min(block, num_frames), 2, options.num_fft // 2, device=signal.device)
        for begin in range(0, num_frames, block):
            rows = slice(begin, min(begin + block, num_frames))
            self._block(frames[rows], emphasised_frames[rows], padded[: rows.stop - begin], feats[rows])
        return feats

    def _block(self, frames: Tensor, emphasised: Tensor, padded: Tensor, feats: Tensor) -> None:
        """Features of some frames [F, window_size] into `feats` [F, dim].

        `emphasised` [F, 2, half] are the same frames after preemphasis, even and odd samples apart; `padded`
        [F, 2, num_fft / 2] is scratch space, zero behind the frames.
        """
        options = self.options
        remaining = 1.0 - options.preemphasis_coefficient  # of a constant, after preemphasis
        mean = frames.mean(1, keepdim=True) if options.remove_dc_offset else torch.zeros_like(frames[:, :1])
        windowed = padded[:, :, : self.window.shape[1]]
        torch.sub(emphasised, remaining * mean.unsqueeze(2), out=windowed)
        # Kaldi lets a frame's first sample be its own predecessor.
        windowed[:, 0, 0] = remaining * (frames[:, 0] - mean[:, 0])
        windowed *= self.window

        mel_column = int(options.use_energy and not options.htk_compat)
        filtered = feats[:, mel_column : mel_column + options.num_mel_bins]
        power = self._power_spectrum(padded)
        torch.mm(power if options.use_power else power.sqrt_(), self.mel, out=filtered)
        if options.use_log_fbank:
            filtered.clamp_min_(FLOAT_EPSILON).log_()
        if options.use_energy:
            energy = (frames - mean if options.raw_energy else windowed.flatten(1)).square().sum(1)
            floor = max(options.energy_floor, FLOAT_EPSILON)
            feats[:, -1 if options.htk_compat else 0] = energy.clamp_min(floor).log()

    def _power_spectrum(self, samples: Tensor) -> Tensor:
        """Power spectrum of frames [F, 2, num_fft / 2] (even samples, odd samples), in the bin order of `self.mel`.

        The transform of a frame is made from those E, O of its even and odd samples: bin k is E_k + w_k O_k and bin
        num_fft / 2 - k the conjugate of E_k - w_k O_k, for k up to num_fft / 4.
        """
        halves = torch.fft.rfft(samples)
        even, odd = halves[:, 0], halves[:, 1].mul_(self.twiddles)
        spectrum = torch.empty_like(halves)
        torch.add(even, odd, out=spectrum[:, 0])
        torch.sub(even, odd, out=spectrum[:, 1])
        squares = torch.view_as_real(spectrum).square_().flatten(1, 2)
        return squares[:, :, 0] + squares[:, :, 1]


def kaldi_twiddles(num_fft: int) -> Tensor:
    """exp(-2 pi i k / num_fft) for k = 0 .. num_fft / 4, rounded as in Kaldi's SplitRadixRealFft: complex64.

    Kaldi multiplies them up in float32, each from the one before. The error grows to about 1e-6 and leaks that much of
    a strong bin k into the weak one at num_fft / 2 - k: in the upper bands of wide-band speech log energies differ in
    the third decimal. Equal features need the same twiddles.
    """
    angle = np.float32(-2 * math.pi / num_fft)
    root_re, root_im = np.cos(angle), np.sin(angle)
    re, im = np.float32(1.0), np.float32(0.0)
    twiddles = np.empty(num_fft // 4 + 1, np.complex64)
    for k in range(len(twiddles)):
        twiddles[k] = complex(re, im)
        re, im = re * root_re - im * root_im, re * root_im + im * root_re
    return torch.from_numpy(twiddles)


def fold_bins(banks: Tensor) -> Tensor:
    """Filters [num_fft / 2 + 1, num_bins] in the bin order of `Fbank._power_spectrum`: 0, 1, .. then N/2, N/2 - 1, ..

    A bin that is in both halves counts in the first only.
    """
    num_low = (len(banks) - 1) // 2 + 1
    high = banks.flip(0)[:num_low].clone()
    if len(banks) % 2:
        high[-1] = 0.0
    return torch.cat([banks[:num_low], high])


def gaussian_noise(num_samples: int, key: str) -> Tensor:
    """Normal noise [num_samples] that is a function of `key`.

    Kaldi draws it anew for each frame; here a sample is the same in all the frames it belongs to.
    """
    seed = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "little", signed=True)
    return torch.randn(num_samples, generator=torch.Generator().manual_seed(seed))
