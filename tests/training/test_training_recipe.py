"""The training configuration: what is out of range, or contradicts itself, is refused at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tomli_w
from tiny import MODEL, NETWORK, SUPERRES, phantom, save

import medrestore
from medrestore.errors import ConfigError, ModelError
from medrestore.training import load_config, train
from medrestore.training.check import check_model_table

CONFIG = {
    "data": {"roots": ["."], "scans": ["one.nii"]},
    "loop": {"steps": 1, "batch": 1, "patch": 16, "bfloat16": False},
    "network": {"options": NETWORK},
    "model": MODEL,
}
TOLD = {"network": {"options": {**NETWORK, "details": 4}}}
NAN = float("nan")


@pytest.fixture
def configured(tmp_path):
    """Return a function that writes a configuration, with some of its tables changed, and reads it."""

    def configure(**changes: dict[str, object]):
        tables = {name: {**CONFIG.get(name, {}), **changes.get(name, {})} for name in CONFIG | changes}
        (tmp_path / "train.toml").write_text(tomli_w.dumps(tables))
        return load_config(tmp_path / "train.toml")

    return configure


@pytest.mark.parametrize(
    ("table", "key", "values"),
    [
        ("data", "spacings_mm", ([-1.0], [0.0], [NAN], "1.0")),
        ("data", "slices_mm", ([0.0], [NAN])),
        ("data", "denoise_above", (-1, NAN)),
        *(("loop", key, (0, -5, True, "2", 2.0)) for key in ("steps", "batch", "patch")),
        *(("loop", key, (-1, True, "2", 2.0)) for key in ("warmup", "seed", "validate_steps", "workers")),
        *(("loop", key, (-1, 5, NAN, True, "1")) for key in ("hold", "ema", "mean", "unconditional")),
        ("loop", "seed", (2**63,)),
        ("loop", "rate", (-1e-3, NAN, float("inf"))),
        ("loop", "clip", (0, -1, NAN)),
        ("loop", "checkpoint_minutes", (-1, NAN)),
        *(("loop", key, ("off", "no", 0)) for key in ("bfloat16", "compile")),
        *(
            (name, "noise", ([0.1, 0.01], [0, 0.1], [1, 15], [NAN, 0.1]))
            for name in ("degradation", "slices", "ct")
        ),
        *(("degradation", key, (75, -1, NAN)) for key in ("rician", "varying", "coloured", "quantised")),
        *((name, "estimate_error", (-1, NAN)) for name in ("degradation", "slices", "ct")),
        ("augmentation", "scale", (-1, NAN)),
        ("augmentation", "blur_width", ([0, 1], [0.9, 0.3], [0.3])),
        ("augmentation", "tone_curve", (35,)),
        ("slices", "factor", ([0, 2], [0.5, 0.9], [6, 1.5], [NAN, 2])),
        ("slices", "width", ([-1, -0.5], [0, 0], [1.2, 0.6])),
        ("slices", "softness", ([], [2.0], [-1], [NAN])),
        ("ct", "kernels", ([], ["bone"])),
        ("ct", "photons", ([0, 1], [1e5, 1e4], [NAN, 1e5])),
        ("ct", "electronic", (-1, NAN)),
        ("ct", "helical", (-1, NAN)),
        ("ct", "phantoms", (-1, 1.5)),
    ],
)
def test_a_value_of_another_type_or_out_of_range_is_told_with_its_key(configured, table, key, values):
    for value in values:
        with pytest.raises(ConfigError, match=rf"train\.toml: {table}\.{key}.*, got"):
            configured(**{table: {key: value}})


def test_whole_numbers_are_numbers_and_ends_may_be_alike(configured):
    config = configured(loop={"rate": 1, "mean": 1}, degradation={"noise": [0.1, 0.1], "rician": 0})
    assert (config.loop.rate, config.degradation.noise, config.degradation.rician) == (1.0, (0.1, 0.1), 0.0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        *(
            ({"model": {"intensity": value}}, rf"model\.intensity is .*{found}.*; expected 'p99'")
            for value, found in (("foo", "foo"), (5, "5"), (["p99"], "p99"), (True, "True"))
        ),
        (
            {"model": {"intensity": "attenuation"}},
            "expected no MR with the intensity attenuation",
        ),
        ({"model": {"modalities": ["CT"]}}, "expected no CT with the intensity p99"),
        ({"ct": {}, "model": {"intensity": "attenuation"}}, "expected no MR with the intensity attenuation"),
        ({"model": {"halo": 3}}, r"model\.halo is known from the network"),
        ({"model": {"weights": {"file": "x"}}}, r"model\.weights is known from the network"),
        ({"model": {"colour": "no"}}, r"model\.colour is no"),
        (
            {**TOLD, "model": SUPERRES, "slices": {"factor": [1.5, 20]}},
            r"slices\.factor goes to 20 planes, and loop\.patch is 16",
        ),
        ({"data": {"scans": []}}, "there is nothing to train on"),
        (
            {"data": {"scans": [], "labels": ["map.nii"]}},
            r"augmentation\.synthetic is 0\.2; expected scans, or 1",
        ),
    ],
)
def test_what_contradicts_itself_is_refused(configured, tmp_path, changes, message):
    save(tmp_path / "one.nii", phantom(24))
    save(tmp_path / "map.nii", np.digitize(phantom(24), [100, 500]).astype(np.uint8))
    with pytest.raises(ConfigError, match=message):
        train(configured(**changes), tmp_path, tmp_path / "work")
    assert not (tmp_path / "work" / "log.csv").exists()


def test_slices_may_be_as_thick_as_a_patch_and_label_maps_all_there_is(configured, tmp_path):
    save(tmp_path / "one.nii", phantom(24))
    save(tmp_path / "map.nii", np.digitize(phantom(24), [100, 500]).astype(np.uint8))
    thick = configured(**TOLD, model=SUPERRES, slices={"factor": [16, 16]})
    assert train(thick, tmp_path, tmp_path / "thick").name == "tiny-superres"
    computed = configured(data={"scans": [], "labels": ["map.nii"]}, augmentation={"synthetic": 1})
    assert train(computed, tmp_path, tmp_path / "computed").name == "tiny"


def test_a_model_that_is_not_there_is_told_before_a_scan_is_read(configured, tmp_path):
    (tmp_path / "one.nii").touch()  # could not be read
    with pytest.raises(ModelError, match="no model is named 'nope'"):
        train(configured(data={"denoise_with": "nope"}), tmp_path, tmp_path / "work")
    with pytest.raises(ModelError, match="nowhere"):
        train(configured(), tmp_path, tmp_path / "work", init=str(tmp_path / "nowhere"))
    with pytest.raises(ConfigError, match="licence"):
        train(configured(model={"licence": 5}), tmp_path, tmp_path / "work")


@pytest.mark.parametrize("name", ["mr-denoise", "mr-superres", "ct-denoise", "ct-superres"])
def test_the_configurations_of_the_models_that_come_along_are_read(name):
    folder = Path(medrestore.__file__).parent / "builtin" / "models" / name
    config = load_config(folder / "train.toml")
    check_model_table(config)
    assert config.model["name"] == name
