"""Frames to an MP4 that browsers play: H.264 with the colours of HD television."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc

from simreal_envs.errors import UsageError
from simreal_envs.spec import CONTROL_HZ

QUALITY = "18"
"""x264's constant rate factor; below 20 the eye sees no difference. 25 s of a still table take about 1 MB."""

Film = Callable[[np.ndarray], None]
"""Takes the next frame (H, W, 3) uint8 RGB."""


@contextmanager
def mp4_file(path: Path, frames_per_s: int = CONTROL_HZ) -> Iterator[Film]:
    """Film into a file that has its name only once it is complete; an error or Ctrl-C leaves nothing.

    Frames are encoded as they come, and none is kept. The first one says how large all are.

    Raises:
        UsageError: a frame has an odd height or width, or not the size of the first one.
    """
    aside = path.with_suffix(".part")
    try:
        with av.open(aside, "w", format="mp4", options={"movflags": "+faststart"}) as container:
            stream = container.add_stream("libx264", rate=frames_per_s, options={"crf": QUALITY})
            stream.pix_fmt = "yuv420p"  # the one format that every browser plays
            stream.color_range, stream.colorspace = ColorRange.MPEG, Colorspace.ITU709
            stream.color_primaries, stream.color_trc = ColorPrimaries.BT709, ColorTrc.BT709

            def film(image: np.ndarray) -> None:
                height, width, _ = image.shape
                if stream.codec_context.is_open:
                    started = (stream.height, stream.width)
                else:
                    started = stream.height, stream.width = height, width
                if (height, width) != started or height % 2 or width % 2:
                    raise UsageError(
                        f"A frame of {height} x {width} pixels cannot be filmed: all have the size of the "
                        f"first, {started[0]} x {started[1]}, and H.264 takes even heights and widths."
                    )
                frame = av.VideoFrame.from_ndarray(image, format="rgb24")
                shown = frame.reformat(
                    format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG
                )
                container.mux(stream.encode(shown))

            yield film
            container.mux(stream.encode(None))
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
