"""The light half that any service can import to hold the newest verified model."""

from stream_app.subscriber.slot import LoadedModel, Prediction
from stream_app.subscriber.subscriber import ModelStatus, ModelSubscriber

__all__ = ["LoadedModel", "ModelStatus", "ModelSubscriber", "Prediction"]
