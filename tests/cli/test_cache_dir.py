from __future__ import annotations

from tomas_router.cli.cache_dir import VARIABLE, cache_dir


def test_cache_dir_when_named_by_the_environment_is_created(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(tmp_path / "deep" / "cache"))
    assert cache_dir() == tmp_path / "deep" / "cache"
    assert (tmp_path / "deep" / "cache").is_dir()


def test_cache_dir_when_not_named_lies_in_the_users_cache(tmp_path, monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_dir() == tmp_path / "tomas-router"


def test_cache_dir_when_nothing_can_be_written_is_none(tmp_path, monkeypatch):
    blocker = tmp_path / "file"
    blocker.write_text("not a folder", encoding="utf-8")
    monkeypatch.setenv(VARIABLE, str(blocker / "cache"))
    assert cache_dir() is None
