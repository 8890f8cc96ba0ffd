"""Reading pictures from strangers, and making small ones of them. Nothing here knows of Django's requests or models."""

from collections.abc import Iterator
from pathlib import Path
from typing import IO
from uuid import uuid4

from PIL import ExifTags, Image

#: What is read: the formats that browsers show. Pillow knows many more, and more code means more holes.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF")

#: The most pixels that a picture may have. A file of a few kilobytes can hold billions, which would fill the memory.
MOST_PIXELS = 40_000_000
_TOO_LARGE = (
    f"This picture has more than the {MOST_PIXELS // 1_000_000} million pixels that are taken here. Make it smaller "
    "and try again."
)
# Pillow's own limit: it warns beyond it, and refuses twice as many.
Image.MAX_IMAGE_PIXELS = MOST_PIXELS

#: The widths of what is made, largest first. A narrower picture keeps its own.
WIDTHS = (1600, 800, 400, 200)

#: What puts a picture upright, by what the camera says about how it was held.
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class UnreadablePicture(ValueError):
    """A file that is no picture, or none that is taken here. Its text is for the person who sent it."""


def check(file: IO[bytes]) -> None:
    """Look at the head of a file, and leave it open. Raises UnreadablePicture for what is not to be decoded."""
    _opened(file)


def resize(original: Path, directory: Path) -> Iterator[int]:
    """Write the small pictures into a directory, one after the other; yields how many percent are done.

    It may run twice, also at the same time: what is there already is not made again, and a file appears under its name
    when it is complete. Raises UnreadablePicture where the file is damaged.
    """
    directory.mkdir(parents=True, exist_ok=True)
    missing = [width for width in WIDTHS if not target(directory, width).exists()]
    done = len(WIDTHS) - len(missing)
    yield _percent(done)
    if not missing:
        return
    with original.open("rb") as file, _opened(file) as picture:
        try:
            upright = picture.convert("RGBA" if picture.has_transparency_data else "RGB")
        except (OSError, SyntaxError, ValueError) as error:
            raise UnreadablePicture("This picture is damaged: a part of it is missing or unreadable.") from error
        turn = _turn(picture)
    if turn is not None:
        upright = upright.transpose(turn)
    for width in missing:
        upright.thumbnail((width, 4 * width), Image.Resampling.LANCZOS)
        _write(upright, target(directory, width))
        done += 1
        yield _percent(done)


def target(directory: Path, width: int) -> Path:
    """Where the picture of a width is written."""
    return directory / f"{width}.webp"


def _percent(done: int) -> int:
    # The picture has been read, at least.
    return 10 + 90 * done // len(WIDTHS)


def _turn(picture: Image.Image) -> Image.Transpose | None:
    """Return what puts a picture upright; None where it is so, or the camera does not say it in a way to be read."""
    try:
        return TURNS.get(picture.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:
        # It comes from a stranger, and Pillow raises many things at it. The picture itself is good.
        return None


def _write(picture: Image.Image, path: Path) -> None:
    # Not by the number of the process: each container has a process 1, and a worker may have several lanes.
    unfinished = path.with_suffix(f".{uuid4().hex}.tmp")
    # Only the picture itself: where it was taken is nobody's business.
    picture.save(unfinished, "WEBP", quality=82)
    unfinished.replace(path)


def _opened(file: IO[bytes]) -> Image.Image:
    try:
        picture = Image.open(file, formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UnreadablePicture(_TOO_LARGE) from error
    except (OSError, SyntaxError, ValueError) as error:
        raise UnreadablePicture(
            "This is not a picture that can be read here. Send a JPEG, PNG, WebP or GIF."
        ) from error
    if picture.width * picture.height > MOST_PIXELS:
        raise UnreadablePicture(_TOO_LARGE)
    return picture
