"""MkDocs hook: adapts the pages to the site.

The pages in docs/ are plain Markdown that can be read in the repository. For the site,

- pages outside docs/ (benchmarks/results, the changelog, the examples' READMEs) are included with
  their paths, so that links to them work; links to other files outside become plain text;
- drawings are inlined, so that they have the page's colors, light or dark;
- comments are replaced, so that no content goes stale: `<!-- table: FILE 1 -->` by the first table
  of a file, `<!-- command: train -->` by the output of `keras-psp train --help`, and
  `<!-- results -->` by a list of the files in benchmarks/results.
"""

import functools
import json
import posixpath
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, InclusionLevel

ROOT = Path(__file__).parents[2]
RESULTS = "benchmarks/results"
OUTSIDE = (
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    f"{RESULTS}/*.md",
    "examples/gradio/README.md",
    "examples/serving/README.md",
)
"""Patterns of the pages outside docs/."""


def outside() -> Iterator[str]:
    """Yields the paths of pages outside docs/, relative to the repository and to the site."""
    for pattern in OUTSIDE:
        for path in sorted(ROOT.glob(pattern)):
            yield path.relative_to(ROOT).as_posix()


def on_files(files, config):
    """Includes the pages outside docs/."""
    for path in outside():
        page = File.generated(config, path, abs_src_path=str(ROOT / path))
        page.inclusion = InclusionLevel.NOT_IN_NAV
        files.append(page)
    return files


def on_page_markdown(markdown, page, config, files):
    """Adapts the Markdown of a page."""
    home = page.file.src_uri if page.file.src_uri in outside() else f"docs/{page.file.src_uri}"
    markdown = re.sub(
        r"^<!-- (\w+)(?:: (.*?))? -->$",
        lambda match: _generated(home, match[1], *(match[2] or "").split()),
        markdown,
        flags=re.MULTILINE,
    )
    # On GitHub, a table needs no blank line before it.
    markdown = re.sub(r"^([^|\n].*)\n(\|.*\n\|[-:| ]+$)", r"\1\n\n\2", markdown, flags=re.MULTILINE)
    markdown = re.sub(r"^!\[(.*)\]\((\S+\.svg)\)$", _drawing, markdown, flags=re.MULTILINE)
    return re.sub(  # also images, which keep their "!"
        r"\[([^][]+)\]\(([^()\s:#]+)(#[^()\s]*)?\)",
        lambda match: _linked(home, files, *match.groups()),
        markdown,
    )


def _linked(home, files, text, target, anchor):
    """Returns a link for the site."""
    path = posixpath.normpath(posixpath.join(posixpath.dirname(home), target))
    if files.get_file_from_path(f"{path}/README.md"):
        path += "/README.md"
    uri, start = path.removeprefix("docs/"), posixpath.dirname(home.removeprefix("docs/"))
    if files.get_file_from_path(uri) is None:
        if not (ROOT / path).exists():
            raise PluginError(f"{home}: the link to {target} is broken.")
        return text  # a file that isn't a page
    return f"[{text}]({posixpath.relpath(uri, start or '.')}{anchor or ''})"


def _drawing(match):
    """Returns the drawing inline, with the colors of the page."""
    drawing = (ROOT / "docs" / match[2]).read_text("utf-8")
    drawing = re.sub(r"<\?xml.*?\?>\s*", "", drawing).strip()
    return f'<figure class="drawing" aria-label="{match[1]}">\n{drawing}\n</figure>'


def _generated(home, kind, *arguments):
    makers = {"table": table, "command": command, "results": results}
    if kind not in makers:
        raise PluginError(f"{home}: <!-- {kind} --> is unknown; there are {', '.join(makers)}.")
    lines = makers[kind](*arguments)
    above = "../" * home.count("/")  # their links are relative to the root
    return re.sub(r"\]\((?!https?:)", f"]({above}", lines)


def table(path: str, number: str) -> str:
    """Returns a table of a file; numbers start at 1."""
    tables = re.findall(r"(?:^\|.*\n?)+", (ROOT / path).read_text("utf-8"), re.MULTILINE)
    if not 0 < int(number) <= len(tables):
        raise PluginError(f"{path} has {len(tables)} tables, so there is no table {number}.")
    # Its links are relative to its own folder.
    chosen = re.sub(r"\]\((?!https?:)", f"]({posixpath.dirname(path)}/", tables[int(number) - 1])
    return f'<div class="figures" markdown>\n\n{chosen.rstrip()}\n\n</div>'


@functools.cache
def _helps():
    script = [sys.executable, str(Path(__file__).with_name("command_line.py"))]
    done = subprocess.run(script, capture_output=True, text=True, check=False)
    if done.returncode:
        raise PluginError(f"{script[1]} failed:\n{done.stderr}")
    return json.loads(done.stdout)


def command(name: str = "") -> str:
    """Returns the output of `keras-psp NAME --help`."""
    if name not in _helps():
        raise PluginError(f"keras-psp has no command {name!r}; it has {', '.join(_helps())}.")
    return f"```text\n{_helps()[name].rstrip()}\n```"


def results() -> str:
    """Lists the files of results with the first command of each."""
    lines = ["| results | command |", "|---|---|"]
    for path in sorted((ROOT / RESULTS).glob("*.md")):
        text = path.read_text("utf-8")
        title = re.search(r"^# (.*)$", text, re.MULTILINE)[1]
        first = re.search(r"^    .*?(\S+\.py|keras-psp \w+)", text, re.MULTILINE)
        shown = f"`{first[1]}`" if first else ""
        lines.append(f"| [{title}]({RESULTS}/{path.name}) | {shown} |")
    return "\n".join(lines)
