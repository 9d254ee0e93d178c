"""Physics and vocabulary of 4D-STEM: no files, no SQL, no HTTP, no Prefect."""
