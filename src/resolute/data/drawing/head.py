"""Draw head, face, hair and hat. Lengths are in body heights."""

from resolute.data.drawing.cloth import scaled, shaded
from resolute.data.drawing.identity import HAIR_COLOURS, SKIN_COLOURS, Identity
from resolute.data.drawing.stage import Joint, Section, Stage


def draw_head(stage: Stage, person: Identity) -> None:
    """Draw head, face and hat.

    Args:
        stage: where to.
        person: whose.
    """
    size = person.head
    skin, hair = SKIN_COLOURS[person.skin], HAIR_COLOURS[person.hair_colour]
    crown = hair if person.hair != "bald" else skin
    centre = stage.joint(0.0, 0.066, 0.012)
    stage.oval(centre, 0.047 * size, 0.064 * size, crown)
    shown = (stage.cos + 0.65) / 1.65
    if shown > 0:
        face = stage.joint(0.0, 0.078, 0.03)
        stage.oval(face, 0.043 * size * shown**0.6, 0.054 * size, skin)
        _face(stage, person, face, shown)
    if person.hat != "none":
        _hat(stage, person, centre)


def _face(stage: Stage, person: Identity, face: Joint, shown: float) -> None:
    size, unit = person.head, stage.unit
    hair = HAIR_COLOURS[person.hair_colour]
    if person.has_beard:
        chin = face._replace(y=face.y + 0.034 * size * unit)
        stage.oval(chin, 0.034 * size * shown**0.6, 0.022 * size, hair)
    eyes = [stage.joint(x, 0.074, 0.045) for x in (-0.018 * size, 0.018 * size)]
    seen = [eye for eye in eyes if eye.near > 0.0]
    if person.has_glasses and seen:
        bar = [
            face._replace(x=face.x + k * 0.036 * size * unit * shown, y=seen[0].y) for k in (-1, 1)
        ]
        stage.line(bar, 0.015, (24, 24, 28))
    for eye in seen:
        stage.oval(eye, 0.006, 0.006, (40, 32, 30))


def _hat(stage: Stage, person: Identity, centre: Joint) -> None:
    size, unit = person.head, stage.unit
    if person.hat == "hood":
        fill = shaded(person.top.base, 0.9)
        width = round(0.02 * unit)
        w, h = 0.06 * size * unit, 0.076 * size * unit
        box = (centre.x - w, centre.y - h, centre.x + w, centre.y + h)
        if stage.cos < -0.3:
            stage.pen.ellipse(box, fill=fill)
        else:
            stage.pen.ellipse(box, outline=fill, width=width)
        return
    fill = shaded(person.hat_colour, 1.0)
    w, h = 0.051 * size * unit, 0.068 * size * unit
    dome = (centre.x - w, centre.y - h, centre.x + w, centre.y + h * 0.8)
    stage.pen.chord(dome, 180, 360, fill=fill)
    brim_y = centre.y - 0.1 * h
    if person.hat == "cap" and stage.cos > -0.4:
        tip = stage.joint(0.0, 0.066, 0.085)
        stage.line([centre._replace(y=brim_y), tip._replace(y=brim_y + 2)], 0.02, scaled(fill, 0.8))
    elif person.hat == "beanie":
        band = centre._replace(y=brim_y - 0.012 * unit)
        stage.box(band, 0.104 * size, 0.024, scaled(fill, 0.75))


def draw_hair(stage: Stage, person: Identity) -> None:
    """Draw the hair that hangs behind the head, before or after the body.

    Args:
        stage: where to.
        person: whose.
    """
    if person.hair in {"bald", "short"}:
        return
    hair = HAIR_COLOURS[person.hair_colour]
    size = person.head
    if person.hair == "bun":
        stage.oval(stage.joint(0.0, 0.018, -0.04), 0.026, 0.024, scaled(hair, 0.9))
    elif person.hair == "tail":
        tail = stage.joint(0.0, 0.06, -0.05), stage.joint(0.0, 0.19, -0.075)
        stage.limb(*tail, (0.034, 0.018), scaled(hair, 0.9))
    else:
        end = 0.135 if person.hair == "bob" else 0.235
        crown = Section(0.05, 0.05 * size, 0.036 * size, -0.012)
        stage.trunk([crown, Section(end, 0.058 * size, 0.04 * size, -0.03)], hair)
