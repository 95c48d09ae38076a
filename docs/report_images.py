"""Make docs/images from the demo's report: `make demo`, then `python -m docs.report_images runs/demo/report.html`.

Needs Chromium. The pictures are the report's first screen in its light and its dark colours.
"""

import sys
from pathlib import Path

from tests.report.browser import CHROMIUM, Browser

IMAGES = Path(__file__).parent / "images"
WIDTH, HEIGHT = 1200, 1480


def main(page: Path) -> int:
    """Write report.png and report-dark.png; return 1 without Chromium or without the report."""
    if CHROMIUM is None or not page.is_file():
        print("Chromium is not installed." if CHROMIUM is None else f"{page} does not exist: run `make demo`.")
        return 1
    with Browser() as browser:
        for name, dark in (("report.png", False), ("report-dark.png", True)):
            browser.open(page.resolve(), width=WIDTH, height=HEIGHT, dark=dark)
            browser.until("document.querySelectorAll('.js-plotly-plot .main-svg').length > 0")
            browser.screenshot(IMAGES / name)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/demo/report.html")))
