"""Memory and time: predicted before, kept to, and refused where they cannot be had."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from tiny import SUPERRES, CommandLine, model_folder, noisy, phantom, save

from medrestore import Modality, RestoreOptions, Volume, restore
from medrestore.engine import load_model, single
from medrestore.engine.cost import budget, calibration
from medrestore.engine.machine import memory
from medrestore.engine.sampling.tiled_denoiser import StreamedDenoiser, plan_tiles
from medrestore.errors import ConfigError
from medrestore.job import run as restoring
from medrestore.options import parse_memory

COSTS = calibration.Calibration(300_000_000, 150.0, 5000.0, 1e-6, 1e-7)
CT = (512, 512, 800)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = model_folder(tmp_path_factory.mktemp("model") / "tiny")
    return load_model(RestoreOptions(model=str(folder), device="cpu"))


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(calibration, "_known", {})
    return tmp_path / "cache/medrestore/calibration"


@pytest.fixture
def known(monkeypatch):
    """Costs as those of a shipped model."""
    monkeypatch.setattr(budget, "calibration", lambda *_: COSTS)


def scan(size=32):
    return Volume.from_array(noisy(phantom(size), 0.05), modality=Modality.MR)


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("6GB", 6e9),
        ("6gb", 6e9),
        ("1.5 GiB", 1.5 * 2**30),
        ("800M", 8e8),
        ("512MiB", 2**29),
        (123, 123),
        ("7b", 7),
    ],
)
def test_amounts_of_memory_are_read(text, amount):
    assert parse_memory(text) == amount
    assert RestoreOptions(max_memory=text).max_memory == text


@pytest.mark.parametrize("text", ["", "lots", "-1GB", "0", "6 GBs", "1e9", "nan", "6.5.1GB"])
def test_what_is_no_amount_is_refused(text):
    with pytest.raises(ConfigError, match=r"max_memory is .*'6GB'"):
        RestoreOptions(max_memory=text)


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize(
    ("membership", "files", "limits"),
    [
        (
            "0::/a/b\n",
            {"a/b/memory.max": "max", "a/memory.max": "3000\n", "memory.max": "max"},
            [3000],
        ),
        ("0::/not/seen/here\n", {"memory.max": "2000"}, [2000]),
        (
            "5:cpu,memory:/job\n4:pids:/job\n",
            {"memory/job/memory.limit_in_bytes": "10", "memory/memory.limit_in_bytes": "9223372036854771712"},
            [10, 9223372036854771712],
        ),
        ("4:pids:/job\n", {"pids/job/memory.max": "1"}, []),
    ],
)
def test_limits_of_control_groups_are_found(tmp_path, membership, files, limits):
    root = tree(tmp_path, {"cgroup": membership, **{f"fs/{name}": text for name, text in files.items()}})
    assert list(memory._cgroup_limits(root / "cgroup", root / "fs")) == limits


def test_the_smaller_of_what_is_free_and_what_is_allowed_counts(monkeypatch):
    monkeypatch.setattr(memory, "_free_bytes", lambda: 10_000_000_000)
    monkeypatch.setattr(memory, "resident_bytes", lambda: 1_000_000_000)
    monkeypatch.setattr(memory, "_cgroup_limits", lambda *_: iter([]))
    assert memory.usable_bytes() == 8_800_000_000
    monkeypatch.setattr(memory, "_cgroup_limits", lambda *_: iter([5_000_000_000, 7_000_000_000]))
    assert memory.usable_bytes() == 4_000_000_000


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux tells the peak and forgets it")
def test_the_peak_is_seen_and_can_be_forgotten():
    assert memory.reset_peak()
    before = memory.peak_bytes()
    block = np.ones(50_000_000, dtype=np.uint8)
    # What was free before is taken first, and counts no more than once.
    assert memory.peak_bytes() >= before + 0.9 * block.nbytes
    del block
    memory.reset_peak()
    assert memory.peak_bytes() < before + 25_000_000


def told(model, shape=CT, **options):
    return budget.predict(shape, RestoreOptions(**options), model=model)


def test_less_memory_means_smaller_tiles_and_more_time(model, monkeypatch):
    monkeypatch.setattr(budget, "calibration", lambda *_: replace(COSTS, column_bytes=20_000.0))
    limits = ("100GB", "11GB", "9GB", "8GB")
    plans = [told(model, max_memory=limit) for limit in limits]
    assert all(plan.streamed for plan in plans)
    assert plans[0].tile == 800
    for (more, less), limit in zip(pairwise(plans), limits[1:], strict=True):
        assert less.tile < more.tile
        assert less.seconds >= more.seconds
        assert less.peak_bytes <= parse_memory(limit)
    assert plans[-1].seconds > plans[1].seconds > plans[0].seconds


@pytest.mark.usefixtures("known")
def test_the_default_depends_on_the_shape_alone_where_it_fits(model):
    assert told(model, max_memory="20GB") == told(model, max_memory="200GB")
    small = told(model, shape=(180, 220, 180), max_memory="20GB")
    assert (small.streamed, small.tile) == (False, 220)
    assert told(model, shape=(180, 220, 180), max_memory="1.2GB").streamed


@pytest.mark.usefixtures("known")
def test_the_formula_is_the_one_of_the_documentation(model):
    plan = told(model, shape=(96, 96, 96), max_memory="9GB")
    voxels = 96**3
    assert plan.peak_bytes == pytest.approx(3e8 + max(4 * 4 * voxels + 150 * voxels, 9 * 4 * voxels, 220e6))
    assert plan.seconds == pytest.approx(voxels * (1e-7 + 1e-6))
    sampled = told(model, shape=(96, 96, 96), max_memory="9GB", samples=2, steps=5)
    assert sampled.seconds == pytest.approx(voxels * (1e-7 + 19 * 1e-6))
    assert sampled.peak_bytes > plan.peak_bytes
    tile = 64
    parts = plan_tiles((96, 96, 96), tile, model.spec.halo, model.spec.multiple)
    outer = sum(math.prod(s.stop - s.start for s in part.outer) for part in parts)
    assert told(model, shape=(96, 96, 96), tile=tile, max_memory="9GB").seconds == pytest.approx(
        voxels * 1e-7 + outer * 1e-6
    )


@pytest.mark.usefixtures("known")
def test_slices_that_are_cleaned_first_take_longer_and_no_less_memory(tmp_path):
    folder = model_folder(tmp_path / "fine", **SUPERRES)
    named = model_folder(tmp_path / "cleaned", **SUPERRES, denoise_with="medrestore/mr-denoise")
    scan_voxels = 96 * 96 * 32
    plain, cleaned = (
        budget.predict(
            (96, 96, 96), RestoreOptions(model=str(one)), beside=budget.Beside(scan_voxels=scan_voxels)
        )
        for one in (folder, named)
    )
    more = scan_voxels * (COSTS.network_seconds + COSTS.other_seconds)
    assert cleaned.seconds == pytest.approx(plain.seconds + more)
    assert cleaned.peak_bytes >= plain.peak_bytes


@pytest.mark.usefixtures("known")
def test_what_cannot_fit_is_refused_before_anything_is_done(model, monkeypatch):
    def refuse(*_: object) -> None:
        raise AssertionError("began")

    monkeypatch.setattr(single, "measured", refuse)
    with pytest.raises(
        ConfigError, match=r"32 x 32 x 32 voxels take [01]\.\d\d GB .* 0\.20 GB may be taken \(--max-me"
    ):
        restore(scan(), RestoreOptions(max_memory="200MB"), model=model)


def test_costs_are_measured_once_and_kept(model, cache, monkeypatch):
    measured = []
    real = calibration.measure
    monkeypatch.setattr(calibration, "measure", lambda m: measured.append(m) or real(m))
    first = calibration.calibration(RestoreOptions(), model=model)
    assert first.network_seconds > 0 and first.other_seconds > 0
    assert first.tile_bytes > 4
    assert first.column_bytes is not None and first.column_bytes > 0
    (stored,) = cache.iterdir()
    assert json.loads(stored.read_text())["network_seconds"] == first.network_seconds
    monkeypatch.setattr(calibration, "_known", {})  # as in another process
    assert calibration.calibration(RestoreOptions(), model=model) == first
    assert len(measured) == 1
    stored.write_text("{not json")
    monkeypatch.setattr(calibration, "_known", {})
    calibration.calibration(RestoreOptions(), model=model)
    assert len(measured) == 2


def test_without_a_place_to_keep_them_costs_are_measured_once_a_process(model, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr(calibration, "_known", {})
    measured = []
    monkeypatch.setattr(calibration, "measure", lambda m: measured.append(m) or COSTS)
    assert [calibration.calibration(RestoreOptions(), model=model) for _ in range(2)] == [COSTS, COSTS]
    assert len(measured) == 1


def test_a_small_scan_is_not_worth_a_measurement(model, cache, monkeypatch):
    monkeypatch.setattr(calibration, "measure", lambda _: pytest.fail("measured"))
    assert restore(scan(), model=model).record.predicted == {}
    assert not cache.exists()


def test_the_record_has_the_prediction_beside_the_outcome(model, monkeypatch):
    monkeypatch.setattr(budget, "calibration", lambda *_: COSTS)
    record = restore(scan(), RestoreOptions(max_memory="30GB"), model=model).record
    assert set(record.predicted) == {"peak_memory_mb", "seconds", "tile", "streamed"}
    assert record.predicted["tile"] == 32
    assert record.peak_memory_mb > 50
    assert type(record).from_json(record.to_json()) == record


def test_a_stream_gives_the_result_of_the_whole(model, monkeypatch):
    """Through `restore`, and with samples, whose noise is keyed to the volume."""
    monkeypatch.setattr(budget, "calibration", lambda *_: COSTS)
    asked = {"samples": 2, "steps": 2, "sampler": "euler", "max_memory": "30GB"}
    whole = restore(scan(40), RestoreOptions(**asked), model=model)
    monkeypatch.setattr(budget, "WHOLE_VOXELS", 0)
    calls = []
    real = StreamedDenoiser._estimates
    monkeypatch.setattr(StreamedDenoiser, "_estimates", lambda *a: calls.append(a) or real(*a))
    streamed = restore(scan(40), RestoreOptions(**asked), model=model)
    assert streamed.record.predicted["streamed"] and len(calls) == 5
    scale = float(whole.volume.array.max())
    np.testing.assert_allclose(streamed.volume.array, whole.volume.array, atol=1e-5 * scale)
    np.testing.assert_allclose(streamed.std.array, whole.std.array, atol=1e-5 * scale)


def test_the_command_line_takes_the_limit_and_refuses_before_it_reads(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(budget, "calibration", lambda *_: COSTS)
    cli = CommandLine(monkeypatch, capsys)
    source, folder = save(tmp_path / "sub_T1w.nii", noisy(phantom(24), 0.05)), model_folder(tmp_path / "tiny")
    arguments = ("restore", source, "-o", tmp_path / "out.nii", "--model", folder)
    with monkeypatch.context() as blind:
        blind.setattr(restoring, "read_volumes", lambda *_, **__: pytest.fail("read"))
        status, _, errors = cli(*arguments, "--max-memory", "100MB")
    assert (status, (tmp_path / "out.nii").exists()) == (2, False)
    assert "0.10 GB may be taken (--max-memory)" in " ".join(errors.split())
    assert cli(*arguments, "--max-memory", "20GB")[0] == 0
    predicted = json.loads((tmp_path / "out.json").read_text())["predicted"]
    assert predicted["seconds"] == pytest.approx(24**3 * 1.1e-6)


CHILD = """
import json, sys
import numpy as np
from medrestore import Modality, RestoreOptions, Volume, restore
from medrestore.engine.machine.memory import reset_peak
shape = (300, 300, 282)
array = np.empty(shape, dtype=np.float32, order="F")
rng = np.random.default_rng(0)
x, y = np.meshgrid(np.linspace(-1, 1, shape[0]), np.linspace(-1, 1, shape[1]), indexing="ij")
body = np.where(x**2 + y**2 < 0.8, 40.0, -1000.0)
for k in range(shape[2]):
    array[:, :, k] = body + 20 * rng.standard_normal(shape[:2])
scan = Volume.from_array(array, modality=Modality.CT)
record = restore(scan, RestoreOptions(model=sys.argv[1], device="cpu", max_memory="2.5GB")).record
print(json.dumps({"peak": record.peak_memory_mb, "predicted": record.predicted, "timings": record.timings}))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux tells the peak")
def test_a_large_scan_stays_within_what_was_promised(tmp_path):
    folder = model_folder(
        tmp_path / "tiny-ct", modalities=["CT"], intensity="attenuation", spacing_mm=[0.4, 5.0]
    )
    environment = {"XDG_CACHE_HOME": str(tmp_path), "OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(folder)],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    voxels = 300 * 300 * 282
    assert found["predicted"]["streamed"]
    assert found["peak"] <= 1.1 * found["predicted"]["peak_memory_mb"]
    # Five and a half volumes in float32, and half a gigabyte for the process: no copy too many.
    assert found["peak"] * 1e6 <= 22 * voxels + 5e8
