"""Names of models: "plugin/model", or the bare model name while it is unique."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches

from medrestore.errors import ModelError
from medrestore.plugin.installed import BUILTIN
from medrestore.plugin.manager import PluginManager
from medrestore.plugin.names import bare, meant, shortest
from medrestore.plugin.spec import ModelSpec
from medrestore.types import Modality, Task


class Registry:
    """The models of the working plugins.

    Args:
        manager: The plugins; None loads the installed ones.
    """

    def __init__(self, manager: PluginManager | None = None) -> None:
        self._manager = PluginManager() if manager is None else manager
        self._models = self._manager.declared(ModelSpec)

    def models(self) -> Mapping[str, ModelSpec]:
        """Return every model by its full name, the built-in ones first."""
        return dict(self._models)

    def shortest(self, full_name: str) -> str:
        """Return the bare name where it is unique, else the full one."""
        return shortest(full_name, self._models)

    def resolve(self, name: str) -> str:
        """Return the full name of a model.

        Raises:
            ModelError: No model or several are meant.
        """
        matches = meant(name, self._models)
        if len(matches) > 1:
            raise ModelError(f"the model name {name!r} is ambiguous: {_listed(matches)}; pass one of these")
        if not matches:
            raise ModelError(f"no model is named {name!r}; {self._advice(name)}")
        return matches[0]

    def get(self, name: str) -> ModelSpec:
        """Return a model by its full or bare name.

        Raises:
            ModelError: No model or several are meant.
        """
        return self._models[self.resolve(name)]

    def default_name(self, task: Task, modality: Modality = Modality.UNKNOWN) -> str:
        """Return the full name of the model to take when none is named.

        That is the only built-in one that fits, or else the only one that fits. A scan whose modality is
        not known fits every model of the task.

        Raises:
            ModelError: None fits, or several do and it would be a guess.
        """
        fitting = [
            name
            for name, spec in self._models.items()
            if spec.task is task and (modality is Modality.UNKNOWN or modality in spec.modalities)
        ]
        builtin = [name for name in fitting if name.startswith(f"{BUILTIN}/")]
        choice = builtin or fitting
        if len(choice) == 1:
            return choice[0]
        scan = (
            "a scan of unknown modality" if modality is Modality.UNKNOWN else f"a scan of modality {modality}"
        )
        if not choice:
            others = f"installed: {_listed(self._models)}" if self._models else "no model is installed"
            raise ModelError(f"no model is for the task {task} on {scan}; {others}; see `medrestore models`")
        raise ModelError(
            f"several models are for the task {task} on {scan}: {_listed(choice)}; "
            "name one with --model (model=... in Python)"
            + ("" if modality is not Modality.UNKNOWN else ", or say what the scan is with --modality")
        )

    def default(self, task: Task, modality: Modality = Modality.UNKNOWN) -> ModelSpec:
        """Return the model to take when none is named; see `default_name`.

        Raises:
            ModelError: None fits, or several do and it would be a guess.
        """
        return self._models[self.default_name(task, modality)]

    def _advice(self, name: str) -> str:
        if (reason := self._manager.whereabouts(name.partition("/")[0])) is not None:
            return reason
        known = [*self._models, *(bare(full) for full in self._models)]
        near = get_close_matches(name.lower(), known, n=3, cutoff=0.6)
        if likely := [self.shortest(full) for full in self._models if full in near or bare(full) in near]:
            return f"did you mean {_listed(likely)}?"
        return f"installed: {_listed(self._models)}" if self._models else "no model is installed"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)
