from __future__ import annotations

import os

from unetcli.launching.exchange import Exchange, Member


def test_who_has_begun_is_known_with_what_it_left_with(tmp_path):
    exchange = Exchange(tmp_path)
    exchange.begin("worker_0")
    exchange.begin("scheduler")
    exchange.end("worker_0", 3)
    assert list(exchange.members()) == [Member("scheduler", os.getpid()), Member("worker_0", os.getpid(), 3)]


def test_a_process_that_is_just_saying_that_it_begins_has_not_begun(tmp_path, monkeypatch):
    exchange = Exchange(tmp_path)
    monkeypatch.setattr("pathlib.Path.write_text", lambda path, *_: path.touch())
    monkeypatch.setattr("pathlib.Path.replace", lambda *_: None)
    exchange.begin("worker_0")
    assert len(list(tmp_path.iterdir())) == 1
    assert list(exchange.members()) == []
