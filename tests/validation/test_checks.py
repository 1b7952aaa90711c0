from types import SimpleNamespace

from caloforge.validation.checks import shared_energies


def test_generators_that_stand_on_the_same_layer_energies_are_named():
    digests = {"vae": "a" * 64, "wgan": "b" * 64, "flow": "a" * 64, "tree": None}
    samples = {
        name: SimpleNamespace(attributes={"layer_energies": digest} if digest else {})
        for name, digest in digests.items()
    }
    (note,) = shared_energies(samples)
    assert note.startswith("vae and flow stand on the same trained layer energies (SHA-256 aaaaaaaaaaaa):")
    assert shared_energies({name: samples[name] for name in ("vae", "wgan", "tree")}) == ()
