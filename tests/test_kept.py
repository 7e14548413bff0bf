"""What is kept comes back whole or not at all; sweeps hold its age and size; equal questions have equal names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mattehorn.cache import answers as answers_module
from mattehorn.cache.answers import Answers, KeptAnswer
from mattehorn.cache.fingerprint import Question, fingerprint, maker
from mattehorn.cache.kept import CACHE, Damaged, Entry, Kept, frame, unframe
from mattehorn.errors import StoreUnavailable
from mattehorn.image.decode import SourceInfo
from mattehorn.options import Options
from mattehorn.pipeline import Result
from mattehorn.quality import Quality
from mattehorn.settings import Settings
from mattehorn.store.open import LocalStore
from tests.clock import Clock

NAME, OTHER = "ab" * 32, "cd" * 32
BLOBS = st.lists(st.binary(max_size=200), max_size=4)


@pytest.fixture
def clock() -> Clock:
    return Clock(1_800_000_000.0)


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path)


@pytest.fixture
def kept(store: LocalStore, clock: Clock) -> Kept:
    return Kept(store, CACHE, ttl_s=100, max_bytes=10_000, clock=clock)


def name(number: int) -> str:
    return f"{number:064x}"


# ---- one object


@given(st.floats(0, 1e11), st.text(), BLOBS)
def test_what_was_framed_is_read_again(at: float, about: str, blobs: list[bytes]) -> None:
    entry = Entry(at, about, tuple(blobs))
    assert unframe(NAME, frame(NAME, entry)) == entry


@given(BLOBS, st.data())
def test_a_frame_with_any_bit_changed_or_any_byte_cut_off_is_damaged(blobs: list[bytes], data: st.DataObject) -> None:
    whole = frame(NAME, Entry(1.0, "{}", tuple(blobs)))
    place = data.draw(st.integers(0, len(whole) - 1))
    changed = bytearray(whole)
    changed[place] ^= 1 << data.draw(st.integers(0, 7))
    for bad in (bytes(changed), whole[:place], whole + b"\0"):
        with pytest.raises(Damaged):
            unframe(NAME, bad)


@given(st.binary(max_size=300))
def test_foreign_bytes_are_damaged(foreign: bytes) -> None:
    with pytest.raises(Damaged):
        unframe(NAME, foreign)


def test_another_names_object_is_not_given(kept: Kept, store: LocalStore) -> None:
    kept.put(NAME, "{}", [b"picture"])
    (key,) = store.list(f"{CACHE}objects/")
    store.put(f"{CACHE}objects/cd/{OTHER}", store.get(key), content_type="x/y")
    assert kept.get(OTHER) is None
    assert kept.get(NAME) is not None


def test_what_is_too_old_is_not_given_though_no_sweep_came(kept: Kept, clock: Clock) -> None:
    assert kept.get(NAME) is None
    kept.put(NAME, "x", [b"picture", b""])
    clock.now += 99
    assert kept.get(NAME) == Entry(clock.now - 99, "x", (b"picture", b""))
    clock.now += 1
    assert kept.get(NAME) is None


# ---- sweeps


def test_a_sweep_removes_what_is_too_old(kept: Kept, store: LocalStore, clock: Clock) -> None:
    kept.put(name(1), "", [b"old"])
    clock.now += 60
    kept.put(name(2), "", [b"new"])
    clock.now += 40
    swept = kept.sweep()
    assert (swept.removed, kept.get(name(1)) is None, kept.get(name(2)) is not None) == (1, True, True)
    assert len(list(store.list(CACHE))) == 2


def test_a_sweep_removes_the_oldest_above_the_bound_and_no_more(kept: Kept, clock: Clock) -> None:
    sizes = []
    for number in range(6):
        sizes.append(kept.put(name(9 - number), "", [b"x" * 2500]))
        clock.now += 1
    swept = kept.sweep()
    assert swept.left_bytes == sum(sizes[3:]) <= 10_000
    assert swept.removed_bytes == sum(sizes[:3])
    assert [kept.get(name(9 - number)) is not None for number in range(6)] == [False] * 3 + [True] * 3
    assert kept.sweep().removed == 0


def test_a_bound_of_nothing_empties_the_place(store: LocalStore, clock: Clock) -> None:
    kept = Kept(store, CACHE, ttl_s=100, max_bytes=0, clock=clock)
    kept.put(NAME, "", [b"picture"])
    assert kept.sweep().left_bytes == 0
    assert list(store.list(CACHE)) == []


def test_what_was_kept_anew_counts_once_and_from_then_on(kept: Kept, store: LocalStore, clock: Clock) -> None:
    kept.put(NAME, "", [b"first"])
    clock.now += 60
    size = kept.put(NAME, "", [b"again"])
    clock.now += 60
    assert kept.sweep().left_bytes == size
    assert kept.get(NAME) is not None
    assert len(list(store.list(f"{CACHE}index/"))) == 1


def test_two_who_sweep_at_once_do_no_harm(store: LocalStore, clock: Clock) -> None:
    first, second = (Kept(store, CACHE, ttl_s=100, max_bytes=6_000, clock=clock) for _ in range(2))
    for number in range(4):
        first.put(name(number), "", [b"x" * 2500])
        clock.now += 1

    class Interrupted:
        """The store, with another sweep at the first deletion."""

        def __init__(self) -> None:
            self.again = True

        def __getattr__(self, attribute: str) -> Any:
            return getattr(store, attribute)

        def delete(self, key: str) -> None:
            if self.again:
                self.again = False
                second.sweep()
            store.delete(key)

    first._store = Interrupted()
    first.sweep()
    assert [first.get(name(number)) is not None for number in range(4)] == [False, False, True, True]
    assert len(list(store.list(CACHE))) == 4


def test_a_crash_between_mark_and_object_is_swept_like_anything(kept: Kept, store: LocalStore, clock: Clock) -> None:
    kept.put(NAME, "", [b"picture"])
    store.delete(f"{CACHE}objects/ab/{NAME}")
    assert kept.get(NAME) is None
    clock.now += 100
    kept.sweep()
    assert list(store.list(CACHE)) == []


def test_foreign_files_in_the_place_stay(kept: Kept, store: LocalStore, clock: Clock) -> None:
    store.put(f"{CACHE}index/readme.txt", b"", content_type="x/y")
    clock.now += 1000
    assert kept.sweep().removed == 0
    assert list(store.list(CACHE)) == [f"{CACHE}index/readme.txt"]


def test_nothing_is_said_to_be_removable_while_sweeps_fail(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise StoreUnavailable("The store refused to delete.", retry_after_s=30)

    kept.put(NAME, "", [b"x" * 20_000])
    assert (kept.grown > 20_000, kept.stuck) == (True, False)
    with monkeypatch.context() as patched:
        patched.setattr(LocalStore, "delete", refuse)
        with pytest.raises(StoreUnavailable):
            kept.sweep()
        assert kept.stuck
    kept.sweep()
    assert (kept.grown, kept.stuck) == (0, False)


# ---- answers


def result(**changes: Any) -> Result:
    source = SourceInfo(64, 48, "png", "00", ("icc_broken",))
    plain = Result(b"picture", "image/png", "png", 64, 48, (1, 2, 3, 4), Quality(1 / 3, ("holes",)), source, ("w",))
    return Result(**{**vars(plain), "model": "fake@1", "subject": "animal", **changes})


@pytest.mark.parametrize("alpha", [None, b"", b"matte"])
@pytest.mark.parametrize("box", [None, (1, 2, 3, 4)])
def test_an_answer_comes_back_as_it_was_but_for_its_times(
    kept: Kept, store: LocalStore, alpha: bytes | None, box: tuple[int, int, int, int] | None
) -> None:
    answers = Answers(kept, store)
    answers.keep(NAME, KeptAnswer(result(alpha_png=alpha, foreground_box=box, timings_ms={"infer": 9.0}), None))
    assert answers.find(NAME) == KeptAnswer(result(alpha_png=alpha, foreground_box=box), None)


def test_an_answer_of_another_version_is_a_miss(kept: Kept, store: LocalStore) -> None:
    kept.put(NAME, json.dumps({"result": {"data": ""}}), [b"picture"])
    assert Answers(kept, store).find(NAME) is None
    kept.put(NAME, "no JSON", [b"picture"])
    assert Answers(kept, store).find(NAME) is None


def test_a_very_large_answer_is_not_kept(kept: Kept, store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers_module, "OBJECT_BYTES", 10)
    answers = Answers(kept, store)
    assert answers.keep(NAME, KeptAnswer(result(data=b"12345", alpha_png=b"678901"), None)) == 0
    assert list(store.list(CACHE)) == []
    assert answers.keep(NAME, KeptAnswer(result(data=b"12345", alpha_png=b"67890"), None)) > 0


# ---- fingerprints

ASKED = Question("shop", b"photo", Options(), "cup")
EACH_OPTION = {
    "model": "fake",
    "tier": "best",
    "check_stability": True,
    "subject": "person",
    "roi": "0% 0% 50% 50%",
    "output": "alpha",
    "format": "webp",
    "encode_quality": 80,
    "background_color": "red",
    "background_gradient": "90deg red blue",
    "background_template": "mint",
    "background_blur_px": 5,
    "background_scaling": "fit",
    "shadow_opacity": 50,
    "shadow_blur_px": 3,
    "shadow_offset": "1 1",
    "alpha_threshold": 11,
    "erode_px": 1,
    "feather_px": 1,
    "refine": "none",
    "foreground": "original",
    "existing_alpha": "trust",
    "store": True,
    "include": "alpha",
    "allow_empty": True,
    "output_size": "100x100",
    "crop": True,
    "max_width": 10,
    "max_height": 10,
    "reference_box": "original",
    "snap_cropped_sides": False,
    "horizontal_alignment": "left",
    "vertical_alignment": "top",
    "scaling": "fill",
    "dpi": 300,
    **{f"margin{side}": "0.1" for side in ("", "_top", "_right", "_bottom", "_left")},
    **{f"padding{side}": "0.1" for side in ("", "_top", "_right", "_bottom", "_left")},
}
TOGETHER = {
    "shadow": {"output": "composite", "shadow": "drop"},
    "store_alpha": {"store": True, "store_alpha": True},
    "store_source": {"store": True, "store_source": True},
    "name": {"store": True, "name": "other"},
    "sku": {"store": True, "sku": "A-1"},
}


def of(**options: Any) -> str:
    return fingerprint(Question("shop", b"photo", Options(**options), "cup"), "us")


def test_every_option_changes_the_fingerprint_but_for_how_the_answer_is_sent() -> None:
    assert set(EACH_OPTION) | set(TOGETHER) | {"inline"} == set(Options.model_fields)
    singles = [of(**{field: value}) for field, value in EACH_OPTION.items()]
    together = [of(**options) for options in TOGETHER.values()]
    assert len({of(), *singles, *together}) == 1 + len(singles) + len(together)
    assert of(store=True, inline=False) == of(store=True)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({}, {"feather_px": 0, "alpha_threshold": 10, "output": "cutout", "format": "png"}),
        ({"background_color": "white"}, {"background_color": "#FFF", "output": "composite"}),
        ({"background_gradient": "90deg red blue"}, {"background_gradient": "90deg, #f00 0%, #00f 100%"}),
        ({"crop": True}, {"output_size": "cropped_subject"}),
        ({"margin": "10%"}, dict.fromkeys(("margin_top", "margin_right", "margin_bottom", "margin_left"), "0.1")),
        ({"name": "a", "sku": "b"}, {}),
    ],
)
def test_one_wish_has_one_fingerprint_however_it_is_spelled(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert of(**one) == of(**other)


def test_whatever_else_an_answer_follows_from_changes_the_fingerprint() -> None:
    others = [
        Question("other shop", b"photo", Options(), "cup"),
        Question("shop", b"photo.", Options(), "cup"),
        Question("shop", b"photo", Options(), "cup", background=b""),
        Question("shop", b"photo", Options(), "cup", background=b"wood"),
        Question("shop", b"photo", Options(), "cup", binary=True),
        Question("shop", b"photo", Options(), "cup", recipe="1234"),
        Question("shop", b"photo", Options(store=True), "cup"),
        Question("shop", b"photo", Options(store=True), "mug"),
    ]
    found = {fingerprint(ASKED, "us"), fingerprint(ASKED, "others"), *(fingerprint(one, "us") for one in others)}
    assert len(found) == 2 + len(others)
    assert fingerprint(Question("shop", b"photo", Options(), "mug"), "us") == fingerprint(ASKED, "us")


@given(st.text(), st.text())
def test_no_tenants_name_can_pass_for_another_part(tenant: str, recipe: str) -> None:
    question = Question(tenant, b"photo", Options(), "cup", recipe=recipe)
    swapped = Question(recipe, b"photo", Options(), "cup", recipe=tenant)
    assert (fingerprint(question, "us") == fingerprint(swapped, "us")) == (tenant == recipe)


def test_who_answers_is_the_model_and_what_photos_are_read_with() -> None:
    fake = maker(Settings(model="fake"))
    assert fake == maker(Settings(model="fake", max_batch=9))
    assert (
        len({fake, maker(Settings()), maker(Settings.model_validate({"model": "fake", "limits": {"icc_bytes": 9}}))})
        == 3
    )
