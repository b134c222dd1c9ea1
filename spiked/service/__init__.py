"""The daemon around the mathematics: configuration, pipeline, metrics, checkpoints, commands."""
