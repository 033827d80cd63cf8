"""What can be asked for, as plain data: declared once for Python, for the verbs and for a node."""

from medrestore.options.declare import OptionInfo, declared_options
from medrestore.options.files import DTYPES, FileOptions, OutputFormat, OutputRequest
from medrestore.options.parse import names_a_plugin, parse_memory, parse_noise, parse_spacing
from medrestore.options.reading import ReadPolicy, ReadRequest
from medrestore.options.restore import RestoreOptions, Sampler

__all__ = [
    "DTYPES",
    "FileOptions",
    "OptionInfo",
    "OutputFormat",
    "OutputRequest",
    "ReadPolicy",
    "ReadRequest",
    "RestoreOptions",
    "Sampler",
    "declared_options",
    "names_a_plugin",
    "parse_memory",
    "parse_noise",
    "parse_spacing",
]
