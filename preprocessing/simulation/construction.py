"""A detector in Geant4: volumes, physics, gun, and what takes the deposits. Only the worker's process imports this.

Volumes and actions that Python makes must live as long as Geant4 uses them, so each class keeps its own.
"""

from __future__ import annotations

import math
import time
from array import array
from collections.abc import Callable
from typing import Any

import geant4_pybind as g4
import numpy as np
from numpy.typing import NDArray

from caloforge.preprocessing.simulation.beam import Shot
from caloforge.preprocessing.simulation.detector import Barrel, Detector, Fibres, Planar, Slab
from caloforge.preprocessing.simulation.geant4 import ELECTROMAGNETIC_LIST
from caloforge.preprocessing.simulation.readout import direction

_VACUUM = "G4_Galactic"
_AROUND_MM = 10.0
"""World around the detector."""

_BEFORE_MM = 1.0
"""Where particles start in front of what has a front."""


class Construction(g4.G4VUserDetectorConstruction):
    """The volumes of a detector.

    Slabs lie in about as many groups as a group has periods: Geant4 finds its way among n slabs side by side in a time
    that grows with n (180 of them directly in the world are 2.8 times slower, with the same showers).
    """

    def __init__(self, detector: Detector, deposits: Deposits) -> None:
        super().__init__()
        self._detector, self._deposits = detector, deposits
        self._kept: list[Any] = []
        self._sensitive: list[Any] = []

    def Construct(self) -> Any:
        """Build all volumes and return the world."""
        volume = self._detector.volume
        if isinstance(volume, Barrel):
            outer = volume.inner_radius_mm + volume.depth_mm + _AROUND_MM
            world = self._volume(g4.G4Box("world", outer, outer, volume.half_length_mm + _AROUND_MM), _VACUUM)
            placed = self._place(world, None)
            self._sandwich(volume, world, self._shell)
        else:
            half, depth = volume.half_width_mm + _AROUND_MM, volume.depth_mm + _AROUND_MM
            world = self._volume(g4.G4Box("world", half, half, depth), _VACUUM)
            placed = self._place(world, None)
            if isinstance(volume, Fibres):
                self._grid(volume, world)
            else:
                self._sandwich(volume, world, self._plate)
        return placed

    def ConstructSDandField(self) -> None:
        """Have the deposits of the sensitive volumes taken."""
        scorer = self._keep(g4.G4MultiFunctionalDetector("calorimeter"))
        scorer.RegisterPrimitive(self._deposits)
        g4.G4SDManager.GetSDMpointer().AddNewDetector(scorer)
        for volume in self._sensitive:
            volume.SetSensitiveDetector(scorer)

    def _sandwich(self, volume: Barrel | Planar, world: Any, slab: Callable[..., tuple[Any, Any]]) -> None:
        size = math.ceil(math.sqrt(volume.periods))
        period = volume.depth_mm / volume.periods
        fill = max(volume.period, key=lambda one: (not one.sensitive, one.mm)).material
        for first in range(0, volume.periods, size):
            begin, end = first * period, min(first + size, volume.periods) * period
            solid, place = slab("group", volume, begin, end)
            group = self._volume(solid, fill)
            self._place(group, world, place)
            middle = (begin + end) / 2
            for number in range(first, min(first + size, volume.periods)):
                start = number * period
                for one in volume.period:
                    if one.sensitive or one.material != fill:
                        self._slab(one, group, slab(one.material, volume, start, start + one.mm), middle)
                    start += one.mm

    def _grid(self, volume: Fibres, world: Any) -> None:
        pitch, n, half_length = volume.pitch_mm, volume.columns, volume.length_mm / 2
        half = n * pitch / 2
        block = self._volume(g4.G4Box("block", half, half, half_length), volume.fill)
        self._place(block, world, half_length)
        column = self._volume(g4.G4Box("column", pitch / 2, half, half_length), volume.fill)
        self._keep(g4.G4PVReplica("", column, block, g4.kXAxis, n, pitch))
        unit = self._volume(g4.G4Box("unit", pitch / 2, pitch / 2, half_length), volume.fill)
        self._keep(g4.G4PVReplica("", unit, column, g4.kYAxis, n, pitch))
        around = unit
        for rod in volume.rods:
            made = self._volume(g4.G4Tubs("rod", 0.0, rod.radius_mm, half_length, 0.0, 2 * math.pi), rod.material)
            self._place(made, around)
            if rod.sensitive:
                self._sensitive.append(made)
            around = made

    def _slab(self, slab: Slab, group: Any, shape: tuple[Any, float], middle: float) -> None:
        solid, place = shape
        made = self._volume(solid, slab.material)
        # Shells share the axis of their group; plates lie beside its middle.
        self._place(made, group, place - middle if place else 0.0)
        if slab.sensitive:
            self._sensitive.append(made)

    def _shell(self, name: str, volume: Barrel, begin: float, end: float) -> tuple[Any, float]:
        radius = volume.inner_radius_mm
        return g4.G4Tubs(name, radius + begin, radius + end, volume.half_length_mm, 0.0, 2 * math.pi), 0.0

    def _plate(self, name: str, volume: Planar, begin: float, end: float) -> tuple[Any, float]:
        return g4.G4Box(name, volume.half_width_mm, volume.half_width_mm, (end - begin) / 2), (begin + end) / 2

    def _volume(self, solid: Any, material: str) -> Any:
        found = g4.G4NistManager.Instance().FindOrBuildMaterial(material)
        if found is None:
            raise UnknownMaterial(material)
        self._keep(solid)
        return self._keep(g4.G4LogicalVolume(solid, found, material))

    def _place(self, volume: Any, mother: Any, z: float = 0.0, x: float = 0.0, y: float = 0.0) -> Any:
        return self._keep(g4.G4PVPlacement(None, g4.G4ThreeVector(x, y, z), volume, "", mother, False, 0))

    def _keep(self, thing: Any) -> Any:
        self._kept.append(thing)
        return thing


