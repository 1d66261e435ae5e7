"""docs/host.md against the code: its node.toml is one, with every setting, and its codes are those that there are."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from workers.caps import NodeSettings
from workers.engine_watch import AWAY
from workers.manners import HoldCode

DOCS = Path(__file__).parents[2] / "docs"
TEXT = (DOCS / "host.md").read_text()


def codes(text: str) -> set[str]:
    return set(re.findall(r"^\| `([a-z_]+)` \|", text, re.MULTILINE))


def test_node_toml_of_the_document_is_read_and_leaves_no_setting_out() -> None:
    match = re.search(r"```toml\n(.*?)```", TEXT, re.DOTALL)
    assert match is not None
    document = tomllib.loads(match[1])
    settings = NodeSettings.model_validate(document)
    for name, section in settings:
        assert set(document[name]) == set(type(section).model_fields), f"[{name}]"


def test_defaults_that_the_document_writes_down_are_the_defaults() -> None:
    match = re.search(r"```toml\n(.*?)```", TEXT, re.DOTALL)
    assert match is not None
    told = NodeSettings.model_validate(tomllib.loads(match[1]))
    default = NodeSettings()
    assert (told.worker, told.images, told.wishes, told.sandbox) == (default.worker, default.images, default.wishes, default.sandbox)
    assert told.lend.disk_reserve_gib == default.lend.disk_reserve_gib
    assert told.manners.model_copy(update={"hours": ()}) == NodeSettings().manners


def test_holds_and_reasons_are_all_explained() -> None:
    own, _, portals = TEXT.partition("## Why there is no work")[2].partition("The portal's reasons")
    assert codes(own) == {*HoldCode, AWAY.code, "engine_limits_ignored", "engine_unfit", "disk_low", "home_unwritable"}
    protocol = (DOCS / "PROTOCOL.md").read_text()
    match = re.search(r"<!-- codes: no_work -->(.*?)<!-- end -->", protocol, re.DOTALL)
    assert match is not None
    assert codes(portals) == codes(match[1])
