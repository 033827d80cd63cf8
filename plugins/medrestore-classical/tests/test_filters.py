from __future__ import annotations

import pytest

pytest.importorskip("dipy", reason="needs DIPY")
pytest.importorskip("patch_denoise", reason="needs patch-denoise")

import medrestore_classical
from medrestore.testing import check_model

MODELS = {spec.name: spec for spec in medrestore_classical.medrestore_models()}


@pytest.mark.parametrize("name", MODELS)
def test_every_model_keeps_the_contract(name):
    check_model(MODELS[name])
