"""A table as Markdown, CSV and LaTeX."""

from reproduction import forms, tables


def test_a_grid_in_three_forms():
    rows = [
        [tables.Cell('CE'), tables.Cell('50.0 ± 1.0'), tables.Cell('')],
        [
            tables.Cell('a_b & 5 %'),
            tables.Cell('60.0', tables.BEST),
            tables.Cell('-1 [-2, +0.5]', tables.NEAR),
        ],
    ]
    grid = tables.Grid(['', 'macro F1', 'macro F1 - CE, cosine'], rows, ['Said.'])
    assert forms.markdown(grid) == (
        '|  | macro F1 | macro F1 - CE, cosine |\n|---|---|---|\n| CE | 50.0 ± 1.0 |  |\n'
        '| a_b & 5 % | **60.0** | <u>-1 [-2, +0.5]</u> |\n\n- Said.\n'
    )
    assert forms.comma_separated(grid) == (
        ',macro F1,"macro F1 - CE, cosine"\nCE,50.0 ± 1.0,\na_b & 5 %,60.0,"-1 [-2, +0.5]"\n'
    )
    made = forms.latex(grid, '50 %')
    assert r'\caption{50 \%}' in made
    assert r'CE & 50.0 $\pm$ 1.0 &  \\' in made
    assert r'a\_b \& 5 \% & \textbf{60.0} & \underline{$-$1 [$-$2, +0.5]} \\' in made
    assert r' & macro F1 & \shortstack[r]{macro F1 - CE,\\cosine} \\' in made
    assert '% Said.' in made
