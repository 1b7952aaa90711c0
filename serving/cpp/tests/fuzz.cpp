// Damaged bundles are refused, or draw showers or an error: caloforge-fuzz FOLDER [BUNDLES [SEED]].
//
// Two of three are sealed again after the damage, so that checksums do not catch all of it.
#include <random>

#include "check.hpp"

namespace {

std::mt19937 engine;
std::size_t below(std::size_t n) { return n ? engine() % n : 0; }

void damage(std::string& text) {
    switch (below(7)) {
        case 0: text.resize(below(text.size() + 1)); break;
        case 1: text.erase(below(text.size()), 1 + below(40)); break;
        case 2: text.insert(below(text.size() + 1), text.substr(below(text.size()), 1 + below(40))); break;
        case 3:  // another digit somewhere
            for (std::size_t i = 0, at = below(text.size()); i < text.size(); ++i, at = (at + 1) % text.size())
                if (text[at] >= '0' && text[at] <= '9') {
                    text[at] = static_cast<char>('0' + below(10));
                    break;
                }
            break;
        case 4:  // a huge number
            for (std::size_t i = 0, at = below(text.size()); i < text.size(); ++i, at = (at + 1) % text.size())
                if (text[at] >= '0' && text[at] <= '9') {
                    text.insert(at, std::to_string(engine()));
                    break;
                }
            break;
        default:
            for (std::size_t n = 1 + below(8); n > 0 && !text.empty(); --n) text[below(text.size())] = static_cast<char>(engine());
    }
}

/// Turn bits of weights, not of their header: exponents make them huge.
void damage_weights(std::string& text) {
    for (std::size_t n = 1 + below(200); n > 0; --n) {
        const std::size_t at = text.size() / 5 + 4 * below(text.size() / 5);
        if (at < text.size()) text[at] = static_cast<char>(text[at] ^ (1 << below(8)));
    }
}

}  // namespace

int main(int n_arguments, char** arguments) {
    const fs::path folder = arguments[1];
    const int bundles = n_arguments > 2 ? std::atoi(arguments[2]) : 2000;
    engine.seed(n_arguments > 3 ? static_cast<unsigned>(std::atoi(arguments[3])) : 1);
    const fs::path scratch = fs::temp_directory_path() / ("caloforge-fuzz-" + std::to_string(std::random_device()()));
    int refused = 0, failed = 0, drawn = 0;
    const std::array<Files, 3> whole{Files(folder / "regular"), Files(folder / "odd"), Files(folder / "one_cell")};
    for (int i = 0; i < bundles; ++i) {
        Files files = whole[below(3)];
        switch (below(5)) {
            case 0: damage(files.config); break;
            case 1: damage(files.geometry); break;
            case 2: damage_weights(files.weights); break;
            case 3: {  // the header of the weights
                std::string head = files.weights.substr(0, 6000), rest = files.weights.substr(6000);
                damage(head);
                files.weights = head + rest;
                break;
            }
            default: damage(files.weights);
        }
        files.put(scratch, below(3) != 0);
        const auto generator = caloforge::Generator::load(scratch);
        if (!generator) {
            ++refused;
            CHECK(!generator.error().message.empty());
            continue;
        }
        caloforge::Sampler sampler(*generator, 2);
        const auto [low, high] = generator->energy_range();
        const std::array<caloforge::Conditions, 3> conditions{{{low, 0.5, 3, 11}, {high, 0.8, 4, 22}, {std::sqrt(low * high), 0.2, 3, 11}}};
        const auto problem = sampler.draw({conditions.data(), conditions.size()}, 1, 0, [](std::size_t, caloforge::Span<caloforge::Hit> hits) {
            for (const auto& hit : hits) CHECK(std::isfinite(hit.energy));
        });
        ++(problem ? failed : drawn);
    }
    fs::remove_all(scratch);
    std::printf("%d damaged bundles: %d refused, %d with an error when drawn from, %d with showers\n", bundles, refused, failed, drawn);
    CHECK(refused > 0 && drawn > 0);
    return failures != 0;
}
