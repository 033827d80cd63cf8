"""A folder of small plugins, installed as far as Python can tell."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

from medrestore.plugin import PluginManager
from medrestore.plugin.host import plugins

GOOD = """
from pathlib import Path
from medrestore import Intensity, ModelSpec, Modality, Task, hookimpl

def model(name="smooth", **changes):
    return ModelSpec(**{{**dict(
        name=name, title="A model", task=Task.DENOISE, modalities=(Modality.MR,), licence="MIT",
        reference="none", spacing_mm=(0.5, 2.0), noise=(0.0, 0.1), halo=4, load=print), **changes}})

@hookimpl
def medrestore_models():
    return {models}
"""


class Site:
    """A folder of installed plugins, each one module and its metadata."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add(self, name: str, code: str, dist: str | None = None, version: str = "1.2") -> None:
        dist = dist or f"dist-{name}"
        module = f"plugin_{self.folder.name}_{dist}_{name}".replace("-", "_").replace(" ", "_")
        (self.folder / f"{module}.py").write_text(code)
        info = self.folder / f"{dist.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {dist}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(f"[medrestore]\n{name} = {module}\n")
        plugins.cache_clear()

    def manager(self, selection: str = "") -> PluginManager:
        dists = metadata.distributions(path=[str(self.folder)])
        ours = metadata.distribution("medrestore")
        found = [ep for dist in (*dists, ours) for ep in dist.entry_points if ep.group == "medrestore"]
        return PluginManager(found, selection)
