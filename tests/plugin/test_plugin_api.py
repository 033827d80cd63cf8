"""What an API number promises is kept: `api.json` is a record of it, compared with the code.

What a number promises is never taken back. What is new is added to the record (by running this file), and is
a promise from then on; what breaks a promise takes a new number.
"""

from __future__ import annotations

import inspect
import json
from dataclasses import MISSING, fields
from pathlib import Path

import pytest
from plugin_site import GOOD

import medrestore
from medrestore import plugin, testing, types
from medrestore.plugin import API, Declaration, hookspecs
from medrestore.plugin.spec import OLDEST_API

RECORD = Path(__file__).with_name("api.json")
HOOKS = Path(medrestore.__file__).parents[1] / "docs/reference/hooks.md"


def kinds() -> list[type[Declaration]]:
    found = [one for one in vars(plugin).values() if isinstance(one, type) and issubclass(one, Declaration)]
    return sorted(found, key=lambda kind: kind.__name__)


def promised() -> dict[str, object]:
    """What this version offers to plugins: names, and which of the fields must be given."""
    hooks = {name: hook for name, hook in vars(hookspecs).items() if hasattr(hook, "medrestore_spec")}
    needed = {kind: [one.name for one in fields(kind) if one.default is MISSING] for kind in kinds()}
    return {
        "api": API,
        "hooks": {name: list(inspect.signature(hook).parameters) for name, hook in hooks.items()},
        "fields": {kind.__name__: [one.name for one in fields(kind)] for kind in kinds()},
        "needed": {kind.__name__: names for kind, names in needed.items()},
        "members": {kind.__name__: list(kind) for kind in (types.Modality, types.Task, plugin.Intensity)},
        "names": {room.__name__: sorted(room.__all__) for room in (medrestore, plugin, testing)},
    }


def recorded() -> dict[str, object]:
    return json.loads(RECORD.read_text(encoding="utf-8"))


def lost(before: dict, now: dict) -> list[str]:
    """Return what was promised and is not there any more."""
    here = {
        (part, name): list(found) for part in before if part != "api" for name, found in now[part].items()
    }
    return [
        f"{part}: {name} {item}"
        for part in before
        if part != "api"
        for name, items in before[part].items()
        for item in (["itself"] if (part, name) not in here else items)
        if item not in here.get((part, name), ())
    ]


def test_nothing_that_the_number_promises_is_taken_back():
    before, now = recorded(), promised()
    assert before["api"] == now["api"], "a new number: make its record anew"
    assert lost(before, now) == [], "raise API, or keep it"
    burdens = lost({"needed": now["needed"]}, {"needed": before["needed"]})
    assert [one for one in burdens if "itself" not in one] == [], (
        "a field that plugins do not have yet must have a default"
    )


def test_what_is_new_is_in_the_record():
    assert lost(promised(), recorded()) == [], f"add it: python {Path(__file__).name}"


def test_what_is_taken_back_is_seen():
    now = promised()
    less = json.loads(json.dumps(now))
    less["fields"]["ModelSpec"].remove("halo")
    del less["hooks"]["medrestore_models"]
    less["needed"]["VerbSpec"] = []
    assert lost(now, less) == [
        "hooks: medrestore_models itself",
        "fields: ModelSpec halo",
        *(f"needed: VerbSpec {name}" for name in now["needed"]["VerbSpec"]),
    ]


@pytest.mark.parametrize("api", range(OLDEST_API, API + 1))
def test_every_number_that_is_not_given_up_works(site, api):
    site.add("mine", GOOD.format(models=f"[model(api={api})]"))
    (_, mine) = site.manager().plugins
    assert (mine.status, mine.adds) == ("ok", {"models": ("smooth",)})


def test_a_hook_may_leave_out_arguments(site):
    site.add("mine", "from medrestore import hookimpl\n@hookimpl\ndef medrestore_case_written(): pass\n")
    (_, mine) = site.manager().plugins
    assert mine.adds == {"observers": ("case_written",)}


def test_a_hook_that_is_gone_is_told_with_what_to_write_instead(site):
    page = HOOKS.read_text(encoding="utf-8") if HOOKS.exists() else None
    assert hookspecs.REMOVED
    for number, (name, advice) in enumerate(hookspecs.REMOVED.items()):
        assert not hasattr(hookspecs, name)
        site.add(f"old{number}", f"from medrestore import hookimpl\n@hookimpl\ndef {name}(): return ()\n")
        (found,) = [info for info in site.manager().plugins if info.name == f"old{number}"]
        assert (found.status, advice in (found.error or "")) == ("broken", True)
        assert page is None or f"`{name}`" in page


if __name__ == "__main__":
    RECORD.write_text(json.dumps(promised(), indent=1) + "\n", encoding="utf-8")
