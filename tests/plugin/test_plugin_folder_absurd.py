"""Model folders that nobody can use: refused with a message that names them, before memory is taken."""

from __future__ import annotations

import hashlib
import json
import math
import os
import struct
import subprocess
import sys

import pytest
import torch
from safetensors.torch import save
from tiny import CommandLine, model_folder, phantom
from tiny import save as save_scan

from medrestore.errors import ConfigError, ModelError, PluginError
from medrestore.networks import build
from medrestore.networks.weights import not_finite
from medrestore.node import load_routes
from medrestore.plugin import LoadContext, ModelSpec, read_model_folder
from medrestore.toml import DEEPEST, MOST_BYTES, read_toml
from medrestore.training import load_config
from medrestore.types import Modality, Task

LONGEST = 800
"""Characters of a message: what was found is cut off at 200."""


@pytest.fixture
def folder(tmp_path):
    return model_folder(tmp_path / "tiny")


def edit(folder, old: str, new: str) -> None:
    text = (folder / "model.toml").read_text()
    assert old in text, text
    (folder / "model.toml").write_text(text.replace(old, new, 1))


def refused(folder) -> str:
    """The message with which a folder is refused when it is read, or at the latest when it is loaded."""
    with pytest.raises(ModelError) as caught:
        read_model_folder(folder).load(LoadContext())
    said = str(caught.value)
    assert str(folder) in said and len(said) < LONGEST
    return said


@pytest.mark.parametrize("depth", [DEEPEST + 1, 200, 5000])
@pytest.mark.parametrize("kind", ["array", "table"])
def test_what_is_nested_deeply_is_refused(folder, depth, kind):
    value = "[" * depth + "]" * depth if kind == "array" else "{a=" * depth + "1" + "}" * depth
    text = (folder / "model.toml").read_text()
    (folder / "model.toml").write_text(f"deep = {value}\n{text}")
    assert f"nested deeper than the {DEEPEST} levels" in refused(folder)


@pytest.mark.parametrize(
    "options",
    [
        "widths = [1000000, 8]",
        "widths = [-8, 8]",
        "widths = [0, 8]",
        "widths = [8.0, 8]",
        'widths = ["8", 8]',
        "widths = [true, 8]",
        "widths = 8",
        'widths = "88"',
        "widths = [[8], 8]",
        "widths = [nan, 8]",
        "down = [1000000, 1]",
        "down = [-1, 1]",
        "embedding = 1000000000",
        "embedding = -1",
        "details = 100000",
        "details = inf",
        f"widths = {[8] * 1000}\ndown = {[1] * 1000}\nup = {[1] * 999}",
        "widths = []\ndown = []\nup = []",
        "widths = [4096, 4096]\ndown = [64, 64]\nup = [64]",
        f"widths = [{10**4000}, 8]",
        "depth = 3",
    ],
)
def test_a_network_that_nobody_can_build_is_refused(folder, options):
    names = [line.split(" = ")[0] for line in options.splitlines()]
    lines = (folder / "model.toml").read_text().splitlines()
    start = lines.index("[network.options]")
    end = next((n for n in range(start + 1, len(lines)) if lines[n].startswith("[")), len(lines))
    table, kept, skipping = lines[start + 1 : end], [], False
    for line in table:  # arrays may be written over several lines
        skipping = line.split(" = ")[0] in names if " = " in line else skipping
        kept += [] if skipping else [line]
    text = "\n".join([*lines[: start + 1], options, *kept, *lines[end:]])
    (folder / "model.toml").write_text(text)
    assert "network 'voxelnet' cannot be built" in refused(folder)


def test_a_network_is_refused_before_it_takes_memory():
    """Not by what the system has: in a process that may have little."""
    program = (
        "import resource, torch\n"
        "from medrestore.networks import build\n"
        "from medrestore.errors import ModelError\n"
        "used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "for options in ({'widths': [10**6, 10**6], 'down': [9, 9], 'up': [9]},\n"
        "                {'widths': [8] * 10**6, 'down': [1] * 10**6, 'up': [1] * (10**6 - 1)},\n"
        "                {'widths': [8, 8], 'down': [10**6, 1], 'up': [1]}):\n"
        "    try:\n"
        "        build('voxelnet', options)\n"
        "    except ModelError as error:\n"
        "        print(len(str(error)) < 800)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - used < 100_000)\n"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["True"] * 4


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('title = "A tiny network that nobody trained"', f'title = "{"x" * 5000}"', "title is"),
        ('name = "tiny"', f'name = "{"x" * 5000}"', "name is"),
        ("halo = ", "halo = 1000000000 #", "halo is 1000000000"),
        ("halo = ", f"halo = {hex(10**5000)} #", "halo is a int that is too long to show"),
        ("halo = ", f"halo = 1{'0' * 5000} #", "not TOML"),
        ("multiple = ", "multiple = 1000000 #", "multiple is 1000000"),
        ("multiple = ", 'multiple = "4" #', "multiple is '4'"),
        ("multiple = ", "multiple = nan #", "multiple is nan"),
        ('task = "denoise"', f'task = "{"y" * 5000}"', "task has 'yyy"),
        ("noise = ", "noise = [nan, nan] #", "noise is"),
        ("noise = ", "noise = [0.0, inf] #", "noise is"),
        ('licence = "Apache-2.0"', "licence = 5", "licence is 5"),
        ('licence = "Apache-2.0"', f'{"k" * 5000} = 1\nlicence = "MIT"', "unknown key 'kkk"),
        ('file = "model.safetensors"', f'file = "{"z" * 200}"', "weights.file is 'zzz"),
        ('licence = "Apache-2.0"', f'licence = "{"x" * (MOST_BYTES + 1)}"', "bytes, expected at most"),
    ],
)
def test_a_value_that_no_model_has_is_refused(folder, old, new, said):
    lines = (folder / "model.toml").read_text()
    if " #" in new:  # an array may go on over lines: drop them
        start = lines.index(old)
        stop = (
            lines.index("]\n", start) + 2 if "[" in lines[start:].split("\n")[0] else lines.index("\n", start)
        )
        (folder / "model.toml").write_text(f"{lines[:start]}{new.removesuffix(' #')}\n{lines[stop:]}")
    else:
        edit(folder, old, new)
    assert said in refused(folder)


