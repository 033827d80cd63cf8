"""The documentation is true: its commands run, its links lead somewhere, its tables agree with the code."""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import inspect
import os
import re
import shlex
import subprocess
import sys
import sysconfig
import tomllib
import venv
from collections.abc import Iterator
from dataclasses import MISSING, dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import get_args, get_type_hints

import numpy as np
import pytest
from samples import small_samples

import medrestore
from medrestore import errors, metrics
from medrestore.plugin import ModelSpec, hookspecs
from medrestore.plugin import model_folder as folder
from medrestore.plugin.scaffold import NewPlugin
from medrestore.provenance import ModelRef, RunRecord, Source

ROOT = Path(medrestore.__file__).parents[1]
DOCS = ROOT / "docs"
WEIGHTS = ROOT / "medrestore/builtin/models/mr-denoise/model.safetensors"
QUICK_START = DOCS / "tutorial/quick-start.md"
FIRST_PLUGIN = DOCS / "tutorial/first-plugin.md"

pytestmark = pytest.mark.skipif(not DOCS.is_dir(), reason="needs the source tree")

needs_hatchling = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("hatchling", "editables")),
    reason="needs hatchling and editables (extra dev)",
)
needs_weights = pytest.mark.skipif(
    not WEIGHTS.is_file(), reason=f"{WEIGHTS.relative_to(ROOT)} is missing: no model is shipped yet"
)

PAGES = sorted(path for path in DOCS.rglob("*.md") if path.parent.name != "benchmarks")
TEXTS = [*(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "sample_data/README.md")), *PAGES]
IN_ROOT = [pytest.param(path, id=str(path.relative_to(ROOT))) for path in TEXTS]

