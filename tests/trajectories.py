"""Scripted flights: camera poses as functions of time, made from a scene's bounding box and home view."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy.interpolate import CubicSpline

from landmark_viewer.core.camera import Camera, as_matrix

ORBIT = 10.0  # degrees per second
TURN = 60.0  # degrees per second
SPEED = 0.1  # scene units per second
REVERSAL = 0.75  # seconds after which an orbit turns back
STOP = 0.7  # seconds after which an orbit rests
LOW_PITCH = -8.0  # degrees, of a low view that nobody states
LOW_SHARE = 0.3  # of the home view's height above the ground, of such a view

Pose = Callable[[float], np.ndarray]  # seconds -> camera to world [4, 4]


@dataclass(frozen=True)
class Place:
    """Where flights start."""

    home: Camera
    low: np.ndarray  # camera to world [4, 4] of a view between houses
    turn: np.ndarray  # of the view from which the camera turns
    pivot: np.ndarray  # what orbits turn about [3]

    @classmethod
    def of(cls, home: Camera, box: np.ndarray, low: np.ndarray | None = None) -> Place:
        """Makes a place from a home view, the scene's box [2, 3], and a view between houses if it has one."""
        pivot = middle_of_view(home.matrix, box)
        if low is None:
            return cls(home, lowered(home.matrix, pivot), home.matrix, pivot)
        return cls(home, low, low, pivot)


@dataclass(frozen=True)
class Trajectory:
    """A flight: where the camera is when, and how it sees."""

    name: str
    pose: Pose
    like: Camera  # size and focal length
    known: bool = False  # the path is known ahead

    def camera(self, seconds: float) -> Camera:
        """Returns the camera at a time."""
        return replace(self.like, c2w=as_matrix(self.pose(seconds)))

    def course(self, seconds: float) -> Ahead | None:
        """Returns what is known of the way after a time."""
        return Ahead(self, seconds) if self.known else None

    def seen_as(self, like: Camera) -> Trajectory:
        """Returns the flight with another size or field of view."""
        return replace(self, like=like)


@dataclass(frozen=True)
class Ahead:
    """A trajectory from some time on: the course of a path that is played."""

    trajectory: Trajectory
    now: float

    def camera_in(self, seconds: float) -> Camera:
        return self.trajectory.camera(self.now + seconds)


def trajectories(place: Place) -> dict[str, Trajectory]:
    """Returns all flights from a place by name."""
    home = place.home.matrix

    def orbit(seconds: float) -> np.ndarray:
        return turned(home, ORBIT * seconds, place.pivot)

    def stop(seconds: float) -> np.ndarray:
        return orbit(min(seconds, STOP))

    def reversal(seconds: float) -> np.ndarray:
        return orbit(REVERSAL - abs(seconds - REVERSAL))

    def turn(seconds: float) -> np.ndarray:
        return turned(place.turn, TURN * seconds)

    poses = {
        "orbit": orbit,
        "forward": forward_from(home),
        "turn": turn,
        "reversal": reversal,
        "low": forward_from(place.low),
        "path": keyed_path(home, place.pivot),
        "stop": stop,
    }
    return {name: Trajectory(name, pose, place.home, known=name == "path") for name, pose in poses.items()}


def middle_of_view(c2w: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Returns where the middle of the picture meets the lower third of the box, or a point near it."""
    eye, forward = c2w[:3, 3], -c2w[:3, 2]
    level = box[0, 2] + (box[1, 2] - box[0, 2]) / 3
    reach = (level - eye[2]) / forward[2] if abs(forward[2]) > 1e-6 else -1.0
    if reach <= 0:
        reach = float(np.linalg.norm(box[1] - box[0])) / 2
    return np.clip(eye + reach * forward, box[0], box[1])


def turned(c2w: np.ndarray, degrees: float, about: np.ndarray | None = None) -> np.ndarray:
    """Turns a pose about the vertical through a point, or through its own eye. [4, 4]"""
    angle = math.radians(degrees)
    rotation = np.eye(3)
    rotation[:2, :2] = [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
    moved = c2w.copy()
    moved[:3, :3] = rotation @ c2w[:3, :3]
    if about is not None:
        moved[:3, 3] = rotation @ (c2w[:3, 3] - about) + about
    return moved


def tilted(c2w: np.ndarray, degrees: float) -> np.ndarray:
    """Turns a pose upwards about its own right axis. [4, 4]"""
    angle = math.radians(degrees)
    rotation = np.eye(4)
    rotation[1:3, 1:3] = [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
    return c2w @ rotation


def level_heading(c2w: np.ndarray) -> np.ndarray:
    """Returns the unit vector along the ground in which a pose looks, or its picture's up from above. [3]"""
    heading = -c2w[:3, 2].copy()
    if math.hypot(heading[0], heading[1]) < 0.3:  # it looks almost straight down
        heading = c2w[:3, 1].copy()
    heading[2] = 0.0
    return heading / np.linalg.norm(heading)


def forward_from(c2w: np.ndarray) -> Pose:
    """Flies level, the way the camera looks."""

    def pose(seconds: float) -> np.ndarray:
        moved = c2w.copy()
        moved[:3, 3] += SPEED * seconds * level_heading(c2w)
        return moved

    return pose


def keyed_path(c2w: np.ndarray, pivot: np.ndarray) -> Pose:
    """A smooth path through keys half a second apart: orbit, climb, look up and down again."""
    seconds = np.array([0.0, 0.5, 1.0, 1.5, 2.0, 2.5])
    orbits = CubicSpline(seconds, [0.0, 2.0, 7.0, 11.0, 13.0, 13.0])  # degrees
    climbs = CubicSpline(seconds, [0.0, 0.01, 0.03, 0.04, 0.03, 0.03])  # scene units
    tilts = CubicSpline(seconds, [0.0, 0.5, 2.0, 1.0, 0.0, 0.0])  # degrees

    def pose(at: float) -> np.ndarray:
        at = min(at, seconds[-1])
        moved = turned(tilted(c2w, float(tilts(at))), float(orbits(at)), pivot)
        moved[2, 3] += float(climbs(at))
        return moved

    return pose


def lowered(c2w: np.ndarray, pivot: np.ndarray) -> np.ndarray:
    """Returns a low, almost level view from the eye's place over what the home view shows. [4, 4]"""
    heading = level_heading(c2w)
    back, right = -heading, np.cross(heading, [0.0, 0.0, 1.0])
    low = np.eye(4)
    low[:3, :3] = np.stack([right, np.cross(back, right), back], axis=1)
    low[:3, 3] = pivot - 0.5 * heading
    low[2, 3] = pivot[2] + LOW_SHARE * (c2w[2, 3] - pivot[2])
    return tilted(low, LOW_PITCH)
