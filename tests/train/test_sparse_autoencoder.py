"""The sparse autoencoder: its loss by hand, its unit-norm decoder, what it learns."""

import numpy as np
import pytest
import torch

from acoustic.train.sparse_autoencoder import SparseAutoencoder


@pytest.mark.parametrize("linear_output", [True, False])
def test_loss_by_numpy(linear_output):
    torch.manual_seed(2)
    net = SparseAutoencoder(4, 6, linear_output).double()
    with torch.no_grad():
        net.direction.mul_(7.0)
        net.output_bias.normal_()
        net.encoder.bias.normal_()
    x = torch.randn(5, 4, dtype=torch.float64)
    error, penalty = net.losses(x)
    w, b = net.encoder.weight.detach().numpy(), net.encoder.bias.detach().numpy()
    v, c = net.direction.detach().numpy(), net.output_bias.detach().numpy()
    h = np.maximum(0, x.numpy() @ w.T + b)
    r = h @ (v / np.sqrt((v**2).sum(0))).T + c
    r = r if linear_output else np.maximum(0, r)
    assert error.item() == pytest.approx(((r - x.numpy()) ** 2).sum() / 5)
    assert penalty.item() == pytest.approx(np.abs(h).sum() / 5)


def test_the_length_of_the_directions_does_not_count_and_gradients_stand_across_them():
    torch.manual_seed(2)
    net = SparseAutoencoder(4, 6, True)
    x = torch.randn(50, 4)
    error, _ = net.losses(x)
    error.backward()
    along = (net.direction.grad * net.direction).sum(0)
    torch.testing.assert_close(along, torch.zeros(6), atol=1e-5, rtol=0)
    with torch.no_grad():
        net.direction.mul_(100.0)
    torch.testing.assert_close(net.losses(x)[0], error)
    torch.testing.assert_close(net.decoder_weight.norm(dim=0), torch.ones(6))


def learn(sparsity):
    """Train on data of rank three; the first and last error, and the share of features that are zero."""
    torch.manual_seed(0)
    x = torch.randn(200, 3) @ torch.randn(3, 10)
    net = SparseAutoencoder(10, 12, True)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.005, momentum=0.9)
    errors = []
    for _ in range(300):
        error, penalty = net.losses(x)
        optimizer.zero_grad()
        (error + sparsity * penalty).backward()
        optimizer.step()
        errors.append(error.item())
    return errors[0], errors[-1], float((net.features(x) == 0).float().mean())


def test_it_learns_and_the_penalty_makes_features_sparse():
    first, last, zeros = learn(0.0)
    assert last < 0.1 * first
    first, sparse_last, sparse_zeros = learn(1.0)
    assert sparse_last < 0.3 * first
    assert sparse_zeros > zeros + 0.1
