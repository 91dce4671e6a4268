"""The calls of learn2learn on our core: the same numbers, and right where learn2learn fails."""

import copy
import gc
import weakref

import pytest
import torch
import torch.nn.functional as F
from compat_models import MODELS, build, data, finite_difference, memory_after, meta_gradients
from torch import nn

import innerloop.compat.learn2learn as ours

SUPPORT, TARGETS, QUERY, LABELS = data()
# learn2learn's MetaSGD fails on frozen parameters and on tied ones.
META_SGD = [name for name in MODELS if name not in ("frozen", "tied")]


@pytest.fixture
def l2l():
    return pytest.importorskip("learn2learn", reason="learn2learn is not installed: make peers")


def close(ours, theirs, tolerance=1e-6):
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


def train(learner, steps=3, **adaptation):
    """The README's loop: losses and meta-gradients of every outer step."""
    opt = torch.optim.SGD(learner.parameters(), lr=0.01)
    seen = []
    for _ in range(3):
        opt.zero_grad()
        for task in range(2):
            clone = learner.clone()
            for _ in range(steps):
                loss = F.mse_loss(clone(SUPPORT + task), TARGETS)
                seen.append(loss.detach())
                clone.adapt(loss, **adaptation)
            loss = F.mse_loss(clone(QUERY + task), LABELS)
            seen.append(loss.detach())
            loss.backward()
        seen += [g for g in meta_gradients(learner) if g is not None]
        opt.step()
    return seen


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("first_order", [False, True])
def test_maml_example(l2l, name, first_order):
    def maml(library):
        settings = {"lr": 0.1, "first_order": first_order, "allow_nograd": name == "frozen"}
        return train(library.algorithms.MAML(build(name), **settings))

    close(maml(ours), maml(l2l))


def test_first_order_of_a_single_step(l2l):
    def mixed(library):
        return train(library.algorithms.MAML(build("plain"), lr=0.1), first_order=True)

    close(mixed(ours), mixed(l2l))


@pytest.mark.parametrize("name", META_SGD)
def test_meta_sgd_example(l2l, name):
    def meta_sgd(library):
        learner = library.algorithms.MetaSGD(build(name), lr=0.1)
        return [*train(learner), *learner.lrs]

    close(meta_sgd(ours), meta_sgd(l2l))


# learn2learn fails where the transform adapts to first order.
@pytest.mark.parametrize(
    ("adapt_transform", "first_order"), [(False, False), (False, True), (True, False)]
)
def test_gbml_example(l2l, adapt_transform, first_order):
    def gbml(library):
        model = build("plain")
        learner = library.algorithms.GBML(
            module=model,
            transform=library.optim.ModuleTransform(nn.Linear),
            lr=0.01,
            adapt_transform=adapt_transform,
            first_order=first_order,
        )
        return train(learner.double())

    close(gbml(ours), gbml(l2l))


def test_a_transform_adapts_to_first_order():
    learner = ours.algorithms.GBML(
        build("plain"),
        ours.optim.ModuleTransform(nn.Linear),
        lr=0.01,
        adapt_transform=True,
        first_order=True,
    ).double()
    first, *rest = (g for g in train(learner) if g.ndim == 0)
    assert min(rest) < first
    assert all(p.grad is not None for p in learner.parameters())


def test_state_dicts_are_interchangeable(l2l):
    def learners(library):
        algorithms, transform = library.algorithms, library.optim.ModuleTransform(nn.Linear)
        yield algorithms.MAML(build("plain"), lr=0.1)
        yield algorithms.MetaSGD(build("plain"), lr=0.1)
        yield algorithms.GBML(build("plain"), transform=transform)

    for mine, theirs in zip(learners(ours), learners(l2l), strict=True):
        mine.load_state_dict(theirs.state_dict())


