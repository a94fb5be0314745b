"""Adapters, where a training framework leaves no other way. Each module needs its framework.

What ``sparsify`` returns is a ``torch.optim.Optimizer``: Accelerate, plain loops and most of
Lightning need nothing from here.
"""
