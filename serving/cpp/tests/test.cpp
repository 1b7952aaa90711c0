// The sampler against vectors of the Python one: caloforge-test FOLDER, of tests/support/cpp_vectors.py.
#include <atomic>
#include <cstdlib>
#include <new>
#include <thread>

#include "check.hpp"

using caloforge::Code;
using caloforge::Conditions;
using caloforge::Generator;
using caloforge::Hit;
using caloforge::Isa;
using caloforge::Sampler;
using caloforge::Span;

namespace {
std::atomic<std::size_t> allocations = 0;
}
// Not inline: GCC 12 takes the pair for a mismatch where it sees both.
#define OUTSIDE __attribute__((noinline))
OUTSIDE void* operator new(std::size_t n) {
    ++allocations;
    if (void* at = std::malloc(n ? n : 1)) return at;
    throw std::bad_alloc();
}
OUTSIDE void* operator new(std::size_t n, const std::nothrow_t&) noexcept {  // of std::stable_sort
    ++allocations;
    return std::malloc(n ? n : 1);
}
OUTSIDE void* operator new(std::size_t n, std::align_val_t where) {
    ++allocations;
    const auto step = static_cast<std::size_t>(where);
    if (void* at = std::aligned_alloc(step, (n + step - 1) / step * step)) return at;
    throw std::bad_alloc();
}
OUTSIDE void operator delete(void* at) noexcept { std::free(at); }
OUTSIDE void operator delete(void* at, std::size_t) noexcept { std::free(at); }
OUTSIDE void operator delete(void* at, std::align_val_t) noexcept { std::free(at); }
OUTSIDE void operator delete(void* at, std::size_t, std::align_val_t) noexcept { std::free(at); }

