"""What listens to a run: one file a sink. Each is a plain callable that takes an event."""
