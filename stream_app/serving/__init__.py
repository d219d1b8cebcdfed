"""The HTTP API: predict, feedback, retrain and control, over one subscriber."""
