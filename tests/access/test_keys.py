"""API keys: their document, the file that holds it, and the commands that edit it."""

from __future__ import annotations

import json
import logging
import os
import re
import stat
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mattehorn.access.keys import Keyring, KeysDocument, add_key, encode_keys, parse_keys, revoke_key, set_limits
from mattehorn.access.keys_file import KeysFile, edit_keys, read_keys
from mattehorn.access.tenant import Budget
from mattehorn.cli.main import main
from mattehorn.errors import OptionError
from tests.clock import Clock

NOW = datetime(2026, 11, 28, 9, 30, tzinfo=UTC)


def made(path: Path, tenant: str = "shop", *scopes: Any) -> str:
    """A new key in the file."""
    keys: list[str] = []

    def change(document: KeysDocument) -> KeysDocument:
        changed, _, key = add_key(document, tenant, scopes or ("matte",), NOW)
        keys.append(key)
        return changed

    edit_keys(path, change)
    return keys[0]


# the document


def test_a_key_is_found_by_its_text_alone_and_the_document_does_not_hold_it() -> None:
    document, entry, key = add_key(KeysDocument(), "shop", ("jobs", "matte"), NOW)
    text = encode_keys(document).decode()
    assert re.fullmatch(r"mh_[0-9a-z]{8}_[0-9a-f]{64}", key)
    assert key.split("_")[1] == entry.id
    assert key.split("_")[2] not in text
    tenant = Keyring(parse_keys(text.encode())).find(key)
    assert tenant is not None
    assert (tenant.name, tenant.scopes) == ("shop", {"matte", "jobs"})
    for other in (key[:-1], key + "0", key.upper(), "", entry.sha256, entry.id):
        assert Keyring(document).find(other) is None


def test_a_tenant_has_several_keys_and_one_set_of_limits() -> None:
    document, first, first_key = add_key(KeysDocument(), "shop", ("matte",), NOW)
    document, _, second_key = add_key(document, "shop", ("admin",), NOW)
    document = set_limits(document, "shop", {"megapixels_per_minute": 5, "pixels": 100})
    document = set_limits(document, "shop", {"megapixels_per_month": 9, "pixels": None})
    found = [Keyring(document).find(key) for key in (first_key, second_key)]
    assert [tenant.budget for tenant in found if tenant] == [Budget(5, 9)] * 2
    assert [tenant.pixels for tenant in found if tenant] == [None, None]
    left = revoke_key(document, first.id)
    assert Keyring(left).find(first_key) is None
    assert Keyring(left).find(second_key) is not None


@pytest.mark.parametrize("name", ["", "Shop", "-a", "a/b", "..", "a b", "a\n", "ä", "x" * 64, "anonymous"])
def test_a_tenants_name_that_could_be_mistaken_is_refused(name: str) -> None:
    with pytest.raises(OptionError):
        add_key(KeysDocument(), name, ("matte",), NOW)


@given(st.text())
def test_no_name_beyond_small_letters_digits_and_hyphens_gets_a_key(name: str) -> None:
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,62}", name, re.ASCII):
        with pytest.raises(OptionError):
            add_key(KeysDocument(), name, ("matte",), NOW)


ENTRY = {"id": "a", "tenant": "shop", "scopes": ["matte"], "sha256": "0" * 64, "created_at": "2026-11-28T09:30:00Z"}


@pytest.mark.parametrize(
    "document",
    [
        b"{",
        b"[]",
        b'{"keys": [{}]}',
        b'{"version": 2}',
        b'{"tenants": {"shop": {"megapixel_per_minute": 5}}}',
        b'{"tenants": {"shop": {"pixels": 0}}}',
        json.dumps({"keys": [ENTRY, ENTRY]}).encode(),
        json.dumps({"keys": [ENTRY | {"scopes": []}]}).encode(),
        json.dumps({"keys": [ENTRY | {"tenant": "anonymous"}]}).encode(),
        b"\xff\xfe",
    ],
)
def test_a_document_that_is_not_wholly_right_is_refused_without_its_contents(document: bytes) -> None:
    with pytest.raises(OptionError) as caught:
        parse_keys(document)
    assert "damaged" in caught.value.message
    assert "0" * 64 not in caught.value.message


# the file


