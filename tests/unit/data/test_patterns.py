import numpy as np

from wrn.data.patterns import SHAPES, SIDE, TEXTURE_NAMES, VARIANTS, draw_shapes, draw_textures


def test_every_shape_stays_inside_its_picture_and_fills_enough_of_it() -> None:
    pictures = draw_shapes()
    assert pictures.shape == (20, VARIANTS, SIDE, SIDE) == (len(SHAPES), VARIANTS, SIDE, SIDE)
    edge = np.ones((SIDE, SIDE), dtype=bool)
    edge[1:-1, 1:-1] = False
    assert not pictures[..., edge].any(), "a look-up beyond the edge repeats the edge, which must be empty"
    area = pictures.mean(axis=(2, 3)) / 255
    assert area.min() > 0.1
    assert area.max() < 0.75


def test_shapes_and_variants_differ() -> None:
    pictures = draw_shapes().astype(np.float32)
    flat = pictures.reshape(len(SHAPES) * VARIANTS, -1) / 255
    first, last = pictures[:, 0] / 255, pictures[:, -1] / 255
    assert (abs(first - last).mean(axis=(1, 2)) > 0.03).all(), "the variants of a shape run over a visible range"
    middles = flat.reshape(len(SHAPES), VARIANTS, -1)[:, VARIANTS // 2]
    apart = abs(middles[:, None] - middles[None]).mean(axis=2) + np.eye(len(SHAPES))
    assert apart.min() > 0.05


def test_shapes_point_up() -> None:
    """y points up in the formulas and down in the pictures."""
    names = list(SHAPES)
    triangle = draw_shapes()[names.index("triangle"), 0]
    assert triangle[: SIDE // 2].sum() < triangle[SIDE // 2 :].sum()


def test_textures_repeat_without_a_seam() -> None:
    for picture in draw_textures(0).astype(np.int64):
        for side in (picture, picture.T):
            steps = abs(side - np.roll(side, 1, axis=0)).mean(axis=1)  # the first is the one across the seam
            assert steps[0] <= steps[1:].max() + 1  # one grey level of rounding


def test_only_the_noise_textures_depend_on_the_seed() -> None:
    same = (draw_textures(0) == draw_textures(1)).all(axis=(1, 2))
    assert [name for name, kept in zip(TEXTURE_NAMES, same, strict=True) if not kept] == ["speckled", "marbled"]
