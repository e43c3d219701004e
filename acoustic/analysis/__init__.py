"""What a network learnt and where it errs: statistics of four papers, figures of them, a report, runs side by side."""
