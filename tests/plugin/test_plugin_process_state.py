"""What a plugin changes of the process is put back, and named."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from medrestore.plugin.process_state import process_state_kept


def enter(folder: Path) -> None:
    os.chdir(folder)


def set_cudnn() -> None:
    torch.backends.cudnn.benchmark = not torch.backends.cudnn.benchmark


def state() -> list[object]:
    return [
        Path.cwd(),
        dict(os.environ),
        random.getstate(),
        np.random.get_state()[1].tolist(),  # noqa: NPY002 - the global generator is meant
        torch.get_rng_state().tolist(),
        torch.get_default_dtype(),
        torch.get_default_device(),
        torch.get_num_threads(),
        torch.is_grad_enabled(),
        torch.are_deterministic_algorithms_enabled(),
        torch.backends.cudnn.benchmark,
        torch.is_autocast_enabled("cpu"),
        torch.get_float32_matmul_precision(),
        np.geterr(),
    ]


CHANGES = {
    "the current folder": lambda: enter(Path("/")),
    "environment variables": lambda: os.environ.update(ODD="1"),
    "torch's default dtype": lambda: torch.set_default_dtype(torch.float64),
    "torch's default device": lambda: torch.set_default_device("meta"),
    "torch's number of threads": lambda: torch.set_num_threads(torch.get_num_threads() + 1),
    "torch's gradient mode": lambda: torch.set_grad_enabled(False),
    "torch's deterministic mode": lambda: torch.use_deterministic_algorithms(True),
    "cuDNN's switches": set_cudnn,
    "torch's precision of float32 products": lambda: torch.set_float32_matmul_precision("medium"),
    "numpy's errors of arithmetic": lambda: np.seterr(all="raise"),
    "autocast on cpu": lambda: torch.autocast("cpu", torch.bfloat16).__enter__(),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_put_back_and_named(name):
    before = state()
    with process_state_kept() as changed:
        CHANGES[name]()
        assert state() != before
    assert state() == before
    assert changed[-1] == name  # a first use may set variables


def test_it_is_put_back_where_an_error_ends_the_block():
    before = state()

    def leave() -> None:
        with process_state_kept():
            torch.set_default_dtype(torch.float64)
            sys.exit(0)

    with pytest.raises(SystemExit):
        leave()
    assert state() == before


def test_a_variable_that_was_removed_or_changed_is_there_again(monkeypatch):
    monkeypatch.setenv("ONE", "1")
    monkeypatch.setenv("TWO", "2")
    with process_state_kept() as changed:
        del os.environ["ONE"]
        os.environ["TWO"] = "3"
    assert (os.environ["ONE"], os.environ["TWO"]) == ("1", "2")
    assert changed == ["environment variables"]


def seed() -> None:
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002 - the global generator is meant
    torch.manual_seed(1)


@pytest.mark.parametrize("draw", [random.random, np.random.random, torch.rand(()).random_, seed])
def test_global_random_generators_go_on_as_if_nothing_was_drawn(draw):
    before = state()
    with process_state_kept() as changed:
        draw()
    assert state() == before
    assert changed == []


def test_a_folder_that_is_gone_is_no_error(tmp_path, monkeypatch):
    here = Path.cwd()
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    with process_state_kept():
        (tmp_path / "gone").rmdir()
        enter(here)
    assert Path.cwd() == here


def test_torch_that_the_block_loads_is_as_it_comes():
    code = (
        "import sys\nfrom medrestore.plugin.process_state import process_state_kept\n"
        "assert 'torch' not in sys.modules\n"
        "with process_state_kept() as changed:\n"
        "    import torch\n    torch.set_default_dtype(torch.float64)\n    torch.set_grad_enabled(False)\n"
        "print(changed, torch.get_default_dtype(), torch.is_grad_enabled())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == '["torch\'s default dtype", "torch\'s gradient mode"] torch.float32 True\n'


def test_a_precision_of_one_backend_is_put_back_to_that_of_all():
    with process_state_kept() as changed:
        torch.backends.cuda.matmul.fp32_precision = "tf32"
    assert changed == ["torch's precision of float32 products"]
    assert torch.get_float32_matmul_precision() == "highest"
    assert torch.backends.cuda.matmul.fp32_precision == "ieee"
