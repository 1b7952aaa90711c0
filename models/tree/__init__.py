"""The splitting tree: showers drawn as hits and energies along a binary tree of cells."""
