"""Paints a generated scene from far to near, according to its layout."""

from dataclasses import dataclass

import numpy as np

from keras_psp.data.scenes import classes
from keras_psp.data.scenes.layout import GroundPlane, Layout
from keras_psp.data.scenes.noise import CLOUDS, LEAVES, SAND, noise_at, random_color, random_stream

SURFACES = {"water": (classes.WATER, classes.BOAT), "road": (classes.ROAD, classes.CAR)}
SKYLINES = {"village": classes.BUILDING, "city": classes.SKYSCRAPER}


@dataclass(frozen=True)
class Light:
    """The light of a scene."""

    side: float  # of the sun: from -1, left, to 1, right
    strength: float  # from 0, overcast, to 1, sunny
    low_sky: np.ndarray  # color of the sky at the horizon
    haze: float  # share of that color in front of what is far away


class Canvas:
    """An image that is painted from far to near."""

    def __init__(self, height: int, width: int, light: Light):
        self.image = np.zeros((height, width, 3), np.float32)  # 1 is white
        self.mask = np.zeros((height, width), np.uint8)  # class indices
        # Number of each pixel's coat of paint. The border between two things is on the farther
        # one, so that a thin pole keeps its label.
        self.layer = np.zeros((height, width), np.uint8)
        self.light = light
        self.unit = min(height, width)
        self._coats = 0

    def window(
        self, left: float, top: float, right: float, bottom: float
    ) -> tuple[tuple[slice, slice], np.ndarray, np.ndarray]:
        """Returns the slices of a box in the image, and its pixels' centers, (n, 1) and (1, m)."""
        spans, centers = [], []
        for low, high, length in zip((top, left), (bottom, right), self.mask.shape, strict=True):
            first, last = max(0, int(np.floor(low))), max(0, min(length, int(np.ceil(high))))
            spans.append(slice(first, last))
            centers.append(np.arange(first, max(first, last), dtype=np.float32) + 0.5)
        return (spans[0], spans[1]), centers[0][:, None], centers[1][None]

    def paint(
        self, window: tuple[slice, slice], inside: np.ndarray, color: np.ndarray, label: int
    ) -> None:
        """Paints a color, broadcast to (n, m, 3), and a label where `inside` (n, m) is true."""
        self._coats += 1
        np.copyto(self.image[window], color, where=inside[..., None])
        np.copyto(self.mask[window], np.uint8(label), where=inside)
        np.copyto(self.layer[window], np.uint8(min(self._coats, 255)), where=inside)

    def grain(
        self,
        exponent: float,
        rng: np.random.Generator,
        rows: np.ndarray,
        columns: np.ndarray,
        *,
        scale: float = 1.0,
    ) -> np.ndarray:
        """Returns noise for a window, at the scale of the image."""
        step = 256 / self.unit * scale
        return noise_at(exponent, rng, rows * step, columns * step)

    def hazed(self, color: np.ndarray, share: np.ndarray | float) -> np.ndarray:
        """Mixes a color with a share of the horizon's color."""
        return color + (self.light.low_sky - color) * np.float32(share)


def paint_scene(seed: int, layout: Layout, *, surface: str, skyline: str) -> Canvas:
    """Paints a layout with a kind of surface and of skyline (`SURFACES`, `SKYLINES`)."""
    rng = random_stream(seed, "paint")
    canvas = Canvas(layout.height, layout.width, _draw_light(rng))
    plane = GroundPlane(layout.height, layout.width, layout.horizon)
    _paint_sky(rng, canvas, layout)
    _paint_hills(rng, canvas, layout)
    if layout.skyline is not None:
        _paint_skyline(random_stream(seed, "skyline"), canvas, layout, skyline)
    _paint_ground(rng, canvas, plane)
    surface_rng = random_stream(seed, "surface")
    kinds = (surface, "road" if surface == "water" else "water")
    for area, kind in zip(layout.surfaces, kinds, strict=False):
        _paint_surface(surface_rng, canvas, plane, area, kind)
    canvas.paint(plane.window, layout.apron, _bare_ground(rng, canvas, plane), classes.GROUND)
    things = sorted(layout.hulls + layout.towers + layout.others, key=lambda thing: thing.foot)
    for thing in things:
        _paint_shadow(canvas, layout, thing)
    labels = {"hull": SURFACES[surface][1], "tower": SKYLINES[skyline]}
    for thing in things:
        haze = canvas.light.haze * (1 - (thing.foot - layout.horizon) / plane.reach) ** 2
        _KINDS[thing.kind][0](rng, canvas, thing, haze, labels.get(thing.kind))
    return canvas


