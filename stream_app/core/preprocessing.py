"""What stands between the canonical features and a batch candidate, fitted on the training rows only.

It is part of the candidate's pipeline, so that training and serving cannot differ. Every recipe takes what
`frames.to_sklearn` gives: float64[n, k] without categories, else a frame with the schema's names.
"""

from typing import Any, Final, TypeAlias

import numpy as np
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

from stream_app.core.frames import Columns
from stream_app.values import Features

#: A scikit-learn estimator; the library ships no types.
Estimator: TypeAlias = Any

#: Histogram boosting takes missing values and categories as they are, and needs no scaling.
NATIVE: Final = (HistGradientBoostingClassifier, HistGradientBoostingRegressor)
#: Rarer categories beyond so many share one column: a feature of unbounded names must not make an unbounded model.
ONE_HOT_COLUMNS: Final = 100
#: Histogram boosting has 255 bins for the codes of a category, and one of them is for missing values.
NATIVE_CATEGORIES: Final = 254


def pipeline(estimator: Estimator, columns: Columns, training: Features) -> Estimator:
    """Return the estimator behind the preprocessing that suits it and the training rows; it is not fitted yet.

    Histogram boosting: numbers as they are, NaN included; categories as codes that it splits by set.
    All others: missing numbers become the training median, then all are standardised; categories one-hot.
    A category that training has not seen counts as missing, or as none of the columns.
    """
    if isinstance(estimator, NATIVE):
        return _native(estimator, columns, training)
    return Pipeline([("prepare", _scaled(columns)), ("model", estimator)])


def _native(estimator: Estimator, columns: Columns, training: Features) -> Estimator:
    # its binning fails on a column without a single number
    filled = np.flatnonzero(~np.isnan(training.numeric).all(axis=0)).tolist()
    if not columns.categorical and len(filled) == len(columns.numeric):
        return estimator
    if columns.categorical and estimator.categorical_features in {None, "from_dtype"}:
        estimator.set_params(categorical_features=[len(filled) + i for i in range(len(columns.categorical))])
    codes = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan, max_categories=NATIVE_CATEGORIES)
    names = list(range(len(columns.numeric), len(columns.numeric) + len(columns.categorical)))
    prepare = ColumnTransformer([("numbers", "passthrough", filled), ("categories", codes, names)])
    return Pipeline([("prepare", prepare), ("model", estimator)])


def _scaled(columns: Columns) -> Estimator:
    numbers = Pipeline(
        [
            # a column that was missing throughout stays, as zeros: predictions must have the same columns
            ("impute", SimpleImputer(strategy="median", keep_empty_features=True)),
            ("scale", StandardScaler()),
        ]
    )
    if not columns.categorical:
        return numbers
    names = OneHotEncoder(handle_unknown="infrequent_if_exist", max_categories=ONE_HOT_COLUMNS)
    return ColumnTransformer(
        [("numbers", numbers, list(columns.numeric)), ("categories", names, list(columns.categorical))]
    )
