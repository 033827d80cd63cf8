"""A model that is good passes every check, and one with a fault fails the checks that are meant for it."""

from __future__ import annotations

import pytest
from bad_models import Load, declared

from medrestore import Intensity
from medrestore.errors import ConfigError
from medrestore.testing import CHECKS, Status, TrialOptions, conduct, processes, trial, verify
from medrestore.testing.processes import Alone
from medrestore.types import Modality, Task

pytestmark = pytest.mark.usefixtures("noise_is_measured_once")

SIDE = 48
LARGER = 56
"""Of a head with so many lesions that what blurs a little is not taken for what erases them."""

ALONE = ("memory", "offline", "determinism")
"""Checks that start processes of their own."""

IN_PROCESS = tuple(name for name in CHECKS if name not in ALONE)


@pytest.fixture
def processes_are_forked(forkserver, monkeypatch):
    """Have processes that load nothing; those that a good model is tried in start as a user's do."""
    monkeypatch.setattr(processes, "get_context", lambda _: forkserver)


def failed(model, only=IN_PROCESS, side=SIDE):
    return set(verify(model, TrialOptions(side=side, only=only)).failed)


@pytest.mark.slow
def test_a_good_model_passes_every_check():
    found = verify(declared(), TrialOptions(side=SIDE))
    assert found.failed == ()
    skipped = {name for name, outcome in found.outcomes.items() if outcome.status is Status.SKIPPED}
    assert skipped == {"intervals", "hallucination", "low-contrast", "lesions"}
    # In so small a head there is no room for dark spheres: what was not looked at has not passed.
    assert "dark spheres of 3 voxels" in str(found.outcomes["lesions"].skipped)
    assert list(found.outcomes) == list(CHECKS)


FAULTY = {
    "blurs": {"gain", "lesions", "texture", "mean"},
    "hallucinates": {"nothing"},
    "shifts": {"geometry", "clean"},
    "adds_three_percent": {"mean"},
    "depends_on_tile": {"tiles"},
    "depends_on_batch": {"batch"},
    "changes_clean_scans": {"clean"},
    "spoils_coloured_noise": {"gain"},
}


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTY)
def test_a_fault_fails_the_checks_that_are_meant_for_it(fault):
    assert failed(declared(fault), side=LARGER if fault == "shifts" else SIDE) == FAULTY[fault]


@pytest.mark.slow
def test_what_erases_small_and_faint_things_fails_by_them():
    only = ("lesions", "texture")
    assert failed(declared("erases_what_is_small_and_faint"), only) == set(only)
    assert failed(declared(), only) == set()


CHEAP = {
    "depends_on_tile": "tiles",
    "depends_on_batch": "batch",
    "gives_all_of_a_batch_the_first": "batch",
    "streams_nothing": "tiles",
    "changes_its_input": "contract",
    "returns_nan": "contract",
    "is_random": "determinism",
    "shifts": "geometry",
    "adds_three_percent": "mean",
    "changes_clean_scans": "clean",
    "hallucinates": "nothing",
}


def here(check, fault=""):
    """What a declaration needs so that a check starts no processes: a `load` that none can be told."""
    load = Load(fault)

    def nested(context):
        return load(context)

    return {"load": nested} if check in ALONE else {}


@pytest.mark.parametrize(("fault", "check"), CHEAP.items())
def test_a_fault_is_seen_by_its_check_and_a_good_model_passes_that(fault, check):
    assert failed(declared(fault, **here(check, fault)), (check,), 48) == {check}
    assert failed(declared(**here(check)), (check,), 48) == set()


@pytest.mark.slow
def test_two_processes_show_what_one_does_not(processes_are_forked):
    found = verify(declared("depends_on_process"), TrialOptions(side=48, only=("determinism", "offline")))
    assert found.failed == ("determinism",)
    assert "two processes have two results" in found.outcomes["determinism"].problems[0]


@pytest.mark.slow
def test_a_model_that_keeps_what_it_fetched_is_seen_before_it_is_loaded(
    processes_are_forked, tmp_path, monkeypatch
):
    monkeypatch.setenv("KEPT_BY_A_MODEL", str(tmp_path / "kept"))
    found = verify(declared("fetches_once"), TrialOptions(side=48, only=("licence", "offline")))
    assert found.failed == ("offline",)
    assert (tmp_path / "kept").exists()


