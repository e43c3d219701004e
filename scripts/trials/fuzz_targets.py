"""Everything that reads a file, with small files to begin from."""

from __future__ import annotations

import gzip
import io
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from corpus import GOLDEN, MODEL_DIR, make_corpus, train_config

from acoustic.cli import info
from acoustic.cli.hydra_config import read_yaml
from acoustic.cli.options import read_config_option
from acoustic.data.cache import FramesCache
from acoustic.decode.decoder import Decoder
from acoustic.decode.forward import AcousticModel
from acoustic.decode.graph import make_graph
from acoustic.decode.lang import prepare_lang
from acoustic.decode.lang_grammar import arpa_to_fst
from acoustic.errors import DataError
from acoustic.features.audio import read_audio
from acoustic.kaldi.alignments import read_alignments
from acoustic.kaldi.datadir import DataDir
from acoustic.kaldi.fst import FstArrays, read_fst, write_fst
from acoustic.kaldi.lattices import Lattice, expand, sort_topologically, state_times
from acoustic.kaldi.matrix import read_matrix_file, read_vector_file
from acoustic.kaldi.nnet1 import Nnet1
from acoustic.kaldi.nnet3 import Nnet3, Nnet3Model
from acoustic.kaldi.symbols import SymbolTable
from acoustic.kaldi.tables import TableWriter, read_table
from acoustic.kaldi.topology import Topology
from acoustic.kaldi.transitions import TransitionModel
from acoustic.kaldi.tree import DecisionTree
from acoustic.nn.bundle import load_bundle
from acoustic.train.checkpoint import Checkpoints
from acoustic.train.run import train


@dataclass
class Target:
    """One reader.

    Attributes:
        seeds: contents of whole files.
        file: where the damaged content is put, relative to the worker's folder.
        read: reads it, given the worker's folder; must use all that it reads.
    """

    seeds: list[bytes]
    file: str
    read: Callable[[Path], Any]


def targets(folder: Path) -> dict[str, Target]:
    """All readers; `folder` is filled with what they need beside the damaged file, to be copied for each worker."""
    folder.mkdir()
    everything: dict[str, Target] = {}
    for part in (tables, models, networks, audio, graphs, directories, training):
        everything |= part(folder)
    for name, target in list(everything.items()):
        if "/" not in target.file:
            everything[f"info: {name}"] = Target(
                target.seeds, target.file, lambda base, file=target.file: list(info.describe(base / file))
            )
    return everything


def file_target(seeds: list[bytes], name: str, read: Callable[[Path], Any]) -> Target:
    """A reader of a single file."""
    return Target(seeds, name, lambda base: read(base / name))


def table_of(folder: Path, kind: str, values: list[Any], options: str = "", method: int | None = None) -> bytes:
    """The bytes of an archive of some values."""
    path = folder / "seed.ark"
    with TableWriter(f"ark{options}:{path}", kind, method) as writer:
        for number, value in enumerate(values):
            writer.write(f"utt{number}", value)
    return path.read_bytes()


def tables(folder: Path) -> dict[str, Target]:
    """Archives, scripts, single matrices."""
    feats = [matrix[:5, :6] for _, matrix in read_table(f"ark:{GOLDEN / 'feats' / 'two.ark'}", "matrix")]
    alignments = [ali[:20] for _, ali in read_table(f"ark:{GOLDEN / 'align' / 'tri1' / 'ali.ark'}", "int_vector")][:3]
    posts = [post[:4] for _, post in read_table(f"ark:{GOLDEN / 'align' / 'tri1' / 'pdf_post.ark'}", "posterior")][:3]
    values: dict[str, list[Any]] = {
        "matrix": feats,
        "vector": [matrix[0] for matrix in feats],
        "int_vector": alignments,
        "posterior": posts,
        "int32": [1, -7],
        "float": [1.5, 0.0],
    }
    found: dict[str, Target] = {}
    for kind, items in values.items():
        seeds = [table_of(folder, kind, items, option) for option in ("", ",t")]
        if kind == "matrix":
            seeds += [table_of(folder, kind, items, "", method) for method in (1, 2, 3, 5)]
            seeds.append(table_of(folder, kind, [matrix.astype(np.float64) for matrix in items]))
        found[f"{kind} archive"] = file_target(
            seeds, f"{kind}.ark", lambda path, kind=kind: list(read_table(f"ark:{path}", kind))
        )
    for kind, item in (("tokens", ["one", "two"]), ("token", "speaker")):
        found[f"{kind} archive"] = file_target(
            [table_of(folder, kind, [item] * 3, ",t")],
            f"{kind}.ark",
            lambda path, kind=kind: list(read_table(f"ark:{path}", kind)),
        )
    (folder / "feats.ark").write_bytes(table_of(folder, "matrix", feats))
    for kind in ("lattice", "compact_lattice"):
        lattices = [lattice for _, lattice in read_table(f"ark:{GOLDEN / 'decode' / 'mono' / 'lat.ark'}", kind)][:2]
        seeds = [table_of(folder, kind, lattices, option) for option in ("", ",t")]
        found[f"{kind} archive"] = file_target(seeds, f"{kind}.ark", lambda path, kind=kind: _use_lattices(path, kind))
    script = "utt0 feats.ark:5\nutt1 feats.ark:147[0:2,1:3]\nutt2 feats.ark:5[1:2]\n"
    found["scp"] = file_target([script.encode()], "feats.scp", lambda path: list(read_table(f"scp:{path}", "matrix")))
    packed = [gzip.compress(table_of(folder, "int_vector", alignments)), (GOLDEN / "align/mono/ali.1.gz").read_bytes()]
    found["gz archive"] = file_target(packed, "ali.gz", lambda path: list(read_table(f"ark:{path}", "int_vector")))
    found["matrix"] = file_target(
        [(GOLDEN / "feats" / "cmvn_global.mat").read_bytes(), b" [\n  1 2 3\n  4 5 6 ]\n"], "one.mat", read_matrix_file
    )
    vectors = [(GOLDEN / "nnet3" / "priors.vec").read_bytes(), b" [ 1 2 ]\n"]
    found["vector"] = file_target(vectors, "one.vec", read_vector_file)
    found["symbols"] = file_target(
        [(GOLDEN / "graph/lang/words.txt").read_bytes()], "words.txt", lambda path: SymbolTable.read(path).symbol_of
    )
    return found


