"""finalize: BatchNorm refreshed, FLOPs counted, a plain model left, and nothing half-done."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

import mirrormask as mm
from mirrormask.errors import ArgumentError, MirrormaskWarning
from mirrormask.geometry import Factors
from mirrormask.masking import ProjectAndFreeze


def conv_net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, bias=False),  # 4 x 9 weights on 6 x 6 places: 2592 FLOPs
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(144, 3),  # 864 FLOPs
    )


def batches(count: int = 5) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [
        (3 + 2 * torch.randn(16, 1, 8, 8, generator=generator), torch.zeros(16))
        for _ in range(count)
    ]


def trained(net: nn.Module, recipe: mm.Recipe | str = "magnitude") -> mm.SparseOptimizer:
    base = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
    optimizer = mm.sparsify(base, net, sparsity=0.75, steps=6, method=recipe)
    for step in range(6):
        optimizer.zero_grad()
        net(batches()[step % 5][0]).square().mean().backward()
        optimizer.step()
    return optimizer


def statistics(net: nn.Sequential) -> tuple[Tensor, Tensor]:
    """Mean and unbiased variance of the cut convolution's outputs, averaged over the batches."""
    outputs = [net[0](inputs).transpose(0, 1).flatten(1) for inputs, _ in batches()]
    means = torch.stack([o.mean(1) for o in outputs]).mean(0)
    variances = torch.stack([o.var(1) for o in outputs]).mean(0)
    return means.detach(), variances.detach()


def iterator() -> Iterator[tuple[Tensor, Tensor]]:
    yield from batches()


DATA = {
    "list": batches,
    "one-shot iterator": iterator,
    "bare tensors": lambda: [inputs for inputs, _ in batches()],
    "loader": lambda: torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(torch.cat([x for x, _ in batches()])), batch_size=16
    ),
}


@pytest.mark.parametrize("kind", DATA)
def test_batchnorm_statistics_are_those_of_the_cut_net(kind: str) -> None:
    net = conv_net()
    optimizer = trained(net)
    net.eval()
    net[3].train()  # a mode of its own, to be kept
    report = optimizer.finalize(DATA[kind]())
    mean, variance = statistics(net)
    torch.testing.assert_close(net[1].running_mean, mean)
    torch.testing.assert_close(net[1].running_var, variance)
    assert net[1].momentum == 0.1
    assert [module.training for module in net] == [False, False, False, True, False]
    assert report.zeros == 351
    assert report.flops == 2592 + 864


def test_a_single_batch_counts_for_flops_and_statistics() -> None:
    net = conv_net()
    optimizer = trained(net)
    optimizer.finalize(iter(batches(1)))
    outputs = net[0](batches(1)[0][0]).transpose(0, 1).flatten(1)
    torch.testing.assert_close(net[1].running_mean, outputs.mean(1).detach())


def test_flops_by_layer_and_what_is_left() -> None:
    net = conv_net()
    optimizer = trained(net)
    report = optimizer.finalize(batches())
    first, last = report.tensors
    assert (first.flops, last.flops) == (2592, 864)
    left = 2592 * (1 - first.sparsity) + 864 * (1 - last.sparsity)
    assert report.flops_left == pytest.approx(left / 3456)


def test_flops_of_a_tied_weight_are_those_of_all_its_layers() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6), nn.Linear(6, 2))
    net[2].weight = net[0].weight
    optimizer = mm.sparsify(
        torch.optim.SGD(net.parameters(), lr=0.1), net, sparsity=0.5, steps=3, method="magnitude"
    )
    report = optimizer.finalize([torch.ones(4, 6)])
    assert [t.flops for t in report.tensors] == [2 * 72, 24]
    assert report.flops == 168


def test_a_warning_where_statistics_go_stale_and_none_where_they_do_not() -> None:
    optimizer = trained(conv_net())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        optimizer.finalize()
    (warning,) = [w for w in caught if issubclass(w.category, MirrormaskWarning)]
    assert "finalize(data=loader)" in str(warning.message)
    assert warning.filename == __file__
    # Cut and frozen in training, or no BatchNorm: nothing to say (a warning would be an error).
    trained(conv_net(), mm.Recipe(masking=ProjectAndFreeze(at=0.5))).finalize()


def test_where_warnings_are_errors_nothing_is_cut() -> None:
    net = conv_net()
    optimizer = trained(net)
    before = copy.deepcopy(net.state_dict())
    with pytest.raises(MirrormaskWarning):
        optimizer.finalize()
    assert all(torch.equal(t, before[name]) for name, t in net.state_dict().items())
    assert optimizer.finalize(batches()).zeros == 351


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "data holds no batch: pass a loader that yields at least one"),
        (iter(()), "data holds no batch"),
        ([{"input": torch.ones(2)}], "data yields dict, from which no input can be read: yield"),
        ([("text", 1)], "data yields tuple, from which no input"),
        ([()], "data yields tuple, from which no input"),
        ([torch.tensor(1.0)], "data yields Tensor, from which no input"),
        ([torch.ones(0, 1, 8, 8)], "data yields Tensor, from which no input"),
    ],
)
def test_bad_data_is_refused_before_anything_is_cut(data: object, message: str) -> None:
    net = conv_net()
    optimizer = trained(net)
    before = copy.deepcopy(net.state_dict())
    with pytest.raises(ArgumentError, match=message):
        optimizer.finalize(data)
    assert all(torch.equal(t, before[name]) for name, t in net.state_dict().items())
    assert optimizer.finalize(batches()).zeros == 351


def test_data_that_fails_half_way_leaves_a_second_chance() -> None:
    net = conv_net()
    optimizer = trained(net)

    def broken() -> Iterator[Tensor]:
        yield batches()[0][0]
        raise OSError("disk gone")

    with pytest.raises(OSError, match="disk gone"):
        optimizer.finalize(broken())
    assert net[1].momentum == 0.1
    report = optimizer.finalize(batches())
    assert report.zeros == 351
    mean, _ = statistics(net)
    torch.testing.assert_close(net[1].running_mean, mean)


def test_the_model_is_plain_and_its_keys_are_the_dense_ones(recipe) -> None:
    net, untouched = conv_net(), conv_net()
    optimizer = trained(net, recipe)
    keys = list(untouched.state_dict())
    assert list(net.state_dict()) == keys
    report = optimizer.finalize(batches())
    assert list(net.state_dict()) == keys
    assert all(type(p) is nn.Parameter and p.requires_grad for p in net.parameters())
    untouched.load_state_dict(net.state_dict())
    net.eval()
    untouched.eval()
    inputs = batches()[2][0]
    assert torch.equal(net(inputs), untouched(inputs))
    assert report.zeros == sum(int((net[i].weight == 0).sum()) for i in (0, 4))
    assert report.other_weights == 8 + 3
    assert report.other_zeros == 0 or report.other_zeros <= 3


def test_a_sparse_model_can_be_trained_further() -> None:
    net = conv_net()
    trained(net).finalize(batches())
    again = trained(net, mm.Recipe(geometry=Factors()))
    assert again.finalize(batches()).zeros == 351
