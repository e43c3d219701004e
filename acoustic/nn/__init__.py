"""The network: activations, the senone classifier, the model bundle. Imports torch and nothing of ours but errors."""
