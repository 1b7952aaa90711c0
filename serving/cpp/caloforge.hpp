// SPDX-License-Identifier: Apache-2.0
//
// Draw calorimeter showers with a generator of the family `tree`: C++17, one header, nothing but nlohmann/json.
//
//     auto generator = caloforge::Generator::load("bundle");            // once; may be shared by threads
//     if (!generator) { std::cerr << generator.error().message; ... }
//     caloforge::Sampler sampler(*generator);                           // one for each thread
//     auto hits = sampler.draw({10'000.0}, /* seed */ 1, /* shower */ 0);
//     for (caloforge::Hit hit : *hits) ...                              // layer, r, alpha, MeV
//
// Shower i of a seed is the same whatever was drawn before, by however many threads, and the same as row i of
// `caloforge generate --seed`, but for rounding; see README.md. What fails is a value (Result); nothing throws but
// std::bad_alloc from the constructor of a Sampler. There are no globals, and no allocation while showers are drawn.
//
// Names and formulas are those of models/tree/*.py; docs/generators.md says what they mean.
#pragma once

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>
#include <map>
#include <memory>
#include <new>
#include <optional>
#include <queue>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#if __has_include(<sys/mman.h>)
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#define CALOFORGE_MMAP 1
#else
#define CALOFORGE_MMAP 0
#endif

#include <nlohmann/json.hpp>

#if defined(__x86_64__) && defined(__GNUC__)
#define CALOFORGE_X86 1
#else
#define CALOFORGE_X86 0
#endif
#if defined(__GNUC__)
#define CALOFORGE_INLINE __attribute__((always_inline)) inline
#else
#define CALOFORGE_INLINE inline
#endif
#if defined(__GNUC__)
#define CALOFORGE_INLINE_LAMBDA __attribute__((always_inline))
#else
#define CALOFORGE_INLINE_LAMBDA
#endif
// Sanitizers make of unrolled loops what takes minutes to compile.
#if defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__)
#define CALOFORGE_O3 __attribute__((optimize("O3")))
#else
#define CALOFORGE_O3
#endif

namespace caloforge {

// --- results -----------------------------------------------------------------------------------------------------

enum class Code { file, format, checksum, family, geometry, weights, conditions, energy, not_finite };

struct Error {
    Code code;
    std::string message;
};

/// A value, or why there is none.
template <class T>
class Result {
  public:
    Result(T value) : content_(std::move(value)) {}
    Result(Error error) : content_(std::move(error)) {}
    explicit operator bool() const { return content_.index() == 0; }
    T& operator*() { return *std::get_if<0>(&content_); }
    const T& operator*() const { return *std::get_if<0>(&content_); }
    T* operator->() { return std::get_if<0>(&content_); }
    const T* operator->() const { return std::get_if<0>(&content_); }
    const Error& error() const { return *std::get_if<1>(&content_); }

  private:
    std::variant<T, Error> content_;
};

/// Nothing, or what went wrong.
using Problem = std::optional<Error>;

/// Numbers that somebody else keeps.
template <class T>
struct Span {
    const T* first = nullptr;
    std::size_t length = 0;
    const T* begin() const { return first; }
    const T* end() const { return first + length; }
    const T* data() const { return first; }
    std::size_t size() const { return length; }
    const T& operator[](std::size_t i) const { return first[i]; }
};

// --- what goes in and comes out ------------------------------------------------------------------------------------

/// The incident particle. Angles and particle are used by generators that were trained with several.
struct Conditions {
    double energy;     // MeV
    double theta = 0;  // rad
    double phi = 0;    // rad
    int particle = 0;  // PDG code
};

/// Which random numbers a shower is drawn from: the same key gives the same shower.
struct Key {
    std::uint64_t seed, shower;
};

/// A voxel with energy: indices of an active layer, of its ring and of its bin in alpha.
struct Hit {
    std::uint16_t layer;
    std::uint16_t r;
    std::uint16_t alpha;
    float energy;  // MeV
};

struct Layer {
    int id;                       // in the detector
    std::vector<double> r_edges;  // mm, rising
    int n_alpha;                  // equal bins over [-pi, pi)
    int n_r() const { return static_cast<int>(r_edges.size()) - 1; }
    bool operator==(const Layer& other) const { return r_edges == other.r_edges && n_alpha == other.n_alpha; }
};

/// The active layers of the read-out mesh.
struct Mesh {
    std::vector<Layer> layers;

    std::size_t n_voxels() const {
        std::size_t sum = 0;
        for (const Layer& layer : layers) sum += static_cast<std::size_t>(layer.n_r()) * layer.n_alpha;
        return sum;
    }
    /// Middle of the ring of a hit, mm.
    double r(const Hit& hit) const {
        const auto& edges = layers[hit.layer].r_edges;
        return (edges[hit.r] + edges[hit.r + 1]) / 2;
    }
    /// Middle of the bin in alpha of a hit, rad in [-pi, pi).
    double alpha(const Hit& hit) const { return kPi * ((2.0 * hit.alpha + 1) / layers[hit.layer].n_alpha - 1); }

    static constexpr double kPi = 3.14159265358979323846;
};

/// Instruction sets for the inner loops; `scalar` is the reference.
enum class Isa { scalar, avx2, avx512 };

namespace detail {

using json = nlohmann::json;

inline constexpr std::size_t kMostVoxels = 250'000;
inline constexpr int kMostRings = 4096, kMostBins = 16384, kWidest = 4096;

/// Storage that starts at a cache line.
template <class T>
struct Aligned {
    using value_type = T;
    Aligned() = default;
    template <class U>
    Aligned(const Aligned<U>&) {}
    T* allocate(std::size_t n) { return static_cast<T*>(::operator new(n * sizeof(T), std::align_val_t(64))); }
    void deallocate(T* p, std::size_t) { ::operator delete(p, std::align_val_t(64)); }
    template <class U>
    bool operator==(const Aligned<U>&) const { return true; }
    template <class U>
    bool operator!=(const Aligned<U>&) const { return false; }
};
template <class T>
using Array = std::vector<T, Aligned<T>>;
using Floats = Array<float>;

template <class T>
std::string text(T number) {
    if constexpr (std::is_floating_point_v<T>) {
        char buffer[32];
        std::snprintf(buffer, sizeof buffer, "%g", static_cast<double>(number));
        return buffer;
    } else {
        return std::to_string(number);
    }
}

// --- files -----------------------------------------------------------------------------------------------------

/// A whole file, mapped where that is possible.
class File {
  public:
    static Result<File> open(const std::filesystem::path& path) {
        File file;
#if CALOFORGE_MMAP
        const int handle = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
        struct stat about {};
        if (handle < 0 || ::fstat(handle, &about) != 0 || !S_ISREG(about.st_mode)) {
            if (handle >= 0) ::close(handle);
            return Error{Code::file, path.string() + ": cannot be read; copy the whole bundle again"};
        }
        file.size_ = static_cast<std::size_t>(about.st_size);
        if (file.size_ > 0) {
            void* at = ::mmap(nullptr, file.size_, PROT_READ, MAP_PRIVATE, handle, 0);
            if (at == MAP_FAILED) {
                ::close(handle);
                return Error{Code::file, path.string() + ": cannot be mapped"};
            }
            file.data_ = static_cast<const unsigned char*>(at);
        }
        ::close(handle);
#else
        std::ifstream stream(path, std::ios::binary);
        if (!stream) return Error{Code::file, path.string() + ": cannot be read; copy the whole bundle again"};
        file.copy_.assign(std::istreambuf_iterator<char>(stream), {});
        file.data_ = reinterpret_cast<const unsigned char*>(file.copy_.data());
        file.size_ = file.copy_.size();
#endif
        return file;
    }
    File(File&& other) noexcept
        : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)), copy_(std::move(other.copy_)) {}
    File(const File&) = delete;
    File& operator=(const File&) = delete;
    File& operator=(File&&) = delete;
    ~File() {
#if CALOFORGE_MMAP
        if (data_) ::munmap(const_cast<unsigned char*>(data_), size_);
#endif
    }
    const unsigned char* data() const { return data_; }
    std::size_t size() const { return size_; }
    std::string_view view() const { return {reinterpret_cast<const char*>(data_), size_}; }

  private:
    File() = default;
    const unsigned char* data_ = nullptr;
    std::size_t size_ = 0;
    std::vector<char> copy_;
};

