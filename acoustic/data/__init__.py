"""Features joined with alignments into a frames cache, and the order in which its frames are trained on."""
