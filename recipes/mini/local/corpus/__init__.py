"""The parts of make_corpus.py: voices, grammar, synthesis, telephone channel, pronunciations, phone times."""
