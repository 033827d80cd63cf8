"""A new plugin as a whole distribution: `template/` with the names filled in."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from string import Template

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression
from packaging.utils import InvalidName, canonicalize_name

from medrestore.errors import ConfigError
from medrestore.io import atomic_folder
from medrestore.plugin.installed import BUILTIN, PluginInfo, check_plugin_name
from medrestore.plugin.spec import API, shown

TEMPLATE = Path(__file__).parent / "template"
"""Files of a distribution; ``$plugin``, ``$dist``, ``$module``, ``$licence`` and ``$api`` are filled in."""

_TARGETS = {
    "pyproject.toml": "pyproject.toml",
    "init.py": "${module}/__init__.py",
    "test_module.py": "tests/test_${module}.py",
    "CARD.md": "CARD.md",
    "README.md": "README.md",
    "workflow.yml": ".github/workflows/tests.yml",
    "gitignore": ".gitignore",
}
"""Where each file of the template goes; there its name ends in ``.in``."""


@dataclass(frozen=True)
class NewPlugin:
    """What a plugin that does not exist yet is called.

    Attributes:
        name: Of the entry point, and of its model.
        licence: SPDX expression of its code and weights.
    """

    name: str
    licence: str = "Apache-2.0"

    @classmethod
    def named(cls, text: str, licence: str = "Apache-2.0", others: Iterable[PluginInfo] = ()) -> NewPlugin:
        """Take a name as package indexes take it, with or without ``medrestore-`` before it.

        Args:
            text: A name; case does not count, and ``-``, ``_`` and ``.`` are one.
            licence: An SPDX expression, in any case.
            others: The installed plugins.

        Raises:
            ConfigError: No distribution can have the name, or the licence is no SPDX expression.
            PluginError: The name is kept, or one of the others has it.
        """
        try:
            name = str(canonicalize_name(text, validate=True)).removeprefix(f"{BUILTIN}-")
        except InvalidName as error:
            raise ConfigError(
                f"the name is {shown(text)}; expected letters and digits, with '-' between them"
            ) from error
        check_plugin_name(name, others)
        try:
            return cls(name, canonicalize_license_expression(licence))
        except InvalidLicenseExpression as error:
            raise ConfigError(
                f"the licence is {shown(licence)}; expected an SPDX expression, such as MIT or Apache-2.0"
            ) from error

    @property
    def dist(self) -> str:
        """Name of the distribution, and of its folder."""
        return f"{BUILTIN}-{self.name}"

    @property
    def module(self) -> str:
        """Name of the package that is imported."""
        return self.dist.replace("-", "_")

    def write(self, parent: Path) -> tuple[Path, ...]:
        """Write the distribution, whole or not at all, and return its files relative to `parent`.

        Raises:
            OutputError: The folder exists, or cannot be written.
        """
        words = {"plugin": self.name, "dist": self.dist, "module": self.module, "licence": self.licence}
        with atomic_folder(parent / self.dist) as folder:
            for source, target in _TARGETS.items():
                path = folder / Template(target).substitute(words)
                path.parent.mkdir(parents=True, exist_ok=True)
                text = Template((TEMPLATE / f"{source}.in").read_text(encoding="utf-8"))
                path.write_text(text.substitute(words, api=API), encoding="utf-8")
            written = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
        return tuple(Path(self.dist) / path for path in written)
