"""All ranks together see the batches of one process, in equal shares."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mirrormask.errors import ArgumentError
from mirrormask.study.batches import Batches
from mirrormask.study.rank_batches import RankBatches


@given(
    n=st.integers(4, 60),
    ranks=st.integers(1, 4),
    share=st.integers(1, 5),
    epoch=st.integers(0, 3),
)
def test_shares_are_equal_and_make_up_the_batches(
    n: int, ranks: int, share: int, epoch: int
) -> None:
    labels = torch.arange(n)
    whole = Batches(labels.float().unsqueeze(1), labels, batch_size=ranks * share, seed=3)
    parts = [RankBatches(whole, rank=rank, ranks=ranks) for rank in range(ranks)]
    parts[0].set_epoch(epoch)
    seen = [[labels for _, labels in part] for part in parts]
    assert {len(part) for part in parts} == {len(batches) for batches in seen}
    for step, (_, wanted) in enumerate(whole):
        left = wanted[: len(wanted) - len(wanted) % ranks]
        if not len(left):
            continue
        got = [batches[step] for batches in seen]
        assert {len(one) for one in got} == {len(left) // ranks}
        assert torch.equal(torch.stack(got, 1).flatten(), left)
    assert sum(len(one) for batches in seen for one in batches) > n - ranks


def test_what_cannot_be_shared_is_refused() -> None:
    whole = Batches(torch.zeros(2, 1), torch.arange(2), batch_size=4)
    with pytest.raises(ArgumentError, match="batch_size=4 is no multiple of 3 ranks"):
        RankBatches(whole, rank=0, ranks=3)
    with pytest.raises(ArgumentError, match="2 samples are too few for 4 ranks"):
        RankBatches(whole, rank=0, ranks=4)
