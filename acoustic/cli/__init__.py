"""The command line: one module a verb. The only room that knows hydra."""
