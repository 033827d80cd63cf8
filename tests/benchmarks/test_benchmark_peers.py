"""The corrections that the benchmark gives its peers: a peer made worse than it is would be an overclaim."""

import numpy as np
import pytest
from medrestore_classical.filters import high_signal_corrected

from benchmarks.denoise import run as denoise
from benchmarks.denoise import tables
from benchmarks.denoise.methods import METHODS
from benchmarks.denoise.rician_vst import RicianVST
from medrestore.physics.mr_noise import add_rician

SIGMA = 2.0


def noisy(signal: float) -> np.ndarray:
    clean = np.full((60, 60, 60), signal, dtype=np.float32)
    return add_rician(clean, SIGMA, np.random.default_rng(0)).astype(np.float64)


@pytest.mark.parametrize("snr", [1, 2, 4, 10, 30])
def test_the_transform_stabilises_and_its_inverse_is_unbiased(snr):
    transform = RicianVST(SIGMA, 40 * SIGMA)
    stable = transform.forward(noisy(snr * SIGMA))
    assert stable.std() == pytest.approx(1, abs=0.12)
    restored = transform.inverse(np.full((1, 1, 1), stable.mean()))
    assert restored.item() == pytest.approx(snr * SIGMA, abs=0.06 * SIGMA)


@pytest.mark.parametrize("snr", [3, 5, 10])
def test_the_bias_correction_brings_the_mean_back(snr):
    mean = noisy(snr * SIGMA).mean(keepdims=True)
    corrected = high_signal_corrected(mean, SIGMA).item()
    assert abs(corrected - snr * SIGMA) < abs(mean.item() - snr * SIGMA) / 2


def test_every_peer_says_how_it_is_set():
    assert {"nlm", "tv", "ants", "bm4d"} <= METHODS.keys()
    assert all(method.settings and method.package for method in METHODS.values())


def report(methods: list[str], **changes: object) -> dict:
    setup = {"noise": "rician", "seed": 0, "gains": {}, "volumes": [{"name": "a"}], "packages": {}}
    setup["weights"] = {"medrestore/mr-denoise": "1"}
    setup |= {"date": "2026-01-01", "cpu": "one", "methods": {m: {"title": m} for m in methods}}
    runs = [
        {"method": m, "title": m, "level": level, "psnr_head": 30.0, "ssim_head": 0.9, "psnr_all": 31.0}
        | {"ssim_all": 0.9, "filter_s": 1.5, "peak_mb": 10.0, "notes": {}}
        for level in (3.0, 5.0)
        for m in methods
    ]
    return {"setup": setup | changes, "runs": runs}


def test_rows_of_an_earlier_page_are_kept_and_marked():
    old, new = report(["noisy", "nlm", "bm4d"]), report(["nlm", "ours-auto"], date="2026-02-02", cpu="two")
    new["runs"] = [run for run in new["runs"] if run["level"] == 3]
    denoise.keep(old, new)
    found = [(run["method"], run["level"], run.get("kept")) for run in new["runs"]]
    where = "2026-01-01, one"
    assert found == [
        ("noisy", 3.0, where),
        ("ours-auto", 3.0, None),
        ("nlm", 3.0, None),
        ("bm4d", 3.0, where),
    ]
    assert list(new["setup"]["methods"]) == ["noisy", "ours-auto", "nlm", "bm4d"]
    assert tables._row(new["runs"][3], None).count("1.5\\*") == 1
    assert "*" not in tables._row(new["runs"][2], None)


def test_rows_of_other_weights_are_not_kept():
    old, other = report(["bm4d", "ours-8"]), {"medrestore/mr-denoise": "2"}
    with pytest.raises(ValueError, match="ours-8 of the earlier report are of other weights"):
        denoise.keep(old, report(["nlm"], weights=other))
    denoise.keep(old, report(["ours-8"], weights=other))


def test_rows_of_another_noise_are_not_kept():
    with pytest.raises(ValueError, match="other seed"):
        denoise.keep(report(["bm4d"]), report(["nlm"], seed=1))
