// The other end of `caloforge benchmark`: caloforge-stopwatch BUNDLE THREADS
//
// Reads particles, one a line ("energy theta phi particle"), until an empty line; the first is drawn before the others are
// read, and one line says by what. Then it reads numbers, one a line, and answers n with the seconds that the first n
// showers took, shared by the threads. It ends with its input.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <sstream>
#include <thread>

#include "caloforge.hpp"

namespace {

const char* name(caloforge::Isa isa) {
    return isa == caloforge::Isa::avx512 ? "AVX-512" : isa == caloforge::Isa::avx2 ? "AVX2" : "plain loops";
}

#if defined(__clang__)
constexpr const char* kCompiler = "clang " __clang_version__;
#elif defined(__GNUC__)
constexpr const char* kCompiler = "g++ " __VERSION__;
#else
constexpr const char* kCompiler = "C++";
#endif

bool read(caloforge::Conditions& particle) {
    std::string line;
    if (!std::getline(std::cin, line) || line.empty()) return false;
    std::istringstream words(line);
    words >> particle.energy >> particle.theta >> particle.phi >> particle.particle;
    return true;
}

}  // namespace

int main(int n_arguments, char** arguments) {
    if (n_arguments != 3) return std::fprintf(stderr, "usage: caloforge-stopwatch BUNDLE THREADS\n"), 2;
    const auto generator = caloforge::Generator::load(arguments[1]);
    if (!generator) return std::fprintf(stderr, "%s\n", generator.error().message.c_str()), 2;
    std::vector<caloforge::Conditions> particles(1);
    if (!read(particles[0])) return std::fprintf(stderr, "no particle\n"), 2;
    {
        caloforge::Sampler one(*generator, 1);
        if (auto hits = one.draw(particles[0], 0, 0); !hits) return std::fprintf(stderr, "%s\n", hits.error().message.c_str()), 2;
        std::printf("%s, %s\n", kCompiler, name(one.isa()));
        std::fflush(stdout);
    }
    for (caloforge::Conditions next{}; read(next); next = {}) particles.push_back(next);

    const auto threads = std::max<std::size_t>(std::strtoull(arguments[2], nullptr, 10), 1);
    std::vector<std::unique_ptr<caloforge::Sampler>> samplers;
    for (std::size_t i = 0; i < threads; ++i) samplers.push_back(std::make_unique<caloforge::Sampler>(*generator));
    std::vector<caloforge::Problem> problems(threads);
    for (std::size_t n = 0; std::cin >> n;) {
        n = std::min(n, particles.size());
        const std::size_t each = (n + threads - 1) / threads;
        const auto draw = [&](std::size_t i) {
            const std::size_t first = std::min(i * each, n), end = std::min(first + each, n);
            problems[i] = samplers[i]->draw({particles.data() + first, end - first}, 1, first,
                                            [](std::size_t, caloforge::Span<caloforge::Hit>) {});
        };
        const auto began = std::chrono::steady_clock::now();
        std::vector<std::thread> others;
        for (std::size_t i = 1; i < threads && i * each < n; ++i) others.emplace_back(draw, i);
        draw(0);
        for (std::thread& other : others) other.join();
        const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - began;
        for (const caloforge::Problem& problem : problems)
            if (problem) return std::fprintf(stderr, "%s\n", problem->message.c_str()), 1;
        std::printf("%.9g\n", taken.count());
        std::fflush(stdout);
    }
    return 0;
}
