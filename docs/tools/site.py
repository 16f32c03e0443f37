"""MkDocs hook: the pages as the site shows them.

The pages in docs/ are plain Markdown that reads well in a repository. For the site

- links lead to the pages that stand outside docs/ too (benchmarks/results, the changelog, the
  examples' READMEs), which are taken in under their own paths; a link to anything else outside
  becomes its text;
- a drawing is put into its page, so that it has the page's colours, light or dark;
- a comment `<!-- table: benchmarks/results/fusion.md 1 -->` becomes that file's first table,
  `<!-- command: train -->` what `keras-psp train --help` prints and `<!-- results -->` the list of
  the files in benchmarks/results. None can go stale.
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
"""Pages outside docs/, as patterns."""


def outside() -> Iterator[str]:
    """Paths of the pages outside docs/, in the repository and on the site."""
    for pattern in OUTSIDE:
        for path in sorted(ROOT.glob(pattern)):
            yield path.relative_to(ROOT).as_posix()


def on_files(files, config):
    """Take the pages outside docs/ in."""
    for path in outside():
        page = File.generated(config, path, abs_src_path=str(ROOT / path))
        page.inclusion = InclusionLevel.NOT_IN_NAV
        files.append(page)
    return files


def on_page_markdown(markdown, page, config, files):
    """A page's Markdown for the site."""
    home = page.file.src_uri if page.file.src_uri in outside() else f"docs/{page.file.src_uri}"
    markdown = re.sub(
        r"^<!-- (\w+)(?:: (.*?))? -->$",
        lambda match: _generated(home, match[1], *(match[2] or "").split()),
        markdown,
        flags=re.MULTILINE,
    )
    # As GitHub has it, a table needs no blank line before it.
    markdown = re.sub(r"^([^|\n].*)\n(\|.*\n\|[-:| ]+$)", r"\1\n\n\2", markdown, flags=re.MULTILINE)
    markdown = re.sub(r"^!\[(.*)\]\((\S+\.svg)\)$", _drawing, markdown, flags=re.MULTILINE)
    return re.sub(  # pictures as well, whose "!" stays before them
        r"\[([^][]+)\]\(([^()\s:#]+)(#[^()\s]*)?\)",
        lambda match: _linked(home, files, *match.groups()),
        markdown,
    )


def _linked(home, files, text, target, anchor):
    """A link as the site has it."""
    path = posixpath.normpath(posixpath.join(posixpath.dirname(home), target))
    if files.get_file_from_path(f"{path}/README.md"):
        path += "/README.md"
    uri, start = path.removeprefix("docs/"), posixpath.dirname(home.removeprefix("docs/"))
    if files.get_file_from_path(uri) is None:
        if not (ROOT / path).exists():
            raise PluginError(f"{home}: the link to {target} leads nowhere.")
        return text  # a file of the repository that is no page
    return f"[{text}]({posixpath.relpath(uri, start or '.')}{anchor or ''})"


def _drawing(match):
    """The drawing itself, for a screen that has its own colours."""
    drawing = (ROOT / "docs" / match[2]).read_text("utf-8")
    drawing = re.sub(r"<\?xml.*?\?>\s*", "", drawing).strip()
    return f'<figure class="drawing" aria-label="{match[1]}">\n{drawing}\n</figure>'


def _generated(home, kind, *arguments):
    makers = {"table": table, "command": command, "results": results}
    if kind not in makers:
        raise PluginError(f"{home}: <!-- {kind} --> is unknown; there are {', '.join(makers)}.")
    lines = makers[kind](*arguments)
    above = "../" * home.count("/")  # links in them are from the root
    return re.sub(r"\]\((?!https?:)", f"]({above}", lines)


def table(path: str, number: str) -> str:
    """The table of this number, from 1, in a file."""
    found = re.findall(r"(?:^\|.*\n?)+", (ROOT / path).read_text("utf-8"), re.MULTILINE)
    if not 0 < int(number) <= len(found):
        raise PluginError(f"{path} has {len(found)} tables, none of number {number}.")
    # Links in it are from its own folder.
    chosen = re.sub(r"\]\((?!https?:)", f"]({posixpath.dirname(path)}/", found[int(number) - 1])
    return f'<div class="figures" markdown>\n\n{chosen.rstrip()}\n\n</div>'


@functools.cache
def _helps():
    script = [sys.executable, str(Path(__file__).with_name("command_line.py"))]
    done = subprocess.run(script, capture_output=True, text=True, check=False)
    if done.returncode:
        raise PluginError(f"{script[1]} failed:\n{done.stderr}")
    return json.loads(done.stdout)


def command(name: str = "") -> str:
    """What `keras-psp NAME --help` prints."""
    if name not in _helps():
        raise PluginError(f"keras-psp has no command {name!r}; it has {', '.join(_helps())}.")
    return f"```text\n{_helps()[name].rstrip()}\n```"


def results() -> str:
    """The files of results with the first command of each."""
    lines = ["| results | printed by |", "|---|---|"]
    for path in sorted((ROOT / RESULTS).glob("*.md")):
        text = path.read_text("utf-8")
        title = re.search(r"^# (.*)$", text, re.MULTILINE)[1]
        first = re.search(r"^    .*?(\S+\.py|keras-psp \w+)", text, re.MULTILINE)
        shown = f"`{first[1]}`" if first else ""
        lines.append(f"| [{title}]({RESULTS}/{path.name}) | {shown} |")
    return "\n".join(lines)
