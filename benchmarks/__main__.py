"""All benchmarks, one after the other: `python -m benchmarks`."""

from benchmarks import accuracy, choices, head_step

for benchmark in (head_step, accuracy, choices):
    print(f"\n== {benchmark.__name__}")
    benchmark.main()
