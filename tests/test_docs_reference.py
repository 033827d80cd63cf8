"""The reference agrees with the code: options, hooks, keys, fields, metrics, errors."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import re
import tomllib
from dataclasses import MISSING, fields, is_dataclass
from typing import get_args, get_type_hints

import numpy as np
import pytest
from docs_pages import DOCS, blocks, commands, keys, tables

import medrestore
from medrestore import errors, metrics
from medrestore.plugin import ModelSpec, hookspecs
from medrestore.plugin import model_folder as folder
from medrestore.provenance import ModelRef, RunRecord, Source

pytestmark = pytest.mark.skipif(not DOCS.is_dir(), reason="needs the source tree")


def test_the_page_of_the_command_line_has_every_option_and_no_other():
    written = {
        heading.removeprefix("medrestore "): set(keys(rows))
        for heading, rows in tables(DOCS / "reference/cli.md").items()
        if heading.startswith("medrestore ")
    }
    assert written == {name: set(options) for name, options in commands().items()}


def test_the_page_of_the_hooks_has_every_hook_with_its_signature():
    page = (DOCS / "reference/hooks.md").read_text(encoding="utf-8")
    written = re.findall(r"^def medrestore_.*$", page, re.MULTILINE)
    declared = [
        f"def {name}{inspect.signature(hook)}".replace("'", "")
        for name, hook in vars(hookspecs).items()
        if name.startswith("medrestore_") and hasattr(hook, f"{hookspecs.PROJECT}_spec")
    ]
    assert len(declared) == 12
    assert written == declared


def test_the_page_of_model_toml_has_every_key():
    found = tables(DOCS / "reference/model-toml.md")
    top = [field for field in fields(ModelSpec) if field.name not in {"load", "weights", "sha256", "network"}]
    assert keys(found["model.toml"]) == [field.name for field in top]
    needed = {row[0].strip("`") for row in found["model.toml"] if row[1] == "needed"}
    assert needed == {field.name for field in top if field.default is MISSING}
    spec_only = set(keys(tables(DOCS / "reference/hooks.md")["medrestore_models"]))
    assert spec_only == {field.name for field in fields(ModelSpec)} - {field.name for field in top}


@pytest.mark.parametrize(("table", "key"), [("network", "name"), ("weights", "file"), ("weights", "sha256")])
def test_needed_keys_of_the_tables_of_model_toml_are_needed(table, key, tmp_path):
    rows = {row[0].strip("`"): row[1] for row in tables(DOCS / "reference/model-toml.md")[f"[{table}]"]}
    assert rows[key] == "needed"
    given = {"network": 'name = "voxelnet"', "weights": 'file = "f"\nsha256 = "s"'}
    given[table] = "\n".join(line for line in given[table].splitlines() if not line.startswith(key))
    text = "\n".join(f"[{name}]\n{body}" for name, body in given.items())
    (tmp_path / folder.DESCRIPTION).write_text(text)
    with pytest.raises(errors.ModelError, match=rf"missing: {table}\.{key}"):
        folder.read_model_folder(tmp_path)


def test_the_page_of_train_toml_has_every_key_with_its_default():
    from medrestore.training import recipe as config

    found = tables(DOCS / "reference/train-toml.md")
    rooms = {field.name: field for field in fields(config.TrainConfig)}
    hints = get_type_hints(config.TrainConfig)
    headings = re.findall(r"^## `\[(\w+)\]`$", (DOCS / "reference/train-toml.md").read_text(), re.MULTILINE)
    assert sorted(headings) == sorted(rooms)
    for name in rooms.keys() - {"model"}:
        options = next(kind for kind in (*get_args(hints[name]), hints[name]) if is_dataclass(kind))
        rows = found[f"[{name}]"]
        assert keys(rows) == [field.name for field in fields(options)], name
        for row, field in zip(rows, fields(options), strict=True):
            absent = field.default_factory is not MISSING or field.default is None
            default = () if absent else field.default
            assert default_of(row[1]) == default, row
    assert "model" in headings


def default_of(cell: str) -> object:
    """What a cell of defaults means: `needed`, `none` or a TOML value, a text without its quotes."""
    if cell == "needed":
        return MISSING
    if cell == "none":
        return ()
    text = cell.strip("`")
    try:
        value = tomllib.loads(f"x = {text}")["x"]
    except tomllib.TOMLDecodeError:
        return text
    return tuple(value) if isinstance(value, list) else value


def test_the_training_configuration_of_the_guide_is_valid(tmp_path):
    from medrestore.training import load_config

    (example,) = [b.body for b in blocks(DOCS / "how-to/train-a-model.md") if b.title == "train.toml"]
    (tmp_path / "train.toml").write_text(example, encoding="utf-8")
    config = load_config(tmp_path / "train.toml")
    known = {field.name for field in fields(ModelSpec)}
    assert set(config.model) <= known
    given = {"halo", "load", *config.model}
    assert {field.name for field in fields(ModelSpec) if field.default is MISSING} <= given


def test_the_page_of_the_sidecar_has_every_field():
    found = tables(DOCS / "reference/sidecar.md")
    assert keys(found["Sidecar"]) == ["schema", *(field.name for field in fields(RunRecord))]
    assert keys(found["model"]) == [field.name for field in fields(ModelRef)]
    assert keys(found["input"]) == [field.name for field in fields(Source)]


def test_the_page_of_the_sidecar_has_what_the_engine_writes():
    import numpy as np

    from medrestore.engine.evidence.residual import residual_evidence
    from medrestore.noise.level import NoiseLevel

    found = tables(DOCS / "reference/sidecar.md")
    ramp = np.linspace(0, 1, 1000).reshape(10, 10, 10)
    written = [*(field.name for field in fields(NoiseLevel)), "operator"]
    written += residual_evidence(ramp, ramp, 0.1)
    assert keys(found["noise"]) == written


def test_the_page_of_the_sidecar_has_what_is_written_of_slices(tmp_path):
    import numpy as np
    from tiny import SUPERRES, model_folder, phantom

    options = medrestore.RestoreOptions(model=str(model_folder(tmp_path / "tiny", **SUPERRES)), device="cpu")
    scan = medrestore.Volume.from_array(phantom(16), np.diag([1, 1, 2, 1]), medrestore.Modality.MR)
    record = medrestore.restore(scan, options).record
    assert keys(tables(DOCS / "reference/sidecar.md")["slices"]) == list(record.slices)


def test_the_pages_have_what_is_written_of_the_verdict():
    from medrestore.engine.evidence.consistency import Consistency
    from medrestore.engine.evidence.verdict import CAUSES, Verdict
    from medrestore.types import Judgement

    given = Verdict(Judgement.PASS, "", Consistency(1, {}))
    written = ["verdict", *Verdict(None, "").as_json(), *given.as_json()]
    assert keys(tables(DOCS / "reference/sidecar.md")["verdict"]) == list(dict.fromkeys(written))
    told = keys(tables(DOCS / "explanation/evidence.md")["The verdict"])
    assert [name for name in told if name.islower()] == list(CAUSES)


def test_the_page_of_the_metrics_has_every_metric():
    from medrestore.metrics import evaluate

    page = tables(DOCS / "reference/metrics.md")["Metrics"]
    assert [key for row in page for key in keys([row])[:1]] == list(evaluate([0.0], None, data_range=1))


def test_the_page_of_the_metrics_has_every_metric_without_a_reference():
    image = np.zeros((4, 4, 4))
    regions = metrics.find_regions(image, acquired=image, head=np.ones(image.shape))
    page = tables(DOCS / "reference/metrics.md")["Without a reference"]
    names = [name for row in page for name in re.findall(r"`(\w+)`", row[0])]
    assert names == list(metrics.evaluate_without_reference(image, (1, 1, 1), regions))


def test_the_page_of_the_errors_has_every_error_below_its_parent():
    rows = tables(DOCS / "reference/errors.md")["Errors"]
    assert {row[0].strip("`"): row[1].strip("`") for row in rows} == {
        name: kind.__bases__[0].__name__
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, Exception)
    }


def test_the_page_of_python_has_names_that_exist_and_all_that_is_exported():
    page = (DOCS / "reference/python.md").read_text(encoding="utf-8")
    written = re.findall(r"^::: (\S+)$", page, re.MULTILINE)
    for name in written:
        module, _, attribute = name.rpartition(".")
        assert hasattr(importlib.import_module(module), attribute), name
    shown = {name.rpartition(".")[2] for name in written}
    elsewhere = {"MedrestoreError", "hookimpl", "__version__"}
    assert set(medrestore.__all__) - elsewhere <= shown
