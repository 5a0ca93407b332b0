"""Checks by its segments, without decoding, whether a JPEG file is complete and plain.

When libjpeg gives up on a file (an unknown or broken table, a premature end), MindSpore stops the
pipeline or dies of a signal: SIGFPE, SIGSEGV, SIGABRT and SIGBUS were seen. So this module looks
for everything that libjpeg gives up on. Damaged coded data only makes libjpeg warn and decode
something. Sources: ITU T.81, annex B; libjpeg's `jdmarker.c`, `jdhuff.c` and `jdphuff.c`.
"""

from collections.abc import Callable
from functools import lru_cache

import numpy as np

_SOS, _EOI, _DQT, _DHT, _DRI, _COM = 0xDA, 0xD9, 0xDB, 0xC4, 0xDD, 0xFE
_PROGRESSIVE = 0xC2
_FRAMES = (0xC0, 0xC1, _PROGRESSIVE)  # baseline, extended; all with Huffman coding
_NOTES = frozenset((_COM, *range(0xE0, 0xF0)))
_SAMPLING = frozenset(16 * h + v for h in (1, 2, 4) for v in (1, 2, 4))
_AC = 0x10  # this bit of a Huffman table's number means AC coefficients, not DC
_QUANTISATION = 0x40  # separates these tables from Huffman's in one set


def is_plain_jpeg(data: np.ndarray, check_size: Callable[[int, int], None]) -> bool:
    """Return whether libjpeg decodes a file to its end, to 8-bit grey or three colours.

    The file, (bytes,) uint8, must start as a JPEG; `check_size` gets width and height, and may
    raise.
    """
    view, at, segments = memoryview(data), 2, _Segments(check_size)
    while at + 4 <= len(view) and view[at] == 0xFF:
        marker = view[at + 1]
        after = at + 2 + (view[at + 2] << 8 | view[at + 3])
        if after > len(view) or not segments.accept(marker, view[at + 4 : after]):
            return False
        if marker == _SOS:
            return _scans_are_whole(data, after, segments)
        at = after
    return False


def _scans_are_whole(data: np.ndarray, start: int, segments: "_Segments") -> bool:
    """Follow the coded data from behind the first scan's header to the end of the image.

    In coded data, a byte FF is followed by 0 or a restart marker, until the next segment or the
    end.
    """
    following = data[start + 1 :]
    # FF followed by a byte other than 0: the minimum of (is FF: 0 or 1) and that byte is then 1.
    is_marker = np.minimum((data[start:-1] == 0xFF).view(np.uint8), following).view(bool)
    if not is_marker.size or not is_marker[first := is_marker.argmax()]:
        return False
    if following[first] == _EOI:  # the only scan of most files
        return True
    is_marker &= (following & 0xF8) != 0xD0
    places = np.flatnonzero(is_marker)
    view, segment_end, is_coded = memoryview(data), start, True
    for at, marker in zip((start + places).tolist(), following[places].tolist()):
        if at < segment_end:  # a segment may hold any bytes
            continue
        if at > segment_end and not is_coded:
            return False
        if marker == _EOI:
            return True
        if at + 4 > len(view):
            return False
        segment_end = at + 2 + (view[at + 2] << 8 | view[at + 3])
        if segment_end > len(view) or not segments.accept(marker, view[at + 4 : segment_end]):
            return False
        is_coded = marker == _SOS
    return False


class _Segments:
    def __init__(self, check_size: Callable[[int, int], None]):
        self.check_size = check_size
        self.is_progressive = False
        self.components = {}  # id to (quantisation table, blocks in a group)
        self.tables = set()

    def accept(self, marker: int, content: memoryview) -> bool:
        """Take the next segment; return whether the decoder can continue with it."""
        if marker in _NOTES:
            return True
        if marker in (_DHT, _DQT):
            found = _huffman_tables(bytes(content)) if marker == _DHT else _quantisation(content)
            self.tables.update(found or ())
            return found is not None
        if marker == _SOS:
            return self._accept_scan(content)
        if marker in _FRAMES:
            self.is_progressive = marker == _PROGRESSIVE
            return not self.components and self._accept_frame(content)
        return marker == _DRI and len(content) == 2

    def _accept_frame(self, frame: memoryview) -> bool:
        count = (len(frame) - 6) // 3
        if count not in (1, 3) or len(frame) != 6 + 3 * count or frame[0] != 8 or frame[5] != count:
            return False
        self.check_size(frame[3] << 8 | frame[4], frame[1] << 8 | frame[2])
        for at in range(6, len(frame), 3):
            identity, sampling, table = frame[at : at + 3]
            if sampling not in _SAMPLING or table > 3:
                return False
            self.components[identity] = (_QUANTISATION | table, (sampling >> 4) * (sampling & 15))
        return len(self.components) == count

    def _accept_scan(self, scan: memoryview) -> bool:
        count = (len(scan) - 4) // 2
        if not 1 <= count <= 3 or len(scan) != 4 + 2 * count or scan[0] != count:
            return False
        identities = bytes(scan[1 : 1 + 2 * count : 2])
        if len(set(identities)) != count or not self.components.keys() >= set(identities):
            return False
        parts = [self.components[identity] for identity in identities]
        if count > 1 and sum(blocks for _, blocks in parts) > 10:
            return False
        needed = {table for table, _ in parts}
        first, last, high, low = scan[-3], scan[-2], scan[-1] >> 4, scan[-1] & 15
        if self.is_progressive:
            if not _is_progression(count, band=(first, last), bits=(high, low)):
                return False
            codes_dc, codes_ac = first == 0 and high == 0, first > 0
        else:
            if (first, last, high, low) != (0, 63, 0, 0):
                return False
            codes_dc = codes_ac = True
        for table in scan[2 : 2 + 2 * count : 2]:
            if codes_dc:
                needed.add(table >> 4)
            if codes_ac:
                needed.add(_AC | table & 15)
        return needed <= self.tables


def _is_progression(count: int, band: tuple[int, int], bits: tuple[int, int]) -> bool:
    (first, last), (high, low) = band, bits
    is_band = last == 0 if first == 0 else count == 1 and first <= last <= 63
    return is_band and low <= 13 and (high == 0 or low == high - 1)


@lru_cache(maxsize=256)  # most encoders write the tables of the standard
def _huffman_tables(content: bytes) -> frozenset[int] | None:
    """Return the numbers of the tables that a segment defines, or None if it is broken."""
    found, at = set(), 0
    while at + 17 <= len(content):
        table, counts = content[at], content[at + 1 : at + 17]
        values = content[at + 17 : at + 17 + sum(counts)]
        # No code consists of ones only, so the codes never use the whole space.
        used = sum(count << 15 - index for index, count in enumerate(counts))
        if table & ~_AC > 3 or len(values) < sum(counts) or len(values) > 256 or used >= 1 << 16:
            return None
        if not table & _AC and max(values, default=0) > 15:
            return None
        found.add(table)
        at += 17 + len(values)
    return frozenset(found) if at == len(content) else None


def _quantisation(content: memoryview) -> set[int] | None:
    found, at = set(), 0
    while at < len(content):
        precision, table = content[at] >> 4, content[at] & 15
        if precision > 1 or table > 3:
            return None
        found.add(_QUANTISATION | table)
        at += 65 + 64 * precision
    return found if at == len(content) else None
