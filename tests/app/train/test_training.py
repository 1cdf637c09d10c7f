"""Patches, schedule, checkpoints, resuming, and the way from a scan's grid to the network's."""

from __future__ import annotations

import pickle
from dataclasses import replace

import pytest
import torch
from hypothesis import given, strategies as st

from softoverlap.anchors import AnchorWeighting
from softoverlap.app.train import (
    Intensity,
    PatchSampler,
    TrainingConfig,
    TrainingScan,
    build_detector,
    detect,
    save_checkpoint,
    train,
)
from softoverlap.app.train._old import load_checkpoint
from softoverlap.app.train.patches import flip_lesion, window
from softoverlap.app.train.scans import fit_intensity, zoom, zoom_factor, zoom_lesion, zoom_size
from softoverlap.app.train.schedule import learning_rate
from softoverlap.images import Volume
from softoverlap.lesions import lesions_from_mask
from tests.support.detectors import TINY, scan


def painted(lesions, shape):
    mask = torch.zeros(shape)
    for lesion in lesions:
        first, size = lesion.offset.tolist(), lesion.crop.shape
        part = tuple(slice(a, a + n) for a, n in zip(first, size, strict=True))
        mask[part] += lesion.crop
    return mask


def sampler(config=TINY, scans=None):
    scans = scans or [scan()]
    images = [one.image.data for one in scans]
    return PatchSampler(images, [one.lesions for one in scans], config)


def test_a_batch_depends_on_seed_and_step_alone():
    first, again, other = sampler().batch(3), sampler().batch(3), sampler().batch(4)
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1][0]["boxes"], again[1][0]["boxes"])
    assert not torch.equal(first[0], other[0])


@given(step=st.integers(0, 200))
def test_the_lesions_of_a_patch_lie_where_its_image_is_bright(step):
    config = replace(TINY, brightness=0.0, foreground=1.0)
    mask = painted(scan().lesions, (24, 24, 20))
    images, targets = PatchSampler([mask], [scan().lesions], config).batch(step)
    shown = painted(targets[0]["lesions"], (16, 16, 16))
    expected = images[0, 0] if targets[0]["lesions"] else torch.zeros(16, 16, 16)
    assert torch.equal(shown, expected)


@given(axes=st.sets(st.integers(0, 2)))
def test_a_flipped_lesion_is_the_lesion_of_the_flipped_mask(axes):
    lesion, size = scan().lesions[0], (24, 24, 20)
    flipped = flip_lesion(lesion, sorted(axes), size)
    mask = painted([lesion], size).flip(tuple(axes)) if axes else painted([lesion], size)
    (expected,) = lesions_from_mask(mask, spacing=(1.0, 1.0, 1.0))
    assert torch.equal(painted([flipped], size), mask)
    assert torch.equal(flipped.box, expected.box)
    assert torch.allclose(flipped.centre, expected.centre, atol=1e-4)


def test_a_patch_reaches_beyond_a_small_image_with_the_mean():
    patch = window(torch.ones(4, 20, 20), [-6, 2, 10], [16, 16, 16])
    assert patch.shape == (16, 16, 16)
    assert patch.sum() == 4 * 16 * 10
    assert patch[6:10, :, :10].min() == 1


def test_scans_smaller_than_a_patch_and_scans_without_lesions_make_patches():
    images = [torch.zeros(8, 30, 12)]
    patches, targets = PatchSampler(images, [[]], TINY).batch(0)
    assert patches.shape == (1, 1, 16, 16, 16)
    assert targets[0]["boxes"].shape == (0, 6)


@given(done=st.floats(0, 1), warmup=st.floats(0, 1))
def test_the_learning_rate_stays_in_its_range_and_ends_at_zero(done, warmup):
    config = replace(TINY, warmup=warmup)
    assert 0 <= learning_rate(config, done) <= config.learning_rate * (1 + 1e-9)
    if warmup < 1:
        assert learning_rate(config, 1.0) == pytest.approx(0, abs=1e-12)