def _use_lattices(path: Path, kind: str) -> object:
    """Read lattices, sort and time them, so that whatever was read is used."""
    used = []
    for utt, lattice in read_table(f"ark:{path}", kind):
        try:
            used.append(state_times(sort_topologically(lattice if isinstance(lattice, Lattice) else expand(lattice))))
        except DataError as error:
            raise DataError(error.problem, path=path, utt=utt) from error
    return used


def models(folder: Path) -> dict[str, Target]:
    """Transition models, trees, topologies."""
    return {
        "mdl": file_target(
            [(GOLDEN / "model" / name).read_bytes()[:size] for name, size in
             (("mono/final.mdl", 9000), ("mono/transition_model.txt", None), ("tri1/transition_model.txt", None))],
            "final.mdl",
            lambda path: TransitionModel.read(path).fingerprint(),
        ),
        "tree": file_target(
            [(GOLDEN / "model" / name).read_bytes() for name in ("mono/tree", "mono/tree.txt", "tri1/tree")],
            "tree",
            lambda path: DecisionTree.read(path).fingerprint(),
        ),
        "topo": file_target(
            [(GOLDEN / "graph/lang/topo").read_bytes()], "topo", lambda path: Topology.read(path).entries
        ),
    }  # fmt: skip


def networks(folder: Path) -> dict[str, Target]:
    """Kaldi's nets."""
    nnet1 = ["feature_transform", "feature_transform.txt", "splice.nnet", "final.nnet"]
    nnet3 = [(GOLDEN / "nnet3" / name).read_bytes() for name in ("final.raw", "final.raw.txt")]
    return {
        "nnet1": file_target([(GOLDEN / "nnet1" / name).read_bytes() for name in nnet1], "final.nnet", Nnet1.read),
        "nnet3": file_target(nnet3, "final.raw", lambda path: Nnet3.read(path).context()),
        "nnet3 mdl": file_target([(GOLDEN / "nnet3/final.mdl").read_bytes()], "nnet3.mdl", Nnet3Model.read),
    }


def audio(folder: Path) -> dict[str, Target]:
    """Wave in several encodings, and flac."""
    samples = (3000 * np.random.default_rng(0).normal(size=800)).clip(-32768, 32767).astype(np.int16)

    def encoded(kind: str, subtype: str, channels: int = 1) -> bytes:
        buffer = io.BytesIO()
        soundfile.write(buffer, samples.reshape(-1, channels), 8000, format=kind, subtype=subtype)
        return buffer.getvalue()

    wav = [encoded("WAV", subtype) for subtype in ("PCM_16", "FLOAT", "PCM_24", "ULAW")]
    wav += [encoded("WAV", "PCM_16", 2), (GOLDEN / "wav/engb_f3-002.wav").read_bytes()]
    flac = [encoded("FLAC", "PCM_16"), encoded("OGG", "VORBIS")]
    return {
        "wav": file_target(wav, "one.wav", lambda path: read_audio(str(path))),
        "flac": file_target(flac, "one.flac", lambda path: read_audio(str(path))),
    }