def _draw_light(rng):
    low_sky = rng.uniform(0.72, 0.96) * random_color(rng, (0.9, 0.95, 0.94), (1.06, 1.0, 1.05))
    return Light(
        side=rng.choice((-1.0, 1.0)) * rng.uniform(0.4, 1.0),
        strength=rng.uniform(0.1, 1.0),
        low_sky=low_sky.astype(np.float32),
        haze=rng.uniform(0.15, 0.6),
    )


def _paint_sky(rng, canvas, layout):
    rows = np.arange(layout.horizon, dtype=np.float32)[:, None]
    columns = np.arange(layout.width, dtype=np.float32)[None]
    up = (1 - rows / layout.horizon)[..., None]
    high = canvas.light.low_sky * random_color(rng, (0.35, 0.6, 0.85), (0.85, 0.92, 1.1))
    sky = canvas.light.low_sky + (high - canvas.light.low_sky) * up
    if rng.random() < 0.8:
        # Clouds flatten towards the horizon.
        down = rows * (1 + 1.5 * rows / layout.horizon)
        noise = canvas.grain(CLOUDS, rng, down, columns * 0.6, scale=rng.uniform(0.4, 0.8))
        cover = np.clip((noise - rng.uniform(-1, 1.2)) * 0.9, 0, 0.9)[..., None]
        white = (rng.uniform(0.8, 1.0) - 0.07 * noise * canvas.light.strength)[..., None]
        sky = sky + (white * np.float32([1.0, 0.99, 0.98]) - sky) * cover
    canvas.image[: layout.horizon] = sky
    canvas.mask[: layout.horizon] = classes.SKY


def _paint_hills(rng, canvas, layout):
    """Paints up to two ridges; the nearer one is lower, greener and clearer."""
    unit = canvas.unit
    tallest = rng.uniform(0.04, 0.3) * unit
    green = random_color(rng, (0.22, 0.3, 0.16), (0.42, 0.45, 0.32))
    ridges = rng.integers(0, 3)
    for ridge in range(ridges):
        tall = tallest * (1, 0.5)[ridge]
        window, rows, columns = canvas.window(
            0, layout.horizon - 1.6 * tall, layout.width, layout.horizon
        )
        profile = canvas.grain(CLOUDS, rng, np.float32([[0]]), columns, scale=0.35)
        top = layout.horizon - tall * np.clip(0.7 + 0.4 * profile, 0.05, 1.6)
        texture = canvas.grain(LEAVES, rng, rows, columns, scale=1.5)
        slope = np.gradient(profile[0])[None] * canvas.light.side * canvas.light.strength
        shade = 1 + 0.16 * texture + np.clip(3 * slope, -0.25, 0.25)
        haze = canvas.light.haze * (0.9, 0.6)[ridge] + 0.1
        color = canvas.hazed(green * shade[..., None], haze)
        canvas.paint(window, rows > top, color, classes.HILL)


