"""A small synthetic experiment in Kaldi's files, complete and without fault, for tests to break in one place."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import soundfile
import torch

from acoustic.decode.graph import make_graph
from acoustic.doctor.examine import examine
from acoustic.doctor.experiment import Experiment, Options
from acoustic.doctor.findings import Report
from acoustic.features.cmvn import cmvn_stats
from acoustic.features.frontend import Frontend, FrontendConfig
from acoustic.kaldi.alignments import count_pdfs, read_alignments, read_model, write_alignments
from acoustic.kaldi.datadir import DataDir
from acoustic.kaldi.tables import TableWriter
from acoustic.kaldi.transitions import TransitionModel
from acoustic.nn.bundle import Bundle
from acoustic.nn.classifier import ClassifierConfig, SenoneClassifier

GOLDEN = Path(__file__).parents[1] / "golden"
LANG = GOLDEN / "graph" / "lang"
FEAT_DIM = 4
RATE, SHIFT, WINDOW = 8000, 80, 200
SPEAKERS = ("anna", "bert", "carl")
NUM_PER_SPEAKER = 8


@dataclasses.dataclass
class Made:
    """The parts of an experiment on disk, and what they were made of."""

    root: Path
    options: Options
    lengths: dict[str, int]

    @property
    def data(self) -> Path:
        """The data directory."""
        return self.root / "data"

    @property
    def ali(self) -> Path:
        """The alignment directory."""
        return self.root / "ali"

    @property
    def graph(self) -> Path:
        """The graph directory."""
        return self.root / "graph"

    @property
    def transforms(self) -> Path:
        """The directory of transforms."""
        return self.root / "transforms"

    @property
    def network(self) -> Path:
        """The exp_dir of a network."""
        return self.root / "network"

    @property
    def utterances(self) -> list[str]:
        """All utterances, sorted."""
        return sorted(self.lengths)

    def report(self, **changes: object) -> Report:
        """What the doctor says."""
        return examine(Experiment(dataclasses.replace(self.options, **changes)))  # type: ignore[arg-type]

    def faults(self, **changes: object) -> dict[str, str]:
        """The faults that the doctor names, notes left aside, with the severity of each."""
        rows = self.report(**changes).rows()
        return {row.fault: row.severity.value for row in rows if row.severity.value != "note"}

    # -- reading and writing parts ----------------------------------------------------------------------------------

    def lines(self, name: str) -> list[str]:
        """Lines of a file of the data directory."""
        return (self.data / name).read_text().splitlines()

    def write_lines(self, name: str, lines: Sequence[str]) -> None:
        """Replace a file of the data directory."""
        (self.data / name).write_text("".join(f"{line}\n" for line in lines))

    def alignments(self) -> dict[str, np.ndarray]:
        """The alignments as they are."""
        return dict(read_alignments(self.ali))

    def write_alignments(self, alignments: Mapping[str, np.ndarray]) -> None:
        """Replace the alignments."""
        write_alignments(self.ali, sorted(alignments.items()), num_jobs=2)

    def write_feats(self, feats: Mapping[str, np.ndarray]) -> None:
        """Replace the features."""
        with TableWriter(f"ark,scp:{self.root}/feats.ark,{self.data}/feats.scp", "matrix") as writer:
            for utt in sorted(feats):
                writer.write(utt, feats[utt])

    def write_cmvn(self, stats: Mapping[str, np.ndarray]) -> None:
        """Replace the statistics."""
        with TableWriter(f"ark,scp:{self.root}/cmvn.ark,{self.data}/cmvn.scp", "matrix") as writer:
            for speaker in sorted(stats):
                writer.write(speaker, stats[speaker])

    def write_transforms(self, transforms: Mapping[str, np.ndarray]) -> None:
        """Replace the fMLLR transforms, one file for each job."""
        for job, (speaker, matrix) in enumerate(sorted(transforms.items()), start=1):
            with TableWriter(f"ark:{self.transforms}/trans.{job}", "matrix") as writer:
                writer.write(speaker, matrix)

    def write_wav(self, utt: str, samples: np.ndarray, rate: int = RATE, subtype: str = "PCM_16") -> Path:
        """Replace the audio of an utterance."""
        path = self.root / "wav" / f"{utt}.wav"
        soundfile.write(path, samples, rate, subtype=subtype)
        return path

    def feats(self) -> dict[str, np.ndarray]:
        """The features that the experiment was made with."""
        rng = np.random.default_rng(1)
        return {utt: rng.normal(size=(self.lengths[utt], FEAT_DIM)).astype(np.float32) for utt in self.utterances}

    def stats(self) -> dict[str, np.ndarray]:
        """Statistics of each speaker."""
        by_speaker: dict[str, list[np.ndarray]] = {}
        for utt, feats in self.feats().items():
            by_speaker.setdefault(utt.split("-")[0], []).append(feats)
        return {
            speaker: cmvn_stats(torch.from_numpy(np.concatenate(all_feats))).numpy()
            for speaker, all_feats in by_speaker.items()
        }

    def use_segments(self) -> None:
        """Give the experiment segments: each speaker's utterances are cut out of one recording."""
        segments, wavs = [], []
        rng = np.random.default_rng(2)
        for speaker in SPEAKERS:
            begin = 0
            for utt in (utt for utt in self.utterances if utt.startswith(speaker)):
                end = begin + num_samples(self.lengths[utt])
                segments.append(f"{utt} {speaker} {begin / RATE!r} {end / RATE!r}")
                begin = end
            self.write_wav(speaker, rng.normal(size=begin) * 0.1)
            wavs.append(f"{speaker} {self.root}/wav/{speaker}.wav")
        self.write_lines("segments", segments)
        self.write_lines("wav.scp", wavs)


