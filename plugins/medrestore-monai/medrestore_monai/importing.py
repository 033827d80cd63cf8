"""From a bundle to a model folder, which medrestore runs as any other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medrestore.errors import ModelError, reason_of
from medrestore.plugin import ModelSpec, read_model_folder
from medrestore_monai.bundle import Bundle, read_weights
from medrestore_monai.folders import new_folder
from medrestore_monai.network import build_bundle_network

WHOLE = 4096
"""A halo that says: never in tiles. Normalisation over space and attention look at all of a volume."""

_UNITS = "say with --units what 0 and the bright level of a scan are to it, or for CT air and water"


@dataclass(frozen=True, kw_only=True)
class Stated:
    """What no bundle says and a model must.

    Attributes:
        name: Of the model.
        licence: SPDX expression of code and weights.
        modality: What its scans are, ``"MR"`` or ``"CT"``.
        spacing_mm: Voxel sizes that it was trained for.
        noise: Levels that it was trained for, as fractions of the bright level.
        units: What 0 and the bright level are in its units, air and water for CT; None for what the metadata
            say, see `units_of`.
        halo: See `ModelSpec`; `WHOLE` where it normalises over space.
        predicts: What a network without a scheduler predicts, ``"clean"`` or ``"noise"``.
    """

    name: str
    licence: str
    modality: str
    spacing_mm: tuple[float, float]
    noise: tuple[float, float]
    units: tuple[float, float] | None = None
    halo: int = WHOLE
    predicts: str = "clean"


def import_bundle(
    bundle: Bundle, stated: Stated, folder: Path, weights: tuple[str | None, str | None]
) -> ModelSpec:
    """Write a model folder of a bundle, and read it back.

    Args:
        bundle: The bundle.
        stated: What it does not say.
        folder: Made; it must not be there yet.
        weights: Name of the file of weights, and of the table in it; None for what is found.

    Raises:
        ModelError: The weights are not of the network, or something is missing.
        PluginError: What is stated is no declaration of a model.
        OutputError: The folder is there already, or cannot be written.
    """
    import tomli_w
    from safetensors.torch import save

    from medrestore.provenance import sha256_file

    options = network_options(bundle, stated, units_of(bundle, stated))
    network = build_bundle_network(**options)
    tensors, digest = read_weights(bundle, *weights)
    try:
        network.network.load_state_dict(tensors)
    except RuntimeError as error:
        raise ModelError(
            f"{bundle.folder}: the weights do not fit its network: {reason_of(error)}"
        ) from error
    with new_folder(folder):
        (folder / "model.safetensors").write_bytes(
            save({name: value.float().contiguous() for name, value in network.state_dict().items()})
        )
        description = describe(bundle, stated, network.multiple)
        hashed = {"file": "model.safetensors", "sha256": sha256_file(folder / "model.safetensors")}
        tables = {"network": {"name": "monai/bundle", "options": options}, "weights": hashed}
        (folder / "model.toml").write_text(tomli_w.dumps({**description, **tables}), encoding="utf-8")
        (folder / "README.md").write_text(card(bundle, stated, digest), encoding="utf-8")
        return read_model_folder(folder)


def units_of(bundle: Bundle, stated: Stated) -> tuple[float, float]:
    """Return what 0 and the bright level are in the units of a bundle.

    Raises:
        ModelError: It is not stated, and the metadata do not tell: they have the range of what is given to
            the network, whose ends are 0 and the bright level only where it begins at 0, in MR.
    """
    if stated.units is not None:
        return stated.units
    found = bundle.value_range
    if found is None:
        raise ModelError(f"{bundle.folder}: its metadata have no range of its input; {_UNITS}")
    if stated.modality != "MR" or found[0] != 0:
        meant = "0 and the bright level" if stated.modality == "MR" else "air and water"
        raise ModelError(
            f"{bundle.folder}: its metadata say that its input ranges from {found[0]:g} to {found[1]:g}, and "
            f"not what {meant} are; {_UNITS}"
        )
    return found


def network_options(bundle: Bundle, stated: Stated, units: tuple[float, float]) -> dict[str, Any]:
    """Return the table ``[network.options]``: what `build_bundle_network` takes."""
    options: dict[str, Any] = {
        "network": bundle.network.name,
        "arguments": without_none(bundle.network.arguments),
        "units": list(units),
        "halo": stated.halo,
    }
    if bundle.scheduler is None:
        return {**options, "predicts": stated.predicts}
    return {
        **options,
        "scheduler": {"name": bundle.scheduler.name, **without_none(bundle.scheduler.arguments)},
    }


def without_none(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what is None: TOML has no such value, and None is the default wherever MONAI takes it."""
    return {name: value for name, value in arguments.items() if value is not None}


def describe(bundle: Bundle, stated: Stated, multiple: int) -> dict[str, Any]:
    """Return what is at the top of `model.toml`."""
    return {
        "api": 2,
        "name": stated.name,
        "title": " ".join(
            str(bundle.metadata.get("name") or f"A {bundle.network.name} from a bundle").split()
        )[:200],
        "task": "denoise",
        "modalities": [stated.modality],
        "licence": stated.licence,
        "reference": f"MONAI bundle {bundle.folder.name}"[:200],
        "intensity": "attenuation" if stated.modality == "CT" else "p99",
        "spacing_mm": list(stated.spacing_mm),
        "noise": list(stated.noise),
        "outputs": ["mean"] if bundle.scheduler is None else ["mean", "sample"],
        "halo": stated.halo,
        "multiple": multiple,
    }


def card(bundle: Bundle, stated: Stated, digest: str) -> str:
    """Return the model card."""
    taken = (
        "in tiles" if stated.halo < WHOLE else "as a whole, never in tiles: what it looks at is not bounded"
    )
    trained = "no scheduler" if bundle.scheduler is None else f"a {bundle.scheduler.name}"
    return f"""# {stated.name}

Made by `medrestore monai import` of the MONAI bundle `{bundle.folder.name}`: a {bundle.network.name} with
{trained}. Its file of weights had the sha256 {digest}.

- Licence: {stated.licence}, as stated by who imported it.
- A scan is restored {taken}.
- Ranges of voxel sizes and of noise are as stated by who imported it; `medrestore verify` on this folder says
  what it does.
- Not for diagnosis.
"""
