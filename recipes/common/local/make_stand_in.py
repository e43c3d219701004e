#!/usr/bin/env python3
"""Lay out a small corpus with its alignments as the Kaldi experiment that a recipe starts from.

Everything has the names and formats of egs/swbd/s5c or egs/hub4_english/s5; the size and the numbers are not those of
the real thing. OUT/STAND_IN says so, and recipes repeat it beside their results.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from stand_in.front_end import diagonal_transforms, estimate_lda, write_features, write_gmm_options, write_transforms
from stand_in.layouts import LAYOUTS, Layout
from stand_in.sides import divide, write_references, write_set

from acoustic import log
from acoustic.errors import AcousticError, DataError
from acoustic.fsio import atomic_dir
from acoustic.kaldi.alignments import read_alignments, read_model, write_alignments
from acoustic.kaldi.datadir import DataDir

NUM_JOBS = 2
NOTE = """A stand-in for a Kaldi experiment: {description}.
The transforms (trans.N) only give each speaker's features zero mean and unit variance; final.mat is LDA without MLLT.
The larger grammar for rescoring is the decoding grammar again.
"""

logger = log.get_logger("make_stand_in")


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--description", default="a small corpus", help="which corpus, for STAND_IN")
    parser.add_argument("--train", type=Path, required=True, help="data directory")
    parser.add_argument("--dev", type=Path, required=True, help="data directory")
    parser.add_argument("--test", type=Path, required=True, help="data directory")
    parser.add_argument("--root", type=Path, help="folder that paths in wav.scp are relative to (default: .)")
    parser.add_argument("--lang", type=Path, required=True, help="lang directory with G.fst")
    parser.add_argument("--model", type=Path, required=True, help="directory with tree, final.mdl")
    parser.add_argument("--ali", type=Path, required=True, help="alignments of training and dev data")
    parser.add_argument("--graph", type=Path, required=True, help="directory with HCLG.fst, words.txt")
    parser.add_argument("recipe", choices=sorted(LAYOUTS))
    parser.add_argument("out_dir", type=Path, help="folder to make; an earlier one is replaced")
    return parser.parse_args()


def lay_out(args: argparse.Namespace, layout: Layout, folder: Path, final_dir: Path) -> None:
    """Fill `folder`, which is going to be renamed to `final_dir`."""
    exp, tri4 = folder / "exp", folder / "exp" / "tri4"
    copy_system(args, layout, folder)
    sources = {name: DataDir.read(getattr(args, name), args.root) for name in ("train", "dev", "test")}
    sets = {"train": [sources["train"]], "dev": [sources["dev"]], "test": [sources["test"]]}
    if layout.dev is None:
        sets["train"] += sets.pop("dev")
    directories = {name: folder / "data" / str(getattr(layout, name)) for name in sets}
    new_names: dict[str, str] = {}
    for name, data_dirs in sets.items():
        sides = list(divide(data_dirs, layout.sides[name]))
        new_names |= write_set(directories[name], sides, data_dirs, folder / "audio" / name)
        write_features(directories[name], folder / "mfcc")
    write_references(directories["test"])

    alignments = {new_names[utt]: ids for utt, ids in read_alignments(args.ali) if utt in new_names}
    model = read_model(args.ali)
    pdf_ids = {utt: model.pdf_of[ids] for utt, ids in alignments.items()}
    lda = estimate_lda(directories["train"], pdf_ids, model.num_pdfs)
    for name, directory in directories.items():
        transforms = diagonal_transforms(directory, lda)
        if name != "test":
            ali_dir = exp / str(getattr(layout, f"{name}_ali"))
            write_ali_dir(ali_dir, args.model, DataDir.read(directory), alignments)
            write_gmm_options(ali_dir, lda)
            write_transforms(ali_dir, transforms, NUM_JOBS)
        if name != "train":
            decode_dir = tri4 / str(getattr(layout, f"{name}_decode"))
            decode_dir.mkdir()
            (decode_dir / "num_jobs").write_text(f"{NUM_JOBS}\n", encoding="utf-8")
            write_transforms(decode_dir, transforms, NUM_JOBS)
    write_gmm_options(tri4, lda)
    (folder / "STAND_IN").write_text(NOTE.format(description=args.description), encoding="utf-8")
    move_paths(folder, final_dir)


def copy_system(args: argparse.Namespace, layout: Layout, folder: Path) -> None:
    """The lang directories, and in exp/tri4 model and graph."""
    for name in (layout.lang, layout.decoding_lang, layout.rescoring_lang):
        shutil.copytree(args.lang, folder / "data" / name, ignore=shutil.ignore_patterns("tmp"))
    (folder / "data" / layout.lang / "G.fst").unlink()
    tri4 = folder / "exp" / "tri4"
    shutil.copytree(args.graph, tri4 / layout.graph)
    phones = tri4 / layout.graph / "phones"  # mkgraph.sh copies some of them, of which scoring uses more
    shutil.copytree(args.lang / "phones", phones, dirs_exist_ok=True)
    for name in ("tree", "final.mdl"):
        shutil.copy(args.model / name, tri4 / name)


def write_ali_dir(ali_dir: Path, model_dir: Path, data_dir: DataDir, alignments: Mapping[str, np.ndarray]) -> None:
    """Alignments of a data directory with tree and final.mdl."""
    items = [(utt, alignments[utt]) for utt in data_dir.utterances if utt in alignments]
    if not items:
        raise DataError("no alignments of these utterances", path=ali_dir)
    write_alignments(ali_dir, items, NUM_JOBS)
    for name in ("tree", "final.mdl"):
        shutil.copy(model_dir / name, ali_dir / name)


def move_paths(folder: Path, final_dir: Path) -> None:
    """Make the absolute paths in scripts those that the files are going to have."""
    for path in (folder / "data").glob("*/*.scp"):
        text = path.read_text(encoding="utf-8").replace(f"{folder}/", f"{final_dir}/")
        path.write_text(text, encoding="utf-8")


def main() -> None:
    """Entry point."""
    log.set_up()
    args = parse_arguments()
    try:
        with atomic_dir(args.out_dir.absolute()) as folder:
            lay_out(args, LAYOUTS[args.recipe], folder, args.out_dir.absolute())
    except AcousticError as error:
        print(f"make_stand_in.py: error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    logger.info("laid out %s as the experiment of recipes/%s", args.out_dir, args.recipe)


if __name__ == "__main__":
    main()
