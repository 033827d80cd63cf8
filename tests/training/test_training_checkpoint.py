"""Checkpoints: a run goes on from its own, whole ones only, and is told why it cannot."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tiny import MODEL, NETWORK, phantom, save

from medrestore import networks
from medrestore.errors import ConfigError, OutputError
from medrestore.training import train
from medrestore.training.checkpoint import save_checkpoint
from medrestore.training.loop import Trainer
from medrestore.training.recipe import (
    AugmentationOptions,
    DataOptions,
    DegradationOptions,
    LoopOptions,
    NetworkOptions,
    SliceOptions,
    TrainConfig,
)

COLOUR = {**MODEL, "colour": True}
RUN = TrainConfig(
    data=DataOptions(roots=(".",), scans=("one.nii",), spacings_mm=()),
    loop=LoopOptions(steps=2, batch=1, patch=16, validate_steps=0, bfloat16=False),
    model=COLOUR,
    network=NetworkOptions(options={**NETWORK, "details": 4}),
    degradation=DegradationOptions(coloured=0.5),
)


@pytest.fixture
def folder(tmp_path):
    save(tmp_path / "one.nii", phantom(24))
    save(tmp_path / "two.nii", phantom(20))
    train(RUN, tmp_path, tmp_path / "work")
    return tmp_path


@pytest.mark.parametrize(
    ("config", "named"),
    [
        (
            replace(RUN, data=replace(RUN.data, scans=("two.nii",))),
            r"data\.scans was \[\"one\.nii\"\] and is",
        ),
        (replace(RUN, loop=replace(RUN.loop, seed=7)), r"loop\.seed was 1 and is 7"),
        (replace(RUN, loop=replace(RUN.loop, batch=2)), r"loop\.batch was 1 and is 2"),
        (replace(RUN, augmentation=AugmentationOptions(lesions=0.5)), r"augmentation\.lesions was 0\.0"),
        (replace(RUN, degradation=DegradationOptions(coloured=0.1)), r"degradation\.coloured was 0\.5"),
        (
            replace(
                RUN,
                slices=SliceOptions(),
                model={**MODEL, "task": "superres", "factor": [1.5, 6.0], "noise": [0.0, 0.08]},
            ),
            r"slices was null and is not there; slices\.",
        ),
    ],
)
def test_a_finished_run_is_not_exported_as_another(folder, config, named):
    exported = (folder / "work" / "model" / "README.md").read_bytes()
    with pytest.raises(ConfigError, match=rf"checkpoint\.pt.* of another configuration: .*{named}"):
        train(config, folder, folder / "work")
    assert (folder / "work" / "model" / "README.md").read_bytes() == exported


def test_another_scan_of_the_same_name_is_noticed(folder):
    save(folder / "one.nii", phantom(28))
    with pytest.raises(ConfigError, match=r"the files was one\.nii \(\d+ bytes\) and is one\.nii"):
        train(RUN, folder, folder / "work")


def test_what_does_not_change_what_is_learnt_may_be_changed_even_in_another_folder(folder):
    copy = folder.rename(folder.with_name("elsewhere"))
    loop = replace(RUN.loop, steps=3, rate=1e-3, warmup=2, validate_steps=1, checkpoint_minutes=0.0)
    said = {**COLOUR, "title": "Another title", "noise": [0.02, 0.1]}
    steps = []
    options = {"progress": lambda at: steps.append(at.step)}
    train(replace(RUN, loop=loop, model=said), copy, copy / "work", **options)
    assert steps == [3]
    assert "Another title" in (copy / "work" / "model" / "README.md").read_text()


@pytest.mark.parametrize(
    "state", [b"", b"cut off", [1, 2], torch.zeros(3), {}, {"network": {}}, {"identity": 5}, "folder"]
)
def test_what_is_no_checkpoint_is_told(folder, state):
    path = folder / "work" / "checkpoint.pt"
    path.unlink()
    if state == "folder":
        path.mkdir()
    elif isinstance(state, bytes):
        path.write_bytes(state)
    else:
        torch.save(state, path)
    with pytest.raises(
        ConfigError, match=r"checkpoint\.pt: cannot go on from this checkpoint: it .*remove it"
    ):
        train(RUN, folder, folder / "work")


def test_a_checkpoint_that_cannot_be_written_leaves_the_old_one(folder, monkeypatch):
    def full(state, path):
        raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0")

    path = folder / "work" / "checkpoint.pt"
    before = path.read_bytes()
    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OutputError, match=r"checkpoint\.pt: cannot be written \(.*unexpected pos"):
        save_checkpoint(Trainer(RUN), path)
    assert path.read_bytes() == before
    assert {one.name for one in path.parent.iterdir()} == {"checkpoint.pt", "log.csv", "loss.png", "model"}


class Dropping(torch.nn.Module):
    """Draws at random while it is trained."""

    halo, multiple = 2, 1

    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Conv3d(4, 4, 3, padding=1), torch.nn.Dropout(0.5), torch.nn.Conv3d(4, 1, 3, padding=1)
        )

    def forward(self, inputs: torch.Tensor, levels: torch.Tensor) -> torch.Tensor:
        return self.layers(inputs)


def test_a_break_changes_nothing_for_a_network_that_draws_at_random(folder, monkeypatch):
    monkeypatch.setitem(networks.NETWORKS, "dropping", Dropping)
    loop = replace(RUN.loop, steps=4, checkpoint_minutes=0.0)
    config = replace(
        RUN,
        loop=loop,
        network=NetworkOptions("dropping"),
        degradation=DegradationOptions(),
        model=MODEL,
    )

    def interrupt(at):
        if at.step == 2:
            raise KeyboardInterrupt

    train(config, folder, folder / "straight")
    with pytest.raises(KeyboardInterrupt):
        train(config, folder, folder / "broken", progress=interrupt)
    train(config, folder, folder / "broken")
    files = [folder / name / "model" / "model.safetensors" for name in ("straight", "broken")]
    assert files[0].read_bytes() == files[1].read_bytes()