def test_low_level_utilities(l2l):
    def utilities(library):
        model = build("nested")
        clone = library.clone_module(model)
        loss = F.mse_loss(clone(SUPPORT), TARGETS)
        gradients = torch.autograd.grad(loss, clone.parameters(), create_graph=True)
        library.update_module(clone, updates=[-0.1 * g for g in gradients])
        outer = F.mse_loss(clone(QUERY), LABELS)
        outer.backward()
        library.detach_module(clone, keep_requires_grad=True)
        F.mse_loss(clone(QUERY), LABELS).backward()
        return [loss, outer, *meta_gradients(model), *meta_gradients(clone)]

    close(utilities(ours), utilities(l2l))


@pytest.mark.parametrize("name", MODELS)
def test_meta_gradient_against_finite_differences(name):
    learner = ours.algorithms.MetaSGD(build(name), lr=0.1)

    def outer():
        clone = learner.clone()
        for _ in range(2):
            prediction = clone(SUPPORT)
            penalty = sum(p.square().sum() for p in clone.module.parameters())
            clone.adapt(F.mse_loss(prediction, TARGETS) + 0.01 * penalty)
        return F.mse_loss(clone(QUERY), LABELS)

    outer().backward()
    slope, expected = finite_difference(outer, learner)
    assert slope == pytest.approx(expected, rel=1e-5)


def test_statistics_of_a_clone_do_not_reach_the_module():
    """In learn2learn they do: clone and module share them."""
    model = build("buffered")
    before = copy.deepcopy(model.state_dict())
    clone = ours.algorithms.MAML(model, lr=0.1).clone()
    clone.adapt(F.mse_loss(clone(SUPPORT), TARGETS))
    assert not torch.equal(clone.module[1].running_mean, model[1].running_mean)
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key]), key


def test_frozen_and_unused_parameters_stay():
    """On frozen ones learn2learn fails unless allow_nograd is set."""
    model = nn.ModuleDict({"used": nn.Linear(3, 2), "idle": nn.Linear(3, 2)}).double()
    model["used"].bias.requires_grad_(False)
    clone = ours.algorithms.MAML(model, lr=0.1, allow_unused=True).clone()
    before = [p.clone() for p in clone.parameters()]
    clone.adapt(F.mse_loss(clone.module["used"](SUPPORT), TARGETS))
    same = [torch.equal(a, b) for a, b in zip(before, clone.parameters(), strict=True)]
    assert same == [False, True, True, True]
    strict = ours.algorithms.MAML(model, lr=0.1).clone()
    with pytest.raises(RuntimeError, match="allow_unused"):
        strict.adapt(F.mse_loss(strict.module["used"](SUPPORT), TARGETS))


def test_tied_weights_stay_tied():
    clone = ours.algorithms.MAML(build("tied"), lr=0.1).clone()
    clone.adapt(F.mse_loss(clone(SUPPORT), TARGETS))
    assert clone.first.weight is clone.second.weight


def test_two_losses_of_one_forward_pass():
    learner = ours.algorithms.MAML(build("plain"), lr=0.1)
    whole, parts = learner.clone(), learner.clone()
    prediction = whole(SUPPORT)
    whole.adapt(F.mse_loss(prediction, TARGETS) + prediction.square().mean())
    prediction = parts(SUPPORT)
    gradients = [
        torch.autograd.grad(loss, parts.parameters(), create_graph=True)
        for loss in (F.mse_loss(prediction, TARGETS), prediction.square().mean())
    ]
    for one in gradients:
        ours.update_module(parts.module, [-0.1 * g for g in one])
    close(parts.parameters(), whole.parameters(), 1e-12)


@pytest.mark.parametrize("name", ["lstm", "tied", "buffered"])
def test_a_deep_copy_starts_from_what_was_reached(name):
    clone = ours.algorithms.MAML(build(name), lr=0.1).clone()
    clone.adapt(F.mse_loss(clone(SUPPORT), TARGETS))
    copied = copy.deepcopy(clone)
    assert torch.equal(copied(QUERY), clone(QUERY))
    assert all(p.is_leaf and p.requires_grad for p in copied.parameters())
    copied.adapt(F.mse_loss(copied(SUPPORT), TARGETS))
    assert not torch.equal(copied(QUERY), clone(QUERY))


