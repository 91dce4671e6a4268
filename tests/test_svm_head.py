"""The squared-hinge SVM as an objective: Newton's minimum, differentiated implicitly."""

import pytest
import torch
from torch.nn import functional as F

import innerloop as il


def problem():
    torch.manual_seed(0)
    features = torch.randn(30, 6, dtype=torch.float64)
    labels = (features @ torch.randn(6, 3).double() + torch.randn(30, 3)).argmax(-1)
    return features, labels


def head(features, labels):
    signs = 2 * F.one_hot(labels, 3).double() - 1

    def loss(weight):
        hinge = (1 - signs * (features @ weight.mT)).clamp(min=0)
        return 0.5 * weight.square().sum() + hinge.square().sum()

    return il.solve(
        loss,
        features.new_zeros(3, features.shape[1]),
        il.Newton(il.Armijo()),
        steps=30,
        tolerance=1e-10,
        adjoint=il.Implicit(steps=40, tolerance=1e-12),
    )


def test_it_is_the_svm_of_scikit_learn():
    svm = pytest.importorskip("sklearn.svm")
    features, labels = problem()
    peer = svm.LinearSVC(C=1.0, fit_intercept=False, tol=1e-12, max_iter=100_000)
    expected = peer.fit(features.numpy(), labels.numpy()).coef_
    solution = head(features, labels)
    assert solution.status is il.Status.CONVERGED
    torch.testing.assert_close(solution.value, torch.tensor(expected), rtol=0, atol=1e-6)


def test_its_gradient_is_that_of_finite_differences():
    features, labels = problem()
    assert torch.autograd.gradcheck(
        lambda features: head(features, labels).value,
        features.requires_grad_(),
        eps=1e-7,
        atol=1e-5,
        rtol=1e-5,
        fast_mode=True,
    )
