"""Options of the command line: each arrives where it belongs, and the reference tells their defaults."""

from __future__ import annotations

import inspect
import re
from dataclasses import asdict, fields, replace
from enum import Enum
from pathlib import Path

import numpy as np
import pytest
import typer
from dicom_series import write_series
from docs_pages import DOCS
from tiny import CommandLine, phantom, save

from medrestore import FileOptions, OutputRequest, ReadPolicy, ReadRequest, RestoreOptions
from medrestore.batch import BatchOptions, Shard
from medrestore.cli import app, batching, summary
from medrestore.cli.batch import batch
from medrestore.cli.batching import MODULE, Workers
from medrestore.cli.restore import restore
from medrestore.job import run as restoring
from medrestore.options import BOTH as AS_BOTH
from medrestore.types import Modality, Task

RESTORE = {
    "model": ("mr-denoise", "mr-denoise"),
    "task": ("superres", Task.SUPERRES),
    "noise": ("5%", "5%"),
    "noise_map": ("constant", "constant"),
    "spacing": ("1mm", "1mm"),
    "slice_axis": ("k", "k"),
    "slice_profile": ("slr", "slr"),
    "slice_thickness": ("3.5", 3.5),
    "output": ("sample", "sample"),
    "ensemble": ("4", 4),
    "volumes": ("joint", "joint"),
    "samples": ("3", 3),
    "steps": ("7", 7),
    "sampler": ("stochastic", "stochastic"),
    "seed": ("9", 9),
    "device": ("cuda:1", "cuda:1"),
    "dtype": ("bfloat16", "bfloat16"),
    "threads": ("2", 2),
    "tile": ("64", 64),
    "max_memory": ("6GB", "6GB"),
    "save_map": ("null", "null"),
    "interval": ("0.9", 0.9),
    "calibration": ("own.toml", "own.toml"),
    "quality": (None, True),
    "detectability": (None, True),
    "strength": ("0.5", 0.5),
    "force": (None, True),
}
"""For each field of `RestoreOptions` what is said, None for a flag, and what arrives."""

POLICY = {
    "on_gap": ("resample", "resample"),
    "on_duplicate": ("skip", "skip"),
    "on_tilt": ("resample", "resample"),
    "on_nonuniform": ("skip", "skip"),
    "values": ("real-world", "real-world"),
    "nan_fill": ("-1024", -1024.0),
}
"""The same for `ReadPolicy`."""

BOTH = OutputRequest(form=AS_BOTH, dtype="int16")

WORKERS = {
    "count": ("--workers", "3", 3),
    "devices": ("--devices", "cuda:0,cuda:1", ["cuda:0", "cuda:1"]),
    "scheduler": ("--scheduler", "tcp://10.0.0.5:8786", "tcp://10.0.0.5:8786"),
    "time_limit": ("--time-limit", "12.5", 12.5),
    "max_memory": ("--max-memory", "6GB", "6GB"),
}
"""The same for `Workers`, with the name of the option."""


def said(name: str, table: dict[str, tuple[str | None, object]]) -> list[str]:
    """Return an option as it is written."""
    value = table[name][0]
    return [f"--{name.replace('_', '-')}", *([] if value is None else [value])]


@pytest.fixture
def jobs(monkeypatch, capsys, tmp_path):
    """Run `medrestore restore` up to where it would read the scan; return what is to be done."""
    cli = CommandLine(monkeypatch, capsys)
    seen: list[tuple[FileOptions, bool]] = []
    monkeypatch.setattr(restoring, "run", lambda job, meter: seen.append((job.options, not meter.shown)))
    monkeypatch.setattr(summary, "print_summary", lambda *_: None)

    def ask(scan: Path, *arguments: object) -> tuple[FileOptions, bool]:
        status, _, errors = cli("restore", scan, "-o", tmp_path / "out.nii.gz", *arguments)
        assert status == 0, errors
        return seen.pop()

    return ask


@pytest.fixture
def scan(tmp_path):
    return save(tmp_path / "head.nii", phantom(8))


@pytest.fixture
def dicom(tmp_path):
    write_series(tmp_path / "series")
    return tmp_path / "series"


def test_no_option_is_forgotten():
    assert set(RESTORE) == {field.name for field in fields(RestoreOptions)}
    assert set(POLICY) == {field.name for field in fields(ReadPolicy)}
    assert set(WORKERS) == {field.name for field in fields(Workers)}


def test_without_options_the_defaults_are_those_of_python(jobs, scan):
    assert jobs(scan) == (FileOptions(), False)


