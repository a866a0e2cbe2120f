"""JSON Schema of a route, judged within a budget of steps."""
