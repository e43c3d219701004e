"""Many trainings for one question: the papers' claims over folds and seeds, the search for hyperparameters."""
