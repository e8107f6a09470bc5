"""The ChArUco board that cameras are calibrated with: a chessboard whose white squares carry markers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from simreal_envs.errors import UsageError
from simreal_envs.spec import FloatArray

MIN_CORNERS = 6
"""Fewer corners do not make a view."""
MM_PER_INCH = 25.4
PRINT_DPI = 600
_SHARPENED_PX = 5.0
_WINDOW = (6, 6)
"""Half the window in pixels that a corner is refined in: small enough to leave the markers out."""
_PRECISION = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 50, 1e-3)


@dataclass(frozen=True)
class View:
    """A board as one image shows it.

    Attributes:
        ids: (N,) which corners were seen.
        pixels: (N, 2) where, as (u, v); integers are the centres of pixels.
    """

    ids: np.ndarray
    pixels: FloatArray


@dataclass(frozen=True)
class Board:
    """Size and squares of a board; markers are of OpenCV's dictionary 4x4_50.

    Its frame lies at the top left corner, as a reader sees it: x right, y down, z away from the reader.

    Attributes:
        squares: (columns, rows).
        square_m: edge of a square, as measured on the printed board.
        marker_m: edge of a marker.
    """

    squares: tuple[int, int] = (5, 4)
    square_m: float = 0.036
    marker_m: float = 0.027

    @property
    def size_m(self) -> tuple[float, float]:
        """(width, height)."""
        return self.squares[0] * self.square_m, self.squares[1] * self.square_m

    @property
    def corners_m(self) -> FloatArray:
        """(N, 3) positions of the inner corners in the board's frame."""
        return np.asarray(self._opencv.getChessboardCorners(), dtype=np.float64)

    @cached_property
    def _opencv(self) -> Any:
        markers = cv2.aruco.getPredefinedDictionary(cv2.aruco.DICT_4X4_50)
        return cv2.aruco.CharucoBoard(self.squares, self.square_m, self.marker_m, markers)

    def draw(self, pixels_per_square: int) -> np.ndarray:
        """The board without a margin, (H, W) uint8."""
        width, height = (n * pixels_per_square for n in self.squares)
        return np.asarray(self._opencv.generateImage((width, height)))

    def write(self, path: Path) -> None:
        """Write a PNG to print at 100 % (it says how large it is).

        Raises:
            UsageError: another kind of file is asked for, which would not say it, or blur the squares.
        """
        if path.suffix.lower() != ".png":
            raise UsageError(f"The board is a PNG; {str(path)!r} does not end in .png.")
        picture = Image.fromarray(self.draw(round(self.square_m * 1000 / MM_PER_INCH * PRINT_DPI)))
        picture.save(path, dpi=(PRINT_DPI, PRINT_DPI))

    def find(self, colour: np.ndarray, intrinsics: FloatArray) -> View | None:
        """The board in an image (H, W, 3) uint8 RGB; None if too few of its corners are seen."""
        parameters = cv2.aruco.CharucoParameters()
        parameters.cameraMatrix = np.asarray(intrinsics, dtype=np.float64)
        parameters.distCoeffs = np.zeros(5)
        detector = cv2.aruco.CharucoDetector(self._opencv, parameters)
        grey = cv2.cvtColor(colour, cv2.COLOR_RGB2GRAY)
        blurred = cv2.GaussianBlur(grey, (0, 0), _SHARPENED_PX)
        sharp = cv2.addWeighted(grey, 3.0, blurred, -2.0, 0.0)  # finds markers behind a soft lens
        corners, ids, _, _ = detector.detectBoard(sharp)
        if ids is None or len(ids) < MIN_CORNERS:
            return None
        # The detector's corners are half a pixel off to the right and down.
        corners = cv2.cornerSubPix(grey, corners - np.float32(0.5), _WINDOW, (-1, -1), _PRECISION)
        return View(ids.ravel(), corners.reshape(-1, 2).astype(np.float64))
