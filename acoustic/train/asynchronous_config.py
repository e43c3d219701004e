"""How asynchronous SGD works (strategy `async_sgd`), and how its simulation imagines the machines."""

from __future__ import annotations

from dataclasses import dataclass, field

DISTRIBUTIONS = ("constant", "exponential", "stragglers")
MAX_PORT = 65535


@dataclass(kw_only=True)
class DelaysConfig:
    """What takes how long in a simulation (strategy `async_simulation`).

    `stragglers`: the first `straggler_share` of the replicas always take `straggler_factor` times as long.
    """

    compute: str = "exponential"  # distribution of the time of a batch's gradient: constant, exponential, stragglers
    compute_seconds: float = 1.0  # its mean; of a replica that is no straggler
    network: str = "constant"  # distribution of the time of a message on its way
    network_seconds: float = 0.01
    apply_seconds: float = 0.0  # that a shard takes for one push, one after the other
    fetch_seconds: float = 0.0  # ... for handing out its parameters once
    message_seconds: float = 0.0  # of a replica's own work on what it sends to a shard and on the answer
    word_seconds: float = 0.0  # that the coordinator takes to give a replica work, one after the other
    straggler_share: float = 0.1
    straggler_factor: float = 10.0
    cores: int | None = None  # that all processes share; null: each has its own
    contention: float = 1.0  # times as long that work takes while all those cores are busy

    def __post_init__(self) -> None:
        for name in ("compute", "network"):
            if getattr(self, name) not in DISTRIBUTIONS:
                raise ValueError(f"async.delays.{name}={getattr(self, name)!r}: choose {', '.join(DISTRIBUTIONS)}")
        seconds = [value for name, value in vars(self).items() if name.endswith("_seconds")]
        if min(seconds) < 0:
            raise ValueError("async.delays: seconds must not be negative")
        if not 0 <= self.straggler_share <= 1 or self.straggler_factor < 1:
            raise ValueError("async.delays.straggler_share must lie in [0, 1] and straggler_factor be at least 1")
        if self.cores is not None and self.cores < 1:
            raise ValueError("async.delays.cores must be at least 1, or null")
        if self.contention < 1:
            raise ValueError("async.delays.contention must be at least 1")


@dataclass(kw_only=True)
class AsynchronousConfig:
    """Replicas and the parameter server of asynchronous SGD (Dean et al. 2012, section 4.1; Zeiler et al. 2013).

    On the command line the group is called `async`, which Python keeps for itself.
    """

    replicas: int = 4  # copies of the network that compute gradients, each of its own batches
    shards: int = 1  # processes that the layers' parameters are spread over
    fetch_every: int = 1  # batches of a replica between looks at the server's parameters
    push_every: int = 1  # batches of a replica whose gradients are added up before they are sent
    half_gradients: bool = False  # send gradients in half precision, scaled by a power of two
    max_staleness: int | None = None  # updates that a gradient's parameters may miss; null: any number
    warmup_updates: int = 0  # batches at the start that one replica computes alone
    snapshot_seconds: float = 30.0  # between a shard's snapshots, to which it returns when it is killed
    lease_seconds: float = 600.0  # after which a replica that has not answered is given up and replaced
    max_restarts: int = 100  # replicas and shards replaced in all; after that the run stops
    journal: bool = False  # write down in which order each shard served, for a replay
    listen: str = "127.0.0.1"  # the one address of this machine that replicas reach it by
    port: int = 0  # for replicas that join from other machines; 0: any free one
    join: str | None = None  # HOST:PORT of a run to join with `replicas` more of them
    delays: DelaysConfig = field(default_factory=DelaysConfig)

    def __post_init__(self) -> None:
        for name in ("replicas", "shards", "fetch_every", "push_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"async.{name} must be at least 1")
        if self.max_staleness is not None and self.max_staleness < 0:
            raise ValueError("async.max_staleness must not be negative")
        if self.warmup_updates < 0 or self.max_restarts < 0:
            raise ValueError("async.warmup_updates and async.max_restarts must not be negative")
        if self.snapshot_seconds <= 0 or self.lease_seconds <= 0:
            raise ValueError("async.snapshot_seconds and async.lease_seconds must be positive")
        if self.listen in ("", "0.0.0.0", "::"):
            raise ValueError(f"async.listen={self.listen!r}: name the one address that other machines know this one by")
        if not 0 <= self.port <= MAX_PORT:
            raise ValueError(f"async.port={self.port}: must lie between 0 and {MAX_PORT}")
        if self.join is not None:
            host, _, port = self.join.rpartition(":")
            if not host or not port.isdecimal() or not 0 < int(port) <= MAX_PORT:
                raise ValueError(f"async.join={self.join!r}: expected HOST:PORT, as the log of the run to join has it")
