"""Decides where things are in a generated scene, before their kinds are known."""

from dataclasses import dataclass, replace

import numpy as np

from keras_psp.data.scenes.noise import CLOUDS, noise_at, random_stream

LEAST_SURFACE_SHARE = 0.08
"""Smallest share of the pixels that are water or road in a scene with a hull."""

ATTEMPTS = 12
"""Attempts to draw a layout, before one that can't fail."""

Box = tuple[float, float, float, float]
"""Left, top, right and bottom in pixels."""


@dataclass(frozen=True)
class Thing:
    """An object on the ground; lengths are in pixels."""

    kind: str  # "hull", "tower", "tree", "person" or "pole"
    x: float  # column of its middle
    foot: float  # row of its lowest point
    width: float
    height: float

    @property
    def box(self) -> Box:
        """The box around it."""
        half = self.width / 2
        return (self.x - half, self.foot - self.height, self.x + half, self.foot)

    def overlaps(self, box: Box, *, margin: float = 0.0) -> bool:
        """Whether a box is less than `margin` away from it."""
        left, top, right, bottom = self.box
        gaps = left - box[2], box[0] - right, top - box[3], box[1] - bottom
        return max(gaps) < margin


@dataclass(frozen=True)
class Surface:
    """An area of the ground that becomes water or road; arrays are (ground rows, width)."""

    inside: np.ndarray  # whether a pixel is in the area
    across: np.ndarray  # position between its edges, 0 to 1
    along: np.ndarray  # distance along it in texels


@dataclass(frozen=True)
class Layout:
    """Where things are in a scene."""

    height: int
    width: int
    horizon: int  # first row of the ground
    surfaces: tuple[Surface, ...]
    apron: np.ndarray  # (ground rows, width): bare ground around hulls and towers
    hulls: tuple[Thing, ...]
    towers: tuple[Thing, ...]
    others: tuple[Thing, ...]  # trees, persons and poles
    skyline: tuple[int, int] | None  # its first column, and the one after its last


class GroundPlane:
    """The ground below the horizon, seen in perspective."""

    def __init__(self, height: int, width: int, horizon: int):
        self.reach = height - horizon  # number of rows
        self.window = (slice(horizon, None), slice(None))  # its pixels in the image
        self.texel = 256 / min(height, width)  # texels per pixel at the image's lower edge
        # (rows, 1), from about 0 at the horizon to 1 at the image's lower edge.
        self.nearness = (np.arange(self.reach, dtype=np.float32)[:, None] + 0.7) / self.reach
        self.columns = np.arange(width, dtype=np.float32)[None]
        # Texel coordinates on the ground, (rows, width) and (rows, 1).
        self.x = (self.columns - width / 2) * (self.texel / self.nearness)
        self.z = 2 * self.texel * self.reach / self.nearness


def draw_layout(seed: int, *, height: int, width: int, attempt: int) -> Layout | None:
    """Draws a layout; None if what it must show doesn't fit, except at attempt `ATTEMPTS`."""
    rng = random_stream(seed, "plan", attempt)
    unit = min(height, width)
    horizon = int(height * rng.uniform(0.3, 0.48))
    plane = GroundPlane(height, width, horizon)
    # Drawn once per seed, or retries would make rare what is hard to fit. The last attempt
    # wants nothing that could fail.
    wants = random_stream(seed, "wants").random(2) < (0.68, 0.62)
    wants_hulls, wants_towers = wants & (attempt < ATTEMPTS)

    hulls = _place_hulls(rng, plane, width, horizon, unit) if wants_hulls else ()
    towers: tuple[Thing, ...] = ()
    skyline = None
    if wants_towers:
        towers, skyline = _place_towers(rng, height, width, horizon)
        if skyline is None or any(tower.overlaps(hull.box) for tower in towers for hull in hulls):
            return None
    elif rng.random() < 0.5:
        start, share = rng.uniform(0, 0.6), rng.uniform(0.3, 0.9)
        skyline = int(start * width), int(min(1, start + share) * width)

    apron, dry = np.zeros((2, plane.reach, width), bool)
    for hull in hulls:
        apron |= _apron(rng, plane, _with_margin(hull, unit), horizon)
        # Around it is the image's usual ground, so that the surface is even farther away.
        more = rng.uniform(0, 0.2) * (1 - attempt / ATTEMPTS) * unit
        dry |= _apron(rng, plane, _with_margin(hull, unit, more=more), horizon)
    for tower in towers:
        left, _, right, foot = tower.box
        plinth = (left, foot - 0.05 * unit, right, foot + 0.05 * unit)
        apron |= _apron(rng, plane, plinth, horizon)
    least = LEAST_SURFACE_SHARE + 0.03
    number = 1 if hulls else rng.choice(3, p=(0.25, 0.5, 0.25))
    for _ in range(8):
        surfaces = tuple(_place_surface(rng, plane, width, dry=dry) for _ in range(number))
        taken = np.any([surface.inside for surface in surfaces], axis=0) & ~apron
        # Trees and borders will cover some of it.
        if not hulls or taken.mean() * plane.reach / height > least:
            break
    else:
        return None
    others = _place_others(rng, plane, taken, horizon, unit, hulls, skyline)
    return Layout(height, width, horizon, surfaces, apron, hulls, towers, others, skyline)


