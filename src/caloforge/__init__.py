"""caloforge: from full-simulation calorimeter showers to a fast, validated, served generator.

Inside the package energies are MeV, lengths mm and angles rad. Voxels are ordered layer, then
alpha, then r, with r fastest.
"""

__version__ = "0.1.0"
