"""Where episodes come from besides recording: files of others, and generation."""
