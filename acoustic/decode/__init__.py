"""From posteriors to word error rate: priors, loglikes, graphs, decoding, alignment, scoring."""
