// Time and memory of one core: caloforge-benchmark BUNDLE [SHOWERS]
//
// Incident energies are log-uniform over the range of the training. Times are CPU times of this process, the least of
// five rounds in which the ways take turns, so that a busy machine slows all.
#include <sys/resource.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <limits>

#include "caloforge.hpp"

namespace {

double cpu_ms() {
    timespec now{};
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return 1e3 * static_cast<double>(now.tv_sec) + 1e-6 * static_cast<double>(now.tv_nsec);
}

double resident_mb() {
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    return static_cast<double>(usage.ru_maxrss) / 1024;
}

const char* name(caloforge::Isa isa) {
    return isa == caloforge::Isa::avx512 ? "avx512" : isa == caloforge::Isa::avx2 ? "avx2" : "scalar";
}

}  // namespace

int main(int n_arguments, char** arguments) {
    if (n_arguments < 2) return std::fprintf(stderr, "usage: caloforge-benchmark BUNDLE [SHOWERS]\n"), 2;
    const auto n = static_cast<std::size_t>(n_arguments > 2 ? std::strtoul(arguments[2], nullptr, 10) : 1000);

    const auto began = std::chrono::steady_clock::now();
    const double begin = cpu_ms();
    const auto generator = caloforge::Generator::load(arguments[1]);
    if (!generator) return std::fprintf(stderr, "%s\n", generator.error().message.c_str()), 2;
    const double loaded = cpu_ms();
    const auto [low, high] = generator->energy_range();
    {
        caloforge::Sampler sampler(*generator, 1);
        if (auto hits = sampler.draw({std::sqrt(low * high)}, 0, 0); !hits)
            return std::fprintf(stderr, "%s\n", hits.error().message.c_str()), 2;
        const std::chrono::duration<double, std::milli> wall = std::chrono::steady_clock::now() - began;
        std::printf("load %.1f ms, first shower after %.1f ms (%.1f ms of the clock), process began %.1f ms of CPU before\n",
                    loaded - begin, cpu_ms() - begin, wall.count(), begin);
        std::printf("resident, one shower at a time: %.1f MB\n", resident_mb());
    }

    std::vector<caloforge::Conditions> conditions;
    caloforge::detail::Stream stream(7, 0);
    double mean = 0;
    for (std::size_t i = 0; i < n; ++i) {
        conditions.push_back({low * std::pow(high / low, static_cast<double>(stream.uniform(i)))});
        mean += conditions.back().energy / static_cast<double>(n) / 1000;
    }
    std::printf("%zu showers of %.1f GeV in the mean, %zu voxels\n", n, mean, generator->mesh().n_voxels());

    struct Way {
        caloforge::Isa isa;
        std::size_t together;
        double best = std::numeric_limits<double>::infinity(), hits = 0;
    };
    std::vector<Way> ways;
    for (const auto isa : {caloforge::Isa::scalar, caloforge::Isa::avx2, caloforge::Isa::avx512})
        if (caloforge::detail::has(isa))
            for (const std::size_t together : {1, 4, 8, 16, 32}) ways.push_back({isa, together});
    for (int round = 0; round < 5; ++round)
        for (Way& way : ways) {
            caloforge::Sampler sampler(*generator, way.together, way.isa);
            way.hits = 0;
            const double start = cpu_ms();
            const auto problem = sampler.draw({conditions.data(), n}, 0, 0, [&](std::size_t, caloforge::Span<caloforge::Hit> hits) {
                way.hits += static_cast<double>(hits.size());
            });
            if (problem) return std::fprintf(stderr, "%s\n", problem->message.c_str()), 1;
            way.best = std::min(way.best, (cpu_ms() - start) / static_cast<double>(n));
        }
    std::printf("%-8s %9s %14s %12s\n", "isa", "together", "ms per shower", "hits");
    for (const Way& way : ways)
        std::printf("%-8s %9zu %14.3f %12.1f\n", name(way.isa), way.together, way.best, way.hits / static_cast<double>(n));
    std::printf("resident at most: %.1f MB\n", resident_mb());
}
