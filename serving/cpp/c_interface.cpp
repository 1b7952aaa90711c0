// SPDX-License-Identifier: Apache-2.0
//
// The sampler for other languages: a C interface, by which Python draws with it too (models/engines/cpp.py).
#include <atomic>
#include <cstdio>
#include <mutex>
#include <thread>

#include "caloforge.hpp"

namespace {

// Showers that a thread takes at a time.
constexpr std::size_t kTogether = 8;

void say(char* message, std::size_t size, const std::string& what) { std::snprintf(message, size, "%s", what.c_str()); }

}  // namespace

extern "C" {

/// A generator with samplers that rest between the calls; several threads may draw with it at the same time.
struct caloforge_generator {
    explicit caloforge_generator(caloforge::Generator loaded) : generator(std::move(loaded)) {}

    std::unique_ptr<caloforge::Sampler> take() {
        {
            const std::lock_guard<std::mutex> lock(mutex);
            if (!resting.empty()) {
                auto sampler = std::move(resting.back());
                resting.pop_back();
                return sampler;
            }
        }
        return std::make_unique<caloforge::Sampler>(generator, kTogether);
    }
    void give_back(std::unique_ptr<caloforge::Sampler> sampler) {
        const std::lock_guard<std::mutex> lock(mutex);
        resting.push_back(std::move(sampler));
    }

    caloforge::Generator generator;
    std::mutex mutex;
    std::vector<std::unique_ptr<caloforge::Sampler>> resting;
};

/// What the library was built from: callers may ask for another.
const char* caloforge_digest() { return CALOFORGE_DIGEST; }

/// Load a bundle. NULL, and a sentence in `message`, if that fails.
caloforge_generator* caloforge_load(const char* bundle, char* message, std::size_t size) {
    auto generator = caloforge::Generator::load(bundle);
    if (generator) {
        try {
            return new caloforge_generator(*generator);
        } catch (const std::exception& error) {
            say(message, size, error.what());
        }
    } else {
        say(message, size, generator.error().message);
    }
    return nullptr;
}

void caloforge_free(caloforge_generator* generator) { delete generator; }

std::size_t caloforge_voxels(const caloforge_generator* generator) { return generator->generator.mesh().n_voxels(); }

/// Draw n showers by so many threads.
///
/// `conditions` has four numbers for each: energy in MeV, theta and phi in rad, PDG code. `seeds` and `showers` are
/// their keys. `voxels` (n, V) takes their energies in MeV; showers that are not finite are NaN.
///
/// Returns 0, or 1 and a sentence in `message`.
int caloforge_draw(caloforge_generator* of, const double* conditions, const std::uint64_t* seeds, const std::uint64_t* showers,
                   std::size_t n, unsigned threads, float* voxels, char* message, std::size_t size) {
    const std::size_t n_voxels = of->generator.mesh().n_voxels();
    std::vector<std::size_t> layer_start{0};
    std::atomic<std::size_t> next{0};
    std::atomic<bool> failed{false};
    std::mutex telling;
    const auto work = [&]() noexcept {
        try {
            auto sampler = of->take();
            for (std::size_t start; !failed && (start = next.fetch_add(kTogether)) < n;) {
                const std::size_t some = std::min(kTogether, n - start);
                std::array<caloforge::Conditions, kTogether> particles{};
                std::array<caloforge::Key, kTogether> keys{};
                for (std::size_t i = 0; i < some; ++i) {
                    const double* one = conditions + 4 * (start + i);
                    particles[i] = {one[0], one[1], one[2], static_cast<int>(one[3])};
                    keys[i] = {seeds[start + i], showers[start + i]};
                }
                float* to = voxels + start * n_voxels;
                std::fill(to, to + some * n_voxels, 0.0f);
                const auto problem = sampler->draw({particles.data(), some}, keys.data(), [&](std::size_t i, caloforge::Span<caloforge::Hit> hits) {
                    for (const caloforge::Hit& hit : hits) {
                        const caloforge::Layer& layer = of->generator.mesh().layers[hit.layer];
                        to[i * n_voxels + layer_start[hit.layer] + static_cast<std::size_t>(hit.alpha * layer.n_r() + hit.r)] = hit.energy;
                    }
                });
                if (!problem) continue;
                if (problem->code == caloforge::Code::not_finite) {
                    std::fill(to, to + some * n_voxels, std::numeric_limits<float>::quiet_NaN());
                    continue;
                }
                const std::lock_guard<std::mutex> lock(telling);
                if (!failed.exchange(true)) say(message, size, problem->message);
            }
            of->give_back(std::move(sampler));
        } catch (const std::exception& error) {
            const std::lock_guard<std::mutex> lock(telling);
            if (!failed.exchange(true)) say(message, size, error.what());
        }
    };
    try {
        for (const caloforge::Layer& layer : of->generator.mesh().layers)
            layer_start.push_back(layer_start.back() + static_cast<std::size_t>(layer.n_r()) * static_cast<std::size_t>(layer.n_alpha));
        std::vector<std::thread> others;
        const std::size_t wanted = std::min<std::size_t>(std::max(threads, 1u), (n + kTogether - 1) / kTogether);
        try {
            for (std::size_t t = 1; t < wanted; ++t) others.emplace_back(work);
        } catch (const std::exception&) {  // no more threads here: those that are there do it
        }
        work();
        for (std::thread& other : others) other.join();
    } catch (const std::exception& error) {
        say(message, size, error.what());
        return 1;
    }
    return failed ? 1 : 0;
}

}  // extern "C"
