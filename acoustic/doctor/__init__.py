"""The doctor: what would go wrong later in preparing, training and decoding, found before any time is spent on it.

A room of its own behind decode and before cli: it judges what all other rooms are going to read (data directories and
audio, features, alignments, models and bundles, transforms, graphs), so it must know them, and none of them needs it.

`scan_*` read everything once and keep the bare facts; `check_*` compare facts and give findings; `examine` runs all
checks; `clean` writes a copy of the data directory without the utterances that are at fault.
"""
