"""The container: what its parts say of each other, and that what `install.sh` makes runs with few rights.

The image itself is built and run by `test_the_image_is_built_and_runs`, which takes minutes: where
MEDRESTORE_BASE names a tar of a Debian system, as `make container-test` does.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import typer

import medrestore
from medrestore.cli import app

ROOT = Path(medrestore.__file__).parents[1]
CONTAINER = ROOT / "container"
DESCRIPTOR = CONTAINER / "medrestore.boutiques.json"
PROGRAM = "/opt/medrestore/bin/medrestore-container"
LARGEST = 2e9
"""Bytes of the image."""

pytestmark = pytest.mark.skipif(not CONTAINER.is_dir(), reason="needs the source tree")


def text(name: str) -> str:
    return (CONTAINER / name).read_text(encoding="utf-8")


def options_of(verb: str) -> set[str]:
    command = typer.main.get_command(app).commands[verb]
    return {name for parameter in command.params for name in parameter.opts}


# --- what its parts say of each other --------------------------------------------------------------------


def test_both_recipes_run_the_one_script_and_start_the_one_program():
    for recipe in ("Dockerfile", "Apptainer.def"):
        assert "sh /src/container/install.sh /src /opt/medrestore" in text(recipe)
        assert re.findall(r"pip install|apt-get", text(recipe)) == []
        assert PROGRAM in text(recipe)
        project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
        (licence,) = re.findall(r'^license = "(.+)"$', project, re.MULTILINE)
        assert licence in text(recipe)
        assert "debian:bookworm-slim" in text(recipe)
    copied = set(re.findall(r"^    (\S+) /src/\1$", text("Apptainer.def"), re.MULTILINE))
    assert copied == {"LICENSE", "README.md", "pyproject.toml", "medrestore", "container"}


def test_torch_is_the_one_that_the_figures_were_measured_with():
    (pinned,) = re.findall(
        r"^TORCH \?= (\S+)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert f'"${{TORCH:={pinned}}}"' in text("install.sh")


def test_descriptions_of_the_image_name_this_version():
    found = [
        *re.findall(r"medrestore:([\d.]+)", text("medrestore.nf")),
        json.loads(text("medrestore.boutiques.json"))["tool-version"],
        json.loads(text("medrestore.boutiques.json"))["container-image"]["image"].partition(":")[2],
    ]
    assert len(found) == 3 and {one.rstrip(".") for one in found} == {medrestore.__version__}


@pytest.mark.parametrize("name", ["medrestore.nf", "medrestore.smk"])
def test_what_a_workflow_calls_exists(name):
    script = text(name)
    (call,) = re.findall(rf"{PROGRAM} ([a-z]+) ", script)
    used = set(re.findall(r"(?<=\s)--[a-z-]+", script.partition(PROGRAM)[2]))
    assert call == "bids" and len(used) >= 4
    assert used <= options_of(call)


@pytest.mark.skipif(shutil.which("snakemake") is None, reason="needs snakemake")
def test_the_rule_plans_a_job_for_a_participant(tmp_path):
    (tmp_path / "a b/sub-01").mkdir(parents=True)
    command = ["snakemake", "-n", "-p", "-s", CONTAINER / "medrestore.smk", "--config", "bids=a b"]
    done = subprocess.run(
        [*command, "--", "medrestore/sub-01.done"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (
        f"{PROGRAM} bids 'a b' medrestore/sub-01 participant --participant-label 01"
        in done.stdout + done.stderr
    )


@pytest.fixture
def data(tmp_path) -> Path:
    """A BIDS data set of two participants, with a part of a head each."""
    folder = tmp_path / "data"
    whole = nib.load(ROOT / "sample_data" / "colin27_crop_rician5.nii.gz")
    for label, start in (("01", 40), ("02", 44)):
        path = folder / f"sub-{label}/anat/sub-{label}_T1w.nii.gz"
        path.parent.mkdir(parents=True)
        crop = slice(start, start + 40)
        nib.save(whole.slicer[crop, crop, crop], path)
    (folder / "dataset_description.json").write_text('{"Name": "Two", "BIDSVersion": "1.10.0"}')
    return folder


def test_the_boutiques_descriptor_is_valid_and_makes_a_command_that_is_taken(
    data, tmp_path, monkeypatch, capsys
):
    bosh = pytest.importorskip("boutiques", reason="needs boutiques (extra dev)").bosh
    from tiny import CommandLine, model_folder

    bosh(["validate", str(DESCRIPTOR)])
    invocation = tmp_path / "invocation.json"
    asked = {
        "bids_dir": str(data),
        "out_dir": str(tmp_path / "out"),
        "participant_label": ["01", "02"],
        "bids_filter": "datatype=anat",
        "model": str(model_folder(tmp_path / "tiny")),
        "work_dir": str(tmp_path),
        "n_cpus": 1,
        "mem": "4GB",
        "skip_bids_validation": True,
    }
    invocation.write_text(json.dumps(asked))
    capsys.readouterr()
    bosh(["exec", "simulate", "-i", str(invocation), str(DESCRIPTOR)])
    program, *words = shlex.split(capsys.readouterr().out.strip().splitlines()[-1])
    assert program == PROGRAM and words[2] == "participant"
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    status, said, heard = CommandLine(monkeypatch, capsys)("bids", *words, "--dry-run", "--force")
    assert status == 0, heard
    assert "2 to restore, 0 refused" in said


# --- the program -----------------------------------------------------------------------------------------


@pytest.fixture
def program(tmp_path) -> Path:
    """The program of the container, beside a `medrestore` that prints its arguments and its environment."""
    folder = tmp_path / "bin"
    folder.mkdir()
    shutil.copy(CONTAINER / "entrypoint.sh", folder / "medrestore-container")
    (folder / "medrestore").write_text('#!/bin/sh\nfor word in "$@"; do echo "word $word"; done\nenv\n')
    for path in folder.iterdir():
        path.chmod(0o755)
    return folder / "medrestore-container"


def called(program: Path, *arguments: str, **environment: str) -> tuple[list[str], dict[str, str]]:
    given = {"PATH": os.environ["PATH"], **environment}
    done = subprocess.run([program, *arguments], env=given, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    words = [line.removeprefix("word ") for line in lines if line.startswith("word ")]
    return words, dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("word "))


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        (
            ["/data", "/out", "participant", "--n_cpus", "2"],
            ["bids", "/data", "/out", "participant", "--n_cpus", "2"],
        ),
        (["/data", "/out", "group"], ["bids", "/data", "/out", "group"]),  # which says that there is none
        (["bids", "/data", "/out", "participant"], ["bids", "/data", "/out", "participant"]),
        (["restore", "a b.nii", "-o", "c.nii"], ["restore", "a b.nii", "-o", "c.nii"]),
        (["--version"], ["--version"]),
        ([], []),
    ],
)
def test_a_bids_app_is_told_from_a_verb(program, given, taken):
    assert called(program, *given)[0] == taken


def test_nothing_is_written_where_nothing_can_be_and_nothing_is_taken_from_the_host(program, tmp_path):
    _, found = called(program, HOME="/nowhere", TMPDIR="/nowhere", PYTHONPATH="/host", PYTHONHOME="/host")
    assert found["HOME"] == found["TMPDIR"] == "/tmp"
    assert found["XDG_CACHE_HOME"].startswith("/tmp/") and found["MPLCONFIGDIR"].startswith("/tmp/")
    assert found.keys().isdisjoint({"PYTHONPATH", "PYTHONHOME"}) and found["LOGNAME"]
    _, found = called(program, HOME=str(tmp_path), TMPDIR=str(tmp_path), XDG_CACHE_HOME="/mine")
    assert (found["HOME"], found["TMPDIR"], found["XDG_CACHE_HOME"]) == (
        str(tmp_path),
        str(tmp_path),
        "/mine",
    )


# --- run as it is shipped --------------------------------------------------------------------------------

LOCKED = """
set -eu
system=$1 root=$2 place=$3 python=$4
shift 4
mount --make-rprivate /
mount --bind "$system" "$root"
mkdir -p "$root$place"
mount --bind "$place" "$root$place"
mount --bind "$place/out" "$root$place/out"
case $python in
/root/*) # a Python that belongs to root, in a home that nobody else may look into
    mount -t tmpfs -o mode=755 tmpfs "$root/root"
    mkdir -p "$root$python"
    mount --bind "$python" "$root$python"
    ;;
esac
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount -o remount,bind,ro "$root"
mount -o remount,bind,ro "$root$place"
exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin chroot --userspec=12345:12345 "$root" "$@"
"""
"""Everything but results and devices is read-only, nobody knows the user, and there is no network."""


def locked(system: Path, place: Path, *command: object) -> subprocess.CompletedProcess[str]:
    """Run a command in a system, with a folder of this one whose `out` can be written to."""
    script = ["unshare", "--mount", "--net", "sh", "-c", LOCKED, "locked", system, place / "root", place]
    return subprocess.run([*script, sys.base_prefix, *command], capture_output=True, text=True, check=False)


@pytest.fixture
def place(data) -> Iterator[Path]:
    """A folder that anybody may look into, with the data set, and `out` for results of the unknown user."""
    folder = Path(tempfile.mkdtemp(dir="/var/tmp"))
    folder.chmod(0o755)
    shutil.copytree(data, folder / "data")
    for name in ("out", "root"):
        (folder / name).mkdir()
    try:
        os.chown(folder / "out", 12345, 12345)
        if locked(Path("/"), folder, "true").returncode:
            pytest.skip("a system without rights cannot be made here")
        yield folder
    finally:
        shutil.rmtree(folder)


def restored_by(system: Path, place: Path, program: object) -> None:
    """Restore a participant as a BIDS App, and check what was made."""
    asked = ("--participant-label", "01", "--n_cpus", "1", "--force")
    done = locked(system, place, program, place / "data", place / "out", "participant", *asked)
    assert done.returncode == 0, done.stdout + done.stderr
    image = place / "out/sub-01/anat/sub-01_desc-denoised_T1w.nii.gz"
    record = json.loads(image.with_name("sub-01_desc-denoised_T1w.json").read_text(encoding="utf-8"))
    assert record["model"]["name"] == "medrestore/mr-denoise" and record["Sources"]
    assert np.isfinite(nib.load(image).get_fdata()).all()
    assert image.stat().st_uid == 12345
    assert not (place / "out/sub-02").exists()


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("hatchling") is None, reason="needs hatchling (extra dev)")
def test_what_is_installed_runs_read_only_without_network_and_as_anybody(place):
    """The same script, of which the packages that it would fetch are those of the running environment."""
    if locked(Path("/"), place, sys.executable, "-c", "import numpy").returncode:
        pytest.skip("the running Python lies where nobody else may look")
    prefix, here = place / "prefix", sysconfig.get_path("purelib")
    path = f"{Path(sys.base_prefix) / 'bin'}{os.pathsep}{os.environ['PATH']}"
    offline = {"PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0", "PIP_CONFIG_FILE": os.devnull}
    present = {"PATH": path, "PYTHONPATH": here, "TORCH": "torch", "TORCH_ARGS": " "}
    command = ["sh", CONTAINER / "install.sh", ROOT, prefix]
    environment = {**os.environ, **offline, **present}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (site,) = prefix.glob("lib/python*/site-packages")
    assert (site / "medrestore/builtin/models/mr-denoise/model.safetensors").is_file()
    (site / "running.pth").write_text(f"{here}\n")
    restored_by(Path("/"), place, prefix / "bin/medrestore-container")


