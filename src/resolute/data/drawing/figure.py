"""Draw one pedestrian on a stage, from the far side to the near one.

Lengths are in body heights; ``side`` is -1 for the person's right, 1 for the left.
"""

import math

from PIL import Image

from resolute.data.drawing.cloth import Point, scaled, shaded, stamp
from resolute.data.drawing.head import draw_hair, draw_head
from resolute.data.drawing.identity import SKIN_COLOURS, Identity
from resolute.data.drawing.stage import Joint, Pose, Section, Stage, between

_SHOULDER = 0.196
_UPPER_ARM, _FORE_ARM = 0.16, 0.145
_THIGH, _SHIN = 0.47, 0.47  # shares of the leg; the rest is the foot
_SKIRTS = frozenset({"skirt", "long skirt"})


def draw_figure(
    canvas: Image.Image, person: Identity, pose: Pose, *, top: Point, unit: float
) -> None:
    """Draw a person.

    Args:
        canvas: RGBA image, drawn on in place.
        person: who.
        pose: how.
        top: top of the head in canvas pixels.
        unit: body height in canvas pixels.
    """
    stage = Stage(canvas, pose, top=top, unit=unit, girth=person.girth)
    far, near = (1, -1) if stage.sin > 0 else (-1, 1)
    is_away = stage.cos < 0
    is_bag_hidden = person.bag_side * stage.sin > 0.35
    _arm(stage, person, pose, far, light=0.82)
    if is_bag_hidden:
        _shoulder_bag(stage, person, has_strap=False)
    if not is_away:
        _backpack(stage, person)
        draw_hair(stage, person)
    _leg(stage, person, pose, far, light=0.84)
    _leg(stage, person, pose, near, light=1.0)
    _hips(stage, person)
    _torso(stage, person)
    draw_head(stage, person)
    if is_away:
        draw_hair(stage, person)
        _backpack(stage, person)
    if not is_bag_hidden:
        _shoulder_bag(stage, person, has_strap=True)
    _arm(stage, person, pose, near, light=0.94)


def _arm(stage: Stage, person: Identity, pose: Pose, side: int, *, light: float) -> None:
    swing = -side * pose.swing * math.sin(2 * math.pi * pose.phase)
    turn, bend = math.radians(swing + 3), math.radians(swing + 20)
    x = side * 0.096 * person.shoulders
    elbow_y, elbow_z = _SHOULDER + _UPPER_ARM * math.cos(turn), _UPPER_ARM * math.sin(turn)
    wrist_y, wrist_z = elbow_y + _FORE_ARM * math.cos(bend), elbow_z + _FORE_ARM * math.sin(bend)
    spread = side * 0.018 * person.girth
    shoulder = stage.joint(x * person.girth, _SHOULDER + 0.012, 0.0)
    elbow = stage.joint(x * person.girth + spread, elbow_y, elbow_z)
    wrist = stage.joint(x * person.girth + spread, wrist_y, wrist_z)
    hand = stage.joint(x * person.girth + spread, wrist_y + 0.022, wrist_z + 0.008)
    skin = SKIN_COLOURS[person.skin]
    stage.limb(elbow, wrist, (0.04, 0.03), skin, light)
    stage.limb(wrist, hand, (0.03, 0.034), skin, light)
    stage.limb(shoulder, elbow, (0.05, 0.042), skin, light)
    below = (person.sleeve - 0.5) / 0.5
    if below > 0:
        cuff = between(elbow, wrist, below)
        stage.limb(elbow, cuff, (0.054, 0.046), person.sleeve_cloth, light)
    cuff = between(shoulder, elbow, min(1.0, person.sleeve / 0.5))
    stage.limb(shoulder, cuff, (0.068, 0.056), person.sleeve_cloth, light)
    if person.bag == "hand" and side == person.bag_side:
        _hand_bag(stage, person, hand)


