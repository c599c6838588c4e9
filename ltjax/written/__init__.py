"""What people write into tables: the rows of a CSV, and what a value in them means."""
