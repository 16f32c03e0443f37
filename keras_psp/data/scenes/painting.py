"""TODO."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    pass
from keras_psp.data.scenes.classes import (
    BOAT,
    BUILDING,
    CAR,
    GRASS,
    GROUND,
    HILL,
    IGNORE_CLASS,
    PERSON,
    POLE,
    ROAD,
    SKY,
    SKYLINE,
    SKYSCRAPER,
    TREE,
    WATER,
)
from keras_psp.data.scenes.layout import _Plane
from keras_psp.data.scenes.noise import CLOUDS, LEAVES, SAND, _colour, _look_up, _rng

SURFACES = {"water": (WATER, BOAT), "road": (ROAD, CAR)}


SKYLINES = {"village": BUILDING, "city": SKYSCRAPER}


@dataclass(frozen=True)
class _Light:
    side: float  # -1: the sun is at the left, 1: at the right
    strength: float  # 0 overcast, 1 sunny
    low_sky: np.ndarray
    haze: float


class _Canvas:
    """A picture under construction, painted from far to near.

    image is (height, width, 3) float32 with 1 as white, mask the labels, layer
    the number of the coat of paint on a pixel: a border belongs to the farther
    of two things, so that a thin pole keeps its label.
    """

    def __init__(self, height, width, light):
        self.image = np.zeros((height, width, 3), np.float32)
        self.mask = np.zeros((height, width), np.uint8)
        self.layer = np.zeros((height, width), np.uint8)
        self.coats = 0
        self.light = light
        self.unit = min(height, width)
        self.texel = 256 / self.unit

    def window(self, left, top, right, bottom):
        """The part of a box inside the picture: (slices, rows (n, 1), columns
        (1, m)) with pixel centres as float32.
        """
        height, width = self.mask.shape
        rows = slice(max(0, int(np.floor(top))), max(0, min(height, int(np.ceil(bottom)))))
        columns = slice(max(0, int(np.floor(left))), max(0, min(width, int(np.ceil(right)))))
        return (
            (rows, columns),
            np.arange(rows.start, max(rows.start, rows.stop), dtype=np.float32)[:, None] + 0.5,
            np.arange(columns.start, max(columns.start, columns.stop), dtype=np.float32)[None]
            + 0.5,
        )

    def paint(self, window, inside, colour, label):
        """Colour, broadcast to (n, m, 3), and label where inside (n, m)."""
        self.coats += 1
        np.copyto(self.image[window], colour, where=inside[..., None])
        np.copyto(self.mask[window], np.uint8(label), where=inside)
        np.copyto(self.layer[window], np.uint8(min(self.coats, 255)), where=inside)

    def grain(self, bank, rng, rows, columns, *, scale=1.0):
        """Noise for a window, in the picture's own scale."""
        step = self.texel * scale
        return _look_up(bank, rng, rows * step, columns * step)

    def hazed(self, colour, share):
        return colour + (self.light.low_sky - colour) * np.float32(share)


def _paint(seed, plan, *, surface, skyline):
    rng = _rng(seed, "paint")
    canvas = _Canvas(plan.height, plan.width, _draw_light(rng))
    plane = _Plane(plan.height, plan.width, plan.horizon)
    _paint_sky(rng, canvas, plan)
    _paint_hills(rng, canvas, plan)
    if plan.skyline is not None:
        _paint_skyline(_rng(seed, "skyline"), canvas, plan, skyline)
    _paint_ground(rng, canvas, plan, plane)
    own_rng = _rng(seed, "surface")
    kinds = (surface, "road" if surface == "water" else "water")
    for area, kind in zip(plan.surfaces, kinds, strict=False):
        _paint_surface(own_rng, canvas, plan, plane, area, kind)
    window = (slice(plan.horizon, None), slice(None))
    canvas.paint(window, plan.apron, _bare_ground(rng, canvas, plane), GROUND)
    things = sorted(plan.hulls + plan.towers + plan.others, key=lambda thing: thing.foot)
    for thing in things:
        _paint_shadow(canvas, plan, thing)
    labels = {"hull": SURFACES[surface][1], "tower": SKYLINES[skyline]}
    for thing in things:
        haze = canvas.light.haze * (1 - (thing.foot - plan.horizon) / plane.reach) ** 2
        _PAINTERS[thing.kind](rng, canvas, thing, haze, labels.get(thing.kind))
    return canvas


