#!/usr/bin/env python3
"""Make a telephone-band speech corpus from nothing but a speech synthesiser.

Writes, all of it determined by the seed:
    OUT/{train,dev,test}/{wav.scp,text,utt2spk,spk2utt}   data directories
    OUT/{train,dev,test}/phones.ctm                       true phone times, in agreement with the lexicon
    OUT/wav/{train,dev,test}/*.wav                        recordings, 8 kHz
    OUT/dict/                                             dictionary directory for `acoustic prepare-lang`
    OUT/lm.arpa                                           the grammar that the sentences were drawn from
    OUT/speakers.txt                                      speaker, set, voice, pitch, pitch range, rate
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
from pathlib import Path

from corpus.grammar import BigramGrammar
from corpus.phones import IPA_NAMES, SILENCE
from corpus.pronunciations import Lexicon, agree_with_lexicon, collect_lexicon
from corpus.speech import Job, Utterance, make_babble, speak_all
from corpus.voices import Speaker, make_speakers

from acoustic import log
from acoustic.decode.lang_arpa import write_arpa
from acoustic.errors import AcousticError
from acoustic.fsio import atomic_dir, write_text

OOV_WORD = "<unk>"
SETS = ("train", "dev", "test")

logger = log.get_logger("make_corpus")


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--train-utterances", type=int, default=30, help="per speaker (default: %(default)s)")
    parser.add_argument("--dev-utterances", type=int, default=25, help="per speaker (default: %(default)s)")
    parser.add_argument("--test-utterances", type=int, default=40, help="per speaker (default: %(default)s)")
    parser.add_argument("--num-jobs", type=int, default=len(os.sched_getaffinity(0)), help="processes")
    parser.add_argument("out_dir", type=Path, help="folder to make; an earlier corpus there is replaced")
    return parser.parse_args()


def make_corpus(args: argparse.Namespace, folder: Path, final_dir: Path) -> None:
    """Fill `folder`, which is going to be renamed to `final_dir`."""
    grammar = BigramGrammar()
    utterances, speakers = synthesize(args, folder)
    lexicon = collect_lexicon(utterance for utterance in utterances if set_of(speakers, utterance) == "train")
    tally = log.Tally()
    kept: dict[str, list[Utterance]] = {name: [] for name in SETS}
    for utterance in utterances:
        agreeing = agree_with_lexicon(utterance, lexicon)
        if agreeing is None:
            tally.skip("pronunciation far from the lexicon", utterance.name, " ".join(utterance.words))
            continue
        kept[set_of(speakers, utterance)].append(agreeing)
        tally.done()
    tally.check()
    for set_name in SETS:
        write_data_dir(folder / set_name, kept[set_name], final_dir / "wav" / set_name)
    write_dict(folder / "dict", lexicon)
    write_arpa(folder / "lm.arpa", grammar.arpa())
    lines = [f"{s.name} {s.set_name} {s.voice} {s.pitch} {s.pitch_range} {s.rate}" for s in speakers.values()]
    write_text(folder / "speakers.txt", "\n".join(lines) + "\n")
    hours = sum(utterance.duration for utterances in kept.values() for utterance in utterances) / 3600.0
    num_variants = sum(map(len, lexicon.values()))
    logger.info(tally.summary(f"{hours:.2f} h, {len(lexicon)} words, {num_variants} pronunciations"))


def synthesize(args: argparse.Namespace, folder: Path) -> tuple[list[Utterance], dict[str, Speaker]]:
    """Speak everything: the utterances sorted by name, and the speakers by name."""
    sizes = {name: getattr(args, f"{name}_utterances") for name in SETS}
    for set_name in SETS:
        (folder / "wav" / set_name).mkdir(parents=True)
    with multiprocessing.get_context("forkserver").Pool(1) as pool:
        babble = pool.apply(make_babble, (args.seed,))
    speakers = make_speakers(args.seed)
    jobs = [Job(s, sizes[s.set_name], folder / "wav" / s.set_name, babble) for s in speakers]
    finished = log.progress(speak_all(jobs, args.num_jobs), "speaking", total=len(jobs), unit="voice")
    return [utterance for of_speaker in finished for utterance in of_speaker], {s.name: s for s in speakers}


def set_of(speakers: dict[str, Speaker], utterance: Utterance) -> str:
    """train, dev or test."""
    return speakers[speaker_of(utterance)].set_name


def speaker_of(utterance: Utterance) -> str:
    """The speaker id, with which the utterance id begins."""
    return utterance.name.split("-")[0]


def write_data_dir(folder: Path, utterances: list[Utterance], wav_dir: Path) -> None:
    """A Kaldi data directory, and the phone times beside it."""
    speakers: dict[str, list[str]] = {}
    for utterance in utterances:
        speakers.setdefault(speaker_of(utterance), []).append(utterance.name)
    files = {
        "wav.scp": [f"{u.name} {wav_dir.resolve()}/{u.name}.wav" for u in utterances],
        "text": [f"{u.name} {' '.join(u.words)}" for u in utterances],
        "utt2spk": [f"{u.name} {speaker_of(u)}" for u in utterances],
        "spk2utt": [f"{speaker} {' '.join(names)}" for speaker, names in speakers.items()],
        "phones.ctm": [
            f"{u.name} 1 {phone.begin:.4f} {phone.end - phone.begin:.4f} {phone.label}"
            for u in utterances
            for phone in u.phones
        ],
    }
    for name, lines in files.items():
        write_text(folder / name, "\n".join(lines) + "\n")


def write_dict(folder: Path, lexicon: Lexicon) -> None:
    """A dictionary directory as prepare_lang.sh takes it; the word for unknown words is silence."""
    entries = [(OOV_WORD, (SILENCE,))] + [(word, variant) for word, variants in lexicon.items() for variant in variants]
    write_text(folder / "lexicon.txt", "".join(f"{word} {' '.join(phones)}\n" for word, phones in entries))
    used = {phone for variants in lexicon.values() for variant in variants for phone in variant}
    write_text(folder / "nonsilence_phones.txt", "".join(f"{phone}\n" for phone in IPA_NAMES if phone in used))
    write_text(folder / "silence_phones.txt", f"{SILENCE}\n")
    write_text(folder / "optional_silence.txt", f"{SILENCE}\n")


def main() -> None:
    """Entry point."""
    log.set_up()
    args = parse_arguments()
    try:
        with atomic_dir(args.out_dir) as folder:
            make_corpus(args, folder, args.out_dir)
    except AcousticError as error:
        print(f"make_corpus.py: error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