def test_the_time_limit_ends_a_run_early_with_its_schedule_complete():
    rates, states = [], []
    config = replace(
        TINY, steps=10**6, max_minutes=6 / 60
    )  # one step may take a second on a busy machine

    def note(state):
        rates.append(state.learning_rate)
        states.append(state)

    train([scan()], config, device="cpu", progress=note)
    assert len(states) < 10**5
    assert states[-1].done == 1
    assert rates[-1] < 0.2 * max(rates)


def test_training_lowers_the_loss_on_scans_with_and_without_lesions():
    losses = []
    config = replace(TINY, steps=40, learning_rate=5e-3, batch_size=2)
    scans = [scan(0), scan(1, empty=True)]
    train(scans, config, device="cpu", progress=lambda state: losses.append(state.loss))
    assert sum(losses[-10:]) < 0.8 * sum(losses[:10])


def test_a_resumed_run_ends_with_the_weights_of_an_uninterrupted_one(tmp_path):
    whole = train([scan()], TINY, device="cpu")

    def interrupt(state):
        if state.step == 3:
            import signal

            signal.raise_signal(signal.SIGINT)

    path = tmp_path / "checkpoint.pt"
    with pytest.raises(KeyboardInterrupt):
        train([scan()], TINY, device="cpu", checkpoint=path, progress=interrupt)
    assert load_checkpoint(path, device="cpu").config == TINY
    steps = []
    resumed = train(
        [scan()], TINY, device="cpu", checkpoint=path, resume=True,
        progress=lambda state: steps.append(state.step),
    )  # fmt: skip
    assert steps == [4, 5, 6]
    for name, weights in whole.detector.network.state_dict().items():
        assert torch.equal(weights, resumed.detector.network.state_dict()[name]), name


def test_a_checkpoint_brings_back_the_same_detections(tmp_path):
    model = train([scan()], TINY, device="cpu", checkpoint=tmp_path / "c.pt")
    again = load_checkpoint(tmp_path / "c.pt", device="cpu")
    assert again.spacing == model.spacing
    assert again.intensity == model.intensity
    first, second = detect(model, scan(5).image), detect(again, scan(5).image)
    assert torch.equal(first.box, second.box)
    assert torch.equal(first.heat_map, second.heat_map)


def test_a_checkpoint_of_before_box_weight_keeps_the_weighting_it_was_trained_with(tmp_path):
    path, config = tmp_path / "c.pt", TINY.to_dict() | {"score_target": "existence"}
    del config["box_weight"]
    save_checkpoint(path, build_detector(TINY, (1.0, 1.0, 1.0), Intensity("scan")))
    torch.save({**torch.load(path), "config": config}, path)
    old = load_checkpoint(path, device="cpu")
    assert (old.config.score_target, old.config.box_weight) == ("existence", "quality")
    weighting = AnchorWeighting(target="existence", box_weight="quality")
    assert old.detector.weighting == weighting


def test_an_existing_checkpoint_is_never_replaced_unasked(tmp_path):
    path = tmp_path / "c.pt"
    path.write_bytes(b"mine")
    with pytest.raises(FileExistsError, match="must not exist yet"):
        train([scan()], TINY, device="cpu", checkpoint=path)
    assert path.read_bytes() == b"mine"


def test_a_resumed_run_must_fit(tmp_path):
    path = tmp_path / "c.pt"
    train([scan()], replace(TINY, steps=2), device="cpu", checkpoint=path)
    with pytest.raises(ValueError, match="batch_size must stay 1"):
        train([scan()], replace(TINY, batch_size=2), device="cpu", checkpoint=path, resume=True)
    with pytest.raises(ValueError, match="scans it was started with"):
        train([scan(7)], TINY, device="cpu", checkpoint=path, resume=True)
    longer = train([scan()], TINY, device="cpu", checkpoint=path, resume=True)
    assert longer.config.steps == TINY.steps


def test_a_diverging_training_says_so():
    with pytest.raises(ValueError, match=r"must give finite .* lower learning_rate"):
        train([scan()], replace(TINY, learning_rate=1e30, warmup=0.0), device="cpu")


