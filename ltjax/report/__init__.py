"""The report of a run: one page that holds its figures and tables."""
