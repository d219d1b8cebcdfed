"""What the fold needs of a learner, whatever is behind it."""

from typing import Protocol

from stream_app.values import Features, Floats


class Contender(Protocol):
    """A learner with one call per window: for each row in order, first the output, then learn."""

    #: e.g. "river:LogisticRegression"
    algorithm: str

    def advance(self, features: Features, labels: Floats) -> Floats:
        """Score, then learn, row by row; return the outputs given just before learning each row.

        Shapes: features n rows, labels float64[n]; the result is float64[n] with P(positive class) for
        binary models and the value for regression, or float64[n, classes] for multiclass.
        """

    def predict(self, features: Features) -> Floats:
        """Return the outputs without learning, in the shapes of `advance`."""

    def is_finite(self) -> bool:
        """Return whether every weight is a finite number."""

    def snapshot(self) -> bytes:
        """Return the state; `restore` of it continues bit for bit."""

    def restore(self, state: bytes) -> None:
        """Go back to a state that `snapshot` of the same kind of contender returned."""

    def plain(self) -> object:
        """Return a plain River estimator in the same state, to be published."""
