"""An embedding table that stores only the weights that are not zero."""

from __future__ import annotations

from typing import Self

import torch
from torch import nn

from mirrormask.deploy.csr import CsrModule, check_csr
from mirrormask.deploy.decode import CsrArrays
from mirrormask.deploy.made import made_for
from mirrormask.deploy.sparse_linear import csr_of_matrix
from mirrormask.errors import ArgumentError


@torch.library.custom_op("mirrormask::sparse_embedding", mutates_args=())
def sparse_embedding_op(
    tokens: torch.Tensor,
    row_starts: torch.Tensor,
    columns: torch.Tensor,
    values: torch.Tensor,
    width: int,
) -> torch.Tensor:
    """Return the dense rows ``[..., width]`` that ``tokens`` name in a CSR table."""
    rows = row_starts.numel() - 1
    # Anybody may call an operator, or load a program that does, so nothing is trusted.
    made_for(
        (row_starts, columns, values), None, width, lambda arrays: check_csr(arrays, (rows, width))
    )
    flat = tokens.reshape(-1).long()
    if flat.numel() and not 0 <= int(flat.min()) <= int(flat.max()) < rows:
        raise ArgumentError(f"a token is outside 0..{rows - 1}: the table has {rows} rows")
    starts = row_starts[flat].long()
    counts = row_starts[flat + 1].long() - starts
    place = torch.repeat_interleave(torch.arange(flat.numel()), counts)
    # Running number inside each row, added to where that row starts.
    shift = starts - (torch.cumsum(counts, 0) - counts)
    source = torch.arange(place.numel()) + shift[place]
    out = torch.zeros(flat.numel(), width, dtype=values.dtype)
    out[place, columns[source].long()] = values[source]
    return out.reshape(*tokens.shape, width)


@sparse_embedding_op.register_fake
def _(
    tokens: torch.Tensor,
    row_starts: torch.Tensor,
    columns: torch.Tensor,
    values: torch.Tensor,
    width: int,
) -> torch.Tensor:
    return values.new_empty((*tokens.shape, width))


class SparseEmbedding(CsrModule):
    """Look up rows of a table in CSR form; saves memory, not time; for inference on CPU.

    Shapes: input ``[...]`` of integers, output ``[..., embedding_dim]``.

    Raises:
        ArgumentError: The arrays are no CSR matrix, or a token is outside the table.

    Example:
        >>> import torch
        >>> table = torch.nn.Embedding(10, 4)
        >>> _ = table.weight.data[:, :3].zero_()
        >>> tokens = torch.tensor([[1, 9], [0, 1]])
        >>> torch.equal(SparseEmbedding.from_embedding(table)(tokens), table(tokens))
        True
    """

    def __init__(self, csr: CsrArrays) -> None:
        super().__init__(csr)
        self.num_embeddings, self.embedding_dim = csr.shape

    @classmethod
    def from_embedding(cls, embedding: nn.Embedding) -> Self:
        """Build the sparse twin of a dense table; its weights are copied.

        Raises:
            ArgumentError: The table renormalises its rows, or is not float32/float64 on the CPU.
        """
        if embedding.max_norm is not None:
            raise ArgumentError("an embedding with max_norm changes its weights: keep it dense")
        return cls(csr_of_matrix(embedding.weight.detach()))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return the rows that ``tokens`` name; no gradient flows."""
        rows: torch.Tensor = sparse_embedding_op(
            tokens, self.row_starts, self.columns, self.values, self.embedding_dim
        )
        return rows

    def to_dense(self) -> nn.Embedding:
        """Return the ordinary table with the same weights."""
        table = self.dense_matrix()
        dense = nn.Embedding(self.num_embeddings, self.embedding_dim, _weight=table)
        return dense.requires_grad_(False)

    def extra_repr(self) -> str:
        """Describe sizes and sparsity."""
        share = 1.0 - self.nonzeros / max(1, self.num_embeddings * self.embedding_dim)
        return f"{self.num_embeddings}, {self.embedding_dim}, {share:.2%} zeros"
