"""What a package leaves out, because net_runner and tod never load it on a device."""

from __future__ import annotations

import fnmatch
from pathlib import Path

# Paths below lib/python3.X; a pattern's * also stands for slashes.
STANDARD_LIBRARY = (
    "__pycache__", "*/__pycache__", "config-*", "ensurepip", "idlelib", "lib2to3", "pydoc_data",
    "site-packages", "sqlite3", "test", "*/test", "*/tests", "tkinter", "turtle.py",
    "turtledemo", "venv", "wsgiref", "xmlrpc", "curses", "dbm", "distutils", "msilib",
    "_pydecimal.py", "_pyio.py", "pydoc.py", "LICENSE.txt", "__phello__*", "asyncio", "unittest",
    "doctest.py", "mailbox.py", "imaplib.py", "smtplib.py", "ftplib.py", "nntplib.py",
    "telnetlib.py", "poplib.py", "smtpd.py", "http/server.py", "plistlib.py", "pickletools.py",
    "aifc.py", "sunau.py", "wave.py", "cProfile.py", "pstats.py", "lib-dynload/_lsprof*",
    "lib-dynload/_multibytecodec*", "cgi*.py", "lib-dynload/_asyncio*", "*.csh",
    "encodings/cp[157-9]*", "encodings/mac_*", "encodings/iso*_jp*", "encodings/iso2022*",
    "encodings/*jis*", "encodings/big5*", "encodings/gb*", "encodings/euc*", "encodings/koi8*",
    "lib-dynload/*test*", "EXTERNALLY-MANAGED", "*.rst", "lib-dynload/_xx*",
    "lib-dynload/xx*", "lib-dynload/_curses*", "lib-dynload/_sqlite3*",
    "lib-dynload/_tkinter*", "lib-dynload/_dbm*", "lib-dynload/_gdbm*", "lib-dynload/_crypt*",
    "lib-dynload/nis*", "lib-dynload/readline*", "lib-dynload/ossaudiodev*",
    "lib-dynload/_ssl*", "ssl.py", "xml", "pdb.py", "bdb.py", "http/cookie*.py",
    "optparse.py", "trace.py", "webbrowser.py", "timeit.py", "tabnanny.py", "pyclbr.py",
    "tarfile.py", "lib-dynload/_elementtree*", "lib-dynload/pyexpat*",
    "sndhdr.py", "imghdr.py", "xdrlib.py", "chunk.py", "pipes.py", "symtable.py", "zipapp.py",
    "lib-dynload/_codecs_*", "lib-dynload/audioop*",
)  # fmt: skip
# Paths below site-packages.
SITE_PACKAGES = (
    "bin", "*.pyi", "*/py.typed", "*/__pycache__", "*.dist-info/RECORD", "*.dist-info/INSTALLER",
    "*.dist-info/REQUESTED", "*.dist-info/direct_url.json", "*.dist-info/WHEEL",
    "*.dist-info/entry_points.txt", "*.dist-info/top_level.txt", "*.dist-info/sboms",
    # The Python module holds the whole runtime; the library is for programs in C.
    "onnxruntime/capi/libonnxruntime.so*", "onnxruntime/transformers", "onnxruntime/tools",
    "onnxruntime/quantization", "onnxruntime/backend", "onnxruntime/datasets",
    "numpy/*/tests", "numpy/tests", "numpy/f2py", "numpy/distutils", "numpy/_core/include",
    "numpy/_core/lib", "numpy/random/*.pxd", "numpy/random/lib", "numpy/random/_examples",
    # NumPy loads these when they are first asked for, which TOD never does.
    "numpy/fft", "numpy/polynomial", "numpy/testing", "numpy/_core/_simd.*",
    "numpy/lib/recfunctions.py*", "numpy/ma/mrecords.py*", "numpy/ma/testutils.py*",
    "numpy/ma/README.rst", "numpy/ma/API_CHANGES.txt",
    # Its long description, of which nobody here asks the version; the licence lies beside it.
    "pydantic*.dist-info/METADATA",
    "numpy/_pyinstaller", "numpy/_core/_*_tests*", "numpy/*.pxd",
    "google/protobuf/json_format.py*", "google/protobuf/internal/*_benchmark.py*",
    "google/protobuf/service_reflection.py*", "pydantic/mypy.py*", "rich/__main__.py*",
    "markdown_it/cli",
    "PIL/_imagingft*", "PIL/_imagingtk*", "PIL/ImageQt.py", "PIL/ImageTk.py",
    "PIL/_tkinter_finder.py",
    "PIL/_imagingmath.*", "PIL/_imagingmorph.*",
    # Formats that tod.data.picture_kind does not name; Pillow goes on without a plugin.
    *(
        f"PIL/{name}*.py*"
        for name in (
            "Blp", "Bufr", "Cur", "Dcx", "Dds", "Eps", "Fits", "Fli", "Fpx", "Ftex", "Gbr", "Grib",
            "Hdf5", "Icns", "Ico", "ImImage", "Imt", "Iptc", "Jpeg2K", "McIdas", "Mic", "Mpeg",
            "Msp", "Palm", "Pcd", "Pcx", "Pdf", "Pixar", "Psd", "Qoi", "Sgi", "Spider", "Sun",
            "Tga", "Wmf", "XV", "Xbm", "Xpm", "PSDraw", "Bdf", "Pcf", "Tar", "Wal", "GdI",
        )
    ),
    # What protobuf is without its C library, and its form as text.
    "google/protobuf/internal/python_message.py*", "google/protobuf/internal/decoder.py*",
    "google/protobuf/internal/encoder.py*", "google/protobuf/text_format.py*",
    # Only onnxruntime's tools want these; the last four only before version 1.24 (Python 3.10).
    "packaging*", "flatbuffers*", "sympy*", "isympy.py", "mpmath*", "coloredlogs*",
    "humanfriendly*",
    "pygments/lexers/[!_]*", "pygments/lexers/_[!_m]*", "pygments/formatters/[!_]*",
    "pygments/styles/[!_]*", "pydantic/v1", "numpy/typing/tests",
)  # fmt: skip


def trim(folder: Path, patterns: tuple[str, ...]) -> list[Path]:
    """Files of a folder that stay.

    Args:
        folder: where to look.
        patterns: paths below it that are left out, with all that is in them.

    Returns:
        Paths relative to the folder, sorted.
    """
    names = [p.relative_to(folder) for p in sorted(folder.rglob("*")) if p.is_file()]
    return [name for name in names if not _left_out(name, patterns)]


def _left_out(name: Path, patterns: tuple[str, ...]) -> bool:
    above = [name, *name.parents]
    return any(fnmatch.fnmatchcase(str(part), pattern) for part in above for pattern in patterns)