def put_weights(folder, weights: bytes) -> None:
    """Replace the weights, and describe them."""
    before = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    (folder / "model.safetensors").write_bytes(weights)
    edit(folder, before, hashlib.sha256(weights).hexdigest())


def weights_of(folder) -> dict[str, torch.Tensor]:
    from safetensors.torch import load

    return load((folder / "model.safetensors").read_bytes())


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64, torch.bfloat16])
def test_weights_that_are_not_finite_are_refused(folder, value, dtype):
    weights = {name: array.to(dtype) for name, array in weights_of(folder).items()}
    weights["stem.bias"][1] = value
    put_weights(folder, save(weights))
    assert "1 weights are not finite, in 'stem.bias'" in refused(folder)


def test_a_file_that_is_no_weights_is_refused(folder):
    good = (folder / "model.safetensors").read_bytes()
    header = json.loads(good[8 : 8 + struct.unpack("<Q", good[:8])[0]])
    for content in (
        b"",
        b"\0" * 7,
        struct.pack("<Q", 1 << 62) + good[8:],
        struct.pack("<Q", 99_000_000) + good[8:],
        struct.pack("<Q", 10) + b"{" * 10,
        struct.pack("<Q", 200_000) + b"[" * 200_000,
        good[:-10],
        good + b"\0" * 10,
        _with_header(good, {**header, "stem.bias": {**header["stem.bias"], "shape": [1 << 60]}}),
        _with_header(good, {**header, "stem.bias": {**header["stem.bias"], "data_offsets": [0, 1 << 60]}}),
        save({name: array.to(torch.complex64) for name, array in weights_of(folder).items()}),
        save({name: array.to(torch.int32) for name, array in weights_of(folder).items()}),
        save({f"other.{number}": torch.zeros(1) for number in range(2000)}),
    ):
        put_weights(folder, content)
        assert "do not fit the network" in refused(folder)


def _with_header(good: bytes, header: dict) -> bytes:
    (size,) = struct.unpack("<Q", good[:8])
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + good[8 + size :]


def test_more_weights_than_the_network_has_are_not_read(folder):
    with (folder / "model.safetensors").open("r+b") as stream:
        stream.truncate(1 << 36)  # a hole: it takes no disk, and would take all the memory
    assert "do not fit the network" in refused(folder)


def test_the_command_line_names_the_model(folder, tmp_path, monkeypatch, capsys):
    weights = weights_of(folder)
    weights["head.weight"].fill_(math.nan)
    put_weights(folder, save(weights))
    scan = save_scan(tmp_path / "a_T1w.nii", phantom(24))
    run = CommandLine(monkeypatch, capsys)
    status, _, said = run("restore", scan, "-o", tmp_path / "out.nii", "--model", folder)
    assert status == 2 and str(folder) in said and "not finite" in said and "Traceback" not in said
    assert not (tmp_path / "out.nii").exists()


def test_what_a_plugin_declares_is_held_to_the_same():
    given = {
        "name": "m", "title": "t", "task": Task.DENOISE, "modalities": (Modality.MR,), "licence": "MIT",
        "reference": "r", "load": print, "spacing_mm": (1, 1), "noise": (0, 1), "halo": 8,
    }  # fmt: skip
    ModelSpec(**given)
    for field, value in (
        ("halo", 1 << 40),
        ("multiple", 1 << 40),
        ("title", "x" * 5000),
        ("name", "x" * 5000),
    ):
        with pytest.raises(PluginError, match=field):
            ModelSpec(**{**given, field: value})


@pytest.mark.parametrize("reads", [load_routes, load_config])
def test_other_files_of_toml_are_read_within_the_same_bounds(tmp_path, reads):
    path = tmp_path / "a.toml"
    for text in (
        "a = " + "[" * 5000 + "]" * 5000,
        f'a = "{"x" * MOST_BYTES}"',
        f"a = 1{'0' * 5000}",
        "a = \x00",
    ):
        path.write_text(text)
        with pytest.raises(ConfigError, match=r"a\.toml"):
            reads(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=r"a\.toml"):
        reads(path)


def test_what_is_nested_as_deep_as_may_be_is_read(tmp_path):
    (tmp_path / "a.toml").write_text("a = " + "[" * (DEEPEST - 1) + "]" * (DEEPEST - 1))
    assert read_toml(tmp_path / "a.toml")["a"] != []


def test_what_is_finite_is_finite():
    network = build("voxelnet", {"widths": [8], "down": [1], "up": []})
    assert not_finite(network.state_dict()) == ""


@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_what_is_no_file_is_not_read(folder, kind):
    path = folder / "model.toml"
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    assert "it is no regular file" in refused(folder)