FENCE = re.compile(
    r"(?P<before><!--[^\n]*-->\n)?^```(?P<language>\w*)(?: title=\"(?P<title>[^\"]+)\")?\n(?P<body>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
SKIPPED = "<!-- not executed by the tests"
OPEN = "to be filled in"


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    language: str
    title: str | None
    body: str
    executed: bool


def blocks(path: Path) -> list[Block]:
    return [
        Block(m["language"], m["title"], m["body"], not (m["before"] or "").startswith(SKIPPED))
        for m in FENCE.finditer(path.read_text(encoding="utf-8"))
    ]


def environment(*paths: Path) -> dict[str, str]:
    """The tests' own interpreter and commands first, whatever is activated."""
    scripts = Path(sys.executable).parent
    return {
        **os.environ,
        "PATH": f"{scripts}{os.pathsep}{os.environ.get('PATH', '')}",
        "PYTHONPATH": os.pathsep.join(map(str, (*paths, ROOT))),
    }


def execute(block: Block, cwd: Path, *paths: Path) -> str:
    command = [sys.executable, "-c"] if block.language == "python" else ["bash", "-euo", "pipefail", "-c"]
    done = subprocess.run(
        [*command, block.body], cwd=cwd, env=environment(*paths), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{block.body}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.slow
@needs_weights
def test_the_quick_start_runs(tmp_path):
    small_samples(tmp_path / "sample_data", 48)
    ran = [block for block in blocks(QUICK_START) if block.executed and block.language in {"bash", "python"}]
    assert len(ran) >= 6
    for block in ran:
        execute(block, tmp_path)
    for name in ("restored.json", "restored_dicom.nii.gz", "restored_python.nii.gz", "sure_upper.nii.gz"):
        assert (tmp_path / name).stat().st_size > 0


@pytest.fixture
def fresh(tmp_path) -> dict[str, str]:
    """A new environment that holds nothing, with pip and all that medrestore needs from the running one."""
    home = tmp_path / "environment"
    venv.create(home)
    (site,) = home.glob("lib/python*/site-packages")
    (site / "running.pth").write_text(f"{ROOT}\n{sysconfig.get_path('purelib')}\n")
    script = home / "bin/medrestore"
    script.write_text(
        f"#!{home}/bin/python\nfrom medrestore.cli import main\n\nif __name__ == '__main__':\n    main()\n"
    )
    script.chmod(0o755)
    offline = {"PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0", "PIP_CONFIG_FILE": os.devnull}
    return {
        **os.environ,
        **offline,
        "PATH": f"{home / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": "",
    }


@pytest.mark.slow
@needs_hatchling
def test_the_first_plugin_runs_word_for_word_in_a_fresh_environment(tmp_path, fresh):
    clone = tmp_path / "clone"
    small_samples(clone / "sample_data", 48)
    script = "".join(block.body for block in blocks(FIRST_PLUGIN) if block.language == "bash")
    command = ["bash", "-euo", "pipefail", "-c", script]
    done = subprocess.run(command, cwd=clone, env=fresh, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    project = clone / "medrestore-wiener"
    assert "4 passed" in done.stdout
    assert re.search(
        r"^wiener +medrestore-wiener +0\.1\.0 +ok +Apache-2.0 +\S+ \(editable\)", done.stdout, re.M
    )
    assert re.search(r"^wiener +denoise", done.stdout, re.M)
    record = RunRecord.from_json((project / "wiener.json").read_text(encoding="utf-8"))
    assert record.model.name == "wiener/wiener"


def test_the_first_plugin_shows_the_files_as_they_are_made(tmp_path):
    NewPlugin.named("wiener").write(tmp_path)
    shown = {block.title: block.body for block in blocks(FIRST_PLUGIN) if block.title}
    assert sorted(shown) == ["medrestore_wiener.py", "pyproject.toml"]
    for title, body in shown.items():
        assert (tmp_path / "medrestore-wiener" / title).read_text(encoding="utf-8") == body
    listed = keys(tables(FIRST_PLUGIN)["Make it"])
    made = [path for path in (tmp_path / "medrestore-wiener").rglob("*") if path.is_file()]
    assert sorted(listed) == sorted(str(path.relative_to(tmp_path / "medrestore-wiener")) for path in made)


def test_the_workflow_of_the_first_plugin_runs_what_the_page_runs(tmp_path):
    NewPlugin.named("wiener").write(tmp_path)
    workflow = (tmp_path / "medrestore-wiener/.github/workflows/tests.yml").read_text(encoding="utf-8")
    steps = [step.replace('"$MEDRESTORE" ', "") for step in re.findall(r"^ +- run: (.+)$", workflow, re.M)]
    made = next(block.body for block in blocks(FIRST_PLUGIN) if block.language == "bash")
    assert len(steps) == 2 and made.endswith("\n".join(steps) + "\n")


def test_the_first_plugin_fails_its_check_with_the_halo_that_the_page_warns_of(tmp_path, monkeypatch):
    from medrestore.testing import check_model

    (code,) = [block.body for block in blocks(FIRST_PLUGIN) if block.title == "medrestore_wiener.py"]
    (tmp_path / "wiener_with_small_halo.py").write_text(code.replace("halo=2 * RADIUS", "halo=2"))
    monkeypatch.syspath_prepend(str(tmp_path))
    (spec,) = importlib.import_module("wiener_with_small_halo").medrestore_models()
    with pytest.raises(errors.PluginError, match="halo"):
        check_model(spec)


def test_a_network_is_put_into_the_first_plugin_as_the_page_says(tmp_path):
    import torch
    from safetensors.torch import save_file

    from medrestore.testing import check_model

    class MyNet(torch.nn.Conv3d):
        def __init__(self):
            super().__init__(1, 1, 3, padding=1, padding_mode="replicate")

    weights = tmp_path / "weights.safetensors"
    save_file(MyNet().state_dict(), weights)
    sha256 = hashlib.sha256(weights.read_bytes()).hexdigest()
    (code,) = [b.body for b in blocks(FIRST_PLUGIN) if b.language == "python" and b.title is None]
    names = {"MyNet": MyNet, "WEIGHTS": weights, "SHA256": sha256, "ModelError": errors.ModelError}
    exec(code, names)
    (filter_,) = [b.body for b in blocks(FIRST_PLUGIN) if b.title == "medrestore_wiener.py"]
    exec(filter_, module := {})
    (spec,) = module["medrestore_models"]()
    check_model(replace(spec, load=names["load"], weights=weights, sha256=sha256, halo=1))
    weights.write_bytes(weights.read_bytes()[:-4] + bytes(4))
    with pytest.raises(errors.ModelError, match="not the weights"):
        names["load"](medrestore.LoadContext())


def test_the_plugin_in_the_readme_is_the_shipped_one():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    found = dict(re.findall(r"<!-- plugin: (\S+) -->\n```\w+\n(.*?)^```$", readme, re.MULTILINE | re.DOTALL))
    names = {Path(name).name: text for name, text in found.items()}
    source = ROOT / "plugins/medrestore-median"
    assert names["medrestore_median.py"] == (source / "medrestore_median.py").read_text(encoding="utf-8")
    assert names["pyproject.toml"] in (source / "pyproject.toml").read_text(encoding="utf-8")


LINK = re.compile(r"(?<!`)!?\[[^\]\n]*\]\(([^)\s]+)\)")


def links(text: str) -> Iterator[str]:
    bare = re.sub(r"<!--.*?-->", "", FENCE.sub("", text), flags=re.DOTALL)
    yield from (link for link in LINK.findall(bare) if not re.match(r"[a-z]+:", link))


def anchors(path: Path) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", FENCE.sub("", path.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", title).strip().lower()) for title in titles}


