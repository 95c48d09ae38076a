"""Sources that the tests of `export` name as file.py:function."""


def torch_net():
    import torch
    from torch import nn

    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5))
    return net, torch.randn(1, 3, 8, 8)


def table_model():
    import numpy as np
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    table = np.random.RandomState(0).standard_normal((60, 4)).astype(np.float32)
    return make_pipeline(StandardScaler(), LogisticRegression()).fit(table, table[:, 0] > 0), table


def no_model():
    return 7


def lacks():
    import no_such_framework

    return no_such_framework


def fails():
    raise RuntimeError("no weights here")
