"""Kaldi's files as numpy arrays: tables, data directories, transition models, trees, nets. No torch here."""