def _place_hulls(rng, plane, width, horizon, unit):
    """Places one to three hulls at a similar depth, longer where they are nearer."""
    near = rng.uniform(0.25, 0.78)
    # In the middle it would leave little room for a surface.
    x = (0.5 + rng.choice((-1, 1)) * rng.uniform(0.06, 0.4)) * width
    hulls = []
    for _ in range(rng.choice((1, 2, 3), p=(0.5, 0.32, 0.18))):
        length = min(near * plane.reach * rng.uniform(0.6, 1.4), 0.45 * unit)
        length = max(length, 0.12 * unit)
        foot, height = horizon + near * plane.reach, length * rng.uniform(0.4, 0.5)
        hull = Thing("hull", x, foot, length, height)
        if not any(hull.overlaps(other.box) for other in hulls):
            hulls.append(hull)
        x += rng.choice((-1, 1)) * length * rng.uniform(1.1, 1.5)
        near = np.clip(near + rng.uniform(-0.12, 0.12), 0.2, 0.85)
        if not 0.06 * width < x < 0.94 * width:
            break
    return tuple(hulls)


def _with_margin(hull, unit, *, more=0.0):
    """Returns a hull's box with a margin of about its size on every side, plus `more`."""
    margin = max(0.12 * unit, min(0.6 * hull.width, 0.18 * unit)) + more
    left, top, right, bottom = hull.box
    return left - margin, top - margin, right + margin, bottom + margin


def _apron(rng, plane, box, horizon):
    """Returns an area of bare ground around a box, (ground rows, width) bool."""
    left, top, right, bottom = box
    half_width = (right - left) / 2 * rng.uniform(1.25, 1.6)
    half_height = (bottom - top) / 2 * rng.uniform(1.25, 1.45)
    rows = np.arange(plane.reach, dtype=np.float32)[:, None]
    down = (rows - ((top + bottom) / 2 - horizon)) / half_height
    across = (plane.columns - (left + right) / 2) / half_width
    across = across / (1 + 0.1 * np.clip(down, -1, 1))
    # In the box |down| is at most 0.8 and |across| 0.89. Their powers sum to less than 0.57,
    # so that all of the box is bare, whatever the wave (at most 0.18).
    wave = noise_at(CLOUDS, rng, rows * plane.texel / 4, plane.columns * plane.texel / 4)
    return down**8 + across**8 + 0.06 * wave < 1


