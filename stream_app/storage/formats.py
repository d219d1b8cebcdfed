"""How estimators become bytes and come back: scikit-learn through skops, River through pickle.

The libraries are imported when a model of theirs is met: a service that only serves River models never loads
scikit-learn, and the other way round.
"""

import io
import pickle
import zipfile
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any, Final, Protocol, TypeAlias

from stream_app.core.shape import Shape
from stream_app.errors import Corrupt
from stream_app.values import Features, Floats

#: A fitted estimator of either library.
Estimator: TypeAlias = Any

#: What scikit-learn's classifiers, regressors and transformers need beyond what skops trusts by itself, found by
#: packing them one by one. Never taken from the artifact: a list that travels with the file trusts whatever the
#: file holds. Trees are indexed unchecked by scikit-learn, so that a crafted one can crash a process: that is why
#: skops asks, and why nothing is loaded here whose signature was not verified first.
TRUSTED: Final = (
    "functools.partial",  # HistGradientBoosting keeps its input check as one; skops checks the inner function too
    "numpy.dtype",
    "scipy._lib.array_api_compat.numpy._aliases.asarray",
    "scipy.interpolate._bsplines.BSpline",
    "sklearn._loss.loss.HalfTweedieLossIdentity",
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
    "sklearn.compose._column_transformer.make_column_selector",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.feature_selection._univariate_selection.f_classif",
    "sklearn.feature_selection._univariate_selection.f_regression",
    "sklearn.gaussian_process._gpc._BinaryGaussianProcessClassifierLaplace",
    "sklearn.gaussian_process.kernels.ConstantKernel",
    "sklearn.gaussian_process.kernels.Product",
    "sklearn.gaussian_process.kernels.RBF",
    "sklearn.metrics._dist_metrics.EuclideanDistance64",
    "sklearn.multiclass._ConstantPredictor",
    "sklearn.neighbors._ball_tree.BallTree",
    "sklearn.neighbors._kd_tree.KDTree",
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
    "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
    "sklearn.tree._tree.Tree",
    "sklearn.utils._bunch.Bunch",
    "sklearn.utils.validation.check_array",
)


class Format(Protocol):
    """One way to keep an estimator."""

    #: name of the entry that holds it
    entry: str
    #: distributions whose releases matter to it
    libraries: tuple[str, ...]

    def dump(self, estimator: Estimator) -> bytes:
        """Return the bytes."""

    def load(self, content: bytes, trusted: Sequence[str]) -> Estimator:
        """Return the estimator of verified bytes; raises Corrupt."""

    def predict(self, estimator: Estimator, features: Features, shape: Shape) -> Floats:
        """Return the outputs, in the shapes of `Contender.predict`."""


class River(Format):
    """Signed pickles: skops fails on some River models."""

    entry = "model.pickle"
    libraries = ("river", "numpy")

    def dump(self, estimator: Estimator) -> bytes:
        """Return the pickle."""
        return pickle.dumps(estimator, protocol=pickle.HIGHEST_PROTOCOL)

    def load(self, content: bytes, trusted: Sequence[str]) -> Estimator:  # noqa: ARG002 - a pickle has no such list
        """Unpickle; only ever called with bytes whose signature was verified."""
        try:
            return pickle.loads(content)
        except Exception as error:
            raise Corrupt(f"the pickle cannot be loaded: {error!r}") from error

    def predict(self, estimator: Estimator, features: Features, shape: Shape) -> Floats:
        """Row by row, as the online contender does."""
        from stream_app.core.outputs import predict_plain  # noqa: PLC0415 - River loads when it is needed

        return predict_plain(estimator, shape, features)


class ScikitLearn(Format):
    """skops: only types of a known list are ever built."""

    entry = "model.skops"
    libraries = ("scikit-learn", "numpy", "scipy", "skops")

    def dump(self, estimator: Estimator) -> bytes:
        """Return the skops file, uncompressed."""
        import skops.io  # noqa: PLC0415 - scikit-learn loads when it is needed

        content: bytes = skops.io.dumps(estimator)
        return content

    def load(self, content: bytes, trusted: Sequence[str]) -> Estimator:
        """Build the estimator from types of our list and the operator's; Corrupt names any other."""
        import skops.io  # noqa: PLC0415 - as above
        from skops.io.exceptions import UntrustedTypesFoundException  # noqa: PLC0415 - as above

        try:
            _check_size(content)
            return skops.io.loads(content, trusted=[*TRUSTED, *trusted])
        except UntrustedTypesFoundException as error:
            raise Corrupt(f"the model holds types that nobody trusts: {error}") from error
        except Exception as error:
            raise Corrupt(f"the skops file cannot be loaded: {error}") from error

    def predict(self, estimator: Estimator, features: Features, shape: Shape) -> Floats:
        """All rows at once, from what the estimator was fitted on."""
        from stream_app.core.frames import predict_sklearn  # noqa: PLC0415 - as above

        return predict_sklearn(estimator, features, shape)


def _check_size(content: bytes) -> None:
    with zipfile.ZipFile(io.BytesIO(content)) as file:
        if sum(entry.file_size for entry in file.infolist()) > len(content):
            raise Corrupt("it is compressed and could unfold without limit, expected plain entries")


#: By the name that the manifest gives.
FORMATS: Final[dict[str, Format]] = {"pickle": River(), "skops": ScikitLearn()}


def library_versions(form: Format) -> dict[str, str]:
    """Return the releases that are installed here of what a format needs."""
    return {name: version(name) for name in form.libraries}
