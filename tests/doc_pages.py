"""The documentation's pages, and what is in them: commands, snippets, links, headings, options."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")))
PROGRAMS = ("make ", "python -m ", "pytest ", "pip ", "hf ", "torchrun ", "sbatch ", "srun ", "accelerate ", ".ci/run")
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`([^`]+)`")
LINK = re.compile(r"!?\[(?:[^\[\]]|\[[^\]]*\])*\]\(([^)\s]+)\)")
COMMENT = re.compile(r"(?:^|\s+)# .*$")
HEREDOC = re.compile(r"<<(\w+)$")


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def commands(text: str) -> list[str]:
    """Command lines without their comments: every line of a block without a language, a here-document with its line,
    and inline code that begins with a program."""
    found = []
    for _, language, block in FENCE.findall(text):
        if not language:
            found += _lines(block)
    return found + [code for code in inline(text) if code.startswith(PROGRAMS)]


def _lines(block: str) -> list[str]:
    found, end = [], None
    for line in block.splitlines():
        if end is not None:
            found[-1] += f"\n{line}"
            end = None if line.strip() == end else end
        elif line := COMMENT.sub("", line).strip():
            found.append(line)
            end = opened[1] if (opened := HEREDOC.search(line)) else None
    return found


def snippets(text: str) -> list[str]:
    """Blocks of Python, without the indentation of the list that they stand in."""
    blocks = [(indent, block) for indent, language, block in FENCE.findall(text) if language == "python"]
    return [re.sub(f"^{indent}", "", block, flags=re.MULTILINE) for indent, block in blocks]


def inline(text: str) -> list[str]:
    """Inline code, on one line each."""
    return [" ".join(code.split()) for code in INLINE.findall(FENCE.sub("", text))]


def links(text: str) -> list[str]:
    """Targets of links and pictures, outside of code."""
    return LINK.findall(INLINE.sub("code", FENCE.sub("", text)))


def anchors(text: str) -> set[str]:
    """The anchors that GitHub gives to the headings of a page."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ (.+)$", FENCE.sub("", text), re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("\\", "")
        slug = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
        repeats = next(n for n in range(len(found) + 1) if (f"{slug}-{n}" if n else slug) not in found)
        found.add(f"{slug}-{repeats}" if repeats else slug)
    return found
