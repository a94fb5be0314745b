"""Deployment: plain models with zeros become small files and fast CPU models, or say why not.

This room knows nothing of training: it meets the rest only in a plain model with zeros.
"""

from mirrormask.deploy.file_report import FileReport
from mirrormask.deploy.pack import inspect, load, pack_file, save, unpack_file

__all__ = ["FileReport", "inspect", "load", "pack_file", "save", "unpack_file"]
