"""What belongs to the whole process and a plugin may change for itself alone: it is put back behind it.

Costs about half a millisecond. torch is looked at where something has loaded it; it is not loaded here.
"""

from __future__ import annotations

import contextlib
import os
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any


@dataclass(frozen=True)
class _Setting:
    """One setting of the process.

    Attributes:
        name: For a person.
        read: Returns its value.
        write: Sets it.
        fresh: Its value when the library has just been loaded; None where that is not known.
    """

    name: str
    read: Callable[[], Any]
    write: Callable[[Any], object]
    fresh: object = None


@contextmanager
def process_state_kept() -> Iterator[list[str]]:
    """Put back, after the block, what it changed of the process.

    That is the current folder, the environment variables, the states of the global random generators of
    Python, numpy and torch, what numpy does about errors of arithmetic, and of torch its default dtype and
    device, the number of threads, gradient mode, deterministic mode, autocast, the precision of products in
    float32 and the switches of cuDNN. Where the block itself loads torch, its number of threads and its
    random generator stay as the block leaves them: what they were is not known. Filters of warnings are left
    alone: libraries set them for themselves while they are imported.

    Other threads share all of it: what they change meanwhile is put back as well, and until the block ends
    they see what it changed.

    Yields:
        A list that holds, after the block, the names of the settings that it changed. The use of a random
        generator is no change.
    """
    changed: list[str] = []
    kept = [(setting, setting.read()) for setting in (*_PROCESS, *_numpy_settings(), *_torch_settings())]
    generators = [(write, read()) for read, write in _generators()]
    absent = [
        settings
        for name, settings in (("numpy", _numpy_settings), ("torch", _torch_settings))
        if _loaded(name) is None
    ]
    try:
        yield changed
    finally:
        for settings in absent:
            kept += [(setting, setting.fresh) for setting in settings() if setting.fresh is not None]
        for setting, value in kept:
            if setting.read() != value:
                changed.append(setting.name)
                setting.write(value)
        for set_state, state in generators:
            set_state(state)


def _folder() -> str | None:
    """Return the current folder, None where it was removed."""
    try:
        return str(Path.cwd())
    except OSError:
        return None


def _enter(folder: str | None) -> None:
    if folder is not None:
        with contextlib.suppress(OSError):  # it was removed
            os.chdir(folder)


def _set_environment(variables: dict[str, str]) -> None:
    for name in os.environ.keys() - variables.keys():
        del os.environ[name]
    os.environ.update(variables)


_PROCESS = (
    _Setting("the current folder", _folder, _enter),
    _Setting("environment variables", os.environ.copy, _set_environment),
)


def _numpy_settings() -> list[_Setting]:
    """Return the settings of numpy, if it is loaded."""
    numpy: Any = _loaded("numpy")
    if numpy is None:
        return []
    fresh = {"divide": "warn", "over": "warn", "under": "ignore", "invalid": "warn"}
    return [
        _Setting("numpy's errors of arithmetic", numpy.geterr, lambda value: numpy.seterr(**value), fresh)
    ]


def _torch_settings() -> list[_Setting]:
    """Return the settings of torch, if it is loaded."""
    torch: Any = _loaded("torch")
    if torch is None:
        return []
    cudnn = torch.backends.cudnn

    def set_cudnn(values: tuple[bool, bool]) -> None:
        cudnn.benchmark, cudnn.deterministic = values

    def set_device(device: object) -> None:
        # One that is stated costs time at every call.
        torch.set_default_device(None if device == cpu else device)

    cpu = torch.device("cpu")
    return [
        _Setting("torch's default dtype", torch.get_default_dtype, torch.set_default_dtype, torch.float32),
        _Setting("torch's default device", torch.get_default_device, set_device, cpu),
        _Setting("torch's number of threads", torch.get_num_threads, torch.set_num_threads),
        _Setting("torch's gradient mode", torch.is_grad_enabled, torch.set_grad_enabled, True),
        _Setting(
            "torch's deterministic mode",
            torch.get_deterministic_debug_mode,
            torch.set_deterministic_debug_mode,
            0,
        ),
        _precision_setting(torch),
        _Setting("cuDNN's switches", lambda: (cudnn.benchmark, cudnn.deterministic), set_cudnn),
        *(
            _Setting(
                f"autocast on {kind}",
                partial(torch.is_autocast_enabled, kind),
                partial(torch.set_autocast_enabled, kind),
                False,
            )
            for kind in ("cpu", "cuda")
        ),
    ]


def _precision_setting(torch: Any) -> _Setting:
    def read() -> str:
        try:
            return str(torch.get_float32_matmul_precision())
        except RuntimeError:  # it was set for one backend alone
            return ""

    def write(value: str) -> None:
        if value:
            torch.set_float32_matmul_precision(value)

    return _Setting("torch's precision of float32 products", read, write, "highest")


def _generators() -> Iterator[tuple[Callable[[], Any], Callable[[Any], object]]]:
    """Yield how the state of each global random generator is read and set."""
    yield random.getstate, random.setstate
    if (numpy_random := _loaded("numpy.random")) is not None:
        yield numpy_random.get_state, numpy_random.set_state
    if (torch := _loaded("torch")) is not None:
        yield torch.get_rng_state, torch.set_rng_state


def _loaded(name: str) -> ModuleType | None:
    """Return a module if it is loaded to the end."""
    module = sys.modules.get(name)
    unfinished = getattr(getattr(module, "__spec__", None), "_initializing", False)
    return None if unfinished else module
