"""schemathesis over the description that the daemon gives of itself, against the daemon itself."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

HOOKS = Path(__file__).with_name("hooks.py")
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"


def test_every_operation_of_the_description(url: str, tmp_path: Path) -> None:
    """Whatever is sent, no answer is a 500, and each is one that the description has for its status."""
    command = [Path(sys.executable).with_name("schemathesis"), "run", f"{url}/openapi.json", "--url", url]
    command += ["--checks", CHECKS, "--max-examples", os.environ.get("FUZZ_EXAMPLES", "25"), "--no-color"]
    command += ["--request-timeout", "60", "--phases", "examples,coverage,fuzzing"]
    env = {**os.environ, "SCHEMATHESIS_HOOKS": str(HOOKS), "PYTHONPATH": str(HOOKS.parent)}
    result = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=1500, check=False)
    sys.stdout.write(result.stdout[-20_000:])
    assert result.returncode == 0, result.stdout[-20_000:] + result.stderr[-5_000:]
