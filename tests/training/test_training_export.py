"""The folder of a run: what of it is written, whatever is there already."""

from __future__ import annotations

import subprocess
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from tiny import MODEL, NETWORK, mount_small, phantom, save

from medrestore import networks
from medrestore.errors import InputError, OutputError
from medrestore.plugin import Intensity
from medrestore.training import train
from medrestore.training.export import GENERATED, TrainingFacts, model_card
from medrestore.training.log import LOG_FIELDS, read_log
from medrestore.training.recipe import (
    CtOptions,
    DataOptions,
    LoopOptions,
    NetworkOptions,
    SliceOptions,
    TrainConfig,
)
from medrestore.training.validate import make_cases

RUN = TrainConfig(
    data=DataOptions(roots=(".",), scans=("one.nii",), spacings_mm=()),
    loop=LoopOptions(steps=2, batch=1, patch=16, validate_steps=0, bfloat16=False),
    model=MODEL,
    network=NetworkOptions(options=NETWORK),
)


@pytest.fixture
def folder(tmp_path):
    save(tmp_path / "one.nii", phantom(24))
    return tmp_path


def longer(steps: int) -> TrainConfig:
    return replace(RUN, loop=replace(RUN.loop, steps=steps))


def test_a_card_without_its_first_line_which_says_that_it_is_generated_stays(folder):
    train(RUN, folder, folder / "work")
    card = folder / "work" / "model" / "README.md"
    first, _, rest = card.read_text().partition("\n")
    assert first == GENERATED
    card.write_text(f"{rest.lstrip()}\nMy own words.\n")
    train(longer(3), folder, folder / "work")
    assert card.read_text() == f"{rest.lstrip()}\nMy own words.\n"


def test_the_card_says_what_was_validated_on_and_what_the_first_weights_saw():
    facts = TrainingFacts(3, ("one.nii",), 31.25, "mr-denoise (sha256 00...)")
    held_out = replace(RUN, data=replace(RUN.data, validation=("v.nii", "w*.nii")))
    card = model_card(MODEL, held_out, facts)
    assert "mean PSNR 31.25 dB over `v.nii`, `w*.nii`, white Rician" in card
    assert "those that mr-denoise (sha256 00...) saw: its card" in card.partition("that the weights saw")[2]
    in_ct = model_card(MODEL, replace(held_out, ct=CtOptions()), facts)
    assert "over `v.nii`, `w*.nii` and a computed body, simulated low doses" in in_ct
    card = model_card(MODEL, held_out, TrainingFacts(3, ("one.nii",), None))
    assert "- Validation: not measured.\n" in card and "its card" not in card


def test_a_blank_scan_to_validate_on_is_told_before_training(tmp_path):
    blank = save(tmp_path / "blank.nii", 0 * phantom(24))
    with pytest.raises(InputError, match=r"blank\.nii: its brightest voxel is 0 "):
        make_cases([blank], Intensity.P99)


def test_a_scan_with_too_few_planes_for_slices_is_no_silence(folder):
    with pytest.raises(InputError, match=r"one\.nii: has 3 planes .* expected 4 or more"):
        make_cases([save(folder / "one.nii", phantom(24)[:, :, 10:13])], Intensity.P99, SliceOptions())


def test_a_card_in_another_encoding_stays(folder):
    card = folder / "work" / "model" / "README.md"
    card.parent.mkdir(parents=True)
    card.write_bytes("# Modèle".encode("latin-1"))
    train(RUN, folder, folder / "work")
    assert card.read_bytes() == "# Modèle".encode("latin-1")


@pytest.mark.parametrize("name", ["work", "work/model", "work/log.csv"])
def test_what_cannot_be_written_to_is_told_before_the_first_step(folder, name):
    if name.endswith("csv"):
        (folder / name).mkdir(parents=True)
    else:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()
    steps = []
    with pytest.raises(OutputError, match=name):
        train(RUN, folder, folder / "work", progress=steps.append)
    assert not steps


def test_a_picture_that_cannot_be_drawn_keeps_no_model_back(folder):
    (folder / "work" / "loss.png").mkdir(parents=True)
    assert train(RUN, folder, folder / "work").name == "tiny"


@pytest.fixture
def disk(tmp_path):
    """A folder with a file system of its own that no checkpoint fits into."""
    small = mount_small(tmp_path / "disk", "64k")
    yield small
    subprocess.run(["umount", "--lazy", small], check=True)


def test_a_full_disk_is_told(folder, disk):
    with pytest.raises(OutputError, match=r"checkpoint\.pt: cannot be written"):
        train(RUN, folder, disk)


@pytest.mark.parametrize(
    "row", ["x,1,1,1,1,", "1,2", "1,1,1,1,1,,9", "1,nan,1,1,1,", "\0\0", "2,0.5,1e-3,0.2"]
)
def test_rows_of_a_log_that_cannot_be_read_are_left_out(folder, row):
    train(RUN, folder, folder / "work")
    log = folder / "work" / "log.csv"
    header, first, second = log.read_text().splitlines()
    log.write_text(f"{header}\n{first}\n{row}\n{second}\n")
    train(longer(3), folder, folder / "work")
    assert [row["step"] for row in read_log(log)] == ["1", "2", "3"]
    log.write_text(f"hello\n{row}\n")
    train(longer(4), folder, folder / "work")
    assert log.read_text().splitlines()[0] == ",".join(LOG_FIELDS)


class Normalising(torch.nn.Module):
    """Has statistics, which are no weights."""

    halo, multiple = 2, 1

    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Conv3d(4, 4, 3, padding=1), torch.nn.BatchNorm3d(4), torch.nn.Conv3d(4, 1, 3, padding=1)
        )

    def forward(self, inputs: torch.Tensor, levels: torch.Tensor) -> torch.Tensor:
        return self.layers(inputs)


class Pointwise(torch.nn.Module):
    """Has no kernels."""

    halo, multiple = 0, 1

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(4, 1)

    def forward(self, inputs: torch.Tensor, levels: torch.Tensor) -> torch.Tensor:
        return self.layer(inputs.movedim(1, -1)).movedim(-1, 1)


def test_the_statistics_of_a_network_are_exported_with_its_weights(folder, monkeypatch):
    monkeypatch.setitem(networks.NETWORKS, "normalising", Normalising)
    train(replace(RUN, network=NetworkOptions("normalising")), folder, folder / "work")
    learnt = torch.load(folder / "work" / "checkpoint.pt", weights_only=True)["network"]
    exported = load_file(folder / "work" / "model" / "model.safetensors")
    assert exported["layers.1.num_batches_tracked"] == 2
    for name in ("layers.1.running_mean", "layers.1.running_var"):
        torch.testing.assert_close(exported[name], learnt[name].half())
        assert exported[name].std() > 0


def test_a_network_without_kernels_is_trained(folder, monkeypatch):
    monkeypatch.setitem(networks.NETWORKS, "pointwise", Pointwise)
    assert train(replace(RUN, network=NetworkOptions("pointwise")), folder, folder / "work").name == "tiny"
