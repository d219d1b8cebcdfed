"""The owner of a model: takes in records, commits windows, folds them and applies effects."""
