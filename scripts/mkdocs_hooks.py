"""What mkdocs.yml cannot say: the first page of the site is README.md, and links of a notebook lead to pages."""

import pathlib
import re
from typing import Any

README = pathlib.Path(__file__).resolve().parent.parent / 'README.md'

# Files beside README.md that have a page of their own.
PAGES = {'CONTRIBUTING.md': 'contributing.md', 'CHANGELOG.md': 'changelog.md'}


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Called by mkdocs for each page; returns its Markdown."""
    if page.file.src_uri != 'index.md':
        return markdown
    return re.sub(r'\]\(([^)#]+)', lambda link: f']({moved(link[1])}', README.read_text('utf-8'))


def moved(target: str) -> str:
    """Returns a link of README.md as seen from docs/.

    >>> moved('docs/data.md'), moved('CHANGELOG.md')
    ('data.md', 'changelog.md')
    """
    return PAGES.get(target, target.removeprefix('docs/'))


def on_page_content(html: str, *, page: Any, files: Any, **_: Any) -> str:
    """Called by mkdocs for each page; returns its HTML. A notebook's links to pages that do not exist raise."""
    if not page.file.src_uri.endswith('.ipynb'):
        return html

    def linked(link: re.Match[str]) -> str:
        target = files.get_file_from_path(link[1])
        if target is None:
            raise ValueError(f'{page.file.src_uri} has a link to {link[1]}, which is not in docs/')
        return f'href="{target.url_relative_to(page.file)}"'

    return re.sub(r'href="([\w./-]+\.md)"', linked, html)


def on_serve(server: Any, **_: Any) -> Any:
    """Called by `mkdocs serve`; returns the server, which also watches README.md."""
    server.watch(str(README))
    return server
