"""Programs for developers that write checked-in files."""
