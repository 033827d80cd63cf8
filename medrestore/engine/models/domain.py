"""Whether a scan is of what a model was made for, and what one that does not say is taken for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from medrestore.engine.models.checks import check_zero
from medrestore.engine.models.content import check_content, is_seen
from medrestore.engine.models.find import find_model
from medrestore.engine.models.recognise import NAMES, Recognition, fitted, recognise
from medrestore.errors import DomainError
from medrestore.findings import (
    MODALITY_RECOGNISED,
    OUTSIDE_DOMAIN,
    REGIONS_ARE_FLAT,
    SLICES_UNRELATED,
    VALUES_OUTSIDE_MODEL,
    ZERO_MOVED,
    Finding,
)
from medrestore.noise.intensity import bright_level
from medrestore.options import RestoreOptions
from medrestore.plugin import ModelSpec
from medrestore.plugin.spec import DOMAINS
from medrestore.provenance import JSON
from medrestore.volume import Volume, stated_modality

REFUSING = frozenset(
    kind.code for kind in (REGIONS_ARE_FLAT, SLICES_UNRELATED, VALUES_OUTSIDE_MODEL, ZERO_MOVED)
)
"""Rules that no scan of the body was found to break; corners are bright in a small part of a brain too."""

FORCE = "the result would be a guess; force it (--force, or force=True) and look at the result with care"


@dataclass(frozen=True)
class Admission:
    """What the content of a scan says of whether a model knows such scans.

    Attributes:
        findings: What a reader of the result should know.
        facts: The same in numbers, for the record; empty where nothing can be said.
    """

    findings: tuple[Finding, ...] = ()
    facts: Mapping[str, JSON] = field(default_factory=dict)


@dataclass(frozen=True)
class Taken:
    """What a scan is taken for.

    Attributes:
        volumes: Of the modality that it is taken for.
        findings: Why, where it does not say so.
        seen: What the content of the first volume says, where that was looked at.
    """

    volumes: tuple[Volume, ...]
    findings: tuple[Finding, ...] = ()
    seen: Recognition | None = None


def settled(volumes: Sequence[Volume], options: RestoreOptions) -> Taken:
    """Take the volumes of a scan for what they say that they are, or else for what their content is.

    What a scan says, and what a caller says by naming a model, is taken. Of others the content decides: it is
    of a domain, more surely than a scan that says so has to be, and breaks no rule.

    Args:
        volumes: Of one scan; the first one decides.
        options: Whether a model is named, and the task.

    Raises:
        DomainError: It says nothing, no model is named, and its content does not tell for sure.
        ModelError: No model fits what it is.
    """
    volumes = tuple(volumes)
    if stated_modality(volumes[0]) is not None or options.model is not None:
        return Taken(volumes)
    seen = recognise(volumes[0].array, volumes[0].geometry)
    if seen is None:
        return Taken(volumes)
    causes = [] if seen.names else [seen.words]
    modality, sure = DOMAINS[seen.best], seen.certainty
    taken = tuple(one.as_modality(modality) for one in volumes)
    if seen.names:
        spec = find_model(options, modality)[1]
        causes += [one.text for one in check_content(taken[0], spec)]
    if causes:
        raise DomainError(
            f"{volumes[0].name}: the scan does not say what it is, and its content does not tell for sure "
            f"({'; '.join(causes)}); say what it is with --modality (modality=... in Python), or name a model"
        )
    text = f"the scan does not say its modality; by its content it is {NAMES[seen.best]}, {sure:.2f}"
    return Taken(taken, (MODALITY_RECOGNISED.found(text, taken_for=modality, certainty=sure),), seen)


def admit(volume: Volume, spec: ModelSpec, *, force: bool, seen: Recognition | None = None) -> Admission:
    """Refuse a scan whose content is not what a model was made for, or say so where it is forced.

    Models that name no domain refuse nothing: what they know is not known here.

    Args:
        volume: The scan, in its own units.
        spec: The model.
        force: Whether to go on all the same.
        seen: What its content says, where that was looked at before.

    Raises:
        DomainError: A rule says that this is no such scan, or its features do, and `force` is not set.
    """
    found = check_content(volume, spec)
    if spec.domain is None:
        return Admission(found)
    seen = seen or recognise(volume.array, volume.geometry)
    causes = [one.text for one in refusing(volume, spec, found)]
    if seen is not None and seen.shares[spec.domain] < fitted().least[spec.domain]:
        causes.append(f"by its content it is no {NAMES[spec.domain]} ({seen.words})")
    facts = _facts(seen, spec.domain, bool(causes))
    if not causes:
        return Admission(found, facts)
    said = f"{'; '.join(causes)}: {spec.name} does not know such scans"
    if not force:
        raise DomainError(f"{volume.name}: {said}; {FORCE}")
    return Admission((*found, OUTSIDE_DOMAIN.found(f"{said}; it was forced", **facts)), facts)


def refusing(volume: Volume, spec: ModelSpec, found: Sequence[Finding]) -> list[Finding]:
    """Return the rules that a scan breaks and that refuse it.

    Args:
        volume: The scan.
        spec: The model.
        found: What is said of its content.
    """
    # Noise takes voxels of air below 0 too: the strongest that the model was made for is allowed for.
    moved = check_zero(volume, spec.noise[1] * bright_level(volume.array), spec) if is_seen(volume) else ()
    return [one for one in (*found, *moved) if one.code in REFUSING]


def _facts(seen: Recognition | None, domain: str, outside: bool) -> dict[str, JSON]:
    shares: dict[str, JSON] = (
        {} if seen is None else {name: round(one, 4) for name, one in seen.shares.items()}
    )
    return {"expected": domain, "shares": shares, "least": fitted().least[domain], "outside": outside}
