"""What is on disk: frames, documents and settings."""
