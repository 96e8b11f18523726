"""What is written to disk: records, configurations, commits. Nothing here needs torch."""