def _draw_light(rng):
    low_sky = rng.uniform(0.72, 0.96) * _colour(rng, (0.9, 0.95, 0.94), (1.06, 1.0, 1.05))
    return _Light(
        side=rng.choice((-1.0, 1.0)) * rng.uniform(0.4, 1.0),
        strength=rng.uniform(0.1, 1.0),
        low_sky=low_sky.astype(np.float32),
        haze=rng.uniform(0.15, 0.6),
    )


def _paint_sky(rng, canvas, plan):
    rows = np.arange(plan.horizon, dtype=np.float32)[:, None]
    columns = np.arange(plan.width, dtype=np.float32)[None]
    up = (1 - rows / plan.horizon)[..., None]
    high = canvas.light.low_sky * _colour(rng, (0.35, 0.6, 0.85), (0.85, 0.92, 1.1))
    sky = canvas.light.low_sky + (high - canvas.light.low_sky) * up
    if rng.random() < 0.8:
        # Clouds flatten towards the horizon.
        down = rows * (1 + 1.5 * rows / plan.horizon)
        noise = canvas.grain(CLOUDS, rng, down, columns * 0.6, scale=rng.uniform(0.4, 0.8))
        cover = np.clip((noise - rng.uniform(-1, 1.2)) * 0.9, 0, 0.9)[..., None]
        white = (rng.uniform(0.8, 1.0) - 0.07 * noise * canvas.light.strength)[..., None]
        sky = sky + (white * np.float32([1.0, 0.99, 0.98]) - sky) * cover
    canvas.image[: plan.horizon] = sky
    canvas.mask[: plan.horizon] = SKY


def _paint_hills(rng, canvas, plan):
    """No, one or two ridges, the nearer one lower, greener and clearer."""
    unit = canvas.unit
    tallest = rng.uniform(0.04, 0.3) * unit
    green = _colour(rng, (0.22, 0.3, 0.16), (0.42, 0.45, 0.32))
    ridges = rng.integers(0, 3)
    for ridge in range(ridges):
        tall = tallest * (1, 0.5)[ridge]
        window, rows, columns = canvas.window(
            0, plan.horizon - 1.6 * tall, plan.width, plan.horizon
        )
        profile = canvas.grain(CLOUDS, rng, np.float32([[0]]), columns, scale=0.35)
        top = plan.horizon - tall * np.clip(0.7 + 0.4 * profile, 0.05, 1.6)
        texture = canvas.grain(LEAVES, rng, rows, columns, scale=1.5)
        slope = np.gradient(profile[0])[None] * canvas.light.side * canvas.light.strength
        shade = 1 + 0.16 * texture + np.clip(3 * slope, -0.25, 0.25)
        haze = canvas.light.haze * (0.9, 0.6)[ridge] + 0.1
        colour = canvas.hazed(green * shade[..., None], haze)
        canvas.paint(window, rows > top, colour, HILL)


def _paint_skyline(rng, canvas, plan, kind):
    """Silhouettes on the horizon: a city's flat-topped blocks or village gables."""
    unit = canvas.unit
    start, stop = plan.skyline
    narrow, wide = (0.035, 0.085) if kind == "city" else (0.07, 0.14)
    most = int(np.ceil((stop - start) / (narrow * unit))) + 1
    edges = start + np.cumsum(rng.uniform(narrow, wide, most) * unit)
    window, rows, columns = canvas.window(start, plan.horizon - 0.3 * unit, stop, plan.horizon)
    house = np.searchsorted(edges, columns[0])
    if kind == "city":
        height = rng.uniform(0.09, 0.26, most + 1)[house]
        wall = rng.uniform(0.28, 0.6, (most + 1, 1)) * _colour(
            rng, (0.85, 0.9, 0.95), (1.0, 1.0, 1.1)
        )
        lit = canvas.grain(SAND, rng, rows, columns)
        period = max(2, round(0.022 * unit))
        lines = (rows.astype(int) % period == 0) | (columns.astype(int) % period == 0)
        colour = wall[house][None] * (1 + 0.25 * np.clip(lit, -1, 1) * ~lines)[..., None]
    else:
        right = edges[house]
        left = np.concatenate([[start], edges])[house]
        middle = np.abs((columns[0] - left) / (right - left) - 0.5) * 2
        eaves = rng.uniform(0.028, 0.042, most + 1)[house]
        height = eaves + rng.uniform(0.03, 0.05, most + 1)[house] * (1 - middle)
        roof = _colour(rng, (0.4, 0.18, 0.12), (0.62, 0.34, 0.26))
        roofs = roof * rng.uniform(0.75, 1.2, (most + 1, 1))
        walls = rng.uniform(0.6, 0.95, (most + 1, 1)) * np.float32([1, 0.96, 0.88])
        low = rows > plan.horizon - eaves * unit
        colour = np.where(low[..., None], walls[house][None], roofs[house][None])
    colour = canvas.hazed(colour.astype(np.float32), 0.1 + 0.45 * canvas.light.haze)
    canvas.paint(window, rows > plan.horizon - height * unit, colour, SKYLINE)


