"""All benchmarks, one after the other: `python -m benchmarks`."""

from benchmarks import accuracy, choices, deep_step, depth, head_step, networks

for benchmark in (head_step, deep_step, accuracy, depth, choices, networks):
    print(f"\n== {benchmark.__name__}")
    benchmark.main()
