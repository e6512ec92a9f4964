import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from record.files import checked
from record.study import StudyError
from search.data import Batch, DataConfig, DataError, ImageNet, Mnist5k, Source, load
from search.data.face_folder import GALLERY, PROBE, UNSEEN
from search.data.segments import IGNORED, cut
from search.data.streams import MEAN, STD, Example, Stream
from tests.sets import DATA_SETS, PALETTE, rows_of_faces, write_cityscapes, write_classes, write_faces, write_segments


def classes(root: Path, **fields: object) -> DataConfig:
    given = {"name": "imagenet", "size": 16, "workers": 0, "validation": 0.25}
    return DATA_SETS.validated({**given, "root": str(root), **fields})


def segments(root: Path, **fields: object) -> DataConfig:
    given = {"name": "segmentation_folder", "size": 16, "workers": 0, "scale": (0.5, 2), "rotate": 10, "flip": True}
    return DATA_SETS.validated({**given, "root": str(root), **fields})


def faces(root: Path, **fields: object) -> DataConfig:
    given = {"name": "face_folder", "size": 16, "workers": 0, "validation": 0.34, "stream": True}
    return DATA_SETS.validated({**given, "root": str(root), **fields})


SETS = {"imagenet": (write_classes, classes), "segments": (write_segments, segments), "faces": (write_faces, faces)}


@pytest.fixture(params=SETS)
def config(request: pytest.FixtureRequest, tmp_path: Path) -> DataConfig:
    write, configured = SETS[request.param]
    return configured(write(tmp_path))


def epoch(source: Source, batch: int = 4, seed: int = 0, shard: tuple[int, int] = (0, 1)) -> list[Batch]:
    return list(source.batches(batch, torch.Generator().manual_seed(seed), shard))


def equal(first: list[Batch], second: list[Batch]) -> bool:
    return len(first) == len(second) and all(
        torch.equal(a, b) for one, other in zip(first, second) for a, b in zip(one, other)
    )


def children() -> set[int]:
    """Process ids of the workers of all streams."""
    return {process.pid for process in multiprocessing.active_children() if process.pid is not None}


def pixels(images: Tensor) -> Tensor:
    """Undo the normalisation."""
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (MEAN, STD))
    return (images * std + mean).round().long()


def test_workers_change_nothing(config: DataConfig) -> None:
    one, two = load(config), load(config.model_copy(update={"workers": 2}))
    assert equal(epoch(one), epoch(two))
    assert equal(list(one.held_out()), list(two.held_out()))


def test_an_epoch_depends_on_its_generator_alone(config: DataConfig) -> None:
    source = load(config)
    assert equal(epoch(source, seed=1), epoch(source, seed=1))
    assert not equal(epoch(source, seed=1), epoch(source, seed=2))
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    epoch(source)
    list(source.held_out())
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize("ranks", [2, 4])
def test_shards_together_are_the_batch_with_the_same_augmentation(config: DataConfig, ranks: int) -> None:
    source = load(config)
    whole = epoch(source, batch=8)
    shards = [epoch(source, batch=8, shard=(rank, ranks)) for rank in range(ranks)]
    for index, batch in enumerate(whole):
        for rank in range(ranks):
            assert all(torch.equal(a, b[rank::ranks]) for a, b in zip(shards[rank][index], batch, strict=True))
    assert {len(shard) for shard in shards} == {len(whole)}


@pytest.mark.parametrize("ranks", [2, 4])
def test_shards_of_a_set_on_the_device_do_so_too(ranks: int) -> None:
    source = load(Mnist5k(train_images=100, pad=2))
    whole = epoch(source, batch=8)
    for rank in range(ranks):
        assert equal(epoch(source, batch=8, shard=(rank, ranks)), [(x[rank::ranks], y[rank::ranks]) for x, y in whole])
    assert len({bytes(image.numpy()) for images, _ in whole for image in images}) == 8 * len(whole)


@pytest.mark.parametrize("ranks", [2, 4])
def test_a_shard_reads_and_augments_its_own_images_alone(config: DataConfig, ranks: int) -> None:
    source, shares = load(config), []
    assert isinstance(source, Stream)
    for rank in range(ranks):
        read: list[Example] = []
        augmented: list[Any] = []

        def reading(example: Example) -> Any:
            read.append(example)
            return source.read(example)

        def augmenting(image: Any, target: Any) -> Batch:
            augmented.append(target)
            return source.training(image, target)

        epoch(replace(source, read=reading, training=augmenting), batch=4, shard=(rank, ranks))
        shares.append({path for path, _ in read})
        assert len(shares[-1]) == len(read) == len(augmented) == len(source) // 4 * 4 // ranks
    assert len(set.union(*shares)) == len(source) // 4 * 4