def _hazed_plane(canvas, plane, colour):
    share = canvas.light.haze * np.clip(1 - plane.nearness, 0, 1)[..., None] ** 3
    return canvas.hazed(colour, share)


def _fade(plane):
    """Contrast of fine texture: little of it is left in the distance."""
    return np.clip(2.2 * plane.nearness, 0.25, 1)


def _grass(rng, canvas, plane):
    blades = _look_up(SAND, rng, plane.z, plane.x) * _fade(plane)
    patches = _look_up(CLOUDS, rng, plane.z * 0.3, plane.x * 0.3)
    base = _colour(rng, (0.26, 0.36, 0.1), (0.5, 0.56, 0.26))
    dry = 1 + 0.12 * patches[..., None] * np.float32([1.2, 0.6, 0.4])
    return _hazed_plane(canvas, plane, base * (1 + 0.17 * blades)[..., None] * dry)


def _bare_ground(rng, canvas, plane):
    """Sand, gravel, or slabs with joints."""
    grains = _look_up(SAND, rng, plane.z, plane.x) * _fade(plane)
    stains = _look_up(CLOUDS, rng, plane.z * 0.4, plane.x * 0.4)
    shade = 1 + 0.06 * grains + 0.05 * stains
    base = rng.uniform(0.5, 0.76) * _colour(rng, (1.0, 0.92, 0.74), (1.06, 1.0, 0.96))
    if rng.random() < 0.4:
        period = rng.uniform(26, 52)
        joints = (plane.x % period < 3 / plane.nearness) | (plane.z % period < 4)
        shade = shade - 0.16 * joints * np.clip(2 * plane.nearness - 0.4, 0, 1)
    return _hazed_plane(canvas, plane, (base * shade[..., None]).astype(np.float32))


def _paint_ground(rng, canvas, plan, plane):
    window = (slice(plan.horizon, None), slice(None))
    everywhere = np.ones((plane.reach, plan.width), bool)
    cover = rng.choice(("grass", "ground", "mixed"), p=(0.5, 0.2, 0.3))
    if cover != "grass":
        canvas.paint(window, everywhere, _bare_ground(rng, canvas, plane), GROUND)
    if cover != "ground":
        where = everywhere
        if cover == "mixed":
            patches = _look_up(CLOUDS, rng, plane.z * 0.12, plane.x * 0.1)
            # Far away they would be stripes less than a pixel high.
            where = patches * np.clip(3 * plane.nearness - 0.3, 0, 1) > rng.uniform(-0.9, 0.3)
        canvas.paint(window, where, _grass(rng, canvas, plane), GRASS)


def _paint_surface(rng, canvas, plan, plane, area, kind):
    window = (slice(plan.horizon, None), slice(None))
    if kind == "water":
        # Waves are long across the line of sight and short along it.
        waves = _look_up(LEAVES, rng, plane.z * 0.9, plane.x * 0.22)
        deep = _colour(rng, (0.06, 0.2, 0.28), (0.16, 0.36, 0.46))
        mirror = 0.2 + 0.35 * (1 - plane.nearness) + 0.13 * waves * _fade(plane)
        colour = canvas.hazed(deep, np.clip(mirror, 0, 0.75)[..., None])
        glint = (waves > 1.9) * (0.25 * canvas.light.strength)
        colour = colour + glint[..., None].astype(np.float32)
    else:
        asphalt = _look_up(SAND, rng, plane.z, plane.x) * _fade(plane)
        grey = rng.uniform(0.26, 0.42) * _colour(rng, (0.96, 0.97, 0.97), (1.04, 1.02, 1.06))
        worn = 0.08 * np.cos(4 * np.pi * area.across)
        colour = grey * (1 + 0.09 * asphalt + worn)[..., None]
        period = rng.uniform(60, 120)
        dashes = (np.abs(area.across % 1 - 0.5) < 0.03) & (area.along % period < 0.55 * period)
        edges = np.abs(area.across % 1 - 0.06) < 0.018
        line = (0.9, 0.9, 0.86) if rng.random() < 0.7 else (0.88, 0.7, 0.2)
        colour = np.where((dashes | edges)[..., None], np.float32(line), colour)
        colour = _hazed_plane(canvas, plane, colour)
    canvas.paint(window, area.inside, colour, WATER if kind == "water" else ROAD)


