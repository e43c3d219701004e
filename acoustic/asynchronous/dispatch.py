"""Who computes which batches when: the one place that decides it, for processes and for simulated replicas."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from acoustic.train.asynchronous_config import AsynchronousConfig


@dataclass(frozen=True)
class Lease:
    """Consecutive batches that one replica computes and pushes together. Every batch is handed out once.

    Attributes:
        replica: whose.
        first, end: the updates' numbers, counted over the whole run; which frames they are follows from that.
        rate, momentum: of the push.
        fetches: whether the replica takes fresh parameters first.
    """

    replica: int
    first: int
    end: int
    rate: float
    momentum: float
    fetches: bool


class Dispatcher:
    """Hands out the batches of a part of an epoch, in order, to whichever replica asks.

    Replicas therefore read disjoint frames, fast ones more of them, and an epoch is all frames once, whoever dies.

    Args:
        config: of asynchronous SGD.
        rates: gives learning rate and momentum of an update.
        first, end: the updates to hand out.

    Attributes:
        next_step: the next to be handed out: all before it were.
    """

    def __init__(
        self, config: AsynchronousConfig, rates: Callable[[int], tuple[float, float]], first: int, end: int
    ) -> None:
        self.config, self.rates, self.end = config, rates, end
        self.next_step = first
        self._outstanding: dict[int, Lease] = {}
        self._num_done = 0  # pushes that are over, those of lost leases too
        self._seen: dict[int, int] = {}  # replica -> pushes that were over when it last fetched
        self._since_fetch: Counter[int] = Counter()  # replica -> batches

    def ask(self, replica: int) -> Lease | None:
        """The next lease, for a replica that has none; None while it must wait, or when all is handed out."""
        if self.next_step >= self.end or self._must_wait():
            return None
        fetches = self._must_fetch(replica)
        if fetches:
            self._seen[replica], self._since_fetch[replica] = self._num_done, 0
        end = min(self.next_step + self.config.push_every, self.end)
        lease = Lease(replica, self.next_step, end, *self.rates(self.next_step), fetches)
        self._since_fetch[replica] += end - self.next_step
        self.next_step, self._outstanding[replica] = end, lease
        return lease

    def _must_wait(self) -> bool:
        """Whether another gradient under way would make one too stale, or the warm-up is not over."""
        if any(lease.first < self.config.warmup_updates for lease in self._outstanding.values()):
            return True
        return any(self._is_too_old(self._seen[other]) for other in self._outstanding)

    def _must_fetch(self, replica: int) -> bool:
        """Whether a replica takes fresh parameters: also where those it has would be too old for another gradient.

        In the warm-up always: another replica may have done the batch before.
        """
        return (
            replica not in self._seen
            or self._since_fetch[replica] >= self.config.fetch_every
            or self.next_step < self.config.warmup_updates
            or self._is_too_old(self._seen[replica])
        )

    def _is_too_old(self, seen: int) -> bool:
        """Whether a gradient of parameters fetched after so many pushes may miss too many, with one more under way.

        Of the pushes that a shard applies between a replica's fetch and its own push, each was either reported done
        after that fetch began, or is still outstanding.
        """
        bound = self.config.max_staleness
        return bound is not None and self._num_done - seen + len(self._outstanding) > bound

    def done(self, replica: int) -> None:
        """All shards have applied a replica's push."""
        del self._outstanding[replica]
        self._num_done += 1

    def lost(self, replica: int) -> Lease | None:
        """A replica is gone; the lease that is lost with it, if it had one.

        Shards may have applied its push all the same, so that it counts among those that others miss.
        """
        self._seen.pop(replica, None)
        lease = self._outstanding.pop(replica, None)
        self._num_done += lease is not None
        return lease

    def stop(self) -> None:
        """Hand out no more."""
        self.end = self.next_step

    def lease_of(self, replica: int) -> Lease | None:
        """What a replica is at."""
        return self._outstanding.get(replica)

    @property
    def finished(self) -> bool:
        """Whether everything was handed out, and done or lost."""
        return self.next_step >= self.end and not self._outstanding