def test_the_same_processes_serve_every_epoch_and_evaluation_and_end_with_the_stream(tmp_path: Path) -> None:
    others = children()
    source = load(classes(write_classes(tmp_path), workers=2))
    assert children() == others
    epoch(source)
    workers = children() - others
    assert len(workers) == 2
    for _ in range(2):
        epoch(source, seed=1)
        list(source.held_out())
        list(source.test())
    assert children() - others == workers
    del source
    assert children() == others


def test_workers_end_without_delay_with_a_stream_in_a_cycle_of_garbage(tmp_path: Path) -> None:
    others = children()
    cycle: list[Any] = [load(classes(write_classes(tmp_path), workers=2))]
    cycle.append(cycle)
    epoch(cycle[0])
    assert len(children() - others) == 2
    start = time.perf_counter()
    del cycle
    gc.collect()
    assert children() == others
    assert time.perf_counter() - start < 4  # PyTorch waits 5 s for a worker that it cannot reach


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("how", ["closed", "left open", "failed", "unreadable"])
def test_an_epoch_after_an_unfinished_one_is_as_any_other(tmp_path: Path, how: str, workers: int) -> None:
    others = children()
    config = classes(write_classes(tmp_path), workers=workers)
    source, fresh = load(config), load(config.model_copy(update={"workers": 0}))
    assert isinstance(source, Stream)
    batches = source.batches(4, torch.Generator().manual_seed(7))
    if how == "unreadable":
        files = [path for path, _ in source.train]
        stored = [file.read_bytes() for file in files]
        for file in files:
            file.write_bytes(b"")
        with pytest.raises(DataError, match="cannot identify"):
            next(batches)
        for file, content in zip(files, stored):
            file.write_bytes(content)
    elif how == "failed":
        with pytest.raises(ZeroDivisionError) as caught:  # its traceback is kept, as an interpreter keeps the last one
            sum(1 / 0 for _ in batches)
        assert caught.traceback
    else:
        next(batches)
    if how == "closed":
        batches.close()
    for seed in range(2):
        assert equal(epoch(source, seed=seed), epoch(fresh, seed=seed))
        assert equal(list(source.held_out()), list(fresh.held_out()))
    assert len(children() - others) == workers


@pytest.mark.parametrize("workers", [0, 2])
def test_of_two_epochs_at_once_the_first_says_that_it_was_ended(tmp_path: Path, workers: int) -> None:
    source = load(classes(write_classes(tmp_path), workers=workers))
    first, second = (source.batches(4, torch.Generator().manual_seed(seed)) for seed in range(2))
    next(first)
    found = [next(second)]
    with pytest.raises(RuntimeError, match="began before this one was finished"):
        next(first)
    assert equal([*found, *second], epoch(source, seed=1))


def test_an_interrupt_while_the_trainer_waits_leaves_nothing_behind(tmp_path: Path) -> None:
    others = children()
    fresh = load(classes(write_classes(tmp_path)))
    assert isinstance(fresh, Stream)

    def slowly(example: Example) -> Any:
        time.sleep(0.2)
        return fresh.read(example)

    source = replace(fresh, read=slowly, workers=2)
    list(source.held_out())
    pids = [os.getpid(), *(children() - others)]  # a terminal sends it to all
    threading.Timer(0.5, lambda: [os.kill(pid, signal.SIGINT) for pid in pids]).start()
    with pytest.raises(KeyboardInterrupt):
        epoch(source)
    assert equal(epoch(source, seed=1), epoch(fresh, seed=1))
    assert len(children() - others) == 2


def test_workers_survive_an_interrupt_that_the_trainer_handles(tmp_path: Path) -> None:
    others = children()
    source = load(classes(write_classes(tmp_path), workers=2))
    first = epoch(source)
    workers = children() - others
    for pid in workers:
        os.kill(pid, signal.SIGINT)
    assert equal(epoch(source), first)
    assert children() - others == workers


