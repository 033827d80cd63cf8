"""What a scan is taken for by its content, what is refused, and what is said where that is forced."""

from __future__ import annotations

import json
import shutil
from functools import cache
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from samples import small_samples
from tiny import model_folder

from medrestore import Modality, RestoreOptions, read, restore, restore_file
from medrestore.cli import main
from medrestore.engine import load_model
from medrestore.engine.models.domain import Taken, admit, settled
from medrestore.engine.models.features import scan_features
from medrestore.engine.models.find import find_model
from medrestore.engine.models.recognise import NEITHER, Fitted, fitted, recognise
from medrestore.errors import DomainError, ModelError
from medrestore.files import read_header
from medrestore.geometry import Geometry
from medrestore.job.forecast import AssumedModality, assume_modality, forecast
from medrestore.options import FileOptions
from medrestore.plugin.spec import DOMAINS
from medrestore.training import anatomy
from medrestore.volume import Volume

ROOT = Path(__file__).resolve().parents[3]
HEAD = ROOT / "sample_data" / "colin27_crop.nii.gz"


@cache
def head() -> Volume:
    return read(HEAD)


@cache
def body() -> Volume:
    made = anatomy.torso(np.random.default_rng(21))
    noise = 15 * np.random.default_rng(1).standard_normal(made.hu.shape, dtype=np.float32)
    return Volume(made.hu + noise, Geometry(made.hu.shape, np.diag([*made.spacing, 1.0])))


def unsaid(array: np.ndarray, like: Volume | None = None) -> Volume:
    """Return voxels as a scan that does not say what it is."""
    return Volume(array, (like or head()).geometry)


def pictures() -> np.ndarray:
    from skimage import data

    picture = data.camera()[::4, ::4].astype(np.float32)
    return np.stack([picture] * 64, axis=-1)


def neither() -> dict[str, Volume]:
    """Return volumes that are of no domain, made of a head or of nothing."""
    rng, array = np.random.default_rng(3), head().array
    smooth = np.abs(rng.standard_normal((96, 96, 96), dtype=np.float32))
    return {
        "shuffled": unsaid(array[:, :, rng.permutation(array.shape[2])]),
        "noise": Volume(smooth, Geometry(smooth.shape, np.eye(4))),
        "picture": Volume(pictures(), Geometry(pictures().shape, np.eye(4))),
        "labels": unsaid(np.digitize(array, (20, 60, 90, 120)).astype(np.float32)),
    }


def test_a_head_and_a_body_are_recognised_without_being_named():
    for volume, domain in ((head(), "mr-head"), (body(), "ct")):
        seen = recognise(volume.array, volume.geometry)
        assert seen.best == domain and seen.names and seen.certainty > fitted().sure
        assert sum(seen.shares.values()) == pytest.approx(1)
        taken = settled([unsaid(volume.array, volume)], RestoreOptions())
        (finding,) = taken.findings
        assert taken.volumes[0].modality is DOMAINS[domain] and taken.seen == seen
        assert finding.code == "modality-recognised" and finding.data["certainty"] == seen.certainty


def test_neither_the_order_of_axes_nor_the_scale_of_mr_matters():
    seen = recognise(head().array, head().geometry).shares["mr-head"]
    for axes in ((1, 2, 0), (2, 1, 0)):
        affine = head().geometry.affine[:, [*axes, 3]]
        turned = head().array.transpose(axes)
        found = recognise(turned, Geometry(turned.shape, affine)).shares["mr-head"]
        assert found == pytest.approx(seen, abs=0.1)
    assert recognise(head().array * 37.5, head().geometry).shares["mr-head"] == pytest.approx(seen, abs=0.02)


@pytest.mark.parametrize("kind", ["shuffled", "noise", "picture", "labels"])
def test_what_is_neither_is_refused_whoever_names_it_and_run_where_it_is_forced(kind):
    volume = neither()[kind]
    with pytest.raises(DomainError, match=r"its content does not tell for sure|does not know such scans"):
        restore(volume)
    spec = find_model(RestoreOptions(model="mr-denoise"), Modality.MR)[1]
    with pytest.raises(DomainError, match=r"mr-denoise does not know such scans; .*--force"):
        admit(volume.as_modality("MR"), spec, force=False)
    forced = admit(volume.as_modality("MR"), spec, force=True)
    assert forced.findings[-1].code == "outside-domain"
    assert forced.facts["outside"] is True and forced.facts["expected"] == "mr-head"


def test_the_other_modality_is_refused():
    for volume, modality in ((body(), "MR"), (head(), "CT")):
        spec = find_model(RestoreOptions(model=f"{modality.lower()}-denoise"), Modality(modality))[1]
        with pytest.raises(DomainError, match="does not know such scans"):
            admit(volume.as_modality(modality), spec, force=False)


def test_scans_of_the_domain_are_admitted_and_the_record_says_by_how_much():
    spec = find_model(RestoreOptions(model="mr-denoise"), Modality.MR)[1]
    seen = admit(head(), spec, force=False)
    assert seen.findings == ()
    assert seen.facts["outside"] is False
    assert seen.facts["shares"]["mr-head"] > seen.facts["least"]
    assert set(seen.facts["shares"]) == {*DOMAINS, NEITHER}


def test_a_model_without_a_domain_refuses_nothing(tmp_path):
    spec = load_model(RestoreOptions(model=str(model_folder(tmp_path / "tiny")))).spec
    assert spec.domain is None
    found = admit(neither()["noise"].as_modality("MR"), spec, force=False)
    assert [one.code for one in found.findings] == ["slices-unrelated"] and found.facts == {}


