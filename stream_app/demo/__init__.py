"""The main job on real data, before your eyes: stream, predict, learn, retrain, kill, recover, reload."""