def test_an_epoch_that_lost_a_worker_fails_and_the_next_has_new_ones(tmp_path: Path) -> None:
    others = children()
    source = load(classes(write_classes(tmp_path), workers=2))
    first = epoch(source)
    os.kill(max(children() - others), signal.SIGKILL)
    with pytest.raises(RuntimeError, match="worker"):
        epoch(source)
    assert equal(epoch(source), first)
    assert len(children() - others) == 2


def test_workers_end_with_the_process_even_amid_an_epoch(tmp_path: Path) -> None:
    program = f"""
import multiprocessing, torch
from search.data import ImageNet, load
source = load(ImageNet(root={str(write_classes(tmp_path))!r}, size=16, validation=0.25, workers=2))
batches = source.batches(4, torch.Generator())
next(batches)
print(*(process.pid for process in multiprocessing.active_children()), flush=True)
raise SystemExit(3)
"""
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, cwd=Path(__file__).parents[2]
    )
    assert ended.returncode == 3, ended.stderr
    pids = [int(pid) for pid in ended.stdout.split()]
    assert len(pids) == 2
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_images_can_be_trained_on_by_workers_that_an_evaluation_started(tmp_path: Path) -> None:
    source = load(classes(write_classes(tmp_path), workers=1))
    with torch.inference_mode():
        list(source.held_out())
    assert not any(tensor.is_inference() for batch in epoch(source) for tensor in batch)


def test_an_epoch_takes_each_image_at_most_once(tmp_path: Path) -> None:
    write_segments(tmp_path, train=9, height=16, width=16)
    for i in range(9):
        Image.new("RGB", (16, 16), (i, 2 * i, 3 * i)).save(tmp_path / "train" / f"{i}.png")
    source = load(segments(tmp_path, scale=(1, 1), rotate=0, flip=False))
    orders = []
    for seed in range(3):
        seen = [pixels(images)[:, 0, 0, 0].tolist() for images, _ in epoch(source, batch=2, seed=seed)]
        assert [len(batch) for batch in seen] == [2, 2, 2, 2]
        orders.append([value for batch in seen for value in batch])
        assert len(set(orders[-1])) == 8
        assert set(orders[-1]) <= set(range(9))
    assert len({tuple(order) for order in orders}) == 3


def test_images_are_normalised_as_for_imagenet(tmp_path: Path) -> None:
    write_classes(tmp_path, images=4)
    for file in (tmp_path / "train").rglob("*.png"):
        Image.new("RGB", (20, 20), (124, 0, 255)).save(file)
    source = load(classes(tmp_path))
    for images, _ in [*epoch(source), *source.held_out()]:
        assert (images.dtype, images.shape[1:]) == (torch.float32, (3, 16, 16))
        expected = torch.tensor([(124 - 123.675) / 58.395, -116.28 / 57.12, (255 - 103.53) / 57.375])
        torch.testing.assert_close(images, expected.view(1, 3, 1, 1).expand_as(images))


def test_imagenet_as_it_is_laid_out(tmp_path: Path) -> None:
    source = load(classes(write_classes(tmp_path)))
    assert isinstance(source, Stream)
    assert (source.classes, list(source.class_names), source.channels) == (3, ["ant", "bee", "cat"], 3)
    train, validation = ({(path, label) for path, label in part} for part in (source.train, source.validation))
    assert (len(train), len(validation), len(source)) == (27, 9, 27)
    assert Counter(label for _, label in validation) == {0: 3, 1: 3, 2: 3}
    every = {(file, ["ant", "bee", "cat"].index(file.parent.name)) for file in (tmp_path / "train").rglob("*.png")}
    assert train | validation == every  # none of root/val, the test
    targets = torch.cat([labels for _, labels in epoch(source, batch=27)])
    assert targets.bincount().tolist() == [9, 9, 9]
    assert torch.cat([labels for _, labels in source.held_out()]).tolist() == [label for _, label in source.validation]


def test_imagenet_is_of_224_pixels_out_of_256(tmp_path: Path) -> None:
    write_classes(tmp_path, images=2)
    image = Image.new("RGB", (512, 512), (0, 0, 0))
    image.paste((200, 200, 200), (34, 34, 478, 478))  # what a centre crop of 222 of 256 shows
    for file in (tmp_path / "train").rglob("*.png"):
        image.save(file)
    source = load(classes(tmp_path, size=None))
    assert source.size == (224, 224)
    images = pixels(next(source.held_out())[0])
    assert images.shape == (3, 3, 224, 224)
    assert bool((images[:, :, 2:-2, 2:-2] == 200).all())
    assert bool((images[:, :, 0] < 60).all())


