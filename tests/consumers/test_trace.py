"""A trace of requests is read as usage records, or its wrong cell is named."""

import gzip
from datetime import UTC, datetime
from pathlib import Path

import pytest

from infra.local.trace import COLUMNS, TraceError, read_trace, source_of

HEADER = (
    "gmt_create,predict_type,predict_status,exec_time_seconds,groupId,prompt_length,negative_prompt_length,"
    "num_images_per_prompt,num_inference_steps,checkpoint_model_version_id,num_lora"
)
ROW = "2024-11-15 18:17:06,IMG_2_IMG,SUCCEED,36.0,G0001,93.0,,8.0,40.0,M0001,2"


def _trace(tmp_path: Path, *rows: str, header: str = HEADER) -> Path:
    path = tmp_path / "trace.csv"
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def test_a_row_becomes_a_usage_record_with_canonical_quantities(tmp_path: Path) -> None:
    path = _trace(tmp_path, ROW)

    (record,) = read_trace(path)

    assert (record.team_id, record.source, record.id) == ("G0001", "urn:trace:trace", "1")
    assert record.occurred_at == datetime(2024, 11, 15, 18, 17, 6, tzinfo=UTC)
    assert (record.action, record.status) == ("image.edit", "succeeded")
    assert record.meters == {"seconds": "36", "images": "8", "steps": "40"}
    assert record.dimensions == {"model": "M0001", "loras": "2"}
    assert record.context == b'{"prompt_length":93}'


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("generation_requests.csv.gz", "urn:trace:gentd26"),
        ("generation_requests.csv", "urn:trace:gentd26"),
        ("december.csv.gz", "urn:trace:december"),
        ("a b/ü.csv".replace("/", "-"), "urn:trace:a%20b-%C3%BC"),
    ],
)
def test_two_traces_in_one_ledger_have_two_sources(name: str, source: str) -> None:
    assert source_of(Path(name)) == source


def test_an_empty_cell_leaves_its_meter_or_dimension_out(tmp_path: Path) -> None:
    path = _trace(tmp_path, "2024-11-26 22:50:35,TXT_2_IMG,PENDING,0.0,G0325,,,,,,0")

    (record,) = read_trace(path)

    assert (record.status, record.meters, record.dimensions) == (
        "cancelled",
        {"seconds": "0"},
        {"loras": "0"},
    )
    assert record.context is None


@pytest.mark.parametrize(
    ("written", "read"),
    [("8", "8"), ("8.0", "8"), ("08.50", "8.5"), ("0.000000001", "0.000000001"), ("0.0", "0")],
)
def test_a_quantity_is_read_exactly(tmp_path: Path, written: str, read: str) -> None:
    (record,) = read_trace(_trace(tmp_path, ROW.replace("36.0", written)))

    assert record.meters["seconds"] == read


@pytest.mark.parametrize(
    ("good", "bad", "column"),
    [
        ("36.0", "3.6e1", "exec_time_seconds"),
        ("36.0", "-36", "exec_time_seconds"),
        ("36.0", "nan", "exec_time_seconds"),
        ("36.0", "0.0000000001", "exec_time_seconds"),
        ("36.0", "9" * 30, "exec_time_seconds"),
        ("IMG_2_IMG", "TXT_2_VIDEO", "predict_type"),
        ("SUCCEED", "", "predict_status"),
        ("SUCCEED", "succeed", "predict_status"),
        ("G0001", "", "groupId"),
        ("G0001", "two words", "groupId"),
        ("2024-11-15 18:17:06", "2024-11-31 18:17:06", "gmt_create"),
        ("2024-11-15 18:17:06", "2024-11-15T18:17:06Z", "gmt_create"),
        ("M0001", "M\u202e1", "checkpoint_model_version_id"),
        ("93.0", "long", "prompt_length"),
    ],
)
def test_a_wrong_cell_is_named_by_line_and_column(tmp_path: Path, good: str, bad: str, column: str) -> None:
    path = _trace(tmp_path, ROW, ROW.replace(good, bad))

    with pytest.raises(TraceError, match=rf"line 3, column {column}: "):
        list(read_trace(path))


@pytest.mark.parametrize("missing", COLUMNS)
def test_a_missing_column_is_named(tmp_path: Path, missing: str) -> None:
    header = ",".join("other" if name == missing else name for name in HEADER.split(","))
    path = _trace(tmp_path, ROW, header=header)

    with pytest.raises(TraceError, match=f"line 1: no column {missing};"):
        list(read_trace(path))


def test_a_short_row_is_named(tmp_path: Path) -> None:
    path = _trace(tmp_path, ROW, "2024-11-15 18:17:06,IMG_2_IMG")

    with pytest.raises(TraceError, match="line 3: 2 cells, 11 would be right"):
        list(read_trace(path))


def test_an_empty_file_and_a_torn_archive_are_refused(tmp_path: Path) -> None:
    empty, torn = tmp_path / "empty.csv", tmp_path / "torn.csv.gz"
    empty.write_bytes(b"")
    torn.write_bytes(gzip.compress("\n".join([HEADER, *[ROW] * 1_000]).encode())[:60])

    for path in (empty, torn):
        with pytest.raises(TraceError, match=path.name):
            list(read_trace(path))


def test_a_trace_is_read_packed_or_plain_and_with_its_columns_in_any_order(tmp_path: Path) -> None:
    path, packed = _trace(tmp_path, ROW), tmp_path / "packed" / "trace"
    turned = tmp_path / "turned" / "trace.csv"
    for other in (packed, turned):
        other.parent.mkdir()
    packed.write_bytes(gzip.compress(path.read_bytes()))
    turned.write_text("\n".join(",".join(reversed(line.split(","))) for line in (HEADER, ROW)) + "\n\n")

    assert list(read_trace(packed)) == list(read_trace(path)) == list(read_trace(turned))