class UnknownMaterial(Exception):
    """Geant4 has no such material."""


class Deposits(g4.G4VPrimitiveScorer):
    """The deposits of one shower, one for each step.

    A scorer and not a sensitive detector, as only scorers can have a filter, and a filter of Geant4's own keeps the three
    quarters of all steps that are photons crossing a sensitive slab from Python. What a photon deposits itself (the
    binding energy after the photoelectric effect, 0.008 % in silicon) is not counted; neutrons' recoils are, where there
    are hadrons.
    """

    def __init__(self, *, charged: bool) -> None:
        super().__init__("deposits")
        self.steps = array("d")
        """Deposit in MeV, then x, y, z of begin and end added up in mm, four numbers for each step."""
        if charged:
            self._filter = g4.G4SDChargedFilter("charged")
            self.SetFilter(self._filter)

    def ProcessHits(self, step: Any, _: Any) -> bool:
        """Take one step."""
        deposit = step.GetTotalEnergyDeposit()
        if deposit:
            a, b = step.GetPreStepPoint().GetPosition(), step.GetPostStepPoint().GetPosition()
            self.steps.extend((deposit, a.x + b.x, a.y + b.y, a.z + b.z))
        return True

    def Initialize(self, _: Any) -> None:
        """Begin a shower."""
        del self.steps[:]

    def EndOfEvent(self, _: Any) -> None:
        """Leave the deposits where they are."""


class Gun(g4.G4VUserPrimaryGeneratorAction):
    """Begin one shower after the other.

    Attributes:
        started: CPU time at which the current one began, s.
    """

    def __init__(self, detector: Detector, shot: Callable[[int], Shot]) -> None:
        super().__init__()
        self.started = 0.0
        self._detector, self._shot = detector, shot
        self._gun = g4.G4ParticleGun(1)

    def GeneratePrimaries(self, event: Any) -> None:
        """Begin a shower; its random numbers depend on nothing that came before."""
        self.started = time.process_time()
        shot = self._shot(event.GetEventID())
        g4.HepRandom.setTheSeeds([*shot.seeds, 0])
        heading = direction(shot.theta, shot.phi)
        volume = self._detector.volume
        start: tuple[float, ...] = (0.0, 0.0, 0.0)
        if not isinstance(volume, Barrel):
            entry = volume.entry(heading, shot.spot)
            start = tuple(a - _BEFORE_MM * b for a, b in zip(entry, heading, strict=True))
        self._gun.SetParticleByName(shot.particle)
        self._gun.SetParticleEnergy(shot.energy)
        self._gun.SetParticlePosition(g4.G4ThreeVector(*start))
        self._gun.SetParticleMomentumDirection(g4.G4ThreeVector(*heading))
        self._gun.GeneratePrimaryVertex(event)