def test_crops_of_random_area_are_mirrored_only_if_wanted(tmp_path: Path) -> None:
    write_classes(tmp_path, images=4)
    ramp = np.tile(np.arange(100, dtype=np.uint8)[None, :, None] * 2, (60, 1, 3))
    for file in (tmp_path / "train").rglob("*.png"):
        Image.fromarray(ramp).save(file)
    for flip in (False, True):
        source, slopes = load(classes(tmp_path, flip=flip)), []
        for seed in range(8):
            for images, _ in epoch(source, batch=3, seed=seed):
                slopes += [float(i[0, 0, -1] - i[0, 0, 0]) / 15 for i in pixels(images).float()]
        assert max(slopes) > 2 * min(abs(s) for s in slopes)  # areas differ
        assert any(s < 0 for s in slopes) == flip
        assert any(s > 0 for s in slopes)


def test_auto_augment_changes_colours(tmp_path: Path) -> None:
    write_classes(tmp_path, images=8)
    for file in (tmp_path / "train").rglob("*.png"):
        Image.new("RGB", (20, 20), (60, 120, 180)).save(file)
    colours = []
    for auto_augment in (False, True):
        batches = epoch(load(classes(tmp_path, auto_augment=auto_augment)))
        colours.append({tuple(image[:, 8, 8].tolist()) for images, _ in batches for image in pixels(images)})
    assert colours[0] == {(60, 120, 180)}
    assert len(colours[1]) > 3


def test_a_streamed_image_folder_is_split_as_one_on_the_device(tmp_path: Path) -> None:
    write_classes(tmp_path, halves=("train", "test"))
    for fields in ({}, {"train_images": 24}):
        stream = load(classes(tmp_path, name="image_folder", stream=True, **fields))
        held = load(classes(tmp_path, name="image_folder", **fields))
        assert isinstance(stream, Stream)
        assert not isinstance(held, Stream)
        images, labels = (torch.cat(part) for part in zip(*stream.held_out()))
        assert torch.equal(labels, held.validation.labels)
        assert int((pixels(images) - held.validation.images.long()).abs().max()) <= 1
        assert len(stream) == len(held) == (18 if fields else 27)


def test_streamed_faces_are_those_on_the_device_in_rgb(tmp_path: Path) -> None:
    write_faces(tmp_path)
    stream, held = load(faces(tmp_path, pad=0)), load(faces(tmp_path, pad=0, stream=False))
    assert (stream.classes, stream.size, list(stream.class_names)) == (held.classes, held.size, [])
    images, targets = (torch.cat(part) for part in zip(*stream.held_out()))
    assert torch.equal(targets, held.validation.labels)
    assert int((pixels(images) - held.validation.images.long()).abs().max()) <= 1
    trained, labels = (torch.cat(part) for part in zip(*epoch(stream, batch=len(stream))))
    assert sorted(bytes(i.numpy()) for i in pixels(trained)) == sorted(
        bytes(i.numpy()) for i in pixels(images[targets[:, 1] == GALLERY])
    )
    assert torch.equal(labels.bincount(), held.train.labels.bincount())


def test_unseen_people_are_never_streamed_for_training(tmp_path: Path) -> None:
    source = load(faces(write_faces(tmp_path)))
    split = {tmp_path / file: (person, split) for file, person, split in rows_of_faces()}
    assert {split[path][1] for path, _ in source.train} == {"train"}
    assert all(split[path][0] == f"p{label}" for path, label in source.train)
    roles: dict[int, set[Path]] = {GALLERY: set(), PROBE: set(), UNSEEN: set()}
    for path, (_, role) in source.validation:
        roles[role].add(path)
    assert roles[GALLERY] == {path for path, _ in source.train}
    assert not roles[PROBE] & roles[GALLERY]
    assert {split[path] for path in roles[UNSEEN]} == {(f"u{i}", "unseen") for i in range(3)}