def test_a_file_is_for_its_owner_alone_and_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    made(path)
    before = path.stat().st_ino
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o644)
    made(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.stat().st_ino != before
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["keys.json", "keys.json.lock"]


def test_editors_at_the_same_time_lose_no_key(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    threads = [threading.Thread(target=made, args=(path, f"shop{number}")) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {entry.tenant for entry in read_keys(path).keys} == {f"shop{number}" for number in range(12)}


def test_an_edit_that_fails_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    made(path)
    before = path.read_bytes()
    with pytest.raises(OptionError):
        edit_keys(path, lambda document: revoke_key(document, "nobody"))
    assert path.read_bytes() == before


def test_a_changed_file_counts_after_a_second_and_not_by_every_request(tmp_path: Path) -> None:
    path, clock = tmp_path / "keys.json", Clock(100.0)
    first = made(path)
    keys = KeysFile(path, clock)
    assert keys.keyring().find(first) is not None
    second = made(path)
    assert keys.keyring().find(second) is None
    clock.now += 1
    assert keys.keyring().find(second) is not None
    edit_keys(path, lambda document: revoke_key(document, first.split("_")[1]))
    clock.now += 1
    assert keys.keyring().find(first) is None


def test_a_file_edited_in_place_to_the_same_length_is_seen(tmp_path: Path) -> None:
    path, clock = tmp_path / "keys.json", Clock(100.0)
    key = made(path)
    keys = KeysFile(path, clock)
    assert keys.keyring().find(key) is not None
    text, at = path.read_text(), path.stat()
    path.write_text(text.replace('"shop"', '"shoe"'))
    os.utime(path, ns=(at.st_atime_ns, at.st_mtime_ns + 1))
    clock.now += 1
    tenant = keys.keyring().find(key)
    assert tenant is not None
    assert tenant.name == "shoe"


@pytest.mark.parametrize("damage", ["{", "gone"])
def test_a_damaged_file_leaves_the_last_keys_in_force_and_says_so_once(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    path, clock = tmp_path / "keys.json", Clock(100.0)
    key = made(path)
    keys = KeysFile(path, clock)
    assert keys.keyring().find(key) is not None
    good = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        path.write_text(damage)
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            clock.now += 1
            assert keys.keyring().find(key) is not None
    assert [record.message.split()[0] for record in caplog.records] == ["keys_file_unreadable"]
    path.write_bytes(good.replace(b'"shop"', b'"shoe"'))
    clock.now += 1
    assert getattr(keys.keyring().find(key), "name", None) == "shoe"


@pytest.mark.parametrize("contents", [None, b"", b"{", b"REPLACE_ME"])
def test_a_file_that_was_never_good_lets_nobody_in(tmp_path: Path, contents: bytes | None) -> None:
    path = tmp_path / "keys.json"
    if contents is not None:
        path.write_bytes(contents)
    assert KeysFile(path).keyring().find("") is None


# the commands


def test_a_key_is_printed_once_and_never_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "keys.json"
    command = ["keys", "add", "shop", "--scope", "jobs,matte", "--megapixels-per-minute", "5", "--file", str(path)]
    assert main(command) == 0
    printed = capsys.readouterr()
    key = printed.out.strip()
    assert key.split("_")[2] not in printed.err
    assert f"keys_file={path}" in printed.err
    assert main(["keys", "list", "--file", str(path)]) == 0
    listed = capsys.readouterr().out
    assert key.split("_")[2] not in listed
    assert re.fullmatch(r"\w{8}  2\S+Z  shop  matte,jobs  megapixels_per_minute=5\n", listed)
    assert main(["keys", "limit", "shop", "--megapixels-per-minute", "none", "--pixels", "9", "--file", str(path)]) == 0
    assert main(["keys", "list", "--file", str(path)]) == 0
    assert capsys.readouterr().out.endswith("  shop  matte,jobs  pixels=9\n")
    assert main(["keys", "revoke", key.split("_")[1], "--file", str(path)]) == 0
    assert Keyring(read_keys(path)).find(key) is None


@pytest.mark.parametrize(
    "arguments",
    [
        ["add", "shop", "--scope", "root"],
        ["add", "shop", "--scope", ","],
        ["add", "../shop"],
        ["revoke", "nobody"],
        ["limit", "shop"],
        ["limit", "nobody", "--pixels", "5"],
    ],
)
def test_a_wrong_command_changes_nothing_and_is_two(tmp_path: Path, arguments: list[str]) -> None:
    path = tmp_path / "keys.json"
    made(path)
    before = path.read_bytes()
    assert main(["keys", *arguments, "--file", str(path)]) == 2
    assert path.read_bytes() == before


def test_a_file_that_is_not_there_is_neither_listed_nor_made_by_a_revocation(tmp_path: Path) -> None:
    for arguments in (["list"], ["revoke", "a"]):
        assert main(["keys", *arguments, "--file", str(tmp_path / "none.json")]) == 1
    assert list(tmp_path.iterdir()) == []
