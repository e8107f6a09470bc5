"""What libfranka's messages mean, and what to do about them."""

from __future__ import annotations

import re

_ON_CONNECTING = (
    (
        "Connection to FCI refused",
        "nothing listens at {host}: unlock the joints and activate FCI in Desk, or check the address",
    ),
    (
        "TCP connection got interrupted",
        "{host} closed the connection at once: another client, perhaps a program still running, holds it",
    ),
    ("Incompatible library version", "{host} speaks another protocol version than libfranka 0.9 (5)"),
    ("UDP receive: Timeout", "{host} answers but its states do not arrive: a firewall blocks UDP"),
    ("Connection timeout", "no answer from {host}: check cable, address and that the controller is on"),
    ("No route to host", "no route to {host}: check cable and network settings"),
    ("Host not found", "no machine is called {host}"),
)

_IN_MOTION = (
    ("UDP receive: Timeout", "link lost: the robot's states no longer arrive"),
    ("TCP connection got interrupted", "link lost: the robot closed the connection"),
    ("server closed connection", "link lost: the robot closed the connection"),
    ("User Stop", "user stop: the external activation device was pressed"),
    (
        "unable to set realtime scheduling",
        "no permission for real-time priority: give the user rtprio 99 in /etc/security/limits.conf",
    ),
)

LINK_LOST = "link lost"


def on_connecting(error: Exception, host: str) -> str:
    """Why a connection failed, with libfranka's own words."""
    for pattern, meaning in _ON_CONNECTING:
        if pattern in str(error):
            return f"{meaning.format(host=host)} ({_own_words(error)})"
    return f"cannot connect to {host}: {_own_words(error)}"


def in_motion(error: Exception) -> str:
    """Why a motion ended. A reflex is named with its errors: ``reflex (joint_reflex)``."""
    text = _own_words(error)
    if reflex := re.search(r"aborted by reflex!\s*\[(.*?)\]", text):
        return f"reflex ({error_names(reflex[1])})"
    for pattern, meaning in _IN_MOTION:
        if pattern in text:
            return f"{meaning} ({text})"
    return text


def error_names(listed: str) -> str:
    """libfranka's ``["joint_reflex"]`` as plain words."""
    return re.sub(r'[\[\]"]', "", listed) or "no error named"


def _own_words(error: Exception) -> str:
    return " ".join(str(error).removeprefix("libfranka:").split())
