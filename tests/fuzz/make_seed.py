"""Make tests/files/tiny.tod anew, after a change of the format: python -m tests.fuzz.make_seed"""

from model.export import export_backbone
from model.step.optimizers import SGD
from tests.conftest import tiny_backbone
from tests.fuzz.targets import TINY

if __name__ == "__main__":
    export_backbone(
        TINY, tiny_backbone(), optimizer=SGD(0.1), batch_size=8, class_names=("a", "b", "c")
    )
    print(f"{TINY}: {TINY.stat().st_size:,} bytes")
