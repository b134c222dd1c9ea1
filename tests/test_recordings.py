"""Recordings: real files against what is known of them and against faery; every format whole, cut and damaged."""

from __future__ import annotations

import hashlib
import random
import struct
import sys
import tracemalloc

import naive_codecs as naive
import numpy as np
import pytest

from spiked.io import aedat4, aer, recordings
from spiked.io.events import EVENT_DTYPE, Geometry, make_events
from spiked.io.recordings import RecordingError, open_recording, summary

# file: format, geometry, events, on (None: not known), first us, last us
REAL = {
    "files/davis.aedat4": ("aedat4", "346x260x2", 117_667, 72_363, 1633953690975950, 1633953691105949),
    "files/evt2.raw": ("evt2", "640x480x2", 521_252, 185_861, 913716224, 913812095),
    "files/evt3_sample.raw": ("evt3", "1280x720x2", 219_596, None, 11718656, 11727457),
    "files/dat_test_NCARS.dat": ("dat", "304x240x2", 4_407, 1_671, 0, 99937),
    "files/dvs.es": ("es", "320x240x2", 473_225, None, 0, 999_000),
    "files/sample_nmnist.bin": ("nmnist", "34x34x2", 4_325, 2_145, 654, 311175),
    "files/grasp2007-04-23.dat": ("aedat1", "128x128x2", 48_100, 18_729, 150978470, 150978470 + 476_090),
    "files/MovingDarkBox.aedat": ("aedat2", "128x128x2", 489_834, 246_923, 946459683, 946459683 + 39_810_046),
    "cochlea/VowelSounds.aedat": ("aedat2", "64x8x1", 111_318, None, 744094585, 744094585 + 36_089_155),
    "cochlea/130.aedat": ("aer", "64x1x2", 408_713, None, 0, 499_897),
    "cochlea/349.aedat": ("aer", "64x1x2", 419_175, None, 0, None),
    "cochlea/698.aedat": ("aer", "64x1x2", 429_653, None, 0, None),
    "cochlea/1396.aedat": ("aer", "64x1x2", 438_911, None, 0, None),
}


def read(path, **options):
    recording = open_recording(path, **options)
    packets = list(recording.packets())
    return recording, np.concatenate([np.empty(0, EVENT_DTYPE), *packets])


def need(package):
    return pytest.importorskip(package, reason=f"{package} is not installed")


# Real files


@pytest.mark.parametrize("name", REAL)
def test_real_recordings_hold_what_is_known_of_them(data_dir, name):
    if name.endswith(".aedat4"):
        need("aedat")
    form, geometry, events, on, first, last = REAL[name]
    recording = open_recording(data_dir / name)
    assert (recording.format, str(recording.geometry)) == (form, geometry)
    found = summary(recording)
    assert list(found) == ["format", "width", "height", "events", "on", "t_first_us", "t_last_us"]
    assert all(type(value) in (int, str) for value in found.values())
    assert (found["events"], found["t_first_us"]) == (events, first)
    assert on is None or found["on"] == on
    assert last is None or found["t_last_us"] == last
    assert recording.warnings == []


def test_evt2_columns_have_the_known_digests(data_dir):
    _, events = read(data_dir / "files" / "evt2.raw")
    assert {name: hashlib.sha3_224(events[name].tobytes()).hexdigest()[:16] for name in EVENT_DTYPE.names} == {
        "t": "9855ba39c1baea31",
        "x": "93fc6cff19b483fd",
        "y": "07cfaef58e5fa71c",
        "on": "d2b5e9c4047f4c43",
    }


@pytest.mark.parametrize("name", ["davis.aedat4", "evt2.raw", "evt3_sample.raw", "dat_test_NCARS.dat", "dvs.es"])
def test_faery_reads_the_same(data_dir, tmp_path, name):
    faery = need("faery")
    if name.endswith(".aedat4"):
        need("aedat")
    path = data_dir / "files" / name
    _, ours = read(path)
    if name.endswith(".dat"):  # faery refuses the oldest cameras' kind of events (0), whose bytes are those of 12
        data = path.read_bytes()
        path = tmp_path / name
        path.write_bytes(data.replace(b"\n\x00\x08", b"\n\x0c\x08", 1))
    theirs = np.concatenate(list(faery.events_stream_from_file(path)))
    for column in ("x", "y", "on"):
        assert np.array_equal(ours[column], theirs[column]), column
    expected = np.maximum.accumulate(ours["t"]) if name.startswith("evt3") else ours["t"]
    differ = theirs["t"] != expected
    # faery holds time at the latest TIME_LOW; 1,455 events of this file follow a step back of up to 11 us
    assert np.count_nonzero(differ) == (1455 if name.startswith("evt3") else 0)
    assert int((theirs["t"] - expected).max()) <= 11


