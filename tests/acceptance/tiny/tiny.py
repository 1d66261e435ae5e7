"""Sums the squares of the numbers in numbers.txt, taking TINY_SECONDS for it and telling how far it is."""

import json
import os
import time
from pathlib import Path

STEPS = 10

seconds = float(os.environ.get("TINY_SECONDS", "1"))
numbers = [int(line) for line in (Path(os.environ["NEXA_INPUTS"]) / "numbers.txt").read_text().split()]
for step in range(STEPS):
    print(json.dumps({"nexa_progress": step / STEPS, "stage": "summing"}), flush=True)
    time.sleep(seconds / STEPS)
result = {"count": len(numbers), "sum_of_squares": sum(number * number for number in numbers)}
(Path(os.environ["NEXA_OUTPUTS"]) / "sum.json").write_text(json.dumps(result))
