"""The fault suite: real workers on a real broker, killed in every way there is, and a verifier that trusts nobody."""