@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
def test_weights_that_a_hook_computes(l2l):
    def maml(library):
        torch.manual_seed(0)
        normed = nn.utils.weight_norm(nn.Linear(3, 2, dtype=torch.float64))
        # Of first order, as torch's second derivative, which learn2learn takes, is wrong.
        return train(library.algorithms.MAML(normed, lr=0.1, first_order=True))

    close(maml(ours), maml(l2l))
    clone = ours.algorithms.MAML(nn.utils.weight_norm(nn.Linear(3, 2)), lr=0.1).clone()
    clone.adapt(clone(SUPPORT.float()).square().mean())
    assert torch.equal(copy.deepcopy(clone)(QUERY.float()), clone(QUERY.float()))


def test_a_memo_shares_tensors_between_modules():
    first, second = nn.Linear(3, 2), nn.Linear(3, 2)
    second.weight = first.weight
    memo = {}
    assert ours.clone_module(first, memo).weight is ours.clone_module(second, memo).weight


def test_memory_returns_after_a_hundred_steps():
    learner = ours.algorithms.MAML(nn.Linear(300, 300), lr=0.1)  # 0.36 MB a copy
    x, alive = torch.randn(4, 300), []

    def outer_step():
        clone = learner.clone()
        alive.append(weakref.ref(clone.module.weight))
        for _ in range(100):
            clone.adapt(clone(x).square().mean())
        clone(x).square().mean().backward()

    held = memory_after(outer_step)
    assert all(reference() is None for reference in alive)
    assert max(held[1:]) - held[0] < 30, held  # a kept graph would be at least 36 per step
    assert gc.isenabled()


def test_bad_updates_are_named():
    with pytest.raises(ValueError, match=r"^updates: 1, "):
        ours.update_module(nn.Linear(3, 2), [None])


@pytest.mark.parametrize("rates", [False, True])
def test_updates_of_a_module(l2l, rates):
    def update(library):
        model = build("nested")
        clone = library.clone_module(model)
        loss = F.mse_loss(clone(SUPPORT), TARGETS)
        grads = torch.autograd.grad(loss, clone.parameters(), create_graph=True)
        if rates:
            lrs = library.utils.clone_parameters([torch.full_like(g, 0.2) for g in grads])
            library.algorithms.meta_sgd.meta_sgd_update(clone, lrs=lrs, grads=grads)
        else:
            library.optim.DifferentiableSGD(lr=0.1)(clone, grads)
            library.algorithms.maml.maml_update(clone, lr=0.1, grads=grads)
        F.mse_loss(clone(QUERY), LABELS).backward()
        return [*clone.parameters(), *meta_gradients(model)]

    close(update(ours), update(l2l))


def test_magic_box(l2l):
    def box(library):
        x = torch.tensor([0.3, -2.0], requires_grad=True)
        value = library.magic_box(x)
        return [value, *torch.autograd.grad(value.sum(), x)]

    close(box(ours), box(l2l))
    assert ours.magic_box(3) == 3


def noisy(module):
    """The module with all parameters of its own, in double precision."""
    generator = torch.Generator().manual_seed(3)
    for param in module.parameters():
        noise = torch.randn(param.shape, generator=generator, dtype=torch.float64)
        param.data = param.data.double() + 0.3 * noise
    return module


TRANSFORMS = {
    "kronecker": lambda library: library.optim.KroneckerTransform(library.nn.KroneckerLinear),
    "biased": lambda library: library.optim.KroneckerTransform(
        library.nn.KroneckerLinear, bias=True, psd=False
    ),
    "metacurvature": lambda library: library.optim.MetaCurvatureTransform,
    "scaled": lambda library: lambda param: library.optim.MetaCurvatureTransform(param, lr=0.3),
    "scale": lambda library: lambda param: library.nn.Scale(param.shape, alpha=0.5),
}


