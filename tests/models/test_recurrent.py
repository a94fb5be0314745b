"""Recurrent layers, whose weights live in one flat list."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

KINDS = {
    "rnn": (lambda: nn.RNN(6, 12, batch_first=True), 12),
    "gru": (lambda: nn.GRU(6, 12, num_layers=2, batch_first=True), 12),
    "lstm": (lambda: nn.LSTM(6, 12, bidirectional=True, batch_first=True), 24),
    "lstm, projected": (lambda: nn.LSTM(6, 12, proj_size=8, batch_first=True), 8),
}


class Reader(nn.Module):
    """A recurrent layer and a head."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        build, width = KINDS[kind]
        self.recurrent = build()
        self.head = nn.Linear(width, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.recurrent(x)[0])


@pytest.mark.parametrize("kind", KINDS)
def test_all_matrices_of_a_recurrent_layer(check, kind: str) -> None:
    torch.manual_seed(0)
    net = Reader(kind)

    def loss(net: nn.Module, step: int) -> Tensor:
        x = torch.randn(8, 7, 6, generator=torch.Generator().manual_seed(step))
        return F.mse_loss(net(x), x.cumsum(1).tanh())

    report = check(net, loss)
    wanted = [n for n, _ in net.named_parameters() if "weight" in n]
    assert [t.name for t in report.tensors] == wanted
    # The layer computes with what is in the parameters, not with a stale flat copy.
    x = torch.randn(2, 7, 6)
    again = Reader(kind)
    again.load_state_dict(net.state_dict())
    assert torch.equal(net(x), again(x))
