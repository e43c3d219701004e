"""What a recipe's Kaldi experiment has, and under which names."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Layout:
    """The names in a Kaldi experiment, as the recipe's egs directory gives them.

    Attributes:
        train, dev, test: data directories; without `dev` the recipe holds out a part of the training speakers.
        lang, decoding_lang, rescoring_lang: lang directories, without and with a grammar.
        graph: decoding graph, in exp/tri4.
        train_ali, dev_ali: alignments with fMLLR transforms, in exp.
        dev_decode, test_decode: first-pass decodes with fMLLR transforms, in exp/tri4.
        sides: first and last parts of the names of training, dev and test recordings. Those of test take turns.
    """

    train: str
    dev: str | None
    test: str
    lang: str
    decoding_lang: str
    rescoring_lang: str
    graph: str
    train_ali: str
    dev_ali: str
    dev_decode: str
    test_decode: str
    sides: dict[str, tuple[str, ...]]


LAYOUTS = {
    "swbd": Layout(
        train="train_nodup",
        dev="train_dev",
        test="eval2000",
        lang="lang",
        decoding_lang="lang_sw1_tg",
        rescoring_lang="lang_sw1_fsh_fg",
        graph="graph_sw1_tg",
        train_ali="tri4_ali_nodup",
        dev_ali="tri4_ali_dev",
        dev_decode="decode_dev_sw1_tg",
        test_decode="decode_eval2000_sw1_tg",
        sides={"train": ("sw02",), "dev": ("sw01",), "test": ("sw_4", "en_4")},
    ),
    "bn": Layout(
        train="train",
        dev=None,
        test="eval97.pem",
        lang="lang_nosp",
        decoding_lang="lang_nosp_test",
        rescoring_lang="lang_nosp_test_rescore",
        graph="graph_nosp",
        train_ali="tri4_ali",
        dev_ali="tri4_ali_dev",
        dev_decode="decode_nosp_dev",
        test_decode="decode_nosp_eval97.pem",
        sides={"train": ("a960",), "dev": ("a961",), "test": ("h4e97",)},
    ),
}
