"""Sequence-discriminative training: lattices and denominator graphs, criteria over them, and their training loop."""
