"""Plugins load one by one; a broken one is listed with the reason and stops nothing else."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
from plugin_site import GOOD

from medrestore.cli.models import _record
from medrestore.errors import ModelError, PluginError
from medrestore.plugin import FormatSpec, Intensity, MetricSpec, ModelSpec, PluginManager, Registry
from medrestore.provenance import ModelRef, RunRecord, Source
from medrestore.types import Modality, Task

CT = {"modalities": (Modality.CT,), "intensity": Intensity.ATTENUATION}


def status(manager: PluginManager) -> dict[str, str]:
    return {info.name: info.status for info in manager.plugins}


def error_of(manager: PluginManager, name: str) -> str:
    return next(info.error for info in manager.plugins if info.name == name) or ""


BROKEN = {
    "import": (
        "import no_such_module_here",
        r"ModuleNotFoundError: No module named 'no_such_.*plugin_.*\.py:1\)",
    ),
    "raises": ("x = 1\n\n1 / x / 0", r"ZeroDivisionError: .*plugin_.*\.py:3\)"),
    "exits": ("import sys; sys.exit('licence expired')", "SystemExit: licence expired"),
    "syntax": ("def broken(:", "SyntaxError"),
    "signature": (
        "from medrestore import hookimpl\n@hookimpl\ndef medrestore_models(folder): return []",
        "medrestore_models asks for 'folder'; in API 2 it takes no argument: leave it out",
    ),
    "no-such-hook": (
        "from medrestore import hookimpl\n@hookimpl\ndef medrestore_modles(): return []",
        "PluginValidationError: unknown hook 'medrestore_modles'",
    ),
    "no-hook": (
        "def medrestore_models(): return []",
        "implements no hook: mark .* with @medrestore.hookimpl",
    ),
    "hook-raises": (GOOD.format(models="[model()][3:][0]"), "IndexError"),
    "no-list": (GOOD.format(models="model()"), "returned ModelSpec.*expected a list of ModelSpec"),
    "no-return": (GOOD.format(models="None"), "returned None; expected a list of ModelSpec"),
    "no-spec": (GOOD.format(models="['mr-denoise']"), "declares 'mr-denoise'; expected a ModelSpec"),
    "twice": (GOOD.format(models="[model(), model()]"), "declares the name 'smooth' twice"),
    "range": (GOOD.format(models="[model(spacing_mm=(2.0, 1.0))]"), r"spacing_mm is \(2.0, 1.0\); expected"),
    "network": (GOOD.format(models="[model(network=dict)]"), "network is <class 'dict'>; expected some text"),
    "next-api": (
        GOOD.format(models="[model(api=3)]"),
        "'smooth' is for plugin API 3; this medrestore has API 2: update medrestore",
    ),
    "last-api": (GOOD.format(models="[model(api=0)]"), "plugin API 0; .* update the plugin"),
    "of-api-1": (
        "from medrestore import hookimpl\n@hookimpl\ndef medrestore_case_finished(record): pass",
        "medrestore_case_finished was of API 1: implement medrestore_volume_restored",
    ),
    "Bad Name": (GOOD.format(models="[]"), "named 'Bad Name'; expected lower-case"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_plugin_is_listed_and_stops_nothing(site, name):
    code, message = BROKEN[name]
    site.add(name, code)
    site.add("aaa-first", GOOD.format(models="[model()]"))
    site.add("zzz-last", GOOD.format(models="[model()]"))
    manager = site.manager()
    assert status(manager) == {"medrestore": "ok", "aaa-first": "ok", name: "broken", "zzz-last": "ok"}
    error = error_of(manager, name)
    assert re.search(message, error), error
    assert "\n" not in error, "one line, for the table"
    third_party = [full for full in Registry(manager).models() if not full.startswith("medrestore/")]
    assert third_party == ["aaa-first/smooth", "zzz-last/smooth"]


def test_an_argument_with_a_default_is_the_plugins_own(site):
    code = GOOD.format(models="[model(name)]")
    site.add("mine", code.replace("medrestore_models()", "medrestore_models(name='own')"))
    manager = site.manager()
    assert status(manager)["mine"] == "ok", error_of(manager, "mine")
    assert "mine/own" in Registry(manager).models()


def test_an_info_says_where_the_plugin_comes_from(site):
    site.add("mine", GOOD.format(models="[]"), dist="my-dist", version="3.4")
    ours, mine = site.manager().plugins
    assert (mine.name, mine.dist, mine.version, mine.status, mine.error) == (
        "mine",
        "my-dist",
        "3.4",
        "ok",
        None,
    )
    assert (ours.name, ours.dist, ours.status) == ("medrestore", "medrestore", "ok")


def test_a_taken_name_breaks_the_second_and_the_builtin_one_is_kept(site):
    site.add("mine", GOOD.format(models="[model('a')]"), dist="dist-a")
    site.add("mine", GOOD.format(models="[model('b')]"), dist="dist-b")
    site.add("medrestore", GOOD.format(models="[model('mr-denoise')]"), dist="another")
    manager = site.manager()
    assert [(i.dist, i.status) for i in manager.plugins] == [
        ("medrestore", "ok"),
        ("another", "broken"),
        ("dist-a", "ok"),
        ("dist-b", "broken"),
    ]
    assert "'mine' is taken by the plugin of dist-a 1.2" in (manager.plugins[3].error or "")
    assert "kept for the built-in" in (manager.plugins[1].error or "")
    assert "mine/a" in Registry(manager).models()
    assert "mine/b" not in Registry(manager).models()


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        ("", {"medrestore": "ok", "a": "ok", "b": "ok"}),
        ("none", {"medrestore": "ok", "a": "disabled", "b": "disabled"}),
        (" b ,", {"medrestore": "ok", "a": "disabled", "b": "ok"}),
        ("a,b", {"medrestore": "ok", "a": "ok", "b": "ok"}),
        ("a,c", {"medrestore": "ok", "a": "ok", "b": "disabled", "c": "broken"}),
    ],
)
def test_the_variable_chooses_and_is_read_when_the_manager_is_made(site, monkeypatch, selection, expected):
    site.add("a", GOOD.format(models="[model()]"))
    site.add("b", GOOD.format(models="[model()]"))
    assert status(site.manager(selection)) == expected
    monkeypatch.setenv("MEDRESTORE_PLUGINS", selection)
    assert status(site.manager(None)) == expected


def test_a_disabled_plugin_is_not_imported(site):
    marker = site.folder / "imported"
    site.add("a", f"open({str(marker)!r}, 'w').close()\n" + GOOD.format(models="[]"))
    site.manager("none")
    assert not marker.exists()
    site.manager("a")
    assert marker.exists()


def test_metrics_and_formats_are_declared_too(site):
    site.add(
        "more",
        "from medrestore import hookimpl\n"
        "from medrestore.plugin import FormatSpec, MetricSpec\n"
        "@hookimpl\ndef medrestore_metrics():\n"
        "    yield MetricSpec(name='zero', definition='0', compute=lambda *a: 0.0, higher_is_better=False)\n"
        "@hookimpl\ndef medrestore_formats():\n"
        "    yield FormatSpec(name='nrrd', title='NRRD', load=print)\n",
    )
    manager = site.manager()
    assert status(manager)["more"] == "ok", error_of(manager, "more")
    assert manager.declared(MetricSpec).keys() == {"more/zero"}
    assert manager.declared(FormatSpec).keys() == {"medrestore/dicom", "medrestore/nifti", "more/nrrd"}


def record() -> RunRecord:
    return RunRecord("0.1.0", {}, ModelRef("medrestore/mr-denoise", "medrestore"), Source("a.nii", "nifti"))


def test_every_observer_hears_of_a_case_whatever_another_does(site, caplog):
    observer = (
        "from medrestore import hookimpl\nheard = []\n@hookimpl\ndef medrestore_volume_restored(record):\n"
    )
    site.add("a", observer + "    heard.append(record)\n    raise OSError('disk full')")
    site.add("b", observer + "    heard.append(record)")
    manager, finished = site.manager(), record()
    (problem,) = manager.tell("medrestore_volume_restored", record=finished)
    assert "plugin 'a' (dist-a 1.2), medrestore_volume_restored: OSError: disk full" in problem
    assert problem in caplog.text
    heard = [
        module.heard for name, module in sys.modules.items() if name.startswith(f"plugin_{site.folder.name}")
    ]
    assert heard == [[finished], [finished]]


# --- names -----------------------------------------------------------------------------------------------


@pytest.fixture
def registry(site):
    sharp = "model('sharp', modalities=(Modality.CT,), intensity=Intensity.ATTENUATION)"
    site.add("one", GOOD.format(models=f"[model('smooth'), {sharp}]"))
    site.add("two", GOOD.format(models="[model('smooth'), model('grow', task=Task.SUPERRES)]"))
    site.add("bad", "import no_such_module_here")
    site.add("off", GOOD.format(models="[model('extra')]"))
    return Registry(site.manager("one,two,bad"))


def test_a_bare_name_works_while_it_is_unique(registry):
    assert registry.resolve("sharp") == "one/sharp"
    assert registry.get("two/smooth") is registry.models()["two/smooth"]
    assert (registry.shortest("one/sharp"), registry.shortest("two/smooth")) == ("sharp", "two/smooth")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("smooth", "'smooth' is ambiguous: one/smooth, two/smooth; pass one"),
        ("sharpp", r"no model is named 'sharpp'; did you mean sharp\?"),
        ("one/smoth", "did you mean one/smooth"),
        ("xyzzy", "installed: .*one/smooth, one/sharp, two/smooth, two/grow"),
        ("bad/model", "the plugin 'bad' is broken: ModuleNotFoundError"),
        ("off/extra", "the plugin 'off' is disabled by MEDRESTORE_PLUGINS"),
    ],
)
def test_a_wrong_name_says_what_to_pass(registry, name, message):
    with pytest.raises(ModelError, match=message):
        registry.get(name)


class _Fixed:
    plugins = ()

    def __init__(self, *models: tuple[str, ModelSpec]) -> None:
        self._models = dict(models)

    def declared(self, kind):
        return self._models


def test_the_default_is_the_only_one_that_fits(make_spec):
    mr, ct = ("one/a", make_spec(name="a")), ("two/b", make_spec(name="b", **CT))
    assert Registry(_Fixed(mr, ct)).default_name(Task.DENOISE, Modality.CT) == "two/b"
    with pytest.raises(ModelError, match=r"for the task superres on a scan of modality CT; installed: one/a"):
        Registry(_Fixed(mr, ct)).default(Task.SUPERRES, Modality.CT)
    with pytest.raises(ModelError, match=r"unknown modality: one/a, two/b; .*--modality"):
        Registry(_Fixed(mr, ct)).default(Task.DENOISE)


def test_the_builtin_model_is_the_default_unless_two_fit(make_spec):
    one, two = ("medrestore/a", make_spec(name="a")), ("other/b", make_spec(name="b"))
    assert Registry(_Fixed(two, one)).default_name(Task.DENOISE, Modality.MR) == "medrestore/a"
    with pytest.raises(ModelError, match=r"several .* modality MR: medrestore/a, medrestore/c; .*--model"):
        Registry(_Fixed(one, ("medrestore/c", make_spec(name="c")), two)).default(Task.DENOISE, Modality.MR)
    with pytest.raises(ModelError, match=r"several .* unknown modality: other/b, other/d"):
        Registry(_Fixed(two, ("other/d", make_spec(name="d")))).default(Task.DENOISE)
    with pytest.raises(ModelError, match="no model is installed"):
        Registry(_Fixed()).default(Task.DENOISE)


# --- the fields of a spec --------------------------------------------------------------------------------


@pytest.fixture
def make_spec():
    fine = {
        "name": "smooth",
        "title": "A model",
        "task": Task.DENOISE,
        "modalities": (Modality.MR,),
        "licence": "MIT",
        "reference": "none",
        "spacing_mm": (0.5, 2.0),
        "noise": (0.0, 0.1),
        "halo": 4,
        "load": print,
    }
    return lambda **changes: ModelSpec(**{**fine, **changes})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "Has Space"),
        ("name", "a/b"),
        ("title", " "),
        ("task", "denoise"),
        ("modalities", ()),
        ("modalities", ("MR",)),
        ("licence", ""),
        ("intensity", "p99"),
        ("load", None),
        ("spacing_mm", (0.0, 1.0)),
        ("spacing_mm", (2.0, 1.0)),
        ("spacing_mm", [1.0, 2.0]),
        ("noise", (-0.1, 0.1)),
        ("noise", (0.1, float("nan"))),
        ("noise", (0.1, float("inf"))),
        ("halo", -1),
        ("halo", 2.5),
        ("multiple", 0),
        ("multiple", True),
        ("outputs", frozenset()),
        ("outputs", frozenset({"median"})),
        ("outputs", frozenset({"sample"})),  # samples start from the mean
        ("dtypes", ("float64",)),
        ("domain", "knee"),
        ("domain", "ct"),  # of another modality than the model is for
        ("domain", ["mr-head"]),
        ("sha256", "0" * 64),
        ("weights", Path("model.safetensors")),
    ],
)
def test_a_field_out_of_range_is_refused_by_name(make_spec, field, value):
    with pytest.raises(PluginError, match="sha256" if field == "weights" else field):
        make_spec(**{field: value})


@pytest.mark.parametrize(
    ("intensity", "modalities", "other"),
    [
        (Intensity.P99, (Modality.MR, Modality.CT), "CT"),
        (Intensity.P99, (Modality.CT,), "CT"),
        (Intensity.ATTENUATION, (Modality.MR,), "MR"),
    ],
)
def test_a_modality_in_the_units_of_another_is_refused(make_spec, intensity, modalities, other):
    message = (
        f"expected no {other} with the intensity {intensity}: p99 is for MR, attenuation for CT; declare"
    )
    with pytest.raises(PluginError, match=message):
        make_spec(intensity=intensity, modalities=modalities)
    both = (Modality.MR, Modality.CT)
    assert make_spec(intensity=Intensity.RAW, modalities=both).modalities == both


def test_a_fine_spec_is_taken(make_spec):
    spec = make_spec(weights=Path("w"), sha256="0" * 64, **CT, multiple=8, noise=(0, 0))
    assert (spec.api, spec.dtypes, spec.outputs) == (1, ("float32",), {"mean"})


def test_a_class_of_the_plugins_own_is_listed_by_the_fields_of_ours(site):
    code = GOOD.format(models="[Mine(**vars(model()), checkpoint=Path('x'))]")
    declared = (
        "@dataclass(frozen=True, kw_only=True)\nclass Mine(ModelSpec):\n    checkpoint: Path\n\n@hookimpl"
    )
    code = code.replace("@hookimpl", declared)
    site.add("mine", f"from dataclasses import dataclass\n{code}")
    manager = site.manager()
    assert status(manager)["mine"] == "ok", error_of(manager, "mine")
    record = _record("mine/smooth", Registry(manager).models()["mine/smooth"], "smooth")
    assert json.loads(json.dumps(record))["title"] == "A model" and "checkpoint" not in record
