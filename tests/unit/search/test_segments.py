from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor
from torch.nn.functional import max_pool2d
from torchvision import tv_tensors

from search.data import DataError, SegmentationFolder
from search.data.cityscapes import cityscapes_classes, list_cityscapes
from search.data.segmentation_folder import folder_classes, list_folder
from search.data.segments import IGNORED, RandomCrop, ReadPair, Tiles, resized, starts
from tests.sets import PALETTE, label_map, write_cityscapes, write_segments

FILLED = (124, 116, 104)
COLOURS = torch.tensor([*PALETTE.tolist(), FILLED]).float()
LABELS = torch.tensor([0, 1, 2, 3, IGNORED])


def config(**fields: object) -> SegmentationFolder:
    return SegmentationFolder(root="unused", **fields)


def coordinates(height: int, width: int, seed: int = 0, highest: int = 254) -> tuple[Tensor, Tensor]:
    """An image whose colour is (y, x, random), and random labels."""
    generator = torch.Generator().manual_seed(seed)
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    image = torch.stack([y, x, torch.randint(256, (height, width), generator=generator)]).to(torch.uint8)
    return image, torch.randint(highest + 1, (height, width), generator=generator).to(torch.uint8)


def coloured(height: int, width: int) -> tuple[Tensor, Tensor]:
    """An image whose colour is that of its label."""
    labels = label_map(f"{height}x{width}", height, width)
    image = torch.from_numpy(PALETTE[labels]).permute(2, 0, 1).contiguous()
    return tv_tensors.Image(image), tv_tensors.Mask(torch.from_numpy(labels))


def cut_into_tiles(image: Tensor, labels: Tensor, size: int, **fields: object) -> tuple[Tensor, Tensor]:
    return Tiles(config(**fields), size)(tv_tensors.Image(image), tv_tensors.Mask(labels))