def _paint_skyline(rng, canvas, layout, kind):
    """Paints silhouettes on the horizon: a city's flat-topped blocks or village gables."""
    unit = canvas.unit
    start, stop = layout.skyline
    narrow, wide = (0.035, 0.085) if kind == "city" else (0.07, 0.14)
    most = int(np.ceil((stop - start) / (narrow * unit))) + 1
    edges = start + np.cumsum(rng.uniform(narrow, wide, most) * unit)
    window, rows, columns = canvas.window(start, layout.horizon - 0.3 * unit, stop, layout.horizon)
    house = np.searchsorted(edges, columns[0])
    if kind == "city":
        height = rng.uniform(0.09, 0.26, most + 1)[house]
        brightness = rng.uniform(0.28, 0.6, (most + 1, 1))
        wall = brightness * random_color(rng, (0.85, 0.9, 0.95), (1.0, 1.0, 1.1))
        lit = canvas.grain(SAND, rng, rows, columns)
        period = max(2, round(0.022 * unit))
        lines = (rows.astype(int) % period == 0) | (columns.astype(int) % period == 0)
        color = wall[house][None] * (1 + 0.25 * np.clip(lit, -1, 1) * ~lines)[..., None]
    else:
        right = edges[house]
        left = np.concatenate([[start], edges])[house]
        middle = np.abs((columns[0] - left) / (right - left) - 0.5) * 2
        eaves = rng.uniform(0.028, 0.042, most + 1)[house]
        height = eaves + rng.uniform(0.03, 0.05, most + 1)[house] * (1 - middle)
        roof = random_color(rng, (0.4, 0.18, 0.12), (0.62, 0.34, 0.26))
        roofs = roof * rng.uniform(0.75, 1.2, (most + 1, 1))
        walls = rng.uniform(0.6, 0.95, (most + 1, 1)) * np.float32([1, 0.96, 0.88])
        low = rows > layout.horizon - eaves * unit
        color = np.where(low[..., None], walls[house][None], roofs[house][None])
    color = canvas.hazed(color.astype(np.float32), 0.1 + 0.45 * canvas.light.haze)
    canvas.paint(window, rows > layout.horizon - height * unit, color, classes.SKYLINE)


def _hazed_plane(canvas, plane, color):
    share = canvas.light.haze * np.clip(1 - plane.nearness, 0, 1)[..., None] ** 3
    return canvas.hazed(color, share)


def _fade(plane):
    """Returns the contrast of fine texture, which is low in the distance."""
    return np.clip(2.2 * plane.nearness, 0.25, 1)


def _grass(rng, canvas, plane):
    blades = noise_at(SAND, rng, plane.z, plane.x) * _fade(plane)
    patches = noise_at(CLOUDS, rng, plane.z * 0.3, plane.x * 0.3)
    base = random_color(rng, (0.26, 0.36, 0.1), (0.5, 0.56, 0.26))
    dry = 1 + 0.12 * patches[..., None] * np.float32([1.2, 0.6, 0.4])
    return _hazed_plane(canvas, plane, base * (1 + 0.17 * blades)[..., None] * dry)


def _bare_ground(rng, canvas, plane):
    """Returns the color of sand, gravel, or slabs with joints."""
    grains = noise_at(SAND, rng, plane.z, plane.x) * _fade(plane)
    stains = noise_at(CLOUDS, rng, plane.z * 0.4, plane.x * 0.4)
    shade = 1 + 0.06 * grains + 0.05 * stains
    base = rng.uniform(0.5, 0.76) * random_color(rng, (1.0, 0.92, 0.74), (1.06, 1.0, 0.96))
    if rng.random() < 0.4:
        period = rng.uniform(26, 52)
        joints = (plane.x % period < 3 / plane.nearness) | (plane.z % period < 4)
        shade = shade - 0.16 * joints * np.clip(2 * plane.nearness - 0.4, 0, 1)
    return _hazed_plane(canvas, plane, (base * shade[..., None]).astype(np.float32))


def _paint_ground(rng, canvas, plane):
    everywhere = np.ones(plane.x.shape, bool)
    cover = rng.choice(("grass", "ground", "mixed"), p=(0.5, 0.2, 0.3))
    if cover != "grass":
        canvas.paint(plane.window, everywhere, _bare_ground(rng, canvas, plane), classes.GROUND)
    if cover != "ground":
        where = everywhere
        if cover == "mixed":
            patches = noise_at(CLOUDS, rng, plane.z * 0.12, plane.x * 0.1)
            # In the distance they would be stripes of less than a pixel.
            where = patches * np.clip(3 * plane.nearness - 0.3, 0, 1) > rng.uniform(-0.9, 0.3)
        canvas.paint(plane.window, where, _grass(rng, canvas, plane), classes.GRASS)


