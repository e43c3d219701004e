"""Where ranks find each other, also after torchrun has started them again.

torchrun's agent keeps its key-value store over restarts, with the addresses of ranks that are dead: a rank that is
quick to start would connect to those. So ranks first agree on a name that no earlier start has used, and keep their
addresses under it.
"""

from __future__ import annotations

import time
import uuid

from torch.distributed import PrefixStore, Store

POLL_SECONDS = 0.05


def fresh_store(store: Store, rank: int, world_size: int) -> PrefixStore:
    """The part of a store that belongs to this start of all ranks.

    Rank 0 draws its name and tells it to whoever is there; everyone but the living could only repeat an old answer, so
    each rank waits for one to the question that it has just made up.

    Args:
        store: shared by all ranks, perhaps with what earlier starts left.
        rank: number of this process.
        world_size: how many there are.
    """
    if rank == 0:
        name = uuid.uuid4().hex
        waiting = set(range(1, world_size))
        while waiting:
            for other in sorted(waiting):
                if store.check([f"question-{other}"]):
                    question = store.get(f"question-{other}").decode()
                    store.set(f"answer-{question}", name)
                    if store.check([f"heard-{name}-{other}"]):
                        waiting.remove(other)
            time.sleep(POLL_SECONDS)
    else:
        question = uuid.uuid4().hex
        store.set(f"question-{rank}", question)
        name = store.get(f"answer-{question}").decode()
        store.set(f"heard-{name}-{rank}", "yes")
    return PrefixStore(name, store)
