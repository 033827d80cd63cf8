"""NRRD and MetaImage through SimpleITK, whose LPS+ becomes RAS+."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from medrestore import ReadRequest, Volume
from medrestore.errors import ConfigError, GeometryError, InputError, OutputError
from medrestore.findings import PLACE_NOT_STATED
from medrestore.geometry import Geometry, lps_to_ras
from medrestore.plugin import Format, ScanHeader, StoredVoxels, encode, header_by_name, volumes_of
from medrestore_formats import text
from medrestore_formats.packed import check_stream, truncated

TYPES = ("float32", "float64", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64")
UNPLACED = PLACE_NOT_STATED.found(
    "the header does not say how the scan lies in space: which side is left is not known"
)
_SERIES = {"list", "time"}
_COMPRESSION = 1


@dataclass(frozen=True)
class _Kind:
    """One of the two formats.

    Attributes:
        name: What the source of a volume says.
        reader: What SimpleITK calls its reader and writer.
        parse: Reads the text of its header.
        placed: Fields of which one says how a scan lies in space.
    """

    name: str
    reader: str
    parse: text.Parse
    placed: frozenset[str]


@dataclass(frozen=True)
class _Own:
    """What is read of a header once.

    Attributes:
        header: Its text.
        reader: Of SimpleITK, which has read it.
        declared: Bytes of voxels.
    """

    header: text.TextHeader
    reader: Any
    declared: int


NRRD = _Kind("nrrd", "NrrdImageIO", text.nrrd_header, frozenset({"space"}))
META = _Kind(
    "mha", "MetaImageIO", text.meta_header, frozenset({"transformmatrix", "rotation", "orientation"})
)


def is_nrrd(path: Path) -> bool:
    """Whether a file begins as a NRRD file or header."""
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        return stream.read(7) == b"NRRD000"


def read_header(kind: _Kind, path: Path, _: ReadRequest) -> ScanHeader:
    """Read grid and number of volumes; voxels are not touched.

    Raises:
        InputError: It is no such header, what it names is missing or too short, or its voxels are no scan.
        GeometryError: It has no usable place in space.
    """
    stated = kind.parse(path)
    text.check_data(stated)
    sitk, reader = _sitk(), _reader(kind, path)
    with _quiet(sitk):
        try:
            reader.ReadImageInformation()
        except RuntimeError as error:
            raise InputError(
                f"{path}: no {kind.name} header, or a damaged one; get the file again"
            ) from error
    series = _components(path, reader, sitk)
    sizes = reader.GetSize()
    volumes = (sizes[3] if len(sizes) > 3 else 1) * series
    voxel = sitk.Image(
        [1, 1], reader.GetPixelIDValue(), reader.GetNumberOfComponents()
    ).GetSizeOfPixelComponent()
    declared = math.prod(sizes) * series * voxel
    text.check_size(stated, declared)
    try:
        geometry = _geometry(reader)
    except GeometryError as error:
        raise GeometryError(f"{path}: unusable place in the header: {error}") from error
    return header_by_name(path, geometry, volumes, _Own(stated, reader, declared))


def read(kind: _Kind, header: ScanHeader) -> tuple[Volume, ...]:
    """Read every volume.

    Raises:
        InputError: Voxels are missing, damaged or not finite.
    """
    own: _Own = header.own
    if own.header.deflated:
        check_stream(header.path, *own.header.source)
    sitk = _sitk()
    with _quiet(sitk):
        try:
            image = own.reader.Execute()
        except RuntimeError as error:
            data, start = own.header.source
            raise truncated(header.path, own.declared, data.stat().st_size - start) from error
    voxels = sitk.GetArrayFromImage(image)  # axes the other way round, components last
    if image.GetNumberOfComponentsPerPixel() > 1:
        voxels = np.moveaxis(voxels, -1, 0)
    stack = voxels.reshape(header.volumes, *header.geometry.shape[::-1])
    details = {"dtype": voxels.dtype.name, "slope": 1.0, "inter": 0.0}
    notes = {} if _is_placed(kind, own.header) else {"findings": [UNPLACED.as_json()]}
    read_from = text.files(kind.parse, header.path)
    return volumes_of(header, kind.name, (one.T for one in stack), read_from, {**details, **notes})


def write(kind: _Kind, volumes: Sequence[Volume], path: Path, dtype: str) -> StoredVoxels:
    """Write volumes to one file, compressed; a series of NRRD has an axis of kind ``list``.

    Raises:
        OutputError: The type is none of the format's.
    """
    sitk = _sitk()
    arrays, stored = encode(volumes, dtype, TYPES)
    listed = kind is NRRD and len(arrays) > 1
    writer = sitk.ImageFileWriter()
    writer.SetImageIO(kind.reader)
    writer.SetFileName(_name(path, OutputError))
    writer.UseCompressionOn()
    writer.SetCompressionLevel(_COMPRESSION)
    try:
        writer.Execute(_image(sitk, arrays, volumes[0].geometry, listed))
    except RuntimeError:
        with path.open("ab") as stream:  # what SimpleITK does not say, the system does: a full disk
            stream.write(bytes(1 << 20))
        raise
    if listed:  # ITK has no word for it, and calls the volumes of a series the components of a vector
        whole = path.read_bytes()
        path.write_bytes(whole.replace(b"\nkinds: vector ", b"\nkinds: list ", 1))
    return stored


def _components(path: Path, reader: Any, sitk: Any) -> int:
    """Return how many volumes are stored as components of each voxel: more than 1 in NRRD lists alone."""
    components, axes = reader.GetNumberOfComponents(), reader.GetDimension()
    key = "NRRD_kinds[pixel]"
    kind = reader.GetMetaData(key) if reader.HasMetaDataKey(key) else ""
    if reader.GetPixelIDValue() in {sitk.sitkComplexFloat32, sitk.sitkComplexFloat64}:
        raise InputError(
            f"{path}: voxels are complex, expected real numbers; take the magnitude of them first"
        )
    if components > 1 and (kind not in _SERIES or axes > 3):
        raise InputError(
            f"{path}: {components} numbers for each voxel (colour, a vector or a tensor), expected one; "
            "split them into files of their own"
        )
    if axes not in {2, 3, 4}:
        raise InputError(f"{path}: {axes} axes; expected an image, a volume or a series of volumes")
    return int(components)


def _geometry(reader: Any) -> Geometry:
    """Return the grid of one volume, RAS+; an image is a volume of one slice, 1 mm thick."""
    axes = reader.GetDimension()
    used = min(axes, 3)
    direction = np.reshape(reader.GetDirection(), (axes, axes))
    if axes > used and (np.any(direction[:used, used:]) or np.any(direction[used:, :used])):
        raise GeometryError("the axis of time is not apart from those of space")
    affine = np.eye(4)
    affine[:used, :used] = direction[:used, :used] * np.asarray(reader.GetSpacing())[:used]
    affine[:used, 3] = reader.GetOrigin()[:used]
    return Geometry((*reader.GetSize()[:used], *[1] * (3 - used)), lps_to_ras(affine))


def _image(sitk: Any, arrays: Sequence[np.ndarray[Any, Any]], geometry: Geometry, listed: bool) -> Any:
    """Return an image of SimpleITK: of three axes, of components for a list, else of four."""
    slices = [np.ascontiguousarray(array.T) for array in arrays]
    if len(slices) == 1:
        image = sitk.GetImageFromArray(slices[0])
    else:
        image = sitk.GetImageFromArray(np.stack(slices, axis=-1 if listed else 0), isVector=listed)
    grid, axes = Geometry(geometry.shape, lps_to_ras(geometry.affine)), image.GetDimension()
    direction = np.eye(axes)
    direction[:3, :3] = grid.direction
    image.SetSpacing([*grid.spacing, 1.0][:axes])
    image.SetOrigin([*grid.origin, 0.0][:axes])
    image.SetDirection(direction.ravel().tolist())
    return image


def _is_placed(kind: _Kind, header: text.TextHeader) -> bool:
    stated = [header.fields[name] for name in kind.placed if name in header.fields]
    return bool(stated) and not stated[0].lower().startswith(("scanner", "3d-"))


def _reader(kind: _Kind, path: Path) -> Any:
    reader = _sitk().ImageFileReader()
    reader.SetImageIO(kind.reader)
    reader.SetFileName(_name(path, InputError))
    return reader


def _name(path: Path, error: type[InputError] | type[OutputError]) -> str:
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise error(f"{path}: its name is no UTF-8, under which SimpleITK opens no file; rename it") from None
    return str(path)


@contextmanager
def _quiet(sitk: Any) -> Iterator[None]:
    """Keep the warnings of ITK from the terminal: they quote headers."""
    before = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(before)


def _sitk() -> Any:
    try:
        import SimpleITK
    except ImportError as error:
        raise ConfigError("SimpleITK is not installed; run: pip install SimpleITK") from error
    return SimpleITK


def _format(kind: _Kind, name: str, suffix: str, *, written: bool) -> Format:
    return Format(
        name=name,
        suffixes=(suffix,),
        header=partial(read_header, kind),
        read=partial(read, kind),
        recognises=is_nrrd if name == "nrrd" else None,
        write=partial(write, kind) if written else None,
        files=partial(text.files, kind.parse),
    )


FORMATS = {
    "nrrd": _format(NRRD, "nrrd", ".nrrd", written=True),
    "nhdr": _format(NRRD, "nhdr", ".nhdr", written=False),
    "mha": _format(META, "mha", ".mha", written=True),
    "mhd": _format(META, "mhd", ".mhd", written=False),
}