_SHADOWS = {"hull": 0.62, "tower": 0.9, "tree": 0.5, "person": 0.5, "pole": 0.3}


def _paint_shadow(canvas, plan, thing):
    """Darkens the ground beside a thing, away from the sun."""
    light = canvas.light
    half = thing.width * _SHADOWS[thing.kind]
    x = thing.x - light.side * thing.width * 0.35
    flat = max(1.0, 0.16 * min(thing.width * 1.6, thing.height))
    window, rows, columns = canvas.window(
        x - half, max(plan.horizon, thing.foot - flat), x + half, thing.foot + flat
    )
    distance = ((columns - x) / half) ** 2 + ((rows - thing.foot) / flat) ** 2
    dark = np.clip(1.4 * (1 - distance), 0, 1) * (0.25 + 0.35 * light.strength)
    canvas.image[window] *= 1 - dark[..., None]


def _paint_hull(rng, canvas, thing, haze, label):
    """A raked body with a cabin: a beached boat or a parked car, for all one sees."""
    left, top, right, bottom = thing.box
    window, rows, columns = canvas.window(left, top, right, bottom)
    down = (rows - top) / thing.height
    ahead = (columns - thing.x) / (thing.width / 2) * rng.choice((-1, 1))
    bow, stern = rng.uniform(0.06, 0.3), rng.uniform(0.02, 0.16)
    deck = rng.uniform(0.4, 0.5) - 0.05 * ahead
    low = np.clip((down - deck) / (1 - deck), 0, 1)
    body = (down > deck) & (ahead < 1 - bow * low) & (ahead > -1 + stern * low)
    body &= down < 1 - 0.22 * ahead**6  # rounded below
    aft, fore = rng.uniform(-0.75, -0.4), rng.uniform(0.1, 0.5)
    slant = rng.uniform(0.2, 0.55)
    rise = np.clip((deck - down) / deck, 0, 1)  # 0 at the deck, 1 at the roof
    cabin = (down <= deck) & (ahead > aft + 0.3 * slant * rise) & (ahead < fore - slant * rise)
    glass = cabin & (rise > 0.2) & (rise < 0.82)
    pane = np.abs((ahead - aft) / (fore - aft) * 3 % 1 - 0.5) < 0.4
    glass &= pane & (ahead > aft + 0.1) & (ahead < fore - slant * rise - 0.06)

    hue = rng.random(3).astype(np.float32)
    paint = 0.15 + 0.75 * (hue - hue.min()) / (np.ptp(hue) + 0.1) * rng.uniform(0.4, 1)
    if rng.random() < 0.3:
        paint = np.full(3, rng.uniform(0.75, 0.95), np.float32)
    second = paint
    if rng.random() < 0.5:
        second = np.full(3, rng.uniform(0.7, 0.95), np.float32)
    round_side = 1.12 - 0.5 * low - 0.1 * ahead * np.sign(canvas.light.side)
    round_side = round_side * (1 + 0.03 * canvas.grain(SAND, rng, rows, columns))
    colour = np.where(cabin[..., None], second * np.float32(0.98), paint * round_side[..., None])
    stripe = body & (np.abs(low - rng.uniform(0.2, 0.6)) < 0.09) & (rng.random() < 0.6)
    colour = np.where(stripe[..., None], second * np.float32(0.8), colour)
    pane_colour = np.float32([0.12, 0.16, 0.2]) + 0.3 * canvas.light.low_sky * rise[..., None]
    colour = np.where(glass[..., None], pane_colour, colour)
    canvas.paint(window, body | cabin, canvas.hazed(colour, haze * 0.6), label)


