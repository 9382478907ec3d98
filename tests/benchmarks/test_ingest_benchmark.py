"""The benchmark of ingest measures what it says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.ingest import compare, main


def test_both_are_timed_and_faults_are_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    turns = [{"from": "human", "value": "Hi?"}, {"from": "gpt", "value": "Hello."}]
    rows = [json.dumps({"id": number, "conversations": turns}) for number in range(20)]
    rows[3], rows[5] = rows[3][:20], rows[5][:20]
    file, kept = tmp_path / "pool.jsonl", tmp_path / "kept"
    file.write_text("\n".join(rows))
    main([str(file), "--rounds", "1", "--keep", str(kept)])
    found = json.loads(capsys.readouterr().out)
    assert found["loop_s"] > 0 and found["ingest_s"] > 0 and found["peak_mb"] > 10
    assert "faults" not in found
    planted = [(3, "broken_json"), (7, "broken_json"), (9, "image_without_placeholder")]
    truth = [{"line": line, "kind": "faulty", "note": note} for line, note in planted]
    (tmp_path / "truth.jsonl").write_text("\n".join(map(json.dumps, truth)))
    assert compare(file, kept) == {"wrongly_kept": 1, "wrongly_dropped": 1}
