"""acoustic: train hybrid DNN-HMM acoustic models in PyTorch on Kaldi features and alignments."""

__version__ = "0.1.0"
