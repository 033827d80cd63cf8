"""Start-up is cheap: neither torch nor monai for what does not compute."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import medrestore

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


def test_the_check_sees_what_is_loaded():
    assert loaded("import scipy.ndimage") == ["scipy"]


@pytest.mark.parametrize("name", medrestore.__all__)
def test_every_exported_name_is_there(name):
    assert getattr(medrestore, name) is not None
    assert name in dir(medrestore)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'medrestore' has no attribute 'resotre'"):
        _ = medrestore.resotre
