"""What was measured, as it lies on disk: records, configurations, commits; nothing here needs torch."""
