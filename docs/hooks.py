"""What the site has beside the pages of this folder, for `mkdocs build`.

The pages of the API follow `__all__`, one page for each part of a package; the command line is
documented by its own help; READMEs of other folders are pages at their own paths.
"""

import ast
import logging
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout, suppress
from io import StringIO
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
REPOSITORY = "https://github.com/innerloop/innerloop/blob/main/"

log = logging.getLogger("mkdocs.hooks.docs")  # whose warnings `mkdocs build --strict` counts


def reference() -> dict[str, list[str]]:
    """What each page of the API documents, by the part of the package that the page is about."""
    pages: dict[str, list[str]] = {}
    for node in ast.parse((ROOT / "innerloop/__init__.py").read_text()).body:
        if isinstance(node, ast.ImportFrom):
            part = ".".join(str(node.module).split(".")[:2])
            pages.setdefault(part, []).extend(f"innerloop.{alias.name}" for alias in node.names)
    # Public as a whole, as the docstring of `innerloop` says.
    whole = ["innerloop.trees", "innerloop.compare"]
    whole += ["innerloop.compat.higher", "innerloop.compat.learn2learn"]
    for path in (ROOT / "innerloop_vos").iterdir():
        package = path / "__init__.py"
        if package.exists() and "__all__" in package.read_text():
            whole.append(f"innerloop_vos.{path.name}")
        elif path.suffix == ".py" and path.stem not in ("__init__", "cli"):
            whole.append(f"innerloop_vos.{path.stem}")
    return dict(sorted((pages | {name: [name] for name in whole}).items()))


def reference_page(part: str, names: list[str]) -> str:
    """The page of a part of a package, for mkdocstrings."""
    if names == [part]:
        return f"::: {part}\n    options:\n      heading_level: 1\n"
    return "\n".join([f"# {part}\n", *(f"::: {name}\n" for name in names)])


def commands_page() -> str:
    """The help of every command."""
    os.environ |= {"COLUMNS": "90", "NO_COLOR": "1"}
    from innerloop.cli import main
    from innerloop_vos.cli import main as vos_main

    sections = [*help_of(main, "innerloop"), *help_of(vos_main, "innerloop-vos")]
    return "\n".join(["# Command line\n", *sections])


def help_of(main: Callable[[list[str]], int], name: str, *words: str) -> Iterator[str]:
    """The help of a command, and then of its own commands."""
    with redirect_stdout(StringIO()) as text, suppress(SystemExit):
        main([*words, "--help"])
    heading = "#" * min(2 + len(words), 3)
    yield f"{heading} `{' '.join([name, *words])}`\n\n```text\n{text.getvalue()}```\n"
    for command in re.findall(r"^ {4}([a-z][\w-]*)", text.getvalue(), re.MULTILINE):
        yield from help_of(main, name, *words, command)


def repository_pages() -> list[Path]:
    """Markdown and pictures outside this folder."""
    git = ["git", "ls-files", "innerloop*.md", "benchmarks*.md", "benchmarks*.png", "C*.md"]
    listed = subprocess.run(git, cwd=ROOT, check=True, text=True, capture_output=True).stdout
    return [ROOT / line for line in listed.splitlines()]


def on_config(config: Any) -> Any:
    """Put the pages of the API into the navigation, in the place of "reference"."""
    pages = [{part: f"reference/{part}.md"} for part in reference()]
    for section in config.nav:
        for entries in section.values():
            for entry in entries if isinstance(entries, list) else ():
                for title, value in entry.items():
                    if value == "reference":
                        entry[title] = pages
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that are made."""
    from mkdocs.structure.files import File  # the tests have no mkdocs

    for part, names in reference().items():
        content = reference_page(part, names)
        files.append(File.generated(config, f"reference/{part}.md", content=content))
    files.append(File.generated(config, "commands.md", content=commands_page()))
    for path in repository_pages():
        uri = path.relative_to(ROOT).as_posix()
        files.append(File.generated(config, uri, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Point links at the pages of the site, and those to other files at the repository."""
    here = page.file.src_uri
    made = page.file.generated_by and not here.startswith("reference/")
    folder = os.path.dirname(here if made else f"docs/{here}")

    def pointed(match: re.Match[str]) -> str:
        path, mark, anchor = match[1].partition("#")
        if "://" in path or not path:
            return match[0]
        goal = os.path.normpath(os.path.join(folder, path))
        uri = goal.removeprefix("docs/")
        if files.get_file_from_path(uri):
            path = os.path.relpath(uri, os.path.dirname(here))
        elif (ROOT / goal).exists():
            path = REPOSITORY + goal
        return f"]({path}{mark}{anchor})"

    parts = re.split(r"(^```.*?^```$)", markdown, flags=re.MULTILINE | re.DOTALL)
    parts[::2] = [re.sub(r"\]\(([^()\s]+)\)", pointed, part) for part in parts[::2]]
    return "".join(parts)


def on_post_page(output: str, page: Any, config: Any) -> str:
    """Warn of what a browser would load from elsewhere."""
    for source in re.findall(r'<(?:script|img|link)[^>]+(?:src|href)="(https?://[^"]*)', output):
        log.warning("%s loads %s", page.file.src_uri, source)
    return output