@pytest.mark.parametrize("path", IN_ROOT)
def test_links_lead_somewhere(path):
    broken = []
    for link in links(path.read_text(encoding="utf-8")):
        target, _, anchor = link.partition("#")
        there = (path.parent / target).resolve() if target else path
        if not there.exists() or (anchor and anchor not in anchors(there)):
            broken.append(link)
        elif path in PAGES and DOCS not in there.parents:
            broken.append(f"{link} (outside docs/, which the site does not have)")
    assert not broken


def test_every_page_is_reached_from_the_navigation():
    config = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    listed = re.findall(r"^ +- [^:\n]+: (\S+\.md)$", config, re.MULTILINE)
    assert sorted(listed) == [path.relative_to(DOCS).as_posix() for path in PAGES]


@pytest.mark.parametrize("path", IN_ROOT)
def test_python_snippets_use_names_that_exist(path):
    for block in blocks(path):
        if block.language == "python" and not block.body.startswith("def medrestore_"):
            for node in ast.walk(ast.parse(block.body)):
                if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "medrestore":
                    module = importlib.import_module(str(node.module))
                    assert [n.name for n in node.names if not hasattr(module, n.name)] == []
                elif isinstance(node, ast.Attribute) and ast.unparse(node.value) == "medrestore":
                    assert hasattr(medrestore, node.attr), f"medrestore.{node.attr}"


def commands() -> dict[str, dict[str, set[str]]]:
    """What the command line has: options by command, aliases together under each of their names."""
    import typer

    from medrestore.cli import app

    group = typer.main.get_command(app)
    listed = {}
    for name, command in group.commands.items():
        for part, inner in getattr(command, "commands", {"": command}).items():
            listed[f"{name} {part}".strip()] = inner
    found = {}
    for name, command in listed.items():
        found[name] = {
            option: set(parameter.opts)
            for parameter in command.params
            for option in (parameter.opts if parameter.param_type_name == "option" else [parameter.metavar])
        }
        found[name].pop("--help", None)
    return found


def tables(path: Path) -> dict[str, list[list[str]]]:
    """Rows of the tables of a page, split into cells, by the heading above."""
    found: dict[str, list[list[str]]] = {}
    heading = ""
    for line in FENCE.sub("", path.read_text(encoding="utf-8")).splitlines():
        if line.startswith("#"):
            heading = line.lstrip("#").strip().strip("`")
        elif line.startswith("|") and not re.match(r"\|[\s|:-]*\|$", line):
            found.setdefault(heading, []).append([cell.strip() for cell in line.strip("|").split(" | ")])
    return {heading: rows[1:] for heading, rows in found.items()}


def keys(rows: list[list[str]]) -> list[str]:
    """Names in backquotes in the first cell of each row."""
    return [key for row in rows for key in re.findall(r"`([^`]+)`", row[0])]


def test_the_page_of_the_command_line_has_every_option_and_no_other():
    written = {
        heading.removeprefix("medrestore "): set(keys(rows))
        for heading, rows in tables(DOCS / "reference/cli.md").items()
        if heading.startswith("medrestore ")
    }
    assert written == {name: set(options) for name, options in commands().items()}


def command_lines(path: Path) -> list[list[str]]:
    """Words of every `medrestore ...` in a shell block or an indented one."""
    text = path.read_text(encoding="utf-8")
    indented = [line[4:] for line in FENCE.sub("", text).splitlines() if line.startswith("    ")]
    code = [*(block.body for block in blocks(path) if block.language == "bash"), *indented]
    lines = "\n".join(code).replace("\\\n", " ").splitlines()
    words = [
        line.split(" #")[0].removeprefix("MEDRESTORE_PLUGINS=") for line in lines if "medrestore " in line
    ]
    starts = (re.search(r"(?:^|^\S+ )medrestore (.*)$", line) for line in words)
    return [shlex.split(match[1]) for match in starts if match]


def test_commands_are_found_in_the_text():
    assert ["models"] in command_lines(QUICK_START)
    assert len([words for path in TEXTS for words in command_lines(path)]) > 20


