"""Memory and time that a batch will take, predicted before anything runs."""

from __future__ import annotations

from dataclasses import dataclass, replace

from medrestore.batch.find.case import Case
from medrestore.batch.settings import Settings
from medrestore.batch.workers.case_json import case_json, options_of
from medrestore.errors import MedrestoreError, unforeseen
from medrestore.files import read_header
from medrestore.job.forecast import Forecast, forecast


@dataclass(frozen=True)
class CasePlan:
    """The facts of a case before it runs.

    Attributes:
        case: The case.
        refused: Why the case cannot be restored; empty if it can be tried.
        shape: Voxels of a volume of the scan; None if the shape is not known.
        forecast: Memory and time that the case will take; None if it is refused.
    """

    case: Case
    refused: str = ""
    shape: tuple[int, ...] | None = None
    forecast: Forecast | None = None


def plan_case(case: Case, settings: Settings) -> CasePlan:
    """Look at the header of a case, and predict the memory and time that it takes.

    The first prediction for a model on a machine measures it, which takes some seconds.
    """
    planned = CasePlan(case, case.refused)
    try:
        if case.refused:
            return planned
        header = case.header or read_header(case.files[0])
        planned = replace(planned, shape=header.geometry.shape)
        return replace(planned, forecast=forecast(header, options_of(case_json(case, settings))))
    except MedrestoreError as error:
        return replace(planned, refused=str(error).replace(str(case.root), case.id))
    except Exception as error:  # noqa: BLE001  whatever a file leads to, the other cases are planned
        return replace(planned, refused=f"it cannot be planned ({unforeseen(error)})")
