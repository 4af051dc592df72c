"""Run a command of this package after a look at what it runs on.

Written so that any Python 3 can read it: it may be the device's own, and too old.
"""

import os
import sys

MODULES = {"net_runner": "tod.cli.net_runner", "tod": "tod.cli.app"}


def main():
    """Look, put site-packages on the path, run the command that the launcher named."""
    lib = os.path.dirname(os.path.abspath(__file__))
    with open(os.path.join(lib, "TARGET")) as file:
        target = dict(line.rstrip("\n").split("=", 1) for line in file if "=" in line)
    problem = mismatch(target)
    if problem:
        if sys.stderr is not None:  # started without it; the code says it all the same
            sys.stderr.write("error: %s\nhint: %s\n" % problem)
        sys.exit(5)
    sys.path.insert(1, os.path.join(lib, "site-packages"))
    import importlib

    del sys.argv[0]
    importlib.import_module(MODULES[sys.argv[0]]).main()


def mismatch(target):
    """What this device lacks of what the package was made for, and what to do; else None."""
    python = "%d.%d" % sys.version_info[:2]
    if python != target["python"]:
        hint = "make it with --runtime bundled, which brings its own"
        if sys.version_info >= (3, 10):
            hint = "make it with --python-version %s, or with --runtime bundled" % python
        problem = "this package is for Python %s, this device has %s" % (target["python"], python)
        return problem, hint
    machine = os.uname()[4]
    if machine != target["machine"]:
        return (
            "this package is for %s, this device is %s" % (target["machine"], machine),
            "make it with the other --target",
        )
    if sys.maxsize < 2**32:
        return (
            "this package is for 64 bits, this device's Python has 32",
            "install the 64-bit system, or make the package with --runtime bundled",
        )
    if target["glibc"] == "own":
        return None
    try:
        name, version = os.confstr("CS_GNU_LIBC_VERSION").split()
    except (ValueError, OSError, AttributeError):
        name, version = "another C library", "0.0"
    if name != "glibc" or numbers(version) < numbers(target["glibc"]):
        return (
            "this package needs glibc %s or newer, this device has %s %s"
            % (target["glibc"], name, version),
            "make it with --runtime bundled, which brings its own",
        )
    return None


def numbers(version):
    """'2.28' as (2, 28)."""
    return tuple(int(part) for part in version.split("."))


if __name__ == "__main__":
    main()
