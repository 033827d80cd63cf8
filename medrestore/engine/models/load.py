"""From the declaration of a model to the loaded model."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

from medrestore.diffusion import Denoiser
from medrestore.engine.machine.device import choose_device, choose_dtype
from medrestore.engine.models.checks import check_outputs
from medrestore.engine.models.find import find_model, origin
from medrestore.errors import ConfigError, ModelError
from medrestore.options import RestoreOptions
from medrestore.plugin import LoadContext, ModelSpec
from medrestore.plugin.contract import load_denoiser
from medrestore.provenance import ModelRef
from medrestore.types import Modality, Task


@dataclass(frozen=True)
class LoadedModel:
    """A model that is ready to run, to be used for any number of scans.

    Attributes:
        ref: What a record says of the model.
        spec: Declaration of the model.
        denoiser: The callable; from `load_model`, one that is held to its contract.
        device: Device that the model runs on.
        dtype: Type of its heavy arithmetic.
        load_seconds: How long loading took.
        cleaner: The model that takes the noise out of slices before this one resolves them; None for none.
    """

    ref: ModelRef
    spec: ModelSpec
    denoiser: Denoiser
    device: str
    dtype: str
    load_seconds: float
    cleaner: LoadedModel | None = None

    def check_options(self, options: RestoreOptions) -> None:
        """Refuse options that name another model, device or type than those of this model.

        Raises:
            ModelError: There is no model of the name, or more than one.
            ConfigError: The options contradict the loaded model.
        """
        here = {"model": self.ref.name, "device": self.device, "dtype": self.dtype}
        fits = {
            "model": options.model is None or find_model(options, Modality.UNKNOWN)[0] == self.ref,
            "device": options.device
            in ("auto", self.device, self.device.partition(":")[0], f"{self.device}:0"),
            "dtype": options.dtype in ("auto", self.dtype),
        }
        for name in (name for name, fit in fits.items() if not fit):
            raise ConfigError(
                f"{name} is {getattr(options, name)!r} in the options and {here[name]!r} in the model that "
                "is passed with them; leave it out of the options, or load the model by them"
            )


def load_model(options: RestoreOptions, modality: Modality = Modality.UNKNOWN) -> LoadedModel:
    """Find and load a model.

    Raises:
        ModelError: There is no such model, more than one, or its weights are not what they should be.
        PluginError: Loading it failed otherwise.
        ConfigError: The device or the type is not available.
    """
    start = time.perf_counter()
    ref, spec = find_model(options, modality)
    check_outputs(ref, spec, options)
    device = choose_device(options.device)
    dtype = choose_dtype(options.dtype, spec.dtypes, device)
    denoiser = load_denoiser(spec, LoadContext(device, dtype), origin(ref, options))
    cleaner = None if spec.denoise_with is None else _cleaner(spec, device, dtype, origin(ref, options))
    return LoadedModel(ref, spec, denoiser, device, dtype, time.perf_counter() - start, cleaner)


def _cleaner(spec: ModelSpec, device: str, dtype: str, asks: str) -> LoadedModel:
    """Load the model that another one has its slices cleaned with.

    Args:
        spec: Of the model that resolves.
        device: Of that model, and of this one.
        dtype: Of that model; this one has it too, if it is declared for it.
        asks: Who names the model, for a message.
    """
    asked = RestoreOptions(model=spec.denoise_with, device=device)
    try:
        ref, found = find_model(asked, Modality.UNKNOWN)
    except ModelError as error:
        raise ModelError(f"{asks}: denoise_with: {error}") from error
    alike = found.intensity is spec.intensity and set(spec.modalities) <= set(found.modalities)
    if found.task is not Task.DENOISE or found.series or found.operator or not alike:
        raise ModelError(
            f"{asks}: denoise_with is {ref.name}; expected a model that takes noise and nothing more out of "
            f"single volumes of {', '.join(spec.modalities)} in the units {spec.intensity}"
        )
    same = dtype if dtype in found.dtypes else "auto"
    return load_model(replace(asked, dtype=same))  # type: ignore[arg-type]