@pytest.mark.slow
def test_a_model_that_reaches_for_the_network_fails_and_is_told_why(processes_are_forked):
    found = verify(declared("reaches_for_the_network"), TrialOptions(side=48, only=ALONE))
    assert found.failed == ("offline",)
    assert "asks the network for something (socket." in found.outcomes["offline"].problems[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "event"),
    [
        ("asks_for_a_name", "asks the network for something (socket.getnameinfo)"),
        ("starts_a_program", "starts a program that may ask the network (subprocess.Popen: 'true')"),
        ("asks_the_shell", "starts a program that may ask the network (os.system: b'true http://192.0.2.1')"),
        ("spawns_a_program", "starts a program that may ask the network (os.posix_spawn: '/bin/true')"),
    ],
)
def test_ways_to_the_network_are_refused_and_told(fault, event, processes_are_forked):
    found = verify(declared(fault), TrialOptions(side=48, only=("offline",)))
    assert found.outcomes["offline"].problems == (event,)


@pytest.mark.slow
def test_what_is_asked_while_the_process_ends_is_told():
    found = verify(declared("reaches_when_it_ends"), TrialOptions(side=48, only=("offline",)))
    assert "asks the network for something (socket." in found.outcomes["offline"].problems[0]


@pytest.mark.slow
def test_a_model_that_needs_the_network_fails_for_that_alone(processes_are_forked):
    found = verify(declared("needs_the_network"), TrialOptions(side=48, only=ALONE))
    assert found.failed == ("offline",)
    assert "asks the network for something (socket." in found.outcomes["offline"].problems[0]
    for name in ("determinism", "memory"):
        outcome = found.outcomes[name]
        assert outcome.status is Status.SKIPPED
        assert "refused the network, see `offline`: " in outcome.summary and "no network" in outcome.summary


@pytest.mark.slow
def test_memory_beyond_the_forecast_is_seen(processes_are_forked):
    found = verify(declared("takes_memory_unforeseen"), TrialOptions(side=48, only=ALONE))
    assert found.failed == ("memory",)
    assert found.outcomes["memory"].figures[0].value > 1.5


@pytest.mark.parametrize("changes", [{"licence": "free for all"}, {"licence": "MIT and then some"}])
def test_a_licence_that_nobody_can_look_up_fails(changes):
    assert failed(declared(**changes), ("licence",)) == {"licence"}


def test_weights_without_a_licence_beside_them_fail(tmp_path):
    weights = {"weights": tmp_path / "model.safetensors", "sha256": "0" * 64}
    assert failed(declared(**weights), ("licence",)) == {"licence"}
    (tmp_path / "README.md").write_text("MIT")
    assert failed(declared(**weights), ("licence",)) == set()


def test_a_model_that_raises_fails_the_check_and_the_others_are_made():
    found = verify(declared("changes_its_input"), TrialOptions(side=48, only=("geometry", "licence")))
    assert found.failed == ("geometry",)
    assert "in place" in found.outcomes["geometry"].problems[0]
    assert found.outcomes["licence"].status is Status.PASSED


def test_a_declaration_that_no_process_can_be_told_is_skipped_there():
    model = declared(**here("offline"))
    found = verify(model, TrialOptions(side=48, only=("memory", "offline")))
    assert {outcome.status for outcome in found.outcomes.values()} == {Status.SKIPPED}


def test_a_large_scan_is_restored_for_the_check_of_memory_alone(monkeypatch):
    asked: list[str] = []

    def alone(source, seed):
        asked.append("small")
        return Alone((), {})

    def peak_alone(source, seed):
        asked.append("large")
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(trial, "alone", alone)
    monkeypatch.setattr(conduct, "peak_alone", peak_alone)
    found = verify(declared(), TrialOptions(side=48, only=ALONE))
    assert asked == ["small", "small", "large"]
    # A scan that does not fit into this machine says nothing of the other checks.
    assert found.failed == ("memory",)
    assert "can't allocate memory" in found.outcomes["memory"].problems[0]


def test_a_check_that_there_is_not_is_refused_with_those_that_there_are():
    with pytest.raises(ConfigError, match="no check is named 'lesion'; there are contract, "):
        verify(declared(), TrialOptions(only=("lesion",)))