@pytest.mark.parametrize("path", IN_ROOT)
def test_commands_in_the_text_exist(path):
    known = commands()
    for name, *words in command_lines(path):
        if name.startswith("--") or path.name == "cli.md":  # that page is compared with the code as a whole
            continue
        if name not in known and words:
            name = f"{name} {words[0]}"  # noqa: PLW2901  a verb of a group
        assert name in known
        assert [word for word in words if word.startswith("-") and word not in known[name]] == []


def test_the_page_of_the_hooks_has_every_hook_with_its_signature():
    page = (DOCS / "reference/hooks.md").read_text(encoding="utf-8")
    written = re.findall(r"^def medrestore_.*$", page, re.MULTILINE)
    declared = [
        f"def {name}{inspect.signature(hook)}".replace("'", "")
        for name, hook in vars(hookspecs).items()
        if name.startswith("medrestore_") and hasattr(hook, f"{hookspecs.PROJECT}_spec")
    ]
    assert len(declared) == 12
    assert written == declared


def test_the_page_of_model_toml_has_every_key():
    found = tables(DOCS / "reference/model-toml.md")
    top = [field for field in fields(ModelSpec) if field.name not in {"load", "weights", "sha256", "network"}]
    assert keys(found["model.toml"]) == [field.name for field in top]
    needed = {row[0].strip("`") for row in found["model.toml"] if row[1] == "needed"}
    assert needed == {field.name for field in top if field.default is MISSING}
    spec_only = set(keys(tables(DOCS / "reference/hooks.md")["medrestore_models"]))
    assert spec_only == {field.name for field in fields(ModelSpec)} - {field.name for field in top}


@pytest.mark.parametrize(("table", "key"), [("network", "name"), ("weights", "file"), ("weights", "sha256")])
def test_needed_keys_of_the_tables_of_model_toml_are_needed(table, key, tmp_path):
    rows = {row[0].strip("`"): row[1] for row in tables(DOCS / "reference/model-toml.md")[f"[{table}]"]}
    assert rows[key] == "needed"
    given = {"network": 'name = "voxelnet"', "weights": 'file = "f"\nsha256 = "s"'}
    given[table] = "\n".join(line for line in given[table].splitlines() if not line.startswith(key))
    text = "\n".join(f"[{name}]\n{body}" for name, body in given.items())
    (tmp_path / folder.DESCRIPTION).write_text(text)
    with pytest.raises(errors.ModelError, match=rf"missing: {table}\.{key}"):
        folder.read_model_folder(tmp_path)


def test_the_page_of_train_toml_has_every_key_with_its_default():
    from medrestore.training import recipe as config

    found = tables(DOCS / "reference/train-toml.md")
    rooms = {field.name: field for field in fields(config.TrainConfig)}
    hints = get_type_hints(config.TrainConfig)
    headings = re.findall(r"^## `\[(\w+)\]`$", (DOCS / "reference/train-toml.md").read_text(), re.MULTILINE)
    assert sorted(headings) == sorted(rooms)
    for name in rooms.keys() - {"model"}:
        options = next(kind for kind in (*get_args(hints[name]), hints[name]) if is_dataclass(kind))
        rows = found[f"[{name}]"]
        assert keys(rows) == [field.name for field in fields(options)], name
        for row, field in zip(rows, fields(options), strict=True):
            absent = field.default_factory is not MISSING or field.default is None
            default = () if absent else field.default
            assert default_of(row[1]) == default, row
    assert "model" in headings


def default_of(cell: str) -> object:
    """What a cell of defaults means: `needed`, `none` or a TOML value, a text without its quotes."""
    if cell == "needed":
        return MISSING
    if cell == "none":
        return ()
    text = cell.strip("`")
    try:
        value = tomllib.loads(f"x = {text}")["x"]
    except tomllib.TOMLDecodeError:
        return text
    return tuple(value) if isinstance(value, list) else value


def test_the_training_configuration_of_the_guide_is_valid(tmp_path):
    from medrestore.training import load_config

    (example,) = [b.body for b in blocks(DOCS / "how-to/train-a-model.md") if b.title == "train.toml"]
    (tmp_path / "train.toml").write_text(example, encoding="utf-8")
    config = load_config(tmp_path / "train.toml")
    known = {field.name for field in fields(ModelSpec)}
    assert set(config.model) <= known
    given = {"halo", "load", *config.model}
    assert {field.name for field in fields(ModelSpec) if field.default is MISSING} <= given