def test_faces_are_shifted_in_training_and_whole_in_validation_even_at_224(tmp_path: Path) -> None:
    write_faces(tmp_path)
    for file in tmp_path.rglob("*.png"):
        image = Image.new("L", (24, 24), 10)
        image.paste(200, (1, 1, 23, 23))
        image.save(file)
    source = load(faces(tmp_path, size=224, pad=30))
    held_out = pixels(torch.cat([images for images, _ in source.held_out()]))
    assert bool((held_out[:, :, 4] < 60).all())  # the frame is in the picture
    assert bool((held_out[:, :, 15:209, 15:209] == 200).all())
    trained = pixels(torch.cat([images for images, _ in epoch(source)]))
    rows = [tuple((image[0, :, 112] == 200).nonzero().flatten()[[0, -1]].tolist()) for image in trained]
    assert len(set(rows)) > 5
    assert all(0 <= first <= 12 + 30 and last >= 211 - 30 for first, last in rows)


def test_segments_are_those_of_their_folders(tmp_path: Path) -> None:
    source = load(segments(write_segments(tmp_path)))
    assert (source.classes, list(source.class_names), len(source)) == (3, ["sky", "road", "car"], 8)
    assert {path.parent.name for path, _ in source.train} == {"train"}
    assert {path.parent.name for path, _ in source.validation} == {"val"}
    images, targets = (torch.cat(part) for part in zip(*epoch(source, batch=8)))
    assert (images.shape, targets.shape) == ((8, 3, 16, 16), (8, 16, 16))
    assert set(targets.unique().tolist()) <= {0, 1, 2, IGNORED}


def test_held_out_tiles_have_every_counted_pixel_of_the_validation_images(tmp_path: Path) -> None:
    write_segments(tmp_path, val=11)  # 24x32 pixels are 4 tiles of 16, and 11 images 44
    images, targets = zip(*load(segments(tmp_path)).held_out())
    assert [len(part) for part in images] == [32, 12]  # no more at a time than 32
    images, targets = torch.cat(images), torch.cat(targets)
    expected = torch.zeros(4, dtype=torch.int64)
    for file in (tmp_path / "valannot").glob("*.png"):
        expected += torch.from_numpy(np.asarray(Image.open(file)).astype(np.int64)).flatten().bincount(minlength=4)
    assert torch.equal(targets.flatten().bincount(minlength=256)[:4], torch.tensor([*expected[:3].tolist(), 0]))
    for label in range(3):
        found = pixels(images).permute(0, 2, 3, 1)[targets == label]
        assert bool((found == torch.from_numpy(PALETTE[label].astype(np.int64))).all())


def test_training_images_for_segmentation_can_be_fewer(tmp_path: Path) -> None:
    write_segments(tmp_path)
    assert [len(load(segments(tmp_path, train_images=n))) for n in (3, 8, 99)] == [3, 8, 8]


