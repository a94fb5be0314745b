"""Deployment: plain models with zeros become small files and fast CPU models, or say why not.

This room knows nothing of training: it meets the rest only in a plain model with zeros.
"""

from mirrormask.deploy.bench_report import BenchReport, BenchRow
from mirrormask.deploy.benchmark import BenchOptions, bench
from mirrormask.deploy.compiling import CompileOptions, compile, speed_report
from mirrormask.deploy.export import ExportReport, export_model
from mirrormask.deploy.file_report import FileReport, FileRow
from mirrormask.deploy.pack import inspect, load, pack_file, save, unpack_file
from mirrormask.deploy.program_saving import ProgramReport, save_program
from mirrormask.deploy.sparse_conv import SparseConv1d, SparseConv2d
from mirrormask.deploy.sparse_embedding import SparseEmbedding
from mirrormask.deploy.sparse_linear import SparseLinear
from mirrormask.deploy.sparse_loading import load_sparse
from mirrormask.deploy.speed import LayerSpeed, Plan, SpeedReport

__all__ = [
    "BenchOptions",
    "BenchReport",
    "BenchRow",
    "CompileOptions",
    "ExportReport",
    "FileReport",
    "FileRow",
    "LayerSpeed",
    "Plan",
    "ProgramReport",
    "SparseConv1d",
    "SparseConv2d",
    "SparseEmbedding",
    "SparseLinear",
    "SpeedReport",
    "bench",
    "compile",
    "export_model",
    "inspect",
    "load",
    "load_sparse",
    "pack_file",
    "save",
    "save_program",
    "speed_report",
    "unpack_file",
]
