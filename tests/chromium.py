"""Drives a headless Chromium over its DevTools protocol."""

from __future__ import annotations

import base64
import io
import json
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from websockets.sync.client import connect

PROGRAM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
START_S, ANSWER_S = 30.0, 60.0
FLAGS = (
    "--headless", "--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader",
    "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--hide-scrollbars", "--remote-debugging-port=0",
)  # fmt: skip


class Chromium:
    """One page of a browser that keeps its files in ``folder``.

    Attributes:
        requests: the addresses that the page has asked for.
        complaints: what the page wrote to its console as an error.
    """

    def __init__(self, folder: Path, size: tuple[int, int] = (1280, 800)) -> None:
        assert PROGRAM is not None
        window = f"--window-size={size[0]},{size[1]}"
        self._process = subprocess.Popen(
            [PROGRAM, *FLAGS, window, f"--user-data-dir={folder}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._number, self._is_loaded = 0, False
        self.requests: list[str] = []
        self.complaints: list[str] = []
        port, path = _wait_for_port(folder / "DevToolsActivePort")
        self._socket = connect(f"ws://127.0.0.1:{port}{path}", max_size=None)
        self._session: str | None = None
        target = self._call("Target.createTarget", url="about:blank")
        attached = self._call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self._call(f"{domain}.enable")

    def open(self, url: str) -> None:
        """Open a page and wait until it is loaded; before, it may still change its process."""
        self._is_loaded = False
        self._call("Page.navigate", url=url)
        while not self._is_loaded:
            self._note(json.loads(self._socket.recv(timeout=ANSWER_S)))

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page."""
        result = self._call("Runtime.evaluate", expression=expression, returnByValue=True)
        return result["result"].get("value")

    def click(self, text: str) -> None:
        """Click the button with this text."""
        button = (
            f"[...document.querySelectorAll('button')].find(b => b.textContent.trim() == {json.dumps(text)})"
        )
        assert self.evaluate(f"(b => b && (b.click() || true))({button})"), f"no button {text}"

    def picture(self) -> np.ndarray:
        """What the page looks like: (H, W, 3) uint8."""
        data = self._call("Page.captureScreenshot", format="png")["data"]
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))

    def close(self) -> None:
        """End the browser."""
        self._socket.close()
        self._process.terminate()
        self._process.wait(timeout=START_S)

    def __enter__(self) -> Chromium:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _call(self, method: str, **params: Any) -> dict[str, Any]:
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        self._socket.send(json.dumps(message))
        while True:
            answer = json.loads(self._socket.recv(timeout=ANSWER_S))
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]
            self._note(answer)

    def _note(self, event: dict[str, Any]) -> None:
        params = event.get("params", {})
        if event.get("method") == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif event.get("method") == "Network.webSocketCreated":
            self.requests.append(params["url"])
        elif event.get("method") == "Page.loadEventFired":
            self._is_loaded = True
        elif event.get("method") == "Runtime.exceptionThrown":
            self.complaints.append(str(params["exceptionDetails"]))
        elif event.get("method") == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.complaints.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")


def _wait_for_port(file: Path) -> tuple[str, str]:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if file.exists() and len(lines := file.read_text().split()) == 2:
            return lines[0], lines[1]
        time.sleep(0.05)
    raise TimeoutError(f"Chromium has not started in {START_S:g} s")
