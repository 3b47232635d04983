"""Who a drawn pedestrian is: build, hair, clothes, bag, as numbers and names.

Everything here is drawn with integers and uniform numbers only, so that one seed gives the same
people on every machine. Lengths are in body heights unless said otherwise.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import TypeVar

import numpy as np

T = TypeVar("T")

# Few colours on purpose [ours]: many people share them, so that colour alone finds nobody.
CLOTH_COLOURS: dict[str, tuple[int, int, int]] = {
    "black": (40, 40, 44),
    "grey": (128, 130, 134),
    "white": (222, 220, 214),
    "navy": (42, 54, 94),
    "blue": (66, 106, 168),
    "red": (164, 48, 52),
    "green": (64, 110, 76),
    "khaki": (172, 152, 114),
    "brown": (102, 72, 52),
    "yellow": (206, 172, 70),
}
SKIN_COLOURS: dict[str, tuple[int, int, int]] = {
    "fair": (226, 186, 160),
    "tan": (196, 148, 112),
    "brown": (146, 100, 70),
    "dark": (92, 62, 46),
}
HAIR_COLOURS: dict[str, tuple[int, int, int]] = {
    "black": (34, 28, 26),
    "brown": (84, 56, 38),
    "blond": (196, 160, 98),
    "grey": (158, 154, 150),
}

_TOP_COLOURS = {
    "black": 7, "grey": 7, "white": 7, "navy": 5, "red": 1, "green": 1, "khaki": 1,
}  # fmt: skip
_BOTTOM_COLOURS = {"black": 5, "navy": 5, "grey": 3, "khaki": 1}
_PATTERN_COLOURS = {
    "white": 8, "black": 8, "grey": 4, "red": 1, "yellow": 1, "blue": 1,
}  # fmt: skip
_BAG_COLOURS = {
    "black": 8, "grey": 3, "navy": 3, "brown": 2, "khaki": 1, "red": 1, "yellow": 1,
}  # fmt: skip
_TOP_PATTERNS = {
    "plain": 4, "bands": 2, "pinstripes": 2, "checks": 2, "dots": 2, "diagonal": 2, "zigzag": 2,
    "chequers": 2,
}  # fmt: skip
_BOTTOM_PATTERNS = {
    "plain": 4, "checks": 1, "pinstripes": 2, "dots": 1, "diagonal": 1, "chequers": 1,
}  # fmt: skip
# A body of 130 pixels gives repeats of 4 to 8 pixels: plain to see at r = 1 and mostly at r = 2,
# mixed into one colour at r = 4, where nothing finer than 8 pixels survives [ours].
_TOP_PERIODS = {0.036: 1, 0.045: 1, 0.055: 1}
_BOTTOM_PERIODS = {0.034: 1, 0.042: 1}
_MOTIFS = {
    "none": 1, "disc": 1, "ring": 1, "square": 1, "triangle": 1, "cross": 1, "saltire": 1,
    "bars": 1, "diamond": 1, "heart": 1,
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Cloth:
    """One piece of cloth.

    Attributes:
        pattern: ``plain`` or a name of :data:`resolute.data.drawing.cloth.PATTERNS`.
        base: name of the main colour.
        second: name of the colour of the pattern.
        period: repeat of the pattern.
    """

    pattern: str
    base: str
    second: str
    period: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """One person, the same in every image.

    Attributes:
        girth: width of body and limbs, 1 = average.
        shoulders: width of the shoulders, 1 = average.
        hip: height of the hip below the top of the head: small means long legs.
        head: size of the head, 1 = average.
        skin: name of the skin colour.
        hair: ``bald``, ``short``, ``bob``, ``long``, ``bun`` or ``tail``.
        hair_colour: name of the hair colour.
        hat: ``none``, ``cap``, ``beanie`` or ``hood``.
        hat_colour: name of the hat's colour.
        has_beard: whether the chin is covered.
        has_glasses: whether glasses are worn.
        top: cloth of the upper body.
        sleeve: end of the sleeve, 0 = at the shoulder, 1 = at the wrist.
        sleeve_cloth: cloth of the sleeves.
        hem: length of the top below the hip.
        front: ``closed``, ``zip`` or ``open`` (shows ``inner``).
        inner: colour name below an open front.
        motif: shape on chest and perhaps back, or ``none``.
        motif_colour: name of its colour.
        motif_size: its width.
        is_motif_on_back: whether the back carries it too.
        bottom: cloth of the lower body.
        bottom_cut: ``slim``, ``wide``, ``shorts``, ``skirt`` or ``long skirt``.
        side_stripe: colour name of a stripe along the leg, or ``none``.
        shoes: name of the shoes' colour.
        soles: name of the soles' colour.
        has_boots: whether the shoes reach up the shin.
        bag: ``none``, ``backpack``, ``shoulder`` or ``hand``.
        bag_colour: name of the bag's colour.
        bag_second: colour name of its flap and pocket.
        bag_side: -1 or 1, the person's right or left.
        scarf: colour name, or ``none``.
        belt: colour name, or ``none``.
    """

    girth: float
    shoulders: float
    hip: float
    head: float
    skin: str
    hair: str
    hair_colour: str
    hat: str
    hat_colour: str
    has_beard: bool
    has_glasses: bool
    top: Cloth
    sleeve: float
    sleeve_cloth: Cloth
    hem: float
    front: str
    inner: str
    motif: str
    motif_colour: str
    motif_size: float
    is_motif_on_back: bool
    bottom: Cloth
    bottom_cut: str
    side_stripe: str
    shoes: str
    soles: str
    has_boots: bool
    bag: str
    bag_colour: str
    bag_second: str
    bag_side: int
    scarf: str
    belt: str


def draw_identity(rng: np.random.Generator) -> Identity:
    """Draw one person.

    Args:
        rng: the generator of this person.

    Returns:
        A complete description.
    """
    top = _cloth(rng, _TOP_COLOURS, _TOP_PATTERNS, _TOP_PERIODS)
    bottom = _cloth(rng, _BOTTOM_COLOURS, _BOTTOM_PATTERNS, _BOTTOM_PERIODS)
    contrast = {name: k for name, k in _PATTERN_COLOURS.items() if name != top.base}
    plain_sleeve = Cloth(
        pattern="plain", base=pick(rng, contrast), second=top.base, period=top.period
    )
    sleeve_cloth = pick(rng, {top: 14, plain_sleeve: 1})
    is_plain = top.pattern == "plain"
    return Identity(
        girth=uniform(rng, 0.93, 1.11),
        shoulders=uniform(rng, 0.94, 1.08),
        hip=uniform(rng, 0.485, 0.515),
        head=uniform(rng, 0.94, 1.08),
        skin=pick(rng, {"fair": 4, "tan": 4, "brown": 2, "dark": 2}),
        hair=pick(rng, {"bald": 1, "short": 12, "bob": 1, "long": 3, "bun": 1, "tail": 2}),
        hair_colour=pick(rng, {"black": 8, "brown": 5, "blond": 1, "grey": 1}),
        hat=pick(rng, {"none": 20, "cap": 1, "beanie": 1, "hood": 1}),
        hat_colour=pick(rng, _BAG_COLOURS),
        has_beard=pick(rng, {False: 5, True: 1}),
        has_glasses=pick(rng, {False: 4, True: 1}),
        top=top,
        sleeve=pick(rng, {0.35: 2, 0.7: 1, 1.0: 12}),
        sleeve_cloth=sleeve_cloth,
        hem=pick(rng, {0.0: 8, 0.04: 8, 0.16: 1}),
        front=pick(rng, {"closed": 14, "zip": 1, "open": 1}),
        inner=pick(rng, contrast),
        motif=pick(rng, _MOTIFS) if is_plain else "none",
        motif_colour=pick(rng, contrast),
        motif_size=pick(rng, {0.055: 1, 0.075: 1, 0.095: 1}),
        is_motif_on_back=pick(rng, {True: 2, False: 1}),
        bottom=bottom,
        bottom_cut=pick(rng, {"slim": 14, "wide": 12, "shorts": 2, "skirt": 1, "long skirt": 1}),
        side_stripe=pick(rng, {"none": 6, "white": 1, "red": 1, "yellow": 1}),
        shoes=pick(rng, {"black": 10, "white": 4, "brown": 1, "red": 1}),
        soles=pick(rng, {"white": 1, "black": 1}),
        has_boots=pick(rng, {False: 15, True: 1}),
        bag=pick(rng, {"none": 9, "backpack": 2, "shoulder": 1, "hand": 1}),
        bag_colour=pick(rng, _BAG_COLOURS),
        bag_second=pick(rng, _PATTERN_COLOURS),
        bag_side=pick(rng, {-1: 1, 1: 1}),
        scarf=pick(rng, {"none": 36, "red": 1, "white": 1, "yellow": 1, "blue": 1}),
        belt=pick(rng, {"none": 10, "black": 2, "white": 1, "brown": 1}),
    )


def pick(rng: np.random.Generator, weights: Mapping[T, int]) -> T:
    """Draw one key with whole-number weights; integers alone decide, so it is exact anywhere."""
    ticket = int(rng.integers(sum(weights.values())))
    ends = zip(weights, accumulate(weights.values()), strict=True)
    return next(choice for choice, end in ends if ticket < end)


def uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """Draw a number from [low, high), rounded so that it prints the same anywhere."""
    return round(low + (high - low) * float(rng.random()), 4)


def _cloth(
    rng: np.random.Generator,
    colours: Mapping[str, int],
    patterns: Mapping[str, int],
    periods: Mapping[float, int],
) -> Cloth:
    base = pick(rng, colours)
    second = pick(rng, {name: k for name, k in _PATTERN_COLOURS.items() if name != base})
    return Cloth(pattern=pick(rng, patterns), base=base, second=second, period=pick(rng, periods))
