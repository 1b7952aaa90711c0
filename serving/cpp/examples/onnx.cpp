// Any family in C++, with ONNX Runtime: caloforge-onnx generator.onnx ENERGY SEED [SHOWER] > voxels.csv
//
// `caloforge export` writes generator.onnx. Its inputs are the conditions, (N, 1) each, and `noise` (N, n) of standard
// normal numbers; its output is (N, voxels) in MeV. Here that noise is caloforge's own, so that the shower is row SHOWER (0
// if it is left out) of `caloforge generate --seed SEED`. Built only where ONNX Runtime (1.13 or newer) is.
#include <onnxruntime_cxx_api.h>

#include <array>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "caloforge.hpp"

namespace {

/// z of which the standard normal distribution has the share u below it.
double normal_quantile(double u) {
    if (u > 0.5) return -normal_quantile(1 - u);
    double z = 4.91 * (std::pow(u, 0.14) - std::pow(1 - u, 0.14));  // Tukey's lambda distribution is near
    for (double step = 1; std::abs(step) > 1e-12;) {                // Halley's method
        const double beyond = (std::erfc(-z / std::sqrt(2.0)) / 2 - u) * std::sqrt(2 * caloforge::Mesh::kPi) * std::exp(z * z / 2);
        z -= step = beyond / (1 + z * beyond / 2);
    }
    return z;
}

/// The numbers of a shower; README.md says which they are.
std::vector<float> noise_of(std::uint64_t seed, std::uint64_t shower, std::size_t n) {
    std::vector<float> noise(n);
    for (std::size_t j = 0; j < n; ++j) {
        const auto words = caloforge::detail::philox({j / 8 + 1, shower, 0, 0}, {seed, 0});
        const auto bits = static_cast<std::uint32_t>(words[j / 2 % 4] >> (j % 2 ? 32 : 0));
        noise[j] = static_cast<float>(normal_quantile((bits + 0.5) * 0x1p-32));
    }
    return noise;
}

}  // namespace

int main(int n_arguments, char** arguments) try {
    if (n_arguments != 4 && n_arguments != 5)
        return std::fprintf(stderr, "usage: caloforge-onnx generator.onnx ENERGY SEED [SHOWER]\n"), 2;
    Ort::Env environment(ORT_LOGGING_LEVEL_ERROR, "caloforge");
    Ort::SessionOptions options;
    options.SetIntraOpNumThreads(1);
    Ort::Session session(environment, arguments[1], options);

    Ort::AllocatorWithDefaultOptions allocator;
    std::vector<Ort::AllocatedStringPtr> names;
    std::vector<const char*> inputs;
    for (std::size_t i = 0; i < session.GetInputCount(); ++i) {
        names.push_back(session.GetInputNameAllocated(i, allocator));
        inputs.push_back(names.back().get());
    }
    if (inputs.size() != 2) return std::fprintf(stderr, "this generator wants more than the energy; give it likewise\n"), 2;

    const auto shape = session.GetInputTypeInfo(1).GetTensorTypeAndShapeInfo().GetShape();
    std::vector<float> energy{std::strtof(arguments[2], nullptr)};
    const std::uint64_t shower = n_arguments > 4 ? std::strtoull(arguments[4], nullptr, 10) : 0;
    auto noise = noise_of(std::strtoull(arguments[3], nullptr, 10), shower, static_cast<std::size_t>(shape[1]));

    const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
    const std::array<std::int64_t, 2> one{1, 1}, wide{1, shape[1]};
    std::array<Ort::Value, 2> values{
        Ort::Value::CreateTensor<float>(memory, energy.data(), energy.size(), one.data(), one.size()),
        Ort::Value::CreateTensor<float>(memory, noise.data(), noise.size(), wide.data(), wide.size())};
    const char* output = "showers";
    const auto results = session.Run(Ort::RunOptions{}, inputs.data(), values.data(), values.size(), &output, 1);
    const float* voxels = results[0].GetTensorData<float>();
    const auto n = results[0].GetTensorTypeAndShapeInfo().GetElementCount();
    std::printf("voxel,MeV\n");
    for (std::size_t v = 0; v < n; ++v)
        if (voxels[v] > 0) std::printf("%zu,%.9g\n", v, voxels[v]);
    return 0;
} catch (const Ort::Exception& error) {
    return std::fprintf(stderr, "%s\n", error.what()), 2;
}
