"""Alert rules, by Prometheus's own program: each is raised by what should raise it, and silent on a portal that is well."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

FOLDER: Final = Path(__file__).parents[2] / "infra/prometheus"
PROMTOOL: Final = Path(sys.executable).with_name("promtool")
RULES: Final[dict[str, Any]] = yaml.safe_load((FOLDER / "rules.yml").read_text())
SCENARIOS: Final[list[dict[str, Any]]] = yaml.safe_load((FOLDER / "scenarios.yml").read_text())["tests"]
ALERTS: Final = [rule["alert"] for group in RULES["groups"] for rule in group["rules"]]


def promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([PROMTOOL, *arguments], capture_output=True, text=True, check=False)


def asked(*, raised: bool) -> set[str]:
    """Alerts of which a scenario says that they are raised, or that they are not."""
    return {one["alertname"] for scenario in SCENARIOS for one in scenario["alert_rule_test"] if bool(one.get("exp_alerts")) is raised}


def test_prometheus_takes_the_rules() -> None:
    done = promtool("check", "rules", FOLDER / "rules.yml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_raises_each_alert_raises_it_and_nothing_else_does() -> None:
    done = promtool("test", "rules", FOLDER / "scenarios.yml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_has_a_scenario_in_which_it_is_raised_and_keeps_silent_where_all_is_well() -> None:
    well, *_ = SCENARIOS
    assert [one["alertname"] for one in well["alert_rule_test"] if not one.get("exp_alerts")] == ALERTS
    assert asked(raised=True) == set(ALERTS)


@pytest.mark.parametrize("expression", ["vector(1)", "vector(1) > 1"], ids=["always raised", "never raised"])
def test_rules_that_are_wrong_fail_their_scenarios(tmp_path: Path, expression: str) -> None:
    wrong = [{**group, "rules": [{**rule, "expr": expression} for rule in group["rules"]]} for group in RULES["groups"]]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": wrong}))
    (tmp_path / "scenarios.yml").write_text((FOLDER / "scenarios.yml").read_text())
    done = promtool("test", "rules", tmp_path / "scenarios.yml")
    assert done.returncode == 1
    assert set(re.findall(r"alertname: ?(\w+)", done.stdout + done.stderr)) == set(ALERTS)