@pytest.mark.slow
@pytest.mark.skipif(
    "MEDRESTORE_BASE" not in os.environ, reason="MEDRESTORE_BASE names no tar of a Debian system"
)
def test_the_image_is_built_and_runs(place):
    """Some minutes: a system from a tar, the Dockerfile as it is, packages from where pip finds them here."""
    buildah = ["buildah", "--root", place / "storage", "--runroot", place / "run"]

    def build(*arguments: object) -> str:
        done = subprocess.run([*buildah, *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    base = build("from", "scratch")
    build("add", "--quiet", base, os.environ["MEDRESTORE_BASE"], "/")
    build("commit", "--quiet", base, "localhost/base")
    wheels = place / "wheels"
    (pinned,) = re.findall(r'"\$\{TORCH:=(\S+)\}"', text("install.sh"))
    needed = [pinned, f"{ROOT}[batch,node,sr,train]", "hatchling"]
    subprocess.run([sys.executable, "-m", "pip", "download", "-q", "-d", wheels, *needed], check=True)
    offline = "--no-index --find-links /wheels"
    given = ("BASE=localhost/base", f"TORCH_ARGS={offline}", f"PIP_ARGS={offline}")
    build(
        *("build", "--quiet", "--isolation", "chroot", "--volume", f"{wheels}:/wheels:ro"),
        *(part for one in given for part in ("--build-arg", one)),
        *("--file", CONTAINER / "Dockerfile", "--tag", "localhost/medrestore", ROOT),
    )
    system = Path(build("mount", build("from", "localhost/medrestore")))
    try:
        files = [path for path in system.rglob("*") if path.is_file() and not path.is_symlink()]
        used = sum(path.stat().st_size for path in files)
        assert used < LARGEST, f"{used / 1e9:.2f} GB"
        restored_by(system, place, PROGRAM)
    finally:
        build("umount", "--all")