@pytest.mark.parametrize("name", TRANSFORMS)
@pytest.mark.parametrize("shape", [(5,), (5, 4), (6, 3, 2, 2), (3, 4, 3, 1)])
def test_transforms(l2l, name, shape):
    def transformed(library):
        transform = noisy(TRANSFORMS[name](library)(nn.Parameter(torch.ones(shape))))
        generator = torch.Generator().manual_seed(4)
        gradient = torch.randn(shape, generator=generator, dtype=torch.float64)
        update = transform(gradient.requires_grad_())
        update.square().sum().backward()
        return [update, gradient.grad, *meta_gradients(transform)], transform.state_dict()

    (found, state), (expected, theirs) = transformed(ours), transformed(l2l)
    close(found, expected, 1e-12)
    assert list(state) == list(theirs)


@pytest.mark.parametrize("name", TRANSFORMS)
@pytest.mark.parametrize("shape", [(), (6, 3, 2), (2, 3, 2, 2, 3)])
def test_transforms_of_other_shapes(name, shape):
    """learn2learn refuses them."""
    transform = noisy(TRANSFORMS[name](ours)(nn.Parameter(torch.ones(shape))))
    gradient = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    assert transform(gradient).shape == shape
    assert torch.autograd.gradcheck(transform, gradient)


@pytest.mark.parametrize("psd", [False, True])
def test_kronecker_product(psd):
    layer = noisy(ours.nn.KroneckerLinear(2, 3, psd=psd))
    left, right = layer.left, layer.right
    if psd:
        left, right = left.mT @ left, right.mT @ right
    x = torch.randn(6, dtype=torch.float64)
    expected = torch.kron(right.mT.contiguous(), left) @ x + layer.bias.mT.flatten()
    close([layer(x)], [expected], 1e-12)
    with pytest.raises(ValueError, match=r"^x: shape \(3, 2\), should be \(\.\.\., 2, 3\)"):
        layer(x.view(3, 2))


def test_layers(l2l):
    x = torch.randn(2, 3, 4)
    for library in (ours, l2l):
        assert torch.equal(library.nn.Flatten()(x), x.flatten(1))
        assert torch.equal(library.nn.Lambda(torch.add)(x, other=x), 2 * x)
        assert torch.equal(library.nn.Scale(alpha=3)(x), 3 * x)
        assert library.nn.Scale(4).alpha.shape == (4,)


def test_a_transform_for_each_parameter(l2l):
    def train_by_dictionary(library):
        model = build("plain")
        makers = {
            model[0].weight: library.optim.KroneckerTransform(library.nn.KroneckerLinear),
            model[0].bias: library.optim.ModuleTransform(nn.Linear),
            model[2].weight: library.optim.MetaCurvatureTransform,
        }
        transform = library.optim.TransformDictionary(makers)
        learner = library.algorithms.GBML(model, transform, lr=0.1)
        noisy(learner.compute_update)
        return train(learner)

    close(train_by_dictionary(ours), train_by_dictionary(l2l), 1e-10)


@pytest.mark.parametrize("name", ["plain", "nested", "buffered"])
@pytest.mark.parametrize("kind", ["metacurvature", "module"])
def test_an_optimizer_that_learns(l2l, name, kind):
    def learn(library):
        model = build(name)
        transforms = {**TRANSFORMS, "module": lambda lib: lib.optim.ModuleTransform(nn.Linear)}
        metaopt = library.optim.LearnableOptimizer(model, transforms[kind](library), lr=0.1)
        noisy(metaopt)
        opt = torch.optim.SGD(metaopt.parameters(), lr=0.01)
        seen = []
        for _ in range(4):
            metaopt.zero_grad()
            opt.zero_grad()
            loss = F.mse_loss(model(SUPPORT), TARGETS)
            loss.backward()
            seen += [loss.detach(), *(g for g in meta_gradients(metaopt) if g is not None)]
            opt.step()
            metaopt.step()
        return [*seen, *model.parameters(), *metaopt.parameters()]

    close(learn(ours), learn(l2l), 1e-10)


