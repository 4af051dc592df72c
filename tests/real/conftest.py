"""What speeds up exports in tests/model does so here."""

from tests.model.conftest import _operators_once

__all__ = ["_operators_once"]
