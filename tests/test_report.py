"""The report: totals, table, JSON there and back."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mirrormask.errors import DataError
from mirrormask.report import SparsityReport, TensorSparsity

PROPERTY = settings(derandomize=True, deadline=None, max_examples=100)


def report(**changes: object) -> SparsityReport:
    fields: dict = {
        "method": "pilot",
        "steps": 1200,
        "asked": 0.75,
        "asked_zeros": 900,
        "tensors": (
            TensorSparsity(name="0.weight", shape=(40, 25), weights=1000, zeros=800, flops=2000),
            TensorSparsity(name="2.weight", shape=(10, 20), weights=200, zeros=100, flops=400),
        ),
        "other_weights": 50,
        "other_zeros": 10,
        "flops": 2500,
    }
    return SparsityReport(**fields | changes)


def test_totals() -> None:
    result = report()
    assert (result.weights, result.zeros) == (1200, 900)
    assert result.achieved == 0.75
    assert result.achieved_overall == 910 / 1250
    assert [t.sparsity for t in result.tensors] == [0.8, 0.5]
    # 80 % of 2000 and half of 400 are saved of 2500 in all.
    assert result.flops_left == pytest.approx(1 - 1800 / 2500)


def test_flops_are_unknown_without_data() -> None:
    result = report(flops=None)
    assert result.flops_left is None
    assert "FLOPs" not in str(result)


def test_table_is_this() -> None:
    assert str(report()) == "\n".join(
        [
            "tensor          shape  weights  zeros  sparsity",
            "-----------------------------------------------",
            "0.weight        40x25    1,000    800      80 %",
            "2.weight        10x20      200    100      50 %",
            "-----------------------------------------------",
            "targeted                 1,200    900      75 %",
            "all parameters           1,250    910    72.8 %",
            "asked 75 % = 900 zeros: exact",
            "FLOPs left per forward pass: 28 %",
        ]
    )


def test_surplus_zeros_are_told() -> None:
    assert "asked 50 % = 600 zeros: 300 more are zero by themselves" in str(
        report(asked=0.5, asked_zeros=600)
    )


@pytest.mark.parametrize("n", [10, 1000, 10**6, 3 * 10**7])
def test_a_tensor_with_one_weight_left_is_not_called_empty(n: int) -> None:
    tensor = TensorSparsity(name="w", shape=(n,), weights=n, zeros=n - 1)
    text = str(report(tensors=(tensor,), asked=1 - 1 / n, asked_zeros=n - 1))
    assert " 100 %" not in "\n".join(text.splitlines()[:-1])  # the last line is on FLOPs
    almost_dense = TensorSparsity(name="w", shape=(n,), weights=n, zeros=1)
    row = str(report(tensors=(almost_dense,), asked=1 / n, asked_zeros=1)).splitlines()[2]
    assert not row.endswith("  0 %")


names = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1, max_size=20)


@st.composite
def reports(draw: st.DrawFn) -> SparsityReport:
    tensors = []
    for name in draw(st.lists(names, min_size=1, max_size=4)):
        shape = tuple(draw(st.lists(st.integers(1, 9), min_size=1, max_size=4)))
        weights = 1
        for side in shape:
            weights *= side
        zeros = draw(st.integers(0, weights))
        flops = draw(st.none() | st.integers(0, 10**12))
        tensors.append(
            TensorSparsity(name=name, shape=shape, weights=weights, zeros=zeros, flops=flops)
        )
    others = draw(st.integers(0, 100))
    return report(
        tensors=tuple(tensors),
        asked=draw(st.floats(0, 1, exclude_max=True)),
        asked_zeros=draw(st.integers(0, 100)),
        other_weights=others,
        other_zeros=draw(st.integers(0, others)),
        flops=draw(st.none() | st.integers(1, 10**12)),
    )


@PROPERTY
@given(reports())
def test_json_round_trip_and_a_table_for_every_report(result: SparsityReport) -> None:
    text = result.to_json()
    assert SparsityReport.from_json(text) == result
    fields = json.loads(text)
    assert fields["achieved"] == result.achieved
    assert fields["achieved_overall"] == result.achieved_overall
    assert fields["flops_left"] == result.flops_left
    assert len(str(result)) > 0


@pytest.mark.parametrize(
    "text",
    [
        "",
        report().to_json()[:200],
        "[]",
        "{}",
        '{"method": "pilot"}',
        report().to_json().replace('"zeros"', '"nulls"'),
        report().to_json().replace('"steps": 1200,', ""),
    ],
)
def test_damaged_json_is_refused_in_one_sentence(text: str) -> None:
    with pytest.raises(DataError, match=r"This is no sparsity report \(.*\): read what to_json"):
        SparsityReport.from_json(text)
