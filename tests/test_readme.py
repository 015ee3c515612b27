"""The README's Python example, run as it stands there: a script without a main guard."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

from rsna_lumbar.runtime.core.labels import GROUPS, ROW_LOCATIONS, SUBMISSION_COLUMNS
from rsna_lumbar.runtime.demo import demo_bundle, demo_studies

README = Path(__file__).parents[1] / "README.md"


def test_the_example_scores_every_study(tmp_path: Path) -> None:
    """As a script over more files than the command would decode in one process."""
    (example,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    for copy in ("1", "2", "3"):
        for study in (demo_studies() / "test_images").iterdir():
            target = tmp_path / "archive" / "test_images" / f"{study.name}{copy}"
            shutil.copytree(study, target)
    shutil.copytree(demo_bundle(), tmp_path / "bundle")
    (tmp_path / "example.py").write_text(example)
    assert len(list(tmp_path.rglob("*.dcm"))) > 300
    done = subprocess.run(
        [sys.executable, "example.py"], cwd=tmp_path, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 6 * len(GROUPS)
    rows = (tmp_path / "submission.csv").read_text().splitlines()
    assert rows[0] == ",".join(SUBMISSION_COLUMNS)
    assert len(rows) == 1 + 6 * len(ROW_LOCATIONS)
