"""Quality checks: what was recorded, held against limits, and what it means for each analysis."""
