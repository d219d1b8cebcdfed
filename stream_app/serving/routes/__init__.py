"""The routes, a module for each group of them; a new module is one more line here."""

from typing import Final

from fastapi import APIRouter

from stream_app.serving.routes import feedback, health, models, predict, retrain, retraining

ROUTERS: Final[tuple[APIRouter, ...]] = (
    health.router,
    predict.router,
    feedback.router,
    retrain.router,
    retraining.router,
    models.router,
)