def test_the_page_of_the_sidecar_has_every_field():
    found = tables(DOCS / "reference/sidecar.md")
    assert keys(found["Sidecar"]) == ["schema", *(field.name for field in fields(RunRecord))]
    assert keys(found["model"]) == [field.name for field in fields(ModelRef)]
    assert keys(found["input"]) == [field.name for field in fields(Source)]


def test_the_page_of_the_sidecar_has_what_the_engine_writes():
    import numpy as np

    from medrestore.engine.evidence.residual import residual_evidence
    from medrestore.noise.level import NoiseLevel

    found = tables(DOCS / "reference/sidecar.md")
    ramp = np.linspace(0, 1, 1000).reshape(10, 10, 10)
    written = [*(field.name for field in fields(NoiseLevel)), "operator"]
    written += residual_evidence(ramp, ramp, 0.1)
    assert keys(found["noise"]) == written


def test_the_page_of_the_sidecar_has_what_is_written_of_slices(tmp_path):
    import numpy as np
    from tiny import SUPERRES, model_folder, phantom

    options = medrestore.RestoreOptions(model=str(model_folder(tmp_path / "tiny", **SUPERRES)), device="cpu")
    scan = medrestore.Volume.from_array(phantom(16), np.diag([1, 1, 2, 1]), medrestore.Modality.MR)
    record = medrestore.restore(scan, options).record
    assert keys(tables(DOCS / "reference/sidecar.md")["slices"]) == list(record.slices)


def test_the_pages_have_what_is_written_of_the_verdict():
    from medrestore.engine.evidence.consistency import Consistency
    from medrestore.engine.evidence.verdict import CAUSES, Verdict
    from medrestore.types import Judgement

    given = Verdict(Judgement.PASS, "", Consistency(1, {}))
    written = ["verdict", *Verdict(None, "").as_json(), *given.as_json()]
    assert keys(tables(DOCS / "reference/sidecar.md")["verdict"]) == list(dict.fromkeys(written))
    told = keys(tables(DOCS / "explanation/evidence.md")["The verdict"])
    assert [name for name in told if name.islower()] == list(CAUSES)


def test_the_page_of_the_metrics_has_every_metric():
    from medrestore.metrics import evaluate

    page = tables(DOCS / "reference/metrics.md")["Metrics"]
    assert [key for row in page for key in keys([row])[:1]] == list(evaluate([0.0], None, data_range=1))


def test_the_page_of_the_metrics_has_every_metric_without_a_reference():
    image = np.zeros((4, 4, 4))
    regions = metrics.find_regions(image, acquired=image, head=np.ones(image.shape))
    page = tables(DOCS / "reference/metrics.md")["Without a reference"]
    names = [name for row in page for name in re.findall(r"`(\w+)`", row[0])]
    assert names == list(metrics.evaluate_without_reference(image, (1, 1, 1), regions))


def test_the_page_of_the_errors_has_every_error_below_its_parent():
    rows = tables(DOCS / "reference/errors.md")["Errors"]
    assert {row[0].strip("`"): row[1].strip("`") for row in rows} == {
        name: kind.__bases__[0].__name__
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, Exception)
    }


def test_the_page_of_python_has_names_that_exist_and_all_that_is_exported():
    page = (DOCS / "reference/python.md").read_text(encoding="utf-8")
    written = re.findall(r"^::: (\S+)$", page, re.MULTILINE)
    for name in written:
        module, _, attribute = name.rpartition(".")
        assert hasattr(importlib.import_module(module), attribute), name
    shown = {name.rpartition(".")[2] for name in written}
    elsewhere = {"MedrestoreError", "hookimpl", "__version__"}
    assert set(medrestore.__all__) - elsewhere <= shown


def test_bullets_of_the_changelog_are_short():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    bullets = re.findall(r"^- (.+(?:\n {2}.+)*)$", text, re.MULTILINE)
    assert bullets
    assert [bullet for bullet in bullets if len(bullet.split()) > 25] == []


@needs_weights
def test_nothing_is_left_to_fill_in():
    texts = {path.relative_to(ROOT): path.read_text(encoding="utf-8") for path in TEXTS}
    assert {str(path): text.count(OPEN) for path, text in texts.items() if OPEN in text} == {}


@pytest.mark.slow
@pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("mkdocs", "material", "mkdocstrings")),
    reason="needs mkdocs-material and mkdocstrings (extra docs)",
)
def test_the_site_builds_without_a_warning(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "reference/python/index.html").is_file()
