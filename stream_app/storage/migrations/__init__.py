"""The history of the tables: one revision per release that changed them, never edited afterwards."""
