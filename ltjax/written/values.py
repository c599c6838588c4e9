"""What a written value means, wherever it stands: missing values, Unicode, numbers, names of splits, order of classes.

Folders, CSV files, npz files, prepared sets, predictions and the tables of data_prep all ask here, so that one data set
cannot mean two things.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from decimal import Context, Decimal

# What pandas reads as missing, in any case, and what people type: beside the empty text and blanks.
_MISSING = {
    '', '#n/a', '#n/a n/a', '#na', '-1.#ind', '-1.#qnan', '-nan', '1.#ind', '1.#qnan', '<na>', 'n/a', 'na',
    'null', 'nan', '-', '--', '?', '\u2013', '\u2014', '#ref!', '#value!', '#div/0!', '#name?', '#num!', '#null!',
}  # fmt: skip

SPLITS = ('train', 'val', 'test')

# Around the name of a split: test_set, images-train.
_AROUND = re.compile(r'(?:(?:images?|data|set)[ _-])?(\w+?)(?:[ _-]?(?:set|split|images?|data))?')

_SPLIT_NAMES = {
    'train': 'train', 'training': 'train', 'tr': 'train',
    'val': 'val', 'valid': 'val', 'validation': 'val', 'dev': 'val',
    'test': 'test', 'testing': 'test',
}  # fmt: skip

_WHOLE_NUMBER = re.compile(r'([+-]?\d+)\.0+')
_DECIMAL = re.compile(r'[+-]?(\d+\.?\d*|\.\d+)')
_NUMBER = re.compile(r'[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?', re.IGNORECASE)
_DIGITS = re.compile(r'(\d+)')


def text(value: object) -> str:
    """Returns a name as it is compared: in Unicode's composed form (NFC), without blanks around it.

    >>> text(' ke\u0301ratose ') == 'k\u00e9ratose'
    True
    """
    return unicodedata.normalize('NFC', str(value)).strip()


def is_missing(value: object) -> bool:
    """Tells whether a value stands for none: empty, NA, nan, NULL, None, '-', '?' and the like.

    'none' in small letters is a value: it may be a finding.

    >>> [is_missing(value) for value in ('NA', ' ', '?', 'none', '0')]
    [True, True, True, False, False]
    """
    name = text(value)
    return name in ('None', 'NONE') or name.casefold() in _MISSING


def name(value: object) -> str:
    """Returns a label or group as it is compared, '' if it is missing; '1.0', as a spreadsheet writes 1, is '1'.

    >>> [name(value) for value in ('1.0', 'mel ', 'NaN', '1.5')]
    ['1', 'mel', '', '1.5']
    """
    if is_missing(value):
        return ''
    whole = _WHOLE_NUMBER.fullmatch(text(value))
    return whole[1] if whole else text(value)


def split_name(value: object) -> str | None:
    """Returns 'train', 'val' or 'test' for the usual names of splits in any case, None for other values.

    >>> [split_name(value) for value in ('Training', 'valid', 'TEST', 'test_set', 'results')]
    ['train', 'val', 'test', 'test', None]
    """
    inner = _AROUND.fullmatch(text(value).casefold())
    return _SPLIT_NAMES.get(inner[1]) if inner else None


def whole_number(value: object) -> int | None:
    """Returns the whole number that a value is, also written as 3.0; None for other values."""
    written = name(value)
    return int(written) if re.fullmatch(r'[+-]?\d+', written) else None


def are_numbers(names: Iterable[str]) -> bool:
    """Tells whether all names are numbers, which have an order of their own."""
    return all(_NUMBER.fullmatch(each) for each in names)


def in_natural_order(names: Iterable[str]) -> list[str]:
    """Sorts names: by value if all are numbers, else by letters, with the numbers in them by value.

    >>> in_natural_order(['10', '9', '-1'])
    ['-1', '9', '10']
    >>> in_natural_order(['grade 10', 'grade 2', 'b'])
    ['b', 'grade 2', 'grade 10']
    """
    names = list(names)
    if are_numbers(names):
        return sorted(names, key=lambda each: (float(each), each))
    return sorted(names, key=lambda each: (_parts(each), each))


def _parts(value: str) -> list[tuple[int, int, str]]:
    return [
        (0, int(part), '') if at % 2 else (1, 0, part)
        for at, part in enumerate(_DIGITS.split(value))
    ]


def spelled_alike(names: Iterable[str]) -> list[tuple[str, ...]]:
    """Returns names that look or count alike: they differ in capitals, blanks, dashes, zeros or what is not seen.

    >>> spelled_alike(['mel', 'MEL', 'basal cell', 'basal_cell', 'nv', '01', '1'])
    [('mel', 'MEL'), ('basal cell', 'basal_cell'), ('01', '1')]
    """
    spellings: dict[str, list[str]] = {}
    for each in names:
        spellings.setdefault(spelling(_written_out(each)), []).append(each)
    return [tuple(group) for group in spellings.values() if len(group) > 1]


def _written_out(value: str) -> str:
    """Returns a number without its exponent, unless that would make it very long."""
    if not _NUMBER.fullmatch(value) or _DECIMAL.fullmatch(value):
        return value
    mantissa, _, exponent = value.lower().partition('e')
    return format(Decimal(f'{mantissa}e{exponent}'), 'f') if abs(int(exponent)) < 20 else value


def alike_as_one(given: Iterable[object]) -> list[str]:
    """Returns groups and the like as they are compared, '' for none; those that look alike are one, which parts nobody.

    -1 is none, as `pandas.factorize` has it; but where other numbers below 0 occur (hashes, say) all are values.

    >>> alike_as_one(['7', '7.0', 'P-1', 'p 1', '-1', 'NA'])
    ['7', '7', 'P-1', 'P-1', '', '']
    >>> alike_as_one(['-1', '-5481230'])
    ['-1', '-5481230']
    """
    found = list(map(name, given))
    below = {each for each in {*found} if each.startswith('-') and whole_number(each)}
    missing = below if below == {'-1'} else set[str]()
    one_of = dict[str, str]()
    return [
        '' if not each or each in missing else one_of.setdefault(spelling(each), each)
        for each in found
    ]


def spelling(value: str) -> str:
    """Returns what names that look or count alike have in common.

    Numbers are compared digit by digit, for they may be long names of patients; one with an exponent is a name: 12e4567
    is a hash.

    >>> spelling('0.50') == spelling('.5'), spelling('T\u2011cell') == spelling('t_cell\u200b')
    (True, True)
    >>> spelling('110101199003071000') == spelling('110101199003071001'), spelling('007') == spelling('7')
    (False, True)
    """
    if _DECIMAL.fullmatch(value):
        exact = Decimal(value).normalize(Context(prec=len(value)))
        return format(exact or abs(exact), 'f')
    letters = unicodedata.normalize('NFKC', value).replace('\u2019', "'")
    kinds = ((letter, unicodedata.category(letter)) for letter in letters)
    seen = ''.join('-' if kind == 'Pd' else letter for letter, kind in kinds if kind != 'Cf')
    return re.sub(r'[\s_-]+', '-', seen.casefold())


def listed(values: Sequence[object], at_most: int = 5) -> str:
    """Returns the first values for a message, and how many more there are."""
    more = f' and {len(values) - at_most} more' if len(values) > at_most else ''
    return ', '.join(map(str, values[:at_most])) + more
