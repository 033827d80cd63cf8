"""What a plugin does while it is loaded is contained, limited in time and told of."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from plugin_site import GOOD, Site

import medrestore
from medrestore.plugin import PluginInfo, loading
from medrestore.plugin.loading import load_watched, stdout_on_stderr
from medrestore.provenance import ModelRef, RunRecord, Source

FINE = GOOD.format(models="[model()]")


def info(site: Site, code: str, hook: str = "[model()]") -> PluginInfo:
    """Return how a plugin of this code, before its hook, is listed; another must be fine beside it."""
    site.add("odd", code + "\n" + GOOD.format(models=hook))
    site.add("zzz-last", FINE)
    ours, odd, last = site.manager().plugins
    assert (ours.status, last.status) == ("ok", "ok")
    return odd


def environment(*folders: Path) -> dict[str, str]:
    """Return that of a process that finds medrestore, and the plugins in some folders."""
    paths = (Path(medrestore.__file__).parents[1], *folders)
    return {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths))}


@pytest.fixture
def soon(monkeypatch):
    monkeypatch.setattr(loading, "LIMIT_SECONDS", 0.3)


@pytest.mark.parametrize(
    ("code", "hook", "line"),
    [
        ("import time\ntime.sleep(600)", "[model()]", 2),
        ("while True: pass", "[model()]", 1),
        ("import threading\nthreading.Event().wait()", "[model()]", 2),
        ("import time", "iter(lambda: time.sleep(600), 1)", 13),
    ],
)
def test_a_plugin_that_hangs_is_given_up(site, soon, code, hook, line):
    odd = info(site, code, hook)
    assert odd.status == "broken"
    assert f"loading it took more than 0.3 s and was given up (at {site.folder}" in odd.error
    assert f".py:{line}); expected an import and hooks that wait for nothing" in odd.error


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import sys; sys.exit(0)", "SystemExit: 0"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("class Odd(BaseException): pass\nraise Odd('once')", "Odd: once"),
        ("input('Licence? ')", "EOFError"),
        (
            "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)",
            "ValueError: signal only works in main",
        ),
    ],
)
def test_whatever_is_raised_at_import_is_the_plugins(site, code, message):
    odd = info(site, code)
    assert odd.status == "broken"
    assert message in odd.error
    assert f"{site.folder}/plugin_" in odd.error


@pytest.mark.parametrize("hook", ["1 / 0", "sys.exit(0)", "exec('raise KeyboardInterrupt')"])
def test_a_hook_that_raises_is_named(site, hook):
    odd = info(site, "import sys", hook)
    assert odd.status == "broken"
    assert odd.error.startswith("medrestore_models: ")
    assert any(kind in odd.error for kind in ("ZeroDivisionError", "SystemExit", "KeyboardInterrupt"))


def test_a_plugin_that_behaves_has_no_notes(site):
    assert info(site, "").notes == ()


def test_what_is_changed_at_import_is_put_back_and_told(site, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    odd = info(
        site,
        "import os, torch\nos.environ['ODD'] = '1'\nos.chdir('/')\ntorch.set_default_dtype(torch.float64)\n"
        "torch.set_num_threads(torch.get_num_threads() + 1)",
    )
    assert odd.status == "ok"
    (note,) = odd.notes
    for what in ("the current folder", "environment variables", "default dtype", "number of threads"):
        assert what in note
    assert note.endswith("which was put back")
    assert "ODD" not in os.environ
    assert Path.cwd() == tmp_path
    assert torch.get_default_dtype() is torch.float32
    assert load_watched(torch.get_num_threads).value == torch.get_num_threads()


def test_threads_are_told_of_and_keep_no_process(site):
    code = (
        "import threading\nstop = threading.Event()\nthreading.Thread(target=stop.wait, name='beat').start()"
    )
    odd = info(site, code)
    assert (odd.status, odd.notes) == ("ok", ("started 1 thread (beat)",))
    (beat,) = [thread for thread in threading.enumerate() if thread.name == "beat"]
    assert beat.daemon
    next(module for name, module in sys.modules.items() if name.endswith("dist_odd_odd")).stop.set()


def test_threads_that_keep_the_process_are_told_of():
    stop = threading.Event()

    def start() -> str:
        for name in "ab":
            threading.Thread(target=stop.wait, name=name, daemon=False).start()
        return "done"

    found = load_watched(start)
    stop.set()
    assert found.value == "done"
    assert found.notes == ("started 2 threads (a, b)", "the process does not end before its threads do")


# --- what is printed -------------------------------------------------------------------------------------


def test_what_is_printed_goes_to_standard_error_and_is_told(site, capsys):
    odd = info(site, "print('welcome to', 'odd', 'x' * 200)")
    assert odd.notes == (f"printed {'welcome to odd ' + 'x' * 65!r}...",)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "welcome to odd" in shown.err


def test_standard_output_is_as_before_afterwards(capfd):
    stream = sys.stdout
    with stdout_on_stderr():
        kept = sys.stdout
        sys.stdout.write("set aside\n")
        os.write(1, b"past Python\n")
        subprocess.run(["echo", "a child"], check=True)
    sys.stdout.write("on standard output\n")
    os.write(1, b"this too\n")
    kept.write("a log that kept the stream\n")
    shown = capfd.readouterr()
    assert sys.stdout is stream
    assert sorted(shown.out.splitlines()) == ["on standard output", "this too"]
    assert set(shown.err.splitlines()) == {
        "set aside",
        "past Python",
        "a child",
        "a log that kept the stream",
    }


def test_a_closed_standard_output_is_no_hindrance(tmp_path):
    script = (
        "from pathlib import Path; from medrestore.plugin import PluginManager\n"
        "Path('a').write_text(PluginManager().plugins[0].status)"
    )
    done = subprocess.run(
        f'"{sys.executable}" -c "{script}" >&- 2>&-',
        shell=True,
        cwd=tmp_path,
        env=environment(),
        check=False,
    )
    assert done.returncode == 0
    assert (tmp_path / "a").read_text() == "ok"


NOISY = """
import os, subprocess, sys
print("python")
os.write(1, b"descriptor")
subprocess.run(["echo", "child"])
sys.__stdout__.write("the stream behind")
""" + FINE.replace("return", 'print("hook"); return')


@pytest.mark.parametrize("command", ["models", "plugins"])
def test_json_is_whole_whatever_a_plugin_prints(site, command):
    site.add("noisy", NOISY)
    done = subprocess.run(
        [sys.executable, "-c", "from medrestore.cli import main; main()", command, "--json"],
        env=environment(site.folder),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    names = [row["name"] for row in json.loads(done.stdout)]
    assert {"noisy/smooth", "noisy"} & set(names)
    assert all(word in done.stderr for word in ("python", "descriptor", "child", "the stream behind", "hook"))


def test_a_plugin_that_hangs_does_not_keep_the_command(site):
    site.add(
        "odd",
        "import time, threading\nthreading.Thread(target=time.sleep, args=(600,)).start()\ntime.sleep(600)",
    )
    code = (
        "from medrestore.plugin import loading\nloading.LIMIT_SECONDS = 0.5\n"
        "import sys; sys.argv = ['medrestore', 'plugins']\nfrom medrestore.cli import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment(site.folder),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "broken" in done.stdout
    assert "loading it took more than 0.5 s and was given up" in done.stdout
    assert "started 1 thread (Thread-" in done.stdout


# --- observers -------------------------------------------------------------------------------------------


def test_an_observer_cannot_end_the_run_print_into_it_or_change_it(site, capsys, caplog):
    start = "import os, sys\nfrom medrestore import hookimpl\n"
    start += "@hookimpl\ndef medrestore_volume_restored(record):\n"
    site.add("a", start + "    print('seen'); os.environ['ODD'] = '1'; sys.exit(0)")
    finished = RunRecord(
        "0.1.0", {}, ModelRef("medrestore/mr-denoise", "medrestore"), Source("a.nii", "nifti")
    )
    (problem,) = site.manager().tell("medrestore_volume_restored", record=finished)
    assert problem.startswith("plugin 'a' (dist-a 1.2), medrestore_volume_restored: SystemExit: 0 (")
    assert problem in caplog.text
    shown = capsys.readouterr()
    assert (shown.out, "seen" in shown.err) == ("", True)
    assert "ODD" not in os.environ
    assert not isinstance(sys.stdout, io.StringIO)


def test_the_user_can_interrupt_an_observer(site):
    site.add(
        "a",
        "from medrestore import hookimpl\n@hookimpl\n"
        "def medrestore_volume_restored(record):\n    raise KeyboardInterrupt",
    )
    finished = RunRecord(
        "0.1.0", {}, ModelRef("medrestore/mr-denoise", "medrestore"), Source("a.nii", "nifti")
    )
    with pytest.raises(KeyboardInterrupt):
        site.manager().tell("medrestore_volume_restored", record=finished)