def test_unreadable_checkpoints_are_named(tmp_path):
    model = build_detector(TINY, (1.0, 1.0, 1.0), Intensity("scan"))
    path = tmp_path / "c.pt"
    save_checkpoint(path, model)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"c\.pt must be a readable checkpoint"):
        load_checkpoint(path)
    torch.save({"weights": {}}, path)
    with pytest.raises(ValueError, match="must be written by softoverlap"):
        load_checkpoint(path)
    path.write_text("not a checkpoint")
    with pytest.raises(ValueError, match="must be a readable checkpoint"):
        load_checkpoint(path)
    with pytest.raises(FileNotFoundError, match="must be a file"):
        load_checkpoint(tmp_path / "none.pt")


@pytest.mark.parametrize(
    "content", [b"\x80\x02.", b".", b"(lp0\n", b"cos\nsystem\n.", b"", b"\x80"]
)
def test_foreign_and_damaged_pickles_are_named(tmp_path, content):
    (tmp_path / "c.pt").write_bytes(content)
    with pytest.raises(ValueError, match=r"c\.pt must be (a readable|written by)"):
        load_checkpoint(tmp_path / "c.pt")


@given(place=st.integers(0, 10**6), value=st.integers(0, 255))
def test_a_pickle_with_a_damaged_byte_is_read_or_named(tmp_path_factory, place, value):
    path = tmp_path_factory.mktemp("pickle") / "c.pt"
    content = bytearray(pickle.dumps({"format": "softoverlap detector", "list": [1, 2.0, "x"]}))
    content[place % len(content)] = value
    path.write_bytes(bytes(content))
    with pytest.raises(ValueError, match=r"c\.pt must"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    "change",
    [
        {"intensity": {"method": "scan", "gain": 2}},
        {"intensity": {"method": "ct"}},
        {"intensity": 3},
        {"config": {**TINY.to_dict(), "batch_size": "four"}},
        {"config": {**TINY.to_dict(), "momentum": 0.9}},
        {"config": 5},
        {"spacing": [1.0, 0.0, 1.0]},
        {"spacing": None},
        {"weights": [1, 2]},
        {"weights": {}},
        {"axes": 7},
    ],
)
def test_a_checkpoint_with_other_settings_is_named(tmp_path, change):
    path = tmp_path / "c.pt"
    save_checkpoint(path, build_detector(TINY, (1.0, 1.0, 1.0), Intensity("scan")))
    torch.save({**torch.load(path), **change}, path)
    with pytest.raises(ValueError, match=r"c\.pt must hold (settings|weights) that fit"):
        load_checkpoint(path)


def test_a_checkpoint_whose_optimizer_is_broken_is_named(tmp_path):
    path = tmp_path / "c.pt"
    train([scan()], replace(TINY, steps=1), device="cpu", checkpoint=path)
    torch.save({**torch.load(path), "optimizer": {}}, path)
    with pytest.raises(ValueError, match=r"c\.pt must hold the optimizer of its training"):
        train([scan()], TINY, device="cpu", checkpoint=path, resume=True)


def test_the_axes_of_the_training_are_kept(tmp_path):
    train([scan()], TINY, device="cpu", checkpoint=tmp_path / "c.pt")
    assert load_checkpoint(tmp_path / "c.pt", device="cpu").axes == "RAS"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"patch_size": 20}, "patch_size must be a multiple of 8"),
        ({"steps": 0}, "steps must be above 0"),
        ({"foreground": 1.5}, r"foreground must lie in \[0, 1\]"),
        ({"learning_rate": float("nan")}, "learning_rate must be above 0"),
        ({"max_minutes": -1.0}, "max_minutes must be above 0 or None"),
        ({"intensity": "ct"}, "intensity must be one of"),
        ({"spacing": (1.0, 0.0, 1.0)}, "spacing must hold three lengths"),
        ({"seed": -1}, "seed must be at least 0"),
        ({"score_target": "soft"}, "target must be one of"),
        ({"box_weight": "iou"}, "box_weight must be one of"),
    ],
)
def test_settings_out_of_range_are_named(settings, words):
    with pytest.raises(ValueError, match=words):
        TrainingConfig(**settings)


def test_there_must_be_something_to_train_on_and_a_device_to_train_with():
    with pytest.raises(ValueError, match="at least one scan"):
        train([], TINY)
    with pytest.raises(ValueError, match="device must be auto, cpu"):
        train([scan()], TINY, device="abacus")


