"""Asynchronous SGD: replicas, a sharded parameter server, and a simulation of both in one process."""
