"""Each schedule equals torch's own scheduler over whole runs, on settings that hypothesis draws."""

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch.optim import SGD
from torch.optim import lr_scheduler as torch_schedulers

from resnet_lib import schedules
from resnet_lib.schedules import adjust_learning_rate
from resnet_lib.training import HE_2015, README_RECIPE, Recipe

quick = settings(max_examples=60, deadline=None)
peak_rates = st.floats(1e-4, 10)


def optimizer_with(*rates: float) -> SGD:
    return SGD([{"params": [torch.zeros(1, requires_grad=True)], "lr": rate} for rate in rates], lr=1.0)


def torch_rates(make_scheduler, steps: int, peak_lr: float = 1.0) -> list[float]:
    """The rate at each step of a run under torch's scheduler."""
    optimizer = optimizer_with(peak_lr)
    scheduler = make_scheduler(optimizer)
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


def same(rates: list[float], expected: list[float]) -> bool:
    # torch multiplies rate by rate, so its rounding grows with the run.
    return rates == pytest.approx(expected, rel=1e-6, abs=1e-12)


def torch_one_cycle(steps, peak_lr, rise=0.3, start_factor=1 / 25, end_factor=1e-4):
    return lambda optimizer: torch_schedulers.OneCycleLR(
        optimizer,
        max_lr=peak_lr,
        total_steps=steps,
        pct_start=rise,
        div_factor=1 / start_factor,
        final_div_factor=1 / end_factor,
        cycle_momentum=False,
    )


@quick
@given(peak_rates, st.integers(1, 50))
def test_constant(peak_lr, epochs):
    expected = torch_rates(lambda o: torch_schedulers.ConstantLR(o, factor=1, total_iters=epochs), epochs, peak_lr)
    assert same([schedules.constant(epoch, peak_lr) for epoch in range(epochs)], expected)


@quick
@given(peak_rates, st.integers(1, 60), st.lists(st.integers(0, 80), max_size=6), st.floats(0.05, 1))
def test_multi_step(peak_lr, epochs, milestones, factor):
    """Milestones may be repeated, at 0, beyond the end, or in any order."""
    expected = torch_rates(lambda o: torch_schedulers.MultiStepLR(o, milestones, gamma=factor), epochs, peak_lr)
    assert same([schedules.multi_step(epoch, peak_lr, milestones, factor) for epoch in range(epochs)], expected)


def test_multi_step_drops_at_the_milestone_and_not_before():
    rates = [schedules.multi_step(epoch, 0.1, (80, 110, 130)) for epoch in (0, 79.99, 80, 109, 110, 129, 130, 149)]
    assert rates == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001, 0.0001, 0.0001])


@quick
@given(peak_rates, st.integers(1, 80))
def test_cosine(peak_lr, epochs):
    expected = torch_rates(lambda o: torch_schedulers.CosineAnnealingLR(o, T_max=epochs), epochs + 1, peak_lr)
    assert same([schedules.cosine(epoch, peak_lr, epochs) for epoch in range(epochs + 1)], expected)


@quick
@given(peak_rates, st.integers(1, 80))
def test_linear(peak_lr, epochs):
    expected = torch_rates(lambda o: torch_schedulers.LinearLR(o, 1, 0, total_iters=epochs), epochs + 1, peak_lr)
    polynomial = torch_rates(lambda o: torch_schedulers.PolynomialLR(o, epochs, power=1), epochs + 1, peak_lr)
    rates = [schedules.linear(epoch, peak_lr, epochs) for epoch in range(epochs + 1)]
    assert same(rates, expected)
    assert same(rates, polynomial)


@pytest.mark.parametrize("schedule", [schedules.cosine, schedules.linear])
def test_cosine_and_linear_stay_at_zero_after_the_end(schedule):
    assert schedule(12, 0.1, 10) == pytest.approx(0, abs=1e-12)