def test_a_linear_ramp_is_resampled_exactly():
    ramp = (torch.arange(20) + 0.5)[:, None, None].expand(20, 6, 6).contiguous()
    factor = (0.5, 1.0, 2.0)
    size = zoom_size(ramp.shape, factor)
    assert size == (40, 6, 3)
    expected = (torch.arange(40) + 0.5) * 0.5
    assert torch.allclose(zoom(ramp, factor, size)[1:-1, 2, 1], expected[1:-1], atol=1e-5)


def test_the_same_spacing_leaves_a_scan_as_it_is():
    factor = zoom_factor((1.0, 1.0, 1.004), (1.0, 1.0, 1.0))
    data = torch.rand(4, 5, 6, generator=torch.Generator().manual_seed(0))
    assert zoom(data, factor, data.shape) is data


def test_a_resampled_lesion_lies_where_the_resampled_mask_says():
    lesion = scan(spacing=(1.0, 1.0, 2.0)).lesions[0]
    factor = zoom_factor((1.0, 1.0, 2.0), (1.0, 1.0, 1.0))
    moved = zoom_lesion(lesion, factor)
    mask = zoom(painted([lesion], (24, 24, 20)), factor, (24, 24, 40), padding="zeros")
    assert moved.crop.sum() == pytest.approx(mask.sum().item(), rel=1e-3)
    assert torch.equal(moved.box, lesion.box * torch.tensor([1.0, 1, 2, 1, 1, 2]))
    assert torch.allclose(painted([moved], (24, 24, 40)), mask, atol=1e-5)


def test_detections_come_back_on_the_native_grid():
    model = build_detector(replace(TINY, score_threshold=0.0), (1.0, 1.0, 1.0), Intensity("scan"))
    found = detect(model, scan(spacing=(1.0, 2.0, 0.8)).image)
    assert found.heat_map.shape == (24, 24, 20)
    assert 0 <= found.heat_map.min() <= found.heat_map.max() <= 1
    assert len(found.box) > 0
    assert (found.box >= 0).all()
    assert (found.box[:, 3:] <= torch.tensor([24.0, 24, 20])).all()


@pytest.mark.slow
def test_the_heat_map_is_hottest_at_the_best_box():
    model = train([scan()], replace(TINY, steps=150, learning_rate=5e-3), device="cpu")
    found = detect(model, scan(3).image)
    centre = (found.box[0, :3] + found.box[0, 3:]) / 2
    hottest = torch.stack(torch.where(found.heat_map == found.heat_map.max()))[:, 0]
    assert (centre - hottest).abs().max() < 6
    assert found.heat_map.max() == pytest.approx(found.scores[0].item(), rel=0.35)


def test_fixed_intensities_come_from_the_training_set():
    intensity = fit_intensity([scan(0), scan(1)], "fixed")
    assert intensity.mean == pytest.approx(100, abs=1.5)
    doubled = Intensity("fixed", intensity.mean, 2 * intensity.spread)
    data = scan(2).image.data
    assert torch.allclose(intensity(data), 2 * doubled(data), atol=1e-5)


def test_a_constant_scan_is_normalised_to_zero():
    assert torch.equal(Intensity("scan")(torch.full((4, 4, 4), 7.0)), torch.zeros(4, 4, 4))


def test_a_scan_with_nan_is_refused():
    image = scan().image
    model = build_detector(TINY, (1.0, 1.0, 1.0), Intensity("scan"))
    with pytest.raises(ValueError, match="image must hold finite intensities"):
        detect(model, Volume(image.data * float("nan"), image.affine))


def turned(one):
    """The scan as if it were stored with two axes the other way round."""
    return TrainingScan("turned", Volume(one.image.data, one.image.affine * FLIP), one.lesions)


FLIP = torch.tensor([[-1.0], [-1], [1], [1]], dtype=torch.float64)
AXES = "have voxel axes that do not point to RAS"


def test_a_training_scan_in_another_axis_order_is_named():
    with pytest.warns(UserWarning, match=f"1 scans, first turned, {AXES}"):
        model = train([scan(0), scan(1), turned(scan(2))], TINY, device="cpu")
    assert model.axes == "RAS"
