"""Autoencoders with critics: what is drawn, who is trained by what, and the discrepancy of samples."""

from __future__ import annotations

import pytest
import torch
from exact_gaussian import LINE, coded_batch, seeded
from torch import Tensor

from caloforge.models.networks.adversarial_autoencoder import AdversarialAutoencoder, BottleneckAutoencoder
from caloforge.models.networks.autoencoder import AutoencoderConfig
from caloforge.models.networks.mlp import MLPConfig
from caloforge.models.objectives.bib_ae import BIBAE, BIBAEConfig, mmd
from caloforge.models.objectives.elbo import ELBO, ELBOConfig
from caloforge.models.objectives.vae_gan import VAEGAN, VAEGANConfig
from caloforge.models.post_processor import NEAR, PostProcessor, hottest

CONFIG = AutoencoderConfig(network=MLPConfig(width=16, blocks=1), latent=3)
CASES = [(AdversarialAutoencoder, VAEGAN(VAEGANConfig())), (BottleneckAutoencoder, BIBAE(BIBAEConfig()))]


def build(kind: type[AdversarialAutoencoder]) -> AdversarialAutoencoder:
    torch.manual_seed(0)
    return kind(LINE, 1, CONFIG)


def test_showers_with_gradients_are_those_without() -> None:
    network = build(AdversarialAutoencoder).double()
    noise, condition = seeded(1).normal(50, network.noise_features, dtype=torch.float64), torch.randn(50, 1).double()
    latent, rest = noise[:, :3], noise[:, 3:]
    drawn = network.draw_through(latent, rest, condition)
    assert torch.allclose(drawn, network.draw(noise, condition))
    # The chance of the upper mode is trained too: more of it is more where the upper mode is above.
    mixture = network.decode(latent, condition)
    network.decode = lambda *_: mixture  # type: ignore[method-assign]
    found = torch.autograd.grad(network.draw_through(latent, rest, condition).sum(), mixture.logit, retain_graph=True)[
        0
    ]
    low, high = (mixture.centre + mixture.log_width.exp() * rest.chunk(2, 1)[1][:, :, None]).unbind(2)
    assert torch.equal(found.sign(), (high - low).sign())


@pytest.mark.parametrize(("kind", "objective"), CASES)
def test_critics_and_autoencoder_move_their_own_weights(kind: type[AdversarialAutoencoder], objective: VAEGAN) -> None:
    network = build(kind)
    own = {part: {id(p) for p in objective.parameters_of(network, part)} for part in objective.parts}
    assert not own["critic"] & own["model"]
    assert own["critic"] | own["model"] == {id(p) for p in network.parameters()}
    for part, weights in own.items():
        network.zero_grad()
        objective.loss(network, coded_batch(torch.randn(6, 2)), seeded(0), part=part).value.backward()
        assert {id(p) for p in network.parameters() if p.grad is not None} == weights


def test_without_critics_it_is_the_bound() -> None:
    network, batch = build(BottleneckAutoencoder), coded_batch(torch.randn(400, 2))
    free = BIBAE(BIBAEConfig(beta=1.0, adversarial=0, latent=0, mmd=0)).loss(network, batch, seeded(0)).value
    # Other random numbers: 0.1 is several standard errors.
    bound = ELBO(ELBOConfig()).loss(network, batch, seeded(1)).value
    assert free.item() == pytest.approx(bound.item(), abs=0.1)


@pytest.mark.parametrize(("name", "unit"), [("adversarial", "features"), ("latent", "latent_score")])
def test_a_higher_score_is_a_lower_loss(name: str, unit: str) -> None:
    class Scored(BottleneckAutoencoder):
        bonus = 0.0

        def critic(self, x: Tensor, condition: Tensor) -> Tensor:
            return super().critic(x, condition) + (self.bonus if unit == "features" else 0)

        def latent_critic(self, latent: Tensor, condition: Tensor) -> Tensor:
            return super().latent_critic(latent, condition) + (self.bonus if unit == "latent_score" else 0)

    network, batch = build(Scored).eval(), coded_batch(torch.randn(9, 2))
    objective = BIBAE(BIBAEConfig(**{name: 0.3}))
    before = objective.loss(network, batch, seeded(0)).value
    network.bonus = 2.0
    after = objective.loss(network, batch, seeded(0)).value
    assert (after - before).item() == pytest.approx(-0.3 * 2, abs=1e-5)


def test_discrepancy_is_nothing_between_equal_distributions_and_grows() -> None:
    draws = seeded(0)
    same = torch.stack([mmd(draws.normal(60, 3), draws.normal(60, 3)) for _ in range(200)])
    # Unbiased: 4 standard errors.
    assert abs(same.mean()) < 4 * same.std() / 200**0.5
    moved = [mmd(draws.normal(500, 3), draws.normal(500, 3) + shift).item() for shift in (0.0, 0.5, 1.0)]
    assert moved[0] < moved[1] / 3 < moved[2] / 6
    wide = mmd(draws.normal(500, 3), 2 * draws.normal(500, 3))
    assert wide > 5 * same.std()


def test_discrepancy_is_the_sum_over_pairs() -> None:
    a, b = torch.tensor([[0.0], [1.0], [3.0]]), torch.tensor([[1.0], [2.0], [2.0]])

    def kernel(x: float, y: float) -> float:
        return sum(s / (s + (x - y) ** 2) for s in (0.2, 1.0, 2.0, 4.0, 20.0))

    one, other = a[:, 0].tolist(), b[:, 0].tolist()
    within = [sum(kernel(s[i], s[j]) for i in range(3) for j in range(3) if i != j) / 6 for s in (one, other)]
    between = sum(kernel(x, y) for x in one for y in other) / 9
    assert mmd(a, b).item() == pytest.approx(sum(within) - 2 * between, abs=1e-5)


def test_a_post_processor_changes_little_and_is_told_by_spectrum_critic_and_change() -> None:
    torch.manual_seed(0)
    post = PostProcessor(LINE, 1, MLPConfig(width=16, blocks=1))
    batch, drawn = coded_batch(torch.randn(40, 2)), torch.randn(40, 2)
    mended = post.mend(drawn, batch.condition)
    assert 0 < (mended - drawn).abs().max() < 0.1
    post.eval()
    score = post.network.critic(mended, batch.condition).mean()
    wanted = mmd(hottest(mended), hottest(batch.coded)) - score + NEAR * (mended - drawn).square().mean()
    assert post("mender", (batch, drawn), seeded(0)).item() == pytest.approx(wanted.item(), abs=1e-5)
    reached: set[int] = set()
    for part in post.parts:
        post.zero_grad()
        post(part, (batch, drawn), seeded(0)).backward()
        moved = {id(p) for p in post.parameters() if p.grad is not None}
        assert moved == {id(p) for p in post.parameters_of(part)}
        reached |= moved
    assert reached == {id(p) for p in post.parameters()}


def test_the_hottest_voxels_fall() -> None:
    assert hottest(torch.tensor([[1.0, 3.0, 2.0]])).tolist() == [[3.0, 2.0, 1.0]]