class Finish(g4.G4UserEventAction):
    """Hand over each shower when it is done."""

    def __init__(self, done: Callable[[], None]) -> None:
        super().__init__()
        self._done = done

    def EndOfEventAction(self, _: Any) -> None:
        """Hand it over."""
        self._done()


class Actions(g4.G4VUserActionInitialization):
    """The actions of a run, which Geant4 wants made after its physics."""

    def __init__(self, detector: Detector, begin: Callable[[int], Shot], done: Callable[[], None]) -> None:
        super().__init__()
        self._detector, self._begin, self._done = detector, begin, done

    def Build(self) -> None:
        """Make them."""
        self.gun, self._finish = Gun(self._detector, self._begin), Finish(self._done)
        self.SetUserAction(self.gun)
        self.SetUserAction(self._finish)


class ElectromagneticPhysics(g4.G4VModularPhysicsList):
    """G4EmStandardPhysics as Geant4 has it, which is also the electromagnetic part of FTFP_BERT."""

    def __init__(self) -> None:
        super().__init__()
        self.RegisterPhysics(g4.G4EmStandardPhysics())


class UnknownPhysics(Exception):
    """Geant4 has no such physics list."""


class Geant4:
    """A detector that is ready to be shot at.

    Attributes:
        version: of Geant4, e.g. ``11.4.1``.
    """

    version = f"{g4.G4VERSION_NUMBER // 100}.{g4.G4VERSION_NUMBER // 10 % 10}.{g4.G4VERSION_NUMBER % 10}"

    def __init__(
        self, detector: Detector, physics: str, *, begin: Callable[[int], Shot], done: Callable[[], None]
    ) -> None:
        """Build everything.

        Args:
            detector: the calorimeter.
            physics: name of the physics list.
            begin: says what begins a shower, counted from 0 in each run.
            done: is called when a shower has ended.

        Raises:
            UnknownMaterial: Geant4 has no such material.
            UnknownPhysics: Geant4 has no such physics list.
        """
        self._manager = g4.G4RunManagerFactory.CreateRunManager(g4.G4RunManagerType.Serial)
        self._deposits = Deposits(charged=physics == ELECTROMAGNETIC_LIST)
        self._construction = Construction(detector, self._deposits)
        self._physics = _physics_list(physics)
        self._actions = Actions(detector, begin, done)
        for part in (self._construction, self._physics, self._actions):
            self._manager.SetUserInitialization(part)
        for command in (
            "/run/verbose 0", "/event/verbose 0", "/process/verbose 0", "/process/em/verbose 0",
            # Atoms that radiate after an interaction: far below the cut, and their tables are large.
            "/process/em/fluo false", "/process/em/auger false", "/process/em/pixe false",
            f"/run/setCut {detector.cut_mm!r} mm",  # the binding's SetDefaultCutValue() ends at no cut at all
        ):  # fmt: skip
            g4.G4UImanager.GetUIpointer().ApplyCommand(command)
        self._manager.Initialize()

    def run(self, showers: int) -> None:
        """Simulate so many showers."""
        self._manager.BeamOn(showers)

    def stop(self) -> None:
        """Have the run end with the shower that goes on."""
        self._manager.AbortRun(True)

    def deposits(self) -> NDArray[np.float64]:
        """Return what the last shower left in the sensitive volumes, (n, 4): MeV, and x, y, z in mm, for each step.

        The place is the middle of the step: its end may lie on the border of two volumes.
        """
        steps = np.array(self._deposits.steps, dtype=np.float64).reshape(-1, 4)
        steps[:, 1:] /= 2
        return steps

    def cpu_seconds(self) -> float:
        """Return the CPU time since the current shower began, s."""
        return time.process_time() - self._actions.gun.started


def _physics_list(name: str) -> Any:
    if name == ELECTROMAGNETIC_LIST:
        return ElectromagneticPhysics()
    factory = g4.G4PhysListFactory()
    if not factory.IsReferencePhysList(name):
        raise UnknownPhysics(name)
    return factory.GetReferencePhysList(name)
