// Showers in Geant4: a fast-simulation model that kills an electron, positron or photon where it enters a region, and
// deposits the hits of a drawn shower around its axis. Built only where Geant4 (11.0 or newer) is.
//
//     auto generator = caloforge::Generator::load("bundle");
//     new CaloforgeModel("showers", calorimeterRegion, *generator, layerDepths);   // in ConstructSDandField: per thread
//
// The sensitive detectors of the region must be G4VFastSimSensitiveDetector too; G4FastSimulationPhysics must be in the
// physics list, with ActivateFastSimulation("e-") and so on.
#include <G4Electron.hh>
#include <G4Event.hh>
#include <G4EventManager.hh>
#include <G4FastHit.hh>
#include <G4FastSimHitMaker.hh>
#include <G4FastStep.hh>
#include <G4FastTrack.hh>
#include <G4Gamma.hh>
#include <G4Positron.hh>
#include <G4Region.hh>
#include <G4SystemOfUnits.hh>
#include <G4VFastSimulationModel.hh>

#include "caloforge.hpp"

class CaloforgeModel : public G4VFastSimulationModel {
  public:
    /// `depths`: distance of the middle of each active layer from the place of entry, along the particle's direction.
    /// `seed` should come from the run, so that runs differ.
    CaloforgeModel(const G4String& name, G4Region* region, const caloforge::Generator& generator,
                   std::vector<G4double> depths, std::uint64_t seed = 0)
        : G4VFastSimulationModel(name, region), generator_(generator), sampler_(generator, 1), depths_(std::move(depths)),
          seed_(seed), hitMaker_(std::make_unique<G4FastSimHitMaker>()) {
        if (depths_.size() != generator_.mesh().layers.size())
            G4Exception("CaloforgeModel", "depths", FatalException, "one depth for each active layer of the generator");
    }

    G4bool IsApplicable(const G4ParticleDefinition& particle) override {
        return &particle == G4Electron::Definition() || &particle == G4Positron::Definition() ||
               &particle == G4Gamma::Definition();
    }

    /// Only where the generator was trained; Geant4 tracks all others.
    G4bool ModelTrigger(const G4FastTrack& track) override { return !generator_.check(conditions(track)); }

    void DoIt(const G4FastTrack& track, G4FastStep& step) override {
        const G4Track& primary = *track.GetPrimaryTrack();
        // A number of its own for each shower, whichever thread has the event.
        const auto event = static_cast<std::uint64_t>(G4EventManager::GetEventManager()->GetConstCurrentEvent()->GetEventID());
        const auto hits = sampler_.draw(conditions(track), seed_, event << 32 | static_cast<std::uint32_t>(primary.GetTrackID()));
        if (!hits) {
            G4Exception("CaloforgeModel", "draw", EventMustBeAborted, hits.error().message.c_str());
            return;
        }
        step.KillPrimaryTrack();
        step.ProposePrimaryTrackPathLength(0.0);

        // Cylinder coordinates about the particle's direction. alpha begins at a direction that is the same for all
        // particles of one direction; take the one of the training if the generator knows phi.
        const G4ThreeVector entry = primary.GetPosition(), axis = primary.GetMomentumDirection();
        const G4ThreeVector first = axis.orthogonal().unit(), second = axis.cross(first);
        for (const caloforge::Hit& hit : *hits) {
            const G4double r = generator_.mesh().r(hit) * mm, alpha = generator_.mesh().alpha(hit);
            const G4ThreeVector where =
                entry + depths_[hit.layer] * axis + r * (std::cos(alpha) * first + std::sin(alpha) * second);
            hitMaker_->make(G4FastHit(where, hit.energy * MeV), track);
        }
    }

  private:
    static caloforge::Conditions conditions(const G4FastTrack& track) {
        const G4Track& primary = *track.GetPrimaryTrack();
        const G4ThreeVector direction = track.GetPrimaryTrackLocalDirection();
        return {primary.GetKineticEnergy() / MeV, direction.theta() / rad, direction.phi() / rad,
                primary.GetDefinition()->GetPDGEncoding()};
    }

    caloforge::Generator generator_;
    caloforge::Sampler sampler_;  // Geant4 makes a model for each worker thread
    std::vector<G4double> depths_;
    std::uint64_t seed_;
    std::unique_ptr<G4FastSimHitMaker> hitMaker_;
};
