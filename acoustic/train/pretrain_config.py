"""The options of generative pre-training."""

from __future__ import annotations

from dataclasses import dataclass

from acoustic.nn.classifier import ClassifierConfig

# Hidden units an RBM can have, by the activation that takes their place in fine-tuning.
RBM_UNITS = {
    "sigmoid": "bernoulli",
    "relu": "rectified",
    "leaky_relu": "rectified",
    "prelu": "rectified",
    "gaaf_relu": "rectified",
}
METHODS = ("none", "rbm", "sparse_autoencoder")


@dataclass(kw_only=True)
class PretrainConfig:
    """How hidden layers are trained one after the other, without targets, before the classifier is.

    The defaults are those of Kaldi's steps/nnet/pretrain_dbn.sh and of rbm-train-cd1-frmshuff.
    """

    name: str = "none"  # none, rbm, sparse_autoencoder
    epochs: float = 1.0  # for each layer but the first
    first_epochs: float = 2.0  # for the first layer
    batch_size: int = 256
    learning_rate: float = 0.4  # rbm: of Bernoulli units over Bernoulli ones
    linear_learning_rate: float = 0.01  # rbm with other units; sparse_autoencoder
    initial_momentum: float = 0.5
    momentum: float = 0.9
    momentum_frames: int = (
        20_000_000  # over which momentum rises, in 40 steps; the rates are multiplied by 1 - momentum
    )
    l2: float = 0.0002  # rbm: weight decay
    init_stddev: float = 0.1  # rbm: of the first weights
    sparsity: float = 0.5  # sparse_autoencoder: lambda, the weight of the features' L1 norm

    def __post_init__(self) -> None:
        if self.name not in METHODS:
            raise ValueError(f"pretrain.name={self.name!r}: choose one of {', '.join(METHODS)}")
        if min(self.epochs, self.first_epochs, self.learning_rate, self.linear_learning_rate, self.init_stddev) <= 0:
            raise ValueError("pretrain epochs, learning rates and init_stddev must be positive")
        if self.batch_size < 2 or self.momentum_frames < 1:
            raise ValueError("pretrain.batch_size must be at least 2 and pretrain.momentum_frames at least 1")
        if not (0 <= self.initial_momentum < 1 and 0 <= self.momentum < 1):
            raise ValueError("pretrain.initial_momentum and pretrain.momentum must lie in [0, 1)")
        if self.l2 < 0 or self.sparsity < 0:
            raise ValueError("pretrain.l2 and pretrain.sparsity must not be negative")

    def momentum_after(self, num_frames: int) -> float:
        """Momentum once `num_frames` frames have been seen: as rbm-train-cd1-frmshuff raises it, in 40 steps."""
        steps = min(num_frames * 40 // self.momentum_frames, 40)
        return self.initial_momentum + steps / 40 * (self.momentum - self.initial_momentum)

    def check_fits(self, model: ClassifierConfig) -> None:
        """Check that hidden layers of `model` can be pre-trained so.

        Raises:
            ValueError: an activation without such units, or a normalisation between weights and activation.
        """
        if self.name == "none":
            return
        if model.norm != "none":
            raise ValueError(f"pretrain={self.name} needs model.norm=none: its layers have no normalisation")
        if not model.widths:
            raise ValueError(f"pretrain={self.name}: the network has no hidden layers")
        known = [name for name, unit in RBM_UNITS.items() if self.name == "rbm" or unit == "rectified"]
        for activation in model.layer_activations:
            if activation not in known:
                raise ValueError(f"pretrain={self.name} has no {activation} units: choose {', '.join(known)}")
