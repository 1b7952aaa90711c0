// Any family in C++, with ONNX Runtime: caloforge-onnx generator.onnx ENERGY SEED > voxels.csv
//
// `caloforge export` writes generator.onnx. Its inputs are the conditions, (N, 1) each, and `noise` (N, n) of standard
// normal numbers; its output is (N, voxels) in MeV. Built only where ONNX Runtime's headers are.
#include <onnxruntime_cxx_api.h>

#include <array>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <vector>

int main(int n_arguments, char** arguments) try {
    if (n_arguments != 4) return std::fprintf(stderr, "usage: caloforge-onnx generator.onnx ENERGY SEED\n"), 2;
    Ort::Env environment(ORT_LOGGING_LEVEL_WARNING, "caloforge");
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
    std::vector<float> energy{std::strtof(arguments[2], nullptr)}, noise(static_cast<std::size_t>(shape[1]));
    // caloforge's own stream would need the normal quantile; any normal numbers draw showers of the same kind.
    std::mt19937_64 engine(std::strtoull(arguments[3], nullptr, 10));
    std::normal_distribution<float> normal;
    for (float& z : noise) z = normal(engine);

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
