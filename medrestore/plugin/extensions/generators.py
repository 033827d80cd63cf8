"""Generators of plugins, held to what `GeneratorSpec` and `Stage` say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import isfinite
from numbers import Real

from torch import Tensor

from medrestore.diffusion.denoiser import Condition
from medrestore.plugin.contract import ContractDenoiser, what_is_wrong
from medrestore.plugin.extensions.lookup import Extension, find, named
from medrestore.plugin.fields import is_range
from medrestore.plugin.generation import GeneratorSpec, Stage
from medrestore.plugin.spec import LoadContext, shown


def find_generator(name: str) -> Extension[GeneratorSpec]:
    """Return the generator of a name, which is ``plugin/name`` or the bare name while it is unique.

    Raises:
        ConfigError: There is none, or there are several.
    """
    return named(GeneratorSpec, name) or find(GeneratorSpec, name)


def load_stages(declared: Extension[GeneratorSpec], context: LoadContext) -> tuple[Stage, ...]:
    """Load a generator; denoisers and conditions are held to their contract when they run.

    Raises:
        ModelError: It says that something is wrong with it, its weights for example.
        PluginError: Loading it raised anything else, or did not return stages.
    """
    with declared.running("load", "a sequence of medrestore.plugin.Stage"):
        stages: object = declared.spec.load(context)
    fine = isinstance(stages, Sequence) and bool(stages) and all(isinstance(one, Stage) for one in stages)
    if not fine or not isinstance(stages, Sequence):
        raise declared.broken(f"load returned {stages!r:.80}; expected a sequence of medrestore.plugin.Stage")
    for index, stage in enumerate(stages):
        if problem := _what_is_wrong(stage, declared.spec, is_last=index == len(stages) - 1):
            raise declared.broken(f"stage {index}: {problem}")
    return tuple(_held(declared, stage) for stage in stages)


def voxels_of(spec: GeneratorSpec, spacing_mm: float) -> tuple[int, int, int]:
    """Return the voxels of a size along each axis of the field, as a stage has them that is not the last."""
    x, y, z = (round(size / spacing_mm) for size in spec.field_mm)
    return x, y, z


def _what_is_wrong(stage: Stage, spec: GeneratorSpec, *, is_last: bool) -> str:
    """Return what keeps a stage from being one; empty where nothing does."""
    if not callable(stage.denoiser) or not callable(stage.condition):
        return "denoiser and condition are no functions; expected functions"
    if not (isinstance(stage.levels, tuple) and is_range(stage.levels[::-1], positive=True)):
        return f"levels are {stage.levels!r:.80}; expected (first, last), falling and above 0"
    if is_last != (stage.spacing_mm is None):
        return f"spacing_mm is {stage.spacing_mm!r:.80}; expected mm, and None for the last stage alone"
    if not (stage.spacing_mm is None or is_range((stage.spacing_mm, stage.spacing_mm), positive=True)):
        return f"spacing_mm is {stage.spacing_mm!r:.80}; expected a voxel size in mm"
    if stage.spacing_mm is not None and min(voxels_of(spec, stage.spacing_mm)) < 1:
        field = " x ".join(f"{size:g}" for size in spec.field_mm)
        return f"spacing_mm is {stage.spacing_mm:g}; expected a voxel in each axis of the {field} mm at least"
    if not isinstance(stage.multiple, int) or stage.multiple < 1:
        return f"multiple is {stage.multiple!r:.80}; expected a whole number, 1 or more"
    return ""


def _held(declared: Extension[GeneratorSpec], stage: Stage) -> Stage:
    def condition(baseline: Tensor, spacing: float) -> Condition:
        with declared.running("condition", "a medrestore.diffusion.Condition"):
            found: object = stage.condition(baseline.clone(), spacing)
            problem = _what_is_wrong_with(found, baseline)
        if problem or not isinstance(found, Condition):
            raise declared.broken(f"condition returned {problem}")
        return found

    return replace(stage, denoiser=ContractDenoiser(stage.denoiser, declared.origin), condition=condition)


def _what_is_wrong_with(condition: object, baseline: Tensor) -> str:
    """Return what keeps something from being the condition of a stage; empty where nothing does."""
    if not isinstance(condition, Condition):
        return f"{type(condition).__name__}; expected a medrestore.diffusion.Condition"
    maps = {"image": condition.image} | ({} if condition.gain is None else {"gain": condition.gain})
    for name, tensor in maps.items():
        if problem := what_is_wrong(tensor, tuple(baseline.shape), baseline.device):
            return f"a Condition whose {name} is {problem.removeprefix('returns ')}"
    sigma: object = condition.sigma
    if not isinstance(sigma, Real) or not float(sigma) >= 0:
        return f"a Condition whose sigma is {shown(sigma)}; expected a number, 0 or more, or infinity"
    details: object = condition.details
    if not isinstance(details, tuple) or not all(isinstance(one, Real) and isfinite(one) for one in details):
        return f"a Condition whose details are {shown(details)}; expected a tuple of finite numbers"
    return ""
