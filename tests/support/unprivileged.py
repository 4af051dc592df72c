"""Commands run without the power of root to read and write whatever it likes."""

import os
import shutil
import subprocess

import pytest

from tests.conftest import run


def unprivileged(*command: object, **more) -> subprocess.CompletedProcess[str]:
    """Run one of the project's commands so that the modes of files hold for it.

    As root it keeps its identity, so that its files stay readable, but no capability.
    """
    if os.geteuid() != 0:
        return run(*command, **more)
    if shutil.which("setpriv") is None:
        pytest.skip("setpriv is not here: as root every file can be read and written")
    return run(*command, through=("setpriv", "--bounding-set=-all", "--inh-caps=-all"), **more)
