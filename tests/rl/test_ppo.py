"""PPO's loss against its formula by hand, its stop, and the policy gradient."""

import math

import pytest
import torch

from fisherbo.errors import DivergedError, InvalidInputError
from fisherbo.rl import Batch, Spec, policy_gradient_update, ppo_update
from fisherbo.rl.policy import critic_network
from fisherbo.rl.ppo import approximate_kl, clipped_loss, minibatches


def parts(actor, lr=1e-2):
    critic = critic_network(Spec(3, 2, actor.family, (8,)), torch.Generator().manual_seed(0))
    return critic, torch.optim.Adam([*actor.parameters(), *critic.parameters()], lr)


def test_the_clipped_loss_is_that_of_the_formula():
    """r = 0.5, 1.1, 1.5, 2 with A = −1, 1, 2, −1 and ε = 0.2: terms −0.8, 1.1, 2.4, −2."""
    ratio = torch.tensor([0.5, 1.1, 1.5, 2.0])
    advantages = torch.tensor([-1.0, 1.0, 2.0, -1.0])
    loss = clipped_loss(ratio.log(), advantages, 0.2)
    assert loss.item() == pytest.approx(-(-0.8 + 1.1 + 2.4 - 2.0) / 4)


def test_no_gradient_where_the_clip_holds():
    log_ratio = torch.tensor([math.log(1.5), math.log(0.5)], requires_grad=True)
    (gradient,) = torch.autograd.grad(
        clipped_loss(log_ratio, torch.tensor([1.0, -1.0]), 0.2), log_ratio
    )
    assert torch.equal(gradient, torch.zeros(2))


def test_the_estimate_of_the_divergence_is_unbiased_and_never_negative():
    """KL(p ‖ q) as Σ p (r − 1 − log r), r = q/p."""
    p, q = torch.tensor([0.7, 0.3]), torch.tensor([0.4, 0.6])
    each = torch.stack([approximate_kl((q / p).log()[k : k + 1]) for k in range(2)])
    assert (each >= 0).all()
    assert (p * each).sum().item() == pytest.approx((p * (p / q).log()).sum().item(), rel=1e-6)


def test_one_pass_over_one_minibatch_is_one_step_of_the_optimizer_on_the_loss(
    make_actor, actor, batch
):
    twin = make_actor(actor.family)
    critic, optimizer = parts(actor)
    other, others = parts(twin)
    ppo_update(
        actor, critic, optimizer, batch, epochs=1, batch_size=len(batch.actions),
        entropy=0.01, max_grad_norm=1e9,
    )  # fmt: skip
    log_probability = twin.log_probability(twin(batch.observations), batch.actions)
    ratio = (log_probability - log_probability.detach()).exp()
    advantages = batch.advantages - batch.advantages.mean()
    advantages = advantages / (batch.advantages.std() + 1e-8)
    wrong = other(batch.observations)[:, 0] - batch.targets
    entropy = twin.entropy(twin(batch.observations)).mean()
    loss = -(ratio * advantages).mean() + 0.25 * wrong.square().mean() - 0.01 * entropy
    loss.backward()
    others.step()
    for mine, theirs in zip(actor.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)
    for mine, theirs in zip(critic.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


def test_an_update_gains_and_tells_what_it_did(actor, batch):
    critic, optimizer = parts(actor, 1e-3)
    step = ppo_update(
        actor, critic, optimizer, batch, epochs=5, generator=torch.Generator().manual_seed(0)
    )
    assert step.accepted and step.trials == 5
    assert step.gain > 0 and step.kl > 0


def test_passes_end_where_the_divergence_exceeds_its_target(actor, batch):
    critic, optimizer = parts(actor, 0.05)
    step = ppo_update(actor, critic, optimizer, batch, epochs=50, target_kl=0.01)
    assert 0 < step.trials < 50


def test_minibatches_hold_every_row_once_an_epoch():
    drawn = list(minibatches(10, 4, 3, torch.Generator().manual_seed(0)))
    assert [len(rows) for rows in drawn] == [4, 4, 2] * 3
    for epoch in range(3):
        rows = torch.cat(drawn[3 * epoch : 3 * epoch + 3])
        assert sorted(rows.tolist()) == list(range(10))


def test_the_policy_gradient_is_that_of_the_surrogate(make_actor, actor, batch):
    """One step of gradient descent moves by lr·E[A ∇log π]."""
    twin = make_actor(actor.family)
    optimizer = torch.optim.SGD(actor.parameters(), 0.1)
    step = policy_gradient_update(actor, optimizer, batch, max_grad_norm=1e9)
    log_probability = twin.log_probability(twin(batch.observations), batch.actions)
    ratio = (log_probability - log_probability.detach()).exp()
    (ratio * batch.advantages).mean().backward()
    for mine, theirs in zip(actor.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs + 0.1 * theirs.grad)
    assert step.gain > 0


def test_what_is_not_finite_is_refused(make_actor, make_batch):
    actor = make_actor("categorical")
    batch = make_batch(actor)
    bad = Batch(
        batch.observations, batch.actions, torch.full_like(batch.advantages, torch.inf),
        batch.targets,
    )  # fmt: skip
    critic, optimizer = parts(actor)
    with pytest.raises(DivergedError, match="not finite"):
        ppo_update(actor, critic, optimizer, bad)
    with pytest.raises(DivergedError, match="not finite"):
        policy_gradient_update(actor, optimizer, bad)
    for settings in ({"clip": 0}, {"epochs": 0}, {"batch_size": 1}, {"target_kl": 0.0}):
        with pytest.raises(InvalidInputError, match=next(iter(settings))):
            ppo_update(actor, critic, optimizer, batch, **settings)
    with pytest.raises(InvalidInputError, match="as many observations"):
        Batch(batch.observations[:3], batch.actions, batch.advantages, batch.targets)