def _paint_surface(rng, canvas, plane, area, kind):
    if kind == "water":
        # Waves are long across the line of sight and short along it.
        waves = noise_at(LEAVES, rng, plane.z * 0.9, plane.x * 0.22)
        deep = random_color(rng, (0.06, 0.2, 0.28), (0.16, 0.36, 0.46))
        mirror = 0.2 + 0.35 * (1 - plane.nearness) + 0.13 * waves * _fade(plane)
        color = canvas.hazed(deep, np.clip(mirror, 0, 0.75)[..., None])
        glint = (waves > 1.9) * (0.25 * canvas.light.strength)
        color = color + glint[..., None].astype(np.float32)
    else:
        asphalt = noise_at(SAND, rng, plane.z, plane.x) * _fade(plane)
        gray = rng.uniform(0.26, 0.42) * random_color(rng, (0.96, 0.97, 0.97), (1.04, 1.02, 1.06))
        worn = 0.08 * np.cos(4 * np.pi * area.across)
        color = gray * (1 + 0.09 * asphalt + worn)[..., None]
        period = rng.uniform(60, 120)
        dashes = (np.abs(area.across % 1 - 0.5) < 0.03) & (area.along % period < 0.55 * period)
        edges = np.abs(area.across % 1 - 0.06) < 0.018
        line = (0.9, 0.9, 0.86) if rng.random() < 0.7 else (0.88, 0.7, 0.2)
        color = np.where((dashes | edges)[..., None], np.float32(line), color)
        color = _hazed_plane(canvas, plane, color)
    canvas.paint(plane.window, area.inside, color, SURFACES[kind][0])


def _paint_shadow(canvas, layout, thing):
    """Darkens the ground next to a thing, away from the sun."""
    light = canvas.light
    half = thing.width * _KINDS[thing.kind][1]
    x = thing.x - light.side * thing.width * 0.35
    flat = max(1.0, 0.16 * min(thing.width * 1.6, thing.height))
    window, rows, columns = canvas.window(
        x - half, max(layout.horizon, thing.foot - flat), x + half, thing.foot + flat
    )
    distance = ((columns - x) / half) ** 2 + ((rows - thing.foot) / flat) ** 2
    dark = np.clip(1.4 * (1 - distance), 0, 1) * (0.25 + 0.35 * light.strength)
    canvas.image[window] *= 1 - dark[..., None]


def _paint_hull(rng, canvas, thing, haze, label):
    """Paints a raked body with a cabin: a beached boat or a parked car, which look alike."""
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
    second = np.full(3, rng.uniform(0.7, 0.95), np.float32) if rng.random() < 0.5 else paint
    round_side = 1.12 - 0.5 * low - 0.1 * ahead * np.sign(canvas.light.side)
    round_side = round_side * (1 + 0.03 * canvas.grain(SAND, rng, rows, columns))
    color = np.where(cabin[..., None], second * np.float32(0.98), paint * round_side[..., None])
    stripe = body & (np.abs(low - rng.uniform(0.2, 0.6)) < 0.09) & (rng.random() < 0.6)
    color = np.where(stripe[..., None], second * np.float32(0.8), color)
    pane_color = np.float32([0.12, 0.16, 0.2]) + 0.3 * canvas.light.low_sky * rise[..., None]
    color = np.where(glass[..., None], pane_color, color)
    canvas.paint(window, body | cabin, canvas.hazed(color, haze * 0.6), label)