def test_nas_recordings_step_back_as_they_do(data_dir):
    recording, events = read(data_dir / "cochlea" / "130.aedat")
    steps = np.diff(events["t"].astype(np.int64))
    assert (np.count_nonzero(steps < 0), steps.min()) == (979, -255)
    assert events["x"].max() == 63
    assert recording.geometry == Geometry(64, 1, 2)


def test_vowels_use_both_ears_and_all_cells(data_dir):
    _, events = read(data_dir / "cochlea" / "VowelSounds.aedat")
    raw = (data_dir / "cochlea" / "VowelSounds.aedat").read_bytes()
    addresses = np.frombuffer(raw[-8 * len(events) :], ">u4")[::2]
    assert np.array_equal(events["x"], addresses >> 2 & 63)
    assert np.array_equal(events["y"] // 4, addresses >> 1 & 1)
    assert np.array_equal(events["y"] % 4, addresses >> 8 & 3)
    assert len(np.unique(events["y"])) == 8


@pytest.mark.parametrize("name", REAL)
def test_cut_recordings_give_their_good_part(data_dir, tmp_path, name):
    if name.endswith(".aedat4"):
        need("aedat")
    path = data_dir / name
    data = path.read_bytes()
    _, whole = read(path)
    rng = random.Random(7)
    cut_path = tmp_path / path.name
    for length in [0, 1, 5, 13, 100, 320, 4000, *(rng.randrange(len(data)) for _ in range(6))]:
        cut_path.write_bytes(data[:length])
        try:
            recording, events = read(cut_path)
        except RecordingError as error:
            assert length < 5000 and str(cut_path) in str(error) and "\n" not in str(error)
            continue
        assert np.array_equal(events, whole[: len(events)])
        # what is missing at most: one aedat4 packet, one record of the others
        assert len(events) / len(whole) >= length / len(data) - 0.15
        assert all("byte" in warning and "\n" not in warning for warning in recording.warnings)


# Synthetic files of every format

SMALL = [
    (int(t), int(x), int(y), int(on))
    for t, x, y, on in zip(
        np.cumsum(np.random.default_rng(1).integers(0, 400, 60)) + 1000,
        np.random.default_rng(2).integers(0, 34, 60),
        np.random.default_rng(3).integers(0, 34, 60),
        np.random.default_rng(4).integers(0, 2, 60),
    )
]
NAS = [(t, x, 0, on) for t, x, _, on in SMALL]
FILES = {
    "evt2": ("a.raw", b"% evt 2.0\n% geometry 640x480\n% end\n" + naive.encode_evt2(SMALL), SMALL),
    "evt3": ("a.raw", b"% format EVT3;height=720;width=1280\n% end\n" + naive.encode_evt3(SMALL), SMALL),
    "dat": ("a.dat", naive.encode_dat(SMALL), SMALL),
    "aedat1": ("a.dat", naive.encode_dvs128(SMALL, 1), SMALL),
    "aedat2": ("a.aedat", naive.encode_dvs128(SMALL, 2), SMALL),
    "aedat3": ("a.aedat", naive.encode_aedat3(SMALL), SMALL),
    "nmnist": ("a.bin", naive.encode_nmnist(SMALL), SMALL),
    "aer": ("a.aedat", naive.encode_nas(NAS), NAS),
    "es": ("a.es", naive.encode_es(SMALL, 34, 34), SMALL),
    "csv": ("a.csv", naive.encode_csv(SMALL), SMALL),
}


@pytest.fixture(params=FILES)
def small(request, tmp_path):
    name, data, events = FILES[request.param]
    path = tmp_path / name
    path.write_bytes(data)
    return request.param, path, events


def test_every_format_is_read(small):
    form, path, expected = small
    recording, events = read(path)
    assert recording.format == form
    assert events.tolist() == expected
    assert recording.warnings == []
    assert events.dtype == EVENT_DTYPE
    same, again = read(path, format=form)
    assert np.array_equal(again, events) and same.geometry == recording.geometry


def test_packets_are_as_long_as_asked_and_can_be_read_again(small):
    _, path, expected = small
    recording = open_recording(path)
    for _ in range(2):
        packets = list(recording.packets(7))
        assert max(map(len, packets)) == 7 and min(map(len, packets)) > 0
        assert np.concatenate(packets).tolist() == expected
    with pytest.raises(ValueError, match="max_events 0"):
        next(recording.packets(0))


def test_every_cut_of_every_format(small):
    _, path, expected = small
    data = path.read_bytes()
    for length in range(len(data)):
        path.write_bytes(data[:length])
        try:
            recording, events = read(path)
        except RecordingError as error:
            assert length < 200 and str(path) in str(error) and "\n" not in str(error)
            continue
        # a cut number of a text file is a smaller number: the one event that a cut can make wrong, with a warning
        whole = len(events) - (1 if recording.warnings and recording.format == "csv" else 0)
        assert events[: max(whole, 0)].tolist() == expected[: max(whole, 0)]
        assert all("byte" in warning and str(path) in warning for warning in recording.warnings)


def test_a_cut_event_is_told_with_its_byte(tmp_path):
    path = tmp_path / "a.dat"
    data = naive.encode_dat(SMALL)
    path.write_bytes(data[:-3])
    recording, events = read(path)
    assert len(events) == len(SMALL) - 1
    assert recording.warnings == [f"{path}: cut off within an event at byte {len(data) - 8} (5 of 8 bytes left out)"]


def test_damaged_bytes_never_raise_anything_else(small):
    _, path, _ = small
    data = path.read_bytes()
    rng = random.Random(5)
    for _ in range(120):
        damaged = bytearray(data)
        for _ in range(rng.randrange(1, 8)):
            damaged[rng.randrange(len(data))] = rng.randrange(256)
        path.write_bytes(damaged)
        try:
            recording, events = read(path)
        except RecordingError as error:
            assert "\n" not in str(error)
            continue
        geometry = recording.geometry
        assert not len(events) or (events["x"].max() < geometry.width and events["y"].max() < geometry.height)


def test_random_and_foreign_files_are_refused(tmp_path):
    path = tmp_path / "noise.dat"
    rng = random.Random(6)
    known = ", ".join(recordings.FORMATS)
    for data in [b"\x89PNG\r\n\x1a\n" + bytes(100), b"hello\n", b"#!AER-DAT", b"%", rng.randbytes(4000), b"PK\x03\x04"]:
        path.write_bytes(data)
        with pytest.raises(RecordingError, match=r"noise\.dat: begins with .*, known formats are") as error:
            open_recording(path)
        assert known in str(error.value)
    path.write_bytes(b"")
    with pytest.raises(RecordingError, match="empty file"):
        open_recording(path)
    with pytest.raises(RecordingError, match="no such file"):
        open_recording(tmp_path / "absent")
    with pytest.raises(RecordingError, match="not a file"):
        open_recording(tmp_path)


def test_wrong_choices_are_refused(tmp_path):
    path = tmp_path / "a.dat"
    path.write_bytes(FILES["aedat2"][1])
    with pytest.raises(RecordingError, match="format 'xyz' is unknown; known are evt2"):
        open_recording(path, format="xyz")
    with pytest.raises(RecordingError, match="layout 'eye' is unknown; known are dvs128"):
        open_recording(path, layout="eye")
    with pytest.raises(RecordingError, match="geometry 0x5x2"):
        open_recording(path, geometry=Geometry(0, 5))
    path.write_bytes(FILES["dat"][1])
    with pytest.raises(RecordingError, match="has no layout"):
        open_recording(path, layout="dvs128")


# What is particular to one format


def test_clock_of_32_bits_starts_again(tmp_path):
    times = [2**32 - 5, 2**32 - 2, 2**32 + 3, 2**32 - 1, 2**32 + 8, 2**32 + 2**31, 2**33 - 1, 2**33 + 9]
    events = [(t, 1, 90, 1) for t in times]
    for name, data in (("a.dat", naive.encode_dat(events)), ("b.aedat", naive.encode_dvs128(events))):
        (tmp_path / name).write_bytes(data)
        assert read(tmp_path / name)[1].tolist() == events


def test_aedat3_laps_sources_and_damage(tmp_path):
    path = tmp_path / "a.aedat"
    events = [(5, 1, 2, 0), ((1 << 31) + 7, 345, 259, 1), ((3 << 31) + 1, 3, 4, 1)]
    data = naive.encode_aedat3(events, source="DAVIS346B")
    path.write_bytes(data)
    recording, found = read(path)
    assert found.tolist() == events and recording.geometry == Geometry(346, 260)
    other = naive.encode_aedat3([(9, 9, 9, 1)], number=2)
    body = other[other.index(b"#!END-HEADER\r\n") + 14 :]
    path.write_bytes(data + body)  # the polarity events of a second source do not mix in
    assert read(path)[1].tolist() == events
    path.write_bytes(data + struct.pack("<hhiiiiii", 1, 1, 8, 4, 0, -5, 3, 3) + body)
    recording, found = read(path)
    assert found.tolist() == events
    assert recording.warnings == [f"{path}: damaged packet header at byte {len(data)}, the rest left out"]
    for wrong in (data.replace(b"DAT3.1", b"DAT3.0"), data.replace(b"RAW", b"PNG"), data[:60]):
        path.write_bytes(wrong)
        with pytest.raises(RecordingError):
            open_recording(path)


def test_nmnist_clock_mark_adds_its_range(tmp_path):
    path = tmp_path / "a.bin"
    data = naive.encode_nmnist([(8000, 1, 2, 1), (8100, 3, 240, 0), (10, 5, 6, 0), (20, 7, 240, 0), (30, 7, 33, 1)])
    path.write_bytes(data)
    assert read(path)[1].tolist() == [(8000, 1, 2, 1), (8202, 5, 6, 0), (16414, 7, 33, 1)]


def test_chip_line_of_the_header_decides(tmp_path):
    path = tmp_path / "a.aedat"
    head = b"#!AER-DAT2.0\r\n# AEChip: eu.seebetter.ini.chips.davis.%s\r\n"
    address = (100 << 22) | ((345 - 30) << 12) | (1 << 11)
    pairs = [address, 5, address | 1 << 31, 6, address | 1 << 10, 7, address & ~(1 << 11), 8]
    path.write_bytes(head % b"Davis346blue" + struct.pack(">8I", *pairs))
    recording, events = read(path)
    assert recording.geometry == Geometry(346, 260)
    assert events.tolist() == [(5, 30, 100, 1), (8, 30, 100, 0)]  # frames' and inertial samples are no events
    path.write_bytes(head % b"Retina99" + struct.pack(">2I", 5, 5))
    with pytest.raises(RecordingError, match="chip Retina99 is unknown; give a layout: dvs128"):
        open_recording(path)
    assert open_recording(path, layout="cochlea").geometry == aer.LAYOUTS["cochlea"][0]


def test_low_addresses_are_the_cochleas_unless_told(tmp_path):
    path = tmp_path / "a.aedat"
    path.write_bytes(b"#!AER-DAT2.0\r\n" + struct.pack(">4I", 0b11_1010_1011, 5, 0b00_0000_0101, 6))
    assert read(path)[1].tolist() == [(5, 42, 7, 1), (6, 1, 0, 1)]
    recording, events = read(path, layout="dvs128")
    assert recording.geometry == Geometry(128, 128)
    assert events.tolist() == [(5, 127 - 0b1010101, 3, 0), (6, 127 - 2, 0, 0)]


def test_a_damaged_header_is_not_read_as_events(tmp_path):
    path = tmp_path / "a.aedat"
    path.write_bytes(FILES["aedat2"][1].replace(b"raw AE", b"raw\x07AE"))
    with pytest.raises(RecordingError, match="damaged header line at byte 14"):
        open_recording(path)


def test_an_event_that_begins_like_a_header_line_is_an_event(tmp_path):
    path = tmp_path / "a.dat"
    events = [(0x0A000000 + k, 127 - 16, 0x23, 1) for k in range(9)]  # bytes "# " and, in the time, a line end
    path.write_bytes(naive.encode_dvs128(events, 1))
    assert read(path)[1].tolist() == events


def test_external_events_of_a_dvs128_are_left_out(tmp_path):
    path = tmp_path / "a.aedat"
    path.write_bytes(FILES["aedat2"][1] + struct.pack(">2I", 0x8000, 99_999))
    assert read(path)[1].tolist() == SMALL


@pytest.mark.parametrize(
    ("header", "geometry"),
    [
        (b"% evt 3.0\n% plugin_name hal_plugin_gen31_fx3\n", Geometry(640, 480)),
        (b"% evt 3.0\n% plugin_name hal_plugin_imx636_evk4\n", Geometry(1280, 720)),
        (b"% evt 3.0\n", Geometry(304, 240)),  # the smallest sensor that holds all events
        (b"% evt 3.0\n% geometry 320x320\n% end\n", Geometry(320, 320)),
    ],
)
def test_geometry_of_raw_files(tmp_path, header, geometry):
    path = tmp_path / "a.raw"
    path.write_bytes(header + naive.encode_evt3(SMALL))
    assert open_recording(path).geometry == geometry
    assert open_recording(path, geometry=Geometry(7, 8)).geometry == Geometry(7, 8)


@pytest.mark.parametrize("header", [b"% evt 2.1\n", b"% evt 3.0\n% endianness big\n", b"% format EVT21;width=5\n"])
def test_raw_files_of_other_words_are_refused(tmp_path, header):
    path = tmp_path / "a.raw"
    path.write_bytes(header + bytes(64))
    with pytest.raises(RecordingError, match="known are"):
        open_recording(path)


def test_events_outside_are_left_out_and_told(tmp_path):
    path = tmp_path / "a.dat"
    path.write_bytes(naive.encode_dat([(1, 5, 5, 1), (2, 304, 5, 1), (3, 5, 240, 1), (4, 303, 239, 0)]))
    recording, events = read(path)
    assert events.tolist() == [(1, 5, 5, 1), (4, 303, 239, 0)]
    assert len(recording.warnings) == 1
    assert "2 events outside 304x240 left out, the first past byte" in recording.warnings[0]


def test_a_header_without_events_is_told(tmp_path):
    path = tmp_path / "a.aedat"
    path.write_bytes(naive.encode_dvs128([]))
    recording = open_recording(path)
    assert summary(recording)["events"] == summary(recording)["t_last_us"] == 0
    assert "no events" in recording.warnings[0]


def test_csv_columns_by_name_and_damage(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"x, y, p, timestamp\n1,2,1,10\n3,4,-1,20\n\n5,6,0,30\n")
    recording, events = read(path)
    assert events.tolist() == [(10, 1, 2, 1), (20, 3, 4, 0), (30, 5, 6, 0)]
    assert recording.geometry == Geometry(6, 7) and recording.warnings == []
    path.write_bytes(b"10,1,2,1\n20,3,oops,1\n30,5,6,0\n")
    recording, events = read(path)
    assert events.tolist() == [(10, 1, 2, 1)]
    assert "at byte 9" in recording.warnings[0]


def test_es_of_other_kinds_is_refused(tmp_path):
    path = tmp_path / "a.es"
    path.write_bytes(b"Event Stream" + bytes([2, 0, 0, 2, 4, 0, 4, 0]))
    with pytest.raises(RecordingError, match="atis events; known is version 2 with dvs events"):
        open_recording(path)


def test_aedat4_without_its_package_names_the_extra(tmp_path, monkeypatch):
    path = tmp_path / "a.aedat4"
    path.write_bytes(aedat4.MAGIC + bytes(100))
    monkeypatch.setitem(sys.modules, "aedat", None)
    with pytest.raises(RecordingError, match=r"pip install 'spiked\[files\]'"):
        open_recording(path)


def test_aedat4_packets_with_wild_times_or_pixels_are_left_out(data_dir, monkeypatch):
    need("aedat")
    path = data_dir / "files" / "davis.aedat4"
    good = make_events([10, 20], 1, 2, 1)
    wild = [good, make_events([1 << 63, 5], 1, 2, 1), make_events([30, 25], [1, 400], [2, 2], 0)]

    class Package:
        def __init__(self, path):
            pass

        def id_to_stream(self):
            return {0: {"type": "events", "width": 346, "height": 260}}

        def __iter__(self):
            return iter([{"stream_id": 0, "events": events} for events in wild])

    monkeypatch.setattr("aedat.Decoder", Package)
    recording, events = read(path)
    assert events.tolist() == [*good.tolist(), (30, 1, 2, 0)]
    assert [" ".join(w.split(": ", 1)[1].split()[:3]) for w in recording.warnings] == [
        "packet at byte",
        "times step back",
        "1 events outside",
    ]


def test_memory_stays_bounded(tmp_path):
    path = tmp_path / "a.dat"
    head = naive.encode_dat([])
    record = np.zeros(1 << 21, np.dtype([("t", "<u4"), ("p", "<u4")]))
    record["t"] = np.arange(len(record))
    path.write_bytes(head + record.tobytes())  # 16 MiB, 27 MB when decoded at once
    open_recording(path)
    tracemalloc.start()
    try:
        events = sum(map(len, open_recording(path).packets(1000)))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert events == len(record)
    assert peak < 8e6