@pytest.mark.parametrize("name", sorted(RESTORE.keys() - {"calibration"}))
def test_an_option_of_a_restoration_arrives_alone(jobs, scan, name):
    options, _ = jobs(scan, *said(name, RESTORE))
    assert options == FileOptions(restore=replace(RestoreOptions(), **{name: RESTORE[name][1]}))


def test_a_calibration_arrives_with_an_interval(jobs, scan):
    options, _ = jobs(scan, *said("interval", RESTORE), *said("calibration", RESTORE))
    assert options == FileOptions(restore=RestoreOptions(interval=0.9, calibration="own.toml"))


@pytest.mark.parametrize("name", POLICY)
def test_an_option_of_reading_arrives_alone(jobs, dicom, name):
    options, _ = jobs(dicom, *said(name, POLICY))
    policy = replace(ReadPolicy(), **{name: POLICY[name][1]})
    assert options == FileOptions(reading=ReadRequest(policy))


def test_a_value_for_what_is_no_number_is_for_every_format(jobs, scan):
    assert jobs(scan, *said("nan_fill", POLICY))[0].reading.policy == ReadPolicy(nan_fill=-1024)


@pytest.mark.parametrize(
    ("arguments", "field", "value"),
    [
        (("--series", "2"), "reading", ReadRequest(series="2")),
        (("--modality", "ct"), "modality", Modality.CT),
        (("--reference", "truth.nii"), "reference", Path("truth.nii")),
        (
            ("--format", "both", "--out-dtype", "int16"),
            "output",
            OutputRequest(form=AS_BOTH, dtype="int16"),
        ),
    ],
)
def test_what_else_is_asked_of_one_scan_arrives(jobs, dicom, arguments, field, value):
    assert getattr(jobs(dicom, *arguments)[0], field) == value
    assert getattr(jobs(dicom)[0], field) != value


@pytest.mark.parametrize("flag", ["-q", "--quiet"])
def test_quiet_arrives(jobs, scan, flag):
    assert jobs(scan, flag)[1] is True


@pytest.mark.parametrize("name", sorted(POLICY.keys() - {"nan_fill"}))
def test_options_of_reading_are_refused_for_what_is_no_dicom(monkeypatch, capsys, scan, tmp_path, name):
    monkeypatch.setattr(restoring, "run", None)
    cli = CommandLine(monkeypatch, capsys)
    status, _, errors = cli("restore", scan, "-o", tmp_path / "out.nii", *said(name, POLICY))
    assert status == 2 and "is no DICOM, which --values and --on-... are for" in " ".join(errors.split())


# --- a folder of scans ---


@pytest.fixture
def batches(monkeypatch, capsys, tmp_path):
    """Run `medrestore batch` up to where the work would begin; return settings, options and workers."""
    cli = CommandLine(monkeypatch, capsys)
    (tmp_path / "scans").mkdir()
    save(tmp_path / "scans" / "head_T1w.nii", np.zeros((2, 2, 2), np.float32))
    seen: list[tuple] = []

    def execute(found, out, *asked, quiet):
        assert (len(found.cases), out) == (1, tmp_path / "out")
        seen.append((*asked, quiet))
        return 0

    monkeypatch.setattr(batching, "execute", execute)

    def ask(*arguments: object) -> tuple:
        status, _, errors = cli("batch", tmp_path / "scans", "-o", tmp_path / "out", *arguments)
        assert status == 0, errors
        return seen.pop()

    return ask


def test_a_batch_without_options_has_the_defaults_of_python(batches):
    settings, options, workers, quiet = batches()
    assert (settings.restore, settings.policy) == (asdict(RestoreOptions()), asdict(ReadPolicy()))
    assert (options, workers, quiet) == (BatchOptions(), Workers(), False)


@pytest.mark.parametrize("name", sorted(RESTORE.keys() - {"model", "calibration"}))
def test_an_option_of_a_restoration_arrives_in_a_batch(batches, name):
    settings, *_ = batches(*said(name, RESTORE))
    assert settings.restore == asdict(replace(RestoreOptions(), **{name: RESTORE[name][1]}))
    assert settings.policy == asdict(ReadPolicy())


@pytest.mark.parametrize("name", POLICY)
def test_an_option_of_reading_arrives_in_a_batch(batches, name):
    settings, *_ = batches(*said(name, POLICY))
    assert settings.policy == asdict(replace(ReadPolicy(), **{name: POLICY[name][1]}))