@quick
@given(
    peak_rates,
    st.integers(1, 8),
    st.integers(1, 25),
    st.floats(0.05, 0.95),
    st.floats(0.01, 0.9),
    st.floats(1e-5, 0.9),
)
def test_one_cycle_with_an_update_each_step(peak_lr, epochs, steps_per_epoch, rise, start_factor, end_factor):
    """With one step an epoch this is the update per epoch."""
    steps = epochs * steps_per_epoch
    assume(1.001 < rise * steps < steps - 0.001)
    expected = torch_rates(torch_one_cycle(steps, peak_lr, rise, start_factor, end_factor), steps)
    interval = 1 / steps_per_epoch
    rates = [
        schedules.one_cycle(step * interval, peak_lr, epochs, rise, start_factor, end_factor, interval)
        for step in range(steps)
    ]
    assert same(rates, expected)
    assert rates[-1] == pytest.approx(peak_lr * start_factor * end_factor)


@pytest.mark.parametrize(
    ("epochs", "rise", "interval"),
    [(1, 0.3, 1), (3, 0.3, 1), (10, 0.1, 1), (1, 0.3, 1 / 3), (10, 0, 1), (10, 1, 1), (10, -0.5, 1)],
)
def test_one_cycle_without_room_for_its_rise_or_fall_is_refused(epochs, rise, interval):
    with pytest.raises(ValueError, match=r"interval < rise · epochs < epochs\. Train for longer"):
        schedules.one_cycle(0, 0.1, epochs, rise, interval=interval)


def warm(optimizer, make_scheduler, warmup_steps, start_factor=0.1):
    warmup = torch_schedulers.LinearLR(optimizer, start_factor=start_factor, total_iters=warmup_steps)
    return torch_schedulers.ChainedScheduler([make_scheduler(optimizer), warmup], optimizer)


@quick
@given(peak_rates, st.integers(1, 20), st.integers(1, 20), st.floats(0.01, 1))
def test_warmup(peak_lr, warmup_epochs, steps_per_epoch, start_factor):
    """In fractions of an epoch too, against one update a step."""
    steps = (warmup_epochs + 3) * steps_per_epoch
    warmup_steps = warmup_epochs * steps_per_epoch
    expected = torch_rates(
        lambda o: torch_schedulers.LinearLR(o, start_factor, total_iters=warmup_steps), steps, peak_lr
    )
    factors = [schedules.warmup_factor(step / steps_per_epoch, warmup_epochs, start_factor) for step in range(steps)]
    assert same([peak_lr * factor for factor in factors], expected)


def torch_rates_of(recipe: Recipe, steps_per_epoch: int) -> list[float]:
    """A recipe's rates by torch's schedulers, one update a step, warm-up chained before."""
    steps = recipe.epochs * steps_per_epoch
    milestones = [milestone * steps_per_epoch for milestone in recipe.milestones]
    make_scheduler = {
        "constant": lambda o: torch_schedulers.ConstantLR(o, factor=1, total_iters=steps),
        "multi_step": lambda o: torch_schedulers.MultiStepLR(o, milestones, gamma=recipe.factor),
        "cosine": lambda o: torch_schedulers.CosineAnnealingLR(o, T_max=steps),
        "one_cycle": torch_one_cycle(steps, recipe.peak_lr),
        "linear": lambda o: torch_schedulers.LinearLR(o, 1, 0, total_iters=steps),
    }[recipe.schedule]
    warmup_steps = round(recipe.warmup_epochs * steps_per_epoch)
    if warmup_steps == 0:
        return torch_rates(make_scheduler, steps, recipe.peak_lr)
    if recipe.schedule == "one_cycle":  # it sets the rate outright, so it cannot be chained: multiply
        warmup = torch_rates(lambda o: torch_schedulers.LinearLR(o, 0.1, total_iters=warmup_steps), steps)
        return [one * other for one, other in zip(torch_rates(make_scheduler, steps), warmup, strict=True)]
    return torch_rates(lambda o: warm(o, make_scheduler, warmup_steps), steps, recipe.peak_lr)


@quick
@given(
    st.sampled_from(["constant", "multi_step", "cosine", "one_cycle", "linear"]),
    peak_rates,
    st.integers(1, 12),
    st.integers(4, 20),
    st.lists(st.integers(0, 15), max_size=4).map(sorted),
    st.floats(0.05, 0.9),
    st.integers(0, 12),
)
def test_a_recipe_equals_torchs_schedulers_step_by_step(
    schedule, peak_lr, epochs, steps_per_epoch, milestones, factor, warmup_epochs
):
    recipe = Recipe(epochs, 32, peak_lr, schedule, tuple(milestones), factor, warmup_epochs=min(warmup_epochs, epochs))
    interval = 1 / steps_per_epoch
    rates = [
        recipe.learning_rate(epoch + step / steps_per_epoch, interval)
        for epoch in range(epochs)
        for step in range(steps_per_epoch)
    ]
    assert same(rates, torch_rates_of(recipe, steps_per_epoch))


