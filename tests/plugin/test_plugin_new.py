"""`medrestore plugin new`: which names are taken, what is written; `test_docs_tutorials` tries it."""

from __future__ import annotations

import tomllib
import zipfile

import pytest
from plugin_site import GOOD

from medrestore.errors import ConfigError, OutputError, PluginError
from medrestore.plugin import API
from medrestore.plugin.scaffold import TEMPLATE, NewPlugin


@pytest.mark.parametrize(
    ("text", "name", "module"),
    [
        ("wiener", "wiener", "medrestore_wiener"),
        ("medrestore-Wiener", "wiener", "medrestore_wiener"),
        ("Deep.Net_2", "deep-net-2", "medrestore_deep_net_2"),
        ("3d", "3d", "medrestore_3d"),
    ],
)
def test_a_name_is_taken_as_package_indexes_take_it(text, name, module, tmp_path):
    new = NewPlugin.named(text)
    assert (new.name, new.dist, new.module) == (name, f"medrestore-{name}", module)
    written = {path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()}
    assert not written
    assert {path.name for path in new.write(tmp_path)} > {"__init__.py", "pyproject.toml"}
    assert (tmp_path / new.dist / module / "__init__.py").is_file()


@pytest.mark.parametrize("text", ["", "a/b", "../a", "-a", "a b", "é", "a-", "a\n", "medrestore-"])
def test_what_no_distribution_can_be_called_is_refused(text):
    with pytest.raises(ConfigError, match="name is"):
        NewPlugin.named(text)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("none", "is kept for leaving all plugins out"),
        ("medrestore-none", "is kept for leaving all plugins out"),
        ("medrestore", "is kept for the built-in plugin"),
        ("MEDRESTORE", "is kept for the built-in plugin"),
        ("a" * 101, "is named .*, 100 at most"),
    ],
)
def test_what_no_plugin_can_be_called_is_refused(text, why):
    with pytest.raises(PluginError, match=why):
        NewPlugin.named(text)


def test_the_name_of_an_installed_plugin_is_refused(site):
    site.add("wiener", GOOD.format(models="[]"))
    with pytest.raises(PluginError, match=r"'wiener' is taken by the plugin of dist-wiener 1\.2"):
        NewPlugin.named("Wiener", others=site.manager().plugins)


def test_the_licence_is_an_spdx_expression_and_stands_wherever_one_is_stated(tmp_path):
    with pytest.raises(ConfigError, match="SPDX"):
        NewPlugin.named("a", "my own")
    written = NewPlugin.named("a", "mit and bsd-3-clause").write(tmp_path)
    stating = [path.name for path in written if "MIT AND BSD-3-Clause" in (tmp_path / path).read_text()]
    assert stating == ["CARD.md", "__init__.py", "pyproject.toml"]


def test_a_folder_that_is_there_is_left_as_it_is(tmp_path):
    (tmp_path / "medrestore-a").mkdir()
    (tmp_path / "medrestore-a" / "mine").touch()
    with pytest.raises(OutputError, match="exists already"):
        NewPlugin.named("a").write(tmp_path)
    with pytest.raises(OutputError, match="does not exist"):
        NewPlugin.named("a").write(tmp_path / "nowhere")
    assert [path.name for path in tmp_path.rglob("*")] == ["medrestore-a", "mine"]


def test_every_file_of_the_template_is_written_with_nothing_left_to_fill_in(tmp_path):
    written = NewPlugin.named("a").write(tmp_path)
    assert len(written) == len(list(TEMPLATE.iterdir()))
    texts = {path.name: (tmp_path / path).read_text() for path in written}
    assert [name for name, text in texts.items() if "$" in text.replace('"$MEDRESTORE"', "")] == []
    assert f"api={API}," in texts["__init__.py"]
    assert tomllib.loads(texts["pyproject.toml"])["project"]["optional-dependencies"]["test"] == ["pytest>=8"]


def test_its_wheel_has_the_weights_that_lie_beside_the_module(tmp_path):
    wheel = pytest.importorskip("hatchling.builders.wheel")
    NewPlugin.named("a").write(tmp_path)
    home = tmp_path / "medrestore-a"
    (home / "medrestore_a" / "weights.safetensors").touch()
    (built,) = wheel.WheelBuilder(str(home)).build(directory=str(tmp_path), versions=["standard"])
    with zipfile.ZipFile(built) as archive:
        names = archive.namelist()
    assert {"medrestore_a/__init__.py", "medrestore_a/weights.safetensors"} <= set(names)


def test_the_command_says_what_it_wrote_and_what_to_do_next(command, tmp_path):
    status, said, heard = command("plugin", "new", "a", "--into", tmp_path)
    assert status == 0, heard
    assert f"{tmp_path}/medrestore-a/pyproject.toml" in said
    assert f"cd {tmp_path}/medrestore-a" in said and "pip install --editable '.[test]'" in said
    status, said, heard = command("plugin", "new", "a", "--into", tmp_path)
    assert (status, said) == (2, "") and "exists already" in heard