def _leg(stage: Stage, person: Identity, pose: Pose, side: int, *, light: float) -> None:
    cycle = 2 * math.pi * pose.phase
    turn = math.radians(side * pose.stride * math.sin(cycle))
    knee_bend = math.radians(6 + 1.3 * pose.stride * max(0.0, side * math.cos(cycle)))
    x = side * 0.044 * person.girth
    thigh, shin = _THIGH * (1 - person.hip), _SHIN * (1 - person.hip)
    knee_y, knee_z = person.hip + thigh * math.cos(turn), thigh * math.sin(turn)
    foot_y = knee_y + shin * math.cos(turn - knee_bend)
    foot_z = knee_z + shin * math.sin(turn - knee_bend)
    hip, knee = stage.joint(x, person.hip, 0.0), stage.joint(x, knee_y, knee_z)
    ankle = stage.joint(x, foot_y, foot_z)
    skin = SKIN_COLOURS[person.skin]
    _shoe(stage, person, (x, foot_y, foot_z), light)
    stage.limb(knee, ankle, (0.056, 0.036), skin, light)
    if person.bottom_cut not in _SKIRTS:
        _trouser_leg(stage, person, (hip, knee, ankle), side, light)
    else:
        stage.limb(hip, knee, (0.08, 0.058), skin, light)
    if person.has_boots:
        boot = shaded(person.shoes, light)
        stage.limb(between(knee, ankle, 0.45), ankle, (0.062, 0.05), boot)


def _trouser_leg(
    stage: Stage, person: Identity, joints: tuple[Joint, Joint, Joint], side: int, light: float
) -> None:
    hip, knee, ankle = joints
    if person.bottom_cut == "shorts":
        stage.limb(hip, between(hip, knee, 0.85), (0.098, 0.09), person.bottom, light)
        return
    w_knee, w_ankle = (0.064, 0.046) if person.bottom_cut == "slim" else (0.08, 0.072)
    stage.limb(knee, between(knee, ankle, 0.96), (w_knee, w_ankle), person.bottom, light)
    stage.limb(hip, knee, (0.094, w_knee), person.bottom, light)
    is_seen = -side * stage.sin > -0.3
    if person.side_stripe != "none" and is_seen:
        out = 0.032 * side * stage.cos * stage.unit * person.girth
        seam = [
            Joint(j.x + out * k, j.y, j.near) for j, k in zip(joints, (1.2, 0.9, 0.7), strict=True)
        ]
        stage.line(seam, 0.014, shaded(person.side_stripe, light))


def _shoe(stage: Stage, person: Identity, ankle: tuple[float, float, float], light: float) -> None:
    x, y, z = ankle
    sole_y = y + 0.06 * (1 - person.hip) / 0.5
    heel, toe = stage.joint(x, sole_y - 0.012, z - 0.02), stage.joint(x, sole_y - 0.012, z + 0.075)
    sole = shaded(person.soles, light)
    stage.limb(heel._replace(y=heel.y + 0.01 * stage.unit),
               toe._replace(y=toe.y + 0.01 * stage.unit), (0.044, 0.036), sole)  # fmt: skip
    stage.limb(stage.joint(x, y, z), heel, (0.044, 0.046), shaded(person.shoes, light))
    stage.limb(heel, toe, (0.044, 0.034), shaded(person.shoes, light))


def _hips(stage: Stage, person: Identity) -> None:
    hip = person.hip
    top = Section(hip - 0.07, 0.082, 0.066)
    if person.bottom_cut in _SKIRTS:
        length, flare = (0.17, 0.115) if person.bottom_cut == "skirt" else (0.33, 0.13)
        knee_side = Section(hip + length, flare, flare * 0.85)
        stage.trunk([top, Section(hip, 0.096, 0.08), knee_side], person.bottom)
    else:
        crotch = Section(hip + 0.045, 0.05, 0.05)
        stage.trunk([top, Section(hip, 0.09, 0.074), crotch], person.bottom)


def _torso(stage: Stage, person: Identity) -> None:
    hip, wide = person.hip, person.shoulders
    neck = stage.joint(0.0, 0.12, 0.01), stage.joint(0.0, 0.165, 0.0)
    stage.limb(*neck, (0.052, 0.06), SKIN_COLOURS[person.skin], 0.9)
    sections = [
        Section(0.152, 0.038, 0.036),
        Section(0.164, 0.062 * wide, 0.046),
        Section(0.188, 0.094 * wide, 0.056),
        Section(0.25, 0.098 * wide, 0.074, 0.006),
        Section(0.4, 0.083, 0.07),
        Section(hip - 0.01, 0.092, 0.078),
    ]
    if person.hem > 0:
        sections.append(Section(hip + person.hem, 0.095 + person.hem / 6, 0.08 + person.hem / 6))
    stage.trunk(sections, person.top)
    if stage.cos > 0:
        _front(stage, person)
    if person.belt != "none":
        belt = [Section(hip - 0.034, 0.09, 0.077), Section(hip - 0.018, 0.092, 0.079)]
        stage.trunk(belt, shaded(person.belt, 1.0))
    _motif(stage, person)
    if person.scarf != "none":
        scarf = [Section(0.135, 0.05, 0.05, 0.01), Section(0.178, 0.064, 0.062, 0.01)]
        stage.trunk(scarf, shaded(person.scarf, 1.0))
        if stage.cos > 0:
            ends = stage.joint(0.03, 0.17, 0.07), stage.joint(0.034, 0.27, 0.08)
            stage.line(ends, 0.034, shaded(person.scarf, 0.9))