def test_an_optimizer_that_learns_leaves_frozen_parameters():
    """learn2learn fails on them, and on transforms without parameters."""
    model = build("frozen")
    metaopt = ours.optim.LearnableOptimizer(model, lambda param: nn.Identity(), lr=0.1)
    plain = copy.deepcopy(model)
    opt = torch.optim.SGD(plain.parameters(), lr=0.1)

    def closure():
        metaopt.zero_grad()
        loss = F.mse_loss(model(SUPPORT), TARGETS)
        loss.backward()
        return loss

    for _ in range(3):
        opt.zero_grad()
        loss = F.mse_loss(plain(SUPPORT), TARGETS)
        loss.backward()
        assert metaopt.step(closure).item() == pytest.approx(loss.item())
        opt.step()
    close(model.parameters(), plain.parameters(), 1e-12)
    assert list(metaopt.parameters()) == []


def test_named_parameters_are_cloned(l2l):
    named = dict(build("nested").named_parameters())
    for library in (ours, l2l):
        copies = library.clone_named_parameters(named)
        close(copies.values(), named.values(), 0)
        assert list(copies) == list(named)
        total = sum(copied.sum() for copied in copies.values())
        assert all(g is not None for g in torch.autograd.grad(total, named.values()))


def distributions(param):
    """Distributions with one parameter of shape (3,); the first works in learn2learn, too."""
    normal = torch.distributions.Normal(param, param.exp())
    affine = torch.distributions.AffineTransform(param, 2.0)
    return {
        "bernoulli": torch.distributions.Bernoulli(logits=param),
        "normal": normal,
        "categorical": torch.distributions.Categorical(logits=param),
        "independent": torch.distributions.Independent(normal, 1),
        "transformed": torch.distributions.TransformedDistribution(normal, [affine, affine.inv]),
    }


@pytest.mark.parametrize(
    "name", ["bernoulli", "normal", "categorical", "independent", "transformed"]
)
def test_distributions_are_cloned_and_detached(name):
    param = torch.tensor([0.3, -0.2, 1.0], dtype=torch.float64, requires_grad=True)
    original = distributions(param)[name]
    sample = original.sample()
    expected = original.log_prob(sample).sum()
    copied = ours.clone_distribution(original)
    found = copied.log_prob(sample).sum()
    close(
        [found, *torch.autograd.grad(found, param, retain_graph=True)],
        [expected, *torch.autograd.grad(expected, param, retain_graph=True)],
        1e-12,
    )
    assert type(copied) is type(original)
    assert ours.detach_distribution(copied) is copied
    assert not copied.log_prob(sample).requires_grad
    assert original.log_prob(sample).requires_grad


def test_distributions_as_in_learn2learn(l2l):
    def cloned(library):
        param = torch.tensor([0.3, -0.2, 1.0], dtype=torch.float64, requires_grad=True)
        copied = library.clone_distribution(distributions(param)["bernoulli"])
        loss = copied.log_prob(torch.ones(3, dtype=torch.float64)).sum()
        gradient = torch.autograd.grad(loss, param)[0]
        detached = library.utils.detach_distribution(distributions(param)["normal"])
        assert not detached.loc.requires_grad
        return [loss, gradient, detached.scale]

    close(cloned(ours), cloned(l2l))


def test_a_memo_shares_updates_between_modules(l2l):
    def shared(library):
        first, second = build("plain")[0], build("plain")[0]
        second.weight = first.weight
        start, memo = [first.weight, second.bias], {}
        library.update_module(first, [torch.ones_like(p) for p in first.parameters()], memo=memo)
        library.update_module(second, [None, torch.full_like(second.bias, 5.0)], memo=memo)
        assert first.weight is second.weight
        return [first.weight - start[0], first.bias, second.bias - start[1]]

    close(shared(ours), shared(l2l), 1e-12)
