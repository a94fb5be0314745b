"""The theory lab: every statement about the dynamics, recomputed from the code that trains.

Needs the extra ``lab`` (SciPy, scikit-learn, matplotlib). Nothing here is imported by
``import mirrormask``.
"""
