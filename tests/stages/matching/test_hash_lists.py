"""Lists of hashes are read whole or refused by line; nothing is left out in silence."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curate.core.errors import ConfigError, DataError
from curate.stages.matching import hash_lists
from curate.stages.matching.blocklist_config import BlocklistConfig, ListConfig
from curate.stages.matching.exact_index import find_listed
from curate.stages.matching.hash_lists import HashList, digest_list, load_list
from curate.stages.matching.list_formats import read_entries
from curate.stages.matching.list_kinds import KINDS, Entry

MD5 = "a1" * 16
SHA1 = "b2" * 20
SHA256 = "c3" * 32
PDQ = "f8f8f0cee0f4a84f06370a22038f63f0b36e2ed596621e1d33e6b39c4e9c9b22"

NCMEC = f"""<?xml version="1.0" encoding="UTF-8" standalone="yes"?>
<queryResult xmlns="https://hashsharing.ncmec.org/hashsharing/v2">
    <images count="2" maxTimestamp="2017-10-24T15:10:00Z">
        <image>
            <member id="42">Example Member</member>
            <timestamp>2017-10-24T15:00:00Z</timestamp>
            <id>image1</id>
            <classification>A1</classification>
            <fingerprints>
                <md5>{MD5.upper()}</md5>
                <sha1>{SHA1}</sha1>
                <pdna>a1a1a1a1a1a1a1a1...</pdna>
                <videntifier rel="self" href="/v2/image1" />
            </fingerprints>
            <feedback><affirmativeFeedback type="Md5"><members>
                <member id="7">Another</member>
            </members></affirmativeFeedback></feedback>
        </image>
        <image>
            <member id="43">Example Member 2</member>
            <id>image4</id>
            <fingerprints><md5>{"d4" * 16}</md5></fingerprints>
        </image>
        <deletedImage>
            <member id="43">Example Member 2</member>
            <id>image4</id>
            <timestamp>2017-10-24T15:10:00Z</timestamp>
        </deletedImage>
    </images>
    <videos count="1"><video>
        <member id="42">Example Member</member><id>video1</id>
        <fingerprints><sha1>{"e5" * 20}</sha1></fingerprints>
    </video></videos>
    <paging><next>/v2/entries?start=2001&amp;size=1000</next></paging>
