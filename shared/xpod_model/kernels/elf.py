"""An object file's code and constants in memory, ready to run.

As much of a linker as code without references to the outside needs: sections side by side, absolute addresses filled
in (ELF-64, System V ABI for AMD64, "Relocation"). It knows nothing of what the code does.
"""

import ctypes
import mmap
import struct
from dataclasses import dataclass

HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
SECTION = struct.Struct("<IIQQQQIIQQ")
SYMBOL = struct.Struct("<IBBHQQ")
RELOCATION = struct.Struct("<QQq")
MAGIC = b"\x7fELF\x02\x01\x01"
AMD64 = 62
SYMTAB, RELA = 2, 4
ALLOCATED = 2
ABSOLUTE_64 = 1
UNWINDING = ".eh_frame"
PAGE = mmap.PAGESIZE


@dataclass(frozen=True, slots=True)
class _Section:
    name: str
    kind: int
    flags: int
    data: memoryview
    link: int
    info: int
    align: int


class Loaded:
    """Keep it as long as its functions are called. Raises ValueError for an object that it cannot load."""

    def __init__(self, content: bytes) -> None:
        sections = _sections(memoryview(content))
        offsets, size = _layout(sections)
        self._memory = mmap.mmap(-1, size)
        self._base = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))
        for index, offset in offsets.items():
            data = sections[index].data
            self._memory[offset : offset + len(data)] = bytes(data)
        table = next(section for section in sections if section.kind == SYMTAB)
        names = sections[table.link].data
        symbols = list(SYMBOL.iter_unpack(table.data))
        self._addresses = {
            _text(names, name): self._base + offsets[section] + value
            for name, _, _, section, value, _ in symbols
            if name and section in offsets
        }
        for section in sections:
            if section.kind == RELA and section.info in offsets:
                self._relocate(section, offsets, symbols)
        self._protect(size)

    def address(self, name: str) -> int:
        """Where a function lies. Raises KeyError."""
        return int(self._addresses[name])

    def _relocate(
        self, section: _Section, offsets: dict[int, int], symbols: list[tuple[int, int, int, int, int, int]]
    ) -> None:
        for place, info, addend in RELOCATION.iter_unpack(section.data):
            _, _, _, home, value, _ = symbols[info >> 32]
            if info & 0xFFFFFFFF != ABSOLUTE_64 or home not in offsets:
                raise ValueError(f"relocation {info & 0xFFFFFFFF} of section {home} is not known here")
            target = self._base + offsets[home] + value + addend
            struct.pack_into("<Q", self._memory, offsets[section.info] + place, target)

    def _protect(self, size: int) -> None:
        """From now on it can be run and not be written."""
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.mprotect(ctypes.c_void_p(self._base), ctypes.c_size_t(size), mmap.PROT_READ | mmap.PROT_EXEC):
            raise OSError(ctypes.get_errno(), "memory cannot be made executable")


def _sections(content: memoryview) -> list[_Section]:
    if bytes(content[: len(MAGIC)]) != MAGIC:
        raise ValueError("not an ELF-64 object")
    header = HEADER.unpack_from(content)
    machine, begin, count, names_at = header[2], header[6], header[12], header[13]
    if machine != AMD64:
        raise ValueError("not an object for AMD64")
    raw = [SECTION.unpack_from(content, begin + i * SECTION.size) for i in range(count)]
    names = content[raw[names_at][4] :]
    return [
        _Section(_text(names, name), kind, flags, content[offset : offset + size], link, info, align)
        for name, kind, flags, _, offset, size, link, info, align, _ in raw
    ]


def _layout(sections: list[_Section]) -> tuple[dict[int, int], int]:
    """Where each section that is needed at run time goes, and how many bytes all take, in whole pages."""
    offsets, end = {}, 0
    for index, section in enumerate(sections):
        if section.flags & ALLOCATED and len(section.data) and section.name != UNWINDING:
            align = max(1, section.align)
            offsets[index] = -(-end // align) * align
            end = offsets[index] + len(section.data)
    return offsets, -(-end // PAGE) * PAGE


def _text(names: memoryview, at: int) -> str:
    return bytes(names[at : at + 256]).split(b"\0", 1)[0].decode()
