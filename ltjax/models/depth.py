"""How deep in a network a parameter is, by its path."""

import re
from collections.abc import Iterable

# A block by its place, or by its stage and its place there: those of ViTs, of ConvNeXts and EfficientNets, of ResNets,
# and of the small network, whose norms have a list of their own. What is between two stages belongs to the next block.
_BLOCK = re.compile(r'(?:blocks\.|stages\.|layer|convs\.|norms\.)(\d+)\.(?:(?:blocks\.)?(\d+)\.)?')
_STEM = re.compile(r'(?:stem|conv1|bn1)\.')


def block_of(path: str) -> tuple[int, int] | None:
    """Returns the place of the block that a parameter is in, to be compared with others; None: it is in none."""
    found = _BLOCK.match(f'{path}.')
    return (int(found[1]), int(found[2] or 0)) if found else None


def depths(paths: Iterable[str]) -> dict[str, int]:
    """Returns by path how many blocks a parameter is below the heads.

    That is 0 for the classifier, the last norm and whatever a method adds behind the blocks, 1 for the last block, and
    one more than for the first block for the stem with its embeddings.

    Args:
      paths: 'blocks.0.norm1.bias', say; of one network. Blocks of which there is none do not count.
    """
    found = {path: block_of(path) for path in paths}
    blocks = sorted({block for block in found.values() if block is not None}, reverse=True)
    depth = {block: number for number, block in enumerate(blocks, start=1)}

    def below_heads(path: str, block: tuple[int, int] | None) -> int:
        if block is not None:
            return depth[block]
        return len(blocks) + 1 if _STEM.match(f'{path}.') else 0

    return {path: below_heads(path, block) for path, block in found.items()}
