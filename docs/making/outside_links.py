"""What the site makes of files outside of docs/: a hook of MkDocs (`hooks` in mkdocs.yml).

Pages link to code as it is in the repository, `../benchmarks/quality.py` say, which is right where the pages are read
as files. The site has no code, so there the text of such a link stays, without the link; or the link leads to the
repository, where mkdocs.yml has a `repo_url`. A file that is not there is a warning, and so fails the build.

CHANGELOG.md is the one such file that the site has as a page.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING

from mkdocs.structure.files import File

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

_LINK = re.compile(r"\[([^\]]+)\]\(\.\./([^)#]+)(#[^)]*)?\)")
_CHANGELOG = "CHANGELOG.md"
_log = logging.getLogger("mkdocs.hooks.outside_links")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the changelog as a page."""
    text = (_root(config) / _CHANGELOG).read_text(encoding="utf-8").replace("](docs/", "](")
    files.append(File.generated(config, _CHANGELOG.lower(), content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001 - MkDocs names them
    """Rewrite a page's links to files outside of docs/."""

    def rewritten(link: re.Match[str]) -> str:
        text, path, anchor = link[1], link[2], link[3] or ""
        if path == _CHANGELOG:
            return f"[{text}]({_CHANGELOG.lower()}{anchor})"
        if not (_root(config) / path).exists():
            _log.warning("%s links to %s, which is not in the repository", page.file.src_uri, path)
        return f"[{text}]({config.repo_url.rstrip('/')}/blob/main/{path}{anchor})" if config.repo_url else text

    return _LINK.sub(rewritten, markdown)


def _root(config: MkDocsConfig) -> Path:
    return Path(config.config_file_path).parent
