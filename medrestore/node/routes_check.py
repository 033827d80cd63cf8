"""Whether the models, samplers and estimators that routes name are there.

Looking needs torch, which a node never loads: this runs in a process of its own, as
``python -m medrestore.node.routes_check``, with the path of the routes file. What is wrong, empty if nothing
is, comes back as JSON on standard output.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from medrestore.engine.models.checks import check_outputs
from medrestore.engine.models.load import find_model
from medrestore.errors import MedrestoreError
from medrestore.node.config import Route, load_routes
from medrestore.types import Modality


def main() -> None:
    """Check every route of the file that is named."""
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answer:
        os.dup2(2, 1)
        routes = load_routes(Path(sys.argv[1])).routes
        json.dump([problem for route in routes if (problem := _problem(route))], answer)


def _problem(route: Route) -> str:
    """Return what a route names that is not there; empty if nothing."""
    options = route.restore_options()
    modality = next((one for one in Modality if one == route.modality), Modality.UNKNOWN)
    try:
        ref, spec = find_model(options, modality)
        check_outputs(ref, spec, options)
    except MedrestoreError as error:
        return f"route to {route.destination} for {route.modality}: {error}"
    return ""


if __name__ == "__main__":
    main()
