"""Batch norm folded into convolutions and put back, on tiny networks with random statistics."""

import copy

import pytest
import torch
from torch import nn

from headstart.features.folding import fold, unfold

timm = pytest.importorskip("timm")


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Networks as small as these are slower on several."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class ConvolutionWithBias(nn.Module):
    """Two pairs; the first convolution has a bias of its own."""

    def __init__(self):
        super().__init__()
        self.first, self.first_norm = nn.Conv2d(3, 8, 3, bias=True), nn.BatchNorm2d(8)
        self.second, self.second_norm = nn.Conv2d(8, 6, 3, bias=False), nn.BatchNorm2d(6)

    def forward(self, maps):
        maps = torch.relu(self.first_norm(self.first(maps)))
        return self.second_norm(self.second(maps)).mean((2, 3))


class UsedTwice(nn.Module):
    """The convolution's own output is added to what the norm makes of it."""

    def __init__(self):
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8)

    def forward(self, maps):
        maps = self.convolution(maps)
        return (maps + torch.relu(self.norm(maps))).mean((2, 3))


class RunTwice(nn.Module):
    """One convolution, two norms: folding into it would be right for neither."""

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.first_norm, self.second_norm = nn.BatchNorm2d(4), nn.BatchNorm2d(4)

    def forward(self, maps):
        maps = self.first_norm(self.convolution(maps))
        return self.second_norm(self.convolution(maps)).mean((2, 3))


MAKERS = {
    "test_resnet": lambda: timm.create_model("test_resnet", num_classes=5),
    "test_efficientnet": lambda: timm.create_model("test_efficientnet", num_classes=5),
    "bias": ConvolutionWithBias,
}


def made(maker, seed=0):
    """A network with batch norms that do something: random statistics, scales of both signs, random biases."""
    torch.manual_seed(seed)
    network = maker()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, 0, 0.3)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            module.weight.data *= torch.where(torch.rand_like(module.weight) < 0.2, -1.0, 1.0)
            nn.init.normal_(module.bias, 0, 0.3)
    return network.eval()


def pictures(channels=3, side=32, number=2):
    return torch.randn(number, channels, side, side, generator=torch.Generator().manual_seed(1))


def outputs(network, inputs):
    with torch.no_grad():
        return network(inputs)


def assert_close(got, expected, tolerance=1e-5):
    assert (got - expected).abs().max() <= tolerance * expected.abs().max()


def facts(network):
    return {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in network.state_dict().items()}


def norms(network):
    return sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())


@pytest.mark.parametrize("name", MAKERS)
def test_a_folded_network_computes_the_same_without_any_norm(name):
    network = made(MAKERS[name])
    expected, count = outputs(network, pictures()), norms(network)
    pairs = fold(network, pictures()[:1])
    assert len(pairs) == count > 0
    assert norms(network) == 0
    assert not network.training
    assert_close(outputs(network, pictures()), expected)


@pytest.mark.parametrize("name", MAKERS)
def test_unfolding_gives_back_the_function_and_the_names_and_shapes(name):
    network = made(MAKERS[name])
    expected, before, count = outputs(network, pictures()), facts(network), norms(network)
    statistics = {key: value.clone() for key, value in network.state_dict().items() if "running" in key}
    unfold(network, fold(network, pictures()[:1]))
    assert norms(network) == count
    assert list(facts(network).items()) == list(before.items())
    assert_close(outputs(network, pictures()), expected)
    after = network.state_dict()
    assert all(torch.equal(after[key], value) for key, value in statistics.items())


@pytest.mark.parametrize("name", MAKERS)
def test_unfolding_gives_the_function_of_the_trained_folded_network(name):
    network = made(MAKERS[name])
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.data[0] = 0
            module.weight.data[1] = 1e-7
            module.bias.data[:2] = 0.5
    before, shapes = outputs(network, pictures()), facts(network)
    pairs = fold(network, pictures()[:1])
    assert pairs
    optimiser = torch.optim.SGD(network.parameters(), lr=0.01)
    for _ in range(3):
        optimiser.zero_grad()
        logits = network(pictures())
        (logits / logits.detach().abs().max()).square().sum().backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
    trained = outputs(network, pictures())
    assert (trained - before).abs().max() > 1e-3 * before.abs().max()
    assert any(network.get_submodule(pair.convolution).weight[0].abs().max() > 1e-5 for pair in pairs)  # they learn too
    unfold(network, pairs)
    assert_close(outputs(network, pictures()), trained)
    assert facts(network) == shapes


def test_what_a_norm_does_besides_normalising_stays():
    network = made(MAKERS["test_efficientnet"])
    pairs = fold(network, pictures()[:1])
    activations = [pair.norm for pair in pairs if getattr(pair.removed, "act", None) is not None]
    assert activations
    for name in activations:
        assert len(network.get_submodule(name)) >= 1


@pytest.mark.parametrize("learns", [True, False])
def test_whether_a_convolution_learns_is_kept(learns):
    network = made(ConvolutionWithBias).requires_grad_(learns)
    pairs = fold(network, pictures()[:1])
    assert {parameter.requires_grad for parameter in network.parameters()} == {learns}
    unfold(network, pairs)
    assert {parameter.requires_grad for parameter in network.parameters()} == {learns}


@pytest.mark.parametrize("dead", [False, True], ids=["scales", "a scale of zero"])
def test_a_network_that_folding_would_change_is_left_as_it_was(dead):
    network = made(UsedTwice)
    if dead:
        network.norm.weight.data[0] = 0
    before, expected = copy.deepcopy(network.state_dict()), outputs(network, pictures())
    assert fold(network, pictures()[:1]) == []
    after = network.state_dict()
    assert list(after) == list(before)
    for name, tensor in before.items():
        assert torch.equal(after[name], tensor), name
    assert_close(outputs(network, pictures()), expected)


def test_a_convolution_that_runs_twice_is_not_folded():
    network = made(RunTwice)
    expected = outputs(network, pictures(4))
    assert fold(network, pictures(4)[:1]) == []
    assert torch.equal(outputs(network, pictures(4)), expected)
    assert norms(network) == 2
