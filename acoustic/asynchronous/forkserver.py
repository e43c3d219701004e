"""Loaded once by the process that replicas and shards are forked from, so that each starts in milliseconds.

A cluster that takes machines back sends SIGTERM to every process of a job, and a terminal SIGINT. Only the coordinator
heeds them: it lets the others finish what they have in flight, saves, and ends them.
"""

from __future__ import annotations

import os
import signal

# Before anything is loaded, which takes seconds.
for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
    signal.signal(number, signal.SIG_IGN)
# Before torch is. Its own words on broken connections are for those who debug it; ours are in the log.
os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "FATAL")

import torch._dynamo  # noqa: E402, F401 (which every optimizer loads when it is made, for seconds)

import acoustic.asynchronous.replica_process  # noqa: E402
import acoustic.asynchronous.shard_process  # noqa: E402, F401
