"""MP4 files: every frame, at the right time, in the right colours; whole or not there."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from demonstrations import write_dataset
from films import read_mp4
from typer.testing import CliRunner

from simreal_agents.mp4 import mp4_file
from simreal_cli.main import app
from simreal_datasets.store.dataset import Dataset
from simreal_envs.errors import UsageError
from simreal_envs.features import ObservationSpec
from simreal_envs.spec import CONTROL_HZ

COLOURS = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0), (200, 40, 90), (128, 128, 128)]


def test_every_frame_comes_back_in_its_colour(tmp_path: Path) -> None:
    path = tmp_path / "colours.mp4"
    with mp4_file(path, frames_per_s=5) as film:
        for colour in COLOURS:
            film(np.full((48, 64, 3), colour, np.uint8))
    shown, fps = read_mp4(path)
    assert fps == 5
    wanted = np.broadcast_to(np.array(COLOURS)[:, None, None], shown.shape)
    assert np.abs(shown.astype(int) - wanted).max() <= 3


def test_the_file_is_what_browsers_play(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with mp4_file(path) as film:
        film(np.zeros((48, 64, 3), np.uint8))
    with av.open(path) as container:
        codec = container.streams.video[0].codec_context
        assert (codec.name, codec.pix_fmt) == ("h264", "yuv420p")
        assert (int(codec.colorspace), int(codec.color_primaries), int(codec.color_trc)) == (
            1,
            1,
            1,
        )  # BT.709
    content = path.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")  # it starts to play before all of it is there


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_interrupted_film_leaves_nothing_and_keeps_the_one_before(tmp_path: Path, error: type) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"before")
    with pytest.raises(error), mp4_file(path) as film:  # noqa: PT012
        for _ in range(100):
            film(np.zeros((48, 64, 3), np.uint8))
        assert path.read_bytes() == b"before"
        raise error
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [b"before"]


@pytest.mark.parametrize("sizes", [[(48, 63)], [(47, 64)], [(48, 64), (48, 66)]])
def test_frames_that_cannot_be_encoded_are_refused(tmp_path: Path, sizes: list[tuple[int, int]]) -> None:
    frames = [np.zeros((*size, 3), np.uint8) for size in sizes]
    with pytest.raises(UsageError, match="cannot be filmed"), mp4_file(tmp_path / "a.mp4") as film:
        list(map(film, frames))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("size", "factor"), [((15, 21), 32), ((9, 11), 54)])
def test_a_recorded_episode_is_filmed_with_all_its_cameras(
    tmp_path: Path, size: tuple[int, int], factor: int
) -> None:
    shown = ObservationSpec(("image", "depth"), size, ("agentview", "wrist"))
    path = tmp_path / "out" / "1.mp4"
    write_dataset(tmp_path / "data", 2, shown=shown)
    command = ["data", "video", str(tmp_path / "data"), "--episode", "1", "--output", str(path)]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    episode = Dataset(tmp_path / "data").read(1)
    images = [episode.observations[f"{camera}_image"] for camera in ("agentview", "wrist")]
    wanted = np.concatenate(images, axis=2).astype(int)
    frames, fps = read_mp4(path)
    assert (frames.shape, fps) == ((len(wanted), size[0] * factor, 2 * size[1] * factor, 3), CONTROL_HZ)
    middles = frames[:, factor // 2 :: factor, factor // 2 :: factor].astype(int)
    assert np.abs(middles - wanted).mean() < 25  # of noise, which H.264 is not made for; by chance 85


def test_episodes_that_cannot_be_filmed_are_refused(tmp_path: Path) -> None:
    write_dataset(tmp_path / "states", 1, shown=ObservationSpec(("state",)))
    for arguments, message in (
        ((), "holds no images to film"),
        (("--episode", "7"), "has no episode 7. Valid: 0."),
    ):
        command = ["data", "video", str(tmp_path / "states"), "--output", str(tmp_path / "a.mp4"), *arguments]
        result = CliRunner().invoke(app, command)
        assert result.exit_code == 2
        assert message in " ".join(result.output.split())
    assert not (tmp_path / "a.mp4").exists()