SLICES = {
    "task": Task.SUPERRES,
    "noise": (0.0, 0.08),
    "factor": (2.0, 6.0),
    "colour": False,
    "halo": 2,
}


def test_what_disagrees_with_the_slices_is_hallucinated():
    assert failed(declared("keeps_the_scan", **SLICES), ("hallucination", "clean")) == set()
    only = ("hallucination", "gain", "clean")
    assert failed(declared("waves_between_slices", **SLICES), only) == {"hallucination", "gain"}


def test_slices_whose_noise_is_kept_gain_nothing():
    """Held to the slices, their noise is sharpened with them: in little noise that is still a gain."""
    found = verify(declared("keeps_the_scan", **SLICES), TrialOptions(side=48, only=("gain",)))
    figures = {one.name: one for one in found.outcomes["gain"].figures}
    (noisy,) = (one for name, one in figures.items() if "zero-filled" in name)
    assert noisy.value < 0
    assert found.failed == ("gain",)


CT = {
    "modalities": (Modality.CT,),
    "intensity": Intensity.ATTENUATION,
    "noise": (0.006, 0.15),
    "colour": False,
}


def test_what_brightens_the_air_of_ct_changes_its_mean():
    found = verify(declared("leaves_nothing_below_zero", **CT), TrialOptions(side=48, only=("mean",)))
    wrong = [figure.name for figure in found.outcomes["mean"].figures if not figure.holds]
    assert wrong == ["computed head, soft kernel: change of air"]
    assert failed(declared(**CT), ("mean",)) == set()


@pytest.mark.parametrize(
    ("fault", "modality", "check", "region"),
    [
        ("smooths_clean_edges", "MR", "clean", "all but air"),
        ("blanks_what_is_dark", "MR", "clean", "bone"),
        ("clips_bone", "CT", "clean", "bone"),
        ("clips_bone", "CT", "mean", "bone"),
    ],
)
def test_edges_and_thin_layers_are_looked_at(fault, modality, check, region):
    changes = CT if modality == "CT" else {}
    found = verify(declared(fault, **changes), TrialOptions(side=48, only=(check,)))
    wrong = [figure.name for figure in found.outcomes[check].figures if not figure.holds]
    assert any(f"change of {region}" in name for name in wrong)
    assert failed(declared(**changes), (check,)) == set()


def test_a_model_of_no_noise_is_tried_in_the_least():
    only = ("gain", "texture", "lesions")
    found = verify(declared("keeps_the_scan", noise=(0.0, 0.0)), TrialOptions(side=48, only=only))
    assert found.failed == ("gain",)
    assert found.outcomes["gain"].problems == ()
    assert found.outcomes["texture"].figures[0].value == pytest.approx(1, abs=1e-3)


def test_lesions_are_put_into_slices_without_noise():
    silent = declared("keeps_the_scan", **{**SLICES, "noise": (0.0, 0.0), "factor": (2.0, 2.0)})
    found = verify(silent, TrialOptions(side=48, only=("lesions", "nothing")))
    assert found.failed == ()
    assert all(0 < figure.value < 2 for figure in found.outcomes["lesions"].figures)


def test_slices_of_which_there_are_hardly_any_are_not_tried():
    far = declared("keeps_the_scan", **{**SLICES, "factor": (40.0, 60.0)})
    found = verify(far, TrialOptions(side=48, only=IN_PROCESS))
    assert found.failed == ()
    assert found.outcomes["gain"].summary == "1 slices 40 voxels apart in 48 voxels; 4 or more are tried"
    assert {found.outcomes[name].status for name in ("contract", "batch")} == {Status.PASSED}


def test_lesions_thinner_than_slices_are_not_judged():
    thick = {**SLICES, "factor": (10.0, 12.0)}
    outcome = verify(declared("keeps_the_scan", **thick), TrialOptions(side=56, only=("lesions",))).outcomes[
        "lesions"
    ]
    assert outcome.status is Status.SKIPPED


def test_ct_is_tried_in_hounsfield_units():
    found = verify(declared("adds_three_percent", **CT), TrialOptions(side=48, only=("mean", "geometry")))
    assert found.failed == ("mean",)
    assert {figure.unit for figure in found.outcomes["mean"].figures} == {"HU", ""}
