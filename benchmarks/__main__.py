"""All benchmarks, one after the other: `python -m benchmarks`. It takes hours.

`bare_work` and `torch_job` are the other sides of `whole_job`, which chooses between them.
"""

from benchmarks import (
    accuracy,
    choices,
    deep_step,
    depth,
    head_step,
    int8,
    networks,
    package,
    prepare,
    scaling,
    whole_job,
)

SPEED = (head_step, deep_step, prepare, whole_job, scaling)
for benchmark in (*SPEED, package, int8, accuracy, depth, choices, networks):
    print(f"\n== {benchmark.__name__}")
    benchmark.main()