def _front(stage: Stage, person: Identity) -> None:
    """Draw what only the front shows: zip, open jacket, straps of a backpack."""
    low = person.hip + person.hem
    if person.front == "open":
        wide = 0.034 * stage.cos * stage.girth * stage.unit
        throat, hem = stage.joint(0.0, 0.155, 0.05), stage.joint(0.0, low, 0.08)
        strip = [
            (throat.x - 0.7 * wide, throat.y), (throat.x + 0.7 * wide, throat.y),
            (hem.x + wide, hem.y), (hem.x - wide, hem.y),
        ]  # fmt: skip
        stage.cover([strip], shaded(person.inner, 1.0), throat, 1.0)
    elif person.front == "zip":
        seam = stage.joint(0.0, 0.155, 0.05), stage.joint(0.0, low, 0.08)
        stage.line(seam, 0.012, shaded(person.inner, 1.0))
    if person.bag == "backpack":
        for side in (-1, 1):
            strap = [stage.joint(side * 0.058 * stage.girth, y, z)
                     for y, z in ((0.168, 0.03), (0.25, 0.08), (0.34, 0.06))]  # fmt: skip
            stage.line(strap, 0.022, shaded(person.bag_colour, 0.9))


def _motif(stage: Stage, person: Identity) -> None:
    is_seen = stage.cos > 0.25 or (stage.cos < -0.25 and person.is_motif_on_back)
    if person.motif == "none" or not is_seen or person.front != "closed":
        return
    facing = 1 if stage.cos > 0 else -1
    centre = stage.joint(0.0, 0.275, 0.075 * facing)
    size = person.motif_size * stage.unit
    fill = shaded(person.motif_colour, 1.0)
    stamp(stage.pen, person.motif, (centre.x, centre.y), (size * abs(stage.cos) ** 0.5, size), fill)


def _backpack(stage: Stage, person: Identity) -> None:
    if person.bag != "backpack":
        return
    main, second = shaded(person.bag_colour, 1.0), shaded(person.bag_second, 1.0)
    body = [Section(0.175, 0.05, 0.036, -0.1), Section(0.2, 0.072, 0.052, -0.11),
            Section(0.41, 0.078, 0.056, -0.12), Section(0.43, 0.06, 0.046, -0.12)]  # fmt: skip
    stage.trunk(body, main)
    stage.trunk([Section(0.32, 0.052, 0.05, -0.14), Section(0.4, 0.052, 0.05, -0.14)], second)
    stage.trunk([Section(0.225, 0.074, 0.052, -0.12), Section(0.24, 0.074, 0.052, -0.12)], second)


def _shoulder_bag(stage: Stage, person: Identity, *, has_strap: bool) -> None:
    if person.bag != "shoulder":
        return
    facing, side = (1 if stage.cos > 0 else -1), person.bag_side
    main, second = shaded(person.bag_colour, 1.0), shaded(person.bag_second, 1.0)
    if has_strap:
        strap = (
            stage.joint(-side * 0.05, 0.165, 0.03 * facing),
            stage.joint(0.0, 0.3, 0.08 * facing),
            stage.joint(side * 0.1 * stage.girth, person.hip - 0.06, 0.0),
        )
        stage.line(strap, 0.016, scaled(main, 0.85))
    hip = stage.joint(side * 0.12 * stage.girth, person.hip - 0.01, 0.0)
    width = 0.06 + 0.05 * abs(stage.sin)
    stage.box(hip, width + 0.01, 0.09, main)
    stage.box(hip._replace(y=hip.y - 0.022 * stage.unit), width, 0.03, second)


def _hand_bag(stage: Stage, person: Identity, hand: Joint) -> None:
    main, second = shaded(person.bag_colour, 1.0), shaded(person.bag_second, 1.0)
    width = 0.06 + 0.06 * abs(stage.sin)
    low = hand._replace(y=hand.y + 0.1 * stage.unit)
    for k in (-0.35, 0.35):
        stage.line([hand, low._replace(x=low.x + k * width * stage.unit)], 0.01, scaled(main, 0.8))
    stage.box(low, width, 0.1, main)
    stage.box(low, width * 0.55, 0.045, second)