def _paint_tower(rng, canvas, thing, haze, label):
    """Paints a block with rows of windows, a lit and a shaded face, and perhaps a setback."""
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

    wall = rng.uniform(0.4, 0.85) * random_color(rng, (0.9, 0.78, 0.68), (1.1, 1.02, 1.05))
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
    color = wall * (face * (1 + 0.05 * plaster))[..., None]
    # One look-up per pane: some reflect the sky, some are dark, a few are lit.
    pane = noise_at(SAND, rng, (rows - top) // storey * 7, (columns - left) // bay * 5)
    shine = np.clip(0.3 + 0.2 * pane, 0.05, 0.8)[..., None]
    reflection = np.float32([0.1, 0.13, 0.17]) + shine * canvas.light.low_sky
    color = np.where(glass[..., None], reflection, color)
    canvas.paint(window, inside, canvas.hazed(color.astype(np.float32), haze * 0.5), label)


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
    leaf = random_color(rng, (0.1, 0.2, 0.05), (0.3, 0.38, 0.16))
    if rng.random() < 0.12:
        leaf = random_color(rng, (0.4, 0.2, 0.06), (0.6, 0.36, 0.12))
    fine = canvas.grain(SAND, rng, rows, columns)
    shade = 1 + (0.18 + 0.2 * canvas.light.strength) * ball + 0.16 * edge + 0.16 * fine
    color = np.where(crown[..., None], leaf * shade[..., None], np.float32([0.2, 0.15, 0.11]))
    canvas.paint(window, crown | trunk, canvas.hazed(color.astype(np.float32), haze), classes.TREE)


def _paint_person(rng, canvas, thing, haze, label):
    left, top, right, bottom = thing.box
    window, rows, columns = canvas.window(left - 1, top, right + 1, bottom)
    down, across = (rows - top) / thing.height, (columns - thing.x) / thing.height
    head = np.hypot(across, down - 0.09) < 0.09
    torso = (down > 0.17) & (down < 0.55) & (np.abs(across) < 0.16 - 0.1 * (down - 0.17))
    stride = rng.uniform(0.03, 0.09)
    legs = (down >= 0.55) & (np.abs(np.abs(across) - stride * (down - 0.3) * 1.6) < 0.055)
    # Otherwise nothing would be left of a figure that is a few pixels high.
    legs |= (down >= 0.55) & (np.abs(across) * thing.height < 0.6)
    skin = random_color(rng, (0.35, 0.22, 0.15), (0.9, 0.7, 0.58))
    coat = rng.uniform(0.08, 0.95, 3).astype(np.float32)
    trousers = np.float32(rng.uniform(0.08, 0.4)) * random_color(rng, (0.8, 0.8, 0.9), (1, 1, 1.3))
    color = np.where(head[..., None], skin, np.where(torso[..., None], coat, trousers))
    lit = 0.2 * canvas.light.strength * np.sign(canvas.light.side * across)
    color = (color * (1 + lit)[..., None]).astype(np.float32)
    canvas.paint(window, head | torso | legs, canvas.hazed(color, haze), classes.PERSON)


def _paint_pole(rng, canvas, thing, haze, label):
    left, top, right, bottom = thing.box
    window, rows, columns = canvas.window(left - 1, top, right + 1, bottom)
    thick = max(0.55, 0.018 * thing.height)
    middle = np.floor(thing.x) + 0.5  # a pole of one pixel must not fall between two
    shaft = np.broadcast_to(np.abs(columns - middle) < thick, (rows.size, columns.size))
    down = (rows - top) / thing.height
    if rng.random() < 0.6:
        head = (down < 0.07) & (np.abs(columns - middle) < thing.width / 2)
    else:
        head = np.hypot(columns - middle, rows - top - thing.width / 2) < thing.width / 2
    gray = rng.uniform(0.1, 0.75) * random_color(rng, (0.9, 0.95, 0.9), (1, 1, 1))
    lamp = np.float32([0.95, 0.9, 0.75]) if rng.random() < 0.4 else gray
    color = np.where((head & ~shaft)[..., None], lamp, gray)
    canvas.paint(window, shaft | head, canvas.hazed(color.astype(np.float32), haze), classes.POLE)


# Painters, and half the widths of shadows as shares of the things' widths.
_KINDS = {
    "hull": (_paint_hull, 0.62),
    "tower": (_paint_tower, 0.9),
    "tree": (_paint_tree, 0.5),
    "person": (_paint_person, 0.5),
    "pole": (_paint_pole, 0.3),
}