@given(st.integers(1, 60), st.integers(1, 60), st.integers(4, 30), st.integers(0, 99))
@settings(deadline=None)
def test_tiles_count_every_pixel_once_with_its_own_colour_and_label(h: int, w: int, size: int, seed: int) -> None:
    image, labels = coordinates(h, w, seed)
    crops, maps = cut_into_tiles(image, labels, size)
    assert crops.shape == (-(-h // size) * -(-w // size), 3, size, size)
    assert (crops.dtype, maps.dtype) == (torch.uint8, torch.int64)
    tile, y, x = (maps != IGNORED).nonzero().unbind(1)
    colours = crops[tile, :, y, x].long()
    assert sorted(zip(colours[:, 0].tolist(), colours[:, 1].tolist())) == [(a, b) for a in range(h) for b in range(w)]
    assert torch.equal(colours[:, 2], image[2, colours[:, 0], colours[:, 1]].long())
    assert torch.equal(maps[tile, y, x], labels[colours[:, 0], colours[:, 1]].long())


@given(st.integers(1, 60), st.integers(1, 60), st.integers(4, 30), st.integers(0, 99))
@settings(deadline=None)
def test_each_tile_is_a_square_of_the_image_or_of_it_with_mean_colour_below_and_right(
    h: int, w: int, size: int, seed: int
) -> None:
    image, labels = coordinates(h, w, seed)
    whole = torch.tensor(FILLED, dtype=torch.uint8)[:, None, None].repeat(1, max(h, size), max(w, size))
    whole[:, :h, :w] = image
    for crop in cut_into_tiles(image, labels, size)[0]:
        top, left = (int(v) for v in crop[:2, 0, 0])
        assert torch.equal(crop, whole[:, top : top + size, left : left + size])


def test_pixels_that_do_not_count_in_the_image_do_not_count_in_tiles() -> None:
    image, labels = coordinates(20, 30)
    labels[torch.rand(20, 30) < 0.4] = IGNORED
    maps = cut_into_tiles(image, labels, 8)[1]
    assert torch.equal(maps.flatten().bincount(minlength=256)[:255], labels.flatten().bincount(minlength=256)[:255])


def test_tiles_are_cut_out_of_the_resized_image() -> None:
    image, labels = coloured(24, 32)
    crops, maps = cut_into_tiles(image, labels, 16, resize=48)  # twice as large: 48x64
    assert len(crops) == 3 * 4
    counts = labels.flatten().bincount(minlength=4)
    assert torch.equal(maps.flatten().bincount(minlength=4)[:4], 4 * counts)


def test_where_tiles_begin_worked_out_by_hand() -> None:
    assert starts(8, 8) == [(0, 0)]
    assert starts(16, 8) == [(0, 0), (8, 8)]
    assert starts(19, 8) == [(0, 0), (8, 8), (11, 16)]


@given(st.integers(20, 60), st.integers(4, 90), st.floats(0.5, 2))
@settings(deadline=None)
def test_resized_labels_are_of_where_the_image_is_read(height: int, shorter: int, scale: float) -> None:
    ramp = torch.arange(100, dtype=torch.uint8).repeat(height, 1)  # both say the column
    image, labels = resized(tv_tensors.Image(ramp.repeat(3, 1, 1)), tv_tensors.Mask(ramp), shorter, scale)
    factor = shorter / height * scale
    assert labels.shape == image.shape[1:] == (max(1, round(height * factor)), max(1, round(100 * factor)))
    centres = (torch.arange(image.shape[2]) + 0.5) * 100 / image.shape[2] - 0.5  # of the new pixels, in old ones
    assert float((labels - centres).abs().max()) <= 0.5001
    inner = slice(2, -2)  # at the borders, the image is a mean over what there is
    assert labels.shape[1] < 5 or float((image - centres)[..., inner].abs().max()) <= 1.001


def inside(labels: Tensor) -> Tensor:
    """Whether a pixel and its eight neighbours have the same label; not on the border."""
    values = labels[None, None].float()
    same = max_pool2d(values, 3, 1) == -max_pool2d(-values, 3, 1)
    return torch.nn.functional.pad(same[0, 0], [1] * 4)


@given(
    st.integers(16, 50),
    st.integers(16, 50),
    st.integers(8, 64),
    st.sampled_from([(1.0, 1.0), (0.75, 1.5), (2.0, 2.0)]),
    st.sampled_from([0.0, 30.0]),
    st.booleans(),
    st.integers(0, 999),
)
@settings(deadline=None)
def test_an_image_and_its_labels_are_cropped_alike(
    h: int, w: int, size: int, scale: tuple[float, float], rotate: float, flip: bool, seed: int
) -> None:
    crop = RandomCrop(config(scale=scale, rotate=rotate, flip=flip), size)
    torch.manual_seed(seed)
    images, maps = crop(*coloured(h, w))
    assert (images.shape, maps.shape) == ((1, 3, size, size), (1, size, size))
    assert (images.dtype, maps.dtype) == (torch.uint8, torch.int64)
    assert set(maps.unique().tolist()) <= {0, 1, 2, 3, IGNORED}
    sure = inside(maps[0])
    nearest = torch.cdist(images[0].permute(1, 2, 0)[sure].float(), COLOURS).argmin(1)
    assert torch.equal(LABELS[nearest], maps[0][sure])


def test_crops_without_chance_to_move_are_the_image_itself() -> None:
    image, labels = coloured(16, 16)
    found = RandomCrop(config(), 16)(image, labels)
    assert torch.equal(found[0][0], image)
    assert torch.equal(found[1][0], labels.long())


def test_crops_move_and_mirror() -> None:
    image, labels = coordinates(10, 12)
    crop = RandomCrop(config(flip=True), 9)
    torch.manual_seed(0)
    corners = set()
    for _ in range(300):
        pixels, maps = crop(tv_tensors.Image(image), tv_tensors.Mask(labels))
        columns, top = pixels[0, 1, 0].tolist(), int(pixels[0, 0, 0, 0])
        mirrored = columns[0] > columns[1]
        left = min(columns)
        assert columns == (list(range(left, left + 9))[::-1] if mirrored else list(range(left, left + 9)))
        expected = labels[top : top + 9, left : left + 9].long()
        assert torch.equal(maps[0], expected.flip(1) if mirrored else expected)
        corners.add((top, left, mirrored))
    assert len(corners) == 2 * 4 * 2


def test_the_same_seed_gives_the_same_crop_and_another_another() -> None:
    crop = RandomCrop(config(scale=(0.5, 2), rotate=20, flip=True), 20)
    found = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        found.append(crop(*coloured(40, 50)))
    assert all(torch.equal(a, b) for a, b in zip(found[0], found[1]))
    assert not any(torch.equal(a, b) for a, b in zip(found[0], found[2]))


@pytest.mark.parametrize("resize", [None, 10, 40])
def test_scales_fill_their_range_and_keep_the_shape(resize: int | None) -> None:
    image, labels = coloured(20, 30)
    crop = RandomCrop(config(scale=(0.5, 2), resize=resize), 130)  # the whole image lies in the crop
    torch.manual_seed(0)
    heights = []
    for _ in range(200):
        rows, columns = (crop(image, labels)[1][0] != IGNORED).nonzero().aminmax(dim=0)
        height, width = (columns - rows + 1).tolist()
        assert abs(width - 1.5 * height) <= 1.25
        heights.append(height)
    shorter = resize or 20
    assert shorter / 2 <= min(heights) < 0.6 * shorter
    assert 1.9 * shorter < max(heights) <= 2 * shorter


@pytest.mark.parametrize("scale", [(2.0, 0.5), (0.0, 1.0), (-1.0, 1.0)])
def test_a_range_of_scales_that_cannot_be_is_refused(scale: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match=r"such as \[0.5, 2\]"):
        config(scale=scale)


def test_rotation_stays_in_its_range_and_leaves_corners_that_do_not_count() -> None:
    black = torch.zeros(3, 40, 40, dtype=torch.uint8)
    whole = tv_tensors.Image(black), tv_tensors.Mask(black[0])
    torch.manual_seed(0)
    for degrees in (5, 30):
        crop = RandomCrop(config(rotate=degrees), 40)
        share = max(float((crop(*whole)[1] == IGNORED).float().mean()) for _ in range(100))
        # The corners left free are triangles of hypotenuse h, where h (1 + sin a + cos a) = 1 along a side.
        sine, cosine = np.sin(np.radians(degrees)), np.cos(np.radians(degrees))
        free = 2 * sine * cosine / (1 + sine + cosine) ** 2
        assert 0.8 * free < share < 1.1 * free


def test_a_folder_pairs_images_with_maps_of_the_same_stem(tmp_path: Path) -> None:
    write_segments(tmp_path)
    Image.new("RGB", (8, 8)).save(tmp_path / "train" / "0a.jpg")
    Image.new("L", (8, 8)).save(tmp_path / "trainannot" / "0a.png")
    (tmp_path / "train" / "notes.txt").write_text("")
    found = list_folder(tmp_path, "train")
    assert [image.name for image, _ in found] == ["0.png", "0a.jpg", *(f"{i}.png" for i in range(1, 8))]
    assert all(labels == tmp_path / "trainannot" / f"{image.stem}.png" for image, labels in found)


def test_a_folder_says_what_it_lacks(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="train has no images"):
        list_folder(tmp_path, "train")
    with pytest.raises(DataError, match=r"classes\.txt is missing"):
        folder_classes(tmp_path)
    write_segments(tmp_path)
    (tmp_path / "valannot" / "1.png").unlink()
    with pytest.raises(DataError, match=r"val/1\.png has no label map .*valannot/1\.png"):
        list_folder(tmp_path, "val")


@pytest.mark.parametrize(
    ("lines", "names", "table"),
    [
        ("sky\nroad\nvoid\n", ["sky", "road"], [0, 1, 255]),
        ("sky\r\nroad \n\n", ["sky", "road"], [0, 1]),
        ("void\nsky\nvoid\nroad", ["sky", "road"], [255, 0, 255, 1]),
    ],
)
def test_void_and_labels_beyond_the_names_are_ignored(tmp_path: Path, lines: str, names: list, table: list) -> None:
    (tmp_path / "classes.txt").write_text(lines)
    assert folder_classes(tmp_path) == (names, table + [255] * (256 - len(table)))


def test_a_pair_is_read_as_rgb_and_classes(tmp_path: Path) -> None:
    pixels = torch.randint(256, (5, 7), dtype=torch.uint8)
    Image.fromarray(pixels.numpy()).save(tmp_path / "grey.png")
    Image.fromarray(np.array([[0, 1, 2, 3, 4, 11, 255]] * 5, np.uint8)).save(tmp_path / "labels.png")
    image, labels = ReadPair([7, 0, 255, *[9] * 252, 255])((tmp_path / "grey.png", tmp_path / "labels.png"))
    assert isinstance(image, tv_tensors.Image)
    assert isinstance(labels, tv_tensors.Mask)
    assert torch.equal(image, pixels.repeat(3, 1, 1))
    assert labels.tolist() == [[7, 0, 255, 9, 9, 9, 255]] * 5


def test_a_map_with_a_palette_is_read_by_its_indices(tmp_path: Path) -> None:
    labels = Image.fromarray(np.array([[0, 1], [2, 1]], np.uint8), mode="P")
    labels.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    labels.save(tmp_path / "labels.png")
    Image.new("RGB", (2, 2)).save(tmp_path / "image.png")
    found = ReadPair(range(256))((tmp_path / "image.png", tmp_path / "labels.png"))[1]
    assert found.tolist() == [[0, 1], [2, 1]]


def test_a_map_of_another_size_is_refused(tmp_path: Path) -> None:
    Image.new("RGB", (7, 5)).save(tmp_path / "image.png")
    Image.new("L", (5, 7)).save(tmp_path / "labels.png")
    with pytest.raises(DataError, match=r"labels\.png is \(7, 5\), but its image is \(5, 7\)"):
        ReadPair(range(256))((tmp_path / "image.png", tmp_path / "labels.png"))


def test_cityscapes_has_19_classes_by_the_ids_of_its_labels() -> None:
    names, table = cityscapes_classes()
    assert names == [
        "road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign", "vegetation",
        "terrain", "sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle",
    ]  # fmt: skip
    ids = [7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33]  # cityscapesScripts, labels.py
    assert [table[i] for i in ids] == list(range(19))
    assert {table[i] for i in range(256) if i not in ids} == {IGNORED}
    assert len(table) == 256


def test_cityscapes_as_torchvision_lays_it_out(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="as torchvision lays it out"):
        list_cityscapes(tmp_path)
    pairs = list_cityscapes(write_cityscapes(tmp_path))
    assert len(pairs) == 6
    for image, labels in pairs:
        assert image.name.replace("leftImg8bit", "gtFine_labelIds") == labels.name
        assert image.parent.name == labels.parent.name
