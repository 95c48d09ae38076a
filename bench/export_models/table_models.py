"""Models of tables, trained on the iris data that comes with scikit-learn."""

from typing import Any

import numpy as np
from sklearn.datasets import load_iris


def _data() -> tuple[np.ndarray, np.ndarray]:
    table, labels = load_iris(return_X_y=True)
    return table.astype(np.float32), labels


def logistic_pipeline() -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    table, labels = _data()
    return make_pipeline(StandardScaler(), LogisticRegression()).fit(table, labels), table


def mlp_classifier() -> Any:
    from sklearn.neural_network import MLPClassifier

    table, labels = _data()
    return MLPClassifier((32, 32), max_iter=400, random_state=0).fit(table, labels), table


def forest_regressor() -> Any:
    from sklearn.ensemble import RandomForestRegressor

    table, labels = _data()
    return RandomForestRegressor(20, random_state=0).fit(table, labels), table


def xgboost_classifier() -> Any:
    import xgboost

    table, labels = _data()
    return xgboost.XGBClassifier(n_estimators=20).fit(table, labels), table


def xgboost_booster() -> Any:
    model, table = xgboost_classifier()
    return model.get_booster(), table


def lightgbm_classifier() -> Any:
    import lightgbm

    table, labels = _data()
    return lightgbm.LGBMClassifier(n_estimators=20, verbose=-1).fit(table, labels), table


def lightgbm_booster() -> Any:
    model, table = lightgbm_classifier()
    return model.booster_, table