def _place_surface(rng, plane, width, *, dry):
    """Draws a band, a receding strip, one side of a line, or all ground, except where `dry`."""
    shape = rng.choice(("band", "strip", "side", "all"), p=(0.3, 0.35, 0.25, 0.1))
    nearness, columns = plane.nearness, plane.columns
    bend = noise_at(CLOUDS, rng, np.float32(0), 40 * columns / width)
    if shape == "band":
        middle, thickness = rng.uniform(0.15, 0.85), rng.uniform(0.3, 0.6)
        slope = rng.uniform(-0.25, 0.25)
        row = nearness - middle - slope * (columns / width - 0.5) + 0.02 * bend
        across = row / thickness + 0.5
        inside = (across > 0) & (across < 1) & ~dry
        return Surface(inside, across, plane.x + 0 * row)
    if shape == "all":
        across = plane.x / rng.uniform(300, 700) + rng.random()
        return Surface(~dry, across, plane.z + 0 * across)
    end, start = rng.uniform(0.05, 0.95) * width, rng.uniform(-0.2, 1.2) * width
    bend = noise_at(CLOUDS, rng, 60 * nearness, np.float32(0))
    middle = end + (start - end) * nearness + 0.025 * width * bend * nearness
    if shape == "strip":
        across = (columns - middle) / (rng.uniform(0.45, 0.9) * width * nearness + 1) + 0.5
        inside = (across > 0) & (across < 1)
    else:
        across = (columns - middle) / (0.5 * width * nearness + 1) * rng.choice((-1, 1))
        inside = across > 0
    return Surface(inside & ~dry, across, plane.z + 0 * across)


def _place_towers(rng, height, width, horizon):
    """Places one or two towers at one side, and a skyline well apart from them."""
    unit = min(height, width)
    tower_width = rng.uniform(0.12, 0.4) * unit
    x = tower_width * rng.uniform(0.3, 0.9) + rng.uniform(0, 0.12) * width
    towers = []
    for _ in range(rng.choice((1, 2), p=(0.7, 0.3))):
        foot = horizon + rng.uniform(0.03, 0.32) * (height - horizon)
        # Always well above the horizon, and sometimes cut off by the image's upper edge.
        tall = foot - horizon + rng.uniform(0.18, 0.75) * unit
        towers.append(Thing("tower", x, foot, tower_width, tall))
        right = x + tower_width / 2
        tower_width = rng.uniform(0.1, 0.2) * unit
        x = right + tower_width * rng.uniform(0.55, 0.9)
    right = max(tower.box[2] for tower in towers)
    gap = max(0.5 * towers[0].width, 0.18 * unit)
    start, stop = right + gap, width * rng.uniform(0.85, 1.05)
    start = max(start, stop - rng.uniform(0.3, 0.5) * width)
    if min(stop, width) - start < 0.27 * width:
        return (), None
    if rng.random() < 0.5:
        towers = [replace(tower, x=width - tower.x) for tower in towers]
        start, stop = width - stop, width - start
    return tuple(towers), (max(0, round(start)), min(width, round(stop)))


def _place_others(rng, plane, taken, horizon, unit, hulls, skyline):
    """Places trees, persons and poles, not on surfaces and not near hulls."""
    width = taken.shape[1]
    kinds = (
        ["tree"] * rng.integers(0, 5)
        + ["person"] * rng.choice((0, 1, 2, 3, 5), p=(0.2, 0.3, 0.2, 0.2, 0.1))
        + ["pole"] * rng.choice((0, 1, 2, 3), p=(0.35, 0.35, 0.2, 0.1))
    )
    things = []
    for kind in kinds:
        near, x = rng.uniform(0.08, 1.0) ** 0.8, rng.uniform(0, 1) * width
        size = near * plane.reach
        if kind == "tree":
            tall = np.clip(size * rng.uniform(0.7, 2.0), 0.08 * unit, 0.8 * unit)
            wide = tall * rng.uniform(0.5, 1.1)
        elif kind == "person":
            tall = np.clip(size * rng.uniform(0.24, 0.5), 0.055 * unit, 0.34 * unit)
            wide = tall * 0.36
        else:
            tall = np.clip(size * rng.uniform(0.8, 1.8), 0.15 * unit, 0.7 * unit)
            wide = max(2.0, 0.12 * tall)
        thing = Thing(kind, x, horizon + size, wide, tall)
        row, column = min(int(size), plane.reach - 1), min(int(x), width - 1)
        if taken[row, column] or any(thing.overlaps(hull.box, margin=2) for hull in hulls):
            continue
        # A tree in front of the skyline might hide what tells the towers apart.
        hides = skyline and thing.overlaps((skyline[0], 0, skyline[1], horizon))
        if not (kind == "tree" and hides):
            things.append(thing)
    return tuple(things)
