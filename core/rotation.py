"""Rotations as vectors: along the axis, as long as the angle in radians."""

from __future__ import annotations

import math

import numpy as np


def rotation_vector(rotation: np.ndarray) -> np.ndarray:
    """Returns the vector of a rotation matrix [3, 3]; of one close to a half turn only its length counts."""
    skew = np.array(
        [rotation[2, 1] - rotation[1, 2], rotation[0, 2] - rotation[2, 0], rotation[1, 0] - rotation[0, 1]]
    )
    angle = math.acos(min(max((float(np.trace(rotation)) - 1) / 2, -1.0), 1.0))
    sine = float(np.linalg.norm(skew))
    if sine < 1e-12:
        return np.array([angle if angle > 1 else 0.0, 0.0, 0.0])
    return skew * (angle / sine)


def rotation(turn: np.ndarray) -> np.ndarray:
    """Returns the rotation matrix of a vector [3]. [3, 3]"""
    angle = float(np.linalg.norm(turn))
    if angle == 0:
        return np.eye(3)
    cross = cross_matrix(turn / angle)
    matrix: np.ndarray = np.eye(3) + math.sin(angle) * cross + (1 - math.cos(angle)) * (cross @ cross)
    return matrix


def cross_matrix(vector: np.ndarray) -> np.ndarray:
    """Returns the matrix that takes a vector to the cross product of another with it. [3, 3]"""
    x, y, z = vector
    return np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
