"""What several test files and benchmarks share: tiny networks, miniature data sets, odd files."""
