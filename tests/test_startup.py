"""Start-up is cheap: neither torch nor monai for what does not compute."""

from __future__ import annotations

import json
import pkgutil
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest

import medrestore
from medrestore import engine, io

HEAVY = ("torch", "monai", "scipy", "skimage", "nibabel", "pydicom", "matplotlib")

REPORT = """
import json, sys
sys.argv = ["medrestore", *{arguments!r}]
try:
    {code}
except SystemExit as error:
    assert not error.code, error.code
print("\\n" + json.dumps([name for name in {heavy!r} if name in sys.modules]))
"""


def loaded(code: str, *arguments: str) -> list[str]:
    script = REPORT.format(code=code, arguments=list(arguments), heavy=HEAVY)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


RUN = "from medrestore.cli import main; main()"


def test_the_package_loads_nothing_heavy():
    assert loaded("import medrestore") == []


@pytest.mark.parametrize(
    "arguments",
    [("--help",), ("--version",), ("models",), ("models", "--json"), ("plugins",), ("models", "--help")],
)
def test_commands_that_do_not_compute_load_nothing_heavy(arguments):
    assert loaded(RUN, *arguments) == []


@pytest.mark.parametrize(
    "module", ["cli.batching", "batch.workers.dask_task", "node", "node.child", "cli.node"]
)
def test_what_leaves_the_computing_to_other_processes_loads_no_torch(module):
    assert "torch" not in loaded(f"import medrestore.{module}")


LOOK_UP = "; ".join(
    (
        "from pathlib import Path",
        "from medrestore.batch import Settings, find_cases",
        "from medrestore.cli.batching import _model_hash",
        "from medrestore.options import FileOptions, RestoreOptions",
        "settings = Settings.of(FileOptions(restore=RestoreOptions(model='mr-denoise')))",
        "(case,) = find_cases(Path(sys.argv[1])).cases",
        "assert len(_model_hash(settings)(case)) == 64",
    )
)


def test_a_batch_finds_its_cases_and_their_models_without_torch(tmp_path):
    nib.save(nib.Nifti1Image(np.zeros((4, 4, 4), dtype=np.float32), np.eye(4)), tmp_path / "a_T1w.nii")
    assert "torch" not in loaded(LOOK_UP, str(tmp_path))


def test_the_check_sees_what_is_loaded():
    assert loaded("import scipy.ndimage") == ["scipy"]


@pytest.mark.parametrize("name", medrestore.__all__)
def test_every_exported_name_is_there(name):
    assert getattr(medrestore, name) is not None
    assert name in dir(medrestore)


@pytest.mark.parametrize("package", [medrestore, engine, io])
def test_no_module_takes_the_place_of_a_name_that_is_loaded_on_first_use(package):
    modules = {module.name for module in pkgutil.iter_modules(package.__path__)}
    assert {"engine": "single", "io": "atomic"}.get(package.__name__.rpartition(".")[2], "volume") in modules
    assert not modules & set(package._HOMES)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'medrestore' has no attribute 'resotre'"):
        _ = medrestore.resotre


def test_what_a_process_of_ours_loads_is_not_searched_for_cycles():
    shown = "import gc; main = lambda: print(gc.isenabled(), gc.get_freeze_count() > 1000)"
    script = f"import sys, types; shown = types.ModuleType('shown'); exec({shown!r}, shown.__dict__)"
    run = f"{script}; sys.modules['shown'] = shown; sys.argv[1:] = ['shown']"
    done = subprocess.run(
        [sys.executable, "-c", f"{run}; from medrestore.processes import main; main()"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["True", "True"]
