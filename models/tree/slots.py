"""Where the nodes of a shower are kept while it is drawn.

A node is needed from the wave that makes it to the last one that looks at it. Then its place serves another:
972 places are enough for the 12,915 nodes of 45 layers of 9 rings of 16 bins, and stay in a processor's cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heappop, heappush

import numpy as np

from caloforge.models.tree.layout import IntArray, Layout


@dataclass(frozen=True)
class WaveNodes:
    """Nodes of a wave.

    Attributes:
        read: that are looked at, or split.
        made: the halves.
    """

    read: IntArray
    made: IntArray


@dataclass(frozen=True)
class Slots:
    """A slot for each node.

    Attributes:
        of: (M + 1,) the slot of each node; :attr:`nothing` for "no node", which is never filled.
        nothing: number of slots that are filled.
    """

    of: IntArray
    nothing: int


def find_slots(layout: Layout, waves: Sequence[WaveNodes]) -> Slots:
    """Give each node a slot that no other node has while both are needed.

    A wave reads all that it needs before it fills its halves, so these may take the place of what it read last.
    """
    slot = np.full(layout.nothing + 1, -1)
    slot[layout.layer_node] = np.arange(len(layout.layer_node))
    used = len(layout.layer_node)
    last = np.full(layout.nothing + 1, -1)
    for number, wave in enumerate(waves):
        last[wave.read] = number
    free: list[int] = []
    for number, wave in enumerate(waves):
        read = np.unique(wave.read)
        for node in read[(last[read] == number) & (read != layout.nothing)]:
            heappush(free, int(slot[node]))
        for node in wave.made:
            if free:
                slot[node] = heappop(free)
            else:
                slot[node], used = used, used + 1
        for node in wave.made[last[wave.made] < number]:  # nobody will look at it
            heappush(free, int(slot[node]))
    slot[layout.nothing] = used
    return Slots(slot, used)
