"""The calls of higher on our core: the same numbers as higher's, and right where those are not."""

import copy
import gc
import weakref

import pytest
import torch
import torch.nn.functional as F
from compat_models import MODELS, build, data, finite_difference, memory_after, meta_gradients

from innerloop.compat import higher as ours

SUPPORT, TARGETS, QUERY, LABELS = data()
SGD, ADAM = torch.optim.SGD, torch.optim.Adam
OPTIMIZERS = {
    "sgd": (SGD, {"lr": 0.1}),
    "momentum": (SGD, {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}),
    "nesterov": (SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    "dampening": (SGD, {"lr": 0.1, "momentum": 0.9, "dampening": 0.3}),
    "adam": (ADAM, {"lr": 0.001}),
    "amsgrad": (ADAM, {"lr": 0.001, "amsgrad": True, "weight_decay": 0.01}),
    "rmsprop": (torch.optim.RMSprop, {"lr": 0.01, "momentum": 0.5}),
    "adagrad": (torch.optim.Adagrad, {"lr": 0.1, "lr_decay": 0.1}),
    "adadelta": (torch.optim.Adadelta, {"lr": 1.0}),
    "adamax": (torch.optim.Adamax, {"lr": 0.01}),
    "rprop": (torch.optim.Rprop, {"lr": 0.01}),
    "asgd": (torch.optim.ASGD, {"lr": 0.1, "weight_decay": 0.01}),
}
BEYOND = {
    "adamw": (torch.optim.AdamW, {"lr": 0.01, "weight_decay": 0.1}),
    "adamw_amsgrad": (torch.optim.AdamW, {"lr": 0.01, "amsgrad": True}),
    "centred": (torch.optim.RMSprop, {"lr": 0.01, "centered": True}),
    "maximize": (SGD, {"lr": 0.01, "maximize": True}),
}


@pytest.fixture
def higher():
    return pytest.importorskip("higher", reason="higher is not installed: make peers")


def close(ours, theirs, tolerance=1e-6):
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


def trained(name, optimizer, **changes):
    """A model and its optimizer after two ordinary steps."""
    kind, settings = {**OPTIMIZERS, **BEYOND}[optimizer]
    settings = {**settings, **changes}
    model = build(name)
    opt = kind([p for p in model.parameters() if p.requires_grad], **settings)
    for _ in range(2):
        opt.zero_grad()
        F.mse_loss(model(SUPPORT), TARGETS).backward()
        opt.step()
    model.zero_grad()
    return model, opt


def readme(library, name, optimizer, **options):
    """The README's loop: losses, parameters returned by steps, and the gradient of the outer."""
    model, opt = trained(name, optimizer)
    losses = []
    with library.innerloop_ctx(model, opt, **options) as (fmodel, diffopt):
        for _ in range(4):
            loss = F.mse_loss(fmodel(SUPPORT), TARGETS)
            returned = diffopt.step(loss)
            losses.append(loss.detach())
        outer = F.mse_loss(fmodel(QUERY), LABELS)
        start = [p for p in fmodel.parameters(time=0) if p.requires_grad]
        gradients = torch.autograd.grad(outer, start, allow_unused=True)
    return [*losses, outer, *returned, *gradients]


@pytest.mark.parametrize("name", [name for name in MODELS if name != "buffered"])
@pytest.mark.parametrize("optimizer", ["momentum", "adam"])
def test_readme_example_on_each_module(higher, name, optimizer):
    close(readme(ours, name, optimizer), readme(higher, name, optimizer))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_readme_example_with_each_optimizer(higher, optimizer):
    close(readme(ours, "plain", optimizer), readme(higher, "plain", optimizer))


@pytest.mark.parametrize("name", ["plain", "buffered", "lstm"])
def test_maml_example(higher, name):
    def maml(library):
        model = build(name)
        meta = ADAM(model.parameters(), lr=1e-3)
        inner = SGD(model.parameters(), lr=0.1)
        seen = []
        for _ in range(3):
            meta.zero_grad()
            for task in range(2):
                with library.innerloop_ctx(model, inner, copy_initial_weights=False) as (f, opt):
                    for _ in range(3):
                        opt.step(F.mse_loss(f(SUPPORT + task), TARGETS))
                    loss = F.mse_loss(f(QUERY + task), LABELS)
                    seen.append(loss.detach())
                    loss.backward()
            seen += meta_gradients(model)
            meta.step()
        return [*seen, *model.buffers()]

    close(maml(ours), maml(higher))


def test_learned_settings_example(higher):
    def learn(library):
        model, opt = trained("plain", "momentum")
        override = library.optim.get_trainable_opt_params(opt)
        learned = {name: override[name] for name in ("lr", "momentum")}
        with library.innerloop_ctx(model, opt, override=learned) as (fmodel, diffopt):
            for _ in range(3):
                diffopt.step(F.mse_loss(fmodel(SUPPORT), TARGETS))
            loss = F.mse_loss(fmodel(QUERY), LABELS)
        gradients = torch.autograd.grad(loss, [learned["lr"][0], learned["momentum"][0]])
        library.optim.apply_trainable_opt_params(opt, {"lr": [torch.tensor(0.25)]})
        return [loss, *gradients, torch.tensor(opt.param_groups[0]["lr"])]

    close(learn(ours), learn(higher))


def test_settings_that_were_not_learned_stay_as_they_are():
    opt = ADAM([torch.zeros(2)], lr=0.1, betas=(0.9, 0.99))
    settings = {name: opt.param_groups[0][name] for name in ("lr", "betas", "eps", "weight_decay")}
    override = ours.optim.get_trainable_opt_params(opt)
    ours.optim.apply_trainable_opt_params(opt, override)
    for name, value in settings.items():
        assert repr(opt.param_groups[0][name]) == repr(value)
    with torch.no_grad():
        override["weight_decay"][0].add_(0.5)
        override["betas"][0][1].sub_(0.5)
    ours.optim.apply_trainable_opt_params(opt, override)
    assert opt.param_groups[0]["weight_decay"] == 0.5
    assert opt.param_groups[0]["betas"] == (0.9, pytest.approx(0.49))


def test_parameter_groups_and_overrides(higher):
    def grouped(library):
        model = build("plain")
        groups = [{"params": model[2].parameters(), "lr": 0.3}, {"params": [model[0].weight]}]
        opt = SGD(groups, lr=0.1, momentum=0.9)
        rates = [torch.tensor(0.2, requires_grad=True), torch.tensor(0.05, requires_grad=True)]
        with library.innerloop_ctx(model, opt, override={"lr": rates}) as (f, diffopt):
            diffopt.step(F.mse_loss(f(SUPPORT), TARGETS))
            diffopt.step(F.mse_loss(f(SUPPORT), TARGETS), override={"momentum": [0.5]})
            diffopt.step(F.mse_loss(f(SUPPORT), TARGETS))
            loss = F.mse_loss(f(QUERY), LABELS)
            return [loss, *f.parameters(), *torch.autograd.grad(loss, rates)]

    close(grouped(ours), grouped(higher))


def test_grad_callback(higher):
    def clip(gradients):
        return [g.clamp(-0.05, 0.05) for g in gradients]

    def clipped(library):
        model, opt = trained("plain", "sgd")
        fmodel = library.monkeypatch(model)
        diffopt = library.get_diff_optim(opt, model.parameters(), fmodel=fmodel, grad_callback=clip)
        diffopt.step(F.mse_loss(fmodel(SUPPORT), TARGETS))
        diffopt.step(F.mse_loss(fmodel(SUPPORT), TARGETS), grad_callback=lambda gs: gs)
        loss = F.mse_loss(fmodel(QUERY), LABELS)
        return [loss, *torch.autograd.grad(loss, fmodel.parameters(time=0))]

    close(clipped(ours), clipped(higher))


def test_explicit_parameters_and_a_new_optimizer(higher):
    def explicit(library):
        model = build("plain")
        fmodel = library.monkeypatch(model)
        params = [p.detach().clone().requires_grad_() for p in model.parameters()]
        diffopt = library.create_diff_optim(ADAM, {"lr": 0.01}, params=params)
        new = params
        for _ in range(3):
            new = diffopt.step(F.mse_loss(fmodel(SUPPORT, params=new), TARGETS), params=new)
        loss = F.mse_loss(fmodel(QUERY, params=new), LABELS)
        return [loss, *torch.autograd.grad(loss, params)]

    close(explicit(ours), explicit(higher))


def test_a_registered_optimizer_written_for_higher(higher):
    class Signs(SGD):
        pass

    def register(library):
        class DifferentiableSigns(library.optim.DifferentiableOptimizer):
            def _update(self, grouped_grads, **kwargs):
                for index, (group, grads) in enumerate(
                    zip(self.param_groups, grouped_grads, strict=True)
                ):
                    for place, (p, g) in enumerate(zip(group["params"], grads, strict=True)):
                        if g is None:
                            continue
                        state = self.state[index][place]
                        state["n"] = state.get("n", 0) + 1
                        group["params"][place] = p - group["lr"] / state["n"] * torch.tanh(g)

        library.register_optim(Signs, DifferentiableSigns)
        model = build("plain")
        with library.innerloop_ctx(model, Signs(model.parameters(), lr=0.1)) as (f, diffopt):
            for _ in range(3):
                diffopt.step(F.mse_loss(f(SUPPORT), TARGETS))
            loss = F.mse_loss(f(QUERY), LABELS)
            return [loss, *torch.autograd.grad(loss, f.parameters(time=0))]

    close(register(ours), register(higher))


@pytest.mark.parametrize("optimizer", [*OPTIMIZERS, *BEYOND])
def test_steps_are_those_of_torch_optim(optimizer):
    # Adam adds eps where higher does.
    changes = {"eps": 1e-16} if OPTIMIZERS.get(optimizer, [None])[0] is ADAM else {}
    model, opt = trained("plain", optimizer, **changes)
    with ours.innerloop_ctx(model, opt) as (fmodel, diffopt):
        for _ in range(4):
            diffopt.step(F.mse_loss(fmodel(SUPPORT), TARGETS))
    for _ in range(4):
        opt.zero_grad()
        F.mse_loss(model(SUPPORT), TARGETS).backward()
        opt.step()
    close(fmodel.parameters(), model.parameters(), 1e-10)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("optimizer", ["momentum", "adam"])
def test_meta_gradient_against_finite_differences(name, optimizer):
    model, opt = trained(name, optimizer)
    before = copy.deepcopy(model.state_dict())

    def outer():
        with ours.innerloop_ctx(model, opt, copy_initial_weights=False) as (fmodel, diffopt):
            for _ in range(2):
                prediction = fmodel(SUPPORT)
                penalty = sum(p.square().sum() for p in fmodel.parameters())
                diffopt.step(F.mse_loss(prediction, TARGETS) + 0.01 * penalty)
            return F.mse_loss(fmodel(QUERY), LABELS)

    outer().backward()
    slope, expected = finite_difference(outer, model)
    assert slope == pytest.approx(expected, rel=1e-5)
    for key, value in model.state_dict().items():
        torch.testing.assert_close(value, before[key], rtol=0, atol=1e-12)


def test_two_losses_of_one_forward_pass():
    model, opt = trained("plain", "sgd")
    with ours.innerloop_ctx(model, opt) as (fmodel, diffopt):
        prediction = fmodel(SUPPORT)
        first, second = F.mse_loss(prediction, TARGETS), prediction.square().mean()
        start = fmodel.fast_params
        after = diffopt.step(first)
        fmodel.update_params(start)
        total = [a + b - s for a, b, s in zip(after, diffopt.step(second), start, strict=True)]
    with ours.innerloop_ctx(model, opt) as (fmodel, diffopt):
        prediction = fmodel(SUPPORT)
        diffopt.step(F.mse_loss(prediction, TARGETS) + prediction.square().mean())
        close(fmodel.parameters(), total, 1e-12)


def test_no_gradient_reaches_the_model_without_higher_gradients(higher):
    def untracked(library):
        model = build("plain")
        options = {"copy_initial_weights": False, "track_higher_grads": False}
        opt = SGD(model.parameters(), lr=0.1)
        with library.innerloop_ctx(model, opt, **options) as (fmodel, diffopt):
            diffopt.step(F.mse_loss(fmodel(SUPPORT), TARGETS))
            F.mse_loss(fmodel(QUERY), LABELS).backward()
        assert meta_gradients(model) == [None] * 4
        return list(fmodel.parameters(time=0))

    close(untracked(ours), untracked(higher))


def test_functional_calls_and_utilities(higher):
    def utilities(library):
        model = build("nested")
        params = library.utils.get_func_params(model)
        fmodel = library.patch.make_functional(model)
        fmodel.track_higher_grads = False
        fmodel._fast_params = [[]]
        loss = F.mse_loss(fmodel.forward(QUERY, params=params), LABELS)
        nested = {"a": [loss, (loss * 2,)], "b": loss * 3}
        return [*library.utils.flatten(nested), *torch.autograd.grad(loss, params)]

    close(utilities(ours), utilities(higher))
    assert isinstance(ours.monkeypatch(build("plain")), ours.patch._MonkeyPatchBase)


def test_a_state_dict_goes_on_in_torch_optim():
    model, opt = trained("plain", "adam", eps=1e-16)
    other = copy.deepcopy(model)
    with ours.innerloop_ctx(model, opt) as (fmodel, diffopt):
        diffopt.step(F.mse_loss(fmodel(SUPPORT), TARGETS))
    own = ADAM(other.parameters())
    own.load_state_dict(diffopt.state_dict())
    other.load_state_dict(fmodel.state_dict())
    for net, optimizer in ((model, opt), (model, opt), (other, own)):
        optimizer.zero_grad()
        F.mse_loss(net(SUPPORT), TARGETS).backward()
        optimizer.step()
    close(other.parameters(), model.parameters(), 1e-10)


@pytest.mark.parametrize("optimizer", [*OPTIMIZERS, *BEYOND])
def test_gradients_are_finite_where_inner_gradients_are_zero(optimizer):
    """Those of higher's centred RMSprop are NaN."""
    kind, settings = {**OPTIMIZERS, **BEYOND}[optimizer]
    model = build("plain")
    still = SUPPORT * torch.tensor([0.0, 1.0, 1.0])
    opt = kind(model.parameters(), **settings)
    with ours.innerloop_ctx(model, opt, copy_initial_weights=False) as (fmodel, diffopt):
        for _ in range(3):
            diffopt.step(F.mse_loss(fmodel(still), TARGETS))
        F.mse_loss(fmodel(QUERY), LABELS).backward()
    assert all(gradient.isfinite().all() for gradient in meta_gradients(model))


def test_where_higher_differs(higher):
    """What the docstrings say of higher 0.2.1 is so; ours is tested above."""
    model = build("plain")
    centred = torch.optim.RMSprop(model.parameters(), centered=True)
    still = SUPPORT * torch.tensor([0.0, 1.0, 1.0])
    with higher.innerloop_ctx(model, centred) as (f, diffopt):
        for _ in range(3):
            diffopt.step(F.mse_loss(f(still), TARGETS))
        outer = F.mse_loss(f(QUERY), LABELS)
        assert torch.autograd.grad(outer, f.parameters(time=0))[0].isnan().any()

    climbing = readme(higher, "plain", "maximize")
    assert climbing[3] < climbing[0]


def test_parts_and_methods_see_the_latest_parameters():
    model, opt = trained("buffered", "sgd")
    with ours.innerloop_ctx(model, opt) as (fmodel, diffopt):
        start = fmodel[0](SUPPORT)
        for _ in range(2):
            diffopt.step(F.mse_loss(fmodel(SUPPORT), TARGETS))
    assert isinstance(fmodel, torch.nn.Sequential)
    assert fmodel[0].weight is fmodel.fast_params[0]
    assert fmodel.state_dict()["0.weight"].equal(fmodel.fast_params[0].detach())
    assert not torch.equal(fmodel[0](SUPPORT), start)
    assert [len(list(fmodel.parameters(time=t))) for t in (0, 1, 2, -1)] == [6] * 4
    assert not torch.equal(fmodel[1].running_mean, model[1].running_mean)
    ours.patch.buffer_sync(model, fmodel)
    assert torch.equal(fmodel[1].running_mean, model[1].running_mean)


def test_a_deep_copy_starts_from_the_latest_parameters():
    model, opt = trained("lstm", "sgd")
    with ours.innerloop_ctx(model, opt) as (fmodel, diffopt):
        diffopt.step(F.mse_loss(fmodel(SUPPORT), TARGETS))
        copied = copy.deepcopy(fmodel)
    assert torch.equal(copied(QUERY), fmodel(QUERY))
    own = ours.create_diff_optim(SGD, {"lr": 0.1}, fmodel=copied)
    own.step(F.mse_loss(copied(SUPPORT), TARGETS))
    assert not torch.equal(copied(QUERY), fmodel(QUERY))
    assert all(p.is_leaf for p in copied.parameters(time=0))


def test_an_unused_parameter_stays_and_a_frozen_one_too():
    model = torch.nn.ModuleDict({"used": torch.nn.Linear(3, 2), "idle": torch.nn.Linear(3, 2)})
    model["used"].bias.requires_grad_(False)
    with ours.innerloop_ctx(model.double(), ADAM(model.parameters())) as (fmodel, diffopt):
        diffopt.step(F.mse_loss(fmodel["used"](SUPPORT), TARGETS))
        moved = [a is not b for a, b in zip(*(fmodel.parameters(time=t) for t in (0, 1)))]  # noqa: B905
    assert moved == [True, False, False, False]


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_memory_returns_after_a_hundred_steps(optimizer):
    kind, settings = OPTIMIZERS[optimizer]
    model = torch.nn.Linear(300, 300)  # 0.36 MB a copy
    opt, x = kind(model.parameters(), **settings), torch.randn(4, 300)

    def outer_step():
        with ours.innerloop_ctx(model, opt, copy_initial_weights=False) as (fmodel, diffopt):
            for _ in range(100):
                diffopt.step(fmodel(x).square().mean())
            fmodel(x).square().mean().backward()
        alive.append(weakref.ref(fmodel.init_fast_params[0]))

    alive = []
    held = memory_after(outer_step)
    assert all(reference() is None for reference in alive)
    assert max(held[1:]) - held[0] < 30, held  # a kept graph would be at least 36 per step
    assert gc.isenabled()


def test_without_higher_gradients_only_the_latest_parameters_are_kept():
    model, opt = trained("plain", "adam")
    with ours.innerloop_ctx(model, opt, track_higher_grads=False) as (fmodel, diffopt):
        diffopt.step(F.mse_loss(fmodel(SUPPORT), TARGETS))
    assert all(p.is_leaf and p.requires_grad for p in fmodel.parameters())
    assert all(a is b for a, b in zip(fmodel.parameters(), fmodel.parameters(time=0), strict=True))


def test_bad_arguments_are_named():
    model, opt = trained("plain", "sgd")
    fmodel = ours.monkeypatch(model)
    with pytest.raises(ValueError, match=r"^module: "):
        ours.monkeypatch(fmodel)
    with pytest.raises(ValueError, match="NAdam"):
        ours.get_diff_optim(torch.optim.NAdam(model.parameters()), model.parameters())
    with pytest.raises(ValueError, match=r"^opt: a parameter of shape"):
        ours.get_diff_optim(opt, build("lstm").parameters())
    for override, error in (({"lrr": [1.0]}, ValueError), ({"lr": 1.0}, TypeError)):
        with pytest.raises(error, match=r"^override"):
            ours.get_diff_optim(opt, model.parameters(), override=override)
    with pytest.raises(ValueError, match=r"^params: "):
        ours.create_diff_optim(SGD, {"lr": 0.1})
