"""Questions to the database, one a file; each takes a session and answers with plain values."""
