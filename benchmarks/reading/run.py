"""Read the test files of other libraries, and say what those libraries make of them.

    python -m benchmarks.reading.run                              # test files of pydicom, pynetdicom, nibabel
    python -m benchmarks.reading.run --corpus highdicom=../highdicom-0.28.2/data/test_files
    python -m benchmarks.reading.run --restore                      # and restore each scan that is read

Every file is read by medrestore and by SimpleITK, and by nibabel where it is no DICOM; every folder with
DICOM series also by dcm2niix. Writes reading.md and reading.json to the folder given with --out.
"""

from __future__ import annotations

import argparse
import importlib.util
import shlex
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import medrestore
from benchmarks.harness.common import DOCS, describe_machine, write_page
from benchmarks.reading import tables
from benchmarks.reading.judges import Image, compare, dcm2niix, nibabel, ours, series_of, simple_itk
from medrestore import files
from medrestore.errors import MedrestoreError
from medrestore.io import is_dicom
from medrestore.options import FileOptions
from medrestore.types import Modality

PACKAGES = {"pydicom": "data", "pynetdicom": "tests", "nibabel": ""}
IMAGES = (".nii", ".nii.gz", ".mgz", ".mgh", ".hdr", ".img", ".nrrd", ".nhdr", ".mha", ".mhd", ".dcm", "")
# A restoration is tried on scans up to this many voxels: it is about survival, and not about speed.
MOST_VOXELS = 4_000_000


def corpora(named: list[str]) -> dict[str, Path]:
    """Return the folders of test files, by the name of the library."""
    found = {}
    for package, below in PACKAGES.items():
        spec = importlib.util.find_spec(package)
        if spec is not None and spec.origin is not None:
            found[package] = Path(spec.origin).parent / below
    return found | {name: Path(path) for name, _, path in (item.partition("=") for item in named)}


def images_in(folder: Path) -> Iterator[Path]:
    """Yield every file that may hold a scan, in the order of names."""
    for path in sorted(folder.rglob("*")):
        suffix = "".join(path.suffixes[-2:]) if path.name.endswith(".gz") else path.suffix
        if path.is_file() and (suffix.lower() in IMAGES or is_dicom(path)):
            yield path


def judge(mine: Image | str, theirs: Image | str) -> str:
    """Return in one word or sentence how two readers compare."""
    if isinstance(mine, str):
        return "neither" if isinstance(theirs, str) else "only there"
    return "only here" if isinstance(theirs, str) else compare(mine, theirs)


def file_rows(name: str, folder: Path) -> list[dict[str, Any]]:
    """Every file of a corpus beside every reader of its format."""
    rows = []
    for path in images_in(folder):
        mine = ours(path)
        about = {"corpus": name, "path": str(path.relative_to(folder)), "ours": _said(mine, folder)}
        peers = {"SimpleITK": simple_itk} if is_dicom(path) else {"SimpleITK": simple_itk, "nibabel": nibabel}
        rows += [about | {"peer": peer, "outcome": judge(mine, read(path))} for peer, read in peers.items()]
    return rows


def _said(found: Image | str, folder: Path) -> str:
    return found.replace(f"{folder}/", "") if isinstance(found, str) else "read"


def folder_rows(name: str, folder: Path) -> list[dict[str, Any]]:
    """Every series of every folder with DICOM files beside the images that dcm2niix makes of it."""
    rows = []
    for home in sorted({path.parent for path in images_in(folder) if is_dicom(path)}):
        theirs = dcm2niix(home)
        for title, mine in series_of(home).items():
            about = {
                "corpus": name,
                "path": f"{home.relative_to(folder)}, series {title}",
                "peer": "dcm2niix",
            }
            outcomes = [judge(mine, one) for one in theirs]
            # An image of another shape is of another series.
            near = [outcome for outcome in outcomes if not outcome.startswith("shape")]
            best = "equal" if "equal" in near else next(iter(near), judge(mine, "nothing"))
            rows.append(about | {"ours": _said(mine, folder), "outcome": best})
    return rows


def restored(name: str, folder: Path) -> list[dict[str, Any]]:
    """What a restoration of each file that is read ends with."""
    rows = []
    for path in images_in(folder):
        mine = ours(path)
        if isinstance(mine, str) or mine.voxels.size > MOST_VOXELS:
            continue
        rows.append({"corpus": name, "path": str(path.relative_to(folder)), "outcome": _restore(path)})
    return rows


def _restore(path: Path) -> str:
    with tempfile.TemporaryDirectory() as out:
        target = Path(out) / "out.nii.gz"
        try:
            stated = files.read_header(path).modality
            options = FileOptions(modality=Modality.MR if stated is Modality.UNKNOWN else None)
            medrestore.restore_file(path, target, options)
        except MedrestoreError as error:
            return f"refused: {str(error).replace(str(path.parent), '')}"
        except Exception as error:  # noqa: BLE001  this is what is looked for
            return f"FAILED: {type(error).__name__}: {error}"
        return "restored" if target.is_file() else "FAILED: no file"


def main() -> None:
    """Read, compare, write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--corpus", action="append", default=[], metavar="NAME=FOLDER")
    parser.add_argument("--restore", action="store_true", help="restore what is read, too")
    parser.add_argument("--out", type=Path, default=DOCS)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    report: dict[str, Any] = {"files": [], "folders": [], "restored": []}
    for name, folder in corpora(args.corpus).items():
        print(name, flush=True)
        report["files"] += file_rows(name, folder)
        report["folders"] += folder_rows(name, folder)
        report["restored"] += restored(name, folder) if args.restore else []
    packages = {"pydicom", "pynetdicom", "nibabel", "SimpleITK", "dcm2niix", *corpora(args.corpus)}
    report["setup"] = describe_machine(packages) | {
        "command": shlex.join(["python", "-m", "benchmarks.reading.run", *sys.argv[1:]])
    }
    write_page(args.out, "reading", report, tables.markdown(report))


if __name__ == "__main__":
    main()