def graphs(folder: Path) -> dict[str, Target]:
    """Language models and transducers."""
    graph: FstArrays = make_graph(GOLDEN / "graph/lang", MODEL_DIR, folder / "graph")
    model = TransitionModel.read(MODEL_DIR / "final.mdl")
    vector = io.BytesIO()
    write_fst(vector, graph, True)
    words = {"<eps>": 0, **{word: number for number, word in enumerate(("#0", "<s>", "</s>", "one", "two", "oh"), 1)}}
    arpa = (GOLDEN / "graph/lang/lm.arpa").read_bytes()
    fsts = [(folder / "graph/HCLG.fst").read_bytes(), vector.getvalue(), (GOLDEN / "graph/lang/G.fst").read_bytes()]
    loglikes = np.zeros((3, model.num_pdfs), np.float32)
    return {
        "ARPA": file_target([arpa], "lm.arpa", lambda path: arpa_to_fst(path, words)),
        "FST": file_target(fsts, "some.fst", read_fst),
        "HCLG": file_target(fsts[:2], "HCLG.fst", lambda path: _decode(Decoder(model, path), loglikes)),
    }


def _decode(decoder: Decoder, loglikes: np.ndarray) -> object:
    """Decode, so that whatever the library is given is used."""
    return decoder.decode(loglikes)


def directories(folder: Path) -> dict[str, Target]:
    """Data directories, alignment directories, dictionaries: one of their files damaged."""
    data = {
        "wav.scp": "rec1 one.wav\nrec2 sox two.flac -t wav - |\n",
        "segments": "spk1-a rec1 0.00 1.25\nspk1-b rec1 1.25 2.5\nspk2-a rec2 0 3\n",
        "text": "spk1-a one two\nspk1-b oh\nspk2-a three\n",
        "utt2spk": "spk1-a spk1\nspk1-b spk1\nspk2-a spk2\n",
        "spk2utt": "spk1 spk1-a spk1-b\nspk2 spk2-a\n",
        "feats.scp": "spk1-a feats.ark:7\nspk1-b feats.ark:123[0:5]\nspk2-a feats.ark:456\n",
        "utt2dur": "spk1-a 1.25\nspk1-b 1.25\nspk2-a 3.0\n",
        "utt2num_frames": "spk1-a 123\nspk1-b 6\nspk2-a 298\n",
    }
    dictionary = {
        "lexicon.txt": "!SIL SIL\n<UNK> SPN\noh ow\ntwo t uw\ntwo t ih\n",
        "silence_phones.txt": "SIL\nSPN\n",
        "nonsilence_phones.txt": "ow\nt\nuw\nih\n",
        "optional_silence.txt": "SIL\n",
        "extra_questions.txt": "SIL SPN\now uw\n",
    }
    for name, files in (("data", data), ("dict", dictionary)):
        (folder / name).mkdir()
        for file, text in files.items():
            (folder / name / file).write_text(text)
    found = {
        name: Target([text.encode()], f"data/{name}", lambda base: DataDir.read(base / "data").utterances)
        for name, text in data.items()
    }
    found |= {
        f"dictionary {name}": Target(
            [text.encode()], f"dict/{name}", lambda base: prepare_lang(base / "dict", "<UNK>", base / "lang")
        )
        for name, text in dictionary.items()
    }
    (folder / "ali").mkdir()
    (folder / "ali/ali.1.gz").write_bytes((GOLDEN / "align/mono/ali.1.gz").read_bytes())
    found["num_jobs"] = Target([b"1\n"], "ali/num_jobs", lambda base: list(read_alignments(base / "ali")))
    return found


def training(folder: Path) -> dict[str, Target]:
    """What a training run writes: model, checkpoint, frames cache, configuration."""
    corpus = make_corpus(folder / "corpus", num_utts=10, mean_frames=10)
    train(train_config(corpus, folder / "exp", schedule__max_epochs=1, model__hidden_dim=8))
    exp = Path("exp")
    step = Checkpoints(folder / exp / "checkpoints").steps()[-1]
    checkpoint = exp / "checkpoints" / f"step-{step:09d}"
    os.replace(folder / exp / "cache" / "train", folder / "cache")

    def content(path: Path | str) -> list[bytes]:
        return [(folder / path).read_bytes()]

    def read_checkpoint(base: Path) -> object:
        return Checkpoints(base / exp / "checkpoints").load(step)

    def read_cache(base: Path) -> object:
        cache = FramesCache.open(base / "cache")
        return cache.read_frames(0), cache.read_pdf_ids(0), cache.utterances_of(np.arange(cache.num_frames))

    options, yaml = b"--num-mel-bins=40\n# comment\n--dither=0.0\n", b"exp_dir: x\ntrain:\n  data_dir: [a, b]\n"
    found = {
        "final.pt": file_target(content(exp / "final.pt"), "final.pt", lambda path: AcousticModel(load_bundle(path))),
        "config.yaml": file_target([yaml], "config.yaml", read_yaml),
        "fbank.conf": file_target([options], "fbank.conf", lambda path: read_config_option([f"--config={path}"])),
    }
    for name in ("state.pt", "manifest.json"):
        found[f"checkpoint {name}"] = Target(content(checkpoint / name), str(checkpoint / name), read_checkpoint)
    for name in ("meta.json", "utts.tsv", "shard-00000.feats", "shard-00000.pdfs"):
        found[f"cache {name}"] = Target(content(f"cache/{name}"), f"cache/{name}", read_cache)
    return found
