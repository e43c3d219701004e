"""Posteriors of an utterance do not depend on its neighbours, in training batches as little as in decoding.

    python scripts/trials/leakage.py [--quick]

Neighbours are removed, and replaced by huge values; the posteriors must stay equal within 1e-6. Utterances shorter
than the splice, and of one frame, are among them.
"""

from __future__ import annotations

import numpy as np
import torch
from corpus import Corpus, make_corpus, train_config, write_ali, write_data
from harness import Outcome, Settings, main, silence, without_curves

from acoustic.data.batches import FrameStore, Store
from acoustic.data.build import CacheOptions, ensure_cache
from acoustic.data.join import Source
from acoustic.data.windows import WindowedStore
from acoustic.decode.forward import AcousticModel
from acoustic.features.base_frames import base_frames
from acoustic.kaldi.datadir import DataDir
from acoustic.log import Tally
from acoustic.train.run import train

TOLERANCE = 1e-6
HUGE = 1e4


def run(settings: Settings) -> Outcome:
    silence()
    without_curves()
    corpus = make_corpus(settings.folder / "corpus", num_utts=40 if settings.quick else 400)
    shorten_some(corpus)
    largest: dict[str, float] = {}
    for cmvn in ("none", "utterance", "sliding"):
        options = {"features__cmvn": cmvn, "features__norm_vars": cmvn == "utterance", "features__splice_left": 5}
        config = train_config(
            corpus, settings.folder / cmvn, features__splice_right=5, features__delta_order=2,
            schedule__max_epochs=1, data__dtype="float32", **options,
        )  # fmt: skip
        train(config)
        model = AcousticModel.load(config.exp_dir)
        largest[f"decoding, cmvn {cmvn}"] = decoding(model, corpus)
        largest[f"training batches, cmvn {cmvn}"] = training(model, corpus, settings)
        control = without_edges(model, corpus)
        if control <= TOLERANCE:
            return Outcome(False, f"joined utterances differ by {control:.2g} only: this trial could not see leakage")
        print(f"cmvn {cmvn}: joining utterances, which leakage amounts to, would make a difference of {control:.2g}")
    for name, difference in largest.items():
        print(f"{name}: largest difference of posteriors {difference:.2g}")
    return Outcome(
        max(largest.values()) <= TOLERANCE,
        f"largest difference of posteriors {max(largest.values()):.2g} over {len(corpus.feats)} utterances with their "
        f"neighbours removed or replaced (at most {TOLERANCE:g} allowed)",
    )


def shorten_some(corpus: Corpus) -> None:
    """Make every fifth utterance shorter than the splice, down to one frame."""
    for number, utt in enumerate(sorted(corpus.feats)[::5]):
        corpus.feats[utt] = corpus.feats[utt][: 1 + number % 6]
        corpus.alignments[utt] = corpus.alignments[utt][: 1 + number % 6]
    write_data(corpus, corpus.feats)
    write_ali(corpus, corpus.alignments)


def posteriors(model: AcousticModel, feats: dict[str, np.ndarray], corpus: Corpus) -> dict[str, torch.Tensor]:
    """Posteriors of utterances as `acoustic loglikes` computes them, all in one go."""
    write_data(corpus, feats)
    frames = dict(base_frames(DataDir.read(corpus.data_dir), model.frontend, Tally()))
    return dict(zip(frames, (x.exp() for x in model.log_posteriors(list(frames.values()))), strict=True))


def without_edges(model: AcousticModel, corpus: Corpus) -> float:
    """The largest difference when utterances are joined in pairs, as if there were no edge: what leakage would be."""
    together = posteriors(model, corpus.feats, corpus)
    utts = sorted(corpus.feats)
    pairs = dict(zip(utts[::2], utts[1::2], strict=False))
    joined = {one: np.concatenate([corpus.feats[one], corpus.feats[other]]) for one, other in pairs.items()}
    result = posteriors(model, joined, corpus)
    write_data(corpus, corpus.feats)
    return max(float((result[utt][: len(together[utt])] - together[utt]).abs().max()) for utt in joined)


def decoding(model: AcousticModel, corpus: Corpus) -> float:
    """The largest difference when utterances are decoded with others, alone, and among huge values."""
    together = posteriors(model, corpus.feats, corpus)
    largest = 0.0
    kept = sorted(corpus.feats)[1::2]
    others = {utt: np.full_like(x, HUGE) for utt, x in corpus.feats.items() if utt not in kept}
    removed = {utt: corpus.feats[utt] for utt in kept}
    for feats in (removed, removed | others):
        result = posteriors(model, feats, corpus)
        largest = max(largest, *(float((result[utt] - together[utt]).abs().max()) for utt in kept))
    write_data(corpus, corpus.feats)
    return largest


def training(model: AcousticModel, corpus: Corpus, settings: Settings) -> float:
    """The largest difference between posteriors of training inputs and of the utterance alone in its cache."""
    together = posteriors(model, corpus.feats, corpus)
    largest = 0.0
    whole = {utt: corpus.feats[utt] for utt in corpus.feats}
    kept = sorted(whole)[1::2]
    among_huge = {utt: x if utt in kept else np.full_like(x, HUGE) for utt, x in whole.items()}
    for feats in (whole, {utt: whole[utt] for utt in kept}, among_huge):
        for store in stores(model, corpus, feats, settings):
            for utt, result in by_utterance(model, store).items():
                if utt in kept:
                    largest = max(largest, float((result - together[utt]).abs().max()))
    write_data(corpus, corpus.feats)
    return largest


def stores(model: AcousticModel, corpus: Corpus, feats: dict[str, np.ndarray], settings: Settings) -> list[Store]:
    """Both stores over a cache of these features."""
    write_data(corpus, feats)
    source = Source(str(corpus.data_dir), str(corpus.ali_dir))
    options = CacheOptions(dtype="float32", shard_frames=150)
    cache = ensure_cache(settings.folder / "cache", [source], model.frontend, options)
    return [FrameStore(cache, model.frontend), WindowedStore(cache, model.frontend, window_shards=2)]


def by_utterance(model: AcousticModel, store: Store) -> dict[str, torch.Tensor]:
    """Posteriors of every frame of a store, taken from shuffled batches, put back into their utterances."""
    num_frames = store.num_frames
    result = torch.empty(num_frames, store.num_pdfs)
    for batch, (inputs, _) in enumerate(store.batches(100, seed=5)):
        result[store.batch_index(100, 5, 0, batch)] = model.classifier.log_posteriors(inputs).exp()
    return dict(zip(store.cache.ids(), result.split(store.cache.lengths.tolist()), strict=True))


if __name__ == "__main__":
    main(__doc__ or "", run)
