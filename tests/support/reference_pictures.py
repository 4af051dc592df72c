"""What other programs see in the odd pictures: makes tests/files/odd_pictures.json, once.

    pip install pyvips pyvips-binary; apt install imagemagick
    python -m tests.support.reference_pictures FOLDER convert

ImageMagick and libvips share libraries with Pillow (libjpeg, libtiff), but not what is made of
them: orientation, profiles, transparency, palettes, bits, and for BMP, GIF, PNM the decoder.
They are too large for every run of the tests, so what they see is kept: size and mean colours
of 4 x 4 parts.
"""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import ImageCms

from tests.support.decode_all import coarse

TABLE = Path(__file__).parents[1] / "files" / "odd_pictures.json"


def see_with_magick(convert: str, file: Path, profile: Path | None) -> np.ndarray | None:
    """Of the first frame: upright, sRGB, opaque on white, 8 bits."""
    command = [convert, "-background", "white", f"{file}[0]", "-auto-orient", "-coalesce"]
    command += ["-profile", str(profile)] if profile else []
    command += ["-alpha", "remove", "-colorspace", "sRGB", "-type", "TrueColor", "-depth", "8"]
    done = subprocess.run([*command, "-strip", "ppm:-"], capture_output=True, timeout=100)
    if not done.stdout.startswith(b"P6"):
        return None
    _, size, _, pixels = done.stdout.split(b"\n", 3)
    width, height = map(int, size.split())
    return np.frombuffer(pixels[: 3 * width * height], np.uint8).reshape(height, width, 3)


def see_with_vips(file: Path) -> np.ndarray | None:
    import pyvips

    try:
        image = pyvips.Image.new_from_buffer(file.read_bytes(), "")
        try:
            image = image.icc_transform("srgb", depth=8)
        except pyvips.Error:  # no profile, or a damaged one
            image = image.colourspace("srgb")
        image = image.flatten(background=[255]) if image.hasalpha() else image
        pixels = image.autorot().cast("uchar").numpy()
    except pyvips.Error:
        return None
    pixels = pixels.reshape(*pixels.shape[:2], -1)
    return pixels[:, :, :3] if pixels.shape[2] >= 3 else np.repeat(pixels[:, :, :1], 3, 2)


def main(folder: Path, convert: str) -> None:
    import pyvips

    said = subprocess.run([convert, "-version"], capture_output=True, text=True, check=True)
    vips = ".".join(str(pyvips.version(part)) for part in range(3))
    table: dict[str, object] = {"made with": [said.stdout.splitlines()[0], f"libvips {vips}"]}
    with tempfile.TemporaryDirectory() as place:
        srgb = Path(place, "srgb.icc")
        srgb.write_bytes(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
        for row in csv.DictReader((folder / "INDEX.csv").open()):
            file = folder / row["file"]
            profile = srgb if row["icc"] == "1" else None
            seen = (see_with_magick(convert, file, profile), see_with_vips(file))
            looks = [f"{p.shape[1]}x{p.shape[0]} {coarse(p)}" for p in seen if p is not None]
            if looks:
                table[row["file"]] = list(dict.fromkeys(looks))
    TABLE.write_text(json.dumps(table, indent=0) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
