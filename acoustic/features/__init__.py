"""From audio to network input: fbank, CMVN, deltas, splicing, transforms, and the Frontend that joins them."""
