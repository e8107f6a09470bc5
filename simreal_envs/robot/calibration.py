"""Where a camera stands on the robot: one JSON file a camera, written by ``simreal calibrate``."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path

import numpy as np

from simreal_envs.errors import DataError
from simreal_envs.folders import config_dir
from simreal_envs.spec import FloatArray

FORMAT = 1


@dataclass(frozen=True)
class Calibration:
    """A camera's pose, and how well the views that it was found from agree.

    Attributes:
        serial: of the camera.
        pose_camera_in_base: (4, 4) of the colour camera, OpenCV axes, metres, robot base frame.
        intrinsics: (3, 3) of the colour stream at 640 x 480, in pixels.
        views: number of images used.
        reprojection_rms_px: root mean square distance of the board's corners from where they should be.
        position_std_m: standard deviation of the camera's position, from the residuals.
        rotation_std_rad: of its orientation.
        date: when it was made, ISO 8601, UTC.
    """

    serial: str
    pose_camera_in_base: FloatArray
    intrinsics: FloatArray
    views: int
    reprojection_rms_px: float
    position_std_m: float
    rotation_std_rad: float
    date: str

    def save(self) -> Path:
        """Write the camera's file, over an older one; returns its path."""
        path = calibration_file(self.serial)
        path.parent.mkdir(parents=True, exist_ok=True)
        fields = asdict(self)
        for name in ("pose_camera_in_base", "intrinsics"):
            fields[name] = fields[name].tolist()
        new = path.with_suffix(".new")
        new.write_text(json.dumps({"format": FORMAT} | fields, indent=2) + "\n")
        new.replace(path)
        return path


def now() -> str:
    """The date of a calibration made at this moment."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def calibration_file(serial: str) -> Path:
    """``$SIMREAL_CONFIG/cameras/<serial>.json``; the folder is ``~/.config/simreal`` by default."""
    return config_dir() / "cameras" / f"{serial}.json"


def load_calibration(serial: str) -> Calibration:
    """The stored calibration of a camera.

    Raises:
        DataError: there is none, or the file is damaged; says how to make one.
    """
    path = calibration_file(serial)
    if not path.is_file():
        raise DataError(
            f"Camera {serial} is not calibrated ({path} does not exist). Run `simreal calibrate held`."
        )
    try:
        fields = json.loads(path.read_text())
        if fields.pop("format") != FORMAT:
            raise ValueError(f"not of format {FORMAT}")
        for name, shape in (("pose_camera_in_base", (4, 4)), ("intrinsics", (3, 3))):
            fields[name] = np.array(fields[name], dtype=np.float64)
            if fields[name].shape != shape or not np.isfinite(fields[name]).all():
                raise ValueError(f"{name} must be {shape} finite numbers")
        return Calibration(**fields)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"Calibration {path} is damaged ({error}). Run `simreal calibrate held` again."
        ) from error
