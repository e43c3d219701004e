"""HMM states from data: first alignments by Gaussians, statistics and decision trees of context-dependent states."""
