"""What can be asked for, as plain data: declared once for Python, for the verbs and for a node."""

from medrestore.options.batch import BatchRun, CaseSelection
from medrestore.options.calibrate import CalibrateOptions
from medrestore.options.declare import OptionInfo, declared_options
from medrestore.options.files import BOTH, DTYPES, MAPS, FileOptions, OutputRequest
from medrestore.options.generate import GenerateOptions
from medrestore.options.node import NodeOptions
from medrestore.options.parse import names_a_plugin, parse_memory, parse_noise, parse_spacing
from medrestore.options.reading import ReadPolicy, ReadRequest, Values
from medrestore.options.restore import RestoreOptions, Sampler

__all__ = [
    "BOTH",
    "BatchRun",
    "CalibrateOptions",
    "CaseSelection",
    "DTYPES",
    "FileOptions",
    "GenerateOptions",
    "MAPS",
    "NodeOptions",
    "OptionInfo",
    "OutputRequest",
    "ReadPolicy",
    "ReadRequest",
    "RestoreOptions",
    "Sampler",
    "Values",
    "declared_options",
    "names_a_plugin",
    "parse_memory",
    "parse_noise",
    "parse_spacing",
]