</queryResult>
"""
STOPNCII = {
    "count": 3,
    "nextPageToken": "W3si",
    "hasMoreRecords": False,
    "hashRecords": [
        {"hashValue": PDQ, "signalType": "ImagePDQ", "hashStatus": "Received",
         "caseNumbers": {"27664732": "Received"}},
        {"hashValue": MD5, "signalType": "VideoMD5", "hashStatus": "Active"},
        {"hashValue": "0f" * 32, "signalType": "ImagePDQ", "hashStatus": "Active"},
        {"hashValue": "0f" * 32, "signalType": "ImagePDQ", "hashStatus": "Withdrawn"},
        {"hashValue": "x" * 80, "signalType": "VideoTMK", "hashStatus": "Active"},
    ],
}  # fmt: skip
THREATEXCHANGE = {
    "data": [
        {"id": "1", "indicator": PDQ, "type": "HASH_PDQ", "should_delete": False},
        {"id": "2", "raw_indicator": MD5, "type": "HASH_MD5", "status": "MALICIOUS"},
        {"id": "3", "indicator": {"id": "9", "indicator": SHA1, "type": "HASH_SHA1"}},
        {"id": "4", "indicator": SHA256, "type": "HASH_SHA256"},
        {"id": "5", "indicator": "ab" * 32, "type": "HASH_SHA256"},
        {"id": "5", "should_delete": True},
        {"id": "6", "raw_indicator": "cd" * 16, "type": "HASH_MD5", "status": "NON_MALICIOUS"},
        {"id": "7", "indicator": "https://example.com", "type": "URI"},
    ],
    "paging": {"cursors": {"after": "x"}},
}


def load(path: Path, **options: object) -> HashList:
    return load_list("watch", ListConfig(path=str(path), purpose="harm", **options))  # type: ignore[arg-type]


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_bytes(text.encode())
    return path


def hashes(found: HashList) -> dict[str, list[str]]:
    return {kind: [row.tobytes().hex() for row in own] for kind, own in found.digests.items()}


def test_plain_lines_go_by_length_and_by_the_type_before_them(tmp_path: Path) -> None:
    text = f"# a list\n{MD5}\n{SHA1}  # a comment\n\npdq {PDQ}\nsha256: {SHA256}\nHASH_MD5 {MD5}\n"
    assert hashes(load(write(tmp_path, "a.txt", text))) == {
        "md5": [MD5], "sha1": [SHA1], "sha256": [SHA256], "pdq": [PDQ],
    }  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        f"\ufeff{MD5}\n",
        f"{MD5}\r\n",
        f"{MD5.upper()}",
        f"  {MD5}\t\n",
        f"\u00a0{MD5}\u00a0\n",
        f"{MD5}\r",
        f"{MD5}\n{MD5.upper()}\n",
    ],
    ids=["mark", "crlf", "upper", "white", "no-break", "cr", "twice"],
)
def test_case_white_space_line_ends_and_byte_order_mark_do_not_count(
    tmp_path: Path, text: str
) -> None:
    assert hashes(load(write(tmp_path, "a.txt", text))) == {"md5": [MD5]}


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (MD5[:-1], "a hash of 32, 40 or 64 hex characters"),
        ("g" * 32, "md5 of 32 hex characters"),
        (PDQ, "of a said type, for 64 characters may be sha256 or pdq"),
        (f"mdfive {MD5}", "of a known type"),
        (f"sha1 {MD5}", "sha1 of 40 hex characters"),
        (f"{MD5} {SHA1}", "of a known type"),
        (f"{MD5[:16]}\u200b{MD5[16:]}", "a hash of"),
        (f"{MD5},{SHA1}", "a hash of"),
        (f"md5 {MD5[:15]} {MD5[15:31]}", "md5 of 32"),
        (f"md5 {MD5}a1", "md5 of 32"),
    ],
)
def test_a_malformed_line_is_named_by_file_and_number(tmp_path: Path, line: str, says: str) -> None:
    path = write(tmp_path, "a.txt", f"# first\n{SHA1}\n{line}\n{MD5}\n")
    with pytest.raises(DataError) as caught:
        load(path)
    assert str(caught.value).startswith(f"{path}: line 3 must be ")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert line not in str(caught.value)  # a log is no copy of the list


def test_sixtyfour_characters_are_what_the_list_says(tmp_path: Path) -> None:
    path = write(tmp_path, "a.txt", f"{PDQ}\n")
    assert hashes(load(path, kind="pdq")) == {"pdq": [PDQ]}
    assert hashes(load(path, kind="sha256")) == {"sha256": [PDQ]}
    own = write(tmp_path, "b.txt", f"pdq {PDQ}\n")  # what a line says of itself goes first
    assert hashes(load(own, kind="sha256")) == {"pdq": [PDQ]}


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("md5", ["HASH_MD5", "HASH_VIDEO_MD5", "ImageMD5", "VideoMD5", "video_md5"]),
        ("sha1", ["HASH_SHA1", "SHA-1"]),
        ("sha256", ["HASH_SHA256", "HASH_VIDEO_SHA256", "sha_256"]),
        ("pdq", ["HASH_PDQ", "ImagePDQ", "pdq"]),
    ],
)
def test_kinds_are_known_by_the_names_that_exchanges_give_them(
    tmp_path: Path, kind: str, names: list[str]
) -> None:
    digest = "0f" * KINDS[kind]
    for name in names:
        found = load(write(tmp_path, "a.csv", f"hash,type\n{digest},{name}\n"))
        assert hashes(found) == {kind: [digest]}


def test_a_hash_beside_fields_of_other_kinds_hides_none_of_them(tmp_path: Path) -> None:
    text = f"hash,type,md5,sha1\n{PDQ},pdq,{MD5},\n"
    assert hashes(load(write(tmp_path, "a.csv", text))) == {"md5": [MD5], "pdq": [PDQ]}
    record = {"fingerprints": {"md5": MD5}, "sha1": SHA1, "hash": PDQ, "type": "pdq"}
    found = load(write(tmp_path, "a.json", json.dumps([record])))
    assert hashes(found) == {"md5": [MD5], "sha1": [SHA1], "pdq": [PDQ]}


@pytest.mark.parametrize(
    "text",
    [
        f"indicator,type,tags\n{MD5},HASH_MD5,a\n{PDQ},HASH_PDQ,\n",
        f"Signal_Type;Signal_Str\npdq;{PDQ}\nmd5;{MD5}\n",
        f"\ufeffmd5\tpdq\tname\n{MD5}\t\tone\n\t{PDQ}\ttwo\n",
        f'hash,hash_type\r\n"{MD5}",md5\r\n\r\n"{PDQ}",pdq\r\n',
    ],
    ids=["threatexchange", "dataset", "columns", "quoted"],
)
def test_csv_columns_are_found_by_their_names(tmp_path: Path, text: str) -> None:
    assert hashes(load(write(tmp_path, "a.csv", text))) == {"md5": [MD5], "pdq": [PDQ]}


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        (f"{MD5}\n{MD5}\n", 1, "a header with a column"),
        ("", 1, "a header with a column"),
        (f"hash,type\n{MD5},md5\n{MD5}\n", 3, "2 cells"),
        (f"hash,type\n{MD5},md5,{MD5}\n", 2, "2 cells, .* got 3"),
        (f"hash,type\n{MD5},md5\n,md5\n", 3, "a record with a hash"),
        (f"hash,type\n{MD5},md5\n{MD5},sha1\n", 3, "sha1 of 40"),
        (f"md5,name\n{MD5},a\n,b\n", 3, "a record with a hash"),
        (f'hash,type\n{MD5},md5\n"{MD5},md5\n', 3, "a row of CSV"),
    ],
)
def test_a_broken_row_of_csv_is_named(tmp_path: Path, text: str, line: int, says: str) -> None:
    with pytest.raises(DataError, match=rf"a\.csv: line {line} must be .*{says}"):
        load(write(tmp_path, "a.csv", text))


def test_ncmec_entries_are_matched_but_for_photodna_which_is_counted(tmp_path: Path) -> None:
    found = load(write(tmp_path, "entries.xml", NCMEC))
    assert hashes(found) == {"md5": [MD5], "sha1": sorted([SHA1, "e5" * 20])}
    assert found.unmatchable == {"photodna": 1, "proprietary": 1}
    assert found.num_withdrawn == 1
    assert "1 photodna" in found.describe()


def test_a_deleted_entry_takes_back_only_what_its_owner_gave_before(tmp_path: Path) -> None:
    again = NCMEC.replace(
        "</images>",
        '<image><member id="43"/><id>image4</id><fingerprints>'
        f"<md5>{'d4' * 16}</md5></fingerprints></image></images>",
    )
    found = load(write(tmp_path, "entries.xml", again))
    assert hashes(found)["md5"] == [MD5, "d4" * 16]
    gone = NCMEC.replace(
        "</images>",
        '<deletedImage><member id="42"/><id>image1</id></deletedImage></images>',
    )  # whose feedback names another member
    found = load(write(tmp_path, "entries.xml", gone))
    assert hashes(found) == {"sha1": ["e5" * 20]}


@pytest.mark.parametrize(
    ("change", "line", "says"),
    [
        ((MD5.upper(), MD5[:-2]), 10, "md5 of 32"),
        (("<pdna>", "<pdnb>"), 12, "XML"),
        (('<?xml version="1.0" encoding="UTF-8" standalone="yes"?>', "<!DOCTYPE a []>"), 1, "type"),
        (("</queryResult>", ""), 36, "XML"),
        (("video>", "clip>"), 32, "fingerprints of an entry .*'clip'"),
    ],
    ids=["hash", "tag", "doctype", "cut", "entry"],
)
def test_broken_xml_is_named_by_its_line(
    tmp_path: Path, change: tuple[str, str], line: int, says: str
) -> None:
    path = write(tmp_path, "entries.xml", NCMEC.replace(*change))
    with pytest.raises(DataError, match=rf"entries\.xml: line {line} must be .*{says}"):
        load(path)


def test_ncmec_entries_may_come_as_json(tmp_path: Path) -> None:
    entries = [
        {"id": "image1", "member_id": 42, "fingerprints": {"md5": MD5, "PDNA": "abc"}},
        {"id": "image2", "member_id": 42, "fingerprints": {"sha1": SHA1}},
        {"id": "image2", "member_id": 42, "deleted": True, "fingerprints": {}},
    ]
    found = load(write(tmp_path, "a.json", json.dumps({"images": entries})))
    assert hashes(found) == {"md5": [MD5]}
    assert (found.unmatchable, found.num_withdrawn) == ({"photodna": 1}, 1)


def test_stopncii_records_are_read_and_withdrawn_ones_left_out(tmp_path: Path) -> None:
    found = load(write(tmp_path, "a.json", json.dumps(STOPNCII, indent=1)))
    assert hashes(found) == {"md5": [MD5], "pdq": [PDQ]}
    assert (found.unmatchable, found.num_withdrawn) == ({"video": 1}, 1)


def test_threatexchange_updates_and_descriptors_are_read(tmp_path: Path) -> None:
    found = load(write(tmp_path, "a.json", json.dumps(THREATEXCHANGE)))
    assert hashes(found) == {"md5": [MD5], "sha1": [SHA1], "sha256": [SHA256], "pdq": [PDQ]}
    assert found.unmatchable == {"non_malicious": 1, "no_hash": 1}
    assert found.num_withdrawn == 1


def test_records_may_stand_one_a_line(tmp_path: Path) -> None:
    lines = "".join(json.dumps(record) + "\n" for record in THREATEXCHANGE["data"])
    found = load(write(tmp_path, "a.jsonl", lines))
    assert hashes(found)["pdq"] == [PDQ]
    with pytest.raises(DataError, match=r"a\.jsonl: line 9 must be a value of JSON"):
        load(write(tmp_path, "a.jsonl", lines + '{"indicator": '))


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        (f'[\n "{MD5}",\n "{MD5[:-1]}"\n]', 3, "a hash of 32"),
        (f'[\n "{MD5}",\n {{"type": "HASH_MD5"}}\n]', 3, "a record with a hash"),
        (f'[\n "{MD5}",\n 12\n]', 3, "a record or a hash"),
        (f'[\n "{MD5}"\n "{MD5}"]', 3, "JSON with ','"),
        (f'[\n "{MD5}",\n', 3, "a value of JSON"),
        (f'["{MD5}"]\n[]', 2, "the end of the JSON"),
        ('{"message": "rate limit"}', 1, "an object with an array"),
        ("[" * 100_000, 1, "a value of JSON"),
        ("", 1, "an array or object"),
        (f'[\n{{"indicator": 7, "type": "HASH_MD5"}}, "{MD5}"]', 2, "a hash as text"),
    ],
)
def test_a_broken_record_of_json_is_named(tmp_path: Path, text: str, line: int, says: str) -> None:
    with pytest.raises(DataError, match=rf"a\.json: line {line} must be .*{says}"):
        load(write(tmp_path, "a.json", text))


@pytest.mark.parametrize("text", ["", "# nothing\n\n", "pdna abcdef\n"])
def test_a_list_without_a_usable_hash_is_an_error_unless_allowed(tmp_path: Path, text: str) -> None:
    path = write(tmp_path, "a.txt", text)
    with pytest.raises(DataError, match=r"must hold a hash that can be matched.*allow_empty=true"):
        load(path)
    assert load(path, allow_empty=True).digests == {}


def test_a_missing_list_an_unknown_ending_and_bytes_that_are_no_text_are_errors(
    tmp_path: Path,
) -> None:
    with pytest.raises(DataError, match=r"gone\.txt: must be a file, or a folder"):
        load(tmp_path / "gone.txt")
    with pytest.raises(DataError, match=r"must end in one of \.txt"):
        load(write(tmp_path, "a.dat", MD5))
    assert hashes(load(tmp_path / "a.dat", format="plain")) == {"md5": [MD5]}
    lines = f"{MD5}\n" * 5_000  # more than a decoder reads at once
    for name, data, line, byte in (
        ("b.txt", MD5.encode("utf-16"), 1, "0xff"),
        ("c.txt", lines.encode() + b"\xe9\n", 5_001, "0xe9"),
        ("d.csv", gzip.compress(lines.encode()), 1, "0x8b"),
    ):
        (tmp_path / name).write_bytes(data)
        says = rf"{name}: line {line} must be UTF-8 text, got byte {byte}; unpack or convert it"
        with pytest.raises(DataError, match=says):
            load(tmp_path / name)


def test_a_folder_is_one_list_and_its_digest_goes_with_every_file(tmp_path: Path) -> None:
    folder = tmp_path / "list"
    folder.mkdir()
    write(folder, "2.txt", MD5)
    write(folder, "1.xml", NCMEC)
    write(folder, ".hidden", "no hash")
    found = load(folder)
    assert hashes(found)["md5"] == [MD5]
    assert found.sha256 == digest_list(found.config)
    write(folder, "3.txt", SHA1)
    assert digest_list(found.config) != found.sha256


def test_a_folder_in_the_folder_of_a_list_is_not_left_out_in_silence(tmp_path: Path) -> None:
    folder = tmp_path / "list"
    (folder / "2026").mkdir(parents=True)
    write(folder / "2026", "a.txt", MD5)
    with pytest.raises(DataError, match=r"list: must be a file, or a folder with files, got none"):
        load(folder)
    write(folder, "b.txt", SHA1)
    with pytest.raises(DataError, match=r"list/2026: must be a file, .* got a folder"):
        load(folder)
    (folder / "2026" / "a.txt").rename(folder / "a.txt")
    (folder / "2026").rmdir()
    (folder / "c.txt").symlink_to(tmp_path / "gone.txt")
    with pytest.raises(DataError, match=r"list/c\.txt: must be a file, .* got none"):
        load(folder)


def test_a_list_that_changes_while_it_is_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, "a.txt", f"{MD5}\n")

    def read_and_change(*arguments: Any) -> Iterator[Entry]:
        yield from read_entries(*arguments)
        write(tmp_path, "a.txt", f"{SHA1}\n")

    monkeypatch.setattr(hash_lists, "read_entries", read_and_change)
    with pytest.raises(DataError, match="must not change while it is read"):
        load(path)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"path": ""}, r"lists\.a\.path: must name"),
        ({"purpose": ""}, r"lists\.a\.purpose: must be one of 'harm', 'opt_out', got ''"),
        ({"purpose": "Harm"}, r"lists\.a\.purpose: must be one of"),
        ({"kind": "crc"}, r"lists\.a\.kind: must be one of"),
        ({"format": "yaml"}, r"lists\.a\.format: must be one of"),
        ({"low_quality": "skip"}, r"lists\.a\.low_quality: must be one of"),
        ({"pdq_radius": 64}, r"lists\.a\.pdq_radius: must be in \[0, 63\], got 64"),
        ({"pdq_radius": -1}, r"lists\.a\.pdq_radius: must be in"),
    ],
)
def test_options_of_a_list_are_checked(options: dict[str, object], says: str) -> None:
    known: dict[str, object] = {"path": "a.txt", "purpose": "harm", **options}
    with pytest.raises(ConfigError, match=says):
        BlocklistConfig(lists={"a": ListConfig(**known)})  # type: ignore[arg-type]


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf")])
def test_a_hook_has_a_time_to_end_in(seconds: float) -> None:
    with pytest.raises(ConfigError, match=r"blocklist\.on_hit_timeout_s: must be in \(0, 86400\]"):
        BlocklistConfig(on_hit_timeout_s=seconds)


@pytest.mark.parametrize("name", ["", "a b", "../a", "a\n", "x" * 65])
def test_a_lists_name_may_stand_in_any_log(name: str) -> None:
    with pytest.raises(ConfigError, match="names must be 1 to 64 letters"):
        BlocklistConfig(lists={name: ListConfig(path="a.txt", purpose="harm")})


def test_equal_digests_are_found_as_a_set_finds_them() -> None:
    rng = np.random.Generator(np.random.Philox(key=3))
    listed = rng.integers(0, 256, (5000, 20), np.uint8)
    listed[:2000, :8] = listed[0, :8]  # many share their first bytes
    listed[:100, 8:16] = 0
    listed = np.unique(listed, axis=0)
    queries = np.concatenate([listed[::7], rng.integers(0, 256, (3000, 20), np.uint8)])
    queries[-500:, :8] = listed[0, :8]
    known = {row.tobytes() for row in listed}
    expected = [row.tobytes() in known for row in queries]
    assert find_listed(listed, queries).tolist() == expected
    assert not find_listed(listed[:0], queries).any()
    assert find_listed(listed, queries[:0]).shape == (0,)


def test_a_hundred_thousand_lines_load_in_a_second_of_cpu(tmp_path: Path) -> None:
    rng = np.random.Generator(np.random.Philox(key=4))
    rows = rng.integers(0, 256, (100_000, 32), np.uint8)
    path = write(tmp_path, "a.txt", "".join(f"pdq {row.tobytes().hex()}\n" for row in rows))
    start = time.process_time()
    found = load(path)
    assert time.process_time() - start < 3  # measured: 0.3 s
    assert found.digests["pdq"].shape == (100_000, 32)
    assert found.digests["pdq"].nbytes == 3_200_000
