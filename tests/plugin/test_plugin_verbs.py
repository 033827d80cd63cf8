"""A plugin's command runs as `medrestore NAME`; what it costs, and what goes wrong in it, is its own."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import typer
from plugin_site import Site
from tiny import phantom, save

from medrestore.cli import app
from medrestore.plugin.declarations import BUILTIN_VERBS

VERB = """
from medrestore import hookimpl
from medrestore.errors import InputError
from medrestore.plugin import VerbSpec

def load():
    {load}

@hookimpl
def medrestore_verbs():
    return [VerbSpec(name="{name}", help="Do something odd [/b] to [red]scans[/red].", load=load)]
"""


def add(site: Site, load: str, plugin: str = "mine", name: str = "odd") -> None:
    site.add(plugin, VERB.format(load=load.replace("\n", "\n    "), name=name))


def running(body: str) -> str:
    return f"def run(level: int = 1) -> None:\n    {body}\nreturn run"


def test_the_example_runs_with_arguments_of_its_own(examples, tmp_path, command):
    scan = save(tmp_path / "scan_T1w.nii.gz", phantom(16))
    status, told, error = command("describe", scan, "--percentile", 50)
    assert status == 0, error
    assert [line.split() for line in told.splitlines()][:3] == [
        ["shape", "16", "x", "16", "x", "16"],
        ["voxels", "1", "x", "1", "x", "1", "mm"],
        ["modality", "MR"],
    ]
    assert told.splitlines()[3].startswith("50 %")
    assert "--percentile" in command("describe", "--help")[1]
    assert command("examples/describe", scan)[0] == 0


def test_the_help_lists_it_without_loading_it(examples):
    heavy = ("torch", "scipy", "nibabel", "medrestore_examples.verb")
    script = (
        "import sys, json\nsys.argv = ['medrestore', '--help']\n"
        "from medrestore.cli import main\ntry:\n    main()\nexcept SystemExit:\n    pass\n"
        f"print('\\n' + json.dumps([name for name in {heavy!r} if name in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "describe" in done.stdout
    assert "Print grid, modality and percentiles of a scan." in done.stdout
    assert json.loads(done.stdout.splitlines()[-1]) == []


def test_brackets_in_its_help_are_text(site: Site, command):
    add(site, "return print")
    status, told, error = command("--help")
    assert status == 0, error
    assert "Do something odd [/b] to [red]scans[/red]." in told


def test_names_of_commands_cannot_be_taken(site: Site):
    assert set(typer.main.get_command(app).commands) == BUILTIN_VERBS
    add(site, "return print", name="restore")
    (info,) = (one for one in site.manager().plugins if one.name == "mine")
    assert info.status == "broken"
    assert "name is 'restore'; expected one that is no command of medrestore itself" in str(info.error)


@pytest.mark.parametrize(
    ("load", "status", "message"),
    [
        (running("1 / 0"), 2, "command 'mine/odd': the command raised ZeroDivisionError: division by zero ("),
        (running("raise InputError('no such scan')"), 2, "medrestore: no such scan\n"),
        (running("raise SystemExit(7)"), 7, ""),
        (running("import typer; raise typer.Exit(5)"), 5, ""),
        (running("pass"), 0, ""),
        ("import no_such_module_here", 2, "load raised ModuleNotFoundError: No module named"),
        ("return None", 2, "load returned None; expected a function or a command"),
        ("def run(x: int | str): pass\nreturn run", 2, "load raised AssertionError: Typer"),
    ],
)
def test_how_it_ends(site: Site, command, load, status, message):
    add(site, load)
    found, told, error = command("odd")
    assert (found, told) == (status, "")
    assert message in error
    assert "Traceback" not in error
    assert message.startswith("medrestore:") or not message or "plugin 'mine' (dist-mine 1.2)" in error


def test_arguments_that_are_wrong_are_said_to_be(site: Site, command):
    add(site, running("pass"))
    status, _, error = command("odd", "--level", "much")
    assert status == 2
    assert "Invalid value for '--level'" in error


def test_a_typer_app_and_a_command_of_click_are_taken(site: Site, command):
    nested = "import typer\napp = typer.Typer()\napp.command('a')(lambda: print('typer a'))\n"
    add(site, nested + "app.command('b')(lambda: print('typer b'))\nreturn app", "one", "apps")
    add(site, "import click\nreturn click.Command('x', callback=lambda: print('click'))", "two", "clicks")
    assert command("apps", "b")[:2] == (0, "typer b\n")
    assert command("clicks")[:2] == (0, "click\n")


def test_one_name_of_two_plugins_needs_the_plugin(site: Site, command):
    for plugin in ("one", "two"):
        add(site, running(f"print('{plugin}')"), plugin)
    assert command("one/odd")[:2] == (0, "one\n")
    assert command("odd") == (
        2,
        "",
        "medrestore: the command 'odd' is ambiguous: one/odd, two/odd; pass one of these\n",
    )
    told = command("--help")[1]
    assert "one/odd" in told
    assert "two/odd" in told


def test_a_command_that_nobody_has_is_refused(examples, command):
    status, _, error = command("descirbe")
    assert status == 2
    assert "No such command 'descirbe'" in error
