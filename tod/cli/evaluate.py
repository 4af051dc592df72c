"""The command `tod eval`."""

from __future__ import annotations

from tod.cli import net_runner, options


def evaluate(
    model: options.Model,
    data: options.Data,
    verbose: options.Verbose = False,
    threads: options.Threads = None,
    inference: options.Inference = None,
    seed: options.Seed = None,
    only_on_power: options.OnlyOnPower = False,
    min_battery: options.MinBattery = None,
    max_temperature: options.MaxTemperature = None,
    between: options.Between = None,
    max_minutes: options.MaxMinutes = None,
    max_memory: options.MaxMemory = None,
    no_wait: options.NoWait = False,
    nice: options.Nice = False,
    cache_dir: options.CacheDir = None,
    no_cache: options.NoCache = False,
    require_signature: options.RequireSignature = None,
    log: options.Log = None,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Accuracy of a model on the validation split; the same as net_runner without -c.

    Example: tod eval -f transfer_learning_trained.tod -d dataset
    """
    given = locals()
    net_runner.run(**given, cycles=0)