def _paint_tower(rng, canvas, thing, haze, label):
    """A block with rows of windows, a lit and a shaded face, perhaps a setback."""
    left, top, right, bottom = thing.box
    window, rows, columns = canvas.window(left, top, right, bottom)
    unit = canvas.unit
    down, across = (rows - top) / thing.height, (columns - left) / thing.width
    crown, setback = rng.uniform(0.06, 0.25), rng.choice((0.0, 0.15, 0.25))
    inside = (down > crown) | (np.abs(across - 0.5) < 0.5 - setback)
    mast = rng.random() < 0.4
    if mast:
        inside &= (down > 0.07) | (np.abs(columns - thing.x) < max(0.7, 0.008 * unit))
    inside = np.broadcast_to(inside, (rows.size, columns.size))

    wall = rng.uniform(0.4, 0.85) * _colour(rng, (0.9, 0.78, 0.68), (1.1, 1.02, 1.05))
    corner = rng.uniform(0.25, 0.75)
    bright = (across > corner) if canvas.light.side > 0 else (across < corner)
    face = np.where(bright, 1.0, 0.9 - 0.28 * canvas.light.strength)
    storey = max(3.0, rng.uniform(0.03, 0.055) * unit)
    bay = max(3.0, rng.uniform(0.03, 0.06) * unit)
    style = rng.choice(("windows", "bands", "fins"), p=(0.6, 0.2, 0.2))
    share = rng.uniform(0.45, 0.62)
    in_storey = (rows - top) % storey < share * storey
    in_bay = (columns - left) % bay < share * bay
    glass = {"windows": in_storey & in_bay, "bands": in_storey, "fins": in_bay}[style]
    glass = glass & (down > 0.1) & (down < 0.96)
    plaster = canvas.grain(SAND, rng, rows, columns, scale=0.7)
    colour = wall * (face * (1 + 0.05 * plaster))[..., None]
    # One look-up per pane: some reflect the sky, some are dark, a few are lit.
    pane = _look_up(SAND, rng, (rows - top) // storey * 7, (columns - left) // bay * 5)
    shine = np.clip(0.3 + 0.2 * pane, 0.05, 0.8)[..., None]
    colour = np.where(
        glass[..., None],
        np.float32([0.1, 0.13, 0.17]) + shine * canvas.light.low_sky,
        colour,
    )
    canvas.paint(window, inside, canvas.hazed(colour.astype(np.float32), haze * 0.5), label)


def _paint_tree(rng, canvas, thing, haze, label):
    left, top, right, bottom = thing.box
    pad = 0.15 * thing.width
    window, rows, columns = canvas.window(left - pad, top - pad, right + pad, bottom)
    down, across = (rows - top) / thing.height, (columns - thing.x) / (thing.width / 2)
    scale = np.clip(0.25 * canvas.unit / thing.height, 0.4, 1.6)
    edge = canvas.grain(LEAVES, rng, rows, columns, scale=scale)
    if rng.random() < 0.3:
        crown = (np.abs(across) * 1.1 + 0.16 * edge < down * 1.1) & (down < 0.9)
        ball = across
    else:
        ball = (down - 0.42) / 0.42
        crown = across**2 + ball**2 + 0.28 * edge < 0.9
        ball = np.clip(0.7 * across * np.sign(canvas.light.side) - 0.7 * ball, -1, 1)
    trunk = (np.abs(across) < 0.1) & (down > 0.5)
    leaf = _colour(rng, (0.1, 0.2, 0.05), (0.3, 0.38, 0.16))
    if rng.random() < 0.12:
        leaf = _colour(rng, (0.4, 0.2, 0.06), (0.6, 0.36, 0.12))
    fine = canvas.grain(SAND, rng, rows, columns)
    shade = 1 + (0.18 + 0.2 * canvas.light.strength) * ball + 0.16 * edge + 0.16 * fine
    colour = np.where(crown[..., None], leaf * shade[..., None], np.float32([0.2, 0.15, 0.11]))
    canvas.paint(window, crown | trunk, canvas.hazed(colour.astype(np.float32), haze), TREE)


def _paint_person(rng, canvas, thing, haze, label):
    left, top, right, bottom = thing.box
    window, rows, columns = canvas.window(left - 1, top, right + 1, bottom)
    down, across = (rows - top) / thing.height, (columns - thing.x) / thing.height
    head = np.hypot(across, down - 0.09) < 0.09
    torso = (down > 0.17) & (down < 0.55) & (np.abs(across) < 0.16 - 0.1 * (down - 0.17))
    stride = rng.uniform(0.03, 0.09)
    legs = (down >= 0.55) & (np.abs(np.abs(across) - stride * (down - 0.3) * 1.6) < 0.055)
    # At a few pixels of height the gaps would eat the figure.
    legs |= (down >= 0.55) & (np.abs(across) * thing.height < 0.6)
    skin = _colour(rng, (0.35, 0.22, 0.15), (0.9, 0.7, 0.58))
    coat = rng.uniform(0.08, 0.95, 3).astype(np.float32)
    trousers = np.float32(rng.uniform(0.08, 0.4)) * _colour(rng, (0.8, 0.8, 0.9), (1, 1, 1.3))
    colour = np.where(head[..., None], skin, np.where(torso[..., None], coat, trousers))
    lit = 0.2 * canvas.light.strength * np.sign(canvas.light.side * across)
    colour = colour * (1 + lit)[..., None]
    canvas.paint(
        window,
        head | torso | legs,
        canvas.hazed(colour.astype(np.float32), haze),
        PERSON,
    )


def _paint_pole(rng, canvas, thing, haze, label):
    left, top, right, bottom = thing.box
    window, rows, columns = canvas.window(left - 1, top, right + 1, bottom)
    thick = max(0.55, 0.018 * thing.height)
    middle = np.floor(thing.x) + 0.5  # or a pole of one pixel could fall between two
    shaft = np.broadcast_to(np.abs(columns - middle) < thick, (rows.size, columns.size))
    down = (rows - top) / thing.height
    if rng.random() < 0.6:
        head = (down < 0.07) & (np.abs(columns - middle) < thing.width / 2)
    else:
        head = np.hypot(columns - middle, rows - top - thing.width / 2) < thing.width / 2
    grey = rng.uniform(0.1, 0.75) * _colour(rng, (0.9, 0.95, 0.9), (1, 1, 1))
    lamp = np.float32([0.95, 0.9, 0.75]) if rng.random() < 0.4 else grey
    colour = np.where((head & ~shaft)[..., None], lamp, grey)
    canvas.paint(window, shaft | head, canvas.hazed(colour.astype(np.float32), haze), POLE)


_PAINTERS = {
    "hull": _paint_hull,
    "tower": _paint_tower,
    "tree": _paint_tree,
    "person": _paint_person,
    "pole": _paint_pole,
}


def _with_void(rng, canvas):
    """The mask with borders, and in a quarter of the pictures small patches,
    set to `IGNORE_CLASS`. Draws the same from rng whatever the kinds.
    """
    mask, layer = canvas.mask.copy(), canvas.layer
    height, width = mask.shape
    for _ in range(max(1, round(canvas.unit / 192))):
        before = mask.copy()
        for axis in (0, 1):
            first = (slice(None),) * axis + (slice(None, -1),)
            second = (slice(None),) * axis + (slice(1, None),)
            differ = before[first] != before[second]
            nearer = layer[second] > layer[first]
            mask[first][differ & nearer] = IGNORE_CLASS
            mask[second][differ & ~nearer] = IGNORE_CLASS
    for _ in range(rng.integers(1, 4) if rng.random() < 0.25 else 0):
        size = rng.uniform(0.02, 0.06, 2) * canvas.unit
        y, x = rng.uniform(0, 1, 2) * (height, width)
        (rows, columns), _, _ = canvas.window(x, y, x + size[0] + 1, y + size[1] + 1)
        mask[rows, columns] = IGNORE_CLASS
    return mask


def _photograph(rng, canvas):
    """Exposure, colour temperature, uneven light, blur, noise: (h, w, 3) uint8."""
    image = canvas.image
    height, width = canvas.mask.shape
    warm = rng.uniform(-0.08, 0.08)
    gain = rng.uniform(0.9, 1.25) * np.float32([1 + warm, 1, 1 - warm])
    rows = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    columns = np.linspace(-1, 1, width, dtype=np.float32)[None]
    fall = 1 - rng.uniform(0, 0.16) * (rows**2 + columns**2)
    fall = fall + rng.uniform(-0.06, 0.06) * columns
    image = image * (fall[..., None] * gain.astype(np.float32))
    side = np.float32(rng.uniform(0.04, 0.24))
    for _ in range(max(1, round(canvas.unit / 192))):
        image[1:-1] += side * (image[2:] + image[:-2] - 2 * image[1:-1])
        image[:, 1:-1] += side * (image[:, 2:] + image[:, :-2] - 2 * image[:, 1:-1])
    noise = rng.standard_normal(image.shape, np.float32)
    noise *= np.float32(rng.uniform(0.004, 0.025))
    # Like the rounding of a JPEG's block means.
    blocks = rng.normal(0, 0.005, (height // 8 + 1, width // 8 + 1)).astype(np.float32)
    noise += blocks.repeat(8, 0).repeat(8, 1)[:height, :width, None]
    image += noise
    return (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)
