"""A corpus with k faults of each kind: every verb counts exactly k of each; 4.9 % pass, 5.1 % fail.

    python scripts/trials/skip_counts.py [--quick]

Counts are read where a user reads them: in the summary line of `acoustic fbank`, `cache`, `loglikes` and `decode`, and
for the cache utterance by utterance in its list of what was skipped.
"""

from __future__ import annotations

import contextlib
import io
import logging
import random
import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import torch
from corpus import FEAT_DIM, GOLDEN, MODEL_DIR, Corpus, make_corpus, train_config, write_ali, write_data
from harness import Outcome, Settings, main, silence, without_curves

from acoustic.cli import main as command_line
from acoustic.data.build import ensure_cache
from acoustic.data.join import Source
from acoustic.decode.graph import make_graph
from acoustic.errors import DataError
from acoustic.features.cmvn import cmvn_stats
from acoustic.features.config import FrontendConfig
from acoustic.features.frontend import Frontend
from acoustic.kaldi.alignments import read_model
from acoustic.kaldi.datadir import DataDir
from acoustic.kaldi.tables import TableWriter
from acoustic.train.run import train

RATE = 8000


@dataclass
class Verb:
    """One program under trial.

    Attributes:
        kinds: the reasons it can skip an utterance for.
        run: makes its input with the faults (reason of each utterance at fault) among so many utterances, runs it, and
            gives the counts it told, done first; raises what the program raises.
    """

    kinds: tuple[str, ...]
    run: Callable[[Path, int, dict[int, str]], tuple[int, Counter[str]]]