def test_cityscapes_is_cut_into_training_and_validation(tmp_path: Path) -> None:
    fields = {"name": "cityscapes", "size": 24, "scale": (1, 1), "rotate": 0, "validation": 0.34}
    source = load(segments(write_cityscapes(tmp_path), **fields))
    assert (source.classes, source.class_names[13]) == (19, "car")
    train, validation = ({image for image, _ in part} for part in (source.train, source.validation))
    assert (len(train), len(validation), len(train | validation)) == (4, 2, 6)
    held_out = torch.cat([targets for _, targets in source.held_out()])
    assert held_out.shape == (4, 24, 24)
    images, targets = (torch.cat(part) for part in zip(*epoch(source)))
    train_id = {5: 255, 6: 255, 7: 0, 8: 1, 9: 255, 10: 255}  # 5 and 6 dynamic, ground; 9 and 10 parking, rail track
    for image, labels in zip(pixels(images), targets):
        assert set(labels.unique().tolist()) == {train_id[5 + int(image[0, 0, 0]) // 10]}


@given(st.integers(1, 40), st.floats(0.05, 0.95))
def test_cutting_off_a_share_keeps_order_and_loses_nothing(count: int, share: float) -> None:
    kept, taken = cut(list(range(count)), share)
    assert (kept, taken) == cut(list(range(count)), share)
    assert sorted(kept + taken) == list(range(count))
    assert kept == sorted(kept)
    assert taken == sorted(taken)
    assert len(taken) == max(1, round(share * count))


def test_what_cannot_be_streamed_says_why(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"needs data\.root"):
        load(ImageNet())
    with pytest.raises(DataError, match="not a folder of class folders"):
        load(classes(tmp_path))
    with pytest.raises(DataError, match=r"classes\.txt is missing"):
        load(segments(tmp_path))
    with pytest.raises(DataError, match="Cityscapes is not in"):
        load(segments(tmp_path, name="cityscapes"))


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_of_a_worker_is_the_same_error_here(tmp_path: Path, workers: int) -> None:
    Image.new("L", (9, 9)).save(write_segments(tmp_path) / "valannot" / "2.png")
    with pytest.raises(DataError, match=r"2\.png is \(9, 9\), but its image is \(24, 32\)"):
        list(load(segments(tmp_path, workers=workers)).held_out())


def write_jpegs(root: Path, name: str) -> DataConfig:
    """Write classes or grey faces whose images are JPEG files; the configuration shows them whole in evaluation."""
    if name == "faces":
        write_faces(root, [(file.replace("png", "jpg"), *row) for file, *row in rows_of_faces()])
        return faces(root, size=24, pad=4, flip=True)
    for file in write_classes(root).rglob("*.png"):
        Image.open(file).save(file.with_suffix(".jpg"))
        file.unlink()
    return classes(root, size=24, flip=True)


def decoded_later(source: Source, workers: int = 0) -> Stream:
    """Return a stream that decodes in batches, where the trainer's device is, as on a GPU; here on the CPU."""
    assert isinstance(source, Stream)
    return replace(source, decode="cuda", workers=workers)


@pytest.mark.filterwarnings("ignore:The image decoding:DeprecationWarning")
@pytest.mark.parametrize("name", ["imagenet", "faces"])
def test_images_decoded_on_the_device_are_those_decoded_by_workers(tmp_path: Path, name: str) -> None:
    source = load(write_jpegs(tmp_path, name))
    later = decoded_later(source)
    parts = [source.held_out(), epoch(source)], [later.held_out(), epoch(later)]
    for expected, found in zip(*parts):
        for (images, targets), (others, same) in zip(expected, found, strict=True):
            assert (others.shape, others.dtype) == (images.shape, torch.float32)
            assert torch.equal(targets, same)
            # decoders may round otherwise; a crop, shift or mirroring of another seed would differ by far more
            assert int((pixels(images) - pixels(others)).abs().max()) <= 3
    assert equal(epoch(later), epoch(decoded_later(source, workers=2)))
    assert not equal(epoch(later), epoch(later, seed=1))
    whole, share = epoch(later, batch=8), epoch(later, batch=8, shard=(1, 2))
    assert equal(share, [(images[1::2], targets[1::2]) for images, targets in whole])


@pytest.mark.parametrize("workers", [0, 1])
def test_a_file_that_is_no_jpeg_is_named_where_jpegs_alone_can_be_decoded(tmp_path: Path, workers: int) -> None:
    source = load(write_jpegs(tmp_path, "imagenet"))
    for content in (b"", b"\x89PNG\r\n"):
        for path, _ in source.train:
            path.write_bytes(content)
        with pytest.raises(DataError, match=r"\d\d\.jpg is no JPEG file, and data\.decode=cuda reads no other"):
            epoch(decoded_later(source, workers))


def test_decoding_on_a_gpu_is_refused_where_it_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data\.decode=cuda was given.*needs.*CUDA GPU.* on cpu; set data\.decode=cpu"):
        load(classes(write_classes(tmp_path / "classes"), decode="cuda"))
    with pytest.raises(StudyError, match=r"unknown key data\.decode; it is for face_folder, image_folder, imagenet"):
        checked({"name": "s", "data": {"name": "segmentation_folder", "root": "here", "decode": "cuda"}})


def test_real_camvid_as_its_readme_counts_it(camvid: Path) -> None:
    source = load(segments(camvid, size=160, resize=160))
    assert (len(source.train), len(source.validation), source.classes) == (367, 101, 11)
    assert (source.class_names[0], source.class_names[10]) == ("sky", "bicyclist")
    images, targets = next(source.held_out())
    assert images.shape == (32, 3, 160, 160)  # 160x213 is 2 tiles: 16 images
    counted = (targets != IGNORED).sum()
    assert 0.9 < counted / (16 * 160 * 213) < 1
    assert set(targets.unique().tolist()) == {*range(11), IGNORED}


def test_real_camvid_has_the_shares_of_classes_that_its_readme_says(camvid: Path) -> None:
    source = load(segments(camvid))
    counts = sum(source.read(pair)[1].flatten().bincount(minlength=256) for pair in source.train)
    shares = 100 * counts / counts.sum()
    assert shares[source.class_names.index("pedestrian")].item() == pytest.approx(0.64, abs=0.01)
    assert shares[source.class_names.index("bicyclist")].item() == pytest.approx(0.29, abs=0.01)
