"""Read NCMEC's hash sharing answers: <image> and <video> entries with their <fingerprints>.

    <image><member id="42"/><id>image1</id><fingerprints><md5>...</md5><pdna>...</pdna></...>
    <deletedImage><member id="42"/><id>image1</id></deletedImage>     takes image1 of member 42 back

The file is streamed. A document type is refused: it could define entities, and no answer has one.
Source: NCMEC, Hash Sharing API v2, "Working with Large Fingerprints" and the query results that
python-threatexchange's tests quote; v1 has the same elements in other namespaces.
"""

from __future__ import annotations

import xml.parsers.expat
from collections.abc import Iterator, Mapping
from pathlib import Path

from curate.stages.matching.list_fields import FINGERPRINTS
from curate.stages.matching.list_kinds import Entry, parse_entry
from curate.stages.matching.list_lines import LineError

_CHUNK_BYTES = 1 << 20
_ENTRIES = ("image", "video", "deletedimage", "deletedvideo")
_MARK = "\n"  # between namespace and name: no name has one


def read_xml(path: Path, kind: str) -> Iterator[Entry]:
    """Yield the fingerprints of every entry; each says its kind, `kind` is not asked."""
    answer = _Answer()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            answer.feed(chunk, is_last=False)
            yield from answer.take()
        answer.feed(b"", is_last=True)
        yield from answer.take()


class _Answer:
    """Follow an answer element by element, in memory of one entry and what was not yet taken."""

    def __init__(self) -> None:
        self._parser = xml.parsers.expat.ParserCreate(namespace_separator=_MARK)
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._characters
        self._parser.StartDoctypeDeclHandler = self._refuse
        self._path: list[str] = []
        self._text: list[str] = []
        self._entries: list[Entry] = []
        self._hashes: list[Entry] = []
        self._owner: dict[str, str] = {}

    def feed(self, data: bytes, *, is_last: bool) -> None:
        """Parse the next bytes.

        Raises:
            LineError: they are no XML, or no entry.
        """
        try:
            self._parser.Parse(data, is_last)
        except xml.parsers.expat.ExpatError as error:
            words = xml.parsers.expat.ErrorString(error.code)
            raise LineError(error.lineno, "XML", words) from error

    def take(self) -> list[Entry]:
        """Give the entries that are complete, once."""
        taken, self._entries = self._entries, []
        return taken

    def _start(self, name: str, attributes: Mapping[str, str]) -> None:
        self._path.append(name.rpartition(_MARK)[2].lower())
        self._text = []
        if self._path[-1] in _ENTRIES:
            self._hashes, self._owner = [], {}
        elif self._path[-1] == "member" and self._path[-2:-1] and self._path[-2] in _ENTRIES:
            self._owner["member"] = attributes.get("id", "")

    def _characters(self, text: str) -> None:
        self._text.append(text)

    def _end(self, name: str) -> None:
        own, text = self._path.pop(), "".join(self._text).strip()
        self._text = []
        parent = self._path[-1] if self._path else ""
        if parent == FINGERPRINTS:
            self._hashes.append(self._fingerprint(own, text))
        elif own == "id" and parent in _ENTRIES:
            self._owner["id"] = text
        elif own == FINGERPRINTS and parent not in _ENTRIES:
            raise self._error(f"fingerprints of an entry ({', '.join(_ENTRIES[:2])})", parent)
        elif own in _ENTRIES:
            self._close(own)

    def _fingerprint(self, name: str, text: str) -> Entry:
        try:
            return parse_entry(name, text, "")
        except ValueError as error:
            raise self._error(str(error), text) from error

    def _close(self, name: str) -> None:
        owner = "/".join(filter(None, (self._owner.get("member"), self._owner.get("id"))))
        if name.startswith("deleted"):
            if not owner:
                raise self._error("a deleted entry with its id", "none")
            self._entries.append(Entry("", b"", owner, withdrawn=True))
        elif not self._hashes:
            self._hashes = [Entry("no_fingerprint", b"")]  # counted and said
        self._entries += [entry._replace(owner=owner) for entry in self._hashes]
        self._hashes = []

    def _refuse(self, *_: object) -> None:
        raise self._error("XML without a document type", "one")

    def _error(self, rule: str, text: str) -> LineError:
        return LineError.at(self._parser.CurrentLineNumber, rule, text)
