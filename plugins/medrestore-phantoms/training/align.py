"""Take the noise of heads and brains, even out the coil, lay all upon one brain, and keep them at 1 mm.

    python training/align.py SHARED_DATA OUT

writes ``kind-name.npy`` of (224, 256, 224) float16 for every subject, RAS, white matter at about 1. What is
there already stays.
"""

from __future__ import annotations

import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk  # noqa: N813  as everybody calls it

from medrestore import RestoreOptions, restore, write

SIZE = (224, 256, 224)
REFERENCE = "niimath_brain_t1w_0p8mm"
HEADS = ("niivue_head_t1w_1mm", "pycortex_head_t1w_1mm", "studyforrest_t1w", "uih_head_t1w_1mm")
ABOVE_BRAIN_MM = 14.0
"""Skull, scalp and air above the reference brain."""

BRIGHTEST = 2.5


def subjects(data: Path, unpacked: Path) -> Iterator[tuple[str, str, Path]]:
    """Yield kind, name and scan of every subject."""
    mr = data / "mr"
    yield "brain", "niimath", mr / f"{REFERENCE}.nii.gz"
    for path in sorted((mr / "ds002748").glob("*.nii.gz")):
        yield "brain", f"b{path.name[4:6]}", path
    for name in HEADS:
        yield "head", name, mr / f"{name}.nii.gz"
    for path in sorted((mr / "ds000011").glob("*.nii.gz")):
        yield "head", f"d{path.name[4:6]}", path
    with tarfile.open(data / "dicom" / "mr_t1w_sagittal.tar.xz") as packed:
        packed.extractall(unpacked, filter="data")
    yield "head", "sag", unpacked / "mr_t1w_sagittal"


def without_noise(scan: Path, folder: Path) -> Any:
    """Return a scan restored by `mr-denoise`, in LPS: noise would be learned as anatomy, drawn as grain."""
    restored = restore(scan, RestoreOptions(model="mr-denoise"), modality="mr")
    path = folder / "restored.nii"
    write(restored.volume, path, overwrite=True)
    return _read(path)


def _read(path: Path) -> Any:
    return sitk.DICOMOrient(sitk.ReadImage(str(path), sitk.sitkFloat32), "LPS")


def head_mask(image: Any) -> Any:
    """Return the head without the noise of the air."""
    smooth = sitk.SmoothingRecursiveGaussian(image, 1.5)
    voxels = sitk.GetArrayViewFromImage(smooth)
    bright = sitk.GetArrayFromImage(sitk.OtsuThreshold(smooth, 0, 1, 128)) > 0
    mask = sitk.BinaryThreshold(smooth, float(0.12 * np.percentile(voxels[bright], 90)), 1e9)
    mask = sitk.BinaryMorphologicalClosing(mask, [4] * 3)
    largest = sitk.RelabelComponent(sitk.ConnectedComponent(mask)) == 1
    return sitk.BinaryFillhole(sitk.Cast(largest, sitk.sitkUInt8))


def evened(image: Any, mask: Any) -> Any:
    """Divide by the slow change of brightness that N4 finds (Tustison et al. 2010)."""
    filtering = sitk.N4BiasFieldCorrectionImageFilter()
    filtering.SetMaximumNumberOfIterations([30, 20, 10])
    filtering.Execute(sitk.Shrink(image, [4] * 3) + 1e-3, sitk.Shrink(mask, [4] * 3))
    # SimpleITK 2.5 divides in double precision.
    return sitk.Cast(image / sitk.Exp(filtering.GetLogBiasFieldAsImage(image)), sitk.sitkFloat32)


