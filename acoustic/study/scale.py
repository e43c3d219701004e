"""How large the grid of trainings behind the claims is, and what each of its trainings is."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from acoustic.errors import ConfigError

DEPTHS = (2, 3, 4)  # of Maas et al. 2013
RATES = {
    "relu", "tanh", "sigmoid", "gaaf_relu", "gaaf_tanh", "sgd_relu", "sgd_sigmoid", "adagrad_relu", "adagrad_sigmoid",
    "probe",
}  # fmt: skip
PRETRAINING = {"rbm", "sparse_autoencoder"}
BASE_DEPTH = 4  # where optimizers, dropout, pre-training and GAAF are compared: the depth all papers share


@dataclass(frozen=True)
class Scale:
    """Sizes and rates of a grid: a file of conf/claims.

    Attributes:
        seeds: of first weights and order.
        width: units of each hidden layer.
        num_features: of each unsupervised layer under the linear classifiers; the paper has more than inputs.
        epochs: passes over the training data; the rate is halved after each.
        batch_size: frames in an update.
        pretrain_epochs: passes for each layer.
        pretraining: hydra's overrides of each method of pre-training: rbm, sparse_autoencoder.
        probe_epochs: passes of the linear classifier over unsupervised features.
        dropout, input_dropout: rates where there is dropout.
        deep: layers of the deepest nets, which are also tried at two thirds of it.
        rates: learning rates. momentum of 0.9: relu (leaky too), tanh, sigmoid, gaaf_relu, gaaf_tanh; plain SGD:
            sgd_relu, sgd_sigmoid; Adagrad: adagrad_relu, adagrad_sigmoid; the linear classifier: probe.
        rate_factors: multiples of each rate but the probe's that are tried on the first fold (study.rates).
        common: hydra's overrides of every training.
    """

    seeds: list[int]
    width: int
    num_features: int
    epochs: int
    batch_size: int
    pretrain_epochs: float
    pretraining: dict[str, list[str]]
    probe_epochs: int
    dropout: float
    input_dropout: float
    deep: int
    rates: dict[str, float]
    rate_factors: list[float]
    common: list[str]

    @classmethod
    def from_dict(cls, values: dict[str, Any], name: str) -> Scale:
        """From a file's values.

        Raises:
            ConfigError: keys that are missing or unknown, no seeds, or one that is there twice.
        """
        known = {field.name for field in fields(cls)}
        for group, keys in (("", known), ("rates", RATES), ("pretraining", PRETRAINING)):
            given = values[group] if group else values
            if wrong := keys ^ set(given or ()):
                raise ConfigError(f"{name}: {group or 'keys'} missing or unknown: {', '.join(sorted(wrong))}")
        seeds = values["seeds"]
        if not isinstance(seeds, list) or not seeds or len(set(seeds)) < len(seeds):
            raise ConfigError(f"{name}: seeds={seeds}: give a list of at least one, each once")
        return cls(**values)

    @property
    def deeper(self) -> int:
        """Layers of the nets between the base depth and the deepest: 8 of 12."""
        return max(self.deep * 2 // 3, 1)

    def settings(self) -> dict[str, list[str]]:
        """Every training by its name: hydra's overrides beside those common to all."""
        found: dict[str, list[str]] = {}
        for activation in ("relu", "leaky_relu", "tanh", "sigmoid"):
            for depth in DEPTHS:
                found[f"{activation}-{depth}"] = self._net(activation, depth)
        for activation in ("relu", "sigmoid"):
            for name, depth in (("deeper", self.deeper), ("deep", self.deep)):
                found[f"{activation}-{name}"] = self._net(activation, depth)
            found[f"{activation}-sgd"] = self._net(activation, optim="sgd_plain", rate=f"sgd_{activation}")
            found[f"{activation}-adagrad"] = self._net(activation, optim="adagrad", rate=f"adagrad_{activation}")
            found[f"{activation}-dropout"] = [*self._net(activation), *self._dropout()]
            found[f"{activation}-rbm"] = [*self._net(activation), *self._pretrain("rbm")]
            gaaf = "relu" if activation == "relu" else "tanh"
            found[f"gaaf_{gaaf}"] = [*self._net(gaaf, rate=f"gaaf_{gaaf}"), f"model.activation=gaaf_{gaaf}"]
        found["relu-1"] = self._net("relu", 1)
        found["relu-dropout-rbm"] = [*found["relu-dropout"], *self._pretrain("rbm")]
        found["relu-autoencoder"] = [*self._net("relu"), *self._pretrain("sparse_autoencoder")]
        found["unsupervised"] = [*self._net("relu", 3), *self._pretrain("sparse_autoencoder")]
        return found

    def overrides(self, setting: str, seed: int) -> list[str]:
        """All overrides of one training but those that name its data."""
        width = self.num_features if setting == "unsupervised" else self.width
        own = [
            f"model.hidden_dim={width}", f"schedule.max_epochs={self.epochs}",
            f"data.batch_size={self.batch_size}", f"seed={seed}",
        ]  # fmt: skip
        return [*self.common, *self.settings()[setting], *own]

    def _net(
        self, activation: str, depth: int = BASE_DEPTH, optim: str = "momentum", rate: str | None = None
    ) -> list[str]:
        name = rate or {"leaky_relu": "relu"}.get(activation, activation)
        return [
            f"model={activation}", f"model.hidden_layers={depth}", f"optim={optim}",
            f"optim.learning_rate={self.rates[name]}",
        ]  # fmt: skip

    def _dropout(self) -> list[str]:
        return [f"model.dropout={self.dropout}", f"model.input_dropout={self.input_dropout}"]

    def _pretrain(self, method: str) -> list[str]:
        epochs = self.pretrain_epochs
        own = self.pretraining[method]
        return [f"pretrain={method}", f"pretrain.epochs={epochs}", f"pretrain.first_epochs={epochs}", *own]
