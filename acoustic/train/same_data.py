"""What a run's data are, so that a checkpoint is never continued on others."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from acoustic.data.batches import Store
from acoustic.errors import CheckpointError


def data_fingerprints(train_store: Store, dev_store: Store) -> dict[str, str]:
    """What the data are: alignments, transition model, front end, frames, of train and dev."""
    return {
        f"{name} {what}": value
        for name, store in (("train", train_store), ("dev", dev_store))
        for what, value in store.cache.meta.content_fingerprints().items()
    }


def check_same_data(here: Mapping[str, str], there: Mapping[str, str], checkpoints: Path) -> None:
    """Refuse checkpoints of other data than these.

    Raises:
        CheckpointError: naming what differs.
    """
    differing = sorted(key for key in here.keys() | there.keys() if here.get(key) != there.get(key))
    if differing:
        raise CheckpointError(
            f"{checkpoints}: the run began with other data ({', '.join(differing)} differ); "
            "bring those back, or choose another exp_dir"
        )
