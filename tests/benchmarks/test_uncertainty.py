"""A page of the worth of samples that goes on with what it has of other tasks."""

from __future__ import annotations

from benchmarks.uncertainty.run import kept
from benchmarks.uncertainty.tables import markdown


def report(task: str, digest: str) -> dict:
    run = {"volume": "a.nii", "task": task, "model": f"m-{task}", "seconds": 1.0, "steps": 10, "curve": []}
    run |= {"error_over_deviation": 1.0, "rank_voxels": 0.5, "rank_cubes": 0.8, "within_two": 0.9, "bins": []}
    setup = {
        "command": f"run {task}",
        "weights": {f"m-{task}": digest},
        "cases": {task: "noise"},
        "volumes": [],
    }
    setup |= {"samples": 8, "sampler": "heun", "seed": 0, "cube": 5, "cpu": "c", "cores": 2, "threads": 1}
    return {"setup": {**setup, "system": "s", "python": "3", "date": "2026-01-01"}, "runs": [run]}


def test_other_tasks_stay_with_their_weights_and_the_same_task_is_measured_anew():
    before = report("superres", "a" * 64)
    before["runs"] += report("denoise", "b" * 64)["runs"]
    before["setup"]["weights"]["m-denoise"] = "b" * 64
    found = kept(before, {**report("denoise", "c" * 64), "runs": []}, ["denoise"])
    assert [run["task"] for run in found["runs"]] == ["superres"]
    assert found["setup"]["weights"] == {"m-superres": "a" * 64, "m-denoise": "c" * 64}
    assert found["setup"]["command"] == "run superres` and `run denoise"


def test_each_task_has_its_picture():
    both = report("superres", "a" * 64)
    both["runs"] += report("denoise", "b" * 64)["runs"]
    page = markdown(both, "uncertainty-ct")
    assert "(uncertainty-ct-superres.png)" in page and "(uncertainty-ct-denoise.png)" in page