def test_a_scan_of_few_voxels_is_not_recognised():
    few = Volume(head().array[:40, :40, :40], Geometry((40, 40, 40), np.eye(4)))
    assert recognise(few.array, few.geometry) is None
    assert settled([few], RestoreOptions()) == Taken((few,))
    with pytest.raises(ModelError, match="several models"):
        restore(few)


def test_what_is_said_or_named_is_not_looked_at(monkeypatch):
    monkeypatch.setattr("medrestore.engine.models.domain.recognise", None)
    assert settled([head().as_modality("CT")], RestoreOptions()).volumes[0].modality is Modality.CT
    assert settled([unsaid(head().array)], RestoreOptions(model="mr-denoise")).findings == ()


def test_constants_and_padding_are_no_error():
    for array in (
        np.zeros((64, 64, 64), np.float32),
        np.full((64, 64, 20), -3024.0),
        np.eye(64)[..., None] * np.ones(64),
    ):
        seen = recognise(np.asarray(array, np.float32), Geometry(array.shape, np.eye(4)))
        assert np.isfinite(list(seen.shares.values())).all()
        assert seen.shares[NEITHER] > 0.5 and not seen.names


def test_plan_and_restoration_agree_on_a_file_that_does_not_say(tmp_path):
    scan = tmp_path / "head.nii.gz"
    nib.save(nib.Nifti1Image(head().array, head().geometry.affine), scan)
    foreseen = forecast(read_header(scan), FileOptions())
    assert foreseen.model == "medrestore/mr-denoise" and foreseen.modality is Modality.MR
    assert [one.code for one in foreseen.findings] == ["modality-recognised"]
    assert assume_modality(read_header(scan), FileOptions(modality=Modality.CT)) == AssumedModality(
        Modality.CT
    )


def test_the_command_line_ends_with_5_and_the_batch_goes_on(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "scans"
    folder.mkdir()
    noise = neither()["noise"].array
    nib.save(nib.Nifti1Image(noise, np.eye(4)), folder / "noise.nii.gz")

    def run(*words: object) -> int:
        monkeypatch.setattr("sys.argv", ["medrestore", *map(str, words)])
        try:
            main()
        except SystemExit as ended:
            return int(ended.code or 0)
        return 0

    out = tmp_path / "out.nii.gz"
    assert run("restore", folder / "noise.nii.gz", "-o", out, "-q") == 5
    assert "its content does not tell for sure" in capsys.readouterr().err
    assert not out.exists()
    assert run("restore", folder / "noise.nii.gz", "-o", out, "--modality", "MR", "-q") == 5
    assert run("batch", folder, "-o", tmp_path / "results", "-q") == 3
    entries = [
        json.loads(line) for line in next(tmp_path.glob("results/**/ledger-*.jsonl")).read_text().splitlines()
    ]
    assert [(one["state"], one["kind"]) for one in entries][-1] == ("failed", "outside")


def test_what_breaks_a_rule_is_not_named():
    """By its looks a head in voxels that are too coarse is one; it does not say so, which leaves doubt."""
    coarse = Volume(head().array, Geometry(head().shape, np.diag([2.5, 2.5, 2.5, 1])))
    with pytest.raises(DomainError, match="its content does not tell for sure"):
        settled([coarse], RestoreOptions())


def test_a_scan_that_does_not_say_what_it_is_is_looked_at_once(tmp_path, monkeypatch):
    looks = []

    def looked(array: np.ndarray, grid: Geometry) -> dict[str, float]:
        looks.append(array.shape)
        return scan_features(array, grid)

    monkeypatch.setattr("medrestore.engine.models.recognise.scan_features", looked)
    scan = tmp_path / "head.nii.gz"
    nib.save(nib.Nifti1Image(head().array[:56, :56, :48], head().geometry.affine), scan)
    small = RestoreOptions(noise="5%")
    restore_file(scan, tmp_path / "out.nii.gz", small)
    assert len(looks) == 1
    restore(unsaid(head().array[:56, :56, :48], read(scan)), small)
    assert len(looks) == 2


def test_a_scan_goes_down_every_tree_and_what_it_does_not_show_is_of_the_mean():
    both = Fitted(
        features=("a", "b"),
        missing=np.array([0.0, 9.0]),
        roots=np.array([0, 3]),
        feature=np.array([0, -1, -1, 1, -1, -1]),
        threshold=np.array([1.0, 0, 0, 5.0, 0, 0]),
        beyond=np.array([2, 0, 0, 5, 0, 0]),
        shares=np.array([[0, 0], [1, 0], [0, 1], [0, 0], [1, 0], [0.5, 0.5]]),
        classes=("x", "y"),
        sure=0.9,
        least={},
    )
    assert both.of({"a": 0.0, "b": 0.0}) == {"x": 1.0, "y": 0.0}
    assert both.of({"a": 2.0, "b": 0.0}) == {"x": 0.5, "y": 0.5}
    assert both.of({"a": 1.0}) == {"x": 0.75, "y": 0.25}


@pytest.mark.slow
def test_the_samples_are_restored_as_a_folder_without_a_modality(tmp_path, monkeypatch):
    folder = small_samples(tmp_path / "scans")
    shutil.rmtree(folder / "dicom_rician5")  # it says what it is
    monkeypatch.setattr("sys.argv", ["medrestore", "batch", str(folder), "-o", str(tmp_path / "out"), "-q"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    for record in (tmp_path / "out").glob("*_restored.json"):
        told = json.loads(record.read_text())
        assert "modality-recognised" in [one["code"] for one in told["findings"]]
        assert told["domain"]["shares"]["mr-head"] > told["domain"]["least"]
