"""A sorted collection of entries in short pieces: an arrival, a departure and a rank cost the same among a million.

One sorted list would move all that lies behind the place, half a megabyte among 100,000 entries, several times a trial.
"""

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator
from typing import Any

LONGEST = 1024  # entries in a piece: 8 KB move in about 0.2 µs, and 100,000 entries are 100 to 200 pieces

Entry = tuple[Any, ...]


class Ranking:
    """Entries that are all different, smallest first. One writer: whoever owns it.

    >>> ranking = Ranking([(0.5, 1), (0.1, 2)])
    >>> ranking.add((0.3, 3))
    >>> list(ranking), ranking.first, ranking.position((0.5, 1))
    ([(0.1, 2), (0.3, 3), (0.5, 1)], (0.1, 2), 2)
    """

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        ordered = sorted(entries)
        half = LONGEST // 2
        self._pieces = [ordered[start : start + half] for start in range(0, len(ordered), half)]
        self._lasts = [piece[-1] for piece in self._pieces]
        self._size = len(ordered)

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[Entry]:
        for piece in self._pieces:
            yield from piece

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ranking) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]  # it changes

    def __repr__(self) -> str:
        return f"Ranking({list(self)})"

    @property
    def first(self) -> Entry | None:
        """The smallest entry, or None where there is none."""
        return self._pieces[0][0] if self._pieces else None

    def add(self, entry: Entry) -> None:
        """Takes an entry in."""
        if not self._pieces:
            self._pieces, self._lasts = [[]], [entry]
        index = min(bisect_left(self._lasts, entry), len(self._pieces) - 1)
        piece = self._pieces[index]
        insort(piece, entry)
        self._lasts[index] = piece[-1]
        self._size += 1
        if len(piece) > LONGEST:
            half = len(piece) // 2
            self._pieces[index : index + 1] = [piece[:half], piece[half:]]
            self._lasts[index : index + 1] = [piece[half - 1], piece[-1]]

    def remove(self, entry: Entry) -> None:
        """Takes an entry out, which is there."""
        index = bisect_left(self._lasts, entry)
        piece = self._pieces[index]
        del piece[bisect_left(piece, entry)]
        self._size -= 1
        if piece:
            self._lasts[index] = piece[-1]
        else:
            del self._pieces[index], self._lasts[index]

    def position(self, entry: Entry) -> int:
        """Returns how many entries are smaller."""
        index = bisect_left(self._lasts, entry)
        before = sum(map(len, self._pieces[:index]))
        return before + (bisect_left(self._pieces[index], entry) if index < len(self._pieces) else 0)
