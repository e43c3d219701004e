"""The verbs fbank, loglikes and decode, from files to files, beside Kaldi's programs and other libraries."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile
import torch
from ceilings import DTYPES, Net, best_of, num_operations, square_way
from kaldi import nnet1_files, splice_net, write_feats
from measure import Result, Setting, Way, compare, on_one_core, on_path, rate_of, run_program
from training import BASE_DIM, SPLICE, make_frontend

from acoustic.cli.main import run as run_verb
from acoustic.features.audio import utterances_of_table
from acoustic.features.fbank import Fbank, FbankOptions
from acoustic.kaldi.tables import TableWriter, read_table
from acoustic.nn.bundle import Bundle
from acoustic.nn.classifier import ClassifierConfig, SenoneClassifier

NOWHERE = "ark:| cat > /dev/null"


def verb_way(arguments: Sequence[str], amount: float) -> Way:
    """The rate of a verb, inside this process: loading the libraries does not count."""

    def work() -> None:
        with contextlib.redirect_stderr(io.StringIO()):
            run_verb(arguments)

    return rate_of(work, amount)


def program_way(command: Sequence[str | Path], amount: float) -> Way:
    """The rate of a program of Kaldi, with its start, which is short."""
    return rate_of(lambda: run_program(command), amount)


def one_core_way(way: Way) -> Way:
    """The rate of a way whose threads and programs all share one core."""

    def pinned() -> float:
        with on_one_core():
            return way()

    return pinned


# -- loglikes -----------------------------------------------------------------------------------------------------


def write_bundle(net: Net, path: Path) -> None:
    """An untrained network as training would leave it."""
    frontend = make_frontend()
    config = ClassifierConfig(hidden_layers=net.hidden_layers, hidden_dim=net.hidden_dim)
    bundle = Bundle(
        classifier=SenoneClassifier(config, frontend.input_dim, net.num_pdfs),
        frontend_config=frontend.config_dict(),
        frontend_state=frontend.state_dict(),
        feat_dim=BASE_DIM,
        pdf_counts=torch.full((net.num_pdfs,), 100),
    )
    path.write_bytes(bundle.to_bytes())


def loglikes(setting: Setting) -> list[Result]:
    """Features in an archive to loglikes in a pipe."""
    net, num_frames = Net(), 512 * (20 if setting.quick else 80)
    model, feats = setting.directory / "final.pt", setting.directory / "loglikes.feats"
    write_bundle(net, model)
    write_feats(feats, num_frames, BASE_DIM)

    def ours(precision: str) -> Way:
        options = [f"--precision={precision}", f"--device={setting.device}"]
        return verb_way(["loglikes", *options, str(model), f"ark:{feats}", NOWHERE], num_frames)

    others = {"ours in fp32": ours("fp32")}
    if on_path("nnet-forward", "nnet-initialize"):
        files = nnet1_files(net, 512, setting.directory)
        command = [
            "nnet-forward", "--no-softmax=true", f"--class-frame-counts={files.counts}",
            f"--feature-transform={splice_net(setting.directory, BASE_DIM, SPLICE)}",
            files.net, f"ark:{feats}", NOWHERE,
        ]  # fmt: skip
        others = {"Kaldi's nnet-forward (fp32, one thread)": program_way(command, num_frames), **others}
    result = compare("loglikes", "frames/s", ours("bf16"), others, setting)
    operations = num_operations(net.forward_products(1))
    for name, dtype in DTYPES.items():
        peak = 1e9 * best_of(square_way(dtype, setting), setting.num_rounds) / operations
        result.remarks[f"ceiling_{name}"] = peak
    return [result]


# -- fbank --------------------------------------------------------------------------------------------------------


def write_audio(setting: Setting, num_utts: int, seconds: int) -> Path:
    """A wav.scp of noise at 16 kHz."""
    rng = np.random.default_rng(0)
    folder = setting.directory / "wav"
    folder.mkdir(exist_ok=True)
    lines = []
    for number in range(num_utts):
        path = folder / f"utt{number:04d}.wav"
        soundfile.write(path, (3000 * rng.standard_normal(16000 * seconds)).astype(np.int16), 16000)
        lines.append(f"utt{number:04d} {path}\n")
    scp = setting.directory / "wav.scp"
    scp.write_text("".join(lines), encoding="ascii")
    return scp


def fbank(setting: Setting) -> list[Result]:
    """Audio files to 40 filters in a pipe, on one core; seconds of audio a second."""
    import kaldi_native_fbank
    import torchaudio.compliance.kaldi as compliance

    num_utts, seconds = (128 if setting.quick else 512), 10
    scp, audio_seconds = write_audio(setting, num_utts, seconds), num_utts * seconds
    options = ["--num-mel-bins=40", "--dither=0"]

    def ours(num_jobs: int) -> Way:
        return verb_way(["fbank", *options, f"--num-jobs={num_jobs}", f"scp:{scp}", NOWHERE], audio_seconds)

    def waveforms() -> list[tuple[str, np.ndarray]]:
        return [(utterance.utt, utterance.read()[0]) for utterance in utterances_of_table(f"scp:{scp}", None)]

    def by_torchaudio() -> None:
        for _, samples in waveforms():
            compliance.fbank(torch.from_numpy(samples)[None], num_mel_bins=40, dither=0.0)

    def by_native_fbank() -> None:
        native = kaldi_native_fbank.FbankOptions()
        native.frame_opts.dither = 0.0
        native.mel_opts.num_bins = 40
        for _, samples in waveforms():
            computer = kaldi_native_fbank.OnlineFbank(native)
            computer.accept_waveform(16000, samples.tolist())
            computer.input_finished()
            np.stack([computer.get_frame(frame) for frame in range(computer.num_frames_ready)])

    def alone() -> None:
        Fbank(FbankOptions(num_mel_bins=40, dither=0.0)).to(setting.device)(
            [torch.from_numpy(samples) for _, samples in waveforms()]
        )
        setting.wait()

    others: dict[str, Way] = {}
    if on_path("compute-fbank-feats"):
        command = ["compute-fbank-feats", *options, f"scp:{scp}", NOWHERE]
        others["compute-fbank-feats"] = one_core_way(program_way(command, audio_seconds))
    others["torchaudio.compliance.kaldi.fbank, not written"] = one_core_way(rate_of(by_torchaudio, audio_seconds))
    others["kaldi-native-fbank, not written"] = one_core_way(rate_of(by_native_fbank, audio_seconds))
    others["ours, workers on all cores"] = ours(len(os.sched_getaffinity(0)))
    others[f"ours, not written, on {setting.device}"] = rate_of(alone, audio_seconds)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        return [compare("fbank", "s/s", one_core_way(ours(1)), others, setting)]
    finally:
        torch.set_num_threads(threads)


# -- decode -------------------------------------------------------------------------------------------------------


def decode(setting: Setting) -> list[Result]:
    """Loglikes in an archive to words, in one process; frames a second."""
    model, graph, rspecifier = setting.decode
    repeats = 60 if setting.quick else 300
    archive, num_frames = setting.directory / "decode.loglikes", 0
    with TableWriter(f"ark:{archive}", "matrix") as writer:
        utterances = list(read_table(rspecifier, "matrix"))
        for repeat in range(max(1, repeats * 6 // len(utterances))):
            for utt, matrix in utterances:
                writer.write(f"{repeat:03d}-{utt}", matrix)
                num_frames += len(matrix)
    search = ["--acoustic-scale=0.1", "--beam=13", "--max-active=7000"]
    words = f"ark,t:{setting.directory}/words"

    def ours(num_jobs: int) -> Way:
        return verb_way(
            ["decode", *search, f"--num-jobs={num_jobs}", model, graph, f"ark:{archive}", words], num_frames
        )

    others: dict[str, Way] = {}
    inputs = [model, graph, f"ark:{archive}"]
    if on_path("latgen-faster-mapped"):
        latgen = ["latgen-faster-mapped", *search, "--determinize-lattice=false"]
        for beam in (1, 8):
            way = program_way(
                [*latgen, f"--lattice-beam={beam}", *inputs, "ark:/dev/null", f"{words}.kaldi"], num_frames
            )
            others[f"latgen-faster-mapped, raw, lattice beam {beam}"] = way
    if on_path("decode-faster-mapped"):
        command = ["decode-faster-mapped", *search, "--min-active=200", *inputs, f"{words}.kaldi"]
        others["decode-faster-mapped"] = program_way(command, num_frames)
    cores = len(os.sched_getaffinity(0))
    others[f"ours in {cores} processes"] = ours(cores)
    return [compare("decode", "frames/s", ours(1), others, setting)]