def test_the_named_recipes_are_the_published_ones():
    """The README: 0.1, drops at 80, 110, 130 of 150. He et al. 2015, §4.2: drops at 32k and 48k of 64k steps."""
    assert Recipe(150, 32, 0.1, "multi_step", (80, 110, 130), momentum=0.9, weight_decay=1e-4) == README_RECIPE
    steps_per_epoch = -(-50_000 // HE_2015.batch_size)
    thousands = [epochs * steps_per_epoch / 1000 for epochs in (*HE_2015.milestones, HE_2015.epochs)]
    assert [round(steps) for steps in thousands] == [32, 48, 64]
    assert (HE_2015.peak_lr, HE_2015.momentum, HE_2015.weight_decay, HE_2015.batch_size) == (0.1, 0.9, 1e-4, 128)


def test_a_recipe_scaled_to_another_length():
    scaled = README_RECIPE.scaled_to(15)
    assert (scaled.epochs, scaled.milestones, scaled.batch_size) == (15, (8, 11, 13), 32)
    assert HE_2015.scaled_to(164) == HE_2015
    # However short, the first epoch has the full rate.
    assert HE_2015.scaled_to(1).learning_rate(0) == 0.1
    assert Recipe(10, 32, 0.1, warmup_epochs=4).scaled_to(5).warmup_epochs == 2


# --- adjust_learning_rate


def the_readmes_adjust_learning_rate(base_lr, optimizer, epoch, epoch_list=None):
    """As the README printed it, with its two faults."""
    base_lr = 0.1
    if epoch_list is not None:
        index = 0
        for i, e in enumerate(epoch_list, 1):
            if epoch >= e:
                index = i
            else:
                break
        lr = base_lr * (0.1**index)
    for param_group in optimizer.param_groups:
        param_group["lr"] = lr
    return lr


@quick
@given(peak_rates, st.integers(1, 60), st.lists(st.integers(0, 80), max_size=5).map(sorted))
def test_adjust_learning_rate_equals_multi_step(base_lr, epochs, epoch_list):
    expected = torch_rates(lambda o: torch_schedulers.MultiStepLR(o, epoch_list), epochs, base_lr)
    optimizer = optimizer_with(5.0)
    rates = []
    for epoch in range(epochs):
        returned = adjust_learning_rate(base_lr, optimizer, epoch, epoch_list)
        rates.append(optimizer.param_groups[0]["lr"])
        assert returned == rates[-1]
    assert same(rates, expected)


@quick
@given(st.integers(0, 200), st.lists(st.integers(0, 200), max_size=5).map(sorted))
def test_adjust_learning_rate_keeps_what_the_readme_had_right(epoch, epoch_list):
    ours = adjust_learning_rate(0.1, optimizer_with(1.0), epoch, epoch_list)
    assert ours == pytest.approx(the_readmes_adjust_learning_rate(0.1, optimizer_with(1.0), epoch, epoch_list))


def test_adjust_learning_rate_has_lost_the_readmes_two_faults():
    assert the_readmes_adjust_learning_rate(0.4, optimizer_with(1.0), 0, [80]) == 0.1
    assert adjust_learning_rate(0.4, optimizer_with(1.0), 0, [80]) == 0.4
    with pytest.raises(UnboundLocalError):
        the_readmes_adjust_learning_rate(0.1, optimizer_with(1.0), 0)
    assert adjust_learning_rate(0.1, optimizer_with(1.0), 0) == 0.1


@pytest.mark.parametrize("epoch_list", [[2, 4], (2, 4), np.array([2, 4]), torch.tensor([2, 4]), range(2, 5, 2)])
def test_adjust_learning_rate_sets_every_group(epoch_list):
    optimizer = optimizer_with(1.0, 2.0, 3.0)
    adjust_learning_rate(0.2, optimizer, 3, epoch_list)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.02] * 3)
    adjust_learning_rate(0.2, optimizer, 3, [])
    assert [group["lr"] for group in optimizer.param_groups] == [0.2] * 3
