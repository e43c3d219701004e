"""Who speaks: voices of espeak-ng, disjoint between the sets, each with an accent, a pitch and a rate of its own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

ACCENTS = ("en-us", "en", "en-gb-scotland", "en-gb-x-rp", "en-gb-x-gbclan", "en-029")

# Variants that are relatives of one another (klatt3 and adam, Gene and Gene2, steph and steph2) all stand in train.
VARIANTS = {
    "train": (
        "m1 f1 m2 Andrea m5 linda m6 f3 m7 shelby Alex steph Andy anika Denis steph2 Gene f5 Gene2 klatt3 "
        "Lee adam Mario edward Mike david boris klatt4 gustave klatt6 ian mike2 marcelo paul quincy rob "
        "victor sandro Nguyen croak"
    ),
    "dev": "f4 m3 Annie norbert ed robert",
    "test": "f2 m4 belinda Michael aunty john travis max",
}

BABBLE_VOICES = ("en-us+grandma", "en+Tweaky", "en-gb-scotland+pedro", "en-us+zac")
"""Heard only in the background."""


@dataclass(frozen=True)
class Speaker:
    """One voice of the corpus.

    Attributes:
        name: speaker id.
        set_name: train, dev or test.
        voice: espeak-ng's name of it.
        pitch, pitch_range: 0 to 100, 50 being the voice's own.
        rate: words per minute.
        seed: of everything random about what this speaker says and how it sounds.
    """

    name: str
    set_name: str
    voice: str
    pitch: int
    pitch_range: int
    rate: int
    seed: tuple[int, int]


def make_speakers(seed: int) -> list[Speaker]:
    """All speakers, sorted by name."""
    speakers = []
    for set_name, variants in VARIANTS.items():
        for variant in variants.split():
            number = len(speakers)
            rng = np.random.default_rng([seed, number])
            speakers.append(
                Speaker(
                    name=f"s{number + 1:02d}",
                    set_name=set_name,
                    voice=f"{ACCENTS[number % len(ACCENTS)]}+{variant}",
                    pitch=int(rng.integers(35, 66)),
                    pitch_range=int(rng.integers(35, 66)),
                    rate=int(rng.integers(150, 206)),
                    seed=(seed, number),
                )
            )
    return speakers