def num_samples(num_frames: int) -> int:
    """How much audio has so many frames."""
    return WINDOW + SHIFT * (num_frames - 1)


def make_experiment(root: Path, without_pdf: int | None = None) -> Made:
    """Write an experiment without fault.

    Args:
        root: folder for all of it.
        without_pdf: utterances have no phone that has this pdf.
    """
    ali, graph = root / "ali", root / "graph"
    for folder in ("wav", "ali", "transforms", "network"):
        (root / folder).mkdir(parents=True)
    for name in ("final.mdl", "tree"):
        shutil.copy(GOLDEN / "model" / "mono" / name, ali)
    shutil.copytree(LANG, root / "lang")
    model = read_model(ali)
    utterances = [f"{speaker}-{number}" for speaker in SPEAKERS for number in range(NUM_PER_SPEAKER)]
    alignments = random_alignments(model, utterances, without_pdf)
    options = Options(root / "data", ali, graph, root / "lang", root / "network", root / "transforms")
    made = Made(root, options, {utt: len(alignment) for utt, alignment in alignments.items()})
    made.write_alignments(alignments)
    write_data(made)
    shutil.copytree(GOLDEN / "graph" / "mono", graph)
    made.write_transforms({speaker: np.eye(FEAT_DIM, FEAT_DIM + 1, dtype=np.float32) for speaker in SPEAKERS})
    write_network(made, model)
    return made


def random_alignments(
    model: TransitionModel, utterances: Sequence[str], without_pdf: int | None
) -> dict[str, np.ndarray]:
    """Random walks through the HMMs of all phones, in a random order for each utterance."""
    rng = np.random.default_rng(0)
    phones = sorted(set(model.tuples[:, 0].tolist()) - set(model.tuples[model.tuples[:, 2] == without_pdf, 0].tolist()))
    return {
        utt: np.array([i for phone in rng.permutation(phones) for i in random_phone(model, int(phone), rng)], np.int32)
        for utt in utterances
    }


def random_phone(model: TransitionModel, phone: int, rng: np.random.Generator) -> list[int]:
    """The transition_ids of a random walk through the HMM of a phone."""
    ids: list[int] = []
    hmm_state, states = 0, model.topology.entry(phone)
    while hmm_state < len(states) - 1:
        (row,) = np.flatnonzero((model.tuples[:, 0] == phone) & (model.tuples[:, 1] == hmm_state))
        choice = int(rng.integers(len(states[hmm_state].transitions)))
        ids.append(model.transition_ids(int(row) + 1)[choice])
        hmm_state = states[hmm_state].transitions[choice][0]
    return ids


def write_data(made: Made) -> None:
    """Audio, features and the data directory."""
    rng = np.random.default_rng(3)
    words = [line.split()[0] for line in (LANG / "words.txt").read_text().splitlines()]
    words = [word for word in words if not word.startswith(("<", "#"))]
    wav = {
        utt: str(made.write_wav(utt, rng.normal(size=num_samples(length)) * 0.1))
        for utt, length in made.lengths.items()
    }
    made.data.mkdir()
    DataDir(
        wav=wav,
        text={utt: list(rng.choice(words, 3)) for utt in made.utterances},
        utt2spk={utt: utt.split("-")[0] for utt in made.utterances},
    ).write(made.data)
    made.write_feats(made.feats())
    made.write_cmvn(made.stats())


def write_network(
    made: Made, model: TransitionModel, feat_dim: int = FEAT_DIM, fmllr: str = "speaker", **changes: object
) -> None:
    """A network that was not trained, with everything that a trained one has; `changes` go into the bundle."""
    config = FrontendConfig(cmvn="speaker", fmllr=fmllr, splice_left=1, splice_right=1)
    frontend = Frontend(config, feat_dim)
    counts = count_pdfs(model, made.alignments().items())
    values = {
        "classifier": SenoneClassifier(
            ClassifierConfig(hidden_layers=1, hidden_dim=4), frontend.input_dim, model.num_pdfs
        ),
        "frontend_config": frontend.config_dict(),
        "frontend_state": frontend.state_dict(),
        "feat_dim": feat_dim,
        "pdf_counts": torch.from_numpy(counts),
        "fbank_options": {"sample_frequency": float(RATE), "num_mel_bins": feat_dim},
        "fingerprints": {"transition_model": model.fingerprint()},
        **changes,
    }
    (made.network / "final.pt").write_bytes(Bundle(**values).to_bytes())  # type: ignore[arg-type]


def make_our_graph(made: Made, system: str) -> None:
    """Replace the graph by one of our mkgraph, which says what it was made of."""
    shutil.rmtree(made.graph)
    lang = made.root / "lang"
    make_graph(lang, GOLDEN / "model" / system, made.graph)


def copy_experiment(made: Made, root: Path) -> Made:
    """A copy to break, its scripts pointing into the copy."""
    shutil.copytree(made.root, root)
    for script in (root / "data").glob("*.scp"):
        script.write_text(script.read_text().replace(f"{made.root}/", f"{root}/"))
    moved = {
        field.name: root / value.relative_to(made.root)
        for field in dataclasses.fields(Options)
        if isinstance(value := getattr(made.options, field.name), Path)
    }
    return Made(root, Options(**moved), made.lengths)
