"""Checks an HTML report in Chromium at two widths, in light and dark mode, and in print.

    python -m pip install playwright && apt-get install chromium
    python benchmarks/page_screenshots.py report.html --output screenshots

Writes PNGs and a PDF. Fails if the page is wider than the window, texts overlap, a script fails or
the page requests anything but the file.
"""

import argparse
import shutil
import sys
from pathlib import Path

# Overlapping texts, except in the matrix, which scrolls below its own headings.
OVERLAPS = """() => {
  const boxes = [], overlaps = [];
  for (const closed of document.querySelectorAll("details")) closed.open = true;
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node; (node = walker.nextNode());) {
    if (!node.data.trim() || node.parentElement.closest("script, .matrix, title")) continue;
    const range = document.createRange();
    range.selectNodeContents(node);
    for (const box of range.getClientRects())
      if (box.width > 1) boxes.push([box, node.data.trim().slice(0, 30)]);
  }
  boxes.sort((a, b) => a[0].top - b[0].top);
  boxes.forEach(([a, first], i) => {
    for (let j = i + 1; j < boxes.length && boxes[j][0].top < a.bottom - 3; j++) {
      const [b, second] = boxes[j];
      if (b.left < a.right - 2 && a.left < b.right - 2) overlaps.push(`${first} | ${second}`);
    }
  });
  return overlaps;
}"""


def main():
    """Prints the problems of the page for each kind of window."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("page", type=Path)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        sys.exit("playwright is missing; run: python -m pip install playwright")
    browser_path = shutil.which("chromium") or shutil.which("google-chrome")
    options.output.mkdir(parents=True, exist_ok=True)
    bad = False
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=["--no-sandbox"])
        for name, width in (("desktop", 1280), ("phone", 375)):
            for scheme in ("light", "dark"):
                window = {"width": width, "height": 900}
                page = browser.new_page(viewport=window, color_scheme=scheme)
                wrong: list[str] = []
                page.on("pageerror", lambda error, wrong=wrong: wrong.append(str(error)))
                page.on("console", lambda line, wrong=wrong: wrong.append(line.text))
                page.on("request", lambda request, wrong=wrong: wrong.append(request.url))
                page.goto(options.page.resolve().as_uri())
                wrong = [w for w in wrong if not w.startswith(("data:", "file:"))]
                wide = page.evaluate("document.documentElement.scrollWidth")
                if wide > width:
                    wrong.append(f"{wide} pixels wide in a window of {width}")
                wrong += page.evaluate(OVERLAPS)
                page.screenshot(path=options.output / f"{name}-{scheme}.png", full_page=True)
                print(f"{name} {scheme}: {'; '.join(wrong[:5]) or 'ok'}")
                bad |= bool(wrong)
        page.pdf(path=options.output / "paper.pdf", format="A4")
        browser.close()
    sys.exit(int(bad))


if __name__ == "__main__":
    main()