/// SHA-256 (FIPS 180-4) in hexadecimal.
inline std::string sha256(const unsigned char* data, std::size_t size) {
    // Fractional parts of the cube roots of the first 64 primes, and of the square roots of the first 8.
    static constexpr std::array<std::uint32_t, 64> k = {
        0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98,
        0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786,
        0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8,
        0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13,
        0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819,
        0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a,
        0x5b9cca4f, 0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7,
        0xc67178f2};
    std::array<std::uint32_t, 8> h = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                      0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    const auto turn = [](std::uint32_t x, int n) { return (x >> n) | (x << (32 - n)); };
    const auto block = [&](const unsigned char* at) {
        std::array<std::uint32_t, 64> w{};
        for (std::size_t i = 0; i < 16; ++i)
            w[i] = std::uint32_t{at[4 * i]} << 24 | std::uint32_t{at[4 * i + 1]} << 16 |
                   std::uint32_t{at[4 * i + 2]} << 8 | std::uint32_t{at[4 * i + 3]};
        for (std::size_t i = 16; i < 64; ++i)
            w[i] = w[i - 16] + w[i - 7] + (turn(w[i - 15], 7) ^ turn(w[i - 15], 18) ^ w[i - 15] >> 3) +
                   (turn(w[i - 2], 17) ^ turn(w[i - 2], 19) ^ w[i - 2] >> 10);
        auto [a, b, c, d, e, f, g, z] = h;
        for (std::size_t i = 0; i < 64; ++i) {
            const std::uint32_t one =
                z + (turn(e, 6) ^ turn(e, 11) ^ turn(e, 25)) + ((e & f) ^ (~e & g)) + k[i] + w[i];
            const std::uint32_t two = (turn(a, 2) ^ turn(a, 13) ^ turn(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
            z = g, g = f, f = e, e = d + one, d = c, c = b, b = a, a = one + two;
        }
        h[0] += a, h[1] += b, h[2] += c, h[3] += d, h[4] += e, h[5] += f, h[6] += g, h[7] += z;
    };
    std::size_t done = 0;
    for (; done + 64 <= size; done += 64) block(data + done);
    std::array<unsigned char, 128> last{};
    if (size > done) std::memcpy(last.data(), data + done, size - done);
    last[size - done] = 0x80;
    const std::size_t end = size - done < 56 ? 64 : 128;
    for (std::size_t i = 0; i < 8; ++i)
        last[end - 1 - i] = static_cast<unsigned char>(static_cast<std::uint64_t>(size) * 8 >> (8 * i));
    for (std::size_t at = 0; at < end; at += 64) block(last.data() + at);
    std::string hex;
    for (const std::uint32_t word : h)
        for (int shift = 28; shift >= 0; shift -= 4) hex += "0123456789abcdef"[word >> shift & 15];
    return hex;
}

/// What of `config.json` sampling needs.
struct Config {
    using Range = std::pair<double, double>;
    Range energy;                       // MeV
    std::optional<Range> theta, phi;    // rad, of generators that know them
    std::optional<std::vector<int>> particles;
    bool refuses = true;                // conditions outside
    float threshold = 0;                // MeV
    int layer_width = 0, ring_width = 0, cell_width = 0, early_layers = 0;
    std::map<std::string, std::string> files;  // SHA-256

    static Result<Config> parse(const std::filesystem::path& path, std::string_view content) {
        const auto bad = [&](const std::string& what) {
            return Error{Code::format, path.string() + ": " + what};
        };
        const json all = json::parse(content.begin(), content.end(), nullptr, false);
        if (!all.is_object()) return bad("not a JSON object; the bundle is damaged: copy it again");
        const auto text_of = [&](const json& in, const char* key) -> std::string {
            const auto found = in.find(key);
            return found != in.end() && found->is_string() ? found->get<std::string>() : std::string();
        };
        const auto number_of = [](const json& in, const char* key) {
            const auto found = in.find(key);
            return found != in.end() && found->is_number() ? found->get<double>()
                                                           : std::numeric_limits<double>::quiet_NaN();
        };
        const double format = number_of(all, "format");
        if (!(format == 2 || format == 3 || format == 4)) {
            const std::string got = std::isnan(format) ? "no format" : "format " + text(format);
            return bad(got + "; this sampler reads formats 2 to 4: use the header that came with the caloforge that "
                             "wrote the bundle");
        }
        if (const std::string family = text_of(all, "family"); family != "tree")
            return Error{Code::family, path.string() + ": family '" + family +
                                           "' is not here; C++ has: tree. Others: `caloforge export` and ONNX Runtime"};
        Config config;
        const auto conditions = all.find("conditions");
        const auto range = [&](const json& ends, double least, double most) -> std::optional<Range> {
            const json* low = nullptr;
            const json* high = nullptr;
            if (ends.is_array() && ends.size() == 2) low = &ends[0], high = &ends[1];
            if (ends.is_object() && ends.contains("low") && ends.contains("high")) low = &ends["low"], high = &ends["high"];
            if (!low || !low->is_number() || !high->is_number()) return std::nullopt;
            const Range found{low->get<double>(), high->get<double>()};
            if (!(found.first >= least && found.first <= found.second && found.second <= most)) return std::nullopt;
            return found;
        };
        std::optional<Range> energy;
        if (conditions != all.end() && conditions->is_array()) {  // formats 2 and 3
            const bool only = conditions->size() == 1 && (*conditions)[0] == "incident_energy";
            if (!only || format == 4) return bad("conditions: not those of a generator that C++ has; train it again");
            if (const auto limits = all.find("energy_range"); limits != all.end()) energy = range(*limits, 1e-9, 1e15);
        } else if (conditions != all.end() && conditions->is_object()) {
            for (const auto& [name, about] : conditions->items()) {
                const std::string wrong = "conditions: " + name + ": no such values exist";
                if (name == "incident_energy") energy = range(about, 1e-9, 1e15);
                else if (name == "theta") {
                    if (!(config.theta = range(about, 0, 3.15))) return bad(wrong);
                } else if (name == "phi") {
                    if (!(config.phi = range(about, -10, 10))) return bad(wrong);
                } else if (name == "particle") {
                    config.particles.emplace();
                    const auto codes = about.is_object() ? about.find("values") : about.end();
                    if (!about.is_object() || codes == about.end() || !codes->is_array() || codes->empty() || codes->size() > 1000)
                        return bad(wrong);
                    for (const json& code : *codes) {
                        if (!code.is_number_integer() || std::abs(code.get<double>()) > 2e9) return bad(wrong);
                        config.particles->push_back(code.get<int>());
                    }
                } else return bad("conditions: '" + name + "' is not here; C++ has: incident_energy, theta, phi, particle");
            }
        }
        if (!energy) return bad("incident_energy: expected two rising energies in MeV");
        config.energy = energy.value_or(Range{});
        config.refuses = text_of(all, "extrapolation") != "warn";
        const double threshold = number_of(all, "threshold");
        if (!(threshold > 1e-15 && threshold < 1e15)) return bad("threshold: expected a positive energy in MeV");
        config.threshold = static_cast<float>(threshold);
        const auto settings = all.find("settings");
        const json* model = nullptr;
        if (settings != all.end() && settings->is_object())
            if (const auto found = settings->find("model"); found != settings->end() && found->is_object())
                model = &*found;
        if (!model) return bad("settings.model is missing");
        const auto whole = [&](const char* key, int least) {
            const double value = number_of(*model, key);
            return value >= least && value <= kWidest && value == std::floor(value) ? static_cast<int>(value) : -1;
        };
        config.layer_width = whole("layer_width", 1), config.ring_width = whole("ring_width", 1);
        config.cell_width = whole("cell_width", 1), config.early_layers = whole("early_layers", 0);
        if (std::min({config.layer_width, config.ring_width, config.cell_width, config.early_layers}) < 0)
            return bad("settings.model: widths and early_layers must be whole numbers up to " + text(kWidest));
        if (const auto files = all.find("files"); files != all.end() && files->is_object())
            for (const auto& [name, digest] : files->items())
                if (digest.is_string()) config.files[name] = digest.get<std::string>();
        if (config.files.count("geometry.csv"))
            return Error{Code::geometry, path.string() + ": cells of any shape (geometry.csv) are not here; C++ has meshes "
                                                         "of rings. Others: `caloforge export` and ONNX Runtime"};
        return config;
    }
};

/// Read the mesh of a CaloChallenge binning file, as caloforge writes it.
inline Result<Mesh> parse_mesh(const std::filesystem::path& path, std::string_view xml) {
    const auto bad = [&](const std::string& what) { return Error{Code::geometry, path.string() + ": " + what}; };
    Mesh mesh;
    int particles = 0;
    std::size_t voxels = 0;
    const auto blank = [](char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; };
    for (std::size_t at = xml.find('<'); at != std::string_view::npos; at = xml.find('<', at)) {
        if (xml.substr(at, 4) == "<!--") {
            at = xml.find("-->", at);
            continue;
        }
        std::size_t end = ++at;
        while (end < xml.size() && !blank(xml[end]) && xml[end] != '>' && xml[end] != '/') ++end;
        const std::string_view tag = xml.substr(at, end - at);
        if (tag == "Bin" && ++particles > 1) return bad("describes several particles; a bundle has one");
        if (tag != "Layer") continue;
        std::map<std::string_view, std::string_view> attributes;
        for (at = end; at < xml.size() && xml[at] != '>';) {
            if (blank(xml[at]) || xml[at] == '/') {
                ++at;
                continue;
            }
            const std::size_t equals = xml.find('=', at);
            if (equals == std::string_view::npos || equals + 1 >= xml.size()) return bad("a <Layer> has no end");
            const char quote = xml[equals + 1];
            const std::size_t close = xml.find(quote, equals + 2);
            if ((quote != '"' && quote != '\'') || close == std::string_view::npos) return bad("a <Layer> has no end");
            attributes[xml.substr(at, equals - at)] = xml.substr(equals + 2, close - equals - 2);
            at = close + 1;
        }
        const auto number = [](std::string_view word, auto& value) {
            const auto [stop, problem] = std::from_chars(word.data(), word.data() + word.size(), value);
            return problem == std::errc() && stop == word.data() + word.size();
        };
        Layer layer{};
        if (!number(attributes["id"], layer.id) || !number(attributes["n_bin_alpha"], layer.n_alpha))
            return bad("a <Layer> needs whole numbers id and n_bin_alpha");
        const std::string where = "layer " + text(layer.id) + ": ";
        if (layer.n_alpha < 1 || layer.n_alpha > kMostBins) return bad(where + "n_bin_alpha must be 1 to " + text(kMostBins));
        std::string_view edges = attributes["r_edges"];
        while (true) {
            const std::size_t comma = edges.find(',');
            double edge = 0;
            if (!number(edges.substr(0, comma), edge) || !(edge >= 0 && edge < 1e6))
                return bad(where + "r_edges must be numbers in mm, separated by commas");
            if (!layer.r_edges.empty() && !(edge > layer.r_edges.back())) return bad(where + "r_edges must rise");
            layer.r_edges.push_back(edge);
            if (comma == std::string_view::npos) break;
            edges.remove_prefix(comma + 1);
        }
        if (layer.n_r() > kMostRings) return bad(where + "more than " + text(kMostRings) + " rings");
        voxels += static_cast<std::size_t>(layer.n_r()) * static_cast<std::size_t>(layer.n_alpha);
        if (voxels > kMostVoxels) return bad("more than " + text(kMostVoxels) + " voxels, the most of this sampler");
        if (layer.n_r() > 0) mesh.layers.push_back(std::move(layer));
    }
    if (mesh.layers.empty()) return bad("no layer with voxels");
    if (mesh.layers.size() > 4096) return bad("more than 4096 layers");
    return mesh;
}

/// Tensors of a safetensors file: https://huggingface.co/docs/safetensors. The first problem is kept.
class Weights {
  public:
    Weights(std::filesystem::path path, std::string_view content) : path_(std::move(path)) { read(content); }

    /// Return a tensor; zeros, and a problem, if it is not of this shape or holds what is not a finite number.
    std::vector<float> take(const std::string& name, std::vector<std::size_t> shape) {
        std::size_t size = 1;
        for (const std::size_t n : shape) size *= n;
        std::vector<float> values(size, 0.0f);
        const auto found = tensors_.find(name);
        if (problem_) return values;
        if (found == tensors_.end() || found->second.shape != shape) {
            std::string expected;
            for (const std::size_t n : shape) expected += (expected.empty() ? "" : ", ") + text(n);
            fail(name + ": expected shape (" + expected + "); the bundle was put together from two");
            return values;
        }
        if (size) std::memcpy(values.data(), data_.data() + found->second.offset, 4 * size);
        for (const float value : values)
            if (!std::isfinite(value)) {
                problem_ = Error{Code::not_finite, path_.string() + ": " + name +
                                                       " has a number that is not finite; train the generator again"};
                break;
            }
        ++taken_;
        return values;
    }
    float number(const std::string& name) { return take(name, {})[0]; }
    const Problem& problem() const { return problem_; }
    /// Refuse tensors that nobody took.
    void finish() {
        if (!problem_ && taken_ != tensors_.size()) fail("has tensors that do not belong to this configuration");
    }

  private:
    struct Tensor {
        std::vector<std::size_t> shape;
        std::size_t offset = 0, size = 0;
    };
    void read(std::string_view content) {
        std::uint64_t length = 0;
        if (content.size() < 8) return fail("is truncated; copy the bundle again");
        for (int i = 7; i >= 0; --i) length = length << 8 | static_cast<unsigned char>(content[static_cast<std::size_t>(i)]);
        if (length > content.size() - 8) return fail("is truncated; copy the bundle again");
        const std::string_view head = content.substr(8, length);
        data_ = content.substr(8 + length);
        const json all = json::parse(head.begin(), head.end(), nullptr, false);
        if (!all.is_object()) return fail("its header is no JSON object; copy the bundle again");
        for (const auto& [name, about] : all.items()) {
            if (name == "__metadata__") continue;
            Tensor tensor;
            if (!about.is_object()) return fail(name + ": no description");
            const auto type = about.find("dtype"), shape = about.find("shape"), place = about.find("data_offsets");
            if (type == about.end() || *type != "F32") return fail(name + ": not of float32");
            std::uint64_t size = 1;
            if (shape == about.end() || !shape->is_array() || shape->size() > 4) return fail(name + ": no shape");
            for (const json& n : *shape) {
                if (!n.is_number_unsigned() || n.get<std::uint64_t>() > (1u << 28)) return fail(name + ": no shape");
                tensor.shape.push_back(n.get<std::size_t>());
                if ((size *= n.get<std::uint64_t>()) > (1u << 28)) return fail(name + ": too large");
            }
            if (place == about.end() || !place->is_array() || place->size() != 2 || !(*place)[0].is_number_unsigned() ||
                !(*place)[1].is_number_unsigned())
                return fail(name + ": no data_offsets");
            const auto from = (*place)[0].get<std::uint64_t>(), to = (*place)[1].get<std::uint64_t>();
            if (from > to || to > data_.size() || to - from != 4 * size)
                return fail(name + ": its data is not in the file; copy the bundle again");
            tensor.offset = static_cast<std::size_t>(from), tensor.size = static_cast<std::size_t>(size);
            tensors_[name] = std::move(tensor);
        }
    }
    void fail(const std::string& what) {
        if (!problem_) problem_ = Error{Code::weights, path_.string() + ": " + what};
    }
    std::filesystem::path path_;
    std::string_view data_;
    std::map<std::string, Tensor> tensors_;
    std::size_t taken_ = 0;
    Problem problem_;
};

// --- arithmetic: plain loops, compiled for each instruction set ----------------------------------------------------

CALOFORGE_INLINE float bits_to_float(std::int32_t bits) {
    float value;
    std::memcpy(&value, &bits, 4);
    return value;
}
CALOFORGE_INLINE std::int32_t float_to_bits(float value) {
    std::int32_t bits;
    std::memcpy(&bits, &value, 4);
    return bits;
}

/// Cut what is to be the exponent. A loop of its own everywhere: behind this branch compilers would not vectorise more.
CALOFORGE_INLINE float cut(float x) { return x > -87.0f ? (x < 87.0f ? x : 87.0f) : -87.0f; }

/// exp(x), to about 1e-7, of |x| <= 87. Coefficients of S. Moshier's Cephes library.
CALOFORGE_INLINE float exp_of(float x) {
    const float scaled = x * 1.44269504f;
    const auto n = static_cast<std::int32_t>(scaled + std::copysign(0.5f, scaled));
    const auto m = static_cast<float>(n);
    const float y = (x - m * 0.693359375f) + m * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * y + 1.3981999507e-3f;
    p = p * y + 8.3334519073e-3f;
    p = p * y + 4.1665795894e-2f;
    p = p * y + 1.6666665459e-1f;
    p = p * y + 5.0000001201e-1f;
    return (p * y * y + y + 1.0f) * bits_to_float((n + 127) << 23);
}

/// log(x) of a positive number, to about 1e-7. Coefficients of Cephes.
CALOFORGE_INLINE float log_of(float x) {
    // Mantissa in [sqrt(1/2), sqrt(2)).
    const auto shifted = static_cast<std::int32_t>(static_cast<std::uint32_t>(float_to_bits(x)) - 0x3f3504f3u);
    const auto e = static_cast<float>(shifted >> 23);
    const float y = bits_to_float((shifted & 0x007fffff) + 0x3f3504f3) - 1.0f;
    const float z = y * y;
    float p = 7.0376836292e-2f;
    p = p * y - 1.1514610310e-1f;
    p = p * y + 1.1676998740e-1f;
    p = p * y - 1.2420140846e-1f;
    p = p * y + 1.4249322787e-1f;
    p = p * y - 1.6668057665e-1f;
    p = p * y + 2.0000714765e-1f;
    p = p * y - 2.4999993993e-1f;
    p = p * y + 3.3333331174e-1f;
    return (y + (p * y * z + e * -2.12194440e-4f - 0.5f * z)) + e * 0.693359375f;
}

/// log(1 + x), x >= 0.
CALOFORGE_INLINE float log1p_of(float x) {
    const float u = 1.0f + x;
    return log_of(u) + (x - (u - 1.0f)) / u;
}

// Several numbers side by side, at any address.
#if defined(__GNUC__)
typedef float Four __attribute__((vector_size(16), aligned(4), may_alias));
typedef float Eight __attribute__((vector_size(32), aligned(4), may_alias));
typedef float Sixteen __attribute__((vector_size(64), aligned(4), may_alias));
#else
using Four = float;
#endif

/// R rows of C vectors of y = start + more + x w, kept in registers.
template <class V, int R, int C>
CALOFORGE_INLINE void affine_tile(const float* const* x, std::size_t n, const float* w, std::size_t m,
                                  const float* const* start, const float* const* more, float* y, std::size_t column) {
    constexpr std::size_t kLanes = sizeof(V) / sizeof(float);
    const auto at = [=](const float* from, int c) CALOFORGE_INLINE_LAMBDA -> const V& {
        return *reinterpret_cast<const V*>(from + column + static_cast<std::size_t>(c) * kLanes);
    };
    V sum[R][C];
    for (int r = 0; r < R; ++r)
        for (int c = 0; c < C; ++c) sum[r][c] = more ? at(start[r], c) + at(more[r], c) : at(start[r], c);
    for (std::size_t f = 0; f < n; ++f)
        for (int r = 0; r < R; ++r)
            for (int c = 0; c < C; ++c) sum[r][c] += x[r][f] * at(w + f * m, c);
    for (int r = 0; r < R; ++r)
        for (int c = 0; c < C; ++c) const_cast<V&>(at(y + static_cast<std::size_t>(r) * m, c)) = sum[r][c];
}

inline constexpr std::size_t kColumns = 32, kHalf = 16;  // what widths of hidden layers and of results are multiples of

/// y = start + more + x w: rows of n numbers to rows of m, a multiple of kHalf; `more` may be null. The sum over n is in
/// order for each row, so that a row's result does not depend on the others.
template <class V, int R>
CALOFORGE_INLINE void affine_loops(const float* const* x, std::size_t rows, std::size_t n, const float* w, std::size_t m,
                                   const float* const* start, const float* const* more, float* y) {
    constexpr std::size_t kLanes = sizeof(V) / sizeof(float);
    constexpr int kOne = kHalf / kLanes;  // vectors
    const std::size_t whole = rows / R * R;
    const auto rest = [&](std::size_t r) { return more ? more + r : nullptr; };
    std::size_t c = 0;
    for (; c + kColumns <= m; c += kColumns)
        for (std::size_t r = 0; r < whole; r += R) affine_tile<V, R, 2 * kOne>(x + r, n, w, m, start + r, rest(r), y + r * m, c);
    for (; c < m; c += kHalf)
        for (std::size_t r = 0; r < whole; r += R) affine_tile<V, R, kOne>(x + r, n, w, m, start + r, rest(r), y + r * m, c);
    for (std::size_t r = whole; r < rows; ++r) {  // wider, to keep as many sums under way
        c = 0;
        if constexpr (R > 1)
            for (; c + 2 * kColumns <= m; c += 2 * kColumns) affine_tile<V, 1, 4 * kOne>(x + r, n, w, m, start + r, rest(r), y + r * m, c);
        for (; c + kColumns <= m; c += kColumns) affine_tile<V, 1, 2 * kOne>(x + r, n, w, m, start + r, rest(r), y + r * m, c);
        for (; c < m; c += kHalf) affine_tile<V, 1, kOne>(x + r, n, w, m, start + r, rest(r), y + r * m, c);
    }
}

/// x / (1 + exp(-x)) of a multiple of kColumns numbers.
CALOFORGE_INLINE void silu_loop(float* x, std::size_t n) {
    for (std::size_t i = 0; i < n; i += kColumns) {
        float t[kColumns];
        for (std::size_t j = 0; j < kColumns; ++j) t[j] = cut(-x[i + j]);
        for (std::size_t j = 0; j < kColumns; ++j) x[i + j] /= 1.0f + exp_of(t[j]);
    }
}
CALOFORGE_INLINE void exp_loop(float* x, std::size_t n) {
    for (std::size_t i = 0; i < n; ++i) x[i] = cut(x[i]);
    for (std::size_t i = 0; i < n; ++i) x[i] = exp_of(x[i]);
}
CALOFORGE_INLINE void log_loop(float* x, std::size_t n) {
    for (std::size_t i = 0; i < n; ++i) x[i] = log_of(x[i]);
}
CALOFORGE_INLINE void log1p_loop(float* x, std::size_t n) {
    for (std::size_t i = 0; i < n; ++i) x[i] = log1p_of(x[i]);
}

struct Kernels {
    void (*affine)(const float* const*, std::size_t, std::size_t, const float*, std::size_t, const float* const*, const float* const*, float*);
    void (*silu)(float*, std::size_t);
    void (*exp)(float*, std::size_t);
    void (*log)(float*, std::size_t);
    void (*log1p)(float*, std::size_t);
};

#define CALOFORGE_KERNELS(NAME, TARGET, VECTOR, ROWS)                                                                    \
    struct NAME {                                                                                                        \
        TARGET CALOFORGE_O3 static void affine(const float* const* x, std::size_t rows, std::size_t n, const float* w,   \
                                               std::size_t m, const float* const* start, const float* const* more,       \
                                               float* y) {                                                               \
            affine_loops<VECTOR, ROWS>(x, rows, n, w, m, start, more, y);                                                \
        }                                                                                                                \
        TARGET CALOFORGE_O3 static void silu(float* x, std::size_t n) { silu_loop(x, n); }                               \
        TARGET CALOFORGE_O3 static void exp(float* x, std::size_t n) { exp_loop(x, n); }                                 \
        TARGET CALOFORGE_O3 static void log(float* x, std::size_t n) { log_loop(x, n); }                                 \
        TARGET CALOFORGE_O3 static void log1p(float* x, std::size_t n) { log1p_loop(x, n); }                             \
        static constexpr Kernels table() { return {affine, silu, exp, log, log1p}; }                                     \
    };
CALOFORGE_KERNELS(ScalarKernels, , Four, 1)
#if CALOFORGE_X86
CALOFORGE_KERNELS(Avx2Kernels, __attribute__((target("avx2,fma"))), Eight, 3)
#if defined(__clang__)
CALOFORGE_KERNELS(Avx512Kernels, __attribute__((target("avx512f,avx512dq,avx512vl,avx512bw,fma"))), Sixteen, 4)
#else
CALOFORGE_KERNELS(Avx512Kernels, __attribute__((target("avx512f,avx512dq,avx512vl,avx512bw,fma,prefer-vector-width=512"))), Sixteen, 4)
#endif
#endif
#undef CALOFORGE_KERNELS

inline bool has(Isa isa) {
#if CALOFORGE_X86
    if (isa == Isa::avx2) return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (isa == Isa::avx512)
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
               __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("fma");
#endif
    return isa == Isa::scalar;
}

inline Kernels kernels(Isa isa) {
#if CALOFORGE_X86
    if (isa == Isa::avx512) return Avx512Kernels::table();
    if (isa == Isa::avx2) return Avx2Kernels::table();
#endif
    (void)isa;
    return ScalarKernels::table();
}

// --- random numbers ------------------------------------------------------------------------------------------------

/// Philox4x64-10 (Salmon et al., SC'11).
inline std::array<std::uint64_t, 4> philox(std::array<std::uint64_t, 4> counter, std::array<std::uint64_t, 2> key) {
    const auto product = [](std::uint64_t a, std::uint64_t b, std::uint64_t& high) {
#if defined(__SIZEOF_INT128__)
        __extension__ using Wide = unsigned __int128;
        const Wide wide = static_cast<Wide>(a) * b;
        high = static_cast<std::uint64_t>(wide >> 64);
        return static_cast<std::uint64_t>(wide);
#else
        const std::uint64_t a0 = a & 0xffffffff, a1 = a >> 32, b0 = b & 0xffffffff, b1 = b >> 32;
        const std::uint64_t middle = a1 * b0 + (a0 * b0 >> 32), other = a0 * b1 + (middle & 0xffffffff);
        high = a1 * b1 + (middle >> 32) + (other >> 32);
        return a * b;
#endif
    };
    for (int round = 0; round < 10; ++round) {
        std::uint64_t high0 = 0, high1 = 0;
        const std::uint64_t low0 = product(0xD2E7470EE14C6C93, counter[0], high0);
        const std::uint64_t low1 = product(0xCA5A826395121157, counter[2], high1);
        counter = {high1 ^ counter[1] ^ key[0], low1, high0 ^ counter[3] ^ key[1], low0};
        key[0] += 0x9E3779B97F4A7C15, key[1] += 0xBB67AE8584CAA73B;
    }
    return counter;
}

/// The numbers of one shower: number j is a half of 32 bits, the lower first, of word j / 2 % 4 of block j / 8, which
/// has the counter (1 + block, shower, 0, 0) and the key (seed, 0). The same stream as `NoiseStream` in models/bundle.py.
class Stream {
  public:
    Stream() = default;
    Stream(std::uint64_t seed, std::uint64_t shower) : seed_(seed), shower_(shower) {}
    /// Number j, uniform in (0, 1).
    float uniform(std::size_t j) {
        const std::uint64_t block = j / 8 + 1;
        if (block != block_) words_ = philox({block, shower_, 0, 0}, {seed_, 0}), block_ = block;
        const std::uint64_t word = words_[j / 2 % 4];
        const auto bits = static_cast<std::uint32_t>(j % 2 ? word >> 32 : word);
        const double u = (static_cast<double>(bits) + 0.5) * 0x1p-32;
        return static_cast<float>(std::min(u, 1 - 6e-8));
    }

  private:
    std::uint64_t seed_ = 0, shower_ = 0, block_ = 0;
    std::array<std::uint64_t, 4> words_{};
};

// --- networks ------------------------------------------------------------------------------------------------------

inline std::size_t padded(std::size_t n, std::size_t step) { return (n + step - 1) / step * step; }

/// Linear, SiLU, Linear, SiLU, Linear. Weights are stored as (inputs, outputs), outputs filled up with zeros.
struct Mlp {
    std::size_t n_in = 0, n_out = 0, width = 0, out = 0;  // width and out as stored
    Floats w1, b1, w2, b2, w3, b3;

    static Mlp take(Weights& weights, const std::string& name, std::size_t n_in, std::size_t width, std::size_t n_out) {
        Mlp mlp;
        mlp.n_in = n_in, mlp.n_out = n_out, mlp.width = padded(width, kColumns), mlp.out = padded(n_out, kHalf);
        const auto linear = [&](const char* layer, std::size_t from, std::size_t rows, std::size_t to, std::size_t columns,
                                Floats& w, Floats& b) {
            const auto weight = weights.take(name + layer + ".weight", {to, from});
            const auto bias = weights.take(name + layer + ".bias", {to});
            w.assign(rows * columns, 0.0f), b.assign(columns, 0.0f);
            for (std::size_t j = 0; j < to; ++j) {
                b[j] = bias[j];
                for (std::size_t i = 0; i < from; ++i) w[i * columns + j] = weight[j * from + i];
            }
        };
        linear(".0", n_in, n_in, width, mlp.width, mlp.w1, mlp.b1);
        linear(".2", width, mlp.width, width, mlp.width, mlp.w2, mlp.b2);
        linear(".4", width, mlp.width, n_out, mlp.out, mlp.w3, mlp.b3);
        return mlp;
    }
};

/// Pointers and hidden numbers of rows that go through a network.
struct Passage {
    std::vector<const float*> x, start, more, hidden, bias;
    Floats one, two, y;

    void reserve(std::size_t rows, std::size_t width, std::size_t out) {
        rows = std::max(rows, x.size()), width = std::max(width, width_), out = std::max(out, out_);
        width_ = width, out_ = out;
        x.resize(rows), start.resize(rows), more.resize(rows), hidden.resize(rows), bias.resize(rows);
        one.resize(rows * width), two.resize(rows * width), y.resize(rows * out);
    }
    /// Map the rows x, of which the first layer starts at `start` and `more`, to y, (rows, mlp.out).
    void run(const Kernels& k, const Mlp& mlp, const Floats& first, std::size_t n_in, std::size_t rows) {
        run(k, mlp, first, n_in, rows, more.data());
    }
    void run(const Kernels& k, const Mlp& mlp, std::size_t rows) {
        for (std::size_t r = 0; r < rows; ++r) start[r] = mlp.b1.data();
        run(k, mlp, mlp.w1, mlp.n_in, rows, nullptr);
    }

  private:
    void run(const Kernels& k, const Mlp& mlp, const Floats& first, std::size_t n_in, std::size_t rows, const float* const* beside) {
        if (rows == 0) return;
        const auto from = [&](const Floats& values, const Floats& b) {
            for (std::size_t r = 0; r < rows; ++r) hidden[r] = values.data() + r * mlp.width, bias[r] = b.data();
        };
        k.affine(x.data(), rows, n_in, first.data(), mlp.width, start.data(), beside, one.data());
        k.silu(one.data(), rows * mlp.width);
        from(one, mlp.b2);
        k.affine(hidden.data(), rows, mlp.width, mlp.w2.data(), mlp.width, bias.data(), nullptr, two.data());
        k.silu(two.data(), rows * mlp.width);
        from(two, mlp.b3);
        k.affine(hidden.data(), rows, mlp.width, mlp.w3.data(), mlp.out, bias.data(), nullptr, y.data());
    }
    std::size_t width_ = 0, out_ = 0;
};

// --- the tree --------------------------------------------------------------------------------------------------------

inline constexpr int kNothing = -1;

/// A box of cells of one layer, see models/tree/layout.py.
struct Node {
    int layer, ring, ring_end, bin, bin_end, level;
    int left = kNothing, right = kNothing, below = kNothing;
    bool odd = false;
    int capacity() const { return (ring_end - ring) * (bin_end - bin); }
};

struct Share {
    int node;
    float weight;
};

/// Nodes of a mesh, their halves, and what lies over them.
struct Layout {
    const Mesh& mesh;
    std::vector<Node> nodes;
    std::vector<int> layer_node;                        // the node of each whole layer
    std::vector<int> voxel;                             // of each node; kNothing if it is not a cell
    std::vector<std::vector<Share>> source;             // nodes of the layer before over each node
    std::vector<std::vector<int>> rest;                 // per layer and ring r, the node of rings >= r
    std::vector<std::vector<std::vector<std::vector<int>>>> over;  // per layer, ring, level and bin, the node
    bool regular = true;
    std::size_t overlaps = 1;  // most nodes over one

    explicit Layout(const Mesh& m) : mesh(m) {
        for (const Layer& layer : mesh.layers) regular = regular && layer == mesh.layers[0];
        for (int i = 0; i < n_layers(); ++i) grow_layer(i);
        for (Node& node : nodes)
            if (node.ring > 0 && node.level > 0) node.below = at(node.layer, node.ring - 1, node.level, node.bin);
        voxel.assign(nodes.size(), kNothing);
        int number = 0;
        for (int i = 0; i < n_layers(); ++i)
            for (int a = 0; a < layer(i).n_alpha; ++a)
                for (int r = 0; r < layer(i).n_r(); ++r) voxel[ul(over[ul(i)][ul(r)].back()[ul(a)])] = number++;
        source.resize(nodes.size());
        for (std::size_t n = 0; n < nodes.size(); ++n) {
            source[n] = nodes_over(static_cast<int>(n));
            overlaps = std::max(overlaps, source[n].size());
        }
    }

    static std::size_t ul(int i) { return static_cast<std::size_t>(i); }
    int n_layers() const { return static_cast<int>(mesh.layers.size()); }
    const Layer& layer(int i) const { return mesh.layers[ul(i)]; }

    /// The node of a ring that covers a bin (periodic) at a level; kNothing beyond layers and rings.
    int at(int i, int ring, int level, int bin) const {
        if (i < 0 || i >= n_layers() || ring < 0 || ring >= layer(i).n_r()) return kNothing;
        const auto& levels = over[ul(i)][ul(ring)];
        const auto& row = levels[std::min(ul(level), levels.size() - 1)];
        const int n = static_cast<int>(row.size());
        return row[ul((bin % n + n) % n)];
    }

  private:
    int push(Node node) {
        nodes.push_back(node);
        return static_cast<int>(nodes.size()) - 1;
    }

    /// Cut a piece of a ring into halves, down to cells.
    int grow(Node node) {
        const int number = push(node);
        if (node.bin_end - node.bin > 1) {
            const int middle = (node.bin + node.bin_end) / 2;
            Node first = node, second = node;
            first.bin_end = second.bin = middle;
            first.level = second.level = node.level + 1;
            const int left = grow(first), right = grow(second);
            nodes[ul(number)].left = left, nodes[ul(number)].right = right;
        }
        return number;
    }

    void grow_layer(int i) {
        const int n_r = layer(i).n_r(), n_alpha = layer(i).n_alpha;
        std::vector<int> roots(ul(n_r)), rests(ul(n_r));
        for (int r = 0; r + 1 < n_r; ++r) {
            rests[ul(r)] = push({i, r, n_r, 0, n_alpha, 0});
            roots[ul(r)] = grow({i, r, r + 1, 0, n_alpha, 0});
        }
        rests[ul(n_r - 1)] = roots[ul(n_r - 1)] = grow({i, n_r - 1, n_r, 0, n_alpha, 0});
        for (int r = 0; r + 1 < n_r; ++r) {
            nodes[ul(rests[ul(r)])].left = roots[ul(r)];
            nodes[ul(rests[ul(r)])].right = rests[ul(r + 1)];
        }
        layer_node.push_back(rests[0]);
        std::vector<std::vector<std::vector<int>>> rings;
        for (int r = 0; r < n_r; ++r) rings.push_back(levels_of(roots[ul(r)], n_alpha));
        over.push_back(std::move(rings));
        rest.push_back(std::move(rests));
    }

    /// Per level the node over each bin of a ring; cells stay what they are at deeper levels.
    std::vector<std::vector<int>> levels_of(int root, int n_alpha) {
        std::vector<std::vector<int>> levels{std::vector<int>(ul(n_alpha), root)};
        for (bool deeper = n_alpha > 1; deeper;) {
            std::vector<int> row = levels.back();
            deeper = false;
            for (int a = 0; a < n_alpha; ++a) {
                const Node& node = nodes[ul(row[ul(a)])];
                if (node.left == kNothing) continue;
                row[ul(a)] = a < nodes[ul(node.left)].bin_end ? node.left : node.right;
                deeper = deeper || nodes[ul(row[ul(a)])].left != kNothing;
            }
            int order = -1, level = static_cast<int>(levels.size());
            for (std::size_t a = 0; a < row.size(); ++a) {
                order += a == 0 || row[a] != row[a - 1];
                if (nodes[ul(row[a])].level == level) nodes[ul(row[a])].odd = order % 2 == 1;
            }
            levels.push_back(std::move(row));
        }
        return levels;
    }

    std::vector<Share> nodes_over(int number) const {
        const Node& node = nodes[ul(number)];
        if (node.layer == 0) return {};
        const Layer &here = layer(node.layer), &before = layer(node.layer - 1);
        const int whole = layer_node[ul(node.layer - 1)];
        if (here == before) return {{number - layer_node[ul(node.layer)] + whole, 1.0f}};
        if (node.capacity() == here.n_r() * here.n_alpha) return {{whole, 1.0f}};
        const double start = static_cast<double>(node.bin) / here.n_alpha;
        const double end = static_cast<double>(node.bin_end) / here.n_alpha;
        const double low = node.ring == 0 ? 0.0 : here.r_edges[ul(node.ring)];
        const double high =
            node.ring_end == here.n_r() ? std::numeric_limits<double>::infinity() : here.r_edges[ul(node.ring_end)];
        std::vector<Share> found;
        for (int r = 0; r < before.n_r(); ++r) {
            const double a = before.r_edges[ul(r)], b = before.r_edges[ul(r) + 1];
            const double inner = std::min(std::max(a, low), high), outer = std::min(std::max(b, low), high);
            const double radial = (outer * outer - inner * inner) / (b * b - a * a);
            if (radial > 1e-9) cover(node.layer - 1, r, start, end, radial, found);
        }
        return found;
    }

    /// Add the nodes of a ring that together cover [start, end) of its circumference.
    void cover(int i, int ring, double start, double end, double radial, std::vector<Share>& found) const {
        const int n = layer(i).n_alpha;
        const auto close = [](double x, double y) { return std::abs(x - y) <= 1e-8 + 1e-5 * std::abs(y); };
        for (const auto& row : over[ul(i)][ul(ring)])
            if (const long a = std::lround(start * n); a < n) {
                const int number = row[static_cast<std::size_t>(a)];
                const Node& node = nodes[ul(number)];
                if (close(static_cast<double>(node.bin) / n, start) && close(static_cast<double>(node.bin_end) / n, end)) {
                    found.push_back({number, static_cast<float>(radial)});
                    return;
                }
            }
        const auto& cells = over[ul(i)][ul(ring)].back();
        const int first = std::max(0, static_cast<int>(start * n) - 1), last = std::min(n, static_cast<int>(end * n) + 2);
        for (int a = first; a < last; ++a) {
            const double share = n * (std::min(end, (a + 1.0) / n) - std::max(start, static_cast<double>(a) / n));
            if (share > 1e-9) found.push_back({cells[ul(a)], static_cast<float>(radial * share)});
        }
    }
};

/// Quantities of a node of a shower that is being drawn, see models/tree/state.py; what splits see of them comes first.
enum Plane : std::uint32_t {
    kSeenEnergy,  // 0.3 log(1 + E / t) - 1, of E and below of the other energies
    kSeenHits,    // per cell
    kSeenPastEnergy,
    kSeenPastHits,
    kSeenInner,
    kEnergy = 8,  // MeV
    kHits,
    kPastEnergy,
    kPastHits,
    kInner,
    kPlanes = 16  // a cache line
};

/// A column of what a split sees.
struct Column {
    int context;
    Plane plane;
};

/// One kind of split, S of them, in the order in which they are drawn; see models/tree/boxes.py and context.py.
struct Splits {
    struct Wave {
        std::uint32_t start, stop;
        bool early;
    };
    struct Half {
        std::uint32_t slot, below, source;  // place in the state; of the piece inside it; first of what lies over it
        float share;                        // of source
        float capacity, per_cell;           // cells, 1 / cells
        int voxel;
    };
    std::vector<Node> node;      // what is split
    std::vector<int> number;     // its number
    std::vector<int> context;    // (S, C) nodes
    std::vector<bool> before;    // (C) whether a column is of the layer before
    std::vector<Column> energies, hits;
    std::vector<Wave> waves;
    std::size_t widest = 0;
    int classes = 2;
    std::size_t n_early = 0;

    std::vector<std::uint32_t> slot;         // (S) first plane of the node
    std::vector<std::uint32_t> seen;         // (S, energies + hits) planes, in regular meshes
    std::vector<std::uint32_t> sum_start;    // (S (energies + hits) + 1) terms of each column, in others
    std::vector<std::pair<std::uint32_t, float>> terms;
    std::vector<float> per_cell;             // (S, hits), in others
    std::vector<Half> halves;                // (2 S)
    std::vector<std::uint32_t> fill_start;   // (2 S + 1) further terms over each half, in others
    std::vector<std::pair<std::uint32_t, float>> fill_terms;
    std::size_t n_constants = 0;
    std::vector<float> constants, centres;   // (S, n_constants), (S, 4)
    std::size_t stride = 0;
    Floats prior;                            // (pairs of capacities, hits, stride)
    std::vector<std::uint32_t> kind;         // (S) first number of its prior

    std::size_t size() const { return node.size(); }
    std::size_t n_seen() const { return energies.size() + hits.size(); }
    /// Inputs of a network that differ from shower to shower, without what is told of shower and layer.
    std::size_t n_row() const { return n_seen() + 4; }

    /// Lay out the splits, wave by wave: each comes after the last of those that made a node it sees.
    Splits(const Layout& layout, bool of_rings, int early_layers) {
        const auto ul = Layout::ul;
        std::vector<int> order;
        for (std::size_t n = 0; n < layout.nodes.size(); ++n) {
            const Node& one = layout.nodes[n];
            const bool ring = one.ring_end > one.ring + 1;
            if (one.left != kNothing && ring == of_rings) order.push_back(static_cast<int>(n));
        }
        const auto key = [&](int n) {
            const Node& one = layout.nodes[ul(n)];
            return std::tuple(one.layer, one.ring, one.level, one.odd, one.bin);
        };
        std::sort(order.begin(), order.end(), [&](int a, int b) { return key(a) < key(b); });
        if (of_rings)
            before = {true, true, true, true, false, false, false, false};
        else
            before = {true,  true,  true,  true,  true,  true,  true,  true,  false, false,
                      false, false, false, false, false, false, false, false, false};
        const std::size_t columns = before.size();
        std::vector<int> made(layout.nodes.size(), 0), wave_of;
        std::vector<std::vector<int>> contexts;
        for (const int n : order) {
            const Node& one = layout.nodes[ul(n)];
            contexts.push_back(of_rings ? ring_context(layout, n) : cell_context(layout, n));
            int wave = made[ul(n)];
            for (std::size_t c = 0; c < columns; ++c) {
                const int seen_node = contexts.back()[c];
                if (seen_node == kNothing) continue;
                if (!before[c]) wave = std::max(wave, made[ul(seen_node)]);
                else
                    for (const Share& share : layout.source[ul(seen_node)]) wave = std::max(wave, made[ul(share.node)]);
            }
            wave_of.push_back(wave);
            made[ul(one.left)] = made[ul(one.right)] = wave + 1;
        }
        // Early layers first: none of their splits needs one of the others.
        std::vector<std::size_t> sorted(order.size());
        for (std::size_t s = 0; s < sorted.size(); ++s) sorted[s] = s;
        const auto late = [&](std::size_t s) { return layout.nodes[ul(order[s])].layer >= early_layers; };
        std::stable_sort(sorted.begin(), sorted.end(), [&](std::size_t a, std::size_t b) {
            return std::pair(late(a), wave_of[a]) < std::pair(late(b), wave_of[b]);
        });
        for (std::size_t s = 0; s < sorted.size(); ++s) {
            const std::size_t from = sorted[s];
            const auto at = static_cast<std::uint32_t>(s);
            number.push_back(order[from]);
            node.push_back(layout.nodes[ul(order[from])]);
            context.insert(context.end(), contexts[from].begin(), contexts[from].end());
            const bool early = !late(from);
            n_early += early;
            if (s == 0 || waves.back().early != early || wave_of[sorted[s - 1]] != wave_of[from])
                waves.push_back({at, at, early});
            waves.back().stop = at + 1;
            widest = std::max<std::size_t>(widest, waves.back().stop - waves.back().start);
        }
        if (size() > 0) classes = 1;
        for (const Node& one : node) classes = std::max(classes, layout.nodes[ul(one.left)].capacity() + 1);
        for (std::size_t c = 0; c < columns; ++c) {
            energies.push_back({static_cast<int>(c), kEnergy});
            hits.push_back({static_cast<int>(c), kHits});
        }
        for (std::size_t c = 0; c < columns; ++c)
            if (before[c]) {
                energies.push_back({static_cast<int>(c), kPastEnergy});
                hits.push_back({static_cast<int>(c), kPastHits});
            }
        if (!of_rings)
            for (const int inner : {9, 10}) energies.push_back({inner, kInner});
        describe(layout);
    }

    /// Terms of a column of split s: (node, weight).
    std::vector<Share> looked_at(const Layout& layout, std::size_t s, Column column) const {
        const int seen_node = context[s * before.size() + Layout::ul(column.context)];
        if (seen_node == kNothing) return {};
        if (!before[Layout::ul(column.context)]) return {{seen_node, 1.0f}};
        std::vector<Share> shares = layout.source[Layout::ul(seen_node)];
        if (layout.overlaps == 1)
            for (Share& share : shares) share.weight = 1.0f;
        return shares;
    }

    /// Make the tables of what is in slots: (M) first planes of nodes, and that of "no node".
    void place(const Layout& layout, const std::vector<std::uint32_t>& slots, std::uint32_t nothing) {
        const auto ul = Layout::ul;
        const auto slot_of = [&](int n) { return n == kNothing ? nothing : slots[ul(n)]; };
        for (std::size_t s = 0; s < size(); ++s) {
            slot.push_back(slot_of(number[s]));
            for (const auto* list : {&energies, &hits})
                for (const Column column : *list) {
                    const auto shares = looked_at(layout, s, column);
                    if (layout.regular) {
                        const auto seen_plane = static_cast<std::uint32_t>(column.plane) - kEnergy;
                        seen.push_back((shares.empty() ? nothing : slot_of(shares[0].node)) + seen_plane);
                        continue;
                    }
                    sum_start.push_back(static_cast<std::uint32_t>(terms.size()));
                    for (const Share& share : shares) terms.emplace_back(slot_of(share.node) + column.plane, share.weight);
                    if (list == &hits) {
                        const int n = context[s * before.size() + ul(column.context)];
                        per_cell.push_back(n == kNothing ? 1.0f : 1.0f / static_cast<float>(layout.nodes[ul(n)].capacity()));
                    }
                }
            for (const int half : {node[s].left, node[s].right}) {
                const auto& over = layout.source[ul(half)];
                const auto cells = static_cast<float>(layout.nodes[ul(half)].capacity());
                halves.push_back({slot_of(half), slot_of(layout.nodes[ul(half)].below),
                                  over.empty() ? nothing : slot_of(over[0].node),
                                  over.empty() ? 0.0f : 0.7f * over[0].weight, cells, 1.0f / cells, layout.voxel[ul(half)]});
                fill_start.push_back(static_cast<std::uint32_t>(fill_terms.size()));
                for (std::size_t k = 1; k < over.size(); ++k)
                    fill_terms.emplace_back(slot_of(over[k].node), 0.7f * over[k].weight);
            }
        }
        sum_start.push_back(static_cast<std::uint32_t>(terms.size()));
        fill_start.push_back(static_cast<std::uint32_t>(fill_terms.size()));
        count_ways(layout);
    }

    /// Nodes that a wave looks at.
    std::vector<int> read(const Layout& layout, const Wave& wave) const {
        std::vector<int> nodes;
        for (std::size_t s = wave.start; s < wave.stop; ++s) {
            nodes.push_back(number[s]);
            for (const auto* list : {&energies, &hits})
                for (const Column column : *list)
                    for (const Share& share : looked_at(layout, s, column)) nodes.push_back(share.node);
            for (const int half : {node[s].left, node[s].right}) {
                if (layout.nodes[Layout::ul(half)].below != kNothing) nodes.push_back(layout.nodes[Layout::ul(half)].below);
                for (const Share& share : layout.source[Layout::ul(half)]) nodes.push_back(share.node);
            }
        }
        std::sort(nodes.begin(), nodes.end());
        nodes.erase(std::unique(nodes.begin(), nodes.end()), nodes.end());
        return nodes;
    }

  private:
    static std::vector<int> ring_context(const Layout& layout, int number) {
        const Node& one = layout.nodes[Layout::ul(number)];
        const int i = one.layer, r = one.ring;
        const auto ring = [&](int at) { return layout.at(i, at, 0, 0); };
        const int outer = r + 2 >= one.ring_end ? kNothing : layout.rest[Layout::ul(i)][Layout::ul(r + 2)];
        const int after = i + 1 < layout.n_layers() ? layout.layer_node[Layout::ul(i + 1)] : kNothing;
        return {ring(r - 1), ring(r), ring(r + 1), outer, ring(r - 1), ring(r - 2), layout.layer_node[Layout::ul(i)], after};
    }

    static std::vector<int> cell_context(const Layout& layout, int number) {
        const Node& one = layout.nodes[Layout::ul(number)];
        const int i = one.layer, r = one.ring, level = one.level, down = level + 1;
        const int middle = layout.nodes[Layout::ul(one.left)].bin_end;
        const std::array<int, 2> pair = {one.bin, middle}, sides = {one.bin - 1, one.bin_end};
        const std::array<int, 4> window = {one.bin - 1, one.bin, middle, one.bin_end};
        std::vector<int> found;
        for (const int a : window) found.push_back(layout.at(i, r, down, a));
        for (const int a : pair) found.push_back(layout.at(i, r - 1, down, a));
        for (const int a : pair) found.push_back(layout.at(i, r + 1, down, a));
        for (const int a : window) found.push_back(layout.at(i, r - 1, down, a));
        for (const int a : sides) found.push_back(level ? layout.at(i, r, level, a) : kNothing);
        for (const int a : sides) found.push_back(one.odd ? layout.at(i, r, down, a) : kNothing);
        found.push_back(layout.at(i, r, 0, 0));
        found.push_back(layout.at(i, r + 1, 0, 0));
        found.push_back(ring_after(layout, i, r));
        return found;
    }

    static int ring_after(const Layout& layout, int i, int r) {
        if (i + 1 == layout.n_layers()) return kNothing;
        const auto &edges = layout.layer(i).r_edges, &next = layout.layer(i + 1).r_edges;
        const double middle = (edges[Layout::ul(r)] + edges[Layout::ul(r) + 1]) / 2;
        const int ring = static_cast<int>(std::lower_bound(next.begin(), next.end(), middle) - next.begin()) - 1;
        return layout.at(i + 1, std::min(std::max(ring, 0), layout.layer(i + 1).n_r() - 1), 0, 0);
    }

    /// What a network is told of a split, whatever the shower: depth, ring, level, order, and the middles of its halves.
    void describe(const Layout& layout) {
        constexpr int kMostOneHotLayers = 12;
        const auto categories = [&](auto value) {
            int most = -1, least = std::numeric_limits<int>::max();
            for (const Node& one : node) most = std::max(most, value(one)), least = std::min(least, value(one));
            return most > least ? most + 1 : 0;
        };
        const auto ring = [](const Node& one) { return one.ring; };
        const auto level = [](const Node& one) { return one.level; };
        const auto layer = [](const Node& one) { return one.layer; };
        const int rings = categories(ring), levels = categories(level);
        const int layers = !layout.regular && layout.n_layers() <= kMostOneHotLayers ? categories(layer) : 0;
        n_constants = Layout::ul(3 + rings + levels + 1 + layers);
        double unit = 0;
        for (const Layer& one : layout.mesh.layers) unit = std::max(unit, one.r_edges.back() / 4);
        for (const Node& one : node) {
            const auto depth = static_cast<float>(one.layer);
            constants.push_back(2 * depth / static_cast<float>(std::max(1, layout.n_layers() - 1)) - 1);
            constants.push_back(std::exp(-depth / 2.0f));
            constants.push_back(std::exp(-depth / 6.0f));
            for (int k = 0; k < rings; ++k) constants.push_back(one.ring == k);
            for (int k = 0; k < levels; ++k) constants.push_back(one.level == k);
            constants.push_back(one.odd);
            for (int k = 0; k < layers; ++k) constants.push_back(one.layer == k);
            for (const int half : {one.left, one.right}) {
                const Node& h = layout.nodes[Layout::ul(half)];
                const Layer& where = layout.layer(h.layer);
                const double radius = (where.r_edges[Layout::ul(h.ring)] + where.r_edges[Layout::ul(h.ring_end)]) / 2 / unit;
                const double alpha = Mesh::kPi * (h.bin + h.bin_end) / where.n_alpha - Mesh::kPi;
                const bool whole = h.bin_end - h.bin == where.n_alpha;
                centres.push_back(whole ? 0.0f : static_cast<float>(radius * std::cos(alpha)));
                centres.push_back(whole ? 0.0f : static_cast<float>(radius * std::sin(alpha)));
            }
        }
    }

    /// Log of the number of ways to place the hits, log C(c_L, k) + log C(c_R, n - k).
    void count_ways(const Layout& layout) {
        int most = 0;
        std::map<std::pair<int, int>, std::uint32_t> kinds;
        for (const Node& one : node) {
            const int left = layout.nodes[Layout::ul(one.left)].capacity(), right = layout.nodes[Layout::ul(one.right)].capacity();
            kinds[{left, right}] = 0;
            most = std::max(most, left + right);
        }
        std::vector<double> log_factorial(Layout::ul(most) + 1, 0.0);
        for (std::size_t i = 1; i < log_factorial.size(); ++i)
            log_factorial[i] = log_factorial[i - 1] + std::log(static_cast<double>(i));
        const auto log_binomial = [&](int c, int k) {
            if (k < 0 || k > c) return -std::numeric_limits<double>::infinity();
            return log_factorial[Layout::ul(c)] - log_factorial[Layout::ul(k)] - log_factorial[Layout::ul(c - k)];
        };
        stride = padded(Layout::ul(classes), kHalf);
        for (auto& [pair, first] : kinds) {
            first = static_cast<std::uint32_t>(prior.size());
            for (int n = 0; n <= pair.first + pair.second; ++n)
                for (int k = 0; k < static_cast<int>(stride); ++k)
                    prior.push_back(k < classes ? static_cast<float>(log_binomial(pair.first, k) + log_binomial(pair.second, n - k))
                                                : -std::numeric_limits<float>::infinity());
        }
        for (const Node& one : node)
            kind.push_back(kinds[{layout.nodes[Layout::ul(one.left)].capacity(), layout.nodes[Layout::ul(one.right)].capacity()}]);
    }
};

inline constexpr std::size_t kQuantiles = 5, kPeaks = 2, kAnchors = kQuantiles + kPeaks;
inline constexpr std::size_t kFreeComponents = 4, kComponents = kFreeComponents + 2 * kPeaks;
inline constexpr std::size_t kMore = 3 + 2 * kQuantiles;  // what the network of the shares is told of the hits

/// Networks of one kind of split, ready to draw; see models/tree/rows.py.
struct SplitNetworks {
    Mlp counts, shares;
    Floats first_counts, first_shares;  // weights of the first layers, of inputs that differ from split to split of a shower
    Floats about_counts, about_shares;  // of what is told of shower and layer, and of the axis
    Floats start_counts, start_shares;  // (splits from `offset` on, width) what first layers make of the others
    std::size_t offset = 0;
    std::array<float, kAnchors> above;  // MeV over the threshold: quantiles, peaks

    static SplitNetworks take(Weights& weights, const std::string& name, const Splits& splits, std::size_t n_about,
                              std::size_t width, float threshold) {
        SplitNetworks networks;
        const auto peaks = weights.take(name + ".spectrum.peaks", {kPeaks});
        const auto quantiles = weights.take(name + ".spectrum.quantiles", {kQuantiles});
        for (std::size_t i = 0; i < kAnchors; ++i)
            networks.above[i] = (i < kQuantiles ? quantiles[i] : peaks[i - kQuantiles]) - threshold;
        const std::size_t features = splits.n_row() + splits.n_constants + n_about + 4;
        networks.counts = Mlp::take(weights, name + ".counts", features, width, Layout::ul(splits.classes));
        networks.shares = Mlp::take(weights, name + ".shares", features + kMore, width, 3 * kComponents);
        return networks;
    }

    /// Work out what the first layers make of constants.
    void prepare(const Splits& splits, std::size_t n_about, float directed, const Kernels& k, std::size_t from, std::size_t to) {
        offset = from;
        for (auto [mlp, first, beside, start] : {std::tuple(&counts, &first_counts, &about_counts, &start_counts),
                                                 std::tuple(&shares, &first_shares, &about_shares, &start_shares)}) {
            const std::size_t m = mlp->width;
            const auto row = [&](std::size_t i) { return mlp->w1.begin() + static_cast<std::ptrdiff_t>(i * m); };
            const std::size_t n_e = splits.energies.size(), n_h = splits.hits.size();
            const std::size_t own = n_e + n_h, told = own + 4, about = told + splits.n_constants, centre = about + n_about;
            // Stored: energies | hits | own energy | own (3) | constants | about | centres | more.
            // Rows have: energies | own energy | hits | own (3) | more; what is told of shower and layer: about | axis.
            first->insert(first->end(), row(0), row(n_e));
            first->insert(first->end(), row(own), row(own + 1));
            first->insert(first->end(), row(n_e), row(own));
            first->insert(first->end(), row(own + 1), row(told));
            beside->insert(beside->end(), row(about), row(centre));
            for (std::size_t j = 0; j < 2 * m; ++j) beside->push_back(row(centre)[static_cast<std::ptrdiff_t>(j)] + row(centre + 2)[static_cast<std::ptrdiff_t>(j)]);
            first->insert(first->end(), row(centre + 4), mlp->w1.end());
            Floats fixed(row(told), row(about));
            fixed.insert(fixed.end(), row(centre), row(centre + 4));
            start->resize((to - from) * m);
            std::vector<float> x(splits.n_constants + 4);
            for (std::size_t s = from; s < to; ++s) {
                std::copy_n(splits.constants.begin() + static_cast<std::ptrdiff_t>(s * splits.n_constants), splits.n_constants, x.begin());
                for (std::size_t c = 0; c < 4; ++c) x[splits.n_constants + c] = directed * splits.centres[4 * s + c];
                const float *in = x.data(), *bias = mlp->b1.data();
                k.affine(&in, 1, x.size(), fixed.data(), m, &bias, nullptr, start->data() + (s - from) * m);
            }
            mlp->w1.clear(), mlp->w1.shrink_to_fit();
        }
    }
};

/// Mean and spread as broken lines over log E_inc; see models/tree/trend.py.
struct Trend {
    static constexpr std::size_t kKnots = 8;
    std::vector<float> knots, mean, log_spread;

    /// n_kinds particles have lines of their own; 0 where there is one.
    static Trend take(Weights& weights, const std::string& name, std::size_t n_kinds) {
        const std::vector<std::size_t> shape = n_kinds ? std::vector{n_kinds, kKnots} : std::vector{kKnots};
        return {weights.take(name + ".knots", {kKnots}), weights.take(name + ".mean", shape),
                weights.take(name + ".log_spread", shape)};
    }
    std::pair<float, float> operator()(float log_energy, std::size_t kind) const {
        std::array<float, kKnots> hats{1.0f};
        for (std::size_t i = 0; i + 1 < kKnots; ++i) {
            float place = (log_energy - knots[i]) / (knots[i + 1] - knots[i]);
            if (i > 0) place = std::max(place, 0.0f);
            if (i + 2 < kKnots) place = std::min(place, 1.0f);
            hats[i] -= place, hats[i + 1] += place;
        }
        float value = 0, spread = 0;
        for (std::size_t i = 0; i < kKnots; ++i) value += hats[i] * mean[kind * kKnots + i], spread += hats[i] * log_spread[kind * kKnots + i];
        return {value, std::exp(spread)};
    }
};

inline constexpr std::size_t kTotalsComponents = 3, kTotalsWidth = 32, kLayerComponents = 4, kWindow = 5;

/// All that a generator is made of; never changed once it is loaded.
struct Model {
    Config config;
    Mesh mesh;
    std::vector<float> capacity, behind;  // cells of each layer, of the layers behind it
    Trend hits_trend, energy_trend;
    bool any_empty = false;
    std::vector<float> mean_response;     // of each particle
    float directed = 0, axis_unit = 1;
    std::vector<float> slope;  // (L, features + 1, 2)
    Mlp gate, total_hits, total_energy, layer_counts, layer_shares;
    Splits rings, cells;
    std::array<SplitNetworks, 3> networks;  // rings, cells, early cells
    std::size_t n_slots = 0;
    std::size_t n_features = 0;             // of the conditions
    std::size_t n_kinds = 0;                // particles that have one each; 0 where there is one
    float middle = 0, half_width = 1;       // of log E_inc
    float theta_middle = 0, theta_half_width = 1;
    std::vector<float> hits_feature;        // 0.7 log(1 + n)
    struct Place {
        std::uint16_t layer, r, alpha;
    };
    std::vector<Place> places;      // (V)
    std::vector<int> layer_voxels;  // (L) the voxel of layers of one cell, else kNothing

    std::size_t n_about() const { return n_features + 2 + 4; }

    Model(Config settings, Mesh layers, const Layout& layout)
        : config(std::move(settings)), mesh(std::move(layers)), rings(layout, true, 0), cells(layout, false, config.early_layers) {}

    static Result<std::shared_ptr<const Model>> load(const std::filesystem::path& folder) {
        const auto about = File::open(folder / "config.json");
        if (!about) return about.error();
        auto config = Config::parse(folder / "config.json", about->view());
        if (!config) return config.error();
        std::map<std::string, File> files;
        for (const char* name : {"geometry.xml", "weights.safetensors"}) {
            auto file = File::open(folder / name);
            if (!file) return file.error();
            files.emplace(name, std::move(*file));
        }
        const auto content = [&](const char* name) { return files.at(name).view(); };
        for (const char* name : {"geometry.xml", "weights.safetensors"})
            if (sha256(files.at(name).data(), files.at(name).size()) != config->files[name])
                return Error{Code::checksum, (folder / name).string() +
                                                 ": differs from what the bundle was saved with (SHA-256); copy it again"};
        auto mesh = parse_mesh(folder / "geometry.xml", content("geometry.xml"));
        if (!mesh) return mesh.error();
        const Mesh layers = *mesh;
        const Layout layout(layers);
        auto model = std::make_shared<Model>(std::move(*config), std::move(*mesh), layout);
        Weights weights(folder / "weights.safetensors", content("weights.safetensors"));
        model->take(weights);
        weights.finish();
        if (weights.problem()) return *weights.problem();
        model->place(layout);
        model->prepare(layout);
        return std::shared_ptr<const Model>(std::move(model));
    }

  private:
    void take(Weights& weights) {
        n_kinds = config.particles && config.particles->size() > 1 ? config.particles->size() : 0;
        n_features = 2 + (config.theta ? 1u : 0u) + (config.phi ? 2u : 0u) + (config.theta && config.phi ? 2u : 0u) + n_kinds;
        const std::size_t n_layers = mesh.layers.size();
        hits_trend = Trend::take(weights, "totals.hits_trend", n_kinds);
        energy_trend = Trend::take(weights, "totals.energy_trend", n_kinds);
        any_empty = weights.number("totals.any_empty") > 0;
        using Shape = std::vector<std::size_t>;
        mean_response = weights.take("totals.mean_response", n_kinds ? Shape{n_kinds} : Shape{});
        gate = Mlp::take(weights, "totals.gate", n_features, kTotalsWidth, 1);
        total_hits = Mlp::take(weights, "totals.hits", n_features, kTotalsWidth, 3 * kTotalsComponents);
        total_energy = Mlp::take(weights, "totals.energy", n_features + 1, kTotalsWidth, 3 * kTotalsComponents);
        directed = weights.number("axis.directed");
        slope = weights.take("axis.slope", {n_layers, n_features + 1, 2});
        const std::size_t n = n_layers + 2 * kWindow + 6 + n_features + 2, width = Layout::ul(config.layer_width);
        layer_counts = Mlp::take(weights, "layers.counts", n, width, 1 + 3 * kLayerComponents);
        layer_shares = Mlp::take(weights, "layers.shares", n + 3, width, 3 * kLayerComponents);
        const float t = config.threshold;
        networks[0] = SplitNetworks::take(weights, "rings", rings, n_about(), Layout::ul(config.ring_width), t);
        networks[1] = SplitNetworks::take(weights, "cells", cells, n_about(), Layout::ul(config.cell_width), t);
        networks[2] = SplitNetworks::take(weights, "early", cells, n_about(), Layout::ul(config.cell_width), t);
    }

    /// Give each node a slot that no other has while both are needed; see models/tree/slots.py.
    void place(const Layout& layout) {
        const auto ul = Layout::ul;
        std::vector<int> last(layout.nodes.size(), -1);
        std::vector<std::pair<Splits*, Splits::Wave>> waves;
        for (Splits* kind : {&rings, &cells})
            for (const Splits::Wave& wave : kind->waves) waves.emplace_back(kind, wave);
        std::vector<std::vector<int>> read;
        for (std::size_t w = 0; w < waves.size(); ++w) {
            read.push_back(waves[w].first->read(layout, waves[w].second));
            for (const int node : read.back()) last[ul(node)] = static_cast<int>(w);
        }
        std::vector<std::uint32_t> slot(layout.nodes.size(), 0);
        std::uint32_t used = 0;
        for (const int node : layout.layer_node) slot[ul(node)] = used++;
        std::priority_queue<std::uint32_t, std::vector<std::uint32_t>, std::greater<>> free;
        for (std::size_t w = 0; w < waves.size(); ++w) {
            std::vector<int> made;
            for (std::size_t s = waves[w].second.start; s < waves[w].second.stop; ++s)
                made.insert(made.end(), {waves[w].first->node[s].left, waves[w].first->node[s].right});
            for (const int node : made) {
                if (free.empty()) slot[ul(node)] = used++;
                else slot[ul(node)] = free.top(), free.pop();
            }
            for (const auto* list : {&read[w], &made})  // nobody will look at them
                for (const int node : *list)
                    if (last[ul(node)] <= static_cast<int>(w)) free.push(slot[ul(node)]);
        }
        for (std::uint32_t& one : slot) one *= kPlanes;
        n_slots = used + 1;
        for (Splits* kind : {&rings, &cells}) kind->place(layout, slot, used * kPlanes);
    }

    void prepare(const Layout& layout) {
        const Kernels k = kernels(Isa::scalar);
        const std::size_t early = cells.n_early;
        networks[0].prepare(rings, n_about(), directed, k, 0, rings.size());
        networks[1].prepare(cells, n_about(), directed, k, early, cells.size());
        networks[2].prepare(cells, n_about(), directed, k, 0, early);
        const double low = std::log(config.energy.first), high = std::log(config.energy.second);
        middle = static_cast<float>((low + high) / 2), half_width = static_cast<float>(std::max((high - low) / 2, 0.1));
        const auto [least, most] = config.theta.value_or(Config::Range{0, Mesh::kPi});
        theta_middle = static_cast<float>((least + most) / 2);
        theta_half_width = static_cast<float>(std::max((most - least) / 2, 0.02));
        float sum = 0;
        double widest = 0;
        for (std::size_t i = 0; i < mesh.layers.size(); ++i) {
            const Layer& layer = mesh.layers[i];
            capacity.push_back(static_cast<float>(layer.n_r() * layer.n_alpha));
            sum += capacity.back();
            widest = std::max(widest, layer.r_edges.back());
            layer_voxels.push_back(layout.voxel[Layout::ul(layout.layer_node[i])]);
            for (int a = 0; a < layer.n_alpha; ++a)
                for (int r = 0; r < layer.n_r(); ++r)
                    places.push_back({static_cast<std::uint16_t>(i), static_cast<std::uint16_t>(r), static_cast<std::uint16_t>(a)});
        }
        axis_unit = static_cast<float>(widest / 4);
        for (const float cells_here : capacity) behind.push_back(sum -= cells_here);
        for (std::size_t n = 0; n <= places.size(); ++n) hits_feature.push_back(0.7f * std::log1p(static_cast<float>(n)));
        for (Splits* kind : {&rings, &cells}) {  // no longer needed
            std::vector<int>().swap(kind->context), std::vector<float>().swap(kind->constants);
            std::vector<float>().swap(kind->centres);
        }
    }
};

}  // namespace detail

/// A trained generator. Copies share what was loaded, which nothing changes: threads may use one at the same time.
class Generator {
  public:
    /// Read a bundle folder, of formats 2 to 4, and check it.
    static Result<Generator> load(const std::filesystem::path& bundle) {
        try {
            auto model = detail::Model::load(bundle);
            if (!model) return model.error();
            return Generator(std::move(*model));
        } catch (const std::exception& error) {
            return Error{Code::file, bundle.string() + ": cannot be loaded (" + error.what() + ")"};
        }
    }
    const Mesh& mesh() const { return model_->mesh; }
    /// MeV; no hit is below it.
    float threshold() const { return model_->config.threshold; }
    /// Least and greatest incident energy of the training, MeV.
    std::pair<double, double> energy_range() const { return model_->config.energy; }
    /// Whether conditions outside those of the training are refused; particles that were not in it always are.
    bool refuses_outside() const { return model_->config.refuses; }

    /// Say why conditions cannot be served; as `Generator.check` does in Python.
    Problem check(const Conditions& conditions) const {
        const auto& config = model_->config;
        const auto outside = [&](Code code, const char* name, double value, const char* unit, const detail::Config::Range& range) {
            return Error{code, std::string(name) + " is " + detail::text(value) + unit + ", outside the trained range " +
                                   detail::text(range.first) + " to " + detail::text(range.second) + unit};
        };
        // Callers may keep conditions as float: what is at the edge in double may round beyond it.
        constexpr double kRounding = 1e-6;
        const auto edge = [](const detail::Config::Range& range) { return std::max(0.01 * (range.second - range.first), 2e-3) + kRounding; };
        const double energy = conditions.energy;
        const bool far = energy < (0.95 - kRounding) * config.energy.first || energy > (1.05 + kRounding) * config.energy.second;
        if (!(energy > 0 && energy < 1e15) || (config.refuses && far))
            return outside(Code::energy, "incident_energy", energy, " MeV", config.energy);
        if (config.theta) {
            const auto [low, high] = *config.theta;
            const double theta = conditions.theta, slack = edge(*config.theta);
            if (!(theta >= 0 && theta <= 3.15) || (config.refuses && (theta < low - slack || theta > high + slack)))
                return outside(Code::conditions, "theta", theta, " rad", *config.theta);
        }
        if (config.phi) {
            const double slack = edge(*config.phi), turn = 2 * Mesh::kPi;
            const double from = std::fmod(conditions.phi - config.phi->first + slack, turn);
            const bool beyond = (from < 0 ? from + turn : from) > config.phi->second - config.phi->first + 2 * slack;
            if (!std::isfinite(conditions.phi) || (config.refuses && beyond))
                return outside(Code::conditions, "phi", conditions.phi, " rad", *config.phi);
        }
        if (const auto& codes = config.particles; codes && !std::count(codes->begin(), codes->end(), conditions.particle)) {
            std::string known;
            for (const int code : *codes) known += (known.empty() ? "" : ", ") + detail::text(code);
            return Error{Code::conditions, "particle is " + detail::text(conditions.particle) +
                                               ", which the generator was not trained on (" + known + ")"};
        }
        return std::nullopt;
    }

  private:
    friend class Sampler;
    explicit Generator(std::shared_ptr<const detail::Model> model) : model_(std::move(model)) {}
    std::shared_ptr<const detail::Model> model_;
};

/// The fastest instruction set that this header has and this processor too.
inline Isa best_isa() {
    return detail::has(Isa::avx512) ? Isa::avx512 : detail::has(Isa::avx2) ? Isa::avx2 : Isa::scalar;
}

/// Draws showers; one for each thread. All memory is taken by the constructor.
class Sampler {
  public:
    /// Take a generator, how many showers are drawn together where several are asked for, and an instruction set; one
    /// that the processor does not have is replaced by `scalar`.
    explicit Sampler(Generator generator, std::size_t together = 16, Isa isa = best_isa())
        : generator_(std::move(generator)), m_(*generator_.model_), together_(std::max<std::size_t>(together, 1)),
          isa_(detail::has(isa) ? isa : Isa::scalar), k_(detail::kernels(isa_)) {
        reserve();
    }
    Sampler(const Sampler&) = delete;
    Sampler& operator=(const Sampler&) = delete;

    Isa isa() const { return isa_; }

    /// Draw one shower: the same for the same seed and number. The hits, in the order of the voxels, are valid until the
    /// next call.
    Result<Span<Hit>> draw(const Conditions& conditions, std::uint64_t seed, std::uint64_t shower) {
        if (Problem problem = generator_.check(conditions)) return *problem;
        stream_[0] = detail::Stream(seed, shower);
        if (Problem problem = draw_together(&conditions, 1)) return *problem;
        return collect(0);
    }

    /// Draw showers first, first + 1, ... of a seed, and give each to `take(i, Span<Hit>)`, i from 0. The fastest way.
    template <class Take>
    Problem draw(Span<Conditions> conditions, std::uint64_t seed, std::uint64_t first, Take&& take) {
        return draw_all(conditions, [=](std::size_t i) { return Key{seed, first + i}; }, take);
    }

    /// The same for showers of any keys, one for each of the conditions.
    template <class Take>
    Problem draw(Span<Conditions> conditions, const Key* keys, Take&& take) {
        return draw_all(conditions, [=](std::size_t i) { return keys[i]; }, take);
    }

  private:
    using Floats = detail::Floats;
    using Splits = detail::Splits;

    struct Row {
        std::uint32_t split, shower;
        float energy, hits, first;  // MeV; of the node, of its first half
        float left, right;          // MeV
    };

    template <class KeyOf, class Take>
    Problem draw_all(Span<Conditions> conditions, KeyOf key_of, Take& take) {
        for (std::size_t i = 0; i < conditions.size(); ++i)
            if (Problem problem = generator_.check(conditions[i])) {
                problem->message = "shower " + detail::text(i) + ": " + problem->message;
                return problem;
            }
        for (std::size_t start = 0; start < conditions.size(); start += together_) {
            const std::size_t n = std::min(together_, conditions.size() - start);
            for (std::size_t b = 0; b < n; ++b) {
                const Key key = key_of(start + b);
                stream_[b] = detail::Stream(key.seed, key.shower);
            }
            if (Problem problem = draw_together(conditions.data() + start, n)) return problem;
            for (std::size_t b = 0; b < n; ++b) take(start + b, collect(b));
        }
        return std::nullopt;
    }

    void reserve() {
        const std::size_t n = together_, layers = m_.mesh.layers.size(), voxels = m_.places.size();
        n_about_ = m_.n_about() + 2;
        row_ = std::max(m_.rings.n_row(), m_.cells.n_row()) + detail::kMore;
        const std::size_t rows = n * std::max({m_.rings.widest, m_.cells.widest, std::size_t{1}});
        for (const detail::Mlp* mlp : {&m_.gate, &m_.total_hits, &m_.total_energy, &m_.layer_counts, &m_.layer_shares})
            passage_.reserve(n, mlp->width, mlp->out);
        for (const auto& networks : m_.networks)
            for (const detail::Mlp* mlp : {&networks.counts, &networks.shares}) passage_.reserve(std::max(rows, n * layers), mlp->width, mlp->out);
        for (std::size_t k = 0; k < told_.size(); ++k) {
            const std::size_t width = m_.networks[k / 2].counts.width;  // of both networks
            told_[k].resize(n * layers * width), zeros_.resize(std::max(zeros_.size(), width));
        }
        stream_.resize(n), kind_.resize(n);
        state_.assign(n * m_.n_slots * detail::kPlanes, 0.0f);
        for (std::size_t b = 0; b < n; ++b) {  // "no node" stays as it is
            float* nothing = state(b) + (m_.n_slots - 1) * detail::kPlanes;
            nothing[detail::kSeenEnergy] = nothing[detail::kSeenPastEnergy] = nothing[detail::kSeenInner] = -1.0f;
        }
        about_.resize(n * layers * n_about_);
        shower_.resize(n * (m_.n_features + 2));
        total_hits_.resize(n), total_energy_.resize(n);
        layer_energy_.resize(n * layers), layer_hits_.resize(n * layers);
        x_.resize(std::max(rows * row_, n * (layers + 2 * detail::kWindow + 6 + m_.n_features + 2 + 3)));
        rows_.resize(rows), chosen_.reserve(rows);
        for (Floats* staged : {&one_, &two_, &three_}) staged->resize(16 * rows);
        cells_.resize(n * voxels), hit_.assign(n * words(), 0), hits_.resize(voxels);
        to_fill_.resize(3 * 2 * rows), filled_.resize(3 * 2 * rows);
    }

    std::size_t words() const { return (m_.places.size() + 63) / 64; }
    float* state(std::size_t b) { return state_.data() + b * m_.n_slots * detail::kPlanes; }

    /// Return the hits of a shower that was drawn, and forget which voxels they are in.
    Span<Hit> collect(std::size_t b) {
        std::size_t n = 0;
        for (std::size_t w = 0; w < words(); ++w) {
            std::uint64_t& bits = hit_[b * words() + w];
            for (std::size_t voxel = 64 * w; bits; bits >>= 1, ++voxel) {
#if defined(__GNUC__)
                const int zeros = __builtin_ctzll(bits);
                bits >>= zeros, voxel += static_cast<std::size_t>(zeros);
#endif
                if (!(bits & 1)) continue;
                const auto place = m_.places[voxel];
                // Rounding may have left a hit just under the threshold.
                hits_[n++] = {place.layer, place.r, place.alpha,
                              std::max(cells_[b * m_.places.size() + voxel], m_.config.threshold)};
            }
        }
        return {hits_.data(), n};
    }

    Problem draw_together(const Conditions* conditions, std::size_t n) {
        n_ = n;
        std::fill(hit_.begin(), hit_.begin() + static_cast<std::ptrdiff_t>(n * words()), 0);
        failed_ = false;
        draw_totals(conditions);
        draw_layers();
        tell();
        const std::size_t rings = 3 + 2 * (m_.mesh.layers.size() - 1), cells = rings + 2 * m_.rings.size();
        for (const auto& wave : m_.rings.waves) draw_wave(m_.rings, wave, 0, rings);
        for (const auto& wave : m_.cells.waves) draw_wave(m_.cells, wave, wave.early ? 2 : 1, cells);
        if (failed_)
            return Error{Code::not_finite, "a shower is not finite; the weights are of a training that went wrong: train again"};
        return std::nullopt;
    }

    // --- splits.py ---

    static float bounded(float x, float low, float high) { return !(x >= low) ? low : x > high ? high : x; }

    /// Choose one of n components with weights exp(x); return where u stands between its cumulative probabilities.
    static std::size_t choose(const float* weight, std::size_t n, float u, float& v) {
        float total = 0;
        for (std::size_t j = 0; j < n; ++j) total += weight[j];
        const float target = u * total;
        std::size_t j = 0;
        float before = 0, until = weight[0];
        while (j + 1 < n && until < target) before = until, until += weight[++j];
        before = until - weight[j];
        v = bounded((target - before) / std::max(weight[j], 1e-12f), 0.0f, 1.0f);
        return j;
    }
    static std::size_t choose_of(const float* logits, std::size_t n, float u, float& v) {
        std::array<float, 4> weight{};
        const float most = *std::max_element(logits, logits + n);
        for (std::size_t j = 0; j < n; ++j) weight[j] = std::exp(logits[j] - most);
        return choose(weight.data(), n, u, v);
    }
    static float logistic(float x) { return 1.0f / (1.0f + std::exp(-x)); }
    static float logit(float x) { return std::log(x / (1.0f - x)); }

    /// Where the mixture of n logistics stands at u.
    static float share_draw(const float* numbers, std::size_t n, float offset, float u) {
        float v = 0;
        const std::size_t j = choose_of(numbers, n, u, v);
        v = bounded(v, 1e-7f, 1.0f - 1e-7f);
        const float y = offset + numbers[n + j] +
                        std::exp(bounded(numbers[2 * n + j], -6.0f, 4.0f)) * (std::log(v) - std::log1p(-v));
        return bounded(y, -16.0f, 16.0f);
    }

    float energy_feature(float energy) const { return 0.3f * std::log1p(energy / m_.config.threshold) - 1.0f; }
    float hits_feature(float hits) const { return m_.hits_feature[static_cast<std::size_t>(hits)]; }

    // --- totals.py ---

    float residual(float log_energy, std::size_t kind, float hits) const {
        const auto [mean, spread] = m_.hits_trend(log_energy, kind);
        return bounded((std::log(std::max(hits, 0.5f)) - mean) / spread, -5.0f, 5.0f);
    }

    void draw_totals(const Conditions* conditions) {
        constexpr std::size_t kMixture = detail::kTotalsComponents;
        const std::size_t n_f = m_.n_features, n_s = n_f + 2;
        for (std::size_t b = 0; b < n_; ++b) {
            float* told = shower_.data() + b * n_s;
            const float x = (std::log(static_cast<float>(conditions[b].energy)) - m_.middle) / m_.half_width;
            *told++ = 1.7f * x, *told++ = x * x;
            const auto theta = (static_cast<float>(conditions[b].theta) - m_.theta_middle) / m_.theta_half_width;
            if (m_.config.theta) *told++ = theta;
            if (m_.config.phi) {
                const auto phi = static_cast<float>(conditions[b].phi);
                const float sine = std::sin(phi), cosine = std::cos(phi);
                *told++ = sine, *told++ = cosine;
                if (m_.config.theta) *told++ = theta * sine, *told++ = theta * cosine;
            }
            kind_[b] = 0;
            for (std::size_t g = 0; g < m_.n_kinds; ++g) {
                const bool same = (*m_.config.particles)[g] == conditions[b].particle;
                *told++ = same;
                if (same) kind_[b] = g;
            }
        }
        const auto look = [&](std::size_t stride, const float* data) {
            for (std::size_t b = 0; b < n_; ++b) passage_.x[b] = data + b * stride;
        };
        const float most = static_cast<float>(m_.places.size());
        look(n_s, shower_.data());
        passage_.run(k_, m_.gate, n_);
        for (std::size_t b = 0; b < n_; ++b)
            total_hits_[b] = m_.any_empty && stream_[b].uniform(0) < logistic(passage_.y[b * m_.gate.out]) ? 0.0f : 1.0f;
        passage_.run(k_, m_.total_hits, n_);
        for (std::size_t b = 0; b < n_; ++b) {
            const float* numbers = passage_.y.data() + b * m_.total_hits.out;
            const float log_energy = std::log(static_cast<float>(conditions[b].energy));
            const auto [mean, spread] = m_.hits_trend(log_energy, kind_[b]);
            float v = 0;
            const std::size_t j = choose_of(numbers, kMixture, stream_[b].uniform(1), v);
            const float centre = numbers[kMixture + j], scale = std::exp(bounded(numbers[2 * kMixture + j], -5.0f, 3.0f));
            const float first = logistic(((std::log(0.5f) - mean) / spread - centre) / scale);
            const float last = logistic(((std::log(most + 0.5f) - mean) / spread - centre) / scale);
            const float y = centre + scale * logit(bounded(first + v * (last - first), 1e-7f, 1.0f - 1e-7f));
            const float hits = bounded(std::nearbyint(std::exp(mean + spread * y)), 1.0f, most);
            float* x = x_.data() + b * (n_f + 1);
            std::copy_n(shower_.data() + b * n_s, n_f, x);
            x[n_f] = residual(log_energy, kind_[b], hits);
            shower_[b * n_s + n_f] = hits;  // until the energies are drawn
        }
        look(n_f + 1, x_.data());
        passage_.run(k_, m_.total_energy, n_);
        for (std::size_t b = 0; b < n_; ++b) {
            const auto incident = static_cast<float>(conditions[b].energy);
            const float log_energy = std::log(incident), hits = shower_[b * n_s + n_f];
            const auto [mean, spread] = m_.energy_trend(log_energy, kind_[b]);
            const float y = share_draw(passage_.y.data() + b * m_.total_energy.out, kMixture, 0.0f, stream_[b].uniform(2));
            const float energy = total_hits_[b] > 0 ? hits * m_.config.threshold + std::exp(mean + spread * y) : 0.0f;
            total_hits_[b] = total_hits_[b] > 0 ? hits : 0.0f, total_energy_[b] = energy;
            failed_ = failed_ || !std::isfinite(energy);
            const float response = 10.0f * (energy / (incident * m_.mean_response[kind_[b]]) - 1.0f);
            shower_[b * n_s + n_f] = bounded(response, -5.0f, 5.0f);
            shower_[b * n_s + n_f + 1] = 0.5f * residual(log_energy, kind_[b], total_hits_[b]);
        }
    }

    // --- layers.py ---

    void draw_layers() {
        const std::size_t layers = m_.mesh.layers.size(), n_s = m_.n_features + 2, window = detail::kWindow;
        const std::size_t n_x = layers + 2 * window + 6 + n_s, stride = n_x + 3;
        const float t = m_.config.threshold;
        std::fill(layer_energy_.begin(), layer_energy_.end(), 0.0f);
        std::fill(layer_hits_.begin(), layer_hits_.end(), 0.0f);
        for (std::size_t i = 0; i + 1 < layers; ++i) {
            for (std::size_t b = 0; b < n_; ++b) {
                const float *e = layer_energy_.data() + b * layers, *n = layer_hits_.data() + b * layers;
                float* x = x_.data() + b * stride;
                passage_.x[b] = x;
                for (std::size_t j = 0; j < layers; ++j) *x++ = j == i;
                for (std::size_t j = 0; j < window; ++j) *x++ = i + j >= window ? energy_feature(e[i + j - window]) : -1.0f;
                for (std::size_t j = 0; j < window; ++j) *x++ = i + j >= window ? hits_feature(n[i + j - window]) : 0.0f;
                std::array<float, 3> moments{};
                for (std::size_t j = 0; j < i; ++j) {
                    const auto depth = static_cast<float>(j);
                    moments[0] += e[j], moments[1] += e[j] * depth, moments[2] += e[j] * depth * depth;
                }
                const float rest_e = total_energy_[b], rest_n = total_hits_[b], sum = std::max(moments[0], 1e-6f);
                const float mean = moments[1] / sum, some = moments[0] > 0 ? 1.0f : 0.0f;
                const float spread = std::sqrt(std::max(moments[2] / sum - mean * mean, 0.0f));
                const float share = moments[0] / std::max(moments[0] + rest_e, 1e-6f);
                *x++ = energy_feature(rest_e);
                *x++ = hits_feature(rest_n);
                *x++ = 0.3f * std::log(std::max(rest_e, t) / (std::max(rest_n, 1.0f) * t)) - 1.5f;
                *x++ = 0.5f * std::log(std::max(share, 1e-4f));
                *x++ = 0.2f * (mean - static_cast<float>(i)) * some;
                *x++ = 0.3f * spread * some;
                std::copy_n(shower_.data() + b * n_s, n_s, x);
            }
            passage_.run(k_, m_.layer_counts, n_);
            for (std::size_t b = 0; b < n_; ++b) {
                const float n = total_hits_[b], low = std::max(n - m_.behind[i], 0.0f), high = std::min(n, m_.capacity[i]);
                const float k = many_draw(passage_.y.data() + b * m_.layer_counts.out, low, high, stream_[b].uniform(3 + 2 * i));
                layer_hits_[b * layers + i] = k;
                // Rows without a choice get any share that is finite.
                const float of = std::max(n, 2.0f), first = std::min(std::max(k, 1.0f), of - 1);
                float* x = x_.data() + b * stride + n_x;
                x[0] = 0.7f * std::log1p(first), x[1] = 0.7f * std::log1p(of - first);
                x[2] = 0.3f * std::log((first + 0.5f) / (of - first + 0.5f));
            }
            passage_.run(k_, m_.layer_shares, n_);
            for (std::size_t b = 0; b < n_; ++b) {
                const float n = total_hits_[b], k = layer_hits_[b * layers + i], energy = total_energy_[b];
                const float of = std::max(n, 2.0f), first = std::min(std::max(k, 1.0f), of - 1);
                const float y = share_draw(passage_.y.data() + b * m_.layer_shares.out, detail::kLayerComponents,
                                           std::log(first / (of - first)), stream_[b].uniform(4 + 2 * i));
                const float free = std::max(energy - n * t, 0.0f);
                const float left = k < 0.5f ? 0.0f : n - k < 0.5f ? energy : k * t + free * logistic(y);
                const float right = n - k < 0.5f ? 0.0f : k < 0.5f ? energy : (n - k) * t + free * logistic(-y);
                layer_energy_[b * layers + i] = left, total_energy_[b] = right, total_hits_[b] = n - k;
            }
        }
        for (std::size_t b = 0; b < n_; ++b) {
            layer_energy_[b * layers + layers - 1] = total_energy_[b];
            layer_hits_[b * layers + layers - 1] = total_hits_[b];
        }
    }

    /// Hits of many cells: a gate for 0, else a mixture of logistics in their root.
    static float many_draw(const float* numbers, float low, float high, float u) {
        constexpr std::size_t n = detail::kLayerComponents;
        const float p_none = low < 0.5f ? logistic(numbers[0]) : 0.0f;
        if (u < p_none || high < 0.5f) return 0.0f;
        float v = bounded((u - p_none) / std::max(1.0f - p_none, 1e-6f), 0.0f, 1.0f);
        const std::size_t j = choose_of(numbers + 1, n, v, v);
        const float centre = 1.05f * std::sqrt(high + 1.0f) * logistic(numbers[1 + n + j]);
        const float width = 0.02f + 0.25f * std::exp(bounded(numbers[1 + 2 * n + j], -5.0f, 3.0f));
        const float first = std::max(low, 1.0f);
        const float a = logistic((std::sqrt(std::max(first - 0.5f, 0.0f)) - centre) / width);
        const float b = logistic((std::sqrt(std::max(high, 1.0f) + 0.5f) - centre) / width);
        const float root = std::max(centre + width * logit(bounded(a + v * (b - a), 1e-7f, 1.0f - 1e-7f)), 0.0f);
        return bounded(std::nearbyint(root * root), first, high);
    }

    // --- families/tree.py, state.py ---

    /// Begin the states with the layers, and say what networks are told of showers and layers.
    void tell() {
        const std::size_t layers = m_.mesh.layers.size(), n_s = m_.n_features + 2, n_f = m_.n_features;
        for (std::size_t b = 0; b < n_; ++b) {
            const float *e = layer_energy_.data() + b * layers, *n = layer_hits_.data() + b * layers;
            float total = 0, before = 0, step = 0, past_e = 0, past_n = 0;
            for (std::size_t i = 0; i < layers; ++i) total += e[i];
            total = std::max(total, m_.config.threshold);
            for (std::size_t i = 0; i < layers; ++i) {
                float* x = about_.data() + (b * layers + i) * n_about_;
                x = std::copy_n(shower_.data() + b * n_s, n_s, x);
                const float now = energy_feature(e[i]);
                *x++ = 2.0f * before / total - 1.0f;
                *x++ = 5.0f * e[i] / total;
                *x++ = i == 0 ? now : now - step;
                *x++ = hits_feature(n[i]) - 2.0f;
                for (std::size_t c = 0; c < 2; ++c) {
                    const float* slope = m_.slope.data() + i * (n_f + 1) * 2 + c;
                    float axis = slope[0];
                    for (std::size_t f = 0; f < n_f; ++f) axis += shower_[b * n_s + f] * slope[2 * (f + 1)];
                    *x++ = -m_.directed * axis / m_.axis_unit;
                }
                before += e[i], step = now;
                past_e = e[i] + 0.7f * past_e, past_n = n[i] + 0.7f * past_n;
                float* node = state(b) + i * detail::kPlanes;
                const float per_cell = 1.0f / m_.capacity[i];
                node[detail::kSeenEnergy] = node[detail::kSeenInner] = now;
                node[detail::kSeenHits] = n[i] * per_cell;
                node[detail::kSeenPastEnergy] = energy_feature(past_e), node[detail::kSeenPastHits] = past_n * per_cell;
                node[detail::kEnergy] = node[detail::kInner] = e[i], node[detail::kHits] = n[i];
                node[detail::kPastEnergy] = past_e, node[detail::kPastHits] = past_n;
                if (m_.layer_voxels[i] >= 0 && e[i] > 0) keep(b, m_.layer_voxels[i], e[i]);
            }
        }
        // What the first layers of networks make of it is the same for all splits of a layer.
        for (std::size_t r = 0; r < n_ * layers; ++r) passage_.x[r] = about_.data() + r * n_about_, passage_.start[r] = zeros_.data();
        for (std::size_t which = 0; which < m_.networks.size(); ++which) {
            const detail::SplitNetworks& networks = m_.networks[which];
            if (networks.start_counts.empty()) continue;  // there are no such splits
            k_.affine(passage_.x.data(), n_ * layers, n_about_, networks.about_counts.data(), networks.counts.width,
                      passage_.start.data(), nullptr, told_[2 * which].data());
            k_.affine(passage_.x.data(), n_ * layers, n_about_, networks.about_shares.data(), networks.shares.width,
                      passage_.start.data(), nullptr, told_[2 * which + 1].data());
        }
    }

    void keep(std::size_t b, int voxel, float energy) {
        const auto v = static_cast<std::size_t>(voxel);
        cells_[b * m_.places.size() + v] = energy;
        hit_[b * words() + v / 64] |= std::uint64_t{1} << (v % 64);
        failed_ = failed_ || !std::isfinite(energy);
    }

    // --- boxes.py, rows.py ---

    void draw_wave(const Splits& splits, const Splits::Wave& wave, std::size_t which, std::size_t noise) {
        const std::size_t rows = gather(splits, wave);
        draw_hits(splits, which, noise, rows);
        draw_shares(splits, which, noise, rows);
        fill(splits, wave);
    }

    /// Make a row of what its networks see for each node with hits.
    std::size_t gather(const Splits& splits, const Splits::Wave& wave) {
        const std::size_t n_e = splits.energies.size(), n_h = splits.hits.size();
        const float t = m_.config.threshold;
        std::size_t rows = 0;
        for (std::uint32_t s = wave.start; s < wave.stop; ++s) {
            const detail::Node& split = splits.node[s];
            const auto capacity = static_cast<float>(split.capacity());
            for (std::size_t b = 0; b < n_; ++b) {
                const float* of = state(b);
                const float* node = of + splits.slot[s];
                const float energy = node[detail::kEnergy], hits = node[detail::kHits];
                if (!(hits > 0)) continue;
                float* x = x_.data() + rows * row_;
                if (!splits.seen.empty()) {
                    const std::uint32_t* seen = splits.seen.data() + s * (n_e + n_h);
                    for (std::size_t c = 0; c < n_e; ++c) x[c] = of[seen[c]];
                    x[n_e] = node[detail::kSeenEnergy];
                    for (std::size_t c = 0; c < n_h; ++c) x[n_e + 1 + c] = of[seen[n_e + c]];
                } else {
                    sum_up(splits, s, of, energy, x);
                }
                float* own = x + n_e + 1 + n_h;
                own[0] = hits_feature(hits), own[1] = 2.0f * hits / capacity - 1.0f;
                one_[rows] = energy / (hits * t);
                rows_[rows++] = {s, static_cast<std::uint32_t>(b), energy, hits, 0.0f, energy, 0.0f};
            }
        }
        k_.log(one_.data(), rows);
        for (std::size_t r = 0; r < rows; ++r) x_[r * row_ + n_e + 1 + n_h + 2] = 0.3f * one_[r] - 1.0f;
        return rows;
    }

    /// The same in meshes of which layers differ: what is seen is a weighted sum of nodes.
    void sum_up(const Splits& splits, std::size_t s, const float* of, float energy, float* x) {
        const std::size_t n_e = splits.energies.size(), n_h = splits.hits.size();
        const auto sum = [&](std::size_t c) {
            float value = 0;
            const std::size_t at = s * (n_e + n_h) + c;
            for (std::uint32_t k = splits.sum_start[at]; k < splits.sum_start[at + 1]; ++k)
                value += of[splits.terms[k].first] * splits.terms[k].second;
            return value;
        };
        for (std::size_t c = 0; c < n_e; ++c) x[c] = sum(c) / m_.config.threshold;
        x[n_e] = energy / m_.config.threshold;
        k_.log1p(x, n_e + 1);
        for (std::size_t c = 0; c <= n_e; ++c) x[c] = 0.3f * x[c] - 1.0f;
        for (std::size_t c = 0; c < n_h; ++c) x[n_e + 1 + c] = sum(n_e + c) * splits.per_cell[s * n_h + c];
    }

    /// Draw the hits of first halves. Nodes of which each cell has a hit have no choice.
    void draw_hits(const Splits& splits, std::size_t which, std::size_t noise, std::size_t rows) {
        const detail::SplitNetworks& networks = m_.networks[which];
        chosen_.clear();
        for (std::size_t r = 0; r < rows; ++r) {
            Row& row = rows_[r];
            const detail::Node& split = splits.node[row.split];
            if (row.hits >= static_cast<float>(split.capacity())) {
                row.first = splits.halves[2 * row.split].capacity;
                continue;
            }
            look(splits, networks.start_counts, told_[2 * which], networks.counts.width, networks.offset, r);
        }
        const std::size_t n = chosen_.size(), stride = networks.counts.out;
        const auto classes = static_cast<std::size_t>(splits.classes);
        passage_.run(k_, networks.counts, networks.first_counts, splits.n_row(), n);
        float* y = passage_.y.data();
        for (std::size_t i = 0; i < n; ++i) {
            const Row& row = rows_[chosen_[i]];
            const float* prior = splits.prior.data() + splits.kind[row.split] + static_cast<std::size_t>(row.hits) * splits.stride;
            float most = -std::numeric_limits<float>::infinity();
            for (std::size_t c = 0; c < stride; ++c) y[i * stride + c] += prior[c];
            for (std::size_t c = 0; c < classes; ++c) most = std::max(most, y[i * stride + c]);
            for (std::size_t c = 0; c < stride; ++c) y[i * stride + c] -= most;
        }
        k_.exp(y, n * stride);
        for (std::size_t i = 0; i < n; ++i) {
            Row& row = rows_[chosen_[i]];
            float total = 0, sum = 0, k = 0;
            for (std::size_t c = 0; c < classes; ++c) total += y[i * stride + c];
            const float target = stream_[row.shower].uniform(noise + 2 * row.split) * total;
            for (std::size_t c = 0; c < classes; ++c) sum += y[i * stride + c], k += sum < target ? 1.0f : 0.0f;
            const float left = splits.halves[2 * row.split].capacity, right = splits.halves[2 * row.split + 1].capacity;
            row.first = bounded(k, std::max(row.hits - right, 0.0f), std::min(row.hits, left));
        }
    }

    /// Choose row r for a passage through a network.
    void look(const Splits& splits, const Floats& start, const Floats& told, std::size_t width, std::size_t offset, std::size_t r) {
        const std::size_t i = chosen_.size(), layers = m_.mesh.layers.size();
        const Row& row = rows_[r];
        passage_.x[i] = x_.data() + r * row_;
        passage_.start[i] = start.data() + (row.split - offset) * width;
        passage_.more[i] = told.data() + (row.shower * layers + static_cast<std::size_t>(splits.node[row.split].layer)) * width;
        chosen_.push_back(static_cast<std::uint32_t>(r));
    }

    /// Share the energy of nodes of which both halves have hits.
    void draw_shares(const Splits& splits, std::size_t which, std::size_t noise, std::size_t rows) {
        const detail::SplitNetworks& networks = m_.networks[which];
        constexpr std::size_t a = detail::kAnchors, q = detail::kQuantiles, kPlaces = 16;
        const float t = m_.config.threshold;
        chosen_.clear();
        for (std::size_t r = 0; r < rows; ++r) {
            Row& row = rows_[r];
            const bool left = row.first > 0, right = row.first < row.hits;
            row.left = left ? row.energy : 0.0f, row.right = right ? row.energy : 0.0f;
            if (!left || !right) continue;
            const float free = std::max(row.energy - row.hits * t, 1e-7f), rest = row.hits - row.first;
            float* at = one_.data() + kPlaces * chosen_.size();
            for (std::size_t i = 0; i < a; ++i) {
                at[i] = bounded(row.first * networks.above[i] / free, 1e-3f, 1.0f - 1e-3f);
                at[a + i] = bounded(rest * networks.above[i] / free, 1e-3f, 1.0f - 1e-3f);
            }
            at[2 * a] = row.first / (row.first + rest), at[2 * a + 1] = 0.5f;
            look(splits, networks.start_shares, told_[2 * which + 1], networks.shares.width, networks.offset, r);
        }
        // Logits of the anchors, and of the even share.
        const std::size_t n = chosen_.size(), stride = networks.shares.out;
        for (std::size_t i = 0; i < kPlaces * n; ++i) two_[i] = 1.0f - one_[i];
        k_.log(one_.data(), kPlaces * n), k_.log(two_.data(), kPlaces * n);
        for (std::size_t i = 0; i < kPlaces * n; ++i) one_[i] -= two_[i];
        const std::size_t n_x = splits.n_row();
        for (std::size_t i = 0; i < n; ++i) {
            const Row& row = rows_[chosen_[i]];
            const float* at = one_.data() + kPlaces * i;
            float* x = x_.data() + chosen_[i] * row_ + n_x;
            x[0] = hits_feature(row.first), x[1] = hits_feature(row.hits - row.first), x[2] = 0.3f * at[2 * a];
            for (std::size_t j = 0; j < q; ++j) x[3 + j] = 0.25f * at[j], x[3 + q + j] = -0.25f * at[a + j];
        }
        passage_.run(k_, networks.shares, networks.first_shares, n_x + detail::kMore, n);
        constexpr std::size_t components = detail::kComponents, free_ones = detail::kFreeComponents;
        const float* y = passage_.y.data();
        for (std::size_t i = 0; i < n; ++i) {
            const float *logits = y + i * stride, most = *std::max_element(logits, logits + components);
            for (std::size_t j = 0; j < components; ++j) two_[i * components + j] = logits[j] - most;
        }
        k_.exp(two_.data(), n * components);
        float *place = three_.data(), *width = place + n, *below = width + n, *above = below + n;
        for (std::size_t i = 0; i < n; ++i) {
            const Row& row = rows_[chosen_[i]];
            const float* at = one_.data() + kPlaces * i;
            float v = 0;
            const float u = stream_[row.shower].uniform(noise + 2 * row.split + 1);
            const std::size_t j = choose(two_.data() + i * components, components, u, v);
            // L of the peaks, then R of them.
            const std::size_t peak = j - free_ones;
            const float offset = j < free_ones                    ? at[2 * a]
                                 : peak < detail::kPeaks          ? at[q + peak]
                                                                  : -at[a + q + peak - detail::kPeaks];
            const float* numbers = y + i * stride;
            place[i] = offset + numbers[components + j];
            width[i] = bounded(numbers[2 * components + j], -6.0f, 4.0f);
            below[i] = bounded(v, 1e-7f, 1.0f - 1e-7f), above[i] = 1.0f - below[i];
        }
        k_.exp(width, n), k_.log(below, 2 * n);
        for (std::size_t i = 0; i < n; ++i) {
            place[i] = bounded(place[i] + width[i] * (below[i] - above[i]), -16.0f, 16.0f);
            below[i] = -place[i], above[i] = place[i];
        }
        k_.exp(below, 2 * n);
        for (std::size_t i = 0; i < n; ++i) {
            Row& row = rows_[chosen_[i]];
            const float free = std::max(row.energy - row.hits * t, 0.0f);
            row.left = row.first * t + free * (1.0f / (1.0f + below[i]));
            row.right = (row.hits - row.first) * t + free * (1.0f / (1.0f + above[i]));
        }
    }

    /// Write halves to the state, and keep the cells among them.
    void fill(const Splits& splits, const Splits::Wave& wave) {
        using namespace detail;
        const bool regular = splits.fill_terms.empty();
        std::size_t r = 0, n = 0;
        const auto later = [&](float* to, float energy) { to_fill_[n] = to, filled_[n++] = energy; };
        for (std::uint32_t s = wave.start; s < wave.stop; ++s)
            for (std::size_t b = 0; b < n_; ++b) {
                float* of = state(b);
                const Row* row = of[splits.slot[s] + kHits] > 0 ? &rows_[r++] : nullptr;
                for (const std::size_t side : {0, 1}) {
                    const Splits::Half& half = splits.halves[2 * s + side];
                    const float energy = !row ? 0.0f : side == 0 ? row->left : row->right;
                    const float hits = !row ? 0.0f : side == 0 ? row->first : row->hits - row->first;
                    const float *below = of + half.below, *source = of + half.source;
                    float past_energy = half.share * source[kPastEnergy], past_hits = half.share * source[kPastHits];
                    if (!regular)
                        for (std::uint32_t k = splits.fill_start[2 * s + side]; k < splits.fill_start[2 * s + side + 1]; ++k) {
                            past_energy += splits.fill_terms[k].second * of[splits.fill_terms[k].first + kPastEnergy];
                            past_hits += splits.fill_terms[k].second * of[splits.fill_terms[k].first + kPastHits];
                        }
                    past_energy += energy, past_hits += hits;
                    float* node = of + half.slot;
                    node[kEnergy] = energy, node[kHits] = hits;
                    node[kPastEnergy] = past_energy, node[kPastHits] = past_hits;
                    node[kInner] = energy + below[kInner];
                    node[kSeenHits] = hits * half.per_cell, node[kSeenPastHits] = past_hits * half.per_cell;
                    node[kSeenEnergy] = node[kSeenPastEnergy] = -1.0f;
                    node[kSeenInner] = below[kSeenInner];
                    if (past_energy > 0) later(node + kSeenPastEnergy, past_energy);
                    if (!(energy > 0)) continue;
                    later(node + kSeenEnergy, energy), later(node + kSeenInner, node[kInner]);
                    if (half.voxel >= 0) keep(b, half.voxel, energy);
                }
            }
        const float t = m_.config.threshold;
        for (std::size_t i = 0; i < n; ++i) filled_[i] /= t;
        k_.log1p(filled_.data(), n);
        for (std::size_t i = 0; i < n; ++i) *to_fill_[i] = 0.3f * filled_[i] - 1.0f;
    }

    Generator generator_;
    const detail::Model& m_;
    std::size_t together_;
    Isa isa_;
    detail::Kernels k_;

    std::size_t n_ = 0;  // showers that are drawn together now
    std::size_t n_about_ = 0, row_ = 0;
    bool failed_ = false;
    std::vector<detail::Stream> stream_;
    std::vector<std::size_t> kind_;
    Floats state_, about_, shower_, layer_energy_, layer_hits_, total_energy_, total_hits_;
    std::array<Floats, 6> told_;  // what first layers make of what is told of shower and layer: counts, shares of each kind
    Floats zeros_, x_, one_, two_, three_, cells_, filled_;
    std::vector<Row> rows_;
    std::vector<std::uint32_t> chosen_;
    std::vector<float*> to_fill_;
    detail::Passage passage_;
    std::vector<std::uint64_t> hit_;
    std::vector<Hit> hits_;
};

}  // namespace caloforge
