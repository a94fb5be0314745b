"""The measured tables of docs/deploy.md; page_tables.py puts them there."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from statistics import median
from typing import Any

from raw_results import data, percent, table, times

LEVELS = (0.9, 0.95, 0.99)
INT8 = "ONNX Runtime int8"
NETS = {
    "demo cnn": "the demo's CNN",
    "demo mlp": "MLP 784-300-100-10",
    "resnet20": "ResNet-20, 32x32",
    "resnet18 for 32x32": "ResNet-18, 32x32",
    "resnet18 at 224x224": "ResNet-18, 224x224",
    "block d=512, 16 tokens": "transformer block d=512, 16 tokens",
    "gated net at 96x96": "MobileNetV3 blocks with gates, 96x96",
    "residual net with mish": "residual net with Mish, 32x32 (regions)",
    "reader, 64 tokens": "encoder with tokens and mask, 64 tokens (regions)",
}


def gains(rows: list[Any], contender: str, **wanted: Any) -> list[float]:
    """Return the median gains of a contender over the best dense runtime of its run."""
    return [
        row["gain"]["median"]
        for row in rows
        if row["contender"] == contender and all(row[key] == wanted[key] for key in wanted)
    ]


def cells(rows: list[Any], levels: Iterable[float], **wanted: Any) -> list[str]:
    """Return our gain at each sparsity; a dash where a network was left out."""
    found = [gains(rows, "mirrormask", sparsity=level, **wanted) for level in levels]
    return [times(one[0]) if one else "-" for one in found]


def int8(rows: list[Any], **wanted: Any) -> str:
    found = gains(rows, INT8, **wanted)
    return times(median(found)) if found else "-"


def linear() -> str:
    block = data("inference_block")["rows"]
    lines = mlp(data("inference_mlp")["rows"])
    lines.append(["transformer block, 16 tokens", *cells(block, LEVELS), int8(block)])
    return table(["", "90 %", "95 %", "99 %", "dense int8"], lines)


def mlp(rows: list[Any]) -> list[list[str]]:
    return [
        [f"MLP, batch {batch}", *cells(rows, LEVELS, batch=batch), int8(rows, batch=batch)]
        for batch in (1, 8, 64)
    ]


def layers() -> str:
    lines = convolutions(data("inference_layers")["rows"])
    return table(["convolution", "batch", "90 %", "95 %", "99 %", "dense int8"], lines)


def convolutions(rows: list[Any]) -> list[list[str]]:
    names = dict.fromkeys(row["name"] for row in rows if row["name"].startswith("conv"))
    return [
        [
            name.removeprefix("conv "),
            str(batch),
            *cells(rows, LEVELS, name=name, batch=batch),
            int8(rows, name=name, batch=batch),
        ]
        for name in names
        for batch in (1, 16)
    ]


def elsewhere(folder: str, processor: str, *, whole: bool) -> str:
    """Return what the same scripts measured on another processor, of nets too if ``whole``."""
    lines = mlp(data(f"{folder}/inference_mlp")["rows"])
    found = convolutions(data(f"{folder}/inference_layers")["rows"])
    found += nets_of(data(f"{folder}/inference_nets")["rows"]) if whole else []
    for name, batch, *rest in found:
        lines.append([f"{name}, batch {batch}", *rest])
    return table([processor, "90 %", "95 %", "99 %", "dense int8"], lines)


def traffic() -> str:
    """Return what convolutions gain with images in memory, and with all of them at one place."""
    lines = []
    for row in data("image_traffic")["rows"]:
        gained = [
            times(row[name]["gain"]) for name in ("one image", "many images", "many at one place")
        ]
        lines.append([row["convolution"], percent(row["sparsity"]), *gained])
    return table(["convolution", "zeros", "one image", "16 images", "16 at one place"], lines)


def unsettled() -> str:
    """Return what the way to memory costs where turns do not settle."""
    cells = [
        f"{row['way']['median']:.2f} at {percent(row['sparsity'])}"
        for row in data("image_traffic")["unsettled"]
    ]
    return f"{', '.join(cells)} zeros"


def break_even() -> str:
    rows = [row for row in data("inference_layers")["rows"] if row["name"].startswith("linear")]
    levels = (0.6, 0.7, 0.8)
    lines = [[f"batch {n}", *cells(rows, levels, batch=n)] for n in (1, 8, 64)]
    return table(["linear 1024-4096", "60 %", "70 %", "80 %"], lines)


def nets() -> str:
    lines = nets_of(data("inference_nets")["rows"])
    return table(["net", "batch", "90 %", "95 %", "99 %", "dense int8"], lines)


def nets_of(rows: list[Any]) -> list[list[str]]:
    lines = []
    for name, label in NETS.items():
        for batch in (1, 16):
            if not any((row["name"], row["batch"]) == (name, batch) for row in rows):
                continue
            ours = cells(rows, LEVELS, name=name, batch=batch)
            lines.append([label, str(batch), *ours, int8(rows, name=name, batch=batch)])
    return lines


def harmless() -> str:
    rows = data("inference_harmless")["rows"]
    slowest = min(rows, key=lambda row: float(row["speedup"]))
    models = len({row["model"] for row in rows})
    kept = "the dense model was kept" if not slowest["faster"] else slowest["verdict"]
    return (
        f"{len(rows)} cases on {models} models: the slowest ran at {slowest['speedup']:.2f}x "
        f"({slowest['model']}, batch {slowest['batch']}; {kept})."
    )


def roofline() -> str:
    rows = data("roofline")["rows"]

    def share(kernel: str, level: float) -> str:
        (row,) = [row for row in rows if row["kernel"] == kernel and row["sparsity"] == level]
        return percent(row["share"])

    names = [
        name
        for name in dict.fromkeys(row["kernel"] for row in rows)
        if "batch 1 " not in name and not name.endswith("batch 1")
    ]
    lines = [[name, *[share(name, level) for level in LEVELS]] for name in names]
    return table(["share of the multiply-add peak", "90 %", "95 %", "99 %"], lines)


def scaling() -> str:
    rows = data("roofline")["threads"]
    return "; ".join(f"{row['kernel']} {row['two_threads']:.2f}x" for row in rows) + "."


def loads() -> str:
    rows = data("kernel_limits")["loads"]
    sizes = list(dict.fromkeys(row["kilobytes"] for row in rows))
    lines = []
    for aligned in (True, False):
        for vectors in dict.fromkeys(row["vectors"] for row in rows):
            found = {
                row["kilobytes"]: percent(row["share"])
                for row in rows
                if row["aligned"] == aligned and row["vectors"] == vectors
            }
            label = f"{vectors} vectors, {'aligned' if aligned else 'anywhere'}"
            lines.append([label, *[found[size] for size in sizes]])
    return table(["share of the peak, inputs of", *[f"{size} KB" for size in sizes]], lines)


def values() -> str:
    rows = data("kernel_limits")["values"]

    def gain(case: dict[str, Any], storage: str) -> str:
        found = {row["storage"]: row["microseconds"] for row in rows if matches(row, case)}
        return times(next(iter(found.values())) / found[storage]) if storage in found else "-"

    def matches(row: dict[str, Any], case: dict[str, Any]) -> bool:
        return all(row[key] == case[key] for key in ("inputs", "outputs", "sparsity", "batch"))

    lines: list[list[str]] = []
    for case in rows:
        label = f"{case['inputs']}-{case['outputs']}, {percent(case['sparsity'])} zeros"
        line = [label, str(case["batch"])]
        if not lines or lines[-1][:2] != line:
            kinds = ("index16 float32", "index16 float16", "index16 int8")
            lines.append([*line, *[gain(case, kind) for kind in kinds]])
    return table(["linear", "batch", "float32", "float16", "int8"], lines)


def memory() -> str:
    found = data("load_memory")
    added = found["packed_added_over_dense_weights"] * found["dense_weight_bytes"]
    return (
        f"At 95 % the {found['dense_weight_bytes'] / 1e6:.1f} MB MLP adds {added / 1e6:.1f} MB to "
        f"a fresh process, {found['packed_added_over_dense_weights']:.2f} of the dense weights, "
        f"and its peak while loading is {found['packed_peak_over_added']:.2f}x of that."
    )


def runtime() -> str:
    found = data("runtime_memory")
    return (
        f"The 95 % MLP 1024-4096-1024, saved in {found['file_bytes'] / 1e6:.1f} MB, takes "
        f"{found['above_bare_bytes'] / 1e6:.1f} MB above a bare Python with numpy, "
        f"{found['peak_above_bare_bytes'] / 1e6:.1f} MB at the peak, and gives its first output "
        f"{found['start_seconds']:.2f} s after the import began."
    )


PARTS: dict[str, Callable[[], str]] = {
    "memory": memory,
    "runtime": runtime,
    "linear": linear,
    "layers": layers,
    "xeon480": partial(elsewhere, "xeon480", "Xeon, newer", whole=True),
    "xeon": partial(elsewhere, "xeon", "Xeon", whole=False),
    "zen3": partial(elsewhere, "zen3", "Zen 3", whole=True),
    "traffic": traffic,
    "unsettled": unsettled,
    "nets": nets,
    "harmless": harmless,
    "roofline": roofline,
    "loads": loads,
    "scaling": scaling,
    "values": values,
    "break-even": break_even,
}
