"""Strips as pictures: thumbnails for the page, and whole strips as PNG files for slides.

Letters: H, W height and width in pixels.
"""

import io
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from resolute.report.strips import Hit, Shot, Side, Strip, make_strip
from resolute.report.survey import Survey

# Pictures in the page are at most this high; lower ones keep every pixel they have [ours].
THUMBNAIL_HEIGHT = 160
_LOSSLESS_BELOW = 64

# The drawn strip, in pixels: made for slides.
_PICTURE = (128, 256)
_GAP, _FRAME, _LINE, _MARGIN = 16, 6, 18, 24
_INK, _PAPER, _RIGHT, _WRONG, _GREY = "#1d2125", "#ffffff", "#00795c", "#b3400a", "#5b636b"


def thumbnail(pixels: NDArray[np.uint8]) -> tuple[str, bytes]:
    """Encode an image for the page.

    Args:
        pixels: RGB, shape (H, W, 3).

    Returns:
        Media type and file: PNG for small images, whose every pixel counts, JPEG for others.
    """
    image = Image.fromarray(pixels)
    if image.height > THUMBNAIL_HEIGHT:
        width = max(1, round(image.width * THUMBNAIL_HEIGHT / image.height))
        image = image.resize((width, THUMBNAIL_HEIGHT), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    if image.height < _LOSSLESS_BELOW:
        image.save(file, "PNG", optimize=True)
        return "image/png", file.getvalue()
    image.save(file, "JPEG", quality=85, optimize=True)
    return "image/jpeg", file.getvalue()


def write_strips(query: Side, gallery: Side, found: Survey, folder: Path) -> int:
    """Draw one PNG per query.

    Args:
        query: the query side.
        gallery: the gallery side.
        found: what a pass over their pairs found.
        folder: made if need be; files in it of the same names are replaced.

    Returns:
        Number of files. Their names start with the rank of the first match, so that the failures
        stand together at the end.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for position in range(len(query.records)):
        strip = make_strip(query, gallery, found, position)
        draw_strip(strip).save(folder / strip_name(strip, position), "PNG")
    return len(query.records)


def strip_name(strip: Strip, position: int) -> str:
    """Name the file of a strip; keys come from file names and are not trusted.

    Args:
        strip: the strip.
        position: of its query.

    Returns:
        Rank of the first match, position and what is plain in the key, for example
        ``rank0001-00012-cam_b-012_45.png``.
    """
    first = strip.first_match
    stem = re.sub(r"\.\w*$", "", strip.query.key)
    plain = re.sub(r"[^A-Za-z0-9_]+", "-", stem)
    rank = f"rank{first.rank:04d}" if first else "unmatched"
    return f"{rank}-{position:05d}-{plain.strip('-')[-60:]}.png"


def draw_strip(strip: Strip) -> Image.Image:
    """Draw a strip: the query on the left, hits to the right, right and wrong told by the frame.

    A right hit has a full frame and a tick, a wrong one a dashed frame and a cross.

    Args:
        strip: what to draw.

    Returns:
        An RGB image, 256 pixels per picture's height plus text.
    """
    width, height = _PICTURE
    cell = width + 2 * _FRAME + _GAP
    total = (2 * _MARGIN + cell * (1 + len(strip.hits)) + _GAP, _MARGIN + height + 5 * _LINE + 24)
    canvas = Image.new("RGB", total, _PAPER)
    draw = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(14)
    _draw_cell(canvas, draw, _MARGIN, strip.query, _query_lines(strip), font)
    draw.line(
        [(_MARGIN + cell, _MARGIN), (_MARGIN + cell, _MARGIN + height + 2 * _FRAME)], fill=_GREY
    )
    for column, hit in enumerate(strip.hits, start=1):
        left = _MARGIN + cell * column + _GAP
        _draw_cell(canvas, draw, left, hit.shot, _hit_lines(hit), font)
        _draw_frame(draw, left, is_match=hit.is_match)
    return canvas


def _query_lines(strip: Strip) -> list[str]:
    shot = strip.query
    lines = ["query", f"person {shot.pid}", f"{shot.size[0]} px high"]
    return [*lines, *_quality_line(shot)]


def _hit_lines(hit: Hit) -> list[str]:
    mark = "match" if hit.is_match else "wrong"
    lines = [f"{hit.rank}  {mark}", f"person {hit.shot.pid}", f"d {hit.distance:.3f}"]
    return [*lines, *_quality_line(hit.shot)]


def _quality_line(shot: Shot) -> list[str]:
    return [] if shot.quality is None else [f"w {shot.quality[0]:.2f} | {shot.quality[1]:.2f}"]


def _draw_cell(
    canvas: Image.Image,
    draw: ImageDraw.ImageDraw,
    left: int,
    shot: Shot,
    lines: list[str],
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
) -> None:
    width, height = _PICTURE
    # Enlarged by whole pixels: what a low-resolution image holds should show.
    scale = min(width / shot.size[1], height / shot.size[0])
    size = max(1, round(shot.size[1] * scale)), max(1, round(shot.size[0] * scale))
    kernel = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS
    picture = Image.fromarray(shot.pixels).resize(size, kernel)
    top = _MARGIN + _FRAME
    at = (left + _FRAME + (width - size[0]) // 2, top + (height - size[1]) // 2)
    canvas.paste(picture, at)
    for number, line in enumerate(lines):
        where = (left + _FRAME, top + height + _FRAME + 8 + number * _LINE)
        draw.text(where, line, fill=_INK, font=font)


def _draw_frame(draw: ImageDraw.ImageDraw, left: int, *, is_match: bool) -> None:
    width, height = _PICTURE
    half = _FRAME // 2
    x0, y0 = left + half, _MARGIN + half
    x1, y1 = left + width + 2 * _FRAME - half, _MARGIN + height + 2 * _FRAME - half
    colour = _RIGHT if is_match else _WRONG
    corners = [(x0, y0), (x1, y0), (x1, y1), (x0, y1), (x0, y0)]
    for start, end in pairwise(corners):
        for piece in [(start, end)] if is_match else _dashes(start, end):
            draw.line(piece, fill=colour, width=_FRAME if is_match else _FRAME // 2)
    # The mark stands beside the text below, where it hides nothing of the picture.
    x, y = x1 - 18, y1 + half + 10
    strokes = [[(0, 6), (5, 11), (14, 0)]] if is_match else [[(0, 0), (12, 12)], [(0, 12), (12, 0)]]
    for stroke in strokes:
        draw.line([(x + dx, y + dy) for dx, dy in stroke], fill=colour, width=3)


def _dashes(start: tuple[int, int], end: tuple[int, int]) -> Iterator[list[tuple[float, float]]]:
    length = max(abs(end[0] - start[0]), abs(end[1] - start[1]))
    step = (end[0] - start[0]) / length, (end[1] - start[1]) / length
    for at in range(0, length, 14):
        stop = min(at + 8, length)
        yield [(start[0] + step[0] * d, start[1] + step[1] * d) for d in (at, stop)]
