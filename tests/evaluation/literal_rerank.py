"""k-reciprocal re-ranking as its definition reads: sets, loops and the full matrix.

Slow on purpose, and independent of the code under test.
"""

import math

import numpy as np


def nearest(row, own, k):
    """The image itself, then its k nearest; equal ones by position."""
    others = sorted((at for at in range(len(row)) if at != own), key=lambda at: (row[at], at))
    return [own, *others][: k + 1]


def reciprocal(matrix, i, k):
    return {j for j in nearest(matrix[i], i, k) if i in nearest(matrix[j], j, k)}


def expanded(matrix, i, k1):
    members = reciprocal(matrix, i, k1)
    result = set(members)
    for j in members:
        more = reciprocal(matrix, j, round(k1 / 2))
        if 3 * len(more & members) > 2 * len(more):
            result |= more
    return result


def rerank(matrix, num_query, k1, k2, share):
    """Re-rank a full matrix (N, N) of distances between queries, then gallery."""
    num = len(matrix)
    d = [[x / (max(row) or 1) for x in row] for row in matrix.astype(np.float64).tolist()]
    encoded = []
    for i in range(num):
        members = expanded(matrix, i, k1)
        total = sum(math.exp(-d[i][j]) for j in members)
        encoded.append([math.exp(-d[i][j]) / total if j in members else 0 for j in range(num)])
    averaged = []
    for i in range(num):
        near = nearest(matrix[i], i, k2 - 1)
        averaged.append([sum(encoded[j][at] for j in near) / len(near) for at in range(num)])
    result = np.empty((num_query, num - num_query))
    for q in range(num_query):
        for g in range(num_query, num):
            least = sum(map(min, averaged[q], averaged[g]))
            most = sum(map(max, averaged[q], averaged[g]))
            result[q, g - num_query] = (1 - share) * (1 - least / most) + share * d[q][g]
    return result
