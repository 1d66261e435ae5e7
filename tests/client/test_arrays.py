"""From a file of differences to an array of jobs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from client.api import PortalApi
from client.arrays import ITEMS_MAX, REQUEST_BYTES_MAX, array_upload, items_load, requests_of
from client.cli import main
from client.settings import Login, login_save
from client.submission import DescriptorFileError
from tests.client.live_portal import LivePortal
from tests.client.scripted_portal import json_answer, scripted_portal
from tests.factories.jobs import descriptor_make
from workers.portal import PortalProtocolError
from workers.protocol.digests import digest_of

TOKEN = "nexa_" + "t" * 43


def written(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_csv_is_words_and_variables(tmp_path: Path) -> None:
    text = 'job_id,title,arguments,input_files,SEED,NOTE\r\nfirst,One,--x "a b",a.txt b.txt,1,"x,\ny"\r\n,,,,2,\r\n'
    assert items_load(written(tmp_path, "runs.CSV", text), label="sweep") == [
        {
            "job_id": "first",
            "title": "One",
            "arguments": ["--x", "a b"],
            "input_files": ["a.txt", "b.txt"],
            "environment": {"SEED": "1", "NOTE": "x,\ny"},
        },
        {"job_id": "sweep-2", "environment": {"SEED": "2"}},
    ]


def test_json_lines_are_items_as_they_are(tmp_path: Path) -> None:
    text = '{"arguments": ["1"]}\n\n{"job_id": "mine", "inputs": [{"path": "a"}]}\n'
    assert items_load(written(tmp_path, "runs.jsonl", text), label="sweep") == [
        {"job_id": "sweep-1", "arguments": ["1"]},
        {"job_id": "mine", "inputs": [{"path": "a"}]},
    ]


@pytest.mark.parametrize("character", ["\u2028", "\u2029", "\u0085"])
def test_json_lines_end_where_json_lines_do(tmp_path: Path, character: str) -> None:
    text = f'{{"title": "a{character}b"}}\r\n\r\n{{"title": "c"}}\r\n'
    assert items_load(written(tmp_path, "runs.jsonl", text), label="x") == [
        {"job_id": "x-1", "title": f"a{character}b"},
        {"job_id": "x-2", "title": "c"},
    ]


@pytest.mark.parametrize("character", ["\u2028", "\u0085", "\v", "\f", "\x1c", "\x1e"])
def test_cells_of_csv_end_where_cells_do(tmp_path: Path, character: str) -> None:
    for end in ("\n", "\r\n", "\r"):
        text = end.join(["title,NOTE", f'a{character}b,"x{character},y"', "c,d", ""])
        (tmp_path / "runs.csv").write_bytes(text.encode())
        assert items_load(tmp_path / "runs.csv", label="x") == [
            {"job_id": "x-1", "title": f"a{character}b", "environment": {"NOTE": f"x{character},y"}},
            {"job_id": "x-2", "title": "c", "environment": {"NOTE": "d"}},
        ]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.jsonl", "", "found none"),
        ("a.jsonl", "{}\n[]", "line 2: expected a JSON object"),
        ("a.jsonl", '{"a":1,"a":2}', "line 1: .*twice"),
        ("a.jsonl", '{"inputs":[3]}', "line 1: inputs: expected"),
        ("a.csv", "SEED\n", "found none"),
        ("a.csv", "SEED,SEED\n1,2\n", "each once"),
        ("a.csv", "SEED,\n1,2\n", "a name for each column"),
        ("a.csv", "SEED\n1,2\n", "line 2: expected 1 cells"),
        ("a.csv", 'SEED\n"1\n', "line 2: unexpected end"),
        ("a.csv", "arguments\n'x\n", "line 2, arguments: No closing quotation"),
    ],
)
def test_file_that_says_no_items_is_refused(tmp_path: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(DescriptorFileError, match=message):
        items_load(written(tmp_path, name, text), label="x")


def test_file_that_is_no_text_or_is_not_there_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"\xff")
    with pytest.raises(DescriptorFileError, match="UTF-8"):
        items_load(tmp_path / "a.csv", label="x")
    with pytest.raises(DescriptorFileError, match="can't be read"):
        items_load(tmp_path / "absent", label="x")


def test_requests_are_as_large_as_the_portal_takes() -> None:
    many: list[dict[str, Any]] = [{"job_id": str(number)} for number in range(2 * ITEMS_MAX + 1)]
    assert [len(request) for request in requests_of(many)] == [ITEMS_MAX, ITEMS_MAX, 1]
    large: list[dict[str, Any]] = [{"title": "x" * (REQUEST_BYTES_MAX // 2)} for _ in range(3)]
    assert [len(request) for request in requests_of(large)] == [1, 1, 1]
    assert list(requests_of([])) == []


def test_answer_without_a_job_for_each_item_is_none() -> None:
    with scripted_portal(lambda _: json_answer({"jobs": [{"id": "x", "job_id": "a", "state": "queued"}]}, 201)) as portal:
        api = PortalApi(portal.origin, TOKEN)
        assert len(api.jobs_submit({}, [{"job_id": "a"}])) == 1
        with pytest.raises(PortalProtocolError, match="each of 2 items"):
            api.jobs_submit({}, [{"job_id": "a"}, {"job_id": "b"}])


def test_array_is_submitted_with_each_file_uploaded_once(tmp_path: Path, portal: LivePortal) -> None:
    _, secret = portal.researcher()
    login_save(Login(portal.origin, secret, ""))
    for name in ("shared.txt", "one.txt"):
        (tmp_path / name).write_text(name)
    template = descriptor_make(job_id="sweep", input_files=["shared.txt"])
    path = written(tmp_path, "job.json", json.dumps(template))
    items = written(tmp_path, "runs.csv", "input_files,SEED\none.txt,1\none.txt,2\n,3\n")
    done = CliRunner().invoke(main, ["submit", str(path), "--array", str(items)])
    assert done.exit_code == 0, done.output
    assert "3 jobs, 3 of them new: sweep-1" in done.output.replace("\n", "")
    again = CliRunner().invoke(main, ["submit", str(path), "--array", str(items)])
    assert "3 jobs, 0 of them new" in again.output
    api = PortalApi(portal.origin, secret)
    jobs = {job["job_id"]: api.job(job["id"]) for job in api.jobs()["jobs"]}
    assert {label: [each["path"] for each in job["inputs"]] for label, job in jobs.items()} == {
        "sweep-1": ["one.txt", "shared.txt"],
        "sweep-2": ["one.txt", "shared.txt"],
        "sweep-3": ["shared.txt"],
    }
    assert jobs["sweep-2"]["descriptor"]["environment"] == {"SEED": "2"}


def test_stated_digest_that_is_not_the_files_is_refused(tmp_path: Path, portal: LivePortal) -> None:
    _, secret = portal.researcher()
    (tmp_path / "a").write_text("a")
    items = [{"job_id": "x", "inputs": [{"path": "a", "digest": digest_of(b"other")}]}]
    with pytest.raises(DescriptorFileError, match="Which one is meant"):
        array_upload(PortalApi(portal.origin, secret), {}, items, tmp_path)
