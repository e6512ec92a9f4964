"""Claim: the report of 1,000 trials is under 6 MB and its front is drawn within two seconds of opening it offline.

The trials are made up, of real networks; the browser is a headless Chromium without a network, started afresh for each
of the loads. The time is the page's own, from the start of the navigation until Plotly has drawn the front:
`python -m benchmarks.report [--trials 1000] [--loads 7]`.
"""

import argparse
import json
import shutil
import statistics
import tempfile
import time
from pathlib import Path

from playwright.sync_api import sync_playwright

from results.report import report
from tests.made_runs import mixed_run

DRAWN = "performance.getEntriesByName('front drawn')"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--loads", type=int, default=7)
    given = parser.parse_args()
    run = mixed_run(given.trials, epochs=27)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        path = Path(folder) / "report.html"
        start = time.perf_counter()
        report(run, path)
        written = time.perf_counter() - start
        loads = []
        for _ in range(given.loads):
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
            page = browser.new_context(offline=True, viewport={"width": 1280, "height": 900}).new_page()
            page.goto(path.as_uri())
            page.wait_for_function(f"{DRAWN}.length")
            loads.append(page.evaluate(f"{DRAWN}[0].startTime") / 1000)
            browser.close()
        size = path.stat().st_size / 1e6
    drawn = statistics.median(loads)
    print(f"{given.trials} trials: {size:.2f} MB, written in {written:.1f} s")
    print(f"drawn in {drawn:.2f} s ({min(loads):.2f}-{max(loads):.2f}, {given.loads} loads)")
    print(json.dumps({"trials": given.trials, "size_mb": round(size, 2), "drawn_s": round(drawn, 2)}))


if __name__ == "__main__":
    main()
