"""What a person or a program reads afterwards: run record, terminal tables, HTML page, run folder."""
