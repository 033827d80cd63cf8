"""A trained network as a model folder, which `medrestore restore --model FOLDER` runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import tomli_w
from safetensors.torch import save
from torch import Tensor, nn

from medrestore.errors import ConfigError, OutputError, TrainingError
from medrestore.io import atomic_write
from medrestore.networks.weights import not_finite
from medrestore.plugin import ModelSpec, read_model_folder
from medrestore.provenance import sha256_file
from medrestore.training.recipe import TrainConfig

WEIGHTS = "model.safetensors"

GENERATED = "<!-- Written by medrestore train, anew when training goes on unless this line is removed. -->"


@dataclass(frozen=True)
class TrainingFacts:
    """What a model card says of the run.

    Attributes:
        steps: Updates made.
        files: Scans and label maps seen, below the data roots.
        validation_psnr: Last score in dB, if there was one.
        origin: Model whose weights the run began with, or None for random ones.
    """

    steps: int
    files: tuple[str, ...]
    validation_psnr: float | None
    origin: str | None = None


def export_model(network: nn.Module, config: TrainConfig, facts: TrainingFacts, folder: Path) -> ModelSpec:
    """Write `model.safetensors`, `model.toml`, `README.md` and `SHA256SUMS`, and read them back.

    Weights are stored in float16, which halves the file.

    Args:
        network: With `halo` and `multiple`.
        config: Of the run; its `model` table has the other fields of `model.toml`.
        facts: For the card.
        folder: Made if need be; what is there is replaced.

    Raises:
        ConfigError: The `model` table of the configuration does not describe a model.
        TrainingError: Weights are not finite, or beyond float16.
        OutputError: The folder cannot be written.
    """
    check_folder(folder)
    state = {key: _stored(value) for key, value in network.state_dict().items()}
    if fault := not_finite(state):
        raise TrainingError(f"{fault}, as they would be stored, in float16: nothing is exported")
    _write(folder / WEIGHTS, save(state))
    description: dict[str, Any] = {
        **config.model,
        "halo": network.halo,
        "multiple": network.multiple,
        "network": asdict(config.network),
        "weights": {"file": WEIGHTS, "sha256": sha256_file(folder / WEIGHTS)},
    }
    _write(folder / "model.toml", tomli_w.dumps(description).encode())
    card = folder / "README.md"
    # A card that a person has written stays, in whatever encoding.
    if not card.exists() or GENERATED in card.read_text(encoding="utf-8", errors="replace"):
        _write(card, model_card(config.model, config, facts).encode())
    sums = "".join(f"{sha256_file(folder / name)}  {name}\n" for name in (WEIGHTS, "model.toml"))
    _write(folder / "SHA256SUMS", sums.encode())
    try:
        return read_model_folder(folder)
    except Exception as error:
        raise ConfigError(f"the [model] table of the training configuration: {error}") from error


def model_card(model: Mapping[str, Any], config: TrainConfig, facts: TrainingFacts) -> str:
    """Return the text of a model card that says what is known without a person's judgement."""
    loop = config.loop
    degraded, _ = what_was_done(config)
    files = "\n".join(f"- `{name}`" for name in facts.files)
    before = (
        f"\nAnd those that {facts.origin} saw: its card names them.\n" if facts.origin is not None else ""
    )
    return f"""{GENERATED}

# {model.get("name", "model")}

{model.get("title", "")}

- Trained for {facts.steps} steps of {loop.batch} patches of {loop.patch} voxels cubed, seed {loop.seed}, from
  {"random weights" if facts.origin is None else f"the weights of {facts.origin}"}.
- In training: {degraded}.
- Validation: {_validation(config, facts)}.
- Not for diagnosis. Nothing is known of its behaviour on scans unlike the scans below.

## Scans and label maps that the weights saw

{files}
{before}"""


def _validation(config: TrainConfig, facts: TrainingFacts) -> str:
    if facts.validation_psnr is None:
        return "not measured"
    scans = ", ".join(f"`{pattern}`" for pattern in config.data.validation)
    over = " and ".join(filter(None, (scans, "a computed body" if config.ct is not None else "")))
    return f"mean PSNR {facts.validation_psnr:.2f} dB over {over}, {what_was_done(config)[1]}"


def what_was_done(config: TrainConfig) -> tuple[str, str]:
    """Return what training and what validation did to clean scans, in words."""

    def per_cent(ends: tuple[float, float]) -> str:
        return " to ".join(f"{100 * end:g} %" for end in ends)

    if config.ct is not None:
        noise = f"noise of {per_cent(config.ct.noise)} of the attenuation of water"
        return f"{noise}, simulated in projections", "simulated low doses, in the window of soft tissue"
    if config.slices is not None:
        low, high = config.slices.factor
        noise = f"noise of {per_cent(config.slices.noise)} in {config.slices.noisy:.0%} of patches"
        return f"slices of {low:g} to {high:g} planes, {noise}", "boxcar slices of 2, 4 and 6 planes"
    options = config.degradation
    noise = f"noise of {per_cent(options.noise)} of the 99th percentile, Rician in {options.rician:.0%}"
    noise += f" and coloured in {options.coloured:.0%}" if options.coloured else ""
    noise += " of patches"
    return noise, "white Rician noise of 3, 5 and 10 %"


def check_folder(folder: Path) -> None:
    """Make a folder, and try to write in it.

    Raises:
        OutputError: That cannot be done.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OutputError(
            f"{folder}: cannot be written to ({error.strerror or error}); expected a folder, or a place "
            "where one can be made: choose another with -o"
        ) from error


def _stored(value: Tensor) -> Tensor:
    # A count, as of the batches that a normalisation has seen, stays one: float16 ends at 65504.
    value = value.detach().cpu().contiguous()
    return value.half() if value.is_floating_point() else value


def _write(path: Path, data: bytes) -> None:
    with atomic_write(path, overwrite=True) as temporary:
        temporary.write_bytes(data)
