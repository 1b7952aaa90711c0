// Showers as text: caloforge-showers BUNDLE SEED < particles > hits.csv
//
// Each line of the input is a particle, "energy" in MeV or "energy theta phi particle" with rad and a PDG code; its line number, from 0, is the
// number of its shower.
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <sstream>

#include "caloforge.hpp"

int main(int n_arguments, char** arguments) {
    if (n_arguments != 3) return std::fprintf(stderr, "usage: caloforge-showers BUNDLE SEED < particles > hits.csv\n"), 2;
    const auto generator = caloforge::Generator::load(arguments[1]);
    if (!generator) return std::fprintf(stderr, "%s\n", generator.error().message.c_str()), 2;

    std::vector<caloforge::Conditions> particles;
    for (std::string line; std::getline(std::cin, line);) {
        std::istringstream words(line);
        caloforge::Conditions one{};
        if (!(words >> one.energy)) return std::fprintf(stderr, "line %zu: no energy in MeV\n", particles.size()), 2;
        words >> one.theta >> one.phi >> one.particle;
        particles.push_back(one);
    }

    caloforge::Sampler sampler(*generator);
    std::printf("shower,layer,r,alpha,MeV\n");
    const auto problem = sampler.draw({particles.data(), particles.size()}, std::strtoull(arguments[2], nullptr, 10), 0,
                                      [](std::size_t shower, caloforge::Span<caloforge::Hit> hits) {
                                          for (const caloforge::Hit& hit : hits)
                                              std::printf("%zu,%d,%d,%d,%.9g\n", shower, hit.layer, hit.r, hit.alpha, hit.energy);
                                      });
    if (problem) return std::fprintf(stderr, "%s\n", problem->message.c_str()), 2;
    return 0;
}
