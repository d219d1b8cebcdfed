"""The light half that any service can import to hold the newest verified model."""
