"""Small corpora laid out as the Kaldi experiments that recipes start from."""
