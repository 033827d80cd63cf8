"""What models are tried with: the contract of models and operators, and every check of `medrestore verify`.

In the tests of a plugin:

    from medrestore.testing import TrialOptions, check_model, verify


    def test_contract():
        check_model(my_plugin.medrestore_models()[0])


    def test_lesions():
        assert not verify("my-plugin/my-model", TrialOptions(only=("lesions",))).failed
"""

from medrestore.testing.checks import Check
from medrestore.testing.contract import check_model
from medrestore.testing.operators import check_operator
from medrestore.testing.outcome import Figure, Outcome, Status, Verification
from medrestore.testing.trial import TrialOptions
from medrestore.testing.verify import CHECKS, verify

__all__ = [
    "CHECKS",
    "Check",
    "Figure",
    "Outcome",
    "Status",
    "TrialOptions",
    "Verification",
    "check_model",
    "check_operator",
    "verify",
]
