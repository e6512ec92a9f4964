"""Figure 5: one FC3 kernel before and after the merge."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from repmlp import RepMLP, RepMLPBlock
from results.kernel import default_block, draw, fc3_blocks, pictures
from tests.blocks import lived_in
from tests.driving import analysis, engine_of, work_off


def plain_block(kernels: tuple[int, ...]) -> RepMLP:
    """FC3 of ones behind a BN that changes nothing, and conv kernels numbered from 10."""
    block = RepMLP(2, 2, (5, 6), RepMLPBlock(partition=(5, 6), groups=2, kernels=kernels)).eval()
    block.fc3_bn.eps = 0.0
    nn.init.ones_(block.fc3.weight)
    for branch in block.local.values():
        branch[1].eps = 0.0
        taps = branch[0].weight
        taps.data = torch.arange(10.0, 10 + taps[0].numel()).view(taps[0].shape).repeat(2, 1, 1, 1)
    return block


def test_after_the_merge_the_taps_of_a_convolution_stand_around_the_point() -> None:
    before, after = pictures(plain_block((3,)), (2, 3))
    expected = np.zeros((5, 6))
    expected[1:4, 2:5] = np.log10(1 + np.arange(10, 19).reshape(3, 3))
    np.testing.assert_allclose(before, np.zeros((5, 6)), atol=1e-12)
    np.testing.assert_allclose(after, expected, atol=1e-12)


def test_at_a_corner_the_taps_are_cut() -> None:
    _, after = pictures(plain_block((3,)), (0, 0))
    expected = np.zeros((5, 6))
    expected[:2, :2] = np.log10(1 + np.array([[14, 15], [17, 18]]))
    np.testing.assert_allclose(after, expected, atol=1e-12)


def test_without_branches_nothing_changes() -> None:
    block = RepMLP(4, 4, (4, 4), RepMLPBlock(partition=4, kernels=())).eval()
    before, after = pictures(block, (1, 1), 3, 2)
    np.testing.assert_array_equal(before, after)
    assert before.min() == 0
    ratio = block.fc3.weight.view(4, 4, 4, 4, 4, 4)[3, 1, 1, 2].abs()
    np.testing.assert_allclose(before, np.log10((ratio / ratio.min()).detach().numpy()), atol=1e-5)


def test_a_point_outside_is_refused() -> None:
    with pytest.raises(ValueError, match=r"point 5,0.*within 5x6 positions"):
        pictures(plain_block((3,)), (5, 0))


def responses(block: RepMLP, output_channel: int, point: tuple[int, int], column: int) -> np.ndarray:
    """Push a one through each position of one input channel: an independent way to the weights."""
    h, w = block.partition
    x = torch.zeros(h * w + 1, block.in_channels, h, w, dtype=torch.float64)
    x[1:, column].view(h * w, -1).fill_diagonal_(1)
    with torch.no_grad():
        y = block(x)[:, output_channel, point[0], point[1]]
    return (y[1:] - y[0]).abs().view(h, w).numpy()


@pytest.mark.parametrize(
    ("channels", "out", "groups", "size"), [(4, 6, 2, (5, 7)), (6, 3, 3, (4, 4)), (2, 2, 1, (7, 3))]
)
def test_the_pictures_are_what_the_block_answers_to_each_position(
    channels: int, out: int, groups: int, size: tuple[int, int]
) -> None:
    torch.manual_seed(0)
    block = RepMLP(channels, out, size, RepMLPBlock(partition=size, groups=groups, kernels=(1, (3, 1), 3)))
    block, point = lived_in(block).double(), (size[0] - 1, 1)
    before, after = pictures(block, point, out - 1, channels // groups - 1)
    merged = responses(block, out - 1, point, channels - 1)
    block.local = nn.ModuleDict()
    alone = responses(block, out - 1, point, channels - 1)
    least = min(alone.min(), merged.min())
    np.testing.assert_allclose(before, np.log10(alone / least), atol=1e-9)
    np.testing.assert_allclose(after, np.log10(merged / least), atol=1e-9)
    np.testing.assert_allclose(after[: size[0] - 2], before[: size[0] - 2], atol=1e-9)


def test_a_converted_block_is_refused() -> None:
    block = plain_block((3,))
    block.reparameterize()
    with pytest.raises(ValueError, match="is converted"):
        pictures(block, (0, 0))


def test_both_panels_share_a_scale_and_the_outline_is_cut_at_the_border() -> None:
    panels = draw(plain_block((3,)), "block", (0, 5)).axes[:2]
    for panel in panels:
        assert panel.images[0].get_clim() == (0, pytest.approx(np.log10(18)))
    for panel in panels:
        for box in panel.patches:
            assert (box.get_x(), box.get_y(), box.get_width(), box.get_height()) == (3.5, -0.5, 2, 2)
        assert len(panel.patches) == 2


def test_a_block_without_branches_has_no_outline() -> None:
    figure = draw(plain_block(()), "block", (1, 1))
    assert not any(panel.patches for panel in figure.axes[:2])
    assert "no branches" in figure.get_suptitle()


def test_the_ticks_of_a_large_partition_leave_room() -> None:
    figure = draw(RepMLP(1, 1, (28, 28), RepMLPBlock(partition=28, kernels=(7,))), "block", (14, 14))
    figure.draw_without_rendering()
    for panel in figure.axes[:2]:
        boxes = [t.get_window_extent() for t in panel.get_xticklabels() if t.get_text()]
        assert all(a.x1 < b.x0 for a, b in itertools.pairwise(boxes))


def test_the_default_is_the_first_block_with_branches() -> None:
    model = nn.Sequential(plain_block(()), nn.ReLU(), plain_block((1,)))
    assert default_block(fc3_blocks(model)) == "2"


@pytest.fixture
def run(tiny: Path) -> Path:
    engine = engine_of(tiny, "trials=1", "space.kinds=[repmlp]", "space.kernels=[[1,3]]", "training.epochs=1")
    engine.journal.opened({}, {})
    work_off(engine)
    return tiny.parent / "runs" / "tiny"


def test_the_command_draws_a_trained_kernel(run: Path) -> None:
    result = analysis("kernel", run)
    assert result.exit_code == 0, result.stderr
    files = list(run.glob("kernel-*.png"))
    assert len(files) == 1
    with Image.open(files[0]) as image:
        assert len(np.unique(np.asarray(image.convert("L")))) > 20
    svg = run / "k.svg"
    assert analysis("kernel", run, "--point", "0,1", "--out", svg).exit_code == 0
    assert "<svg" in svg.read_text()


def test_the_command_says_what_is_wrong(run: Path) -> None:
    for arguments, message in (
        (("--trial", 99), "trial 99 is not in this run"),
        (("--block", "x"), "--block x is not in the network of trial 0; it has stages.0.0.0."),
        (("--point", "9,9"), "must be within"),
        (("--point", "a"), "--point a must be ROW,COLUMN"),
        (("--out", "x.gif"), "must end in .png, .svg or .pdf"),
    ):
        result = analysis("kernel", run, *arguments)
        assert result.exit_code == 2
        assert message in result.stderr