namespace {

/// Share of showers that may be others: rounding turns a choice of theirs.
constexpr double kFlipped = 0.03;

using Shower = std::vector<Hit>;

std::vector<Shower> draw(const Generator& generator, const std::vector<Conditions>& conditions, std::uint64_t seed, std::size_t together, Isa isa) {
    std::vector<Shower> showers(conditions.size());
    Sampler sampler(generator, together, isa);
    const auto problem = sampler.draw({conditions.data(), conditions.size()}, seed, 0, [&](std::size_t i, Span<Hit> hits) {
        showers[i].assign(hits.begin(), hits.end());
    });
    CHECK(!problem);
    return showers;
}

/// Whether two showers have the same hits, and energies within 1e-5 of the shower's.
bool alike(const Shower& a, const Shower& b) {
    double total = 0;
    for (const Hit& hit : a) total += hit.energy;
    if (a.size() != b.size()) return false;
    for (std::size_t i = 0; i < a.size(); ++i)
        if (a[i].layer != b[i].layer || a[i].r != b[i].r || a[i].alpha != b[i].alpha ||
            !(std::abs(a[i].energy - b[i].energy) <= 1e-5 * total))
            return false;
    return true;
}
bool equal(const Shower& a, const Shower& b) {
    return a.size() == b.size() && std::equal(a.begin(), a.end(), b.begin(), [](const Hit& x, const Hit& y) {
               return x.layer == y.layer && x.r == y.r && x.alpha == y.alpha && x.energy == y.energy;
           });
}
void check_alike(const char* what, const std::vector<Shower>& ours, const std::vector<Shower>& theirs) {
    std::size_t others = 0;
    for (std::size_t i = 0; i < ours.size(); ++i) others += !alike(ours[i], theirs[i]);
    std::printf("%s: %zu of %zu showers are others\n", what, others, ours.size());
    CHECK(static_cast<double>(others) <= kFlipped * static_cast<double>(ours.size()));
}

void against_python(const fs::path& folder, const char* name) {
    const auto vectors = nlohmann::json::parse(read(folder / (std::string(name) + ".json")));
    const auto generator = Generator::load(folder / name);
    CHECK(generator);
    if (!generator) return void(std::printf("%s\n", generator.error().message.c_str()));
    const auto seed = vectors["seed"].get<std::uint64_t>();
    for (std::size_t block : {0, 1}) {
        const auto words = caloforge::detail::philox({block + 1, 5, 0, 0}, {seed, 0});
        for (std::size_t i = 0; i < 4; ++i) CHECK(words[i] == vectors["words_of_shower_5"][4 * block + i].get<std::uint64_t>());
    }
    std::vector<Conditions> conditions;
    for (const auto& row : vectors["conditions"])
        conditions.push_back({row["incident_energy"], row.value("theta", 0.0), row.value("phi", 0.0), static_cast<int>(row.value("particle", 0.0))});
    std::vector<Shower> expected;
    std::vector<Hit> hit_of;
    for (std::size_t i = 0; i < generator->mesh().layers.size(); ++i)
        for (int a = 0; a < generator->mesh().layers[i].n_alpha; ++a)
            for (int r = 0; r < generator->mesh().layers[i].n_r(); ++r)
                hit_of.push_back({static_cast<std::uint16_t>(i), static_cast<std::uint16_t>(r), static_cast<std::uint16_t>(a), 0});
    std::size_t hits = 0, empty = 0;
    for (const auto& row : vectors["showers"]) {
        expected.emplace_back();
        for (std::size_t j = 0; j < row[0].size(); ++j) {
            expected.back().push_back(hit_of[row[0][j].get<std::size_t>()]);
            expected.back().back().energy = row[1][j];
        }
        hits += expected.back().size(), empty += expected.back().empty();
    }
    std::printf("%s: %zu hits, %zu empty showers\n", name, hits, empty);
    const auto reference = draw(*generator, conditions, seed, 16, Isa::scalar);
    check_alike("  scalar and Python", reference, expected);
    for (const Isa isa : {Isa::scalar, Isa::avx2, Isa::avx512}) {
        if (!caloforge::detail::has(isa)) continue;
        const auto ours = draw(*generator, conditions, seed, 16, isa);
        check_alike("  instruction set and scalar", ours, reference);
        for (const std::size_t together : {1, 7}) {  // the same to the bit
            const auto others = draw(*generator, conditions, seed, together, isa);
            for (std::size_t i = 0; i < ours.size(); ++i) CHECK(equal(ours[i], others[i]));
        }
        // One by one, in any order, and by threads.
        std::vector<std::thread> threads;
        std::array<int, 3> wrong{};
        for (std::size_t t = 0; t < wrong.size(); ++t)
            threads.emplace_back([&, t, isa] {
                Sampler sampler(*generator, 1, isa);
                for (std::size_t i = ours.size() - 1 - t; i < ours.size(); i -= wrong.size()) {
                    const auto one = sampler.draw(conditions[i], seed, i);
                    wrong[t] += !one || !equal(ours[i], Shower(one->begin(), one->end()));
                }
            });
        for (auto& thread : threads) thread.join();
        CHECK(wrong[0] + wrong[1] + wrong[2] == 0);
    }
    // No allocation while showers are drawn.
    Sampler sampler(*generator);
    const std::size_t before = allocations;
    double sum = 0;
    const auto problem = sampler.draw({conditions.data(), conditions.size()}, 1, 0, [&](std::size_t, Span<Hit> all) {
        for (const Hit& hit : all) sum += hit.energy, failures += !(hit.energy >= generator->threshold());
    });
    CHECK(!problem && allocations == before && sum > 0);
}

/// Check that a changed bundle is refused, and what the message says.
template <class Change>
void refused(const fs::path& bundle, Code code, const std::string& word, bool sealed, Change&& change) {
    Files files(bundle);
    change(files);
    const fs::path folder = fs::temp_directory_path() / ("caloforge-test-" + std::to_string(std::rand()));
    files.put(folder, sealed);
    const auto generator = Generator::load(folder);
    CHECK(!generator);
    if (!generator) {
        CHECK(generator.error().code == code);
        CHECK(generator.error().message.find(word) != std::string::npos);
        if (generator.error().message.find(word) == std::string::npos) std::printf("  %s\n", generator.error().message.c_str());
    }
    fs::remove_all(folder);
}

void replace(std::string& text, const std::string& from, const std::string& to) {
    const std::size_t at = text.find(from);
    CHECK(at != std::string::npos);
    if (at != std::string::npos) text.replace(at, from.size(), to);
}

void bad_input(const fs::path& bundle) {
    const auto config = [&](Code code, const char* word, const char* from, const char* to) {
        refused(bundle, code, word, true, [&](Files& files) { replace(files.config, from, to); });
    };
    CHECK(!Generator::load(bundle / "nowhere"));
    config(Code::format, "format 5; this sampler reads formats 2 to 4", "\"format\": 4", "\"format\": 5");
    config(Code::format, "no format", "\"format\": 4", "\"formal\": 4");
    config(Code::family, "'vae' is not here; C++ has: tree", "\"tree\"", "\"vae\"");
    config(Code::format, "'spin' is not here; C++ has: incident_energy, theta, phi, particle", "\"incident_energy\"", "\"spin\": {}, \"incident_energy\"");
    config(Code::format, "incident_energy: expected two rising", "1000.0", "-1000.0");
    config(Code::geometry, "cells of any shape", "\"geometry.xml\"", "\"geometry.csv\"");
    config(Code::format, "threshold", "0.5", "0.0");
    config(Code::format, "not a JSON object", "{", "");
    config(Code::weights, "cells.counts.0.weight: expected shape", "\"cell_width\": 32", "\"cell_width\": 64");
    config(Code::weights, "expected shape", "\"incident_energy\"", "\"theta\": {\"low\": 0, \"high\": 1}, \"incident_energy\"");
    refused(bundle, Code::checksum, "weights.safetensors: differs", false, [](Files& files) { files.weights.back() ^= 1; });
    refused(bundle, Code::checksum, "geometry.xml: differs", false, [](Files& files) { files.geometry += ' '; });
    refused(bundle, Code::weights, "is not in the file", true, [](Files& files) { files.weights.resize(files.weights.size() / 2); });
    refused(bundle, Code::weights, "truncated", true, [](Files& files) { files.weights.resize(5); });
    refused(bundle, Code::not_finite, "not finite; train", true, [](Files& files) {
        const float nan = std::numeric_limits<float>::quiet_NaN();
        std::memcpy(files.weights.data() + files.weights.size() - 4, &nan, 4);
    });
    refused(bundle, Code::geometry, "r_edges must rise", true, [](Files& files) { replace(files.geometry, "r_edges=\"0,", "r_edges=\"9999,"); });
    refused(bundle, Code::geometry, "no layer", true, [](Files& files) { files.geometry = "<Bins/>"; });
    refused(bundle, Code::geometry, "voxels", true, [](Files& files) {
        std::string layers;
        for (int i = 0; i < 100; ++i) layers += "<Layer id=\"0\" r_edges=\"0,1\" n_bin_alpha=\"16000\"/>";
        files.geometry = "<Bins><Bin>" + layers + "</Bin></Bins>";
    });

    const auto generator = Generator::load(bundle);
    CHECK(generator);
    if (!generator) return;
    Sampler sampler(*generator);
    for (const double energy : {9.0, 1100.0, 0.0, -5.0, std::nan(""), HUGE_VAL}) CHECK(!sampler.draw(Conditions{energy}, 0, 0));
    CHECK(sampler.draw(Conditions{9.6}, 0, 0) && sampler.draw(Conditions{1040.0}, 0, 0));
    const std::vector<Conditions> two{{100.0}, {1.0}};
    const auto problem = sampler.draw({two.data(), 2}, 0, 0, [](std::size_t, Span<Hit>) { CHECK(false); });
    CHECK(problem && problem->code == Code::energy &&
          problem->message == "shower 1: incident_energy is 1 MeV, outside the trained range 10 to 1000 MeV");
    Files files(bundle);
    replace(files.config, "\"refuse\"", "\"warn\"");
    const fs::path folder = fs::temp_directory_path() / ("caloforge-test-warn-" + std::to_string(std::rand()));
    files.put(folder, true);
    const auto lenient = Generator::load(folder);
    CHECK(lenient && !lenient->refuses_outside());
    if (lenient) {
        Sampler wider(*lenient);
        CHECK(wider.draw(Conditions{1100.0}, 0, 0) && !wider.draw(Conditions{0.0}, 0, 0));
    }
    fs::remove_all(folder);
}

/// The range of theta is 0.1 to 0.9, of phi 2 to 5, particles are -211, 11 and 22.
void bad_conditions(const fs::path& bundle) {
    const auto generator = Generator::load(bundle);
    CHECK(generator);
    if (!generator) return;
    const auto code = [&](Conditions one) {
        const auto problem = generator->check(one);
        return problem ? std::optional(problem->code) : std::nullopt;
    };
    CHECK(!code({100, 0.5, 3, 11}) && !code({100, 0.9, -2, 22}) && !code({100, 0.1, 3 + 4 * caloforge::Mesh::kPi, -211}));
    for (const Conditions one : {Conditions{100, 0.05, 3, 11}, {100, 1.0, 3, 11}, {100, 0.5, 0, 11}, {100, 0.5, 5.2, 11}, {100, 0.5, 3, 13},
                                 {100, std::nan(""), 3, 11}, {100, 0.5, std::nan(""), 11}})
        CHECK(code(one) == Code::conditions);
    CHECK(generator->check({100, 0.5, 3, 13})->message == "particle is 13, which the generator was not trained on (-211, 11, 22)");
}

void arithmetic() {
    for (const Isa isa : {Isa::scalar, Isa::avx2, Isa::avx512}) {
        if (!caloforge::detail::has(isa)) continue;
        const auto k = caloforge::detail::kernels(isa);
        caloforge::detail::Floats x, exps, logs, more;
        for (int i = 0; i < 3200; ++i) x.push_back(static_cast<float>(std::pow(10.0, i / 400.0 - 6)));
        exps = logs = more = x;
        for (float& value : exps) value = 86.0f * std::sin(value);
        const auto at = exps;
        k.exp(exps.data(), x.size()), k.log(logs.data(), x.size()), k.log1p(more.data(), x.size());
        for (std::size_t i = 0; i < x.size(); ++i) {
            const double value = x[i];
            CHECK(std::abs(exps[i] / std::exp(static_cast<double>(at[i])) - 1) < 1e-6);
            CHECK(std::abs(logs[i] - std::log(value)) < 1e-6 * std::max(1.0, std::abs(std::log(value))));
            CHECK(std::abs(more[i] / std::log1p(value) - 1) < 1e-6);
        }
    }
    const std::string abc = "abc";
    CHECK(caloforge::detail::sha256(reinterpret_cast<const unsigned char*>(abc.data()), 3) ==
          "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

}  // namespace

int main(int, char** arguments) {
    const fs::path folder = arguments[1];
    std::srand(static_cast<unsigned>(::getpid()));
    arithmetic();
    for (const char* name : {"regular", "odd", "one_cell"}) against_python(folder, name);
    bad_input(folder / "regular");
    bad_conditions(folder / "odd");
    std::printf(failures ? "%d checks failed\n" : "all is well\n", failures);
    return failures != 0;
}