def run(settings: Settings) -> Outcome:
    silence()
    without_curves()
    num_utts = 1000 if settings.quick else 20000
    generator = random.Random(settings.seed)
    problems: list[str] = []
    num_trials = 0
    for name, verb in VERBS.items():
        for per_mille, passes in ((49, True), (51, False)):
            folder = settings.folder / f"{name}-{per_mille}"
            folder.mkdir()
            faults = draw_faults(generator, num_utts, num_utts * per_mille // 1000, verb.kinds)
            num_trials += 1
            problem = judge(verb, folder, num_utts, faults, passes)
            if problem:
                problems.append(f"{name} with {per_mille / 10} % faults: {problem}")
    for problem in problems:
        print(problem)
    return Outcome(
        not problems,
        f"{num_trials - len(problems)} of {num_trials} trials exact ({', '.join(VERBS)}; {num_utts} utterances; 4.9 % "
        "passes, 5.1 % fails)",
    )


def draw_faults(generator: random.Random, num_utts: int, num_faults: int, kinds: Iterable[str]) -> dict[int, str]:
    """Which utterances get which fault; the numbers of faults differ between kinds. Never the first utterance."""
    kinds = list(kinds)
    weights = range(1, len(kinds) + 1)
    drawn = kinds + generator.choices(kinds, weights, k=num_faults - len(kinds))
    return dict(zip(sorted(generator.sample(range(1, num_utts), num_faults)), drawn, strict=True))


def judge(verb: Verb, folder: Path, num_utts: int, faults: dict[int, str], passes: bool) -> str:
    """What is wrong with a program's counts, "" for nothing."""
    expected = Counter(faults.values())
    try:
        num_done, counts = verb.run(folder, num_utts, faults)
    except DataError as error:
        total = re.search(r"(\d+) of (\d+) \w+ skipped, more than 5.0%", str(error))
        if passes or total is None:
            return f"failed: {error}"
        told = tuple(map(int, total.groups()))
        return "" if told == (len(faults), num_utts) else f"told {told} instead of {len(faults), num_utts}"
    if not passes:
        return "passed"
    right = counts == expected and num_done == num_utts - len(faults)
    return "" if right else f"counted {num_done} done and {dict(counts)} instead of {dict(expected)}"


def counts_told(arguments: list[str]) -> tuple[int, Counter[str]]:
    """Run `acoustic ARGUMENTS`; the numbers of its summary line."""
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("acoustic")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        with contextlib.redirect_stderr(io.StringIO()) as stderr:
            command_line.run(arguments)
    finally:
        logger.removeHandler(handler)
        silence()
    return parse_summary("\n".join([*lines, stderr.getvalue()]))


def parse_summary(told: str) -> tuple[int, Counter[str]]:
    """Done, and skipped by reason, of a Tally's summary."""
    match = re.search(r"done (\d+) utterances, skipped (\d+)(?: \(([^)]*)\))?", told)
    if match is None:
        raise SystemExit(f"no summary in {told[-1000:]}")
    pairs = (pair.rsplit(" ", 1) for pair in (match[3] or "").split(", ") if pair)
    return int(match[1]), Counter({reason: int(count) for reason, count in pairs})


# -- cache --------------------------------------------------------------------------------------------------------


def run_cache(folder: Path, num_utts: int, faults: dict[int, str]) -> tuple[int, Counter[str]]:
    """Build a frames cache; its list of skipped utterances must name exactly those at fault."""
    corpus = make_corpus(folder, num_utts, mean_frames=10)
    utts = list(corpus.feats)
    reasons = {utts[number]: reason for number, reason in faults.items()}
    spoil_corpus(corpus, utts, reasons)
    frontend = Frontend(FrontendConfig(cmvn="speaker", global_norm=False), FEAT_DIM)
    source = Source(str(corpus.data_dir), str(corpus.ali_dir))
    try:
        cache = ensure_cache(folder / "cache", [source], frontend)
    finally:
        lines = [line.split("\t") for line in (folder / "cache.skipped.tsv").read_text().splitlines()]
        if {utt: reason for reason, utt, _ in lines} != reasons:
            raise SystemExit("cache: the list of skipped utterances is not the list of faults")
    return cache.meta.num_utts, Counter(reason for reason, _, _ in lines)


def spoil_corpus(corpus: Corpus, utts: list[str], reasons: dict[str, str]) -> None:
    """Give utterances of a corpus their faults."""
    feats, alignments = dict(corpus.feats), dict(corpus.alignments)
    num_ids = read_model(corpus.ali_dir).num_transition_ids
    for utt, reason in reasons.items():
        match reason:
            case "no_features":
                del feats[utt]
            case "no_alignment":
                del alignments[utt]
            case "pdf_out_of_range":
                alignments[utt] = np.where(np.arange(len(alignments[utt])) == 1, 0, alignments[utt]).astype(np.int32)
            case "length_mismatch":
                alignments[utt] = np.concatenate([alignments[utt], np.full(6, num_ids, np.int32)])
            case _:
                spoil_feats(feats, utt, reason)
    write_ali(corpus, alignments)
    write_data(corpus, feats, utts)
    speakers = {utt: f"{utt}-speaker" if reason == "no_cmvn" else utt.split("-")[0] for utt, reason in reasons.items()}
    data_dir = DataDir.read(corpus.data_dir)
    data_dir.utt2spk |= speakers
    data_dir.spk2utt = {}
    with TableWriter(f"ark,scp:{corpus.data_dir}/cmvn.ark,{corpus.data_dir}/cmvn.scp", "matrix") as writer:
        for speaker in sorted({utt.split("-")[0] for utt in utts}):
            writer.write(speaker, cmvn_stats(torch.randn(9, FEAT_DIM)).numpy())
    data_dir.cmvn = DataDir.read(corpus.data_dir).cmvn
    data_dir.write(corpus.data_dir)
    misdirect(corpus.data_dir, [utt for utt, reason in reasons.items() if reason == "unreadable"])


def spoil_feats(feats: dict[str, np.ndarray], utt: str, reason: str) -> None:
    """Faults of features alone."""
    match reason:
        case "too_short" | "empty":
            feats[utt] = np.zeros((0, 0), np.float32)
        case "wrong_dim":
            feats[utt] = np.ones((len(feats[utt]), FEAT_DIM + 1), np.float32)
        case "non_finite":
            feats[utt] = feats[utt].copy()
            feats[utt][-1, 2] = np.nan


def misdirect(data_dir: Path, utts: list[str]) -> None:
    """Let lines of feats.scp point one byte too far."""
    text = (data_dir / "feats.scp").read_text()
    for utt in utts:
        text = re.sub(rf"(?m)^({utt} .*:)(\d+)$", lambda match: f"{match[1]}{int(match[2]) + 1}", text)
    (data_dir / "feats.scp").write_text(text)


# -- loglikes and decode ------------------------------------------------------------------------------------------


def run_loglikes(folder: Path, num_utts: int, faults: dict[int, str]) -> tuple[int, Counter[str]]:
    """A net's scaled likelihoods of faulty features."""
    corpus = make_corpus(folder / "train", 15)
    train(train_config(corpus, folder / "exp", schedule__max_epochs=1))
    corpus = make_corpus(folder, num_utts, mean_frames=10)
    feats, utts = dict(corpus.feats), list(corpus.feats)
    for number, reason in faults.items():
        spoil_feats(feats, utts[number], reason)
    write_data(corpus, feats, utts)
    misdirect(corpus.data_dir, [utts[number] for number, reason in faults.items() if reason == "unreadable"])
    return counts_told(
        ["loglikes", "--device=cpu", str(folder / "exp"), str(corpus.data_dir), f"ark:{folder}/loglikes.ark"]
    )


def run_decode(folder: Path, num_utts: int, faults: dict[int, str]) -> tuple[int, Counter[str]]:
    """The decoder on loglikes without frames and without a path."""
    make_graph(GOLDEN / "graph" / "lang", MODEL_DIR, folder / "graph")
    num_pdfs = read_model(MODEL_DIR).num_pdfs
    rng = np.random.default_rng(0)
    with TableWriter(f"ark:{folder}/loglikes.ark", "matrix") as writer:
        for number in range(num_utts):
            loglikes = rng.normal(size=(12, num_pdfs)).astype(np.float32)
            match faults.get(number):
                case "no_frames":
                    loglikes = np.zeros((0, 0), np.float32)
                case "no_path":
                    loglikes[5] = -np.inf
            writer.write(f"utt{number:06d}", loglikes)
    return counts_told(
        ["decode", "--num-jobs=1", str(MODEL_DIR / "final.mdl"), str(folder / "graph" / "HCLG.fst"),
         f"ark:{folder}/loglikes.ark", f"ark,t:{folder}/words"]
    )  # fmt: skip


# -- fbank --------------------------------------------------------------------------------------------------------


def run_fbank(folder: Path, num_utts: int, faults: dict[int, str]) -> tuple[int, Counter[str]]:
    """Features of faulty audio."""
    rng = np.random.default_rng(0)
    whole = (1000 * rng.normal(size=400)).astype(np.int16)
    wav = {}
    for number in range(num_utts):
        path = folder / f"{number}.wav"
        match faults.get(number):
            case "empty":
                soundfile.write(path, whole[:0], RATE)
            case "too_short":
                soundfile.write(path, whole[:100], RATE)
            case "non_finite":
                soundfile.write(path, np.full(400, np.nan, np.float32), RATE, subtype="FLOAT")
            case "unreadable":
                path.write_bytes(b"RIFF and nothing more")
            case _:
                soundfile.write(path, whole, RATE)
        wav[f"utt{number:06d}"] = str(path)
    DataDir(wav=wav, utt2spk={utt: utt for utt in wav}).write(folder)
    return counts_told(["fbank", "--num-jobs=1", f"--sample-frequency={RATE}", str(folder), f"ark:{folder}/feats.ark"])


VERBS = {
    "cache": Verb(
        ("no_features", "no_alignment", "pdf_out_of_range", "length_mismatch", "too_short", "wrong_dim", "non_finite",
         "no_cmvn", "unreadable"),
        run_cache,
    ),
    "loglikes": Verb(("empty", "wrong_dim", "non_finite", "unreadable"), run_loglikes),
    "decode": Verb(("no_frames", "no_path"), run_decode),
    "fbank": Verb(("empty", "too_short", "non_finite", "unreadable"), run_fbank),
}  # fmt: skip


if __name__ == "__main__":
    main(__doc__ or "", run)
