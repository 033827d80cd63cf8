"""The texts are true: links lead somewhere, commands and names in them exist, every page is reached."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from docs_pages import DOCS, FENCE, PAGES, QUICK_START, ROOT, TEXTS, blocks, commands, needs_weights

import medrestore

pytestmark = pytest.mark.skipif(not DOCS.is_dir(), reason="needs the source tree")
IN_ROOT = [pytest.param(path, id=str(path.relative_to(ROOT))) for path in TEXTS]
OPEN = "to be filled in"


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
