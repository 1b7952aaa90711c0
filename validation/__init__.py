"""Judge generated showers against Geant4: observables, metrics, plots and the report."""