@pytest.mark.parametrize("name", WORKERS)
def test_an_option_of_the_workers_arrives_alone(batches, name):
    option, text, value = WORKERS[name]
    _, options, workers, _ = batches(option, text)
    assert workers == replace(Workers(), **{name: value})
    assert options == BatchOptions()


@pytest.mark.parametrize(
    ("arguments", "change"),
    [
        (("--retry-failed",), {"retry_failed": True}),
        (("--overwrite",), {"overwrite": True}),
        (("--shard", "2/3"), {"shard": Shard(2, 3)}),
    ],
)
def test_an_option_of_a_batch_arrives_alone(batches, arguments, change):
    _, options, workers, _ = batches(*arguments)
    assert options == replace(BatchOptions(), **change)
    assert workers == Workers()


@pytest.mark.parametrize(
    ("workers", "maker", "arguments", "named"),
    [
        (Workers(time_limit=9.0), "Worker", [9.0, {}], ("time_limit", "changes")),
        (Workers(devices=["cuda:1"]), "Worker", [None, {"device": "cuda:1"}], ("time_limit", "changes")),
        (Workers(count=3, max_memory="6GB"), "local_workers", [MODULE, 3, None, (), 6 * 10**9], ()),
        (
            Workers(devices=["cuda:0", "cuda:1"], max_memory="6GB", time_limit=9.0),
            *("local_workers", [MODULE, 2, 9.0, ["cuda:0", "cuda:1"], 6 * 10**9], ()),
        ),
        (
            Workers(count=4, scheduler="slurm", time_limit=9.0, devices=["cuda:0"]),
            *("cluster_workers", ["slurm", MODULE, 9.0, 4], ()),
        ),
    ],
)
def test_workers_are_started_as_asked(monkeypatch, workers, maker, arguments, named):
    seen: list[list[object]] = []

    class Made(list):
        def __init__(self, *given: object, **more: object) -> None:
            seen.append([more[name] for name in named] if named else [*given, *more.values()])

        def slots(self) -> list[object]:
            return []

    for home, name in (
        ("cli.batching", "Worker"),
        ("batch.workers.dask", "local_workers"),
        ("batch.workers.dask", "cluster_workers"),
    ):
        monkeypatch.setattr(f"medrestore.{home}.{name}", Made if name == maker else None)
    assert workers.start() == []
    assert seen == [arguments]


# --- the reference ---


def stated_defaults(command: str) -> dict[str, str]:
    """Return the cell of the default for each option of a command, by its longest name."""
    page = (DOCS / "reference/cli.md").read_text(encoding="utf-8")
    section = page.partition(f"\n## `medrestore {command}`\n")[2].partition("\n## ")[0]
    found = {}
    for line in section.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        names = re.findall(r"`(--[^`]+)`", cells[0])
        if line.startswith("| `") and len(names) == 1:
            found[names[0]] = cells[1]
    return found


def defaults(command: str) -> dict[str, object]:
    """Return the default that a command has for each option, by its longest name."""
    function = {"restore": restore, "batch": batch}[command]
    parameters = inspect.signature(function).parameters
    return {
        max(parameter.opts, key=len): parameters[str(parameter.name)].default
        for parameter in typer.main.get_command(app).commands[command].params
        if parameter.name in parameters
    }


def literal(cell: str) -> str | None:
    """Return the value that a cell states; None where it says in words what is taken instead."""
    match = re.fullmatch(r"`([^`]*)`|(\d+(?:\.\d+)?)", cell)
    return "False" if cell == "off" else (match[1] or match[2]) if match else None


@pytest.mark.skipif(not DOCS.is_dir(), reason="needs the source tree")
@pytest.mark.parametrize("command", ["restore", "batch"])
def test_the_reference_states_the_defaults(command):
    stated, found = stated_defaults(command), defaults(command)
    assert len(stated) > 10 and stated.keys() <= found.keys()
    wrong = {}
    for name, cell in stated.items():
        value = found[name].value if isinstance(found[name], Enum) else found[name]
        shown = f"{value:g}" if isinstance(value, float) else str(value)
        expected = None if value in (None, inspect.Parameter.empty) else shown
        if literal(cell) != expected:
            wrong[name] = (cell, value)
    assert not wrong
    assert {"False"} < {literal(cell) for cell in stated.values()} - {None}


def test_a_batch_has_the_defaults_of_one_scan():
    one, many = defaults("restore"), defaults("batch")
    shared = one.keys() & many.keys()
    assert len(shared) > 25
    assert {name: one[name] for name in shared} == {name: many[name] for name in shared}
