"""Where a limiter keeps its counts: in memory, or in Redis or Valkey."""