class Reference:
    """The brain that all are laid upon, and the grid that they are kept on."""

    def __init__(self, image: Any) -> None:
        self.image = sitk.SmoothingRecursiveGaussian(image, 1.0)
        self.mask = sitk.Cast(image > 20, sitk.sitkUInt8)
        shape = sitk.LabelShapeStatisticsImageFilter()
        shape.Execute(self.mask)
        self.centre = shape.GetCentroid(1)
        box = shape.GetBoundingBox(1)
        self.top = image.TransformIndexToPhysicalPoint([box[0], box[1], box[2] + box[5] - 1])[2]
        middle = (self.centre[0], self.centre[1] - 2, self.top + ABOVE_BRAIN_MM - 96)
        self.grid = sitk.Image(list(SIZE), sitk.sitkFloat32)
        self.grid.SetOrigin([float(c - (n - 1) / 2) for c, n in zip(middle, SIZE, strict=True)])
        self._upper = _middle_of_upper(self.mask, 62.0)

    def transform(self, image: Any, mask: Any, kind: str) -> Any:
        """Return the rotation, shift and scale that lay this brain upon another: mutual information."""
        method = sitk.ImageRegistrationMethod()
        method.SetMetricAsMattesMutualInformation(32)
        method.SetMetricSamplingStrategy(method.RANDOM)
        method.SetMetricSamplingPercentage(0.1, 1)
        grown = sitk.BinaryDilate(self.mask, [6] * 3)
        method.SetMetricFixedMask(grown if kind == "brain" else sitk.BinaryErode(self.mask, [1] * 3))
        method.SetInterpolator(sitk.sitkLinear)
        method.SetInitialTransform(self._start(image, mask, kind), inPlace=False)
        method.SetOptimizerAsRegularStepGradientDescent(2.0, 1e-3, 150, 0.5)
        method.SetOptimizerScalesFromPhysicalShift()
        method.SetShrinkFactorsPerLevel([4, 2])
        method.SetSmoothingSigmasPerLevel([3, 1.5])
        method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
        return method.Execute(self.image, image)

    def _start(self, image: Any, mask: Any, kind: str) -> Any:
        start = sitk.Similarity3DTransform()
        if kind == "brain":
            moments = sitk.CenteredTransformInitializerFilter.MOMENTS
            return sitk.CenteredTransformInitializer(self.image, image, start, moments)
        start.SetCenter([float(v) for v in self.centre])
        *middle, top = _middle_of_upper(mask, 70.0)
        shift = (middle[0] - self._upper[0], middle[1] - self._upper[1], top - 10 - self.top)
        start.SetTranslation([float(v) for v in shift])
        return start


def _middle_of_upper(mask: Any, depth_mm: float) -> tuple[float, float, float]:
    """Return X and Y of the middle of the upper part of a mask, and Z of its top, in mm."""
    small = sitk.Shrink(mask, [2] * 3)
    index = np.argwhere(sitk.GetArrayFromImage(small))[:, ::-1] * small.GetSpacing()
    at = index @ np.reshape(small.GetDirection(), (3, 3)).T + small.GetOrigin()
    top = at[:, 2].max()
    x, y, _ = at[at[:, 2] > top - depth_mm].mean(axis=0)
    return float(x), float(y), float(top)


def main(data: Path, out: Path) -> None:
    """Align all."""
    out.mkdir(parents=True, exist_ok=True)
    reference = Reference(_read(data / "mr" / f"{REFERENCE}.nii.gz"))
    on_grid = sitk.Resample(reference.mask, reference.grid, sitk.Transform(), sitk.sitkNearestNeighbor)
    brain = _ras(on_grid) > 0
    with tempfile.TemporaryDirectory() as unpacked:
        for kind, name, path in subjects(data, Path(unpacked)):
            target = out / f"{kind}-{name}.npy"
            if target.exists():
                continue
            scan = without_noise(path, Path(unpacked))
            least = 0.02 * float(sitk.GetArrayViewFromImage(scan).max())
            mask = head_mask(scan) if kind == "head" else sitk.Cast(scan > least, sitk.sitkUInt8)
            image = evened(scan, mask)
            same = name == "niimath"
            transform = sitk.Transform() if same else reference.transform(image, mask, kind)
            rim = sitk.Cast(sitk.BinaryDilate(mask, [1] * 3), sitk.sitkFloat32)
            image = image * sitk.SmoothingRecursiveGaussian(rim, 0.7)
            how = sitk.sitkBSpline if kind == "head" else sitk.sitkLinear
            array = _ras(sitk.Resample(image, reference.grid, transform, how, 0.0))
            array = np.clip(array / np.percentile(array[brain], 95), 0, BRIGHTEST)
            np.save(target, array.astype(np.float16))


def _ras(image: Any) -> np.ndarray[Any, Any]:
    return sitk.GetArrayFromImage(image).transpose(2, 1, 0)[::-1, ::-1].copy()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
