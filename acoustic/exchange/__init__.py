"""Trained models as other programs' files, and back: Kaldi's nnet1 and nnet3, ONNX."""
