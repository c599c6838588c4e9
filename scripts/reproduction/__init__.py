"""The tables and figures of the five papers: what they show (a .toml a paper), runs, tables, pictures, pages."""
